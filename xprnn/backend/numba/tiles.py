"""Tiles: small blocks of a matrix product whose sums stay in registers.

All compiled products are made of them (K. Goto and R. van de Geijn, "Anatomy of high-performance
matrix multiplication", ACM TOMS 34, 2008).  A tile has a few rows and a few vectors of columns.
For each k, it loads the vectors of row k of p once, and adds them, times an entry of a, to the sums
of each of its rows.  How many rows and vectors depends on the processor (`tuning.TILES`).

Shapes: c = a p, of a (rows, depth), p (depth, W) and c (rows, W).  ``lda`` and ``ka`` are the
strides of the rows and columns of a; ``ldp`` and ``ldc`` those of the rows of p and c.  Strides and
sizes are counted in entries, and addresses are integers.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import np
from xprnn.backend.numba.target import target

VECTOR_BYTES = target().vector_bytes
"""Bytes of the vectors that tiles are computed in: the widest that the processor has."""
SHAPE = tuning.tile_shape(8 * VECTOR_BYTES, target().registers)
"""The sizes of the tiles.

The order of summation must not depend on how threads share the rows, which decides the tile that an
entry falls into.  So all tiles sum over k in order, except those of one row, `SHAPE.parts` partial
sums of which hide the latency of multiplications: that is the last row of an odd number, however
the rows are shared.
"""
WIDE = SHAPE.vectors

WORD, INDEX = ir.IntType(64), ir.IntType(32)
# Only compiled code calls these.
_jit = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


def lanes(size: int) -> int:
    """Return how many entries of ``size`` bytes a vector has."""
    return VECTOR_BYTES // size


def _tile(rows: int, vectors: int, scalar: Any, size: int) -> Any:
    """Return ``tile(a, lda, ka, p, ldp, depth, c, ldc, s, lds, more, twice)``, of this size.

    It sets c = a p; with ``more``, c = s + a p, where s is c itself, or one row that is added to
    all rows (lds = 0).  The first ``twice`` columns of c, less than a vector, stay as they are.
    """
    width, step = lanes(size), VECTOR_BYTES
    vector = ir.VectorType(scalar, width)
    lane = ir.Constant(ir.VectorType(WORD, width), list(range(width)))
    parts = SHAPE.parts if rows == 1 else 1

    def number(value: int) -> Any:
        return ir.Constant(WORD, value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del signature
        a, lda, ka, p, ldp, depth, c, ldc, s, lds, more, twice = args

        def load(address: Any, kind: Any) -> Any:
            return builder.load(builder.inttoptr(address, kind.as_pointer()), align=size)

        def add(x: Any, y: Any) -> Any:
            return builder.fadd(x, y, flags=("contract",))

        tiles = [(r, v) for r in range(rows) for v in range(vectors)]
        rows_a = [builder.add(a, builder.mul(number(r * size), lda)) for r in range(rows)]
        rows_c = [builder.add(c, builder.mul(number(r * size), ldc)) for r in range(rows)]
        rows_s = [builder.add(s, builder.mul(number(r * size), lds)) for r in range(rows)]
        places = {(r, v): builder.add(rows_c[r], number(v * step)) for r, v in tiles}
        zero = ir.Constant(vector, [0.0] * width)
        row_bytes, column_bytes = builder.mul(ldp, number(size)), builder.mul(ka, number(size))
        # Variables in memory, which the optimiser turns into registers.
        sums = [
            {tile: cgutils.alloca_once(builder, vector) for tile in tiles} for _ in range(parts)
        ]
        for part in sums:
            for tile in tiles:
                builder.store(zero, part[tile])

        def accumulate(k: Any, part: Any) -> None:
            row = builder.add(p, builder.mul(k, row_bytes))
            ps = [load(builder.add(row, number(v * step)), vector) for v in range(vectors)]
            offset = builder.mul(k, column_bytes)
            for r in range(rows):
                x = _splat(builder, load(builder.add(rows_a[r], offset), scalar), vector)
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
        for part in sums[1:]:
            for tile, total in sums[0].items():
                builder.store(add(builder.load(total), builder.load(part[tile])), total)
        # What there was is added last: a long sum has as many terms as it has passes, each of which
        # is a short one, and is the more accurate for it.
        with builder.if_then(more):
            for (r, v), total in sums[0].items():
                start = load(builder.add(rows_s[r], number(v * step)), vector)
                builder.store(add(builder.load(total), start), total)
        with builder.if_then(builder.icmp_signed(">", twice, number(0)), likely=False):
            new = builder.icmp_signed(">=", lane, _splat(builder, twice, lane.type))
            for tile in tiles[::vectors]:
                total = builder.select(new, builder.load(sums[0][tile]), load(places[tile], vector))
                builder.store(total, sums[0][tile])
        for tile in tiles:
            pointer = builder.inttoptr(places[tile], vector.as_pointer())
            builder.store(builder.load(sums[0][tile]), pointer, align=size)
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
        twice: Any,
    ) -> tuple[Any, Callable[..., Any]]:
        del typing, a, lda, ka, p, ldp, depth, c, ldc, s, lds, more, twice
        return types.void(*[types.intp] * 10, types.boolean, types.intp), codegen

    return tile


def _splat(builder: Any, x: Any, kind: Any) -> Any:
    """Return a vector of which every entry is x."""
    nothing = ir.Constant(kind, ir.Undefined)
    first = ir.Constant(ir.VectorType(INDEX, kind.count), [0] * kind.count)
    one = builder.insert_element(nothing, x, ir.Constant(INDEX, 0))
    return builder.shuffle_vector(one, nothing, first)


def named(function: Any, name: str) -> Any:
    """Return a function, to be compiled, renamed so that the name says all that it depends on.

    Code loaded from disk may contain a function that another process compiled.  If it had the same
    name but depended on other constants, the linker would take one for the other.
    """
    shape = "_".join(map(str, SHAPE))
    function.__name__ = function.__qualname__ = f"{name}_{VECTOR_BYTES}_{shape}"
    return _jit(function)


def _next_width(vectors):
    """Return how many vectors the next strip has, of those that remain.

    Two strips of two vectors are better than one of three and one of a single vector, whose tiles
    have too few sums to hide the latency of multiplications.
    """
    if vectors >= WIDE and (WIDE != 3 or vectors != 4):
        return WIDE
    return 2 if vectors >= 2 else 1


STRIPS = tuple(sorted({WIDE, 2, 1}))
"""How many vectors wide strips are."""
PLAIN = 5
"""By how much the number of a strip is larger, in a table of addresses, if it is plain."""


def strip_for(vectors: int, dtype: str, *, plain: bool) -> Callable[..., None]:
    """Return ``strip(a, lda, ka, p, ldp, depth, c, ldc, s, lds, rows, more, twice)``, not compiled.

    It computes any number of rows of c, a few vectors wide, with the tallest tiles that fit.  All
    its arguments are integers, also ``more``; see `_tile`.  ``plain``: a is in row-major order and
    no column is computed twice (ka = 1, twice = 0).  To know that saves a tenth at a single row.

    Two tiles of medium height are better than a tall one and two rows that are left over, because
    a tile of two rows has too few sums to hide the latency of multiplications.
    """
    size = np.dtype(dtype).itemsize
    scalar = ir.FloatType() if size == 4 else ir.DoubleType()
    tallest = {2: SHAPE.rows_of_two, 1: SHAPE.rows_of_one, SHAPE.vectors: SHAPE.rows}
    TALL, MEDIUM, KNOWN = tallest[vectors], 4, plain
    tall, medium, tile2, tile1 = (
        _tile(rows, vectors, scalar, size) for rows in (TALL, MEDIUM, 2, 1)
    )

    def strip(a, lda, ka, p, ldp, depth, c, ldc, s, lds, rows, more, twice):
        if KNOWN:
            ka, twice = 1, 0
        r, added = 0, more != 0
        while r < rows:
            at_a, at_c, at_s = a + r * lda * size, c + r * ldc * size, s + r * lds * size
            left = rows - r
            if left >= TALL and (left - TALL < 2 or left - TALL >= MEDIUM or left < 2 * MEDIUM):
                tall(at_a, lda, ka, p, ldp, depth, at_c, ldc, at_s, lds, added, twice)
                r += TALL
            elif left >= MEDIUM:
                medium(at_a, lda, ka, p, ldp, depth, at_c, ldc, at_s, lds, added, twice)
                r += MEDIUM
            elif left >= 2:
                tile2(at_a, lda, ka, p, ldp, depth, at_c, ldc, at_s, lds, added, twice)
                r += 2
            else:
                tile1(at_a, lda, ka, p, ldp, depth, at_c, ldc, at_s, lds, added, twice)
                r += 1

    return strip


next_width = named(_next_width, "next_width")
