"""How a file is read: the options that a user may give."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from xprnn import checks

MISSING = ("refuse", "fill", "interpolate", "cut")
"""What to do about missing values between others."""
NO_TIME = "none"
"""The name for: the file has no column of times, its rows are in order."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a file is read; what is None is found in the file.

    Attributes
    ----------
    time : str or int, optional
        The column of times, by name or by number (from 1); "none": the rows are in order.
    where : mapping of str to str
        Only rows that have these entries in these columns.
    missing : str
        What to do about missing values between others: "refuse" them, "fill" (the value before),
        "interpolate" (the straight line between the neighbours), "cut" (the longest part without).
    na : tuple of str
        Entries that stand for a missing value, besides the usual ones.
    decimal, thousands : str, optional
        The signs in numbers.
    dayfirst : bool, optional
        Whether 01/02/2020 is the first of February.
    delimiter : str, optional
        Between fields.
    encoding : str, optional
        Of a text file.
    sheet : str, optional
        The sheet of an Excel file, by name or by number (from 1); the first by default.
    likely : mapping of str to str
        The ``decimal`` and ``thousands`` of an earlier file of the same kind: they decide where
        this file could be read in two ways.
    """

    time: str | int | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    missing: str = "refuse"
    na: tuple[str, ...] = ()
    decimal: str | None = None
    thousands: str | None = None
    dayfirst: bool | None = None
    delimiter: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    likely: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.choice("missing", self.missing, MISSING)
        for name in ("decimal", "delimiter"):
            value = getattr(self, name)
            if value is not None and len(value) != 1:
                raise ValueError(f"{name} is {value!r}: expected one character")
        if self.thousands is not None and len(self.thousands) > 1:
            raise ValueError(f"thousands is {self.thousands!r}: expected one character, or none")
        if self.decimal is not None and self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands are both {self.decimal!r}: expected different")
