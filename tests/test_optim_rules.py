"""Every rule: worked out by hand, torch's trajectories, every backend, no argument written to."""

from math import sqrt

import numpy as np
import pytest

from tests.closeness import AUTOGRAD, assert_all_close, assert_close, between_backends
from tests.optimizers import each_rule, walk
from tests.scripted import ONE, ZERO, scalar_net, weight
from xprnn import RNN, Checkpoint, fit
from xprnn.optim import (
    OPTIMIZERS,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Averaged,
    ParameterGroups,
    RMSprop,
    Rprop,
    get_optimizer,
)

GRADIENTS = (1.0, 2.0, -1.0)

# Adam with β₁ = 1/2, β₂ = 3/4: m = 1/2, 5/4, 1/8, and m̂ = 1, 5/3, 1/7;
# v = 1/4, 19/16, 73/64, and v̂ = 1, 19/7, 73/37.
ADAM = {"learning_rate": 0.1, "betas": (0.5, 0.75), "epsilon": 1.0}
SECOND, THIRD = (5 / 3) / (sqrt(19 / 7) + 1), (1 / 7) / (sqrt(73 / 37) + 1)
# With the largest v, 19/16, the last v̂ is 76/37.
LARGEST = (1 / 7) / (sqrt(76 / 37) + 1)

# RMSprop with α = 3/4: v as in Adam, m = 1/4, 11/16, 17/64; v - m² = 3/16, 183/256, 4383/4096.
RMS = {"learning_rate": 0.1, "alpha": 0.75, "epsilon": 1.0}
PLAIN = (2 / 3, 2 / (sqrt(19) / 4 + 1), -1 / (sqrt(73) / 8 + 1))
CENTERED = (1 / (sqrt(3) / 4 + 1), 2 / (sqrt(183) / 16 + 1), -1 / (sqrt(4383) / 64 + 1))


def walked(*moves: float) -> list[float]:
    """Return the weights after steps of 0.1 times these, starting at 1."""
    return [1 - 0.1 * sum(moves[: n + 1]) for n in range(len(moves))]


def with_momentum(first: float, second: float, third: float) -> tuple[float, float, float]:
    """Return b with a momentum of 1/2."""
    return first, first / 2 + second, first / 4 + second / 2 + third


@pytest.mark.parametrize(
    ("optimizer", "figures"),
    [
        (Adam(**ADAM), walked(0.5, SECOND, THIRD)),
        (Adam(**ADAM, amsgrad=True), walked(0.5, SECOND, LARGEST)),
        (AdamW(**ADAM, weight_decay=0), walked(0.5, SECOND, THIRD)),
        # θ shrinks by 1 - 0.1·0.5 before every step: 0.95 - 0.05, 0.9·0.95 - ...
        (
            AdamW(**ADAM, weight_decay=0.5),
            (0.9, 0.855 - 0.1 * SECOND, 0.95 * (0.855 - 0.1 * SECOND) - 0.1 * THIRD),
        ),
        (
            AdamW(**ADAM, weight_decay=0.5, amsgrad=True),
            (0.9, 0.855 - 0.1 * SECOND, 0.95 * (0.855 - 0.1 * SECOND) - 0.1 * LARGEST),
        ),
        (RMSprop(**RMS), walked(*PLAIN)),
        (RMSprop(**RMS, momentum=0.5), walked(*with_momentum(*PLAIN))),
        (RMSprop(**RMS, centered=True), walked(*CENTERED)),
        (RMSprop(**RMS, centered=True, momentum=0.5), walked(*with_momentum(*CENTERED))),
        # G = 1, 5, 6
        (Adagrad(0.1, epsilon=1), walked(1 / 2, 2 / (sqrt(5) + 1), -1 / (sqrt(6) + 1))),
        # η = 0.1, 0.05, 0.1/3
        (
            Adagrad(0.1, epsilon=1, decay=1),
            walked(1 / 2, 1 / (sqrt(5) + 1), -1 / 3 / (sqrt(6) + 1)),
        ),
        # G = 4, 8, 9
        (Adagrad(0.1, epsilon=1, initial=3), walked(1 / 3, 2 / (sqrt(8) + 1), -1 / 4)),
        # g + θ/2 = 1.5, 2.425, -0.69625
        (SGD(0.1, weight_decay=0.5), (0.85, 0.6075, 0.677125)),
        # v = -0.15, -0.3175, -0.085375
        (SGD(0.1, momentum=0.5, weight_decay=0.5), (0.85, 0.5325, 0.447125)),
        # g + θ/2 = 1.5, 2.3875, -0.8103125; v = -0.15, -0.31375, -0.07584375
        (
            SGD(0.1, momentum=0.5, nesterov=True, weight_decay=0.5),
            (0.775, 0.379375, 0.422484375),
        ),
    ],
    ids=str,
)
def test_the_first_steps_by_hand(optimizer, figures):
    p = {"w": np.array([[1.0]])}
    state = optimizer.init(p)
    for g, figure in zip(GRADIENTS, figures, strict=True):
        p, state = optimizer.update({"w": np.array([[g]])}, state, p)
        assert float(p["w"][0, 0]) == pytest.approx(figure, abs=1e-15)
    assert state.iteration == 3


@pytest.mark.parametrize(
    ("optimizer", "figures"),
    [
        (Adam(**ADAM, weight_decay=0.5), walked(0.5, SECOND, THIRD)),
        (RMSprop(**RMS, weight_decay=0.5), walked(*PLAIN)),
        (
            Adagrad(0.1, epsilon=1, weight_decay=0.5),
            walked(1 / 2, 2 / (sqrt(5) + 1), -1 / (sqrt(6) + 1)),
        ),
    ],
    ids=str,
)
def test_weight_decay_is_a_part_of_the_gradient(optimizer, figures):
    """With a gradient that is smaller by θ/2 the results are the same as above."""
    p = {"w": np.array([[1.0]])}
    state = optimizer.init(p)
    for g, figure in zip(GRADIENTS, figures, strict=True):
        p, state = optimizer.update({"w": g - 0.5 * p["w"]}, state, p)
        assert float(p["w"][0, 0]) == pytest.approx(figure, abs=1e-15)


@each_rule
def test_a_hundred_steps_beside_torch(row):
    found, wanted = walk(row, 100)
    for ours, theirs in zip(found, wanted, strict=True):
        assert_all_close(ours, theirs, AUTOGRAD)
    assert all(np.max(np.abs(found[-1][name] - p)) > 0.1 for name, p in found[0].items())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@each_rule
def test_every_backend_takes_the_same_steps(row, harness, dtype):
    harness = harness.at(dtype)
    start = np.random.default_rng(0).normal(size=(3, 2))
    found = []
    for array in (harness.array, np.array):
        p = {"w": array(start)}
        state = row.ours.init(p)
        for _ in range(5):
            p, state = row.ours.update({"w": p["w"] * 2 - 0.3}, state, p)
        found.append(p["w"])
    assert_close(harness.host(found[0]), found[1], between_backends(dtype, 10))


@each_rule
def test_arguments_stay_as_they_are(row, harness):
    p, g = ({"w": harness.array([[1.0, value]])} for value in (2.0, -3.0))
    first = row.ours.init(p)
    # Not the first state, whose zeros could hide an error.
    moved, second = row.ours.update(g, first, p)
    before = [leaf_value(leaf, harness) for leaf in leaves(second)]
    results = [row.ours.update(g, second, moved)[0]["w"] for _ in range(2)]
    assert [leaf_value(leaf, harness) for leaf in leaves(second)] == before
    assert harness.host(p["w"]).tolist() == [[1, 2]]
    assert harness.host(g["w"]).tolist() == [[1, -3]]
    assert harness.host(results[0]).tolist() == harness.host(results[1]).tolist()
    assert harness.host(results[0]).tolist() != harness.host(moved["w"]).tolist()


def leaves(state):
    """Return the leaves of a state; its containers may only be tuples and dicts."""
    if isinstance(state, dict):
        return [leaf for part in state.values() for leaf in leaves(part)]
    if isinstance(state, tuple):
        return [leaf for part in state for leaf in leaves(part)]
    return [state]


def leaf_value(leaf, harness):
    return leaf if isinstance(leaf, int | float | None) else harness.host(leaf).tolist()


@each_rule
def test_a_state_is_plain_numbers_and_arrays(row):
    p = {"w": np.ones((2, 2)), "b": np.ones(2)}
    optimizer = ParameterGroups({"b": Averaged(row.ours), "x": None}, otherwise=row.ours)
    with_frozen = {**p, "x": np.ones(1)}
    state = optimizer.init(with_frozen)
    _, state = optimizer.update(with_frozen, state, with_frozen)
    kinds = {type(leaf) for leaf in leaves(state)}
    assert kinds <= {int, float, np.ndarray, type(None)}
    assert np.ndarray in kinds or row.id in {"sgd", "sgd-decay"}


@each_rule
def test_a_training_goes_on_where_it_was(row, tmp_path):
    optimizer = ParameterGroups(
        {"bias_*": Averaged(row.ours), "readout.bias": None}, otherwise=Averaged(row.ours)
    )
    options = {"optimizer": optimizer, "batches": (np.ones((2, 3, 2)), np.ones((2, 3, 1)))}
    path, found = tmp_path / "run.ckpt", []
    for epochs in ((4,), (2, 4)):
        for upto in epochs:
            # The network starts with other weights, so a training that was not resumed would show.
            net = RNN(2, 3, 1, dtype="float64", rng=epochs.index(upto))
            keep = None if epochs == (4,) else Checkpoint(path, resume=True)
            history = fit(net, epochs=upto, checkpoint=keep, **options)
        assert len(history) == 4
        found.append((*net.parameters.values(), *leaves(history.optimizer_state)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@each_rule
def test_the_dtype_stays(row, dtype):
    p = {"w": np.ones((2, 2), dtype), "b": np.ones(2, dtype)}
    state = row.ours.init(p)
    for _ in range(3):
        p, state = row.ours.update(p, state, p)
    arrays = [*p.values(), *(leaf for leaf in leaves(state) if isinstance(leaf, np.ndarray))]
    assert {array.dtype.name for array in arrays} == {dtype}


@each_rule
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_no_gradient_is_no_division_by_zero(row, dtype):
    """Half precision has no ε = 10⁻⁸."""
    p = {"w": np.ones(3, dtype)}
    state = row.ours.init(p)
    for _ in range(3):
        p, state = row.ours.update({"w": np.zeros(3, dtype)}, state, p)
    assert p["w"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("alpha", [0.5, 0.9, 0.99])
def test_a_variance_is_not_negative(alpha):
    """With a constant gradient, v and m² become equal up to rounding."""
    rmsprop = RMSprop(1e-9, alpha=alpha, centered=True)
    g = {"w": np.random.default_rng(0).normal(size=50)}
    p = {"w": np.zeros(50)}
    state = rmsprop.init(p)
    for _ in range(300):
        p, state = rmsprop.update(g, state, p)
        assert np.all(np.isfinite(p["w"]))


SCALABLE = {
    "sgd": lambda rate: SGD(rate, momentum=0.5, decay=0.1, weight_decay=0.1),
    "adam": lambda rate: Adam(rate, weight_decay=0.1),
    "adamw": lambda rate: AdamW(rate, weight_decay=0.1),
    "rmsprop": lambda rate: RMSprop(rate, momentum=0.5),
    "adagrad": lambda rate: Adagrad(rate, decay=0.1),
    "by-name": lambda rate: ParameterGroups({"b": Adam(rate)}, otherwise=SGD(rate)),
    "averaged": lambda rate: Averaged(AdamW(rate)),
}
each_scalable = pytest.mark.parametrize("make", SCALABLE.values(), ids=SCALABLE)


@each_scalable
def test_rates_can_be_scaled(make):
    p = {"w": np.ones((1, 2)), "b": np.ones(2)}
    g = {"w": np.array([[1.0, -2.0]]), "b": np.array([0.5, 3.0])}
    found = []
    for optimizer, factor in ((make(0.4), 0.25), (make(0.1), 1.0)):
        state = optimizer.scaled(optimizer.scaled(optimizer.init(p), 2.0), factor / 2)
        moved = p
        for _ in range(3):
            moved, state = optimizer.update(g, state, moved)
        found.append(moved)
    assert_all_close(*found, 1e-14)
    assert all(np.all(found[0][name] != p[name]) for name in p)


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW, RMSprop, Adagrad])
def test_rates_follow_a_schedule(kind):
    optimizer = kind(lambda iteration: np.float64(0.5) / (1 + iteration))
    p = {"w": np.ones((2, 2), "float32")}
    state, rates = optimizer.init(p), []
    for _ in range(3):
        rates.append(optimizer.rate(state))
        p, state = optimizer.update(p, state, p)
    assert rates == [0.5, 0.25, 0.5 / 3]
    assert {type(rate) for rate in rates} == {float}
    assert p["w"].dtype == np.float32
    assert optimizer.rate(optimizer.scaled(state, 0.5)) == 0.0625


def test_the_loss_can_halve_the_rate_of_a_group():
    """After two epochs at 0.5 and 0.25 with the output as gradient: w = 1·½·¾."""
    net = scalar_net(1.0)
    optimizer = Averaged(ParameterGroups({"weight_ih_l0": SGD(0.5)}, otherwise=None))
    fit(net, (ONE, ZERO), optimizer=optimizer, epochs=2, rate_scale=lambda _: 0.5)
    assert weight(net) == 0.375


def test_rules_by_name():
    assert {type(get_optimizer(name)) for name in OPTIMIZERS} == set(OPTIMIZERS.values())
    assert get_optimizer("adamw") == AdamW()
    adam = Adam(0.3)
    assert get_optimizer(adam) is adam


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_by_name(name):
    """Ten steps by name give the same weights as ten steps of the rule."""
    net = scalar_net(1.0)
    fit(net, (ONE, ZERO), optimizer=name, epochs=10)
    rule = OPTIMIZERS[name]()
    p = {"weight_ih_l0": np.ones((1, 1))}
    state = rule.init(p)
    for _ in range(10):
        p, state = rule.update(p, state, p)
    assert weight(net) == pytest.approx(float(p["weight_ih_l0"][0, 0]), abs=1e-15)
    assert weight(net) < 1


@pytest.mark.parametrize(
    ("optimizer", "error", "message"),
    [
        ("Adam", ValueError, "unknown optimizer 'Adam': known are 'sgd', 'rprop', 'adam', 'adamw'"),
        (Adam, TypeError, "optimizer is <class .*: expected a name or an instance with the meth"),
        (None, TypeError, "optimizer is None: expected a name or an instance with the methods"),
        (0.1, TypeError, r"optimizer is 0\.1: expected a name or an instance with the methods"),
    ],
)
def test_no_optimizer(optimizer, error, message):
    with pytest.raises(error, match=message):
        get_optimizer(optimizer)


def above_zero(name: str) -> list:
    return [
        ({name: 0}, ValueError, rf"{name} is 0\.0: expected a number above 0"),
        ({name: "1"}, TypeError, rf"{name} is '1' \(str\): expected a number"),
        ({name: float("nan")}, ValueError, f"{name} is nan: expected a number above 0"),
    ]


def from_zero(name: str) -> list:
    return [
        ({name: -0.1}, ValueError, rf"{name} is -0\.1: expected a number at least 0"),
        ({name: True}, TypeError, rf"{name} is True \(bool\): expected a number"),
    ]


def below_one(name: str) -> list:
    return [
        *from_zero(name),
        ({name: 1}, ValueError, rf"{name} is 1\.0: expected a number at least 0 and below 1"),
    ]


def truth(name: str) -> list:
    return [({name: 1}, TypeError, rf"{name} is 1 \(int\): expected True or False")]


DECAY = [
    *from_zero("weight_decay"),
    *truth("lazy"),
    ({"decayed": 3}, TypeError, "decayed is 3: expected a pattern of parameter names, several"),
    ({"decayed": ["w", 3]}, TypeError, r"decayed is \['w', 3\]: expected a pattern of parameter"),
]
OF_ADAM = [
    *above_zero("learning_rate"),
    *above_zero("epsilon"),
    *DECAY,
    *truth("amsgrad"),
    ({"betas": 0.9}, TypeError, r"betas is 0\.9: expected two numbers"),
    ({"betas": (0.9,)}, TypeError, r"betas is \(0\.9,\): expected two numbers"),
    ({"betas": "ab"}, TypeError, "betas is 'ab': expected two numbers"),
    ({"betas": (0.9, 1)}, ValueError, r"betas\[1\] is 1\.0: expected a number at least 0 and bel"),
    ({"betas": (-1, 0.9)}, ValueError, r"betas\[0\] is -1\.0: expected a number at least 0"),
]
OF_RMSPROP = [
    *above_zero("learning_rate"),
    *below_one("alpha"),
    *above_zero("epsilon"),
    *below_one("momentum"),
    *truth("centered"),
    *DECAY,
]
OF_ADAGRAD = [
    *above_zero("learning_rate"),
    *from_zero("decay"),
    *from_zero("initial"),
    *above_zero("epsilon"),
    *DECAY,
]


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        (kind, *row)
        for kind, rows in (
            (Adam, OF_ADAM),
            (AdamW, OF_ADAM),
            (RMSprop, OF_RMSPROP),
            (Adagrad, OF_ADAGRAD),
            (SGD, [*DECAY, *truth("nesterov")]),
        )
        for row in rows
    ],
)
def test_options_out_of_range(kind, options, error, message):
    with pytest.raises(error, match=message):
        kind(**options)


@pytest.mark.parametrize("kind", OPTIMIZERS.values())
def test_numpy_numbers_become_plain_ones(kind):
    name = "initial" if kind is Rprop else "weight_decay"
    assert repr(kind(**{name: np.float32(0.5)})) == repr(kind(**{name: 0.5}))


def test_lists_become_tuples():
    betas, patterns = [np.float32(0.5), 0], ["weight_*"]
    adam = Adam(betas=betas, decayed=patterns)
    betas.clear()
    patterns.clear()
    assert adam == Adam(betas=(0.5, 0.0), decayed=("weight_*",))
