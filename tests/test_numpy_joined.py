"""Gates that a time loop in NumPy calls computes together."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from tests.time_loops import EVERY, Problem, strided
from xprnn.cells import GRU, LSTM, GRUResetBefore, MinimalGated
from xprnn.engine.loop.numpy.loops import NumPyLoops, gates_apart
from xprnn.engine.loop.traced import formulas_of


@dataclass(frozen=True)
class Bent:
    """Gates of the form that is joined, with other numbers, among some that are not."""

    gates: ClassVar[int] = 6
    state: ClassVar[tuple[str, ...]] = ("h",)

    def forward(self, xp, u, v, state):
        a = [u_k + v_k for u_k, v_k in zip(u, v, strict=True)]
        tanh = [3 * xp.tanh(2 * a[0]) + 1, xp.tanh(a[1]), xp.tanh(a[3]) * 0.5, xp.tanh(a[4]) - 2]
        h = tanh[0] * tanh[1] + tanh[2] * tanh[3] + a[2] * xp.tanh(a[5]) + 0.1 * state[0]
        return (h,), (*tanh, a[2], xp.tanh(a[5]))

    def backward(self, xp, saved, previous, d_state):
        del xp, previous
        (p, q, r, s, x, y), (dh,) = saved, d_state
        t = (p - 1) / 3
        da = (
            dh * q * 6 * (1 - t * t),
            dh * p * (1 - q * q),
            dh * y,
            dh * s * (0.5 - 2 * r * r),
            dh * r * (1 - (s + 2) * (s + 2)),
            dh * x * (1 - y * y),
        )
        return da, da, (0.1 * dh,)


def plan_of(cell, *, save=True):
    return NumPyLoops(formulas_of(cell)).forward_loop(masked=False, save=save).plan


@pytest.mark.parametrize("save", [True, False])
@pytest.mark.parametrize(
    ("cell", "ranges"),
    [
        (LSTM(), [(0, 4)]),
        (LSTM(peepholes=True), []),
        (GRU(), [(0, 2)]),
        (GRUResetBefore(), []),
        (MinimalGated(), []),
        (Bent(), [(0, 2), (3, 6)]),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "gates") else None,
)
def test_which_gates_are_joined(cell, ranges, save):
    assert [each[:2] for each in plan_of(cell, save=save).joined] == ranges


def test_their_numbers():
    (lstm,) = plan_of(LSTM()).joined
    assert lstm.numbers() == {
        "scale": (0.5, 0.5, 1.0, 0.5),
        "factor": (0.5, 0.5, 1.0, 0.5),
        "shift": (0.5, 0.5, 0.0, 0.5),
    }
    first, second = plan_of(Bent()).joined
    assert first.numbers() == {"scale": (2.0, 1.0), "factor": (3.0, 1.0), "shift": (1.0, 0.0)}
    assert second.numbers() == {"factor": (0.5, 1.0, 1.0), "shift": (0.0, -2.0, 0.0)}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("prepare", [np.array, strided], ids=["", "strided"])
@pytest.mark.parametrize("save", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("cell", [LSTM(), GRU(), Bent()], ids=lambda cell: type(cell).__name__)
def test_the_same_as_the_plain_loop(cell, masked, save, prepare, batch):
    lengths = [9, 4, 0][:batch] if masked else None
    problem = Problem(cell, steps=9, batch=batch, masked=masked, prepare=prepare, lengths=lengths)
    assert gates_apart(batch, 9, problem.recurrent.U) == (batch > 1)
    found = problem.passes(NumPyLoops(formulas_of(cell)), problem.dh, save)
    problem.compare_passes(found, problem.plain(problem.dh, save))


@pytest.mark.parametrize("cell", EVERY.values(), ids=EVERY)
def test_every_formula_with_gates_apart(cell):
    problem = Problem(cell, steps=8, batch=2)
    found = problem.passes(NumPyLoops(formulas_of(cell)), problem.dh)
    problem.compare_passes(found, problem.plain(problem.dh))


@dataclass(frozen=True)
class Inner(Bent):
    """Each gate is saved before its last number is applied."""

    gates: ClassVar[int] = 2

    def forward(self, xp, u, v, state):
        a, b = (xp.tanh(u_k + v_k) for u_k, v_k in zip(u, v, strict=True))
        return (2 * a + 3 * b + 0 * state[0],), (a, b)

    def backward(self, xp, saved, previous, d_state):
        del xp, previous
        (a, b), (dh,) = saved, d_state
        da = 2 * dh * (1 - a * a), 3 * dh * (1 - b * b)
        return da, da, (None,)


def test_what_is_saved_on_the_way_ends_the_gate():
    problem = Problem(Inner(), steps=9)
    problem.compare_passes(
        problem.passes(NumPyLoops(formulas_of(Inner())), problem.dh), problem.plain(problem.dh)
    )
    assert [each.numbers() for each in plan_of(Inner()).joined] == [{}]


def test_gates_of_few_steps_and_large_products_lie_side_by_side():
    U = np.zeros((4, 1), "float32")
    assert gates_apart(2, 8, U)
    assert not gates_apart(2, 7, U)
    assert not gates_apart(1, 8, U)
    large = np.broadcast_to(U[:1], (4 * 2048, 2048))
    assert not gates_apart(16, 8, large)
