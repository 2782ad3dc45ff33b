"""Activations: values, derivatives in terms of the value, and extreme arguments."""

import numpy as np
import pytest

from tests.closeness import AUTOGRAD, assert_close
from tests.judge import later, leaf
from tests.optional import optional
from xprnn import RNN
from xprnn.cells import ACTIVATIONS, Activation, Elman

torch = optional("torch")

THEIRS = {
    "tanh": later(torch, "tanh"),
    "logistic": later(torch, "sigmoid"),
    "relu": later(torch, "relu"),
    "identity": lambda z: z,
}
Z = np.array([-3.0, -0.5, 0.0, 1e-3, 0.5, 3.0])


def test_every_activation_has_a_judge():
    assert set(THEIRS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", THEIRS)
def test_value_and_derivative(harness, name):
    activation, xp = ACTIVATIONS[name], harness.backend.xp
    h = activation.forward(xp, harness.array(Z))
    slope = activation.derivative(xp, h)
    z = leaf(Z)
    want = THEIRS[name](z)
    (want_slope,) = torch.autograd.grad(want.sum(), [z])
    assert_close(harness.host(h), want.detach(), AUTOGRAD)
    # At zero, too, where the derivative of relu is zero by convention.
    assert_close(harness.host(slope), want_slope, AUTOGRAD)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_extreme_arguments_do_not_overflow(harness, dtype):
    harness = harness.at(dtype)
    extreme = harness.array([-1e30, -800.0, 800.0, 1e30])
    for name, want in {"logistic": [0, 0, 1, 1], "tanh": [-1, -1, 1, 1]}.items():
        h = ACTIVATIONS[name].forward(harness.backend.xp, extreme)
        assert harness.host(h).tolist() == want
        slope = ACTIVATIONS[name].derivative(harness.backend.xp, h)
        assert harness.host(slope).tolist() == [0, 0, 0, 0]


def test_an_activation_of_the_users_own(harness):
    """h = z/(1 + |z|), with dh/dz = (1 - |h|)²."""
    softsign = Activation(
        "softsign", lambda xp, z: z / (1 + xp.abs(z)), lambda xp, h: (1 - xp.abs(h)) ** 2
    )
    net = RNN(1, 1, cell=Elman(softsign), bias=False, backend=harness.backend)
    weights = {"weight_ih_l0": harness.array([[2.0]]), "weight_hh_l0": harness.array([[-1.0]])}
    net.parameters = weights
    run = net.forward(harness.array([[[0.5]], [[0.25]]]))
    # z = 1, h = 1/2; then z = 1/2 - 1/2 = 0, h = 0.
    assert harness.host(run.output).ravel().tolist() == [0.5, 0.0]
    gradient = net.backward(run, harness.array([[[0.0]], [[1.0]]])).parameters
    # dz₂ = 1; dh₁ = -1, dz₁ = -1/4; dW = 1·1/4 - 1/4·1/2; dU = 1·1/2.
    assert harness.host(gradient["weight_ih_l0"]).item() == 0.125
    assert harness.host(gradient["weight_hh_l0"]).item() == 0.5
