"""A forecaster: a network that reads a window of a series and forecasts the next value."""

import os
from typing import Any, NamedTuple

from xprnn import checks
from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.backend.types import Array
from xprnn.data.batches import minibatches
from xprnn.data.combination import Combination
from xprnn.data.differencing import Differencing
from xprnn.data.drawn import window_batches
from xprnn.data.intervals import Intervals
from xprnn.data.rolling import rolled
from xprnn.data.series import Scaling, check_series
from xprnn.engine.network import RNN
from xprnn.models.forecaster_file import TASK, check_task, counted, metadata_of, parts_of
from xprnn.models.frames import ahead, check_aligned, framed, host_values

__all__ = ["TASK", "Forecaster"]

LARGEST_INPUT = 1 << 22
"""How many numbers the projections of a block of windows have at most."""


class Forecaster(NamedTuple):
    """A network, with the window and the scaling that it was trained with.

    Without a linear part the network forecasts the scaled value or change itself.  With one it
    forecasts what the linear part leaves over::

        ŷ(t) = linear(y(t-1), y(t-2), ...) + residual · net(window)

    Several columns are forecast together by a network of as many outputs, which reads all of them
    and the covariates, these one step ahead of the values because they are known in advance.

    Wherever values or covariates are expected, a pandas Series or DataFrame will do, too; what
    `one_step` and `closed_loop` return has its kind then, its columns and its index.

    Attributes
    ----------
    net : RNN
        One input for each column and covariate, one output for each column, ``returns="last"``.
    window : int
        How many values the network reads to forecast the next.
    scaling : Scaling, or tuple of Scaling
        Of the values or, with differences, of these; one for each of several columns.
    difference : bool
        Whether it reads and forecasts changes instead of levels, for series with a trend.
    season : int
        The period of seasonal differences; 0: none are taken.
    linear : tuple of Combination
        The linear part of each column; empty: there is none.
    residual : tuple of float
        The scale of the network's output for each column, if there is a linear part.
    covariates : tuple of Scaling
        One for each covariate.
    intervals : Intervals, optional
        Half widths of prediction intervals by horizon.
    """

    net: RNN
    window: int
    scaling: Scaling | tuple[Scaling, ...]
    difference: bool = False
    season: int = 0
    linear: tuple[Combination, ...] = ()
    residual: tuple[float, ...] = ()
    covariates: tuple[Scaling, ...] = ()
    intervals: Intervals | None = None

    @classmethod
    def fitted_scaling(
        cls,
        net: RNN,
        window: int,
        training: Any,
        *,
        difference: bool = False,
        season: int = 0,
        covariates: Any = None,
    ) -> "Forecaster":
        """Return a forecaster with a scaling fitted on the training values; it trains no weights.

        Parameters
        ----------
        net : RNN
        window : int
        training : host array, (N,) or (N, O), or Series or DataFrame
        difference : bool
        season : int
        covariates : host array, (N, C), or DataFrame, optional

        Raises
        ------
        TypeError, ValueError
            If the network does not have an input for each column and covariate, an output for each
            column and ``returns="last"``, the window is not a positive integer, or the training
            values are not finite, not longer than the window, or all equal.  Equal differences
            are no error: their scale is 1.
        """
        check_aligned(training, covariates)
        training = host_values("training", training)
        covariates = _known(covariates)
        several = np.ndim(training) == 2
        count = 0 if covariates is None else covariates.shape[1]
        outputs = training.shape[1] if several else 1
        _check_net(net, outputs, count)
        window = checks.positive_int("window", window)
        kind = Differencing(difference, season)
        columns = [
            check_series("training", column, more_than=window + kind.lost)
            for column in (training.T if several else [training])
        ]
        what = "changes" if kind.lost else "values"
        scalings = tuple(
            Scaling.fitted(kind.apply(column), what=what, equal=bool(kind.lost))
            for column in columns
        )
        of_inputs = tuple(
            Scaling.fitted(kind.apply(check_series("covariates", column, more_than=0)), equal=True)
            for column in (() if covariates is None else covariates.T)
        )
        return cls(
            net,
            window,
            scalings if several else scalings[0],
            difference,
            season,
            covariates=of_inputs,
        )

    @property
    def differencing(self) -> Differencing:
        """The differences that the network reads."""
        return Differencing(self.difference, self.season)

    @property
    def needed(self) -> int:
        """How many values come before the first that can be forecast."""
        return max(self.window + self.differencing.lost, *(part.needed for part in self.linear), 0)

    def batches(self, values: Any, size: int, rng: Generator) -> minibatches:
        """Return training batches: windows of the values, each with the value that follows.

        All of them are in memory at once; `training_batches` cuts them out when they are needed.
        """
        x, target = self.examples(values)
        return minibatches(x, target, size, rng=rng)

    def examples(self, values: Any, covariates: Any = None) -> tuple[Array, Array]:
        """Return what the network reads, (window, B, I), and what it is to forecast, (B, O).

        That is windows of the scaled values and what follows each, or with a linear part what this
        leaves over.
        """
        table = self._checked(self._host(values), self.needed)
        every = self.training_batches(table, len(table), None, covariates=covariates)
        batch = next(iter(every))
        return batch.x, batch.target

    def training_batches(
        self,
        values: Any,
        size: int,
        rng: Generator | None,
        *,
        covariates: Any = None,
        start: int = 0,
        least: int = 1,
        most: int | None = None,
    ) -> window_batches:
        """Return training batches, whose windows are cut out when they are needed.

        Parameters
        ----------
        values : host array, (N,) or (N, O), or Series or DataFrame
        size : int
            Windows in a batch.
        rng : Generator or None
            The source of the random order; None: the order of time.
        covariates : host array, (N, C), or DataFrame, optional
        start : int
            The index of the first value that is a target; at least `needed`, which is the default.
        least, most : int
            See `window_batches`.
        """
        check_aligned(values, covariates)
        table = self._host(values)
        table, covariates = table.reshape(len(table), -1), _known(covariates)
        lost, first = self.differencing.lost, max(self.needed, start)
        scaled = self._scaled_table(table)
        if self.linear:
            known = self._linear_one_step(table, first, covariates)
            scales = np.array(self.residual)
            # A residual of 0 is one of a series that the linear part forecasts without error.
            target = (table[first:] - known) / np.where(scales > 0, scales, np.inf)
        else:
            target = scaled[first - lost :]
        features = scaled
        if covariates is not None:
            ahead = self._scaled_covariates(covariates)
            features = np.concatenate([scaled, np.vstack([ahead[1:], ahead[-1:]])], axis=1)
        return window_batches(
            features,
            np.arange(first, len(table)) - lost,
            target,
            self.window,
            size,
            asarray=self.net.backend.asarray,
            rng=rng,
            least=least,
            most=most,
        )

    def with_linear(
        self,
        linear: tuple[Combination, ...],
        values: Any,
        covariates: Any = None,
    ) -> "Forecaster":
        """Return this forecaster with a linear part, and the scale of what it leaves of values."""
        made = self._replace(linear=linear, residual=(1.0,) * len(linear))
        check_aligned(values, covariates)
        table = self._host(values)
        table, covariates = table.reshape(len(table), -1), _known(covariates)
        left = table[made.needed :] - made._linear_one_step(table, made.needed, covariates)
        scales = np.std(left, axis=0) if len(left) else np.zeros(table.shape[1])
        exact = scales <= 1e-12 * np.max(np.abs(table), axis=0)
        return made._replace(residual=tuple(float(s) for s in np.where(exact, 0.0, scales)))

    def next(self, history: HostArray, inputs: HostArray | None = None) -> HostArray:
        """Forecast the values that follow histories.

        Parameters
        ----------
        history : host array, (L, B) or (L, B, O)
            B histories of L values, L at least `needed`; the last is the latest.
        inputs : host array, (L + 1, B, C), optional
            The covariates of the same times and of the one to forecast.

        Returns
        -------
        host array, (B,) or (B, O), float64
        """
        table = history if history.ndim == 3 else history[:, :, None]
        kind = self.differencing
        x = (kind.apply(table[-self.window - kind.lost :]) - self._mean) / self._std
        if inputs is not None:
            ahead = self._scaled_covariates(inputs[-self.window - kind.lost :])
            x = np.concatenate([x, ahead], axis=2)
        backend = self.net.backend
        output, _ = self.net(backend.asarray(x))
        out = backend.to_numpy(output).astype(np.float64)
        if self.linear:
            known = [part.next(table[:, :, k], inputs) for k, part in enumerate(self.linear)]
            forecast = np.stack(known, axis=1) + out * np.array(self.residual)
        else:
            forecast = kind.base(table) + (out * self._std + self._mean)
        found: HostArray = forecast if history.ndim == 3 else forecast[:, 0]
        return found

    def one_step(self, values: Any, covariates: Any = None) -> Any:
        """Forecast every value from index `needed` on, each from the actual values before it.

        Parameters
        ----------
        values : host array, (N,) or (N, O), or Series or DataFrame
            N above `needed`.
        covariates : host array, (N, C), or DataFrame, optional

        Returns
        -------
        host array, (N - needed,) or (N - needed, O), float64
            Of a Series or DataFrame, one of its own kind, with the index of these values.
        """
        table = self._checked(self._host(values), self.needed)
        check_aligned(values, covariates)
        known = self._checked_covariates(covariates, len(table))
        found = self.rolled(table, self.needed, len(table), covariates=known)[0]
        return framed(found, values, lambda index: index[self.needed :])

    def closed_loop(self, values: Any, steps: int, covariates: Any = None) -> Any:
        """Forecast the next ``steps`` values, each from the values and forecasts before it.

        Parameters
        ----------
        values : host array, (N,) or (N, O), or Series or DataFrame
            N at least `needed`.
        steps : int
        covariates : host array, (N + steps, C), or DataFrame, optional

        Returns
        -------
        host array, (steps,) or (steps, O), float64
            Of a Series or DataFrame, one of its own kind. Its index goes on where that of the
            values ends: times in their frequency, numbers in their distance. After an index that
            has neither, steps have their position: N, N + 1, ...  With covariates that have an
            index, it is the end of theirs.
        """
        steps = checks.positive_int("steps", steps)
        table = self._checked(self._host(values), self.needed - 1)
        check_aligned(values, covariates)
        end = len(table)
        known = self._checked_covariates(covariates, end + steps)
        found = self.rolled(table, end, end + 1, steps, covariates=known)[:, 0]
        return framed(found, values, lambda index: ahead(index, steps, covariates))

    def rolled(
        self,
        values: HostArray,
        start: int,
        stop: int,
        horizon: int = 1,
        *,
        covariates: HostArray | None = None,
        tick: Any = None,
    ) -> HostArray:
        """Forecast ``horizon`` steps from every origin; see `xprnn.data.rolling.rolled`.

        The windows of a block are as many as memory is spared for.
        """
        numbers = self.window * self.net.architecture.width * self.net.cell.gates
        block = max(16, min(1024, LARGEST_INPUT // numbers))
        return rolled(self, values, start, stop, horizon, inputs=covariates, block=block, tick=tick)

    def save(self, path: str | os.PathLike[str], **extra: Any) -> None:
        """Save the network, with ``extra`` and everything that `of` needs as metadata."""
        self.net.metadata = {**extra, **metadata_of(self._asdict())}
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
        check_task(data)
        _check_net(net, counted(data, "mean", 1), counted(data, "covariate_means", 0))
        return cls(net, **parts_of(data))

    @property
    def _scalings(self) -> tuple[Scaling, ...]:
        return (self.scaling,) if isinstance(self.scaling, Scaling) else self.scaling

    @property
    def _mean(self) -> HostArray:
        return np.array([scaling.mean for scaling in self._scalings])

    @property
    def _std(self) -> HostArray:
        return np.array([scaling.std for scaling in self._scalings])

    def _scaled_table(self, table: HostArray) -> HostArray:
        scaled: HostArray = (self.differencing.apply(table) - self._mean) / self._std
        return scaled

    def _scaled_covariates(self, inputs: HostArray) -> HostArray:
        mean = np.array([scaling.mean for scaling in self.covariates])
        std = np.array([scaling.std for scaling in self.covariates])
        scaled: HostArray = (self.differencing.apply(inputs) - mean) / std
        return scaled

    def _linear_one_step(
        self, table: HostArray, start: int, covariates: HostArray | None
    ) -> HostArray:
        """Return the linear part's forecasts of the values from ``start`` on, (N - start, O)."""
        parts = [
            rolled(part, column, start, len(table), inputs=covariates)[0]
            for part, column in zip(self.linear, table.T, strict=True)
        ]
        return np.stack(parts, axis=1)

    def _host(self, values: Any) -> HostArray:
        return host_values("values", values, one=isinstance(self.scaling, Scaling))

    def _checked(self, values: HostArray, more_than: int) -> HostArray:
        """Return values as float64, after checking their number of columns, and that they do."""
        if isinstance(self.scaling, Scaling):
            return check_series("values", values, more_than=more_than)
        checks.of_shape("values", values, ("N", len(self.scaling)))
        columns = [check_series("values", column, more_than=more_than) for column in values.T]
        return np.stack(columns, axis=1)

    def _checked_covariates(self, given: Any, count: int) -> HostArray | None:
        if not self.covariates:
            if given is not None:
                raise ValueError("covariates are given, but the network was trained without")
            return None
        if given is None:
            raise ValueError(
                f"the network was trained with {len(self.covariates)} covariates: expected them"
            )
        given = _known(given)
        checks.of_shape("covariates", given, (count, len(self.covariates)))
        columns = [check_series("covariates", column, more_than=0) for column in given.T]
        return np.stack(columns, axis=1)


def _known(covariates: Any) -> HostArray | None:
    """Return covariates as an array, (N, C); a Series is one of them."""
    found = None if covariates is None else host_values("covariates", covariates)
    return found if found is None or found.ndim == 2 else found[:, None]


def _check_net(net: RNN, outputs: int = 1, covariates: int = 0) -> None:
    form = (net.input_size, net.output_size, net.returns, net.embedding_size)
    if form != (outputs + covariates, outputs, "last", None):
        raise ValueError(
            f"net is {net}: expected RNN({outputs + covariates}, H, {outputs}, returns='last')"
        )
