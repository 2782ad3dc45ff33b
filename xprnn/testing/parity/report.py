"""What a check of parity found, and how it says so."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np


@dataclass(frozen=True)
class Row:
    """One quantity on one backend in one dtype: the worst entry.

    Where several arrays of a quantity disagree, each has a row.

    Attributes
    ----------
    quantity : str
        ``"functions"`` (of the namespace, each by itself), ``"structure"`` (namespace, device,
        dtype, shape), ``"output"``, ``"state"``, ``"loss"``, ``"gradients"``, ``"update"`` (one
        step of every optimizer), ``"training"`` (many steps of the first), or ``"run"``, where an
        exception ended the check.
    error, tolerance : float
        Relative to the largest entry of the reference's array.  The error is infinite where the
        structure is wrong, or what should be finite is not.
    where : str
        Name and index of the entry: ``"weight_hh_l0[3, 1]"``; empty if there is no error.  For the
        structure and for exceptions what is wrong.
    """

    quantity: str
    error: float
    tolerance: float
    where: str

    @property
    def agrees(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.error <= self.tolerance

    @property
    def used(self) -> float:
        """Return the error as a part of the tolerance."""
        return self.error / self.tolerance if self.tolerance else self.error

    def __str__(self) -> str:
        if self.tolerance == 0:
            return f"{self.quantity}: {self.where}"
        if self.error == 0:
            return f"{self.quantity}: equal"
        if not math.isfinite(self.error):
            return f"{self.quantity}: {self.where} is not finite"
        return (
            f"{self.quantity}: {self.where} off by {self.error:.1e} ({self.tolerance:.1e} allowed)"
        )


@dataclass(frozen=True)
class Side:
    """One backend in one dtype, against the reference in float64.

    Attributes
    ----------
    backend, device, dtype : str
    rows : tuple of Row
        In the order in which things are computed.
    seconds : float or None
        The median time of a training step; None if it did not come to one.
    """

    backend: str
    device: str
    dtype: str
    rows: tuple[Row, ...]
    seconds: float | None

    @property
    def failures(self) -> tuple[Row, ...]:
        """Return the rows that disagree."""
        return tuple(row for row in self.rows if not row.agrees)

    def __str__(self) -> str:
        time = "" if self.seconds is None else f", {1000 * self.seconds:.2f} ms a step"
        lines = [f"{self.backend} on {self.device} in {self.dtype}{time}"]
        for row, more in worst_of_each(self.rows):
            lines.append(f"  {'' if row.agrees else 'DISAGREES: '}{row}{and_more(more)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class ParityReport:
    """All of it.

    Attributes
    ----------
    reference : str
    steps : int
        Training steps.
    sides : tuple of Side
        The reference itself comes first.
    zero : tuple of str
        Gradients that are zero on the reference, so that agreement on them says nothing.
    """

    reference: str
    steps: int
    sides: tuple[Side, ...]
    zero: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether nothing disagrees."""
        return not any(side.failures for side in self.sides)

    @property
    def worst(self) -> tuple[Side, Row]:
        """Return the row whose error is largest by its tolerance; of equals the first."""
        pairs = [(side, row) for side in self.sides for row in side.rows]
        return max(pairs, key=lambda pair: pair[1].used)

    def __str__(self) -> str:
        lines = [str(side) for side in self.sides]
        if self.zero:
            lines.append(f"zero on {self.reference}, so shown by nothing: {', '.join(self.zero)}")
        return "\n".join(lines)


class ParityError(AssertionError):
    """A backend disagrees with the reference, or the reference's numbers are none to agree with.

    Attributes
    ----------
    report : ParityReport
    """

    def __init__(self, report: ParityReport) -> None:
        wrong = [side for side in report.sides if side.failures]
        side, row = report.worst
        fault = f"{side.backend} in {side.dtype} disagrees with {report.reference} in float64"
        if len(report.sides) == 1:
            fault = f"{report.reference} can't be the reference"
        lines = [f"{fault}; the worst is {row}"]
        # What a network makes of a wrong function is larger, but not where to look.
        alone = [failure for failure in side.failures if failure.quantity == "functions"]
        if alone and row.quantity != "functions":
            lines = [f"{lines[0]}; look first at {max(alone, key=lambda row: row.used)}"]
        super().__init__("\n".join([*lines, *map(str, wrong)]))
        self.report = report


def worst_of_each(rows: Sequence[Row]) -> list[tuple[Row, int]]:
    """Return the worst row of every quantity, and how many more of them disagree."""
    by_quantity: dict[str, list[Row]] = {}
    for row in rows:
        by_quantity.setdefault(row.quantity, []).append(row)
    return [
        (max(mine, key=lambda row: row.used), max(0, sum(not row.agrees for row in mine) - 1))
        for mine in by_quantity.values()
    ]


def and_more(count: int) -> str:
    """Say how many more there are, if any."""
    return f", and {count} more" if count else ""


class Worst(NamedTuple):
    """The entry with the largest error, measured by what is allowed there.

    Attributes
    ----------
    error, tolerance : float
        Relative to the norm of the reference's array.
    at : tuple of int
        Its index.
    """

    error: float
    tolerance: float
    at: tuple[int, ...]


def norm(arrays: Iterable[HostArray]) -> float:
    """Return the largest absolute value of all entries; 0 if there are none."""
    return max((float(np.max(np.abs(a), initial=0.0)) for a in arrays), default=0.0)


def worst_entry(
    got: HostArray,
    want: HostArray,
    tolerance: float,
    *,
    scale: float = 1.0,
    slack: HostArray | float = 0.0,
) -> Worst:
    """Compare two host arrays of one shape.

    Parameters
    ----------
    got : array
    want : array
        Of the reference, finite.
    tolerance : float
        Relative to the norm of ``want``.
    scale : float
        What stands in for a norm of zero, above zero.
    slack : array or float
        What an entry may be off by besides, absolute.
    """
    if want.size == 0:
        return Worst(0.0, tolerance, ())
    size = norm([want]) or scale
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.abs(np.asarray(got, "float64") - want) / size
    errors = np.where(np.isfinite(errors), errors, math.inf)
    allowed = np.broadcast_to(tolerance + slack / size, errors.shape)
    index = np.unravel_index(int(np.argmax(errors / allowed)), errors.shape)
    at = tuple(int(k) for k in index)
    return Worst(float(errors[at]), float(allowed[at]), at)
