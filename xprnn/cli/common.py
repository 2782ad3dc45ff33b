"""What the commands share: options, output folders, what was written."""

import argparse
import importlib
from pathlib import Path
from typing import NoReturn

from xprnn.backend.host.files import output_folder


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see '{self.prog} --help')\n")


def common_options(*, several: bool = False) -> Parser:
    """Return the options that every command has; without those that are to take several values."""
    parser = Parser(add_help=False)
    group = parser.add_argument_group("options of every command")
    if not several:
        group.add_argument(
            "--backend",
            default="numpy",
            help="numpy (default), cupy, torch, jax, array_api_strict, or auto: "
            "cupy where a CUDA device works, else numpy",
        )
        group.add_argument("--dtype", default="float32", help="float32 (default) or float64")
    group.add_argument(
        "--seed", type=seed, default=0, help="of everything that is drawn (default 0)"
    )
    group.add_argument("--out", type=Path, metavar="FOLDER", help="where to write the results")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def seed(text: str) -> int:
    """Parse a seed."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 0")
    return int(text)


def check_extras() -> None:
    """Find out before any work whether pictures and progress bars can be made."""
    try:
        importlib.import_module("matplotlib.figure")
        importlib.import_module("tqdm")
    except ImportError as error:
        raise ImportError(f'this command needs more ({error}): pip install "xprnn[cli]"') from error


def results_folder(given: Path | None, name: str) -> Path:
    """Return a folder to write to: the one given, or a new one under ``runs/``."""
    if given is not None:
        return output_folder(given)
    runs, number = output_folder("runs"), 1
    folder = runs / name
    while True:
        # Made here and not found: of two commands started together, each gets a folder of its own.
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = runs / f"{name}-{number}"
        else:
            return output_folder(folder)


def say_written(folder: Path, files: dict[str, str]) -> None:
    """Name the folder and what is in it."""
    width = max(len(name) for name in files)
    print(f"written to {folder}:")
    for name, what in files.items():
        print(f"  {name:<{width}}  {what}")
