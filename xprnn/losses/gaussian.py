"""The negative log-likelihood of a normal distribution whose mean and variance are the output."""

import math
from dataclasses import dataclass
from typing import ClassVar

from xprnn.backend.types import Array, Namespace
from xprnn.losses.elementwise import ElementwiseLoss


@dataclass(frozen=True)
class GaussianNLL(ElementwiseLoss):
    """The negative log-likelihood of a target that is normally distributed.

    ::

        y = (μ, s), the mean and the logarithm of the variance, σ² = exp(s)
        l = ½ (log 2π + s + (target - μ)² / σ²)                       (1)
        ∂l/∂μ = (μ - target) / σ²                                     from (1)
        ∂l/∂s = ½ (1 - (target - μ)² / σ²)                            from (1)

    The output has two entries for each of the target: first all means, then all logarithms of
    variances.  So a network with readout size 2 K forecasts K numbers and how sure it is of each.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        See `xprnn.losses.elementwise.ElementwiseLoss`.

    Notes
    -----
    ``torch.nn.GaussianNLLLoss(full=True)`` takes the variance itself.  Its logarithm is any number,
    so nothing has to keep it positive.

    References
    ----------
    D. Nix and A. Weigend, "Estimating the mean and variance of the target probability
    distribution", IEEE International Conference on Neural Networks (1994), 55-60.

    Examples
    --------
    >>> import numpy as np
    >>> float(GaussianNLL()(np.zeros((1, 2)), np.zeros((1, 1))))    # ½ log 2π
    0.9189385332046727
    """

    outputs: ClassVar[int] = 2

    def each(self, xp: Namespace, y: Array, target: Array) -> tuple[Array, Array]:
        K = target.shape[-1]
        mean, s = y[..., :K], y[..., K:]
        e = mean - target
        pull = e * xp.exp(-s)
        square = e * pull
        value = 0.5 * (math.log(2 * math.pi) + s + square)  # (1)
        return value, xp.concat([pull, 0.5 * (1 - square)], axis=-1)  # from (1)
