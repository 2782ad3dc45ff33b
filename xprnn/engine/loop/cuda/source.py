"""The source of one step of a time loop in CUDA C: one fused elementwise kernel each way.

Numbers refer to the equations in `xprnn.engine.loop.protocol`.  The products, (2) and (8), and the
sum over sequences in (11) are in `xprnn.engine.loop.cuda.loops`; the cell's lines and most of the
loop's in `xprnn.engine.loop.cuda.cell`; normalisation, (3) and (7), has a kernel of its own in
`xprnn.engine.loop.cuda.normalize`.

A thread computes unit j of sequence b, and then of every so many sequences further on if there are
more than the grid holds.  It reads all that it needs, computes the formula in registers, and then
writes, so an array that is carried from step to step may be overwritten in place.  No two threads
write to one entry, and there are no atomic operations: the same numbers give the same bits.

t is an argument of the kernel.  Where no thread needs what another one has computed at the step
before, which is so without U, a thread goes through all steps in one launch (``whole``), and the
kernel is called once, with any t.

Names beside those of `xprnn.engine.loop.cuda.cell`::

    masked              m h(t), (B, H), which the next product reads
    through_U, carry0   Uᵀ dv(t+1), and the rest of the gradient of the state, (B, H)
    total0              sums over t per sequence and unit, (B, H)
"""

import re

from xprnn.engine.loop.cuda.cell import (
    HERE,
    BackwardLines,
    CellLines,
    ForwardLines,
    KernelSource,
    Variant,
)
from xprnn.engine.loop.cuda.functions import prelude
from xprnn.engine.loop.program import Program

NUMBERS = ("t", "T", "B", "H")
"""The first arguments of a kernel, 64 bits each."""


class _Forward(ForwardLines):
    def product(self, gate: int) -> str:
        return self.load("v", self.gate(gate))

    def build(self, *, whole: bool) -> KernelSource:
        self.write()
        if self.variant.masked and self.reads_product:
            # (1), of the next step
            masked = self.let("masked_", f"new0 * {self.load('mask', HERE)}")
            self.store("masked", HERE, masked)
        return _source("xprnn_forward", self, "for (t = 0; t < T; ++t) " if whole else "")


class _Backward(BackwardLines):
    def product_back(self) -> str:
        return self.load("through_U", HERE)

    def carried(self, k: int) -> str:
        return self.load(f"carry{k}", HERE)

    def carry(self, k: int, value: str) -> None:
        self.store(f"carry{k}", HERE, value)

    def add_to_total(self, k: int, part: str) -> None:
        self.pointer(f"total{k}", "real", written=True)
        total = self.let(f"total{k}_", f"total{k}[i] + ({part})")  # (11), over the steps
        self.stores.append(f"total{k}[i] = {total};")

    def build(self, *, outer: bool, whole: bool) -> KernelSource:
        self.write(outer=outer)
        return _source("xprnn_backward", self, "for (t = T; t-- > 0;) " if whole else "")


def _source(name: str, cell: CellLines, steps: str) -> KernelSource:
    """Return the kernel of these lines; ``steps`` is the head of a loop over all steps, if any."""
    head = ", ".join(f"long long {number}" for number in NUMBERS)
    pointers = "".join(f",\n    {type_}{a}" for a, type_ in cell.arguments.items())
    indent = " " * (12 if steps else 8)
    body = "\n".join(f"{indent}{line}" for line in cell.reads + cell.lines + cell.stores)
    # A compiler warns of unused variables.
    places = {"i": "b * H + j", "w": f"{cell.gates} * b * H + j"}
    used = [f"{k} = {v}" for k, v in places.items() if re.search(rf"\b{k}\b", body)]
    ops = {node.op for node in cell.program.nodes}
    if steps:
        body = f"        {steps}{{\n{body}\n        }}"
    text = f"""{prelude(cell.precision, ops)}
extern "C" __global__ void {name}(
    {head}{pointers})
{{
    const long long j = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= H) return;
    const long long n = B * H, rows = (long long)gridDim.y * blockDim.y;
    for (long long b = (long long)blockIdx.y * blockDim.y + threadIdx.y; b < B; b += rows) {{
        const long long {", ".join(used)};
{body}
    }}
}}
"""
    return KernelSource(name, text, tuple(cell.arguments))


def forward_source(
    program: Program, gates: int, variant: Variant, *, whole: bool = False
) -> KernelSource:
    """Return the kernel of step t, forward: ``xprnn_forward``; with ``whole``, of all steps."""
    return _Forward(program, gates, variant).build(whole=whole)


def backward_source(
    program: Program, gates: int, variant: Variant, *, outer: bool, whole: bool = False
) -> KernelSource:
    """Return the kernel of step t, backward: ``xprnn_backward``; with ``whole``, of all steps.

    Without ``outer``, dh is None.
    """
    return _Backward(program, gates, variant).build(outer=outer, whole=whole)
