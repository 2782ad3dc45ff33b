"""`gradient_flow`: what flows back through time, in numbers."""

import logging
import math
import operator
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from xprnn import checks
from xprnn.backend.entry import entry
from xprnn.backend.host.arrays import HostArray, Seed, np
from xprnn.backend.types import Array
from xprnn.cells import Arrays, recurrent_blocks
from xprnn.diagnostics.flow.jacobians import jacobians_of
from xprnn.diagnostics.flow.passes import Lengths, Watched, watched, watched_from_last
from xprnn.diagnostics.flow.result import Flow, reach_of
from xprnn.diagnostics.missing import without_missing
from xprnn.engine.arguments import (
    check_recompute,
    check_state,
    check_tape_for_window,
    check_window,
    zero_state,
)
from xprnn.engine.gradients import GradientArray, entries, largest_size, square_sum, times
from xprnn.engine.layer.weights import check_same_weights
from xprnn.engine.lengths import fill_target
from xprnn.engine.network import RNN
from xprnn.engine.nonfinite import first_in_forward, first_on_the_way_back
from xprnn.engine.results import NetworkTape, Run, check_run
from xprnn.engine.stack import zero_padding
from xprnn.losses import Loss, get_loss, mask_arguments

TINY = 1e-250
"""The sum of squares above which what vanished in a square does not matter to it."""

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
        measured = _Measuring(net, run.tape, dy, d_state, window)
        flow = measured.flow(value, bound)
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


class _Measuring:
    """A tape, with what flows into it."""

    def __init__(
        self,
        net: RNN,
        tape: NetworkTape,
        d_output: Array,
        d_state: Arrays | None,
        window: int | None,
    ) -> None:
        self.net, self.tape, self.window = net, tape, window
        self.d_output, self.d_state = d_output, d_state
        self.architecture, self.backend = tape.architecture, tape.backend
        self.steps, self.batch = tape.x.shape[:2]

    @cached_property
    def ends(self) -> HostArray:
        """The last step of each sequence, (B,), -1 if it has none."""
        if self.tape.valid is None:
            return np.full(self.batch, self.steps - 1)
        ends: HostArray = np.sum(self.backend.to_numpy(self.tape.valid)[..., 0], axis=0) - 1
        return ends

    @cached_property
    def losses(self) -> HostArray:
        """At which steps a gradient enters, (T, B) of bool."""
        losses = np.zeros((self.steps, self.batch), bool)
        if self.architecture.returns == "sequence":
            losses = np.array(self._enters(self.d_output))
            if self.d_state is not None and self.architecture.bidirectional:
                losses[0] = self.ends >= 0
        if self.d_state is not None or self.architecture.returns == "last":
            some = np.flatnonzero(self.ends >= 0)
            losses[self.ends[some], some] = True
        return losses

    def _enters(self, d_output: Array) -> HostArray:
        xp = self.backend.xp
        return self.backend.to_numpy(xp.any(d_output != 0, axis=-1))

    def flow(self, value: float | None, bound: float) -> Flow:
        """Return everything but what is computed on demand."""
        net, to_host, stack = self.net, self.backend.to_numpy, self.architecture.stack
        gates, width = self.architecture.cell.gates, self.architecture.width
        found = self._watched(None, bound)
        lengths = self._lengths(found.lengths)
        decay = self._decay(lengths)
        count = self.steps * self.batch
        if self.tape.valid is not None:
            count = int(np.sum(self.ends + 1))
        saturation = [
            np.full(gates, math.nan)
            if flat is None
            else to_host(flat).astype(float) / (count * direction.hidden_size)
            for flat, direction in zip(found.saturated, stack, strict=True)
        ]
        blocks = recurrent_blocks(net.cell)
        # Units that a smaller layer lacks have zeros.
        recurrent = np.zeros((len(stack), blocks, width, width))
        for k, direction in enumerate(stack if blocks else ()):
            # The loop's, which is U P where h is projected.
            U, H = to_host(self.tape.layers[k].weights.U), direction.hidden_size
            recurrent[k, :, :H, :H] = U.reshape(blocks, H, H)
        return Flow(
            tuple(f"layer {d.layer}" + " reversed" * d.reverse for d in stack),
            value,
            _norm(lengths, axis=2),
            decay,
            *reach_of(decay),
            np.stack(saturation),
            recurrent,
            tuple(net.parameters),
            self._norms_of(found.parameters),
            self._norms_of(net.parameters),
        )

    def finite(self, flow: Flow) -> bool:
        """Whether everything that flows is finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            total = flow.norms.sum() + flow.gradient_norms.sum()
        # A sum may be infinite where none of its terms is.
        return math.isfinite(total) or bool(
            np.all(np.isfinite(flow.norms)) and np.all(np.isfinite(flow.gradient_norms))
        )

    def first_not_finite(self, run: Run) -> str:
        """Return where the first NaN or infinity arises."""
        parameters = self.net.parameters
        d_state = self._final(None)
        return (
            first_in_forward(parameters, run)
            or first_on_the_way_back(parameters, run, self.d_output, d_state, self.window)
            or "the loss (every output is finite)"
        )

    def matrix(self) -> HostArray:
        """Return ‖∂L_s/∂h(t)‖, (layers·D, T, T)."""
        if self.architecture.returns == "last":
            lengths = self._lengths(self._watched(None, None).lengths)
            rows = [lengths * (self.ends == s) for s in range(self.steps)]
        else:
            rows = []
            for s in range(self.steps):
                mask = np.zeros_like(self.losses)
                mask[s] = self.losses[s]
                found = self._watched(mask, None) if mask.any() else None
                rows.append(None if found is None else self._lengths(found.lengths))
            nothing = np.zeros((len(self.architecture.stack), self.steps, self.batch))
            rows = [nothing if row is None else row for row in rows]
        return np.stack([_norm(row, axis=2) for row in rows], axis=1)

    def update_ratios(self, optimizer: Any) -> HostArray:
        """Return the norm of an optimizer's first update of each parameter, divided by its own."""
        old = self.net.parameters
        gradients = self._watched(None, 0.0).parameters
        if not np.all(np.isfinite(self._norms_of(gradients))):
            return np.full(len(old), math.nan)
        new, _ = optimizer.update(gradients, optimizer.init(old), old)
        return change(old, new)

    def _watched(self, mask: HostArray | None, bound: float | None) -> Watched:
        """Return a backward pass of the gradients that enter at some steps.

        Parameters
        ----------
        mask : host array of bool, (T, B), or None
            None: at all steps.
        bound : float or None
            See `watched`.
        """
        return watched(
            self.net.parameters,
            self.tape,
            self.d_output if mask is None else self._entering(mask),
            self._final(mask),
            window=self.window,
            bound=bound,
        )

    def _entering(self, mask: HostArray) -> Array:
        """Return the gradient of the output at these steps, zero elsewhere."""
        d_output, backend, xp = self.d_output, self.backend, self.backend.xp
        first = int(np.argmax(mask.any(axis=1)))
        if np.all(mask[first]) and np.count_nonzero(mask) == self.batch:
            # The usual case, one step of all sequences, without a pass over everything.
            only = slice(first, first + 1)
            zeros = backend.library.zeros(tuple(d_output.shape), backend.dtype, backend.device)
            return backend.library.put_rows(zeros, only, d_output[only, ...])
        keep = backend.asarray(mask[..., None])
        return xp.where(keep, d_output, xp.zeros_like(d_output))

    def _final(self, mask: HostArray | None) -> Arrays:
        """Return the gradient of the final state where it enters at these steps."""
        architecture, backend, d_state = self.architecture, self.backend, self.d_state
        if d_state is None:
            return zero_state(backend, architecture.cell, architecture.state_shape(self.batch))
        if mask is None:
            return d_state
        last, xp = mask[self.ends, np.arange(self.batch)], backend.xp
        rows = np.stack([mask[0] if d.reverse else last for d in architecture.stack])
        keep = backend.asarray(rows[..., None])
        return tuple([xp.where(keep, part, xp.zeros_like(part)) for part in d_state])

    def _lengths(self, found: tuple[Lengths, ...]) -> HostArray:
        """Return the length of ∂L/∂h of every layer, step and sequence, (layers·D, T, B)."""
        each = [lengths.on_host(self.backend) for lengths in found]
        return each[0][None] if len(each) == 1 else np.stack(each)

    def _decay(self, whole: HostArray) -> HostArray:
        """Return what the last loss alone sends back; see `Flow`."""
        stack, rows = self.architecture.stack, []
        if self._all_end_in_a_loss():
            d_last, d_final = self.d_output[-1, ...], self._final(None)
            found = watched_from_last(self.net.parameters, self.tape, d_last, d_final)
            return _norm(self._lengths(found)[:, ::-1], axis=2)
        by_mask: dict[bytes, HostArray] = {self.losses.tobytes(): whole}
        for k, direction in enumerate(stack):
            losses = self.losses[::-1] if direction.reverse else self.losses
            # The first step that has one, in the order in which the gradient travels.
            start = np.argmax(losses[::-1], axis=0)
            some = np.asarray(losses.any(axis=0))
            mask = np.zeros_like(losses)
            mask[self.steps - 1 - start[some], np.flatnonzero(some)] = True
            mask = mask[::-1] if direction.reverse else mask
            if self.architecture.returns == "last":
                lengths = whole[k]
                start = np.zeros_like(start) if direction.reverse else self.steps - 1 - self.ends
            else:
                known = by_mask.get(mask.tobytes())
                if known is None:
                    known = self._lengths(self._watched(mask, None).lengths)
                    by_mask[mask.tobytes()] = known
                lengths = known[k]
            travel = lengths if direction.reverse else lengths[::-1]
            limit = self.ends + 1 if direction.reverse else np.full(self.batch, self.steps)
            rows.append(_aligned(travel, start, limit, some))
        return np.stack(rows)

    def _all_end_in_a_loss(self) -> bool:
        """Whether all sequences have a loss at the last step, as they nearly always do.

        Then it is known without a look at the others; False if the question is not that simple.
        """
        architecture = self.architecture
        simple = (
            architecture.returns == "sequence"
            and not architecture.bidirectional
            and self.tape.valid is None
            and (self.window is None or self.window >= self.steps - 1)
        )
        if not simple or self.d_state is not None:
            return simple
        return bool(self._enters(self.d_output[-1, ...]).all())

    def _norms_of(self, arrays: Mapping[str, GradientArray]) -> HostArray:
        values = [arrays[name] for name in self.net.parameters]
        totals = self.backend.library.square_sums([entries(g) for g in values])
        pairs = zip(self.backend.to_numpy(totals).tolist(), values, strict=True)
        return np.array([_norm_from(total, g) for total, g in pairs])


def _aligned(travel: HostArray, start: HostArray, limit: HostArray, some: HostArray) -> HostArray:
    """Return the norm over sequences of what is left after k steps, (T,).

    Parameters
    ----------
    travel : host array, (T, B)
        Lengths, in the order in which the gradient travels.
    start, limit : host array of int, (B,)
        Where each sequence's gradient sets out, and how many steps there are.
    some : host array of bool, (B,)
        Which sequences have a gradient at all.
    """
    steps = len(travel)
    if not some.any():
        return np.zeros(steps)
    if some.all() and not start.any() and (limit == steps).all():
        return _norm(travel, axis=1)
    left = np.full((steps, len(start)), math.nan)
    for b in np.flatnonzero(some):
        part = travel[start[b] : limit[b], b]
        left[: len(part), b] = part
    here = ~np.isnan(left) | ~some
    if np.all(here[:, some]):
        return _norm(left[:, some], axis=1)
    decay, first = np.full(steps, math.nan), left[0, some]
    for k in range(steps):
        there = ~np.isnan(left[k, some])
        if there.any():
            began = _norm(first[there], axis=0)
            share = _norm(left[k, some][there], axis=0) / began if began else 0.0
            decay[k] = share * _norm(first, axis=0)
    return decay


def _norm(a: HostArray, axis: int) -> HostArray:
    """Return the Euclidean norm along an axis, in whatever range."""
    if a.shape[axis] == 1:
        size: HostArray = np.abs(np.squeeze(a, axis=axis))
        return size
    with np.errstate(over="ignore"):
        squares: HostArray = np.sum(a * a, axis=axis)
    if squares.size and np.min(squares) > TINY and np.max(squares) < math.inf:
        return np.sqrt(squares)
    scale = np.max(np.abs(a), axis=axis, keepdims=True, initial=0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.sqrt(np.sum((a / np.where(scale > 0, scale, 1.0)) ** 2, axis=axis))
        found: HostArray = np.squeeze(scale, axis=axis) * total
    return np.where(np.isinf(np.squeeze(scale, axis=axis)), np.inf, found)


def norm_of(g: GradientArray) -> float:
    """Return the norm of an array or a gradient, also where its square would overflow."""
    return _norm_from(float(square_sum(g)), g)


def _norm_from(total: float, g: GradientArray) -> float:
    """Return the norm of an array or a gradient, given the sum of its squares."""
    if math.isfinite(total) and total > 1e-30:
        return math.sqrt(total)
    largest = float(largest_size(g))
    if largest == 0 or not math.isfinite(largest):
        return largest
    return largest * math.sqrt(float(square_sum(times(g, 1 / largest))))


def change(old: Mapping[str, Array], new: Mapping[str, Array]) -> HostArray:
    """Return the norm of each parameter's change, divided by its norm before."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.array([np.float64(norm_of(new[k] - p)) / norm_of(p) for k, p in old.items()])
