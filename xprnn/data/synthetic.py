"""Synthetic problems: a noisy sine, and counting ones."""

import math

from xprnn import checks
from xprnn.backend.host.arrays import HostArray, Seed, generator, np


def sine(
    start: float = -10.0,
    stop: float = 10.0,
    step: float = 0.1,
    *,
    noise: float = 0.1,
    rng: Seed = None,
) -> tuple[HostArray, HostArray]:
    """Return a noisy sine: x from start to stop, and y = sin x + noise·N(0, 1).

    The defaults are those of the lecture that docs/noisy-sine.md is about.

    Parameters
    ----------
    start, stop, step : float
        x in radians, excluding ``stop``.
    noise : float
        Standard deviation of the noise; the squared error ½·noise² remains even for a perfect fit.
    rng : int, numpy.random.Generator or None

    Returns
    -------
    x, y : host array, (T, 1, 1), float64
        One sequence; ``backend.asarray`` makes arrays of a backend from it.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a finite number, the step is not positive, or start is not below stop.

    Examples
    --------
    >>> x, y = sine(rng=0)
    >>> x.shape, y.shape
    ((200, 1, 1), (200, 1, 1))
    """
    start = checks.number("start", start, least=-np.inf)
    stop = checks.number("stop", stop, least=-np.inf)
    step = checks.number("step", step, open_=True)
    noise = checks.number("noise", noise)
    if stop <= start:
        raise ValueError(f"start is {start:g} and stop is {stop:g}: expected start below stop")
    # Not arange(start, stop, step), whose rounding errors add up and can reach the stop.
    count = max(1, math.ceil((stop - start) / step - 1e-9))
    x = (start + step * np.arange(count)).reshape(-1, 1, 1)
    return x, np.sin(x) + noise * generator(rng).normal(size=x.shape)


def count_ones(length: int, sequences: int, *, rng: Seed = None) -> tuple[HostArray, HostArray]:
    """Return random binary sequences and the number of ones in each.

    Parameters
    ----------
    length : int
        T.
    sequences : int
        B.
    rng : int, numpy.random.Generator or None

    Returns
    -------
    x : host array, (T, B, 1), float64
        Zeros and ones, equally probable.
    target : host array, (B, 1), float64

    Examples
    --------
    >>> x, target = count_ones(10, 20, rng=0)
    >>> x.shape, bool((x.sum(axis=0) == target).all())
    ((10, 20, 1), True)
    """
    length = checks.positive_int("length", length)
    sequences = checks.positive_int("sequences", sequences)
    x = generator(rng).integers(0, 2, (length, sequences, 1)).astype(np.float64)
    return x, x.sum(axis=0)
