"""Sums over more entries than half precision can count to."""

import numpy as np
import pytest

from xprnn.losses import CrossEntropy, SquaredError

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
