"""Initial weights: their bounds, their moments, their rotations."""

import math

import numpy as np
import pytest

from tests.gated import Gated
from xprnn import RNN
from xprnn.engine.initializers import Normal, Orthogonal, Uniform, Zeros, get_initializer

FAN_IN = {
    "weight_ih_l0": 9,
    "weight_hh_l0": 64,
    "bias_l0": 64,
    "readout.weight": 64,
    "readout.bias": 64,
}


def draw(initializer, shape, fan_in=1, seed=0) -> np.ndarray:
    return initializer(np.random.default_rng(seed), shape, fan_in)


def test_uniform_fills_its_interval():
    values = draw(Uniform(), (200, 300), fan_in=25)
    assert values.dtype == np.float64
    assert -0.2 <= values.min() < -0.1999
    assert 0.1999 < values.max() <= 0.2
    # Four standard errors of 60 000 draws.
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(values.size)
    assert values.var() == pytest.approx(0.2**2 / 3, rel=0.02)


def test_normal_has_its_deviation():
    values = draw(Normal(0.3), (200, 300))
    assert abs(values.mean()) < 4 * 0.3 / math.sqrt(values.size)
    assert values.std() == pytest.approx(0.3, rel=0.01)
    assert np.mean(np.abs(values) < 0.3) == pytest.approx(0.6827, abs=0.01)


def test_zeros_are_zeros():
    assert draw(Zeros(), (2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("name", FAN_IN)
def test_uniform_weights_are_bounded_by_the_connections_that_come_in(name):
    net = RNN(9, 64, 70, dtype="float64", rng=0)
    bound = 1 / math.sqrt(FAN_IN[name])
    largest = np.max(np.abs(net.parameters[name]))
    assert 0.9 * bound < largest <= bound


@pytest.mark.parametrize("shape", [(5, 5), (5, 2), (6, 2), (2, 6), (5, 1), (1, 5), (1, 1)])
def test_orthonormal_rows_or_columns(shape):
    q = draw(Orthogonal(1.5), shape)
    assert q.shape == shape
    product = q @ q.T if shape[0] <= shape[1] else q.T @ q
    assert np.allclose(product, 1.5**2 * np.eye(min(shape)), rtol=0, atol=1e-12)


def test_every_gate_has_a_rotation_of_its_own():
    net = RNN(3, 6, 4, cell=Gated(), initializer=Orthogonal(2.0), dtype="float64", rng=0)
    U, W = net.parameters["weight_hh_l0"], net.parameters["weight_ih_l0"]
    blocks = U[:6], U[6:]
    for block in blocks:
        assert np.allclose(block @ block.T, 4 * np.eye(6), rtol=0, atol=1e-12)
    assert not np.allclose(*blocks)
    for block in (W[:6], W[6:]):
        assert np.allclose(block.T @ block, 4 * np.eye(3), rtol=0, atol=1e-12)
    R = net.parameters["readout.weight"]
    assert np.allclose(R @ R.T, 4 * np.eye(4), rtol=0, atol=1e-12)
    assert not np.any(net.parameters["bias_l0"])
    assert not np.any(net.parameters["readout.bias"])


def test_one_input_is_spread_over_all_units():
    W = RNN(1, 20, initializer="orthogonal", dtype="float64", rng=0).parameters["weight_ih_l0"]
    assert np.sum(W * W) == pytest.approx(1, rel=1e-12)


def test_rotations_are_uniformly_distributed():
    """A random rotation's entries have mean 0 and variance 1/n only with the sign correction."""
    rng, n = np.random.default_rng(0), 3
    draws = np.stack([Orthogonal()(rng, (n, n), n) for _ in range(2000)])
    error = 1 / math.sqrt(n * len(draws))
    assert np.all(np.abs(draws.mean(axis=0)) < 4 * error)
    assert np.allclose(draws.var(axis=0), 1 / n, rtol=0.1)


def test_initializers_have_names():
    assert get_initializer("uniform") == Uniform()
    assert get_initializer("normal") == Normal(0.1)
    assert get_initializer("orthogonal") == Orthogonal(1.0)
    assert get_initializer("zeros") == Zeros()
    assert not any(np.any(p) for p in RNN(2, 3, 1, initializer="zeros").parameters.values())


def test_an_initializer_may_be_any_callable():
    def connections(rng, shape, fan_in):
        return np.full(shape, float(fan_in))

    net = RNN(2, 3, 1, initializer=connections, rng=0)
    assert {name: p.ravel()[0] for name, p in net.parameters.items()} == {
        "weight_ih_l0": 2,
        "weight_hh_l0": 3,
        "bias_l0": 3,
        "readout.weight": 3,
        "readout.bias": 3,
    }


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Normal(-0.1), ValueError, r"std is -0\.1: expected a number at least 0"),
        (lambda: Normal("1"), TypeError, r"std is '1' \(str\): expected a number"),
        (lambda: Orthogonal(-1), ValueError, r"gain is -1\.0: expected a number at least 0"),
        (lambda: get_initializer("glorot"), ValueError, "unknown initializer 'glorot': known are"),
        (lambda: get_initializer(Uniform), TypeError, "initializer is <class .*: expected a name"),
    ],
)
def test_what_is_no_initializer(make, error, message):
    with pytest.raises(error, match=message):
        make()
