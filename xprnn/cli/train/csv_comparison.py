"""The comparison of ``xprnn train csv``: errors on the held-out part, and what they say."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.data.baselines import Autoregression, fit_baselines, scale_of_errors
from xprnn.data.rolling import errors, rolled
from xprnn.models.forecaster import Forecaster

NAMES = ("persistence", "drift", "seasonal", "ar", "network")
LINEAR = "linear"
"""The name of the network's linear part alone, which is only printed."""
ALMOST = 0.05
"""A forecast that is worse than persistence by more than this is told of."""

Errors = list[list[HostArray]]
"""For each fold the errors of every horizon."""


class Comparison(NamedTuple):
    """The errors of one column.

    Attributes
    ----------
    column : str
    horizons : tuple of int
    errors : mapping
        By name, for each fold, the errors of every horizon from 1 on; None for a baseline that
        there is not.
    labels : mapping
        What the names stand for, in words.
    scale : float or None
        What the mean absolute scaled error divides by.
    silent : bool
        Whether the networks add nothing to their linear part.
    """

    column: str
    horizons: tuple[int, ...]
    errors: Mapping[str, Errors | None]
    labels: Mapping[str, str]
    scale: float | None
    silent: bool

    def rmse(self, name: str, horizon: int = 1) -> float | None:
        """Return the root mean squared error of a forecast; None if there is none."""
        found = self._of(name, horizon)
        return None if found is None or not len(found) else float(np.sqrt(np.mean(found**2)))

    def spread(self, name: str, horizon: int) -> float | None:
        """Return the standard deviation of the folds' errors; None for a single fold."""
        folds = self.errors[name]
        if folds is None or len(folds) < 2:
            return None
        each = [float(np.sqrt(np.mean(f[horizon - 1] ** 2))) for f in folds if len(f[horizon - 1])]
        return float(np.std(each, ddof=1)) if len(each) > 1 else None

    def mase(self, name: str, horizon: int) -> float | None:
        """Return the mean absolute scaled error; None if there is none."""
        found = self._of(name, horizon)
        if found is None or not len(found) or self.scale is None:
            return None
        return float(np.mean(np.abs(found))) / self.scale

    def _of(self, name: str, horizon: int) -> HostArray | None:
        folds = self.errors[name]
        return None if folds is None else np.concatenate([f[horizon - 1] for f in folds])

    @property
    def best(self) -> str:
        """The name of the forecast with the lowest error one step ahead; the network of equals."""
        found = [(self.rmse(name), name) for name in reversed(NAMES)]
        known = [(error, name) for error, name in found if error is not None]
        return min(known, key=lambda pair: pair[0])[1]

    @property
    def verdict(self) -> str:
        """A sentence that says which forecast to use."""
        best, mine = self.best, self.rmse("network") or 0.0
        if best == "network":
            return "the network's linear part is best" if self.silent else "the network is best"
        sentence = (
            f"{self.labels[best]} is better by {_percent(self.rmse(best), mine)}: use it, or give "
            "the network more data"
        )
        naive = self.rmse("persistence")
        if best != "persistence" and naive is not None and mine > (1 + ALMOST) * naive:
            sentence += f"; persistence is better, too, by {_percent(naive, mine)}"
        return sentence


def compared(
    column: str,
    index: int,
    values: HostArray,
    folds: Sequence[tuple[int, int, Forecaster]],
    forecasts: Sequence[HostArray],
    horizons: tuple[int, ...],
    season: int,
    covariates: HostArray | None = None,
) -> Comparison:
    """Compare the forecasts of a column with those of baselines that are fitted before each fold.

    Parameters
    ----------
    column : str
    index : int
        The number of the column.
    values : host array, (N, O)
    folds : sequence of (start, stop, forecaster)
    forecasts : sequence of host array, (H, stop - start, O)
        Those of the forecasters.
    horizons : tuple of int
    season : int
    covariates : host array, (N, C), optional
    """
    y, longest = values[:, index], max(horizons)
    found: dict[str, Errors | None] = {name: [] for name in (*NAMES, LINEAR)}
    labels = {
        "persistence": "persistence",
        "drift": "drift",
        "seasonal": f"the seasonal naive forecast ({season} steps back)",
        "ar": "AR",
        "network": "the network",
    }
    for (start, stop, forecaster), of_network in zip(folds, forecasts, strict=True):
        models = fit_baselines(y[:start], season)
        models[LINEAR] = None
        if forecaster.linear and forecaster.residual[index]:
            models[LINEAR] = forecaster.linear[index]
        fold = {"network": errors(of_network[:, :, index], y[:stop], start)}
        for name, model in models.items():
            if model is None or model.needed > start:
                found[name] = None
                continue
            if isinstance(model, Autoregression) and start == folds[0][0]:
                labels["ar"] = f"AR({model.order})"
            known = covariates if name == LINEAR else None
            forecast = rolled(model, y, start, stop, longest, inputs=known)
            fold[name] = errors(forecast, y[:stop], start)
        for name, rows in fold.items():
            so_far = found[name]
            if so_far is not None:
                so_far.append(rows)
    scale = scale_of_errors(y[: folds[0][0]], season)
    evaluated = folds[0][2]
    silent = bool(evaluated.linear) and not evaluated.residual[index]
    return Comparison(column, horizons, found, labels, scale, silent)


def print_table(comparison: Comparison) -> None:
    """Print the errors of a column, for every horizon asked for, and the sentence."""
    words = {
        "persistence": "persistence, the last value",
        "drift": "drift, and the mean change",
        "seasonal": comparison.labels["seasonal"].removeprefix("the "),
        "ar": f"autoregression {comparison.labels['ar']}, order by AIC",
        LINEAR: "(network: its linear part alone)",
        "network": "network: its linear part alone" if comparison.silent else "network",
    }
    folds = comparison.errors["network"] or []
    spread = f", ± over {len(folds)} folds" if len(folds) > 1 else ""
    for horizon in comparison.horizons:
        ahead = "one step ahead" if horizon == 1 else f"{horizon} steps ahead"
        count = sum(len(fold[horizon - 1]) for fold in folds)
        if not count:
            print(f"{ahead}: the held-out part is shorter")
            continue
        print(
            f"root mean squared error on the held-out part, {ahead} ({count} forecasts{spread}), "
            "and mean absolute scaled error:"
        )
        for name in (*NAMES, LINEAR):
            error = comparison.rmse(name, horizon)
            if error is None:
                continue
            more, deviation = "", comparison.spread(name, horizon)
            if deviation is not None:
                more = f" ± {deviation:<8.3g}"
            scaled = comparison.mase(name, horizon)
            scaled_text = "" if scaled is None else f" {scaled:8.3f}"
            print(f"  {words[name]:<46} {error:8.4g}{more}{scaled_text}")
    print(f"{comparison.column}: {comparison.verdict}")


def as_json(comparisons: Sequence[Comparison], choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object of ``--json``: of one column, or with an entry for each column inside."""
    made: dict[str, Any] = {
        "rmse": [{name: c.rmse(name) for name in NAMES} for c in comparisons],
        "best": [c.best for c in comparisons],
        "verdict": [c.verdict for c in comparisons],
    }
    names = [c.column for c in comparisons]
    found = {
        key: rows[0] if len(rows) == 1 else dict(zip(names, rows, strict=True))
        for key, rows in made.items()
    }
    return {**found, "choice": dict(choice)}


def forecasts_of(
    folds: Sequence[tuple[int, int, Forecaster]],
    values: HostArray,
    covariates: HostArray | None,
    horizon: int,
    tick: Callable[[int], object] | None = None,
) -> list[HostArray]:
    """Return the forecasts (H, stop - start, O) of each fold's forecaster."""
    found = []
    for start, stop, forecaster in folds:
        y = values if values.shape[1] > 1 else values[:, 0]
        made = forecaster.rolled(y, start, stop, horizon, covariates=covariates, tick=tick)
        found.append(made.reshape(horizon, stop - start, -1))
    return found


def _percent(better: float | None, worse: float) -> str:
    share = 100.0 * (1.0 - (better or 0.0) / worse)
    return f"{share:.0f} %" if share >= 1 else "less than 1 %"
