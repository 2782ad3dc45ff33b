"""Nested data as JSON and arrays, and back, to the bit.

In the JSON, numbers, strings and None stand for themselves; anything else is an object with one
key, its kind.  A dict keeps its order.  An array keeps its dtype and its memory layout, because
products of the same numbers in another layout may be rounded differently.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from xprnn.backend import Backend, describe
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.quoting import quoted

Kinds = dict[str, type]

PACKED = ("float", "scalar", "dict", "list", "tuple", "named", "array", "host")
"""The kinds of objects in the JSON."""


def named_kinds(value: Any) -> Kinds:
    """Return the NamedTuple classes in nested data, by name: those that `Unpacker` can make."""
    if isinstance(value, partial):
        value = value()
    if isinstance(value, Mapping):
        inside, found = list(value.values()), Kinds()
    elif isinstance(value, tuple | list):
        inside = list(value)
        found = {type(value).__qualname__: type(value)} if hasattr(value, "_fields") else {}
    else:
        return {}
    for part in inside:
        found |= named_kinds(part)
    return found


class Packer:
    """Turns nested data into JSON, and collects its arrays.

    Attributes
    ----------
    arrays : dict of host array
        The arrays by name; an array that occurs twice is in it once.
    """

    def __init__(self, backend: Backend, kinds: Kinds) -> None:
        self.backend, self.kinds = backend, kinds
        self.arrays: dict[str, HostArray] = {}
        self._names: dict[int, str] = {}

    def __call__(self, value: Any, name: str) -> Any:
        """Return JSON data.

        Raises
        ------
        TypeError
            If something is of a type that can't be written, or a NamedTuple is not of the kinds.
        """
        if isinstance(value, partial):
            value = value()
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, np.generic):
            # Tested before float, because a NumPy float64 is a float too, and would lose its dtype.
            return {"scalar": self._put(np.asarray(value), value, name)}
        if isinstance(value, int):
            return value  # of any size, and so not asked whether it is finite
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, Mapping):
            items = [[self(k, name), self(v, f"{name}/{k}")] for k, v in value.items()]
            return {"dict": items}
        if isinstance(value, tuple | list):
            return self._sequence(value, name)
        return self._array(value, name)

    def _sequence(self, value: Any, name: str) -> Any:
        parts = [self(part, f"{name}/{k}") for k, part in enumerate(value)]
        kind = type(value)
        if isinstance(value, list):
            return {"list": parts}
        if kind is tuple:
            return {"tuple": parts}
        if self.kinds.get(kind.__qualname__) is not kind:
            raise TypeError(
                f"{name} became a {kind.__qualname__}, of which there was none at the beginning: "
                "it could not be restored from a checkpoint"
            )
        return {"named": [kind.__qualname__, *parts]}

    def _array(self, value: Any, name: str) -> Any:
        library = self.backend.library
        if library.is_array(value):
            strides = library.strides(value)
            # The axes by falling stride: the order in which the array lies in memory.
            order = sorted(range(len(strides)), key=lambda axis: -abs(strides[axis]))
            if id(value) not in self._names:
                turned = self.backend.xp.permute_dims(library.plain(value), tuple(order))
                self._put(self.backend.to_numpy(turned), value, name)
            return {"array": [self._names[id(value)], *order]}
        if isinstance(value, np.ndarray):
            return {"host": self._put(value, value, name)}
        raise TypeError(
            f"{name} is {describe(value)}: a checkpoint can hold None, numbers, text, arrays of "
            f"the backend {self.backend.name!r}, and tuples, lists and dicts of them"
        )

    def _put(self, host: HostArray, value: object, name: str) -> str:
        while name in self.arrays:
            name += "'"
        self.arrays[name] = host
        self._names[id(value)] = name
        return name


class Unpacker:
    """Turns JSON and arrays of a `Packer` into the nested data again."""

    def __init__(self, backend: Backend, kinds: Kinds, arrays: Mapping[str, HostArray]) -> None:
        self.backend, self.kinds, self.arrays = backend, kinds, arrays
        self._made: dict[str, Any] = {}

    def __call__(self, packed: Any) -> Any:
        if not isinstance(packed, dict):
            if isinstance(packed, list):
                raise ValueError(f"it holds {quoted(packed)}, which is nothing that was packed")
            return packed
        ((what, value),) = packed.items()
        if what not in PACKED:
            raise ValueError(f"it holds {quoted(what)}, which is nothing that was packed")
        if what == "float":
            return float(value)
        if what == "dict":
            return {self(k): self(v) for k, v in value}
        if what == "list":
            return [self(part) for part in value]
        if what == "tuple":
            return tuple(self(part) for part in value)
        if what == "named":
            if value[0] not in self.kinds:
                raise ValueError(f"it holds a {value[0]}, of which there is none in this one")
            return self.kinds[value[0]](*(self(part) for part in value[1:]))
        if what == "array":
            return self._array(*value)
        # A copy is aligned as NumPy's own arrays are.
        host = self.arrays[value].copy()
        return host[()] if what == "scalar" else host

    def _array(self, name: str, *order: int) -> Any:
        if name not in self._made:
            backend = self.backend
            array = backend.library.from_host(self.arrays[name].copy(), backend.device)
            back = tuple(order.index(axis) for axis in range(len(order)))
            self._made[name] = backend.xp.permute_dims(array, back)
        return self._made[name]
