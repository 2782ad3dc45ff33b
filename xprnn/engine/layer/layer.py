"""One layer in one direction: everything around the time loop.

The input's projection before it, and the gradients of weights and input after it, each one matrix
product for all steps of a segment (see `xprnn.engine.layer.segments`; a sequence that is not long
is one)::

    u = W x + b                                                       (1)
    h(t), ... = cell(u(t), U h(t-1), ...)                             (2)

    dW = Σ_t du(t) x(t)ᵀ     db = Σ_t du(t)     dx(t) = Wᵀ du(t)      from (1)
    dU = Σ_t dv(t) h(t-1)ᵀ                                            from (2)

with du and dv, the gradients of both arguments of the cell, from the reversed loop.
"""

from typing import NamedTuple

from xprnn.backend import Backend
from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays, Cell, unit_names
from xprnn.engine.layer.projection import input_gradient, project, project_backward
from xprnn.engine.layer.segments import Kept, Segment, check_again, copied, cut, gathered, joined
from xprnn.engine.layer.weights import LayerGradient, Weights, plus
from xprnn.engine.layer.window import Sweep, summed, sweep
from xprnn.engine.loop.loop import run_backward, run_forward
from xprnn.engine.loop.protocol import LoopGradient, Recurrent


class Tape(NamedTuple):
    """What the backward pass of a layer needs of the forward pass.

    Attributes
    ----------
    backend : Backend
    x : array, (T, B, I), or of integers, (T, B)
    recurrent : Recurrent
    segments : tuple of Segment
    """

    backend: Backend
    x: Array
    recurrent: Recurrent
    segments: tuple[Segment, ...]

    @property
    def recomputes(self) -> bool:
        """Whether it holds no more than the backward pass can't compute again."""
        return any(segment.kept is None for segment in self.segments)


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
    """Run a layer over a batch of sequences, its arguments known to be right.

    Parameters
    ----------
    valid : array of bool, (T, B, 1), or None
        Which steps are within their sequence; None: all.
    mask : array, (B, H), or None
        What h(t-1) is multiplied by on its way into U.
    save : bool
        Without it the tape can't be used.
    recompute : bool
        Leave no more on the tape than `run_layer_backward` can't compute again.
    """
    xp, borders = backend.xp, cut(*x.shape[:2])
    # Else what is left of a segment would be a view that keeps all of it.
    own = recompute or len(borders) > 1
    gain = weights.gains[1] if weights.gains else None
    recurrent = Recurrent(weights.U, _units(backend, cell, weights), gain, mask, valid)
    if recompute:
        state = copied(xp, state)
    segments, h = [], None
    for steps in borders:
        kept = _run_segment(backend, cell, weights, x, recurrent, steps, state, save=save)
        states = kept.trajectory.states
        before, state = state, tuple([part[-1, ...] for part in states])
        if own:
            state = copied(xp, state)
        piece = _within(xp, _at(valid, steps), states[0][1:, ...])
        segments.append(Segment(steps, before, state, kept if save and not recompute else None))
        h = gathered(backend, h, steps, piece, x.shape[0])
        del kept, states, piece  # large, and not to be there beside the next segment's
    return Unrolled(h, state, Tape(backend, x, recurrent, tuple(segments)))


def run_layer_backward(
    cell: Cell, weights: Weights, tape: Tape, dh: Array | None, d_state: Arrays
) -> LayerGradient:
    """Propagate gradients back through `run_layer`, its arguments known to be right.

    Raises
    ------
    ValueError
        If a state that is computed again is not what it was.
    """
    if len(tape.segments) == 1:
        return _segment_gradient(cell, weights, tape, tape.segments[0], dh, d_state)
    total, dx = None, None
    for segment in reversed(tape.segments):
        share = _segment_gradient(cell, weights, tape, segment, dh, d_state)
        d_state = share.state
        total = share.weights if total is None else plus(total, share.weights)
        if share.x is not None:
            dx = gathered(tape.backend, dx, segment.steps, share.x, tape.x.shape[0])
    assert total is not None
    return LayerGradient(total, dx, d_state)


def sweep_layer(
    cell: Cell,
    weights: Weights,
    tape: Tape,
    dh: Array | None,
    d_state: Arrays,
    before: Sweep | None,
) -> Sweep:
    """Do one sweep of the windowed truncation (see `xprnn.engine.layer.window`) through
    `run_layer`.

    The tape is one of `whole`.
    """
    xp, recurrent = tape.backend.xp, _recurrent(weights, tape)
    dh = _within(xp, recurrent.valid, dh)
    return sweep(xp, cell, recurrent, _whole(tape).trajectory, dh, d_state, before)


def sweep_input(weights: Weights, tape: Tape, done: Sweep) -> Array | None:
    """Return what a sweep puts on the layer's input; None if that is integers."""
    gain, normalized = weights.gains[0] if weights.gains else None, _whole(tape).normalized
    return input_gradient(tape.backend, weights.W, tape.x, done.step.du, gain, normalized)


def swept_layer(weights: Weights, tape: Tape, last: Sweep) -> LayerGradient:
    """Return the gradients that the last sweep has found."""
    back = summed(tape.backend.xp, last)
    return _layer_gradient(weights, tape, slice(None), _whole(tape), back)


def whole(tape: Tape) -> Tape:
    """Return a tape with all steps in one segment, which is what sweeps need."""
    kept = joined(tape.backend.xp, [s.kept for s in tape.segments if s.kept is not None])
    first, last = tape.segments[0], tape.segments[-1]
    steps = slice(first.steps.start, last.steps.stop)
    return tape._replace(segments=(Segment(steps, first.before, last.after, kept),))


def _whole(tape: Tape) -> Kept:
    (segment,) = tape.segments
    assert segment.kept is not None
    return segment.kept


def _run_segment(
    backend: Backend,
    cell: Cell,
    weights: Weights,
    x: Array,
    recurrent: Recurrent,
    steps: slice,
    state: Arrays,
    *,
    save: bool,
) -> Kept:
    """Run the layer over a segment."""
    gain = weights.gains[0] if weights.gains else None
    u, normalized = project(backend, weights.W, weights.b, x[steps, ...], gain)
    recurrent = _of(recurrent, steps)
    return Kept(normalized, run_forward(backend, cell, u, recurrent, state, save=save))


def _segment_gradient(
    cell: Cell,
    weights: Weights,
    tape: Tape,
    segment: Segment,
    dh: Array | None,
    d_state: Arrays,
) -> LayerGradient:
    """Propagate gradients back through a segment."""
    (steps, before, _, kept), backend = segment, tape.backend
    recurrent = _recurrent(weights, tape)
    if kept is None:
        kept = _run_segment(backend, cell, weights, tape.x, recurrent, steps, before, save=True)
        check_again(backend.xp, segment, kept)
    recurrent = _of(recurrent, steps)
    dh = _within(backend.xp, recurrent.valid, _at(dh, steps))
    back = run_backward(backend, cell, recurrent, kept.trajectory, dh, d_state)
    return _layer_gradient(weights, tape, steps, kept, back)


def _recurrent(weights: Weights, tape: Tape) -> Recurrent:
    # The units and the mask are those of the forward pass, U is the one that is given.
    recurrent, U = tape.recurrent, weights.U
    return recurrent if recurrent.U is U else recurrent._replace(U=U)


def _of(recurrent: Recurrent, steps: slice) -> Recurrent:
    """Return what is applied at some steps."""
    valid = recurrent.valid
    return recurrent if valid is None else recurrent._replace(valid=valid[steps, ...])


def _layer_gradient(
    weights: Weights, tape: Tape, steps: slice, kept: Kept, back: LoopGradient
) -> LayerGradient:
    """Return the layer's gradients, given those of u and of U h."""
    backend, mask = tape.backend, tape.recurrent.mask
    gain_u = weights.gains[0] if weights.gains else None
    rows = backend.library.rows
    du = rows(back.du)
    projection = project_backward(
        backend, weights.W, weights.b, tape.x[steps, ...], du, gain_u, kept.normalized
    )
    h_previous = kept.trajectory.states[0][:-1, ...]
    if mask is not None:
        h_previous = h_previous * mask
    da = du if back.da is back.du else rows(back.da)
    dU = backend.library.product(da.T, rows(h_previous))
    gains = () if back.gain is None else (projection.gain, back.gain)
    pairs = zip(weights.units, back.units, strict=False)
    units = tuple([None if given is None else d for given, d in pairs])
    return LayerGradient(
        Weights(projection.W, dU, projection.b, units, gains), projection.x, back.state
    )


def _at(a: Array | None, steps: slice) -> Array | None:
    return None if a is None else a[steps, ...]


def _units(backend: Backend, cell: Cell, weights: Weights) -> Arrays:
    """Return the per-unit parameters, with zeros for biases that are not there."""
    given = weights.units or (None,) * len(unit_names(cell))
    if not [part for part in given if part is None]:
        return given
    W = weights.W
    zeros = backend.xp.zeros((weights.U.shape[1],), dtype=W.dtype, device=backend.device)
    return tuple(zeros if part is None else part for part in given)


def _within(xp: Namespace, valid: Array | None, a: Array | None) -> Array | None:
    """Return a with zeros beyond the sequences' ends."""
    return a if valid is None or a is None else xp.where(valid, a, xp.zeros_like(a))
