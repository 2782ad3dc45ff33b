"""The file of a series: the options that name it and say how it is read, and reading it."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xprnn.backend.host.quoting import quoted
from xprnn.data import Columns, Reading, Scaling, read_columns, sunspots
from xprnn.models.forecaster import Forecaster
from xprnn.models.task import text_entry

MISSING = ("refuse", "fill", "interpolate", "cut")
OPTIONS = (
    *("column", "time", "where", "missing", "na", "decimal", "thousands", "dayfirst", "delimiter"),
    *("encoding", "sheet"),
)
"""The options of this module, as attributes."""
REMEMBERED = ("time", "missing", "na", "decimal", "thousands", "dayfirst")
"""Those that a model keeps, for further files of the same kind."""


TABLE = (
    "a table: text with fields between delimiters, compressed or not, Excel, Parquet, - for "
    "standard input; or: sunspots (comes with xprnn)"
)


def file_options(
    parser: argparse.ArgumentParser, *, required: bool, metavar: str = "FILE", what: str = TABLE
) -> None:
    """Add the file, and the options that say how it is read; ``required``: whether it must be."""
    parser.add_argument(
        "file", metavar=metavar, type=Path, nargs=None if required else "?", help=what
    )
    add = parser.add_argument_group(
        "reading (what is not given is found in the file, and told)"
    ).add_argument
    add(
        "--time",
        metavar="NAME",
        help="the column of times, by name or number; none: the rows are in order",
    )
    add(
        "--where",
        action="append",
        metavar="NAME=ENTRY",
        type=_condition,
        help="only rows with this entry in this column: for files of several series",
    )
    add(
        "--missing",
        choices=MISSING,
        help="what to do about missing values between others: refuse (default), fill with the "
        "value before, interpolate, or cut to the longest part without",
    )
    add(
        "--na",
        action="append",
        metavar="ENTRY",
        help="an entry that stands for a missing value, besides NA, null, - and the like",
    )
    add("--decimal", type=_character, metavar="C", help="the sign before decimals: . or ,")
    add("--thousands", type=_sign, metavar="C", help="the sign between thousands: . , ' or space")
    add(
        "--dayfirst",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="01/02/2020 is the first of February, or the second of January",
    )
    add("--delimiter", type=_character, metavar="C", help="between fields: one character, or tab")
    add("--encoding", metavar="NAME", help="encoding of a text file")
    add("--sheet", metavar="NAME", help="the sheet of an Excel file, by name or number")


def series_options(
    parser: argparse.ArgumentParser, *, required: bool, column: bool | None = None
) -> None:
    """Add the options that name a file and its column, and say how it is read.

    ``required``: whether they must be given; ``column``: whether the column must, if that differs.
    """
    file_options(parser, required=required)
    parser.add_argument(
        "--column",
        metavar="NAME",
        action="append",
        required=required if column is None else column,
        help="the column to forecast, by name or number (from 1); "
        + ("default: the only one of numbers; " if column is False else "")
        + "repeated: several together",
    )


def _character(text: str) -> str:
    character = {"tab": "\t", "\\t": "\t", "space": " "}.get(text, text)
    if len(character) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not one character, and not tab")
    return character


def _sign(text: str) -> str:
    return "" if text in ("", "none") else _character(text)


def _condition(text: str) -> tuple[str, str]:
    name, equals, entry = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=ENTRY")
    return name.strip(), entry.strip()


def reading_of(args: argparse.Namespace, remembered: Mapping[str, Any] | None = None) -> Reading:
    """Return how a file is read: as the options say, and else as ``remembered``."""
    options = dict(remembered or {})
    options |= {name: value for name, value in given_options(args).items() if name != "column"}
    return Reading(**options)


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options that were given, as `Reading` has them."""
    options = {
        name: getattr(args, name) for name in OPTIONS if getattr(args, name, None) is not None
    }
    if "where" in options:
        options["where"] = dict(options["where"])
    if "na" in options:
        options["na"] = tuple(options["na"])
    return options


def words_of(args: argparse.Namespace) -> list[str]:
    """Return the options as words of a command line, for one that reads the same file."""
    words: list[str] = []
    for name, value in given_options(args).items():
        if name in ("column", *REMEMBERED):
            continue
        if name == "where":
            words += [word for k, v in value.items() for word in ("--where", f"{k}={v}")]
        else:
            words += [f"--{name}", {"\t": "tab"}.get(value, value)]
    return words


def read_table(
    args: argparse.Namespace,
    columns: Sequence[str],
    *,
    known: Sequence[str] = (),
    remembered: Mapping[str, Any] | None = None,
) -> Columns:
    """Read columns of the file that the options name.

    ``known`` are columns whose entries may go on after the last of those to be forecast,
    ``remembered`` what `reading_memory` kept of an earlier file.
    """
    path: Path = args.file
    if str(path) == "sunspots" and not path.exists():
        path = sunspots()
    return read_columns(path, columns, reading_of(args, remembered), known=known)


def reading_memory(args: argparse.Namespace, table: Columns) -> dict[str, Any]:
    """Return what a model keeps of how its file was read: JSON, for `remembered_reading`."""
    given = given_options(args)
    kept = {name: given[name] for name in REMEMBERED if name in given}
    return kept | ({"likely": dict(table.signs)} if table.signs else {})


def remembered_reading(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model's metadata says of reading files, checked.

    Raises
    ------
    ValueError
        If it is not what `reading_memory` returns.
    """
    kept = metadata.get("reading", {})
    if not isinstance(kept, dict) or not set(kept) <= {*REMEMBERED, "likely"}:
        raise ValueError(f"the metadata's reading is {quoted(kept)}: expected options of reading")
    for name, value in kept.items():
        if name == "na":
            right = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
        elif name == "likely":
            right = isinstance(value, dict) and all(
                isinstance(sign, str) and key in ("decimal", "thousands")
                for key, sign in value.items()
            )
        else:
            right = isinstance(value, bool if name == "dayfirst" else str)
        if not right:
            raise ValueError(f"the metadata's reading has {name} {quoted(value)}")
    options: dict[str, Any] = {
        name: tuple(value) if name == "na" else value for name, value in kept.items()
    }
    Reading(**options)
    return options


def columns_of(data: Mapping[str, Any], forecaster: Forecaster) -> tuple[list[str], list[str]]:
    """Return the names of the columns and of the covariates that the model was trained on."""
    one = isinstance(forecaster.scaling, Scaling)
    columns = [text_entry(data, "column")] if one else _texts(data, "columns")
    covariates = _texts(data, "covariates") if forecaster.covariates else []
    outputs = forecaster.net.output_size
    if len(columns) != outputs or len(covariates) != len(forecaster.covariates):
        raise ValueError(
            f"the network has {outputs} outputs and {len(forecaster.covariates)} covariates, but "
            f"names {len(columns)} columns and {len(covariates)} covariates"
        )
    return columns, covariates


def _texts(data: Mapping[str, Any], name: str) -> list[str]:
    value = data.get(name)
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise TypeError(f"{name} is {quoted(value)}: expected a list of names")
    return value
