"""The CSV file of a series: the options that name it, and how they read it."""

import argparse
from pathlib import Path

from xprnn.data import Series, read_csv, sunspots


def series_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the options that name a file and its columns.

    ``required``: whether file and column must be given.
    """
    add = parser.add_argument
    what = "a CSV file whose first line names the columns, or: sunspots (comes with xprnn)"
    add("file", metavar="FILE", type=Path, nargs=None if required else "?", help=what)
    add("--column", metavar="NAME", required=required, help="the column to forecast")
    add("--time", metavar="NAME", help="a column that must be evenly spaced; labels the pictures")
    add(
        "--delimiter",
        type=_delimiter,
        metavar="C",
        help="between fields: one character (default ,) or tab",
    )
    add("--encoding", metavar="NAME", help="encoding of the file (default UTF-8)")


def _delimiter(text: str) -> str:
    character = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(character) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not one character, and not tab")
    return character


def read_series(args: argparse.Namespace, column: str) -> Series:
    """Read a column of the file that the options name."""
    path: Path = args.file
    if str(path) == "sunspots" and not path.exists():
        path = sunspots()
    given = {k: getattr(args, k) for k in ("delimiter", "encoding") if getattr(args, k)}
    return read_csv(path, column, time=args.time, **given)
