"""`check_gradients`: a network's gradients against numeric derivatives."""

from collections.abc import Sequence
from dataclasses import replace

from xprnn import checks
from xprnn.backend.host.arrays import Generator, Seed, generator, np
from xprnn.backend.host.threads import blas_threads
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.network import RNN
from xprnn.losses import Loss, get_loss
from xprnn.testing.contract import contract_in
from xprnn.testing.gradients.batches import check_batches
from xprnn.testing.gradients.cell import check_cell
from xprnn.testing.gradients.check import Options, check
from xprnn.testing.gradients.goal import Goal, WeightedSum, loss_value
from xprnn.testing.gradients.independence import check_independence
from xprnn.testing.gradients.objective import Objective
from xprnn.testing.gradients.passes import Call, Outputs, Point
from xprnn.testing.gradients.report import (
    Finding,
    GradientError,
    GradientReport,
    between_steps,
    common_factor,
    kinks_of,
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
    mask: Array | None = None,
    window: int | None = None,
    mode: str = "auto",
    directions: int = 2,
    tolerance: float | None = None,
    rng: Seed = 0,
) -> GradientReport:
    """Compare a network's gradients with numeric derivatives, and raise if one is wrong.

    The gradients with respect to every parameter, the input and the initial state are checked.
    With a target, the number that is differentiated is a loss.  Without one it is ::

        Σ y d_output + Σ s d_state

    of outputs y and final state s, with random d_output and d_state.  A copy of the network
    computes everything in float64 on the network's backend.  The network and the arrays given are
    not changed.

    Parameters
    ----------
    net : RNN
        A network of any dtype.
    x : array, (T, B, I), or array of int, (T, B)
        The input.  Integers have no gradient; everything else is checked then.  The check shows
        most with T ≥ 3 and B ≥ 2.
    state : tuple of array, optional
        The initial state.  None: drawn at random, because with a state of zero the gradient of U
        lacks a term.
    target : array, optional
        The target of the loss.
    loss : str or Loss, optional
        None: squared error, if a target is given.
    lengths : sequence of int, optional
    mask : array of bool, (T, B), optional
        Which steps exist; one of the two: see `RNN.forward`.
    window : int, optional
        See `RNN.backward`.  The truncated gradient is the gradient of another number: of the one
        that results if each output is computed from the steps of its window alone, starting from a
        constant state.  That number is differentiated then.  There is no such number for
        bidirectional networks, with dropout, with lengths or with a mask.
    mode : {"auto", "forward", "complex", "central", "directions"}
        ``"forward"``: every entry, by forward-mode differentiation of the formulas, which is exact
        to rounding.  ``"complex"``: every entry, by complex step, which is as exact, but needs a
        network and a loss that are analytic (relu is not).  ``"central"``: every entry, by central
        differences.  ``"directions"``: along random directions of each array, and of all arrays
        together, at a cost that does not depend on the size of the network; by the first of these
        three that can be used.  ``"auto"``: every entry if there are 1000 or fewer, else
        directions; likewise.
    directions : int
        The number of random directions.  A single one shows any error that is not many orders of
        magnitude smaller than the gradient.
    tolerance : float, optional
        The largest error allowed, relative to the gradient's entry, or to a thousandth of the
        array's largest entry if that is more.  None: 1e-12 with forward mode, 1e-9 with the complex
        step, 1e-6 with central differences.  `xprnn.testing.gradients.compare` has the reasons, and
        what is allowed for rounding on top.
    rng : int, numpy.random.Generator or None
        The source of the state, d_output, d_state, directions and dropout masks.

    Returns
    -------
    GradientReport
        Printed, it is a table.

    Raises
    ------
    GradientError
        An AssertionError with the report: a gradient is wrong, not finite, or could not be compared
        at any entry; or all gradients are zero.  The message names the worst entry, both values,
        the equation that it comes from, and what `check_cell` finds in the cell.
    ContractError
        An AssertionError, too: the cell or the loss returns something of the wrong form, or writes
        into its arguments; one pass of the network changes the arrays of another; the same call
        gives other bits again, on a backend that promises the same; or a batch gives other numbers
        than its parts.
    TypeError, ValueError
        If an argument does not fit, or a mode or window can't be checked.

    Notes
    -----
    Where the objective has a kink (relu at zero), there is no derivative to compare with.  Such an
    entry is left out; the report has their number, and with forward mode their places.

    Examples
    --------
    >>> import numpy as np, xprnn
    >>> net = xprnn.RNN(2, 3, 1, rng=0)
    >>> x = np.random.default_rng(0).normal(size=(4, 2, 2))
    >>> report = xprnn.testing.check_gradients(net, x)
    >>> report.method, report.passed
    ('forward mode of every entry', True)
    >>> report["weight_hh_l0"].error < 1e-12
    True
    """
    if type(net) is not RNN:
        # The copy in float64 would be of the base class, and so have another gradient.
        raise TypeError(f"net is of type {type(net).__name__}: expected xprnn.RNN itself")
    options, random = Options(mode, directions, tolerance), generator(rng)
    double = net.to(net.backend, dtype="float64")
    with double.backend.library.quiet(), blas_threads(1):
        for backend in (net.backend, double.backend):
            contract_in(net.cell, backend, random)
        objective = _objective(net, double, x, state, target, loss, lengths, mask, window, random)
        check_independence(objective, random)
        gradients = objective.gradients()
        found = check(objective.function, gradients, objective.goal.size, options, random)
    notes = found.notes
    if objective.point.x.ndim == 2:
        notes += ("the input is of integers, which have no gradient",)
    what = "random d_output and d_state" if isinstance(objective.goal, WeightedSum) else "a loss"
    report = GradientReport(
        f"gradients of {what}", found.method, found.tolerance, found.findings, notes
    )
    if not report.passed:
        raise GradientError(_message(report, double), report)
    with double.backend.library.quiet(), blas_threads(1):
        return replace(report, notes=report.notes + check_batches(objective, random))


def _objective(
    net: RNN,
    double: RNN,
    x: Array,
    state: Arrays | None,
    target: Array | None,
    loss: str | Loss | None,
    lengths: Sequence[int] | None,
    mask: Array | None,
    window: int | None,
    rng: Generator,
) -> Objective:
    """Check the arguments, and return what is to be differentiated."""
    if loss is not None and target is None:
        raise ValueError(f"loss is {loss!r}, but there is no target")
    backend = double.backend

    def wide(name: str, a: Array) -> Array:
        checks.of_backend(name, a, net.backend)
        return backend.asarray(a)

    x = wide("x", x)
    if checks.is_integer(x, backend):
        # Complex passes go around the network's checks, which would do this.
        x = backend.xp.astype(x, backend.library.indexing_dtype(backend.device))
    call = Call(lengths, mask, seed=int(rng.integers(2**31)))
    if isinstance(state, tuple | list):
        state = tuple(wide(f"state[{k}]", part) for k, part in enumerate(state))
    if x.ndim > 1 and x.shape[0] == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}: expected at least one step (T ≥ 1)")
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
        goal = WeightedSum(arrays, weights)
    else:
        named = get_loss("squared_error" if loss is None else loss)
        goal = loss_value(double, outputs, named, wide("target", target), call)
    return Objective(double, Point(dict(double.parameters), x, state), call, goal, window)


def _message(report: GradientReport, net: RNN) -> str:
    if not report.failures:
        return "every gradient is zero, or lost in rounding, which shows nothing"
    worst, *others = report.failures
    sentence = worst.sentence(report.method)
    also = f"also failed: {', '.join(finding.name for finding in others)}" if others else ""
    of_the_cell = _of_the_cell(net)
    if of_the_cell:
        # The cause before its effects.
        first, *rest = of_the_cell
        return "\n".join(
            line
            for line in (
                f"the cell's backward is wrong: {first}",
                *rest,
                f"so the network's gradients are, too: {sentence}",
                also,
            )
            if line
        )
    wrong = {finding.name for finding in report.failures}
    common = common_factor(report.failures)
    lines = [
        sentence,
        kinks_of(report) if worst.verdict == "kinks" else "",
        network_advice(net.cell, _rows_of_gate(net, worst), worst),
        common.words if common else "",
        also,
        f"{FINE} {net.cell} alone",
        between_steps(wrong),
    ]
    return "\n".join(line for line in lines if line)


def _of_the_cell(net: RNN) -> list[str]:
    """Return what `check_cell` finds, line by line; nothing if it finds nothing."""
    try:
        check_cell(net.cell, backend=net.backend)
    except AssertionError as error:
        return str(error).partition("\n\n")[0].splitlines()
    return []


def _rows_of_gate(net: RNN, finding: Finding) -> int:
    """Return the hidden size of the layer of a parameter, or that of the widest one."""
    return next(
        (
            direction.hidden_size
            for direction in net.architecture.stack
            if finding.name.endswith(direction.suffix)
        ),
        net.architecture.width,
    )
