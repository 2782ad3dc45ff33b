"""Whether the passes of a network leave each other's arrays alone.

Backward comes right after forward wherever gradients are compared with numbers, so a buffer that
two passes share is not seen there; in a network that is used twice before it is gone back through
(two sequences with one loss, say) it is.
"""

from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.engine.gradients import GradientArray, dense
from xprnn.engine.results import Run
from xprnn.testing.contract import ContractError
from xprnn.testing.gradients.objective import Objective, hosted

NEAR = 1e-12
"""By the largest entry: the same numbers, added in the same order."""


def passes_apart(objective: Objective, rng: Generator) -> None:
    """Find out whether one pass changes what another has computed, or goes back through.

    Raises
    ------
    ContractError
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
            f"the gradient of {changed} is another when backward goes through the same run again: "
            "it writes into what forward has kept"
        )
    raise ContractError(
        f"the gradient of {changed} is another when there is a pass between forward and backward: "
        "passes share an array, which the second overwrites"
    )


class _Passes:
    """A network's passes, with random gradients of output and state."""

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
        return {name: hosted(self.net.backend, dense(a)) for name, a in found.items()}

    def outputs(self, run: Run) -> dict[str, HostArray]:
        arrays = {"output": run.output} | dict(zip(self._states(), run.state, strict=True))
        return {name: hosted(self.net.backend, a) for name, a in arrays.items()}

    def _states(self) -> list[str]:
        return [f"state {name}" for name in self.net.cell.state]


def _changed(before: dict[str, HostArray], after: dict[str, HostArray]) -> str:
    """Return the name of an array that is another; empty if there is none."""
    for name, array in before.items():
        largest = float(np.max(np.abs(array), where=np.isfinite(array), initial=0.0))
        if not np.allclose(after[name], array, rtol=0, atol=NEAR * largest, equal_nan=True):
            return name
    return ""
