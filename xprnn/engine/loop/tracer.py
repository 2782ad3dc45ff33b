"""Symbolic operands, and a namespace whose functions record what is done to them.

What is not an elementwise operation is refused with a reason, as `Untraceable`.
"""

from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

from xprnn.backend.host.arrays import np
from xprnn.engine.loop.program import (
    ARITHMETIC,
    BOOL,
    COMPARISONS,
    FLOAT,
    FUNCTIONS,
    LOGIC,
    Builder,
)

Number: TypeAlias = int | float | bool

_BITWISE = {
    "bitwise_and": "logical_and",
    "bitwise_or": "logical_or",
    "bitwise_xor": "logical_xor",
    "bitwise_invert": "logical_not",
}
_PRODUCTS = ("matmul", "vecdot", "tensordot", "linalg", "outer")
_CONSTANTS = {"e": np.e, "pi": np.pi, "inf": np.inf, "nan": np.nan}


class Untraceable(TypeError):  # noqa: N818 - it says what a formula is, and nothing has gone wrong
    """Raised for a formula that is not a list of elementwise operations; the message says why."""


class Kind:
    """The dtype of an operand: that of the network's numbers, or that of truth values."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return "bool" if self.kind == BOOL else "the network's dtype"


_KINDS = {FLOAT: Kind(FLOAT), BOOL: Kind(BOOL)}


def _binary(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def left(self: "Operand", other: object) -> "Operand":
        return self.tracer.apply(self.tracer.of(name, self), self, other)

    def right(self: "Operand", other: object) -> "Operand":
        return self.tracer.apply(self.tracer.of(name, self), other, self)

    return left, right


class Operand:
    """A symbolic array: its tracer records what is done to it."""

    __slots__ = ("index", "tracer")
    __array_ufunc__ = None
    """None: NumPy's own functions refuse it."""

    def __init__(self, tracer: "Tracer", index: int) -> None:
        self.tracer, self.index = tracer, index

    @property
    def dtype(self) -> Kind:
        return _KINDS[self.tracer.builder.nodes[self.index].kind]

    @property
    def device(self) -> None:
        return None

    __add__, __radd__ = _binary("add")
    __sub__, __rsub__ = _binary("subtract")
    __mul__, __rmul__ = _binary("multiply")
    __truediv__, __rtruediv__ = _binary("divide")
    __floordiv__, __rfloordiv__ = _binary("floor_divide")
    __mod__, __rmod__ = _binary("remainder")
    __pow__, __rpow__ = _binary("pow")
    __and__, __rand__ = _binary("bitwise_and")
    __or__, __ror__ = _binary("bitwise_or")
    __xor__, __rxor__ = _binary("bitwise_xor")
    __lt__, __gt__ = _binary("less")[0], _binary("greater")[0]
    __le__, __ge__ = _binary("less_equal")[0], _binary("greater_equal")[0]
    __eq__, __ne__ = _binary("equal")[0], _binary("not_equal")[0]
    __hash__ = None  # type: ignore[assignment]

    def __neg__(self) -> "Operand":
        return self.tracer.apply("negative", self)

    def __pos__(self) -> "Operand":
        return self.tracer.apply("positive", self)

    def __abs__(self) -> "Operand":
        return self.tracer.apply("abs", self)

    def __invert__(self) -> "Operand":
        return self.tracer.apply("logical_not", self)

    def __matmul__(self, other: object) -> NoReturn:
        raise Untraceable("it has a product (@): products are the engine's, a cell is elementwise")

    __rmatmul__ = __matmul__

    def __bool__(self) -> NoReturn:
        raise Untraceable(
            "it asks whether an array is true, as `if` and `while` do, so what it computes depends "
            "on values: xp.where chooses elementwise"
        )

    def _value(self) -> NoReturn:
        raise Untraceable("it asks for an array's values, as float and int do")

    __float__ = __int__ = __complex__ = __index__ = _value

    def _parts(self, *_: object) -> NoReturn:
        raise Untraceable("it takes an array apart, or writes into it: a cell is elementwise")

    __getitem__ = __setitem__ = __iter__ = __len__ = _parts

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            # Python and NumPy look for special methods, and expect AttributeError without one.
            raise AttributeError(name)
        raise Untraceable(f"it uses .{name} of an array, which an elementwise formula can't know")


class Tracer:
    """A namespace of the array API standard whose functions record their calls."""

    def __init__(self) -> None:
        self.builder = Builder()

    def operand(self, name: str, kind: str = FLOAT) -> Operand:
        """Return an operand for an input."""
        return Operand(self, self.builder.input(name, kind))

    def operands(self, name: str, count: int) -> tuple[Operand, ...]:
        """Return operands for a group of inputs."""
        return tuple(self.operand(f"{name}{k}") for k in range(count))

    def apply(self, op: str, *args: object) -> Operand:
        """Record an operation."""
        if len(args) != FUNCTIONS[op]:
            raise Untraceable(f"it calls {op} with {len(args)} arguments, not {FUNCTIONS[op]}")
        indices = [self.index(a) for a in args]
        wanted = BOOL if op in LOGIC else FLOAT
        # Of the functions of numbers, only equal and not_equal take truth values.
        kinds = {self.builder.nodes[k].kind for k in indices}
        if kinds != {wanted} and not (op in ("equal", "not_equal") and kinds == {BOOL}):
            raise Untraceable(
                f"it calls {op} on truth values: xp.astype(..., h.dtype) makes numbers of them"
                if wanted == FLOAT
                else f"it calls {op} on numbers, where truth values belong"
            )
        return Operand(self, self.builder.apply(op, *indices))

    def of(self, op: str, operand: Operand) -> str:
        """Return what an operator means for an operand: & of truth values is `logical_and`."""
        del operand
        return _BITWISE.get(op, op)

    def index(self, a: object) -> int:
        """Return the node of an argument."""
        if isinstance(a, Operand):
            if a.tracer is not self:
                raise Untraceable("it keeps an array of another call")
            return a.index
        # A NumPy scalar is refused, because its dtype would decide the dtype of the result.
        if isinstance(a, bool | int | float) and type(a) in (bool, int, float):
            return self.builder.constant(a)
        kind = f"{type(a).__module__}.{type(a).__name__}".removeprefix("builtins.")
        raise Untraceable(f"it computes with a {kind}: expected its arguments and Python numbers")

    def where(self, condition: Operand, x1: object, x2: object) -> Operand:
        indices = [self.index(a) for a in (condition, x1, x2)]
        kinds = [self.builder.nodes[k].kind for k in indices]
        if kinds[0] != BOOL or kinds[1] != kinds[2]:
            raise Untraceable("it calls where on other than a truth value and two numbers")
        return Operand(self, self.builder.apply("where", *indices))

    # The standard's names for the arguments.
    def clip(self, x: Operand, /, min: object = None, max: object = None) -> Operand:  # noqa: A002
        if min is not None:
            x = self.apply("maximum", x, min)
        return x if max is None else self.apply("minimum", x, max)

    def astype(
        self, x: Operand, dtype: object, /, *, copy: bool = True, device: object = None
    ) -> Operand:
        del copy, device
        wanted = self._kind(dtype)
        if x.dtype is wanted:
            return x
        if wanted.kind == BOOL:
            return self.apply("not_equal", x, 0)
        return Operand(self, self.builder.apply("astype", x.index))

    def asarray(
        self,
        obj: object,
        /,
        *,
        dtype: object = None,
        device: object = None,
        copy: bool | None = None,
    ) -> Operand:
        del device, copy
        x = Operand(self, self.index(obj))
        return x if dtype is None else self.astype(x, dtype)

    def full_like(
        self, x: Operand, /, fill_value: Number, *, dtype: object = None, device: object = None
    ) -> Operand:
        return self.asarray(fill_value, dtype=x.dtype if dtype is None else dtype, device=device)

    def zeros_like(self, x: Operand, /, *, dtype: object = None, device: object = None) -> Operand:
        return self.full_like(x, 0, dtype=dtype, device=device)

    def ones_like(self, x: Operand, /, *, dtype: object = None, device: object = None) -> Operand:
        return self.full_like(x, 1, dtype=dtype, device=device)

    def __getattr__(self, name: str) -> Any:
        if name == "bool":
            return _KINDS[BOOL]
        if name in _CONSTANTS:
            return float(_CONSTANTS[name])
        op = _BITWISE.get(name, name)
        if op in ARITHMETIC or op in COMPARISONS or op in LOGIC:
            return lambda *args: self.apply(op, *args)
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _PRODUCTS:
            raise Untraceable(f"it has a product (xp.{name}): products are the engine's")
        raise Untraceable(f"it uses xp.{name}, which is not an elementwise function")

    def _kind(self, dtype: object) -> Kind:
        if not isinstance(dtype, Kind):
            raise Untraceable(f"it names the dtype {dtype!r}: expected that of an argument")
        return dtype
