"""What ``xprnn train csv`` forecasts, writes and draws of the held-out part."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xprnn import diagnostics
from xprnn.backend.host.arrays import HostArray, np
from xprnn.cli.series import reading_memory
from xprnn.cli.tables import write_csv
from xprnn.cli.train.csv_comparison import forecasts_of
from xprnn.cli.train.csv_training import Data, Trainer
from xprnn.data import Columns
from xprnn.data.differencing import Differencing
from xprnn.data.intervals import Intervals, enough, growing_widths, intervals, share_inside
from xprnn.data.rolling import errors
from xprnn.models.forecaster import Forecaster

OUTPUT, PICTURE = "output.csv", "forecast.png"
CLOSED_LOOP = 200
"""The longest closed loop."""
FURTHEST, ORIGINS = 24, 300
"""Intervals are made for so many steps ahead, from the errors of so many of the last origins."""
OUTSIDE = 0.5
"""A series leaves the range of its first values if more of the others than this are outside."""


class Results:
    """Forecasts of the held-out part, their intervals, and the files made of them.

    Attributes
    ----------
    forecasts : list of host array, (H, stop - start, O)
        For each fold.
    intervals : Intervals
        Those of the next values, from errors on the tail and on the held-out part.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        names: tuple[str, ...],
        table: Columns,
        data: Data,
        trainer: Trainer,
        folds: list[tuple[int, int, Forecaster]],
    ) -> None:
        self.args, self.names, self.table, self.data = args, names, table, data
        self.trainer, self.folds = trainer, folds
        self.forecasts: list[HostArray] = []
        self.intervals = Intervals(args.interval, ())
        self.count = len(data.values) - data.cut
        self._coverage: list[dict[int, float | None]] = []
        self.horizon = 1

    @property
    def work(self) -> int:
        """How many origins there are to forecast from."""
        tail = min(self.data.cut - self.data.head, ORIGINS) if self.trainer.stopping else 0
        return self.count + tail + min(self.count, ORIGINS)

    def forecast(self, horizon: int, tick: Callable[[int], object]) -> None:
        """Forecast the held-out part and what intervals are made from."""
        data, known = self.data, self.data.covariates
        self.horizon = horizon
        self.forecasts = forecasts_of(self.folds, data.values, known, horizon, tick)
        furthest = max(horizon, FURTHEST)
        before = self._errors_before(furthest, tick)
        last = self.folds[-1]
        start = max(last[0], len(data.values) - ORIGINS)
        of_last = forecasts_of([(start, *last[1:])], data.values, known, furthest, tick)[0]
        rows, self._widths, self._coverage = [], [], []
        for k in range(len(self.names)):
            y = data.values[:, k]
            now = errors(of_last[:, :, k], y, start)
            rows.append([np.concatenate([a, b]) for a, b in zip(before[k], now, strict=True)])
            found = {}
            for h in range(1, horizon + 1):
                own = np.concatenate(
                    [
                        errors(part[:, :, k], y[:stop], begin)[h - 1]
                        for (begin, stop, _), part in zip(self.folds, self.forecasts, strict=True)
                    ]
                )
                widths = growing_widths(before[k][h - 1], own, h, self.args.interval)
                if h == 1:
                    self._widths.append(widths)
                found[h] = share_inside(own, widths)
            self._coverage.append(found)
        self.intervals = intervals(rows, self.args.interval)
        self._counts = [len(row[0]) for row in rows]
        steps = min(self.count, CLOSED_LOOP)
        evaluated = self.folds[0][2]
        y = data.values if len(self.names) > 1 else data.values[:, 0]
        loop = evaluated.rolled(y, data.cut, data.cut + 1, steps, covariates=known)
        self.closed_loop = loop.reshape(steps, -1)
        self.one_step = np.concatenate([part[0] for part in self.forecasts])

    def _errors_before(self, horizon: int, tick: Callable[[int], object]) -> list[list[HostArray]]:
        """Return for each column and horizon the errors on the tail, which told when to stop."""
        nothing = [[np.zeros(0)] * horizon for _ in self.names]
        if not self.trainer.stopping:
            return nothing
        data = self.data
        start = max(data.head, data.cut - ORIGINS)
        first = self.trainer.first
        values = data.values[: data.cut]
        made = forecasts_of([(start, data.cut, first)], values, data.covariates, horizon, tick)[0]
        return [errors(made[:, :, k], values[:, k], start) for k in range(len(self.names))]

    def metadata(self, season: int) -> dict[str, Any]:
        """Return what the model's file says beside what it needs to forecast."""
        values = self.data.values
        whole = {
            "column": self.names[0],
            "seed": self.args.seed,
            "trained_mean": [float(m) for m in np.mean(values, axis=0)],
            "trained_std": [float(s) for s in np.std(values, axis=0)],
            "period": season,
            "reading": reading_memory(self.args, self.table),
        }
        if len(self.names) > 1:
            whole["columns"] = list(self.names)
        if self.args.covariate:
            whole["covariates"] = list(self.args.covariate)
        return whole

    def remarks(self) -> list[str]:
        """Return lines about the series that a user should know before the figures."""
        found, trainer = [], self.trainer
        kind, auto = trainer.choice.differencing, self.args.difference == "auto"
        for k, name in enumerate(self.names):
            y, cut, head = self.data.values[:, k], self.data.cut, self.data.head
            left = left_range(y[:cut], head) or left_range(y, cut)
            if not left:
                continue
            if kind.lost and auto:
                what = f"{kind_words(kind)} were chosen"
            elif kind.lost:
                what = f"{kind_words(kind)} are forecast"
            else:
                what = "levels are forecast" + ("" if auto else "; --difference auto may be better")
            found.append(f"{name} {left} out of what the network has seen: {what}")
        if trainer.exact:
            found.append(
                "the linear part forecasts the training part without error: there is nothing left "
                "for a network to learn"
            )
        elif not trainer.updates:
            found.append(
                "the networks found nothing that helps the linear part, which forecasts alone"
            )
        return found

    def one_step_errors(self) -> list[tuple[float, float, str]]:
        """Return for each column the root mean squared error, the deviation, and the name."""
        values = self.data.values
        held_out = values[self.data.cut :][: len(self.one_step)]
        errors = np.sqrt(np.mean((held_out - self.one_step) ** 2, axis=0))
        return list(zip(errors.tolist(), np.std(values, axis=0).tolist(), self.names, strict=True))

    def sentences(self, refitted: bool) -> list[str]:
        """Return the lines after the table."""
        found = []
        share = self.args.interval
        for k, name in enumerate(self.names):
            inside = [
                f"{100 * part:.0f} % {h} step{'s' if h > 1 else ''} ahead"
                for h, part in self._coverage[k].items()
                if part is not None and h in (1, self.horizon)
            ]
            if inside:
                whose = f" of {name}" if len(self.names) > 1 else ""
                found.append(
                    f"intervals for {100 * share:g} %{whose}, made from earlier errors, hold "
                    f"{', '.join(inside)}"
                )
            if not enough(self._counts[k], share):
                found.append(
                    f"{self._counts[k]} errors are few for intervals of {100 * share:g} %: they "
                    "are the largest error"
                )
        loop = self.data.values[self.data.cut :][: len(self.closed_loop)] - self.closed_loop
        for k, name in enumerate(self.names):
            whose = f" of {name}" if len(self.names) > 1 else ""
            error = float(np.sqrt(np.mean(loop[:, k] ** 2)))
            found.append(
                f"closed loop{whose} over {len(loop)} steps: root mean squared error {error:.4g}"
            )
        if refitted:
            found.append(
                "the model that is saved was trained on all values after that (--no-refit keeps "
                "the one that was compared)"
            )
        return found

    def write(self, folder: Path) -> None:
        """Write the forecasts of the held-out part, and draw them."""
        data, cut = self.data, self.data.cut
        times = self.table.times or tuple(str(k) for k in range(len(data.values)))
        header, columns = [self.table.time or "step"], []
        for k, name in enumerate(self.names):
            prefix = f"{name}_" if len(self.names) > 1 else ""
            header += [
                name,
                *(f"{prefix}{word}" for word in ("one_step", "lower", "upper", "closed_loop")),
            ]
            one, width = self.one_step[:, k], self._widths[k]
            loop = [*self.closed_loop[:, k]] + [""] * (self.count - len(self.closed_loop))
            columns += [
                [repr(v) for v in data.values[cut:, k].tolist()],
                one,
                one - width,
                one + width,
                loop,
            ]
        write_csv(folder / OUTPUT, header, zip(times[cut:], *columns, strict=True))
        for k, name in enumerate(self.names):
            one, width = self.one_step[:, k], self._widths[k]
            figure = diagnostics.plot_forecast(
                data.values[:, k],
                one,
                self.closed_loop[:, k],
                # With some of the training part before it, from which the forecast starts.
                start=max(0, cut - self.count // 2),
                one_step_start=cut,
                closed_loop_start=cut,
                band=(cut, one - width, one + width),
                band_name=f"{100 * self.args.interval:g} % interval, one step ahead",
                times=self.table.times,
                ylabel=name,
                title=f"{name}: held-out part and its forecasts",
            )
            diagnostics.save_figure(figure, folder / picture(k))


def left_range(values: HostArray, head: int) -> str:
    """Return whether the values from ``head`` on leave the range of those before, and how.

    ``"rises"`` or ``"falls"`` if most of them are above it or below, else an empty text.
    """
    low, high, later = np.min(values[:head]), np.max(values[:head]), values[head:]
    if float(np.mean(later > high)) > OUTSIDE:
        return "rises"
    return "falls" if float(np.mean(later < low)) > OUTSIDE else ""


def kind_words(kind: Differencing) -> str:
    """Return what is forecast, in words."""
    return {
        "none": "levels",
        "first": "differences",
        "seasonal": "seasonal differences",
        "both": "first and seasonal differences",
    }[kind.name]


def picture(k: int) -> str:
    """Return the name of the picture of a column, given its number."""
    return PICTURE if k == 0 else f"{Path(PICTURE).stem}-{k + 1}.png"
