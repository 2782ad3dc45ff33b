"""Classes whose objects hold arrays, and how they are taken apart and put together again.

A library that compiles functions (JAX) has to know this of whatever such a function takes and
returns.  A class declares it, and the library registers all declared classes when it is imported.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Tree(NamedTuple):
    """How objects of a class are taken apart.

    Attributes
    ----------
    flatten : callable
        ``flatten(whole) -> (parts, fixed)``: the parts are arrays, or consist of arrays; the rest
        is hashable, and a function that is compiled for it serves all objects with an equal one.
    unflatten : callable
        ``unflatten(fixed, parts) -> whole``, without any check: the parts need not be arrays.
    """

    flatten: Callable[[Any], tuple[tuple[Any, ...], Hashable]]
    unflatten: Callable[[Any, Iterable[Any]], Any]


TREES: dict[type, Tree] = {}
"""Of every class that was declared."""


class Fixed:
    """What is no array in an object, compared by value.

    Slices can be in it, though Python 3.11 can't hash them.
    """

    def __init__(self, *values: Any) -> None:
        self.values = values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and self.values == other.values

    def __hash__(self) -> int:
        return hash(
            tuple((v.start, v.stop, v.step) if isinstance(v, slice) else v for v in self.values)
        )


class Same:
    """A value that equals nothing but itself."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def declare(
    kind: type,
    flatten: Callable[[Any], tuple[tuple[Any, ...], Hashable]],
    unflatten: Callable[[Any, Iterable[Any]], Any],
) -> None:
    """Declare a class: see `Tree`."""
    TREES[kind] = Tree(flatten, unflatten)


def tree(*fixed: str) -> Callable[[type[T]], type[T]]:
    """Declare a named tuple or a dataclass; the fields that are not ``fixed`` hold arrays."""

    def declared(kind: type[T]) -> type[T]:
        whole: Any = kind
        names = [f.name for f in fields(whole)] if is_dataclass(whole) else list(whole._fields)
        parts = [name for name in names if name not in fixed]

        def flatten(a: Any) -> tuple[tuple[Any, ...], Hashable]:
            rest = Fixed(*[getattr(a, name) for name in fixed])
            return tuple([getattr(a, name) for name in parts]), rest

        def unflatten(rest: Fixed, arrays: Iterable[Any]) -> Any:
            given = dict(zip(parts, arrays, strict=True))
            return whole(**given, **dict(zip(fixed, rest.values, strict=True)))

        declare(kind, flatten, unflatten)
        return kind

    return declared
