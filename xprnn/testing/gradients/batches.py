"""Whether the same call gives the same bits, and a batch the same numbers in parts as whole."""

from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.engine.gradients import GradientArray, dense
from xprnn.engine.results import Gradient, Run
from xprnn.testing.arrays import host_copy, index_at, largest_finite
from xprnn.testing.contract import ContractError
from xprnn.testing.gradients.objective import Objective
from xprnn.testing.gradients.passes import has_dropout

NEAR = 1e-9
"""Relative to the largest entry.  A product of another number of rows is rounded in another way,
which a long recurrence may amplify; sequences that are mixed are far off."""

Arrays = dict[str, HostArray]


def check_batches(objective: Objective, rng: Generator) -> tuple[str, ...]:
    """Refuse a network whose results change from call to call, or with the rest of the batch.

    Returns
    -------
    tuple of str
        Notes: what differs where the library doesn't promise the same bits.

    Raises
    ------
    ContractError
        The message names the array.
    """
    passes = _Passes(objective, rng)
    count = objective.point.x.shape[1]
    whole = passes.of(slice(0, count))
    differing = _unlike(whole, passes.of(slice(0, count)), near=0.0)
    notes: tuple[str, ...] = ()
    library, device = objective.net.backend.library, objective.net.backend.device
    if differing and library.repeats(device):
        raise ContractError(
            f"the {differing} differs when the same call is made again: expected the same bits, "
            f"which {library.name} promises on {library.device_name(device)}"
        )
    if differing:
        notes = (f"the same call gave other bits again, which {library.name} allows: {differing}",)
    # The masks of dropout are drawn for a whole batch.
    if count < 2 or has_dropout(objective.net):
        return notes
    half = count // 2
    parts = [passes.of(part) for part in (slice(0, half), slice(half, count))]
    joined = {name: passes.joined(name, [part[name] for part in parts]) for name in whole}
    differing = _unlike(whole, joined, NEAR)
    if differing:
        raise ContractError(
            f"the {differing} of a batch of {count} sequences differs from that of its parts, of "
            f"{half} and {count - half}: expected sequences that don't depend on each other"
        )
    return notes


class _Passes:
    """Passes over some of the sequences, with random gradients of output and final state."""

    def __init__(self, objective: Objective, rng: Generator) -> None:
        self.net, self.point, self.call = objective.net, objective.point, objective.call
        self.window = objective.window
        self.net.parameters = self.point.parameters
        self.output_axis = 0 if self.net.returns == "last" else 1
        run = self._forward(slice(0, self.point.x.shape[1]))
        shapes = [tuple(a.shape) for a in (run.output, *run.state)]
        self.weights = [np.asarray(rng.normal(size=shape)) for shape in shapes]

    def of(self, part: slice) -> Arrays:
        """Return everything that a pass forward and a pass back return."""
        asarray = self.net.backend.asarray
        run = self._forward(part)
        d_output = self.weights[0][part] if self.output_axis == 0 else self.weights[0][:, part]
        d_state = tuple(asarray(np.array(w[:, part])) for w in self.weights[1:])
        d_output = asarray(np.array(d_output))
        return self._named(run, self.net.backward(run, d_output, d_state, self.window))

    def joined(self, name: str, parts: list[HostArray]) -> HostArray:
        """Return an array of the whole batch, given those of its parts."""
        if name == "output":
            return np.concatenate(parts, axis=self.output_axis)
        if "state" in name or name == "gradient of input":
            return np.concatenate(parts, axis=1)
        return np.asarray(sum(parts))

    def _forward(self, part: slice) -> Run:
        point, call = self.point, self.call
        steps, batch = point.x.shape[:2]
        options = call.of(self.net.backend, part, steps, batch).options(self.net)
        state = tuple(a[:, part, :] for a in point.state)
        return self.net.forward(point.x[:, part, ...], state, **options)

    def _named(self, run: Run, gradient: Gradient) -> Arrays:
        names = self.net.cell.state
        found: dict[str, GradientArray] = {"output": run.output}
        found |= {f"final state {n}": a for n, a in zip(names, run.state, strict=True)}
        found |= {f"gradient of {n}": g for n, g in gradient.parameters.items()}
        found |= {f"gradient of state {n}": a for n, a in zip(names, gradient.state, strict=True)}
        if gradient.input is not None:
            found["gradient of input"] = gradient.input
        return {name: host_copy(self.net.backend, dense(a)) for name, a in found.items()}


def _unlike(one: Arrays, other: Arrays, near: float) -> str:
    """Return the name of an array, and its entry, that is not the same; an empty text if none."""
    for name, a in one.items():
        allowed = near * largest_finite(a)
        off = ~np.isclose(other[name], a, rtol=0, atol=allowed, equal_nan=True)
        if np.any(off):
            index = index_at(off, int(np.argmax(off)))
            return f"{name}[{', '.join(map(str, index))}]" if index else name
    return ""
