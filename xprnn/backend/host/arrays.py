"""Arrays and random generators of the host, where files are read and pictures made.

Host arrays are NumPy arrays, whatever backend computes.  Outside `xprnn.backend` nothing imports
NumPy: code that works on host arrays imports ``np`` from here, and so shows that it does not work
on a backend's arrays.
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
