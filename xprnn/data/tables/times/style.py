"""Dates that were read, and how their file writes them."""

from datetime import timedelta
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray
from xprnn.data.tables.times.months import ENGLISH, FULL
from xprnn.data.tables.times.steps import EPOCH


class Dates(NamedTuple):
    """Dates that were read.

    Attributes
    ----------
    ticks : host array, (N,), int64
        Microseconds since 1970, of UTC where the file has a zone.
    wall : host array, (N,), int64
        The same as clocks there showed them.
    style : Style
        How the file writes them.
    """

    ticks: HostArray
    wall: HostArray
    style: "Style"


class Style(NamedTuple):
    """How a file writes dates.

    Attributes
    ----------
    pattern : str
        As ``strftime`` has it, or as one of the periods above.
    suffix : str
        The zone, as it is written.
    months : tuple of str
        The names of the months, if they are not English.
    padded : bool
        Whether days and months below 10 have a zero before them.
    padded_hour : bool
        The same of hours.
    upper : bool
        Whether names of months are in capitals.
    """

    pattern: str
    suffix: str = ""
    months: tuple[str, ...] = ()
    padded: bool = True
    padded_hour: bool = True
    upper: bool = False

    def write(self, tick: float) -> str:
        """Return a date as the file would write it, from what a clock there shows."""
        date = EPOCH + timedelta(microseconds=int(tick))
        if "{" in self.pattern:
            return self.pattern.format(
                y=date.isocalendar().year if "w" in self.pattern else date.year,
                q=(date.month + 2) // 3,
                m=date.month,
                h=(date.month + 5) // 6,
                w=date.isocalendar().week,
                next=(date.year + 1) % 100,
                next4=date.year + 1,
            )
        pattern = self.pattern.replace("%Y", f"{date.year:04}")
        for code, names in (("%b", ENGLISH), ("%B", FULL)):
            name = (self.months or names)[date.month - 1]
            pattern = pattern.replace(code, name.upper() if self.upper else name)
        if not self.padded:
            for code, number in (("%d", date.day), ("%m", date.month)):
                pattern = pattern.replace(code, str(number))
        if not self.padded_hour:
            for code, number in (("%H", date.hour), ("%I", (date.hour + 11) % 12 + 1)):
                pattern = pattern.replace(code, str(number))
        if "%3f" in pattern:
            pattern = pattern.replace("%3f", f"{date.microsecond // 1000:03}")
        return date.strftime(pattern) + self.suffix
