"""Every function of the array API standard that xprnn uses, called on small arrays.

When a network disagrees, this tells which function of the namespace is wrong.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from xprnn.backend import Backend
from xprnn.backend.host.arrays import generator
from xprnn.backend.types import Array, Namespace


class Operands(NamedTuple):
    """The arrays that the functions are called with.

    Attributes
    ----------
    x, y : array, (4, 5) and (5, 4)
        Multiples of 1/16, so that their sums and products are exact in float32.
    positive : array, (4, 5)
    flags : array of bool, (4, 5)
    index : array of int, (4,)
        From 0 to 3, with one number twice.
    ascending : array of int, (3,)
    device : device
    """

    x: Array
    y: Array
    positive: Array
    flags: Array
    index: Array
    ascending: Array
    device: Any


Call: TypeAlias = Callable[[Namespace, Operands], Any]


def _in_place(xp: Namespace, o: Operands) -> Array:
    a = xp.asarray(o.x, copy=True)
    a += o.positive
    a *= 2.0
    return a


def _default_integers(xp: Namespace, o: Operands) -> Array:
    return xp.astype(o.index, xp.__array_namespace_info__().default_dtypes()["indexing"])


def _kinds(xp: Namespace, o: Operands) -> Array:
    known = (
        xp.isdtype(o.x.dtype, "real floating"),
        not xp.isdtype(o.x.dtype, "integral"),
        xp.isdtype(o.index.dtype, "integral"),
        xp.isdtype(o.flags.dtype, "bool"),
        not xp.isdtype(o.x.dtype, ("complex floating", "bool")),
    )
    return o.x * float(all(known))


def _limits(xp: Namespace, o: Operands) -> Array:
    limits = xp.finfo(o.x.dtype)
    return o.x * float(0 < limits.eps < 1e-6 < limits.max)


CALLS: Mapping[str, Call] = {
    "asarray": lambda xp, o: (o.x, o.flags, o.index, xp.asarray(o.x, copy=True)),
    "__array_namespace_info__": _default_integers,
    "isdtype": _kinds,
    "finfo": _limits,
    "arange": lambda xp, o: xp.arange(4, dtype=o.index.dtype, device=o.device),
    "empty": lambda xp, o: xp.zeros_like(xp.empty((2, 3), dtype=o.x.dtype, device=o.device)),
    "empty_like": lambda xp, o: xp.zeros_like(xp.empty_like(o.x)),
    "zeros": lambda xp, o: xp.zeros((2, 3), dtype=o.x.dtype, device=o.device),
    "zeros_like": lambda xp, o: xp.zeros_like(o.x),
    "full_like": lambda xp, o: xp.full_like(o.x, 1.5),
    "ones_like": lambda xp, o: xp.ones_like(o.x),
    "astype": lambda xp, o: (xp.astype(o.flags, o.x.dtype), xp.astype(o.x, o.x.dtype, copy=False)),
    "reshape": lambda xp, o: xp.reshape(o.x.T, (2, 10)),
    "permute_dims": lambda xp, o: xp.permute_dims(o.x[None, ...], (1, 2, 0)),
    "flip": lambda xp, o: (xp.flip(o.x, axis=0), xp.flip(o.x, axis=1)),
    "broadcast_to": lambda xp, o: xp.broadcast_to(o.x[None, ...], (2, 4, 5)),
    "stack": lambda xp, o: xp.stack((o.x, o.positive)),
    "unstack": lambda xp, o: tuple(xp.unstack(o.x)),
    "concat": lambda xp, o: (
        xp.concat((o.x, o.positive), axis=0),
        xp.concat((o.x, o.positive), axis=-1),
    ),
    "take": lambda xp, o: (xp.take(o.x, o.index, axis=0), xp.take(o.x, o.index, axis=1)),
    "take_along_axis": lambda xp, o: xp.take_along_axis(o.x, o.index[:, None], axis=-1),
    "where": lambda xp, o: xp.where(o.flags, o.x, o.positive),
    "searchsorted": lambda xp, o: xp.searchsorted(o.ascending, o.index),
    "unique_inverse": lambda xp, o: tuple(xp.unique_inverse(o.index)),
    "abs": lambda xp, o: xp.abs(o.x),
    "sign": lambda xp, o: xp.sign(o.x),
    "sqrt": lambda xp, o: xp.sqrt(o.positive),
    "exp": lambda xp, o: xp.exp(o.x),
    "log": lambda xp, o: xp.log(o.positive),
    "tanh": lambda xp, o: (xp.tanh(o.x), xp.tanh(8.0 * o.x)),
    "isfinite": lambda xp, o: xp.isfinite(o.x),
    "all": lambda xp, o: (xp.all(o.flags), xp.all(o.positive > 0)),
    "clip": lambda xp, o: (xp.clip(o.x, -0.5, 0.5), xp.clip(o.x, max=0.25), xp.clip(o.x, min=0.25)),
    "maximum": lambda xp, o: (xp.maximum(o.x, o.positive), xp.maximum(o.x, 0.0)),
    "max": lambda xp, o: (xp.max(o.x), xp.max(o.x, axis=-1, keepdims=True)),
    "mean": lambda xp, o: (xp.mean(o.x), xp.mean(o.x, axis=-1, keepdims=True)),
    "sum": lambda xp, o: (xp.sum(o.x), xp.sum(o.x, axis=0), xp.sum(o.x, axis=-1, keepdims=True)),
    "operator .T": lambda _, o: o.x.T,
    "operator @": lambda _, o: (
        o.x @ o.y,
        o.y.T @ o.x.T,
        o.x @ o.positive.T,
        o.x.T @ o.positive,
    ),
    "operators + - * /": lambda _, o: (
        o.x + o.positive,
        o.x - o.positive,
        o.x * o.positive,
        o.x / o.positive,
        -o.x,
        1 - o.x,
        0.5 * o.x + 0.5,
        o.x / 3.0,
        0 * o.x,
    ),
    "operators += *=": _in_place,
    "operators == < & | ~": lambda _, o: (
        ~o.flags,
        o.index == 1,
        o.x < o.positive,
        o.x >= 0,
        (o.x > 0) & o.flags,
        (o.x > 0) | o.flags,
        o.index != 1,
    ),
    "operator []": lambda _, o: (
        o.x[1, ...],
        o.x[-1:, ...],
        o.x[:, 1:3],
        o.x[..., 2:],
        o.x[None, ...],
        o.index[:, None],
        o.x[:0, :],
    ),
}
"""By function or operator, a call of it that returns an array or several."""


def operands(backend: Backend) -> Operands:
    """Return the same operands on every backend."""
    rng = generator(0)
    return Operands(
        backend.asarray(rng.integers(-40, 41, size=(4, 5)) / 16),
        backend.asarray(rng.integers(-40, 41, size=(5, 4)) / 16),
        backend.asarray(rng.integers(1, 81, size=(4, 5)) / 16),
        backend.asarray(rng.integers(0, 2, size=(4, 5)) == 1),
        backend.asarray([3, 0, 3, 1]),
        backend.asarray([0, 1, 3]),
        backend.device,
    )


def results(backend: Backend, name: str, given: Operands) -> tuple[Array, ...]:
    """Return the arrays that one of `CALLS` returns."""
    made = CALLS[name](backend.xp, given)
    return made if isinstance(made, tuple) else (made,)
