"""Whether a formula computes in the precision that it is given.

A constant of float32 among arrays of float64 is promoted, and the result looks as it should: but it
has the digits of float32.  If forward and backward share the constant, the gradient is that of the
rounded formula, and every backend agrees on it.  So it is looked for by itself, by host arrays that
see what they are combined with.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from xprnn.backend.host.arrays import HostArray, np

ADVICE = "expected constants that are Python numbers, or have the dtype of the arguments"


class NarrowError(TypeError):
    """A formula in float64 computes with a narrower float."""


class Watched(np.ndarray[Any, np.dtype[Any]]):
    """A host array in float64 that refuses to be combined with a narrower float."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        _refuse_narrow(ufunc.__name__, inputs)
        return _watched(getattr(ufunc, method)(*_bare(inputs), **_bare(options)))

    def __array_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any, kwargs: Any
    ) -> Any:
        # Not by the class's own way, which would tell of functions within the function.
        del types
        _refuse_narrow(func.__name__, (*args, *kwargs.values()))
        return _watched(func(*_bare(args), **_bare(kwargs)))


def narrower_in(compute: Callable[[], object]) -> str | None:
    """Return what narrower float a computation with watched arrays takes; None if it takes none."""
    try:
        compute()
    except NarrowError as error:
        return f"{error}, where all else is float64"
    except Exception:
        # A formula may be made for another library: what it can't do here says nothing.
        return None
    return None


def watch(arrays: Iterable[HostArray]) -> tuple[HostArray, ...]:
    """Return the arrays, watched."""
    return tuple(map(_watched, arrays))


def _watched(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(map(_watched, value))
    is_array = isinstance(value, np.ndarray | np.generic)
    return np.asarray(value).view(Watched) if is_array else value


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _bare(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(map(_bare, value))
    return value.view(np.ndarray) if isinstance(value, Watched) else value


def _refuse_narrow(function: str, operands: Iterable[Any]) -> None:
    for a in _arrays(operands):
        if a.dtype.kind == "f" and a.dtype.itemsize < 8:
            kind = f"an array of {a.dtype}, shape {a.shape}" if a.ndim else f"a number of {a.dtype}"
            raise NarrowError(f"takes {kind} into {function}")


def _arrays(operands: Iterable[Any]) -> Iterator[Any]:
    for a in operands:
        if isinstance(a, np.ndarray | np.generic):
            yield a
        elif isinstance(a, tuple | list):
            yield from _arrays(a)
