"""A network and its data, to be computed on one backend after another."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

from xprnn.backend import Backend, describe
from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.backend.types import Array
from xprnn.engine.gradients import GradientArray, dense
from xprnn.engine.network import RNN
from xprnn.losses import CrossEntropy, Loss
from xprnn.optim import Optimizer, clip_by_norm

Hosts: TypeAlias = dict[str, HostArray]
Named: TypeAlias = dict[str, Array]
Gradients: TypeAlias = Mapping[str, GradientArray]
MakeNet: TypeAlias = Callable[[Backend], RNN]

QUANTITIES = ("output", "state", "loss", "gradients")
CLIP = 1.0
"""The limit of the gradient's norm in the training, so that no network's loss explodes."""


class Evaluated(NamedTuple):
    """The arrays of one pass through network and loss: by quantity, then by name."""

    quantities: dict[str, Named]
    gradients: Gradients


@dataclass(frozen=True)
class Problem:
    """Host data, and what is to be done with it; see `assert_parity`."""

    make_net: MakeNet
    x: HostArray
    target: HostArray | None
    loss: Loss
    state: tuple[HostArray, ...] | None
    lengths: Any
    window: int | None

    def network(self, backend: Backend) -> RNN:
        """Return a new network, known to be one, and on the backend.

        For every pass a new one, so that a network that draws (dropout's masks, say) draws the same
        in all of them.
        """
        net: object = self.make_net(backend)
        if not isinstance(net, RNN):
            raise NetworkError(f"make_net returned {describe(net)}: expected an xprnn.RNN")
        if net.backend != backend:
            raise NetworkError(
                f"make_net was asked for a network on {place_of(backend)} and returned one on "
                f"{place_of(net.backend)}: expected RNN(..., backend=backend) with the one given"
            )
        return net

    def with_target(self, backend: Backend, rng: Generator) -> "Problem":
        """Return the problem with a target that fits the network's output."""
        if self.target is not None:
            return self
        output = self.network(backend).forward(**self.arguments(backend)).output
        shape = tuple(output.shape)
        if isinstance(self.loss, CrossEntropy):
            return replace(self, target=rng.integers(0, shape[-1], size=shape[:-1]))
        return replace(self, target=rng.normal(size=shape))

    def arguments(self, backend: Backend) -> dict[str, Any]:
        """Return what `RNN.forward` takes, on the backend."""
        arguments: dict[str, Any] = {"x": backend.asarray(self.x)}
        if self.state is not None:
            arguments["state"] = tuple(backend.asarray(part) for part in self.state)
        if self.lengths is not None:
            arguments["lengths"] = self.lengths
        return arguments

    def step(self, net: RNN) -> Callable[[], tuple[Array, Any]]:
        """Return a function that gives the loss of the network as it is then, and its gradient."""
        arguments = self.arguments(net.backend)
        arguments["target"] = net.backend.asarray(self.target)
        return lambda: net.value_and_grad(**arguments, loss=self.loss, window=self.window)

    def evaluate(self, net: RNN) -> Evaluated:
        """Pass through network and loss, forward and back."""
        run = net.forward(**self.arguments(net.backend))
        value, gradient = self.step(net)()
        if getattr(value, "shape", ()) != ():
            raise TypeError(
                f"the loss {self.loss!r} returned {describe(value)}: expected one number, "
                "an array of no dimensions"
            )
        gradients = {name: dense(g) for name, g in gradient.parameters.items()}
        if gradient.input is not None:
            gradients["input"] = gradient.input
        arrays = (
            {"output": run.output},
            _numbered("state", run.state),
            {"loss": value},
            gradients | _numbered("state", gradient.state),
        )
        return Evaluated(dict(zip(QUANTITIES, arrays, strict=True)), gradient.parameters)


class NetworkError(ValueError):
    """What ``make_net`` returned is not the network that it was asked for."""


class Trained(NamedTuple):
    """Parameters after a training, and the median time of a step."""

    parameters: Named
    seconds: float


def update_each(
    parameters: Named, optimizers: Mapping[str, Optimizer], gradients: Gradients
) -> Named:
    """Return the parameters after one update by each optimizer."""
    moved: Named = {}
    for rule, optimizer in optimizers.items():
        updated, _ = optimizer.update(gradients, optimizer.init(parameters), parameters)
        moved |= {f"{rule}: {name}": array for name, array in updated.items()}
    return moved


def train(
    problem: Problem,
    net: RNN,
    optimizer: Optimizer,
    steps: int,
    disturb: Callable[[Gradients], Gradients] = lambda gradients: gradients,
) -> Trained:
    """Train a network for some steps, its gradients clipped, and before that perhaps disturbed.

    The parameters returned are those of the optimizer, not checked nor cast.
    """
    parameters: Named = dict(net.parameters)
    memory, step, times = optimizer.init(parameters), problem.step(net), []
    for _ in range(steps):
        started = time.perf_counter()
        value, gradient = step()
        clipped, _ = clip_by_norm(disturb(gradient.parameters), CLIP)
        parameters, memory = optimizer.update(clipped, memory, parameters)
        net.parameters = parameters
        # A library may return before it has computed, and one of the user's own can't be told to
        # wait, but for a number.
        net.backend.library.synchronize()
        float(value)
        times.append(time.perf_counter() - started)
    return Trained(parameters, float(np.median(times)))


def hosts_of(backend: Backend, arrays: Named) -> Hosts:
    """Return arrays on the host, in copies."""
    # A host array may share the memory of one that is changed later.
    return {name: np.array(backend.to_numpy(array)) for name, array in arrays.items()}


def place_of(backend: Backend) -> str:
    """Say where a backend computes, and in what."""
    return f"{backend.name} ({backend.device}, {backend.dtype_name})"


def _numbered(name: str, arrays: tuple[Array, ...]) -> Named:
    return {f"{name}[{k}]": array for k, array in enumerate(arrays)}
