"""Rolling origin: forecasts of every horizon from every origin of a series."""

from collections.abc import Callable
from typing import Protocol

from xprnn.backend.host.arrays import HostArray, np

BLOCK = 1024
"""How many origins are forecast at a time."""


class OneStep(Protocol):
    """Forecasts the next value."""

    @property
    def needed(self) -> int:
        """How many values it reads."""
        ...

    def next(self, history: HostArray, inputs: HostArray | None = None, /) -> HostArray:
        """Return the next values (B, ...) of histories (L, B, ...); see `Linear.next`."""
        ...


def rolled(
    model: OneStep,
    values: HostArray,
    start: int,
    stop: int,
    horizon: int = 1,
    *,
    inputs: HostArray | None = None,
    block: int = BLOCK,
    tick: Callable[[int], object] | None = None,
) -> HostArray:
    """Forecast ``horizon`` steps from every origin, each from the forecasts before it.

    Parameters
    ----------
    model : OneStep
    values : host array, (N,) or (N, O)
    start, stop : int
        Origins are start ... stop - 1, at least ``model.needed`` and at most N: from origin t the
        values with index t, t+1 ... are forecast, and those before it are read.
    horizon : int
        H
    inputs : host array, (M, C), optional
        Covariates; where a forecast reaches past the last one, that one is used.
    block : int
        How many origins are forecast at a time, which limits the memory.
    tick : callable, optional
        Called after every block with the number of its origins.

    Returns
    -------
    host array, (H, stop - start) or (H, stop - start, O)
    """
    found = np.empty((horizon, stop - start, *values.shape[1:]))
    length = model.needed
    for first in range(start, stop, block):
        origins = np.arange(first, min(first + block, stop))
        past = np.arange(-length, 0)[:, None] + origins
        history = np.empty((length + horizon, len(origins), *values.shape[1:]))
        history[:length] = values[past]
        for h in range(horizon):
            known = None
            if inputs is not None:
                times = np.arange(-length, 1)[:, None] + origins + h
                known = inputs[np.minimum(times, len(inputs) - 1)]
            history[length + h] = model.next(history[h : length + h], known)
        found[:, first - start : first - start + len(origins)] = history[length:]
        if tick is not None:
            tick(len(origins))
    return found


def errors(forecasts: HostArray, values: HostArray, start: int) -> list[HostArray]:
    """Return what forecasts of `rolled` are off by, for each horizon: value - forecast.

    Horizon h has as many errors as values exist at t + h - 1 for the origins t.
    """
    return [
        values[start + h : start + h + row.shape[0]] - row[: max(0, len(values) - start - h)]
        for h, row in enumerate(forecasts)
    ]
