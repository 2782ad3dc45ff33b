"""``xprnn apply``: a saved network on new input."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from xprnn import checks, diagnostics
from xprnn.backend.host.arrays import np
from xprnn.backend.host.quoting import quoted
from xprnn.cli.apply_arrays import apply_arrays
from xprnn.cli.apply_series import apply_series, finite
from xprnn.cli.arrays import SUFFIX
from xprnn.cli.common import check_extras, of_model, results_folder, say_written
from xprnn.cli.models import load_model
from xprnn.cli.series import OPTIONS, series_options
from xprnn.cli.tables import write_csv
from xprnn.cli.train.sine import TASK as SINE
from xprnn.data import rmse, sine
from xprnn.engine.network import RNN
from xprnn.models.forecaster import TASK as SERIES
from xprnn.models.language import TASK as TEXT
from xprnn.models.task import entry

HELP = "apply a saved network to new input"
DESCRIPTION = """\
Apply a saved network, or one of an ONNX file, to new input.  One that `xprnn train` trained on the
sine takes other x (--from, --to, --step), one trained on a series another CSV file, and forecasts
--steps values past its end; both write a CSV file and a picture.  (For a language model, see
`xprnn sample`.)  Any network takes a .npz file with the array x, (T, B, inputs) or tokens (T, B),
and if you like lengths or mask, and state_h and so on; it writes output.npz with output and
final_h.  There are no random numbers, so --seed changes nothing."""
EXAMPLE = """\
examples:
  xprnn apply runs/sine/model.safetensors --to 20
  xprnn apply runs/csv/model.safetensors sunspots --steps 11
  xprnn apply other.onnx data.npz"""

STEP = 0.1
"""The spacing of x in the training on the sine."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help="a model.safetensors or .onnx file")
    series_options(parser, required=False)
    add("--steps", type=int, metavar="N", help="series: number of values to forecast (default 12)")
    add("--from", type=float, dest="start", metavar="X", help="sine: first x (default -10)")
    add("--to", type=float, dest="stop", metavar="X", help="sine: end of x (default 10)")
    add("--step", type=float, metavar="DX", help="sine: spacing of x (default 0.1)")
    parser.set_defaults(dtype=None)


def run(args: argparse.Namespace) -> int:
    """Load, apply, write and print."""
    check_extras()
    net = load_model(args.model, backend=args.backend, dtype=args.dtype)
    task = net.metadata.get("task")
    tasks = {SINE: _apply_sine, SERIES: apply_series}
    if args.file is not None and args.file.suffix == SUFFIX:
        _refuse(args, ("start", "stop", "step", *OPTIONS, "steps"), "arrays")
        return apply_arrays(args, net)
    if task == TEXT:
        raise ValueError(
            f"{str(args.model)!r} is a language model: expected one trained on the sine or on a "
            "series; `xprnn sample` writes with it"
        )
    if not isinstance(task, str) or task not in tasks:
        own = "" if task is None else f" (its task: {quoted(task)})"
        raise ValueError(
            f"{str(args.model)!r} has no task that `xprnn train` knows{own}: expected a .npz file "
            "with its input after the model (numpy.savez('data.npz', x=x))"
        )
    _refuse(
        args,
        ("start", "stop", "step") if task == SERIES else ("file", *OPTIONS, "steps"),
        task,
    )
    return tasks[task](args, net)


def _apply_sine(args: argparse.Namespace, net: RNN) -> int:
    given = {k: getattr(args, k) for k in ("start", "stop", "step") if getattr(args, k) is not None}
    x, truth = sine(**given, noise=0.0)
    with of_model(args.model):
        scale, trained = _sine_metadata(net)
        output, _ = net(net.backend.asarray(x * scale))
        x, truth = x[:, 0, 0], truth[:, 0, 0]
        fitted = finite(net.backend.to_numpy(output)[:, 0, 0])
    folder = results_folder(args.out, "apply")
    write_csv(folder / "output.csv", ("x", "y_hat"), zip(x, fitted, strict=True))
    figure = diagnostics.plot_fit(
        x, fitted, truth=truth, trained=trained, title=f"{args.model} on {len(x)} other x"
    )
    diagnostics.save_figure(figure, folder / "output.png")
    inside = (x >= trained[0] - 1e-9) & (x <= trained[1] + 1e-9)
    print(f"applied to {len(x)} values of x; root mean squared distance from sin x:")
    for part, where in (("inside", inside), ("outside", ~inside)):
        if np.any(where):
            error = rmse(fitted[where], truth[where])
            print(f"  {part} the trained range [{trained[0]:g}, {trained[1]:g}]: {error:.4g}")
    if args.step not in (None, STEP) or (args.start is not None and x[0] != trained[0]):
        print(
            f"  (trained from x = {trained[0]:g} on, in steps of {STEP:g}: after another start, or "
            "in other steps, the states differ, and the fit is worse)"
        )
    say_written(folder, {"output.csv": "x, ŷ", "output.png": "ŷ over x"})
    return 0


def _sine_metadata(net: RNN) -> tuple[float, tuple[float, float]]:
    """Return the scale of the input and the trained range of a network of the sine."""
    form = (net.input_size, net.output_size, net.returns, net.embedding_size)
    if form != (1, 1, "sequence", None):
        raise ValueError(f"net is {net}: expected RNN(1, H, 1)")
    scale, start, stop = (
        checks.number(name, entry(net.metadata, name), least=-np.inf)
        for name in ("input_scale", "trained_from", "trained_to")
    )
    return scale, (start, stop)


def _refuse(args: argparse.Namespace, names: Iterable[str], task: str) -> None:
    """Refuse options that networks of this task don't have."""
    words = {"start": "--from", "stop": "--to", "file": "FILE"}
    given = [words.get(name, f"--{name}") for name in names if getattr(args, name) is not None]
    if given:
        what = {SERIES: "a network trained on a series", SINE: "a network trained on the sine"}
        raise ValueError(f"{', '.join(given)}: not an option for {what.get(task, task)}")
