"""The host: where files are read, random numbers drawn and pictures made.

Host arrays are NumPy arrays whatever backend computes.  Only this package may name NumPy, so that
the rest of the library can't mix host arrays with a backend's by accident: code that is about the
host says so by importing from here.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

HostArray: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Generator = np.random.Generator
Seed: TypeAlias = int | np.random.Generator | None

__all__ = ["Generator", "HostArray", "Seed", "generator", "np", "random_state", "restore_random"]


def generator(rng: Seed) -> Generator:
    """Return the random generator that ``rng`` stands for.

    Parameters
    ----------
    rng : int, numpy.random.Generator or None
        A seed, a generator (returned as it is, and advanced by its users), or None for a fresh one
        seeded by the operating system.

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
    """Return where a generator is: plain data, with a host array for some kinds of generator."""
    return dict(rng.bit_generator.state)


def restore_random(rng: Generator, state: Mapping[str, Any]) -> None:
    """Set a generator to where one of its kind was when `random_state` was asked.

    Raises
    ------
    ValueError
        If it was one of another kind.
    """
    mine, theirs = type(rng.bit_generator).__name__, state["bit_generator"]
    if mine != theirs:
        raise ValueError(f"the random generator is a {mine}: expected a {theirs}")
    rng.bit_generator.state = state
