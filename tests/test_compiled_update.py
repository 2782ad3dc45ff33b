"""Updates in compiled loops: the bits of the formula itself, whatever they are given."""

import numpy as np
import pytest

from tests.optimizers import RULES
from xprnn import disable_lowering
from xprnn.backend.host import tuning
from xprnn.backend.host.threads import blas_threads
from xprnn.engine.gradients import FactoredGradient, SparseGradient
from xprnn.optim import SGD, Adam

compiled = pytest.importorskip("xprnn.optim.compiled", exc_type=ImportError)

QUICK = ("sgd", "sgd-nesterov-decay", "adam", "rprop")
"""Those that are compiled in every run; the others take a third of a second each."""
SHAPES = {"bias": (7,), "weight": (37, 53), "cube": (3, 1, 41), "none": (0, 3)}


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch):
    monkeypatch.setenv("XPRNN_LOWERING", "numba")
    monkeypatch.setattr(tuning, "UPDATE_ENTRIES", 0)


@pytest.fixture
def updated(monkeypatch):
    """Return the names of what compiled code has updated, in every update."""
    found, real = [], compiled.compiled_update

    def noted(*arguments):
        new = real(*arguments)
        found.append(set(new))
        return new

    monkeypatch.setattr(compiled, "compiled_update", noted)
    return found


def arrays(seed, dtype, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    # Some zeros, which have no sign to step by.
    return {
        name: (rng.normal(size=shape) * (rng.random(shape) > 0.1)).astype(dtype)
        for name, shape in shapes.items()
    }


def bits(tree):
    if isinstance(tree, dict):
        return {k: bits(v) for k, v in tree.items()}
    if isinstance(tree, tuple):
        return [bits(v) for v in tree]
    # Zero is added because Numba's sign of -0.0 is -0.0, NumPy's is 0.0.
    return (tree.shape, tree.dtype.name, (tree + 0).tobytes()) if hasattr(tree, "shape") else tree


def walk(rule, dtype, *, into=False, gradient=arrays):
    """Return parameters and state after four updates."""
    p = arrays(0, dtype)
    state = rule.init(p)
    for step in range(4):
        given = gradient(1 + step, dtype)
        p, state = rule.update(given, state, p, into=(p, state) if into else None)
    return p, state


def rules(dtype):
    return [
        pytest.param(
            row.ours,
            dtype,
            id=f"{row.id}-{dtype}",
            marks=() if row.id in QUICK and dtype == "float32" else pytest.mark.full,
        )
        for row in RULES
    ]


@pytest.mark.parametrize(("rule", "dtype"), [*rules("float32"), *rules("float64")])
def test_the_bits_are_those_of_the_formula(rule, dtype, updated):
    found = walk(rule, dtype)
    assert updated == [set(SHAPES)] * 4
    with disable_lowering():
        want = walk(rule, dtype)
    assert len(updated) == 4
    assert bits(found) == bits(want)
    assert bits(walk(rule, dtype, into=True)) == bits(want)


def test_threads_share_entries(monkeypatch):
    """The parts of two threads, and of one, have the same bits."""
    rule = RULES[[row.id for row in RULES].index("adam")].ours
    with blas_threads(1):
        want = bits(walk(rule, "float32"))
    monkeypatch.setattr(tuning, "UPDATE_PER_THREAD", 500)
    shared, real = [], compiled.share
    monkeypatch.setattr(compiled, "share", lambda *given: shared.append(given[1]) or real(*given))
    for count in (2, 3):
        with blas_threads(count):
            assert bits(walk(rule, "float32")) == want
    assert shared == [range(2)] * 4 + [range(3)] * 4


def test_without_into_nothing_is_written_to():
    p, g = arrays(0, "float32"), arrays(1, "float32")
    rule = Adam()
    state = rule.init(p)
    before = bits((p, g, state))
    new, after = rule.update(g, state, p)
    assert bits((p, g, state)) == before
    kept = [*p.values(), *g.values(), *state.m.values(), *state.v.values()]
    for made in (new, after.m, after.v):
        for a in made.values():
            assert not any(np.shares_memory(a, other) for other in kept)


def test_what_is_given_up_is_written_to():
    p, rule = arrays(0, "float32"), Adam()
    state = rule.init(p)
    new, after = rule.update(arrays(1, "float32"), state, p, into=(p, state))
    for kind, made in ((p, new), (state.m, after.m), (state.v, after.v)):
        for name, a in made.items():
            assert a is kind[name]


def test_what_compiled_code_cannot_take_is_left_to_the_formula(updated):
    """Arrays of another order, another class or another dtype, and gradients of other forms."""

    class Mine(np.ndarray):
        pass

    rng = np.random.default_rng(0)
    p = {
        "turned": rng.normal(size=(5, 4)).T,
        "strided": rng.normal(size=20)[::2],
        "half": rng.normal(size=4).astype("float16"),
        "mine": rng.normal(size=3).view(Mine),
        "factored": rng.normal(size=(6, 5)),
        "lazy": rng.normal(size=(4, 6)),
        "plain": rng.normal(size=5),
    }
    g = {k: np.ones_like(a) for k, a in p.items()}
    g["factored"] = FactoredGradient(np.ones((2, 6)), np.ones((2, 5)))
    g["lazy"] = SparseGradient(np.array([1, 4]), np.ones((4, 2)), (4, 6), axis=1)
    rule = Adam(0.1)
    found, _ = rule.update(g, rule.init(p), p)
    assert updated == [{"plain"}]
    with disable_lowering():
        want, _ = rule.update(g, rule.init(p), p)
    assert bits(found) == bits(want)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("held", [[1, 4], list(range(7)), []], ids=["some", "all", "none"])
@pytest.mark.parametrize(
    "rule", [Adam(0.1, lazy=False), SGD(0.1, momentum=0.9)], ids=["adam", "sgd"]
)
def test_a_sparse_gradient_that_is_not_lazy(rule, held, axis, updated):
    """It is the same as its dense form, and compiled."""
    shape = (5, 7) if axis else (7, 5)
    p = {"w": np.random.default_rng(0).normal(size=shape)}
    values = np.random.default_rng(1).normal(size=(5, len(held)))
    g = SparseGradient(np.array(held, np.intp), values if axis else values.T, shape, axis)
    dense = np.zeros(shape)
    dense[(slice(None), held) if axis else held] = g.values
    state = rule.init(p)
    p, state = rule.update({"w": g}, state, p)
    moved, _ = rule.update({"w": g}, state, p)
    assert updated == [{"w"}] * 2
    p = {"w": np.random.default_rng(0).normal(size=shape)}
    state = rule.init(p)
    p, state = rule.update({"w": dense}, state, p)
    want, _ = rule.update({"w": dense}, state, p)
    np.testing.assert_array_equal(moved["w"], want["w"], strict=True)


def test_a_formula_that_cannot_be_traced_runs_as_it_is(updated, monkeypatch):
    def formula(self, state, context):
        return lambda g, p, v: (p - 0.1 * g if p.sum() else p, v)

    monkeypatch.setattr(SGD, "formula", formula)
    p = {"w": np.ones(3)}
    rule = SGD()
    moved, _ = rule.update({"w": np.ones(3)}, rule.init(p), p)
    assert updated == [set()]
    np.testing.assert_array_equal(moved["w"], np.full(3, 0.9))


def test_a_small_update_compiles_nothing(updated, monkeypatch):
    monkeypatch.setattr(tuning, "UPDATE_ENTRIES", 6)
    rule = Adam()
    for size, times in ((5, 0), (6, 1)):
        p = {"w": np.ones(size)}
        rule.update({"w": np.ones(size)}, rule.init(p), p)
        assert len(updated) == times
