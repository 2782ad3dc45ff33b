"""Compiled products with a matrix of one row or one column, and what uses them."""

import numpy as np
import pytest

import xprnn
from xprnn.backend.host import tuning
from xprnn.backend.host.threads import blas_threads
from xprnn.backend.libraries import numpy_products

thin = pytest.importorskip("xprnn.backend.numba.thin", exc_type=ImportError)


@pytest.fixture(autouse=True)
def _compiled(monkeypatch):
    monkeypatch.setenv("XPRNN_LOWERING", "numba")


def drawn(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.parametrize("with_row", [True, False])
def test_an_outer_product_has_the_bits_of_numpy(with_row, monkeypatch):
    a, b, row = drawn(301, 1), drawn(1, 37), drawn(37) if with_row else None
    want = a * b + row if with_row else a * b
    for entries in (tuning.OUTER_PER_THREAD, 1000):
        monkeypatch.setattr(tuning, "OUTER_PER_THREAD", entries)
        for count in (1, 2, 3):
            with blas_threads(count):
                found = thin.outer_product(a, b, row)
            np.testing.assert_array_equal(found, want, strict=True)


@pytest.mark.parametrize("rows", [1, 127, 128, 300])
@pytest.mark.parametrize("of_x", [True, False])
def test_products_and_a_sum(rows, of_x):
    d, x, w = drawn(rows, 37), drawn(rows + 1, 1)[1:], drawn(37, 1)
    dw, total, dx = thin.products_and_sum(d, x, w if of_x else None)
    wide = d.astype("float64")
    np.testing.assert_allclose(dw, wide.T @ x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(total, wide.sum(axis=0), rtol=1e-5, atol=1e-5)
    assert (dx is None) != of_x
    if of_x:
        np.testing.assert_allclose(dx, wide @ w, rtol=1e-5, atol=1e-5)
    assert dw.shape == (37, 1)


@pytest.mark.parametrize("features", [1, 2])
def test_a_layer_of_one_feature_uses_them(features, monkeypatch):
    """Its gradients are those of plain array code."""
    used = []
    for name in ("outer_product", "products_and_sum"):
        real = getattr(thin, name)

        def noted(*given, name=name, real=real):
            used.append(name)
            return real(*given)

        monkeypatch.setattr(thin, name, noted)
    net = xprnn.RNN(features, 64, 3, rng=0)
    x, target = drawn(70, 32, features), drawn(70, 32, 3)
    value, gradient = net.value_and_grad(x, target)
    assert used == (["outer_product", "products_and_sum"] if features == 1 else [])
    with xprnn.disable_lowering():
        monkeypatch.setenv("XPRNN_LOWERING", "off")
        want_value, want = net.value_and_grad(x, target)
    np.testing.assert_allclose(value, want_value, rtol=1e-5)
    np.testing.assert_allclose(gradient.input, want.input, rtol=1e-4, atol=1e-7)
    for name, g in gradient.parameters.items():
        np.testing.assert_allclose(g, want.parameters[name], rtol=1e-4, atol=1e-6)


def test_other_arrays_are_left_alone():
    """Of another order, and of few entries."""
    d, x, w = drawn(600, 300), drawn(600, 1), drawn(300, 1)
    assert numpy_products.products_and_sum(d, x, w) is not None
    assert numpy_products.products_and_sum(np.asfortranarray(d), x, w) is None
    assert numpy_products.products_and_sum(d[::2], x[::2], w) is None
    few = tuning.COMPILED_THIN // 300
    assert numpy_products.products_and_sum(d[:few], x[:few], w) is None
    assert numpy_products.products_and_sum(d[: few + 1], x[: few + 1], w) is not None
    assert numpy_products.products_and_sum(d, x.astype("float64"), w) is None
