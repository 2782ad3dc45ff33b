"""An array with tangents."""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from xprnn.backend.types import Array, Device, DType


def _operator(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def left(self: "DualArray", other: object) -> Any:
        return self.space.binary(name, self, other)

    def right(self: "DualArray", other: object) -> Any:
        return self.space.binary(name, other, self)

    return left, right


class DualArray:
    """A value, and how it changes along K directions.

    To the code that computes with it, it is an array of the shape and dtype of its value.

    Parameters
    ----------
    space : DualNamespace
        The namespace that its operators use.
    value : array, (...)
        Of the library that computes.
    tangent : array, (K, ...), or None
        The derivatives of the value along the directions; None where all of them are zero.
    """

    __slots__ = ("space", "tangent", "value")
    __array_ufunc__ = None
    """None: NumPy's operators leave the work to the ones below."""

    def __init__(self, space: Any, value: Array, tangent: Array | None = None) -> None:
        self.space, self.value, self.tangent = space, value, tangent

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        del api_version
        return self.space

    def __repr__(self) -> str:
        return f"DualArray({self.value!r}, {self.tangent!r})"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    @property
    def ndim(self) -> int:
        ndim: int = self.value.ndim
        return ndim

    @property
    def size(self) -> int:
        size = 1
        for n in self.value.shape:
            size *= n
        return size

    @property
    def dtype(self) -> DType:
        return self.value.dtype

    @property
    def device(self) -> Device:
        return self.value.device

    @property
    def T(self) -> "DualArray":  # noqa: N802 - the standard's name
        return self.mT

    @property
    def mT(self) -> "DualArray":  # noqa: N802 - the standard's name
        transposed: DualArray = self.space.matrix_transpose(self)
        return transposed

    __add__, __radd__ = _operator("add")
    __sub__, __rsub__ = _operator("subtract")
    __mul__, __rmul__ = _operator("multiply")
    __truediv__, __rtruediv__ = _operator("divide")
    __floordiv__, __rfloordiv__ = _operator("floor_divide")
    __mod__, __rmod__ = _operator("remainder")
    __pow__, __rpow__ = _operator("pow")
    __and__, __rand__ = _operator("bitwise_and")
    __or__, __ror__ = _operator("bitwise_or")
    __xor__, __rxor__ = _operator("bitwise_xor")
    __lt__, __gt__ = _operator("less")[0], _operator("greater")[0]
    __le__, __ge__ = _operator("less_equal")[0], _operator("greater_equal")[0]
    __eq__, __ne__ = _operator("equal")[0], _operator("not_equal")[0]
    __hash__ = None  # type: ignore[assignment]

    # There are no in-place operators: ``a += b`` makes a new array, and changes no other's.

    def __matmul__(self, other: object) -> "DualArray":
        product: DualArray = self.space.matmul(self, other)
        return product

    def __rmatmul__(self, other: object) -> "DualArray":
        product: DualArray = self.space.matmul(other, self)
        return product

    def __neg__(self) -> "DualArray":
        negated: DualArray = self.space.unary("negative", self)
        return negated

    def __pos__(self) -> "DualArray":
        return self

    def __abs__(self) -> "DualArray":
        size: DualArray = self.space.unary("abs", self)
        return size

    def __invert__(self) -> "DualArray":
        return DualArray(self.space, ~self.value)

    def __getitem__(self, key: Any) -> "DualArray":
        key = _bare(key)
        value = self.value[key]
        if self.tangent is None:
            return DualArray(self.space, value)
        whole = (slice(None), *key) if isinstance(key, tuple) else (slice(None), key)
        if not any(part is Ellipsis for part in whole):
            # Not all libraries take fewer indices than axes.
            whole = (*whole, ...)
        return DualArray(self.space, value, self.tangent[whole])

    def __setitem__(self, key: Any, value: object) -> NoReturn:
        raise TypeError("writes into an array, which has no derivative: expected new arrays")

    def __iter__(self) -> Iterator["DualArray"]:
        return iter(self.space.unstack(self))

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        return bool(self._constant("bool"))

    def __int__(self) -> int:
        return int(self._constant("int"))

    def __float__(self) -> float:
        return float(self._constant("float"))

    def __index__(self) -> int:
        return int(self._constant("index").__index__())

    def _constant(self, word: str) -> Array:
        """Return the value, if no derivative is lost with it."""
        if self.tangent is not None:
            raise TypeError(
                f"{word}() takes a number out of an array, and so loses its derivative: expected "
                "functions of the namespace"
            )
        return self.value


def _bare(key: Any) -> Any:
    """Return an index without dual arrays in it."""
    if isinstance(key, tuple):
        return tuple(map(_bare, key))
    return key.value if isinstance(key, DualArray) else key
