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
no_floats = without(array_api_strict, "float32", "float64")
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
    T = property(lambda self: self._seal(self._held.T))

    def __getitem__(self, key: Any) -> "Sealed":
        return self._seal(self._held[_opened(key)])

    @staticmethod
    def _seal(value: Any) -> Any:
        return Sealed(value) if isinstance(value, type(array_api_strict.empty(0))) else value

    def __float__(self) -> float:
        return float(self._held)

    def __int__(self) -> int:
        return int(self._held)

    def __complex__(self) -> complex:
        return complex(self._held)

    def __bool__(self) -> bool:
        return bool(self._held)

    __iter__ = __array__ = None


def _opened(value: Any) -> Any:
    if isinstance(value, Sealed):
        return value._held
    return type(value)(map(_opened, value)) if type(value) in (tuple, list) else value


def _operator(name: str) -> Any:
    return lambda self, *others: self._seal(getattr(self._held, name)(*map(_opened, others)))


for _name in ("add", "sub", "mul", "truediv", "matmul"):
    setattr(Sealed, f"__{_name}__", _operator(f"__{_name}__"))
    setattr(Sealed, f"__r{_name}__", _operator(f"__r{_name}__"))
for _name in ("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "invert", "neg", "abs"):
    setattr(Sealed, f"__{_name}__", _operator(f"__{_name}__"))


class Vault:
    """array-api-strict behind sealed arrays, which are made of nested lists alone."""

    arrays: Any = Sealed

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
            made = inner(*_opened(args), **options)
            seal = self.arrays._seal
            return tuple(map(seal, made)) if isinstance(made, tuple) else seal(made)

        return function

    def __array_namespace_info__(self) -> Any:
        info = array_api_strict.__array_namespace_info__()
        return SimpleNamespace(default_dtypes=info.default_dtypes, devices=lambda: ["vault"])


vault = Vault()


class Vector(Sealed):
    """A sealed array; those without dimensions have another class."""

    @staticmethod
    def _seal(value: Any) -> Any:
        if not isinstance(value, type(array_api_strict.empty(0))):
            return value
        return Vector(value) if value.ndim else Scalar(value)


class Scalar(Vector):
    """What a `Vector` without dimensions is."""


class Scalars(Vault):
    """The vault, with a class of its own for arrays without dimensions."""

    arrays = Vector


scalars = Scalars()


class Nameless:
    """A dtype that has no name, can't be hashed and can only be compared."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Nameless) and self.held == other.held

    def __repr__(self) -> str:
        return "<dtype>"


class Room:
    """A device: it can be hashed and compared, and prints like nothing that names it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Room) and self.number == other.number

    def __hash__(self) -> int:
        return hash(self.number)

    def __repr__(self) -> str:
        return f"room {self.number}"


class Guest(Sealed):
    """A sealed array whose dtype is nameless, and whose device is a room."""

    dtype = property(lambda self: Nameless(self._held.dtype))
    device = property(lambda self: Room(1 if "1" in str(self._held.device) else 0))

    @staticmethod
    def _seal(value: Any) -> Any:
        return Guest(value) if isinstance(value, type(array_api_strict.empty(0))) else value


class Rooms(Vault):
    """array-api-strict with dtypes that can only be compared, and devices that are objects."""

    def __getattr__(self, name: str) -> Any:
        inner = getattr(array_api_strict, name)
        if inner in (getattr(array_api_strict, n) for n in DTYPES):
            return Nameless(inner)
        if not callable(inner):
            return inner

        def function(*args: Any, **options: Any) -> Any:
            args = tuple(a.held if isinstance(a, Nameless) else a for a in _opened(args))
            for key, value in options.items():
                if isinstance(value, Nameless):
                    options[key] = value.held
                if isinstance(value, Room):
                    place = "device1" if value.number else "CPU_DEVICE"
                    options[key] = array_api_strict.Device(place)
            made = inner(*args, **options)
            return tuple(map(Guest._seal, made)) if isinstance(made, tuple) else Guest._seal(made)

        return function

    def __array_namespace_info__(self) -> Any:
        info = array_api_strict.__array_namespace_info__()
        defaults = {k: Nameless(v) for k, v in info.default_dtypes().items()}
        return SimpleNamespace(default_dtypes=lambda: defaults, devices=lambda: [Room(0), Room(1)])


DTYPES = ("bool", "int32", "int64", "float32", "float64")


rooms = Rooms()


def _declaring(**changes: Any) -> Any:
    info = array_api_strict.__array_namespace_info__
    return lambda: Changed(info(), **changes)


fixed_shapes = Changed(
    array_api_strict,
    __array_namespace_info__=_declaring(capabilities=lambda: {"data-dependent shapes": False}),
)
"""Has `unique_inverse`, and declares that it can't be called."""
no_unique = without(array_api_strict, "unique_inverse")
single = Changed(
    array_api_strict,
    __array_namespace_info__=_declaring(
        dtypes=lambda **_: {"float32": array_api_strict.float32, "int64": array_api_strict.int64}
    ),
)
"""Declares float32 as the only floats."""


class Deferred:
    """A host array that has no values until it is computed."""

    def __init__(self, held: Any) -> None:
        self._held = np.asarray(held)

    shape = property(lambda self: self._held.shape)
    ndim = property(lambda self: self._held.ndim)
    dtype = property(lambda self: self._held.dtype)
    device = property(lambda self: "cpu")
    T = property(lambda self: Deferred(self._held.T))

    def compute(self) -> Any:
        return self._held

    def _no(self, *_: Any) -> Any:
        raise TypeError("no values before compute()")

    __bool__ = __float__ = __int__ = __array__ = _no


def _put_off(function: Any) -> Any:
    return lambda *args, **options: Deferred(
        function(*(getattr(a, "_held", a) for a in args), **options)
    )


deferred = Changed(
    np,
    **{
        name: _put_off(getattr(np, name))
        for name in ("asarray", "empty", "zeros", "isfinite", "all", "sum", "reshape")
    },
)
elsewhere = Changed(
    array_api_strict,
    asarray=lambda a, **options: array_api_strict.asarray(
        a, **options | {"device": array_api_strict.Device("device2")}
    ),
    from_dlpack=None,
)
"""Puts every array on a device of its own choice."""
wide_asarray = Changed(
    array_api_strict,
    asarray=lambda a, **options: array_api_strict.asarray(
        a, dtype=array_api_strict.float64, device=options.get("device")
    ),
    from_dlpack=None,
)
"""Accepts ``dtype=`` and does not look at it."""


def _out_of_order(*_: Any, **__: Any) -> Any:
    raise RuntimeError("out of order")


narrow = Changed(
    array_api_strict,
    empty=lambda shape, **_: array_api_strict.empty(shape, dtype=array_api_strict.float32),
)
"""As JAX without its flag: asked for float64, it computes in float32 and does not say so."""
lists = Changed(array_api_strict, empty=lambda shape, **_: [])
empty_fails = Changed(array_api_strict, empty=_out_of_order)
