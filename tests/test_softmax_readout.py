"""The cross-entropy of a readout with many outputs: readout and loss in blocks."""

import numpy as np
import pytest

from tests.closeness import assert_close
from xprnn import RNN, evaluate, fit
from xprnn.backend.host import cut_products, tuning
from xprnn.backend.host.threads import blas_threads
from xprnn.backend.libraries import numpy, numpy_products
from xprnn.data import Batch
from xprnn.engine.gradients import dense
from xprnn.engine.network import loss_and_grad
from xprnn.losses import CrossEntropy

pytest.importorskip("numba")

from xprnn.backend.numba import gemm, softmax_readout
from xprnn.backend.numba.softmax_readout import cut

ROUNDING = 5e-6
"""Sums of some hundred terms in float32, relative to the largest."""
DEEP = {"layers": 2, "bidirectional": True}


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    monkeypatch.setenv("XPRNN_LOWERING", "numba")


@pytest.fixture
def calls(monkeypatch):
    """Return a list that gets the arguments of every call of the compiled code."""
    found = []

    def noted(original):
        def called(*given, **options):
            found.append(options)
            return original(*given, **options)

        return called

    for name in ("softmax_readout", "softmax_of_readout"):
        monkeypatch.setattr(softmax_readout, name, noted(getattr(softmax_readout, name)))
    return found


def problem(N, V, H, *, bias=True, scale=3.0):
    rng = np.random.default_rng(N + V)
    h = rng.uniform(-1, 1, (N, H)).astype("float32")
    R = (scale * rng.normal(size=(V, H)) / np.sqrt(H)).astype("float32")
    r = rng.normal(size=V).astype("float32") if bias else None
    s, w = rng.uniform(0, 2, (2, N)).astype("float32")
    return h, R, r, rng.integers(0, V, N), s, w


def exact(h, R, r, columns, s, w):
    """Return the same as the compiled code, in float64, a line for an equation."""
    h, R, s, w = (a.astype("float64") for a in (h, R, s, w))
    a = h @ R.T + (0 if r is None else r)
    m = a.max(axis=1)
    e = np.exp(a - m[:, None])
    Z, picked = e.sum(axis=1), a[np.arange(len(h)), columns]
    d = e * (s / Z)[:, None]
    d[np.arange(len(h)), columns] -= w
    bias = None if r is None else d.sum(axis=0)
    return softmax_readout.Found(m, Z, picked, d @ R, d, d.T @ h, bias)


def found_names(*, whole, bias=True):
    """Return the names of what is returned."""
    left_out = {"weight" if whole else "logits"} | (set() if bias else {"bias"})
    return [name for name in softmax_readout.Found._fields if name not in left_out]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("N", "V", "H", "rows"),
    [(3, 1024, 16, 9), (20, 5000, 30, 30), (40, 1030, 17, 40), (130, 1300, 21, 50)],
)
def test_each_equation(N, V, H, rows, whole):
    for bias in (False, True):
        given = problem(N, V, H, bias=bias)
        found = softmax_readout.softmax_readout(*given, whole=whole, rows=rows)
        want, names = exact(*given), found_names(whole=whole, bias=bias)
        for name in found._fields:
            if name in names:
                assert_close(getattr(found, name), getattr(want, name), ROUNDING, name)
            else:
                assert getattr(found, name) is None


def test_blocks_and_parts_were_what_the_test_above_needs():
    assert cut(20, 5000).blocks == 2
    assert cut(50, 1300) == (1300, 1, 1)
    assert cut(40, 1030).width % 16, "no whole vectors"
    # As in a batch of a language model.
    assert cut(320, 8000) == (336, 24, 8)
    assert cut(10**6, 2000).width == 64


@pytest.mark.parametrize("whole", [False, True])
def test_a_last_block_that_would_be_less_than_a_vector(whole, monkeypatch):
    monkeypatch.setattr(tuning, "READOUT_BLOCK_COLUMNS", 512)
    for V in (1025, 1036, 1039, 1040):
        given = problem(40, V, 16)
        found = softmax_readout.softmax_readout(*given, whole=whole, rows=40)
        want = exact(*given)
        for name in found_names(whole=whole):
            assert_close(getattr(found, name), getattr(want, name), ROUNDING, name)
    for rows in (3, 20, 70, 320, 10**6):
        for V in range(1024, 9000, 7):
            width, blocks, parts = cut(rows, V)
            assert width * (blocks - 1) + 16 <= V <= width * blocks
            assert parts <= blocks


@pytest.mark.parametrize("whole", [False, True])
def test_the_same_bits_however_many_threads(whole, monkeypatch):
    monkeypatch.setattr(tuning, "PRODUCT_PER_THREAD", 1)
    monkeypatch.setattr(tuning, "READOUT_BLOCK_COLUMNS", 128)
    shared, original = [], softmax_readout.share
    monkeypatch.setattr(
        softmax_readout, "share", lambda do, ks: shared.append(len(ks)) or original(do, ks)
    )
    given, found = problem(70, 1500, 16), []
    for count in (1, 2, 3, 20):
        with blas_threads(count):
            got = softmax_readout.softmax_readout(*given, whole=whole, rows=40)
            rows = 70 if whole else 40
            alone = softmax_readout.softmax_of_readout(*given[:4], rows=rows)
        found.append([None if a is None else a.tobytes() for a in got])
        assert [a.tobytes() for a in alone] == found[0][:3]
    assert all(each == found[0] for each in found)
    # Some parts have several blocks.
    assert cut(35, 1500) == cut(70, 1500) == (96, 16, 8)
    want = exact(*given)
    for name in found_names(whole=whole):
        assert_close(getattr(got, name), getattr(want, name), ROUNDING, name)
    # Forth and back, and the softmax alone, each once or for two halves of the rows.
    times = 3 if whole else 6
    assert shared == [2] * times + [3] * times + [8] * times


def test_nothing_is_written_beyond_the_memory_of_the_blocks(monkeypatch):
    monkeypatch.setattr(tuning, "READOUT_BLOCK_ENTRIES", 2**12)
    made, BEYOND = [], 10_000

    def guarded(shape, dtype):
        size = int(np.prod(shape))
        whole = np.full(size + BEYOND, 7, dtype)
        made.append(whole[size:])
        return whole[:size].reshape(shape)

    monkeypatch.setattr(softmax_readout, "empty", guarded)
    # Two halves of the rows, one of them with one row less, which alone would be cut otherwise.
    most, V = 29, 1024
    assert cut(most, V).width != cut(most - 1, V).width
    given = problem(2 * most - 1, V, 16)
    found = softmax_readout.softmax_readout(*given, whole=False, rows=most)
    softmax_readout.softmax_of_readout(*given[:4], rows=most)
    assert len(made) > 4
    assert all((beyond == 7).all() for beyond in made)
    assert_close(found.weight, exact(*given).weight, ROUNDING)


def test_infinities_and_nan(monkeypatch):
    monkeypatch.setattr(tuning, "READOUT_BLOCK_COLUMNS", 128)
    h, R, r, columns, s, w = problem(5, 1024, 16)
    columns = columns % 100
    r[200:900] = -np.inf  # whole blocks, and parts of others
    found = softmax_readout.softmax_readout(h, R, r, columns, s, w, whole=True, rows=5)
    some = np.r_[0:200, 900:1024]
    want = exact(h, R[some], r[some], columns, s, w)
    assert_close(found.logits[:, some], want.logits, ROUNDING)
    assert_close(found.Z, want.Z, ROUNDING)
    assert not found.logits[:, 200:900].any()
    for value in (np.nan, np.inf):
        h[1, 3] = value
        found = softmax_readout.softmax_readout(h, R, r, columns, s, w, whole=False, rows=5)
        assert np.isnan(found.Z[1])
        assert np.isfinite(np.delete(found.Z, 1)).all()
        assert np.isnan(found.weight).any()


def network(V=1100, hidden=24, **options):
    given = {"bias": True, "dtype": "float32", "rng": 0} | options
    return RNN(V, hidden, V, **given)


CASES = {
    "mean": ({}, CrossEntropy(), {}),
    "sum, no bias": ({"bias": False}, CrossEntropy("sum"), {}),
    "window": ({}, CrossEntropy("sum"), {"window": 2}),
    "class weights": ({}, CrossEntropy(class_weights=tuple(np.linspace(0, 2, 1100))), {}),
    "ignored": ({}, CrossEntropy(ignore_index=-7), {}),
    "weights": ({}, CrossEntropy(), {"weights": np.linspace(0, 1, 6, dtype="float32")}),
    "lengths": (DEEP, CrossEntropy(), {"lengths": [5, 3, 1, 5, 2, 4]}),
    "last": ({"returns": "last", **DEEP}, CrossEntropy("sum"), {"lengths": [5, 3, 1, 5, 2, 4]}),
    "tied": ({"tied": True, "embedding_size": 24}, CrossEntropy(), {}),
    "recompute": ({}, CrossEntropy(), {"recompute": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_network_has_the_gradients_of_plain_array_code(case, calls, monkeypatch):
    options, loss, arguments = CASES[case]
    net, rng = network(**options), np.random.default_rng(1)
    x, shape = rng.integers(0, 1100, (5, 6)), (6,) if "returns" in options else (5, 6)
    target = rng.integers(0, 1100, shape)
    if case == "ignored":
        target[2] = -7
    value, gradient = net.value_and_grad(x, target, loss, **arguments)
    assert len(calls) == 1
    given = {name: arguments[name] for name in ("lengths", "weights") if name in arguments}
    evaluated = evaluate(net, [Batch(x, target, **given)], loss=loss)
    assert len(calls) == 2
    monkeypatch.setenv("XPRNN_LOWERING", "off")
    want, exact_gradient = net.value_and_grad(x, target, loss, **arguments)
    assert len(calls) == 2
    assert_close(value, want, 1e-6)
    assert_close(evaluated, want, 1e-6)
    for name, g in gradient.parameters.items():
        assert_close(dense(g), dense(exact_gradient.parameters[name]), ROUNDING, name)


def test_each_token_has_its_loss(calls):
    net, rng = network(), np.random.default_rng(1)
    x, target = rng.integers(0, 1100, (2, 5, 6))
    loss = CrossEntropy("none")
    value, _, _ = loss_and_grad(net, x, target, loss)
    assert len(calls) == 1
    assert_close(value, loss(net(x)[0], target), 1e-6)


def test_what_it_is_not_used_for(calls):
    class Doubled(CrossEntropy):
        """A user's loss, which changes both."""

        def value_and_grad(self, *given, **options):
            value, gradient = super().value_and_grad(*given, **options)
            return 2 * value, 2 * gradient

    rng = np.random.default_rng(1)
    x, target = rng.integers(0, 1000, (2, 5, 6))
    net = network()
    plain, _ = net.value_and_grad(x, target, CrossEntropy())
    assert len(calls) == 1
    doubled, _ = net.value_and_grad(x, target, Doubled())
    assert_close(doubled, 2 * plain, 1e-6)
    net.value_and_grad(x, target, CrossEntropy(label_smoothing=0.1))
    network(V=1023).value_and_grad(x, target, CrossEntropy())
    network(hidden=8).value_and_grad(x, target, CrossEntropy())
    network(dtype="float64").value_and_grad(x, target, CrossEntropy())
    net.value_and_grad(x[:1, :2], target[:1, :2], CrossEntropy())
    net.parameters["readout.weight"] = np.asfortranarray(net.parameters["readout.weight"])
    net.value_and_grad(x, target, CrossEntropy())
    assert len(calls) == 1


def test_a_training_keeps_the_gradient_factored(calls):
    rng = np.random.default_rng(1)
    x, target = rng.integers(0, 3000, (2, 3, 4))
    net = network(V=3000, hidden=100)
    fit(net, (x, target), loss="cross_entropy", epochs=1)
    assert [options["whole"] for options in calls] == [True]
    fit(net, (np.tile(x, (9, 1)), np.tile(target, (9, 1))), loss="cross_entropy", epochs=1)
    assert [options["whole"] for options in calls] == [True, False]
    # The embedding reads the same weight, whose gradient is the sum of both and so dense.
    tied = network(V=3000, hidden=100, tied=True, embedding_size=100)
    fit(tied, (x, target), loss="cross_entropy", epochs=1)
    assert [options["whole"] for options in calls] == [True, False, False]


@pytest.mark.parametrize("lowering", ["numba", "numpy"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_there_is_never_memory_for_all_logits(dtype, lowering, monkeypatch):
    monkeypatch.setenv("XPRNN_LOWERING", lowering)
    monkeypatch.setattr(tuning, "READOUT_ROWS", 16)
    monkeypatch.setattr(tuning, "READOUT_ENTRIES", 2**14)
    net, rng = network(dtype=dtype), np.random.default_rng(1)
    x, target = rng.integers(0, 1100, (2, 40, 6))
    sizes = []

    def noted(make):
        def made(shape, *rest):
            sizes.append(int(np.prod(shape)))
            return make(shape, *rest)

        return made

    for module in (numpy, numpy_products, softmax_readout, gemm, cut_products):
        if hasattr(module, "empty"):
            monkeypatch.setattr(module, "empty", noted(module.empty))
    got = net.value_and_grad(x, target, CrossEntropy())
    evaluated = evaluate(net, (x, target), loss=CrossEntropy())
    assert 0 < max(sizes) < 240 * 1100 / 5
    monkeypatch.setattr(tuning, "READOUT_COLUMNS", 10**9)
    want = net.value_and_grad(x, target, CrossEntropy())
    assert max(sizes) >= 240 * 1100
    tolerance = ROUNDING if dtype == "float32" else 1e-13
    assert_close(got[0], want[0], tolerance)
    assert_close(evaluated, want[0], tolerance)
    for name, g in got[1].parameters.items():
        assert_close(dense(g), dense(want[1].parameters[name]), tolerance, name)
