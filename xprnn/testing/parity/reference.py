"""What the reference computes in float64, and how far from it one may be."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from xprnn.backend import Backend
from xprnn.backend.host.arrays import HostArray, np
from xprnn.optim import Optimizer
from xprnn.testing.parity.functions import CALLS, operands, results
from xprnn.testing.parity.problem import Hosts, Problem, hosts_of, train, update_each
from xprnn.testing.parity.report import Row
from xprnn.testing.parity.slack import Slack, Slackness


@dataclass(frozen=True)
class Truth:
    """The reference's numbers, on the host.

    Attributes
    ----------
    functions : dict of tuple of array
        What every function of `CALLS` returns.
    parameters : dict of array
        At first.
    quantities : dict of dict of array
        By quantity, then by name.
    slack : dict
        By dtype, quantity and name: what an entry may be off by besides its tolerance; see
        `Slackness`.
    """

    functions: dict[str, tuple[HostArray, ...]]
    parameters: Hosts
    quantities: dict[str, Hosts]
    slack: dict[str, Slack]

    @property
    def zero(self) -> tuple[str, ...]:
        """Return the gradients that are zero."""
        return tuple(k for k, g in self.quantities["gradients"].items() if not np.any(g))

    def fault(self) -> Row | None:
        """Return what keeps these numbers from being agreed with."""
        for quantity, arrays in self.quantities.items():
            for name, array in arrays.items():
                bad = np.argwhere(~np.isfinite(array))
                if len(bad):
                    at = tuple(int(k) for k in bad[0])
                    what = f"{name}{list(at) or ''} is {array[at]}"
                    return Row(quantity, math.inf, 0.0, f"{what} on the reference")
        gradients = self.quantities["gradients"]
        if not any(np.any(gradients[name]) for name in self.parameters):
            what = "every gradient of a parameter is zero on the reference"
            return Row("gradients", math.inf, 0.0, f"{what}, so agreement would say nothing")
        return None


def take_truth(
    problem: Problem,
    backend: Backend,
    optimizers: Mapping[str, Optimizer],
    steps: int,
    dtypes: Sequence[str],
) -> Truth:
    """Compute everything on the reference, which is in float64.

    Of numbers with a fault there is no slack.
    """
    net = problem.network(backend)
    evaluated = problem.evaluate(net)
    quantities = {name: hosts_of(backend, arrays) for name, arrays in evaluated.quantities.items()}
    updated = update_each(net.parameters, optimizers, evaluated.gradients)
    quantities["update"] = hosts_of(backend, updated)
    if steps:
        first = next(iter(optimizers.values()))
        trained = train(problem, problem.network(backend), first, steps)
        quantities["training"] = hosts_of(backend, trained.parameters)
    given = operands(backend)
    functions = {
        name: tuple(backend.to_numpy(array) for array in results(backend, name, given))
        for name in CALLS
    }
    truth = Truth(functions, hosts_of(backend, net.parameters), quantities, {})
    if truth.fault() is not None:
        return truth
    measured = Slackness(problem, net, optimizers, steps, evaluated.gradients, quantities)
    return replace(truth, slack={dtype: measured.of(dtype) for dtype in dtypes})
