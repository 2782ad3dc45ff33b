"""Embeddings: each token picks a row of a matrix, and only picked rows have a gradient."""

import copy

import numpy as np
import pytest

from tests.cases import FEW, FORMS, Case, each_cell, row_of
from tests.closeness import AUTOGRAD, FLOAT64, assert_all_close, assert_close, between_backends
from tests.harness import on_every_backend
from tests.judge import central_differences, judge, masks_of
from tests.optimizers import RULES
from tests.passes import all_of, gradients_of, on_backend, on_numpy
from tests.stacks import DROPOUT, LENGTHS
from xprnn import RNN, evaluate, fit
from xprnn.engine.gradients import SparseGradient
from xprnn.engine.network import loss_and_grad
from xprnn.optim import OPTIMIZERS, SGD

SIZES = {"T": 5, "B": 3, "I": 11, "H": 4, "O": 6, "embedding_size": 7}
CASE = row_of("gru").but(**SIZES)
NAME = "embedding.weight"


def through_a_matrix(case: Case, rng=None):
    """Return run and gradients of the same network, given the rows themselves as input, and dE."""
    parameters, problem = case.parameters(), case.problem()
    E = parameters.pop(NAME)
    plain = case.but(I=case.embedding_size, embedding_size=None).make(dtype="float64")
    plain.parameters = parameters
    one_hot = np.eye(case.I)[problem.x]
    run = plain.forward(one_hot @ E, problem.state, case.lengths, rng=rng)
    found = gradients_of(plain, run, problem.d_output, problem.d_state)
    found[NAME] = np.einsum("tbi,tbk->ik", one_hot, found.pop("input"))
    return run, found


@pytest.mark.parametrize("stack", [{}, {"layers": 2, "bidirectional": True, "lengths": LENGTHS}])
@each_cell
def test_a_row_is_a_one_hot_vector_times_the_matrix(case, stack):
    case = case.but(**SIZES, **stack)
    run, got = on_numpy(case)
    want_run, want = through_a_matrix(case)
    assert_close(run.output, want_run.output, FLOAT64)
    assert_all_close(got, want, FLOAT64)


@pytest.mark.parametrize("form", FORMS)
def test_against_autograd(form):
    case = row_of("lstm-everything").but(
        **SIZES | FORMS[form] | DROPOUT, layers=2, bidirectional=True, lengths=LENGTHS
    )
    run, got = on_numpy(case, rng=0)
    want = judge(case, case.parameters(), case.problem(), masks=masks_of(run))
    assert_close(run.output, want.output, AUTOGRAD)
    assert_all_close(got, all_of(want, case.cell), AUTOGRAD)
    _, cut = on_numpy(case, rng=0, window=0)
    assert np.max(np.abs(cut[NAME] - got[NAME])) > 1e-9


def test_against_finite_differences():
    net, problem = CASE.make(dtype="float64"), CASE.problem()
    E = CASE.parameters()[NAME].copy()
    net.parameters = CASE.parameters() | {NAME: E}

    def goal() -> float:
        y, state = net(problem.x, problem.state)
        return float(np.sum(y * problem.d_output) + np.sum(state[0] * problem.d_state[0]))

    (want,) = central_differences(goal, [E])
    assert_close(on_numpy(CASE)[1][NAME], want, 1e-8, NAME, 5e-10)


@on_every_backend(FEW, on_jax=FEW[:1])
def test_every_backend_agrees_with_numpy(harness, case):
    dtype = "float32" if case.id == "gru" else "float64"
    harness = harness.at(dtype)
    case = case.but(**SIZES, layers=2, lengths=LENGTHS)
    run, got = on_backend(case, harness)
    want_run, want = on_numpy(case)
    tolerance = between_backends(dtype, 2 * case.T)
    assert_close(harness.host(run.output), want_run.output, tolerance, "output")
    assert_all_close(got, want, tolerance)


def test_the_gradient_holds_the_rows_seen_and_no_others(harness):
    net, problem = harness.net(CASE), CASE.problem()
    gradient = net.backward(
        net.forward(harness.array(problem.x)), harness.array(problem.d_output), window=1
    )
    g = gradient.parameters[NAME]
    assert isinstance(g, SparseGradient)
    seen = np.unique(problem.x)
    assert 0 < len(seen) < CASE.I
    assert (g.shape, g.axis) == ((CASE.I, CASE.embedding_size), 0)
    assert harness.backend.to_numpy(g.indices).tolist() == seen.tolist()
    assert harness.host(g.values).shape == (len(seen), CASE.embedding_size)
    assert gradient.input is None
    assert not isinstance(gradient.parameters["weight_ih_l0"], SparseGradient)


@pytest.mark.parametrize("dtype", ["int32", "uint8"])
def test_any_integers_do(harness, dtype):
    net, problem = harness.net(CASE), CASE.problem()
    want, _ = on_numpy(CASE)
    output, _ = net(harness.array(problem.x.astype(dtype)), harness.arrays(problem.state))
    assert_close(harness.host(output), want.output, FLOAT64)


EXACT = [row.ours for row in RULES if row.exact]


@pytest.mark.parametrize("optimizer", [SGD(0.1, decay=0.1), *EXACT], ids=str)
@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.05, "clip_value": 0.01}])
def test_training_is_that_of_a_dense_matrix(optimizer, clip, monkeypatch):
    """Step for step: the gradient of a linear layer over one-hot vectors, made dense."""
    data = [(CASE.problem(k).x, CASE.problem(k).target) for k in range(2)]
    net, twin = (CASE.make(dtype="float64", rng=0) for _ in range(2))
    fit(net, data, optimizer=optimizer, epochs=3, **clip)
    forget_sparsity(monkeypatch)
    fit(twin, data, optimizer=optimizer, epochs=3, **clip)
    assert_all_close(dict(net.parameters), dict(twin.parameters), 1e-11)
    assert np.any(net.parameters[NAME] != CASE.make(dtype="float64", rng=0).parameters[NAME])


def forget_sparsity(monkeypatch) -> None:
    """Make a training's gradients dense before the optimizer sees them."""

    def dense(*args, **options):
        value, gradient, state = loss_and_grad(*args, **options)
        g = gradient.parameters[NAME].to_dense()
        return value, gradient._replace(parameters=gradient.parameters | {NAME: g}), state

    monkeypatch.setattr("xprnn.training.step.loss_and_grad", dense)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_rows_of_words_that_do_not_come_stay(optimizer):
    net, problem = CASE.make(dtype="float64", rng=0), CASE.problem()
    before = net.parameters[NAME].copy()
    history = fit(net, (problem.x, problem.target), optimizer=optimizer, epochs=5)
    changed = np.any(net.parameters[NAME] != before, axis=1)
    assert np.flatnonzero(changed).tolist() == np.unique(problem.x).tolist()
    assert history.loss[-1] < history.loss[0]
    assert evaluate(net, (problem.x, problem.target)) < history.loss[-1]


def test_a_language_model_learns():
    """Two cycles of words that share a word: the state must tell what comes next."""
    words = np.array([0, 1, 2, 0, 3, 4] * 6).reshape(-1, 1)
    net = RNN(5, 8, 5, cell="gru", embedding_size=3, dtype="float64", rng=0)
    history = fit(
        net, (words[:-1], words[1:]), loss="cross_entropy", optimizer=SGD(1.0, 0.9), epochs=80
    )
    assert history.loss[0] > 1
    assert history.loss[-1] < 0.1


def test_the_initial_vectors():
    """A fan-in of one: no token's vector is summed with another's."""
    net = RNN(5000, 4, embedding_size=3, dtype="float64", rng=0)
    E = net.parameters[NAME]
    assert (E.shape, net.embedding_size) == ((5000, 3), 3)
    assert 0.99 < np.max(np.abs(E)) <= 1
    assert abs(np.mean(E)) < 0.05
    assert net.parameters["weight_ih_l0"].shape == (4, 3)
    assert next(iter(net.parameters)) == NAME


def test_an_empty_batch(harness):
    case = CASE.but(B=0)
    net, problem = harness.net(case), case.problem()
    value, gradient = net.value_and_grad(harness.array(problem.x), harness.array(problem.target))
    assert harness.host(value) == 0
    g = gradient.parameters[NAME]
    assert harness.host(g.to_dense()).tolist() == np.zeros((CASE.I, 7)).tolist()
    moved, _ = SGD().update(gradient.parameters, SGD().init(net.parameters), net.parameters)
    assert_all_close(harness.hosts(moved), harness.hosts(dict(net.parameters)), 0.0)


def test_it_is_saved_moved_and_copied(tmp_path):
    net, x = CASE.make(dtype="float64", rng=0), CASE.problem().x
    net.save(tmp_path / "net.safetensors")
    want = net(x)[0]
    for twin in (RNN.load(tmp_path / "net.safetensors"), net.to("numpy"), copy.deepcopy(net)):
        assert twin.embedding_size == 7
        assert np.array_equal(twin(x)[0], want)


X = CASE.problem().x


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.ones((5, 3, 7)), TypeError, "x has dtype float64: expected integers"),
        (np.ones((5, 3)), TypeError, "x has dtype float64: expected integers"),
        (X > 2, TypeError, "x has dtype bool: expected integers"),
        (X[0], ValueError, r"x has shape \(3,\): expected \(T, B\)"),
        (X[..., None], ValueError, r"x has shape \(5, 3, 1\): expected \(T, B\)"),
        (np.full((5, 3), 11), ValueError, r"x\[0, 0\] is 11: expected 0 to 10$"),
        (np.full((5, 3), -1), ValueError, r"x\[0, 0\] is -1: expected 0 to 10 \(padding"),
        (X.tolist(), TypeError, "x is a list: expected an array of the backend 'numpy'"),
    ],
)
def test_what_is_no_token(x, error, message):
    net, target = CASE.make(dtype="float64"), CASE.problem().target
    for use in (net, net.forward, lambda x: net.value_and_grad(x, target)):
        with pytest.raises(error, match=message):
            use(x)
