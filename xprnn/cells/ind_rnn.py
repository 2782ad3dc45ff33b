"""The independently recurrent neural network: every unit sees its own past alone."""

from dataclasses import dataclass
from typing import ClassVar

from xprnn.backend.types import Array, Namespace
from xprnn.cells.activations import Activated, Activation
from xprnn.cells.protocol import Arrays


@dataclass(frozen=True)
class IndRNN(Activated):
    """An Elman cell whose recurrent weights are one number per unit.

    ::

        z(t) = u(t) + w h(t-1)                                (1)
        h(t) = φ(z(t))                                        (2)

    with u(t) = W x(t) + b and w, one number per unit.  There is no U.

    Parameters
    ----------
    activation : {"relu", "tanh", "logistic", "identity"} or Activation
        φ.  With ``"identity"`` the network is linear, with a diagonal recurrence.

    Raises
    ------
    ValueError
        If there is no activation of that name.

    Notes
    -----
    The gradient of h(t-k) contains w to the power of k, so ``|w|`` decides how long a unit
    remembers.  New networks have w between 0 and 1, uniformly: some units remember for long and
    others for a few steps.  Nothing keeps ``|w|`` below 1 in a training.

    References
    ----------
    S. Li, W. Li, C. Cook, C. Zhu and Y. Gao, "Independently recurrent neural network (IndRNN):
    building a longer and deeper RNN", CVPR 2018, arXiv:1803.04831, equation (2), with relu; w is
    called u there.
    """

    activation: str | Activation = "relu"

    gates: ClassVar[int] = 1
    state: ClassVar[tuple[str, ...]] = ("h",)
    units: ClassVar[tuple[str, ...]] = ("recurrent_weight",)
    unit_ranges: ClassVar[tuple[tuple[float, float], ...]] = ((0.0, 1.0),)
    recurrent_matrix: ClassVar[bool] = False

    def forward(self, xp: Namespace, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        (h,), (w,) = state, v
        z = u[0] + w * h  # (1)
        h = self.phi.forward(xp, z)  # (2)
        return (h,), (h,)

    def backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_state: Arrays
    ) -> tuple[Arrays, Arrays, tuple[Array | None, ...]]:
        (h_new, w), (h,), (dh,) = saved, previous, d_state
        dz = dh * self.phi.derivative(xp, h_new)  # from (2)
        return (dz,), (dz * h,), (dz * w,)  # from (1)
