"""Sparse gradients: held rows are updated as usual, others stay unchanged to the bit."""

from dataclasses import replace

import numpy as np
import pytest

from tests.closeness import AUTOGRAD, FLOAT64, assert_all_close, assert_close
from tests.harness import jax_in_full, on_every_backend
from tests.optimizers import LAZY, RULES, each_lazy_rule
from tests.optional import optional
from xprnn import RNN, fit
from xprnn.engine.gradients import SparseGradient, dense
from xprnn.optim import SGD, Adagrad, Adam, AdamW, Averaged, RMSprop, Rprop

torch = optional("torch")

STEPS = ([1, 3], [0, 3], [2], [], [1, 2, 3])
"""The rows (or columns), of six, that each update's gradient holds: never 4 and 5."""

axes = pytest.mark.parametrize("axis", [0, 1], ids=["rows", "columns"])


def sparse(array, held: list[int], axis: int, seed: int = 0) -> SparseGradient:
    """Return a gradient of a (6, 2) array, or of a (2, 6) one."""
    values = np.random.default_rng([seed, *held]).normal(size=(len(held), 2))
    shape = (6, 2) if axis == 0 else (2, 6)
    return SparseGradient(
        array(np.array(held, dtype=int)), array(values if axis == 0 else values.T), shape, axis
    )


def start(axis: int) -> np.ndarray:
    p = np.random.default_rng(9).normal(size=(6, 2))
    return p if axis == 0 else p.T


def steps_of(optimizer, array, axis, whole: bool = False):
    """Return parameters and state after every update."""
    p = {"w": array(start(axis))}
    state, found = optimizer.init(p), []
    for held in STEPS:
        g = sparse(array, held, axis)
        p, state = optimizer.update({"w": dense(g) if whole else g}, state, p)
        found.append((p, state))
    return found


def memories(state) -> dict[str, dict]:
    """Return the arrays of a state by kind."""
    return {k: part["w"] for k, part in state._asdict().items() if isinstance(part, dict) and part}


def part_of(state, held, axis):
    """Return the part of a state that belongs to the rows or columns."""
    return state._replace(
        **{k: {"w": np.take(a, held, axis)} for k, a in memories(state).items()},
    )


def put_back(whole: np.ndarray, held, axis, part: np.ndarray) -> np.ndarray:
    new = np.array(whole)
    new[(slice(None),) * axis + (held,)] = part
    return new


def by_parts(optimizer, axis):
    """Update the held rows as a separate dense parameter, and put them back: the lazy update."""
    w = start(axis)
    state, found = optimizer.init({"w": w}), []
    for held in STEPS:
        g = sparse(np.asarray, held, axis)
        moved, part = optimizer.update(
            {"w": g.values}, part_of(state, held, axis), {"w": np.take(w, held, axis)}
        )
        w = put_back(w, held, axis, moved["w"])
        state = part._replace(
            **{
                k: {"w": put_back(a, held, axis, memories(part)[k])}
                for k, a in memories(state).items()
            }
        )
        found.append(({"w": w}, state))
    return found


LAZILY = (
    *LAZY,
    *(
        replace(row, id=f"{row.id}-lazy", ours=replace(row.ours, lazy=True))
        for row in RULES
        if isinstance(row.ours, SGD)
    ),
)

ON_JAX = ("sgd-nesterov-decay-lazy", "adam-amsgrad", "adamw", "rmsprop-all", "adagrad-options")


@axes
@on_every_backend(LAZILY, on_jax=[row for row in LAZILY if row.id in ON_JAX], argument="row")
def test_only_what_is_held_is_updated(row, harness, axis):
    got, want = steps_of(row.ours, harness.array, axis), by_parts(row.ours, axis)
    for (p, state), (want_p, want_state) in zip(got, want, strict=True):
        assert_close(harness.host(p["w"]), want_p["w"], FLOAT64)
        assert set(memories(state)) == set(memories(want_state))
        for kind, array in memories(want_state).items():
            assert_close(harness.host(memories(state)[kind]), array, FLOAT64, kind)
    final, first = harness.host(got[-1][0]["w"]), start(axis)
    changed = np.any(final != first, axis=1 - axis)
    assert changed.tolist() == [True, True, True, True, False, False]
    assert got[-1][1].iteration == len(STEPS)


EAGER = (
    *(row.ours for row in RULES if row.exact),
    *(replace(row.ours, lazy=False) for row in LAZY),
)


@axes
@pytest.mark.parametrize("optimizer", EAGER, ids=str)
def test_the_update_of_the_dense_form(optimizer, axis):
    got = steps_of(optimizer, np.asarray, axis)
    want = steps_of(optimizer, np.asarray, axis, whole=True)
    for (p, state), (want_p, want_state) in zip(got, want, strict=True):
        assert_close(p["w"], want_p["w"], FLOAT64)
        for kind, array in memories(want_state).items():
            assert_close(memories(state)[kind], array, FLOAT64, kind)


@axes
@each_lazy_rule
def test_lazy_is_not_the_dense_form(row, axis):
    """Both kinds of update differ; otherwise the tests above would prove nothing."""
    p = steps_of(row.ours, np.asarray, axis)[-1][0]["w"]
    whole = steps_of(row.ours, np.asarray, axis, whole=True)[-1][0]["w"]
    assert np.max(np.abs(p - whole)) > 1e-5


@each_lazy_rule
def test_a_gradient_that_holds_everything(row):
    every = [0, 1, 2, 3, 4, 5]
    found = []
    for whole in (False, True):
        p = {"w": start(0)}
        state = row.ours.init(p)
        for seed in range(3):
            g = sparse(np.asarray, every, 0, seed)
            p, state = row.ours.update({"w": dense(g) if whole else g}, state, p)
        found.append(p["w"])
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.8, 0.95)], ids=str)
def test_a_hundred_steps_beside_torch(betas):
    """Rows of a table of 12, two or three per step.

    ε is next to nothing, as ``SparseAdam`` adds it to √v and ``torch.optim.Adam`` to √v̂.
    """
    rng = np.random.default_rng(0)
    ours, target = {"table": rng.normal(size=(12, 3))}, rng.normal(size=(12, 3))
    theirs = torch.tensor(ours["table"], requires_grad=True)
    judge = torch.optim.SparseAdam([theirs], lr=0.05, betas=betas, eps=1e-14)
    adam = Adam(0.05, betas, epsilon=1e-14)
    state = adam.init(ours)
    for step in range(100):
        held = np.sort(rng.choice(12, size=2 + step % 2, replace=False))
        rows = (theirs - torch.tensor(target)).detach()[held]
        theirs.grad = torch.sparse_coo_tensor(held[None], rows, theirs.shape, check_invariants=True)
        judge.step()
        g = SparseGradient(held, (ours["table"] - target)[held], (12, 3), axis=0)
        ours, state = adam.update({"table": g}, state, ours)
        assert_close(ours["table"], theirs.detach().numpy(), AUTOGRAD)


def test_weight_decay_of_words_that_do_not_come():
    """With the lazy rules they stay, with SGD they shrink by the factor 1 - ηλ."""
    g = sparse(np.asarray, [1], 0)
    for optimizer, factor in (
        (AdamW(0.1, weight_decay=0.5), 1.0),
        (Adam(0.1, weight_decay=0.5), 1.0),
        (RMSprop(0.1, weight_decay=0.5), 1.0),
        (Adagrad(0.1, weight_decay=0.5), 1.0),
        (SGD(0.1, weight_decay=0.5, lazy=True), 1.0),
        (SGD(0.1, weight_decay=0.5), 0.95),
        (AdamW(0.1, weight_decay=0.5, lazy=False), 0.95),
    ):
        p = {"w": start(0)}
        moved, _ = optimizer.update({"w": g}, optimizer.init(p), p)
        others = [0, 2, 3, 4, 5]
        assert_close(moved["w"][others], factor * start(0)[others], 1e-15)
        assert np.all(moved["w"][1] != p["w"][1])


TOKENS = np.array([[0, 2], [1, 5], [2, 2], [5, 0]])
LIKE_ONE_HOT = (
    Adagrad(0.1),
    Adam(0.01, lazy=False),
    AdamW(0.01, lazy=False),
    RMSprop(0.01, momentum=0.5, lazy=False),
    SGD(0.1, momentum=0.9, weight_decay=0.1),
    Rprop(),
    Averaged(Adam(0.01, lazy=False)),
)


@pytest.mark.parametrize("optimizer", LIKE_ONE_HOT, ids=str)
def test_training_on_tokens_is_training_on_one_hot_vectors(optimizer):
    found = []
    for x in ((TOKENS, TOKENS[::-1] + 1), (np.eye(8)[TOKENS], np.eye(8)[TOKENS[::-1] + 1])):
        net = RNN(8, 3, 1, dtype="float64", rng=0)
        fit(net, [(part, np.ones((4, 2, 1))) for part in x], optimizer=optimizer, epochs=5)
        found.append(dict(net.parameters))
    # A gradient that is zero up to rounding makes the largest possible steps.
    assert_all_close(*found, 1e-10)


@pytest.mark.parametrize("optimizer", [Adam(), AdamW(), RMSprop(momentum=0.5)], ids=str)
def test_weights_of_words_that_do_not_come_stay(optimizer):
    net = RNN(8, 3, 1, dtype="float64", rng=0)
    before = net.parameters["weight_ih_l0"].copy()
    batches = [(TOKENS, np.ones((4, 2, 1))), (TOKENS[:1] * 0 + 3, np.ones((1, 2, 1)))]
    fit(net, batches, optimizer=optimizer)
    changed = np.any(net.parameters["weight_ih_l0"] != before, axis=0)
    assert changed.tolist() == [True, True, True, True, False, True, False, False]


@jax_in_full
def test_an_embedding_of_words_that_do_not_come_stays(harness):
    net = RNN(8, 3, 1, embedding_size=2, backend=harness.backend, rng=0)
    before = harness.host(net.parameters["embedding.weight"])
    batch = (harness.array(TOKENS), harness.array(np.ones((4, 2, 1))))
    fit(net, batch, optimizer=AdamW(), epochs=2)
    changed = np.any(harness.host(net.parameters["embedding.weight"]) != before, axis=1)
    assert changed.tolist() == [True, True, True, False, False, True, False, False]
