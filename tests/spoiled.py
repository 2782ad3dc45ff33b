"""A right cell whose gradients are spoiled on their way out, in ways that people get them wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.gated import Gated


@dataclass(frozen=True)
class Spoiled:
    """`Gated`, with something done to what its backward returns."""

    spoil: Callable[..., Any]

    gates = 2
    state = ("h", "c")

    def forward(self, xp, u, v, state):
        return Gated().forward(xp, u, v, state)

    def backward(self, xp, saved, previous, d_state):
        return self.spoil(*Gated().backward(xp, saved, previous, d_state))

    def __repr__(self) -> str:
        return "Spoiled"


SPOILS: dict[str, tuple[Callable[..., Any], set[str]]] = {
    "wrong sign": (lambda du, dv, ds: ((-du[0], du[1]), dv, ds), {"u[0]"}),
    "wrong factor": (lambda du, dv, ds: (du, (dv[0], 0.5 * dv[1]), ds), {"v[1]"}),
    "missing factor": (lambda du, dv, ds: (du, (du[0], dv[1]), ds), {"v[0]"}),
    "missing path": (lambda du, dv, ds: (du, dv, (None, ds[1])), {"previous h"}),
    "missing term": (lambda du, dv, ds: (du, dv, (ds[0], ds[1] - du[0])), {"previous c"}),
    "swapped": (lambda du, dv, ds: (du[::-1], dv, ds), {"u[0]", "u[1]"}),
    "zero": (lambda du, dv, ds: ((0 * du[0], du[1]), dv, ds), {"u[0]"}),
    "slightly off": (lambda du, dv, ds: (du, (dv[0], dv[1] * (1 + 1e-5)), ds), {"v[1]"}),
    "not finite": (lambda du, dv, ds: ((du[0], du[1] * float("nan")), dv, ds), {"u[1]"}),
}
"""By what is wrong: how to spoil the gradients, and the names of those that `check_cell` names."""
