"""The entry point of the command line: all commands, and how errors are reported."""

import argparse
import io
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import Any

from xprnn._version import __version__
from xprnn.backend.host.memory import keep_freed_memory
from xprnn.backend.host.quoting import printable
from xprnn.cli import apply, export, info, inspect, parity, sample
from xprnn.cli.bench import COMPARISONS
from xprnn.cli.common import Command, Parser, common_options, flush, one_line, tell
from xprnn.cli.stops import stops
from xprnn.cli.terminal import ENCODING_ERRORS, PrintableStream
from xprnn.cli.train import PROBLEMS
from xprnn.distributed.variables import early_rank

EXAMPLES = """\
examples:
  xprnn train sine
  xprnn train csv sunspots --column SUNACTIVITY      (or your own file)
  xprnn train text book.txt
  xprnn COMMAND --help"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; None: those of the process.

    Returns
    -------
    int
        The exit status: 0, 1 after an error, 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.

    Raises
    ------
    SystemExit
        With status 2, if the arguments can't be parsed.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ENCODING_ERRORS:
            # An encoding without ŷ prints a question mark, instead of an error after the work.
            stream.reconfigure(errors=ENCODING_ERRORS[stream.errors])
    with stops.handled(), ExitStack() as held:
        try:
            return _run(argv, held)
        finally:
            flush(sys.stderr)


def _run(argv: Sequence[str] | None, held: ExitStack) -> int:
    debug = False
    try:
        try:
            words = sys.argv[1:] if argv is None else argv
            if not words:
                # Somebody who types the name alone wants to know what there is.
                build_parser().print_help(sys.stderr)
                return 2
            args = _parsed(words)
            debug, args.held = args.debug, held
            keep_freed_memory()
            run: Callable[[argparse.Namespace], int] = args.run
            stdout = PrintableStream(sys.stdout or io.StringIO())
            with warnings.catch_warnings(), redirect_stdout(stdout):
                warnings.showwarning = _show_warning
                status = run(args)
        finally:
            unwritten = flush(sys.stdout)
        if unwritten is not None:
            raise unwritten
        return status
    except KeyboardInterrupt as error:
        tell(f"xprnn: {str(error) or 'interrupted before there was anything to save'}")
        return stops.status
    except BrokenPipeError:
        # The reader of the output has closed it (| head).
        return 1
    except Exception as error:
        if debug:
            tell(traceback.format_exc().rstrip())
        else:
            tell(f"xprnn: error: {one_line(error)}")
        return 1


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments; of processes that were started together, rank 0 tells what is wrong."""
    together = any(word.split("=")[0] == "--distributed" for word in argv)
    if not together or not early_rank(os.environ):
        return build_parser().parse_args(argv)
    try:
        with redirect_stderr(io.StringIO()):
            return build_parser().parse_args(argv)
    except SystemExit:
        # A launcher may end all others when this one ends.
        time.sleep(1)
        raise


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    tell(f"xprnn: warning: {printable(str(message))}")


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="xprnn",
        description="Recurrent networks with explicit gradients, on any array library.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"xprnn {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    train = commands.add_parser(
        "train",
        help="train a network and save it",
        description="Train a network and save it, with pictures.",
        epilog="example:\n  xprnn train sine --hidden 500",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    problems = train.add_subparsers(title="problems", metavar="PROBLEM", required=True)
    for name, problem in PROBLEMS.items():
        _add(problems, name, problem)
    _add(commands, "apply", apply)
    _add(commands, "sample", sample)
    _add(commands, "inspect", inspect)
    # It computes nothing, so a backend makes no difference.
    _add(commands, "export", export, backend=False)
    bench = commands.add_parser(
        "bench",
        help="compare with other libraries",
        description="Compare time, memory and results with those of other libraries, in one run.",
        epilog="example:\n  xprnn bench layer --against torch",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    comparisons = bench.add_subparsers(title="comparisons", metavar="COMPARISON", required=True)
    for name, comparison in COMPARISONS.items():
        # It takes two backends, by an option of its own.
        _add(comparisons, name, comparison, backend=name != "crossover")
    # It takes several backends and dtypes, by options of its own.
    _add(commands, "parity", parity, backend=False)
    _add(commands, "info", info)
    return parser


def _add(group: Any, name: str, command: Command, *, backend: bool = True) -> None:
    """Add a command to a group of subparsers."""
    parser = group.add_parser(
        name,
        parents=[common_options(backend=backend)],
        help=command.HELP,
        description=command.DESCRIPTION,
        epilog=command.EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_options(parser)
    parser.set_defaults(run=command.run)
