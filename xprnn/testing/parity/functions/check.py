"""Each function and operator of a namespace, alone, against NumPy in float64."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from xprnn.backend import Backend, MissingFunctionError, get_backend, prefer
from xprnn.backend.host.arrays import HostArray, np
from xprnn.testing.arrays import entry_name
from xprnn.testing.parity.form import in_words, misfit, traceback_of
from xprnn.testing.parity.functions.accuracy import accuracies
from xprnn.testing.parity.functions.calls import CALLS, Call
from xprnn.testing.parity.functions.operands import (
    LAYOUTS,
    SHAPE,
    SMALLER,
    Operands,
    operands,
    scalar_operands,
)
from xprnn.testing.parity.functions.special import special_values
from xprnn.testing.parity.report import Row, worst_entry
from xprnn.testing.parity.tolerances import tolerance
from xprnn.testing.parity.watch import TimeLimitError

_LONGEST = 200
"""The most characters of an input in a message."""


class FunctionReport(NamedTuple):
    """What the functions of a namespace return.

    Attributes
    ----------
    rows : tuple of Row
        One for each function and operator.
    notes : tuple of str
        What is not wrong but good to know: numbers that are flushed to zero, say.
    ulps : dict of float
        By function, its largest error on a range of numbers, in units in the last place.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    ulps: dict[str, float]


class _Case(NamedTuple):
    """One way to call all functions.

    Attributes
    ----------
    words : str
        How the operands are laid out.
    make : callable
        ``make(backend)`` returns the operands.
    allows : callable
        Whether a call is defined for them.
    """

    words: str
    make: Callable[[Backend], Operands]
    allows: Callable[[Call], bool]


def check_functions(backend: Backend, tell: Callable[[str], None] | None = None) -> FunctionReport:
    """Call every function of `CALLS`, on arrays of every layout and on special values.

    Parameters
    ----------
    backend : Backend
    tell : callable
        Is told which function is tried next; a TimeLimitError from it skips the rest.

    Returns
    -------
    FunctionReport
        A function that is wrong is reported with the smallest input for which it is.
    """
    judge = _Judge(backend)
    rows: list[Row] = []
    for name in CALLS:
        try:
            if tell is not None:
                tell(name)
        except TimeLimitError as error:
            rest = Row("functions", 0.0, math.inf, "", name="the rest", skipped=str(error))
            return FunctionReport((*rows, rest), (), {})
        rows.append(judge.row(name))
        if name == "asarray" and not rows[-1].agrees:
            # Everything else depends on it, and would seem wrong, too.
            return FunctionReport(tuple(rows), (), {})
    by_name = {row.name: row for row in rows}
    special, notes = special_values(backend)
    ulps, inaccurate = accuracies(backend)
    for row in (*special, *inaccurate):
        # Of a function that is wrong already, the smallest input has been found.
        if by_name[row.name].agrees and not by_name[row.name].skipped:
            by_name[row.name] = row
    return FunctionReport(tuple(by_name.values()), notes, ulps)


class _Judge:
    """Calls functions on a backend, and on NumPy in float64."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.host = get_backend("numpy", dtype="float64")
        self.allowed = tolerance(backend.dtype_name, 1)
        self.cases = list(_cases(LAYOUTS if backend.library.strided else ("contiguous",)))
        self._made: dict[tuple[Backend, str], Operands] = {}

    def row(self, name: str) -> Row:
        """Return the worst row of a function over all cases, or that of the smallest wrong one."""
        rows = []
        for case in self.cases:
            if case.allows(CALLS[name]):
                row = self._try(name, case)
                if row.skipped:
                    return row
                if not row.agrees:
                    return self._smallest(name, case, row)
                rows.append(row)
        return max(rows, key=_used)

    def _smallest(self, name: str, case: _Case, row: Row) -> Row:
        """Return the row of the smallest input for which a function is wrong."""
        layouts = [case.words] if case.words in LAYOUTS else []
        for shape in SMALLER:
            for layout in dict.fromkeys(["contiguous", *layouts]):
                small = _laid_out(layout, shape)
                found = self._try(name, small)
                if not found.agrees and not found.skipped:
                    return found.with_detail(self._inputs(name, small))
        return row.with_detail(self._inputs(name, case))

    def _inputs(self, name: str, case: _Case) -> str:
        """Return in words what a function was called with."""
        with self._on_host():
            given = case.make(self.host)
            CALLS[name](self.host.xp, given)
        values = [f"{key} = {_short(given.arrays[key])}" for key in sorted(given.used)]
        layout = "" if case.words == "contiguous" else f"{case.words} "
        return f"for {layout}{', '.join(values)}" if values else ""

    def _try(self, name: str, case: _Case) -> Row:
        """Compare one call."""
        call = CALLS[name]
        wide = call.beside_float and self.backend.dtype_name in self.backend.library.computes_in
        with self._on_host():
            want = [np.asarray(a) for a in call(self.host.xp, self._operands(self.host, case))]
        try:
            with warnings.catch_warnings():
                # Of slow layouts, for instance.
                warnings.simplefilter("ignore")
                got = call(self.backend.xp, self._operands(self.backend, case))
            if len(got) != len(want):
                return wrong(name, f"{name} returns {len(got)} arrays, not {len(want)}")
            rows = []
            for mine, theirs in zip(got, want, strict=True):
                bad = misfit(self.backend, mine, theirs, wide=wide)
                if bad:
                    return wrong(name, f"{name} returns an array {bad}")
                rows.append(self._compared(name, self.backend.to_numpy(mine), theirs))
            return max(rows, key=_used) if rows else Row("functions", 0.0, 1.0, "", name=name)
        except MissingFunctionError as error:
            return Row("functions", 0.0, math.inf, "", name=name, skipped=str(error))
        except Exception as error:
            words = f"{name} fails: {in_words(error)}"
            return wrong(name, words, trace=traceback_of(error))

    @contextmanager
    def _on_host(self) -> Iterator[None]:
        # The backend may have NumPy's arrays, too.
        with prefer(self.host.library), np.errstate(all="ignore"):
            yield

    def _operands(self, backend: Backend, case: _Case) -> Operands:
        """Return the operands of a case; those of the full size are made once."""
        key = backend, case.words
        full = case in self.cases
        if full and key in self._made:
            return self._made[key]
        try:
            made = case.make(backend)
        except MissingFunctionError:
            # The layout can't be made, so the plain one is tried again.
            made = operands(backend)
        if full:
            self._made[key] = made
        return made

    def _compared(self, name: str, got: HostArray, want: HostArray) -> Row:
        worst = worst_entry(got, want, self.allowed)
        where = entry_name(name, worst.at) if worst.error else ""
        return Row("functions", worst.error, worst.tolerance, where, name=name)


def _cases(layouts: Iterable[str]) -> Iterator[_Case]:
    for layout in layouts:
        yield _laid_out(layout, SHAPE)
    yield _Case("empty", lambda b: operands(b, shape=(0, SHAPE[1])), lambda call: call.empty)
    yield _Case("without dimensions", scalar_operands, lambda call: call.scalar)


def _laid_out(layout: str, shape: tuple[int, int]) -> _Case:
    return _Case(layout, lambda backend: operands(backend, layout, shape), _always)


def _used(row: Row) -> float:
    return row.used


def _always(_: Call) -> bool:
    return True


def wrong(name: str, what: str, *, trace: str = "") -> Row:
    """Return a row for a function that is wrong without a number to say how much."""
    return Row("functions", math.inf, 0.0, what, name=name, trace=trace)


def _short(a: Any) -> str:
    text = " ".join(str(np.asarray(a).tolist()).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
