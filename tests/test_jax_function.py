"""Networks as functions of JAX's: `check_grads` is the judge, and `RNN.backward` to the bit."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import xprnn
from tests.closeness import FLOAT64, assert_close
from tests.leaky import LeakyUnit
from xprnn import RNN, get_backend
from xprnn.engine.gradients import dense
from xprnn.interop.jax import function

pytestmark = [pytest.mark.slow, pytest.mark.another_flavour]

JAX = get_backend("jax", dtype="float64")
NETS = {
    "lstm, two layers, both directions": {"cell": "lstm", "layers": 2, "bidirectional": True},
    "own cell, last": {"cell": LeakyUnit(), "returns": "last"},
}


def make(name="own cell, last", **options):
    return RNN(3, 4, 2, dtype="float64", rng=0, **(NETS[name] | options))


def arguments(net, steps=4, batch=3):
    rng = np.random.default_rng(0)
    shape = net.architecture.state_shape(batch)
    state = tuple(JAX.asarray(rng.normal(size=shape)) for _ in net.cell.state)
    weights = {name: JAX.asarray(p) for name, p in net.parameters.items()}
    return weights, JAX.asarray(rng.normal(size=(steps, batch, 3))), state


@pytest.mark.parametrize("name", NETS)
def test_check_grads_also_when_compiled(name):
    net = make(name)
    f = function(net, lengths=[4, 2, 3])
    weights, x, state = arguments(net)
    check_grads(jax.jit(f), (weights, x, state), order=1, modes=["rev"], rtol=1e-4)
    check_grads(jax.jit(f), (weights, x), order=1, modes=["rev"], rtol=1e-4)


def test_the_gradient_is_the_networks_own():
    net = make("lstm, two layers, both directions", backend="jax")
    weights, x, state = arguments(net, steps=6)
    f = function(net, window=2)
    (output, final), back = jax.vjp(f, weights, x, state)
    d_output, d_state = jnp.sin(output), tuple(map(jnp.cos, final))
    d_weights, d_x, d_initial = back((d_output, d_state))
    gradient = net.backward(net.forward(x, state), d_output, d_state, window=2)
    pairs = [(d_weights[k], gradient.parameters[k]) for k in weights]
    pairs += [(d_x, gradient.input), *zip(d_initial, gradient.state, strict=True)]
    for ours, theirs in pairs:
        assert_close(np.asarray(ours), np.asarray(theirs), FLOAT64)
    # And not the derivative of the array code, which knows no window.
    whole = jax.grad(lambda x: jnp.vdot(net(x)[0], d_output))(x)
    assert not np.allclose(d_x, whole)


def test_between_other_layers_in_a_training():
    net = make("lstm, two layers, both directions", layers=1)
    f = function(net)
    weights, x, _ = arguments(net, steps=10)
    model = {"rnn": weights, "in": jnp.eye(3), "out": jnp.ones((2,))}
    target = jnp.cumsum(x[:, :, 0], axis=0) / 5

    @jax.jit
    @jax.value_and_grad
    def loss(model, x):
        y, _ = f(model["rnn"], jnp.tanh(x @ model["in"]))
        return jnp.mean((y @ model["out"] - target) ** 2)

    losses = []
    for _ in range(60):
        value, gradient = loss(model, x)
        model = jax.tree.map(lambda p, g: p - 0.5 * g, model, gradient)
        losses.append(float(value))
    assert losses[-1] < losses[0] / 2


def test_vmap():
    net = make()
    f = function(net)
    weights, x, _ = arguments(net)
    many = jnp.stack([x, x + 1])
    outputs, _ = jax.vmap(f, in_axes=(None, 0))(weights, many)
    assert_close(np.asarray(outputs[1]), np.asarray(f(weights, x + 1)[0]), FLOAT64)

    def loss(weights, x):
        return jnp.sum(f(weights, x)[0])

    each = jax.vmap(jax.grad(loss), in_axes=(None, 0))(weights, many)["weight_hh_l0"]
    assert_close(
        np.asarray(each[1]), np.asarray(jax.grad(loss)(weights, x + 1)["weight_hh_l0"]), FLOAT64
    )


def test_tokens():
    net = RNN(6, 4, 6, embedding_size=3, dtype="float64", rng=0)
    f, tokens = function(net), jnp.asarray([[1, 2], [3, 1]])
    grad = jax.grad(lambda p, x: jnp.sum(f(p, x)[0]), argnums=(0, 1), allow_int=True)
    d_weights, d_tokens = grad(dict(net.parameters), tokens)
    _, gradient = net.value_and_grad(np.asarray(tokens), np.zeros((2, 2, 6)))
    run = net.forward(np.asarray(tokens))
    gradient = net.backward(run, np.ones_like(run.output))
    for name, g in gradient.parameters.items():
        assert_close(np.asarray(d_weights[name]), dense(g), FLOAT64)
    assert d_tokens.dtype == jax.dtypes.float0


def test_another_precision_is_cast_there_and_back():
    net = make()
    weights, x, state = arguments(net)
    single = jax.tree.map(lambda a: a.astype("float32"), (weights, x, state))
    f = function(net)
    assert f(*single)[0].dtype == "float64"
    found = jax.grad(lambda *a: jnp.sum(f(*a)[0]), argnums=(0, 1, 2))(*single)
    assert {str(a.dtype) for a in jax.tree.leaves(found)} == {"float32"}


def test_bad_input():
    with pytest.raises(TypeError, match=r"net is dict: expected an xprnn\.RNN"):
        function({})
    with pytest.raises(ValueError, match=r"dropout 0\.5 .* expected a network without"):
        function(make(layers=2, dropout=0.5))
    with pytest.raises(ValueError, match="window is -1"):
        function(make(), window=-1)
    net = make()
    f = function(net)
    weights, x, state = arguments(net)
    with pytest.raises(TypeError, match="parameters is list: expected a dict"):
        f(list(weights.values()), x)
    with pytest.raises(KeyError, match="parameters lack weight_hh_l0"):
        f({k: v for k, v in weights.items() if k != "weight_hh_l0"}, x)
    with pytest.raises(KeyError, match="parameters have scale: expected"):
        f(weights | {"scale": x}, x)
    with pytest.raises(ValueError, match=r"bias_l0 has the shape \(3,\): expected \(4,\)"):
        f(weights | {"bias_l0": jnp.ones(3)}, x)
    with pytest.raises(ValueError, match=r"shape \(4, 3, 2\)"):
        f(weights, x[:, :, :2])
    with pytest.raises(TypeError, match="state is"):
        f(weights, x, state[0])


def test_without_jax(monkeypatch):
    net = make()
    for name in ("jax", "jax.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install jax"):
        xprnn.interop.jax.function(net)
