"""Activation functions, each next to its derivative.

A derivative is written in terms of the function's *value* h, because an unrolled network stores the
value anyway; so nothing else has to be stored for the backward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass

from xprnn import checks
from xprnn.backend.types import Array, Namespace


@dataclass(frozen=True)
class Activation:
    """An elementwise function and its derivative.

    Attributes
    ----------
    name : str
        The name in messages and in saved files.
    forward : callable
        ``forward(xp, z) -> h``.
    derivative : callable
        ``derivative(xp, h) -> dh/dz``, given the value h.
    """

    name: str
    forward: Callable[[Namespace, Array], Array]
    derivative: Callable[[Namespace, Array], Array]


def _tanh(xp: Namespace, z: Array) -> Array:
    return xp.tanh(z)


def _tanh_derivative(xp: Namespace, h: Array) -> Array:
    del xp
    return 1 - h * h


def logistic(xp: Namespace, z: Array) -> Array:
    """Return σ(z)."""
    # By tanh, because exp(-z) in 1/(1 + exp(-z)) can overflow.
    return 0.5 * xp.tanh(0.5 * z) + 0.5


def log_logistic(xp: Namespace, z: Array) -> Array:
    """Return ln σ(z)."""
    return -xp.logaddexp(xp.zeros_like(z), -z)


def _logistic_derivative(xp: Namespace, h: Array) -> Array:
    del xp
    return h * (1 - h)


def _relu(xp: Namespace, z: Array) -> Array:
    return xp.maximum(z, 0.0)


def _relu_derivative(xp: Namespace, h: Array) -> Array:
    # Zero at zero, as in PyTorch and JAX.
    return xp.astype(h > 0, h.dtype)


def _identity(xp: Namespace, z: Array) -> Array:
    del xp
    return z


def _identity_derivative(xp: Namespace, h: Array) -> Array:
    return xp.ones_like(h)


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        Activation("tanh", _tanh, _tanh_derivative),
        Activation("logistic", logistic, _logistic_derivative),
        Activation("relu", _relu, _relu_derivative),
        Activation("identity", _identity, _identity_derivative),
    )
}


class Activated:
    """What cells have in common that leave their activation φ to the user: the option itself."""

    activation: str | Activation

    def __post_init__(self) -> None:
        if not isinstance(self.activation, Activation):
            checks.known("activation", self.activation, ACTIVATIONS)

    @property
    def phi(self) -> Activation:
        """The activation, looked up by its name if need be."""
        if isinstance(self.activation, Activation):
            return self.activation
        return ACTIVATIONS[self.activation]
