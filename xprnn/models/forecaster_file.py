"""What a forecaster's file says beside the weights: there and back."""

from collections.abc import Mapping
from typing import Any

from xprnn import checks
from xprnn.backend.host.arrays import np
from xprnn.backend.host.quoting import quoted
from xprnn.data.combination import Combination
from xprnn.data.differencing import Differencing
from xprnn.data.intervals import Intervals
from xprnn.data.linear import Linear
from xprnn.data.series import Scaling
from xprnn.models.task import entry

TASK = "series"

LARGEST = 1e155
"""Numbers are below it, because squares of larger values overflow."""


def metadata_of(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a forecaster, given its attributes by name.

    What has its default is left out, except for what files had from the beginning.
    """
    scaling = parts["scaling"]
    one = isinstance(scaling, Scaling)
    data = {
        "task": TASK,
        "window": parts["window"],
        "mean": scaling.mean if one else [column.mean for column in scaling],
        "std": scaling.std if one else [column.std for column in scaling],
        "difference": parts["difference"],
    }
    if parts["season"]:
        data["season"] = parts["season"]
    if parts["linear"]:
        data["linear"] = [
            [_linear(w, part) for w, part in zip(column.weights, column.parts, strict=True)]
            for column in parts["linear"]
        ]
        data["residual"] = list(parts["residual"])
    if parts["covariates"]:
        data["covariate_means"] = [column.mean for column in parts["covariates"]]
        data["covariate_stds"] = [column.std for column in parts["covariates"]]
    if parts["intervals"] is not None:
        data["intervals"] = [list(widths) for widths in parts["intervals"].widths]
        data["coverage"] = parts["intervals"].coverage
    return data


def check_task(data: Mapping[str, Any]) -> None:
    """Refuse metadata that a forecaster did not write."""
    if data.get("task") != TASK:
        raise ValueError(f"the network was not trained on a series: its metadata is {quoted(data)}")


def counted(data: Mapping[str, Any], name: str, default: int) -> int:
    """Return how many numbers an entry has, or the default if it is no list."""
    value = data.get(name)
    return len(value) if isinstance(value, list) else default


def parts_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a forecaster's attributes by name, without the network, from its metadata.

    Raises
    ------
    TypeError, ValueError
        If an entry is missing, or what it says is out of range.
    """
    means, stds = entry(data, "mean"), entry(data, "std")
    one = not isinstance(means, list)
    scalings = _scalings(*(([means], [stds]) if one else (means, stds)), "mean", "std")
    linear: tuple[Combination, ...] = ()
    residual: tuple[float, ...] = ()
    if "linear" in data:
        linear = tuple(
            _combination(column) for column in _as_list("linear", data["linear"], len(scalings))
        )
        given = _as_list("residual", entry(data, "residual"), len(scalings))
        residual = tuple(checks.number("residual", r, below=LARGEST) for r in given)
    covariates: tuple[Scaling, ...] = ()
    if "covariate_means" in data:
        names = ("covariate_means", "covariate_stds")
        covariates = _scalings(*(entry(data, name) for name in names), *names)
    intervals = None
    if "intervals" in data:
        rows = _as_list("intervals", data["intervals"], len(scalings))
        widths = tuple(_numbers("intervals", row, least=0.0) for row in rows)
        coverage = checks.number("coverage", entry(data, "coverage"), open_=True, below=1.0)
        intervals = Intervals(coverage, widths)
    found = {
        "window": checks.positive_int("window", entry(data, "window")),
        "scaling": scalings[0] if one else scalings,
        "difference": checks.boolean("difference", entry(data, "difference")),
        "season": _count("season", data.get("season", 0)),
        "linear": linear,
        "residual": residual,
        "covariates": covariates,
        "intervals": intervals,
    }
    if covariates and any(
        len(part.inputs) not in (0, len(covariates)) for column in linear for part in column.parts
    ):
        raise ValueError(f"linear has other covariates than the {len(covariates)} of the network")
    return found


def _linear(weight: float, part: Linear) -> list[Any]:
    kind = part.differencing
    return [
        weight,
        kind.first,
        kind.season,
        part.constant,
        [float(a) for a in part.coefficients],
        [float(g) for g in part.inputs],
    ]


def _combination(column: object) -> Combination:
    parts, weights = [], []
    for row in _as_list("linear", column, None):
        weight, first, season, constant, own, inputs = _as_list("linear", row, 6)
        weights.append(checks.number("linear: weight", weight, below=LARGEST))
        kind = Differencing(checks.boolean("first", first), _count("season", season))
        parts.append(
            Linear(
                kind,
                checks.number("linear: constant", constant, least=-LARGEST, below=LARGEST),
                np.array(_numbers("linear", own)),
                np.array(_numbers("linear", inputs)),
            )
        )
    if not parts:
        raise ValueError("linear is empty: expected at least one part")
    return Combination(tuple(weights), tuple(parts))


def _scalings(means: object, stds: object, *names: str) -> tuple[Scaling, ...]:
    first = _as_list(names[0], means, None)
    second = _as_list(names[1], stds, len(first))
    if not first:
        raise ValueError(f"{names[0]} is empty: expected at least one number")
    return tuple(
        Scaling(
            checks.number(names[0], mean, least=-LARGEST, below=LARGEST),
            checks.number(names[1], std, open_=True, below=LARGEST),
        )
        for mean, std in zip(first, second, strict=True)
    )


def _as_list(name: str, value: object, length: int | None) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{name} is {quoted(value)} ({type(value).__name__}): expected a list")
    if length is not None and len(value) != length:
        raise ValueError(f"{name} has {len(value)} entries: expected {length}")
    return value


def _numbers(name: str, values: object, *, least: float = -LARGEST) -> tuple[float, ...]:
    return tuple(
        checks.number(name, value, least=least, below=LARGEST)
        for value in _as_list(name, values, None)
    )


def _count(name: str, value: object) -> int:
    return 0 if value == 0 and value is not False else checks.positive_int(name, value)
