"""The squared error: its values, its gradient, and what it refuses."""

import numpy as np
import pytest

from tests.closeness import AUTOGRAD, DIFFERENCES, assert_close, between_backends
from tests.judge import central_differences, leaf
from tests.optional import optional
from xprnn import get_backend
from xprnn.losses import LOSSES, SquaredError, get_loss

torch = optional("torch")

Y = np.array([[[1.0, 2.0]], [[-1.0, 0.5]], [[0.0, 3.0]]])
TARGET = np.array([[[0.0, 2.0]], [[1.0, 0.0]], [[0.0, 6.0]]])
HALF_SUM = 0.5 * (1 + 4 + 0.25 + 9)


@pytest.mark.parametrize(("reduction", "value"), [("sum", HALF_SUM), ("mean", HALF_SUM / 6)])
def test_the_value_by_hand(harness, reduction, value):
    loss = SquaredError(reduction)
    y, target = harness.array(Y), harness.array(TARGET)
    assert harness.host(loss(y, target)) == pytest.approx(value, rel=1e-15)
    both, gradient = loss.value_and_grad(y, target)
    assert harness.host(both) == harness.host(loss(y, target))
    want = Y - TARGET if reduction == "sum" else (Y - TARGET) / 6
    assert_close(harness.host(gradient), want, 1e-15)
    assert harness.host(y).tolist() == Y.tolist()
    assert harness.host(target).tolist() == TARGET.tolist()


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_gradient_is_that_of_the_value(reduction):
    loss, y = SquaredError(reduction), Y.copy()
    (want,) = central_differences(lambda: float(loss(y, TARGET)), [y])
    assert_close(loss.value_and_grad(Y, TARGET)[1], want, DIFFERENCES)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_half_the_squared_error_of_torch(reduction):
    y = leaf(Y)
    theirs = 0.5 * torch.nn.functional.mse_loss(y, torch.tensor(TARGET), reduction=reduction)
    (want,) = torch.autograd.grad(theirs, [y])
    value, gradient = SquaredError(reduction).value_and_grad(Y, TARGET)
    assert float(value) == pytest.approx(theirs.item(), rel=AUTOGRAD)
    assert_close(gradient, want, AUTOGRAD)


def test_single_precision_stays_single(harness):
    single = harness.at("float32")
    value, gradient = SquaredError().value_and_grad(single.array(Y), single.array(TARGET))
    assert_close(single.host(value), HALF_SUM / 6, between_backends("float32", 1))
    assert_close(single.host(gradient), (Y - TARGET) / 6, between_backends("float32", 1))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_no_entries_have_no_loss(harness, reduction):
    empty = harness.array(np.zeros((3, 0, 2)))
    value, gradient = SquaredError(reduction).value_and_grad(empty, empty)
    assert harness.host(value) == 0
    assert harness.host(gradient).shape == (3, 0, 2)


def test_the_check_casts_and_returns_the_target(harness):
    single = harness.at("float32").backend
    target = SquaredError().check(Y.shape, harness.array(TARGET), single)
    assert target.dtype == single.dtype
    assert single.to_numpy(target).tolist() == TARGET.tolist()


def test_the_check_refuses_another_shape():
    be = get_backend("numpy", dtype="float64")
    with pytest.raises(ValueError, match=r"target has shape \(3, 1, 2\): expected \(1, 2\)"):
        SquaredError().check((1, 2), TARGET, be)


def test_losses_have_names():
    assert get_loss("squared_error") == SquaredError("mean")
    loss = SquaredError("sum")
    assert get_loss(loss) is loss
    assert repr(loss) == "SquaredError(reduction='sum')"
    assert all(get_loss(name).reduction in ("mean", "sum") for name in LOSSES)


def test_an_unknown_reduction():
    with pytest.raises(ValueError, match="reduction is 'norm': expected 'mean' or 'sum' or 'none'"):
        SquaredError("norm")
