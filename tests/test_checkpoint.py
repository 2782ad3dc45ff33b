"""Trainings that are stopped and resumed end with the same bits as one that was never stopped."""

import os
import shutil
import time
from dataclasses import dataclass

import numpy as np
import pytest

from tests.resuming import (
    Killed,
    assert_resumes,
    killed_after_write,
    killed_in_step,
    remains,
    train,
)
from tests.scripted import ONE, ZERO, Scripted, scalar_net, weight
from xprnn import RNN, Checkpoint, NonFiniteLossError, TrainingInterrupted, cells, fit, optim
from xprnn.backend import get_backend
from xprnn.cells import CELLS
from xprnn.data import Batch, chunks, minibatches
from xprnn.data.text import sentence_batches
from xprnn.engine.network import loss_and_grad
from xprnn.optim import SGD, schedules
from xprnn.training.checkpoint import writer

X = np.random.default_rng(0).normal(size=(6, 10, 2))
Y = np.tanh(np.cumsum(X, axis=0))
SENTENCES = [np.random.default_rng(k).integers(3, 12, 4 + k % 5) for k in range(9)]


def dataset():
    return minibatches(X, Y, 4, rng=1)


def everything():
    """All options at once, and one random generator for the order of two sets of data."""
    rng = np.random.default_rng(5)
    net = RNN(2, 6, 2, cell="gru", layers=2, dropout=0.2, recurrent_dropout=0.2, rng=0)
    x, y = X.astype("float32"), Y.astype("float32")
    rate = schedules.warm_up(schedules.cosine(2.0, 15), 3)
    return net, {
        "batches": minibatches(x, y, 3, rng=rng),
        "loss": "squared_error",
        "optimizer": SGD(rate, momentum=0.9, nesterov=True, decay=0.01),
        "epochs": 4,
        "clip_norm": 0.5,
        "clip_value": 0.4,
        "accumulate": 2,
        "rate_scale": schedules.halve_on_rise,
        "validation": minibatches(x, y, 5, rng=rng),
        "patience": 4,
        "min_delta": 1e-4,
    }


def stopped_by_patience():
    net = RNN(2, 6, 2, dtype="float64", rng=0)
    data = {"batches": dataset(), "validation": (X, -Y)}
    return net, {**data, "optimizer": SGD(0.5), "epochs": 9, "patience": 2}


def carried():
    net = RNN(2, 5, 2, cell="lstm", dtype="float64", rng=0)
    return net, {"batches": chunks(X, Y, 2), "optimizer": SGD(0.5, momentum=0.5), "epochs": 3}


def words():
    net = RNN(12, 5, 12, embedding_size=4, dtype="float64", rng=0)
    data = sentence_batches(SENTENCES, 2, net.backend, rng=3)
    options = {"loss": "cross_entropy", "epochs": 2, "accumulate": 3, "clip_norm": 1.0}
    return net, {"batches": data, "optimizer": SGD(0.5), **options}


def one_pair():
    net = RNN(2, 5, 2, dtype="float64", rng=0)
    return net, {"batches": (X, Y), "optimizer": optim.Rprop(), "epochs": 5, "window": 2}


def a_list():
    net = RNN(2, 5, 2, dtype="float64", rng=0)
    data = [(X[:, :3], Y[:, :3]), [X[:, 3:5], Y[:, 3:5]], Batch(X[:, 5:], Y[:, 5:])]
    return net, {"batches": data, "validation": [*data], "epochs": 3}


class Drawn:
    """Data of a type that the library does not know: its generator draws every epoch anew."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __iter__(self):
        for _ in range(3):
            pick = self.rng.integers(0, 10, 4)
            yield X[:, pick], Y[:, pick]


def of_the_users_own():
    net = RNN(2, 5, 2, dtype="float64", rng=0)
    return net, {"batches": Drawn(1), "validation": Drawn(2), "optimizer": SGD(0.5), "epochs": 3}


def a_generator():
    net = RNN(2, 5, 2, dtype="float64", rng=0)
    return net, {"batches": (pair for _ in range(4) for pair in Drawn(1)), "optimizer": SGD(0.5)}


def unequal_lengths():
    net = RNN(2, 5, 2, cell="lstm", bidirectional=True, dtype="float64", rng=0)
    lengths = [6, 1, 3, 5, 2, 6, 4, 4, 1, 2]
    data = minibatches(X, Y, 4, lengths=lengths, rng=1)
    return net, {"batches": data, "optimizer": "adam", "epochs": 3, "accumulate": 2}


RUNS = (
    unequal_lengths,
    everything,
    stopped_by_patience,
    carried,
    words,
    one_pair,
    a_list,
    of_the_users_own,
    a_generator,
)
each_run = pytest.mark.parametrize("make", RUNS, ids=lambda make: make.__name__)


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.ckpt"


@each_run
def test_killed_after_any_checkpoint_it_ends_with_the_same_bits(make, path):
    want = train(make)
    wanted = remains(*want)
    number = 0
    while True:
        number += 1
        try:
            with killed_after_write(number):
                train(make, Checkpoint(path, every_steps=1, every_epochs=1))
        except pytest.fail.Exception:
            break  # it was not written so often: the run went to its end
        net, history = train(make, Checkpoint(path, every_steps=1, resume=True))
        assert history.resumed >= 1
        assert remains(net, history) == wanted
        for file in path.parent.iterdir():
            file.unlink()
    fewer_or_more = {"words": 4, "one_pair": 10, "a_generator": 13, "unequal_lengths": 6}
    assert number - 1 == fewer_or_more.get(make.__name__, 12)
    assert remains(*want) == wanted


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "both-ways"])
def test_every_cell(cell, bidirectional, path):
    def make():
        net = RNN(2, 4, 2, cell=cell, layers=2, bidirectional=bidirectional, dropout=0.5, rng=0)
        x, y = X.astype("float32"), Y.astype("float32")
        options = {"optimizer": SGD(0.3, momentum=0.9), "epochs": 2}
        return net, {"batches": minibatches(x, y, 4, rng=1), **options}

    assert_resumes(make, path)


def plain_optimizers():
    """Return the optimizers that can be made without arguments."""
    found = []
    for name in optim.__all__:
        kind = getattr(optim, name)
        if isinstance(kind, type) and hasattr(kind, "__dataclass_fields__"):
            try:
                found.append(kind())
            except TypeError:
                continue
    assert len(found) >= 6
    return found


WRAPPED = (
    optim.ParameterGroups({"readout.*": "adam", "*_hh_*": None}, otherwise=SGD(0.1, momentum=0.5)),
    optim.Averaged(optim.ParameterGroups({"readout.*": SGD(0.2)}, otherwise="adam"), decay=0.9),
)


@pytest.mark.parametrize(
    "optimizer", [*plain_optimizers(), *WRAPPED], ids=lambda o: type(o).__name__
)
@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "sparse"])
def test_every_optimizer(optimizer, tokens, path):
    def make():
        net = RNN(12 if tokens else 2, 4, 12 if tokens else 2, dtype="float64", rng=0)
        data = sentence_batches(SENTENCES, 3, net.backend, rng=3) if tokens else dataset()
        loss = "cross_entropy" if tokens else "squared_error"
        return net, {"batches": data, "loss": loss, "optimizer": optimizer, "epochs": 2}

    wanted = remains(*train(make))
    for step in (2, 5):
        with killed_in_step(step):
            train(make, Checkpoint(path, every_steps=1, resume=True))
    net, history = train(make, Checkpoint(path, every_steps=1, resume=True))
    assert history.resumed == 5
    assert remains(net, history) == wanted


def test_on_every_backend(harness, path):
    def make():
        net = RNN(2, 4, 2, recurrent_dropout=0.5, backend=harness.backend, rng=0)
        data = minibatches(harness.array(X[:2]), harness.array(Y[:2]), 5, rng=1)
        net.parameters = {k: harness.array(harness.host(p)) for k, p in net.parameters.items()}
        sgd = SGD(0.3, momentum=0.9)
        return net, {"batches": data, "optimizer": sgd, "epochs": 2}

    wanted = remains(*train(make))
    with killed_in_step(3):
        train(make, Checkpoint(path, every_steps=1))
    net, history = train(make, Checkpoint(path, resume=True))
    assert history.resumed == 2
    assert remains(net, history) == wanted


@dataclass(frozen=True)
class Transposed(SGD):
    """SGD whose new parameters are in column-major order, as a gradient might make them."""

    def update(self, gradients, state, parameters):
        new, state = super().update(gradients, state, parameters)
        return {k: np.asfortranarray(p) for k, p in new.items()}, state


def test_arrays_lie_in_memory_as_they_did(path):
    """Products of the same numbers in another memory layout may be rounded differently."""

    def make():
        net = RNN(40, 60, 40, rng=0)
        x = np.random.default_rng(1).normal(size=(9, 7, 40)).astype("float32")
        rule = Transposed(0.3, momentum=0.9)
        return net, {"batches": [(x, x)] * 2, "optimizer": rule, "epochs": 3}

    want, history = train(make)
    with killed_after_write(4):
        train(make, Checkpoint(path, every_steps=1))
    for _ in range(2):  # the second time all is restored and nothing computed
        net, again = train(make, Checkpoint(path, resume=True))
        assert remains(net, again) == remains(want, history)
        assert not net.parameters["weight_hh_l0"].flags.c_contiguous
        for name, p in want.parameters.items():
            assert net.parameters[name].strides == p.strides


def test_a_run_that_has_ended_is_returned_as_it_ended(path):
    for make in (everything, stopped_by_patience):
        want = train(make, Checkpoint(path))
        before = path.read_bytes()
        with pytest.MonkeyPatch.context() as patch:
            patch.delattr("xprnn.training.step.loss_and_grad")
            again = train(make, Checkpoint(path, resume=True))
        assert remains(*again) == remains(*want)
        assert path.read_bytes() == before
        assert again[1].seconds == want[1].seconds
        for file in path.parent.iterdir():
            file.unlink()


def test_a_callbacks_end_is_the_end(path):
    def make():
        def stop(net, record):
            return record.epoch == 2

        net, options = carried()
        return net, {**options, "callbacks": [stop]}

    want = train(make, Checkpoint(path))
    assert want[1].stopped == "callback"
    again = train(make, Checkpoint(path, resume=True))
    assert remains(*again) == remains(*want)


def test_more_epochs_go_on_where_fewer_ended(path):
    def make(epochs):
        net, options = everything()
        return net, {**options, "epochs": epochs, "patience": None}

    train(lambda: make(2), Checkpoint(path))
    again = train(lambda: make(5), Checkpoint(path, resume=True))
    assert again[1].resumed == 4
    assert remains(*again) == remains(*train(lambda: make(5)))


def test_more_patience_goes_on_where_less_ended(path):
    def make(patience):
        net, options = stopped_by_patience()
        return net, {**options, "patience": patience}

    assert train(lambda: make(2), Checkpoint(path))[1].stopped == "patience"
    again = train(lambda: make(4), Checkpoint(path, resume=True))
    want = train(lambda: make(4))
    assert len(want[1]) > 3
    assert remains(*again) == remains(*want)


def test_several_trainings_in_a_row_each_with_its_file(tmp_path):
    """Two trainings on the same data: the second continues the random order of the first."""

    def both(kill=None):
        data, nets = dataset(), [RNN(2, 4, 2, dtype="float64", rng=k) for k in (0, 1)]
        for k, net in enumerate(nets):
            kept = Checkpoint(tmp_path / f"{k}.ckpt", every_steps=1, resume=True)
            steps = {"optimizer": SGD(0.5), "epochs": 2, "checkpoint": kept}
            if kill == k:
                with killed_in_step(3):
                    fit(net, data, **steps)
                raise Killed
            fit(net, data, **steps)
        return [p.tobytes() for net in nets for p in net.parameters.values()]

    wanted = both()
    for file in tmp_path.iterdir():
        file.unlink()
    for kill in (0, 0, 1, 1):
        with pytest.raises(Killed):
            both(kill)
    assert both() == wanted


def test_ctrl_c_writes_the_last_update(path):
    wanted = remains(*train(everything))
    for step in (4, 7, 8):
        kept = Checkpoint(path, every_epochs=99, resume=True)
        with killed_in_step(step, KeyboardInterrupt):
            train(everything, kept)
        assert not list(path.parent.glob(".*"))
    net, history = train(everything, kept)
    assert history.resumed == 1 + 3 + 3  # updates of two batches each; what waited for one is lost
    assert remains(net, history) == wanted


def test_ctrl_c_in_a_callback_does_not_end_the_epoch_twice(path):
    net, options = everything()

    def interrupt(net, record):
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted):
        fit(net, **options, callbacks=[interrupt], checkpoint=Checkpoint(path, every_epochs=99))
    again = train(everything, Checkpoint(path, resume=True))
    assert again[1].resumed == 4
    assert remains(*again) == remains(*train(everything))


def test_ctrl_c_after_the_checkpoint_was_written_and_taken_away(path):
    """Nothing is unwritten then, but to say that the training can be resumed would be wrong."""
    batch = Batch(np.ones((2, 1, 1), "float32"), np.ones((2, 1, 1), "float32"))
    folder = path.parent / "folder"
    folder.mkdir()

    def batches():
        yield batch
        yield batch
        shutil.rmtree(folder)
        raise KeyboardInterrupt

    class Read:
        def __iter__(self):
            return batches()

    with pytest.raises(TrainingInterrupted) as caught:
        fit(RNN(1, 2, 1, rng=0), Read(), checkpoint=Checkpoint(folder / "run", every_steps=1))
    assert f"can't write the checkpoint '{folder / 'run'}': No such file" in caught.value.problem


def test_ctrl_c_before_the_first_update_leaves_nothing(path):
    with killed_in_step(1, KeyboardInterrupt):
        train(everything, Checkpoint(path))
    assert list(path.parent.iterdir()) == []


def test_ctrl_c_while_the_checkpoint_is_written(path, monkeypatch):
    calls, write = [], writer.write

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) in (3, 4):  # a second time while the first is being dealt with
            raise KeyboardInterrupt
        write(*args, **options)

    monkeypatch.setattr(writer, "write", interrupted)
    with pytest.raises(TrainingInterrupted) as caught:
        train(carried, Checkpoint(path, every_steps=1))
    assert caught.value.history.stopped == "interrupted"
    assert len(calls) == 4
    again = train(carried, Checkpoint(path, resume=True))
    assert again[1].resumed == 2
    assert remains(*again) == remains(*train(carried))


@pytest.mark.parametrize(
    ("options", "updates"),
    [
        ({"every_steps": 4}, [1, 4, 8, 9]),
        ({"every_epochs": 2}, [1, 6, 9]),
        ({"every_epochs": 1, "every_steps": 5}, [1, 3, 5, 6, 9]),
        ({"every_minutes": 2}, [1, 5, 9, 9]),
        ({"every_minutes": 2, "every_steps": 3}, [1, 3, 6, 9, 9]),
        ({"every_minutes": 0}, [1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9]),
        ({}, [1, 3, 5, 7, 9, 9]),
    ],
)
def test_when_it_is_written(options, updates, path, monkeypatch):
    """Three epochs of three updates, half a minute each; one more write at the end."""
    now, found, write, step = [0.0], [], writer.write, loss_and_grad

    def slow(*args, **given):
        now[0] += 30
        return step(*args, **given)

    monkeypatch.setattr("xprnn.training.step.loss_and_grad", slow)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def noted(checkpoint, content, **kept):
        write(checkpoint, content, **kept)
        step = dict(content.data["parts"]["dict"])["step"]["dict"]
        found.append(dict(step)["updates"])

    monkeypatch.setattr(writer, "write", noted)
    train(lambda: (carried()[0], {**carried()[1], "epochs": 3}), Checkpoint(path, **options))
    assert found == updates


@pytest.mark.parametrize(
    ("script", "kept"), [((2, 3, 4, np.inf), 4.0), ((2, 3, np.inf, np.inf), 3.0)]
)
@pytest.mark.parametrize("writes", [1, 2, 3, 4])
def test_what_fails_later_fails_in_the_same_way(script, kept, writes, path):
    """The weights to go back to after a failure are part of the checkpoint."""

    def failed(**options):
        net = scalar_net(1.0, "tanh")
        rule, pairs = Scripted(*script), [(ONE, ZERO)] * 2
        with pytest.raises(NonFiniteLossError) as caught:
            fit(net, pairs, optimizer=rule, epochs=9, **options)
        return weight(net), str(caught.value), caught.value.history.records

    with np.errstate(invalid="ignore"):
        want = failed()
        assert want[0] == kept
        with killed_after_write(writes):
            failed(checkpoint=Checkpoint(path, every_steps=1))
        assert failed(checkpoint=Checkpoint(path, resume=True)) == want


def test_callbacks_with_a_state_go_on_too(path):
    class Count:
        def __init__(self):
            self.epochs = []

        def __call__(self, _, record):
            self.epochs.append(record.epoch)

        def state(self):
            return tuple(self.epochs)

        def restore(self, state):
            self.epochs = list(state)

    def run(epochs, *counts, **options):
        net, given = carried()
        given |= {"callbacks": [lambda net, record: None, *counts], "epochs": epochs}
        return fit(net, **given, **options)

    run(2, Count(), checkpoint=path)
    count = Count()
    run(4, count, checkpoint=Checkpoint(path, resume=True))
    assert count.epochs == [1, 2, 3, 4]
    with pytest.raises(
        ValueError, match=r"0 callbacks have the methods state and restore: exp.* 1"
    ):
        run(4, checkpoint=Checkpoint(path, resume=True))


def test_the_history_says_where_it_was_taken_up(path):
    assert train(carried)[1].resumed is None
    assert train(carried, Checkpoint(path, resume=True))[1].resumed is None
    assert train(carried, Checkpoint(path, resume=True))[1].resumed == 9


def test_the_history_has_what_the_optimizer_remembers():
    net, options = carried()
    history = fit(net, **options)
    assert history.optimizer_state.iteration == 9
    assert set(history.optimizer_state.velocity) == set(net.parameters)


def test_time_is_added_up_over_interruptions(path, monkeypatch):
    now, step = [0.0], loss_and_grad

    def slow(*args, **given):
        now[0] += 10
        return step(*args, **given)

    monkeypatch.setattr("xprnn.training.step.loss_and_grad", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    with killed_after_write(5):
        train(carried, Checkpoint(path, every_steps=1))
    now[0] += 1000
    # Nine steps, of which five were made before: an epoch of three, and two of the next.
    assert train(carried, Checkpoint(path, resume=True))[1].seconds == 90


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": RNN(2, 6, 2, cell="lstm", dtype="float64")}, "net.hidden_size is 6, in the .* 5"),
        ({"net": RNN(2, 5, 2, dtype="float64")}, "net.cell is Elman, in the checkpoint LSTM"),
        ({"net": RNN(2, 5, 2, cell="lstm")}, "dtype is 'float32', in the checkpoint 'float64'"),
        (
            {"net": RNN(2, 5, 2, cell="lstm", dtype="float64", dropout=0.5)},
            r"net.dropout is 0\.5, in the checkpoint 0\.0",
        ),
        ({"optimizer": optim.Rprop()}, "optimizer is Rprop, in the checkpoint SGD"),
        (
            {"optimizer": optim.ParameterGroups({"readout.*": None}, otherwise=SGD(0.5))},
            "optimizer is ParameterGroups, in the checkpoint SGD",
        ),
        ({"optimizer": SGD(0.5)}, r"optimizer.momentum is 0\.0, in the checkpoint 0\.5"),
        (
            {"optimizer": SGD(schedules.cosine(0.5, 9), momentum=0.5)},
            "optimizer.learning_rate is partial of _cosine, in the ch.* 0.5",
        ),
        ({"batches": chunks(X, Y, 3)}, "batches.length is 2, in the checkpoint 3"),
        ({"batches": [(X, Y)]}, "batches is list, in the checkpoint chunks"),
        (
            {"batches": chunks(X[:, :4], Y[:, :4], 2)},
            r"batches are other data: of epoch 3, batch 1, x is numpy.ndarray of shape \(2, 4, 2\) "
            r"and dtype float64: expected numpy.ndarray of shape \(2, 10, 2\)",
        ),
        (
            {"batches": chunks(-X, Y, 2)},
            "batches are other data: of epoch 3, batch 1, x has other values than before",
        ),
        (
            {"batches": chunks(X, np.concatenate([Y[:-1], -Y[-1:]]), 2)},
            "batches are other data: of epoch 3, batch 3, target has other values than before",
        ),
        ({"validation": (X, Y)}, "validation is tuple, in the checkpoint None"),
        ({"loss": "cross_entropy"}, "loss is CrossEntropy, in the checkpoint SquaredError"),
        ({"clip_norm": 1}, r"clip_norm is 1\.0, in the checkpoint None"),
        ({"clip_value": 1}, r"clip_value is 1\.0, in the checkpoint None"),
        ({"window": 1}, "window is 1, in the checkpoint None"),
        ({"accumulate": 2}, "accumulate is 2, in the checkpoint 1"),
        ({"rate_scale": schedules.halve_on_rise}, "rate_scale is the function halve_on_rise, in"),
        ({"epochs": 2}, "epochs is 2: expected at least 3"),
        (
            {"window": 1, "optimizer": SGD(0.1)},
            r"optimizer.learning_rate is 0\.1, in the checkpoint 0\.5; optimizer.momentum is .*; "
            "window is 1, in the checkpoint None$",
        ),
    ],
)
def test_another_training_is_refused_and_the_difference_named(change, message, path):
    train(carried, Checkpoint(path))
    net, options = carried()
    options |= change
    net = options.pop("net", net)
    had = dict(net.parameters)
    with pytest.raises(ValueError, match="run.ckpt' is of another training: " + message):
        fit(net, **options, checkpoint=Checkpoint(path, resume=True))
    assert all(net.parameters[name] is p for name, p in had.items())


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (2, "batches end after 2 batches of epoch 2: expected at least 3, as before"),
        (4, "batches go on after 3 batches of epoch 2: expected an end there, as before"),
    ],
)
def test_data_of_unknown_length_that_end_elsewhere(count, message, path):
    class Some:
        def __init__(self, count):
            self.count = count

        def __iter__(self):
            return iter([(X, Y)] * self.count)

    def run(count, **options):
        fit(RNN(2, 3, 2, dtype="float64", rng=0), Some(count), epochs=2, **options)

    run(3, checkpoint=path)
    with pytest.raises(ValueError, match=message):
        run(count, checkpoint=Checkpoint(path, resume=True))


def test_data_that_are_drawn_without_a_seed_are_found_out(path):
    def make():
        net, options = of_the_users_own()
        return net, {**options, "batches": Drawn(None)}

    with killed_after_write(6):
        train(make, Checkpoint(path, every_steps=1))
    message = r"of epoch 2, batch 1, x has other values than before \(data that draws random numb"
    with pytest.raises(ValueError, match=message):
        train(make, Checkpoint(path, resume=True))


def test_another_backend_is_refused(path):
    train(carried, Checkpoint(path))
    backend = get_backend("array_api_strict", dtype="float64")
    net = RNN(2, 5, 2, cell="lstm", backend=backend)
    options = carried()[1] | {
        "batches": chunks(backend.asarray(X), backend.asarray(Y), 2),
        "checkpoint": Checkpoint(path, resume=True),
    }
    with pytest.raises(ValueError, match="backend is 'array_api_strict', in the checkpoint 'numpy"):
        fit(net, **options)


def test_patience_and_what_it_watches_are_compared(path):
    train(stopped_by_patience, Checkpoint(path))
    kept = Checkpoint(path, resume=True)
    for change, message in (
        ({"patience": None}, "patience is None, in the checkpoint 'given'"),
        ({"min_delta": 0.5}, r"min_delta is 0\.5, in the checkpoint 0\.0"),
        ({"validation": (X, Y)}, "validation are other data: of epoch 3, batch 1, target has othe"),
        ({"validation": (X[:, 1:], Y[:, 1:])}, r"batch 1, x is numpy.ndarray of shape \(6, 9, 2\)"),
    ):
        net, options = stopped_by_patience()
        with pytest.raises(ValueError, match=message):
            fit(net, **options | change, checkpoint=kept)


def test_another_kind_of_random_generator_is_refused(path):
    train(carried, Checkpoint(path))
    net, options = carried()
    net.rng = np.random.Generator(np.random.MT19937(0))
    with pytest.raises(ValueError, match="the random generator is a MT19937: expected a PCG64"):
        fit(net, **options, checkpoint=Checkpoint(path, resume=True))


class Remembers:
    """A callback with a state."""

    def __init__(self, error=None):
        self.value, self.error = "mine", error

    def __call__(self, net, record):
        pass

    def state(self):
        return self.value

    def restore(self, state):
        self.value = state
        if self.error is not None and state == "theirs":
            raise self.error


def break_best_weights(monkeypatch):
    def broken(self, state):
        self.epoch = state["epoch"]
        if self.epoch:
            raise ValueError("does not fit")

    monkeypatch.setattr("xprnn.training.best.BestWeights.restore", broken)


def break_folder(monkeypatch):
    def refuse(self):
        raise OSError("can't write")

    monkeypatch.setattr(writer.CheckpointWriter, "_check_writable", refuse)


def break_reading(monkeypatch):
    def interrupted(self, batch, before):
        raise KeyboardInterrupt

    monkeypatch.setattr("xprnn.training.checkpoint.DataPosition._compare", interrupted)


def change_generator(net):
    net.rng = np.random.Generator(np.random.MT19937(0))


@pytest.mark.parametrize(
    ("callbacks", "prepare", "error"),
    [
        ([], None, "1 callbacks have the methods state and restore: expected 2"),
        ([Remembers(RuntimeError("no"))], None, RuntimeError),
        ([Remembers(KeyError("no"))], None, KeyError),
        ([Remembers()], change_generator, "the random generator is a MT19937"),
        ([Remembers()], break_best_weights, "does not fit"),
        ([Remembers()], break_folder, OSError),
        ([Remembers()], break_reading, KeyboardInterrupt),
    ],
)
def test_what_does_not_fit_changes_nothing(callbacks, prepare, error, path, monkeypatch):
    first, more = Remembers(), Remembers()
    net, options = everything()
    first.value = more.value = "theirs"
    with killed_after_write(5):
        fit(net, **options, callbacks=[first, more], checkpoint=Checkpoint(path, every_steps=1))

    net, options = everything()
    if prepare is change_generator:
        change_generator(net)
    elif prepare is not None:
        prepare(monkeypatch)
    first = Remembers()
    parameters, rng = dict(net.parameters), str(net.rng.bit_generator.state)
    order = str(options["batches"].state())
    expected = pytest.raises(ValueError, match=error) if isinstance(error, str) else None
    with expected or pytest.raises(error) as caught:
        kept = Checkpoint(path, resume=True)
        fit(net, **options, callbacks=[first, *callbacks], checkpoint=kept)
    assert all(net.parameters[name] is p for name, p in parameters.items())
    assert str(net.rng.bit_generator.state) == rng
    assert str(options["batches"].state()) == order
    assert [each.value for each in (first, *callbacks)] == ["mine"] * (1 + len(callbacks))
    assert not hasattr(caught.value, "__notes__")
    monkeypatch.undo()
    # And the same objects can be trained as if nothing had happened.
    if prepare is not change_generator:
        assert remains(net, fit(net, **options)) == remains(*train(everything))


@pytest.mark.parametrize("kind", ["MT19937", "Philox", "SFC64", "PCG64DXSM"])
def test_every_kind_of_random_generator(kind, path):
    def make():
        net = RNN(2, 4, 2, dropout=0.4, layers=2, rng=0)
        net.rng = np.random.Generator(getattr(np.random, kind)(1))
        data_rng = np.random.Generator(getattr(np.random, kind)(2))
        x, y = X.astype("float32"), Y.astype("float32")
        return net, {"batches": minibatches(x, y, 4, rng=data_rng), "epochs": 2}

    want, _ = train(make)
    with killed_in_step(5):
        train(make, Checkpoint(path, every_steps=1))
    net, _ = train(make, Checkpoint(path, resume=True))
    for name, p in want.parameters.items():
        assert net.parameters[name].tobytes() == p.tobytes()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": 3}, TypeError, "checkpoint is 3: expected a path or an xprnn.Checkpoint"),
        ({"every_steps": 0}, ValueError, "every_steps is 0: expected an int of at least 1"),
        ({"every_epochs": 1.5}, TypeError, r"every_epochs is 1\.5 \(float\): expected an int"),
        ({"every_minutes": -1}, ValueError, r"every_minutes is -1\.0: expected a number at least"),
        ({"resume": 1}, TypeError, r"resume is 1 \(int\): expected True or False"),
    ],
)
def test_what_is_no_option(options, error, message):
    with pytest.raises(error, match=message):
        Checkpoint(**{"path": "run.ckpt"} | options)


def test_what_is_no_checkpoint():
    net, options = carried()
    with pytest.raises(TypeError, match="checkpoint is 5: expected a path or an xprnn"):
        fit(net, **options, checkpoint=5)


def test_a_state_that_can_not_be_kept_is_found_out_before_the_training(path):
    class Odd(Scripted):
        def init(self, _):
            return {"seen": {1, 2}}

    net = scalar_net(1.0)
    message = "training/step/memory/seen is set: a checkpoint can hold None, numbers, text, arrays"
    with pytest.raises(TypeError, match=message):
        fit(net, (ONE, ZERO), optimizer=Odd(2.0), checkpoint=path)
    assert weight(net) == 1.0
    assert list(path.parent.iterdir()) == []


def test_cells_of_the_users_own_are_compared_too(path):
    from tests.gated import Gated

    x = np.ones((3, 2, 1))
    fit(RNN(1, 3, 1, cell=Gated(0.5), dtype="float64"), (x, x), checkpoint=path)
    net = RNN(1, 3, 1, cell=Gated(0.25), dtype="float64")
    with pytest.raises(ValueError, match=r"net.cell.leak is 0\.25, in the checkpoint 0\.5"):
        fit(net, (x, x), checkpoint=Checkpoint(path, resume=True))
    assert isinstance(cells.CELLS, dict)
