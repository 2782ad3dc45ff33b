"""The number that is differentiated, as a function of a network's output and final state.

It is either of ::

    Σ y d_output + Σ s d_state          with random d_output and d_state  (1)
    L(y)                                a loss                            (2)

for outputs y and final state s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

from xprnn.backend import Backend, describe, dtype_name
from xprnn.backend.differentiation import host_tangents, lifted
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.types import Array
from xprnn.engine.existing import check_existing, existing_steps
from xprnn.engine.network import RNN
from xprnn.engine.results import Gradient
from xprnn.losses import Loss, mask_arguments
from xprnn.testing.arrays import host_copy
from xprnn.testing.contract import ContractError
from xprnn.testing.gradients.numeric import Pushed
from xprnn.testing.gradients.passes import Call, Outputs, Point
from xprnn.testing.precision import ADVICE, narrower_in, watch

STEP = 1e-7
"""Relative change of the output, by which the curvature of a loss is estimated."""


class Goal(Protocol):
    """The number (1) or (2), as a function of output and final state."""

    @property
    def size(self) -> float:
        """S of `xprnn.testing.gradients.compare`."""
        ...

    @property
    def grain(self) -> float:
        """The ``grain`` of `xprnn.testing.gradients.numeric.Function`."""
        ...

    def terms(self, backend: Backend, outputs: Outputs) -> HostArray:
        """Return the terms whose sum is the number; complex for complex outputs."""
        ...

    def push(self, dual: Backend, outputs: Outputs, width: int) -> Pushed:
        """Return the number and its derivatives, of outputs with tangents along ``width``."""
        ...

    def gradient(self, net: RNN, point: Point, call: Call, window: int | None) -> Gradient:
        """Return the gradient under test, at a point."""
        ...


@dataclass(frozen=True)
class WeightedSum:
    """The number (1): outputs and final state, on the host, times random weights."""

    outputs: tuple[HostArray, ...]
    weights: tuple[HostArray, ...]

    @cached_property
    def size(self) -> float:
        """S of `xprnn.testing.gradients.compare`."""
        return _size(self.outputs, self.weights)

    @property
    def grain(self) -> float:
        """Zero, because nothing cancels within a term, which is a product."""
        return 0.0

    def terms(self, backend: Backend, outputs: Outputs) -> HostArray:
        arrays = (outputs.output, *outputs.state)
        pairs = zip(arrays, self.weights, strict=True)
        return np.concatenate([(backend.to_numpy(a) * w).ravel() for a, w in pairs])

    def push(self, dual: Backend, outputs: Outputs, width: int) -> Pushed:
        return weighted(dual, (outputs.output, *outputs.state), self.weights, width)

    def gradient(self, net: RNN, point: Point, call: Call, window: int | None) -> Gradient:
        net.parameters = point.parameters
        made = net.forward(point.x, point.state, **call.options(net))
        d_output, *d_state = (net.backend.asarray(w) for w in self.weights)
        return net.backward(made, d_output, tuple(d_state), window)


@dataclass(frozen=True)
class LossValue:
    """The number (2), of a target.

    ``valid`` holds the padding mask, if there is padding.  For ``size`` and ``grain`` see `Goal`.
    """

    loss: Loss
    target: Array
    valid: tuple[Array, ...]
    size: float
    grain: float

    def terms(self, backend: Backend, outputs: Outputs) -> HostArray:
        value = self.loss(outputs.output, self.target, *self.valid)
        return backend.to_numpy(value).reshape(1)

    def push(self, dual: Backend, outputs: Outputs, width: int) -> Pushed:
        target, *valid = (lifted(dual, a) for a in (self.target, *self.valid))
        value = self.loss(outputs.output, target, *valid)
        return weighted(dual, (value,), (np.ones(()),), width)

    def gradient(self, net: RNN, point: Point, call: Call, window: int | None) -> Gradient:
        net.parameters = point.parameters
        _, gradient = net.value_and_grad(
            point.x,
            self.target,
            self.loss,
            state=point.state,
            window=window,
            **call.options(net),
        )
        return gradient


def weighted(
    dual: Backend, arrays: Sequence[Array], weights: Sequence[HostArray], width: int
) -> Pushed:
    """Return Σ a w and its derivatives, of arrays with tangents and weights on the host."""
    value, slopes = 0.0, np.zeros(width)
    for a, w in zip(arrays, weights, strict=True):
        tangents = host_tangents(dual, a, width)
        value += float(np.sum(dual.to_numpy(a) * w))
        slopes = slopes + tangents.reshape(width, -1) @ w.ravel()
    return Pushed(value, slopes)


def loss_value(net: RNN, outputs: Outputs, loss: Loss, target: Array, call: Call) -> LossValue:
    """Return the number (2) of a loss, after a check of what the loss returns.

    Raises
    ------
    TypeError, ValueError
        If the target does not fit.
    ContractError
        If the value of the loss is not zero-dimensional, or not the one that it differentiates; if
        its gradient does not have the shape and dtype of the output; if it writes into its
        arguments, or computes with a float narrower than float64.
    """
    backend, y = net.backend, outputs.output
    target = loss.check(tuple(y.shape), target, backend)
    valid: tuple[Array, ...] = ()
    if net.returns == "sequence":
        steps, batch = y.shape[:2]
        existing = check_existing(call.lengths, call.mask, steps, batch, backend)
        valid = mask_arguments(existing_steps(backend, existing, steps))
    before = {"output": (y, host_copy(backend, y)), "target": (target, host_copy(backend, target))}
    reported = _scalar(backend, f"{loss} returned", loss(y, target, *valid))
    value, dy = loss.value_and_grad(y, target, *valid)
    for name, (array, kept) in before.items():
        if not np.array_equal(host_copy(backend, array), kept):
            raise ContractError(
                f"{loss} writes into the {name}: expected it to leave its arguments alone"
            )
    differentiated = _scalar(backend, f"the value of value_and_grad of {loss} is", value)
    if not np.isclose(reported, differentiated, rtol=1e-9, atol=0, equal_nan=True):
        raise ContractError(
            f"{loss} reports {reported!r}, but value_and_grad says {differentiated!r}: expected "
            "the number that it differentiates"
        )
    wanted = (tuple(y.shape), y.dtype)
    if not backend.library.is_array(dy) or (tuple(dy.shape), dy.dtype) != wanted:
        raise ContractError(
            f"the gradient of {loss} is {describe(dy)}: expected the output's shape "
            f"{tuple(y.shape)} and dtype {dtype_name(y.dtype)}"
        )
    _all_in_float64(loss, [host_copy(backend, a) for a in (y, target, *valid)])
    host, weights = backend.to_numpy(y), backend.to_numpy(dy)
    # If dy is a small difference, such as y - target, its rounding is relative to the numbers that
    # are subtracted.  Their size shows in how much dy changes with y.
    near = backend.asarray(host + STEP * np.maximum(1, np.abs(host)))
    _, changed = loss.value_and_grad(near, target, *valid)
    change = (backend.to_numpy(changed) - weights) / STEP
    size = abs(reported) + _size((host,), (weights,)) + _size((host,), (change,))
    return LossValue(loss, target, valid, size, float(np.max(np.abs(host), initial=1.0)))


def _all_in_float64(loss: Loss, hosts: Sequence[HostArray]) -> None:
    """Refuse a loss that combines float64 with a narrower float."""
    y, target, *valid = watch(hosts)
    for name, method in (("__call__", loss), ("value_and_grad", loss.value_and_grad)):
        narrower = narrower_in(partial(method, y, target, *valid))
        if narrower is not None:
            raise ContractError(f"{name} of {loss} {narrower}: {ADVICE}")


def _size(arrays: Sequence[HostArray], weights: Sequence[HostArray]) -> float:
    """Return S of `xprnn.testing.gradients.compare`, of outputs and their gradients."""
    pairs = zip(arrays, weights, strict=True)
    return float(np.sqrt(sum(np.sum((w * np.maximum(1, np.abs(a))) ** 2) for a, w in pairs)))


def _scalar(backend: Backend, words: str, value: object) -> float:
    """Return a zero-dimensional array as a number, and refuse anything else."""
    if not backend.library.is_array(value) or tuple(value.shape) != ():  # type: ignore[attr-defined]
        raise ContractError(f"{words} {describe(value)}: expected a zero-dimensional array")
    return float(backend.to_numpy(value))
