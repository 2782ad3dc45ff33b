"""Training: its steps, its history, and when it stops."""

import time

import numpy as np
import pytest

from tests.cases import each_cell
from tests.closeness import assert_all_close, assert_close, assert_same_history
from tests.process import run_python
from tests.scripted import ONE, ZERO, Scripted, scalar_net, weight
from xprnn import RNN, evaluate, fit
from xprnn.cells import Elman
from xprnn.data import Batch, chunks, minibatches
from xprnn.losses import SquaredError
from xprnn.optim import SGD, clip_by_norm, clip_by_value, global_norm


def sine(seed: int = 0):
    """Return 12 steps of 6 sequences."""
    t = np.arange(12.0).reshape(12, 1, 1) / 4 + np.random.default_rng(seed).uniform(0, 6, (1, 6, 1))
    return np.sin(t), np.sin(t + 0.25)


def ten_epochs(harness, **options):
    """Return the network and the history of a run with all options in use."""
    x, target = map(harness.array, sine())
    net = RNN(1, 6, 1, backend=harness.backend, rng=0)
    history = fit(
        net,
        minibatches(x, target, 3, rng=1),
        optimizer=SGD(0.05, momentum=0.9, nesterov=True, decay=0.01),
        epochs=10,
        clip_norm=0.5,
        clip_value=0.4,
        validation=(x, target),
        **options,
    )
    return net, history


def test_the_same_history_on_every_backend(harness):
    net, history = ten_epochs(harness)
    x, target = sine()
    twin = RNN(1, 6, 1, dtype="float64", rng=0)
    want = fit(
        twin,
        minibatches(x, target, 3, rng=1),
        optimizer=SGD(0.05, momentum=0.9, nesterov=True, decay=0.01),
        epochs=10,
        clip_norm=0.5,
        clip_value=0.4,
        validation=(x, target),
    )
    assert history.stopped == want.stopped == "epochs"
    assert_same_history(history.records, want.records, 1e-10)
    assert all(type(value) in (int, float) for record in history.records for value in record)
    assert_all_close(harness.hosts(dict(net.parameters)), dict(twin.parameters), 1e-10)
    assert want.loss[-1] < 0.5 * want.loss[0]


@each_cell
def test_the_loss_falls(case):
    problem = case.problem()
    net = case.make(dtype="float64", rng=0)
    history = fit(net, (problem.x, problem.target), optimizer=SGD(0.15), epochs=100)
    assert history.loss[-1] < 0.9 * history.loss[0]
    assert all(
        later < earlier for earlier, later in zip(history.loss, history.loss[1:], strict=False)
    )


@pytest.mark.parametrize(
    "clip", [{}, {"clip_norm": 0.1}, {"clip_value": 0.05}, {"clip_norm": 0.1, "clip_value": 0.05}]
)
def test_an_epoch_is_the_loop_written_out(clip):
    x, target = sine()
    net, twin = (RNN(1, 6, 1, dtype="float64", rng=0) for _ in range(2))
    batches = list(minibatches(x, target, 4, rng=0))
    sgd, loss = SGD(0.1, momentum=0.5), SquaredError("sum")
    history = fit(net, batches, loss=loss, optimizer=sgd, epochs=2, **clip)

    memory, losses, largest = sgd.init(twin.parameters), [], []
    for _ in range(2):
        values, norms = [], []
        for batch in batches:
            value, gradient = twin.value_and_grad(batch.x, batch.target, loss)
            g = gradient.parameters
            if "clip_value" in clip:
                g = clip_by_value(g, clip["clip_value"])
            norms.append(float(global_norm(g)))
            if "clip_norm" in clip:
                g, _ = clip_by_norm(g, clip["clip_norm"])
            values.append(float(value))
            twin.parameters, memory = sgd.update(g, memory, twin.parameters)
        losses.append(sum(values))
        largest.append(max(norms))
    assert history.loss == pytest.approx(losses, rel=1e-14)
    assert_all_close(dict(net.parameters), dict(twin.parameters), 0.0)
    norms = [record.gradient_norm for record in history.records]
    assert norms == ([None, None] if "clip_norm" not in clip else pytest.approx(largest, rel=1e-14))


def test_the_optimizer_is_sgd_unless_given():
    x, target = sine()
    nets = [RNN(1, 3, 1, dtype="float64", rng=0) for _ in range(2)]
    fit(nets[0], (x, target))
    fit(nets[1], (x, target), optimizer=SGD(0.01))
    assert_all_close(dict(nets[0].parameters), dict(nets[1].parameters), 0.0)


def test_the_arrays_that_the_network_had_stay_as_they_are():
    x, target = sine()
    net = RNN(1, 3, 1, dtype="float64", rng=0)
    had = dict(net.parameters)
    before = {name: p.copy() for name, p in had.items()}
    fit(net, (x, target), optimizer=SGD(0.1, momentum=0.9), epochs=3)
    assert_all_close(had, before, 0.0)
    assert all(np.any(net.parameters[name] != p) for name, p in before.items())


@pytest.mark.parametrize(
    "batches",
    [
        (ONE, ZERO),
        Batch(ONE, ZERO),
        [(ONE, ZERO)],
        [[ONE, ZERO]],
        [Batch(ONE, ZERO)],
        ((ONE, ZERO),),
        (Batch(ONE, ZERO),),
    ],
    ids=["pair", "batch", "pairs", "lists", "batches", "tuple of pairs", "tuple of batches"],
)
def test_data_come_in_many_shapes(batches):
    net = scalar_net(3.0)
    assert fit(net, batches, optimizer=SGD(0.5)).loss == [4.5]
    assert weight(net) == 1.5
    assert evaluate(net, batches) == 1.125


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_epochs_loss_is_over_all_entries(reduction):
    """Six sequences in batches of four: the last one counts for less."""
    x, target = sine()
    net, loss = RNN(1, 6, 1, dtype="float64", rng=0), SquaredError(reduction)
    still = Scripted(dict(net.parameters)["weight_ih_l0"], name="weight_ih_l0")
    want = float(loss(net(x)[0], target))
    batches = minibatches(x, target, 4, rng=0)
    history = fit(net, batches, loss=loss, optimizer=still, validation=batches, epochs=2)
    assert history.loss == pytest.approx([want, want], rel=1e-13)
    assert history.validation_loss == pytest.approx([want, want], rel=1e-13)
    assert evaluate(net, batches, loss=loss) == pytest.approx(want, rel=1e-13)
    assert evaluate(net, (x, target), loss=loss) == pytest.approx(want, rel=1e-13)


def test_chunks_carry_the_state():
    x, target = sine()
    nets = [RNN(1, 6, 1, dtype="float64", rng=0) for _ in range(3)]
    sgd, pieces = SGD(0.1), chunks(x, target, 5)
    fit(nets[0], pieces, optimizer=sgd)
    fit(nets[1], [(piece.x, piece.target) for piece in pieces], optimizer=sgd)

    net, state, memory = nets[2], None, sgd.init(nets[2].parameters)
    for piece in pieces:
        run = net.forward(piece.x, state)
        _, d_output = SquaredError().value_and_grad(run.output, piece.target)
        g = net.backward(run, d_output).parameters
        net.parameters, memory = sgd.update(g, memory, net.parameters)
        state = run.state
    assert_all_close(dict(nets[0].parameters), dict(net.parameters), 0.0)
    assert not np.array_equal(nets[1].parameters["bias_l0"], net.parameters["bias_l0"])


def test_every_epoch_of_chunks_starts_from_zero():
    x, target = sine()
    net = RNN(1, 6, 1, dtype="float64", rng=0)
    still = Scripted(net.parameters["bias_l0"], name="bias_l0")
    losses = fit(net, chunks(x, target, 5), optimizer=still, epochs=3).loss
    assert losses[0] == losses[1] == losses[2]
    assert losses[0] == pytest.approx(float(SquaredError()(net(x)[0], target)), rel=1e-13)


def test_evaluating_chunks_is_evaluating_the_whole():
    x, target = sine()
    net = RNN(1, 6, 1, dtype="float64", rng=0)
    whole = evaluate(net, (x, target))
    assert evaluate(net, chunks(x, target, 5)) == pytest.approx(whole, rel=1e-13)
    unconnected = [(piece.x, piece.target) for piece in chunks(x, target, 5)]
    assert evaluate(net, unconnected) != pytest.approx(whole, rel=1e-3)


def test_evaluating_changes_nothing(harness):
    x, target = map(harness.array, sine())
    net = RNN(1, 6, 1, backend=harness.backend, rng=0)
    had = dict(net.parameters)
    value = evaluate(net, (x, target))
    want = SquaredError()(RNN(1, 6, 1, dtype="float64", rng=0)(sine()[0])[0], sine()[1])
    assert value == pytest.approx(float(want), rel=1e-12)
    assert type(value) is float
    assert all(net.parameters[name] is p for name, p in had.items())


def test_the_last_output_can_be_trained(harness):
    x = harness.array(np.random.default_rng(0).integers(0, 2, (6, 20, 1)).astype("float64"))
    target = harness.backend.xp.sum(x, axis=0)
    linear = Elman("identity")
    net = RNN(1, 1, cell=linear, bias=False, returns="last", backend=harness.backend)
    start = {"weight_ih_l0": harness.array([[0.5]]), "weight_hh_l0": harness.array([[0.9]])}
    net.parameters = start
    history = fit(
        net, minibatches(x, target, 5, rng=0), optimizer=SGD(0.02, momentum=0.5), epochs=30
    )
    assert history.loss[-1] < 1e-4 * history.loss[0]
    for name in start:
        assert_close(harness.host(net.parameters[name]), [[1.0]], 0.02, name)


def test_the_same_seed_gives_the_same_bits(harness):
    (first, history), (second, again) = ten_epochs(harness), ten_epochs(harness)
    assert history.records == again.records
    for name, p in harness.hosts(dict(first.parameters)).items():
        assert p.tobytes() == harness.host(second.parameters[name]).tobytes()


def test_the_same_seed_gives_the_same_bits_in_another_process():
    code = """
import hashlib, numpy as np, xprnn
rng = np.random.default_rng(3)
x, target = rng.normal(size=(2, 9, 40, 2)).astype("float32")
net = xprnn.RNN(2, 16, 2, rng=0)
batches = xprnn.data.minibatches(x, target, 7, rng=1)
history = xprnn.fit(net, batches, optimizer=xprnn.optim.SGD(0.1, momentum=0.9), epochs=5)
print(*(loss.hex() for loss in history.loss))
print(hashlib.sha256(b"".join(p.tobytes() for p in net.parameters.values())).hexdigest())
"""
    first, second = run_python(code), run_python(code)
    assert first == second
    assert len(first.splitlines()[0].split()) == 5


def test_another_seed_gives_another_order():
    x, target = sine()
    losses = []
    for seed in (1, 2):
        net = RNN(1, 6, 1, dtype="float64", rng=0)
        losses.append(fit(net, minibatches(x, target, 3, rng=seed), epochs=2).loss)
    assert losses[0] != losses[1]


def test_callbacks_see_every_epoch():
    seen = []
    net = scalar_net(1.0)
    history = fit(
        net,
        (ONE, ZERO),
        optimizer=Scripted(3.0, 2.0, 1.0),
        epochs=3,
        validation=(ONE, ZERO),
        callbacks=[
            lambda net, record: seen.append((record.epoch, record.validation_loss, weight(net)))
        ],
    )
    assert seen == [(1, 4.5, 3.0), (2, 2.0, 2.0), (3, 0.5, 1.0)]
    assert history.loss == [0.5, 4.5, 2.0]
    assert history.stopped == "epochs"
    assert history.best_epoch is None
    assert len(history) == 3


def test_a_callback_stops_training_once_all_were_called():
    called = []

    def stop(net, record):
        called.append("stop")
        return record.epoch == 2

    def note(net, record):
        called.append("note")

    history = fit(
        scalar_net(1.0), (ONE, ZERO), optimizer=Scripted(1.0), epochs=9, callbacks=[stop, note]
    )
    assert called == ["stop", "note"] * 2
    assert (history.stopped, len(history)) == ("callback", 2)


def stop_early(*weights: float, **options):
    net = scalar_net(9.0)
    history = fit(
        net,
        (ONE, ZERO),
        optimizer=Scripted(*weights),
        validation=(ONE, ZERO),
        epochs=len(weights),
        **options,
    )
    return net, history


def test_early_stopping_keeps_the_best_weights():
    net, history = stop_early(3.0, 2.0, 2.5, 4.0, 1.0, patience=2)
    assert (history.stopped, len(history), history.best_epoch) == ("patience", 4, 2)
    assert weight(net) == 2.0


def test_patience_starts_anew_with_every_improvement():
    net, history = stop_early(3.0, 4.0, 2.0, 4.0, 1.0, 5.0, patience=2)
    assert (history.stopped, len(history), history.best_epoch) == ("epochs", 6, 5)
    assert weight(net) == 1.0


def test_equal_is_no_improvement():
    net, history = stop_early(3.0, -3.0, 3.0, 3.0, patience=2)
    assert (history.stopped, len(history), history.best_epoch) == ("patience", 3, 1)
    assert weight(net) == 3.0


def test_a_small_improvement_can_be_none():
    net, history = stop_early(3.0, 2.9, 2.8, 2.7, patience=2, min_delta=0.6)
    # 4.5, 4.205, 3.92, 3.645: never falls by more than 0.6 at once, but by 0.855 in three epochs.
    assert (history.stopped, len(history), history.best_epoch) == ("patience", 3, 1)
    assert weight(net) == 3.0


def test_the_best_weights_are_kept_when_a_callback_stops():
    def at_three(net, record):
        return record.epoch == 3

    net, history = stop_early(3.0, 2.0, 4.0, 5.0, patience=5, callbacks=[at_three])
    assert (history.stopped, len(history), history.best_epoch) == ("callback", 3, 2)
    assert weight(net) == 2.0


def test_the_time_is_added_up(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    history = fit(scalar_net(1.0), (ONE, ZERO), epochs=3)
    assert history.seconds == 3.0
