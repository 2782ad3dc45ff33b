"""Whether a formula computes in the precision of its arguments.

A float32 constant that is combined with float64 arrays is promoted, and the result has the right
dtype, but the constant has only the digits of float32.  If forward and backward share it, neither a
check of gradients nor one of parity notices: the gradient is right for the rounded formula, and all
backends agree on it.  So it is looked for separately, with host arrays that refuse such constants.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from xprnn.backend.host.arrays import HostArray, np

ADVICE = "expected constants that are Python numbers, or have the dtype of the arguments"


class NarrowError(TypeError):
    """A formula combines float64 with a narrower float."""


class Watched(np.ndarray[Any, np.dtype[Any]]):
    """A host array of float64 that refuses to be combined with a narrower float."""

    same_numbers = True

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        _refuse_narrow(ufunc.__name__, inputs)
        return _watched(getattr(ufunc, method)(*_bare(inputs), **_bare(options)))

    def __array_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any, kwargs: Any
    ) -> Any:
        # On plain arrays, so that an error names this function and not one that it calls.
        del types
        _refuse_narrow(func.__name__, (*args, *kwargs.values()))
        return _watched(func(*_bare(args), **_bare(kwargs)))


def narrower_in(compute: Callable[[], object]) -> str | None:
    """Return in words which narrower float a computation with watched arrays uses; None if none."""
    try:
        compute()
    except NarrowError as error:
        return f"{error}, where all else is float64"
    except Exception:
        # A formula may be written for another library, and fail here for that reason.
        return None
    return None


def watch(arrays: Iterable[HostArray]) -> tuple[HostArray, ...]:
    """Return the arrays as `Watched` ones."""
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
