"""Arrays and random generators of the host, where files are read and pictures made.

Host arrays are NumPy arrays, whatever backend computes.  Outside `xprnn.backend` nothing imports
NumPy: code that works on host arrays imports ``np`` from here, and so shows that it does not work
on a backend's arrays.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeAlias

import numpy as np

HostArray: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Generator = np.random.Generator
Seed: TypeAlias = int | np.random.Generator | None


def _never() -> bool:
    return False


being_compiled: Callable[[], bool] = _never
"""Whether the code that asks is being compiled by a library that can't compile NumPy's functions.

`xprnn.backend.libraries.torch` puts torch's own function here."""


__all__ = [
    "Generator",
    "HostArray",
    "Seed",
    "changes_arithmetic",
    "generator",
    "instead",
    "np",
    "plain_array",
    "random_state",
    "refuse_changed",
    "restore_random",
]

_ARITHMETIC = (
    *("__array_ufunc__", "__array_function__", "__add__", "__radd__", "__iadd__", "__sub__"),
    *("__mul__", "__rmul__", "__imul__", "__matmul__", "__truediv__", "__pow__", "__neg__"),
    *("__eq__", "__lt__"),
)


def changes_arithmetic(kind: type) -> bool:
    """Whether arrays of a class compute in another way than NumPy's own.

    Masked arrays, matrices and quantities with units do; a ``numpy.memmap`` does not, nor does a
    class that declares ``same_numbers = True``: it overrides operators, and their results have the
    values that NumPy's own would have.
    """
    any_class: Any = kind
    # Without the cache for most, because torch.compile warns of it.
    return (
        kind is not np.ndarray and issubclass(kind, np.ndarray) and _changes_arithmetic(any_class)
    )


@cache
def _changes_arithmetic(kind: Any) -> bool:
    return not getattr(kind, "same_numbers", False) and any(
        getattr(kind, name, None) is not getattr(np.ndarray, name) for name in _ARITHMETIC
    )


def instead(name: str, kind: type) -> str:
    """Return in words what to pass instead of an array of a class that changes arithmetic."""
    if issubclass(kind, np.ma.MaskedArray):
        return (
            f"masks are not supported; fill the gaps first, as {name}.filled(...) does, or, if "
            "they are the ends of sequences, fill them and pass lengths"
        )
    return (
        f"{kind.__name__} has an arithmetic of its own; pass its plain numbers, as "
        f"numpy.array({name}, subok=False) makes them"
    )


def plain_array(name: str, a: Any) -> HostArray:
    """Return host data as an array of NumPy's own class.

    Raises
    ------
    TypeError
        If it is, or a list in it holds, an array of a class that changes arithmetic: masks and
        units would be dropped silently.
    ValueError
        If the elements have unequal lengths.
    """
    refuse_changed(name, a)
    return np.asarray(a)


def refuse_changed(name: str, a: Any) -> None:
    """Raise the TypeError of `plain_array`."""
    if changes_arithmetic(type(a)):
        kind = type(a)
        raise TypeError(
            f"{name} is a {kind.__module__.partition('.')[0]}.{kind.__name__}: "
            f"{instead(name, kind)}"
        )
    if isinstance(a, list | tuple):
        for k, part in enumerate(a):
            if not isinstance(part, float | int):
                refuse_changed(f"{name}[{k}]", part)


def generator(rng: Seed) -> Generator:
    """Return the random generator that ``rng`` stands for.

    Parameters
    ----------
    rng : int, numpy.random.Generator or None
        A seed; a generator, which is returned itself and so advances when numbers are drawn; or
        None for a new one that is seeded by the operating system.

    Raises
    ------
    TypeError
        If it is anything else.
    ValueError
        If the seed is negative.
    """
    if isinstance(rng, bool) or not (rng is None or isinstance(rng, int | np.integer | Generator)):
        raise TypeError(
            f"rng is {rng!r} ({type(rng).__name__}): expected an int seed, "
            "a numpy.random.Generator or None"
        )
    if isinstance(rng, int | np.integer) and rng < 0:
        raise ValueError(f"rng is {rng}: a seed is zero or positive")
    return np.random.default_rng(rng)


def random_state(rng: Generator) -> dict[str, Any]:
    """Return the state of a generator: plain data, with a host array in some kinds of generator."""
    return dict(rng.bit_generator.state)


def restore_random(rng: Generator, state: Mapping[str, Any]) -> None:
    """Set a generator to a state that `random_state` returned.

    Raises
    ------
    ValueError
        If it is the state of another kind of generator.
    """
    mine, theirs = type(rng.bit_generator).__name__, state["bit_generator"]
    if mine != theirs:
        raise ValueError(f"the random generator is a {mine}: expected a {theirs}")
    rng.bit_generator.state = state
