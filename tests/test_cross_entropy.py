"""Cross-entropy: against torch, with padding, in blocks, and with logits of any size."""

import math

import numpy as np
import pytest

from tests.cases import each_case, row_of
from tests.closeness import (
    AUTOGRAD,
    DIFFERENCES,
    FLOAT64,
    assert_all_close,
    assert_close,
    between_backends,
)
from tests.harness import on_every_backend
from tests.judge import central_differences, judge, leaf
from tests.optional import optional
from tests.test_tokens import TOKENS
from xprnn import RNN, evaluate, fit, get_backend
from xprnn.losses import CrossEntropy, cross_entropy, get_loss
from xprnn.optim import SGD

torch = optional("torch")

RNG = np.random.default_rng(0)
LOGITS = 3 * RNG.normal(size=(4, 3, 5))
TARGET = np.array([[2, 0, 4], [-1, 3, 3], [1, -1, -1], [0, 0, 2]])

reductions = pytest.mark.parametrize("reduction", ["mean", "sum"])


def by_torch(logits: np.ndarray, target: np.ndarray, reduction: str):
    y = leaf(logits)
    loss = torch.nn.functional.cross_entropy(
        y.reshape(-1, y.shape[-1]),
        torch.tensor(target).reshape(-1),
        ignore_index=-1,
        reduction=reduction,
    )
    (gradient,) = torch.autograd.grad(loss, [y])
    return loss.item(), gradient.numpy()


WAYS = {
    "mean": ("float64", "mean", 2**20),
    "sum-in-blocks": ("float64", "sum", 35),
    "float32": ("float32", "mean", 2**20),
}


@on_every_backend([*WAYS], on_jax=["sum-in-blocks", "float32"], argument="way")
def test_against_torch(harness, monkeypatch, way):
    dtype, reduction, block = WAYS[way]
    monkeypatch.setattr(cross_entropy, "BLOCK", block)
    harness, loss = harness.at(dtype), CrossEntropy(reduction)
    want, want_gradient = by_torch(LOGITS, TARGET, reduction)
    tolerance = between_backends(dtype, 4)
    y, classes = harness.array(LOGITS), harness.array(TARGET)
    value, gradient = loss.value_and_grad(y, classes)
    assert_close(harness.host(value), want, tolerance, "value")
    assert_close(harness.host(gradient), want_gradient, tolerance, "gradient")
    assert_close(harness.host(loss(y, classes)), want, tolerance, "value alone")
    assert_close(harness.host(y), LOGITS.astype(dtype), 0.0, "logits")
    assert harness.backend.to_numpy(classes).tolist() == TARGET.tolist()


@pytest.mark.parametrize("block", [35, 2**20], ids=["blocks", "whole"])
def test_a_logit_that_was_given_up_may_be_overwritten(harness, monkeypatch, block):
    monkeypatch.setattr(cross_entropy, "BLOCK", block)
    mine = harness.backend.asarray(LOGITS.copy())
    value, gradient = CrossEntropy().value_and_grad(mine, harness.array(TARGET), overwrite=True)
    want, want_gradient = by_torch(LOGITS, TARGET, "mean")
    assert_close(harness.host(value), want, FLOAT64)
    assert_close(harness.host(gradient), want_gradient, FLOAT64)


@reductions
@pytest.mark.parametrize("block", [1, 5, 6, 10, 59, 60])
def test_blocks_of_any_size(monkeypatch, reduction, block):
    monkeypatch.setattr(cross_entropy, "BLOCK", block)
    want, want_gradient = by_torch(LOGITS, TARGET, reduction)
    value, gradient = CrossEntropy(reduction).value_and_grad(LOGITS, TARGET)
    assert_close(value, want, FLOAT64)
    assert_close(gradient, want_gradient, FLOAT64)


@reductions
def test_one_step(reduction):
    """Logits (B, V), as from a network that returns the last output."""
    want, want_gradient = by_torch(LOGITS[-1], TARGET[-1], reduction)
    value, gradient = CrossEntropy(reduction).value_and_grad(LOGITS[-1], TARGET[-1])
    assert_close(value, want, FLOAT64)
    assert_close(gradient, want_gradient, FLOAT64)


@reductions
def test_the_gradient_is_that_of_the_value(reduction):
    loss, y = CrossEntropy(reduction), LOGITS.copy()
    (want,) = central_differences(lambda: float(loss(y, TARGET)), [y])
    assert_close(loss.value_and_grad(LOGITS, TARGET)[1], want, DIFFERENCES)


def test_by_hand():
    """Two classes with the odds 1 to 3: the probabilities are 1/4 and 3/4."""
    y, target = np.array([[0.0, math.log(3)], [0.0, math.log(3)], [5.0, 6.0]]), np.array([0, 1, -1])
    total, gradient = CrossEntropy("sum").value_and_grad(y, target)
    assert float(total) == pytest.approx(math.log(4) + math.log(4 / 3), rel=1e-14)
    assert gradient == pytest.approx(np.array([[-0.75, 0.75], [0.25, -0.25], [0, 0]]), abs=1e-15)
    mean, gradient = CrossEntropy().value_and_grad(y, target)
    assert float(mean) == pytest.approx((math.log(4) + math.log(4 / 3)) / 2, rel=1e-14)
    assert gradient[0] == pytest.approx([-0.375, 0.375], abs=1e-15)


def test_no_knowledge_is_the_logarithm_of_the_vocabulary(harness):
    y, target = np.zeros((2, 3, 8)), np.full((2, 3), 7)
    assert float(CrossEntropy()(harness.array(y), harness.array(target))) == pytest.approx(
        math.log(8), rel=1e-14
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_logits_of_any_size(harness, dtype):
    harness = harness.at(dtype)
    y = harness.array([[1e30, 0.0], [-1e30, 0.0], [1e30, 1e30], [-1e30, -1e30]])
    value, gradient = CrossEntropy("sum").value_and_grad(y, harness.array([0, 1, 0, 0]))
    assert float(value) == pytest.approx(2 * math.log(2), rel=1e-6)
    want = [[0, 0], [0, 0], [-0.5, 0.5], [-0.5, 0.5]]
    assert harness.host(gradient).tolist() == want


@reductions
def test_nothing_but_padding(harness, reduction):
    y, target = harness.array(LOGITS), harness.array(np.full((4, 3), -1))
    value, gradient = CrossEntropy(reduction).value_and_grad(y, target)
    assert harness.host(value) == 0
    assert not np.any(harness.host(gradient))


@reductions
def test_no_tokens(harness, reduction):
    y, target = harness.array(np.zeros((4, 0, 5))), harness.array(np.zeros((4, 0), int))
    value, gradient = CrossEntropy(reduction).value_and_grad(y, target)
    assert harness.host(value) == 0
    assert harness.host(gradient).shape == (4, 0, 5)
    assert harness.host(CrossEntropy(reduction)(y, target)) == 0


@pytest.mark.parametrize("dtype", ["int64", "int32", "int8"])
def test_any_integers_do(harness, dtype):
    loss, y = CrossEntropy(), harness.array(LOGITS)
    target = loss.check(LOGITS.shape, harness.array(TARGET.astype(dtype)), harness.backend)
    value, _ = loss.value_and_grad(y, target)
    assert float(value) == pytest.approx(by_torch(LOGITS, TARGET, "mean")[0], rel=1e-13)


def test_padding_is_no_entry(harness):
    assert CrossEntropy().entries(harness.array(TARGET)) == 9
    assert type(CrossEntropy().entries(harness.array(TARGET))) is int


@reductions
@each_case
def test_through_a_network(case, reduction):
    size = case.H if case.O is None else case.O
    target = np.random.default_rng(1).integers(-1, size, (case.T, case.B))
    if case.returns == "last":
        target = target[-1]
    net, problem = case.make(dtype="float64"), case.problem()
    net.parameters = case.parameters()
    value, got = net.value_and_grad(problem.x, target, CrossEntropy(reduction), problem.state)

    def objective(y):
        return torch.nn.functional.cross_entropy(
            y.reshape(-1, size), torch.tensor(target).reshape(-1), None, None, -1, None, reduction
        )

    want = judge(case, case.parameters(), problem, objective)
    assert float(value) == pytest.approx(objective(torch.tensor(want.output)).item(), rel=1e-12)
    assert_all_close(got.parameters, want.d_parameters, AUTOGRAD)
    assert_close(got.input, want.d_input, AUTOGRAD)
    assert_close(got.state, want.d_state, AUTOGRAD)


@on_every_backend()
def test_a_language_model_on_every_backend(case, harness):
    case = case.but(I=7, O=5)
    net, twin = harness.net(case), case.make(dtype="float64")
    twin.parameters = case.parameters()
    x, target = harness.array(TOKENS), harness.array(TARGET)
    value, got = net.value_and_grad(x, target, "cross_entropy")
    want_value, want = twin.value_and_grad(TOKENS, TARGET, "cross_entropy")
    assert_close(harness.host(value), want_value, FLOAT64)
    for name, g in want.parameters.items():
        mine = got.parameters[name]
        if name == "weight_ih_l0":
            mine, g = mine.to_dense(), g.to_dense()  # noqa: PLW2901
        assert_close(harness.host(mine), g, FLOAT64, name)


def test_an_epochs_loss_is_the_mean_over_all_tokens():
    net = RNN(7, 4, 5, dtype="float64", rng=0)
    x, target = TOKENS, TARGET
    parts = [(x[:, :1], target[:, :1]), (x[:, 1:], target[:, 1:])]
    whole = evaluate(net, (x, target), loss="cross_entropy")
    assert whole == pytest.approx(by_torch(net(x)[0], target, "mean")[0], rel=1e-13)
    assert evaluate(net, parts, loss="cross_entropy") == pytest.approx(whole, rel=1e-13)
    total = evaluate(net, parts, loss=CrossEntropy("sum"))
    assert total == pytest.approx(9 * whole, rel=1e-13)


def test_a_language_model_learns():
    """A cycle of words: each word says which comes next."""
    x = np.arange(12).reshape(12, 1) % 4
    net = RNN(4, 8, 4, dtype="float64", rng=0)
    history = fit(net, (x[:-1], x[1:]), loss="cross_entropy", optimizer=SGD(1.0), epochs=60)
    assert history.loss[0] == pytest.approx(math.log(4), rel=0.2)
    assert history.loss[-1] < 0.05
    assert net(x[:-1])[0].argmax(axis=-1).tolist() == x[1:].tolist()


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (TARGET[1:], ValueError, r"target has shape \(3, 3\): expected \(4, 3\)"),
        (TARGET[..., None], ValueError, r"target has shape \(4, 3, 1\): expected \(4, 3\)"),
        (TARGET + 1, ValueError, r"target\[0, 2\] is 5: expected 0 to 4, or -1 for padding"),
        (TARGET - 1, ValueError, r"target\[1, 0\] is -2: expected 0 to 4, or -1 for padding"),
        (TARGET.astype(float), TypeError, "target has dtype float64: expected integers"),
        (TARGET > 0, TypeError, "target has dtype bool: expected integers"),
        (TARGET.tolist(), TypeError, "target is a list: expected an array of the backend 'numpy'"),
    ],
)
def test_what_is_no_target(target, error, message):
    net = RNN(2, 3, 5, dtype="float64", rng=0)
    with pytest.raises(error, match=message):
        net.value_and_grad(np.ones((4, 3, 2)), target, "cross_entropy")
    with pytest.raises(error, match=message):
        CrossEntropy().check((4, 3, 5), target, get_backend("numpy", dtype="float64"))


def test_it_has_a_name():
    assert get_loss("cross_entropy") == CrossEntropy("mean")
    with pytest.raises(ValueError, match="reduction is 'norm': expected 'mean' or 'sum' or 'none'"):
        CrossEntropy("norm")


def test_single_precision_stays_single(harness):
    case = row_of("elman-tanh").but(O=5)
    single = harness.at("float32")
    x, target = single.array(case.problem().x), single.array(TARGET)
    value, gradient = single.net(case).value_and_grad(x, target, "cross_entropy")
    assert value.dtype == single.backend.dtype
    assert single.hosts(gradient.parameters).keys() == gradient.parameters.keys()


def test_narrow_targets_are_counted_as_they_are(harness):
    net = RNN(200, 2, 200, backend=harness.backend, rng=0)
    tokens = np.array([[3], [199], [199]], dtype=np.uint8)
    x, target = harness.array(tokens, "uint8"), harness.array(tokens, "uint8")
    loss = CrossEntropy()
    assert loss.entries(target) == 3
    expected = float(net.value_and_grad(x, target, loss=loss)[0])
    assert evaluate(net, [(x, target)], loss=loss) == pytest.approx(expected, rel=1e-6)
    if harness.backend.name == "numpy":
        history = fit(net, [(x, target)], loss=loss, epochs=1)
        assert history.loss[0] == pytest.approx(expected, rel=0.1)
