"""What updates, clipping and schedules refuse, before anything has changed."""

import math

import numpy as np
import pytest

import xprnn
from tests.harness import on_flavours
from xprnn import RNN, NonFiniteLossError
from xprnn.engine.gradients import FactoredGradient, SparseGradient
from xprnn.optim import (
    OPTIMIZERS,
    SGD,
    Adam,
    Averaged,
    ParameterGroups,
    RMSprop,
    clip_by_norm,
    clip_by_value,
    global_norm,
)

RULES = {name: rule() for name, rule in OPTIMIZERS.items()} | {
    "momentum": SGD(momentum=0.9),
    "amsgrad": Adam(amsgrad=True),
    "centered": RMSprop(centered=True, momentum=0.5),
    "averaged": Averaged("adam"),
    "groups": ParameterGroups({"weight_*": SGD(momentum=0.9)}, otherwise="adam"),
    "nested": ParameterGroups({"weight_*": Averaged("rprop")}, otherwise=Averaged("sgd")),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
NET = RNN(3, 200, 2, cell="gru", dtype="float64", rng=0)


def fresh(net=NET):
    """Return parameters and gradients that nothing else refers to."""
    x, target = np.ones((4, 2, 3)), np.zeros((4, 2, 2))
    gradients = dict(net.value_and_grad(x, target)[1].parameters)
    return {k: p.copy() for k, p in net.parameters.items()}, gradients


def arrays(state):
    """Return the arrays of a state."""
    if isinstance(state, dict):
        return [a for part in state.values() for a in arrays(part)]
    if isinstance(state, tuple):
        return [a for part in state for a in arrays(part)]
    return [state] if isinstance(state, np.ndarray) else []


def refused(rule, gradients, state, parameters, error, message):
    """Check that an update in place raises this error and changes nothing."""
    mine = [*parameters.values(), *arrays(state)]
    before = [a.copy() for a in mine]
    for into in (None, (parameters, state)):
        with pytest.raises(error, match=message):
            rule.update(gradients, state, parameters, into=into)
    assert all(np.array_equal(a, b) for a, b in zip(before, mine, strict=True))


@every_rule
def test_gradients_that_do_not_fit(rule):
    parameters, gradients = fresh()
    state = rule.init(parameters)
    last = "readout.bias"
    a = gradients[last]

    def others(value):
        return {**gradients, last: value}

    def refuse(given, error, message):
        refused(rule, given, state, parameters, error, message)

    without = {k: g for k, g in gradients.items() if k != last}
    refuse(without, KeyError, f"gradients lacks {last}: expected an array for every parameter")
    refuse({}, KeyError, "gradients lacks weight_ih_l0, weight_hh_l0, ")
    refuse({**gradients, "typo": a}, KeyError, "gradients has typo, which no parameter is called")
    refuse(others(np.ones(1)), ValueError, r"gradients\['readout.bias'\] has shape \(1,\): exp.*2")
    refuse(others(np.ones((2, 1))), ValueError, r"has shape \(2, 1\): expected \(2,\)")
    refuse(others(1.0), TypeError, r"\['readout.bias'\] is of type float: expected an array")
    refuse(others(None), TypeError, r"\['readout.bias'\] is of type NoneType: expected an array")
    refuse(others(a * np.nan), ValueError, "the gradient of readout.bias has entries that are NaN")
    whole = xprnn.Gradient(gradients, None, ())
    refuse(whole, TypeError, "gradients is of type Gradient: expected gradients.parameters")
    refuse([a], TypeError, "gradients is of type list: expected a dict of arrays by name")


@every_rule
def test_states_that_do_not_fit(rule):
    parameters, gradients = fresh()
    small, _ = fresh(RNN(3, 5, 2, cell="gru", dtype="float64", rng=0))
    other = Adam() if isinstance(rule, SGD) else SGD()
    wrong = other.init(parameters)
    refused(rule, gradients, wrong, parameters, TypeError, "state is of type .*: expected the")
    refused(rule, gradients, (), parameters, TypeError, "state is of type tuple: expected the")
    if arrays(rule.init(parameters)):
        bad = rule.init(small)
        refused(rule, gradients, bad, parameters, ValueError, r"state\.\w+\[.*has shape.*expected")
        bad = rule.init({"w": np.ones(2)}) if not isinstance(rule, ParameterGroups) else None
        if bad is not None:
            refused(rule, gradients, bad, parameters, KeyError, r"state\.\w+ lacks weight_ih_l0")


@pytest.mark.parametrize(
    ("mine", "theirs", "message"),
    [
        (SGD(0.1, momentum=0.9), SGD(0.1), "state.velocity is empty: expected an array for"),
        (SGD(0.1), SGD(0.1, momentum=0.9), "state.velocity has arrays: expected it empty"),
        (Adam(), Adam(amsgrad=True), "state.largest has arrays"),
        (Adam(amsgrad=True), Adam(), "state.largest is empty"),
        (RMSprop(centered=True), RMSprop(), "state.m is empty"),
        (RMSprop(), RMSprop(momentum=0.9), "state.velocity has arrays"),
        (Averaged(Adam()), Averaged(Adam(amsgrad=True)), "state.largest has arrays"),
    ],
)
def test_a_state_is_of_the_options(mine, theirs, message):
    parameters, gradients = fresh()
    refused(mine, gradients, theirs.init(parameters), parameters, ValueError, message)


@every_rule
def test_parameters_that_are_none(rule):
    with pytest.raises(TypeError, match=r"parameters is of type RNN: expected parameters.param"):
        rule.init(NET)
    parameters, gradients = fresh()
    with pytest.raises(TypeError, match=r"parameters is of type RNN: expected parameters.param"):
        rule.update(gradients, rule.init(parameters), NET)


@every_rule
def test_an_infinite_gradient_is_no_error(rule):
    parameters, gradients = fresh()
    gradients["readout.bias"][0] = np.inf
    with np.errstate(all="ignore"):
        rule.update(gradients, rule.init(parameters), parameters)


@on_flavours("numpy", "strict", "torch", "jax")
def test_nan_in_every_form_of_a_gradient(harness):
    xp = harness.backend.xp
    p = {"a": harness.array(np.ones((4, 3))), "b": harness.array(np.ones((4, 3)))}
    rows = harness.array([[1.0, np.nan, 1.0]])
    forms = [
        harness.array(np.full((4, 3), np.nan)),
        SparseGradient(harness.backend.asarray(np.array([1])), rows, (4, 3), 0),
        FactoredGradient(harness.array(np.ones((1, 4))), rows),
    ]
    rule = SGD()
    for form in forms:
        given = {"a": xp.ones_like(p["a"]), "b": form}
        for call in (
            lambda given=given: rule.update(given, rule.init(p), p),
            lambda given=given: clip_by_value(given, 1.0),
            lambda given=given: clip_by_norm(given, 1.0),
            lambda given=given: global_norm(given),
        ):
            with pytest.raises(ValueError, match="the gradient of b has entries that are NaN"):
                call()


@pytest.mark.parametrize("call", [global_norm, lambda g: clip_by_norm(g, 1.0)])
def test_clipping_takes_parameters(call):
    with pytest.raises(TypeError, match=r"gradients is of type Gradient: expected gradients.para"):
        call(xprnn.Gradient({}, None, ()))


def test_clipping_by_value_takes_parameters():
    with pytest.raises(TypeError, match=r"gradients is of type Gradient: expected gradients.para"):
        clip_by_value(xprnn.Gradient({}, None, ()), 1.0)


def test_an_array_of_another_library():
    torch = pytest.importorskip("torch")
    parameters, gradients = fresh()
    message = "torch.Tensor of shape .*expected an array like a?n? ?numpy.ndarray"
    gradients["readout.bias"] = torch.zeros(2, dtype=torch.float64)
    refused(Adam(), gradients, Adam().init(parameters), parameters, TypeError, message)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, "fast", None])
@pytest.mark.parametrize("rule", [SGD, Adam, RMSprop])
def test_what_a_schedule_returns(rule, value):
    parameters, gradients = fresh()
    optimizer = rule(lambda _: value)
    message = "the schedule .* after 0 updates: expected a finite number of at least 0"
    refused(optimizer, gradients, optimizer.init(parameters), parameters, ValueError, message)


def test_a_nan_gradient_in_a_training():
    """A loss whose gradient is NaN although its value is not ends the training at that batch."""

    class Root(xprnn.losses.SquaredError):
        def value_and_grad(self, output, target, valid=None, *, overwrite=False):
            return super().value_and_grad(output, target)[0], output * np.nan

    net = RNN(1, 3, 1, dtype="float64", rng=0)
    before = {k: p.copy() for k, p in net.parameters.items()}
    batch = (np.ones((2, 1, 1)), np.ones((2, 1, 1)))
    for limits in ({}, {"clip_norm": 1.0}, {"clip_value": 1.0}, {"accumulate": 2}):
        with pytest.raises(NonFiniteLossError, match=r"the gradient of .*readout.bias became NaN"):
            xprnn.fit(net, [batch, batch], loss=Root(), optimizer="adam", **limits)
    assert all(np.array_equal(p, net.parameters[k]) for k, p in before.items())
