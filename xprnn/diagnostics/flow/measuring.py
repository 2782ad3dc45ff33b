"""`gradient_flow`: what flows back through time, in numbers."""

import logging
import math
import operator
from collections.abc import Sequence
from typing import Any

from xprnn import checks
from xprnn.backend.entry import entry
from xprnn.backend.host.arrays import Seed, np
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.diagnostics.flow.jacobians import jacobians_of
from xprnn.diagnostics.flow.measures import Measuring
from xprnn.diagnostics.flow.result import Flow
from xprnn.diagnostics.missing import without_missing
from xprnn.engine.arguments import (
    check_recompute,
    check_state,
    check_tape_for_window,
    check_window,
)
from xprnn.engine.layer.weights import check_same_weights
from xprnn.engine.lengths import fill_target
from xprnn.engine.network import RNN
from xprnn.engine.results import Run, check_run
from xprnn.engine.stack import zero_padding
from xprnn.losses import Loss, get_loss, mask_arguments

_log = logging.getLogger("xprnn")


@entry
def gradient_flow(
    net: RNN,
    x: Array | Run,
    target: Array | None = None,
    *,
    d_output: Array | None = None,
    d_state: Arrays | None = None,
    loss: str | Loss = "squared_error",
    state: Arrays | None = None,
    lengths: Sequence[int] | None = None,
    mask: Array | None = None,
    window: int | None = None,
    rng: Seed = None,
    recompute: bool = False,
    bound: float = 0.1,
    optimizer: Any = None,
    matrix: bool = False,
    jacobians: bool = False,
    sequence: int = 0,
) -> Flow:
    """Measure how the gradient of a loss flows back through time.

    Parameters
    ----------
    net : RNN
    x : array, (T, B, I), or of integers, (T, B), or Run
        The input; or a forward pass of this network, whose tape is then used.
    target : array, optional
        What the loss compares the output with.
    d_output : array, in the output's shape, optional
        The gradient of the output, in place of a target and a loss.
    d_state : tuple of array, (layers·D, B, H) each, optional
        The gradient of the final state; it counts as part of the last step's loss.
    loss : str or Loss
    state, lengths, mask, rng, recompute
        See `RNN.forward`; not together with a Run.  With a mask the steps that exist are counted,
        from each sequence's first.
    window : int, optional
        See `RNN.backward`.  What the window cuts off does not flow.
    bound : float
        Below 1: a gate is saturated where its activation's slope is at most this part of the
        largest; see `Flow`.
    optimizer : Optimizer, optional
        Whose first update is compared with the weights; the network is not changed.
    matrix : bool
        Whether to compute, for every step's loss, what it contributes: T more backward passes.
    jacobians : bool
        Whether to compute each step's Jacobian: H more backward steps of all steps at once.
    sequence : int
        Of which sequence of the batch; only with ``jacobians``.

    Returns
    -------
    Flow
        ``print(flow.sentence)`` says how far the gradient reaches.

    Raises
    ------
    TypeError, ValueError
        If neither or both of ``target`` and ``d_output`` are given; if an array does not fit the
        network, is not finite, or has no steps; if an option is out of range; or if there is a
        window and the tape leaves out what would have to be computed again.

    Notes
    -----
    It takes a forward pass and two backward passes (three where there are two directions), the
    second of which, without the gradients of weights, carries back the last loss alone.  What is
    not finite is reported in the result and is no error.

    Examples
    --------
    >>> import numpy as np, xprnn
    >>> rng = np.random.default_rng(0)
    >>> net = xprnn.RNN(1, 8, 1, cell="gru", dtype="float64", rng=0)
    >>> x = rng.normal(size=(40, 2, 1))
    >>> flow = xprnn.diagnostics.gradient_flow(net, x, np.cumsum(x, axis=0))
    >>> flow.norms.shape
    (1, 40)
    >>> print(flow.sentence)
    gradient reaches back 8 steps (half of it within 2)
    """
    if not isinstance(net, RNN):
        raise TypeError(f"net is {type(net).__name__}: expected an RNN")
    window = check_window(window)
    recompute = check_recompute(recompute, window)
    bound = checks.number("bound", bound, below=1.0)
    checks.boolean("matrix", matrix)
    checks.boolean("jacobians", jacobians)
    if mask is not None and not isinstance(x, Run):
        x, lengths, (target, d_output), _ = without_missing(net, x, lengths, mask, target, d_output)
    with net.backend.library.quiet():
        run = _run(net, x, state, lengths, rng, recompute)
        _check_steps(run)
        if run.tape.recomputes:
            check_tape_for_window("x", run.tape.recomputes, window)
            _log.warning(
                "the tape was made with recompute=True: gradient_flow computes the steps that it "
                "leaves out again, in every backward pass"
            )
        value, dy = _outer_gradient(net, run, target, d_output, loss)
        if d_state is not None:
            shape = net.architecture.state_shape(run.tape.x.shape[1])
            cell = net.architecture.cell
            d_state = check_state("d_state", d_state, net.backend, cell, shape)
        measured = Measuring(net, run.tape, dy, d_state, window, bound)
        flow = measured.flow(value)
        if not (math.isfinite(value or 0.0) and measured.finite(flow)):
            flow = flow._replace(nonfinite=measured.first_not_finite(run))
        if optimizer is not None:
            flow = flow._replace(update_ratios=measured.update_ratios(optimizer))
        if matrix:
            flow = flow._replace(matrix=measured.matrix())
        if jacobians:
            flow = flow._replace(jacobians=jacobians_of(run.tape, sequence))
    return flow


def _check_steps(run: Run) -> None:
    """Refuse a forward pass in which a sequence has no step."""
    steps, batch = run.tape.x.shape[:2]
    if steps == 0:
        raise ValueError(f"x has {batch} sequences of no steps: expected at least one step (T ≥ 1)")
    if run.tape.valid is not None:
        exists = run.tape.backend.to_numpy(run.tape.valid)[..., 0]
        ends = np.sum(exists, axis=0)
        if not np.array_equal(exists, np.arange(steps)[:, None] < ends):
            raise ValueError(
                "the forward pass has a mask with steps missing before others: expected x, and "
                "mask=, in place of the Run"
            )


def _run(
    net: RNN,
    x: Array | Run,
    state: Arrays | None,
    lengths: Sequence[int] | None,
    rng: Seed,
    recompute: bool,
) -> Run:
    """Return the forward pass."""
    if not isinstance(x, Run):
        return net.forward(x, state, lengths, rng=rng, recompute=recompute)
    given: dict[str, object] = {
        "state": state,
        "lengths": lengths,
        "rng": rng,
        "recompute": recompute or None,
    }
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} is given, but x is a Run, which was made with its own")
    check_run(net.architecture, net.backend, x)
    then, now = x.tape.parameters, net.parameters
    # Compared as objects, which costs nothing; the check looks at the numbers.
    if not all(map(operator.is_, then, now.values())):
        check_same_weights("run", dict(zip(now, then, strict=True)), now)
    return x


def _outer_gradient(
    net: RNN, run: Run, target: Array | None, d_output: Array | None, loss: str | Loss
) -> tuple[float | None, Array]:
    """Return the loss, if there is a target, and the gradient of the output."""
    backend, shape = net.backend, tuple(run.output.shape)
    if (target is None) == (d_output is None):
        given = "neither" if target is None else "both"
        raise ValueError(f"{given} of target and d_output given: expected one of them")
    if d_output is not None:
        d_output = checks.array("d_output", d_output, backend, shape)
        return None, zero_padding(run.tape, d_output)
    loss = get_loss(loss)
    valid = run.tape.valid if net.architecture.returns == "sequence" else None
    target = loss.check(shape, fill_target(backend, valid, target), backend)
    value, d_output = loss.value_and_grad(run.output, target, *mask_arguments(valid))
    return float(value), d_output
