"""Initial weights.

Every initializer draws on the host, in float64, from one generator, so a seed gives the same
weights on every backend, rounded to the network's dtype.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from xprnn import checks
from xprnn.backend.host.arrays import Generator, HostArray, np


@runtime_checkable
class Initializer(Protocol):
    """Draws one parameter, or one gate's block of it."""

    def __call__(self, rng: Generator, shape: tuple[int, ...], fan_in: int) -> HostArray:
        """Return float64 values; ``fan_in`` counts the connections that enter one unit."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Uniform in ±1/√n, with n the number of incoming connections; the default.

    This holds for biases, too, as in ``torch.nn.RNN``.

    References
    ----------
    Y. LeCun, L. Bottou, G. Orr and K.-R. Müller, "Efficient BackProp" (1998), section 4.6.
    """

    def __call__(self, rng: Generator, shape: tuple[int, ...], fan_in: int) -> HostArray:
        bound = 1 / math.sqrt(fan_in)
        return rng.uniform(-bound, bound, shape)


@dataclass(frozen=True)
class Normal:
    """Normal with mean zero.

    Parameters
    ----------
    std : float
        The standard deviation.
    """

    std: float = 0.1

    def __post_init__(self) -> None:
        checks.number("std", self.std)

    def __call__(self, rng: Generator, shape: tuple[int, ...], fan_in: int) -> HostArray:
        del fan_in
        return rng.normal(0.0, self.std, shape)


@dataclass(frozen=True)
class Orthogonal:
    """Random orthogonal blocks; biases are zero.

    The gates' blocks, H rows each of W and U, are drawn one by one.  A block that is not square has
    orthonormal rows or columns.

    Parameters
    ----------
    gain : float
        The factor that multiplies every block, and so the block's singular values.

    References
    ----------
    A. Saxe, J. McClelland and S. Ganguli, "Exact solutions to the nonlinear dynamics of learning
    in deep linear neural networks", ICLR 2014.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        checks.number("gain", self.gain)

    def __call__(self, rng: Generator, shape: tuple[int, ...], fan_in: int) -> HostArray:
        del fan_in
        if len(shape) == 1:
            return np.zeros(shape)
        rows, columns = shape
        q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
        # The signs make the distribution uniform (Haar); QR alone does not.
        q *= np.sign(np.diagonal(r))
        return self.gain * (q if rows >= columns else q.T)


@dataclass(frozen=True)
class Zeros:
    """All zero."""

    def __call__(self, rng: Generator, shape: tuple[int, ...], fan_in: int) -> HostArray:
        del rng, fan_in
        return np.zeros(shape)


INITIALIZERS: dict[str, type[Initializer]] = {
    "uniform": Uniform,
    "normal": Normal,
    "orthogonal": Orthogonal,
    "zeros": Zeros,
}


def get_initializer(initializer: str | Initializer) -> Initializer:
    """Return the initializer of that name with its default options, or the initializer itself.

    Raises
    ------
    ValueError
        If there is no initializer of that name.
    TypeError
        If it is neither a name nor callable.
    """
    return checks.instance(
        "initializer", initializer, INITIALIZERS, Initializer, "a name or an instance"
    )
