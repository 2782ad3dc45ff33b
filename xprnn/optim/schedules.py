"""Schedules of learning rates: pure functions of the number of updates done.

Each function here returns a schedule, ``iteration -> rate``, which optimizers take in place of a
number, and which can be pickled.  `halve_on_rise` is another kind: it looks at losses and is for
``fit(rate_scale=...)``.

Examples
--------
>>> rate = warm_up(cosine(0.1, 100), 10)
>>> [round(rate(k), 4) for k in (0, 9, 10, 60, 110)]
[0.01, 0.1, 0.1, 0.05, 0.0]
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from xprnn import checks
from xprnn.backend import library_of
from xprnn.backend.types import Array

Schedule: TypeAlias = Callable[[int], float]


def step(rate: float, every: int, factor: float = 0.1) -> Schedule:
    """Return rate · factor^⌊iteration / every⌋."""
    rate = checks.number("rate", rate, open_=True)
    every = checks.positive_int("every", every)
    factor = checks.number("factor", factor, open_=True)
    return partial(_step, rate=rate, every=every, factor=factor)


def exponential(rate: float, factor: float) -> Schedule:
    """Return rate · factor^iteration."""
    rate = checks.number("rate", rate, open_=True)
    factor = checks.number("factor", factor, open_=True)
    return partial(_exponential, rate=rate, factor=factor)


def inverse_time(rate: float, decay: float) -> Schedule:
    """Return rate / (1 + decay·iteration), which the option ``decay`` of `SGD` gives, too."""
    rate = checks.number("rate", rate, open_=True)
    decay = checks.number("decay", decay)
    return partial(_inverse_time, rate=rate, decay=decay)


def cosine(rate: float, iterations: int, final: float = 0.0) -> Schedule:
    """Return half a cosine, from ``rate`` down to ``final`` over ``iterations``, then constant.

    References
    ----------
    I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017,
    without the restarts.
    """
    rate = checks.number("rate", rate, open_=True)
    iterations = checks.positive_int("iterations", iterations)
    final = checks.number("final", final)
    return partial(_cosine, rate=rate, iterations=iterations, final=final)


def warm_up(then: float | Schedule, iterations: int) -> Schedule:
    """Return a linear rise to the first rate of another schedule, and then that schedule.

    A number stands for a constant schedule.
    """
    iterations = checks.positive_int("iterations", iterations)
    return partial(_warm_up, follow=as_schedule("then", then), iterations=iterations)


def halve_on_rise(losses: Sequence[float], factor: float = 0.5) -> float:
    """Return ``factor`` if the last loss is above the one before it, else 1.

    Pass it as ``fit(rate_scale=...)``.

    References
    ----------
    The recurrent language model that preceded xprnn's halves its learning rate whenever the
    evaluated loss has risen; T. Mikolov's RNNLM toolkit (2010) has a similar rule.

    Examples
    --------
    >>> halve_on_rise([3.0]), halve_on_rise([3.0, 2.0]), halve_on_rise([2.0, 2.1])
    (1.0, 1.0, 0.5)
    """
    return factor if len(losses) > 1 and losses[-1] > losses[-2] else 1.0


def as_schedule(name: str, rate: float | Schedule) -> Schedule:
    """Return a constant schedule for a number above zero; a schedule as it is."""
    if callable(rate):
        return rate
    fixed = checks.number(name, rate, open_=True)
    return partial(_constant, rate=fixed)


def rate_at(rate: float | Schedule, iteration: int | Array) -> float | Array:
    """Return the rate after ``iteration`` updates; ``rate`` has passed `as_schedule`.

    In code that is compiled, the iteration may be an array without a value, and so the rate.
    """
    if not callable(rate):
        return float(rate)
    if not isinstance(iteration, int) and library_of(iteration).traced(iteration):
        return _rate_at_any(rate, iteration)
    # float, because a NumPy scalar could change the dtype of the parameters.
    given = rate(int(iteration))
    try:
        found = float(given)
    except (TypeError, ValueError):
        found = math.nan
    if not 0 <= found < math.inf:
        raise ValueError(
            f"the schedule {rate} returned {given!r} after {iteration} updates: "
            "expected a finite number of at least 0"
        )
    return found


def _rate_at_any(rate: Schedule, iteration: Array) -> Array:
    try:
        return rate(iteration)
    except TypeError as error:
        raise TypeError(
            f"the schedule {rate} can't be compiled: it needs the number of updates as an int, and "
            "a compiled update serves all of them; expected a number, a schedule of arithmetic "
            f"alone, or an update outside of the compiled function ({type(error).__name__})"
        ) from error


# A schedule is one of these with its options: a function inside a function can't be pickled.


def _step(iteration: int, rate: float, every: int, factor: float) -> float:
    return rate * factor ** (iteration // every)


def _exponential(iteration: int, rate: float, factor: float) -> float:
    return rate * factor**iteration


def _inverse_time(iteration: int, rate: float, decay: float) -> float:
    return rate / (1 + decay * iteration)


def _cosine(iteration: int, rate: float, iterations: int, final: float) -> float:
    done = min(iteration / iterations, 1.0)
    return final + (rate - final) * 0.5 * (1 + math.cos(math.pi * done))


def _warm_up(iteration: int, follow: Schedule, iterations: int) -> float:
    if iteration < iterations:
        return follow(0) * (iteration + 1) / iterations
    return follow(iteration - iterations)


def _constant(iteration: int, rate: float) -> float:
    del iteration
    return rate
