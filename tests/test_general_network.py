"""The general network: its forms' gradients, the closed loop's, and the figures of its page."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import xprnn
from tests.cases import Problem, row_of
from tests.closeness import AUTOGRAD, DIFFERENCES, DIFFERENCES_FLOOR, assert_all_close, assert_close
from tests.gated import Gated
from tests.judge import central_differences, judge, leaf
from xprnn.cells import Elman
from xprnn.diagnostics import draw_text

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "general-network.md").read_text()
example = SimpleNamespace(**runpy.run_path(str(ROOT / "examples" / "general_network.py")))

STEPS, BATCH, INPUTS, HIDDEN = 4, 3, 5, 6
ELMAN = row_of("elman-tanh").but(T=STEPS, B=BATCH, I=INPUTS, H=HIDDEN)


def squares(y, target):
    return 0.5 * ((y - torch.tensor(target)) ** 2).mean()


def entropy(y, target):
    return torch.nn.functional.cross_entropy(
        y.reshape(-1, y.shape[-1]), torch.tensor(target).reshape(-1)
    )


def first_only(rng):
    x = np.zeros((STEPS, BATCH, INPUTS))
    x[0] = rng.normal(size=x[0].shape)
    return x


FORMS = {
    "many to many": (
        ELMAN.but(O=INPUTS),
        lambda rng: rng.integers(0, INPUTS, (STEPS, BATCH)),
        lambda rng: rng.integers(0, INPUTS, (STEPS, BATCH)),
        "cross_entropy",
    ),
    "many to one": (
        ELMAN.but(O=2, returns="last"),
        lambda rng: rng.normal(size=(STEPS, BATCH, INPUTS)),
        lambda rng: rng.integers(0, 2, BATCH),
        "cross_entropy",
    ),
    "one to many": (
        ELMAN.but(O=2),
        first_only,
        lambda rng: rng.normal(size=(STEPS, BATCH, 2)),
        "squared_error",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_of_each_form(form):
    case, draw_x, draw_target, loss = FORMS[form]
    rng = np.random.default_rng(0)
    x, target = draw_x(rng), draw_target(rng)
    net = case.make(dtype="float64")
    net.parameters = case.parameters()
    _, gradient = net.value_and_grad(x, target, loss)
    found = {
        name: g.to_dense() if hasattr(g, "to_dense") else g
        for name, g in gradient.parameters.items()
    }

    measure = entropy if loss == "cross_entropy" else squares
    zero = np.zeros((1, BATCH, HIDDEN))
    dense = np.eye(INPUTS)[x] if x.ndim == 2 else x
    verdict = judge(
        case,
        case.parameters(),
        Problem(dense, (zero,), target, target, (zero,)),
        lambda y: measure(y, target),
    )
    assert_all_close(found, verdict.d_parameters, AUTOGRAD)

    net.parameters = {name: array.copy() for name, array in case.parameters().items()}
    numeric = central_differences(
        lambda: float(net.value_and_grad(x, target, loss)[0]), list(net.parameters.values())
    )
    wanted = dict(zip(net.parameters, numeric, strict=True))
    assert_all_close(found, wanted, DIFFERENCES, DIFFERENCES_FLOOR)


PHI = {"tanh": torch.tanh, "logistic": torch.sigmoid, "identity": lambda z: z}


def loop(activation, seed=0):
    """Return a network whose output is as long as its input, that input, and dy."""
    rng = np.random.default_rng(seed)
    net = xprnn.RNN(2, HIDDEN, 2, cell=Elman(activation), dtype="float64", rng=rng)
    return net, rng.normal(size=(BATCH, 2)), rng.normal(size=(STEPS, BATCH, 2))


def in_torch(net, p, x):
    """Return y of the loop, closed one step after the other."""
    W, U, b, R, r = p
    h, outputs = torch.zeros((len(x), HIDDEN), dtype=torch.float64), []
    for _ in range(STEPS):
        h = PHI[net.cell.activation](x @ W.T + h @ U.T + b)
        x = h @ R.T + r
        outputs.append(x)
    return torch.stack(outputs)


@pytest.mark.parametrize("activation", PHI)
def test_the_closed_loop_is_the_one_closed_step_by_step(activation):
    net, x, _ = loop(activation)
    y, _ = example.closed_loop(net, x, STEPS)
    assert_close(example.generate(net, x, STEPS), y, 1e-13)
    p = [torch.tensor(array) for array in net.parameters.values()]
    assert_close(y, in_torch(net, p, torch.tensor(x)).numpy(), 1e-13)


@pytest.mark.parametrize("activation", PHI)
def test_the_gradient_through_the_closed_loop_by_torch(activation):
    net, x, dy = loop(activation)
    _, tape = example.closed_loop(net, x, STEPS)
    found = example.closed_loop_backward(net, tape, dy)
    p = [leaf(array) for array in net.parameters.values()]
    goal = (in_torch(net, p, torch.tensor(x)) * torch.tensor(dy)).sum()
    wanted = [d.numpy() for d in torch.autograd.grad(goal, p)]
    assert_all_close(found, dict(zip(net.parameters, wanted, strict=True)), AUTOGRAD)


@pytest.mark.parametrize("activation", PHI)
def test_the_gradient_through_the_closed_loop_by_finite_differences(activation):
    net, x, dy = loop(activation)
    _, tape = example.closed_loop(net, x, STEPS)
    found = example.closed_loop_backward(net, tape, dy)
    numeric = central_differences(
        lambda: float(np.sum(example.generate(net, x, STEPS) * dy)), list(net.parameters.values())
    )
    wanted = dict(zip(net.parameters, numeric, strict=True))
    assert_all_close(found, wanted, DIFFERENCES, DIFFERENCES_FLOOR)


def test_the_loop_can_not_be_closed_over_every_cell():
    net = xprnn.RNN(2, HIDDEN, 2, cell=Gated(), dtype="float64", rng=0)
    with pytest.raises(TypeError, match=r"the cell is Gated\(leak=0\.5\): expected Elman"):
        example.closed_loop(net, np.ones((BATCH, 2)), STEPS)


def test_the_drawing_on_the_page_is_the_network_s():
    drawn = draw_text(xprnn.RNN(1, 8, 2, returns="last"))
    assert f"```text\n{drawn}\n```" in PAGE


@pytest.mark.parametrize("name", ["counting-ones.md", "general-network.md"])
def test_every_picture_of_a_page_is_there(name):
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (ROOT / "docs" / name).read_text())
    assert pictures
    for picture in pictures:
        assert (ROOT / "docs" / picture).read_bytes().startswith(b"\x89PNG")


def test_words_are_followed_by_words(capsys):
    _, history = example.many_to_many(400)
    assert history.loss[0] > 1.5
    assert history.loss[-1] < 1e-3
    assert "the cat saw the dog and the dog saw the cat\n" in capsys.readouterr().out


def test_the_majority_is_found(capsys):
    net, history = example.many_to_one(400)
    assert history.loss[-1] < 1e-3
    assert "100% of 128 sequences are right" in capsys.readouterr().out
    x = np.array([[1.0, 0, 1, 0, 1, 0, 1], [0, 1, 0, 1, 0, 1, 0]]).T[..., None]
    assert np.argmax(net(x.copy())[0], axis=1).tolist() == [1, 0]


def test_a_bell_rings():
    net, history = example.one_to_many(400)
    assert history.loss[-1] < 2e-4
    x, sound = example.ringing(np.array([0.6]))
    assert np.all(x[1:] == 0)
    assert sound[:, 0, 0] == pytest.approx(
        [0.6 * 0.9**t * np.cos(np.pi * t / 5) for t in range(1, 21)]
    )
    error = np.max(np.abs(net(x)[0] - sound))
    assert f"{error:.3f}" == "0.029"
    assert "0.029" in PAGE


def test_a_wave_is_generated_from_one_number(capsys):
    _, y = example.one_to_many_in_a_loop(400)
    wanted = example.wave(240)[1:]
    assert y.shape == wanted.shape == (240, 1, 1)
    assert example.loss(y[:60], wanted[:60]) == pytest.approx(3.7e-5, rel=0.05)
    assert example.loss(y[60:], wanted[60:]) == pytest.approx(2.2e-5, rel=0.05)
    assert "loss 0.25 (silence) -> " in capsys.readouterr().out
    assert "3.7·10⁻⁵" in PAGE
    assert "2.2·10⁻⁵" in PAGE


def test_a_clean_wave_is_learnt_better_one_step_ahead():
    series = example.wave(60)
    net, _ = example.train_on(series, 400, closed=False)
    y = example.generate(net, series[0], 60)
    assert example.loss(y, series[1:]) == pytest.approx(2.1e-7, rel=0.05)
    assert "2.1·10⁻⁷" in PAGE


def test_a_noisy_wave_trained_in_two_ways():
    losses = example.two_ways_to_train(400)
    for name, figures in losses.items():
        row = " | ".join(f"{figure:.4f}" for figure in figures)
        assert f"| {name} | {row} |" in PAGE
    # The noise alone is a loss of ½·0.2²: one step ahead, the network has fitted it, and the closed
    # loop never sees it.
    (ahead, looped, quiet), (_, loop_looped, loop_quiet) = losses.values()
    assert ahead < 0.02 < looped
    assert loop_looped < looped / 3
    assert loop_quiet < quiet / 5


def test_the_noise_is_the_same_each_time_and_spares_the_start():
    one, other = example.wave(60, noise=0.2), example.wave(60, noise=0.2)
    np.testing.assert_array_equal(one, other)
    assert one[0] == 1
    assert np.std(one - example.wave(60)) == pytest.approx(0.2, rel=0.3)
