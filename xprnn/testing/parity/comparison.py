"""What one backend in one dtype computes, compared with the reference."""

import math
from collections.abc import Iterable, Mapping

from xprnn.backend import Backend, describe, dtype_name, prefer
from xprnn.backend.host.arrays import HostArray
from xprnn.backend.types import Array
from xprnn.engine.network import RNN
from xprnn.optim import Optimizer
from xprnn.testing.arrays import entry_name, largest
from xprnn.testing.parity.functions import CALLS, Operands, operands, results
from xprnn.testing.parity.problem import (
    Named,
    NetworkError,
    Problem,
    place_of,
    train,
    updated_by_each,
)
from xprnn.testing.parity.reference import Reference
from xprnn.testing.parity.report import Row, Side, worst_entry
from xprnn.testing.parity.tolerances import epsilon, tolerance, tolerance_after


class Comparison:
    """The comparison of one backend in one dtype, stage by stage while it computes.

    Attributes
    ----------
    rows : list of Row
    seconds : float or None
    """

    def __init__(self, problem: Problem, reference: Reference, backend: Backend) -> None:
        self.problem, self.reference, self.backend = problem, reference, backend
        self.rows: list[Row] = []
        self.seconds: float | None = None

    def run(self, optimizers: Mapping[str, Optimizer], steps: int) -> Side:
        """Compute and compare everything; what the backend can't compute counts as disagreeing.

        Raises
        ------
        NetworkError
            If ``make_net`` returns no network, one on another backend, or one with other weights
            than the reference's.
        """
        backend = self.backend
        with prefer(backend.library), backend.library.quiet():
            try:
                self._functions()
                self._network(optimizers, steps)
            except NetworkError:
                raise
            except Exception as error:
                self.rows.append(_wrong("run", _in_words(error)))
        device = backend.library.device_name(backend.device)
        return Side(backend.name, device, backend.dtype_name, tuple(self.rows), self.seconds)

    def _functions(self) -> None:
        """Compare the functions of the namespace."""
        given, found = operands(self.backend), []
        for name in CALLS:
            row = self._function(name, given)
            found.append(row)
            if name == "asarray" and not row.agrees:
                # Everything else depends on it, and would seem wrong, too.
                break
        self.rows += _worst_of(found)

    def _function(self, name: str, given: Operands) -> Row:
        want, allowed = self.reference.functions[name], tolerance(self.backend.dtype_name, 1)
        try:
            got = results(self.backend, name, given)
            if len(got) != len(want):
                return _wrong("functions", f"{name} returns {len(got)} arrays, not {len(want)}")
            rows = []
            for mine, theirs in zip(got, want, strict=True):
                misfit = self._misfit(mine, theirs)
                if misfit:
                    return _wrong("functions", f"{name} returns an array {misfit}")
                rows.append(self._row("functions", name, self._host(mine), theirs, allowed))
            return max(rows, key=lambda row: row.used)
        except Exception as error:
            return _wrong("functions", f"{name} fails: {_in_words(error)}")

    def _network(self, optimizers: Mapping[str, Optimizer], steps: int) -> None:
        """Compare what the network computes, stage by stage."""
        net = self.problem.network(self.backend)
        self._check_weights(net)
        evaluated = self.problem.evaluate(net)
        allowed = tolerance(self.backend.dtype_name, len(self.problem.x))
        if not self._fits(evaluated.quantities):
            return
        count = sum(map(len, evaluated.quantities.values()))
        self.rows.append(Row("structure", 0.0, 0.0, f"{count} arrays as expected"))
        for quantity, arrays in evaluated.quantities.items():
            self._compare(quantity, arrays, allowed)
        updated = updated_by_each(net.parameters, optimizers, evaluated.gradients)
        if not self._fits({"update": updated}):
            return
        self._compare("update", updated, allowed)
        if steps:
            again = self.problem.network(self.backend)
            trained = train(self.problem, again, next(iter(optimizers.values())), steps)
            self.seconds = trained.seconds
            allowed = tolerance_after(self.backend.dtype_name, len(self.problem.x), steps)
            self._compare("training", trained.parameters, allowed)

    def _fits(self, quantities: Mapping[str, Named]) -> bool:
        """Check library, device, dtype and shape of all arrays; return whether all are right."""
        found = []
        for quantity, arrays in quantities.items():
            want = self.reference.quantities[quantity]
            names = {"gradients": "gradient of ", "update": "after "}.get(quantity, "")
            for name in want | arrays:
                if (name in arrays) != (name in want):
                    wrong = "that should not be" if name in arrays else "that is missing"
                else:
                    wrong = self._misfit(arrays[name], want[name])
                if wrong:
                    found.append(_wrong("structure", f"{names}{name} is an array {wrong}"))
        self.rows += found
        return not found

    def _misfit(self, array: Array, want: HostArray) -> str:
        """Return what is wrong with the form of an array; an empty text if nothing is."""
        backend, xp = self.backend, self.backend.xp
        if not backend.library.is_array(array):
            return f"that is {describe(array)}: expected one of {backend.name}"
        if not backend.owns(array):
            there = backend.library.device_of(array)
            return f"on device {there}: expected {backend.device}"
        if want.dtype.kind == "f":
            kind, good = backend.dtype_name, bool(array.dtype == backend.dtype)
        else:
            kind = "bool" if want.dtype.kind == "b" else "integral"
            good = bool(xp.isdtype(array.dtype, kind))
        if not good:
            return f"of dtype {dtype_name(array.dtype)}: expected {kind}"
        if tuple(array.shape) != want.shape:
            return f"of shape {tuple(array.shape)}: expected {want.shape}"
        return ""

    def _compare(self, quantity: str, arrays: Named, allowed: float) -> None:
        want = self.reference.quantities[quantity]
        slack = self.reference.slack[self.backend.dtype_name].get(quantity, {})
        scale = largest(want.values()) or 1.0
        self.rows += _worst_of(
            self._row(
                quantity, name, self._host(array), want[name], allowed, scale, slack.get(name, 0.0)
            )
            for name, array in arrays.items()
        )

    def _row(
        self,
        quantity: str,
        name: str,
        got: HostArray,
        want: HostArray,
        allowed: float,
        scale: float = 1.0,
        slack: HostArray | float = 0.0,
    ) -> Row:
        worst = worst_entry(got, want, allowed, scale=scale, slack=slack)
        where = entry_name(name, worst.at) if worst.error else ""
        return Row(quantity, worst.error, worst.tolerance, where)

    def _check_weights(self, net: RNN) -> None:
        """Refuse a network with other parameters than the reference's."""
        backend, known = self.backend, self.reference.parameters
        for name in net.parameters | known:
            same = name in known and name in net.parameters
            if same:
                # Taken through the backend, so that make_net is not blamed for a wrong asarray.
                want = self._host(backend.asarray(known[name]))
                got = self._host(net.parameters[name])
                same = got.shape == want.shape
            if same:
                worst = worst_entry(got, want, epsilon(backend.dtype_name))
                same = worst.error <= worst.tolerance
            if not same:
                raise NetworkError(
                    f"make_net's network on {place_of(backend)} has another {name} than the "
                    "reference's: expected the same weights everywhere (the same seed, rng=0)"
                )

    def _host(self, array: Array) -> HostArray:
        return self.backend.to_numpy(array)


def _worst_of(rows: Iterable[Row]) -> list[Row]:
    """Return all rows that disagree; if none does, the one with the largest error."""
    rows = list(rows)
    return [row for row in rows if not row.agrees] or [max(rows, key=lambda row: row.used)]


def _wrong(quantity: str, what: str) -> Row:
    """Return a row for something that is wrong without a number to say how much."""
    return Row(quantity, math.inf, 0.0, what)


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
