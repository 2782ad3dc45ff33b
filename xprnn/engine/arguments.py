"""Checks of what goes into a pass of a network or a layer: input, state, lengths, window.

The arguments of a network's constructor are checked in `xprnn.engine.architecture`.
"""

from collections.abc import Sequence

from xprnn import checks
from xprnn.backend import Backend
from xprnn.backend.types import Array
from xprnn.cells import Arrays, Cell
from xprnn.engine.architecture import Architecture
from xprnn.engine.existing import check_existing, existing_steps, fill_missing


def check_inputs(
    architecture: Architecture,
    backend: Backend,
    x: Array,
    state: Arrays | None,
    lengths: Sequence[int] | None,
    mask: Array | None = None,
) -> tuple[Array, Arrays, Array | None]:
    """Return a network's input, initial state and padding mask.

    They are known to fit the network and to be finite; the input's padding is filled.
    """
    backend.library.warn_of_graph("x", x)
    valid = None
    if lengths is not None or mask is not None:
        x, valid = without_padding("x", x, backend, lengths, mask)
    check = check_input if architecture.embedding_size is None else check_tokens
    x = check("x", x, backend, architecture.input_size)
    if x.ndim == 3:
        checks.finite("x", x, backend)
    batch = x.shape[1]
    cell, shape = architecture.cell, architecture.state_shape(batch)
    if state is None:
        return x, zero_state(backend, cell, shape), valid
    state = check_state("state", state, backend, cell, shape)
    for k, part in enumerate(state):
        checks.finite(f"state[{k}]", part, backend)
    return x, state, valid


def without_padding(
    name: str,
    x: Array,
    backend: Backend,
    lengths: Sequence[int] | None,
    mask: Array | None = None,
) -> tuple[Array, Array | None]:
    """Return an input with its padding filled, and the padding mask, None if there is no padding.

    Before the input's values are checked, because those in the padding don't count.  An input of
    another form is returned unchanged, for the check of the input to refuse.
    """
    checks.of_backend(name, x, backend)
    if x.ndim not in (2, 3):
        return x, None
    steps, batch = x.shape[:2]
    existing = check_existing(lengths, mask, steps, batch, backend)
    valid = existing_steps(backend, existing, steps)
    return fill_missing(backend, existing, valid, backend.library.plain(x)), valid


def zero_state(backend: Backend, cell: Cell, shape: tuple[int, ...]) -> Arrays:
    """Return a state of zeros."""
    zeros = backend.library.zeros(shape, backend.dtype, backend.device)
    return (zeros,) * len(cell.state)


def check_state(
    name: str, state: object, backend: Backend, cell: Cell, shape: tuple[int, ...]
) -> Arrays:
    """Return a state, known to have every state variable of the cell in the right shape."""
    wanted = f"({', '.join(cell.state)}{',' if len(cell.state) == 1 else ''})"
    if not isinstance(state, tuple | list):
        raise TypeError(
            f"{name} is of type {type(state).__name__}: expected a tuple {wanted}, "
            f"each of shape {shape}"
        )
    if len(state) != len(cell.state):
        raise ValueError(
            f"{name} has {len(state)} arrays: expected {wanted}, each of shape {shape}"
        )
    return tuple(checks.array(f"{name}[{k}]", part, backend, shape) for k, part in enumerate(state))


def check_input(name: str, x: Array, backend: Backend, size: int) -> Array:
    """Return an input, known to be (T, B, size), or (T, B) of integers below size."""
    if getattr(x, "ndim", None) == 2 and checks.is_integer(x, backend):
        return checks.tokens(name, x, backend, ("T", "B"), size)
    return checks.array(name, x, backend, ("T", "B", size))


def check_tokens(name: str, x: Array, backend: Backend, size: int) -> Array:
    """Return an input, known to be (T, B) of integers below size."""
    return checks.tokens(name, x, backend, ("T", "B"), size)


def check_window(window: int | None) -> int | None:
    """Return a window, known to be None or an integer of at least zero."""
    if window is None:
        return None
    if isinstance(window, bool) or not hasattr(window, "__index__"):
        raise TypeError(f"window is {window!r}: expected an int, or None for no truncation")
    if window < 0:
        raise ValueError(f"window is {window}: expected 0 or more steps, or None")
    return int(window)


def check_recompute(recompute: bool, window: int | None) -> bool:
    """Return whether to recompute, known to be a bool, and not to be combined with a window."""
    if checks.boolean("recompute", recompute) and window is not None:
        raise ValueError(
            f"recompute is True, and window is {window}: a window's sweeps go over all steps at "
            "once, and need the whole tape; expected one of the two"
        )
    return recompute


def check_tape_for_window(name: str, recomputes: bool, window: int | None) -> None:
    """Refuse a window if the tape leaves segments to be recomputed."""
    if recomputes and window is not None:
        raise ValueError(
            f"window is {window}, and {name} was made with recompute=True: a window's sweeps go "
            "over all steps at once, and need the whole tape; expected recompute=False or no window"
        )
