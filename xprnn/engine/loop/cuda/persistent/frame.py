"""What surrounds a step in a persistent kernel: its arguments and constants, and its shared memory.

Lines that bring the rows of U, and what they are multiplied by, to shared memory; the product; and
the whole kernel, of a body that `xprnn.engine.loop.cuda.persistent.source` writes and explains.
"""

import re

from xprnn.engine.loop.cuda.cell import CellLines, KernelSource
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

NUMBERS = ("T", "B", "first", "fault", "ticket")
"""The first arguments of a kernel, 64 bits each; ``fault`` is an address."""

COUNTERS = 32
"""From one counter to the next, so that each has a line of the cache of its own."""

PATIENCE = 1 << 34
"""Clock cycles, some ten seconds, after which a block that has not come never will."""

PRODUCT = """        {
            Sums sums = {};
            add_products(sums, W, X);
            put_parts(sums, parts);
        }
        __syncthreads();"""
"""The product of a block that has all of X in shared memory."""

CLEAR = """
    for (int e = threadIdx.x; e < SEQUENCES * SEQUENCE_STRIDE; e += THREADS) X[e] = 0;
    __syncthreads();"""
"""Zeros in place of X, before the first step."""


def _fill(operand: str) -> str:
    return f"""for (int e = threadIdx.x; e < SEQUENCES * CHUNK; e += THREADS) {{
                const int row = e / CHUNK, c = e % CHUNK, k = start + c;
                X[row * SEQUENCE_STRIDE + c] = b0 + row < B && k < DEPTH ? kept({operand}) : 0;
            }}
            __syncthreads();"""


def bring(operand: str) -> str:
    """Return the lines that bring all of X to shared memory, for the first step."""
    return f"""        {{
            const int start = 0;
            const long long from = 0;
            {_fill(operand)}
        }}"""


def chunks(operand: str, given: str) -> str:
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


def bring_rows_of_U(tile: Tile) -> str:  # noqa: N802
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


def indented(lines: list[str], levels: int = 2) -> str:
    """Return lines as one text."""
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


def whole_kernel(name: str, cell: CellLines, tile: Tile, body: str) -> KernelSource:
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
