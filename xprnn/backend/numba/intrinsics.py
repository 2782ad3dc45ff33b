"""What compiled code needs and Numba's Python can't say.

A barrier for threads, calls of addresses, array views of them, fetching what they hold ahead of its
use, and keeping an array alive.
"""

import os
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from xprnn.backend.host import tuning

_POSIX = os.name == "posix"
_SPINS = tuning.BARRIER_SPINS
_WORD = ir.IntType(64)


@intrinsic
def _fetch_add(typing: Any, address: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """Add to an integer that other threads read, atomically, and return its former value."""
    del typing, address, value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del context, signature
        pointer = builder.inttoptr(args[0], _WORD.as_pointer())
        return builder.atomic_rmw("add", pointer, args[1], "seq_cst")

    return types.intp(types.intp, types.intp), codegen


@intrinsic
def get(typing: Any, address: Any) -> tuple[Any, Callable[..., Any]]:
    """Return an integer that other threads write, read atomically."""
    del typing, address

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del context, signature
        pointer = builder.inttoptr(args[0], _WORD.as_pointer())
        return builder.load_atomic(pointer, "acquire", 8)

    return types.intp(types.intp), codegen


@intrinsic
def _let_go(typing: Any) -> tuple[Any, Callable[..., Any]]:
    """Yield the core to another thread, on systems with the C function ``sched_yield``."""
    del typing

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del signature, args
        if _POSIX:
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def call(typing: Any, table: Any, n: Any, args: Any) -> tuple[Any, Callable[..., Any]]:
    """Call the n-th compiled function of a table of addresses with a tuple of integers.

    They are in `xprnn.backend.numba.addresses`.
    """
    del typing, table, n

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del signature
        table, n, given = args
        place = builder.gep(builder.inttoptr(table, _WORD.as_pointer()), [n])
        numbers = cgutils.unpack_tuple(builder, given)
        kind = ir.FunctionType(ir.VoidType(), [_WORD] * len(numbers))
        builder.call(builder.inttoptr(builder.load(place), kind.as_pointer()), numbers)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, args), codegen


@intrinsic
def fetch(typing: Any, address: Any) -> tuple[Any, Callable[..., Any]]:
    """Have the cache line of an address brought into the caches, without waiting for it."""
    del typing, address

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del signature
        place, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place, number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        # It is read, kept as near as possible, and data.
        how = [ir.Constant(number, value) for value in (0, 3, 1)]
        builder.call(prefetch, [builder.inttoptr(args[0], place), *how])
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def row(typing: Any, like: Any, address: Any, n: Any) -> tuple[Any, Callable[..., Any]]:
    """Return n numbers at an address, of the type of ``like``, as an array.

    It is a view, without any check of its bounds.
    """
    del typing, address, n
    kind = types.Array(like, 1, "C")

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del signature
        array = cgutils.create_struct_proxy(kind)(context, builder)
        size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
        pointer = builder.inttoptr(args[1], context.get_data_type(kind.dtype).as_pointer())
        step = context.get_constant(types.intp, size)
        populate_array(array, pointer, [args[2]], [step], step, None, None)
        return array._getvalue()

    return kind(like, types.intp, types.intp), codegen


@intrinsic
def hold(typing: Any, array: Any) -> tuple[Any, Callable[..., Any]]:
    """Keep an array alive up to this call.

    Numba frees an array after the last use that it sees, and using its address is not one.
    """
    del typing

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del builder, signature, args
        return context.get_dummy_value()

    return types.void(array), codegen


@njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
def meet(sync, team, count):
    """Wait until all ``team`` threads have called this ``count`` times.

    ``sync`` is the address of a counter of the calls, which starts at 0.
    """
    _fetch_add(sync, 1)
    spins = 0
    while get(sync) < team * count:
        spins += 1
        if spins > _SPINS:
            _let_go()
