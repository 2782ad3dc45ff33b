"""Every cell's step in torch, written without looking at the cell's own code: the judge.

``step(weights, x, state) -> state``, with x (B, I), each state (B, H), and weights the tensors of
an `xprnn.layer.ExtendedWeights`.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch.nn.functional import layer_norm

from xprnn.layer import ExtendedWeights

Tensors: TypeAlias = tuple[torch.Tensor, ...]
Formula: TypeAlias = Callable[[ExtendedWeights, torch.Tensor, Tensors], Tensors]


def projections(w: ExtendedWeights, x: torch.Tensor, h: torch.Tensor) -> Tensors:
    """Return W x + b and U h, normalised where the layer does."""
    u, v = x @ w.W.T, h @ w.U.T
    if w.gains:
        u, v = (layer_norm(a, a.shape[-1:], g) for a, g in zip((u, v), w.gains, strict=True))
    return (u if w.b is None else u + w.b), v


def weighted_sum(w: ExtendedWeights, x: torch.Tensor, state: Tensors) -> torch.Tensor:
    """Return what the activation of a simple network is applied to."""
    u, v = projections(w, x, state[0])
    return u + v


def elman(activation: Callable[[torch.Tensor], torch.Tensor]) -> Formula:
    """Return the step of a simple network."""
    return lambda w, x, state: (activation(weighted_sum(w, x, state)),)


def gru(w: ExtendedWeights, x: torch.Tensor, state: Tensors) -> Tensors:
    """Reset after the product; the formula of ``torch.nn.GRU``'s page."""
    u, v = (a.chunk(3, dim=-1) for a in projections(w, x, state[0]))
    inner = v[2] if w.units[0] is None else v[2] + w.units[0]
    reset, update = torch.sigmoid(u[0] + v[0]), torch.sigmoid(u[1] + v[1])
    return ((1 - update) * torch.tanh(u[2] + reset * inner) + update * state[0],)


def lstm(w: ExtendedWeights, x: torch.Tensor, state: Tensors) -> Tensors:
    """With peepholes if there are any: input and forget gate see the old c, the output the new."""
    u, v = projections(w, x, state[0])
    i, f, g, o = (u + v).chunk(4, dim=-1)
    at_i, at_f, at_o = w.units or (0, 0, 0)
    c = torch.sigmoid(f + at_f * state[1]) * state[1]
    c = c + torch.sigmoid(i + at_i * state[1]) * torch.tanh(g)
    return torch.sigmoid(o + at_o * c) * torch.tanh(c), c


def minimal_gated(w: ExtendedWeights, x: torch.Tensor, state: Tensors) -> Tensors:
    """One gate, applied after the product."""
    u, v = (a.chunk(2, dim=-1) for a in projections(w, x, state[0]))
    gate = torch.sigmoid(u[0] + v[0])
    return ((1 - gate) * state[0] + gate * torch.tanh(u[1] + gate * v[1]),)


def gated(w: ExtendedWeights, x: torch.Tensor, state: Tensors) -> Tensors:
    """That of `tests.gated.Gated`."""
    (u_1, u_2), (v_1, v_2) = (a.chunk(2, dim=-1) for a in projections(w, x, state[0]))
    c = torch.tanh(u_1 + state[1] * v_1)
    return c * (u_2 + v_2) + 0.5 * state[0], c


def leaky(w: ExtendedWeights, x: torch.Tensor, state: Tensors) -> Tensors:
    """That of `tests.leaky.LeakyUnit`."""
    u, v = projections(w, x, state[0])
    (leak,) = w.units
    return ((1 - leak) * state[0] + leak * torch.tanh(u + 2 * v),)
