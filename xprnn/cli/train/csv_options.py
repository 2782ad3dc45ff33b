"""The options of ``xprnn train csv`` that say what is forecast and how it is judged."""

import argparse
from typing import NamedTuple

from xprnn import checks

DIFFERENCES = ("auto", "none", "first", "seasonal", "both")
LONGEST_HORIZON = 1000


class Wanted(NamedTuple):
    """The options of this module, checked.

    Attributes
    ----------
    differences : tuple of str
        Those that may be chosen.
    season : int or None
        The period; 0: none; None: find it.
    horizons : tuple of int
        The steps ahead whose errors are asked for, in order.
    """

    differences: tuple[str, ...]
    season: int | None
    horizons: tuple[int, ...]


def forecast_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument_group("forecast").add_argument
    add(
        "--difference",
        choices=DIFFERENCES,
        nargs="?",
        const="first",
        default="auto",
        help="what is forecast: none (levels), first (the next change), seasonal (the change since "
        "a season before), both, or auto (default): what is best at the end of the training part",
    )
    add(
        "--season",
        metavar="N",
        help="the period, in steps: 12 for months; none; default: found from the autocorrelation",
    )
    add(
        "--window",
        type=int,
        metavar="N",
        help="values that a forecast is made from (default: chosen as --difference is)",
    )
    add(
        "--covariate",
        action="append",
        default=[],
        metavar="NAME",
        help="a column that is known in advance (a price, a holiday): read, not forecast",
    )
    add("--no-linear", action="store_true", help="leave the linear part out: the network alone")
    add(
        "--no-refit",
        action="store_true",
        help="keep the model that was compared, instead of one trained on all values",
    )
    add = parser.add_argument_group("comparison").add_argument
    add(
        "--held-out",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="share of the series that is held out, at its end (default 0.2)",
    )
    add(
        "--horizon",
        default="1",
        metavar="H",
        help="errors of 1 to H steps ahead, or of those in a list: 1,6,12 (default 1)",
    )
    add(
        "--folds",
        type=int,
        default=1,
        metavar="K",
        help="cut the held-out part into K and train anew before each (default 1)",
    )
    add(
        "--interval",
        type=float,
        default=0.9,
        metavar="SHARE",
        help="share of values that prediction intervals are to cover (default 0.9)",
    )
    add("--json", action="store_true", help="print one JSON object instead of the lines")


def wanted(args: argparse.Namespace) -> Wanted:
    """Check the options.

    Raises
    ------
    ValueError
        If an option makes no sense, alone or with another.
    """
    checks.number("--interval", args.interval, below=1.0, open_=True)
    checks.number("--held-out", args.held_out, below=1.0, open_=True)
    checks.positive_int("--folds", args.folds)
    if args.window is not None:
        checks.positive_int("--window", args.window)
    season = _season(args.season)
    kinds = tuple(name for name in DIFFERENCES[1:] if args.difference in ("auto", name))
    if args.difference in ("seasonal", "both") and season == 0:
        raise ValueError(f"--difference {args.difference} needs a --season, which is none")
    return Wanted(kinds, season, _horizons(args.horizon))


def _season(text: str | None) -> int | None:
    if text is None or text == "none":
        return None if text is None else 0
    if not text.isdecimal() or int(text) < 2:
        raise ValueError(f"--season is {text!r}: expected a number of at least 2, or none")
    return int(text)


def _horizons(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 1 <= int(word) <= LONGEST_HORIZON for word in words):
        raise ValueError(
            f"--horizon is {text!r}: expected a number from 1 to {LONGEST_HORIZON}, or several with"
            " commas between them"
        )
    numbers = [int(word) for word in words]
    return tuple(range(1, numbers[0] + 1)) if len(numbers) == 1 else tuple(sorted({*numbers}))
