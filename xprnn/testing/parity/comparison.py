"""What one backend in one dtype computes, compared with the reference."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from xprnn.backend import Backend, MissingFunctionError, prefer
from xprnn.backend.host.arrays import HostArray
from xprnn.backend.types import Array
from xprnn.engine.loop.lowering import disable_lowering, why_not_compiled
from xprnn.engine.network import RNN
from xprnn.optim import Optimizer
from xprnn.testing.arrays import entry_name, largest
from xprnn.testing.parity.form import in_words, misfit, traceback_of, where_raised
from xprnn.testing.parity.functions import FunctionReport, check_functions
from xprnn.testing.parity.problem import (
    Gradients,
    Masters,
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
from xprnn.testing.parity.watch import TimeLimitError, Watch


class Comparison:
    """The comparison of one backend in one dtype, stage by stage while it computes.

    Attributes
    ----------
    rows : list of Row
    seconds : float or None
    course : tuple of (int, float)
    """

    def __init__(
        self,
        problem: Problem,
        reference: Reference,
        backend: Backend,
        watch: Watch | None = None,
        functions: FunctionReport | None = None,
    ) -> None:
        self.problem, self.reference, self.backend = problem, reference, backend
        self.watch, self.functions = watch or Watch(), functions
        self.rows: list[Row] = []
        self.seconds: float | None = None
        self.course: tuple[tuple[int, float], ...] = ()

    def run(self, optimizers: Mapping[str, Optimizer], steps: int) -> Side:
        """Compute and compare everything; what the backend can't compute counts as disagreeing.

        What needs a function that the namespace lacks, or comes after the time limit, is skipped.

        Raises
        ------
        NetworkError
            If ``make_net`` returns no network, one on another backend, or one with other weights
            than the reference's.
        """
        backend = self.backend
        with prefer(backend.library), backend.library.quiet():
            try:
                if self.functions is None:
                    self.functions = check_functions(backend, self.watch.stage)
                self.rows += self.functions.rows
                self._network(optimizers, steps)
                self._uncompiled(optimizers)
            except NetworkError:
                raise
            except (MissingFunctionError, TimeLimitError) as error:
                self.rows.append(_skipped("run", "the rest", str(error)))
            except Exception as error:
                self.rows.append(_failed(error))
        device = backend.library.device_name(backend.device)
        found = self.functions or FunctionReport((), (), {})
        return Side(
            *(backend.name, device, backend.dtype_name, tuple(self.rows), self.seconds),
            *(found.notes, found.ulps, self.course),
        )

    def _network(self, optimizers: Mapping[str, Optimizer], steps: int) -> None:
        """Compare what the network computes, stage by stage."""
        self.watch.stage("forward and backward")
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
        if not self._updates(net, optimizers, evaluated.gradients, allowed):
            return
        if steps:
            again = self.problem.network(self.backend)
            first = next(iter(optimizers.values()))
            trained = train(self.problem, again, first, steps, watch=self.watch)
            self.seconds = trained.seconds
            allowed = tolerance_after(self.backend.dtype_name, len(self.problem.x), steps)
            self._compare("training", trained.parameters, allowed)
            self.course = tuple(
                (step, self._largest_error(kept, self.reference.course[step]))
                for step, kept in trained.course.items()
            )

    def _updates(
        self,
        net: RNN,
        optimizers: Mapping[str, Optimizer],
        gradients: Gradients,
        allowed: float,
    ) -> bool:
        """Compare an update by each optimizer; return whether all arrays have the right form."""
        updated: Named = {}
        masters = Masters(self.backend)
        parameters = masters.raised(net.parameters)
        gradients = masters.raised(gradients)
        for rule, optimizer in optimizers.items():
            self.watch.stage(f"update by {rule}")
            try:
                updated |= updated_by_each(parameters, {rule: optimizer}, gradients)
            except MissingFunctionError as error:
                self.rows.append(_skipped("update", rule, str(error)))
        if updated and not self._fits({"update": updated}):
            return False
        if updated:
            self._compare("update", updated, allowed)
        return True

    def _uncompiled(self, optimizers: Mapping[str, Optimizer]) -> None:
        """Compare what the functions compute that were compiled, called one by one.

        Without the training, which consists of nothing else.
        """
        if not self.backend.library.compiles:
            return
        if why_not_compiled(self.problem.network(self.backend).cell):
            return
        before, self.rows = self.rows, []
        with disable_lowering():
            self._network(optimizers, 0)
        again = [
            row if row.agrees else replace(row, where=f"{row.where} (not compiled)")
            for row in self.rows
        ]
        both = before + again
        self.rows = []
        for quantity in dict.fromkeys(row.quantity for row in both):
            self.rows += _worst_of(row for row in both if row.quantity == quantity)

    def _fits(self, quantities: Mapping[str, Named]) -> bool:
        """Check library, device, dtype and shape of all arrays; return whether all are right."""
        found = []
        for quantity, arrays in quantities.items():
            want = self.reference.quantities[quantity]
            names = {"gradients": "gradient of ", "update": "after "}.get(quantity, "")
            for name in want | arrays if quantity != "update" else arrays:
                if (name in arrays) != (name in want):
                    wrong = "that should not be" if name in arrays else "that is missing"
                else:
                    wrong = misfit(
                        self.backend, arrays[name], want[name], wide=quantity in ("loss", "update")
                    )
                if wrong:
                    found.append(_wrong("structure", f"{names}{name} is an array {wrong}", name))
        self.rows += found
        return not found

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

    def _largest_error(self, arrays: Named, want: Mapping[str, HostArray]) -> float:
        return max(worst_entry(self._host(a), want[name], 1.0).error for name, a in arrays.items())

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
        return Row(quantity, worst.error, worst.tolerance, where, name=name)

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


def _wrong(quantity: str, what: str, name: str = "") -> Row:
    """Return a row for something that is wrong without a number to say how much."""
    return Row(quantity, math.inf, 0.0, what, name=name)


def _failed(error: Exception) -> Row:
    """Return a row for an exception that ended the comparison."""
    at, trace = where_raised(error), traceback_of(error)
    return Row("run", math.inf, 0.0, in_words(error), at=at, trace=trace)


def _skipped(quantity: str, name: str, why: str) -> Row:
    """Return a row for something that could not be compared."""
    return Row(quantity, 0.0, math.inf, "", name=name, skipped=why)
