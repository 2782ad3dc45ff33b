"""Combined linear forecasts: differences and window chosen on the later half of a series.

Every candidate is fitted on what comes before a part of the later half and forecasts that part, one
step ahead, part after part.  Its errors there give it a weight; the combination is the weighted
mean of all.  The differences and the window that weigh most are the choice.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.data.differencing import Differencing
from xprnn.data.linear import Linear
from xprnn.data.rolling import rolled

ORDERS = (1, 2, 3, 4, 6, 9, 13, 18, 25)
LONGEST_SEASON, LONGEST_TWICE = 200, 52
"""The longest period of seasonal differences and of orders that span a season, and two of them."""
LONGEST_WINDOW = 105
"""The longest window that is chosen: a network takes time for every step of it."""
PARTS, SHARE = 5, 0.5
"""The parts of the series that candidates are tried on, and their share of it together."""
SHARPNESS = 0.1
"""The exponent of the weights, for every error that they are made from."""
LEAST_WEIGHT = 1e-3
ROUNDING = 1e-28
"""The mean squared error, beside the largest, that is as good as none."""
MOST_VALUES = 3000
"""How many of the last values the candidates are tried on."""


class Candidate(NamedTuple):
    """A kind of linear forecast: its differences, its order, and whether it has a constant."""

    differencing: Differencing
    order: int
    constant: bool = True

    def fitted(self, values: HostArray, covariates: HostArray | None) -> Linear:
        """Fit it."""
        known = covariates if self.constant else None
        return Linear.fitted(values, self.order, self.differencing, known, constant=self.constant)


class Combination(NamedTuple):
    """The weighted mean of linear forecasts.

    Attributes
    ----------
    weights : tuple of float
        They add up to 1.
    parts : tuple of Linear
    """

    weights: tuple[float, ...]
    parts: tuple[Linear, ...]

    @property
    def needed(self) -> int:
        """How many values come before the first that can be forecast."""
        return max(part.needed for part in self.parts)

    def next(self, history: HostArray, inputs: HostArray | None = None) -> HostArray:
        """Forecast the value that follows each history; see `Linear.next`."""
        total = np.zeros(history.shape[1])
        for weight, part in zip(self.weights, self.parts, strict=True):
            total += weight * part.next(history, inputs)
        return total


class Choice(NamedTuple):
    """What was chosen, and what to fit.

    Attributes
    ----------
    differencing : Differencing
    window : int
    candidates : tuple of Candidate
    weights : tuple of tuple of float
        For each column the weights of the candidates.
    """

    differencing: Differencing
    window: int
    candidates: tuple[Candidate, ...]
    weights: tuple[tuple[float, ...], ...]

    def fitted(self, values: HostArray, covariates: HostArray | None) -> tuple[Combination, ...]:
        """Fit the combination of each column of values (N, O)."""
        found = []
        for column, weights in zip(values.T, self.weights, strict=True):
            fitted = [
                (weight, candidate.fitted(column, covariates))
                for candidate, weight in zip(self.candidates, weights, strict=True)
                if weight
            ]
            found.append(_merged(fitted))
        return tuple(found)


def _merged(fitted: Sequence[tuple[float, Linear]]) -> Combination:
    """Return the combination of weighted forecasts, with one part for each kind of differences."""
    weights, parts = [], []
    for kind in dict.fromkeys(part.differencing for _, part in fitted):
        same = [(weight, part) for weight, part in fitted if part.differencing == kind]
        total = sum(weight for weight, _ in same)
        own = np.zeros(max(len(part.coefficients) for _, part in same))
        inputs = np.zeros(max(len(part.inputs) for _, part in same))
        constant = 0.0
        for weight, part in same:
            share = weight / total
            constant += share * part.constant
            own[: len(part.coefficients)] += share * part.coefficients
            inputs[: len(part.inputs)] += share * part.inputs
        weights.append(total)
        parts.append(Linear(kind, constant, own, inputs))
    return Combination(tuple(weight / sum(weights) for weight in weights), tuple(parts))


def choose(
    values: HostArray,
    season: int = 0,
    *,
    covariates: HostArray | None = None,
    differences: Sequence[str] = ("none", "first", "seasonal", "both"),
    window: int | None = None,
    most: int | None = None,
    changes: bool = False,
) -> Choice:
    """Choose differences and window of a series, and the weights of a combination.

    The weight of a candidate is ``(mean squared error)^(-0.1 n)`` for n errors, over the number of
    candidates in its group: those that take the same differences, without or with past ones.

    Parameters
    ----------
    values : host array, (N, O)
        The training part.
    season : int
        The period; 0: there is none.
    covariates : host array, (N, C), optional
    differences : sequence of str
        What may be chosen; see `Differencing.name`.
    window : int, optional
        The window; None: choose it.
    most : int, optional
        How many values a candidate may need at most.
    changes : bool
        Whether the choice may not be levels if there is another: for series that leave the range of
        their first values.  Forecasts of levels still count in the combination.

    Raises
    ------
    ValueError
        If the series is too short for every candidate.

    References
    ----------
    J. M. Bates and C. W. J. Granger, "The combination of forecasts", Operational Research Quarterly
    20 (1969), 451-468.  The weights are a Gaussian likelihood's, to a power below ½, since
    candidates that were tried on few values differ by chance.
    """
    values = values[-MOST_VALUES:]
    covariates = None if covariates is None else covariates[-MOST_VALUES:]
    tail = min(max(6, round(SHARE * len(values))), len(values) // 2)
    head = len(values) - tail
    found = _candidates(min(head, most or head), season, differences, window)
    if not found:
        raise ValueError(
            f"{len(values)} values are too few for differences {' or '.join(differences)}"
            + (f" with a window of {window}" if window is not None else "")
            + (f" and a season of {season}" if season else "")
        )
    scores = np.array([[_score(c, column, head, covariates) for c in found] for column in values.T])
    # Of a forecast without error, rounding alone is left.
    largest = np.max(scores, axis=1, keepdims=True)
    scores = np.maximum(scores / np.where(largest > 0, largest, 1.0), ROUNDING)
    scores = scores / np.min(scores, axis=1, keepdims=True)
    kinds = [candidate.differencing for candidate in found]
    groups = [(candidate.differencing, candidate.order == 0) for candidate in found]
    prior = np.array([1.0 / groups.count(group) for group in groups])
    weights = prior * scores ** (-SHARPNESS * tail)
    weights /= np.sum(weights, axis=1, keepdims=True)
    # What the columns say together.
    total = np.sum(weights, axis=0)
    eligible = [kind for kind in dict.fromkeys(kinds) if kind.lost or not changes]
    kind = max(
        eligible or dict.fromkeys(kinds),
        key=lambda kind: float(sum(total[k] for k, other in enumerate(kinds) if other == kind)),
    )
    mine = [k for k in range(len(found)) if found[k].differencing == kind]
    ordered = [k for k in mine if 0 < found[k].order <= (window or LONGEST_WINDOW)] or mine
    best = min(ordered, key=lambda k: float(np.sum(np.log(scores[:, k]))))
    weights = np.where(weights < LEAST_WEIGHT * np.max(weights, axis=1, keepdims=True), 0, weights)
    return Choice(
        kind,
        window or max(1, found[best].order),
        tuple(found),
        tuple(tuple(float(weight) for weight in row) for row in weights),
    )


def _candidates(
    head: int, season: int, differences: Sequence[str], window: int | None
) -> list[Candidate]:
    """Return the candidates that ``head`` values are enough for."""
    kinds = [Differencing(), Differencing(first=True)]
    orders = set(ORDERS)
    if season and season <= LONGEST_SEASON:
        kinds += [Differencing(season=season), Differencing(first=True, season=season)]
        orders.add(season + 1)
    if season and season <= LONGEST_TWICE:
        orders.add(2 * season + 1)
    if window is not None:
        orders = {order for order in orders if order < window} | {window}
    found = []
    for kind in kinds:
        if kind.name not in differences or kind.lost >= head - 1:
            continue
        if kind.lost and not (kind.first and kind.season):
            found.append(Candidate(kind, 0, constant=False))
        if kind.first and not kind.season:
            found.append(Candidate(kind, 0))
        room = head - kind.lost
        found += [
            Candidate(kind, order)
            for order in sorted(orders)
            if order + max(6, order // 2) < room or (order == min(orders) and order + 2 < room)
        ]
    return found


def _score(
    candidate: Candidate, values: HostArray, head: int, covariates: HostArray | None
) -> float:
    """Return the mean squared error of a candidate on the values from ``head`` on."""
    edges = np.linspace(head, len(values), PARTS + 1).astype(int)
    total = 0.0
    for start, stop in pairwise(edges):
        if stop > start:
            known = None if covariates is None else covariates[:start]
            fitted = candidate.fitted(values[:start], known)
            forecast = rolled(fitted, values, int(start), int(stop), inputs=covariates)[0]
            total += float(np.sum((values[start:stop] - forecast) ** 2))
    return total / (len(values) - head)
