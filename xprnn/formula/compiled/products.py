"""The product of a step, with a matrix that is the same at every step.

The recurrent product is small, which is where a BLAS is at its worst: it packs the matrix again
each time, and its threads meet twice per product.  Here the matrix is packed once (`pack32`,
`pack64`) into *panels*, a few vectors wide and contiguous in k; `product_for` walks over them with
tiles whose sums stay in registers (K. Goto and R. van de Geijn, "Anatomy of high-performance matrix
multiplication", ACM TOMS 34, 2008).  The threads of a team own columns, and the same sums are
formed in the same order however many there are.

Shapes: a (B, K), its rows ``lda`` apart; a packed matrix K·W entries; c (B, W), contiguous.
Addresses are integers, strides and sizes are counted in entries.
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from xprnn.backend.host import np

_FEATURES = llvm.get_host_cpu_features()
_WIDE = bool(_FEATURES.get("avx512f"))
VECTOR_BYTES = 64 if _WIDE else 32 if _FEATURES.get("avx2") else 16
_TALL = VECTOR_BYTES != 32
"""Whether there are 32 registers for the sums of a tile, not 16."""
_PARTS = {1: 4 if _TALL else 2}
"""By the rows of a tile, in how many sums each entry is formed, so that enough are under way to
hide how long a multiplication takes.  Where a thread's share ends decides what panel and what
tile an entry is in, and must not decide in what order it is summed: so it is one sum, but in tiles
of one row, which are the last of an odd number of sequences however these are shared."""
_DEPTH = 256
"""Entries of k per pass: a panel's part stays in the cache while the rows of a go by."""

_jit = njit(nogil=True, error_model="numpy")
_WORD, _INDEX = ir.IntType(64), ir.IntType(32)


def lanes(size: int) -> int:
    """Return how many entries of so many bytes a vector has."""
    return VECTOR_BYTES // size


def _tile(rows: int, vectors: int, scalar: Any, size: int) -> Any:
    """Return ``tile(a, lda, p, depth, c, ldc, more)``: c = a p, or c + a p, for so many rows."""
    width, step = lanes(size), VECTOR_BYTES
    vector = ir.VectorType(scalar, width)
    nothing = ir.Constant(vector, ir.Undefined)
    first = ir.Constant(ir.VectorType(_INDEX, width), [0] * width)
    parts = _PARTS.get(rows, 1)

    def number(value: int) -> Any:
        return ir.Constant(_WORD, value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del signature
        a, lda, p, depth, c, ldc, more = args

        def load(address: Any, kind: Any) -> Any:
            return builder.load(builder.inttoptr(address, kind.as_pointer()), align=size)

        def splat(x: Any) -> Any:
            return builder.shuffle_vector(
                builder.insert_element(nothing, x, ir.Constant(_INDEX, 0)), nothing, first
            )

        def add(x: Any, y: Any) -> Any:
            return builder.fadd(x, y, flags=("contract",))

        tiles = [(r, v) for r in range(rows) for v in range(vectors)]
        rows_a = [builder.add(a, builder.mul(number(r * size), lda)) for r in range(rows)]
        rows_c = [builder.add(c, builder.mul(number(r * size), ldc)) for r in range(rows)]
        places = {(r, v): builder.add(rows_c[r], number(v * step)) for r, v in tiles}
        zero = ir.Constant(vector, [0.0] * width)
        # In memory as it is written, in registers when it has been optimised.
        sums = [
            {tile: cgutils.alloca_once(builder, vector) for tile in tiles} for _ in range(parts)
        ]
        with builder.if_else(more) as (then, otherwise):
            with then:
                for tile in tiles:
                    builder.store(load(places[tile], vector), sums[0][tile])
            with otherwise:
                for tile in tiles:
                    builder.store(zero, sums[0][tile])
        for part in sums[1:]:
            for tile in tiles:
                builder.store(zero, part[tile])

        def accumulate(k: Any, part: Any) -> None:
            row = builder.add(p, builder.mul(k, number(vectors * step)))
            ps = [load(builder.add(row, number(v * step)), vector) for v in range(vectors)]
            offset = builder.mul(k, number(size))
            for r in range(rows):
                x = splat(load(builder.add(rows_a[r], offset), scalar))
                for v in range(vectors):
                    product = builder.fmul(x, ps[v], flags=("contract",))
                    builder.store(add(product, builder.load(part[r, v])), part[r, v])

        whole = builder.udiv(depth, number(parts))
        with cgutils.for_range(builder, whole) as loop:
            k = builder.mul(loop.index, number(parts))
            for n, part in enumerate(sums):
                accumulate(builder.add(k, number(n)), part)
        if parts > 1:
            done = builder.mul(whole, number(parts))
            with cgutils.for_range(builder, builder.sub(depth, done)) as loop:
                accumulate(builder.add(done, loop.index), sums[0])
        for tile in tiles:
            total = builder.load(sums[0][tile])
            for part in sums[1:]:
                total = add(total, builder.load(part[tile]))
            pointer = builder.inttoptr(places[tile], vector.as_pointer())
            builder.store(total, pointer, align=size)
        return context.get_dummy_value()

    @intrinsic
    def tile(
        typing: Any, a: Any, lda: Any, p: Any, depth: Any, c: Any, ldc: Any, more: Any
    ) -> tuple[Any, Callable[..., Any]]:
        del typing, a, lda, p, depth, c, ldc, more
        return types.void(*[types.intp] * 6, types.boolean), codegen

    return tile


def _named(function: Any, name: str) -> Any:
    """Return a function of this module, to be compiled, under a name that no other one has.

    Compiled code that is read from disk may hold another process's function of the same name.
    """
    function.__name__ = function.__qualname__ = f"{name}_{VECTOR_BYTES}_{_PARTS.get(1)}"
    return _jit(function)


def _strip(vectors: int, scalar: Any, size: int) -> Any:
    """Return the product with one panel, and some of its rows: a (rows, depth), p (depth, W)."""
    tile6, tile4, tile2, tile1 = (_tile(rows, vectors, scalar, size) for rows in (6, 4, 2, 1))

    def strip(a, lda, p, depth, c, ldc, rows, more):
        r = 0
        while r < rows:
            at_a, at_c, left = a + r * lda * size, c + r * ldc * size, rows - r
            if left >= 6 and _TALL:
                tile6(at_a, lda, p, depth, at_c, ldc, more)
                r += 6
            elif left >= 4 and _TALL:
                tile4(at_a, lda, p, depth, at_c, ldc, more)
                r += 4
            elif left >= 2:
                tile2(at_a, lda, p, depth, at_c, ldc, more)
                r += 2
            else:
                tile1(at_a, lda, p, depth, at_c, ldc, more)
                r += 1

    return _named(strip, f"strip{vectors}_{8 * size}")


def product_for(dtype: str) -> Callable[..., None]:
    """Return ``product(a, lda, p, c, B, K, W)``, which sets c to a p, p packed; not compiled yet.

    It is most of the code of a time loop, so it is compiled by itself (see
    `xprnn.formula.compiled.build.product_address`).
    """
    size = np.dtype(dtype).itemsize
    width = lanes(size)
    scalar = ir.FloatType() if size == 4 else ir.DoubleType()
    strip4, strip2, strip1 = (_strip(vectors, scalar, size) for vectors in (4, 2, 1))

    def product(a, lda, p, c, B, K, W):
        w = 0
        while w < W:
            left = (W - w) // width
            vectors = 4 if left >= 4 else 2 if left >= 2 else 1
            for k in range(0, K, _DEPTH):
                depth, more = min(_DEPTH, K - k), k > 0
                at_a, at_c = a + k * size, c + w * size
                at_p = p + (w * K + k * vectors * width) * size
                if vectors == 4:
                    strip4(at_a, lda, at_p, depth, at_c, W, B, more)
                elif vectors == 2:
                    strip2(at_a, lda, at_p, depth, at_c, W, B, more)
                else:
                    strip1(at_a, lda, at_p, depth, at_c, W, B, more)
            w += vectors * width

    return product


PRODUCT = types.void(*[types.intp] * 7)
"""The signature of `product`."""


@intrinsic
def call_product(
    typing: Any, address: Any, a: Any, lda: Any, p: Any, c: Any, B: Any, K: Any, W: Any
) -> tuple[Any, Callable[..., Any]]:
    """Call a compiled `product` by its address."""
    del typing, address, a, lda, p, c, B, K, W

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del signature
        kind = ir.FunctionType(ir.VoidType(), [_WORD] * 7)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 8), codegen


def _turn(scalar: Any, size: int) -> Any:
    """Return ``turn(a, lda, b, ldb)``: b = aᵀ, of squares of as many rows as a vector has entries.

    In stages, each of which exchanges the off-diagonal halves of squares twice as large as the one
    before did.
    """
    width = lanes(size)
    vector = ir.VectorType(scalar, width)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del signature
        a, lda, b, ldb = args

        def place(address: Any, distance: Any, row: int) -> Any:
            offset = builder.mul(distance, ir.Constant(_WORD, row * size))
            return builder.inttoptr(builder.add(address, offset), vector.as_pointer())

        def mixed(x: Any, y: Any, chosen: list[int]) -> Any:
            mask = ir.Constant(ir.VectorType(_INDEX, width), chosen)
            return builder.shuffle_vector(x, y, mask)

        rows = [builder.load(place(a, lda, row), align=size) for row in range(width)]
        half = 1
        while half < width:
            for n in range(width):
                if not n & half:
                    x, y = rows[n], rows[n + half]
                    low = [width + k - half if k & half else k for k in range(width)]
                    high = [width + k if k & half else k + half for k in range(width)]
                    rows[n], rows[n + half] = mixed(x, y, low), mixed(x, y, high)
            half *= 2
        for row, values in enumerate(rows):
            builder.store(values, place(b, ldb, row), align=size)
        return context.get_dummy_value()

    @intrinsic
    def turn(typing: Any, a: Any, lda: Any, b: Any, ldb: Any) -> tuple[Any, Callable[..., Any]]:
        del typing, a, lda, b, ldb
        return types.void(*[types.intp] * 4), codegen

    return turn


def _pack(scalar: Any, size: int) -> Any:
    """Return ``pack(matrix, first, last, turned, p)``."""
    width, turn = lanes(size), _turn(scalar, size)

    def pack(matrix, first, last, turned, p):
        K = matrix.shape[1] if turned else matrix.shape[0]
        W = (last - first + width - 1) // width * width
        at_matrix, at_p = matrix.ctypes.data, p.ctypes.data
        w = 0
        while w < W:
            left = (W - w) // width
            panel = (4 if left >= 4 else 2 if left >= 2 else 1) * width
            given = min(panel, last - first - w)
            start = first + w
            if turned:
                # What is left over beside whole squares goes entry by entry.
                deep, wide = K // width * width, given // width * width
                for j in range(0, wide, width):
                    for k in range(0, deep, width):
                        at = at_matrix + ((start + j) * K + k) * size
                        turn(at, K, at_p + (w * K + k * panel + j) * size, panel)
                for j in range(given):
                    for k in range(deep if j < wide else 0, K):
                        p[w * K + k * panel + j] = matrix[start + j, k]
            else:
                for k in range(K):
                    for j in range(given):
                        p[w * K + k * panel + j] = matrix[k, start + j]
            if given < panel:
                for k in range(K):
                    for j in range(given, panel):
                        p[w * K + k * panel + j] = 0
            w += panel

    return _named(pack, f"pack{8 * size}")


pack32, pack64 = _pack(ir.FloatType(), 4), _pack(ir.DoubleType(), 8)
