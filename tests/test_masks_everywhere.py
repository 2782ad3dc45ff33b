"""Masks wherever a network is used: inside torch and JAX, in proofs, pages and figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.closeness import FLOAT64, assert_close
from tests.test_masks import MASK, RNG, TOKENS, B, H, I, O, T, X, Y, layered, network
from xprnn import RNN
from xprnn.diagnostics import gates_over_time, gradient_flow, inspect_page
from xprnn.interop.jax import function
from xprnn.interop.torch import Module
from xprnn.losses import SquaredError
from xprnn.testing import GradientError, assert_parity, check_gradients


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_inside_torch(batch_first, backend):
    net = layered(backend=backend)
    module = Module(net, batch_first=batch_first)
    x, w = torch.tensor(np.where(MASK[..., None], X, 1e300)), torch.tensor(Y)
    mask = torch.tensor(MASK)
    if batch_first:
        x, w, mask = (a.transpose(0, 1) for a in (x, w, mask))
    x.requires_grad_()
    y, state = module(x, mask=mask)
    (y * w).sum().backward()
    to = net.backend.asarray
    run = net.forward(to(np.where(MASK[..., None], X, 0)), mask=MASK)
    gradient = net.backward(run, to(Y))
    first = y.detach().transpose(0, 1) if batch_first else y.detach()
    assert np.array_equal(first, net.backend.to_numpy(run.output))
    assert np.array_equal(state[0].detach(), net.backend.to_numpy(run.state[0]))
    for name, p in module.named_parameters():
        assert_close(p.grad, net.backend.to_numpy(gradient.parameters[name]), FLOAT64)
    assert not x.grad[~mask].any()
    with torch.no_grad():
        assert np.array_equal(module(x, mask=mask)[0], y.detach())
    with pytest.raises(ValueError, match=r"mask has the shape \(5, 6\): expected \(\d, \d\)"):
        module(x, mask=mask.new_ones(5, 6))
    with pytest.raises(TypeError, match="mask is ndarray: expected a tensor of bool"):
        module(x, mask=mask.numpy())
    with pytest.raises(TypeError, match="float32: expected an array of bool"):
        module(x, mask=mask.float())


def test_inside_jax():
    net = network("gru", backend="jax")
    weights = dict(net.parameters)
    x, w = jnp.asarray(X), jnp.asarray(Y)

    def loss(weights, mask=MASK):
        y, _ = function(net, mask=mask)(weights, x)
        return jnp.sum(y * w)

    run = net.forward(x, mask=MASK)
    gradient = net.backward(run, w)
    for made in (jax.grad(loss), jax.jit(jax.grad(loss))):
        for name, g in made(weights).items():
            assert_close(np.asarray(g), np.asarray(gradient.parameters[name]), FLOAT64)
    compiled = jax.jit(lambda x, mask: net(x, mask=mask)[0])
    with pytest.raises(TypeError, match="mask is an argument of a function that is being co"):
        compiled(x, jnp.asarray(MASK))
    with pytest.raises(TypeError, match=r"with jax\.jit, close over it"):
        jax.jit(loss)(weights, jnp.asarray(MASK))
    inside = jnp.asarray(MASK)
    assert jnp.array_equal(jax.jit(lambda x: net(x, mask=inside)[0])(x), run.output)


@pytest.mark.parametrize("form", ["numbers", "tokens", "last"])
def test_check_gradients(form):
    options = {"embedding_size": 2} if form == "tokens" else {}
    net = RNN(
        *(5 if form == "tokens" else I, 3, O),
        cell="gru",
        bidirectional=True,
        returns="last" if form == "last" else "sequence",
        dtype="float64",
        rng=0,
        **options,
    )
    x, some = (TOKENS if form == "tokens" else X)[:5], MASK[:5]
    target = Y[-1] if form == "last" else np.where(some[..., None], Y[:5], 1e9)
    assert check_gradients(net, x, mask=some).passed
    report = check_gradients(net, x, target=target, mask=some, mode="directions")
    assert report.passed
    with pytest.raises(ValueError, match="with a mask that can't be checked"):
        check_gradients(network(), X, mask=MASK, window=1)


def test_check_gradients_finds_a_state_that_is_not_held():
    """A backward pass that is wrong where steps are missing, and nowhere else."""

    class Leaks(SquaredError):  # noqa: N818
        def value_and_grad(self, output, target, mask=None, *, overwrite=False):
            value, d = super().value_and_grad(output, target, mask, overwrite=overwrite)
            return value, d if mask is None else d * 1.5

    assert check_gradients(network(), X, target=Y, loss=Leaks()).passed
    with pytest.raises(GradientError):
        check_gradients(network(), X, target=Y, loss=Leaks(), mask=MASK)


def test_parity():
    def make(backend):
        return RNN(I, H, O, cell="gru", backend=backend, rng=0)

    arguments = (make, X, ["array_api_strict", "torch"])
    options = {"target": Y, "steps": 2, "dtypes": ["float64"]}
    assert assert_parity(*arguments, mask=MASK, **options).agrees
    # One step of each sequence, from a state of zero.
    once = np.arange(T)[:, None] == [3, 0, 7, 2, 5, 1]
    assert assert_parity(*arguments, mask=once.tolist(), **options).zero == ("weight_hh_l0",)


@pytest.mark.parametrize("returns", ["sequence", "last"])
@pytest.mark.parametrize("b", [0, 3, 5])
def test_inspect_shows_the_steps_that_exist(b, returns):
    net = layered("gru", returns=returns)
    target = Y[-1] if returns == "last" else Y
    weights = RNG.uniform(0.5, 2, size=target.shape)
    page = inspect_page(net, X, target, mask=MASK, weights=weights, sequence=b)
    record, at, one = page.record, MASK[:, b], slice(b, b + 1)
    alone = (a[one] if returns == "last" else a[at][:, one] for a in (target, weights))
    y, w = alone
    value, gradient = net.value_and_grad(X[at][:, one], y, weights=w)
    assert record.steps == at.sum()
    assert record.padding == 0
    assert record.value == pytest.approx(float(value), rel=1e-12)
    for name, g in record.gradients().items():
        assert_close(g, gradient.parameters[name], FLOAT64)
    said = {
        0: "steps 0 to 3 of this page are steps 2 to 3, 5 to 6 of the input",
        3: "steps 0 to 2 of this page are steps 1, 6 to 7 of the input",
        5: None,
    }[b]
    assert [m for m in page.messages if "Missing" in m] == (
        [] if said is None else [f"Missing steps are left out: {said}."]
    )
    gates = gates_over_time(net, X, mask=MASK, sequence=b)
    assert_close(gates["z"], gates_over_time(net, X[at][:, one])["z"], FLOAT64)


def test_inspect_wants_a_step():
    net = network("gru")
    for options in ({"mask": MASK, "sequence": 4}, {"lengths": [0] * B}):
        with pytest.raises(ValueError, match=r"sequence \d has no steps: expected one with at le"):
            inspect_page(net, X, Y, **options)
        with pytest.raises(ValueError, match=r"sequence \d has no steps"):
            gates_over_time(net, X, **options)
    with pytest.raises(ValueError, match=r"sequence 0 has no steps"):
        inspect_page(net, X[:0], Y[:0])


@pytest.mark.parametrize("returns", ["sequence", "last"])
@pytest.mark.parametrize("final", [False, True])
def test_gradient_flow_of_a_sequence_without_steps(final, returns):
    """It adds nothing: the numbers are those of the other sequences."""
    net = layered("gru", returns=returns)
    full = [b for b in range(B) if b != 4]
    y = Y[-1] if returns == "last" else Y
    target = y[full] if returns == "last" else y[:, full]
    d = RNG.normal(size=(4, B, H)) if final else None
    rest = None if d is None else (d[:, full],)
    options = {"loss": SquaredError("sum"), "matrix": True}
    got = gradient_flow(net, X, y, mask=MASK, d_state=d if d is None else (d,), **options)
    want = gradient_flow(net, X[:, full], target, mask=MASK[:, full], d_state=rest, **options)
    for name in ("reach", "extent"):
        assert np.array_equal(getattr(got, name), getattr(want, name))
    for name in ("norms", "decay", "saturation", "matrix"):
        assert_close(getattr(got, name), getattr(want, name), FLOAT64)
