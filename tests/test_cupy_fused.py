"""Operations in kernels of our own, against the same on NumPy: on a stand-in for the device."""

import numpy as np
import pytest

from tests import cuda_host, device_arrays
from tests.closeness import assert_close
from tests.device_arrays import on_device
from xprnn.backend.host.floats import host_float
from xprnn.backend.libraries import cupy_fused as fused
from xprnn.engine.gradients import SparseGradient, add, dense, sum_columns, sum_rows
from xprnn.losses import CrossEntropy, SquaredError
from xprnn.optim import clip_by_norm, global_norm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(cuda_host.COMPILER is None, reason="there is no C++ compiler"),
]


@pytest.fixture(autouse=True)
def device():
    with device_arrays.device_arrays():
        yield


def on_numpy(a):
    """Return an array in a dtype that NumPy has."""
    return a.astype(host_float(a.dtype.name))


def host(a):
    return np.array(a.view(np.ndarray))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("bad", [None, 0, 7, 599])
def test_the_first_entry_that_is_not_finite(bad, dtype):
    good, a = np.ones(3, dtype), np.ones((6, 100), dtype)
    if bad is not None:
        a.flat[bad], a.flat[min(bad + 300, 599)] = np.nan, -np.inf
    found = fused.answers()
    fused.ask_finite([on_device(good), on_device(a)], found)
    assert host(found)[:3].tolist() == [0, 0 if bad is None else 600 - bad, 0]


def test_arrays_of_several_dtypes_that_are_not_finite():
    """Half of a good float32 is the bits of an infinite float16."""
    good = np.full(4, 0x3F807C00, np.uint32).view(np.float32)
    arrays = [np.ones(3, "float16"), good, np.array([1, np.nan]), np.ones(2, "float16")]
    found = fused.answers()
    fused.ask_finite([on_device(a) for a in arrays], found)
    assert host(found)[:5].tolist() == [0, 0, 1, 0, 0]


@pytest.mark.parametrize(("value", "good"), [(0, True), (4, True), (5, False), (-1, False)])
@pytest.mark.parametrize("ignored", [None, -1])
def test_the_first_token_out_of_range(value, good, ignored):
    a, found = np.full((2, 300), 3), fused.answers()
    a[1, 7] = value
    fused.ask_in_range(on_device(a), 5, ignored, found[2:])
    assert host(found)[2] == (0 if good or value == ignored else 600 - 307)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    ("dtype", "masked"),
    [("float16", True), ("bfloat16", True), ("float32", False), ("float64", True)],
)
def test_cross_entropy(dtype, masked, reduction):
    rng = np.random.default_rng(0)
    y = (4 * rng.normal(size=(3, 5, 300))).astype(dtype)
    target = rng.integers(-1, 300, (3, 5))
    target[0, 0] = -1
    mask = (rng.random((3, 5, 1)) < 0.7,) if masked else ()
    loss = CrossEntropy(reduction)
    want, d = loss.value_and_grad(on_numpy(y), target, *mask)
    tolerance = {"float16": 2e-3, "bfloat16": 1e-2, "float32": 2e-6, "float64": 1e-13}[dtype]
    for overwrite in (False, True):
        there = [on_device(a.copy()) for a in (y, target, *mask)]
        got, d_there = loss.value_and_grad(*there, overwrite=overwrite)
        assert got.dtype == want.dtype
        assert d_there.dtype == dtype
        assert_close(host(got), want, tolerance)
        assert_close(host(d_there).astype("f8"), d.astype("f8"), tolerance, floor=tolerance)
    there = [on_device(a) for a in (y, target, *mask)]
    assert_close(host(loss(*there)), want, tolerance)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    ("dtype", "masked"),
    [("float16", True), ("bfloat16", True), ("float32", False), ("float64", True)],
)
def test_squared_error(dtype, masked, reduction):
    rng = np.random.default_rng(0)
    y, target = rng.normal(size=(2, 30, 20, 3)).astype(dtype)
    mask = (rng.random((30, 20, 1)) < 0.7,) if masked else ()
    loss = SquaredError(reduction)
    want, d = loss.value_and_grad(on_numpy(y), on_numpy(target), *mask)
    there = [on_device(a) for a in (y, target, *mask)]
    got, d_there = loss.value_and_grad(*there)
    tolerance = {"float16": 2e-3, "bfloat16": 1e-2, "float32": 1e-6, "float64": 1e-14}[dtype]
    assert got.dtype == want.dtype
    assert_close(host(got), want, tolerance)
    assert_close(host(d_there).astype("f8"), d.astype("f8"), tolerance, floor=tolerance)
    assert_close(host(loss(*there)), want, tolerance)


def test_losses_of_nothing_are_zero():
    none = on_device(np.zeros((2, 0, 3)))
    for loss, target in (
        (SquaredError(), none),
        (CrossEntropy(), on_device(np.zeros((2, 0), int))),
    ):
        value, d = loss.value_and_grad(none, target)
        assert float(value) == 0
        assert d.shape == (2, 0, 3)


@pytest.mark.parametrize("scale", [1.0, 1e160, 1e-30])
def test_the_norm_of_many_arrays(scale):
    rng = np.random.default_rng(0)
    arrays = {f"{k}": scale * rng.normal(size=(40, 3 + k)) for k in range(19)}
    want = scale * np.sqrt(sum(np.sum((a / scale) ** 2) for a in arrays.values()))
    there = {name: on_device(a) for name, a in arrays.items()}
    assert float(global_norm(there)) == pytest.approx(want, rel=1e-14)
    for limit in (want / 7, want * 7):
        clipped, norm = clip_by_norm(there, limit)
        assert float(norm) == pytest.approx(want, rel=1e-14)
        for name, a in arrays.items():
            assert_close(host(clipped[name]), a * min(1, limit / want), 1e-14)


def test_a_gradient_that_is_nan_stays_nan():
    clipped, norm = clip_by_norm({"a": on_device(np.array([1.0, np.nan]))}, 1.0)
    assert np.isnan(host(norm))
    assert np.isnan(host(clipped["a"])).all()


@pytest.mark.parametrize("count", [5, 40, 2000])
@pytest.mark.parametrize("n", [1, 30, 700])
def test_sums_of_rows_by_index(n, count):
    rng = np.random.default_rng(0)
    rows, index = rng.normal(size=(n, 3)), rng.integers(0, count, n)
    indices, sums = map(host, fused.sum_by_index(on_device(rows), on_device(index), count))
    distinct = np.unique(index)
    assert len(indices) == min(n, count)
    np.testing.assert_array_equal(indices[: len(distinct)], distinct)
    assert (indices[len(distinct) :] == count).all()
    assert (sums[len(distinct) :] == 0).all()
    for k, total in zip(indices, sums, strict=True):
        expected = np.zeros(3)
        for row in rows[index == k]:
            expected = expected + row
        np.testing.assert_array_equal(total, expected)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("add", [False, True])
def test_indices_past_the_end_are_left_out(add, axis):
    held = on_device(np.zeros((5, 3)))
    values, index = np.arange(1.0, 7.0).reshape(2, 3), on_device(np.array([1, 4]))
    # The matrix has four rows, or columns; behind them lies memory of somebody else.
    a = held[:4] if axis == 0 else held.ravel()[:12].reshape(3, 4)
    fused.scatter(a, index, on_device(values if axis == 0 else values.T), axis, add=add)
    want = np.zeros((4, 3))
    want[1] = values[0]
    np.testing.assert_array_equal(host(a), want if axis == 0 else want.T)
    assert not host(held)[4].any()


@pytest.mark.parametrize("make", [sum_rows, sum_columns])
def test_sparse_gradients(make):
    rng = np.random.default_rng(0)
    rows, index = rng.normal(size=(30, 3)), rng.integers(0, 9, 30)
    more, others = rng.normal(size=(8, 3)), rng.integers(0, 9, 8)
    want = [make(r, i, 9) for r, i in ((rows, index), (more, others))]
    got = [make(on_device(r), on_device(i), 9) for r, i in ((rows, index), (more, others))]
    assert isinstance(got[0], SparseGradient)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(host(dense(a)), dense(b), 1e-13)
    np.testing.assert_allclose(host(dense(add(*got))), dense(add(*want)), 1e-13)
