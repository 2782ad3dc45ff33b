"""A network and its data, which one backend after another computes with."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from xprnn.backend import HALVES, Backend, describe, get_backend
from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.backend.types import Array
from xprnn.engine.gradients import GradientArray, dense
from xprnn.engine.network import RNN
from xprnn.losses import CrossEntropy, Loss
from xprnn.optim import Optimizer, clip_by_norm
from xprnn.optim.arguments import NaNGradientError
from xprnn.testing.parity.watch import Watch

Hosts: TypeAlias = dict[str, HostArray]
Named: TypeAlias = dict[str, Array]
Gradients: TypeAlias = Mapping[str, GradientArray]
MakeNet: TypeAlias = Callable[[Backend], RNN]

QUANTITIES = ("output", "state", "loss", "gradients")
POINTS = 20
"""About as many times during a training the parameters are kept, to show how errors grow."""

CLIP = 1.0
"""The gradient's norm is clipped to this in the training, so that no loss explodes."""


class Evaluated(NamedTuple):
    """The arrays of one forward and backward pass: by quantity, then by name.

    Attributes
    ----------
    quantities : dict of dict of array
        Dense arrays.
    gradients : mapping of str to array, SparseGradient or FactoredGradient
        As optimizers get them.
    """

    quantities: dict[str, Named]
    gradients: Gradients


@dataclass(frozen=True)
class Problem:
    """The arguments of `assert_parity` that say what is computed, with data on the host."""

    make_net: MakeNet
    x: HostArray
    target: HostArray | None
    loss: Loss
    state: tuple[HostArray, ...] | None
    lengths: Any
    window: int | None
    mask: Any = None

    def network(self, backend: Backend) -> RNN:
        """Return a new network on the backend.

        Every pass takes a new one, so that random numbers (of dropout masks, for instance) are the
        same in all passes.

        Raises
        ------
        NetworkError
            If ``make_net`` returns something else.
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
        """Return the arguments of `RNN.forward`, on the backend."""
        arguments: dict[str, Any] = {"x": backend.asarray(self.x)}
        if self.state is not None:
            arguments["state"] = tuple(backend.asarray(part) for part in self.state)
        if self.lengths is not None:
            arguments["lengths"] = self.lengths
        if self.mask is not None:
            arguments["mask"] = self.mask
        return arguments

    def step(self, net: RNN) -> Callable[[], tuple[Array, Any]]:
        """Return a function that computes loss and gradient with the network's parameters then."""
        arguments = self.arguments(net.backend)
        arguments["target"] = net.backend.asarray(self.target)
        return lambda: net.value_and_grad(**arguments, loss=self.loss, window=self.window)

    def evaluate(self, net: RNN) -> Evaluated:
        """Compute output, final state, loss and gradients."""
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
    """The return value of ``make_net`` is not the network that was asked for."""


class Trained(NamedTuple):
    """The result of a training.

    Attributes
    ----------
    parameters : dict of array
    seconds : float
        The median time of a step.
    course : mapping of int to dict of array
        The parameters after some of the steps, by step.
    """

    parameters: Named
    seconds: float
    course: Mapping[int, Named] = MappingProxyType({})


def steps_of_course(steps: int) -> frozenset[int]:
    """Return the numbers of about twenty steps of a training, the last one among them."""
    return frozenset(range(steps, 0, -max(1, steps // POINTS)))


def updated_by_each(
    parameters: Named, optimizers: Mapping[str, Optimizer], gradients: Gradients
) -> Named:
    """Return the parameters after one update by each optimizer."""
    moved: Named = {}
    for rule, optimizer in optimizers.items():
        try:
            updated, _ = optimizer.update(gradients, optimizer.init(parameters), parameters)
        except NaNGradientError:
            updated = _all_nan(parameters)
        moved |= {f"{rule}: {name}": array for name, array in updated.items()}
    return moved


def train(
    problem: Problem,
    net: RNN,
    optimizer: Optimizer,
    steps: int,
    disturb: Callable[[Gradients], Gradients] = lambda gradients: gradients,
    *,
    watch: Watch | None = None,
) -> Trained:
    """Train a network for some steps, with clipped gradients; ``watch`` is told of every step.

    ``disturb`` may change the gradients before they are clipped.  The parameters are returned just
    as the optimizer returned them, so that their device and dtype can be checked; in 16 bits these
    are the ones that it keeps in float32, because small updates would vanish in the narrow ones.
    """
    masters = Masters(net.backend)
    parameters: Named = masters.raised(net.parameters)
    memory, step, times = optimizer.init(parameters), problem.step(net), []
    kept, course = steps_of_course(steps), dict[int, Named]()
    for count in range(1, steps + 1):
        if watch is not None:
            watch.stage(f"training step {count} of {steps}")
        started = time.perf_counter()
        value, gradient = step()
        try:
            clipped, _ = clip_by_norm(disturb(masters.raised(gradient.parameters)), CLIP)
            parameters, memory = optimizer.update(clipped, memory, parameters)
        except NaNGradientError:
            parameters = _all_nan(parameters)
            times.append(time.perf_counter() - started)
            break
        net.parameters = masters.lowered(parameters)
        if count in kept:
            course[count] = parameters
        # A library may return before the device is done.  Reading a number waits for it, also in a
        # user namespace, which has no other way.
        net.backend.library.synchronize(parameters)
        float(value)
        times.append(time.perf_counter() - started)
    return Trained(parameters, float(np.median(times)), course)


class Masters:
    """The parameters that a training keeps: in float32 if a network computes in 16 bits.

    Small updates would vanish in float16 and bfloat16, and squares of gradients underflow in
    float16.
    """

    def __init__(self, backend: Backend) -> None:
        self.narrow = backend.dtype_name in HALVES
        self.backend = backend
        self.wide = get_backend(backend, dtype="float32") if self.narrow else backend

    def raised(self, arrays: Gradients) -> dict[str, Any]:
        """Return parameters or gradients in the dtype that is kept."""
        if not self.narrow:
            return dict(arrays)
        return {name: self.wide.asarray(dense(a)) for name, a in arrays.items()}

    def lowered(self, arrays: Named) -> Named:
        """Return parameters in the network's dtype."""
        if not self.narrow:
            return arrays
        return {name: self.backend.asarray(a) for name, a in arrays.items()}


def _all_nan(parameters: Named) -> Named:
    """Return what a NaN in the gradient would make of the parameters; optimizers refuse it."""
    return {name: p * math.nan for name, p in parameters.items()}


def place_of(backend: Backend) -> str:
    """Return in words the library, device and dtype of a backend."""
    return f"{backend.name} ({backend.device}, {backend.dtype_name})"


def _numbered(name: str, arrays: tuple[Array, ...]) -> Named:
    return {f"{name}[{k}]": array for k, array in enumerate(arrays)}
