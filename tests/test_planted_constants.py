"""A float32 constant in a computation of float64: caught, and the message leads to it."""

import numpy as np
import pytest

from tests.cases import each_cell
from tests.planted import Carried, after, caught, disagreement
from xprnn import get_backend
from xprnn.engine.layer import layer
from xprnn.losses import SquaredError
from xprnn.testing import ContractError, check_cell
from xprnn.testing.contract import draw
from xprnn.testing.precision import NarrowError, Watched, watch


class NarrowBackward(Carried):
    def backward(self, xp, saved, previous, d_state):
        du, dv, _ = super().backward(xp, saved, previous, d_state)
        return du, dv, (xp.asarray(0.3, dtype=xp.float32) * d_state[0],)


class Narrow(NarrowBackward):
    """The constant is in forward and backward, so the gradient fits the rounded formula."""

    def forward(self, xp, u, v, state):
        a = xp.tanh(u[0] + v[0])
        return (a + np.float32(0.3) * state[0],), (a,)


class NarrowWhere(Carried):
    def forward(self, xp, u, v, state):
        (h,), saved = super().forward(xp, u, v, state)
        return (xp.where(h > 5, xp.full_like(h, 5.1, dtype=xp.float32), h),), saved


class NarrowDetour(Carried):
    """To float32 and back to float64."""

    def forward(self, xp, u, v, state):
        a = xp.astype(xp.tanh(xp.astype(u[0] + v[0], xp.float32)), u[0].dtype)
        return (a + 0.3 * state[0],), (a,)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (NarrowBackward, "backward takes a number of float32 into multiply, where all else is"),
        (Narrow, "forward takes a number of float32 into multiply, where all else is float64"),
        (NarrowWhere, "forward takes an array of float32, shape (3, 4) into where, where all else"),
        (NarrowDetour, "forward takes an array of float32, shape (3, 4) into tanh, where all else"),
    ],
)
def test_a_constant_of_float32_in_a_cell(kind, words):
    for message in (caught(ContractError, kind()), disagreement(kind())):
        assert words in message
        assert message.endswith(
            "expected constants that are Python numbers, or have the dtype of the arguments"
        )
    with pytest.raises(ContractError):
        check_cell(kind(), backend="torch")


class NarrowConstantError(SquaredError):
    def __call__(self, output, target, valid=None):
        return super().__call__(output, target) * np.float32(0.1)

    def value_and_grad(self, output, target, valid=None, *, overwrite=False):
        value, gradient = super().value_and_grad(output, target)
        return value * np.float32(0.1), gradient * np.float32(0.1)


def test_a_constant_of_float32_in_a_loss():
    message = caught(ContractError, target=np.zeros((5, 3, 2)), loss=NarrowConstantError())
    assert "takes a number of float32 into multiply, where all else is float64" in message


@pytest.mark.parametrize("mode", ["complex", "directions"])
def test_a_constant_of_float32_in_the_engine(mode, monkeypatch):
    third = np.float32(1 / 3)
    after(monkeypatch, layer, "project_backward", lambda p: p._replace(b=3 * (third * p.b)))
    message = caught(mode=mode)
    assert message.startswith("the gradient of bias_l0")
    assert "the gradient of b is Σ du(t)" in message


@each_cell
def test_cells_are_really_watched(case):
    """They compute with watched arrays, and return watched arrays."""
    backend = get_backend("numpy", dtype="float64")
    u, v, units, state, d_state = map(watch, draw(case.cell, backend, np.random.default_rng(0)))
    new, saved = case.cell.forward(backend.xp, u, (*v, *units), state)
    found = case.cell.backward(backend.xp, (*saved, *units), state, d_state)
    arrays = [*new, *saved, *(a for part in found for a in part if a is not None)]
    assert {type(a) for a in arrays} == {Watched}
    with pytest.raises(NarrowError, match="a number of float32 into add"):
        new[0] + np.float32(1)


def test_a_constant_of_float32_in_a_library():
    message = disagreement(backend="tests.namespaces:narrow_tanh")
    assert "functions: tanh[" in message
    assert "in float32" not in message
