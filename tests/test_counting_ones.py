"""Counting ones: the example's trainings, its gradients, and the figures of its two pages."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.closeness import AUTOGRAD, DIFFERENCES, DIFFERENCES_FLOOR, assert_all_close
from tests.judge import leaf
from xprnn.data import count_ones

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "counting-ones.md").read_text()
LOGISTIC_PAGE = (ROOT / "docs" / "counting-ones-logistic.md").read_text()
example = SimpleNamespace(**runpy.run_path(str(ROOT / "examples" / "counting_ones.py")))

SEVERAL = [(-1.5, 2.0), (0.5, 0.5), (1.0, 1.0), (3.0, -2.0)]


@pytest.fixture(scope="module")
def data():
    return count_ones(10, 20, rng=0)


def weights(w_x, w_rec):
    return {"w_x": np.full((1, 1), w_x), "w_rec": np.full((1, 1), w_rec)}


def by_torch(w_x, w_rec, x, target, activation):
    """Return loss and gradients of the counter, with an activation at every step but the last."""
    w_x, w_rec, x = leaf(w_x), leaf(w_rec), torch.tensor(x[:, :, 0])
    h = torch.zeros(x.shape[1], dtype=torch.float64)
    for t, x_t in enumerate(x):
        h = w_x * x_t + w_rec * h
        if t < len(x) - 1:
            h = activation(h)
    loss = 0.5 * ((h - torch.tensor(target[:, 0])) ** 2).mean()
    return loss.item(), [d.item() for d in torch.autograd.grad(loss, [w_x, w_rec])]


@pytest.mark.parametrize(("w_x", "w_rec"), SEVERAL)
def test_the_linear_gradient_by_torch(data, w_x, w_rec):
    value, gradient = example.counter(w_x, w_rec).value_and_grad(*data)
    loss, (d_x, d_rec) = by_torch(w_x, w_rec, *data, lambda h: h)
    assert float(value) == pytest.approx(loss, rel=AUTOGRAD)
    assert gradient.parameters["weight_ih_l0"].item() == pytest.approx(d_x, rel=AUTOGRAD, abs=1e-12)
    assert gradient.parameters["weight_hh_l0"].item() == pytest.approx(
        d_rec, rel=AUTOGRAD, abs=1e-12
    )


@pytest.mark.parametrize("w_rec", [0.5, 1.0, 2.0, -1.5])
def test_state_gradients_are_powers_of_w_rec(data, w_rec):
    found = example.state_gradients(example.counter(0.9, w_rec), *data)
    assert found == pytest.approx(abs(w_rec) ** np.arange(9.0, -1, -1), rel=1e-12)


def walk(start, optimizer, *, clip=None, every=10**9):
    x, target = count_ones(10, 20, rng=0)
    return example.train("walk", start, x, target, optimizer, clip=clip, every=every)


@pytest.mark.parametrize(
    ("start", "optimizer", "clip", "steps"),
    [
        ((-1.5, 2.0), example.SGD, 1.0, 694),
        ((-1.5, 2.0), example.RPROP, None, 409),
        ((0.5, 0.5), example.SGD, None, 520),
    ],
    ids=["clipped", "rprop", "near"],
)
def test_both_optimizers_find_one_and_one(start, optimizer, clip, steps):
    done = walk(start, optimizer, clip=clip)
    assert done.weights[0] == start in (example.FAR, example.NEAR)
    assert done.weights[-1] == pytest.approx((1, 1), abs=1e-3)
    assert done.losses[-1] < example.GOAL <= min(done.losses[:-1])
    assert len(done.weights) == len(done.losses)
    # Not exactly, because roundings differ between machines.
    assert len(done.weights) - 1 == pytest.approx(steps, rel=0.1)
    assert f"after {steps} steps" in PAGE


def test_rprop_comes_no_nearer(data):
    net = example.counter(*example.FAR)
    state = example.RPROP.init(net.parameters)
    losses = []
    for _ in range(3000):
        value, gradient = net.value_and_grad(*data)
        losses.append(float(value))
        net.parameters, state = example.RPROP.update(gradient.parameters, state, net.parameters)
    assert all(step.item() == example.RPROP.smallest for step in state.step.values())
    assert losses[-2000:] == pytest.approx([1.1e-8] * 2000, rel=0.05)
    assert "1.1·10⁻⁸" in PAGE


def test_sgd_walks_off_the_cliff():
    done = walk(example.FAR, example.SGD)
    assert done.outcome == "lost after 1 step"
    assert done.weights[-1] == pytest.approx((1371.09, -8447.82), abs=0.01)
    assert "1371" in PAGE
    assert "-8448" in PAGE
    assert done.losses == [pytest.approx(5.175e5, rel=1e-3)]


def test_the_gradient_is_printed_at_every_step(capsys, data):
    done = walk(example.FAR, example.RPROP, every=1)
    lines = [line for line in capsys.readouterr().out.split("\n") if "dw_rec" in line]
    assert len(lines) == len(done.weights)
    for k, line in enumerate(lines[:50]):
        value, gradient = example.counter(*done.weights[k]).value_and_grad(*data)
        dw_x, dw_rec = (g.item() for g in gradient.parameters.values())
        assert line.split(":")[0].strip() == str(k)
        assert line.endswith(f"loss {float(value):.3e}  dw_x {dw_x:+.3e}  dw_rec {dw_rec:+.3e}")


def test_the_tutorial_s_own_figures():
    # The original's data and its Rprop: it halves the first step, and steps when signs change.
    random = np.random.RandomState(1)
    x = np.stack([np.around(random.rand(10)) for _ in range(20)]).T[..., None].copy()
    w, size, before = np.array([-1.5, 2.0]), np.full(2, 0.001), np.zeros(2)
    for _ in range(500):
        _, gradient = example.counter(*w).value_and_grad(x, x.sum(axis=0))
        sign = np.sign([g.item() for g in gradient.parameters.values()])
        size = np.where(sign == before, 1.2, 0.5) * size
        w, before = w - sign * size, sign
    assert w == pytest.approx([1.001356, 0.999674], abs=1e-6)
    assert "(1.001356, 0.999674)" in PAGE
    done = example.train(
        "tutorial", example.FAR, x, x.sum(axis=0), example.RPROP, most=500, every=10**9
    )
    assert done.losses[-1] < example.GOAL


def test_the_surface_is_the_loss(data):
    w_x, w_rec = np.array([-3.0, 0.5, 2.0]), np.array([-1.0, 0.9])
    surface = example.surface(w_x, w_rec, *data)
    assert surface.shape == (2, 3)
    for (i, j), loss in np.ndenumerate(surface):
        value, _ = example.counter(w_x[j], w_rec[i]).value_and_grad(*data)
        assert loss == pytest.approx(float(value), rel=1e-12)


@pytest.mark.parametrize(("w_x", "w_rec"), SEVERAL)
def test_the_logistic_gradient_by_torch(data, w_x, w_rec):
    value, gradients, y = example.logistic_loss_and_grad(weights(w_x, w_rec), *data)
    loss, found = by_torch(w_x, w_rec, *data, torch.sigmoid)
    assert value == pytest.approx(loss, rel=AUTOGRAD)
    wanted = {name: [[d]] for name, d in zip(gradients, found, strict=True)}
    assert_all_close(gradients, wanted, AUTOGRAD)
    assert 0.5 * np.mean((y - data[1]) ** 2) == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize(("w_x", "w_rec"), SEVERAL)
def test_the_logistic_gradient_by_finite_differences(data, w_x, w_rec, capsys):
    given = weights(w_x, w_rec)
    _, gradients, _ = example.logistic_loss_and_grad(given, *data)
    numeric = example.finite_differences(given, *data)
    assert_all_close(gradients, numeric, DIFFERENCES, DIFFERENCES_FLOOR)
    worst = example.check_gradient(given, *data)
    assert worst == max(abs(gradients[name] - numeric[name]).item() for name in given)
    assert capsys.readouterr().out.count("finite differences") == 2


def test_every_sequence_is_there_once():
    x, target = example.every_sequence(5)
    assert x.shape == (5, 32, 1)
    assert len({tuple(sequence) for sequence in x[:, :, 0].T}) == 32
    assert set(np.unique(x)) == {0.0, 1.0}
    np.testing.assert_array_equal(target[:, 0], x[:, :, 0].sum(axis=0))


LOGISTIC = [
    (2, "0.9763", "0.9528", "0.0796", "100.0 %"),
    (5, "1.1161", "2.1085", "0.4506", "37.5 %"),
    (10, "1.0308", "4.5126", "1.1169", "26.0 %"),
]


@pytest.mark.parametrize("start", [example.FAR, example.NEAR])
@pytest.mark.parametrize(("length", "w_x", "w_rec", "loss", "right"), LOGISTIC)
def test_the_logistic_form_converges_to_the_page_s_figures(length, w_x, w_rec, loss, right, start):
    x, target = example.every_sequence(length)
    found, losses, gradients = example.train_logistic(x, target, start=start)
    assert max(abs(g).item() for g in gradients.values()) < 1e-5
    assert losses[0] > 1.4 * losses[-1]
    got = [*(w.item() for w in found.values()), losses[-1]]
    assert got == pytest.approx([float(w_x), float(w_rec), float(loss)], abs=1e-4)
    # Better than a constant and the last digit, but not by much.
    assert 0.6 < losses[-1] / ((length - 1) / 8) < 1
    _, _, y = example.logistic_loss_and_grad(found, x, target)
    assert f"{np.mean(np.round(y) == target):.1%}".replace("%", " %") == right
    assert f"| {length} | {w_x}, {w_rec} | {loss} |" in LOGISTIC_PAGE
    assert right in LOGISTIC_PAGE


@pytest.mark.parametrize("length", [2, pytest.param(5, marks=pytest.mark.full)])
def test_no_other_weights_are_better(length):
    x, target = example.every_sequence(length)
    _, losses, _ = example.train_logistic(x, target)
    grid = np.arange(-12, 12.1, 0.4)
    found = min(
        example.logistic_loss_and_grad(weights(w_x, w_rec), x, target)[0]
        for w_x in grid
        for w_rec in grid
    )
    assert losses[-1] < found < 1.1 * losses[-1]


def test_what_is_said_about_the_logistic_form(capsys):
    example.say_what_it_counts(5)
    said = capsys.readouterr().out
    assert "5 steps: loss 3.852 -> 0.4506" in said
    assert "a constant has 0.6250; a constant and the last digit 0.5000" in said
    assert "37.5% of all sequences counted right; always saying 2 gives 31.2%" in said
    assert "1.1161 0.1760 0.0321 0.0087 0.0044" in said
    # Each digit back counts for about a fifth.
    assert "0.1760" in LOGISTIC_PAGE


def test_a_single_step_is_refused(capsys):
    with pytest.raises(SystemExit):
        example.main(["--length", "1"])
    assert "--length is 1: expected at least 2" in capsys.readouterr().err
