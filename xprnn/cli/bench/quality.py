"""``xprnn bench quality``: the same training in xprnn and in torch."""

import argparse
from pathlib import Path
from typing import Any

from xprnn import checks, diagnostics
from xprnn.backend import get_backend, probe
from xprnn.backend.host.arrays import np
from xprnn.bench.quality.comparison import Curves, Problem, problem_of, run_quality
from xprnn.bench.quality.plot import plot_quality
from xprnn.bench.quality.training import OPTIMIZERS, TrainingSetting
from xprnn.cli.bench.options import json_option
from xprnn.cli.bench.report import Report, machine
from xprnn.cli.common import check_extras, results_folder
from xprnn.data.text import python_topics, read_text, streams

HELP = "compare the losses of the same training in xprnn and in torch"
DESCRIPTION = """\
Train a language model of characters, an LSTM with a linear layer, in xprnn and in torch: from the
same weights, with the same batches and the same optimizer, each in a process of its own.  The last
part of the text is held out; the state is carried from chunk to chunk.  Prints the training loss
and the held-out loss of both and their difference.  For comparison it also prints the difference
between two trainings in torch, one of which starts from weights that are each moved by a rounding.
--backend is that of xprnn; torch computes on the CPU.  Writes quality.png and
bench-quality.json."""
EXAMPLE = """\
examples:
  xprnn bench quality                                 (the language reference that Python ships)
  xprnn bench quality book.txt --steps 5000 --every 500"""
PICTURE = "quality.png"
RATES = {"adam": 0.002, "sgd": 2.0}
PAIRS = {"xprnn": ("xprnn", "torch"), "moved": ("moved", "torch")}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("file", metavar="FILE", type=Path, nargs="?", help="a text (default: Python's reference)")
    add("--encoding", default="utf-8", metavar="NAME", help="encoding of the file (default UTF-8)")
    add("--hidden", type=int, default=128, metavar="N", help="units in each layer (default 128)")
    add("--layers", type=int, default=2, metavar="N", help="number of layers (default 2)")
    add("--steps", type=int, default=2000, metavar="N", help="number of updates (default 2000)")
    add(
        "--every", type=int, metavar="N", help="updates between two lines (default: a tenth of all)"
    )
    add("--batch", type=int, default=32, metavar="N", help="streams in each update (default 32)")
    add(
        "--chunk",
        type=int,
        default=50,
        metavar="N",
        help="characters of each stream in an update (default 50)",
    )
    add("--optimizer", choices=OPTIMIZERS, default="adam", help="(default adam)")
    rates = ", ".join(f"{rate:g} for {name}" for name, rate in RATES.items())
    add("--lr", type=float, metavar="RATE", help=f"learning rate (default {rates})")
    add("--momentum", type=float, default=0.9, metavar="M", help="momentum of SGD (default 0.9)")
    add(
        "--clip",
        type=float,
        default=1.0,
        metavar="NORM",
        help="largest norm of the gradient (default 1)",
    )
    add(
        "--held-out",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of the text that is held out, at its end (default 0.1)",
    )
    add(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="BLAS threads of each process (default 1)",
    )
    json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Train, compare, write and print."""
    check_extras()
    setting = _setting(args)
    torch = probe("torch")
    if not torch.usable:
        raise ImportError(f"the comparison is with torch: {torch.reason}")
    problem = _problem(args, setting)
    folder = results_folder(args.out, "quality")
    report = Report("quality", args, folder)
    facts: dict[str, Any] = {
        **machine(),
        "torch": torch.version,
        "text": "Python's reference" if args.file is None else args.file.name,
        "characters": len(problem.tokens) + len(problem.held_out),
        "held out": len(problem.held_out),
        "vocabulary": problem.net.input_size,
        "parameters": sum(p.size for p in problem.net.parameters.values()),
        "hidden": args.hidden,
        "layers": args.layers,
        "seed": args.seed,
        **setting._asdict(),
    }
    report.tell(_preface(facts))
    report.tell(HEADS)
    curves = Curves()
    for points in run_quality(problem, setting, args.seed):
        curves.add(points)
        report.tell(_row(curves))
    facts |= _results(curves)
    report.tell(_summary(facts))
    title = f"{facts['text']}: LSTM of characters, {args.layers} layers of {args.hidden} units"
    diagnostics.save_figure(plot_quality(curves, title=title), folder / PICTURE)
    report.finish(facts, PICTURE)
    return 0


def _setting(args: argparse.Namespace) -> TrainingSetting:
    """Check the options, and return how to train."""
    for name in ("hidden", "layers", "steps", "batch", "chunk", "threads"):
        checks.positive_int(f"--{name}", getattr(args, name))
    backend = get_backend(args.backend, dtype=args.dtype)
    every = max(1, args.steps // 10) if args.every is None else args.every
    return TrainingSetting(
        args.steps,
        checks.positive_int("--every", every),
        args.batch,
        args.chunk,
        args.optimizer,
        checks.number("--lr", RATES[args.optimizer] if args.lr is None else args.lr, open_=True),
        checks.number("--momentum", args.momentum, below=1.0),
        checks.number("--clip", args.clip, open_=True),
        backend.name,
        backend.dtype_name,
        args.threads,
    )


def _problem(args: argparse.Namespace, setting: TrainingSetting) -> Problem:
    held_out = checks.number("--held-out", args.held_out, below=1.0, open_=True)
    text = python_topics() if args.file is None else read_text(args.file, args.encoding)
    problem = problem_of(text, held_out, args.hidden, args.layers, setting.dtype, args.seed)
    for part in (problem.tokens, problem.held_out):
        # A text that is too short is found out here, and not by the processes.
        streams(part, setting.batch)
    return problem


def _preface(facts: dict[str, Any]) -> str:
    rule = {"sgd": "SGD with momentum {momentum:g}", "adam": "Adam"}[facts["optimizer"]]
    return "\n".join(
        line.format(**facts)
        for line in (
            "{platform}, xprnn {xprnn} on {backend}, torch {torch}",
            "{text}: {characters} characters, the last {held out} held out",
            "LSTM, {layers} layers of {hidden} units, {vocabulary} in the vocabulary, "
            "{parameters} parameters in {dtype}, seed {seed}",
            "{steps} updates of {batch} × {chunk} characters, "
            f"{rule}, learning rate {{rate:g}}, gradients clipped at norm {{clip:g}}",
        )
    )


HEADS = f"""\
{"":>7}{"training, mean since":>22}{"held out":>20}{"apart":>12}{"torch and torch":>17}
{"update":>7}{"xprnn":>11}{"torch":>11}{"xprnn":>10}{"torch":>10}{"":>12}{"moved, apart":>17}"""


def _row(curves: Curves) -> str:
    """Return the line of the last point."""
    held_out = {name: losses[-1] for name, losses in curves.held_out.items()}
    before = curves.evaluated_at[-2] if len(curves.evaluated_at) > 1 else 0
    update = curves.evaluated_at[-1]
    means = [
        f"{np.mean(curves.losses[name][before:]):>11.4f}" if update else f"{'':>11}"
        for name in ("xprnn", "torch")
    ]
    apart = [abs(held_out[name] - held_out["torch"]) for name in ("xprnn", "moved")]
    return (
        f"{update:>7}{''.join(means)}{held_out['xprnn']:>10.4f}{held_out['torch']:>10.4f}"
        f"{apart[0]:>12.1e}{apart[1]:>17.1e}"
    )


def _results(curves: Curves) -> dict[str, Any]:
    """Return the losses and their differences as plain data."""
    final = {name: losses[-1] for name, losses in curves.held_out.items()}
    apart = {}
    for name, pair in PAIRS.items():
        one, other = pair
        training = curves.apart(one, other)
        apart[name] = {
            "held_out": abs(final[one] - final[other]),
            "training": float(np.max(training)),
            "training_update": int(np.argmax(training)) + 1,
        }
    return {
        "final_held_out": final,
        "apart": apart,
        "updates": curves.evaluated_at,
        "held_out_losses": curves.held_out,
        # A float32 has nine digits.
        "training_losses": {
            name: [float(f"{loss:.9g}") for loss in losses]
            for name, losses in curves.losses.items()
        },
    }


def _summary(facts: dict[str, Any]) -> str:
    final, lines = facts["final_held_out"], []
    for words, name in (("xprnn and torch", "xprnn"), ("torch and torch moved", "moved")):
        apart = facts["apart"][name]
        lines.append(
            f"{words}: {apart['held_out']:.1e} apart in the held-out loss at the end "
            f"({final[name]:.4f} and {final['torch']:.4f}), at most {apart['training']:.1e} in a "
            f"training loss (update {apart['training_update']})"
        )
    return "\n".join(lines)
