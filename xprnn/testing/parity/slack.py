"""What rounding does to a problem, measured on the reference.

How far rounding leads away from the exact result depends on the problem: on sums that cancel, on a
recurrence that amplifies, on a rule that uses the sign of a gradient.  No formula knows it, so it
is measured.  The reference computes again, in float64, with data that are perturbed as much as a
dtype rounds them, and with gradients that are perturbed as much as their tolerance allows.  The
change of the results is the *slack*, the error that is allowed on top of the tolerance.  For most
problems it is smaller than the tolerance.
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
from xprnn.testing.arrays import host_copies, largest
from xprnn.testing.parity.problem import (
    Gradients,
    Hosts,
    Named,
    Problem,
    train,
    updated_by_each,
)
from xprnn.testing.parity.tolerances import epsilon, roundings, tolerance

Signs: TypeAlias = Callable[[int, tuple[int, ...]], HostArray]
"""``signs(k, shape)`` returns an array of ±1 for array number k."""
Slack: TypeAlias = dict[str, Mapping[str, HostArray | float]]

SEEDS = (0, 1, 2, 3)
"""The seeds of the random perturbations."""

FACTOR = 4.0
"""The effect of these few perturbations is multiplied by this, as there are worse ones."""


@dataclass(frozen=True)
class Perturbations:
    """The reference's computation, repeated with perturbed data and gradients.

    Attributes
    ----------
    problem : Problem
    net : RNN
        In float64, on the reference's backend.
    optimizers : mapping of str to Optimizer
        Each makes one update, and the first makes the training.
    steps : int
        The number of updates in the training.
    gradients : mapping of str to array, SparseGradient or FactoredGradient
    quantities : mapping of str to dict of array
        What the reference computes without perturbations.
    """

    problem: Problem
    net: RNN
    optimizers: Mapping[str, Optimizer]
    steps: int
    gradients: Gradients
    quantities: Mapping[str, Hosts]

    def slack(self, dtype: str) -> Slack:
        """Return the absolute errors allowed on top of the tolerance of a dtype.

        By quantity, then by name; for an array, or for each of its entries.
        """
        amount = roundings(dtype) * epsilon(dtype)
        rounding = self._of_rounding(amount)
        allowed, known = tolerance(dtype, len(self.problem.x)), self.quantities["gradients"]
        amounts = {
            name: allowed + rounding["gradients"][name] / (largest([known[name]]) or 1.0)
            for name in self.gradients
        }
        training = self._of_training(amount, amounts) if self.steps else {}
        return {**rounding, "update": self._of_updates(amounts), **training}

    def _of_rounding(self, amount: float) -> dict[str, dict[str, float]]:
        """Return how much each array changes if all data change by a relative amount."""
        slack: dict[str, dict[str, float]] = {}
        for seed in SEEDS:
            near, net = self._perturbed(amount, seed)
            for quantity, arrays in near.evaluate(net).quantities.items():
                self._widen(slack, quantity, arrays)
        return slack

    def _of_updates(self, amounts: Mapping[str, float]) -> Hosts:
        """Return how much each entry changes if all gradients become larger, or all smaller.

        If a gradient is nearly zero, a rule that uses its sign, or divides by its size, makes a
        whole step of its rounding error.  Rules work entry by entry, and a larger gradient never
        gives a larger parameter.  So the two ends bound everything between them.
        """
        slack = {name: np.zeros_like(array) for name, array in self.quantities["update"].items()}
        for end in (-1.0, 1.0):
            gradients = _disturbed(self.gradients, self.net, amounts, partial(_same_sign, end))
            updated = updated_by_each(self.net.parameters, self.optimizers, gradients)
            for name, array in host_copies(self.net.backend, updated).items():
                away = np.abs(array - self.quantities["update"][name])
                slack[name] = np.maximum(slack[name], away)
        return slack

    def _of_training(
        self, amount: float, amounts: Mapping[str, float]
    ) -> dict[str, dict[str, float]]:
        """Return how much the result of a training changes with perturbed data and gradients.

        The gradients are perturbed, too, because at the end of a training they go to zero, and
        their rounding errors do not.
        """
        slack: dict[str, dict[str, float]] = {}
        first = next(iter(self.optimizers.values()))
        for seed in SEEDS:
            near, net = self._perturbed(amount, seed)
            disturb = partial(
                _disturbed,
                net=net,
                amounts=amounts,
                signs=partial(_random_signs, seed),
            )
            trained = train(near, net, first, self.steps, disturb)
            self._widen(slack, "training", trained.parameters)
        return slack

    def _perturbed(self, amount: float, seed: int) -> tuple[Problem, RNN]:
        """Return the problem and a network with every float changed by ± a relative amount."""
        rng, problem, net = generator(seed), self.problem, self.problem.network(self.net.backend)

        def perturbed(a: HostArray) -> HostArray:
            if a.dtype.kind != "f":
                return a
            return np.asarray(a * (1 + amount * rng.choice((-1.0, 1.0), a.shape)))

        net.parameters = {
            name: net.backend.asarray(perturbed(array))
            for name, array in host_copies(net.backend, net.parameters).items()
        }
        near = replace(
            problem,
            x=perturbed(problem.x),
            target=None if problem.target is None else perturbed(problem.target),
            state=None if problem.state is None else tuple(map(perturbed, problem.state)),
        )
        return near, net

    def _widen(self, slack: dict[str, dict[str, float]], quantity: str, arrays: Named) -> None:
        """Raise the slack of a quantity to the distance of these arrays from the reference's."""
        known, got = slack.setdefault(quantity, {}), host_copies(self.net.backend, arrays)
        for name, want in self.quantities[quantity].items():
            away = FACTOR * largest([got[name] - want])
            # A perturbed computation that overflows does not allow any error.
            known[name] = max(known.get(name, 0.0), away if math.isfinite(away) else 0.0)


def _disturbed(
    gradients: Gradients, net: RNN, amounts: Mapping[str, float], signs: Signs
) -> Gradients:
    """Return gradients with every entry changed by an amount, with the signs given.

    The amount is relative to the largest entry of the array.
    """

    def one(g: GradientArray, amount: float, number: int) -> GradientArray:
        values = entries(g)
        change = signs(number, tuple(values.shape)) * (amount * float(largest_size(g)))
        values = values + net.backend.asarray(change)
        return replace(g, values=values) if isinstance(g, SparseGradient) else values

    return {name: one(g, amounts[name], k) for k, (name, g) in enumerate(gradients.items())}


def _same_sign(end: float, number: int, shape: tuple[int, ...]) -> HostArray:
    del number
    return np.full(shape, end)


def _random_signs(seed: int, number: int, shape: tuple[int, ...]) -> HostArray:
    # The same signs at every step, because errors that don't change lead furthest away.
    return np.asarray(np.random.default_rng([seed, number]).choice((-1.0, 1.0), size=shape))
