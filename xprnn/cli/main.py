"""The entry point: commands, and how their errors are told."""

import argparse
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence

from xprnn._version import __version__
from xprnn.backend.host.memory import keep_freed_memory
from xprnn.cli import apply, info, parity, sample
from xprnn.cli.bench import imports as bench_import
from xprnn.cli.bench import layer as bench_layer
from xprnn.cli.bench import memory as bench_memory
from xprnn.cli.bench import origins as bench
from xprnn.cli.bench import quality as bench_quality
from xprnn.cli.bench import train as bench_train
from xprnn.cli.common import Parser, common_options
from xprnn.cli.train import csv as series
from xprnn.cli.train import sine, text


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; None: those of the process.

    Returns
    -------
    int
        The exit status: 0, 1 after an error, 130 after Ctrl-C (2, by SystemExit, for arguments
        that make no sense).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            # A terminal or a pipe that has no ŷ gets a question mark, not an error after the work.
            stream.reconfigure(errors="replace")
    args = build_parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    keep_freed_memory()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show
            status = run(args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as error:
        message = str(error) or "interrupted before there was anything to keep"
        print(f"xprnn: {message}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough (| head); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if args.debug:
            traceback.print_exc()
        else:
            print(f"xprnn: error: {_one_line(error)}", file=sys.stderr)
        return 1


def _show(message: Warning | str, *_: object, **__: object) -> None:
    print(f"xprnn: warning: {message}", file=sys.stderr, flush=True)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{str(error.filename)!r}: {error.strerror}"
    # The text of a KeyError is its key's repr.
    message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    return " ".join(message.split()) or repr(error)


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="xprnn",
        description="Recurrent networks with explicit gradients, on any array library.",
        epilog="example:\n  xprnn train sine\n  xprnn train csv sunspots --column SUNACTIVITY",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"xprnn {__version__}")
    common, several = common_options(), common_options(several=True)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    train = commands.add_parser(
        "train",
        help="train a network and save it",
        description="Train a network and save it, with pictures.",
        epilog="example:\n  xprnn train sine --hidden 500",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    problems = train.add_subparsers(title="problems", metavar="PROBLEM", required=True)
    benchmarks = commands.add_parser(
        "bench",
        help="measure",
        description="Compare with other code: times, as ratios taken in one run, and results.",
        epilog="example:\n  xprnn bench origins",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    measured = benchmarks.add_subparsers(title="comparisons", metavar="COMPARISON", required=True)
    for group, name, module in (
        (problems, "sine", sine),
        (problems, "csv", series),
        (problems, "text", text),
        (commands, "apply", apply),
        (commands, "sample", sample),
        (commands, "info", info),
        (commands, "parity", parity),
        (measured, "origins", bench),
        (measured, "layer", bench_layer),
        (measured, "train", bench_train),
        (measured, "memory", bench_memory),
        (measured, "import", bench_import),
        (measured, "quality", bench_quality),
    ):
        command = group.add_parser(
            name,
            parents=[several if module is parity else common],
            help=module.HELP,
            description=module.DESCRIPTION,
            epilog=module.EXAMPLE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_options(command)
        command.set_defaults(run=module.run)
    return parser
