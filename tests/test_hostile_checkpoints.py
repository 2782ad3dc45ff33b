"""Checkpoints from strangers: refused in words, or resumed from; never anything else."""

import json
import random
import time
import warnings

import numpy as np
import pytest

from tests.hostile import joined, mutated, split, with_digest
from tests.resuming import assert_resumes, killed_in_step, remains
from xprnn import RNN, Checkpoint, fit, optim
from xprnn.data.batches import chunks, minibatches
from xprnn.optim import schedules
from xprnn.training.step import NonFiniteLossError

X = np.random.default_rng(1).normal(size=(4, 6, 2))


class Opaque:
    """Data of a type that the library does not know: the way to an epoch is through all before."""

    def __iter__(self):
        yield X, X
        yield X[:2], X[:2]


class Counter:
    """A callback with a state."""

    def __init__(self):
        self.count = 0

    def __call__(self, net, record):
        self.count += 1

    def state(self):
        return self.count

    def restore(self, state):
        if type(state) is not int:
            raise ValueError(f"the count is {type(state).__name__}: expected an int")
        self.count = state


def shuffled():
    net = RNN(2, 3, 2, cell="gru", dtype="float64", dropout=0.1, layers=2, rng=0)
    return net, {
        "batches": minibatches(X, X, 3, rng=1),
        "validation": (X, X),
        "optimizer": optim.Adam(0.01, amsgrad=True),
        "patience": 3,
        "clip_norm": 1.0,
        "callbacks": [Counter()],
        "epochs": 3,
        "rate_scale": schedules.halve_on_rise,
    }


def carried():
    net = RNN(2, 3, 2, cell="lstm", dtype="float64", rng=0)
    optimizer = optim.SGD(0.1, momentum=0.5)
    return net, {"batches": chunks(X, X, 2), "optimizer": optimizer, "epochs": 3}


def opaque():
    net = RNN(2, 3, 2, dtype="float64", rng=0)
    return net, {"batches": Opaque(), "optimizer": optim.Rprop(), "epochs": 3}


MAKERS = {make.__name__: make for make in (shuffled, carried, opaque)}


def train(make, checkpoint):
    net, options = make()
    return net, fit(net, **options, checkpoint=checkpoint)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the bytes of a checkpoint of every training, in the middle of the second epoch."""
    folder, found = tmp_path_factory.mktemp("valid"), {}
    for name, make in MAKERS.items():
        with killed_in_step(4):
            train(make, Checkpoint(folder / name, every_steps=1))
        found[name] = (folder / name).read_bytes()
    return found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.ckpt"


def attempt(path, name, content):
    """Resume from a file; return what remains, or None after checking the error."""
    path.write_bytes(content)
    started, refused, result = time.process_time(), "", None
    checkpoint = Checkpoint(path, resume=True)
    with warnings.catch_warnings():
        # Of another training's numbers, some overflow; that is no fault of the file's reader.
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            result = remains(*train(MAKERS[name], checkpoint))
        except NonFiniteLossError:
            pass
        except (ValueError, OSError) as error:
            refused = str(error)
    assert time.process_time() - started < 2
    if refused:
        assert str(path) in refused
        assert len(refused) < 5000
    checkpoint.previous.unlink(missing_ok=True)
    return result


def fuzz(count, seed, files, path):
    """Resume from mutated files; return how many were accepted."""
    rng, accepted = random.Random(seed), 0
    wanted = {name: attempt(path, name, content) for name, content in files.items()}
    digests = {name: split(content)[0]["__metadata__"]["digest"] for name, content in files.items()}
    assert all(wanted.values())
    for _ in range(count):
        name = rng.choice(sorted(files))
        changed = mutated(files[name], rng)
        found = attempt(path, name, changed)
        if found is None:
            continue
        accepted += 1
        if split(changed)[0]["__metadata__"]["digest"] == digests[name]:
            assert found == wanted[name]
    return accepted


def test_mutated_checkpoints_are_refused_in_words(files, path):
    assert 0 <= fuzz(300, 0, files, path) < 150


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1, 9))
def test_many_mutated_checkpoints_are_refused_in_words(files, path, seed):
    accepted = fuzz(1000, seed, files, path)
    print(f"1000 mutated checkpoints: {accepted} resumed from, the others refused in words")
    assert 0 < accepted < 500


def crafted(content, change):
    """Return a checkpoint with a changed configuration and the digest that it should have."""
    header, data = split(content)
    config = json.loads(header["__metadata__"]["config"])
    change(config)
    header["__metadata__"]["config"] = json.dumps(config)
    return with_digest(joined(json.dumps(header), data))


def part(config, *names):
    """Return the list [key, value] of a part of a packed state."""
    found = [None, config["parts"]]
    for name in names:
        (found,) = (pair for pair in found[1]["dict"] if pair[0] == name)
    return found


def setting(*names, to):
    def change(config):
        part(config, *names)[1] = to

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.pop("parts"), r"holds no training: it has \['same'\]"),
        (lambda config: config.update(more=1), "holds no training"),
        (lambda config: config.update(parts=[1]), r"it holds \[1\], which is nothing that was pa"),
        (lambda config: config.update(parts={"eval": "1"}), "it holds 'eval', which is nothing"),
        (lambda config: config.update(parts={"array": ["none"]}), "is of another training"),
        (lambda config: config["parts"]["dict"].pop(), "it has the parts"),
        (lambda config: config.update(same=3), "is of another training"),
        (setting("step", "updates", to="3"), "step.updates is '3': expected int"),
        (setting("step", "updates", to=-1), "step.updates is -1: expected at least 0"),
        (setting("step", "updates", to=10**400), r"step.updates is 1000.*\.\.\."),
        (setting("step", "parameters", to={"dict": []}), "step.parameters has other entries than"),
        (setting("step", "memory", to=None), "step.memory is None: expected"),
        (setting("epoch", "seconds", to=None), "epoch.seconds is None: expected float"),
        (setting("epoch", "norm", to={"list": []}), "is of another training"),
        (setting("epoch", "carried", to=3), "the carried state is of type int: expected a tuple"),
        (setting("history", "records", to={"list": [{"tuple": [1]}]}), "is of another training"),
        (setting("history", "best_epoch", to="x"), "best_epoch is 'x': expected an int or None"),
        (setting("history", "best_epoch", to=10**400), "best_epoch is 1000"),
        (setting("history", "best_epoch", to=0), "best_epoch is 0: expected 1 to"),
        (setting("batches", "epochs", to=10**9), "batches were read 1000000000 times"),
        (setting("batches", "read", to=10**9), "batches end after"),
        (setting("batches", "first", to=3), "the description of batches is 3: expected a dict"),
        (setting("callbacks", to=3), "have the methods state and restore: expected 3"),
        (setting("random", to={"dict": [["bit_generator", "PCG64"]]}), "is of another training"),
        (setting("random", "state", "state", to=10**400), "is of another training"),
    ],
)
def test_a_crafted_checkpoint_changes_nothing(files, path, change, message):
    """It has the digest that its content has, so what it holds must be looked at."""
    path.write_bytes(crafted(files["shuffled"], change))
    net, options = shuffled()
    before = {name: p.copy() for name, p in net.parameters.items()}
    drawn = str(net.rng.bit_generator.state)
    with pytest.raises(ValueError, match=f"run.ckpt'.*{message}"):
        fit(net, **options, checkpoint=Checkpoint(path, resume=True))
    assert all(np.array_equal(net.parameters[name], p) for name, p in before.items())
    assert str(net.rng.bit_generator.state) == drawn


def test_the_number_of_epochs_to_read_again_is_bounded(files, path):
    started = time.process_time()
    path.write_bytes(crafted(files["opaque"], setting("batches", "epochs", to=10**15)))
    with pytest.raises(ValueError, match="batches were read 1000000000000000 times: more than ask"):
        train(opaque, Checkpoint(path, resume=True))
    assert time.process_time() - started < 1


def test_a_weight_of_another_shape(files, path):
    header, data = split(files["carried"])
    name = next(name for name in header if name.endswith("bias_l0"))
    header[name]["shape"] = [3, 4]
    path.write_bytes(with_digest(joined(json.dumps(header), data)))
    with pytest.raises(ValueError, match="is of another training"):
        train(carried, Checkpoint(path, resume=True))


class OwnOptimizer:
    """Gradient descent with momentum, whose state changes its form with the first update."""

    def init(self, parameters):
        return {"velocity": 0.0, "updates": None}

    def update(self, gradients, state, parameters):
        velocity = state["velocity"] or dict.fromkeys(parameters, 0.0)
        velocity = {name: 0.5 * velocity[name] + g for name, g in gradients.items()}
        new = {name: p - 0.1 * velocity[name] for name, p in parameters.items()}
        return new, {"velocity": velocity, "updates": (state["updates"] or 0) + 1}


def test_the_state_of_a_users_own_optimizer_may_change_its_form(path):
    def make():
        net = RNN(2, 3, 2, dtype="float64", rng=0)
        data = minibatches(X, X, 3, rng=1)
        return net, {"batches": data, "optimizer": OwnOptimizer(), "epochs": 4}

    assert_resumes(make, path)


class Shrinking:
    """Data whose state is a list of what is left, and so has another length after each epoch."""

    def __init__(self):
        self.left = [3, 2, 2, 1]

    def state(self):
        return list(self.left)

    def restore(self, state):
        self.left = list(state)

    def __iter__(self):
        count = self.left[0]
        self.left = self.left[1:]
        for k in range(count):
            yield X[:, k : k + 2], X[:, k : k + 2]


def test_the_state_of_the_users_own_data_may_change_its_form(path):
    def make():
        net = RNN(2, 3, 2, dtype="float64", rng=0)
        return net, {"batches": Shrinking(), "optimizer": optim.SGD(0.1), "epochs": 4}

    assert_resumes(make, path)


def test_a_checkpoint_without_a_digest_is_damaged(files, path):
    header, data = split(files["carried"])
    del header["__metadata__"]["digest"]
    path.write_bytes(joined(json.dumps(header), data))
    with pytest.raises(ValueError, match=r"run\.ckpt' is damaged: it has no digest"):
        train(carried, Checkpoint(path, resume=True))
