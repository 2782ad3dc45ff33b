"""The interface of a cell."""

from typing import Protocol, TypeAlias, runtime_checkable

from xprnn.backend.types import Array, Namespace

Arrays: TypeAlias = tuple[Array, ...]

Gradients: TypeAlias = tuple[
    tuple[Array | None, ...], tuple[Array | None, ...], tuple[Array | None, ...]
]
"""Of u, of v and of the previous state; None is zero, where a method says that it may be."""


@runtime_checkable
class Cell(Protocol):
    """A recurrent cell: two elementwise formulas, without products, time or parameters.

    The engine computes u(t) = W x(t) + b and v(t) = U h(t-1), passes both in blocks, one per gate,
    and does everything else.  A cell uses only functions of the array API standard and never writes
    into an argument.

    Shapes: every array is (B, H), or (T, B, H) where the engine needs all steps at once; a cell is
    elementwise, so it need not know which.

    Attributes
    ----------
    gates : int
        G, the number of blocks in W, U and b.
    state : tuple of str
        ``("h",)`` or ``("h", "c")``; h, the output, which U multiplies, comes first.

    Notes
    -----
    A cell may have seven more attributes:

    ``units``, a tuple of str, names *per-unit parameters*, (H,) each, such as the peepholes of an
    LSTM.  `forward` gets them after the G blocks of v, `backward` after the saved arrays.
    `backward` returns their gradients after the G blocks of dv, in the same shape as those; the
    engine sums them over steps and sequences.  A per-unit parameter whose name begins with ``bias``
    is zero in a network without biases.

    ``layer_norm``, a bool, says whether both projections are normalised (see `LSTM`).

    ``initial_bias``, a tuple of G floats, is added to the gates' biases when a network is made.

    ``retention``, a tuple of G integers, says what an open gate does: 1, it keeps the state; -1, it
    lets something new in; 0, neither.  `xprnn.initializers.Chrono` reads it.

    ``unit_ranges``, a tuple of pairs of floats, are the bounds between which the initial values of
    the per-unit parameters are drawn, in the order of ``units``, by the initializer ``uniform``.

    ``recurrent_matrix``, a bool: False says that the cell does not read v(t), as in `MinGRU` and
    `IndRNN`.  Its layers have no U: no parameter and no product within a step.  `forward` gets the
    per-unit parameters alone as v, and `backward` returns their gradients alone as dv.

    ``second_product``, an integer k from 1 to G-1, says that the last k blocks of v are products of
    U with another operand than h(t-1), which the cell computes from the others (see
    `GRUResetBefore`).  Such a cell has two more methods:

    ``operand(xp, u, v, state)`` returns that operand, (B, H).  v has the first G-k blocks, and the
    per-unit parameters after them.

    ``operand_backward(xp, saved, previous, d_operand)`` returns what the gradient of the operand
    adds to those of u (G blocks), of v (G-k blocks, then the per-unit parameters) and of the
    previous state.  None stands for zero, also in what `backward` returns.
    """

    @property
    def gates(self) -> int: ...

    @property
    def state(self) -> tuple[str, ...]: ...

    def forward(self, xp: Namespace, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        """Return the new state, and the arrays that `backward` will need from this step."""
        ...

    def backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_state: Arrays
    ) -> tuple[Arrays, Arrays, tuple[Array | None, ...]]:
        """Return the gradients of u, of v and of the previous state.

        A cell whose gradients of u and v are equal returns the same tuple for both, and the engine
        stores it once.  The engine adds the path of h(t-1) through U, so the gradient of the
        previous state is that of the elementwise paths only; None if there is no such path.
        """
        ...


def unit_names(cell: Cell) -> tuple[str, ...]:
    """Return the names of a cell's per-unit parameters."""
    names: tuple[str, ...] = getattr(cell, "units", ())
    return names


def has_recurrent_matrix(cell: Cell) -> bool:
    """Return whether a cell's layers have a recurrent matrix U, or the cell does not read v."""
    return bool(getattr(cell, "recurrent_matrix", True))


def recurrent_blocks(cell: Cell) -> int:
    """Return the number of blocks in U and v: G, or 0 for a cell that does not read v."""
    return cell.gates if has_recurrent_matrix(cell) else 0


def has_layer_norm(cell: Cell) -> bool:
    """Return whether a cell's projections are normalised."""
    return bool(getattr(cell, "layer_norm", False))


def initial_bias(cell: Cell) -> tuple[float, ...]:
    """Return what is added to each gate's bias when a network is made."""
    added: tuple[float, ...] = getattr(cell, "initial_bias", (0.0,) * cell.gates)
    return added


def second_product(cell: Cell) -> int:
    """Return how many of the last blocks of v come from a second product; 0 if there is none."""
    blocks: int = getattr(cell, "second_product", 0)
    return blocks


def retention(cell: Cell) -> tuple[int, ...]:
    """Return for each gate: 1 if it keeps the state, -1 if it lets something new in, else 0."""
    signs: tuple[int, ...] = getattr(cell, "retention", (0,) * cell.gates)
    return signs


def unit_ranges(cell: Cell) -> tuple[tuple[float, float], ...] | None:
    """Return the bounds of the per-unit parameters' initial values; None: as other parameters."""
    ranges: tuple[tuple[float, float], ...] | None = getattr(cell, "unit_ranges", None)
    return ranges
