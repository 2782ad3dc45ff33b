"""Backpropagation through time, for one layer in one direction.

Everything around the time loop: the input's projection before it, and the gradients of weights and
input after it, each one matrix product over all T·B steps::

    u = W x + b                                                       (1)
    h(t), ... = cell(u(t), U h(t-1), ...)                             (2)

    dW = Σ_t du(t) x(t)ᵀ     db = Σ_t du(t)     dx(t) = Wᵀ du(t)      from (1)
    dU = Σ_t dv(t) h(t-1)ᵀ                                            from (2)

with du and dv, the gradients of both arguments of the cell, from the reversed loop.
"""

from typing import NamedTuple

from xprnn import checks
from xprnn.backend import Backend, backend_of, get_backend
from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays, Cell, get_cell
from xprnn.formula import lowering_for
from xprnn.projection import project, project_backward
from xprnn.recurrence import Trajectory, run_backward, run_forward
from xprnn.truncation import run_backward_windowed


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


class Tape(NamedTuple):
    """What `unroll_backward` needs of an `unroll`.

    Attributes
    ----------
    backend : Backend
    x : array, (T, B, I), or of integers, (T, B)
    trajectory : Trajectory
    """

    backend: Backend
    x: Array
    trajectory: Trajectory


class LayerGradient(NamedTuple):
    """The gradients of one layer.

    Attributes
    ----------
    weights : Weights
        W's is a `SparseGradient` if the input was integers.
    x : array, (T, B, I), or None
        None if the input was integers.
    state : tuple of array, (B, H) each
        Of the initial state.
    """

    weights: Weights
    x: Array | None
    state: Arrays


class Unrolled(NamedTuple):
    """A layer, unrolled.

    Attributes
    ----------
    h : array, (T, B, H)
    state : tuple of array, (B, H) each
        The final state.
    tape : Tape
    """

    h: Array
    state: Arrays
    tape: Tape


def unroll(
    cell: str | Cell,
    weights: Weights | tuple[Array, ...],
    x: Array,
    state: Arrays | None = None,
    *,
    backend: Backend | None = None,
) -> Unrolled:
    """Run one layer, in one direction, over a batch of sequences.

    Parameters
    ----------
    cell : str or Cell
    weights : Weights
        ``(W, U)`` or ``(W, U, b)``, shapes (G·H, I), (G·H, H) and (G·H,).
    x : array, (T, B, I), or of integers, (T, B)
        An integer stands for the one-hot vector of length I.
    state : tuple of array, (B, H) each, optional
        The initial state; None for zero.
    backend : Backend, optional
        None: the backend of ``weights.W``, in its dtype.

    Returns
    -------
    h : array, (T, B, H)
    state : tuple of array, (B, H) each
    tape : Tape
        For `unroll_backward`.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, backend, dtype, rank or size.

    Examples
    --------
    Count the ones of a binary sequence with a linear layer whose two weights are one:

    >>> import numpy as np, xprnn
    >>> one = np.ones((1, 1))
    >>> x = np.array([1.0, 0, 1, 1]).reshape(4, 1, 1)
    >>> h, _, _ = unroll(xprnn.cells.Elman("identity"), (one, one), x)
    >>> h.ravel()
    array([1., 1., 2., 3.])
    """
    cell = get_cell(cell)
    backend, weights = _check_weights(cell, weights, backend)
    gates_hidden, inputs = weights.W.shape
    hidden = gates_hidden // cell.gates
    x = check_input("x", x, backend, inputs)
    batch = x.shape[1]
    if state is None:
        state = zero_state(backend, cell, (batch, hidden))
    else:
        state = check_state("state", state, backend, cell, (batch, hidden))
    return run_layer(backend, cell, weights, x, state)


def unroll_backward(
    cell: str | Cell,
    weights: Weights | tuple[Array, ...],
    tape: Tape,
    dh: Array | None,
    d_state: Arrays | None = None,
    *,
    window: int | None = None,
) -> LayerGradient:
    """Propagate gradients back through an unrolled layer.

    Parameters
    ----------
    cell : str or Cell
        The one that made the tape.
    weights : Weights
        Those that made the tape.
    tape : Tape
    dh : array, (T, B, H), or None
        The gradient of each step's h; None for zero.
    d_state : tuple of array, (B, H) each, optional
        The gradient of the final state; None for zero.
    window : int, optional
        Every step's loss reaches back through exactly this many steps before it.  None: all.

    Returns
    -------
    LayerGradient

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, backend, dtype, rank or size.
    """
    cell = get_cell(cell)
    if not isinstance(tape, Tape):
        raise TypeError(f"tape is {type(tape).__name__}: expected the tape that unroll returned")
    backend, weights = _check_weights(cell, weights, tape.backend)
    steps, batch = tape.x.shape[:2]
    hidden = tape.trajectory.states[0].shape[2]
    checks.fit("weights.U", weights.U, (cell.gates * hidden, hidden))
    checks.fit(
        "weights.W", weights.W, (cell.gates * hidden, "I" if tape.x.ndim == 2 else tape.x.shape[2])
    )
    if dh is not None:
        dh = checks.array("dh", dh, backend, (steps, batch, hidden))
    if d_state is None:
        d_state = zero_state(backend, cell, (batch, hidden))
    else:
        d_state = check_state("d_state", d_state, backend, cell, (batch, hidden))
    return run_layer_backward(cell, weights, tape, dh, d_state, check_window(window))


def run_layer(
    backend: Backend, cell: Cell, weights: Weights, x: Array, state: Arrays, *, save: bool = True
) -> Unrolled:
    """`unroll`, its arguments known to be right; without ``save`` the tape can't be used."""
    xp, steps = backend.xp, x.shape[0]
    u = project(xp, weights.W, weights.b, x)
    lowered = lowering_for(backend, cell)
    if lowered is None:
        trajectory = run_forward(xp, cell, u, weights.U, state, save=save)
    else:
        trajectory = Trajectory(*lowered.forward(u, weights.U, (), state, save=save))
    return Unrolled(
        trajectory.states[0][1:, ...],
        tuple(part[steps, ...] for part in trajectory.states),
        Tape(backend, x, trajectory),
    )


def run_layer_backward(
    cell: Cell,
    weights: Weights,
    tape: Tape,
    dh: Array | None,
    d_state: Arrays,
    window: int | None = None,
) -> LayerGradient:
    """`unroll_backward`, its arguments known to be right."""
    xp, steps = tape.backend.xp, tape.x.shape[0]
    if window is None or window >= steps - 1:
        lowered = lowering_for(tape.backend, cell)
        if lowered is None:
            du, dv, d_initial = run_backward(xp, cell, weights.U, tape.trajectory, dh, d_state)
        else:
            du, dv, _, d_initial = lowered.backward(weights.U, (), *tape.trajectory, dh, d_state)
    else:
        du, dv, d_initial = run_backward_windowed(
            xp, cell, weights.U, tape.trajectory, dh, d_state, window
        )
    projection = project_backward(xp, weights.W, weights.b, tape.x, du)
    dv_rows = _rows(xp, dv)
    h_previous = _rows(xp, tape.trajectory.states[0][:-1, ...])
    dU = xp.matrix_transpose(dv_rows) @ h_previous
    return LayerGradient(Weights(projection.W, dU, projection.b), projection.x, d_initial)


def zero_state(backend: Backend, cell: Cell, shape: tuple[int, ...]) -> Arrays:
    """Return zeros for every state variable."""
    zeros = backend.xp.zeros(shape, dtype=backend.dtype, device=backend.device)
    return (zeros,) * len(cell.state)


def check_state(
    name: str, state: object, backend: Backend, cell: Cell, shape: tuple[int, ...]
) -> Arrays:
    """Return a state, known to have every variable of the cell in the right shape."""
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
    """Return an input, known to be (T, B, size), or (T, B) of integers below ``size``, T ≥ 1."""
    if checks.is_integer(x, backend) and x.ndim == 2:
        x = checks.tokens(name, x, backend, ("T", "B"), size)
    else:
        x = checks.array(name, x, backend, ("T", "B", size))
    if x.shape[0] == 0:
        raise ValueError(f"{name} has shape {tuple(x.shape)}: expected at least one step (T ≥ 1)")
    return x


def check_window(window: int | None) -> int | None:
    """Return a window, known to be None or an integer of at least zero."""
    if window is None:
        return None
    if isinstance(window, bool) or not hasattr(window, "__index__"):
        raise TypeError(f"window is {window!r}: expected an int, or None for no truncation")
    if window < 0:
        raise ValueError(f"window is {window}: expected 0 or more steps, or None")
    return int(window)


def _check_weights(cell: Cell, weights: object, backend: Backend | None) -> tuple[Backend, Weights]:
    if not isinstance(weights, tuple | list) or len(weights) not in (2, 3):
        raise TypeError(f"weights is {type(weights).__name__}: expected (W, U) or (W, U, b)")
    given = Weights(*weights)
    backend = backend_of(given.W) if backend is None else get_backend(backend)
    U = checks.array("weights.U", given.U, backend, ("G·H", "H"))
    rows = cell.gates * U.shape[1]
    return backend, Weights(
        checks.array("weights.W", given.W, backend, (rows, "I")),
        checks.array("weights.U", U, backend, (rows, U.shape[1])),
        None if given.b is None else checks.array("weights.b", given.b, backend, (rows,)),
    )


def _rows(xp: Namespace, a: Array) -> Array:
    """Merge time and batch."""
    return xp.reshape(a, (a.shape[0] * a.shape[1], a.shape[2]))
