"""User namespaces for tests: right ones, and others that are wrong in one function each."""

from types import SimpleNamespace
from typing import Any

import array_api_strict
import numpy as np


class Changed:
    """A namespace with some functions replaced."""

    def __init__(self, base: Any, **changes: Any) -> None:
        self._base = base
        self.__dict__ |= changes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)


def without(base: Any, *names: str) -> SimpleNamespace:
    """Return a namespace that lacks some functions."""
    kept = set(dir(base)) - set(names)
    return SimpleNamespace(**{name: getattr(base, name) for name in kept})


same = Changed(array_api_strict)
off_tanh = Changed(array_api_strict, tanh=lambda x: array_api_strict.tanh(x) + 1e-6)
off_tanh_numpy = Changed(np, tanh=lambda x: np.tanh(x) + 1e-6)
narrow_tanh = Changed(
    array_api_strict,
    tanh=lambda x: array_api_strict.astype(
        array_api_strict.tanh(array_api_strict.astype(x, array_api_strict.float32)), x.dtype
    ),
)
"""Computes in float32 and converts back."""
wide_sum = Changed(
    array_api_strict,
    sum=lambda x, **options: array_api_strict.sum(x, dtype=array_api_strict.float64, **options),
)
off_sqrt = Changed(array_api_strict, sqrt=lambda x: array_api_strict.sqrt(x) * 1.000001)
stray_sum = Changed(
    array_api_strict,
    sum=lambda x, **options: array_api_strict.sum(x, **options).to_device(
        array_api_strict.Device("device1")
    ),
)
host_sum = Changed(
    array_api_strict, sum=lambda x, **options: np.asarray(array_api_strict.sum(x, **options))
)
nudged_sum = Changed(
    array_api_strict, sum=lambda x, **options: array_api_strict.sum(x, **options) - 1e-15
)
"""Off by less than the rounding of a number near one."""
off_search = Changed(
    array_api_strict,
    searchsorted=lambda a, b: array_api_strict.searchsorted(a, b, side="right"),
)
flat_stack = Changed(array_api_strict, stack=lambda arrays: array_api_strict.concat(arrays, axis=0))
no_log = without(array_api_strict, "log", "exp")
nan_tanh = Changed(array_api_strict, tanh=lambda x: array_api_strict.tanh(x) * float("nan"))
rounding_asarray = Changed(
    array_api_strict,
    asarray=lambda a, **options: array_api_strict.asarray(
        np.round(a, 2) if isinstance(a, np.ndarray) else a, **options
    ),
)


def _broken_exp(x: Any) -> Any:
    raise ZeroDivisionError("no exp today")


failing_exp = Changed(array_api_strict, exp=_broken_exp)


class Careless(np.ndarray):
    """A host array whose product mistakes a transposed right operand's rows for its columns."""

    def __matmul__(self, other: Any) -> Any:
        wrong = other.ndim == 2 and not other.flags.c_contiguous
        if wrong:
            other = np.ascontiguousarray(other.T).reshape(other.shape)
        return np.matmul(self, other)


def _as_careless(function: Any) -> Any:
    def careless(*args: Any, **options: Any) -> Any:
        made = function(*args, **options)
        if isinstance(made, tuple):
            return tuple(part.view(Careless) for part in made)
        return made.view(Careless)

    return careless


careless = Changed(
    np,
    **{
        name: _as_careless(getattr(np, name))
        for name in (
            *("arange", "asarray", "broadcast_to", "concat", "empty", "searchsorted", "stack"),
            *("unique_inverse", "where", "zeros"),
        )
    },
)
"""NumPy with arrays of a derived class, whose product is wrong."""


class Sealed:
    """An array that nothing but its own namespace can read: no buffer, no DLPack, no iteration."""

    def __init__(self, held: Any) -> None:
        self._held = held

    shape = property(lambda self: self._held.shape)
    ndim = property(lambda self: self._held.ndim)
    device = property(lambda self: "vault")
    dtype = property(lambda self: self._held.dtype)
    T = property(lambda self: Sealed(self._held.T))

    def __getitem__(self, key: Any) -> "Sealed":
        return Sealed(self._held[_opened(key)])

    def __float__(self) -> float:
        return float(self._held)

    def __int__(self) -> int:
        return int(self._held)

    def __bool__(self) -> bool:
        return bool(self._held)

    __iter__ = __array__ = None


def _opened(value: Any) -> Any:
    if isinstance(value, Sealed):
        return value._held
    return type(value)(map(_opened, value)) if type(value) in (tuple, list) else value


def _sealed(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_sealed, value))
    return Sealed(value) if isinstance(value, type(array_api_strict.empty(0))) else value


def _operator(name: str) -> Any:
    return lambda self, *others: _sealed(getattr(self._held, name)(*map(_opened, others)))


for _name in ("add", "sub", "mul", "truediv", "matmul"):
    setattr(Sealed, f"__{_name}__", _operator(f"__{_name}__"))
    setattr(Sealed, f"__r{_name}__", _operator(f"__r{_name}__"))
for _name in ("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "invert", "neg", "abs"):
    setattr(Sealed, f"__{_name}__", _operator(f"__{_name}__"))


class Vault:
    """array-api-strict behind sealed arrays, which are made of nested lists alone."""

    def __getattr__(self, name: str) -> Any:
        inner = getattr(array_api_strict, name)
        if name == "from_dlpack":
            raise AttributeError(name)
        if not callable(inner) or isinstance(inner, type):
            return inner

        def function(*args: Any, **options: Any) -> Any:
            if name == "asarray" and isinstance(args[0], np.ndarray):
                raise TypeError("expected numbers in lists")
            if options.get("device") not in (None, "vault"):
                raise ValueError("there is one device, the vault")
            options.pop("device", None)
            return _sealed(inner(*_opened(args), **options))

        return function

    def __array_namespace_info__(self) -> Any:
        info = array_api_strict.__array_namespace_info__()
        return SimpleNamespace(default_dtypes=info.default_dtypes, devices=lambda: ["vault"])


vault = Vault()


def _out_of_order(*_: Any, **__: Any) -> Any:
    raise RuntimeError("out of order")


narrow = Changed(
    array_api_strict,
    empty=lambda shape, **_: array_api_strict.empty(shape, dtype=array_api_strict.float32),
)
"""As JAX without its flag: asked for float64, it computes in float32 and does not say so."""
lists = Changed(array_api_strict, empty=lambda shape, **_: [])
empty_fails = Changed(array_api_strict, empty=_out_of_order)
