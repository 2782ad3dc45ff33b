"""The time loop on CuPy: one product and one kernel a step each way, two if it normalises.

All arrays are made before the loop begins: kernels and products write straight into the tape, and
nothing in the loop waits for the device.  The cost of a step is that of its launches, so there are
two: the product, and one kernel for all that is elementwise, recurrent dropout and the padding mask
included (`xprnn.engine.loop.cuda.source`).  Layer normalisation, which sums over units, takes one
more (`xprnn.engine.loop.cuda.normalize`).  A cell without U has no product, and its kernel does all
steps in one launch.

Numbers refer to the equations in `xprnn.engine.loop.protocol`.
"""

from typing import Any, ClassVar

from xprnn.backend import dtype_name, library_of
from xprnn.backend.kernels import StepLaunch, StepProduct
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.loop.cuda.arrays import (
    Maker,
    backward_arrays,
    forward_arrays,
    summed,
    unit_gradients,
)
from xprnn.engine.loop.cuda.cell import KernelSource, Variant, needs_carry, reads_product
from xprnn.engine.loop.cuda.choice import chosen
from xprnn.engine.loop.cuda.normalize import backward_launch, forward_launch
from xprnn.engine.loop.cuda.source import backward_source, forward_source
from xprnn.engine.loop.program import Program, pruned
from xprnn.engine.loop.protocol import LoopGradient, Recurrent, Trajectory, Work
from xprnn.engine.loop.trace import Formulas
from xprnn.engine.normalization import Normalized

THREADS = 128
"""Per block: few enough that the work of a small layer is spread over the device."""

ROWS = 65535
"""The largest second axis of a grid that CUDA allows; a thread takes more sequences in turns."""


_GIVEN = ("u", "mask", "valid", "masked")
_RESULTS = ("dv", "du", "carry", "total")


class CuPyLoops:
    """A cell's time loop in CUDA kernels."""

    name: ClassVar[str] = "cupy"
    normalizes: ClassVar[bool] = True

    def __init__(self, formulas: Formulas) -> None:
        self.formulas = formulas
        program = formulas.forward
        self.without_tape = pruned(Program(program.nodes, {**program.outputs, "saved": ()}))
        # Two threads may both write a source, and then either may stay.
        self._sources: dict[tuple[Any, ...], KernelSource] = {}

    def suits(self, work: Work) -> bool:
        return work.batch > 0

    def describe(self) -> str:
        if not reads_product(self.formulas.backward):
            return "lowered to CUDA kernels, one launch each way"
        return "lowered to CUDA kernels, one a step each way"

    def forward_kernel(self, variant: Variant, *, save: bool, whole: bool = False) -> KernelSource:
        """Return the kernel of a forward step; with ``whole``, of all."""
        key = ("forward", variant, save, whole)
        if key not in self._sources:
            program, gates = (
                self.formulas.forward if save else self.without_tape,
                self.formulas.gates,
            )
            self._sources[key] = forward_source(program, gates, variant, whole=whole)
        return self._sources[key]

    def backward_kernel(
        self, variant: Variant, *, outer: bool, whole: bool = False
    ) -> KernelSource:
        """Return the kernel of a backward step; with ``whole``, of all.

        Without ``outer``, dh is None.
        """
        key = ("backward", variant, outer, whole)
        if key not in self._sources:
            program, gates = self.formulas.backward, self.formulas.gates
            self._sources[key] = backward_source(program, gates, variant, outer=outer, whole=whole)
        return self._sources[key]

    def forward(self, u: Array, recurrent: Recurrent, state: Arrays, *, save: bool) -> Trajectory:
        U, gain, mask = recurrent.U, recurrent.gain, recurrent.mask
        steps, batch, rows = u.shape
        hidden = U.shape[1]
        device, make = library_of(u).kernels(), Maker(u)
        variant = Variant(dtype_name(u.dtype), mask is not None, recurrent.valid is not None)
        whole = gain is None and not self.formulas.forward.inputs("v")
        source = self.forward_kernel(variant, save=save, whole=whole)
        launch = device.compiled(source.name, source.text)
        with device.on_device_of(u):
            program = self.formulas.forward
            made, arrays = forward_arrays(device, make, program, u, recurrent, state, save=save)
            if U.shape[0]:
                arrays["v"] = make.empty(batch, rows)
            if "masked" in source.arguments:
                arrays["masked"] = make.empty(batch, hidden)
                arrays["masked"][...] = state[0] * mask  # (1), of the first step
            pointers = tuple(arrays[name] for name in source.arguments)
            sizes = (steps, batch, hidden)
            step = StepLaunch(launch, *_geometry(batch, hidden), (*sizes, *pointers))
            calls: tuple[StepProduct | StepLaunch, ...] = (step,)
            given = [arrays[name] for name in source.arguments if name in _GIVEN or "unit" in name]
            given += [whole[:1, ...] for whole in made.states]
            results = [*made.states, *(a for k, a in arrays.items() if "saved" in k)]
            if "v" in source.arguments or gain is not None:
                left, right = arrays.get("masked", made.states[0]), device.contiguous(U)
                tf32 = chosen().matmul_precision == "tf32"
                product = StepProduct(left, right, arrays["v"], transposed=True, tf32=tf32)  # (2)
                calls = (product, step)
                given.append(right)
                if gain is not None:
                    gain = device.contiguous(gain)
                    between, normalized = forward_launch(
                        device, make, gain, arrays["v"], steps, save=save
                    )
                    calls = (product, between, step)
                    given.append(gain)
                    results += normalized or ()
                    made = made._replace(normalized=normalized)
            count = 1 if whole and steps else steps
            device.repeat(range(count if batch else 0), calls, given, results)
        return made

    def backward(
        self, recurrent: Recurrent, trajectory: Trajectory, dh: Array | None, d_state: Arrays
    ) -> LoopGradient:
        U, units, gain, mask, valid = recurrent
        rows, hidden = U.shape
        steps, batch = trajectory.states[0].shape[0] - 1, trajectory.states[0].shape[1]
        device, make = library_of(U).kernels(), Maker(U)
        variant = Variant(dtype_name(U.dtype), mask is not None, valid is not None)
        whole = gain is None and not reads_product(self.formulas.backward)
        source = self.backward_kernel(variant, outer=dh is not None, whole=whole)
        launch = device.compiled(source.name, source.text)
        with device.on_device_of(U):
            U, names = device.contiguous(U), source.arguments
            gates = self.formulas.gates
            arrays = backward_arrays(device, make, names, gates, recurrent, trajectory, dh, d_state)
            through_U = arrays["through_U"] = make.empty(batch, hidden)
            pointers = tuple(arrays[name] for name in names)
            du, dv = arrays["du"], arrays["dv"]
            sizes = (steps, batch, hidden)
            step = StepLaunch(launch, *_geometry(batch, hidden), (*sizes, *pointers))
            given = [a for a in pointers if a is not dv and a is not du and a is not through_U]
            results = [a for k, a in arrays.items() if k in names and k.startswith(_RESULTS)]
            calls: tuple[StepProduct | StepLaunch, ...] = (step,)
            da, d_gain = dv, None
            if gain is not None and trajectory.normalized is not None:
                # du is dv, and not da: it doesn't go through the normalisation.
                da = make.empty(steps, batch, rows) if du is dv else dv
                d_gain = make.zeros(batch, rows, dtype=make.wide)
                gain = device.contiguous(gain)
                normalized = Normalized(*map(device.contiguous, trajectory.normalized))
                calls = (step, backward_launch(device, gain, normalized, dv, da, d_gain))
                given += [gain, *normalized, d_gain]
                results += [da] * (da is not dv) + [d_gain]
            tf32 = chosen().matmul_precision == "tf32"
            count = 1 if whole and steps else steps
            backward = range(count if batch else 0)[::-1]
            if reads_product(self.formulas.backward):
                product = StepProduct(da, U, through_U, tf32=tf32)  # (8)
                device.repeat(backward, (*calls, product), [*given, U], [*results, through_U])
                first = through_U if mask is None else through_U * mask  # (9), of the first step
                if needs_carry(self.formulas.backward, variant):
                    first = arrays["carry0"] + first  # (9)
            else:
                device.repeat(backward, calls, given, results)
                first = arrays["carry0"]
            others = (arrays[f"carry{k}"] for k in range(1, len(d_state)))
            d_units = unit_gradients(make, arrays, units)
            if d_gain is not None:
                d_gain = summed(make, d_gain)
            return LoopGradient(du, da, d_units, d_gain, (first, *others))


def _geometry(batch: int, hidden: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return grid and block of a kernel: units along the first axis, sequences along the second."""
    across = min(THREADS, 1 << (hidden - 1).bit_length())
    down = THREADS // across
    return (-(-hidden // across), min(-(-batch // down), ROWS)), (across, down)
