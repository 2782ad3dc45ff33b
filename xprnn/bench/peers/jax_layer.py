"""One recurrent layer in JAX, forward and backward: a compiled scan and its gradient."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from xprnn.bench.layer import LayerCase


def _elman(u: Any, v: Any, state: Any) -> Any:
    del state
    h = jnp.tanh(u + v)
    return (h,), h


def _gru(u: Any, v: Any, state: Any) -> Any:
    (u_r, u_z, u_n), (v_r, v_z, v_n) = jnp.split(u, 3, axis=-1), jnp.split(v, 3, axis=-1)
    r, z = jax.nn.sigmoid(u_r + v_r), jax.nn.sigmoid(u_z + v_z)
    n = jnp.tanh(u_n + r * v_n)
    h = n + z * (state[0] - n)
    return (h,), h


def _lstm(u: Any, v: Any, state: Any) -> Any:
    i, f, g, o = jnp.split(u + v, 4, axis=-1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


_CELLS: dict[str, Any] = {"elman": (_elman, 1, 1), "gru": (_gru, 3, 1), "lstm": (_lstm, 4, 2)}


def prepare(
    cell: str, case: LayerCase, device: str, threads: int, precision: str = "float32"
) -> Callable[[], Any]:
    """Return the work: y = layer(x), and from dL/dy the gradients of x and of all parameters.

    The product of W and the inputs of all steps is outside the scan, where JAX's users put it.
    """
    del threads  # the process is limited to as many cores
    # By default JAX rounds the operands of products to TF32 on a GPU.
    words = {"float32": "float32", "tf32": "tensorfloat32", "float16": None, "bfloat16": None}
    config: Any = jax.config
    config.update("jax_default_matmul_precision", words[precision])
    dtype = {"float16": jnp.float16, "bfloat16": jnp.bfloat16}.get(precision, jnp.float32)
    step, gates, variables = _CELLS[cell]
    data = case.data()
    place = jax.devices("cpu" if device == "cpu" else "gpu")[0]
    rows = gates * case.hidden
    with jax.default_device(place):
        x, dy = jnp.asarray(data.x, dtype), jnp.asarray(data.dy, dtype)
        keys = jax.random.split(jax.random.PRNGKey(0), 4)
        bound = case.hidden**-0.5
        shapes = ((case.inputs, rows), (case.hidden, rows), (rows,), (rows,))
        weights = tuple(
            jax.random.uniform(key, shape, x.dtype, minval=-bound, maxval=bound)
            for key, shape in zip(keys, shapes, strict=True)
        )

    def layer(x: Any, weights: Any) -> Any:
        W, U, b, c = weights
        state = (jnp.zeros((case.batch, case.hidden), x.dtype),) * variables

        def body(state: Any, u: Any) -> Any:
            return step(u, state[0] @ U + c, state)

        return jax.lax.scan(body, state, x @ W + b)[1]

    @jax.jit
    def gradients(x: Any, weights: Any, dy: Any) -> Any:
        y, back = jax.vjp(layer, x, weights)
        return y, back(dy)

    def wait(array: Any) -> Any:
        return array.block_until_ready()

    def work() -> Any:
        y, found = gradients(x, weights, dy)
        return y.block_until_ready(), jax.tree.map(wait, found)

    return work
