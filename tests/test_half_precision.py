"""Sums over more entries than half precision can count to."""

import numpy as np
import pytest

import xprnn
from tests import namespaces
from xprnn.backend import dtype_name
from xprnn.losses import CrossEntropy, SquaredError
from xprnn.testing.parity.problem import Problem, train

HALF = "float16"


def test_squared_error():
    y, target = np.full((300, 300, 1), 2, HALF), np.zeros((300, 300, 1), HALF)
    value, gradient = SquaredError().value_and_grad(y, target)
    assert float(value) == pytest.approx(2, rel=1e-3)
    assert gradient.dtype == HALF


def test_cross_entropy():
    y, target = np.zeros((70, 1000, 4), HALF), np.zeros((70, 1000), int)
    value, gradient = CrossEntropy().value_and_grad(y, target)
    assert float(value) == pytest.approx(np.log(4), rel=1e-3)
    assert gradient.dtype == HALF
    assert float(gradient[0, 0, 0]) == pytest.approx(-0.75 / 70_000, rel=1e-2)


def _net(backend):
    return xprnn.RNN(3, 10, 2, cell="gru", backend=backend, rng=0)


X = np.random.default_rng(0).normal(size=(8, 4, 3))


def test_parity():
    """What a library does not have is skipped."""
    report = xprnn.testing.assert_parity(
        _net, X, ["torch", "array_api_strict"], dtypes=[HALF, "float64"], steps=20
    )
    assert [(side.backend, side.dtype) for side in report.sides] == [
        *(("numpy", HALF), ("numpy", "float64")),
        *(("torch", HALF), ("torch", "float64")),
        ("array_api_strict", "float64"),
    ]
    for side in report.sides:
        narrow = side.dtype == HALF
        for row in side.rows:
            if row.quantity in ("output", "state", "gradients", "training"):
                assert (1e-4 < row.error < 4e-3) if narrow else row.error < 1e-14
    with pytest.raises(ValueError, match="array_api_strict computes in float32, float64"):
        xprnn.testing.assert_parity(_net, X, ["array_api_strict"], dtypes=[HALF], steps=0)


def test_an_error_is_found(monkeypatch):
    made = namespaces.Changed(np, tanh=lambda x: np.tanh(x) * x.dtype.type(1.1))
    monkeypatch.setattr(namespaces, "half_tanh", made, raising=False)
    with pytest.raises(AssertionError, match="look first at functions: tanh") as error:
        xprnn.testing.assert_parity(_net, X, ["tests.namespaces:half_tanh"], dtypes=[HALF], steps=0)
    assert "output[" in str(error.value)


@pytest.mark.parametrize(
    ("name", "dtype"), [("numpy", HALF), ("torch", HALF), ("torch", "bfloat16")]
)
def test_a_training_keeps_its_parameters_in_float32(name, dtype):
    """Updates of a millionth of a weight vanish in 16 bits."""
    backend = xprnn.get_backend(name, dtype=dtype)
    problem = Problem(_net, X, X[..., :2], SquaredError(), None, None, None)
    net = problem.network(backend)
    before = {key: backend.to_numpy(p).astype(float) for key, p in net.parameters.items()}
    trained = train(problem, net, xprnn.optim.SGD(1e-6), 3)
    for key, after in trained.parameters.items():
        assert dtype_name(after.dtype) == "float32"
        moved = np.abs(np.asarray(after, float) - before[key])
        assert 0 < np.max(moved) < 1e-5
    assert {dtype_name(p.dtype) for p in net.parameters.values()} == {dtype}
