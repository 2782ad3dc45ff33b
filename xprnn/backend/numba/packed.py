"""The product of a time step, by a matrix that is the same at every step.

A BLAS is slow at small products: it packs the matrix again each time, and its threads synchronise
twice per product.  Here the matrix is packed once for all steps (`pack_for`) into *panels*,
a few vectors wide, whose rows are contiguous.  The product goes over the panels with the tiles of
`xprnn.backend.numba.tiles`.  Each thread of a team has some of the columns, and the same sums are
formed in the same order however many threads there are.

Shapes: c = a p, of a (B, K), whose rows are ``lda`` apart; p, a packed matrix of K·W entries; and
c (B, W), contiguous.  Strides and sizes are counted in entries, and addresses are integers.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import np
from xprnn.backend.numba.intrinsics import call, row
from xprnn.backend.numba.tiles import INDEX, PLAIN, SHAPE, WORD, lanes, named, next_width


def product_for(dtype: str) -> Callable[..., None]:
    """Return ``product(table, a, lda, p, c, B, K, W, back)``, not compiled, which sets c = a p.

    With ``back``, it goes over the panels from the last to the first.  If p is larger than the
    cache and the direction alternates from step to step, each product begins with the panels that
    the one before has left in the cache.

    ``table`` as in `xprnn.backend.numba.addresses`, by which a time loop calls it.
    """
    size = np.dtype(dtype).itemsize
    width, DEPTH, V = lanes(size), tuning.STEP_PASS_ROWS, SHAPE.vectors

    def product(table, a, lda, p, c, B, K, W, back):
        vectors = W // width
        whole = vectors // V
        if whole and next_width(vectors - (whole - 1) * V) < V:
            whole -= 1
        left = vectors - whole * V
        count = whole + left // 2 + left % 2
        for i in range(count):
            n = count - 1 - i if back else i
            w = (V * n if n <= whole else V * whole + 2 * (n - whole)) * width
            wide = V if n < whole else min(2, vectors - w // width)
            for k in range(0, K, DEPTH):
                depth, more = min(DEPTH, K - k), 1 if k > 0 else 0
                at_a, at_c = a + k * size, c + w * size
                at_p, ldp = p + (w * K + k * wide * width) * size, wide * width
                args = at_a, lda, 1, at_p, ldp, depth, at_c, W, at_c, W, B, more, 0
                call(table, PLAIN + wide, args)

    return product


def turn_for(scalar: Any, size: int) -> Any:
    """Return ``turn(a, lda, b, ldb)``, which sets b to aᵀ, for squares with the side of a vector.

    The rows are held in registers, which consist of lanes of 16 bytes.  Squares with the side of a
    lane are transposed first, by exchanges inside of lanes, and then the square of lanes, so that
    every step is one instruction of x86.
    """
    width = lanes(size)
    vector, side = ir.VectorType(scalar, width), 16 // size

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del signature
        a, lda, b, ldb = args

        def place(address: Any, distance: Any, row: int) -> Any:
            offset = builder.mul(distance, ir.Constant(WORD, row * size))
            return builder.inttoptr(builder.add(address, offset), vector.as_pointer())

        def mixed(x: Any, y: Any, chosen: list[int]) -> Any:
            mask = ir.Constant(ir.VectorType(INDEX, width), chosen)
            return builder.shuffle_vector(x, y, mask)

        def merged(x: Any, y: Any, run: int) -> list[Any]:
            """Return x and y merged lane by lane, runs of entries of both in turn."""
            pairs = []
            for half in (0, side // 2):
                one = [lane + half + k for lane in range(0, width, side) for k in range(side // 2)]
                taken = [one[n : n + run] for n in range(0, len(one), run)]
                chosen = [k for part in taken for k in (*part, *(width + k for k in part))]
                pairs.append(mixed(x, y, chosen))
            return pairs

        def dealt(x: Any, y: Any) -> tuple[Any, Any]:
            """Return the lanes of x and y of even numbers, and those of odd ones."""
            starts = range(0, 2 * width, side)
            even, odd = ([start + k for start in starts[n::2] for k in range(side)] for n in (0, 1))
            return mixed(x, y, even), mixed(x, y, odd)

        def turned(rows: list[Any]) -> list[Any]:
            """Return a square of lanes, transposed."""
            if len(rows) == 1:
                return rows
            pairs = [dealt(x, y) for x, y in zip(rows[::2], rows[1::2], strict=True)]
            halves = [turned(list(half)) for half in zip(*pairs, strict=True)]
            return [row for pair in zip(*halves, strict=True) for row in pair]

        rows = [builder.load(place(a, lda, row), align=size) for row in range(width)]
        if side == 2:
            for n in range(0, width, 2):
                rows[n : n + 2] = merged(rows[n], rows[n + 1], 1)
        else:
            for n in range(0, width, 4):
                (p, q), (r, s) = (merged(rows[k], rows[k + 1], 1) for k in (n, n + 2))
                rows[n : n + 4] = merged(p, r, 2) + merged(q, s, 2)
        for k in range(side):
            for n, values in enumerate(turned(rows[k::side])):
                builder.store(values, place(b, ldb, n * side + k), align=size)
        return context.get_dummy_value()

    @intrinsic
    def turn(typing: Any, a: Any, lda: Any, b: Any, ldb: Any) -> tuple[Any, Callable[..., Any]]:
        del typing, a, lda, b, ldb
        return types.void(*[types.intp] * 4), codegen

    return turn


def pack_for(dtype: str) -> Callable[..., None]:
    """Return ``pack(matrix, rows, length, first, last, turned, p)``, not compiled.

    It packs columns first to last of a matrix (rows, length) into p; ``turned``: those of the
    transposed matrix.  The last panel is padded with zeros to whole vectors.
    """
    size, zero, BLOCK = np.dtype(dtype).itemsize, getattr(np, dtype)(0), tuning.PACKED_ROWS
    width, transposed = lanes(size), _transposed_for(dtype)

    def pack(matrix, rows, length, first, last, turned, p):
        K = length if turned else rows
        W = (last - first + width - 1) // width * width
        # Rows of the matrix are read whole, a few at a time: each is on a page of memory of its
        # own if it is long.
        block = K if turned else BLOCK
        for begin in range(0, K, block):
            end, w = min(K, begin + block), 0
            while w < W:
                panel = next_width((W - w) // width) * width
                given, at_p = min(panel, last - first - w), p + w * K * size
                if turned:
                    transposed(matrix + (first + w) * K * size, given, K, at_p, panel)
                else:
                    for k in range(begin, end):
                        x = row(zero, matrix + (k * length + first + w) * size, given)
                        y = row(zero, at_p + k * panel * size, given)
                        for j in range(given):
                            y[j] = x[j]
                if given < panel:
                    y = row(zero, at_p, K * panel)
                    for k in range(begin, end):
                        for j in range(given, panel):
                            y[k * panel + j] = 0
                w += panel

    return pack


def _transposed_for(dtype: str) -> Any:
    """Return ``transposed(a, count, K, p, panel)``: p gets some rows, of K entries, as columns."""
    size, zero = np.dtype(dtype).itemsize, getattr(np, dtype)(0)
    width, scalar = lanes(size), ir.FloatType() if size == 4 else ir.DoubleType()
    turn = turn_for(scalar, size)

    def transposed(a, count, K, p, panel):
        # Whole squares are transposed in registers, the rest entry by entry.
        deep, wide = K // width * width, count // width * width
        for j in range(0, wide, width):
            for k in range(0, deep, width):
                turn(a + (j * K + k) * size, K, p + (k * panel + j) * size, panel)
        y = row(zero, p, K * panel)
        for j in range(count):
            x = row(zero, a + j * K * size, K)
            for k in range(deep if j < wide else 0, K):
                y[k * panel + j] = x[k]

    return named(transposed, f"transposed{8 * size}")
