"""A flipped sign, a transposed product, a missing time step: caught, and the message leads there.

Each stands where a user's own code can have it, in a cell or in an array library, and where the
library's own can, in the engine.  `test_planted_buffers` and `test_planted_constants` have two more
faults that people plant in recurrent networks.
"""

import pytest

from tests.planted import Carried, X, after, caught, disagreement, every_mode, network
from xprnn.engine.layer import layer
from xprnn.engine.loop import plain
from xprnn.engine.loop.lowering import disable_lowering
from xprnn.testing import (
    ContractError,
    GradientError,
    ParityError,
    assert_parity,
    check_cell,
    check_gradients,
)

BETWEEN = "look between the steps: dh(t-1) = Uᵀ dv(t) + d_previous"
RIGHT = "check_cell finds nothing wrong with "


@every_mode
def test_nothing_is_wrong_with_what_the_faults_are_planted_in(mode):
    assert check_gradients(network(), X, mode=mode).passed
    assert assert_parity(lambda b: network(backend=b), X, ["array_api_strict"], steps=2).agrees


# One sign flipped.


class Flipped(Carried):
    def backward(self, xp, saved, previous, d_state):
        du, dv, d_previous = super().backward(xp, saved, previous, d_state)
        return du, (-dv[0],), d_previous


@every_mode
def test_a_flipped_sign_in_a_cell(mode):
    message = caught(cell=Flipped(), mode=mode)
    assert message.startswith("the cell's backward is wrong: the gradient of v[0][")
    with pytest.raises(GradientError, match=r"look at the lines of .* that make it: v\[0\]"):
        check_cell(Flipped())


@every_mode
def test_a_flipped_sign_in_the_engine(mode, monkeypatch):
    after(monkeypatch, layer, "project_backward", lambda p: p._replace(b=-p.b))
    first, second, *_ = caught(mode=mode).splitlines()
    assert first.startswith("the gradient of bias_l0")
    assert second == "the gradient of b is Σ du(t); look at the cell's du"
    assert RIGHT in caught(mode=mode)


# One transposed product.


@every_mode
def test_a_transposed_product_in_the_loop(mode, monkeypatch):
    right = plain.product
    monkeypatch.setattr(plain, "product", lambda xp, a, U: right(xp, a, U.T))
    with disable_lowering():
        message = caught(mode=mode)
    assert RIGHT in message
    assert BETWEEN in message


@every_mode
def test_a_transposed_product_after_the_loop(mode, monkeypatch):
    def transposed(gradient):
        return gradient._replace(weights=gradient.weights._replace(U=gradient.weights.U.T))

    after(monkeypatch, layer, "_layer_gradient", transposed)
    message = caught(mode=mode)
    assert message.startswith("the gradient of weight_hh_l0")
    assert "the gradient of U is Σ dv(t) h(t-1)ᵀ" in message
    assert BETWEEN not in message


def test_a_transposed_product_in_a_library():
    assert "functions: operator x.T @ p[" in disagreement(backend="tests.namespaces:careless")


# One missing time step.


@every_mode
def test_a_missing_step_in_a_sum(mode, monkeypatch):
    """The first step, where U multiplies the initial state, is missing in the gradient of U."""

    def forgetful(back):
        da = back.da.copy()
        da[0] = 0
        return back._replace(da=da)

    after(monkeypatch, layer, "run_backward", forgetful)
    message = caught(mode=mode)
    assert message.startswith("the gradient of weight_hh_l0")
    assert "the gradient of U is Σ dv(t) h(t-1)ᵀ" in message
    assert "also failed: " not in message.replace("also failed: all\n", "")


@every_mode
def test_a_missing_step_in_the_loop(mode, monkeypatch):
    """The gradient of the last step's output does not reach the state."""
    right = layer.run_backward

    def early(backend, cell, recurrent, trajectory, dh, d_state):
        dh = dh.copy()
        dh[-1] = 0
        return right(backend, cell, recurrent, trajectory, dh, d_state)

    monkeypatch.setattr(layer, "run_backward", early)
    message = caught(mode=mode)
    assert RIGHT in message
    assert f"{BETWEEN}, and what reaches h(t-1) from outside" in message


def test_all_of_it_is_an_assertion_error():
    assert all(issubclass(k, AssertionError) for k in (ContractError, GradientError, ParityError))
