"""Initial weights: their bounds, their moments, their rotations."""

import math

import numpy as np
import pytest

from tests.gated import Gated
from xprnn import RNN
from xprnn.cells import GRU, LSTM, MinimalGated
from xprnn.engine.initializers import (
    Chrono,
    Identity,
    Normal,
    Orthogonal,
    SpectralRadius,
    Uniform,
    Zeros,
    get_initializer,
)

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
        (lambda: Identity(-1), ValueError, r"gain is -1\.0: expected a number at least 0"),
        (lambda: SpectralRadius(-1), ValueError, r"radius is -1\.0: expected a number at least"),
        (lambda: Chrono(1), ValueError, "steps is 1: expected at least 2"),
        (lambda: Chrono(2.5), TypeError, r"steps is 2\.5"),
        (lambda: get_initializer("chrono"), ValueError, "with an integer after a colon, as in"),
        (lambda: get_initializer("chrono:x"), ValueError, "as in 'chrono:100'"),
        (lambda: get_initializer("normal:"), ValueError, "with a number after a colon"),
        (lambda: get_initializer("normal:nan"), ValueError, "std is nan"),
        (lambda: get_initializer("zeros:1"), ValueError, "zeros has no option"),
        (lambda: RNN(2, 3, initializer="chrono:9"), ValueError, "a cell with gates that keep"),
        (
            lambda: RNN(2, 3, initializer={"W": "chrono:9"}),
            ValueError,
            "weight_ih_l0: chrono draws",
        ),
        (lambda: RNN(2, 3, initializer={"W": SpectralRadius()}), ValueError, "_ih_l0: a spectral"),
        (lambda: RNN(2, 3, initializer={"R": "zeros"}), ValueError, "'R': the network's kinds"),
        (lambda: RNN(2, 3, initializer={"U": 3}), TypeError, "initializer is 3: expected a name"),
        (
            lambda: RNN(2, 3, initializer={"U": "zeros", "weight_hh": "zeros"}),
            ValueError,
            "initializer has both 'weight_hh' and 'U'",
        ),
        (
            lambda: RNN(2, 3, cell="lstm", bias=False, initializer="chrono:9"),
            ValueError,
            "for b: the network has no such parameter",
        ),
        (lambda: get_initializer("glorot"), ValueError, "unknown initializer 'glorot': known are"),
        (lambda: get_initializer(Uniform), TypeError, "initializer is <class .*: expected a name"),
    ],
)
def test_what_is_no_initializer(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_identity_keeps_the_state_of_an_untrained_network():
    net = RNN(1, 5, 2, cell=Gated(), layers=2, initializer="identity", dtype="float64", rng=0)
    default = RNN(1, 5, 2, cell=Gated(), layers=2, dtype="float64", rng=0)
    for layer in (0, 1):
        U = net.parameters[f"weight_hh_l{layer}"]
        assert np.array_equal(U, np.concatenate([np.eye(5)] * 2))
        assert not np.any(net.parameters[f"bias_l{layer}"])
    assert np.array_equal(net.parameters["weight_ih_l0"], default.parameters["weight_ih_l0"])
    assert np.any(net.parameters["readout.weight"])
    assert np.array_equal(draw(Identity(0.5), (2, 3)), [[0.5, 0, 0], [0, 0.5, 0]])


def test_each_block_of_U_has_the_spectral_radius():
    net = RNN(9, 9, 2, cell="gru", initializer="spectral_radius:0.7", dtype="float64", rng=0)
    for block in np.split(net.parameters["weight_hh_l0"], 3):
        assert np.max(np.abs(np.linalg.eigvals(block))) == pytest.approx(0.7, rel=1e-12)
    assert np.max(np.abs(net.parameters["weight_ih_l0"])) <= 1 / 3
    assert RNN(1, 1, initializer="spectral_radius", rng=0).parameters["weight_hh_l0"][0, 0] in (
        pytest.approx(0.9),
        pytest.approx(-0.9),
    )


def test_chrono_gates_remember_for_up_to_the_number_of_steps():
    hidden, steps = 2000, 50
    net = RNN(
        1, hidden, cell=LSTM(forget_bias=1.0), initializer=Chrono(steps), rng=0, dtype="float64"
    )
    i, f, g, o = np.split(net.parameters["bias_l0"], 4)
    assert np.array_equal(i, -f)
    assert not np.any(g)
    assert not np.any(o)
    memory = np.exp(f)  # uniform in [1, 49]
    assert 1 <= memory.min() < 1.2
    assert 48.8 < memory.max() <= 49
    assert memory.mean() == pytest.approx(25, abs=4 * 48 / math.sqrt(12 * hidden))
    assert memory.var() == pytest.approx(48**2 / 12, rel=0.1)


def test_chrono_knows_which_gates_keep_the_state():
    """One step without input and recurrence: the state fades by 1 - 1/(1 + t), t in [1, 9]."""
    for cell in (GRU(), MinimalGated(), LSTM()):
        parts = {"W": "zeros", "U": "zeros", "b": Chrono(10)}
        if isinstance(cell, GRU):
            parts["bias_hn"] = "zeros"
        net = RNN(1, 40, cell=cell, initializer=parts, rng=0, dtype="float64")
        ones = tuple(np.ones((1, 1, 40)) for _ in cell.state)
        _, state = net(np.zeros((1, 1, 1)), ones)
        kept = state[-1]
        assert 0.5 <= kept.min() < 0.7
        assert 0.85 < kept.max() <= 0.9


def test_an_initializer_for_each_kind_of_parameter():
    parts = {"U": Orthogonal(), "b": "zeros", "bias_hn": "normal:2", "readout.weight": "zeros"}
    net = RNN(3, 8, 2, cell="gru", layers=2, bidirectional=True, initializer=parts, rng=0)
    default = RNN(3, 8, 2, cell="gru", layers=2, bidirectional=True, rng=0)
    p, d = net.parameters, default.parameters
    for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
        for block in np.split(p[f"weight_hh_{suffix}"], 3):
            assert np.allclose(block @ block.T, np.eye(8), rtol=0, atol=1e-6)
        assert not np.any(p[f"bias_{suffix}"])
        assert np.max(np.abs(p[f"bias_hn_{suffix}"])) > 1
    assert not np.any(p["readout.weight"])
    assert np.any(p["readout.bias"])
    assert np.array_equal(p["weight_ih_l0"], d["weight_ih_l0"])


def test_one_initializer_for_all_draws_what_it_drew_before():
    for name in ("uniform", "normal", "orthogonal"):
        by_kind = dict.fromkeys(["W", "U", "b", "R", "r", "E"], name)
        options = {"cell": "lstm", "layers": 2, "embedding_size": 4, "rng": 3}
        one = RNN(5, 6, 3, initializer=name, **options).parameters
        each = RNN(5, 6, 3, initializer=by_kind, **options).parameters
        assert all(np.array_equal(one[k], each[k]) for k in one)
