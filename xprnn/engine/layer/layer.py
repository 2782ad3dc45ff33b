"""One layer in one direction: everything around the time loop.

The input is projected before the loop, and the gradients of weights and input are formed after it,
each by one matrix product for all steps of a segment.  A sequence is one segment unless it is long
(see `xprnn.engine.layer.segments`)::

    u = W x + b                                                       (1)
    h(t), ... = cell(u(t), U h(t-1), ...)                             (2)

    dW = Σ_t du(t) x(t)ᵀ     db = Σ_t du(t)     dx(t) = Wᵀ du(t)      from (1)
    dU = Σ_t dv(t) h(t-1)ᵀ                                            from (2)

with du and dv, the gradients of the cell's two arguments, from the backward loop.  (The rows of U
of a second product get another operand than h(t-1); see `xprnn.engine.loop.second`.)
"""

from collections.abc import Iterator
from typing import NamedTuple

from xprnn.backend import Backend
from xprnn.backend.trees import tree
from xprnn.backend.types import Array
from xprnn.cells import Arrays, Cell, second_product, unit_names
from xprnn.engine.gradients import GradientArray, sum_columns
from xprnn.engine.layer.projection import input_gradient, project, project_backward
from xprnn.engine.layer.reaching import Reached, Watch, state_gradients
from xprnn.engine.layer.segments import (
    Segment,
    SegmentTape,
    check_recomputed,
    copied,
    cut,
    join_tapes,
    put_steps,
)
from xprnn.engine.layer.weights import LayerGradient, Weights, plus
from xprnn.engine.layer.window import Sweep, loop_gradient, sweeps
from xprnn.engine.loop.loop import run_backward, run_backward_keeping, run_forward
from xprnn.engine.loop.protocol import LoopGradient, Recurrent
from xprnn.engine.loop.wide import narrowed, widened


@tree("backend", "second")
class Tape(NamedTuple):
    """What the backward pass of a layer needs from the forward pass.

    Attributes
    ----------
    backend : Backend
    x : array, (T, B, I), or of integers, (T, B)
    recurrent : Recurrent
    segments : tuple of Segment
    weights : Weights
        The weights that made the tape.
    second : int
        How many of the cell's last blocks come from a second product (see
        `xprnn.engine.loop.second`).
    """

    backend: Backend
    x: Array
    recurrent: Recurrent
    segments: tuple[Segment, ...]
    weights: Weights
    second: int = 0

    @property
    def recomputes(self) -> bool:
        """Whether the backward pass recomputes the segments (gradient checkpointing)."""
        return any(segment.tape is None for segment in self.segments)

    @property
    def shares_h(self) -> bool:
        """Whether the layer's h is memory that the backward pass reads.

        It is not where padding was set to zero, or the h of several segments were put together.
        """
        segments = self.segments
        return len(segments) == 1 and segments[0].tape is not None and self.recurrent.valid is None


class Unrolled(NamedTuple):
    """A layer, unrolled.

    Attributes
    ----------
    h : array, (T, B, H)
        Zero beyond a sequence's end.
    state : tuple of array, (B, H) each
        The final state: that of each sequence's last step.
    tape : Tape
    """

    h: Array
    state: Arrays
    tape: Tape


def run_layer(
    backend: Backend,
    cell: Cell,
    weights: Weights,
    x: Array,
    state: Arrays,
    *,
    valid: Array | None = None,
    mask: Array | None = None,
    save: bool = True,
    recompute: bool = False,
) -> Unrolled:
    """Run a layer over a batch of sequences; the arguments have been checked.

    Parameters
    ----------
    valid : array of bool, (T, B, 1), or None
        The padding mask: which steps exist.  None: all.
    mask : array, (B, H), or None
        The mask of recurrent dropout, by which h(t-1) is multiplied before U.
    save : bool
        False: the tape can't be used.
    recompute : bool
        Gradient checkpointing: leave on the tape the states at the segments' borders only, from
        which `run_layer_backward` recomputes everything else.
    """
    library, (total, batch, *_) = backend.library, x.shape
    gain = weights.gains[1] if weights.gains else None
    U = weights.U
    if U is None:
        U = _no_rows(backend, weights.W, state[0].shape[1])
    units = _units(backend, cell, weights, U.shape[1]) if unit_names(cell) else ()
    recurrent = Recurrent(U, units, gain, mask, valid)
    if total == 0:
        return _without_steps(backend, weights, x, state, recurrent)
    cuts = recompute or library.segments
    borders, second = cut(total, batch) if cuts else (slice(0, total),), second_product(cell)
    if len(borders) == 1 and not recompute:
        made = _run_segment(backend, cell, weights, x, recurrent, state, save=save)
        states = made.trajectory.states
        h = states[0][1:, ...]
        if valid is not None:
            h = library.zero_unless(valid, h)
        final = tuple([part[-1, ...] for part in states])
        segment = Segment(borders[0], state, final, made if save else None)
        return Unrolled(h, final, Tape(backend, x, recurrent, (segment,), weights, second))
    xp, segments, whole = backend.xp, [], None
    if recompute:
        state = copied(xp, state)
    for steps in borders:
        there = recurrent.at(steps)
        made = _run_segment(backend, cell, weights, x[steps, ...], there, state, save=save)
        states = made.trajectory.states
        # A border state that is a view would keep the whole segment before it in memory.
        before, state = state, copied(xp, tuple([part[-1, ...] for part in states]))
        h = states[0][1:, ...]
        if there.valid is not None:
            h = library.zero_unless(there.valid, h)
        segments.append(Segment(steps, before, state, made if save and not recompute else None))
        whole = put_steps(backend, whole, steps, h, total)
        del made, states, h  # large: free them before the next segment is computed
    return Unrolled(whole, state, Tape(backend, x, recurrent, tuple(segments), weights, second))


def run_layer_backward(
    cell: Cell,
    weights: Weights,
    tape: Tape,
    dh: Array | None,
    d_state: Arrays,
    *,
    of_input: bool = True,
    of_weights: bool = True,
    watch: Watch | None = None,
) -> LayerGradient:
    """Propagate gradients back through `run_layer`; the arguments have been checked.

    Without ``of_input``, the gradient of x is left out; without ``of_weights``, those of the
    weights, which are then None.  ``watch`` is shown the gradient that reaches every state.

    Raises
    ------
    ValueError
        If a recomputed segment ends in another state than it did in the forward pass.
    """
    if not tape.segments:
        return _zero_gradient(weights, tape, d_state, of_input=of_input, of_weights=of_weights)
    wanted = of_input, of_weights, watch
    if len(tape.segments) == 1:
        return _segment_gradient(cell, weights, tape, tape.segments[0], dh, d_state, *wanted)
    total, dx = None, None
    for segment in reversed(tape.segments):
        gradient = _segment_gradient(cell, weights, tape, segment, dh, d_state, *wanted)
        d_state = gradient.state
        total = gradient.weights if total is None else plus(total, gradient.weights)
        if gradient.x is not None:
            dx = put_steps(tape.backend, dx, segment.steps, gradient.x, tape.x.shape[0])
    assert total is not None
    return LayerGradient(total, dx, d_state)


def _without_steps(
    backend: Backend, weights: Weights, x: Array, state: Arrays, recurrent: Recurrent
) -> Unrolled:
    """Return the layer over sequences of no steps, which end in their initial state."""
    shape = (0, *state[0].shape)
    h = backend.library.zeros(shape, backend.dtype, backend.device)
    return Unrolled(h, state, Tape(backend, x, recurrent, (), weights))


def _zero_gradient(
    weights: Weights, tape: Tape, d_state: Arrays, *, of_input: bool, of_weights: bool
) -> LayerGradient:
    """Return the gradients of a layer that made no step: all zero, but for the initial state's."""
    xp, x = tape.backend.xp, tape.x

    def zero(a: Array | None) -> Array | None:
        return None if a is None or not of_weights else xp.zeros_like(a)

    dx = xp.zeros_like(x) if of_input and x.ndim == 3 else None
    dW: GradientArray | None = zero(weights.W)
    if x.ndim == 2 and of_weights:
        none = xp.reshape(x, (0,))
        dW = sum_columns(xp.zeros_like(weights.W[:, :0]).T, none, weights.W.shape[1])
    return LayerGradient(
        Weights(
            dW,
            zero(weights.U),
            zero(weights.b),
            tuple(map(zero, weights.units)),
            tuple(map(zero, weights.gains)),
        ),
        dx,
        d_state,
    )


def run_layer_windowed(
    cell: Cell, weights: Weights, tape: Tape, dh: Array | None, d_state: Arrays, window: int
) -> LayerGradient:
    """Do the same with a window; see `xprnn.engine.layer.window`."""
    tape = in_one_segment(tape)
    swept = sweep_layer(cell, weights, tape, dh, d_state, None, window + 1)
    return sweep_gradient(weights, tape, swept)


def sweep_layer(
    cell: Cell,
    weights: Weights,
    tape: Tape,
    dh: Array | None,
    d_state: Arrays,
    before: Sweep | None,
    count: int = 1,
    *,
    watched: bool = False,
) -> Sweep:
    """Do sweeps of a windowed truncation through `run_layer`; see `xprnn.engine.layer.window`.

    Parameters
    ----------
    tape : Tape
        Of one segment: see `in_one_segment`.
    before : Sweep or None
        The sweep before these; None: there is none.
    count : int
    watched : bool
        Whether `swept_states` will be asked for.
    """
    backend, recurrent = tape.backend, _recurrent(weights, tape)
    if recurrent.valid is not None and dh is not None:
        dh = backend.library.zero_unless(recurrent.valid, dh)
    given = widened(backend.library, (recurrent, _only_tape(tape).trajectory, dh, d_state))
    return sweeps(backend, cell, *given, before, count, watched=watched)


def sweep_input_gradient(weights: Weights, tape: Tape, swept: Sweep) -> Array | None:
    """Return the gradient of the layer's input after a sweep; None for integer input."""
    gain, normalized = weights.gains[0] if weights.gains else None, _only_tape(tape).normalized
    du = narrowed(tape.backend.library, swept.step.du, weights.W)
    return input_gradient(tape.backend, weights.W, tape.x, du, gain, normalized)


def sweep_gradient(weights: Weights, tape: Tape, last: Sweep) -> LayerGradient:
    """Return the layer's gradients after the last sweep."""
    d_loop = narrowed(tape.backend.library, loop_gradient(tape.backend.xp, last), weights.W)
    return _layer_gradient(weights, tape, tape.x, _only_tape(tape), d_loop, of_input=True)


class Steps(NamedTuple):
    """Some steps of a layer, and what its tape has of them.

    Attributes
    ----------
    steps : slice
    recurrent : Recurrent
        Its mask is that of these steps.
    saved : SegmentTape
    """

    steps: slice
    recurrent: Recurrent
    saved: SegmentTape


def saved_segments(cell: Cell, tape: Tape) -> Iterator[Steps]:
    """Iterate over a tape's segments from the first step on, recomputing those that it lacks."""
    for steps, before, _, saved in tape.segments:
        found, recurrent = saved, tape.recurrent.at(steps)
        if found is None:
            x = tape.x[steps, ...]
            found = _run_segment(tape.backend, cell, tape.weights, x, recurrent, before, save=True)
        yield Steps(steps, recurrent, found)
        del saved, found  # large, as in `run_layer`


def swept_states(weights: Weights, tape: Tape, last: Sweep) -> Reached:
    """Return what reached the states after the last sweep."""
    recurrent, saved = _recurrent(weights, tape), _only_tape(tape)
    dh = last.reached[0]
    if recurrent.valid is not None:
        dh = tape.backend.library.zero_unless(recurrent.valid, dh)
    return Reached(slice(0, tape.x.shape[0]), dh, recurrent, saved)


def in_one_segment(tape: Tape) -> Tape:
    """Return a tape that has all steps in one segment, as sweeps need it."""
    if len(tape.segments) == 1 and tape.segments[0].tape is not None:
        return tape
    joined = join_tapes(tape.backend.xp, [s.tape for s in tape.segments if s.tape is not None])
    first, last = tape.segments[0], tape.segments[-1]
    steps = slice(first.steps.start, last.steps.stop)
    return tape._replace(segments=(Segment(steps, first.before, last.after, joined),))


def _only_tape(tape: Tape) -> SegmentTape:
    """Return the tape of the only segment."""
    (segment,) = tape.segments
    assert segment.tape is not None
    return segment.tape


def _run_segment(
    backend: Backend,
    cell: Cell,
    weights: Weights,
    x: Array,
    recurrent: Recurrent,
    state: Arrays,
    *,
    save: bool,
) -> SegmentTape:
    """Run the layer over the steps of a segment."""
    gain = weights.gains[0] if weights.gains else None
    u, normalized = project(backend, weights.W, weights.b, x, gain)
    return SegmentTape(normalized, run_forward(backend, cell, u, recurrent, state, save=save))


def _segment_gradient(
    cell: Cell,
    weights: Weights,
    tape: Tape,
    segment: Segment,
    dh: Array | None,
    d_state: Arrays,
    of_input: bool,
    of_weights: bool,
    watch: Watch | None,
) -> LayerGradient:
    """Propagate gradients back through a segment, recomputed first if it has no tape."""
    steps, before, _, saved = segment
    backend, x, recurrent = tape.backend, tape.x, _recurrent(weights, tape)
    if len(tape.segments) > 1:
        x, recurrent = x[steps, ...], recurrent.at(steps)
        dh = None if dh is None else dh[steps, ...]
    if saved is None:
        saved = _run_segment(backend, cell, weights, x, recurrent, before, save=True)
        check_recomputed(backend, segment, saved)
    if recurrent.valid is not None and dh is not None:
        dh = backend.library.zero_unless(recurrent.valid, dh)
    if watch is None:
        d_loop = run_backward(backend, cell, recurrent, saved.trajectory, dh, d_state)
    else:
        given = backend, cell, recurrent, saved.trajectory, dh, d_state
        d_loop, kept = run_backward_keeping(*given)
        if kept is None:
            kept = state_gradients(backend, cell, recurrent, saved, dh, d_state, d_loop.da)
        elif recurrent.valid is not None:
            kept = backend.library.zero_unless(recurrent.valid, kept)
        watch(Reached(steps, kept, recurrent, saved))
    if not of_weights:
        return _without_weights(weights, tape, x, saved, d_loop, of_input=of_input)
    return _layer_gradient(weights, tape, x, saved, d_loop, of_input=of_input)


def _recurrent(weights: Weights, tape: Tape) -> Recurrent:
    """Return what the layer applies at every step, with the given U in place of the tape's."""
    recurrent, U = tape.recurrent, weights.U
    return recurrent if U is None or recurrent.U is U else recurrent._replace(U=U)


def _layer_gradient(
    weights: Weights,
    tape: Tape,
    x: Array,
    saved: SegmentTape,
    d_loop: LoopGradient,
    *,
    of_input: bool,
) -> LayerGradient:
    """Return the layer's gradients from those of the loop; x has the steps of the segment."""
    backend, mask = tape.backend, tape.recurrent.mask
    library = backend.library
    gain_u = weights.gains[0] if weights.gains else None
    h_previous = saved.trajectory.states[0][:-1, ...]
    if mask is not None:
        h_previous = library.times(h_previous, mask)
    du = library.rows(d_loop.du)
    da = du if d_loop.da is d_loop.du else library.rows(d_loop.da)
    alone = weights.U is None or tape.second  # dU is no single product, or there is none
    projection = project_backward(
        backend,
        weights.W,
        weights.b,
        x,
        du,
        None if alone else (da.T, library.rows(h_previous)),
        gain_u,
        saved.normalized,
        of_input=of_input,
    )
    dU = projection.beside
    if tape.second:
        dU = _two_gradients(tape, da, h_previous, saved.trajectory.saved[-1])
    gains = () if d_loop.gain is None else (projection.gain, d_loop.gain)
    units: tuple[Array | None, ...] = ()
    if weights.units:
        pairs = zip(weights.units, d_loop.units, strict=False)
        units = tuple([None if given is None else d for given, d in pairs])
    return LayerGradient(
        Weights(projection.W, dU, projection.b, units, gains),
        projection.x,
        d_loop.state,
    )


def _two_gradients(tape: Tape, da: Array, h_previous: Array, operand: Array) -> Array:
    """Return dU of a cell with a second product: dU₁ over dU₂."""
    library = tape.backend.library
    first = da.shape[1] - tape.second * operand.shape[2]
    pairs = [
        (da[:, :first].T, library.rows(h_previous)),
        (da[:, first:].T, library.rows(operand)),
    ]
    parts, _ = library.products_at_once(pairs, None)
    return tape.backend.xp.concat(parts, axis=0)


def _without_weights(
    weights: Weights,
    tape: Tape,
    x: Array,
    saved: SegmentTape,
    d_loop: LoopGradient,
    *,
    of_input: bool,
) -> LayerGradient:
    """Return the gradients of x and of the initial state alone."""
    dx, gain = None, weights.gains[0] if weights.gains else None
    if of_input:
        dx = input_gradient(tape.backend, weights.W, x, d_loop.du, gain, saved.normalized)
    nothing = Weights(None, None, None, (None,) * len(weights.units), (None,) * len(weights.gains))
    return LayerGradient(nothing, dx, d_loop.state)


def _no_rows(backend: Backend, W: Array, hidden: int) -> Array:
    """Return what stands for U in the loop of a cell without it: (0, H)."""
    return backend.xp.zeros((0, hidden), dtype=W.dtype, device=backend.device)


def _units(backend: Backend, cell: Cell, weights: Weights, hidden: int) -> Arrays:
    """Return the per-unit parameters, with zeros for those that a layer without biases lacks."""
    given = weights.units or (None,) * len(unit_names(cell))
    if not given or not [part for part in given if part is None]:
        return given
    W = weights.W
    zeros = backend.xp.zeros((hidden,), dtype=W.dtype, device=backend.device)
    return tuple(zeros if part is None else part for part in given)
