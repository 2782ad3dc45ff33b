"""The options of ``xprnn inspect``, what it prints and writes."""

import argparse
import math
from pathlib import Path

from xprnn import diagnostics
from xprnn.cli.common import of_model, one_line, results_folder, say_written, tell
from xprnn.cli.inspect.pictures import MATRIX, pictures
from xprnn.cli.inspect.sequences import KNOWN_LOSSES, Inspected, inspected, trained_on
from xprnn.cli.models import load_model
from xprnn.cli.series import file_options
from xprnn.diagnostics import Flow
from xprnn.diagnostics.inspection.equations import gate_names
from xprnn.engine.network import RNN

HELP = "show a network's gradients step by step"
DESCRIPTION = """\
Show a saved network and how the gradient of its loss flows back through time.  Prints a summary,
and writes inspect.html, a page that goes forwards and backwards through one sequence step by step,
and pictures.  The page is one file that loads nothing.  DATA is what the model was made for: a
table for a series, a text for a language model; none for the sine.  Any other network needs a .npz
file with the arrays x (T, B, inputs) and target, and lengths, or a mask (T, B) of bool, if its
sequences differ.  There are no random numbers, so --seed changes nothing."""
EXAMPLE = """\
examples:
  xprnn inspect runs/sine/model.safetensors
  xprnn inspect runs/csv/model.safetensors sunspots --sequence 100
  xprnn inspect runs/text/model.safetensors --text "a class is a type" --window 4
  xprnn inspect my.safetensors data.npz --steps 0:40"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help="a saved network")
    what = "a table, a text or a .npz file, as the model needs it; or: sunspots (comes with xprnn)"
    file_options(parser, required=False, metavar="DATA", what=what)
    add("--text", metavar="TEXT", help="language models: this text, in place of DATA")
    add(
        "--column",
        metavar="NAME",
        action="append",
        help="series: the column, by name or number (from 1; default: the model's); once for each "
        "that the model forecasts",
    )
    add(
        "--loss",
        choices=KNOWN_LOSSES,
        help=".npz: the loss (default: cross_entropy for a target of integers, else squared_error)",
    )
    add(
        "--sequence",
        type=int,
        metavar="N",
        help="which sequence, from 0: of a series the window of values (default: the last), of a "
        "text the sentence or line, of a .npz file the one in the batch (default 0)",
    )
    add(
        "--steps",
        type=_steps,
        metavar="FIRST:END",
        help="show these steps (default: as many as a page can show, the last ones)",
    )
    add(
        "--window",
        type=int,
        metavar="K",
        help="windowed truncation: the loss of each step reaches back K steps (default: all)",
    )
    parser.set_defaults(dtype=None)


def _steps(text: str) -> tuple[int, int]:
    first, colon, end = text.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form FIRST:END, such as 0:40")
    return int(first), int(end)


def run(args: argparse.Namespace) -> int:
    """Load, go through the sequence, print and write."""
    if args.window is not None and args.window < 0:
        raise ValueError(f"--window is {args.window}: expected 0 or more steps")
    net = load_model(args.model, backend=args.backend, dtype=args.dtype, allow_nonfinite=True)
    data = inspected(args, net)
    with of_model(args.model):
        flow = diagnostics.gradient_flow(
            net,
            data.x,
            data.target,
            loss=data.loss,
            lengths=data.lengths,
            mask=data.mask,
            window=args.window,
            matrix=data.x.shape[0] <= MATRIX,
        )
        page = diagnostics.inspect_page(
            net,
            data.x,
            data.target,
            data.loss,
            lengths=data.lengths,
            mask=data.mask,
            window=args.window,
            steps=args.steps,
            vocabulary=data.vocabulary,
            title=f"{args.model}: {data.words}",
            notes=[f"Trained on {trained_on(net)}."],
        )
    print("\n".join(summary(net, data, flow, page)), flush=True)
    folder = results_folder(args.out, "inspect")
    page.save(folder / "inspect.html")
    written = {"inspect.html": "every step: open it in a browser"}
    try:
        for name, (draw, what) in pictures(net, data, flow, page).items():
            diagnostics.save_figure(draw(), folder / name)
            written[name] = what
    except ImportError as error:
        tell(f"xprnn: without pictures: {one_line(error)}")
    say_written(folder, written)
    return 0


def summary(net: RNN, data: Inspected, flow: Flow, page: diagnostics.Page) -> list[str]:
    """Return the lines that say what the network is, and how far its gradient reaches."""
    counts = [math.prod(shape) for shape in net.architecture.shapes().values()]
    bits = {"float64": 64, "float32": 32}.get(net.backend.dtype_name, 16)
    size = sum(counts) * bits // 8
    lines = [
        f"{net}",
        f"trained on: {trained_on(net)}",
        f"parameters: {sum(counts):,} in {len(counts)} arrays, {_bytes(size)} in "
        f"{net.backend.dtype_name}",
        f"sequence:   {data.words}; {page.record.steps} steps"
        + ("" if page.record.value is None else f", loss {page.record.value:.4g}"),
    ]
    gates, matrix = gate_names(net.cell), "U" if net.projection is None else "U P"
    for name, radii in zip(flow.names, flow.spectral_radius, strict=True):
        of_gates = zip(gates, radii, strict=len(radii) > 0)
        said = ", ".join(f"{gate} {r:.3g}".strip() for gate, r in of_gates)
        lines.append(f"{name}:    {f'spectral radius of {matrix}: {said}' if said else 'no U'}")
    return [*lines, *flow.sentence.splitlines(), *page.messages]


def _bytes(count: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000 or unit == "MB":
            return f"{count:.4g} {unit}"
        count = count / 1000  # type: ignore[assignment]
    raise AssertionError
