"""Dropout between layers and of the recurrent state: its masks, and where and when they act."""

import copy

import numpy as np
import pytest

from tests.cases import each_cell, row_of
from tests.closeness import FLOAT64, assert_close, between_backends
from tests.harness import jax_in_full
from tests.judge import masks_of
from tests.passes import on_backend, on_numpy
from tests.stacks import SIZES
from xprnn import RNN, evaluate, fit
from xprnn.backend.host.arrays import generator
from xprnn.engine.dropout import mask
from xprnn.optim import SGD

BOTH = {"dropout": 0.4, "recurrent_dropout": 0.25}
CASE = row_of("gru").but(**SIZES, layers=3, bidirectional=True, **BOTH)
PROBLEM = CASE.problem()


def net_of(case=CASE, rng=0, **options) -> RNN:
    return case.make(dtype="float64", rng=rng, **options)


def drawn(net: RNN, rng=None) -> list[np.ndarray]:
    """Return every mask of a forward pass, on the host."""
    x = net.backend.asarray(PROBLEM.x)
    tape = net.forward(x, rng=rng).tape
    found = [*tape.masks, *(layer.recurrent.mask for layer in tape.layers)]
    return [np.array(net.backend.to_numpy(m)) for m in found]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(a, b, strict=True))


def test_shapes_and_values_of_masks():
    tape = net_of().forward(PROBLEM.x).tape
    steps, batch, hidden = SIZES["T"], SIZES["B"], SIZES["H"]
    assert [m.shape for m in tape.masks] == [(steps, batch, 2 * hidden)] * 2
    # One mask for all steps: it drops the same units at each.
    assert [layer.recurrent.mask.shape for layer in tape.layers] == [(batch, hidden)] * 6
    for m in tape.masks:
        assert set(np.unique(m)) == {0.0, 1 / 0.6}
    recurrent = [layer.recurrent.mask for layer in tape.layers]
    assert set(np.unique(recurrent)) == {0.0, 1 / 0.75}
    assert len({m.tobytes() for m in recurrent}) == 6, "every layer and direction has its own"


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_and_the_mean_that_stays(rate):
    be = net_of().backend
    m = mask(be, generator(0), rate, (1000, 400))
    # Ten standard deviations of 400 000 draws.
    deviation = 10 * np.sqrt(rate * (1 - rate) / m.size)
    assert np.mean(m == 0) == pytest.approx(rate, abs=deviation)
    assert np.mean(m) == pytest.approx(1, abs=deviation / (1 - rate))
    # Neighbours are dropped independently of each other.
    for axis in (0, 1):
        pairs = np.mean((m == 0) & (np.roll(m, 1, axis) == 0))
        assert pairs == pytest.approx(rate**2, abs=deviation)


def test_no_dropout_draws_nothing():
    net, twin = net_of(CASE.but(dropout=0.0, recurrent_dropout=0.0)), net_of()
    before = copy.deepcopy(net.rng.bit_generator.state)
    run = net.forward(PROBLEM.x)
    assert masks_of(run) == ((), ())
    assert net.rng.bit_generator.state == before
    assert mask(net.backend, generator(0), 0.0, (3, 4)) is None
    twin.forward(PROBLEM.x)
    assert twin.rng.bit_generator.state != before


@each_cell
def test_calling_a_network_drops_nothing(case):
    case = case.but(**SIZES, layers=2, bidirectional=True)
    net, plain = net_of(case.but(**BOTH)), net_of(case)
    problem = case.problem()
    before = copy.deepcopy(net.rng.bit_generator.state)
    for _ in range(2):
        assert np.array_equal(net(problem.x, problem.state)[0], plain(problem.x, problem.state)[0])
    data = [(problem.x, problem.target)]
    assert evaluate(net, data) == evaluate(plain, data)
    assert net.rng.bit_generator.state == before
    assert not np.array_equal(net.forward(problem.x).output, net(problem.x)[0])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@jax_in_full
def test_a_seed_means_the_same_masks_everywhere(harness, dtype):
    harness = harness.at(dtype)
    net, twin = CASE.make(backend=harness.backend, rng=7), net_of(rng=7)
    # The second time from the network's own generator, after it has drawn the initial weights.
    for rng in (3, None):
        got, want = drawn(net, rng), drawn(twin, rng)
        assert same(got, [m.astype(dtype) for m in want])
        assert {m.dtype.name for m in got} == {dtype}


@pytest.mark.parametrize("rate", ["dropout", "recurrent_dropout"])
def test_one_without_the_other_on_every_backend(harness, rate):
    case = CASE.but(**dict.fromkeys(BOTH, 0.0) | {rate: 0.5})
    run, got = on_backend(case, harness, rng=3)
    want_run, want = on_numpy(case, rng=3)
    assert (len(masks_of(want_run).between), len(masks_of(want_run).recurrent)) == (
        (2, 0) if rate == "dropout" else (0, 6)
    )
    assert_close(harness.host(run.output), want_run.output, between_backends("float64", case.T))
    for name, g in want.items():
        assert_close(got[name], g, FLOAT64, name)


def test_a_fixed_seed_repeats_and_the_own_generator_advances():
    net = net_of()
    assert same(drawn(net, rng=3), drawn(net, rng=3))
    assert not same(drawn(net, rng=3), drawn(net, rng=4))
    first, second = drawn(net), drawn(net)
    assert not same(first, second)
    again = net_of()
    assert same(drawn(again), first)
    assert same(drawn(again), second)


def test_a_generator_that_is_given_is_drawn_from():
    net, rng = net_of(), np.random.default_rng(3)
    before = copy.deepcopy(net.rng.bit_generator.state)
    first, second = drawn(net, rng=rng), drawn(net, rng=rng)
    assert same(first, drawn(net, rng=3))
    assert not same(first, second)
    assert net.rng.bit_generator.state == before


def test_value_and_grad_takes_a_seed():
    net = net_of()
    found = [net.value_and_grad(PROBLEM.x, PROBLEM.target, rng=seed) for seed in (3, 3, 4)]
    assert found[0][0] == found[1][0] != found[2][0]
    for name, g in found[0][1].parameters.items():
        assert np.array_equal(g, found[1][1].parameters[name])
    run = net.forward(PROBLEM.x, rng=3)
    assert float(found[0][0]) == pytest.approx(
        0.5 * np.mean((run.output - PROBLEM.target) ** 2), rel=1e-14
    )


@pytest.mark.parametrize(
    "duplicate",
    [lambda net: net.to("numpy"), copy.deepcopy],
    ids=["to", "deepcopy"],
)
def test_a_copy_draws_what_the_network_would_have_drawn(duplicate):
    """And neither advances the other's generator."""
    net = net_of()
    drawn(net)
    twin = duplicate(net)
    assert twin.rng is not net.rng
    first = drawn(twin)
    assert same(drawn(net), first)
    assert same(drawn(net), drawn(twin))


def test_a_moved_network_draws_the_same(harness):
    net = net_of()
    drawn(net)
    moved = net.to(harness.backend)
    assert same(drawn(moved), drawn(net))


def test_the_generator_is_a_generator():
    rng = np.random.default_rng(3)
    net = RNN(2, 3, rng=rng)
    assert net.rng is rng
    assert isinstance(RNN(2, 3, rng=1).rng, np.random.Generator)


def test_a_network_with_the_mean_of_its_masks_is_the_network_without():
    """In a linear network without recurrence the mean of many passes is the pass without dropout.

    A wrong scale, or inference with a mask, would be seen at once.
    """
    case = row_of("elman-identity").but(**SIZES | {"T": 1, "B": 1}, layers=2, **BOTH)
    net, problem = net_of(case), case.problem()
    # Every sequence of the batch is one draw.
    draws = 20_000
    x = np.broadcast_to(problem.x, (1, draws, case.I))
    state = tuple(np.broadcast_to(s, (2, draws, case.H)) for s in problem.state)
    outputs = net.forward(x, state, rng=0).output[0]
    want = net(problem.x, problem.state)[0][0, 0]
    error = np.std(outputs, axis=0) / np.sqrt(draws)
    assert np.all(error > 0)
    assert np.all(np.abs(np.mean(outputs, axis=0) - want) < 5 * error)


def test_a_unit_that_is_dropped_is_not_seen_at_any_step():
    """The columns of U for dropped units get no gradient from any step."""
    case = row_of("lstm").but(**SIZES | {"B": 1}, recurrent_dropout=0.5)
    run, gradients = on_numpy(case, rng=1)
    (m,) = masks_of(run).recurrent
    dropped = m.numpy()[0] == 0
    assert 0 < dropped.sum() < case.H
    assert np.any(gradients["weight_hh_l0"] != 0, axis=0).tolist() == (~dropped).tolist()


def test_between_layers_means_not_below_the_first_and_not_above_the_last():
    case = row_of("elman-tanh").but(**SIZES, dropout=0.9)
    net, problem = net_of(case), case.problem()
    assert net.forward(problem.x).tape.masks == ()
    assert np.array_equal(net.forward(problem.x).output, net(problem.x)[0])


def test_training_is_deterministic_and_drops():
    histories = []
    for seed in (0, 0, 1):
        net = net_of()
        net.rng = np.random.default_rng(seed)
        history = fit(net, (PROBLEM.x, PROBLEM.target), optimizer=SGD(0.1), epochs=3)
        histories.append(([record.loss for record in history.records], net.parameters))
    assert histories[0][0] == histories[1][0] != histories[2][0]
    for name, p in histories[0][1].items():
        assert np.array_equal(p, histories[1][1][name])
    plain = net_of(CASE.but(dropout=0.0, recurrent_dropout=0.0))
    want = fit(plain, (PROBLEM.x, PROBLEM.target), optimizer=SGD(0.1), epochs=3)
    assert [record.loss for record in want.records] != histories[0][0]


@pytest.mark.parametrize("seed", ["0", 1.5, True, -1])
def test_what_is_no_seed(seed):
    for use in (
        lambda: net_of().forward(PROBLEM.x, rng=seed),
        lambda: net_of().value_and_grad(PROBLEM.x, PROBLEM.target, rng=seed),
    ):
        with pytest.raises((TypeError, ValueError), match=r"rng is "):
            use()
