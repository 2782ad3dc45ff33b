"""Nothing to average, tapes of other weights, and what pickles."""

import copy
import pickle

import numpy as np
import pytest

import xprnn
from tests.harness import on_flavours
from xprnn import RNN, Checkpoint, data, evaluate, fit, optim, unroll, unroll_backward
from xprnn.optim import SGD, Adam, schedules

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 4, 3)), RNG.normal(size=(6, 4, 2))
T = RNG.integers(0, 5, (6, 4))
IGNORED = np.full_like(T, -1)


def net(**options):
    return RNN(3, 4, 2, dtype="float64", rng=0, **options)


def language(**options):
    return RNN(5, 4, 5, dtype="float64", rng=0, **options)


EMPTY = (X[:, :0], Y[:, :0])
NOTHING = {
    "no sequences": (net, "squared_error", EMPTY),
    "a list of such": (net, "squared_error", [EMPTY, EMPTY]),
    "a Batch": (net, "squared_error", data.Batch(*EMPTY)),
    "ignored": (language, "cross_entropy", (T, IGNORED)),
    "ignored, in a list": (language, "cross_entropy", [(T, IGNORED)] * 2),
    "ignored, with lengths": (
        language,
        "cross_entropy",
        data.Batch(T, np.where(np.arange(6)[:, None] < 3, -1, T), lengths=[3, 3, 3, 2]),
    ),
    "ignored, summed": (language, xprnn.losses.CrossEntropy("sum"), (T, IGNORED)),
    "no sequences, summed": (net, xprnn.losses.SquaredError("sum"), EMPTY),
}
nothing = pytest.mark.parametrize(("make", "loss", "batches"), NOTHING.values(), ids=NOTHING)


@nothing
def test_nothing_to_evaluate(make, loss, batches):
    message = r"nothing to evaluate: (one batch|2 batches) without an entry, because there are no"
    with pytest.raises(ValueError, match=message):
        evaluate(make(), batches, loss=loss)


@nothing
def test_nothing_to_validate(make, loss, batches):
    given = (X, Y) if make is net else (T, T)
    with pytest.raises(ValueError, match="nothing to evaluate") as error:
        fit(make(), given, loss=loss, validation=batches, patience=2, epochs=9)
    assert error.value.__notes__ == ["in the validation data"]


@nothing
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"clip_norm": 1.0}])
def test_nothing_to_train_on(make, loss, batches, options):
    """No update is made, so the weights don't decay either."""
    mine = make()
    before = {k: p.copy() for k, p in mine.parameters.items()}
    with pytest.raises(ValueError, match=r"nothing to train on in epoch 1: .* without"):
        fit(mine, batches, loss=loss, optimizer=optim.AdamW(0.1, weight_decay=0.5), **options)
    assert all(np.array_equal(p, mine.parameters[k]) for k, p in before.items())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_of_padding_in_between_makes_no_update(accumulate):
    full, empty = (T, T), (T, IGNORED)
    with_padding, without = language(), language()
    rule = optim.AdamW(0.1, weight_decay=0.5)
    more = [part for each in ([full] * accumulate, [empty] * accumulate) * 2 for part in each]
    for mine, batches in ((with_padding, more), (without, [full] * accumulate * 2)):
        last = fit(
            mine, batches, loss="cross_entropy", optimizer=rule, accumulate=accumulate, epochs=2
        )
        assert last.optimizer_state.iteration == 4
    for name, p in without.parameters.items():
        assert np.array_equal(p, with_padding.parameters[name])


@on_flavours("numpy", "strict", "torch", "jax")
@pytest.mark.parametrize("recompute", [False, True])
def test_a_run_is_of_its_weights(harness, recompute):
    mine = RNN(3, 4, 2, cell="gru", backend=harness.backend, rng=0)
    other = RNN(3, 4, 2, cell="gru", backend=harness.backend, rng=1)
    x, d = harness.array(X), harness.array(Y)
    run = mine.forward(x, recompute=recompute)
    right = mine.backward(run, d).parameters
    message = r"run was made with other weights than those given now: .*weight_hh_l0, .* differ"
    with pytest.raises(ValueError, match=message):
        other.backward(run, d)
    before = dict(mine.parameters)
    mine.parameters, _ = SGD().update(right, SGD().init(before), before)
    with pytest.raises(ValueError, match=message):
        mine.backward(run, d)
    mine.parameters = before
    again = mine.backward(run, d).parameters
    assert all(np.array_equal(harness.host(g), harness.host(again[k])) for k, g in right.items())
    mine.parameters["readout.bias"] = other.parameters["readout.bias"]
    with pytest.raises(ValueError, match=r"given now: readout\.bias differ"):
        mine.backward(run, d)
    # Equal numbers in other arrays are the same weights.
    same = RNN(3, 4, 2, cell="gru", backend=harness.backend, rng=0)
    again = same.backward(run, d).parameters
    assert all(np.array_equal(harness.host(g), harness.host(again[k])) for k, g in right.items())


@on_flavours("numpy", "strict", "torch", "jax")
def test_a_tape_is_of_its_weights(harness):
    W, U, b = (harness.array(RNG.normal(size=s)) for s in ((12, 3), (12, 4), (12,)))
    x, dh = harness.array(X), harness.array(RNG.normal(size=(6, 4, 4)))
    tape = unroll("gru", (W, U, b), x).tape
    unroll_backward("gru", (W, U, b), tape, dh)
    for k, name in enumerate("WUb"):
        weights = [W, U, b]
        weights[k] = weights[k] * 2
        with pytest.raises(ValueError, match=f"tape was made with other weights .* now: {name} "):
            unroll_backward("gru", weights, tape, dh)
    with pytest.raises(ValueError, match="given now: b differ"):
        unroll_backward("gru", (W, U), tape, dh)


def test_a_run_that_was_pickled():
    mine = net(cell="lstm")
    run = mine.forward(X)
    right = mine.backward(run, Y).parameters
    there = pickle.loads(pickle.dumps(mine)), pickle.loads(pickle.dumps(run))
    for name, g in there[0].backward(there[1], Y).parameters.items():
        assert np.array_equal(g, right[name])


SCHEDULES = [
    schedules.step(0.1, 3),
    schedules.exponential(0.1, 0.9),
    schedules.inverse_time(0.1, 0.5),
    schedules.cosine(0.1, 20, 0.01),
    schedules.warm_up(0.1, 5),
    schedules.warm_up(schedules.cosine(0.1, 20), 5),
]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_pickle(schedule, again):
    back = again(schedule)
    assert [back(k) for k in range(30)] == [schedule(k) for k in range(30)]
    assert again(Adam(schedule)).rate(Adam().init({})) == schedule(0)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_networks_and_options_pickle(again):
    assert again(Checkpoint("a.ckpt", every_steps=3)) == Checkpoint("a.ckpt", every_steps=3)
    mine = net(cell="lstm", layers=2, bidirectional=True, dropout=0.5)
    mine.metadata = {"a": [1]}
    other = again(mine)
    assert other.metadata == mine.metadata
    assert other.metadata is not mine.metadata
    for name, p in mine.parameters.items():
        assert np.array_equal(p, other.parameters[name])
        assert not np.shares_memory(p, other.parameters[name])
    assert np.array_equal(mine.forward(X).output, other.forward(X).output)
    for rule in (optim.Averaged(Adam(SCHEDULES[-1])), optim.ParameterGroups({"*": "sgd"}, "adam")):
        assert again(rule) is not None
    history = fit(mine, (X, Y), optimizer=Adam(SCHEDULES[3]))
    assert again(history).loss == history.loss


def test_metadata_of_numbers(tmp_path):
    mine, path = net(), tmp_path / "m.safetensors"
    mine.metadata = {
        "mean": np.float32(0.5),
        "count": np.int64(3),
        "good": np.bool_(True),
        "parts": [np.float64(1.5), (np.uint8(2), {"deep": np.str_("text")})],
    }
    mine.save(path)
    back = RNN.load(path).metadata
    assert back == {"mean": 0.5, "count": 3, "good": True, "parts": [1.5, [2, {"deep": "text"}]]}
    assert type(back["good"]) is bool


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ones(2), r"metadata\['a'\]\[1\] is numpy.ndarray of shape \(2,\) and dtype float64"),
        ({1, 2}, r"metadata\['a'\]\[1\] is set: expected"),
        ({"b": 1j}, r"metadata\['a'\]\[1\]\['b'\] is complex: expected"),
        (np.complex64(1), r"metadata\['a'\]\[1\] is complex: expected"),
        ({2: 1}, r"metadata\['a'\]\[1\] has the key 2 \(int\): expected text"),
        (object, r"metadata\['a'\]\[1\] is type: expected"),
    ],
)
def test_metadata_of_other_objects(tmp_path, value, message):
    mine = net()
    mine.metadata = {"a": [0, value]}
    with pytest.raises(TypeError, match=message):
        mine.save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [np.nan, np.float32("inf"), -np.inf])
def test_metadata_that_are_not_finite(tmp_path, value):
    mine = net()
    mine.metadata = {"a": [0, value]}
    with pytest.raises(ValueError, match=r"metadata\['a'\]\[1\] is -?(nan|inf): expected finite"):
        mine.save(tmp_path / "m.safetensors")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 2, 2), (40, 200, 2)])
def test_numbers_whose_squares_overflow_are_finite(dtype, shape):
    x = np.full(shape, np.finfo(dtype).max / 4, dtype)
    net = RNN(2, 3, dtype=dtype, rng=0)
    with np.errstate(all="raise", under="ignore"):
        net(x / 1e10)
        net(np.swapaxes(x, 0, 1) / 1e10)
        for bad in (np.nan, np.inf):
            x[-1, -1, -1] = bad
            with pytest.raises(ValueError, match=f"1\\] is {bad}: expected finite"):
                net(x)
