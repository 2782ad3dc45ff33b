"""Synthetic problems: a noisy sine, counting ones, and two that need a long memory."""

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


def adding(length: int, sequences: int, *, rng: Seed = None) -> tuple[HostArray, HostArray]:
    """Return the adding problem: the sum of two marked numbers among many.

    The first number of a pair is uniform in [0, 1), the second marks with 1 one step of each half
    of the sequence, and is 0 elsewhere.  A network that always says 1 has a mean squared error of
    1/6.

    Parameters
    ----------
    length : int
        T, at least 2.
    sequences : int
        B.
    rng : int, numpy.random.Generator or None

    Returns
    -------
    x : host array, (T, B, 2), float64
    target : host array, (B, 1), float64

    References
    ----------
    S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997),
    1735-1780, section 5.4; with numbers in [0, 1) as in Q. Le, N. Jaitly and G. Hinton (2015),
    arXiv:1504.00941.

    Examples
    --------
    >>> x, target = adding(10, 20, rng=0)
    >>> x.shape, bool(np.allclose((x[..., 0] * x[..., 1]).sum(axis=0), target[:, 0]))
    ((10, 20, 2), True)
    """
    length = checks.positive_int("length", length)
    if length < 2:
        raise ValueError(f"length is {length}: expected at least 2, one step for each mark")
    sequences, draw = checks.positive_int("sequences", sequences), generator(rng)
    numbers, marks = draw.uniform(size=(length, sequences)), np.zeros((length, sequences))
    each, half = np.arange(sequences), length // 2
    marks[draw.integers(0, half, sequences), each] = 1
    marks[draw.integers(half, length, sequences), each] = 1
    return np.stack([numbers, marks], axis=-1), (numbers * marks).sum(axis=0)[:, None]


def copy_memory(
    length: int, sequences: int, *, symbols: int = 8, remembered: int = 10, rng: Seed = None
) -> tuple[HostArray, HostArray]:
    """Return the copy problem: repeat symbols that were seen ``length`` steps before.

    The input is the symbols, then blanks (the number ``symbols``), among them the signal to begin
    (``symbols + 1``) after ``length`` - 1 of them.  The target is blank until then, and then the
    symbols.  A network without memory has a cross-entropy of
    remembered·ln(symbols) / (length + 2·remembered).

    Parameters
    ----------
    length : int
        Steps between the last symbol and the first of its copy.
    sequences : int
        B.
    symbols : int
        How many different ones there are.
    remembered : int
        How many symbols are to be copied.
    rng : int, numpy.random.Generator or None

    Returns
    -------
    x : host array, (T, B), int64
        Below symbols + 2; T = length + 2·remembered.
    target : host array, (T, B), int64
        Below symbols + 1.

    References
    ----------
    M. Arjovsky, A. Shah and Y. Bengio, "Unitary evolution recurrent neural networks", ICML 2016,
    section 5.1, after S. Hochreiter and J. Schmidhuber (1997).

    Examples
    --------
    >>> x, target = copy_memory(3, 1, remembered=2, rng=0)
    >>> x[:, 0].tolist(), target[:, 0].tolist()
    ([6, 5, 8, 8, 9, 8, 8], [8, 8, 8, 8, 8, 6, 5])
    """
    length = checks.positive_int("length", length)
    sequences = checks.positive_int("sequences", sequences)
    symbols = checks.positive_int("symbols", symbols)
    remembered = checks.positive_int("remembered", remembered)
    copied = generator(rng).integers(0, symbols, (remembered, sequences))
    x = np.full((length + 2 * remembered, sequences), symbols, dtype=np.int64)
    target = x.copy()
    x[:remembered], target[-remembered:] = copied, copied
    x[remembered + length - 1] = symbols + 1
    return x, target
