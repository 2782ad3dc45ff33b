"""What the reference computes in float64, and the slack of its numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from xprnn.backend import Backend
from xprnn.backend.host.arrays import np
from xprnn.optim import Optimizer
from xprnn.testing.arrays import entry_name, host_copies
from xprnn.testing.parity.problem import Hosts, Problem, train, updated_by_each
from xprnn.testing.parity.report import Row
from xprnn.testing.parity.slack import Perturbations, Slack


@dataclass(frozen=True)
class Reference:
    """What the reference computes, on the host.

    Attributes
    ----------
    parameters : dict of array
        The initial parameters.
    quantities : dict of dict of array
        By quantity, then by name.
    slack : dict
        By dtype, quantity and name: the absolute error of an entry that is allowed on top of the
        tolerance; see `Perturbations`.
    course : dict of dict of array
        The parameters after some steps of the training, by step.
    """

    parameters: Hosts
    quantities: dict[str, Hosts]
    slack: dict[str, Slack]
    course: dict[int, Hosts] = field(default_factory=dict)

    @property
    def zero(self) -> tuple[str, ...]:
        """The names of the gradients that are zero."""
        return tuple(k for k, g in self.quantities["gradients"].items() if not np.any(g))

    def fault(self) -> Row | None:
        """Return why nothing can be compared with these numbers; None if it can."""
        for quantity, arrays in self.quantities.items():
            for name, array in arrays.items():
                bad = np.argwhere(~np.isfinite(array))
                if len(bad):
                    at = tuple(int(k) for k in bad[0])
                    what = f"{entry_name(name, at)} is {array[at]} on the reference"
                    return Row(quantity, math.inf, 0.0, what)
        gradients = self.quantities["gradients"]
        if not any(np.any(gradients[name]) for name in self.parameters):
            what = "every gradient of a parameter is zero on the reference"
            return Row("gradients", math.inf, 0.0, f"{what}, so agreement would show nothing")
        return None


def compute_reference(
    problem: Problem,
    backend: Backend,
    optimizers: Mapping[str, Optimizer],
    steps: int,
    dtypes: Sequence[str],
) -> Reference:
    """Compute everything on the reference's backend, in float64.

    If the numbers have a fault, their slack is not measured.
    """
    net = problem.network(backend)
    evaluated = problem.evaluate(net)
    quantities = {
        name: host_copies(backend, arrays) for name, arrays in evaluated.quantities.items()
    }
    updated = updated_by_each(net.parameters, optimizers, evaluated.gradients)
    quantities["update"] = host_copies(backend, updated)
    course: dict[int, Hosts] = {}
    if steps:
        first = next(iter(optimizers.values()))
        trained = train(problem, problem.network(backend), first, steps)
        quantities["training"] = host_copies(backend, trained.parameters)
        course = {step: host_copies(backend, kept) for step, kept in trained.course.items()}
    computed = Reference(host_copies(backend, net.parameters), quantities, {}, course)
    if computed.fault() is not None:
        return computed
    perturbed = Perturbations(problem, net, optimizers, steps, evaluated.gradients, quantities)
    return replace(computed, slack={dtype: perturbed.slack(dtype) for dtype in dtypes})
