"""The time loop on CuPy in one launch each way, where U fits into the shared memory of the device.

The tape is that of the loop of step kernels, so either may follow the other.  Numbers refer to the
equations in `xprnn.engine.loop.protocol`.
"""

from typing import Any, ClassVar

from xprnn.backend import HALVES, dtype_name, library_of
from xprnn.backend.kernels import Limits
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.loop.cuda.arrays import Maker, backward_arrays, forward_arrays, unit_gradients
from xprnn.engine.loop.cuda.cell import KernelSource, Variant, reads_product
from xprnn.engine.loop.cuda.choice import VARIABLE, chosen
from xprnn.engine.loop.cuda.persistent.frame import COUNTERS
from xprnn.engine.loop.cuda.persistent.plan import Plan, Work, plan, slower
from xprnn.engine.loop.cuda.persistent.source import backward_kernel, forward_kernel
from xprnn.engine.loop.cuda.persistent.tile import Tile
from xprnn.engine.loop.program import Program, pruned
from xprnn.engine.loop.protocol import LoopGradient, Recurrent, Trajectory
from xprnn.engine.loop.protocol import Work as LoopWork
from xprnn.engine.loop.trace import Formulas

LARGEST_COUNT = 1 << 31
"""Counters of blocks stay below; the highest bit says that a block has given up."""


class PersistentLoops:
    """A cell's time loop in persistent CUDA kernels."""

    name: ClassVar[str] = "persistent"
    normalizes: ClassVar[bool] = False

    def __init__(self, formulas: Formulas) -> None:
        self.formulas = formulas
        program = formulas.forward
        self.without_tape = pruned(Program(program.nodes, {**program.outputs, "saved": ()}))
        # Two threads may both write a source, and then either may stay.
        self._sources: dict[tuple[Any, ...], KernelSource] = {}

    def suits(self, work: LoopWork) -> bool:
        if work.batch == 0 or work.steps == 0 or work.limits is None:
            return False
        insist = chosen().loop == "persistent"
        reason = self.why_not(work, insist=insist)
        if reason and insist:
            raise ValueError(f"{VARIABLE} (or cuda_loop) says 'persistent', but {reason}")
        return not reason

    def why_not(self, work: LoopWork, *, insist: bool = False) -> str:
        """Return why it does not suit; an empty text if it does.

        With ``insist`` it suits if it is possible, however slow.
        """
        if work.normalizes:
            # Mean and variance are over all units, which are spread over blocks.
            return "the layer normalises its projections"
        if not reads_product(self.formulas.backward):
            return "the cell has no U: the kernels of a step do all steps in one launch"
        if work.limits is None:
            return "nothing is known of the device"
        asked = self._asked(work)
        found = plan(asked, work.limits)
        if isinstance(found, str):
            return found
        if work.steps * found.tile.across >= LARGEST_COUNT:
            return f"T = {work.steps} is too large for the counters of its blocks"
        return "" if insist else slower(asked, found, work.limits)

    def describe(self) -> str:
        return (
            "lowered to persistent CUDA kernels, one launch each way, "
            "for sizes of which U fits into the device's shared memory"
        )

    def explain(self, work: LoopWork) -> str:
        """Say what runs for a size on a device, and why."""
        reason = self.why_not(work, insist=chosen().loop == "persistent")
        if reason or work.limits is None:
            return f"{work.direction}: step kernels, because {reason}"
        asked = self._asked(work)
        found = plan(asked, work.limits)
        if isinstance(found, str):
            raise RuntimeError(found)
        return f"{work.direction}: {_words(found, asked, work.limits)}"

    def forward_source(self, variant: Variant, tile: Tile, *, save: bool) -> KernelSource:
        """Return the kernel of all steps forward."""
        key = ("forward", variant, tile, save)
        if key not in self._sources:
            program = self.formulas.forward if save else self.without_tape
            self._sources[key] = forward_kernel(program, self.formulas.gates, variant, tile)
        return self._sources[key]

    def backward_source(self, variant: Variant, tile: Tile, *, outer: bool) -> KernelSource:
        """Return the kernel of all steps backward.  Without ``outer``, dh is None."""
        key = ("backward", variant, tile, outer)
        if key not in self._sources:
            program, gates = self.formulas.backward, self.formulas.gates
            self._sources[key] = backward_kernel(program, gates, variant, tile, outer=outer)
        return self._sources[key]

    def forward(self, u: Array, recurrent: Recurrent, state: Arrays, *, save: bool) -> Trajectory:
        device, make = library_of(u).kernels(), Maker(u)
        steps, batch, _ = u.shape
        variant = _variant(u, recurrent)
        found = self._planned(u, recurrent, batch, backward=False)
        source = self.forward_source(variant, found.tile, save=save)
        with device.on_device_of(u):
            program = self.formulas.forward
            made, arrays = forward_arrays(device, make, program, u, recurrent, state, save=save)
            arrays["U"] = device.contiguous(recurrent.U)
            self._launch(source, found, make, arrays, (steps, batch))
        return made

    def backward(
        self, recurrent: Recurrent, trajectory: Trajectory, dh: Array | None, d_state: Arrays
    ) -> LoopGradient:
        U = recurrent.U
        device, make = library_of(U).kernels(), Maker(U)
        borders, batch, _ = trajectory.states[0].shape
        variant = _variant(U, recurrent)
        found = self._planned(U, recurrent, batch, backward=True)
        source = self.backward_source(variant, found.tile, outer=dh is not None)
        with device.on_device_of(U):
            names = source.arguments
            gates = self.formulas.gates
            arrays = backward_arrays(device, make, names, gates, recurrent, trajectory, dh, d_state)
            arrays["U"] = device.contiguous(U)
            self._launch(source, found, make, arrays, (borders - 1, batch))
            state = tuple(arrays[f"carry{k}"] for k in range(len(d_state)))
            d_units = unit_gradients(make, arrays, recurrent.units)
            return LoopGradient(arrays["du"], arrays["dv"], d_units, None, state)

    def _launch(
        self,
        source: KernelSource,
        found: Plan,
        make: Maker,
        arrays: dict[str, Array],
        shape: tuple[int, int],
    ) -> None:
        """Run a kernel, in as many turns as it takes."""
        tile, (steps, batch) = found.tile, shape
        library = library_of(arrays["U"])
        device = library.kernels()
        launch = device.compiled_with_room(source.name, source.text)
        size = 8 if make.wide == make.xp.float64 else 4
        together = "count" in source.arguments
        words = f"{source.name} (G = {tile.gates}, H = {tile.hidden}, B = {batch})"
        fault, ticket = device.watched(words)
        if together:
            counters = found.turns * found.slices * COUNTERS
            count = make.zeros(counters, dtype=make.xp.uint32)
        for turn in range(found.turns):
            first = turn * found.slices * tile.sequences
            slices = min(found.slices, -(-(batch - first) // tile.sequences))
            if together:
                begin = turn * found.slices * COUNTERS
                arrays["count"] = count[begin : begin + found.slices * COUNTERS]
            pointers = (arrays[name] for name in source.arguments)
            launch(
                (slices, tile.across),
                (tile.threads, 1),
                (steps, batch, first, fault, ticket, *pointers),
                size * tile.numbers_shared,
                together,
            )

    def _planned(self, a: Array, recurrent: Recurrent, batch: int, *, backward: bool) -> Plan:
        library = library_of(a)
        limits = library.kernels().limits(library.device_of(a))
        hidden = recurrent.U.shape[1]
        found = plan(self._work(hidden, batch, dtype_name(a.dtype), backward=backward), limits)
        if isinstance(found, str):
            raise ValueError(found)
        return found

    def _asked(self, work: LoopWork) -> Work:
        backward = work.direction == "backward"
        return self._work(work.hidden, work.batch, work.dtype, backward=backward)

    def _work(self, hidden: int, batch: int, dtype: str, *, backward: bool) -> Work:
        # Every number of 16 bits is one in TF32, so there tensor cores round nothing.
        tensor_cores = dtype in HALVES or (
            dtype == "float32" and chosen().matmul_precision == "tf32"
        )
        size = 8 if dtype == "float64" else 4
        return Work(hidden, self.formulas.gates, batch, size, backward, tensor_cores)


def _variant(a: Array, recurrent: Recurrent) -> Variant:
    return Variant(dtype_name(a.dtype), recurrent.mask is not None, recurrent.valid is not None)


def _words(found: Plan, work: Work, limits: Limits) -> str:
    tile = found.tile
    turns = f", in {found.turns} turns" if found.turns > 1 else ""
    others = "no block waits for another" if tile.alone else f"{tile.across} blocks share a slice"
    cores = ", products on tensor cores" if tile.tensor_cores else ""
    return (
        f"one persistent kernel, {tile.units} units of {tile.sequences} sequences in each of "
        f"{found.slices * tile.across} blocks on {limits.multiprocessors} multiprocessors{turns}; "
        f"{others}; {tile.numbers_shared * work.real_bytes} of {limits.shared_bytes} bytes of "
        f"shared memory{cores}"
    )
