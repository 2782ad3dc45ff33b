"""Whether an array has the form that it should have, and where a call went wrong."""

import linecache
import traceback
from pathlib import Path

import xprnn
from xprnn.backend import HALVES, Backend, describe, dtype_name
from xprnn.backend.host.arrays import HostArray
from xprnn.backend.types import Array

_HOME = Path(xprnn.__file__).parent


def misfit(backend: Backend, array: Array, want: HostArray, *, wide: bool = False) -> str:
    """Return what is wrong with the form of an array; an empty text if nothing is.

    With ``wide`` it may be of float32 where the backend computes in 16 bits, as sums are.
    """
    if not backend.library.is_array(array):
        return f"that is {describe(array)}: expected one of {backend.name}"
    if not backend.owns(array):
        there = backend.library.device_of(array)
        return f"on device {there}: expected {backend.device}"
    if want.dtype.kind == "f":
        kind, good = backend.dtype_name, bool(array.dtype == backend.dtype)
        good = good or (wide and kind in HALVES and dtype_name(array.dtype) == "float32")
    else:
        kind = "bool" if want.dtype.kind == "b" else "integral"
        good = bool(backend.xp.isdtype(array.dtype, kind))
    if not good:
        return f"of dtype {dtype_name(array.dtype)}: expected {kind}"
    if tuple(array.shape) != want.shape:
        return f"of shape {tuple(array.shape)}: expected {want.shape}"
    return ""


def in_words(error: Exception) -> str:
    """Return the type and the message of an exception, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def where_raised(error: Exception) -> str:
    """Return the innermost line of xprnn that an exception passed through, and its code.

    The proofs themselves don't count: a fault is where a network calls the namespace.
    """
    found = ""
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if _HOME in path.parents and path.relative_to(_HOME).parts[0] != "testing":
            code = linecache.getline(frame.filename, frame.lineno or 0).strip()
            found = f"{path.relative_to(_HOME).as_posix()}:{frame.lineno} in {frame.name}: {code}"
    return found


def traceback_of(error: Exception) -> str:
    """Return the whole traceback of an exception."""
    return "".join(traceback.format_exception(error))
