"""The second product within a step, of a cell that declares one (`Cell`, ``second_product``).

Such a cell computes, from the blocks of the first product, an operand o(t) that takes the place of
h(t-1) in the second one.  With U₁ the rows of U of the first G - k blocks and U₂ those of the last
k, (2) of `xprnn.engine.loop.protocol` becomes::

    a₁(t) = U₁ g(t)                                           (2a)
    o(t)  = m cell.operand(u(t), a₁(t), s(t-1))               (2b)
    a₂(t) = U₂ o(t)                                           (2c)

and on the way back, (8) becomes::

    do(t) = m U₂ᵀ da₂(t)                                      (8a)  from (2c), (2b)
            du(t), da₁(t), direct ds(t-1) += cell.operand_backward(do(t))
                                                              (8b)  from (2b)
    dg(t) = U₁ᵀ da₁(t)                                        (8c)  from (2a)

o(t) is the last of the arrays that a step saves: the cell does not see it in `backward`, and dU₂ is
Σ da₂(t) o(t)ᵀ.
"""

from xprnn.backend import library_of
from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays, Cell, Gradients, second_product
from xprnn.engine.loop.protocol import Recurrent


def first_rows(cell: Cell, U: Array) -> int:
    """Return the number of rows of U₁; all of them if there is no second product."""
    rows: int = U.shape[0] - second_product(cell) * U.shape[1]
    return rows


def two_products(
    xp: Namespace,
    cell: Cell,
    recurrent: Recurrent,
    U_T: Array,
    u: Arrays,
    g: Array,
    state: Arrays,
) -> tuple[Array, Array]:
    """Return a(t) and o(t): (2a), (2b), (2c)."""
    hidden, rows = U_T.shape[0], first_rows(cell, recurrent.U)
    a = g @ U_T[:, :rows]  # (2a)
    v = tuple([a[..., k : k + hidden] for k in range(0, rows, hidden)])
    operand = cell.operand(xp, u, (*v, *recurrent.units), state)  # type: ignore[attr-defined]
    if recurrent.mask is not None:
        operand = operand * recurrent.mask  # (2b)
    return xp.concat((a, operand @ U_T[:, rows:]), axis=-1), operand  # (2c)


def through_operand(
    xp: Namespace,
    cell: Cell,
    recurrent: Recurrent,
    saved: Arrays,
    previous: Arrays,
    gradients: Gradients,
) -> Gradients:
    """Add to the gradients that `backward` returned those that pass through o(t): (8a), (8b).

    Arrays are those of one step, (B, ...), or of all, (T, B, ...).

    Parameters
    ----------
    saved : tuple of array
        Those of the cell, without o(t).
    """
    du, dv, d_previous = gradients
    first, gates = cell.gates - second_product(cell), cell.gates
    da_2 = xp.concat(dv[first:gates], axis=-1) if gates - first > 1 else dv[first]
    do = operand_gradient(xp, cell, recurrent, da_2)  # (8a)
    du_1, dv_1, d_previous_1 = operand_backward(xp, cell, recurrent, saved, previous, do)
    du, dv = (
        tuple(map(plus, du, du_1)),
        (
            *map(plus, dv[:first], dv_1[:first]),
            *dv[first:gates],
            *map(plus, dv[gates:], dv_1[first:]),
        ),
    )
    zeros = xp.zeros_like(do)
    return (
        tuple([zeros if part is None else part for part in du]),
        tuple([zeros if part is None else part for part in dv]),
        tuple(map(plus, d_previous, d_previous_1)),
    )  # (8b)


def operand_gradient(xp: Namespace, cell: Cell, recurrent: Recurrent, da_2: Array) -> Array:
    """Return do of one step, or of all, as one product: (8a)."""
    do = product(xp, da_2, recurrent.U[first_rows(cell, recurrent.U) :, :])
    return do if recurrent.mask is None else do * recurrent.mask


def operand_backward(
    xp: Namespace,
    cell: Cell,
    recurrent: Recurrent,
    saved: Arrays,
    previous: Arrays,
    do: Array,
) -> Gradients:
    """Call the cell's derivative of its operand."""
    kept = (*saved, *recurrent.units)
    found: Gradients = cell.operand_backward(xp, kept, previous, do)  # type: ignore[attr-defined]
    return found


def plus(a: Array | None, b: Array | None) -> Array | None:
    """Return the sum of two gradients; None is zero."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


def product(xp: Namespace, a: Array, U: Array) -> Array:
    """Return Uᵀ a for every row of (B, K) or (T, B, K), as one product."""
    if a.ndim == 2:
        return a @ U
    library = library_of(U)
    return xp.reshape(library.product(library.rows(a), U), (*a.shape[:-1], U.shape[1]))
