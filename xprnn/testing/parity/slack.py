"""What rounding does to a problem, measured on the reference.

A sum that cancels, a recurrence that amplifies, a rule that looks at the sign of a gradient: how
far roundings lead away from the exact result belongs to the problem, and no formula knows it.  So
the reference tells: it computes once more, in float64, with its data moved by what a dtype would
round, and with its gradients moved by what they may be off by.  For most problems this is less than
`tolerance`; where it is more, a backend's roundings must be forgiven as much.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from xprnn.backend.host.arrays import HostArray, generator, np
from xprnn.engine.gradients import GradientArray, SparseGradient, entries, largest_size
from xprnn.engine.network import RNN
from xprnn.optim import Optimizer
from xprnn.testing.parity.problem import (
    Gradients,
    Hosts,
    Named,
    Problem,
    hosts_of,
    train,
    update_each,
)
from xprnn.testing.parity.report import norm
from xprnn.testing.parity.tolerances import ROUNDINGS, epsilon, tolerance

Direction: TypeAlias = Callable[[int, tuple[int, ...]], HostArray]
"""Signs for the array of that number, of that shape."""
Slack: TypeAlias = dict[str, Mapping[str, HostArray | float]]

SEEDS = (0, 1, 2, 3)
"""Of the directions in which things are moved."""

FACTOR = 4.0
"""For the directions that were not tried: those that were are few of many."""


@dataclass(frozen=True)
class Slackness:
    """The reference's computation, to be done again with everything a little off.

    Attributes
    ----------
    problem : Problem
    net : RNN
        In float64.
    optimizers : mapping of str to Optimizer
        Each takes one step, the first trains.
    steps : int
        Of the training.
    gradients : mapping of str to array, SparseGradient or FactoredGradient
    quantities : mapping of str to dict of array
        What the reference computes.
    """

    problem: Problem
    net: RNN
    optimizers: Mapping[str, Optimizer]
    steps: int
    gradients: Gradients
    quantities: Mapping[str, Hosts]

    def of(self, dtype: str) -> Slack:
        """Return what entries may be off by, absolute, besides the tolerance of a dtype.

        By quantity, then by name.
        """
        amount = ROUNDINGS * epsilon(dtype)
        rounding = self._of_rounding(amount)
        allowed, known = tolerance(dtype, len(self.problem.x)), self.quantities["gradients"]
        amounts = {
            name: allowed + rounding["gradients"][name] / (norm([known[name]]) or 1.0)
            for name in self.gradients
        }
        training = self._of_training(amount, amounts) if self.steps else {}
        return {**rounding, "update": self._of_updates(amounts), **training}

    def _of_rounding(self, amount: float) -> dict[str, dict[str, float]]:
        """Return how far each array goes when every entry of the data goes so far, relative."""
        slack: dict[str, dict[str, float]] = {}
        for seed in SEEDS:
            near, net = self._shaken(amount, seed)
            for quantity, arrays in near.evaluate(net).quantities.items():
                self._widen(slack, quantity, arrays)
        return slack

    def _of_updates(self, amounts: Mapping[str, float]) -> Hosts:
        """Return how far each entry goes when its gradient goes either way.

        A rule that looks at the sign, or divides by the gradient's size, makes a whole step of the
        rounding of a gradient that is next to zero.  Rules work entry by entry, and a larger
        gradient never gives a larger parameter, so the two ends bound what is between.
        """
        slack = {name: np.zeros_like(array) for name, array in self.quantities["update"].items()}
        for end in (-1.0, 1.0):
            gradients = _moved(self.gradients, self.net, amounts, partial(_all, end))
            updated = update_each(self.net.parameters, self.optimizers, gradients)
            for name, array in hosts_of(self.net.backend, updated).items():
                away = np.abs(array - self.quantities["update"][name])
                slack[name] = np.maximum(slack[name], away)
        return slack

    def _of_training(
        self, amount: float, amounts: Mapping[str, float]
    ) -> dict[str, dict[str, float]]:
        """Return how far a training is led away by data and gradients that are off all the time.

        Both, for as a training comes to its end the gradient goes to zero, its rounding does not.
        """
        slack: dict[str, dict[str, float]] = {}
        first = next(iter(self.optimizers.values()))
        for seed in SEEDS:
            near, net = self._shaken(amount, seed)
            disturb = partial(_moved, net=net, amounts=amounts, direction=partial(_any, seed))
            trained = train(near, net, first, self.steps, disturb)
            self._widen(slack, "training", trained.parameters)
        return slack

    def _shaken(self, amount: float, seed: int) -> tuple[Problem, RNN]:
        """Return problem and network with floats that are each off, relative, up or down."""
        rng, problem, net = generator(seed), self.problem, self.problem.network(self.net.backend)

        def shake(a: HostArray) -> HostArray:
            if a.dtype.kind != "f":
                return a
            return np.asarray(a * (1 + amount * rng.choice((-1.0, 1.0), a.shape)))

        net.parameters = {
            name: net.backend.asarray(shake(array))
            for name, array in hosts_of(net.backend, net.parameters).items()
        }
        near = replace(
            problem,
            x=shake(problem.x),
            target=None if problem.target is None else shake(problem.target),
            state=None if problem.state is None else tuple(map(shake, problem.state)),
        )
        return near, net

    def _widen(self, slack: dict[str, dict[str, float]], quantity: str, arrays: Named) -> None:
        """Make room for arrays of a quantity, by name, that are as far away as these."""
        known, got = slack.setdefault(quantity, {}), hosts_of(self.net.backend, arrays)
        for name, want in self.quantities[quantity].items():
            away = FACTOR * norm([got[name] - want])
            # What explodes forgives nothing.
            known[name] = max(known.get(name, 0.0), away if math.isfinite(away) else 0.0)


def _moved(
    gradients: Gradients, net: RNN, amounts: Mapping[str, float], direction: Direction
) -> Gradients:
    """Return gradients off by an amount, relative to each array's norm, in the direction given."""

    def one(g: GradientArray, amount: float, number: int) -> GradientArray:
        values = entries(g)
        way = direction(number, tuple(values.shape)) * (amount * float(largest_size(g)))
        values = values + net.backend.asarray(way)
        return replace(g, values=values) if isinstance(g, SparseGradient) else values

    return {name: one(g, amounts[name], k) for k, (name, g) in enumerate(gradients.items())}


def _all(end: float, number: int, shape: tuple[int, ...]) -> HostArray:
    del number
    return np.full(shape, end)


def _any(seed: int, number: int, shape: tuple[int, ...]) -> HostArray:
    # The same at every step, for an error that is always the same leads furthest.
    return np.asarray(np.random.default_rng([seed, number]).choice((-1.0, 1.0), size=shape))
