"""Compiled products outside the time loops, and the shapes that they are used for."""

from itertools import product

import numpy as np
import pytest

from tests.closeness import assert_close
from xprnn import RNN, get_backend
from xprnn.backend.host import tuning
from xprnn.backend.libraries import numpy_products
from xprnn.engine.network import loss_and_grad
from xprnn.losses import CrossEntropy
from xprnn.optim import SGD

pytestmark = pytest.mark.slow

numba = pytest.importorskip("numba")

from xprnn.backend.numba import gemm  # noqa: E402

LIBRARY = get_backend("numpy").library
TOLERANCE = {"float64": 1e-13, "float32": 1e-5}


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    monkeypatch.setenv("XPRNN_LOWERING", "numba")


@pytest.fixture
def calls(monkeypatch):
    """Return the list of the compiled products that are called, by name."""
    made = []

    def noted(name):
        function = getattr(gemm, name)
        monkeypatch.setattr(gemm, name, lambda *given: made.append(name) or function(*given))

    for name in ("multiply_nt", "multiply_nn", "multiply_tn"):
        noted(name)
    return made


def matrices(n, depth, columns, dtype, rng=0):
    draw = np.random.default_rng(rng).normal
    return draw(size=(n, depth)).astype(dtype), draw(size=(columns, depth)).astype(dtype)


def exact(a, b):
    return a.astype("float64") @ b.T.astype("float64")


def turned(a):
    return np.ascontiguousarray(a.T)


def compare(found, a, b, name):
    assert found.dtype == a.dtype
    assert_close(found, exact(a, b), TOLERANCE[a.dtype.name], name)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_nt(dtype):
    for n, depth, columns in product((1, 2, 3, 6, 13), (1, 7, 16, 17, 100), (64, 65, 95, 96, 200)):
        a, b = matrices(n, depth, columns, dtype)
        name = f"{n}, {depth}, {columns}"
        found = gemm.multiply_nt(a, b)
        compare(found, a, b, name)
        row = np.arange(columns, dtype=dtype)
        assert_close(gemm.multiply_nt(a, b, row), found + row, TOLERANCE[dtype], name)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_nn(dtype):
    for n, depth, columns in [
        *product((1, 2, 7, 20, 33, 50), (64, 100, 600), (16, 17, 64, 100, 113)),
        (40, 9000, 16),
    ]:
        a, b = matrices(n, depth, columns, dtype)
        compare(gemm.multiply_nn(a, turned(b)), a, b, f"{n}, {depth}, {columns}")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_tn(dtype):
    for n, depth, columns in product((1, 2, 7, 64, 70), (1, 100, 300), (16, 17, 64, 100, 113)):
        a, b = matrices(n, depth, columns, dtype)
        compare(gemm.multiply_tn(turned(a), turned(b)), a, b, f"{n}, {depth}, {columns}")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_add_tn(dtype):
    for n, depth, columns in product((1, 7, 70), (1, 20, 300), (16, 17, 64, 100, 113)):
        a, b = matrices(n, depth, columns, dtype)
        c = np.random.default_rng(1).normal(size=(n, columns)).astype(dtype)
        want = c + exact(a, b)
        # Some columns of a wider matrix, as in the gradient of the logits.
        wide = np.zeros((depth, n + 5), dtype)
        wide[:, 3 : n + 3] = a.T
        gemm.add_tn(wide[:, 3 : n + 3], turned(b), c)
        assert_close(c, want, TOLERANCE[dtype], f"{n}, {depth}, {columns}")


@pytest.mark.parametrize(
    ("n", "depth", "columns"),
    [(20, 50, 301), (301, 50, 70), (70, 50, 64), (20, 900, 40), (61, 300, 41)],
)
def test_the_same_bits_however_many_threads(n, depth, columns, monkeypatch):
    a, b = matrices(n, depth, columns, "float32")
    monkeypatch.setattr(tuning, "PRODUCT_PER_THREAD", 1)
    found = []
    for count in (1, 2, 3, 8):
        monkeypatch.setattr(gemm, "compute_threads", lambda count=count: count)
        added = np.ones((n, columns), "float32")
        gemm.add_tn(turned(a), turned(b), added)
        results = (
            added,
            gemm.multiply_nt(a, b, np.arange(columns, dtype="float32")),
            gemm.multiply_nn(a, turned(b)),
            gemm.multiply_tn(turned(a), turned(b)),
        )
        found.append([result.tobytes() for result in results])
    assert all(result == found[0] for result in found)


def test_products_at_once_wake_other_threads_once(monkeypatch):
    rng = np.random.default_rng(0)
    dv, x, h = (rng.normal(size=(400, n)).astype("float32") for n in (256, 32, 64))
    W = rng.normal(size=(256, 32)).astype("float32")
    few = rng.normal(size=(20, 256)).astype("float32")
    pairs = [(dv.T, h), (dv.T, x), (dv, W), (dv, few.T), (few, W)]
    want = [LIBRARY.product(a, b) for a, b in pairs]
    monkeypatch.setattr(tuning, "TOGETHER_PER_THREAD", 10**6)
    shared, share = [], numpy_products.share
    monkeypatch.setattr(
        numpy_products, "share", lambda part, parts: shared.append(len(parts)) or share(part, parts)
    )
    for count in (1, 2, 3):
        monkeypatch.setattr(numpy_products, "compute_threads", lambda count=count: count)
        shared.clear()
        found, total = LIBRARY.products_at_once(pairs, dv)
        assert [a.tobytes() for a in found] == [a.tobytes() for a in want]
        assert total.tobytes() == LIBRARY.sum_rows(dv).tobytes()
        assert shared == ([count] if count > 1 else [])
        assert LIBRARY.products_at_once(pairs, None)[1] is None
    assert LIBRARY.products_at_once([], None) == ([], None)
    assert LIBRARY.products_at_once([], dv)[1].tobytes() == total.tobytes()


def test_long_sums_are_formed_of_short_ones():
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(6400, 64)).astype("float32") for _ in range(2))
    want = a.T.astype("float64") @ b.astype("float64")
    error = gemm.multiply_tn(a, b) - want
    # One term after the other, it would be 1.4e-6.
    assert np.sqrt(np.mean(error**2)) < 5e-7 * np.sqrt(np.mean(want**2))


def test_which_products_are_compiled(calls):
    def made(a, b, tolerance=1e-5):
        row = np.arange(2 * b.shape[1], dtype="float32")[::2]
        assert_close(LIBRARY.product(a, b, row), row + exact(a, b.T), tolerance, "product and row")
        calls.clear()
        assert_close(LIBRARY.product(a, b), exact(a, b.T), tolerance, "product")
        return "".join(calls).removeprefix("multiply_")

    a, b = matrices(40, 64, 1000, "float32")
    assert made(a, b.T) == "nt"
    a.flags.writeable = b.flags.writeable = False
    assert made(a, b.T) == "nt"
    # Too little to do, too few rows, views with gaps, and other dtypes.
    assert made(a[:2], b.T) == ""
    assert made(a[:3], b[:600].T) == ""
    assert made(a[:, ::2], b[:, ::2].T) == ""
    assert made(a, b.T.astype("float64")) == ""
    assert made(a.astype("float16"), b.T.astype("float16"), 0.01) == ""
    # Few rows of sums over a vocabulary, and the same as columns.
    a, b = matrices(20, 9000, 100, "float32")
    assert made(a, turned(b)) == "nn"
    assert made(np.asfortranarray(b), a.T) == "nn"
    # The gradients of what a layer reads, and of its weights.
    a, b = matrices(800, 256, 32, "float32")
    assert made(a, turned(b)) == "nn"
    assert made(a[:, :200], turned(b)[:200]) == ""
    a, b = matrices(256, 800, 32, "float32")
    assert made(turned(a).T, turned(b)) == "tn"
    # Long sums of many rows and columns.
    a, b = matrices(256, 800, 320, "float32")
    assert made(a, b.T) == "nt"
    assert made(turned(a).T, turned(b)) == "tn"
    assert made(a, turned(b)) == "nn"


def test_a_product_is_added_in_place(monkeypatch):
    made = []
    monkeypatch.setattr(gemm, "add_tn", lambda *_: made.append(True))
    a, b = matrices(300, 20, 64, "float32")
    left, right, place = turned(a), turned(b), np.ones((300, 64), "float32")

    def add(place, left, right):
        made.clear()
        found = LIBRARY.add_product(place, left, right)
        return bool(made), found

    assert add(place, left, right)[0]
    for other, rows in [
        (place.astype("float64"), left),
        (np.asfortranarray(place), left),
        (place, np.repeat(left, 2, axis=1)[:, ::2]),
        (np.ones((2, 64), "float32"), left[:, :2]),
    ]:
        want = other + rows.T.astype("float64") @ right
        compiled, found = add(other, rows, right)
        assert not compiled
        assert_close(found, want, 1e-5, "sum")
    fixed = np.ones((300, 64), "float32")
    fixed.flags.writeable = False
    compiled, found = add(fixed, left, right)
    assert not compiled
    assert (fixed == 1).all()
    assert_close(found, 1 + exact(a, b), 1e-5, "sum")


@pytest.mark.parametrize("word", ["off", "numpy"])
def test_products_without_numba(word, calls, monkeypatch):
    monkeypatch.setenv("XPRNN_LOWERING", word)
    a, b = matrices(40, 64, 1000, "float32")
    assert_close(LIBRARY.product(a, b.T), exact(a, b), 1e-5, "product")
    monkeypatch.setenv("XPRNN_LOWERING", "on")
    monkeypatch.setattr(numpy_products, "why_no_numba", lambda: "Numba is not installed")
    assert_close(LIBRARY.product(a, b.T), exact(a, b), 1e-5, "product")
    assert calls == []


def test_a_network_with_a_vocabulary(calls, monkeypatch):
    net = RNN(4000, 70, 4000, bias=False, dtype="float64", rng=0)
    x, target = np.random.default_rng(0).integers(0, 4000, (2, 5, 3))
    value, gradient = net.value_and_grad(x, target, CrossEntropy("sum"))
    assert set(calls) == {"multiply_nt", "multiply_nn"}
    moved = RNN(4000, 70, 4000, bias=False, dtype="float64", rng=0)
    _, factored, _ = loss_and_grad(moved, x, target, CrossEntropy("sum"), factored=True)
    rule, parameters = SGD(0.1), moved.parameters
    state = rule.init(parameters)
    given = {name: p.copy() for name, p in parameters.items()}
    new, _ = rule.update(factored.parameters, state, given, into=(given, state))
    assert new["readout.weight"] is given["readout.weight"]
    monkeypatch.setenv("XPRNN_LOWERING", "off")
    want, other = net.value_and_grad(x, target, CrossEntropy("sum"))
    assert float(value) == pytest.approx(float(want), rel=1e-13)
    for name in ("readout.weight", "weight_hh_l0"):
        assert_close(gradient.parameters[name], other.parameters[name], 1e-12, name)
        want = parameters[name] - 0.1 * other.parameters[name]
        assert_close(new[name], want, 1e-13, name)
