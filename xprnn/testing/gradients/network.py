"""A network's gradients against numeric derivatives."""

from collections.abc import Sequence

from xprnn import checks
from xprnn.backend.host.arrays import Generator, Seed, generator, np
from xprnn.backend.host.threads import blas_threads
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.network import RNN
from xprnn.losses import Loss, get_loss
from xprnn.testing.contract import contract_in
from xprnn.testing.gradients.cell import check_cell
from xprnn.testing.gradients.check import Options, check
from xprnn.testing.gradients.independence import passes_apart
from xprnn.testing.gradients.objective import Goal, Objective, Weighted, with_loss
from xprnn.testing.gradients.passes import Call, Outputs, Point
from xprnn.testing.gradients.report import (
    GradientError,
    GradientReport,
    between_steps,
    network_advice,
)

FINE = "check_cell finds nothing wrong with"


def check_gradients(
    net: RNN,
    x: Array,
    state: Arrays | None = None,
    *,
    target: Array | None = None,
    loss: str | Loss | None = None,
    lengths: Sequence[int] | None = None,
    window: int | None = None,
    mode: str = "auto",
    directions: int = 2,
    tolerance: float | None = None,
    rng: Seed = 0,
) -> GradientReport:
    """Compare a network's gradients with numeric derivatives, and raise if one is wrong.

    Every parameter, the input and the initial state.  What is differentiated is a loss, if a target
    is given, and else ::

        Σ y d_output + Σ s d_state

    of outputs y and final state s, with random d_output and d_state.  Everything is computed in
    float64, by a copy of the network on the network's own backend; the network and the arrays stay
    as they are.

    Parameters
    ----------
    net : RNN
        In whatever dtype.
    x : array, (T, B, I), or of integers, (T, B)
        Integers have no gradient, so all else is checked.  For a check that means something, T ≥ 3
        and B ≥ 2.
    state : tuple of array, optional
        The initial state.  None: a random one, because at zero U's gradient lacks a term.
    target : array, optional
    loss : str or Loss, optional
        None: squared error, if there is a target.
    lengths : sequence of int, optional
        See `RNN.forward`.
    window : int, optional
        See `RNN.backward`.  The truncated gradient is not that of the objective, but it is that of
        another one, in which each output is computed from the steps of its window alone, starting
        from a state that is held as it is; that one is differentiated.  There is none in both
        directions, with dropout, or with lengths.
    mode : {"auto", "central", "complex", "directions"}
        ``"central"``: central differences, every entry.  ``"complex"``: complex step, every entry;
        right to rounding, but everything between the parameters and the objective must be analytic
        (relu is not).  ``"directions"``: along random directions of each array, and of all of them
        together, by complex step if possible; the cost does not depend on the network's size.
        ``"auto"``: up to 1000 entries in all each of them, else directions; by complex step if
        possible.
    directions : int
        How many, of each array.  One shows any error that is not many orders below the gradient's
        norm.
    tolerance : float, optional
        How far a gradient may be off, relative to itself, or to a thousandth of the array's
        largest.  None: 1e-9 with the complex step, 1e-6 with central differences; why, and what
        is allowed for rounding, says `xprnn.testing.gradients.compare`.
    rng : int, numpy.random.Generator or None
        Where state, d_output, d_state, directions and dropout masks are drawn from.

    Returns
    -------
    GradientReport
        Printed, a table.

    Raises
    ------
    GradientError
        An AssertionError, with the report: a gradient is wrong, is not finite, or could not be
        compared at any entry; or all of them are zero.  The message names the worst entry, both
        values, the equation it comes from, and what `check_cell` says of the cell.
    ContractError
        An AssertionError, too: the cell or the loss returns something of the wrong form, or writes
        into its arguments, or one pass of the network into the arrays of another.
    TypeError, ValueError
        If an argument does not fit, or a mode or window can't be checked.

    Notes
    -----
    An entry where the objective has a kink (relu at zero) has no derivative to compare with.  It is
    left out, counted and shown in the report.

    Examples
    --------
    >>> import numpy as np, xprnn
    >>> net = xprnn.RNN(2, 3, 1, rng=0)
    >>> x = np.random.default_rng(0).normal(size=(4, 2, 2))
    >>> report = xprnn.testing.check_gradients(net, x)
    >>> report.method, report.passed
    ('complex step of every entry', True)
    >>> report["weight_hh_l0"].error < 1e-12
    True
    """
    if type(net) is not RNN:
        # Of a subclass the copy in float64 would be the base class, and another network's gradient.
        raise TypeError(f"net is of type {type(net).__name__}: expected xprnn.RNN itself")
    options, random = Options(mode, directions, tolerance), generator(rng)
    double = net.to(net.backend, dtype="float64")
    with double.backend.library.quiet(), blas_threads(1):
        for backend in (net.backend, double.backend):
            contract_in(net.cell, backend, random)
        objective = _objective(net, double, x, state, target, loss, lengths, window, random)
        passes_apart(objective, random)
        gradients = objective.gradients()
        found = check(objective.function, gradients, objective.goal.size, options, random)
    notes = found.notes
    if objective.point.x.ndim == 2:
        notes += ("the input is of integers, which have no gradient",)
    what = "random d_output and d_state" if isinstance(objective.goal, Weighted) else "a loss"
    report = GradientReport(
        f"gradients of {what}", found.method, found.tolerance, found.findings, notes
    )
    if not report.passed:
        raise GradientError(_message(report, double), report)
    return report


def _objective(
    net: RNN,
    double: RNN,
    x: Array,
    state: Arrays | None,
    target: Array | None,
    loss: str | Loss | None,
    lengths: Sequence[int] | None,
    window: int | None,
    rng: Generator,
) -> Objective:
    """Return what is to be differentiated, all arguments checked."""
    if loss is not None and target is None:
        raise ValueError(f"loss is {loss!r}, but there is no target")
    backend = double.backend

    def wide(name: str, a: Array) -> Array:
        checks.of_backend(name, a, net.backend)
        return backend.asarray(a)

    x = wide("x", x)
    if checks.is_integer(x, backend):
        # As the network's border does, which complex passes go around.
        x = backend.xp.astype(x, backend.xp.__array_namespace_info__().default_dtypes()["indexing"])
    call = Call(lengths, seed=int(rng.integers(2**31)))
    if isinstance(state, tuple | list):
        state = tuple(wide(f"state[{k}]", part) for k, part in enumerate(state))
    run = double.forward(x, state, **call.options(double))
    if state is None:
        shapes = [tuple(part.shape) for part in run.state]
        state = tuple(backend.asarray(rng.normal(size=shape)) for shape in shapes)
        run = double.forward(x, state, **call.options(double))
    outputs = Outputs(run.output, run.state)
    goal: Goal
    if target is None:
        arrays = tuple(backend.to_numpy(a) for a in (run.output, *run.state))
        weights = tuple(np.asarray(rng.normal(size=a.shape)) for a in arrays)
        goal = Weighted(arrays, weights)
    else:
        named = get_loss("squared_error" if loss is None else loss)
        goal = with_loss(double, outputs, named, wide("target", target), lengths)
    return Objective(double, Point(dict(double.parameters), x, state), call, goal, window)


def _message(report: GradientReport, net: RNN) -> str:
    if not report.failures:
        return "every gradient is zero, or lost in rounding: that shows nothing"
    worst, *others = report.failures
    lines = [worst.sentence(report.method), network_advice(net.cell, net.hidden_size, worst)]
    if others:
        lines.append(f"not right, too: {', '.join(finding.name for finding in others)}")
    lines.append(_of_the_cell(net))
    if lines[-1].startswith(FINE):
        lines.append(between_steps({finding.name for finding in report.failures}))
    return "\n".join(line for line in lines if line)


def _of_the_cell(net: RNN) -> str:
    try:
        check_cell(net.cell, backend=net.backend)
    except AssertionError as error:
        return f"check_cell fails, too; look there first: {str(error).splitlines()[0]}"
    return f"{FINE} {net.cell} alone"
