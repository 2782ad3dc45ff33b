"""A forecaster: a network that reads a window of a series and forecasts the next value."""

import os
from typing import Any, NamedTuple

from xprnn import checks
from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.backend.host.quoting import quoted
from xprnn.backend.types import Array
from xprnn.data.batches import minibatches
from xprnn.data.series import Scaling, check_series, windows
from xprnn.engine.network import RNN
from xprnn.models.task import entry

TASK = "series"

LARGEST = 1e155
"""Means and deviations are below it, because squares of larger values overflow."""


class Forecaster(NamedTuple):
    """A network, with the window and the scaling that it was trained with.

    Attributes
    ----------
    net : RNN
        One input, one output, ``returns="last"``.
    window : int
        How many values the network reads to forecast the next.
    scaling : Scaling
    difference : bool
        Whether it reads and forecasts changes instead of levels, for series with a trend.
    """

    net: RNN
    window: int
    scaling: Scaling
    difference: bool = False

    @classmethod
    def fitted_scaling(
        cls, net: RNN, window: int, training: HostArray, *, difference: bool = False
    ) -> "Forecaster":
        """Return a forecaster with a scaling fitted on the training values; it trains no weights.

        Raises
        ------
        TypeError, ValueError
            If the network does not have one input, one output and ``returns="last"``, the window is
            not a positive integer, or the training values are not finite, not longer than the
            window, or all equal (with ``difference``, if their changes are).
        """
        _check_net(net)
        window = checks.positive_int("window", window)
        training = check_series("training", training, more_than=window + difference)
        if difference:
            scaling = Scaling.fitted(np.diff(training), what="changes")
        else:
            scaling = Scaling.fitted(training)
        return cls(net, window, scaling, difference)

    @property
    def needed(self) -> int:
        """How many values come before the first that can be forecast."""
        return self.window + self.difference

    def batches(self, values: HostArray, size: int, rng: Generator) -> minibatches:
        """Return training batches: windows of the values, each with the value that follows."""
        x, target = self.examples(values)
        return minibatches(x, target, size, rng=rng)

    def examples(self, values: HostArray) -> tuple[Array, Array]:
        """Return windows of the scaled values, (window, B, 1), and what follows each, (B, 1)."""
        x, target = windows(self._scaled(values), self.window)
        asarray = self.net.backend.asarray
        return asarray(x), asarray(target)

    def one_step(self, values: HostArray) -> HostArray:
        """Forecast every value from index `needed` on, each from the actual values before it.

        Parameters
        ----------
        values : host array, (N,)
            N above `needed`.

        Returns
        -------
        host array, (N - needed,), float64
        """
        values = check_series("values", values, more_than=self.needed)
        x, _ = windows(self._scaled(values), self.window)
        forecast = self._forecast(x)
        return values[self.window : -1] + forecast if self.difference else forecast

    def closed_loop(self, values: HostArray, steps: int) -> HostArray:
        """Forecast the next ``steps`` values, each from the values and forecasts before it.

        Parameters
        ----------
        values : host array, (N,)
            N at least `needed`.
        steps : int

        Returns
        -------
        host array, (steps,), float64
        """
        steps = checks.positive_int("steps", steps)
        values = check_series("values", values, more_than=self.needed - 1)
        history = list(self._scaled(values)[-self.window :])
        for _ in range(steps):
            x = np.array(history[-self.window :]).reshape(self.window, 1, 1)
            history.append(float(self.scaling.apply(self._forecast(x))[0]))
        forecast = self.scaling.invert(np.array(history[self.window :]))
        return values[-1] + np.cumsum(forecast) if self.difference else forecast

    def save(self, path: str | os.PathLike[str], **extra: Any) -> None:
        """Save the network, with ``extra`` and everything that `of` needs as metadata."""
        self.net.metadata = {
            **extra,
            "task": TASK,
            "window": self.window,
            "mean": self.scaling.mean,
            "std": self.scaling.std,
            "difference": self.difference,
        }
        self.net.save(path)

    @classmethod
    def of(cls, net: RNN) -> "Forecaster":
        """Return the forecaster of a network that `save` wrote.

        Raises
        ------
        TypeError, ValueError
            If the network was not saved by a forecaster, or what its metadata says is out of range.
        """
        data = net.metadata
        if data.get("task") != TASK:
            raise ValueError(
                f"the network was not trained on a series: its metadata is {quoted(data)}"
            )
        _check_net(net)
        scaling = Scaling(
            checks.number("mean", entry(data, "mean"), least=-LARGEST, below=LARGEST),
            checks.number("std", entry(data, "std"), open_=True, below=LARGEST),
        )
        window = checks.positive_int("window", entry(data, "window"))
        difference = checks.boolean("difference", entry(data, "difference"))
        return cls(net, window, scaling, difference)

    def _scaled(self, values: HostArray) -> HostArray:
        return self.scaling.apply(np.diff(values) if self.difference else values)

    def _forecast(self, x: HostArray) -> HostArray:
        """Return the network's forecasts (B,), in the values' unit, for windows (T, B, 1)."""
        backend = self.net.backend
        output, _ = self.net(backend.asarray(x))
        return self.scaling.invert(backend.to_numpy(output)[:, 0].astype(np.float64))


def _check_net(net: RNN) -> None:
    form = (net.input_size, net.output_size, net.returns, net.embedding_size)
    if form != (1, 1, "last", None):
        raise ValueError(f"net is {net}: expected RNN(1, H, 1, returns='last')")
