"""Windowed truncation of backpropagation through time, for all steps at once.

With g(s) the gradient that the losses put on state s directly, and J(s) the Jacobian of step s, the
losses of the steps s ... s+m put on state s::

    G₀(s) = g(s)
    G_m(s) = g(s) + J(s+1)ᵀ G_{m-1}(s+1)                              (1)

because what step s+1 receives from the m-1 steps after it has one step further to go.  So k+1
sweeps over all steps at once are exact, the first with nothing but g; no loop over steps times
window is needed.  The weights' gradients are taken from G_k alone: every loss reaches the k steps
before its own, and none beyond.  In a stack of layers a sweep goes through all of them, and g of a
layer includes what the layer above has put on it in the same sweep.

A window counts the steps of the sequence: those beyond its end, where the state is only held, are
skipped.
"""

from typing import NamedTuple

from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays, Cell
from xprnn.engine.loop.plain import StepGradient, step_back
from xprnn.engine.loop.protocol import LoopGradient, Recurrent, Trajectory


class Sweep(NamedTuple):
    """One sweep over all steps.

    Attributes
    ----------
    step : StepGradient
        Of every step by itself; ``step.state``, (T, B, H) each, is what it puts on the state before
        it, which the next sweep starts from.
    first : array of bool, (T, B, 1), or None
        Which step is the first of its sequence; None: step 0.
    direct : tuple of array, (T, B, H) each
        g, of the dh that it was made of.
    dh : array, (T, B, H), or None
        What reached each step's output from outside.
    """

    step: StepGradient
    first: Array | None
    direct: Arrays
    dh: Array | None


def sweep(
    xp: Namespace,
    cell: Cell,
    recurrent: Recurrent,
    trajectory: Trajectory,
    dh: Array | None,
    d_state: Arrays,
    before: Sweep | None,
) -> Sweep:
    """Do one sweep, m, after the sweep m-1.

    Parameters
    ----------
    dh : array, (T, B, H), or None
        The gradient that reaches each step's output from outside; None for zero.
    d_state : tuple of array, (B, H) each
        The gradient that reaches the final state from outside: it counts as the last step's.  The
        same in every sweep.
    before : Sweep or None
        None: this is the first.
    """
    valid = recurrent.valid
    previous = tuple([part[:-1, ...] for part in trajectory.states])
    if before is not None and dh is before.dh:
        # The top layer's: the same in every sweep.
        first, direct = before.first, before.direct
    else:
        first, last = (None, None) if valid is None else _ends(xp, valid)
        direct = _direct(xp, previous[0].shape, dh, d_state, last)
    G = direct
    if before is not None:
        # What goes on from the first step of a sequence that begins later reaches no parameter.
        G = tuple(
            [
                xp.concat((part[:-1, ...] + reach[1:, ...], part[-1:, ...]), axis=0)
                for part, reach in zip(G, before.step.state, strict=True)
            ]
        )  # (1)
    return Sweep(
        step_back(xp, cell, recurrent, trajectory.saved, previous, trajectory.normalized, valid, G),
        first,
        direct,
        dh,
    )


def summed(xp: Namespace, last: Sweep) -> LoopGradient:
    """Return what the last sweep, k, finds, as the reversed loop would."""
    step, first = last.step, last.first
    initial = tuple(
        part[0, ...] if first is None else _sum_where(xp, first, part) for part in step.state
    )
    return LoopGradient(
        step.du,
        step.da,
        tuple(xp.sum(part, axis=(0, 1)) for part in step.units),
        None if step.gain is None else xp.sum(step.gain, axis=(0, 1)),
        initial,
    )


def _sum_where(xp: Namespace, condition: Array, a: Array) -> Array:
    return xp.sum(xp.where(condition, a, xp.zeros_like(a)), axis=0)


def _ends(xp: Namespace, valid: Array) -> tuple[Array, Array]:
    """Return which step is the first, and which is the last, of its sequence, (T, B, 1)."""
    none = xp.zeros_like(valid[:1, ...])
    before = xp.concat((none, valid[:-1, ...]), axis=0)
    after = xp.concat((valid[1:, ...], none), axis=0)
    return valid & ~before, valid & ~after


def _direct(
    xp: Namespace, shape: tuple[int, ...], dh: Array | None, d_state: Arrays, last: Array | None
) -> Arrays:
    """Return g per state variable, (T, B, H): that of h from outside, and the final state's."""
    zeros = xp.zeros_like(d_state[0])
    if last is None:
        before = xp.broadcast_to(zeros[None, ...], (shape[0] - 1, *shape[1:]))
        final = tuple(xp.concat((before, part[None, ...]), axis=0) for part in d_state)
    else:
        final = tuple(xp.where(last, part[None, ...], zeros[None, ...]) for part in d_state)
    return final if dh is None else (final[0] + dh, *final[1:])
