"""``xprnn apply`` with a network that was trained on a series."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xprnn import checks, diagnostics
from xprnn.backend.host.arrays import HostArray, np
from xprnn.cli.common import of_model, results_folder, say_written, tell
from xprnn.cli.huge import refuse_huge
from xprnn.cli.series import columns_of, read_table, remembered_reading
from xprnn.cli.tables import write_csv
from xprnn.cli.train.progress import counting
from xprnn.data import Columns, Scaling, rmse
from xprnn.engine.network import RNN
from xprnn.models.forecaster import Forecaster
from xprnn.models.forecaster_file import LARGEST

STEPS = 12
FAR, CALM = 5.0, 0.05
"""A series is far from the trained one if its mean differs by more than so many deviations, or its
deviation is so many times as large, or so small a part of it."""


def apply_series(args: argparse.Namespace, net: RNN) -> int:
    """Forecast every value of a file one step ahead, and the values past its end."""
    with of_model(args.model):
        forecaster = Forecaster.of(net)
        columns, covariates = columns_of(net.metadata, forecaster)
        remembered = remembered_reading(net.metadata)
        trained = _trained(net.metadata, forecaster)
    if args.file is None:
        raise ValueError("the network forecasts a series: name a CSV file after the model")
    if args.column is not None and len(args.column) != len(columns):
        raise ValueError(
            f"--column is given {len(args.column)} times, but the network in {str(args.model)!r} "
            f"forecasts {len(columns)}: {', '.join(columns)}"
        )
    table = read_table(args, args.column or columns, known=covariates, remembered=remembered)
    print(table.found, flush=True)
    count = len(columns)
    steps = _steps(args, table, covariates)
    values = np.ascontiguousarray(table.values[:, :count])
    known = None
    if covariates:
        known = np.concatenate([table.values[:, count:], table.ahead[:steps, count:]])
        _check_covariates(args.file, table, count, known)
    needed = forecaster.needed
    if len(values) <= needed:
        raise ValueError(
            f"{str(args.file)!r} has {len(values)} values: expected more than {needed}, which the "
            f"network in {str(args.model)!r} reads to forecast the next"
        )
    for name, column in zip(table.names, values.T, strict=False):
        refuse_huge(args.file, name, column)
    _warn_if_far(args.file, table.names, values, trained)
    with of_model(args.model), counting("forecasting", len(values) - needed) as tick:
        y = values if count > 1 else values[:, 0]
        one = forecaster.rolled(y, needed, len(values), covariates=known, tick=tick)[0]
        one_step = finite(one.reshape(-1, count))
        closed_loop = finite(forecaster.closed_loop(y, steps, known).reshape(-1, count))
    folder = results_folder(args.out, "apply")
    bands = _bands(forecaster, one_step, closed_loop)
    _write(folder / "output.csv", table, values, needed, one_step, closed_loop, bands)
    pictures = ["output.png", *(f"output-{k + 1}.png" for k in range(1, count))]
    later = table.future(steps)
    for k, picture in enumerate(pictures):
        name = table.names[k]
        figure = diagnostics.plot_forecast(
            values[:, k],
            one_step[:, k],
            closed_loop[:, k],
            start=max(0, len(values) - max(100, 3 * steps)),
            one_step_start=needed,
            closed_loop_start=len(values),
            band=(needed, bands[0][:, k], bands[1][:, k]) if forecaster.intervals else None,
            band_name=_band_name(forecaster),
            times=None if table.times is None else (*table.times, *later),
            ylabel=name,
            title=f"{name}, and the {steps} values to come",
        )
        diagnostics.save_figure(figure, folder / picture)
        error = rmse(one_step[:, k], values[needed:, k])
        print(
            f"{name}: {len(values)} values; root mean squared error one step ahead: {error:.4g}\n"
            f"the next {steps} values: {', '.join(f'{value:.4g}' for value in closed_loop[:, k])}"
        )
    what = "values, one-step and closed-loop forecast"
    if forecaster.intervals:
        what += f", {_band_name(forecaster)}"
    say_written(folder, {"output.csv": what, ", ".join(pictures): "their picture"})
    return 0


def finite(output: HostArray) -> HostArray:
    """Refuse an output with NaN or infinity: a file of such numbers would look like a result."""
    bad = np.flatnonzero(~np.isfinite(output))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {output.size} outputs are not finite, the first at index {bad[0]}"
        )
    return output


def _trained(data: Mapping[str, Any], forecaster: Forecaster) -> list[Scaling] | None:
    """Return mean and deviation of the values that the network was trained on; None if unknown."""
    means, stds = data.get("trained_mean"), data.get("trained_std")
    if means is None and stds is None:
        known = not forecaster.differencing.lost and isinstance(forecaster.scaling, Scaling)
        return [forecaster.scaling] if known else None  # type: ignore[list-item]
    found = []
    if not isinstance(means, list) or not isinstance(stds, list) or len(means) != len(stds):
        raise TypeError("trained_mean and trained_std are no lists of the same length")
    for mean, std in zip(means, stds, strict=True):
        found.append(
            Scaling(
                checks.number("trained_mean", mean, least=-LARGEST, below=LARGEST),
                checks.number("trained_std", std, below=LARGEST),
            )
        )
    if len(found) != forecaster.net.output_size:
        raise ValueError(f"trained_mean has {len(found)} entries, the network other columns")
    return found


def _steps(args: argparse.Namespace, table: Columns, covariates: list[str]) -> int:
    """Return how many values to forecast: as asked for, or as far as the covariates are known."""
    if not covariates:
        return checks.positive_int("--steps", STEPS if args.steps is None else args.steps)
    ahead = len(table.ahead)
    steps = checks.positive_int("--steps", args.steps or min(STEPS, max(1, ahead)))
    if steps > ahead:
        raise ValueError(
            f"{str(args.file)!r} has {ahead} rows after the last {table.names[0]!r}: expected "
            f"{steps} with {', '.join(map(repr, covariates))} and no {table.names[0]!r}, because "
            "the network reads what is known in advance of every step that it forecasts"
        )
    return steps


def _check_covariates(file: Path, table: Columns, count: int, known: HostArray) -> None:
    bad = np.argwhere(~np.isfinite(known))
    if len(bad):
        row, column = bad[0]
        raise ValueError(
            f"{str(file)!r}, row {row + 1} of the data: the covariate "
            f"{table.names[count + column]!r} has no value"
        )


def _warn_if_far(
    file: Path, names: tuple[str, ...], values: HostArray, trained: list[Scaling] | None
) -> None:
    """Say on stderr if a series is far from what the network was trained on."""
    for k, scaling in enumerate(trained or []):
        mean, std = float(np.mean(values[:, k])), float(np.std(values[:, k]))
        unlike = std > FAR * scaling.std or (len(values) >= 20 and std < CALM * scaling.std)
        if scaling.std and (unlike or abs(mean - scaling.mean) > FAR * scaling.std):
            tell(
                f"xprnn: warning: {str(file)!r}: {names[k]} (mean {mean:.4g}, deviation {std:.4g}) "
                f"is far from what the network was trained on (mean {scaling.mean:.4g}, deviation "
                f"{scaling.std:.4g}), so its forecasts mean little: another unit or series?"
            )


def _bands(
    forecaster: Forecaster, one_step: HostArray, closed_loop: HostArray
) -> tuple[HostArray, HostArray]:
    """Return lower and upper limits of every forecast, NaN where there is no interval."""
    forecasts = np.concatenate([one_step, closed_loop])
    widths = np.full(forecasts.shape, np.nan)
    if forecaster.intervals is not None:
        first = forecaster.intervals.band(1)
        widths[: len(one_step)] = first
        widths[len(one_step) :] = forecaster.intervals.band(len(closed_loop))
    return forecasts - widths, forecasts + widths


def _band_name(forecaster: Forecaster) -> str:
    coverage = 0.0 if forecaster.intervals is None else forecaster.intervals.coverage
    return f"{100 * coverage:g} % interval"


def _write(
    path: Path,
    table: Columns,
    values: HostArray,
    needed: int,
    one_step: HostArray,
    closed_loop: HostArray,
    bands: tuple[HostArray, HostArray],
) -> None:
    steps, count = len(closed_loop), values.shape[1]
    times: tuple[str, ...] = table.times or tuple(str(k) for k in range(len(values)))
    header, columns = [table.time or "step"], []
    for k in range(count):
        name = table.names[k]
        prefix = f"{name}_" if count > 1 else ""
        header += [name, *(f"{prefix}{word}" for word in ("one_step", "closed_loop"))]
        columns += [
            [*map(repr, values[:, k].tolist()), *[""] * steps],
            [*[""] * needed, *one_step[:, k], *[""] * steps],
            [*[""] * len(values), *closed_loop[:, k]],
        ]
        if not np.all(np.isnan(bands[0])):
            header += [f"{prefix}{word}" for word in ("lower", "upper")]
            columns += [[*[""] * needed, *limit[:, k]] for limit in bands]
    write_csv(path, header, zip((*times, *table.future(steps)), *columns, strict=True))
