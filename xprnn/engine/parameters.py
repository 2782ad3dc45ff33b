"""A network's parameters: a dict that accepts only arrays that fit."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from xprnn import checks
from xprnn.backend import Backend
from xprnn.backend.trees import Fixed, declare
from xprnn.backend.types import Array


class Parameters(dict[str, Array]):
    """Parameter arrays by name.

    The names are fixed.  Every parameter can be assigned: an array of the network's backend, in the
    parameter's shape; floats of another precision are cast to the backend's dtype.

    Attributes
    ----------
    constant : bool
        Whether they became constants of a compiled function.

    Parameters
    ----------
    backend : Backend
    shapes : mapping of str to tuple of int
    arrays : mapping of str to array

    Raises
    ------
    KeyError
        If a name is unknown or missing.
    TypeError, ValueError
        If an array does not fit.
    """

    def __init__(
        self,
        backend: Backend,
        shapes: Mapping[str, tuple[int, ...]],
        arrays: Mapping[str, Array],
    ) -> None:
        super().__init__()
        self.constant = False
        self._backend = backend
        self._shapes: Mapping[str, tuple[int, ...]] = dict(shapes)
        missing = [name for name in shapes if name not in arrays]
        if missing:
            raise KeyError(f"parameters lack {', '.join(missing)}: expected {', '.join(shapes)}")
        # This refuses unknown names; the order below is the network's, whatever the order given.
        checked = {name: self._checked(name, array) for name, array in arrays.items()}
        for name in shapes:
            super().__setitem__(name, checked[name])

    @classmethod
    def unchecked(
        cls, backend: Backend, shapes: Mapping[str, tuple[int, ...]], arrays: Iterable[Array]
    ) -> "Parameters":
        """Return parameters whose arrays, in the order of ``shapes``, are known to fit."""
        made = cls.__new__(cls)
        made.constant = False
        dict.update(made, zip(shapes, arrays, strict=True))
        made._backend, made._shapes = backend, shapes
        return made

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The parameters' shapes by name."""
        return self._shapes

    def are(self, arrays: Mapping[str, Array]) -> bool:
        """Whether these are the very same arrays."""
        if not isinstance(arrays, dict) or len(arrays) != len(self):
            return False
        # A loop, because a generator costs a call for each of them, and every update asks.
        for name, a in self.items():  # noqa: SIM110
            if arrays.get(name) is not a:
                return False
        return True

    def note_use(self, arrays: Iterable[Array]) -> None:
        """Note that a pass is made with arrays of a library that compiles.

        If one stands for those of later calls and the parameters don't, these become constants of
        the function that is being compiled.
        """
        traced = self._backend.library.traced
        if any(map(traced, arrays)) and not traced(next(iter(self.values()))):
            self.constant = True

    def warn_if_constant(self) -> None:
        """Warn that a compiled function will not see new parameters."""
        if self.constant:
            warnings.warn(
                "a compiled function holds this network's parameters as constants, and will not "
                "see the new ones: pass the network as an argument of the function, as in "
                "jax.jit(RNN.value_and_grad)(net, x, target)",
                RuntimeWarning,
                stacklevel=3,
            )
            self.constant = False

    def __reduce__(self) -> tuple[Any, ...]:
        return Parameters, (self._backend, self._shapes, dict(self))

    def __setitem__(self, name: str, array: Array) -> None:
        super().__setitem__(name, self._checked(name, array))
        self.warn_if_constant()

    def update(self, *others: Any, **named: Array) -> None:
        """Assign several parameters, after all of them have been checked."""
        new = dict(*others, **named)
        for name, array in {k: self._checked(k, a) for k, a in new.items()}.items():
            super().__setitem__(name, array)
        self.warn_if_constant()

    def __ior__(self, other: Any) -> "Parameters":  # type: ignore[override,misc]
        self.update(other)
        return self

    def __delitem__(self, name: str) -> NoReturn:
        raise TypeError(f"parameter {name!r} can be assigned, but not removed")

    def pop(self, name: str, *default: Any) -> NoReturn:
        del default
        self.__delitem__(name)

    def popitem(self) -> NoReturn:
        self.__delitem__(next(reversed(self)))

    def clear(self) -> NoReturn:
        self.popitem()

    def setdefault(self, name: str, default: Array = None) -> Array:
        del default
        if name not in self:
            self._checked(name, None)
        return self[name]

    def _checked(self, name: str, array: Array) -> Array:
        if name not in self._shapes:
            raise KeyError(f"there is no parameter {name!r}: known are {', '.join(self._shapes)}")
        return checks.array(name, array, self._backend, self._shapes[name])


def _flatten(a: Parameters) -> tuple[tuple[Array, ...], Fixed]:
    return tuple(a.values()), Fixed(a._backend, tuple(a._shapes.items()))


def _unflatten(rest: Fixed, arrays: Iterable[Array]) -> Parameters:
    backend, shapes = rest.values
    return Parameters.unchecked(backend, dict(shapes), arrays)


declare(Parameters, _flatten, _unflatten)
