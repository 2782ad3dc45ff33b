"""The time loop on CuPy: one product and one kernel a step, each way.

All arrays are made before the loop begins: kernels and products write straight into the tape, and
nothing in the loop waits for the device.  The cost of a step is that of its launches, so there are
two: the product, and one kernel for all that is elementwise, recurrent dropout and the padding mask
included (`xprnn.engine.loop.cuda.source`).

Numbers refer to the equations in `xprnn.engine.loop.protocol`.
"""

from typing import Any, ClassVar

from xprnn.backend import dtype_name, library_of
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.loop.cuda.cell import KernelSource, Variant, needs_carry
from xprnn.engine.loop.cuda.source import backward_source, forward_source
from xprnn.engine.loop.program import BOOL, Program, pruned
from xprnn.engine.loop.protocol import LoopGradient, Recurrent, Trajectory, Work
from xprnn.engine.loop.results import saved_places
from xprnn.engine.loop.trace import Formulas

THREADS = 128
"""Per block: few enough that the work of a small layer is spread over the device."""

ROWS = 65535
"""The largest second axis of a grid that CUDA allows; a thread takes more sequences in turns."""


class CuPyLoops:
    """A cell's time loop in CUDA kernels."""

    name: ClassVar[str] = "cupy"

    def __init__(self, formulas: Formulas) -> None:
        self.formulas = formulas
        program = formulas.forward
        self.without_tape = pruned(Program(program.nodes, {**program.outputs, "saved": ()}))
        # Two threads may both write a source, and then either may stay.
        self._sources: dict[tuple[Any, ...], KernelSource] = {}

    def suits(self, work: Work) -> bool:
        return work.batch > 0

    def describe(self) -> str:
        return "lowered to CUDA kernels, one a step each way"

    def forward_kernel(self, variant: Variant, *, save: bool) -> KernelSource:
        """Return the kernel of a forward step."""
        key = ("forward", variant, save)
        if key not in self._sources:
            program = self.formulas.forward if save else self.without_tape
            self._sources[key] = forward_source(program, self.formulas.gates, variant)
        return self._sources[key]

    def backward_kernel(self, variant: Variant, *, outer: bool) -> KernelSource:
        """Return the kernel of a backward step.  Without ``outer``, dh is None."""
        key = ("backward", variant, outer)
        if key not in self._sources:
            program, gates = self.formulas.backward, self.formulas.gates
            self._sources[key] = backward_source(program, gates, variant, outer=outer)
        return self._sources[key]

    def forward(self, u: Array, recurrent: Recurrent, state: Arrays, *, save: bool) -> Trajectory:
        U, units, _, mask, valid = recurrent
        steps, batch, rows = u.shape
        hidden = U.shape[1]
        library = library_of(u)
        device, xp, make = library.kernels(), library.namespace(), _Maker(u)
        variant = Variant(dtype_name(u.dtype), mask is not None, valid is not None)
        source = self.forward_kernel(variant, save=save)
        launch = device.compiled(source.name, source.text)
        program = self.formulas.forward
        with device.on_device_of(u):
            states = tuple(make.empty(steps + 1, batch, hidden) for _ in state)
            for whole, first in zip(states, state, strict=True):
                whole[0, ...] = first
            arrays = {"u": u, "v": make.empty(batch, rows), "mask": mask, "valid": valid}
            arrays |= {f"unit{k}": unit for k, unit in enumerate(units)}
            arrays = {k: device.contiguous(a) for k, a in arrays.items() if a is not None}
            arrays |= {f"states{k}": whole for k, whole in enumerate(states)}
            saved: list[Array] = []
            for where, k in saved_places(program) if save else ():
                if where == "before":
                    saved.append(states[k][:-1, ...])
                elif where == "after":
                    saved.append(states[k][1:, ...])
                elif k < len(saved):
                    saved.append(saved[k])
                else:
                    kind = program.nodes[program.outputs["saved"][k] or 0].kind
                    dtype = xp.bool if kind == BOOL else u.dtype
                    saved.append(make.empty(steps, batch, hidden, dtype=dtype))
                    arrays[f"saved{k}"] = saved[k]
            if "masked" in source.arguments:
                arrays["masked"] = make.empty(batch, hidden)
                arrays["masked"][...] = state[0] * mask  # (1), of the first step
            pointers = tuple(arrays[name] for name in source.arguments)
            left, right, out = arrays.get("masked"), device.contiguous(U).T, arrays["v"]
            grid, block = _geometry(batch, hidden)
            multiplies = "v" in source.arguments
            for t in range(steps if batch else 0):
                if multiplies:
                    device.product(states[0][t] if left is None else left, right, out)  # (2)
                launch(grid, block, (t, steps, batch, hidden, *pointers))
        return Trajectory(states, tuple(saved))

    def backward(
        self, recurrent: Recurrent, trajectory: Trajectory, dh: Array | None, d_state: Arrays
    ) -> LoopGradient:
        U, units, _, mask, valid = recurrent
        states, saved, _ = trajectory
        rows, hidden = U.shape
        steps, batch = states[0].shape[0] - 1, states[0].shape[1]
        library = library_of(U)
        device, xp, make = library.kernels(), library.namespace(), _Maker(U)
        variant = Variant(dtype_name(U.dtype), mask is not None, valid is not None)
        source = self.backward_kernel(variant, outer=dh is not None)
        launch = device.compiled(source.name, source.text)
        with device.on_device_of(U):
            U = device.contiguous(U)
            arrays = {"dh": dh, "mask": mask, "valid": valid}
            for name, group in (("unit", units), ("states", states), ("saved", saved)):
                arrays |= {f"{name}{k}": a for k, a in enumerate(group)}
            arrays = {k: device.contiguous(a) for k, a in arrays.items() if k in source.arguments}
            carried = tuple(make.empty(batch, hidden) for _ in d_state)
            for copy, given in zip(carried, d_state, strict=True):
                copy[...] = given
            # In float32 at least, because float16 is too coarse for sums over many steps.
            wide = xp.float64 if U.dtype == xp.float64 else xp.float32
            totals = tuple(make.zeros(batch, hidden, dtype=wide) for _ in units)
            through_U, dv = make.empty(batch, hidden), make.empty(steps, batch, rows)
            du = make.empty(steps, batch, rows) if "du" in source.arguments else dv
            arrays |= {"through_U": through_U, "dv": dv, "du": du}
            arrays |= {f"carry{k}": part for k, part in enumerate(carried)}
            arrays |= {f"total{k}": total for k, total in enumerate(totals)}
            pointers = tuple(arrays[name] for name in source.arguments)
            grid, block = _geometry(batch, hidden)
            for t in reversed(range(steps if batch else 0)):
                launch(grid, block, (t, steps, batch, hidden, *pointers))
                device.product(dv[t], U, through_U)  # (8)
            first = through_U if mask is None else through_U * mask  # (9), of the first step
            if needs_carry(self.formulas.backward, variant):
                first = carried[0] + first  # (9)
            # (11), over the sequences
            d_units = (xp.astype(xp.sum(total, axis=0), U.dtype, copy=False) for total in totals)
            return LoopGradient(du, dv, tuple(d_units), None, (first, *carried[1:]))


class _Maker:
    """Makes arrays of the dtype of another one, on its device."""

    def __init__(self, a: Array) -> None:
        library = library_of(a)
        self.xp, self.dtype, self.device = library.namespace(), a.dtype, library.device_of(a)

    def empty(self, *shape: int, dtype: Any = None) -> Array:
        return self.xp.empty(shape, dtype=dtype or self.dtype, device=self.device)

    def zeros(self, *shape: int, dtype: Any) -> Array:
        return self.xp.zeros(shape, dtype=dtype, device=self.device)


def _geometry(batch: int, hidden: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return grid and block of a kernel: units along the first axis, sequences along the second."""
    across = min(THREADS, 1 << (hidden - 1).bit_length())
    down = THREADS // across
    return (-(-hidden // across), min(-(-batch // down), ROWS)), (across, down)
