"""A network as a function that JAX differentiates by the network's own backward pass."""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from xprnn.backend.host.arrays import np
from xprnn.backend.trees import Fixed, Same
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.arguments import check_window
from xprnn.engine.gradients import dense
from xprnn.engine.network import RNN


def function(
    net: RNN,
    *,
    lengths: Sequence[int] | None = None,
    mask: Array | None = None,
    window: int | None = None,
) -> Callable[..., tuple[Array, Arrays]]:
    """Return a network as a function of its parameters and its input, for JAX to differentiate.

    ``jax.grad``, ``jax.vjp`` and their kin take its derivative from `RNN.backward` (through
    ``jax.custom_vjp``), so a cell of one's own trains inside a JAX model with its explicit
    derivatives, and optax or any other optimizer updates the parameters.

    Parameters
    ----------
    net : RNN
        On any backend; the function computes with JAX, in the network's dtype.  Its weights are not
        used.
    lengths : sequence of int, optional
        The number of steps of each sequence, the same in every call.
    mask : array of bool, (T, B), optional
        Which steps exist, instead of lengths, the same in every call; see `RNN.forward`.
    window : int, optional
        Of windowed truncation; see `RNN.backward`.

    Returns
    -------
    callable
        ``f(parameters, x, state=None) -> (output, state)``.  ``parameters`` maps the names of the
        network's parameters to arrays; `RNN.parameters` are a start.  The other arguments and the
        results are those of calling the network.  It can be inside of ``jax.jit`` and ``jax.vmap``.

    Raises
    ------
    ImportError
        If JAX is not installed.
    TypeError
        If ``net`` is not an `RNN`.
    ValueError
        If the network has dropout.
    KeyError
        By the function: if a parameter is missing, or a name unknown.

    Notes
    -----
    Only reverse mode is there, as with every ``jax.custom_vjp``; `RNN.jvp` is the forward mode.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, xprnn
    >>> net = xprnn.RNN(3, 8, 1, cell="lstm", backend="jax", rng=0)
    >>> f = function(net)
    >>> def loss(parameters, x, target):
    ...     output, state = f(parameters, x)
    ...     return jnp.mean((output - target) ** 2)
    >>> gradient = jax.grad(loss)(dict(net.parameters), jnp.ones((5, 2, 3)), jnp.zeros((5, 2, 1)))
    >>> gradient["readout.weight"].shape
    (1, 8)
    """
    if not isinstance(net, RNN):
        raise TypeError(f"net is {type(net).__name__}: expected an xprnn.RNN")
    architecture, window = net.architecture, check_window(window)
    if architecture.dropout or architecture.recurrent_dropout:
        raise ValueError(
            f"net has dropout {architecture.dropout} and recurrent dropout "
            f"{architecture.recurrent_dropout}, whose masks are drawn on the host, where JAX's "
            "transformations don't see it: expected a network without dropout"
        )
    if net.backend.name != "jax":
        net = net.to("jax")
    jax = importlib.import_module("jax")
    xp, dtype, shapes = net.backend.xp, net.backend.dtype, architecture.shapes()
    fixed = Fixed(architecture, net.backend, Same(net.rng), Same({}))

    def network(weights: Iterable[Array]) -> RNN:
        return RNN.unflattened(fixed, weights)

    @jax.custom_vjp  # type: ignore[untyped-decorator]
    def passes(weights: Arrays, x: Array, state: Arrays | None) -> tuple[Array, Arrays]:
        return network(weights)(x, state, lengths, mask=mask)

    def forward(weights: Arrays, x: Array, state: Arrays | None) -> Any:
        run = network(weights).forward(x, state, lengths, mask=mask)
        return (run.output, run.state), (run, state)

    def backward(kept: Any, d_results: tuple[Array, Arrays]) -> Any:
        run, state = kept
        # A user of jax.vjp may call it with NumPy's arrays.
        d_output, d_state = jax.tree.map(xp.asarray, d_results)
        # The tape has to be of this network's weights, and JAX has made other objects of them.
        gradient = network(run.tape.parameters).backward(run, d_output, d_state, window)
        # By name, because JAX sorts dictionaries.
        d_weights = tuple(dense(gradient.parameters[name]) for name in shapes)
        d_x = gradient.input
        if d_x is None:
            d_x = np.zeros(run.tape.x.shape, jax.dtypes.float0)  # for integers
        return d_weights, d_x, None if state is None else gradient.state

    passes.defvjp(forward, backward)

    def called(
        parameters: Mapping[str, Array], x: Array, state: Arrays | None = None
    ) -> tuple[Array, Arrays]:
        check_names(parameters, shapes)
        # Cast where JAX sees it, and so casts the gradient back.
        weights = tuple(xp.asarray(parameters[name], dtype) for name in shapes)
        for (name, shape), weight in zip(shapes.items(), weights, strict=True):
            if weight.shape != shape:
                raise ValueError(f"{name} has the shape {weight.shape}: expected {shape}")
        x = xp.asarray(x)
        if xp.issubdtype(x.dtype, xp.floating):
            x = x.astype(dtype)
        if isinstance(state, tuple | list):
            state = tuple(xp.asarray(h, dtype) for h in state)
        found: tuple[Array, Arrays] = passes(weights, x, state)
        return found

    return called


def check_names(parameters: Mapping[str, Array], shapes: Mapping[str, object]) -> None:
    """Refuse parameters that are not exactly those of a network."""
    if not isinstance(parameters, Mapping):
        raise TypeError(f"parameters is {type(parameters).__name__}: expected a dict of arrays")
    missing = [name for name in shapes if name not in parameters]
    unknown = [str(name) for name in parameters if name not in shapes]
    if missing or unknown:
        problem = f"lack {', '.join(missing)}" if missing else f"have {', '.join(unknown)}"
        raise KeyError(f"parameters {problem}: expected {', '.join(shapes)}")
