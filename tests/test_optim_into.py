"""Updates into arrays that the caller gives up: the same bits, and nothing else is written to."""

import numpy as np
import pytest

from tests.harness import on_flavours
from tests.optimizers import each_rule
from xprnn.backend.host import tuning
from xprnn.engine.gradients import FactoredGradient, SparseGradient
from xprnn.optim import SGD, Adam, Averaged, InPlaceOptimizer, ParameterGroups

SHAPES = {"bias": (7,), "rows": (9, 4), "columns": (4, 9), "weight": (11, 3)}


@pytest.fixture(params=[tuning.BLOCK_ENTRIES, 8], ids=["whole", "blocks"])
def _blocks(request, monkeypatch):
    monkeypatch.setattr(tuning, "BLOCK_ENTRIES", request.param)


each_size = pytest.mark.usefixtures("_blocks")
# The other libraries make new arrays anyway.
where_it_counts = on_flavours("numpy", "numpy-readonly", "cupy")
each_into = pytest.mark.parametrize("into", ["in place", "the ones before"])


def parameters(array):
    rng = np.random.default_rng(0)
    return {name: array(rng.normal(size=shape)) for name, shape in SHAPES.items()}


def gradients(array, step: int):
    """Return two dense gradients, a sparse one of rows and a sparse one of columns."""
    rng = np.random.default_rng([1, step])
    held = array(np.sort(rng.choice(9, 3, replace=False)))
    return {
        "bias": array(rng.normal(size=7)),
        "rows": SparseGradient(held, array(rng.normal(size=(3, 4))), (9, 4), 0),
        "columns": SparseGradient(held, array(rng.normal(size=(4, 3))), (4, 9), 1),
        "weight": array(rng.normal(size=(11, 3))),
    }


def bits(tree, host):
    """Return a copy of all arrays of parameters and state."""
    if isinstance(tree, dict):
        return [(k, bits(v, host)) for k, v in tree.items()]
    if isinstance(tree, tuple):
        return [bits(v, host) for v in tree]
    return host(tree).tobytes() if hasattr(tree, "shape") else tree


def walk(optimizer, harness, into):
    """Return the bits of parameters and state after every update."""
    p = parameters(harness.array)
    state, before, found = optimizer.init(p), None, []
    for step in range(4):
        given = {"nothing": None, "in place": (p, state), "the ones before": before}[into]
        before = (p, state)
        p, state = optimizer.update(gradients(harness.array, step), state, p, into=given)
        found.append(bits((p, state), harness.host))
    return found


@each_size
@each_into
@each_rule
@where_it_counts
def test_the_bits_are_the_same(row, harness, into):
    assert walk(row.ours, harness, into) == walk(row.ours, harness, "nothing")


@each_size
@each_into
@pytest.mark.parametrize(
    "optimizer",
    [
        Averaged(SGD(0.1, momentum=0.5), decay=0.9),
        Averaged("adam", decay=1.0),
        ParameterGroups({"rows": None, "w*": SGD(0.1)}, otherwise=Averaged("rmsprop", decay=0.5)),
    ],
    ids=["averaged", "mean", "groups"],
)
@where_it_counts
def test_the_bits_are_the_same_around_another_optimizer(optimizer, harness, into):
    assert walk(optimizer, harness, into) == walk(optimizer, harness, "nothing")


@each_size
@each_rule
def test_without_it_no_argument_is_written_to(row):
    p, state = parameters(np.array), None
    state = row.ours.init(p)
    for step in range(2):
        given = gradients(np.array, step)
        before = bits((p, state), np.asarray), bits(_plain(given), np.asarray)
        moved, new = row.ours.update(given, state, p)
        assert (bits((p, state), np.asarray), bits(_plain(given), np.asarray)) == before
        p, state = moved, new


@each_size
@each_rule
def test_gradients_and_parameters_are_kept_when_others_are_given_up(row):
    p = parameters(np.array)
    state = row.ours.init(p)
    before = (p, state)
    p, state = row.ours.update(gradients(np.array, 0), state, p)
    given = gradients(np.array, 1)
    kept = bits((p, state, _plain(given)), np.asarray)
    row.ours.update(given, state, p, into=before)
    assert bits((p, state, _plain(given)), np.asarray) == kept


def _plain(given):
    return {k: g.values if isinstance(g, SparseGradient) else g for k, g in given.items()}


@pytest.mark.parametrize("name", ["rows", "columns", "weight"])
def test_numpy_reuses_the_arrays(name, monkeypatch):
    """A large array, and one with a sparse gradient, is updated in place."""
    monkeypatch.setattr(tuning, "BLOCK_ENTRIES", 8)
    p = parameters(np.array)
    adam = Adam()
    state = adam.init(p)
    moved, new = adam.update(gradients(np.array, 0), state, p, into=(p, state))
    assert moved[name] is p[name]
    assert new.m[name] is state.m[name]
    assert new.v[name] is state.v[name]


@pytest.mark.parametrize("name", ["rows", "columns"])
def test_plain_sgd_writes_the_rows_that_a_sparse_gradient_holds(name):
    p = parameters(np.array)
    before = p[name].copy()
    sgd, given = SGD(0.1), gradients(np.array, 0)
    state = sgd.init(p)
    moved, _ = sgd.update(given, state, p, into=(p, state))
    assert moved[name] is p[name]
    assert np.any(moved[name] != before)


def _read_only(a):
    a.flags.writeable = False
    return a


@pytest.mark.parametrize(
    "spoil",
    [lambda a: a[1:], lambda a: a.astype("float32"), _read_only],
    ids=["shape", "dtype", "read-only"],
)
def test_what_does_not_fit_is_left_alone(spoil, monkeypatch):
    monkeypatch.setattr(tuning, "BLOCK_ENTRIES", 8)
    p, sgd = parameters(np.array), SGD(0.1)
    state = sgd.init(p)
    others = {k: spoil(np.array(a)) for k, a in p.items()}
    kept = bits(others, np.asarray)
    wanted, _ = sgd.update(gradients(np.array, 0), state, p)
    found, _ = sgd.update(gradients(np.array, 0), state, p, into=(others, state))
    assert bits(found, np.asarray) == bits(wanted, np.asarray)
    assert bits(others, np.asarray) == kept


def test_an_optimizer_that_does_not_know_of_it_can_be_in_a_group():
    class Plain:
        def init(self, parameters):
            return None

        def update(self, gradients, state, parameters):
            return {k: p - gradients[k] for k, p in parameters.items()}, None

    p, g = {"w": np.ones(2)}, {"w": np.ones(2)}
    for optimizer in (ParameterGroups({"w": Plain()}, otherwise=None), Averaged(Plain())):
        state = optimizer.init(p)
        moved, _ = optimizer.update(g, state, p, into=(p, state))
        assert moved["w"].tolist() == [0.0, 0.0]
        assert p["w"].tolist() == [1.0, 1.0]


class Undeclared:
    """An optimizer whose update has ``into`` but which does not declare it."""

    def init(self, parameters):
        return None

    def update(self, gradients, state, parameters, *, into=None):
        kinds = {k: type(g) for k, g in gradients.items()}
        return dict(parameters), (kinds, into)


class Declared(Undeclared, InPlaceOptimizer):
    pass


@pytest.mark.parametrize("kind", [Undeclared, Declared])
def test_an_optimizer_gets_what_it_declares(kind):
    """The signature of its update does not count."""
    p, g = {"w": np.ones((2, 2))}, {"w": FactoredGradient(np.ones((1, 2)), np.ones((1, 2)))}
    for optimizer in (ParameterGroups({}, otherwise=kind()), Averaged(kind())):
        state = optimizer.init(p)
        _, new = optimizer.update(g, state, p, into=(p, state))
        kinds, into = new.otherwise if isinstance(optimizer, ParameterGroups) else new.optimizer
        assert kinds == {"w": FactoredGradient if kind is Declared else np.ndarray}
        assert (into is not None) == (kind is Declared)
