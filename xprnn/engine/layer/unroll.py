"""Backpropagation through time for one layer in one direction: the functional core.

For users who compose networks themselves, with parameters shared by two unrolls, say, and gradients
added by hand.  The computation is in `xprnn.engine.layer.layer`; here the arguments are checked.
"""

from collections.abc import Sequence

from xprnn import checks
from xprnn.backend import Backend, backend_of, describe, get_backend
from xprnn.backend.entry import entry
from xprnn.backend.types import Array
from xprnn.cells import (
    Arrays,
    Cell,
    get_cell,
    has_layer_norm,
    has_recurrent_matrix,
    unit_names,
)
from xprnn.engine.arguments import (
    check_input,
    check_recompute,
    check_state,
    check_tape_for_window,
    check_window,
    without_padding,
    zero_state,
)
from xprnn.engine.gradients import trimmed
from xprnn.engine.layer.layer import (
    Tape,
    Unrolled,
    run_layer,
    run_layer_backward,
    run_layer_windowed,
)
from xprnn.engine.layer.weights import LayerGradient, Weights, check_same_weights
from xprnn.engine.loop.lowering import compiled


@entry
def unroll(
    cell: str | Cell,
    weights: Weights | tuple[Array, ...],
    x: Array,
    state: Arrays | None = None,
    *,
    lengths: Sequence[int] | None = None,
    mask: Array | None = None,
    backend: Backend | None = None,
    recompute: bool = False,
) -> Unrolled:
    """Run one layer, in one direction, over a batch of sequences.

    Parameters
    ----------
    cell : str or Cell
    weights : Weights or tuple
        ``(W, U)`` or ``(W, U, b)``, shapes (G·H, I), (G·H, H) and (G·H,); cells with per-unit
        parameters or layer normalisation take more, and cells without U take None for it; see
        `xprnn.Weights`.
    x : array, (T, B, I), or of integers, (T, B)
        An integer stands for the one-hot vector of length I.
    state : tuple of array, (B, H) each, optional
        The initial state; None for zero.
    lengths : sequence of int, optional
        The number of steps of each sequence: on the host, from 0 to T.  In the padding after them
        the state is held and h is zero.  None: every sequence has T steps.
    mask : array of bool, (T, B), optional
        Which steps exist, instead of lengths, with padding anywhere: see `xprnn.RNN`.
    backend : Backend, optional
        None: the backend of ``weights.W``, in its dtype.
    recompute : bool
        Gradient checkpointing, for long sequences: the tape holds the states at a few borders, and
        `unroll_backward` computes the steps between them a second time.  The gradients are the same
        to the bit (on a CUDA device to rounding), and the tape's memory grows with √T.  If ``x`` or
        the weights change before `unroll_backward`, a segment ends in another state, and a
        ValueError is raised.

    Returns
    -------
    h : array, (T, B, H)
        NumPy's may be a part of the tape, and is read-only then.
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
    recompute = check_recompute(recompute, None)
    backend, weights = _check_weights(cell, weights, backend)
    gates_hidden, inputs = weights.W.shape
    hidden = gates_hidden // cell.gates
    backend.library.warn_of_graph("x", x)
    valid = None
    if lengths is not None or mask is not None:
        x, valid = without_padding("x", x, backend, lengths, mask)
    x = check_input("x", x, backend, inputs)
    batch = x.shape[1]
    if state is None:
        state = zero_state(backend, cell, (batch, hidden))
    else:
        state = check_state("state", state, backend, cell, (batch, hidden))
    run = compiled(backend, cell, run_layer, "backend", "cell", "save", "recompute")
    unrolled: Unrolled = run(backend, cell, weights, x, state, valid=valid, recompute=recompute)
    h, state, tape = unrolled
    library = backend.library
    h = library.protected(h) if tape.shares_h else h
    return Unrolled(h, tuple(map(library.copy, state)), tape)


@entry
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
        The cell that made the tape.
    weights : Weights or tuple
        The weights that made the tape.
    tape : Tape
    dh : array, (T, B, H), or None
        The gradient of each step's h; None for zero.
    d_state : tuple of array, (B, H) each, optional
        The gradient of the final state; None for zero.
    window : int, optional
        Every step's loss reaches back through exactly this many steps before it.  None: all the
        way.

    Returns
    -------
    LayerGradient

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, backend, dtype, rank or size; if there is a window, and
        the tape was made with ``recompute=True``; or if a recomputed segment ends in another state
        than in the forward pass.
    """
    cell = get_cell(cell)
    if not isinstance(tape, Tape):
        raise TypeError(f"tape is {type(tape).__name__}: expected the tape that unroll returned")
    backend, weights = _check_weights(cell, weights, tape.backend)
    steps, batch = tape.x.shape[:2]
    hidden = tape.recurrent.U.shape[1]
    if weights.U is not None:
        checks.of_shape("weights.U", weights.U, (cell.gates * hidden, hidden))
    checks.of_shape(
        "weights.W", weights.W, (cell.gates * hidden, "I" if tape.x.ndim == 2 else tape.x.shape[2])
    )
    check_same_weights("tape", _named(tape.weights), _named(weights))
    if dh is not None:
        dh = checks.array("dh", dh, backend, (steps, batch, hidden))
    if d_state is None:
        d_state = zero_state(backend, cell, (batch, hidden))
    else:
        d_state = check_state("d_state", d_state, backend, cell, (batch, hidden))
    window = check_window(window)
    check_tape_for_window("tape", tape.recomputes, window)
    if window is None or window >= steps - 1:
        back = compiled(backend, cell, run_layer_backward, "cell")
        gradient: LayerGradient = back(cell, weights, tape, dh, d_state)
    else:
        back = compiled(backend, cell, run_layer_windowed, "cell", "window")
        gradient = back(cell, weights, tape, dh, d_state, window)
    return gradient if backend.library.fused is None else _trimmed(gradient)


def _trimmed(gradient: LayerGradient) -> LayerGradient:
    """Return the gradient with the rows or columns of W that were seen and nothing else."""
    return gradient._replace(weights=gradient.weights._replace(W=trimmed(gradient.weights.W)))


def _named(weights: Weights) -> dict[str, Array | None]:
    """Return the arrays of a layer's weights by name."""
    named = {"W": weights.W, "U": weights.U, "b": weights.b}
    named |= {f"units[{k}]": part for k, part in enumerate(weights.units)}
    return named | {f"gains[{k}]": part for k, part in enumerate(weights.gains)}


def _check_weights(cell: Cell, weights: object, backend: Backend | None) -> tuple[Backend, Weights]:
    """Return the backend and the weights, known to be the cell's, of the backend, and to fit."""
    if not isinstance(weights, tuple | list) or not 2 <= len(weights) <= 5:
        raise TypeError(f"weights is {type(weights).__name__}: expected (W, U) or (W, U, b)")
    given = Weights(*weights)
    backend = backend_of(given.W) if backend is None else get_backend(backend)
    U = _recurrent_matrix(cell, given, backend)
    hidden = checks.array("weights.W", given.W, backend, ("G·H", "I")).shape[0] // cell.gates
    if U is not None:
        hidden = U.shape[1]
    rows = cell.gates * hidden
    names = unit_names(cell)
    if len(given.units) != len(names) and (given.units or not _are_biases(names)):
        raise ValueError(
            f"weights.units has {len(given.units)} arrays: expected ({', '.join(names)}), "
            f"({hidden},) each"
        )
    gains = 2 if has_layer_norm(cell) else 0
    if len(given.gains) != gains:
        raise ValueError(
            f"weights.gains has {len(given.gains)} arrays: expected {gains}, ({rows},) each"
        )
    return backend, Weights(
        checks.array("weights.W", given.W, backend, (rows, "I")),
        None if U is None else checks.array("weights.U", U, backend, (rows, hidden)),
        None if given.b is None else checks.array("weights.b", given.b, backend, (rows,)),
        tuple(
            None
            if part is None and _are_biases((name,))
            else checks.array(f"weights.units[{k}]", part, backend, (hidden,))
            for k, (name, part) in enumerate(zip(names, given.units, strict=False))
        ),
        tuple(
            checks.array(f"weights.gains[{k}]", part, backend, (rows,))
            for k, part in enumerate(given.gains)
        ),
    )


def _recurrent_matrix(cell: Cell, given: Weights, backend: Backend) -> Array | None:
    """Return U, which a cell has or has not."""
    if has_recurrent_matrix(cell):
        return checks.array("weights.U", given.U, backend, ("G·H", "H"))
    if given.U is not None:
        raise ValueError(
            f"weights.U is {describe(given.U)}: expected None, as {type(cell).__name__} does not "
            "read U h(t-1)"
        )
    return None


def _are_biases(names: tuple[str, ...]) -> bool:
    return all(name.startswith("bias") for name in names)
