"""`jax.test_util.check_grads`, with its default tolerance, on an LSTM step with a planted error."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import test_util

from xprnn.bench.sensitivity import Planted, sample

CHECK = "jax.test_util.check_grads"

_config: Any = jax.config
_config.update("jax_enable_x64", val=True)


def found(error: float) -> bool:
    """Whether it finds an error of this size."""
    cell = Planted(error=error)

    @jax.custom_vjp
    def step(arrays: Any) -> Any:
        return forward(arrays)[0]

    def forward(arrays: Any) -> Any:
        state = arrays[8:]
        after, saved = cell.forward(jnp, arrays[:4], arrays[4:8], state)
        return after, (saved, state)

    def backward(kept: Any, d_state: Any) -> Any:
        saved, state = kept
        du, dv, d_previous = cell.backward(jnp, saved, state, d_state)
        # The path of h is the engine's, through U, and no argument of this step.
        pairs = zip(d_previous, state, strict=True)
        direct = (jnp.zeros_like(a) if d is None else d for d, a in pairs)
        return ((*du, *dv, *direct),)

    step.defvjp(forward, backward)
    arrays = tuple(map(jnp.asarray, sample()))
    test: Any = test_util
    try:
        test.check_grads(step, (arrays,), order=1, modes=["rev"])
    except AssertionError:
        return True
    return False
