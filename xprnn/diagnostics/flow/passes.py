"""The backward pass that is watched: the gradient of every state, reduced to what a report needs.

Functions of arrays, which a library that compiles takes as they are.  What would be large on a
device, the gradients of all states, stays there.
"""

from collections.abc import Mapping
from typing import NamedTuple

from xprnn.backend import HALVES, Backend
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.diagnostics.flow.gates import saturated
from xprnn.engine.gradients import GradientArray
from xprnn.engine.layer.reaching import Reached
from xprnn.engine.loop.lowering import compiled
from xprnn.engine.results import NetworkTape
from xprnn.engine.stack import backward, backward_from_last


class Lengths(NamedTuple):
    """Lengths of vectors of the units of each step and sequence, as √squares · scale.

    Scaled, because a square overflows or vanishes long before the number that is squared.

    Attributes
    ----------
    squares : array, (T, B)
    scale : array, (T, B), or None
        None: 1, which is enough for squares in float64 of narrower numbers.
    """

    squares: Array
    scale: Array | None

    def on_host(self, backend: Backend) -> HostArray:
        """Return the lengths in float64, (T, B)."""
        lengths: HostArray = np.sqrt(backend.to_numpy(self.squares).astype(np.float64, copy=False))
        if self.scale is None:
            return lengths
        scale = backend.to_numpy(self.scale).astype(np.float64)
        with np.errstate(invalid="ignore"):
            return np.where(np.isinf(scale), np.inf, scale * lengths)


class Watched(NamedTuple):
    """What a backward pass showed.

    Attributes
    ----------
    parameters : dict of array
        The gradients, by name.
    lengths : tuple of Lengths
        Of ∂L/∂h, for every layer and direction.
    saturated : array, (layers·D, G), or None
        How many entries of each gate are saturated.  None if that was not asked for, or the cell's
        formula can't be traced.
    """

    parameters: dict[str, GradientArray]
    lengths: tuple[Lengths, ...]
    saturated: Array | None


def watched(
    parameters: Mapping[str, Array],
    tape: NetworkTape,
    d_output: Array,
    d_state: Arrays,
    *,
    window: int | None = None,
    bound: float | None = None,
) -> Watched:
    """Return a backward pass's gradients, and what reached the states.

    Parameters
    ----------
    d_output : array
        Zero in the padding.
    bound : float or None
        The slope up to which a gate counts as saturated.  None: only the lengths are wanted.
    """
    run = compiled(tape.backend, tape.architecture.cell, _watched, "window", "bound")
    found: Watched = run(parameters, tape, d_output, d_state, window=window, bound=bound)
    return found


def watched_from_last(
    parameters: Mapping[str, Array], tape: NetworkTape, d_last: Array, d_state: Arrays
) -> tuple[Lengths, ...]:
    """Return what reaches the states from the last step alone, for every layer.

    Parameters
    ----------
    d_last, d_state
        See `xprnn.engine.stack.backward_from_last`.
    """
    run = compiled(tape.backend, tape.architecture.cell, _watched_from_last)
    found: tuple[Lengths, ...] = run(parameters, tape, d_last, d_state)
    return found


def _watched_from_last(
    parameters: Mapping[str, Array], tape: NetworkTape, d_last: Array, d_state: Arrays
) -> tuple[Lengths, ...]:
    lengths: list[list[Lengths]] = [[] for _ in tape.architecture.stack]

    def watch(k: int, reached: Reached) -> None:
        lengths[k].append(lengths_of(tape.backend, reached.dh))

    backward_from_last(parameters, tape, d_last, d_state, watch)
    return _in_order(tape, lengths)


def _watched(
    parameters: Mapping[str, Array],
    tape: NetworkTape,
    d_output: Array,
    d_state: Arrays,
    *,
    window: int | None,
    bound: float | None,
) -> Watched:
    architecture, backend = tape.architecture, tape.backend
    count = len(architecture.stack)
    lengths: list[list[Lengths]] = [[] for _ in range(count)]
    flat: list[tuple[Array, ...] | None] = [None] * count

    def watch(k: int, reached: Reached) -> None:
        lengths[k].append(lengths_of(backend, reached.dh))
        if bound is not None:
            layer = tape.layers[k]
            x = layer.x[reached.steps, ...]
            found = saturated(backend, architecture.cell, layer.weights, x, reached, bound)
            before = flat[k]
            if before is not None and found is not None:
                found = tuple([a + b for a, b in zip(before, found, strict=True)])
            flat[k] = found

    gradient = backward(
        parameters,
        tape,
        d_output,
        d_state,
        window,
        parameters_only=True,
        of_weights=bound is not None,
        watch=watch,
    )
    counts = [part for parts in flat if parts is not None for part in parts]
    together = None
    if counts:
        xp = backend.xp
        together = xp.reshape(xp.stack(counts) if len(counts) > 1 else counts[0], (count, -1))
    return Watched(gradient.parameters, _in_order(tape, lengths), together)


def _in_order(tape: NetworkTape, lengths: list[list[Lengths]]) -> tuple[Lengths, ...]:
    """Return the lengths of all steps; those of the segments have the last one first."""
    xp, stack = tape.backend.xp, tape.architecture.stack
    if len(stack) == len(lengths[0]) == 1:
        return (lengths[0][0],)

    def whole(parts: list[Array], *, reverse: bool) -> Array:
        a = parts[0] if len(parts) == 1 else xp.concat(parts[::-1])
        return xp.flip(a, axis=0) if reverse else a

    together = []
    for direction, segments in zip(stack, lengths, strict=True):
        scales = [part.scale for part in segments if part.scale is not None]
        squares = whole([part.squares for part in segments], reverse=direction.reverse)
        scale = whole(scales, reverse=direction.reverse) if scales else None
        together.append(Lengths(squares, scale))
    return tuple(together)


def lengths_of(backend: Backend, a: Array) -> Lengths:
    """Return the lengths of the vectors along the last axis."""
    xp = backend.xp
    if backend.dtype_name != "float64" and backend.has_float64:
        # No square of a narrower float overflows or vanishes there.
        return Lengths(backend.library.wide_squares_along(a), None)
    if backend.dtype_name in HALVES:
        a = xp.astype(a, xp.float32)
    scale = xp.max(xp.abs(a), axis=-1)
    divisor = xp.where(scale > 0, scale, xp.ones_like(scale))
    a = a / divisor[..., None]
    return Lengths(backend.library.squares_along(a), scale)
