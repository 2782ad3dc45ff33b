"""The source of a persistent kernel in CUDA C: all steps of a time loop in one launch, each way.

Numbers refer to the equations in `xprnn.engine.loop.protocol`; the cell's lines are those of
`xprnn.engine.loop.cuda.cell`, as in the kernels of one step.  Normalisation, (3) and (7), is not
here, and the sum over sequences in (11) is taken after the kernel.

A block has some hidden units of some sequences (`xprnn.engine.loop.cuda.persistent.tile`), and
keeps its rows of U in shared memory from the first step to the last.  A step is, forward: wait
until the blocks that have the other units of these sequences have written h(t-1); bring it into
shared memory; the product; the cell, a thread for a unit of a sequence; write h(t), and say so.
Backward the same with dv(t+1), where what is carried from step to step stays in registers, and with
one more product at the end, for the gradient of the initial state.  A block that has all units
waits for nobody, and h(t) or dv(t) stays in its shared memory.

Sums are formed in a fixed order, and no two threads write to one entry, so the same numbers give
the same bits.  A block that waits for too long gives up: it makes the results that are missing NaN,
and says so in memory of the host, which `xprnn.backend.kernels` looks at.

Names in the text beside those of `xprnn.engine.loop.cuda.cell`::

    W, X, parts         in shared memory: rows of U; h(t-1) or dv(t+1); the parts of the sums
    s, r, own           a thread's sequence and unit in its block; whether they exist
    first               the first sequence of this launch
    count               a counter for each slice of sequences
    carried0, sum0      the rest of the gradient of the state; the sum of a per-unit gradient
"""

from xprnn.engine.loop.cuda.cell import (
    HERE,
    BackwardLines,
    ForwardLines,
    KernelSource,
    Variant,
)
from xprnn.engine.loop.cuda.persistent.frame import (
    CLEAR,
    PRODUCT,
    bring,
    bring_rows_of_U,
    chunks,
    indented,
    whole_kernel,
)
from xprnn.engine.loop.cuda.persistent.tile import Tile
from xprnn.engine.loop.program import FLOAT, Program

_NAN = "(real)(0.0f / 0.0f)"


class _Forward(ForwardLines):
    def product(self, gate: int) -> str:
        return f"summed(parts, s, {gate} * UNITS + r)"  # (2)

    def build(self, tile: Tile) -> KernelSource:
        self.write()
        if not self.reads_product:
            return self.without_products(tile)
        self.pointer("U", FLOAT)
        operand = "fresh(states0, from * n + (b0 + row) * H + k)"
        mask = ""
        if self.variant.masked:
            self.pointer("mask", FLOAT)
            operand = f"rounded({operand} * load(mask, (b0 + row) * H + k))"  # (1)
            mask = f" * {self.load('mask', HERE)}"
        new, *others = self.stores
        if tile.alone:
            return whole_kernel(
                "xprnn_forward_all",
                self,
                tile,
                f"""{bring_rows_of_U(tile)}
{bring(operand)}
    for (long long t = 0; t < T; ++t) {{
{indented(self.reads)}
{PRODUCT}  // (2)
{indented(self.lines)}
        if (own) {{
            X[s * SEQUENCE_STRIDE + j] = kept(rounded(rounded(new0){mask}));  // (1)
{indented(self.stores, 3)}
        }}
        __syncthreads();
    }}""",
            )
        return whole_kernel(
            "xprnn_forward_all",
            self,
            tile,
            f"""{bring_rows_of_U(tile)}
    for (long long t = 0; t < T; ++t) {{
{indented(self.reads)}
        if (t > 0 && missed(count, t * ACROSS, fault, ticket)) {{
            for (; own && t < T; ++t) store(states0, (t + 1) * n + i, {_NAN});
            return;
        }}
{chunks(operand, "const long long from = t;")}  // (2)
{indented(self.lines)}
        if (own) {new}
        arrive(count);
        if (own) {{
{indented(others, 3)}
        }}
    }}""",
        )

    def without_products(self, tile: Tile) -> KernelSource:
        """Return the kernel of a cell that does not use U: its units need nothing of each other."""
        return whole_kernel(
            "xprnn_forward_all",
            self,
            tile,
            f"""
    for (long long t = 0; t < T; ++t) {{
{indented(self.reads)}
{indented(self.lines)}
        if (own) {{
{indented(self.stores, 3)}
        }}
    }}""",
        )


class _Backward(BackwardLines):
    def __init__(self, program: Program, gates: int, variant: Variant) -> None:
        super().__init__(program, gates, variant)
        self.updates: list[str] = []

    def product_back(self) -> str:
        return "product"  # (8)

    def carried(self, k: int) -> str:
        return f"carried{k}"

    def carry(self, k: int, value: str) -> None:
        self.updates.append(f"carried{k} = {value};")

    def add_to_total(self, k: int, part: str) -> None:
        self.updates.append(f"sum{k} += {part};")  # (11), over the steps

    def build(self, tile: Tile, *, outer: bool) -> KernelSource:
        self.write(outer=outer)
        self.pointer("U", FLOAT)
        states, totals = (range(len(self.program.outputs[k])) for k in ("previous", "units"))
        before = [f"real carried{k} = {self.load(f'carry{k}', HERE)};" for k in states]
        before += [f"real sum{k} = 0;" for k in totals]
        first = "summed(parts, s, r)"
        if self.variant.masked:
            first += f" * {self.load('mask', HERE)}"
        results = [f"carried0 + {first}" if self.needs_carry else first]  # (9)
        results += [f"carried{k}" for k in states[1:]]
        self.stores, stores = [], self.stores
        for k, value in enumerate(results):
            self.store(f"carry{k}", HERE, value)
        after, self.stores = self.stores, stores
        for k in totals:
            total = self.pointer(f"total{k}", "real", written=True)
            after.append(f"{total}[i] = sum{k};")
        gates = range(self.gates)
        urgent, others = stores[: len(gates)], stores[len(gates) :]
        operand = f"fresh(dv, from * {self.gates} * n + (b0 + row) * {self.gates} * H + k)"
        if tile.alone:
            urgent += [
                f"X[s * SEQUENCE_STRIDE + {k} * H + j] = kept(rounded(dv{k}_));" for k in gates
            ]
            multiply, clear, done = PRODUCT, CLEAR, "__syncthreads();"
        else:
            multiply, clear, done = chunks(operand, ""), "", "arrive(count);"
        lost = [
            "for (; own && t >= 0; --t) for (int k = 0; k < G; ++k)",
            f"    store(dv, t * G * n + b * G * H + j + k * H, {_NAN});",
            *(f"if (own) store(carry{k}, i, {_NAN});" for k in states),
            "return;",
        ]
        later = last = ""
        if not tile.alone:
            wait = f"""
            if (missed(count, (T - from) * ACROSS, fault, ticket)) {{
{indented(lost, 4)}
            }}"""
            later = f"const long long from = t + 1;{wait}"
            last = f"long long t = -1;\n        const long long from = 0;{wait}"
        return whole_kernel(
            "xprnn_backward_all",
            self,
            tile,
            f"""{bring_rows_of_U(tile)}{clear}
{indented(before, 1)}
    for (long long t = T - 1; t >= 0; --t) {{
{indented(self.reads)}
        real product = 0;
        if (t + 1 < T) {{
            {later}
{multiply}
            product = summed(parts, s, r);  // (8)
        }}
{indented(self.lines)}
{indented(self.updates)}
        if (own) {{
{indented(urgent, 3)}
        }}
        {done}
        if (own) {{
{indented(others, 3)}
        }}
    }}
    {{
        {last}
{multiply}
    }}
    if (own) {{
{indented(after)}
    }}""",
        )


def forward_kernel(program: Program, gates: int, variant: Variant, tile: Tile) -> KernelSource:
    """Return the kernel of all steps forward: ``xprnn_forward_all``."""
    return _Forward(program, gates, variant).build(tile)


def backward_kernel(
    program: Program, gates: int, variant: Variant, tile: Tile, *, outer: bool
) -> KernelSource:
    """Return the kernel of all steps backward: ``xprnn_backward_all``.

    Without ``outer``, dh is None.
    """
    return _Backward(program, gates, variant).build(tile, outer=outer)
