"""Whether the passes of a network leave each other's arrays alone.

Where gradients are compared with numeric derivatives, backward follows right after forward, so a
buffer that two passes share goes unnoticed.  It spoils gradients when a network runs forward twice
before it runs backward: with two sequences and one loss, for instance.
"""

from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.engine.gradients import GradientArray, dense
from xprnn.engine.results import Run
from xprnn.testing.arrays import host_copy, largest_finite
from xprnn.testing.contract import ContractError
from xprnn.testing.gradients.objective import Objective

NEAR = 1e-12
"""Relative to the largest entry.  The same numbers are added in the same order."""


def check_independence(objective: Objective, rng: Generator) -> None:
    """Refuse a network in which one pass changes the results or the tape of another.

    Raises
    ------
    ContractError
        The message names the array that changes.
    """
    passes = _Passes(objective, rng)
    run = passes.forward()
    outputs, gradients = passes.outputs(run), passes.backward(run)
    passes.backward(passes.other())
    changed = _changed(outputs, passes.outputs(run))
    if changed:
        raise ContractError(
            f"the {changed} of one pass is overwritten by the next: passes share an array"
        )
    changed = _changed(gradients, passes.backward(run))
    if not changed:
        return
    run = passes.forward()
    passes.backward(run)
    if _changed(gradients, passes.backward(run)):
        raise ContractError(
            f"the gradient of {changed} differs when backward goes through the same run again: "
            "it writes into what forward has saved"
        )
    raise ContractError(
        f"the gradient of {changed} differs when there is a pass between forward and backward: "
        "passes share an array, which the second overwrites"
    )


class _Passes:
    """The passes of a network, with random gradients of its output and final state."""

    def __init__(self, objective: Objective, rng: Generator) -> None:
        self.net, self.point, self.call = objective.net, objective.point, objective.call
        self.window, self.rng = objective.window, rng
        self.net.parameters = self.point.parameters
        run, backend = self.forward(), self.net.backend
        self.d_output, *self.d_state = (
            backend.asarray(rng.normal(size=tuple(a.shape))) for a in (run.output, *run.state)
        )

    def forward(self) -> Run:
        return self.net.forward(self.point.x, self.point.state, **self.call.options(self.net))

    def other(self) -> Run:
        """Run forward with another input and another state."""
        x, xp = self.point.x, self.net.backend.xp
        x = xp.flip(x, axis=0) if x.ndim == 2 else 1 - x
        state = tuple(1 - part for part in self.point.state)
        return self.net.forward(x, state, **self.call.options(self.net))

    def backward(self, run: Run) -> dict[str, HostArray]:
        gradient = self.net.backward(run, self.d_output, tuple(self.d_state), self.window)
        found: dict[str, GradientArray] = dict(gradient.parameters)
        if gradient.input is not None:
            found["input"] = gradient.input
        found |= dict(zip(self._states(), gradient.state, strict=True))
        return {name: host_copy(self.net.backend, dense(a)) for name, a in found.items()}

    def outputs(self, run: Run) -> dict[str, HostArray]:
        arrays = {"output": run.output} | dict(zip(self._states(), run.state, strict=True))
        return {name: host_copy(self.net.backend, a) for name, a in arrays.items()}

    def _states(self) -> list[str]:
        return [f"state {name}" for name in self.net.cell.state]


def _changed(before: dict[str, HostArray], after: dict[str, HostArray]) -> str:
    """Return the name of an array that has changed; an empty text if none has."""
    for name, array in before.items():
        near = NEAR * largest_finite(array)
        if not np.allclose(after[name], array, rtol=0, atol=near, equal_nan=True):
            return name
    return ""
