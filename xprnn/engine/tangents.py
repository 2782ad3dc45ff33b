"""Exact directional derivatives of a network's passes, by forward-mode differentiation.

The passes of `xprnn.engine.stack` are called with dual arrays (see `xprnn.backend.dual`), on the
plain loop.  What comes out carries its derivative along the direction of what went in.  For the
forward pass that is J d, and for the forward and the backward pass after each other, H d (1)::

    H d = d/dε ∇L(θ + ε d)  at ε = 0                                  (1)

References
----------
B. Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6 (1994), 147-160.
"""

from collections.abc import Mapping

from xprnn import checks
from xprnn.backend import Backend
from xprnn.backend.differentiation import dual_backend, lifted, tangent_of, value_of
from xprnn.backend.host.arrays import Generator
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.architecture import Architecture
from xprnn.engine.gradients import dense
from xprnn.engine.lengths import fill_padding
from xprnn.engine.results import Tangents
from xprnn.engine.stack import backward, draw_masks, forward
from xprnn.losses import Loss, mask_arguments


def push_forward(
    architecture: Architecture,
    backend: Backend,
    parameters: Mapping[str, Array],
    x: Array,
    state: Arrays,
    valid: Array | None,
    d_parameters: Mapping[str, Array],
    d_x: Array | None,
    d_state: Arrays | None,
) -> Tangents:
    """Return output and final state, and their derivatives along a direction.

    The arguments have been checked.  A direction has the shape of what it changes; what it leaves
    out, or None, does not change.
    """
    dual = dual_backend(backend)
    run = forward(
        architecture,
        dual,
        _along(dual, parameters, d_parameters),
        lifted(dual, x, _one(d_x)),
        tuple(
            lifted(dual, part, None if d_state is None else _one(d_state[k]))
            for k, part in enumerate(state)
        ),
        None if valid is None else lifted(dual, valid),
        save=False,
        masks=draw_masks(architecture, dual, None, *x.shape[:2]),
    )
    copy = backend.library.copy
    return Tangents(
        value_of(run.output),
        copy(tangent_of(run.output, 1)[0, ...]),
        tuple(map(value_of, run.state)),
        tuple(copy(tangent_of(part, 1)[0, ...]) for part in run.state),
    )


def hessian_product(
    architecture: Architecture,
    backend: Backend,
    parameters: Mapping[str, Array],
    x: Array,
    state: Arrays,
    valid: Array | None,
    target: Array,
    loss: Loss,
    direction: Mapping[str, Array],
    rng: Generator | None,
) -> dict[str, Array]:
    """Return (1), by the names of the parameters; the arguments have been checked."""
    dual = dual_backend(backend)
    varied = _along(dual, parameters, direction)
    x, state = lifted(dual, x), tuple(lifted(dual, part) for part in state)
    mask = None if valid is None else lifted(dual, valid)
    masks = draw_masks(architecture, dual, rng, *x.shape[:2])
    run = forward(architecture, dual, varied, x, state, mask, save=True, masks=masks)
    steps = mask if architecture.returns == "sequence" else None
    _, d_output = loss.value_and_grad(run.output, lifted(dual, target), *mask_arguments(steps))
    zeros = tuple(lifted(dual, backend.xp.zeros_like(value_of(part))) for part in state)
    gradient = backward(varied, run.tape, d_output, zeros, None)
    return {
        name: backend.library.copy(tangent_of(dense(g), 1)[0, ...])
        for name, g in gradient.parameters.items()
    }


def check_direction(
    name: str,
    direction: object,
    backend: Backend,
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Array]:
    """Return a direction in the space of the parameters, known to fit them.

    Gradients of every form will do.

    Raises
    ------
    KeyError
        If a name is unknown.
    TypeError, ValueError
        If it is no mapping, or an array of it does not fit.
    """
    if not isinstance(direction, Mapping):
        raise TypeError(
            f"{name} is of type {type(direction).__name__}: expected a dict of arrays by the names "
            "of the parameters"
        )
    unknown = [key for key in direction if key not in shapes]
    if unknown:
        raise KeyError(f"{name} has {unknown[0]!r}: known are {', '.join(shapes)}")
    return {
        key: _finite(f"{name}[{key!r}]", dense(g), backend, shapes[key])
        for key, g in direction.items()
    }


def check_tangent(name: str, d: Array, backend: Backend, like: Array, valid: Array | None) -> Array:
    """Return the tangent of an input, known to fit it; its padding is filled.

    Raises
    ------
    TypeError, ValueError
        If it does not fit, or the array holds integers, which have no tangent.
    """
    if not backend.xp.isdtype(like.dtype, "real floating"):
        raise TypeError(f"{name} is given, but the input is of integers, which have no tangent")
    d = checks.array(name, d, backend, tuple(like.shape))
    d = fill_padding(backend.xp, valid, d)
    checks.finite(name, d, backend)
    return d


def _finite(name: str, a: Array, backend: Backend, shape: tuple[int, ...]) -> Array:
    a = checks.array(name, a, backend, shape)
    checks.finite(name, a, backend)
    return a


def _along(
    dual: Backend, parameters: Mapping[str, Array], direction: Mapping[str, Array]
) -> dict[str, Array]:
    return {
        name: lifted(dual, array, _one(direction.get(name))) for name, array in parameters.items()
    }


def _one(tangent: Array | None) -> Array | None:
    """Return the tangents along one direction."""
    return None if tangent is None else tangent[None, ...]
