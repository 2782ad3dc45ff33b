"""Matrix products, shared by threads.

The names are those of BLAS, N for a matrix as it is stored and T for a transposed one: ``nn`` is
a b, ``nt`` is a bᵀ, ``tn`` is aᵀ b.  The operands of all functions are in row-major order unless
they say otherwise, and have the same dtype, float32 or float64.  The bits of a result do not depend
on the number of threads: these share rows, columns, or a fixed number of sums, and each entry is
formed in the same way whichever thread forms it.
"""

from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

from numba import types

from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.pool import empty
from xprnn.backend.host.threads import compute_threads, share
from xprnn.backend.numba.addresses import BLOCKS, compile_ahead, product_table
from xprnn.backend.numba.build import build_closure
from xprnn.backend.numba.intrinsics import call
from xprnn.backend.numba.tiles import lanes

_TILE_ROWS = 12
"""A number of rows that is filled by tiles of the largest height, whichever the processor has."""


def _product_for(dtype: str) -> Callable[..., None]:
    """Return ``product(table, a, b, c, bias, rows, columns, terms, flags)``, not compiled.

    c = a b + bias, or c + a b.  ``table`` as in `xprnn.backend.numba.addresses`.

    ``rows``, ``columns`` and ``terms`` are pairs: the first of those that are computed, and the one
    after the last.  bias (M,), or (0,) for none.  ``flags`` as for `blocks_for`; a and b are given
    as they are stored.
    """
    size = np.dtype(dtype).itemsize

    def product(table, a, b, c, bias, rows, columns, terms, flags):
        turned_a, turned_b, more, few = flags
        lda, ldb, ldc = a.strides[0] // size, b.strides[0] // size, c.strides[0] // size
        (r, r_end), (m, m_end), (k, k_end) = rows, columns, terms
        at_a = a.ctypes.data + (k * lda + r if turned_a else r * lda + k) * size
        at_b = b.ctypes.data + (m * ldb + k if turned_b else k * ldb + m) * size
        at_c, n, M, K = c.ctypes.data + (r * ldc + m) * size, r_end - r, m_end - m, k_end - k
        s, given = bias.ctypes.data + m * size, min(bias.shape[0], 1)
        shape = at_a, lda, at_b, ldb, at_c, ldc, n, K, M, s, given
        call(table, BLOCKS, (table, *shape, turned_a, turned_b, more, few))

    return product


@cache
def _compiled(dtype: Any) -> Callable[..., None]:
    entry = types.float32 if dtype.itemsize == 4 else types.float64
    given, filled = types.Array(entry, 2, "A", readonly=True), types.Array(entry, 2, "A")
    bias, pair = types.Array(entry, 1, "C", readonly=True), types.UniTuple(types.intp, 2)
    flags = types.UniTuple(types.intp, 4)
    signature = types.void(types.intp, given, given, filled, bias, pair, pair, pair, flags)
    words, meanwhile = f"matrix products in {dtype.name}", partial(compile_ahead, dtype.name)
    built = build_closure(_product_for(dtype.name), signature, announced=words, meanwhile=meanwhile)
    return partial(built.call, product_table(dtype.name))


@cache
def _none(dtype: Any) -> HostArray:
    """Return what stands for no bias."""
    return np.empty(0, dtype)


class Product(NamedTuple):
    """A product that is to be formed, possibly by several threads, of which each does a part.

    Attributes
    ----------
    c : array, (n, M)
        Gets the product; or it is added to what c has.
    """

    call: Callable[..., None]
    a: HostArray
    b: HostArray
    c: HostArray
    bias: HostArray
    terms: int
    flags: tuple[bool, bool, bool, bool]

    @property
    def work(self) -> int:
        """The multiplications."""
        return self.c.size * self.terms

    def do(self, k: int, threads: int) -> None:
        """Form the k-th of as many parts as there are threads."""
        n, M = self.c.shape
        rows, columns = (0, n), (0, M)
        if threads > 1 and n < M:
            # Whole vectors, not the widest strips, of which one more would make a thread late.
            width = lanes(self.a.itemsize)
            columns = _shares(M // width, threads, width, M)[k]
        elif threads > 1:
            rows = _shares(n // _TILE_ROWS, threads, _TILE_ROWS, n)[k]
        terms = (0, self.terms)
        self.call(self.a, self.b, self.c, self.bias, rows, columns, terms, self.flags)


def planned(
    a: HostArray,
    b: HostArray,
    c: HostArray,
    bias: HostArray | None = None,
    *,
    turned_a: bool = False,
    turned_b: bool = False,
    more: bool = False,
) -> Product:
    """Return a product that is to be formed; see `_product_for`."""
    flags = turned_a, turned_b, more, len(c) <= tuning.NN_FEW_ROWS
    given = _none(a.dtype) if bias is None else bias
    terms = len(a) if turned_a else a.shape[1]
    return Product(_compiled(a.dtype), a, b, c, given, terms, flags)


def form(
    a: HostArray,
    b: HostArray,
    c: HostArray,
    bias: HostArray | None = None,
    *,
    turned_a: bool = False,
    turned_b: bool = False,
    more: bool = False,
) -> None:
    """Form a product at once, in several threads if there is enough to do."""
    terms = len(a) if turned_a else a.shape[1]
    threads = threads_for(c.size * terms)
    if threads > 1:
        product = planned(a, b, c, bias, turned_a=turned_a, turned_b=turned_b, more=more)
        share(lambda k: product.do(k, threads), range(threads))
        return
    (n, M), flags = c.shape, (turned_a, turned_b, more, len(c) <= tuning.NN_FEW_ROWS)
    given = _none(a.dtype) if bias is None else bias
    _compiled(a.dtype)(a, b, c, given, (0, n), (0, M), (0, terms), flags)


def threads_for(work: int) -> int:
    """Return how many threads so many multiplications get."""
    threads = work // tuning.PRODUCT_PER_THREAD
    return threads if threads < 2 else min(compute_threads(), threads)


def multiply_nt(a: HostArray, b: HostArray, bias: HostArray | None = None) -> HostArray:
    """Return a bᵀ + bias, of a (n, K), b (M, K) and bias (M,)."""
    c = empty((len(a), len(b)), a.dtype)
    form(a, b, c, bias, turned_b=True)
    return c


def sums_parts(n: int, K: int) -> bool:
    """Whether a product NN of these sizes is the sum of a few parts of its sums."""
    return n <= tuning.NN_FEW_ROWS and K >= tuning.NN_PARTS * tuning.PASS_TERMS


def multiply_nn(a: HostArray, b: HostArray, bias: HostArray | None = None) -> HostArray:
    """Return a b + bias, of a (n, K), b (K, M) and bias (M,)."""
    (n, K), M = a.shape, b.shape[1]
    if not sums_parts(n, K):
        c = empty((n, M), a.dtype)
        form(a, b, c, bias)
        return c
    # There are too few rows for threads to share them; they share the terms of the sums.
    product, count, dtype = _compiled(a.dtype), tuning.NN_PARTS, a.dtype
    sums = empty((count, n, M), dtype)
    parts, flags = _shares(K, count, 1, K), (False, False, False, True)
    threads = max(1, threads_for(n * K * M))

    def mine(thread: int) -> None:
        for k in range(thread, count, threads):
            given = _none(dtype) if k or bias is None else bias
            product(a, b, sums[k], given, (0, n), (0, M), parts[k], flags)

    if threads == 1:
        mine(0)
    else:
        share(mine, range(threads))
    return np.add.reduce(sums, axis=0, out=empty((n, M), dtype))


def multiply_tn(a: HostArray, b: HostArray) -> HostArray:
    """Return aᵀ b, of a (K, M), whose rows may have any distance, and b (K, N)."""
    c = empty((a.shape[1], b.shape[1]), a.dtype)
    form(a, b, c, turned_a=True)
    return c


def add_tn(a: HostArray, b: HostArray, c: HostArray) -> None:
    """Add aᵀ b to c (M, N), of a (K, M), whose rows may have any distance, and b (K, N)."""
    form(a, b, c, turned_a=True, more=True)


def _shares(count: int, parts: int, size: int, end: int) -> list[tuple[int, int]]:
    """Divide ``count`` pieces of ``size`` among ``parts``; return the bounds of each part.

    The last part reaches to ``end``, which is more than the pieces if it is not a multiple of them.
    """
    bounds = [count * k // parts * size for k in range(parts)]
    return list(pairwise([*bounds, end]))
