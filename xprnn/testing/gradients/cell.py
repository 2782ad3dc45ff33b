"""A cell's backward against its forward, without a network around it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from xprnn import checks
from xprnn.backend import Backend, get_backend
from xprnn.backend.differentiation import dual_backend, lifted
from xprnn.backend.host.arrays import Generator, HostArray, Seed, generator, np
from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays, Cell, get_cell, recurrent_blocks, second_product, unit_names
from xprnn.engine.loop.lowering import lowerings_of
from xprnn.engine.loop.protocol import Loops
from xprnn.testing.contract import Sample, check_contract, draw, take_step
from xprnn.testing.gradients.check import Options, check
from xprnn.testing.gradients.compare import Gradients
from xprnn.testing.gradients.culprit import suspects
from xprnn.testing.gradients.goal import weighted
from xprnn.testing.gradients.lowering import compare_lowering, work
from xprnn.testing.gradients.numeric import Analytic, Direction, Function, Pushed
from xprnn.testing.gradients.report import (
    GradientError,
    GradientReport,
    common_factor,
    kinks_of,
)
from xprnn.testing.operand import OperandCell


def check_cell(
    cell: str | Cell,
    *,
    backend: str | Backend = "numpy",
    mode: str = "auto",
    tolerance: float | None = None,
    lowering: Loops | None = None,
    rng: Seed = 0,
) -> GradientReport:
    """Compare a cell's backward with numeric derivatives of its forward, and raise if it is wrong.

    Checked are, in this order, and each only if all before it was right:

    - the cell's contract (see `check_contract`);
    - the derivatives of the objective Σ s d_state (and of Σ o d_operand, of a cell whose second
      product has the operand o), s being the new state, for random arguments and
      random d_state: those of every block of u and of v, of every per-unit parameter and of every
      previous state variable;
    - every lowering of the cell, against plain array code.  So a wrong cell is never compiled.

    Parameters
    ----------
    cell : str or Cell
    backend : str or Backend
        Where it computes, in float64.
    mode : {"auto", "central", "complex", "forward"}
        See `check_gradients`.
    tolerance : float, optional
        See `check_gradients`.
    lowering : Loops, optional
        The time loops to hold against the formulas (see `xprnn.engine.loop.protocol.Loops`).  None:
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
    checks.choice("mode", mode, ("auto", "central", "complex", "forward"))
    options = Options(mode, 1, tolerance)
    double = get_backend(backend, dtype="float64")
    with double.library.quiet():
        check_contract(cell, backend=backend, rng=random)
        sample = draw(cell, double, random)
        subject = _Subject(cell, double, sample)
        found = check(subject.function(), subject.gradients(), subject.size(), options, random)
        report = GradientReport(
            f"backward of {cell}", found.method, found.tolerance, found.findings, found.notes
        )
        if report.failures:
            raise GradientError(_message(cell, report), report)
        if second_product(cell):
            report = _with_operand(cell, report, double, sample, options, random)
        for words, loops in _lowerings(cell, double, lowering):
            findings = compare_lowering(cell, loops, double, random, words)
            report = replace(report, findings=(*report.findings, *findings))
            if report.failures:
                raise GradientError(_lowering_message(report), report)
    if not report.passed:
        raise GradientError(_message(cell, report), report)
    return report


def _with_operand(
    cell: Cell,
    report: GradientReport,
    backend: Backend,
    sample: Sample,
    options: Options,
    rng: Generator,
) -> GradientReport:
    """Return the report with the derivatives of the operand of a second product added."""
    operand = OperandCell(cell)
    subject = _Subject(operand, backend, sample)
    found = check(subject.function(), subject.gradients(), subject.size(), options, rng)
    # The blocks of v that the operand does not read, and what else is zero, show nothing here.
    findings = [
        replace(finding, name=f"operand: {finding.name}")
        for finding in found.findings
        if finding.verdict not in ("zero", "unseen")
    ]
    report = replace(report, findings=(*report.findings, *findings))
    if report.failures:
        raise GradientError(_message(operand, report), report)
    return report


def _lowerings(cell: Cell, backend: Backend, given: Loops | None) -> Iterator[tuple[str, Loops]]:
    """Yield what is to be compared with plain array code, the cheapest to make first."""
    if given is not None:
        yield "lowered", given
        return
    for loops in reversed(lowerings_of(backend, cell)):
        # `suits` compiles; a formula that can't be compiled does not suit.
        if all(map(loops.suits, work(backend))):
            yield "lowered" if loops.name == "numpy" else f"lowered by {loops.name}", loops


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
        arrays = {n: self.backend.to_numpy(a) for n, a in self.arrays.items()}
        return Function(arrays, self._terms, push=self._push)

    def gradients(self) -> Gradients:
        """Return the gradients under test."""
        step = take_step(self.cell, self.backend, self.sample)
        blocks = recurrent_blocks(self.cell)
        # The engine sums the units' gradients over the sequences.
        units = [None if a is None else self.backend.xp.sum(a, axis=0) for a in step.dv[blocks:]]
        found = (*step.du, *step.dv[:blocks], *units, *step.d_previous)
        return {
            name: np.zeros(tuple(a.shape)) if g is None else self.backend.to_numpy(g)
            for (name, a), g in zip(self.arrays.items(), found, strict=True)
        }

    def size(self) -> float:
        """Return S of `xprnn.testing.gradients.compare`."""
        return float(np.sqrt(sum(np.sum(w * w) for w in self.weights)))

    def _terms(self, moved: Direction) -> HostArray:
        backend, xp = self.backend, self.backend.xp
        if any(np.iscomplexobj(a) for a in moved.values()):
            xp = Analytic(xp)
            arrays = {n: self._device(backend.to_numpy(a) + 0j) for n, a in self.arrays.items()}
        else:
            arrays = dict(self.arrays)
        after = self._after(xp, {**arrays, **{n: self._device(a) for n, a in moved.items()}})
        pairs = zip(after, self.weights, strict=True)
        return np.concatenate([(backend.to_numpy(a) * w).ravel() for a, w in pairs])

    def _push(self, at: Direction, tangents: Direction) -> Pushed:
        dual = dual_backend(self.backend)
        arrays = {
            name: lifted(
                dual,
                self._device(a),
                self._device(tangents[name]) if name in tangents else None,
            )
            for name, a in at.items()
        }
        width = next(iter(tangents.values())).shape[0]
        return weighted(dual, self._after(dual.xp, arrays), self.weights, width)

    def _after(self, xp: Namespace, arrays: Mapping[str, Array]) -> Arrays:
        """Return the new state."""
        parts = tuple(arrays.values())
        u_end = self.cell.gates
        v_end = u_end + recurrent_blocks(self.cell) + len(unit_names(self.cell))
        u, v, state = parts[:u_end], parts[u_end:v_end], parts[v_end:]
        after, _ = self.cell.forward(xp, u, v, state)
        return after

    def _device(self, a: HostArray) -> Array:
        return self.backend.library.from_host(a, self.backend.device)


def _message(cell: Cell, report: GradientReport) -> str:
    if not report.failures:
        return "every gradient is zero, or lost in rounding, which shows nothing"
    worst = report.failures[0]
    # In the order of the gradients, which is that of the equations.
    wrong = [finding for finding in report.findings if not finding.passed]
    right = [finding.name for finding in report.findings if finding.verdict == "right"]
    names = [finding.name for finding in wrong]
    found = suspects(cell, names, right) or suspects(cell, [worst.name], right)
    named = ", ".join(suspect.name for suspect in found if suspect.name)
    common = common_factor(wrong)
    sentence, where = worst.sentence(report.method), [f"    {s.line}" for s in found if s.line]
    where = list(dict.fromkeys(where))
    if common and len(common.names) > 1:
        # The cause of several comes before each of them.
        shared = f"look at what they share{f': {named}' if named else ''}"
        lines = [f"{common.words}: {shared}", *where, sentence]
    else:
        of = f", from {named}" if named else ""
        look = f"look at the lines of the cell's backward that make it: {worst.name}{of}"
        kinks = kinks_of(report) if worst.verdict == "kinks" else ""
        lines = [sentence, kinks, look, *where, common.words if common else ""]
    return _with_others([line for line in lines if line], report)


def _lowering_message(report: GradientReport) -> str:
    worst = report.failures[0]
    first = f"{worst.where} is {worst.backward:.10g}, but {worst.numeric:.10g} by plain array code"
    second = "the lowering computes something other than the formulas that it was made from"
    return _with_others([first, second], report)


def _with_others(lines: list[str], report: GradientReport) -> str:
    others = [finding.name for finding in report.failures[1:]]
    return "\n".join([*lines, *([f"also failed: {', '.join(others)}"] if others else [])])
