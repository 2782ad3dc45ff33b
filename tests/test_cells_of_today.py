"""sLSTM, minGRU and minLSTM beside what their authors' code computes, and at the edges.

The peers' equations are written from the papers and their code, not from the cells: sLSTM's step
from github.com/NX-AI/xlstm (``slstm_pointwise``), minGRU and minLSTM in log-space from appendix B
of arXiv:2410.01201.
"""

import numpy as np
import pytest

from tests.closeness import AUTOGRAD, assert_close
from xprnn import RNN, unroll, unroll_backward
from xprnn.cells import SLSTM, MinGRU, MinLSTM
from xprnn.testing import check_cell, check_gradients

T, B, I, H = 7, 3, 2, 4  # noqa: E741
RNG = np.random.default_rng


def arrays_of(gates, *, scale=1.0, recurrent=True):
    rng = RNG(0)
    U = rng.normal(size=(gates * H, H)) / 2 if recurrent else None
    weights = scale * rng.normal(size=(gates * H, I)), U, rng.normal(size=gates * H)
    return weights, rng.normal(size=(T, B, I)), rng.normal(size=(T, B, H))


def peer_slstm(torch, weights, x, forget, *, constant_m):
    """Return h of every step; with ``constant_m`` no gradient goes through the stabiliser."""
    W, U, b = weights
    h = c = n = m = torch.zeros(B, H, dtype=torch.float64)
    found = []
    for x_t in x:
        i_raw, f_raw, z_raw, o_raw = (x_t @ W.T + h @ U.T + b).chunk(4, dim=-1)
        log_f = torch.nn.functional.logsigmoid(f_raw) if forget == "logistic" else f_raw
        log_f_plus_m = m + log_f
        new_m = i_raw if bool(torch.all(n == 0)) else torch.maximum(i_raw, log_f_plus_m)
        if constant_m:
            new_m = new_m.detach()
        i_gate, f_gate = torch.exp(i_raw - new_m), torch.exp(log_f_plus_m - new_m)
        c = f_gate * c + i_gate * torch.tanh(z_raw)
        n = f_gate * n + i_gate
        h, m = torch.sigmoid(o_raw) * c / n, new_m
        found.append(h)
    return torch.stack(found)


@pytest.mark.parametrize("constant_m", [True, False])
@pytest.mark.parametrize("forget", ["logistic", "exp"])
def test_slstm_is_that_of_its_authors(forget, constant_m):
    """Gradients, too, whether one goes through the stabiliser or not."""
    torch = pytest.importorskip("torch")
    weights, x, dh = arrays_of(4)
    tensors = [torch.tensor(a, requires_grad=True) for a in weights]
    leaf = torch.tensor(x, requires_grad=True)
    want = peer_slstm(torch, tensors, leaf, forget, constant_m=constant_m)
    want.backward(torch.tensor(dh))
    h, _, tape = unroll(SLSTM(forget), weights, x)
    assert_close(h, want.detach().numpy(), AUTOGRAD)
    found = unroll_backward(SLSTM(forget), weights, tape, dh)
    for got, tensor in zip((*found.weights[:3], found.x), (*tensors, leaf), strict=True):
        assert_close(got, tensor.grad.numpy(), AUTOGRAD)


def test_slstm_does_not_depend_on_the_stabiliser():
    """The same remembered content under any m gives the same h, and dm is that of a scaling."""
    weights, x, dh = arrays_of(4)
    rng = RNG(3)
    h, c, n = rng.normal(size=(B, H)), rng.normal(size=(B, H)), 0.5 + rng.random((B, H))
    results = []
    for m in (0.0, -3.0, 40.0):
        scale = np.exp(-m)
        state = (h, c * scale, n * scale, np.full((B, H), m))
        y, _, tape = unroll("slstm", weights, x, state)
        gradient = unroll_backward("slstm", weights, tape, dh)
        _, dc, dn, dm = gradient.state
        assert_close(dm, dc * state[1] + dn * state[2], 1e-12)
        results.append((y, gradient.weights.W, gradient.weights.U, dc * scale, dn * scale))
    for other in results[1:]:
        for got, want in zip(other, results[0], strict=True):
            assert_close(got, want, 1e-11)


@pytest.mark.parametrize("at", [-300.0, 300.0, 1e4])
@pytest.mark.parametrize("forget", ["logistic", "exp"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_slstm_gates_of_any_size(dtype, forget, at):
    net = RNN(I, H, 1, cell=SLSTM(forget), dtype=dtype, rng=0)
    for first in (0, H):
        net.parameters["bias_l0"][first : first + H] = at
    x, target = RNG(1).normal(size=(T, B, I)).astype(dtype), np.zeros((T, B, 1), dtype)
    value, gradient = net.value_and_grad(x, target)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(g)) for g in gradient.parameters.values())
    _, (h, c, n, _) = net(x)
    assert np.all(np.abs(h) <= 1)
    assert np.all(np.abs(c) <= n * (1 + 1e-5))


def test_slstm_first_step_is_its_candidate():
    """Nothing is remembered before it, so h(1) = σ(a_o) tanh(a_z), whatever the other gates say."""
    weights, x, _ = arrays_of(4, scale=30.0)
    W, _, b = weights
    a = x[0] @ W.T + b
    h, _, _ = unroll("slstm", weights, x[:1])
    want = np.tanh(a[:, 2 * H : 3 * H]) / (1 + np.exp(-a[:, 3 * H :]))
    assert_close(h[0], want, 1e-12)


def test_slstm_nearly_closed_from_the_start():
    """exp(-300) is zero in float32; nothing is remembered yet, so it does not count."""
    net = RNN(I, H, None, cell="slstm", rng=0)
    net.parameters["bias_l0"][:H] = -300
    h, (_, _, n, m) = net(RNG(1).normal(size=(1, B, I)).astype("float32"))
    assert np.all(np.isfinite(h))
    assert np.any(h != 0)
    assert np.all(n == 1)
    assert_close(m, np.full(m.shape, -300.0), 0.01)


def test_slstm_first_m_is_that_of_its_input_gate():
    weights, x, _ = arrays_of(4)
    _, _, tape = unroll("slstm", weights, x[:1])
    zero = np.zeros((B, H))
    d_state = (zero, zero, zero, np.ones((B, H)))
    found = unroll_backward("slstm", weights, tape, None, d_state)
    assert found.weights.b.tolist() == [B] * H + [0] * 3 * H
    assert not any(np.any(part) for part in found.state[1:])


@pytest.mark.parametrize("forget", ["logistic", "exp"])
def test_slstm_with_a_loss_of_the_final_state(forget):
    """There the path through m counts: by finite differences, m and n included."""
    assert check_cell(SLSTM(forget), mode="central").passed
    net = RNN(I, 3, None, cell=SLSTM(forget, forget_bias=1.0), dtype="float64", rng=2)
    state = tuple(0.5 + RNG(k).random((1, B, 3)) for k in range(4))
    report = check_gradients(net, RNG(0).normal(size=(3, B, I)), state=state, mode="central")
    assert report.passed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"forget": "sigmoid"}, "forget is 'sigmoid': expected"),
        ({"forget_bias": np.inf}, "forget_bias is inf"),
    ],
)
def test_slstm_options(options, message):
    with pytest.raises(ValueError, match=message):
        SLSTM(**options)


def log_space(torch, log_keep, log_let_in, first):
    """Return the states by the authors' parallel scan in log-space."""
    log_values = torch.cat([torch.log(first)[None], log_let_in])
    kept = torch.nn.functional.pad(torch.cumsum(log_keep, 0), (0, 0, 0, 0, 1, 0))
    return torch.exp(kept + torch.logcumsumexp(log_values - kept, 0))[1:]


@pytest.mark.parametrize("cell", [MinGRU("relu"), MinLSTM("relu", forget_bias=1.0)])
def test_the_minimal_cells_are_those_of_their_authors(cell):
    """The candidates are positive, as they have to be in log-space."""
    torch = pytest.importorskip("torch")
    softplus = torch.nn.functional.softplus
    (W, _, b), x, dh = arrays_of(cell.gates, recurrent=False)
    b[-H:] = 9.0
    first = 0.5 + RNG(5).random((B, H))
    tensors = [torch.tensor(a, requires_grad=True) for a in (W, b, x, first)]
    blocks = (tensors[2] @ tensors[0].T + tensors[1]).chunk(cell.gates, dim=-1)
    if cell.gates == 2:
        z, n = blocks
        log_keep, log_in = -softplus(z), -softplus(-z)
    else:
        i, f, n = blocks
        ratio = softplus(-f) - softplus(-i)
        log_keep, log_in = -softplus(ratio), -softplus(-ratio)
    want = log_space(torch, log_keep, log_in + torch.log(n), tensors[3])
    want.backward(torch.tensor(dh))
    h, _, tape = unroll(cell, (W, None, b), x, (first,))
    assert_close(h, want.detach().numpy(), AUTOGRAD)
    found = unroll_backward(cell, (W, None, b), tape, dh)
    results = found.weights.W, found.weights.b, found.x, found.state[0]
    for got, tensor in zip(results, tensors, strict=True):
        assert_close(got, tensor.grad.numpy(), AUTOGRAD)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_min_lstm_with_closed_gates(dtype):
    """i/(i + f) is 0/0 as it stands, for σ(-2000) is zero; the gates differ by a factor of e."""
    net = RNN(1, 2, cell="min_lstm", dtype=dtype, rng=0)
    net.parameters["weight_ih_l0"] = np.zeros((6, 1), dtype)
    net.parameters["bias_l0"] = np.array([-2000, -2000, -2001, -2001, 1, 1], dtype)
    h, _ = net(np.ones((1, 1, 1), dtype))
    assert_close(h.ravel(), [1 / (1 + np.exp(-1))] * 2, 1e-3 if dtype == "float32" else 1e-12)
