"""Windowed truncation of backpropagation through time, for all steps at once.

Let g(s) be the gradient of the loss of step s with respect to state s, J(s) the Jacobian of step s,
and G_m(s) the gradient of the losses of steps s ... s+m with respect to state s.  Then::

    G₀(s) = g(s)
    G_m(s) = g(s) + J(s+1)ᵀ G_{m-1}(s+1)                              (1)

because the losses of steps s+1 ... s+m reach state s through state s+1.  So k+1 sweeps, each over
all steps at once, are exact for a window of k steps; no loop over steps times window is needed.
The weights' gradients are taken from G_k alone: every loss reaches the k steps before its own, and
none before those.  In a stack of layers a sweep goes through all of them, and a layer's g includes
what the layer above has contributed in the same sweep.

A window counts the steps of the sequence.  Padding, where the state is only held, does not count:
step s+1 is the next step that exists.
"""

from typing import NamedTuple

from xprnn.backend import Backend, library_of
from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays, Cell
from xprnn.engine.loop.gaps import Gaps, find_gaps, of_following
from xprnn.engine.loop.loop import windowed_loops
from xprnn.engine.loop.plain import held, step_back
from xprnn.engine.loop.protocol import LoopGradient, Recurrent, StepGradient, Trajectory


class Sweep(NamedTuple):
    """The last of one or more sweeps over all steps.

    Attributes
    ----------
    step : StepGradient
        Of each step alone; ``step.state``, (T, B, H) each, is its gradient of the state before it,
        which the next sweep starts from.
    first : array of bool, (T, B, 1), or None
        Which step is the first of its sequence; None: step 0.
    direct : tuple of array, (T, B, H) each
        g, computed from ``dh``; empty if the sweeps are compiled.
    reached : tuple of array, (T, B, H) each
        G_m, the gradient of the state after each step; empty if the sweeps are compiled.
    dh : array, (T, B, H), or None
        The gradient that reached each step's output from outside.
    d_state : tuple of array, (B, H) each
        The gradient that reached the final state from outside.
    gaps : Gaps or None
        None: every sequence's steps follow each other.
    summed : bool
        Whether the gradients of the per-unit parameters are sums, (H,) each, and not those of each
        step.
    """

    step: StepGradient
    first: Array | None
    direct: Arrays
    reached: Arrays
    dh: Array | None
    d_state: Arrays
    gaps: Gaps | None
    summed: bool = False


def sweeps(
    backend: Backend,
    cell: Cell,
    recurrent: Recurrent,
    trajectory: Trajectory,
    dh: Array | None,
    d_state: Arrays,
    before: Sweep | None,
    count: int,
    *,
    watched: bool = False,
) -> Sweep:
    """Make the next ``count`` sweeps through one layer.

    Parameters
    ----------
    dh : array, (T, B, H), or None
        The gradient that reaches each step's output from outside; None for zero.
    d_state : tuple of array, (B, H) each
        The gradient that reaches the final state from outside, which counts as part of the last
        step's loss.  The same in every sweep.
    before : Sweep or None
        Given up: the sweep before these; None: the first of them is sweep 0.
    count : int
        More than one only if ``dh`` does not change in between.
    watched : bool
        Whether `Sweep.reached` is wanted, which compiled sweeps don't keep.
    """
    xp, valid = backend.xp, recurrent.valid
    gaps = find_gaps(backend, valid) if before is None else before.gaps
    compiled = None
    if not watched:
        compiled = windowed_loops(backend, cell, recurrent, trajectory.states[0])
    if compiled is not None:
        given = None if before is None else before.step.state
        step = compiled.sweeps(recurrent, trajectory, dh, d_state, given, count, gaps)
        first = None if valid is None else _ends(xp, valid, gaps)[0]
        return Sweep(step, first, (), (), dh, d_state, gaps, summed=True)
    for _ in range(count):
        before = _sweep(xp, cell, recurrent, trajectory, dh, d_state, before, gaps)
    assert before is not None
    return before


def _sweep(
    xp: Namespace,
    cell: Cell,
    recurrent: Recurrent,
    trajectory: Trajectory,
    dh: Array | None,
    d_state: Arrays,
    before: Sweep | None,
    gaps: Gaps | None,
) -> Sweep:
    """Make one sweep in plain array code."""
    valid = recurrent.valid
    previous = tuple([part[:-1, ...] for part in trajectory.states])
    if before is not None and dh is before.dh:
        # The same object as in the sweep before: the top layer's dh never changes.
        first, direct = before.first, before.direct
    else:
        first, last = (None, None) if valid is None else _ends(xp, valid, gaps)
        direct = direct_gradient(xp, previous[0].shape, dh, d_state, last)
    G = direct
    if before is not None and gaps is not None:
        following = [of_following(xp, gaps, reach) for reach in before.step.state]
        G = tuple([part + reach for part, reach in zip(G, following, strict=True)])  # (1)
    elif before is not None:
        # A reversed sequence may begin after its padding: what its first step passes back into the
        # padding reaches no parameter.
        G = tuple(
            [
                xp.concat((part[:-1, ...] + reach[1:, ...], part[-1:, ...]), axis=0)
                for part, reach in zip(G, before.step.state, strict=True)
            ]
        )  # (1)
    step = step_back(
        xp, cell, recurrent, trajectory.saved, previous, trajectory.normalized, valid, G
    )
    return Sweep(step, first, direct, G, dh, d_state, gaps)


def loop_gradient(xp: Namespace, last: Sweep) -> LoopGradient:
    """Return the last sweep's gradients in the form that the backward loop returns."""
    step, first = last.step, last.first
    if first is None:
        initial = tuple([part[0, ...] for part in step.state])
    else:
        # A sequence without steps ends in its initial state.
        none = xp.all(~first, axis=0)
        sums = [xp.sum(library_of(a).zero_unless(first, a), axis=0) for a in step.state]
        initial = held(xp, none, last.d_state, tuple(sums))
    units = step.units if last.summed else tuple(xp.sum(part, axis=(0, 1)) for part in step.units)
    gain = None if step.gain is None else xp.sum(step.gain, axis=(0, 1))
    return LoopGradient(step.du, step.da, units, gain, initial)


def ends(xp: Namespace, valid: Array) -> tuple[Array, Array]:
    """Return which step is the first of its sequence, and which the last, (T, B, 1) each.

    For sequences without gaps.
    """
    none = xp.zeros_like(valid[:1, ...])
    before = xp.concat((none, valid[:-1, ...]), axis=0)
    after = xp.concat((valid[1:, ...], none), axis=0)
    return valid & ~before, valid & ~after


def _ends(xp: Namespace, valid: Array, gaps: Gaps | None) -> tuple[Array, Array]:
    return ends(xp, valid) if gaps is None else (gaps.first, gaps.last)


def direct_gradient(
    xp: Namespace, shape: tuple[int, ...], dh: Array | None, d_state: Arrays, last: Array | None
) -> Arrays:
    """Return g of each state variable, (T, B, H): d_state at the last step, plus dh for h."""
    zeros = xp.zeros_like(d_state[0])
    if last is None:
        before = xp.broadcast_to(zeros[None, ...], (shape[0] - 1, *shape[1:]))
        final = tuple(xp.concat((before, part[None, ...]), axis=0) for part in d_state)
    else:
        final = tuple(xp.where(last, part[None, ...], zeros[None, ...]) for part in d_state)
    return final if dh is None else (final[0] + dh, *final[1:])
