"""The equations of every cell once more, for the judges: written without looking at the cells.

A step is ``step(m, w, x (B, I), state) -> state``: m offers the words of mathematics as torch or
JAX has them, so that one text is differentiated by both; w is an `xprnn.Weights`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from xprnn import Weights

Tensor: TypeAlias = Any
Tensors: TypeAlias = tuple[Tensor, ...]


class Words(NamedTuple):
    """What the equations need beside operators."""

    tanh: Callable[[Tensor], Tensor]
    sigmoid: Callable[[Tensor], Tensor]
    relu: Callable[[Tensor], Tensor]
    exp: Callable[[Tensor], Tensor]
    log: Callable[[Tensor], Tensor]
    where: Callable[[Tensor, Tensor, Tensor], Tensor]
    stack: Callable[[list[Tensor]], Tensor]
    join: Callable[[list[Tensor]], Tensor]
    """Along the last axis."""
    split: Callable[[Tensor, int], list[Tensor]]
    """In equal parts along the last axis."""
    turn: Callable[[Tensor], Tensor]
    """From the last step to the first."""

    def identity(self, a: Tensor) -> Tensor:
        return a


Formula: TypeAlias = Callable[[Words, Weights, Tensor, Tensors], Any]


def normalized(a: Tensor) -> Tensor:
    centred = a - a.mean(-1)[..., None]
    return centred / ((centred**2).mean(-1)[..., None] + 1e-5) ** 0.5


def projections(w: Weights, x: Tensor, h: Tensor) -> Tensors:
    """Return W x + b and U h, each normalised and scaled first if there are gains."""
    u, v = x @ w.W.T, h @ w.U.T
    if w.gains:
        u, v = w.gains[0] * normalized(u), w.gains[1] * normalized(v)
    return u if w.b is None else u + w.b, v


def argument(m: Words, w: Weights, x: Tensor, state: Tensors) -> Tensor:
    """Return what the Elman cell's activation is applied to."""
    u, v = projections(w, x, state[0])
    return u + v


def elman(activation: str) -> Formula:
    return lambda m, w, x, state: (getattr(m, activation)(argument(m, w, x, state)),)


def gru(m: Words, w: Weights, x: Tensor, state: Tensors) -> Tensors:
    ((h,), (b_hn,)), (u, v) = (state, w.units), projections(w, x, state[0])
    (u_r, u_z, u_n), (v_r, v_z, v_n) = m.split(u, 3), m.split(v, 3)
    r, z = m.sigmoid(u_r + v_r), m.sigmoid(u_z + v_z)
    n = m.tanh(u_n + r * (v_n if b_hn is None else v_n + b_hn))
    return ((1 - z) * n + z * h,)


def gru_reset_before(m: Words, w: Weights, x: Tensor, state: Tensors) -> Tensors:
    (h,), H = state, state[0].shape[-1]
    u = x @ w.W.T if w.b is None else x @ w.W.T + w.b
    u_r, u_z, u_n = m.split(u, 3)
    r, z = m.sigmoid(u_r + h @ w.U[:H].T), m.sigmoid(u_z + h @ w.U[H : 2 * H].T)
    n = m.tanh(u_n + (r * h) @ w.U[2 * H :].T)
    return ((1 - z) * n + z * h,)


def lstm(m: Words, w: Weights, x: Tensor, state: Tensors) -> Tensors:
    (h, c), (p_i, p_f, p_o) = state, w.units or (0, 0, 0)
    a_i, a_f, a_g, a_o = m.split(sum(projections(w, x, h)), 4)
    i, f = m.sigmoid(a_i + p_i * c), m.sigmoid(a_f + p_f * c)
    c = f * c + i * m.tanh(a_g)
    return m.sigmoid(a_o + p_o * c) * m.tanh(c), c


def minimal_gated(m: Words, w: Weights, x: Tensor, state: Tensors) -> Tensors:
    (h,), (u, v) = state, projections(w, x, state[0])
    (u_f, u_n), (v_f, v_n) = m.split(u, 2), m.split(v, 2)
    f = m.sigmoid(u_f + v_f)
    return ((1 - f) * h + f * m.tanh(u_n + f * v_n),)


def gated(m: Words, w: Weights, x: Tensor, state: Tensors) -> Tensors:
    """Of `tests.gated.Gated`."""
    (h, c), (u, v) = state, projections(w, x, state[0])
    (u_1, u_2), (v_1, v_2) = m.split(u, 2), m.split(v, 2)
    c = m.tanh(u_1 + c * v_1)
    return c * (u_2 + v_2) + 0.5 * h, c


def leaky(m: Words, w: Weights, x: Tensor, state: Tensors) -> Tensors:
    """Of `tests.leaky.LeakyUnit`."""
    (h,), (leak,), (u, v) = state, w.units, projections(w, x, state[0])
    return ((1 - leak) * h + leak * m.tanh(u + 2 * v),)


def inputs(m: Words, w: Weights, x: Tensor, blocks: int) -> list[Tensor]:
    """Return W x + b in blocks, of a cell without U."""
    assert w.U is None
    u = x @ w.W.T
    return m.split(u if w.b is None else u + w.b, blocks)


def min_gru(m: Words, w: Weights, x: Tensor, state: Tensors) -> Tensors:
    ((h,), (u_z, u_n)) = state, inputs(m, w, x, 2)
    z = m.sigmoid(u_z)
    return ((1 - z) * h + z * u_n,)


def min_lstm(m: Words, w: Weights, x: Tensor, state: Tensors) -> Tensors:
    (h,), (u_i, u_f, u_g) = state, inputs(m, w, x, 3)
    i, f = m.sigmoid(u_i), m.sigmoid(u_f)
    return (f / (f + i) * h + i / (f + i) * u_g,)


def ind_rnn_argument(m: Words, w: Weights, x: Tensor, state: Tensors) -> Tensor:
    """Return what the activation of IndRNN is applied to."""
    (u,) = inputs(m, w, x, 1)
    return u + w.units[0] * state[0]


def ind_rnn(m: Words, w: Weights, x: Tensor, state: Tensors) -> Tensors:
    return (m.relu(ind_rnn_argument(m, w, x, state)),)


def slstm(m: Words, w: Weights, x: Tensor, state: Tensors) -> Tensors:
    """The same state as with a stabiliser, computed without one from what it stands for."""
    h, c, n, s = state
    a_i, a_f, a_z, a_o = m.split(sum(projections(w, x, h)), 4)
    kept = m.log(m.sigmoid(a_f)) + s
    new_s = m.where(kept > a_i, kept, a_i)
    i, f = m.exp(a_i), m.sigmoid(a_f)
    c, n = f * m.exp(s) * c + i * m.tanh(a_z), f * m.exp(s) * n + i
    return m.sigmoid(a_o) * c / n, c / m.exp(new_s), n / m.exp(new_s), new_s
