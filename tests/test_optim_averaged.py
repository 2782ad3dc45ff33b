"""Averaged weights: worked out by hand, torch's average, and a training that stays the same."""

import numpy as np
import pytest

from tests.closeness import AUTOGRAD, FLOAT64, assert_all_close, assert_close
from tests.optional import optional
from tests.scripted import ONE, ZERO, Scripted, scalar_net, weight
from xprnn import RNN, fit
from xprnn.engine.gradients import SparseGradient
from xprnn.losses import SquaredError
from xprnn.optim import SGD, Adam, Averaged, ParameterGroups, Rprop

torch = optional("torch")


@pytest.mark.parametrize(
    ("options", "figures"),
    [
        # (1-d) Σ d^(t-k) θ_k / (1 - d^t): 3; (3/2 + 5)/(3/2); (3/4 + 5/2 - 1)/(7/4)
        ({"decay": 0.5}, (3.0, 13 / 3, 9 / 7)),
        # The same sums, added to the initial 8: 4 + 3/2; ...
        ({"decay": 0.5, "corrected": False}, (5.5, 5.25, 2.125)),
        ({"decay": 1}, (3.0, 4.0, 7 / 3)),
        ({"decay": 0}, (3.0, 5.0, -1.0)),
    ],
    ids=str,
)
def test_averages_by_hand(options, figures):
    p = {"w": np.array([8.0])}
    averaged = Averaged(Scripted(3.0, 5.0, -1.0, name="w"), **options)
    state = averaged.init(p)
    assert state.average["w"].tolist() == [8]
    for figure in figures:
        p, state = averaged.update(p, state, p)
        assert float(state.average["w"][0]) == pytest.approx(figure, abs=1e-14)
    assert state.iteration == 3


@pytest.mark.parametrize("decay", [0.9, None], ids=["moving", "mean"])
def test_a_hundred_steps_beside_torch(decay):
    """Torch's moving average starts at its first argument: the initial weights."""
    rng = np.random.default_rng(0)
    start, target = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    module = torch.nn.Linear(3, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(start))
    if decay is None:
        theirs, ours = torch.optim.swa_utils.AveragedModel(module), Averaged(Adam(0.05), decay=1)
    else:
        function = torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
        theirs = torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=function)
        ours = Averaged(Adam(0.05), decay=decay, corrected=False)
        theirs.update_parameters(module)
    judge = torch.optim.Adam(module.parameters(), lr=0.05)
    p = {"w": start}
    state = ours.init(p)
    for _ in range(100):
        module.weight.grad = (module.weight - torch.tensor(target)).detach()
        judge.step()
        theirs.update_parameters(module)
        p, state = ours.update({"w": p["w"] - target}, state, p)
        assert_close(state.average["w"], theirs.module.weight.detach().numpy(), AUTOGRAD)
    assert np.max(np.abs(state.average["w"] - p["w"])) > 1e-3


@pytest.mark.parametrize("decay", [0.3, 0.999, 0.999999])
def test_the_correction_is_that_of_adams_moments(decay):
    """a = 0 first, then decay·a + (1 - decay)·θ, divided by 1 - decayᵗ."""
    rng = np.random.default_rng(0)
    p, averaged = {"w": rng.normal(size=3)}, Averaged(SGD(0.5), decay)
    state, a = averaged.init(p), np.zeros(3)
    for t in range(1, 60):
        p, state = averaged.update({"w": rng.normal(size=3)}, state, p)
        a = decay * a + (1 - decay) * p["w"]
        np.testing.assert_allclose(state.average["w"], a / (1 - decay**t), rtol=1e-8)


def test_the_training_is_not_changed(harness):
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(2, 3)), rng.normal(size=(4, 2, 3))
    found = []
    for optimizer in (Averaged(Adam(0.1), 0.5), Adam(0.1)):
        p = {"w": harness.array(start)}
        state = optimizer.init(p)
        for g in gradients:
            p, state = optimizer.update({"w": harness.array(g)}, state, p)
        found.append(p)
    np.testing.assert_array_equal(*(harness.host(p["w"]) for p in found))


def test_every_backend_has_the_same_average(harness):
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(2, 3)), rng.normal(size=(4, 2, 3))
    found = []
    for array, host in ((harness.array, harness.host), (np.array, np.asarray)):
        p, averaged = {"w": array(start)}, Averaged("adam", 0.5)
        state = averaged.init(p)
        for value in gradients:
            g, before = {"w": array(value)}, state
            _, first = averaged.update(g, before, p)
            p, state = averaged.update(g, before, p)
            np.testing.assert_array_equal(host(first.average["w"]), host(state.average["w"]))
        found.append(host(state.average["w"]))
    assert_close(found[0], found[1], FLOAT64)


def test_a_sparse_gradient_moves_every_average():
    g = SparseGradient(np.array([0]), np.ones((1, 2)), (2, 2), axis=0)
    p = {"w": np.zeros((2, 2))}
    averaged = Averaged(SGD(1.0), 0.5, corrected=False)
    state = averaged.init({"w": np.full((2, 2), 8.0)})
    moved, state = averaged.update({"w": g}, state, p)
    assert moved["w"].tolist() == [[-1, -1], [0, 0]]
    assert state.average["w"].tolist() == [[3.5, 3.5], [4, 4]]


def test_the_average_of_a_noisy_training_is_the_better_network():
    rng = np.random.default_rng(0)
    x, loss = rng.normal(size=(1, 4000, 2)), SquaredError()
    target = x @ np.array([[2.0], [-1.0]]) + rng.normal(size=(1, 4000, 1))
    net = RNN(2, 2, 1, dtype="float64", rng=0)
    averaged = Averaged(SGD(0.1), 0.98)
    state = averaged.init(net.parameters)
    for i in range(0, 4000, 4):
        _, gradient = net.value_and_grad(x[:, i : i + 4], target[:, i : i + 4], loss=loss)
        net.parameters, state = averaged.update(gradient.parameters, state, net.parameters)
    last = float(loss(net(x)[0], target))
    net.parameters = state.average
    assert float(loss(net(x)[0], target)) < last


def test_groups_may_have_an_average():
    p = {"a": np.ones(1), "b": np.ones(1)}
    averaged = Averaged(ParameterGroups({"a": None}, otherwise=SGD(0.5)), decay=0.5)
    state = averaged.init(p)
    _, state = averaged.update(p, state, p)
    assert_all_close(state.average, {"a": np.ones(1), "b": np.full(1, 0.5)}, 1e-15)


def test_the_average_after_fit():
    """The weight is 1, ½, ¼, ⅛ with the output as gradient: the mean of the last three."""
    net = scalar_net(1.0)
    history = fit(net, (ONE, ZERO), optimizer=Averaged(SGD(0.5), decay=1), epochs=3)
    net.parameters = history.optimizer_state.average
    assert weight(net) == pytest.approx(0.875 / 3, rel=1e-15)


def test_a_rule_without_a_rate():
    net = scalar_net(1.0)
    with pytest.raises(TypeError, match=r"Rprop\(.*\) has no learning rate to scale"):
        fit(net, (ONE, ZERO), optimizer=Averaged(Rprop()), rate_scale=lambda _: 0.5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"optimizer": SGD}, TypeError, "optimizer is <class .*: expected a name or an instance"),
        ({"optimizer": "sdg"}, ValueError, "unknown optimizer 'sdg'"),
        ({"decay": -0.1}, ValueError, r"decay is -0\.1: expected a number at least 0"),
        ({"decay": 1.5}, ValueError, r"decay is 1\.5: expected a number from 0 to 1"),
        ({"decay": None}, TypeError, r"decay is None \(NoneType\): expected a number"),
        ({"corrected": 1}, TypeError, r"corrected is 1 \(int\): expected True or False"),
        (
            {"decay": 1, "corrected": False},
            ValueError,
            "decay is 1, but corrected is False: the average would stay at the initial weights",
        ),
    ],
)
def test_options_out_of_range(options, error, message):
    with pytest.raises(error, match=message):
        Averaged(**{"optimizer": "sgd", **options})
