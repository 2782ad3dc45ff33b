"""The Elman cell, the simple recurrent network."""

from dataclasses import dataclass

from xprnn.backend.types import Array, Namespace
from xprnn.cells.activations import Activated, Activation
from xprnn.cells.protocol import Arrays


@dataclass(frozen=True)
class Elman(Activated):
    """The state is an activation of the projected input plus the projected previous state.

    ::

        z(t) = u(t) + v(t)                                    (1)
        h(t) = φ(z(t))                                        (2)

    with u(t) = W x(t) + b and v(t) = U h(t-1).

    Parameters
    ----------
    activation : {"tanh", "logistic", "relu", "identity"} or Activation
        φ.  With ``"identity"`` the network is linear.

    Raises
    ------
    ValueError
        If there is no activation of that name.

    References
    ----------
    J. L. Elman, "Finding structure in time", Cognitive Science 14 (1990), 179-211; with tanh or
    relu it is ``torch.nn.RNN`` (whose two biases are one here).

    Examples
    --------
    >>> Elman("logistic")
    Elman(activation='logistic')
    """

    activation: str | Activation = "tanh"

    gates = 1
    state = ("h",)

    def forward(self, xp: Namespace, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        del state
        z = u[0] + v[0]  # (1)
        h = self.phi.forward(xp, z)  # (2)
        return (h,), (h,)

    def backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_state: Arrays
    ) -> tuple[Arrays, Arrays, tuple[Array | None, ...]]:
        del previous
        (h,), (dh,) = saved, d_state
        dz = (dh * self.phi.derivative(xp, h),)  # from (2)
        return dz, dz, (None,)  # from (1)
