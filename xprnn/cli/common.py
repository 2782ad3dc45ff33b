"""What all commands share: their form, their options, and the folders that they write to."""

import argparse
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, Protocol, TextIO

from xprnn.backend.host.arrays import np
from xprnn.backend.host.files import output_folder
from xprnn.backend.host.quoting import printable


class Command(Protocol):
    """A command is a module with these names.

    Attributes
    ----------
    HELP : str
        One line, for the list of commands.
    DESCRIPTION : str
        What the command does, prints and writes.
    EXAMPLE : str
        Command lines that show its use.
    """

    HELP: str
    DESCRIPTION: str
    EXAMPLE: str

    def add_options(self, parser: argparse.ArgumentParser, /) -> None:
        """Add the options that only this command has."""
        ...

    def run(self, args: argparse.Namespace, /) -> int:
        """Do the work, and return the exit status."""
        ...


class Parser(argparse.ArgumentParser):
    """A parser whose error messages are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see '{self.prog} --help')\n")


def common_options(*, backend: bool = True) -> Parser:
    """Return a parser with the options of every command, with or without backend and dtype."""
    parser = Parser(add_help=False)
    group = parser.add_argument_group("options of every command")
    if backend:
        group.add_argument(
            "--backend",
            default="numpy",
            metavar="NAME",
            help="numpy (default), cupy, torch, jax, array_api_strict, or auto: "
            "cupy where a CUDA device works, else numpy",
        )
        group.add_argument(
            "--dtype", default="float32", metavar="NAME", help="float32 (default) or float64"
        )
    group.add_argument(
        "--seed",
        type=_seed,
        default=0,
        metavar="N",
        help="seed of all random numbers (default 0)",
    )
    group.add_argument("--out", type=Path, metavar="FOLDER", help="folder for the results")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 0")
    return int(text)


def check_extras() -> None:
    """Find out before any work whether matplotlib and tqdm are installed."""
    try:
        importlib.import_module("matplotlib.figure")
        importlib.import_module("tqdm")
    except ImportError as error:
        raise ImportError(f'this command needs more ({error}): pip install "xprnn[cli]"') from error


@contextmanager
def of_model(path: Path) -> Iterator[None]:
    """Let errors that a model's content causes name its file."""
    try:
        # What overflows is found in the results, and told in one error instead of warnings.
        with np.errstate(all="ignore"):
            yield
    except (TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r}: {error}") from error


def results_folder(given: Path | None, name: str) -> Path:
    """Return the folder to write to: the given one, or a new one under ``runs/``."""
    if given is not None:
        return output_folder(given)
    runs, number = output_folder("runs"), 1
    folder = runs / name
    while True:
        # mkdir decides and not a look: two commands that start together get different folders.
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = runs / f"{name}-{number}"
        else:
            return output_folder(folder)


def one_line(error: BaseException) -> str:
    """Return the message of an error as one line that is safe for a terminal."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{str(error.filename)!r}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # str of a KeyError is the repr of its message.
    message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    return printable(" ".join(message.split()) or repr(error))


def tell(line: str) -> None:
    """Print a line on stderr; if it can't be written, the work goes on without it."""
    # Without this, print would take stdout.
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


def flush(stream: TextIO | None) -> OSError | None:
    """Flush a stream; if that fails, drop what it holds and all that follows, and return the error.

    Python would try again at the end of the process, and report the error in its own words.
    """
    if stream is None:
        return None
    try:
        stream.flush()
    except OSError as error:
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            stream.flush()
        return error
    return None


def say_written(folder: Path, files: dict[str, str]) -> None:
    """Print the folder, and what each of its files is."""
    width = max(len(name) for name in files)
    print(f"written to {folder}:")
    for name, what in files.items():
        print(f"  {name:<{width}}  {what}")
