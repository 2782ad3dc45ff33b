"""Losses with options, weights and reductions; torch is the judge in float64."""

import numpy as np
import pytest

from tests.closeness import assert_close
from tests.optional import optional
from xprnn import RNN, evaluate, fit, get_backend
from xprnn.data import Batch, chunks, minibatches
from xprnn.engine.gradients import dense
from xprnn.losses import (
    LOSSES,
    BinaryCrossEntropy,
    CrossEntropy,
    ElementwiseLoss,
    GaussianNLL,
    Huber,
    PoissonNLL,
    SquaredError,
    get_loss,
)
from xprnn.optim import SGD
from xprnn.testing import check_gradients

torch = optional("torch")

T, B, K, V = 4, 3, 2, 5
JUDGE = 1e-12
RNG = np.random.default_rng(0)
Y = 2 * RNG.normal(size=(T, B, 2 * K))
LOGITS = 3 * RNG.normal(size=(T, B, V))
TOKENS = RNG.integers(0, V, size=(T, B))
TOKENS[1, 2] = -1
REAL = RNG.normal(size=(T, B, K))
SHARES = RNG.uniform(size=(T, B, K))
COUNTS = RNG.poisson(2.0, size=(T, B, K)).astype(float)
CLASS_WEIGHTS = (0.5, 2.0, 0.0, 1.0, 3.0)

W_STEP = RNG.uniform(0.0, 2.0, size=(T, B))
W_STEP[2, 1] = 0


def gaussian(y, target):
    mean, s = y[..., :K], y[..., K:]
    return torch.nn.functional.gaussian_nll_loss(
        mean, target, s.exp(), full=True, eps=0, reduction="none"
    )


F = torch.nn.functional
ENTRYWISE = {
    "squared error": (SquaredError, {}, lambda y, t: 0.5 * (y[..., :K] - t) ** 2, REAL),
    "huber": (Huber, {}, lambda y, t: F.huber_loss(y[..., :K], t, reduction="none"), REAL),
    "huber, wide": (
        Huber,
        {"delta": 2.5},
        lambda y, t: F.huber_loss(y[..., :K], t, reduction="none", delta=2.5),
        REAL,
    ),
    "binary": (
        BinaryCrossEntropy,
        {},
        lambda y, t: F.binary_cross_entropy_with_logits(y[..., :K], t, reduction="none"),
        SHARES,
    ),
    "poisson": (
        PoissonNLL,
        {},
        lambda y, t: F.poisson_nll_loss(y[..., :K], t, reduction="none"),
        COUNTS,
    ),
    "gaussian": (GaussianNLL, {}, gaussian, REAL),
}
WEIGHTS = {
    "none": None,
    "sequences": RNG.uniform(0.5, 2.0, size=B),
    "steps": W_STEP,
    "entries": RNG.uniform(0.0, 2.0, size=(T, B, K)),
}


def spread(weights, shape):
    """Return weights for each entry of a target of that shape."""
    if weights is None:
        return np.ones(shape)
    return np.broadcast_to(weights if weights.ndim == 3 else weights[..., None], shape).copy()


def mask_of(weights):
    """Return weights in the form that a loss takes."""
    if weights is None or weights.ndim == 3:
        return weights
    return np.broadcast_to(weights, (T, B))[..., None]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("name", ENTRYWISE)
def test_torch_agrees(harness, name, weights, reduction):
    kind, options, theirs, target = ENTRYWISE[name]
    y = Y if kind is GaussianNLL else Y[..., :K]
    leaf = torch.tensor(y, requires_grad=True)
    w = torch.tensor(spread(WEIGHTS[weights], target.shape))
    each = w * theirs(leaf, torch.tensor(target))
    want = {"mean": each.sum() / w.sum(), "sum": each.sum(), "none": each}[reduction]
    (d_want,) = torch.autograd.grad(want.sum(), [leaf])

    loss = kind(reduction, **options)
    mask = mask_of(WEIGHTS[weights])
    extra = () if mask is None else (harness.array(mask.copy()),)
    out, t = harness.array(y), loss.check(y.shape, harness.array(target), harness.backend)
    value, d = loss.value_and_grad(out, t, *extra)
    assert_close(harness.host(value), want.detach(), JUDGE)
    assert_close(harness.host(d), d_want, JUDGE)
    assert_close(harness.host(loss(out, t, *extra)), want.detach(), JUDGE)
    assert loss.entries(t, *extra) == pytest.approx(float(w.sum()))
    assert harness.host(out).tolist() == y.tolist()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("class_weights", [None, CLASS_WEIGHTS], ids=["all alike", "classes"])
def test_cross_entropy_of_torch(harness, class_weights, smoothing, reduction):
    leaf = torch.tensor(LOGITS, requires_grad=True)
    want = F.cross_entropy(
        leaf.reshape(-1, V),
        torch.tensor(TOKENS).reshape(-1),
        weight=None if class_weights is None else torch.tensor(class_weights, dtype=leaf.dtype),
        ignore_index=-1,
        label_smoothing=smoothing,
        reduction=reduction,
    )
    (d_want,) = torch.autograd.grad(want.sum(), [leaf])
    loss = CrossEntropy(reduction, class_weights, smoothing)
    out = harness.array(LOGITS)
    target = loss.check(LOGITS.shape, harness.array(TOKENS), harness.backend)
    value, d = loss.value_and_grad(out, target)
    shape = (T, B) if reduction == "none" else ()
    assert_close(harness.host(value), want.detach().reshape(shape), JUDGE)
    assert_close(harness.host(d), d_want, JUDGE)
    assert_close(harness.host(loss(out, target)), want.detach().reshape(shape), JUDGE)
    assert harness.host(out).tolist() == LOGITS.tolist()
    _, again = loss.value_and_grad(harness.backend.asarray(LOGITS), target, overwrite=True)
    assert_close(harness.host(again), d_want, JUDGE)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_of_cross_entropy(harness, smoothing):
    leaf = torch.tensor(LOGITS, requires_grad=True)
    options = {"weight": torch.tensor(CLASS_WEIGHTS, dtype=leaf.dtype), "ignore_index": -1}
    target = torch.tensor(TOKENS).reshape(-1)
    each = F.cross_entropy(
        leaf.reshape(-1, V), target, **options, label_smoothing=smoothing, reduction="none"
    )
    w, exist = torch.tensor(W_STEP).reshape(-1), target != -1
    total = (w * options["weight"][target.clamp(min=0)] * exist).sum()
    want = (w * each).sum() / total
    (d_want,) = torch.autograd.grad(want, [leaf])
    loss = CrossEntropy("mean", CLASS_WEIGHTS, smoothing)
    t = loss.check(LOGITS.shape, harness.array(TOKENS), harness.backend)
    mask = harness.array(W_STEP[..., None])
    value, d = loss.value_and_grad(harness.array(LOGITS), t, mask)
    assert_close(harness.host(value), want.detach(), JUDGE)
    assert_close(harness.host(d), d_want, JUDGE)
    assert loss.entries(t, mask) == pytest.approx(float(total))


def test_class_weights_count_where_steps_exist(harness):
    loss = CrossEntropy(class_weights=CLASS_WEIGHTS)
    target = loss.check(LOGITS.shape, harness.array(TOKENS), harness.backend)
    assert loss.entries(target) == np.asarray(CLASS_WEIGHTS)[TOKENS[TOKENS != -1]].sum()
    exists = np.arange(T)[:, None] < np.arange(B) + 1
    total = np.asarray(CLASS_WEIGHTS)[TOKENS[exists & (TOKENS != -1)]].sum()
    assert loss.entries(target, harness.array(exists[..., None])) == total
    assert float(loss.count(target, harness.array(exists[..., None]))) == pytest.approx(total)


def test_cross_entropy_in_blocks_is_the_same(monkeypatch):
    loss = CrossEntropy("none", CLASS_WEIGHTS, 0.2)
    want = loss.value_and_grad(LOGITS.copy(), TOKENS)
    monkeypatch.setattr("xprnn.losses.cross_entropy.BLOCK", 3 * V)
    for overwrite in (False, True):
        got = loss.value_and_grad(LOGITS.copy(), TOKENS, overwrite=overwrite)
        assert np.array_equal(got[0], want[0])
        assert np.array_equal(got[1], want[1])


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_of_a_network_in_float64(name):
    loss = get_loss(name)
    net = RNN(2, 3, 4, cell="gru", dtype="float64", rng=0)
    x = RNG.normal(size=(T, B, 2))
    target = {
        "cross_entropy": TOKENS % 4,
        "gaussian": REAL,
        "poisson": np.tile(COUNTS, 2),
        "binary_cross_entropy": np.tile(SHARES, 2),
    }.get(name, np.tile(REAL, 2))
    check_gradients(net, x, target=target, loss=loss, lengths=[4, 2, 3])


def problem():
    net = RNN(2, 3, K, cell="gru", dtype="float64", rng=0)
    return net, RNG.normal(size=(T, B, 2)), REAL


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_a_weight_of_two_is_the_sequence_twice(loss):
    net, x, target = problem()
    weights = np.array([1.0, 2.0, 1.0])
    twice = [0, 1, 1, 2]
    value, gradient = net.value_and_grad(x, target, loss, weights=weights, lengths=[4, 2, 3])
    other, repeated = net.value_and_grad(x[:, twice], target[:, twice], loss, lengths=[4, 2, 2, 3])
    assert float(value) == pytest.approx(float(other), rel=1e-13)
    for name, g in gradient.parameters.items():
        assert_close(g, repeated.parameters[name], 1e-12)


def test_a_weight_of_zero_is_padding():
    net, x, target = problem()
    lengths = [4, 2, 3]
    weights = (np.arange(T)[:, None] < lengths).astype(float)
    value, gradient = net.value_and_grad(x, target, weights=weights)
    other, padded = net.value_and_grad(x, target, lengths=lengths)
    assert float(value) == pytest.approx(float(other), rel=1e-13)
    assert_close(gradient.parameters["weight_hh_l0"], padded.parameters["weight_hh_l0"], 1e-12)
    both, _ = net.value_and_grad(x, target, lengths=lengths, weights=np.ones(B))
    assert float(both) == pytest.approx(float(other), rel=1e-13)


def test_the_last_output_has_a_weight_per_sequence(harness):
    net = RNN(2, 3, K, returns="last", backend=harness.backend, rng=0)
    x, target = harness.array(RNG.normal(size=(T, B, 2))), harness.array(REAL[0])
    weights = np.array([0.0, 1.0, 3.0])
    value, _ = net.value_and_grad(x, target, weights=harness.array(weights))
    each, _ = net.value_and_grad(x, target, loss=SquaredError("none"))
    want = (harness.host(each) * weights[:, None]).sum() / (K * weights.sum())
    assert float(harness.host(value)) == pytest.approx(want, rel=1e-12)


def test_training_with_weights_is_training_with_repetition():
    weights, twice = np.array([1.0, 2.0, 0.0]), [0, 1, 1]
    found = []
    for batch in (
        lambda x, t: Batch(x, t, weights=weights),
        lambda x, t: (x[:, twice], t[:, twice]),
    ):
        net, _, target = problem()
        x = np.random.default_rng(3).normal(size=(T, B, 2))
        data = batch(x, target)
        history = fit(net, data, optimizer=SGD(0.1), epochs=3)
        found.append((history.loss, evaluate(net, data), net.parameters["weight_hh_l0"]))
    (loss, total, p), (want_loss, want_total, want_p) = found
    assert_close(loss, want_loss, 1e-12)
    assert total == pytest.approx(want_total, rel=1e-12)
    assert_close(p, want_p, 1e-12)


def test_accumulation_weighs_batches_by_their_weights():
    found = []
    w = np.array([0.5, 2.0, 1.0])
    for together in (True, False):
        net, _, target = problem()
        x = np.random.default_rng(3).normal(size=(T, B, 2))
        if together:
            fit(net, Batch(x, target, weights=w), optimizer=SGD(0.1))
        else:
            data = list(minibatches(x, target, 1, shuffle=False, weights=w))
            fit(net, data, optimizer=SGD(0.1), accumulate=3)
        found.append(net.parameters["weight_hh_l0"])
    assert_close(found[1], found[0], 1e-12)


def test_a_batch_without_weight_makes_no_update():
    net, x, target = problem()
    before = net.parameters["bias_l0"].copy()
    batches = [Batch(x, target, weights=np.zeros(B)), Batch(x, target, weights=np.zeros((T, B)))]
    with pytest.raises(ValueError, match=r"nothing .*weight 0"):
        fit(net, batches, optimizer=SGD(0.1))
    assert np.array_equal(net.parameters["bias_l0"], before)
    with pytest.raises(ValueError, match=r"nothing to evaluate: .*weight 0"):
        evaluate(net, batches[0])


@pytest.mark.parametrize("kind", ["sequences", "steps", "entries"])
def test_batches_take_their_part_of_the_weights(harness, kind):
    x, target = harness.array(np.zeros((T, B, 1))), harness.array(REAL)
    w = WEIGHTS[kind]
    order, weights = [], harness.array(w)
    for batch in minibatches(x, target, 2, weights=weights, rng=1):
        order.append(harness.host(batch.weights))
        picked = harness.host(batch.target)
        for k in range(picked.shape[1]):
            (of,) = [j for j in range(B) if np.array_equal(picked[:, k], REAL[:, j])]
            own = order[-1][k] if kind == "sequences" else order[-1][:, k]
            assert np.array_equal(own, w[of] if kind == "sequences" else w[:, of])
    pieces = [harness.host(c.weights) for c in chunks(x, target, 3, weights=weights)]
    if kind == "sequences":
        assert all(np.array_equal(piece, w) for piece in pieces)
    else:
        assert np.array_equal(np.concatenate(pieces), w)


@pytest.mark.parametrize("name", LOSSES)
def test_no_entries_have_no_loss(harness, name):
    loss = get_loss(name)
    y = harness.array(np.zeros((3, 0, 2)))
    shape = {"cross_entropy": (3, 0), "gaussian": (3, 0, 1)}.get(name, (3, 0, 2))
    target = harness.array(np.zeros(shape))
    if name == "cross_entropy":
        target = harness.backend.asarray(np.zeros(shape, dtype=int))
    value, d = loss.value_and_grad(y, target)
    assert harness.host(value) == 0
    assert d.shape == (3, 0, 2)


@pytest.mark.parametrize("y", [-1e4, 1e4])
def test_large_outputs_stay_finite(y):
    for loss, target in ((BinaryCrossEntropy(), 1.0), (BinaryCrossEntropy(), 0.0), (Huber(), 0.0)):
        value, d = loss.value_and_grad(np.full((1, 1), y), np.full((1, 1), target))
        assert np.isfinite(value)
        assert np.isfinite(d).all()


def test_half_precision_sums_in_float32():
    loss, y = Huber("sum"), np.full((300, 300, 1), 2.0, dtype="float16")
    value, d = loss.value_and_grad(y, np.zeros_like(y))
    assert value.dtype == np.float32
    assert float(value) == 1.5 * 90000
    assert d.dtype == np.float16


class Wrong(ElementwiseLoss):
    def each(self, xp, y, target):
        del xp
        return (y - target) ** 2, y - target


def test_a_loss_of_ones_own_is_proven():
    net, x, target = problem()
    with pytest.raises(AssertionError, match="weight"):
        check_gradients(net, x, target=target, loss=Wrong())


BAD = [
    (lambda: Huber(delta=0), "delta is 0"),
    (lambda: CrossEntropy(label_smoothing=1.0), "label_smoothing is 1"),
    (lambda: CrossEntropy(ignore_index=0), "ignore_index is 0: expected an int below 0"),
    (lambda: CrossEntropy(class_weights=(1, -1)), r"class_weights\[1\] is -1"),
    (lambda: CrossEntropy(class_weights=(0, 0)), "class_weights are all zero"),
    (
        lambda: CrossEntropy(class_weights=(1, 1)).check((1, 1, 3), np.zeros((1, 1), int), BE),
        "class_weights has 2 entries: expected one for each of the 3 classes",
    ),
    (lambda: CrossEntropy(class_weights=(1, np.inf)), r"class_weights\[1\] is inf"),
    (
        lambda: weighted(np.ones((T, B, 1))),
        r"weights has shape \(4, 3, 1\): expected \(3,\) or \(4, 3\) or \(4, 3, 2\), a weight for",
    ),
    (lambda: weighted(np.ones(())), r"weights has shape \(\): expected"),
    (lambda: GaussianNLL().check((1, 1, 3), REAL[:1, :1], BE), "even number"),
    (lambda: BinaryCrossEntropy().check((T, B, K), REAL, BE), "below 0 or above 1"),
    (lambda: PoissonNLL().check((T, B, K), -COUNTS, BE), "negative"),
    (lambda: weighted(np.ones((B, T))), r"weights has shape \(3, 4\): expected \(3,\) or \(4, 3\)"),
    (lambda: weighted(np.ones(T)), r"weights has shape \(4,\)"),
    (lambda: weighted(np.array([1.0, -1.0, 0.0])), "weights has -1 in it"),
    (lambda: weighted(np.array([1.0, np.nan, 0.0])), r"weights\[1\] is nan"),
    (lambda: weighted(np.zeros(B)), "weights are all zero"),
    (lambda: minibatches(REAL, REAL, 2, weights=np.ones(7)), r"weights has shape \(7,\)"),
    (lambda: fit(*problem()[:1], (REAL, REAL), loss=Huber("none")), "'mean' or 'sum'"),
]
BE = get_backend("numpy", dtype="float64")


def weighted(weights):
    net, x, target = problem()
    return net.value_and_grad(x, target, weights=weights)


@pytest.mark.parametrize(("make", "match"), BAD)
def test_bad_values(make, match):
    with pytest.raises(ValueError, match=match):
        make()


class Unweighted(SquaredError):  # noqa: N818
    takes_weights = False


def test_bad_types():
    for given, words in (
        (3, "3"),
        ((), r"\(\)"),
        ({0: 0.5, 1: 2.0}, r"\{0: 0\.5, 1: 2\.0\}"),
        (np.ones((3, 1)), r"numpy\.ndarray of shape \(3, 1\) and dtype float64"),
    ):
        with pytest.raises(TypeError, match=f"class_weights is {words}: expected a list with a nu"):
            CrossEntropy(class_weights=given)
    with pytest.raises(TypeError, match=r"ignore_index is 1\.5"):
        CrossEntropy(ignore_index=1.5)
    with pytest.raises(TypeError, match="weights has dtype int64: expected floats"):
        weighted(np.ones(B, dtype=int))
    with pytest.raises(TypeError, match="weights is a list"):
        weighted([1.0, 2.0, 3.0])
    net, x, target = problem()
    with pytest.raises(TypeError, match="takes no weights"):
        net.value_and_grad(x, target, Unweighted(), weights=np.ones(B))


WITH_GAPS = np.array([[0, 1, 1], [1, 0, 1], [1, 0, 1], [0, 0, 1]], dtype=bool)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weights", ["none", "sequences", "steps", "entries"])
@pytest.mark.parametrize("name", [*ENTRYWISE, "cross_entropy", "cross_entropy, all options"])
def test_every_loss_of_a_network_with_weights_and_missing_steps(name, weights, reduction):
    """Torch has the loss of each entry and its gradient; the network carries that back."""
    w = WEIGHTS[weights]
    if name.startswith("cross_entropy"):
        options = {} if name == "cross_entropy" else EVERY_OPTION
        loss, size = CrossEntropy(reduction, **options), V
        ignored = options.get("ignore_index", -1)
        target = np.where(TOKENS == -1, ignored, TOKENS)
        c = torch.tensor(options.get("class_weights", np.ones(V)), dtype=torch.float64)
        if w is not None and w.ndim == 3:
            w = w[..., 0]  # an entry of the target is a step here

        def theirs(y, t):
            kept = {"ignore_index": ignored, "label_smoothing": loss.label_smoothing}
            each = F.cross_entropy(y.reshape(-1, V), t.reshape(-1), c, reduction="none", **kept)
            return each.reshape(t.shape)

        counts = np.where(target == ignored, 0.0, c.numpy()[np.maximum(target, 0)])
        spread_w = np.ones((T, B)) if w is None else np.broadcast_to(w, (T, B))
        exists = WITH_GAPS
    else:
        kind, options, theirs, target = ENTRYWISE[name]
        loss, size = kind(reduction, **options), 2 * K if kind is GaussianNLL else K
        counts, spread_w = np.ones(target.shape), spread(w, target.shape)
        exists = WITH_GAPS[..., None]
    net = RNN(2, 3, size, cell="gru", dtype="float64", rng=0)
    x = np.random.default_rng(4).normal(size=(T, B, 2))
    run = net.forward(x, mask=WITH_GAPS)
    leaf = torch.tensor(run.output, requires_grad=True)
    counted = torch.tensor(spread_w * exists)
    each = counted * theirs(leaf, torch.tensor(target))
    total = (counted * torch.tensor(counts)).sum()
    want = {"mean": each.sum() / total, "sum": each.sum(), "none": each}[reduction]
    (d_want,) = torch.autograd.grad(want.sum(), [leaf])
    value, gradient = net.value_and_grad(x, target, loss, weights=w, mask=WITH_GAPS)
    assert_close(value, want.detach(), JUDGE)
    expected = net.backward(run, d_want.numpy())
    for key, g in gradient.parameters.items():
        assert_close(dense(g), dense(expected.parameters[key]), JUDGE)


EVERY_OPTION = {
    "class_weights": CLASS_WEIGHTS,
    "label_smoothing": 0.2,
    "ignore_index": -100,
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_mean_over_nothing_is_zero(name):
    """Where torch's is NaN."""
    loss, size = get_loss(name), 2 * K if name == "gaussian" else K
    net = RNN(2, 3, size, dtype="float64", rng=0)
    target = np.zeros((T, B), int) if name == "cross_entropy" else np.ones((T, B, K))
    x = np.ones((T, B, 2))
    for options in ({"mask": np.zeros((T, B), bool)}, {"lengths": [0] * B}):
        value, gradient = net.value_and_grad(x, target, loss, **options)
        assert value == 0
        assert not any(np.any(dense(g)) for g in gradient.parameters.values())
    value, _ = net.value_and_grad(x[:, :0], target[:, :0], loss)
    assert value == 0
