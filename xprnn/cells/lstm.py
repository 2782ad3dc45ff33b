"""The long short-term memory."""

import math
from dataclasses import dataclass

from xprnn import checks
from xprnn.backend.types import Array, Namespace
from xprnn.cells.activations import logistic
from xprnn.cells.protocol import Arrays


@dataclass(frozen=True)
class LSTM:
    """A memory c behind three gates.

    ::

        i(t) = σ(u_i(t) + v_i(t) [+ p_i c(t-1)])              (1)
        f(t) = σ(u_f(t) + v_f(t) [+ p_f c(t-1)])              (2)
        g(t) = tanh(u_g(t) + v_g(t))                          (3)
        c(t) = f(t) c(t-1) + i(t) g(t)                        (4)
        o(t) = σ(u_o(t) + v_o(t) [+ p_o c(t)])                (5)
        h(t) = o(t) tanh(c(t))                                (6)

    with u(t) = W x(t) + b and v(t) = U h(t-1), gates in the order i, f, g, o.

    Parameters
    ----------
    forget_bias : float
        Added to the initial bias of the forget gate when a network is made: with 1, an untrained
        network keeps its memory for longer.
    peepholes : bool
        Whether the gates see c, in brackets above, through one weight per unit: p_i, p_f, p_o.
    layer_norm : bool
        Whether both projections are normalised over their G·H entries, with a gain each::

            u(t) = γ_u N(W x(t)) + b,   v(t) = γ_v N(U h(t-1)),   N(a) = (a - mean a) / √(var a + ε)

        with ε = 1e-5; c itself is not normalised, so the cell stays elementwise.

    Raises
    ------
    TypeError, ValueError
        If an option has the wrong type or is not finite.

    Notes
    -----
    Without peepholes and normalisation it is ``torch.nn.LSTM``, whose two biases are one here.

    References
    ----------
    S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997),
    1735-1780; the forget gate: F. Gers, J. Schmidhuber and F. Cummins, "Learning to forget" (2000).
    Peepholes: F. Gers, N. Schraudolph and J. Schmidhuber, "Learning precise timing with LSTM
    recurrent networks", JMLR 3 (2002), 115-143.
    forget_bias: R. Jozefowicz, W. Zaremba and I. Sutskever, "An empirical exploration of recurrent
    network architectures", ICML 2015.
    layer_norm: J. Ba, J. Kiros and G. Hinton, "Layer normalization" (2016), arXiv:1607.06450,
    equation (20), without the normalisation of c.
    """

    forget_bias: float = 0.0
    peepholes: bool = False
    layer_norm: bool = False

    gates = 4
    state = ("h", "c")
    retention = (-1, 1, 0, 0)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "forget_bias", checks.number("forget_bias", self.forget_bias, least=-math.inf)
        )
        checks.boolean("peepholes", self.peepholes)
        checks.boolean("layer_norm", self.layer_norm)

    @property
    def units(self) -> tuple[str, ...]:
        """The names of p_i, p_f and p_o."""
        return ("peephole_i", "peephole_f", "peephole_o") if self.peepholes else ()

    @property
    def initial_bias(self) -> tuple[float, ...]:
        """What is added to each gate's initial bias."""
        return (0.0, self.forget_bias, 0.0, 0.0)

    def forward(self, xp: Namespace, u: Arrays, v: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        (_, c), (v_i, v_f, v_g, v_o, *p) = state, v
        a_i, a_f, a_o = u[0] + v_i, u[1] + v_f, u[3] + v_o
        if p:
            a_i, a_f = a_i + p[0] * c, a_f + p[1] * c
        i = logistic(xp, a_i)  # (1)
        f = logistic(xp, a_f)  # (2)
        g = xp.tanh(u[2] + v_g)  # (3)
        c = f * c + i * g  # (4)
        if p:
            a_o = a_o + p[2] * c
        o = logistic(xp, a_o)  # (5)
        tanh_c = xp.tanh(c)
        h = o * tanh_c  # (6)
        return (h, c), (i, f, g, o, tanh_c, c)

    def backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_state: Arrays
    ) -> tuple[Arrays, Arrays, tuple[Array | None, ...]]:
        del xp
        (i, f, g, o, tanh_c, c_new, *p), (_, c), (dh, dc) = saved, previous, d_state
        da_o = dh * tanh_c * (o * (1 - o))  # from (6), (5)
        dc = dc + dh * o * (1 - tanh_c * tanh_c)  # from (6)
        if p:
            dc = dc + da_o * p[2]  # from (5)
        da_i = dc * g * (i * (1 - i))  # from (4), (1)
        da_f = dc * c * (f * (1 - f))  # from (4), (2)
        da_g = dc * i * (1 - g * g)  # from (4), (3)
        dc_previous = dc * f  # from (4)
        da = (da_i, da_f, da_g, da_o)
        if not p:
            return da, da, (None, dc_previous)
        dc_previous = dc_previous + da_i * p[0] + da_f * p[1]  # from (1), (2)
        return (
            da,
            (*da, da_i * c, da_f * c, da_o * c_new),
            (None, dc_previous),
        )  # from (1), (2), (5)
