"""The time loop for libraries that compile whole functions, in code that is being compiled.

The steps are those of the plain loop, `xprnn.engine.loop.plain`, which would be compiled one after
the other; here one step is compiled, as the body of a loop.  Numbers refer to the equations in
`xprnn.engine.loop.protocol`.  Within a step, (1) (2) (3) (4) and (6) (7) (8) (9) are functions of
the plain loop.
"""

from typing import Any, ClassVar

from xprnn.backend import Library
from xprnn.backend.types import Array
from xprnn.cells import Arrays, Cell
from xprnn.engine.loop.plain import held, index_of, step_back, step_forward
from xprnn.engine.loop.protocol import LoopGradient, Recurrent, Trajectory, Work


class ScanLoops:
    """The time loop of any cell, for `xprnn.backend.Library.scan`.

    Parameters
    ----------
    library : Library
    cell : Cell
    """

    name: ClassVar[str] = "scan"
    normalizes: ClassVar[bool] = True

    def __init__(self, library: Library, cell: Cell) -> None:
        self.library, self.cell = library, cell

    def suits(self, work: Work) -> bool:
        del work
        return True

    def describe(self) -> str:
        return "compiled with everything around it"

    def forward(self, u: Array, recurrent: Recurrent, state: Arrays, *, save: bool) -> Trajectory:
        xp, cell, U_T = self.library.namespace(), self.cell, recurrent.U.T
        twins: list[int | None] = []

        def body(state: Arrays, at: Any) -> tuple[Arrays, Any]:
            u, within = at
            state, saved, normalized = step_forward(xp, cell, recurrent, U_T, u, within, state)
            # As in the plain loop, what is saved twice is stored once.
            twins[:] = [index_of(part, state) for part in saved]
            kept = [part for part, twin in zip(saved, twins, strict=True) if twin is None]
            return state, (state, kept if save else None, normalized if save else None)

        _, (states, kept, normalized) = self.library.scan(body, state, (u, recurrent.valid))
        stacked = tuple(
            xp.concat((first[None, ...], rest), axis=0)
            for first, rest in zip(state, states, strict=True)
        )
        if not save:
            return Trajectory(stacked, ())
        parts = iter(kept)
        saved = [next(parts) if twin is None else stacked[twin][1:, ...] for twin in twins]
        return Trajectory(stacked, tuple(saved), normalized)

    def backward(
        self, recurrent: Recurrent, trajectory: Trajectory, dh: Array | None, d_state: Arrays
    ) -> LoopGradient:
        xp, cell = self.library.namespace(), self.cell
        previous = tuple([part[:-1, ...] for part in trajectory.states])
        same: list[bool] = []

        def body(carried: Any, at: Any) -> tuple[Any, Any]:
            d_state, totals, total = carried
            saved, before, normalized, within, r = at
            if r is not None:
                d_state = (d_state[0] + r, *d_state[1:])  # (5)
            step = step_back(xp, cell, recurrent, saved, before, normalized, within, d_state)
            d_before = step.state
            if within is not None:
                d_before = held(xp, within, d_before, d_state)  # (10)
            same[:] = [step.du is step.da]
            totals = tuple([a + b for a, b in zip(totals, step.units, strict=True)])
            total = None if step.gain is None else total + step.gain
            return (d_before, totals, total), (step.da, None if same[0] else step.du)

        zeros = xp.zeros_like(d_state[0])
        gain = recurrent.gain
        begun = (
            d_state,
            tuple([zeros for _ in recurrent.units]),
            None if gain is None else xp.zeros_like(gain) + zeros[:, :1],
        )
        each = (trajectory.saved, previous, trajectory.normalized, recurrent.valid, dh)
        found, (da, du) = self.library.scan(body, begun, each, reverse=True)
        d_initial, totals, total = found
        return LoopGradient(
            da if same[0] else du,
            da,
            tuple([xp.sum(part, axis=0) for part in totals]),  # (11)
            None if total is None else xp.sum(total, axis=0),
            d_initial,
        )
