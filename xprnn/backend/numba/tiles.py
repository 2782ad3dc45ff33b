"""Tiles of a product, whose sums stay in registers while they go along k.

What every product here is made of (K. Goto and R. van de Geijn, "Anatomy of high-performance matrix
multiplication", ACM TOMS 34, 2008).

Shapes: a (rows, depth), its rows ``lda`` and its columns ``ka`` apart; p (depth, W), its rows
``ldp`` apart; c (rows, W), its rows
``ldc`` apart.  Addresses are integers, strides and sizes are
counted in entries.
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_FEATURES = llvm.get_host_cpu_features()
VECTOR_BYTES = 64 if _FEATURES.get("avx512f") else 32 if _FEATURES.get("avx2") else 16
_TALL = VECTOR_BYTES != 32
"""Whether there are 32 registers for the sums of a tile, not 16."""
_PARTS = {1: 4 if _TALL else 2}
"""By the rows of a tile, in how many sums each entry is formed, so that enough are under way to
hide how long a multiplication takes.  Where a thread's share ends decides what panel and what
tile an entry is in, and must not decide in what order it is summed: so it is one sum, but in tiles
of one row, which are the last of an odd number of sequences however these are shared."""

WORD, INDEX = ir.IntType(64), ir.IntType(32)
_jit = njit(nogil=True, error_model="numpy")


def lanes(size: int) -> int:
    """Return how many entries of so many bytes a vector has."""
    return VECTOR_BYTES // size


def _tile(rows: int, vectors: int, scalar: Any, size: int) -> Any:
    """Return ``tile(a, lda, ka, p, ldp, depth, c, ldc, s, lds, more)``, of so many rows.

    c = a p, or with ``more`` s + a p: s is c itself, or one row for all of them, with lds = 0.
    """
    width, step = lanes(size), VECTOR_BYTES
    vector = ir.VectorType(scalar, width)
    nothing = ir.Constant(vector, ir.Undefined)
    first = ir.Constant(ir.VectorType(INDEX, width), [0] * width)
    parts = _PARTS.get(rows, 1)

    def number(value: int) -> Any:
        return ir.Constant(WORD, value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del signature
        a, lda, ka, p, ldp, depth, c, ldc, s, lds, more = args

        def load(address: Any, kind: Any) -> Any:
            return builder.load(builder.inttoptr(address, kind.as_pointer()), align=size)

        def splat(x: Any) -> Any:
            return builder.shuffle_vector(
                builder.insert_element(nothing, x, ir.Constant(INDEX, 0)), nothing, first
            )

        def add(x: Any, y: Any) -> Any:
            return builder.fadd(x, y, flags=("contract",))

        tiles = [(r, v) for r in range(rows) for v in range(vectors)]
        rows_a = [builder.add(a, builder.mul(number(r * size), lda)) for r in range(rows)]
        rows_c = [builder.add(c, builder.mul(number(r * size), ldc)) for r in range(rows)]
        rows_s = [builder.add(s, builder.mul(number(r * size), lds)) for r in range(rows)]
        places = {(r, v): builder.add(rows_c[r], number(v * step)) for r, v in tiles}
        zero = ir.Constant(vector, [0.0] * width)
        row_bytes, column_bytes = builder.mul(ldp, number(size)), builder.mul(ka, number(size))
        # In memory as it is written, in registers when it has been optimised.
        sums = [
            {tile: cgutils.alloca_once(builder, vector) for tile in tiles} for _ in range(parts)
        ]
        with builder.if_else(more) as (then, otherwise):
            with then:
                for tile in tiles:
                    start = builder.add(rows_s[tile[0]], number(tile[1] * step))
                    builder.store(load(start, vector), sums[0][tile])
            with otherwise:
                for tile in tiles:
                    builder.store(zero, sums[0][tile])
        for part in sums[1:]:
            for tile in tiles:
                builder.store(zero, part[tile])

        def accumulate(k: Any, part: Any) -> None:
            row = builder.add(p, builder.mul(k, row_bytes))
            ps = [load(builder.add(row, number(v * step)), vector) for v in range(vectors)]
            offset = builder.mul(k, column_bytes)
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
        typing: Any,
        a: Any,
        lda: Any,
        ka: Any,
        p: Any,
        ldp: Any,
        depth: Any,
        c: Any,
        ldc: Any,
        s: Any,
        lds: Any,
        more: Any,
    ) -> tuple[Any, Callable[..., Any]]:
        del typing, a, lda, ka, p, ldp, depth, c, ldc, s, lds, more
        return types.void(*[types.intp] * 10, types.boolean), codegen

    return tile


def named(function: Any, name: str) -> Any:
    """Return a function, to be compiled, under a name that no other one has.

    Compiled code that is read from disk may hold another process's function of the same name.
    """
    function.__name__ = function.__qualname__ = f"{name}_{VECTOR_BYTES}_{_PARTS.get(1)}"
    return _jit(function)


def strip_for(vectors: int, scalar: Any, size: int) -> Any:
    """Return ``strip(a, lda, ka, p, ldp, depth, c, ldc, s, lds, rows, more)``: of any rows."""
    tile6, tile4, tile2, tile1 = (_tile(rows, vectors, scalar, size) for rows in (6, 4, 2, 1))

    def strip(a, lda, ka, p, ldp, depth, c, ldc, s, lds, rows, more):
        r = 0
        while r < rows:
            at_a, at_c, at_s = a + r * lda * size, c + r * ldc * size, s + r * lds * size
            left = rows - r
            if left >= 6 and _TALL:
                tile6(at_a, lda, ka, p, ldp, depth, at_c, ldc, at_s, lds, more)
                r += 6
            elif left >= 4 and _TALL:
                tile4(at_a, lda, ka, p, ldp, depth, at_c, ldc, at_s, lds, more)
                r += 4
            elif left >= 2:
                tile2(at_a, lda, ka, p, ldp, depth, at_c, ldc, at_s, lds, more)
                r += 2
            else:
                tile1(at_a, lda, ka, p, ldp, depth, at_c, ldc, at_s, lds, more)
                r += 1

    return named(strip, f"strip{vectors}_{8 * size}")
