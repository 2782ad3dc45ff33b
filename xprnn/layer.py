"""One layer in one direction: everything around the time loop.

The input's projection before it, and the gradients of weights and input after it, each one matrix
product over all T·B steps::

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
from xprnn.normalization import Normalized
from xprnn.projection import input_gradient, project, project_backward
from xprnn.recurrence import Recurrent, Reversed, Trajectory
from xprnn.timeloop import run_backward, run_forward
from xprnn.truncation import Sweep, summed, sweep


class Weights(NamedTuple):
    """The parameters of one layer in one direction, or their gradients.

    Attributes
    ----------
    W : array, (G·H, I)
    U : array, (G·H, H)
    b : array, (G·H,), or None
    """

    W: Array
    U: Array
    b: Array | None = None


class ExtendedWeights(NamedTuple):
    """The same, of a cell that has more.

    Attributes
    ----------
    W, U, b
        As in `Weights`.
    units : tuple of array, (H,) each
        The cell's per-unit parameters, in the order in which it names them; None for one that is
        zero because there are no biases.
    gains : tuple of array, (G·H,) each
        Of a cell with layer normalisation: that of W x, and that of U h.
    """

    W: Array
    U: Array
    b: Array | None = None
    units: tuple[Array | None, ...] = ()
    gains: tuple[Array, ...] = ()


class Tape(NamedTuple):
    """What the backward pass of a layer needs of the forward pass.

    Attributes
    ----------
    backend : Backend
    x : array, (T, B, I), or of integers, (T, B)
    recurrent : Recurrent
    normalized : Normalized or None
        Of W x, if the layer normalises.
    trajectory : Trajectory
    """

    backend: Backend
    x: Array
    recurrent: Recurrent
    normalized: Normalized | None
    trajectory: Trajectory


class LayerGradient(NamedTuple):
    """The gradients of one layer.

    Attributes
    ----------
    weights : Weights or ExtendedWeights
        W's is a `SparseGradient` if the input was integers.
    x : array, (T, B, I), or None
        None if the input was integers.
    state : tuple of array, (B, H) each
        Of the initial state.
    """

    weights: Weights | ExtendedWeights
    x: Array | None
    state: Arrays


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
    weights: ExtendedWeights,
    x: Array,
    state: Arrays,
    *,
    valid: Array | None = None,
    mask: Array | None = None,
    save: bool = True,
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
    """
    xp, steps = backend.xp, x.shape[0]
    units = _units(backend, cell, weights)
    gain_u, gain_v = weights.gains or (None, None)
    recurrent = Recurrent(weights.U, units, gain_v, mask, valid)
    u, normalized = project(xp, weights.W, weights.b, x, gain_u)
    trajectory = run_forward(backend, cell, u, recurrent, state, save=save)
    return Unrolled(
        _within(xp, valid, trajectory.states[0][1:, ...]),
        tuple(part[steps, ...] for part in trajectory.states),
        Tape(backend, x, recurrent, normalized, trajectory),
    )


def run_layer_backward(
    cell: Cell, weights: ExtendedWeights, tape: Tape, dh: Array | None, d_state: Arrays
) -> LayerGradient:
    """Propagate gradients back through `run_layer`, its arguments known to be right."""
    recurrent = _recurrent(weights, tape)
    dh = _within(tape.backend.xp, recurrent.valid, dh)
    back = run_backward(tape.backend, cell, recurrent, tape.trajectory, dh, d_state)
    return _layer_gradient(weights, tape, back)


def sweep_layer(
    cell: Cell,
    weights: ExtendedWeights,
    tape: Tape,
    dh: Array | None,
    d_state: Arrays,
    before: Sweep | None,
) -> Sweep:
    """Do one sweep of the windowed truncation (see `xprnn.truncation`) through `run_layer`."""
    xp, recurrent = tape.backend.xp, _recurrent(weights, tape)
    dh = _within(xp, recurrent.valid, dh)
    return sweep(xp, cell, recurrent, tape.trajectory, dh, d_state, before)


def sweep_input(weights: ExtendedWeights, tape: Tape, done: Sweep) -> Array | None:
    """Return what a sweep puts on the layer's input; None if that is integers."""
    gain = weights.gains[0] if weights.gains else None
    return input_gradient(tape.backend.xp, weights.W, tape.x, done.step.du, gain, tape.normalized)


def swept_layer(weights: ExtendedWeights, tape: Tape, last: Sweep) -> LayerGradient:
    """Return the gradients that the last sweep has found."""
    return _layer_gradient(weights, tape, summed(tape.backend.xp, last))


def _recurrent(weights: ExtendedWeights, tape: Tape) -> Recurrent:
    # The units and the mask are those of the forward pass, U is the one that is given.
    return tape.recurrent._replace(U=weights.U)


def _layer_gradient(weights: ExtendedWeights, tape: Tape, back: Reversed) -> LayerGradient:
    """Return the layer's gradients, given those of u and of U h."""
    xp, mask = tape.backend.xp, tape.recurrent.mask
    gain_u = weights.gains[0] if weights.gains else None
    projection = project_backward(
        xp, weights.W, weights.b, tape.x, back.du, gain_u, tape.normalized
    )
    h_previous = tape.trajectory.states[0][:-1, ...]
    if mask is not None:
        h_previous = h_previous * mask
    dU = xp.matrix_transpose(_rows(xp, back.da)) @ _rows(xp, h_previous)
    gains = () if back.gain is None else (projection.gain, back.gain)
    units = tuple(
        None if given is None else d for given, d in zip(weights.units, back.units, strict=False)
    )
    return LayerGradient(
        ExtendedWeights(projection.W, dU, projection.b, units, gains), projection.x, back.state
    )


def _units(backend: Backend, cell: Cell, weights: ExtendedWeights) -> Arrays:
    """Return the per-unit parameters, with zeros for biases that are not there."""
    given = weights.units or (None,) * len(unit_names(cell))
    if all(part is not None for part in given):
        return given
    W = weights.W
    zeros = backend.xp.zeros((weights.U.shape[1],), dtype=W.dtype, device=backend.device)
    return tuple(zeros if part is None else part for part in given)


def _within(xp: Namespace, valid: Array | None, a: Array | None) -> Array | None:
    """Return a with zeros beyond the sequences' ends."""
    return a if valid is None or a is None else xp.where(valid, a, xp.zeros_like(a))


def _rows(xp: Namespace, a: Array) -> Array:
    """Merge time and batch."""
    return xp.reshape(a, (a.shape[0] * a.shape[1], a.shape[2]))
