"""A cell's backward against its forward, without a network around it."""

from xprnn import checks
from xprnn.backend import Backend, get_backend
from xprnn.backend.host.arrays import HostArray, Seed, generator, np
from xprnn.backend.types import Array
from xprnn.cells import Cell, get_cell, unit_names
from xprnn.engine.loop.lowering import lowerings_of
from xprnn.testing.contract import Sample, check_contract, draw, take_step
from xprnn.testing.gradients.check import Options, check
from xprnn.testing.gradients.compare import Gradients
from xprnn.testing.gradients.lowering import WORK, Lowering, compare_lowering
from xprnn.testing.gradients.numeric import Analytic, Direction, Function
from xprnn.testing.gradients.report import Finding, GradientError, GradientReport


def check_cell(
    cell: str | Cell,
    *,
    backend: str | Backend = "numpy",
    mode: str = "auto",
    tolerance: float | None = None,
    lowering: Lowering | None = None,
    rng: Seed = 0,
) -> GradientReport:
    """Compare a cell's backward with numeric derivatives of its forward, and raise if it is wrong.

    Every block of u and of v, every per-unit parameter and every previous state variable, for
    random arguments and random d_state, of the objective Σ s d_state of the new state s.  Before
    that the cell's contract is checked (see `check_contract`).

    Parameters
    ----------
    cell : str or Cell
    backend : str or Backend
        Where it computes, in float64.
    mode : {"auto", "central", "complex"}
        See `check_gradients`.
    tolerance : float, optional
        See `check_gradients`.
    lowering : Lowering, optional
        Time loops made from the cell's formulas, which must compute what the formulas do.  None:
        those that the cell has on this backend, if any.
    rng : int, numpy.random.Generator or None
        Where the arguments are drawn from.

    Returns
    -------
    GradientReport

    Raises
    ------
    GradientError
        An AssertionError, with the report: the message names the block and its worst entry, and
        both values.
    ContractError
        An AssertionError, too: something has the wrong arity, shape or dtype, or is written into.

    Examples
    --------
    >>> import xprnn
    >>> report = xprnn.testing.check_cell("elman")
    >>> [finding.name for finding in report.findings]
    ['u[0]', 'v[0]', 'previous h', 'lowered h', 'lowered du', ...]
    """
    cell, random = get_cell(cell), generator(rng)
    checks.choice("mode", mode, ("auto", "central", "complex"))
    options = Options(mode, 1, tolerance)
    double = get_backend(backend, dtype="float64")
    with double.library.quiet():
        check_contract(cell, backend=backend, rng=random)
        sample = draw(cell, double, random)
        subject = _Subject(cell, double, sample)
        found = check(subject.function(), subject.gradients(), subject.size(), options, random)
        findings = list(found.findings)
        if lowering is not None:
            findings += compare_lowering(cell, lowering, double, random)
        else:
            for loops in reversed(lowerings_of(double, cell)):
                if not all(loops.suits(work) for work in WORK):
                    continue  # a formula that can't be compiled, say
                words = "lowered" if loops.name == "numpy" else f"lowered by {loops.name}"
                findings += compare_lowering(cell, loops, double, random, words)
    report = GradientReport(
        f"backward of {cell}", found.method, found.tolerance, tuple(findings), found.notes
    )
    if not report.passed:
        raise GradientError(_message(report), report)
    return report


class _Subject:
    """The objective of one step."""

    def __init__(self, cell: Cell, backend: Backend, sample: Sample) -> None:
        self.cell, self.backend, self.sample = cell, backend, sample
        self.arrays: dict[str, Array] = {
            **{f"u[{k}]": a for k, a in enumerate(sample.u)},
            **{f"v[{k}]": a for k, a in enumerate(sample.v)},
            **dict(zip(unit_names(cell), sample.units, strict=True)),
            **{f"previous {n}": a for n, a in zip(cell.state, sample.state, strict=True)},
        }
        self.weights = [backend.to_numpy(a) for a in sample.d_state]

    def function(self) -> Function:
        """Return it as a function of host arrays."""
        return Function({n: self.backend.to_numpy(a) for n, a in self.arrays.items()}, self._terms)

    def gradients(self) -> Gradients:
        """Return the gradients under test."""
        step = take_step(self.cell, self.backend, self.sample)
        gates = self.cell.gates
        # The engine sums the units' gradients over the sequences.
        units = [self.backend.xp.sum(a, axis=0) for a in step.dv[gates:]]
        found = (*step.du, *step.dv[:gates], *units, *step.d_previous)
        return {
            name: np.zeros(tuple(a.shape)) if g is None else self.backend.to_numpy(g)
            for (name, a), g in zip(self.arrays.items(), found, strict=True)
        }

    def size(self) -> float:
        """Return S of `xprnn.testing.gradients.compare`."""
        return float(np.sqrt(sum(np.sum(w * w) for w in self.weights)))

    def _terms(self, moved: Direction) -> HostArray:
        cell, backend, xp = self.cell, self.backend, self.backend.xp
        if any(np.iscomplexobj(a) for a in moved.values()):
            xp = Analytic(xp)
            arrays = {n: self._device(backend.to_numpy(a) + 0j) for n, a in self.arrays.items()}
        else:
            arrays = dict(self.arrays)
        parts = [*{**arrays, **{n: self._device(a) for n, a in moved.items()}}.values()]
        gates, units = cell.gates, len(unit_names(cell))
        u, v, state = parts[:gates], parts[gates : 2 * gates + units], parts[2 * gates + units :]
        after, _ = cell.forward(xp, tuple(u), tuple(v), tuple(state))
        pairs = zip(after, self.weights, strict=True)
        return np.concatenate([(backend.to_numpy(a) * w).ravel() for a, w in pairs])

    def _device(self, a: HostArray) -> Array:
        return self.backend.library.from_host(a, self.backend.device)


def _message(report: GradientReport) -> str:
    if not report.failures:
        return "every gradient is zero, or lost in rounding: that shows nothing"
    # If the formulas are wrong, what was made of them is beside the point.
    worst, *others = sorted(report.failures, key=_is_lowered)
    lines = [*_lines(worst, report.method)]
    if others:
        lines.append(f"not right, too: {', '.join(finding.name for finding in others)}")
    return "\n".join(lines)


def _lines(worst: Finding, method: str) -> tuple[str, str]:
    if _is_lowered(worst):
        return (
            f"{worst.where} is {worst.backward:.10g}, but {worst.numeric:.10g} by plain array code",
            "the lowering computes something else than the formulas that it was made from",
        )
    line = f"look at the lines of the cell's backward that make it: {worst.name}"
    return worst.sentence(method), line


def _is_lowered(finding: Finding) -> bool:
    return finding.name.startswith("lowered ")
