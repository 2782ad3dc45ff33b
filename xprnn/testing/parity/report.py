"""What a check of parity has found, in numbers and in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.testing.arrays import index_at, largest


@dataclass(frozen=True)
class Row:
    """The worst entry of one quantity, on one backend in one dtype.

    If several arrays of a quantity disagree, each has a row.

    Attributes
    ----------
    quantity : str
        ``"functions"`` (of the standard, on small arrays), ``"structure"`` (library, device, dtype
        and shape of arrays), ``"output"``, ``"state"``, ``"loss"``, ``"gradients"``, ``"update"``
        (one step of every optimizer), ``"training"`` (many steps of the first), or ``"run"`` if an
        exception ended the check.
    error, tolerance : float
        Relative to the largest entry of the reference's array.  The error is infinite if the
        structure is wrong, or an entry is not finite.
    where : str
        The name and index of the entry, ``"weight_hh_l0[3, 1]"``; empty if there is no error.  For
        the structure and for exceptions, what is wrong.
    name : str
        The function, or the array.
    detail : str
        For a wrong function, the smallest input for which it is wrong.
    at : str
        For an exception, the innermost line of xprnn that it passed through, and its code.
    trace : str
        For an exception, the traceback.
    skipped : str
        Why nothing was compared; empty if it was.
    expected : str
        Why it may disagree, if that is known; empty if it must agree.
    """

    quantity: str
    error: float
    tolerance: float
    where: str
    name: str = ""
    detail: str = ""
    at: str = ""
    trace: str = ""
    skipped: str = ""
    expected: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the error is within the tolerance, or is expected, or nothing was compared."""
        return self.error <= self.tolerance or bool(self.expected or self.skipped)

    @property
    def status(self) -> str:
        """``"skipped"``, ``"agrees"``, ``"expected"`` (to disagree) or ``"disagrees"``."""
        if self.skipped:
            return "skipped"
        if self.error <= self.tolerance:
            return "agrees"
        return "expected" if self.expected else "disagrees"

    def with_detail(self, detail: str) -> "Row":
        """Return the row with a detail."""
        return replace(self, detail=detail)

    @property
    def used(self) -> float:
        """The error divided by the tolerance: above one if it disagrees."""
        return self.error / self.tolerance if self.tolerance else self.error

    def __str__(self) -> str:
        if self.skipped:
            return f"{self.quantity}: {self.name} skipped: {self.skipped}"
        parts = self._error(), self.detail, f"(at {self.at})" if self.at else ""
        return f"{self.quantity}: {' '.join(filter(None, parts))}"

    def _error(self) -> str:
        if self.tolerance == 0:
            return self.where
        if self.error == 0:
            return "equal"
        if not math.isfinite(self.error):
            return f"{self.where} is not finite"
        return f"{self.where} off by {self.error:.1e} ({self.tolerance:.1e} allowed)"


@dataclass(frozen=True)
class Side:
    """One backend in one dtype, compared with the reference in float64.

    Attributes
    ----------
    backend, device, dtype : str
    rows : tuple of Row
        In the order of computation.
    seconds : float or None
        The median time of a training step; None if there was no training.
    notes : tuple of str
        What is not wrong but good to know of the functions.
    ulps : mapping of str to float
        By function, its largest error on a range of numbers, in units in the last place.
    course : tuple of (int, float)
        Some steps of the training, and the largest relative error of the parameters after each.
    """

    backend: str
    device: str
    dtype: str
    rows: tuple[Row, ...]
    seconds: float | None
    notes: tuple[str, ...] = ()
    ulps: Mapping[str, float] = field(default_factory=dict)
    course: tuple[tuple[int, float], ...] = ()

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that disagree."""
        return tuple(row for row in self.rows if not row.agrees)

    def __str__(self) -> str:
        time = "" if self.seconds is None else f", {1000 * self.seconds:.2f} ms a step"
        lines = [f"{self.backend} on {self.device} in {self.dtype}{time}"]
        for row, more in worst_of_each(self.rows):
            lines.append(f"  {'' if row.agrees else 'DISAGREES: '}{row}{and_more(more)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class ParityReport:
    """The result of `assert_parity`.

    Attributes
    ----------
    reference : str
        The backend that was compared with.
    steps : int
        The number of updates in the training.
    sides : tuple of Side
        One for each backend and dtype, those of the reference first.
    zero : tuple of str
        The gradients that are zero on the reference, so that agreement on them shows nothing.
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
        """The row with the largest error by its tolerance, and its side; of equals the first.

        A wrong function comes last: how wrong it is for one number says little.
        """
        pairs = [(side, row) for side in self.sides for row in side.rows]
        computed = [p for p in pairs if not p[1].agrees and p[1].quantity != "functions"]
        pairs = computed or [p for p in pairs if not p[1].agrees] or pairs
        return max(pairs, key=lambda pair: pair[1].used)

    def __str__(self) -> str:
        lines = [str(side) for side in self.sides]
        if self.zero:
            lines.append(
                f"zero on {self.reference}, so agreement shows nothing: {', '.join(self.zero)}"
            )
        return "\n".join(lines)


class ParityError(AssertionError):
    """A backend disagrees with the reference, or the reference's numbers can't be compared with.

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
        # A wrong function of the namespace makes larger errors in the network, but it is the cause.
        alone = [failure for failure in side.failures if failure.quantity == "functions"]
        if alone and row.quantity != "functions":
            lines = [f"{lines[0]}; look first at {max(alone, key=lambda row: row.used)}"]
        super().__init__("\n".join([*lines, *map(str, wrong)]))
        self.report = report


def worst_of_each(rows: Sequence[Row]) -> list[tuple[Row, int]]:
    """Return the worst row of every quantity, and how many other rows of it disagree."""
    by_quantity: dict[str, list[Row]] = {}
    for row in rows:
        by_quantity.setdefault(row.quantity, []).append(row)
    return [
        (max(mine, key=lambda row: row.used), max(0, sum(not row.agrees for row in mine) - 1))
        for mine in by_quantity.values()
    ]


def and_more(count: int) -> str:
    """Return in words how many more there are; an empty text if none."""
    return f", and {count} more" if count else ""


class Worst(NamedTuple):
    """The entry whose error is largest in relation to what is allowed there.

    Attributes
    ----------
    error, tolerance : float
        Relative to the largest entry of the reference's array.
    at : tuple of int
        Its index.
    """

    error: float
    tolerance: float
    at: tuple[int, ...]


def worst_entry(
    got: HostArray,
    want: HostArray,
    tolerance: float,
    *,
    scale: float = 1.0,
    slack: HostArray | float = 0.0,
) -> Worst:
    """Compare two host arrays of the same shape.

    Parameters
    ----------
    got : array
    want : array
        The reference's array, which is finite.
    tolerance : float
        Relative to the largest entry of ``want``.
    scale : float
        Replaces the largest entry of ``want`` if that is zero.
    slack : array or float
        The absolute error that is allowed on top.
    """
    if want.size == 0:
        return Worst(0.0, tolerance, ())
    size = largest([want]) or scale
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.abs(np.asarray(got, "float64") - want) / size
    errors = np.where(np.isfinite(errors), errors, math.inf)
    allowed = np.broadcast_to(tolerance + slack / size, errors.shape)
    at = index_at(errors, int(np.argmax(errors / allowed)))
    return Worst(float(errors[at]), float(allowed[at]), at)
