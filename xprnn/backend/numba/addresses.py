"""Compiled functions that other compiled code calls by their address.

A function that Numba compiles takes copies of the functions that it calls, which LLVM then
optimises once more in each of them.  So what products and time loops have in common, which is most
of their code, is compiled apart from them, once.  Its addresses are in a table for each dtype, an
array of integers, and callers are given the address of the table (see `intrinsics.call`).
"""

import inspect
from collections.abc import Callable
from functools import cache, partial

from numba import types

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.numba.ahead import AHEAD
from xprnn.backend.numba.blocks import blocks_for
from xprnn.backend.numba.build import Built, build_closure
from xprnn.backend.numba.packed import pack_for, product_for
from xprnn.backend.numba.tiles import PLAIN, STRIPS, strip_for

PRODUCT, PACK, BLOCKS = 10, 11, 12
"""Places in the table: of `packed.product_for`, `packed.pack_for` and `blocks.blocks_for`.

Those before are of the strips (`tiles.strip_for`), by the number of their vectors; plain ones come
`tiles.PLAIN` places later."""

_FUNCTIONS: dict[int, Callable[[str], Callable[..., None]]] = {
    **{n: partial(strip_for, n, plain=False) for n in STRIPS},
    **{PLAIN + n: partial(strip_for, n, plain=True) for n in STRIPS},
    PRODUCT: product_for,
    PACK: pack_for,
    BLOCKS: blocks_for,
}
_OF_LOOPS = (*[PLAIN + n for n in STRIPS], PRODUCT, PACK)
_OF_PRODUCTS = (*STRIPS, BLOCKS)
# The machine code is freed with the object that compiled it.
_kept_alive: list[Built] = []


@cache
def loop_table(dtype: str) -> int:
    """Return the address of the table for a time loop, with all that it calls."""
    return _filled(dtype, *_OF_LOOPS)


@cache
def product_table(dtype: str) -> int:
    """Return the address of the table for products of all steps."""
    return _filled(dtype, *_OF_PRODUCTS)


def compile_ahead(dtype: str) -> None:
    """Have all of a table compiled by the second process, the last first: this one begins with
    the others.
    """
    AHEAD.ask(__name__, "compile_places", dtype, (*_OF_LOOPS[::-1], *_OF_PRODUCTS[::-1]))


def compile_places(dtype: str, places: tuple[int, ...]) -> None:
    """Compile what belongs to these places of a table, in this order."""
    _filled(dtype, *places)


@cache
def _table(dtype: str) -> HostArray:
    del dtype
    return np.zeros(13, np.int64)


def _filled(dtype: str, *places: int) -> int:
    """Compile what belongs to these places of a table, and return its address."""
    table = _table(dtype)
    for n in places:
        function = _FUNCTIONS[n](dtype)
        signature = types.void(*[types.intp] * len(inspect.signature(function).parameters))
        built = build_closure(function, signature, by_address=True, key=n)
        _kept_alive.append(built)
        table[n] = built.call.address
    return int(table.ctypes.data)
