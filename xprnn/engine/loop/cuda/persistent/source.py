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
from xprnn.engine.loop.cuda.persistent.fragments import (
    FUNCTIONS,
    MMA,
    PRODUCTS,
    QUAD_TYPE,
    SHARED,
    TENSOR_PRODUCTS,
    WAITING,
)
from xprnn.engine.loop.cuda.persistent.tile import Tile
from xprnn.engine.loop.program import FLOAT, Program

NUMBERS = ("T", "B", "first", "fault", "ticket")
"""The first arguments of a kernel, 64 bits each; ``fault`` is an address."""

COUNTERS = 32
"""From one counter to the next, so that each has a line of the cache of its own."""

PATIENCE = 1 << 34
"""Clock cycles, some ten seconds, after which a block that has not come never will."""

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
            return _kernel(
                "xprnn_forward_all",
                self,
                tile,
                f"""{_rows_of_U(tile)}
{_bring(operand)}
    for (long long t = 0; t < T; ++t) {{
{_indented(self.reads)}
{_PRODUCT}  // (2)
{_indented(self.lines)}
        if (own) {{
            X[s * SEQUENCE_STRIDE + j] = kept(rounded(rounded(new0){mask}));  // (1)
{_indented(self.stores, 3)}
        }}
        __syncthreads();
    }}""",
            )
        return _kernel(
            "xprnn_forward_all",
            self,
            tile,
            f"""{_rows_of_U(tile)}
    for (long long t = 0; t < T; ++t) {{
{_indented(self.reads)}
        if (t > 0 && missed(count, t * ACROSS, fault, ticket)) {{
            for (; own && t < T; ++t) store(states0, (t + 1) * n + i, {_NAN});
            return;
        }}
{_chunks(operand, "const long long from = t;")}  // (2)
{_indented(self.lines)}
        if (own) {new}
        arrive(count);
        if (own) {{
{_indented(others, 3)}
        }}
    }}""",
        )

    def without_products(self, tile: Tile) -> KernelSource:
        """Return the kernel of a cell that does not use U: its units need nothing of each other."""
        return _kernel(
            "xprnn_forward_all",
            self,
            tile,
            f"""
    for (long long t = 0; t < T; ++t) {{
{_indented(self.reads)}
{_indented(self.lines)}
        if (own) {{
{_indented(self.stores, 3)}
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
            multiply, clear, done = _PRODUCT, _CLEAR, "__syncthreads();"
        else:
            multiply, clear, done = _chunks(operand, ""), "", "arrive(count);"
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
{_indented(lost, 4)}
            }}"""
            later = f"const long long from = t + 1;{wait}"
            last = f"long long t = -1;\n        const long long from = 0;{wait}"
        return _kernel(
            "xprnn_backward_all",
            self,
            tile,
            f"""{_rows_of_U(tile)}{clear}
{_indented(before, 1)}
    for (long long t = T - 1; t >= 0; --t) {{
{_indented(self.reads)}
        real product = 0;
        if (t + 1 < T) {{
            {later}
{multiply}
            product = summed(parts, s, r);  // (8)
        }}
{_indented(self.lines)}
{_indented(self.updates)}
        if (own) {{
{_indented(urgent, 3)}
        }}
        {done}
        if (own) {{
{_indented(others, 3)}
        }}
    }}
    {{
        {last}
{multiply}
    }}
    if (own) {{
{_indented(after)}
    }}""",
        )


_PRODUCT = """        {
            Sums sums = {};
            add_products(sums, W, X);
            put_parts(sums, parts);
        }
        __syncthreads();"""

_CLEAR = """
    for (int e = threadIdx.x; e < SEQUENCES * SEQUENCE_STRIDE; e += THREADS) X[e] = 0;
    __syncthreads();"""


def _fill(operand: str) -> str:
    return f"""for (int e = threadIdx.x; e < SEQUENCES * CHUNK; e += THREADS) {{
                const int row = e / CHUNK, c = e % CHUNK, k = start + c;
                X[row * SEQUENCE_STRIDE + c] = b0 + row < B && k < DEPTH ? kept({operand}) : 0;
            }}
            __syncthreads();"""


def _bring(operand: str) -> str:
    """Return the lines that bring all of X to shared memory, for the first step."""
    return f"""        {{
            const int start = 0;
            const long long from = 0;
            {_fill(operand)}
        }}"""


def _chunks(operand: str, given: str) -> str:
    """Return the lines of the product, for which X is brought to shared memory in chunks."""
    return f"""        {{
            {given}
            Sums sums = {{}};
            for (int start = 0; start < CHUNKS * CHUNK; start += CHUNK) {{
            {_fill(operand)}
            add_products(sums, W + start, X);
            if (start + CHUNK < CHUNKS * CHUNK) __syncthreads();
            }}
            put_parts(sums, parts);
        }}
        __syncthreads();"""


def _rows_of_U(tile: Tile) -> str:  # noqa: N802
    """Return the lines that bring the block's part of U to shared memory."""
    if tile.backward:
        return """
    for (int e = threadIdx.x; e < ROWS * STRIDE; e += THREADS) {
        const int row = e % ROWS, k = e / ROWS;
        const bool there = j0 + row < H && k < DEPTH;
        W[row * STRIDE + k] = there ? kept(load(U, (long long)k * H + j0 + row)) : 0;
    }"""
    return """
    for (int e = threadIdx.x; e < ROWS * STRIDE; e += THREADS) {
        const int row = e / STRIDE, k = e % STRIDE;
        const long long unit = j0 + row % UNITS, from = row / UNITS * (long long)H + unit;
        W[e] = unit < H && k < DEPTH ? kept(load(U, from * H + k)) : 0;
    }"""


def _indented(lines: list[str], levels: int = 2) -> str:
    return "\n".join(4 * levels * " " + line for line in lines)


def _constants(tile: Tile, text: str) -> str:
    """Return those of a tile's constants that a text has, because a compiler warns of others."""
    numbers = {
        "H": tile.hidden,
        "G": tile.gates,
        "UNITS": tile.units,
        "SEQUENCES": tile.sequences,
        "THREADS": tile.threads,
        "ACROSS": tile.across,
        "ROWS": tile.rows,
        "DEPTH": tile.depth,
        "STRIDE": tile.stride,
        "CHUNK": tile.chunk,
        "CHUNKS": tile.chunks,
        "SEQUENCE_STRIDE": tile.sequence_stride,
        "TILE_ROWS": tile.tile_rows,
        "TILE_SEQUENCES": tile.tile_sequences,
        "ROW_GROUPS": tile.row_groups,
        "SEQUENCE_GROUPS": tile.sequence_groups,
        "PARTS": tile.parts,
        # With more threads there are too few registers for the operands of two turns.
        "UNROLL": 1 if tile.threads > 256 else 2,
    }
    kinds = dict.fromkeys(numbers, "int") | {"PATIENCE": "long long"}
    numbers["PATIENCE"] = PATIENCE
    return "".join(
        f"static constexpr {kinds[name]} {name} = {value};\n"
        for name, value in numbers.items()
        if re.search(rf"\b{name}\b", text)
    )


def _kernel(name: str, cell: CellLines, tile: Tile, body: str) -> KernelSource:
    """Return the kernel of a body."""
    multiplies, shared = "add_products" in body, "missed(" in body
    if shared:
        cell.arguments["count"] = "unsigned* "
    head = ", ".join(f"long long {number}" for number in NUMBERS)
    pointers = "".join(f",\n    {type_}{a}" for a, type_ in cell.arguments.items())
    memory = f"""
    {SHARED}
    real* const W = (real*)shared;
    real* const X = W + ROWS * STRIDE;
    real* const parts = X + SEQUENCES * SEQUENCE_STRIDE;"""
    places = {"i": "b * H + j", "w": f"{cell.gates} * b * H + j"}
    used = [f"{k} = {x}" for k, x in places.items() if re.search(rf"\b{k}\b", body)]
    functions = [text for key, text in FUNCTIONS.items() if f"{key}(" in body]
    if multiplies:
        functions += [QUAD_TYPE, MMA + TENSOR_PRODUCTS if tile.tensor_cores else PRODUCTS]
    if shared:
        functions.append(WAITING)
    text = f"""{"".join(functions)}
extern "C" __global__ void __launch_bounds__(THREADS, 1) {name}(
    {head}{pointers})
{{{memory if multiplies else ""}
    const long long b0 = first + (long long)blockIdx.x * SEQUENCES;
    const long long j0 = (long long)blockIdx.y * UNITS, n = B * H;
    // A thread without a unit of a sequence computes what the first one does, and writes nothing.
    const int place = threadIdx.x < SEQUENCES * UNITS ? threadIdx.x : 0;
    const int s = place / UNITS, r = place % UNITS;
    const bool own = threadIdx.x < SEQUENCES * UNITS && b0 + s < B && j0 + r < H;
    const long long b = own ? b0 + s : b0, j = own ? j0 + r : j0;
    const long long {", ".join(used)};
    {f"count += blockIdx.x * {COUNTERS};" if shared else ""}
{body}
}}
"""
    ops = {node.op for node in cell.program.nodes}
    start = f"{prelude(cell.precision, ops)}{_constants(tile, text)}"
    return KernelSource(name, start + text, tuple(cell.arguments))


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
