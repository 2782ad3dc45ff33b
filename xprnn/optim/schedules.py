"""Schedules of learning rates: pure functions of the number of updates done.

Each function here returns a schedule, ``iteration -> rate``, which optimizers take in place of a
number.  `halve_on_rise` is another kind: it looks at losses and is for ``fit(rate_scale=...)``.

Examples
--------
>>> rate = warm_up(cosine(0.1, 100), 10)
>>> [round(rate(k), 4) for k in (0, 9, 10, 60, 110)]
[0.01, 0.1, 0.1, 0.05, 0.0]
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from xprnn import checks

Schedule: TypeAlias = Callable[[int], float]


def step(rate: float, every: int, factor: float = 0.1) -> Schedule:
    """Return rate · factor^⌊iteration / every⌋."""
    rate = checks.number("rate", rate, open_=True)
    every = checks.positive_int("every", every)
    factor = checks.number("factor", factor, open_=True)
    return lambda iteration: rate * factor ** (iteration // every)


def exponential(rate: float, factor: float) -> Schedule:
    """Return rate · factor^iteration."""
    rate = checks.number("rate", rate, open_=True)
    factor = checks.number("factor", factor, open_=True)
    return lambda iteration: rate * factor**iteration


def inverse_time(rate: float, decay: float) -> Schedule:
    """Return rate / (1 + decay·iteration), which the option ``decay`` of `SGD` gives, too."""
    rate = checks.number("rate", rate, open_=True)
    decay = checks.number("decay", decay)
    return lambda iteration: rate / (1 + decay * iteration)


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

    def schedule(iteration: int) -> float:
        done = min(iteration / iterations, 1.0)
        return final + (rate - final) * 0.5 * (1 + math.cos(math.pi * done))

    return schedule


def warm_up(then: float | Schedule, iterations: int) -> Schedule:
    """Return a linear rise to the first rate of another schedule, and then that schedule.

    A number stands for a constant schedule.
    """
    iterations = checks.positive_int("iterations", iterations)
    follow = as_schedule("then", then)

    def schedule(iteration: int) -> float:
        if iteration < iterations:
            return follow(0) * (iteration + 1) / iterations
        return follow(iteration - iterations)

    return schedule


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
    return lambda _: fixed


def rate_at(rate: float | Schedule, iteration: int) -> float:
    """Return the rate after ``iteration`` updates; ``rate`` has passed `as_schedule`."""
    # float, because a NumPy scalar could change the dtype of the parameters.
    return float(rate(iteration) if callable(rate) else rate)
