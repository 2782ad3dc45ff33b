"""The minimal GRU, whose gates read the input alone."""

from dataclasses import dataclass
from typing import ClassVar

from xprnn.backend.types import Array, Namespace
from xprnn.cells.activations import Activated, Activation, logistic
from xprnn.cells.protocol import Arrays


@dataclass(frozen=True)
class MinGRU(Activated):
    """A state that moves towards a candidate; neither gate nor candidate reads the state.

    ::

        z(t) = σ(u_z(t))                                      (1)
        n(t) = φ(u_n(t))                                      (2)
        h(t) = h(t-1) + z(t) (n(t) - h(t-1))                  (3)

    with u(t) = W x(t) + b, blocks in the order z, n.  There is no U.

    Parameters
    ----------
    activation : {"identity", "tanh", "logistic", "relu"} or Activation
        φ.

    Raises
    ------
    ValueError
        If there is no activation of that name.

    Notes
    -----
    h(t) is linear in h(t-1), so a layer can't compute anything from its own past that is not a
    weighted mean of its candidates; stacked layers can.

    References
    ----------
    L. Feng, F. Tung, M. O. Ahmed, Y. Bengio and H. Hajimirsadeghi, "Were RNNs all we needed?"
    (2024), arXiv:2410.01201, section 3.1, where n is called h̃ and φ is the identity.
    """

    activation: str | Activation = "identity"

    gates: ClassVar[int] = 2
    state: ClassVar[tuple[str, ...]] = ("h",)
    retention: ClassVar[tuple[int, ...]] = (-1, 0)
    recurrent_matrix: ClassVar[bool] = False

    def forward(self, xp: Namespace, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        del v
        (h,) = state
        z = logistic(xp, u[0])  # (1)
        n = self.phi.forward(xp, u[1])  # (2)
        h = h + z * (n - h)  # (3)
        return (h,), (z, n)

    def backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_state: Arrays
    ) -> tuple[Arrays, Arrays, tuple[Array | None, ...]]:
        (z, n), (h,), (dh,) = saved, previous, d_state
        da_z = dh * (n - h) * (z * (1 - z))  # from (3), (1)
        da_n = dh * z * self.phi.derivative(xp, n)  # from (3), (2)
        return (da_z, da_n), (), (dh * (1 - z),)  # from (3)
