"""The minimal LSTM, whose gates read the input alone."""

import math
from dataclasses import dataclass
from typing import ClassVar

from xprnn import checks
from xprnn.backend.types import Array, Namespace
from xprnn.cells.activations import Activated, Activation, log_logistic, logistic
from xprnn.cells.protocol import Arrays


@dataclass(frozen=True)
class MinLSTM(Activated):
    """An LSTM without a hidden state of its own: both gates share out what the state is made of.

    ::

        i(t) = σ(u_i(t))                                      (1)
        f(t) = σ(u_f(t))                                      (2)
        g(t) = φ(u_g(t))                                      (3)
        p(t) = i(t) / (i(t) + f(t))                           (4)
        h(t) = h(t-1) + p(t) (g(t) - h(t-1))                  (5)

    with u(t) = W x(t) + b, blocks in the order i, f, g.  There is no U.

    Parameters
    ----------
    activation : {"identity", "tanh", "logistic", "relu"} or Activation
        φ.
    forget_bias : float
        Added to the initial bias of the forget gate when a network is made.

    Raises
    ------
    TypeError, ValueError
        If there is no activation of that name, or an option has the wrong type or is not finite.

    Notes
    -----
    Where both gates are nearly closed, (4) would divide zero by zero.  It is computed as
    p = σ(ln i - ln f), which is the same number and can't.

    References
    ----------
    L. Feng, F. Tung, M. O. Ahmed, Y. Bengio and H. Hajimirsadeghi, "Were RNNs all we needed?"
    (2024), arXiv:2410.01201, section 3.2, where g is called h̃ and φ is the identity; gates in the
    order f, i.
    """

    activation: str | Activation = "identity"
    forget_bias: float = 0.0

    gates: ClassVar[int] = 3
    state: ClassVar[tuple[str, ...]] = ("h",)
    retention: ClassVar[tuple[int, ...]] = (-1, 1, 0)
    recurrent_matrix: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        bias = checks.number("forget_bias", self.forget_bias, least=-math.inf)
        object.__setattr__(self, "forget_bias", bias)

    @property
    def initial_bias(self) -> tuple[float, ...]:
        """What is added to each gate's initial bias."""
        return (0.0, self.forget_bias, 0.0)

    def forward(self, xp: Namespace, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        del v
        (u_i, u_f, u_g), (h,) = u, state
        i = logistic(xp, u_i)  # (1)
        f = logistic(xp, u_f)  # (2)
        g = self.phi.forward(xp, u_g)  # (3)
        p = logistic(xp, log_logistic(xp, u_i) - log_logistic(xp, u_f))  # (4)
        h = h + p * (g - h)  # (5)
        return (h,), (i, f, g, p)

    def backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_state: Arrays
    ) -> tuple[Arrays, Arrays, tuple[Array | None, ...]]:
        (i, f, g, p), (h,), (dh,) = saved, previous, d_state
        d_ratio = dh * (g - h) * (p * (1 - p))  # from (5), (4); of ln i - ln f
        da_i = d_ratio * (1 - i)  # from (1)
        da_f = -d_ratio * (1 - f)  # from (2)
        da_g = dh * p * self.phi.derivative(xp, g)  # from (5), (3)
        return (da_i, da_f, da_g), (), (dh * (1 - p),)  # from (5)
