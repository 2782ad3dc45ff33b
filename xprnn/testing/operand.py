"""The operand of a cell's second product as a cell of its own, so that one check serves both."""

from xprnn.backend.types import Namespace
from xprnn.cells import Arrays, Cell, Gradients, second_product, unit_names


class OperandCell:
    """A cell whose new h is another cell's operand, and whose `backward` its `operand_backward`.

    Parameters
    ----------
    cell : Cell
        One that has a second product.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell, self.gates, self.state = cell, cell.gates, cell.state
        self.units = unit_names(cell)
        self.first = cell.gates - second_product(cell)

    def __repr__(self) -> str:
        return f"{self.cell}, operand as forward and operand_backward as backward"

    def forward(self, xp: Namespace, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        known = (*v[: self.first], *v[self.gates :])
        operand = self.cell.operand(xp, u, known, state)  # type: ignore[attr-defined]
        _, saved = self.cell.forward(xp, u, v, state)
        return (operand, *map(xp.zeros_like, state[1:])), saved

    def backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_state: Arrays
    ) -> Gradients:
        d_operand = d_state[0]
        du, dv, d_previous = self.cell.operand_backward(  # type: ignore[attr-defined]
            xp, saved, previous, d_operand
        )
        zeros = xp.zeros_like(d_operand)
        dv = (*dv[: self.first], *[zeros] * (self.gates - self.first), *dv[self.first :])
        filled = [tuple([zeros if a is None else a for a in part]) for part in (du, dv)]
        return filled[0], filled[1], d_previous
