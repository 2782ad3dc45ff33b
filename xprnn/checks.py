"""Checks at the public border: what was given, what was expected, before any work is done."""

import math
import numbers
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from xprnn.backend import Backend, conversion, describe, dtype_name
from xprnn.backend.host.quoting import quoted
from xprnn.backend.questions import Question, open_questions, position
from xprnn.backend.types import Array

Shape = tuple[int | str, ...]
"""An expected shape; a letter stands for any size."""

T = TypeVar("T")


def positive_int(name: str, value: object) -> int:
    """Return a size, known to be an integer of at least one."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} is {quoted(value)} ({type(value).__name__}): expected an int")
    size = int(value.__index__())
    if size < 1:
        raise ValueError(f"{name} is {quoted(size)}: expected an int of at least 1")
    return size


def index(name: str, value: object, count: int, are: str = "") -> int:
    """Return an index, known to be an integer from 0 to count-1; ``are`` says of what."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} is {quoted(value)} ({type(value).__name__}): expected an int")
    k = int(value.__index__())
    if not 0 <= k < count:
        raise ValueError(f"{name} is {quoted(k)}: expected 0 to {count - 1}{are}")
    return k


def number(
    name: str, value: object, *, least: float = 0.0, below: float = math.inf, open_: bool = False
) -> float:
    """Return a finite number in [least, below), or in (least, below) if ``open_``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {quoted(value)} ({type(value).__name__}): expected a number")
    given: object = value
    # A NumPy scalar may change the dtype of a product; a Python float takes the array's dtype.
    try:
        given = value = float(value)
    except OverflowError:
        # An int beyond the largest float.
        value = math.inf
    wrong = value <= least if open_ else value < least
    if wrong or not math.isfinite(value) or value >= below:
        sign = "above" if open_ else "at least"
        limit = f" and below {below:g}" if math.isfinite(below) else ""
        wanted = f"number {sign} {least:g}{limit}" if math.isfinite(least) else "finite number"
        raise ValueError(f"{name} is {quoted(given)}: expected a {wanted}")
    return value


def boolean(name: str, value: object) -> bool:
    """Return a truth value, known to be a bool."""
    if not isinstance(value, bool):
        raise TypeError(
            f"{name} is {quoted(value)} ({type(value).__name__}): expected True or False"
        )
    return value


def choice(name: str, value: object, known: Iterable[str]) -> str:
    """Return a word, known to be one of these."""
    words = tuple(known)
    if value not in words:
        raise ValueError(
            f"{name} is {quoted(value)}: expected {' or '.join(repr(w) for w in words)}"
        )
    return str(value)


def known(kind: str, name: object, table: Mapping[str, T]) -> T:
    """Return a table's entry of that name.

    Parameters
    ----------
    kind : str
        What the table's entries are, for the message: ``"cell"``, say.
    name : object
    table : mapping of str to object

    Raises
    ------
    ValueError
        If the table has no such name; the message lists the names that it has.
    """
    if not isinstance(name, str) or name not in table:
        names = ", ".join(repr(entry) for entry in table)
        raise ValueError(f"unknown {kind} {quoted(name)}: known are {names}")
    return table[name]


def instance(
    kind: str,
    given: str | T,
    table: Mapping[str, Callable[[], T]],
    protocol: Any,
    expected: str,
) -> T:
    """Return an instance: of the class of a name, with its default options, or the one given.

    Parameters
    ----------
    kind : str
        What the instance is, for the messages: ``"cell"``, say.
    given : str or instance
    table : mapping of str to type
        The classes by name.
    protocol : type
        The runtime-checkable protocol that an instance conforms to.
    expected : str
        What is expected, for the message: "a name or ...".

    Raises
    ------
    ValueError
        If there is no such name.
    TypeError
        If ``given`` is neither a name nor an instance.
    """
    if isinstance(given, str):
        return known(kind, given, table)()
    # The table's classes conform.  They are looked up first, because asking a protocol takes as
    # long as the forward pass of a small network.
    if type(given) not in table.values() and (
        isinstance(given, type) or not isinstance(given, protocol)
    ):
        raise TypeError(f"{kind} is {given!r}: expected {expected}")
    return given


def array(name: str, a: object, backend: Backend, shape: Shape) -> Array:
    """Return an array of the backend, in this shape and in the backend's dtype.

    A floating array of another precision is cast; everything else that does not fit is refused.

    Raises
    ------
    TypeError
        If it is not an array of the backend, or not of a floating dtype.
    ValueError
        If it is on another device, or of another shape.
    """
    of_backend(name, a, backend)
    dtype = a.dtype  # type: ignore[attr-defined]
    if dtype == backend.dtype:
        of_shape(name, a, shape)
        return backend.library.plain(a)
    if not backend.xp.isdtype(dtype, "real floating"):
        converts = f" ({name} = net.backend.asarray({name}, dtype={backend.dtype_name!r}) converts)"
        real = backend.xp.isdtype(dtype, ("integral", "bool"))
        raise TypeError(
            f"{name} has dtype {dtype_name(dtype)}: expected floats{converts if real else ''}"
        )
    of_shape(name, a, shape)
    # What overflows becomes infinite, which `finite` refuses where it counts.
    with backend.library.quiet():
        return backend.xp.astype(backend.library.plain(a), backend.dtype, copy=False)


def is_integer(a: object, backend: Backend) -> bool:
    """Whether ``a`` is an array of the backend of an integer dtype."""
    if not backend.library.is_array(a) or a.dtype == backend.dtype:  # type: ignore[attr-defined]
        return False
    dtype = a.dtype  # type: ignore[attr-defined]
    # The dtype of indices first, which is that of most tokens: to ask about a dtype takes longer.
    if dtype == backend.library.indexing_dtype(backend.device):
        return True
    return bool(backend.xp.isdtype(dtype, "integral"))


def tokens(
    name: str, a: object, backend: Backend, shape: Shape, count: int, ignored: int | None = None
) -> Array:
    """Return an integer array of the backend with entries from 0 to count-1, or ``ignored``.

    Raises
    ------
    TypeError
        If it is not an array of the backend, or not of an integer dtype.
    ValueError
        If it is on another device, of another shape, or an entry is out of range.
    """
    of_backend(name, a, backend)
    dtype = a.dtype  # type: ignore[attr-defined]
    indexing = backend.library.indexing_dtype(backend.device)
    known = dtype == indexing
    if not known and not is_integer(a, backend):
        raise TypeError(f"{name} has dtype {dtype_name(dtype)}: expected integers")
    of_shape(name, a, shape)
    indices: Array = backend.library.plain(a)
    unsigned = ignored is None
    if not known:
        # A narrow integer dtype may not hold ``count``, and some libraries don't index with it.
        indices = backend.xp.astype(indices, indexing, copy=False)
        unsigned = unsigned or backend.xp.isdtype(dtype, "unsigned integer")
    also = "" if ignored is None else f", or {ignored} for padding"
    questions = open_questions() if backend.library.fused is not None else None
    if questions is not None:
        limits = count, None if unsigned else ignored
        questions.asked.append(Question(name, indices, f"0 to {count - 1}{also}", limits))
        return indices
    if backend.library.all_below(indices, count):
        return indices
    good = (indices >= 0) & (indices < count)
    # An unsigned entry is never negative: what looks like it is too large for a signed integer.
    if not unsigned:
        good = good | (indices == ignored)
    if not backend.library.all_true(good):
        at, value = _first_bad(a, good, backend)
        if ignored is None and value == -1:
            also = " (padding takes any token, and the argument lengths)"
        raise ValueError(f"{name}{at} is {value}: expected 0 to {count - 1}{also}")
    return indices


def of_backend(name: str, a: object, backend: Backend) -> None:
    """Refuse what is not an array of this backend."""
    if backend.library.owns(a, backend.device):
        return
    if not backend.library.is_array(a):
        raise TypeError(
            f"{name} is {_a(describe(a))}: expected an array of the backend {backend.name!r} "
            f"({conversion(name, a)})"
        )
    raise ValueError(
        f"{name} is on device {backend.library.device_of(a)}: "
        f"the {backend.name} backend in use is on {backend.device}"
    )


def of_shape(name: str, a: Any, shape: Shape) -> None:
    """Refuse an array of another shape."""
    given = tuple(a.shape)
    if given == shape:
        return
    if len(given) == len(shape):
        for want, got in zip(shape, given, strict=True):
            if want != got and isinstance(want, int):
                break
        else:
            return
    wanted = ", ".join(str(s) for s in shape) + ("," if len(shape) == 1 else "")
    raise ValueError(f"{name} has shape {given}: expected ({wanted})")


def finite(name: str, a: Array, backend: Backend) -> None:
    """Refuse NaN and infinity, naming the position of the first."""
    if backend.library.fused is not None:
        questions = open_questions()
        if questions is not None:
            questions.asked.append(Question(name, a, "finite", None))
            return
    if not backend.library.all_finite(a):
        at, value = first_not_finite(a, backend)
        raise ValueError(f"{name}{at} is {value}: expected finite")


def first_not_finite(a: Array, backend: Backend) -> tuple[list[int], object]:
    """Return position and value of the first entry that is NaN or infinite; there must be one."""
    return _first_bad(a, backend.xp.isfinite(a), backend)


def _first_bad(a: Array, good: Array, backend: Backend) -> tuple[list[int], object]:
    """Return position and value of the first entry that is not good."""
    at = position(int(backend.to_numpy(good).ravel().argmin()), a.shape)
    return at, backend.to_numpy(a)[tuple(at)].item()


def _a(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def deprecated(old: str, instead: str, *, gone: str, level: int = 3) -> None:
    """Warn that a public name or argument will go: once for each line that uses it.

    Parameters
    ----------
    old, instead : str
        What was used, and what to write instead.
    gone : str
        The version that will not have it any more, such as ``"0.4"``.
    level : int
        Calls from here to the user's line; 3 if this is called by the function that is used.
    """
    text = f"{old} is deprecated and goes in xprnn {gone}: use {instead}"
    warnings.warn(text, DeprecationWarning, stacklevel=level)
