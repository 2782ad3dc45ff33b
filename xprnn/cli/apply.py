"""``xprnn apply``: a saved network on new input."""

import argparse
import csv
import io
from collections.abc import Iterable
from pathlib import Path

from xprnn import checks, diagnostics
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.files import write_atomic
from xprnn.backend.host.quoting import quoted
from xprnn.cli.common import check_extras, of_model, results_folder, say_written
from xprnn.cli.series import OPTIONS, read_table, remembered_reading, series_options
from xprnn.cli.train.sine import TASK as SINE
from xprnn.data import rmse, sine
from xprnn.engine.network import RNN
from xprnn.models.forecaster import TASK as SERIES
from xprnn.models.forecaster import Forecaster
from xprnn.models.language import TASK as TEXT
from xprnn.models.task import entry, text_entry

HELP = "apply a saved network to new input"
DESCRIPTION = """\
Apply a network that `xprnn train` saved to new input; write a CSV file and a picture.  A network
trained on the sine takes other x (--from, --to, --step).  One trained on a series takes another CSV
file, and forecasts --steps values past its end.  (For a language model, see `xprnn sample`.)  There
are no random numbers, so --seed changes nothing."""
EXAMPLE = """\
examples:
  xprnn apply runs/sine/model.safetensors --from 0 --to 20 --step 0.3
  xprnn apply runs/csv/model.safetensors sunspots --steps 11"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help="the model.safetensors of a training")
    series_options(parser, required=False)
    add("--steps", type=int, metavar="N", help="series: number of values to forecast (default 12)")
    add("--from", type=float, dest="start", metavar="X", help="sine: first x (default -10)")
    add("--to", type=float, dest="stop", metavar="X", help="sine: end of x (default 10)")
    add("--step", type=float, metavar="DX", help="sine: spacing of x (default 0.1)")
    parser.set_defaults(dtype=None)


def run(args: argparse.Namespace) -> int:
    """Load, apply, write and print."""
    check_extras()
    net = RNN.load(args.model, backend=args.backend, dtype=args.dtype)
    task = net.metadata.get("task")
    tasks = {SINE: _apply_sine, SERIES: _apply_series}
    if task == TEXT:
        raise ValueError(
            f"{str(args.model)!r} is a language model: expected one trained on the sine or on a "
            "series; `xprnn sample` writes with it"
        )
    if not isinstance(task, str) or task not in tasks:
        raise ValueError(
            f"{str(args.model)!r} was not written by `xprnn train` (its task: {quoted(task)})"
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
        fitted = _finite(net.backend.to_numpy(output)[:, 0, 0])
    folder = results_folder(args.out, "apply")
    _write_csv(folder / "output.csv", ("x", "y_hat"), zip(x, fitted, strict=True))
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
    say_written(folder, {"output.csv": "x, ŷ", "output.png": "ŷ over x"})
    return 0


def _apply_series(args: argparse.Namespace, net: RNN) -> int:
    with of_model(args.model):
        forecaster = Forecaster.of(net)
        column = args.column or text_entry(net.metadata, "column")
        remembered = remembered_reading(net.metadata)
    if args.file is None:
        raise ValueError("the network forecasts a series: name a CSV file after the model")
    table = read_table(args, [column], remembered=remembered)
    series = table.series()
    print(table.found, flush=True)
    steps = checks.positive_int("--steps", 12 if args.steps is None else args.steps)
    values, needed = series.values, forecaster.needed
    if len(values) <= needed:
        raise ValueError(
            f"{str(args.file)!r} has {len(values)} values: expected more than {needed}, which the "
            f"network in {str(args.model)!r} reads to forecast the next"
        )
    with of_model(args.model):
        one_step = _finite(forecaster.one_step(values))
        closed_loop = _finite(forecaster.closed_loop(values, steps))
    folder = results_folder(args.out, "apply")
    times: tuple[str, ...] = series.times or tuple(str(k) for k in range(len(values)))
    known = map(repr, values.tolist())
    past = zip(times, known, (*[""] * needed, *one_step), [""] * len(values), strict=True)
    later = series.future(steps)
    future = ((time, "", "", value) for time, value in zip(later, closed_loop, strict=True))
    header = (table.time or "step", series.name, "one_step", "closed_loop")
    _write_csv(folder / "output.csv", header, (*past, *future))
    figure = diagnostics.plot_forecast(
        values,
        one_step,
        closed_loop,
        start=max(0, len(values) - max(100, 3 * steps)),
        one_step_start=needed,
        closed_loop_start=len(values),
        times=None if series.times is None else (*series.times, *later),
        ylabel=series.name,
        title=f"{series.name}, and the {steps} values to come",
    )
    diagnostics.save_figure(figure, folder / "output.png")
    error = rmse(one_step, values[needed:])
    print(
        f"{series.name}: {len(values)} values; root mean squared error one step ahead: "
        f"{error:.4g}\n"
        f"the next {steps} values: {', '.join(f'{value:.4g}' for value in closed_loop)}"
    )
    say_written(
        folder,
        {"output.csv": "values, one-step and closed-loop forecast", "output.png": "their picture"},
    )
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


def _finite(output: HostArray) -> HostArray:
    """Refuse an output with NaN or infinity: a file of such numbers would look like a result."""
    bad = np.flatnonzero(~np.isfinite(output))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(output)} outputs are not finite, the first at index {bad[0]}"
        )
    return output


def _refuse(args: argparse.Namespace, names: Iterable[str], task: str) -> None:
    """Refuse options that networks of this task don't have."""
    words = {"start": "--from", "stop": "--to", "file": "FILE"}
    given = [words.get(name, f"--{name}") for name in names if getattr(args, name) is not None]
    if given:
        what = "a series" if task == SERIES else "the sine"
        raise ValueError(f"{', '.join(given)}: not an option for a network trained on {what}")


def _write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    write_atomic(path, stream.getvalue().encode())


def _cell(value: object) -> object:
    # Fewer digits than repr has: x is -0.1, not -0.0999999999999996; a float32 has nine.
    if isinstance(value, float | np.floating):
        return f"{value:.12g}" if isinstance(value, float) else f"{value:.9g}"
    return value
