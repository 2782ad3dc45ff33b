"""Clipping: keeping an exploding gradient from throwing the weights away."""

from xprnn import checks
from xprnn.backend import namespace_of
from xprnn.backend.types import Array
from xprnn.optim.protocol import Parameters


def global_norm(gradients: Parameters) -> Array:
    """Return the Euclidean norm of all gradients together, a zero-dimensional array.

    Raises
    ------
    ValueError
        If there are no gradients.
    """
    if not gradients:
        raise ValueError("gradients is empty: expected at least one array")
    arrays = list(gradients.values())
    xp = namespace_of(arrays[0])
    return xp.sqrt(sum(xp.sum(g * g) for g in arrays))


def clip_by_norm(gradients: Parameters, limit: float) -> tuple[dict[str, Array], Array]:
    """Scale all gradients together so that their norm is at most ``limit``.

    ::

        g ← g · min(1, limit / ‖g‖)

    The direction stays.  Nothing leaves the device.

    Parameters
    ----------
    gradients : mapping of str to array
    limit : float
        Above zero.

    Returns
    -------
    clipped : dict of array
    norm : array, zero-dimensional
        Before clipping.

    References
    ----------
    R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks",
    ICML 2013, algorithm 1.
    """
    limit = checks.number("limit", limit, open_=True)
    norm = global_norm(gradients)
    xp = namespace_of(next(iter(gradients.values())))
    # limit/max(norm, limit) is min(1, limit/norm) without a division by zero.
    factor = limit / xp.maximum(norm, limit)
    return {k: g * factor for k, g in gradients.items()}, norm


def clip_by_value(gradients: Parameters, limit: float) -> dict[str, Array]:
    """Move every entry into [-limit, limit]; the direction may change.

    Parameters
    ----------
    gradients : mapping of str to array
    limit : float
        Above zero.
    """
    limit = checks.number("limit", limit, open_=True)
    return {k: namespace_of(g).clip(g, -limit, limit) for k, g in gradients.items()}
