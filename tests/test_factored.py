"""Factored gradients: they compute as their dense form does, without a matrix of its size."""

import tracemalloc

import numpy as np
import pytest

from tests.cases import CASES, row_of
from tests.closeness import FLOAT64, assert_all_close, assert_close, between_backends
from tests.harness import on_every_backend, on_flavours
from tests.optimizers import KINDS, RULES, each_rule
from tests.resuming import assert_resumes
from xprnn import RNN, fit
from xprnn.backend.host import tuning
from xprnn.backend.libraries.numpy import NumPy
from xprnn.data import minibatches
from xprnn.engine.gradients import (
    FactoredGradient,
    SparseGradient,
    add,
    clipped,
    dense,
    entries,
    largest_size,
    plus,
    plus_times,
    square_sum,
    times,
)
from xprnn.engine.network import loss_and_grad
from xprnn.engine.stack import backward
from xprnn.losses import CrossEntropy, SquaredError
from xprnn.optim import (
    SGD,
    Adam,
    Averaged,
    ParameterGroups,
    clip_by_norm,
    clip_by_value,
    global_norm,
)
from xprnn.testing.parity.slack import _disturbed, _same_sign
from xprnn.training.accumulation import Accumulation

N, M, K = 3, 11, 7
FLOAT32 = 1e-4
"""For updates in float32: a rule that divides by the gradient's size magnifies its rounding."""


def factors(seed: object = 0, shape: tuple[int, int, int] = (N, M, K)):
    """Return left and right on the host."""
    rng, (n, m, k) = np.random.default_rng(seed), shape
    return rng.normal(size=(n, m)), rng.normal(size=(n, k))


def factored(array, left, right) -> FactoredGradient:
    return FactoredGradient(array(left), array(right))


def both(harness, seed: object = 0):
    """Return a factored gradient on a backend, and its dense form on the host."""
    left, right = factors(seed)
    return factored(harness.array, left, right), left.T @ right


@pytest.fixture(params=[2 * K, 1], ids=["blocks", "rows"])
def _blocks(request, monkeypatch):
    monkeypatch.setattr(tuning, "BLOCK_ENTRIES", request.param)


each_size = pytest.mark.usefixtures("_blocks")
# The other libraries update the whole array at once.
on_numpy = on_flavours("numpy", "numpy-readonly")
INTO = ("nothing", "in place", "the ones before")
each_dtype = pytest.mark.parametrize("dtype", ["float64", "float32"])


def test_the_whole_matrix(harness):
    g, want = both(harness)
    assert g.shape == want.shape == (M, K)
    assert_close(harness.host(g.to_dense()), want, FLOAT64)
    assert_close(harness.host(dense(g)), want, FLOAT64)
    assert_close(harness.host(g.rows(slice(2, 5)).to_dense()), want[2:5], FLOAT64)
    assert g != both(harness)[0]


def test_arithmetic(harness):
    g, want = both(harness)
    host = np.random.default_rng(1).normal(size=(M, K))
    a = harness.array(host)
    assert_close(harness.host(times(g, -2.0).to_dense()), -2 * want, FLOAT64)
    assert_close(harness.host(plus(a, g)), host + want, FLOAT64)
    assert_close(harness.host(plus_times(a, g, -0.5)), host - want / 2, FLOAT64)
    assert_close(harness.host(clipped(g, 0.5)), np.clip(want, -0.5, 0.5), FLOAT64)
    assert_close(harness.host(entries(g)), want, FLOAT64)
    assert float(largest_size(g)) == pytest.approx(np.max(np.abs(want)), rel=FLOAT64)
    assert float(square_sum(g)) == pytest.approx(np.sum(want**2), rel=FLOAT64)
    assert harness.host(a).tolist() == host.tolist()
    assert_close(harness.host(g.to_dense()), want, FLOAT64)


def test_the_sum_in_the_place_of_one(harness):
    g, want = both(harness)
    host = np.random.default_rng(1).normal(size=(M, K))
    for gradient in (g, harness.array(want)):
        a = harness.array(host)
        moved = plus_times(a, gradient, -0.5, overwrite=True)
        assert_close(harness.host(moved), host - want / 2, FLOAT64)
        assert harness.backend.name != "numpy" or harness.read_only or moved is a
    assert_close(harness.host(g.to_dense()), want, FLOAT64)


def test_sums(harness):
    g, want = both(harness)
    other, more = both(harness, 5)
    values = np.random.default_rng(1).normal(size=(2, K))
    sparse = SparseGradient(harness.array([1, 4], "int64"), harness.array(values), (M, K), axis=0)
    held = np.zeros((M, K))
    held[[1, 4]] = values
    for addend, its in ((other, more), (sparse, held), (harness.array(more), more)):
        for one, two in ((g, addend), (addend, g)):
            assert_close(harness.host(add(one, two)), want + its, FLOAT64)


def test_nothing_at_all(harness):
    g = factored(harness.array, np.zeros((0, M)), np.zeros((0, K)))
    assert not np.any(harness.host(g.to_dense()))
    assert float(square_sum(g)) == 0
    p = {"w": harness.array(np.ones((M, K)))}
    moved, _ = SGD(0.1).update({"w": g}, SGD(0.1).init(p), p)
    assert np.all(harness.host(moved["w"]) == 1)


def test_clipping(harness):
    g, want = both(harness)
    other, size = harness.array([12.0]), np.sqrt(np.sum(want**2) + 144)
    for order in ({"a": g, "b": other}, {"b": other, "a": g}):
        assert float(global_norm(order)) == pytest.approx(size, rel=FLOAT64)
        small, norm = clip_by_norm(order, 1.0)
        assert float(norm) == pytest.approx(size, rel=FLOAT64)
        # On a device it is multiplied out for the norm, and stays so.
        assert isinstance(small["a"], FactoredGradient) == (harness.backend.name != "cupy")
        assert_close(harness.host(dense(small["a"])), want / size, FLOAT64)
        assert_close(harness.host(small["b"]), [12 / size], FLOAT64)
        kept, _ = clip_by_norm(order, 1e3)
        assert_close(harness.host(dense(kept["a"])), want, FLOAT64)
        cut = clip_by_value(order, 0.5)
        assert_close(harness.host(cut["a"]), np.clip(want, -0.5, 0.5), FLOAT64)


SCALES = {
    "squares-overflow": (1e25, 1e3),
    "one-is-large": (1e30, 1e-20),
    "one-is-small": (1e-25, 1e10),
    "the-other-is-small": (1e10, 1e-25),
}


@pytest.mark.parametrize(("large", "small"), SCALES.values(), ids=SCALES)
def test_norms_of_any_size(harness, large, small):
    """In float32, even where products of the factors' rows overflow or underflow."""
    harness = harness.at("float32")
    left, right = factors()
    want = left.T @ right * (large * small)
    g = factored(harness.array, large * left, small * right)
    norm = np.sqrt(np.sum(want**2))
    assert float(global_norm({"w": g})) == pytest.approx(norm, rel=1e-5)
    assert float(largest_size(g)) == pytest.approx(np.max(np.abs(want)), rel=1e-5)
    limit = min(1.0, norm / 2)
    limited, _ = clip_by_norm({"w": g}, limit)
    assert_close(harness.host(dense(limited["w"])), want / norm * limit, 1e-5)


@pytest.mark.parametrize("rest", [1e-3, 0.0])
def test_the_norm_of_terms_that_cancel_each_other(harness, rest):
    harness = harness.at("float32")
    left, right = factors(shape=(1, 90, 80))
    left, right = np.vstack([left, -left]), np.vstack([right, right * (1 + rest)])
    g = factored(harness.array, left, right)
    size = float(np.sqrt(np.sum((left[:1].T @ right[:1]) ** 2)))
    # The terms cancel, and the rest has their rounding errors, as in the dense form.
    assert float(global_norm({"w": g})) == pytest.approx(rest * size, abs=1e-6 * size)
    assert float(square_sum(g)) >= 0


@each_dtype
def test_a_norm_needs_no_matrix_on_numpy(dtype, monkeypatch):
    left, right = (a.astype(dtype) for a in factors(shape=(8, 300, 200)))
    g, want = FactoredGradient(left, right), np.sum((left.T @ right).astype("float64") ** 2)
    monkeypatch.setattr(NumPy, "square_sum", None)
    assert float(square_sum(g)) == pytest.approx(want, rel=between_backends(dtype, 1))
    assert square_sum(g).dtype == dtype


@pytest.mark.usefixtures("without_pool")
def test_an_update_needs_no_matrix_on_numpy():
    left, right = factors(shape=(4, 4000, 300))
    p, sgd = {"w": np.zeros((4000, 300))}, SGD(0.1)
    state = sgd.init(p)
    # Compile first, so that compilation is not measured.
    sgd.update({"w": FactoredGradient(left, 0 * right)}, state, p, into=(p, state))
    tracemalloc.start()
    sgd.update({"w": FactoredGradient(left, right)}, state, p, into=(p, state))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert_close(p["w"], -0.1 * left.T @ right, FLOAT64)
    assert peak < p["w"].nbytes / 4


def parameters(array):
    rng = np.random.default_rng(9)
    return {"w": array(rng.normal(size=(M, K))), "bias": array(rng.normal(size=M))}


def gradients(array, step: int, whole: bool):
    left, right = factors([2, step])
    bias = array(np.random.default_rng([3, step]).normal(size=M))
    return {"w": array(left.T @ right) if whole else factored(array, left, right), "bias": bias}


def walk(optimizer, harness, into: str, whole: bool):
    """Return parameters and state after every update."""
    p = parameters(harness.array)
    state, before, found = optimizer.init(p), None, []
    for step in range(4):
        given = {"nothing": None, "in place": (p, state), "the ones before": before}[into]
        before = (p, state)
        gradient = gradients(harness.array, step, whole)
        p, state = optimizer.update(gradient, state, p, into=given)
        found.append(leaves((p, state), harness.host))
    return found


def leaves(tree, host):
    """Return the host arrays of parameters and state, in order."""
    if hasattr(tree, "shape"):
        return [host(tree)]
    if isinstance(tree, dict | tuple):
        parts = tree.values() if isinstance(tree, dict) else tree
        return [leaf for part in parts for leaf in leaves(part, host)]
    return []


def assert_same_walk(optimizer, harness, tolerance):
    want = walk(optimizer, harness, "nothing", whole=True)
    for into in INTO:
        got = walk(optimizer, harness, into, whole=False)
        for mine, theirs in zip(got, want, strict=True):
            for a, b in zip(mine, theirs, strict=True):
                assert_close(a, b, tolerance, f"array, into {into}")


@each_dtype
@on_every_backend(RULES, on_jax=KINDS, argument="row")
def test_the_update_of_the_dense_form(row, harness, dtype):
    tolerance = FLOAT64 if dtype == "float64" else FLOAT32
    assert_same_walk(row.ours, harness.at(dtype), tolerance)


@each_size
@each_dtype
@each_rule
@on_numpy
def test_the_update_by_blocks(row, harness, dtype):
    tolerance = FLOAT64 if dtype == "float64" else FLOAT32
    assert_same_walk(row.ours, harness.at(dtype), tolerance)


class Plain:
    """A rule that knows only dense gradients."""

    def init(self, parameters):
        return None

    def update(self, gradients, state, parameters):
        return {k: p - 0.1 * gradients[k] for k, p in parameters.items()}, None


AROUND = {
    "averaged": Averaged(SGD(0.1, momentum=0.5), decay=0.9),
    "mean": Averaged("adam", decay=1.0),
    "groups": ParameterGroups({"bias": None, "w": SGD(0.1, weight_decay=0.1)}, otherwise="adam"),
    "both": Averaged(ParameterGroups({"w": Adam(0.01)}, otherwise=None)),
    "plain": Averaged(Plain()),
    "plain-groups": ParameterGroups({"w": Plain()}, otherwise="sgd"),
}


each_around = pytest.mark.parametrize("optimizer", AROUND.values(), ids=AROUND)


@each_around
def test_the_update_around_another_optimizer(optimizer, harness):
    assert_same_walk(optimizer, harness, FLOAT64)


@each_size
@each_around
@on_numpy
def test_the_update_by_blocks_around_another_optimizer(optimizer, harness):
    assert_same_walk(optimizer, harness, FLOAT64)


@pytest.mark.parametrize("size", [tuning.BLOCK_ENTRIES, 2 * K, 1], ids=["whole", "blocks", "rows"])
@each_rule
@pytest.mark.parametrize("in_place", [False, True])
def test_what_is_not_given_up_is_kept(row, in_place, size, monkeypatch):
    monkeypatch.setattr(tuning, "BLOCK_ENTRIES", size)
    p = parameters(np.array)
    state, given = row.ours.init(p), gradients(np.array, 0, whole=False)
    g = given["w"]
    kept = (g.left, g.right, given["bias"], *(() if in_place else leaves((p, state), np.asarray)))
    before = [a.tobytes() for a in kept]
    row.ours.update(given, state, p, into=(p, state) if in_place else None)
    assert [a.tobytes() for a in kept] == before


def test_numpy_reuses_the_arrays(monkeypatch):
    monkeypatch.setattr(tuning, "BLOCK_ENTRIES", 8)
    for optimizer in (SGD(0.1), Adam()):
        p = parameters(np.array)
        state = optimizer.init(p)
        moved, _ = optimizer.update(gradients(np.array, 0, False), state, p, into=(p, state))
        assert moved["w"] is p["w"]


@pytest.mark.parametrize("rows", [63, 64, 65, 200, 1000])
def test_all_rows_are_in_some_block(rows, monkeypatch):
    monkeypatch.setattr(tuning, "BLOCK_ENTRIES", 150 * K)
    left, right = factors(shape=(2, rows, K))
    p = {"w": np.ones((rows, K))}
    for given in (None, (p, SGD(0.1).init(p))):
        moved, _ = SGD(0.1).update(
            {"w": FactoredGradient(left, right)}, SGD(0.1).init(p), {"w": np.ones((rows, K))},
            into=given,
        )  # fmt: skip
        assert_close(moved["w"], 1 - 0.1 * left.T @ right, FLOAT64)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_accumulation(harness, reduction):
    joined, want = Accumulation(SquaredError(reduction)), 0
    for seed, size in enumerate((4, 1, 3)):
        g, host = both(harness, seed)
        joined.add({"w": g}, size)
        want = want + (host * size / 8 if reduction == "mean" else host)
    assert_close(harness.host(dense(joined.gradients["w"])), want, FLOAT64)


def test_moved_by_what_rounding_does(harness):
    net = RNN(1, 1, backend=harness.backend, rng=0)
    g, want = both(harness)
    moved = _disturbed(
        {"w": g}, net, {"w": 0.1}, lambda number, shape: _same_sign(1.0, number, shape)
    )
    assert_close(harness.host(moved["w"]), want + 0.1 * np.max(np.abs(want)), FLOAT64)


def enough(case):
    """Return a case whose readout is large beside its few rows."""
    return case.but(T=2, B=2, H=40, O=None if case.O is None else 60)


def assert_same_gradient(got, want, host, tolerance, has_readout=True):
    """Compare a factored with a dense gradient; only the readout's weight may differ at all."""
    g = got.parameters.get("readout.weight")
    assert isinstance(g, FactoredGradient) == has_readout
    assert list(got.parameters) == list(want.parameters)
    for name, array in want.parameters.items():
        near = tolerance if name == "readout.weight" else 0.0
        assert_close(host(dense(got.parameters[name])), host(dense(array)), near, name)
    if has_readout:
        assert g.shape == tuple(want.parameters["readout.weight"].shape)
    for a, b in zip(got.state, want.state, strict=True):
        assert_close(host(a), host(b), 0.0)


@on_every_backend()
def test_every_cell_on_every_backend(case, harness):
    case = enough(case)
    net, problem = harness.net(case), case.problem()
    x, target = harness.array(problem.x), harness.array(problem.target)
    _, got, _ = loss_and_grad(net, x, target, SquaredError(), factored=True)
    _, want = net.value_and_grad(x, target)
    assert_same_gradient(got, want, harness.host, between_backends("float64", case.T))


@pytest.mark.parametrize("window", [None, 0])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_form(case, window):
    case = enough(case)
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    run = net.forward(problem.x, problem.state)
    given = (problem.d_output, problem.d_state, window)
    got = backward(net.parameters, run.tape, *given, factored=True)
    want = net.backward(run, *given)
    assert_same_gradient(got, want, np.asarray, FLOAT64, case.O is not None)


STACKS = {
    "both-ways": {"bidirectional": True},
    "both-ways-last": {"bidirectional": True, "returns": "last"},
    "layers-and-dropout": {"layers": 2, "dropout": 0.5, "recurrent_dropout": 0.5},
    "embedding": {"embedding_size": 3},
}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("lengths", [None, (1, 3)])
@pytest.mark.parametrize("options", STACKS.values(), ids=STACKS)
def test_stacks(options, lengths, recompute):
    case = enough(row_of("gru")).but(T=3, B=2, O=90, **options)
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    both = [
        loss_and_grad(
            net,
            problem.x,
            problem.target,
            SquaredError(),
            lengths=lengths,
            rng=1,
            recompute=recompute,
            factored=yes,
        )[1]
        for yes in (True, False)
    ]
    assert_same_gradient(*both, np.asarray, FLOAT64)


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm", "minimal_gated"])
def test_later_passes_leave_it_alone(cell):
    net = RNN(3, 40, 60, cell=cell, dtype="float64", rng=0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 2, 2, 3)), rng.normal(size=(3, 2, 2, 60))
    _, first, _ = loss_and_grad(net, x[0], y[0], SquaredError(), factored=True)
    g = first.parameters["readout.weight"]
    before = g.left.tobytes(), g.right.tobytes()
    for k in (1, 2):
        loss_and_grad(net, x[k], y[k], SquaredError(), factored=True)
        net(x[k])
    assert (g.left.tobytes(), g.right.tobytes()) == before


@pytest.mark.parametrize(("outputs", "kind"), [(40, np.ndarray), (41, FactoredGradient)])
def test_where_it_is_less(outputs, kind):
    """Of N = 4 rows and H = 40: 4 N (O + H) < O H from O = 27 on; of N = 5 from O = 41 on."""
    net = RNN(1, 40, outputs, rng=0)
    for steps, wanted in ((4, FactoredGradient), (5, kind), (10, np.ndarray)):
        x, y = np.ones((steps, 1, 1), "f"), np.ones((steps, 1, outputs), "f")
        _, gradient, _ = loss_and_grad(net, x, y, SquaredError(), factored=True)
        assert type(gradient.parameters["readout.weight"]) is wanted
        _, gradient = net.value_and_grad(x, y)
        assert type(gradient.parameters["readout.weight"]) is np.ndarray


TOKENS = np.random.default_rng(0).integers(0, 90, (4, 3, 6))


def language_model(backend="numpy"):
    return RNN(90, 30, 90, backend=backend, dtype="float64", rng=0)


def batches(array=np.asarray):
    return [(array(TOKENS[:-1, k]), array(TOKENS[1:, k])) for k in range(3)]


class Watching(SGD):
    """A rule that records the type of each gradient."""

    def update(self, gradients, state, parameters, *, into=None):
        seen.append(type(gradients["readout.weight"]))
        return super().update(gradients, state, parameters, into=into)


class WatchingPlain(Plain):
    def update(self, gradients, state, parameters):
        seen.append(type(gradients["readout.weight"]))
        return {k: p - 0.1 * dense(gradients[k]) for k, p in parameters.items()}, None


seen: list[type] = []
SHORT = [(x[:1, :5], y[:1, :5]) for x, y in batches()]
"""Five rows: few enough for 30 units and 90 outputs."""


@pytest.mark.parametrize(
    ("optimizer", "accumulate", "kind"),
    [
        (Watching(0.1), 1, FactoredGradient),
        (Watching(0.1), 2, np.ndarray),
        (Averaged(Watching(0.1)), 1, FactoredGradient),
        (WatchingPlain(), 1, np.ndarray),
        (Averaged(WatchingPlain()), 1, np.ndarray),
    ],
)
def test_what_fit_hands_to_the_rule(optimizer, accumulate, kind):
    seen.clear()
    options = {"optimizer": optimizer, "accumulate": accumulate, "clip_norm": 0.5}
    fit(language_model(), SHORT, loss="cross_entropy", **options)
    assert seen == [kind] * (3 if accumulate == 1 else 2)


LIMITS = {"clip_norm": 0.3}, {"clip_norm": 0.3, "clip_value": 0.02}
TRAININGS = {
    f"{name}-{len(limits)}": (rule, limits)
    for name, rule in (("sgd", SGD(0.5)), ("adam", Adam(0.01)))
    for limits in LIMITS
}


@on_every_backend([*TRAININGS], on_jax=["adam-2"], argument="training")
def test_fit_is_the_loop_with_dense_gradients(harness, training):
    rule, limits = TRAININGS[training]
    pieces = [(harness.backend.asarray(x), harness.backend.asarray(y)) for x, y in SHORT]
    net, twin = (language_model(harness.backend) for _ in range(2))
    history = fit(net, pieces, loss="cross_entropy", optimizer=rule, epochs=3, **limits)
    state, losses = rule.init(twin.parameters), []
    for k in range(9):
        value, gradient = twin.value_and_grad(*pieces[k % 3], loss=CrossEntropy())
        g = gradient.parameters
        assert not isinstance(g["readout.weight"], FactoredGradient)
        if "clip_value" in limits:
            g = clip_by_value(g, limits["clip_value"])
        if "clip_norm" in limits:
            g, _ = clip_by_norm(g, limits["clip_norm"])
        twin.parameters, state = rule.update(g, state, twin.parameters)
        losses.append(float(value))
    assert history.loss == pytest.approx(np.mean(np.reshape(losses, (3, 3)), axis=1), rel=1e-10)
    assert_all_close(harness.hosts(net.parameters), harness.hosts(twin.parameters), 1e-9)


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.5), Averaged("adam")], ids=str)
def test_a_training_that_was_stopped_ends_with_the_same_bits(optimizer, tmp_path):
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(2, 8, n)).astype("f") for n in (3, 60))

    def make():
        net = RNN(3, 40, 60, rng=0)
        data = minibatches(x, y, 2, rng=1)
        return net, {"batches": data, "optimizer": optimizer, "epochs": 2, "clip_norm": 0.2}

    assert_resumes(make, tmp_path / "run.ckpt")
