"""Compiled softmax and sums of rows, and where they are used."""

import numpy as np
import pytest

from tests.closeness import assert_close
from xprnn import get_backend
from xprnn.backend.host import tuning
from xprnn.losses import CrossEntropy

pytest.importorskip("numba")

from xprnn.backend.numba import scatter, softmax

BACKEND = get_backend("numpy", dtype="float32")
LIBRARY = BACKEND.library


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    monkeypatch.setenv("XPRNN_LOWERING", "numba")


def logits(rows, columns, scale=10.0):
    return (scale * np.random.default_rng(0).normal(size=(rows, columns))).astype("float32")


@pytest.mark.parametrize("less", [0, 100], ids=["both signs", "all below zero"])
@pytest.mark.parametrize("columns", [1, 5, 63, 64, 65, 1000])
def test_softmax_parts(columns, less):
    a = logits(7, columns) - np.float32(less)
    given = a.copy()
    m, Z = softmax.softmax_parts(given)
    np.testing.assert_array_equal(m, a.max(axis=1))
    exact = np.exp((a - m[:, None]).astype("float64"))
    normal = exact > 2e-38
    np.testing.assert_allclose(given[normal], exact[normal], rtol=4e-7)
    assert np.all(given[~normal] <= 3e-38)
    np.testing.assert_allclose(Z, exact.sum(axis=1), rtol=2e-6)


def test_softmax_of_special_values():
    with np.errstate(invalid="ignore"):
        for value in (np.nan, np.inf):
            a = np.full((2, 100), 1.0, "float32")
            a[1, 70] = value
            _, Z = softmax.softmax_parts(a)
            assert Z[0] == 100
            assert np.isnan(Z[1])
    a = np.array([[0.0, -1e4, -np.inf, -87.0, -200.0]], "float32")
    m, Z = softmax.softmax_parts(a)
    assert m[0] == 0
    assert Z[0] == 1
    np.testing.assert_allclose(a[0], [1, 0, 0, 1.64581e-38, 0], rtol=1e-5)


def test_softmax_gradient():
    a, columns = logits(7, 1000), np.random.default_rng(1).integers(0, 1000, 7)
    scale, less = np.linspace(1, 2, 14, dtype="float32").reshape(2, 7)
    parts, gradient = a.copy(), a.copy()
    m, Z = softmax.softmax_parts(parts)
    found = softmax.softmax_gradient(gradient, columns, scale, less)
    for got, want in zip(found, (m, Z, a[np.arange(7), columns]), strict=True):
        np.testing.assert_array_equal(got, want)
    want = parts * (scale / Z)[:, None]
    want[np.arange(7), columns] -= less
    np.testing.assert_array_equal(gradient, want)


@pytest.mark.parametrize("rows", [1, 2, 5, 40])
def test_the_same_bits_however_many_threads(rows, monkeypatch):
    monkeypatch.setattr(tuning, "SOFTMAX_PER_THREAD", 1)
    monkeypatch.setattr(tuning, "SCATTER_PER_THREAD", 1)
    a, places = logits(rows, 300), np.random.default_rng(1).integers(0, 4, rows)
    found = []
    for count in (1, 2, 3):
        for module in (softmax, scatter):
            monkeypatch.setattr(module, "compute_threads", lambda count=count: count)
        given = a.copy()
        parts = (*softmax.softmax_parts(given), given, scatter.sum_rows_at(a, places, 4))
        weights, given = np.linspace(1, 2, rows, dtype="float32"), a.copy()
        parts += (*softmax.softmax_gradient(given, places, weights, weights), given)
        found.append([part.tobytes() for part in parts])
    assert all(each == found[0] for each in found)


def test_cross_entropy_uses_it(monkeypatch):
    made, original = [], softmax._by_rows
    monkeypatch.setattr(softmax, "_by_rows", lambda *a: made.append(True) or original(*a))
    y = logits(20, 2000).reshape(4, 5, 2000)
    target = np.random.default_rng(1).integers(-1, 2000, (4, 5))
    loss, kept = CrossEntropy(), y.copy()
    got = [loss(y, target), *loss.value_and_grad(y, target)]
    assert len(made) == 2
    np.testing.assert_array_equal(y, kept)
    monkeypatch.setenv("XPRNN_LOWERING", "off")
    want = [loss(y, target), *loss.value_and_grad(y, target)]
    for a, b in zip(got, want, strict=True):
        assert_close(a, b, 1e-6)
    monkeypatch.setenv("XPRNN_LOWERING", "on")
    value, gradient = loss.value_and_grad(kept, target, overwrite=True)
    assert np.shares_memory(gradient, kept)
    assert_close(value, want[1], 1e-6)
    assert_close(gradient, want[2], 1e-6)
    # NumPy computes what the compiled function does not take, or is too small for it to pay.
    made.clear()
    loss(y.astype("float64"), target)
    loss(y[..., ::2], np.maximum(target, 0) % 1000)
    loss(y[:1, :, :100], np.zeros((1, 5), int))
    assert made == []


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kinds", [1, 3, 90])
def test_sums_of_rows(dtype, kinds, monkeypatch):
    made, original = [], scatter.sum_rows_at
    monkeypatch.setattr(
        scatter, "sum_rows_at", lambda *given: made.append(True) or original(*given)
    )
    rng = np.random.default_rng(0)
    rows, index = rng.normal(size=(1000, 37)).astype(dtype), 7 * rng.integers(0, kinds, 1000)
    found, sums = LIBRARY.sum_by_index(rows, index)
    assert made
    np.testing.assert_array_equal(found, np.unique(index))
    want = np.array([rows[index == k].astype("float64").sum(axis=0) for k in found])
    assert sums.dtype == dtype
    assert_close(sums, want, 1e-13 if dtype == "float64" else 1e-6)
    made.clear()
    # NumPy's own: few equal indices, few rows, rows with gaps.
    for few, places in (
        (rows, np.arange(1000)),
        (rows[:20], index[:20]),
        (np.asfortranarray(rows), index),
    ):
        LIBRARY.sum_by_index(few, places)
    assert made == []
    monkeypatch.setattr(tuning, "INDICATOR_INDICES", 2)
    monkeypatch.setenv("XPRNN_LOWERING", "numpy")
    assert_close(LIBRARY.sum_by_index(rows, index)[1], want, 1e-6)
    assert made == []
