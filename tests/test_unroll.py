"""The functional core: one layer in one direction, and two that share their weights."""

import numpy as np
import pytest

from tests.cases import Case, each_cell, row_of
from tests.closeness import (
    AUTOGRAD,
    AUTOGRAD_FLOOR,
    DIFFERENCES,
    DIFFERENCES_FLOOR,
    FLOAT64,
    assert_all_close,
    assert_close,
    between_backends,
)
from tests.harness import on_every_backend
from tests.judge import central_differences, layer_weights, leaf, unrolled
from tests.optional import optional
from tests.steps import argument
from xprnn import Weights, unroll, unroll_backward
from xprnn.cells import Elman, unit_names

torch = optional("torch")
jax = optional("jax")

SHAPES = pytest.mark.parametrize(
    "shape",
    [{}, {"T": 1}, {"B": 1}, {"T": 1, "B": 1, "I": 1, "H": 1}, {"bias": False}],
    ids=["all", "one-step", "one-sequence", "one-of-everything", "no-bias"],
)


def material(case: Case):
    """Return weights, x, state, dh and d_state: host arrays."""
    case = case.but(O=None, returns="sequence")
    weights, problem = layer_weights(case.cell, case.parameters()), case.problem()
    state, d_state = (tuple(part[0] for part in s) for s in (problem.state, problem.d_state))
    return weights, problem.x, state, problem.d_output, d_state


def each(convert, w: Weights) -> Weights:
    """Return the weights with every array converted."""
    return jax.tree.map(convert, w)


def by_name(case: Case, w) -> dict[str, object]:
    """Return by name the weights, or their gradients, that a layer has."""
    named = {"W": w.W, "U": w.U, "b": w.b, **dict(zip(("γ_u", "γ_v"), w.gains, strict=False))}
    named |= dict(zip(unit_names(case.cell), w.units, strict=True))
    return {name: array for name, array in named.items() if array is not None}


def named(case: Case, gradient) -> dict[str, np.ndarray]:
    """Return all of a layer's gradients in one dict."""
    states = dict(zip(case.cell.state, gradient.state, strict=True))
    return by_name(case, gradient.weights) | {"x": gradient.x} | states


def by_torch(case: Case, arrays, dh, d_state) -> dict[str, np.ndarray]:
    """Return the same gradients by torch's autograd."""
    weights, x, state = arrays
    w, x, state = each(leaf, weights), leaf(x), tuple(map(leaf, state))
    h, final = unrolled(case, w, x, state)
    parts = [(h, dh), *zip(final, d_state or (), strict=False)]
    goal = sum((a * torch.tensor(d)).sum() for a, d in parts if d is not None)
    leaves = by_name(case, w) | {"x": x} | dict(zip(case.cell.state, state, strict=True))
    found = torch.autograd.grad(goal, list(leaves.values()))
    return {name: d.numpy() for name, d in zip(leaves, found, strict=True)}


@pytest.mark.parametrize("outer", ["both", "dh", "d_state"])
@SHAPES
@each_cell
def test_gradients_against_autograd(case, shape, outer):
    case = case.but(**shape)
    weights, x, state, dh, d_state = material(case)
    dh, d_state = (None if outer == "d_state" else dh), (None if outer == "dh" else d_state)
    h, final, tape = unroll(case.cell, weights, x, state)
    want_h, want_final = unrolled(
        case, each(torch.tensor, weights), torch.tensor(x), tuple(map(torch.tensor, state))
    )
    assert_close(h, want_h, AUTOGRAD, "h")
    assert_close(final, torch.stack(want_final), AUTOGRAD, "state")
    gradient = unroll_backward(case.cell, weights, tape, dh, d_state)
    assert (gradient.weights.b is None) == (not case.bias)
    want = by_torch(case, (weights, x, state), dh, d_state)
    assert_all_close(named(case, gradient), want, AUTOGRAD, AUTOGRAD_FLOOR)


@each_cell
def test_gradients_against_finite_differences(case):
    weights, x, state, dh, d_state = material(case)

    def goal() -> float:
        h, final, _ = unroll(case.cell, weights, x, state)
        return float(
            np.sum(h * dh) + sum(np.sum(s * d) for s, d in zip(final, d_state, strict=True))
        )

    _, _, tape = unroll(case.cell, weights, x, state)
    got = named(case, unroll_backward(case.cell, weights, tape, dh, d_state))
    moved = [*by_name(case, weights).values(), x, *state]
    want = dict(zip(got, central_differences(goal, moved), strict=True))
    assert_all_close(got, want, DIFFERENCES, DIFFERENCES_FLOOR)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@on_every_backend()
def test_every_backend_agrees_with_numpy(case, harness, dtype):
    harness = harness.at(dtype)
    weights, x, state, dh, d_state = material(case)
    theirs = each(harness.array, weights)
    h, final, tape = unroll(case.cell, theirs, harness.array(x), harness.arrays(state))
    gradient = unroll_backward(case.cell, theirs, tape, harness.array(dh), harness.arrays(d_state))
    want_h, want_final, numpy_tape = unroll(case.cell, weights, x, state)
    want = unroll_backward(case.cell, weights, numpy_tape, dh, d_state)
    tolerance = between_backends(dtype, case.T)
    assert_close(harness.host(h), want_h, tolerance, "h")
    assert_close([harness.host(part) for part in final], want_final, tolerance, "state")
    assert_all_close(harness.hosts(named(case, gradient)), named(case, want), tolerance)


@each_cell
def test_two_unrolls_that_share_weights_add_up_to_one(case):
    weights, x, state, dh, d_state = material(case.but(T=5))
    _, final, tape = unroll(case.cell, weights, x, state)
    whole = unroll_backward(case.cell, weights, tape, dh, d_state)

    h_1, border, tape_1 = unroll(case.cell, weights, x[:2], state)
    h_2, end, tape_2 = unroll(case.cell, weights, x[2:], border)
    late = unroll_backward(case.cell, weights, tape_2, dh[2:], d_state)
    early = unroll_backward(case.cell, weights, tape_1, dh[:2], late.state)

    assert_close(end, final, FLOAT64)
    first, second = by_name(case, early.weights), by_name(case, late.weights)
    for name, want in by_name(case, whole.weights).items():
        assert_close(first[name] + second[name], want, FLOAT64, name)
    assert_close(np.concatenate([early.x, late.x]), whole.x, FLOAT64)
    assert_close(early.state, whole.state, FLOAT64)
    assert h_1.shape[0] + h_2.shape[0] == 5


def test_counting_with_a_logistic_state_and_a_linear_end():
    """The last step is linear, all others are logistic: one pair of weights, two cells."""
    rng = np.random.default_rng(0)
    weights = (rng.normal(size=(1, 1)), rng.normal(size=(1, 1)))
    x = rng.integers(0, 2, size=(6, 3, 1)).astype("float64")
    target = x.sum(axis=0)
    _, inner, tape = unroll(Elman("logistic"), weights, x[:-1])
    _, (last,), tape_end = unroll(Elman("identity"), weights, x[-1:], inner)
    end = unroll_backward(Elman("identity"), weights, tape_end, None, (last - target,))
    start = unroll_backward(Elman("logistic"), weights, tape, None, end.state)

    W, U = map(leaf, weights)
    h = torch.zeros(3, 1, dtype=torch.float64)
    for x_t in torch.tensor(x[:-1]):
        h = torch.sigmoid(x_t @ W.T + h @ U.T)
    y = torch.tensor(x[-1]) @ W.T + h @ U.T
    want = torch.autograd.grad((0.5 * (y - torch.tensor(target)) ** 2).sum(), [W, U])
    assert_close(end.weights.W + start.weights.W, want[0], AUTOGRAD)
    assert_close(end.weights.U + start.weights.U, want[1], AUTOGRAD)


def test_linear_units_count():
    ones = np.ones((1, 1))
    x = np.array([1.0, 0, 1, 1, 0]).reshape(5, 1, 1)
    h, (final,), _ = unroll(Elman("identity"), (ones, ones), x)
    assert h.ravel().tolist() == [1, 1, 2, 3, 3]
    assert final.tolist() == [[3]]


@each_cell
def test_the_network_is_the_layer(case):
    weights, x, state, _, _ = material(case)
    net = case.but(O=None).make(dtype="float64")
    net.parameters = case.but(O=None).parameters()
    h, final, _ = unroll(case.cell, weights, x, state)
    y, net_final = net(x, tuple(part[None] for part in state))
    assert_close(y, h, 0.0)
    assert_close(net_final[0][0], final[0], 0.0)


def test_the_backend_casts_when_it_is_given(harness):
    weights, x, state, dh, _ = material(row_of("elman-tanh"))
    theirs = each(harness.array, weights)
    single = harness.at("float32").backend
    h, _, tape = unroll("elman", theirs, harness.array(x), harness.arrays(state), backend=single)
    assert h.dtype == single.dtype
    gradient = unroll_backward("elman", theirs, tape, harness.array(dh))
    assert gradient.weights.W.dtype == single.dtype


W, U, B_ = np.ones((4, 2)), np.ones((4, 4)), np.ones(4)
X = np.ones((3, 2, 2))


@pytest.mark.parametrize(
    ("weights", "x", "state", "error", "message"),
    [
        (W, X, None, TypeError, r"weights is ndarray: expected \(W, U\) or \(W, U, b\)"),
        ((W,), X, None, TypeError, r"weights is tuple: expected \(W, U\) or"),
        ((W.tolist(), U), X, None, TypeError, "expected a floating array of numpy, .* got list"),
        ((W.astype(int), U), X, None, TypeError, "expected a floating array .* dtype int64"),
        ((W, U[0]), X, None, ValueError, r"weights.U has shape \(4,\): expected \(G·H, H\)"),
        ((W, U[:2]), X, None, ValueError, r"weights.U has shape \(2, 4\): expected \(4, 4\)"),
        ((W, U[:, :3]), X, None, ValueError, r"weights.W has shape \(4, 2\): expected \(3, I\)"),
        ((W, U, B_[:3]), X, None, ValueError, r"weights.b has shape \(3,\): expected \(4,\)"),
        ((W, U), X[0], None, ValueError, r"x has shape \(2, 2\): expected \(T, B, 2\)"),
        ((W, U), X[..., :1], None, ValueError, r"x has shape \(3, 2, 1\): expected \(T, B, 2\)"),
        ((W, U), X.astype(int), None, TypeError, "x has dtype int64: expected floats"),
        ((W, U), X.tolist(), None, TypeError, "x is a list: expected an array of the backend"),
        ((W, U), X, np.ones((2, 4)), TypeError, r"state is of type ndarray: expected a tuple \(h,"),
        ((W, U), X, (), ValueError, r"state has 0 arrays: expected \(h,\), each of shape \(2, 4\)"),
        ((W, U), X, (U,), ValueError, r"state\[0\] has shape \(4, 4\): expected \(2, 4\)"),
    ],
)
def test_what_does_not_fit_is_refused(weights, x, state, error, message):
    with pytest.raises(error, match=message):
        unroll("elman", weights, x, state)


@pytest.mark.parametrize(
    ("weights", "dh", "d_state", "error", "message"),
    [
        ((W[:, :1], U), None, None, ValueError, r"weights.W has shape \(4, 1\): expected \(4, 2\)"),
        ((W[:3], U[:3, :3]), None, None, ValueError, r"weights.U has shape \(3, 3\): expected"),
        ((W, U), X, None, ValueError, r"dh has shape \(3, 2, 2\): expected \(3, 2, 4\)"),
        ((W, U), [1.0], None, TypeError, "dh is a list: expected an array of the backend 'numpy'"),
        ((W, U), None, (U, U), ValueError, r"d_state has 2 arrays: expected \(h,\)"),
        ((W, U), None, U, TypeError, r"d_state is of type ndarray: expected a tuple \(h,\)"),
    ],
)
def test_what_does_not_fit_on_the_way_back_is_refused(weights, dh, d_state, error, message):
    _, _, tape = unroll("elman", (W, U), X)
    with pytest.raises(error, match=message):
        unroll_backward("elman", weights, tape, dh, d_state)


class Leaky:
    """A linear cell, whose derivative needs no saved value: h = ½ h_prev + u + v."""

    gates = 1
    state = ("h",)

    def forward(self, xp, u, v, state):
        del xp
        return (0.5 * state[0] + u[0] + v[0],), ()

    def backward(self, xp, saved, previous, d_state):
        del xp, previous
        assert saved == ()
        return d_state, d_state, (0.5 * d_state[0],)


class Unread:
    """A cell that writes a state variable and never reads it: c = 2u, h = u + v."""

    gates = 1
    state = ("h", "c")

    def forward(self, xp, u, v, state):
        del xp, state
        return (u[0] + v[0], 2 * u[0]), ()

    def backward(self, xp, saved, previous, d_state):
        del xp, saved, previous
        dh, dc = d_state
        return (dh + 2 * dc,), (dh,), (None, None)


def test_a_cell_that_saves_nothing():
    case = Case("leaky", Leaky(), lambda m, w, x, s: (0.5 * s[0] + argument(m, w, x, s),))
    weights, x, state, dh, d_state = material(case)
    _, _, tape = unroll(case.cell, weights, x, state)
    gradient = unroll_backward(case.cell, weights, tape, dh, d_state)
    want = by_torch(case, (weights, x, state), dh, d_state)
    assert_all_close(named(case, gradient), want, AUTOGRAD)


def test_a_state_that_is_never_read_has_no_gradient(harness):
    def step(m, w, x, state):
        u = x @ w.W.T + w.b
        return u + state[0] @ w.U.T, 2 * u + 0 * state[1]

    case = Case("unread", Unread(), step)
    weights, x, state, dh, d_state = material(case)
    theirs = each(harness.array, weights)
    _, _, tape = unroll(case.cell, theirs, harness.array(x), harness.arrays(state))
    gradient = unroll_backward(case.cell, theirs, tape, harness.array(dh), harness.arrays(d_state))
    got = harness.hosts(named(case, gradient))
    assert_all_close(got, by_torch(case, (weights, x, state), dh, d_state), AUTOGRAD)
    assert not np.any(got["c"])


def test_an_unrolled_layer_is_not_its_tape():
    run = unroll("elman", (W, U), X)
    with pytest.raises(TypeError, match="tape is Unrolled: expected the tape that unroll returned"):
        unroll_backward("elman", (W, U), run, None)
