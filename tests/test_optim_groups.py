"""Parameter groups, and which parameters the weight decay is for."""

import numpy as np
import pytest

from tests.closeness import assert_all_close
from tests.scripted import ONE, ZERO, scalar_net
from xprnn import RNN, fit
from xprnn.engine.gradients import SparseGradient
from xprnn.optim import SGD, Adagrad, Adam, AdamW, ParameterGroups, RMSprop, Rprop, Scalable

NAMES = {
    "embedding.weight": (4, 2),
    "weight_ih_l0": (3, 2),
    "bias_l0": (3,),
    "readout.weight": (1, 3),
    "readout.bias": (1,),
}


def some(seed: int, array=np.array) -> dict:
    rng = np.random.default_rng(seed)
    return {name: array(rng.normal(size=shape)) for name, shape in NAMES.items()}


def only(arrays: dict, *names: str) -> dict:
    return {name: arrays[name] for name in names}


def walk(optimizer, p, gradients):
    state = optimizer.init(p)
    for g in gradients:
        p, state = optimizer.update({name: g[name] for name in p}, state, p)
    return p, state


def test_every_group_has_its_own_rule(harness):
    grouped = ParameterGroups(
        {"embedding.*": None, "readout.*": SGD(0.1, momentum=0.5), "bias_*": "rprop"},
        otherwise=Adam(0.05),
    )
    p, gradients = some(0, harness.array), [some(seed, harness.array) for seed in (1, 2, 3)]
    got, state = walk(grouped, p, gradients)
    assert list(got) == list(NAMES)
    assert got["embedding.weight"] is p["embedding.weight"]
    want, states = dict(only(p, "embedding.weight")), [None]
    for rule, names in (
        (SGD(0.1, momentum=0.5), ["readout.weight", "readout.bias"]),
        (Rprop(), ["bias_l0"]),
        (Adam(0.05), ["weight_ih_l0"]),
    ):
        moved, memory = walk(rule, only(p, *names), gradients)
        want.update(moved)
        states.append(memory)
    assert_all_close(harness.hosts(got), harness.hosts(want), 0.0)
    assert state.groups[0] is None
    for mine, theirs in zip((*state.groups[1:], state.otherwise), states[1:], strict=True):
        assert type(mine) is type(theirs)
        assert repr(mine) == repr(theirs)


def test_the_first_pattern_has_a_name():
    p = some(0)
    grouped = ParameterGroups({"readout.bias": None, "readout.*": SGD(0.1)}, otherwise=None)
    moved, _ = grouped.update(p, grouped.init(p), p)
    changed = [name for name in p if np.any(moved[name] != p[name])]
    assert changed == ["readout.weight"]


def test_nothing_is_left_for_the_others():
    p = some(0)
    grouped = ParameterGroups({"*": SGD(0.1)}, otherwise="adam")
    moved, state = grouped.update(p, grouped.init(p), p)
    assert_all_close(moved, {name: 0.9 * a for name, a in p.items()}, 1e-15)
    assert state.otherwise.m == {}
    assert state.otherwise.iteration == 1


def test_groups_in_groups():
    p, gradients = some(0), [some(1), some(2)]
    inner = ParameterGroups({"*.bias": SGD(0.1)}, otherwise=SGD(0.2))
    got, _ = walk(ParameterGroups({"readout.*": inner}, otherwise=SGD(0.3)), p, gradients)
    total = {name: gradients[0][name] + gradients[1][name] for name in p}
    rates = {"readout.bias": 0.1, "readout.weight": 0.2}
    want = {name: a - rates.get(name, 0.3) * total[name] for name, a in p.items()}
    assert_all_close(got, want, 1e-14)


def test_a_sparse_gradient_reaches_its_group():
    p = some(0)
    g = SparseGradient(np.array([2]), np.ones((1, 2)), (4, 2), axis=0)
    grouped = ParameterGroups({"embedding.*": Adam(0.1)}, otherwise=None)
    moved, _ = grouped.update({**some(1), "embedding.weight": g}, grouped.init(p), p)
    step = p["embedding.weight"] - moved["embedding.weight"]
    np.testing.assert_allclose(step, [[0, 0], [0, 0], [0.1, 0.1], [0, 0]], atol=1e-8)


def test_the_readout_alone_is_trained():
    net = RNN(1, 3, 1, dtype="float64", rng=0)
    before = dict(net.parameters)
    readout_only = ParameterGroups({"readout.*": "adam"}, otherwise=None)
    fit(net, (ONE, ZERO), optimizer=readout_only, epochs=2)
    changed = [name for name, p in net.parameters.items() if np.any(p != before[name])]
    assert changed == ["readout.weight", "readout.bias"]


def test_the_embedding_is_not_trained():
    net = RNN(6, 3, 1, cell="gru", layers=2, embedding_size=2, dtype="float64", rng=0)
    tokens, target = np.array([[0, 2], [5, 2]]), np.ones((2, 2, 1))
    before = dict(net.parameters)
    grouped = ParameterGroups({"embedding.*": None}, otherwise=AdamW())
    fit(net, (tokens, target), optimizer=grouped, epochs=2)
    same = [name for name, p in net.parameters.items() if not np.any(p != before[name])]
    assert same == ["embedding.weight"]


def test_a_rule_without_a_rate():
    grouped = ParameterGroups({"bias_*": Rprop(0.1)}, otherwise=SGD())
    assert isinstance(grouped, Scalable)
    with pytest.raises(TypeError, match=r"Rprop\(initial=0\.1, .*\) has no learning rate to scale"):
        grouped.scaled(grouped.init(some(0)), 0.5)


def test_the_callers_dict_is_not_kept():
    groups = {"*": SGD(0.1)}
    grouped = ParameterGroups(groups, otherwise=None)
    groups.clear()
    assert grouped == ParameterGroups({"*": SGD(0.1)}, otherwise=None)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            {"readuot.*": None},
            r"groups has the pattern 'readuot\.\*', which matches no parameter: known are "
            r"embedding\.weight, weight_ih_l0, bias_l0, readout\.weight, readout\.bias$",
        ),
        ({"BIAS*": None}, r"groups has the pattern 'BIAS\*', which matches no parameter"),
        ({"bias": None}, "groups has the pattern 'bias', which matches no parameter"),
        (
            {"readout.*": None, "*.bias": "sgd"},
            r"groups has the pattern '\*\.bias', but earlier patterns match all that it matches: "
            r"readout\.bias$",
        ),
    ],
)
def test_patterns_without_effect(groups, message):
    grouped = ParameterGroups(groups, otherwise="sgd")
    with pytest.raises(ValueError, match=message):
        grouped.init(some(0))


def test_fit_finds_them_before_the_first_batch():
    net = scalar_net(1.0)
    with pytest.raises(ValueError, match=r"pattern 'embedding\.\*', which matches no parameter"):
        fit(net, iter(()), optimizer=ParameterGroups({"embedding.*": None}, otherwise="sgd"))


@pytest.mark.parametrize(
    ("groups", "otherwise", "error", "message"),
    [
        (None, None, TypeError, "groups is None: expected a dict of patterns of parameter names"),
        ([("a", "sgd")], None, TypeError, "groups is .*: expected a dict of patterns of param"),
        ({1: "sgd"}, None, TypeError, "groups has the key 1: expected a pattern of parameter nam"),
        ({"a": "sdg"}, None, ValueError, "unknown optimizer 'sdg': known are 'sgd', 'rprop'"),
        ({"a": SGD}, None, TypeError, "optimizer is <class .*: expected a name or an instance"),
        ({}, 0.1, TypeError, r"optimizer is 0\.1: expected a name or an instance"),
    ],
)
def test_no_groups(groups, otherwise, error, message):
    with pytest.raises(error, match=message):
        ParameterGroups(groups, otherwise)


MATRICES = {"embedding.weight", "weight_ih_l0", "readout.weight"}


@pytest.mark.parametrize(
    "rule",
    [
        SGD(0.1),
        SGD(0.1, momentum=0.5),
        SGD(0.1, momentum=0.5, nesterov=True),
        Adam(0.1),
        AdamW(0.1),
        RMSprop(0.1),
        Adagrad(0.1),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("decayed", "names"),
    [
        (None, MATRICES),
        ("*", set(NAMES)),
        ("readout.*", {"readout.weight", "readout.bias"}),
        (["readout.b*", "weight_*"], {"readout.bias", "weight_ih_l0"}),
        ((), set()),
        (lambda name, p: name.startswith("r") and p.ndim == 2, {"readout.weight"}),
    ],
    ids=["default", "all", "pattern", "patterns", "none", "function"],
)
def test_what_decays(rule, decayed, names):
    """Two steps with decay change these parameters differently, and no others."""
    kind, p, gradients = type(rule), some(0), [some(1), some(2)]
    options = {k: getattr(rule, k) for k in rule.__dataclass_fields__}
    options |= {"weight_decay": 0.2, "decayed": decayed}
    got, _ = walk(kind(**options), p, gradients)
    want, _ = walk(kind(**{**options, "weight_decay": 0.0}), p, gradients)
    assert {name for name in p if np.any(got[name] != want[name])} == names


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW, RMSprop, Adagrad])
def test_decay_of_what_does_not_exist(kind):
    rule = kind(decayed=["weight_*", "embeding.*"])
    with pytest.raises(ValueError, match=r"decayed has the pattern 'embeding\.\*', which matches "):
        rule.init(some(0))
