"""Calls of every function of the array API standard that xprnn uses, and of every operator."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from xprnn.backend.types import Array, Namespace
from xprnn.testing.parity.functions.operands import Operands


class Call(NamedTuple):
    """A call of a function or an operator.

    Attributes
    ----------
    run : callable
        ``run(xp, operands)`` returns an array or several.
    empty : bool
        Whether it is defined for matrices without rows.
    scalar : bool
        Whether it is defined for arrays without dimensions.
    beside_float : bool
        Whether an operand is a Python float, beside which some libraries don't keep a dtype.
    """

    run: Callable[[Namespace, Operands], Any]
    empty: bool = True
    scalar: bool = False
    beside_float: bool = False

    def __call__(self, xp: Namespace, given: Operands) -> tuple[Array, ...]:
        """Return the arrays that it returns."""
        made = self.run(xp, given)
        return tuple(made) if isinstance(made, tuple | list) else (made,)


def _add_in_place(xp: Namespace, o: Operands) -> Array:
    a = xp.asarray(o.x, copy=True)
    a += o.positive
    return a


def _multiply_in_place(xp: Namespace, o: Operands) -> Array:
    a = xp.asarray(o.x, copy=True)
    a *= 2.0
    return a


def _kinds(xp: Namespace, o: Operands) -> Array:
    known = (
        xp.isdtype(o.x.dtype, "real floating"),
        not xp.isdtype(o.x.dtype, "integral"),
        xp.isdtype(o.index.dtype, "integral"),
        xp.isdtype(o.flags.dtype, "bool"),
        not xp.isdtype(o.x.dtype, ("complex floating", "bool")),
    )
    return xp.full_like(o.x, float(all(known)))


def _limits(xp: Namespace, o: Operands) -> Array:
    limits = xp.finfo(o.x.dtype)
    return xp.full_like(o.x, float(0 < limits.eps < 1e-2 < limits.max))


def _elementwise(run: Callable[[Namespace, Operands], Any]) -> Call:
    return Call(run, scalar=True)


def _beside_float(run: Callable[[Namespace, Operands], Any]) -> Call:
    return Call(run, scalar=True, beside_float=True)


def _of_values(run: Callable[[Namespace, Operands], Any]) -> Call:
    """Return a call that is not defined without values."""
    return Call(run, empty=False)


FUNCTION_CALLS: Mapping[str, Call] = {
    "asarray": _elementwise(lambda xp, o: (o.x, o.flags, o.index, xp.asarray(o.x, copy=True))),
    "__array_namespace_info__": Call(lambda xp, o: xp.astype(o.index, o.indexing)),
    "isdtype": Call(_kinds),
    "finfo": Call(_limits),
    "arange": Call(lambda xp, o: xp.arange(4, dtype=o.index.dtype, device=o.device)),
    "empty": Call(lambda xp, o: xp.zeros_like(xp.empty((2, 3), dtype=o.x.dtype, device=o.device))),
    "empty_like": _elementwise(lambda xp, o: xp.zeros_like(xp.empty_like(o.x))),
    "zeros": Call(lambda xp, o: xp.zeros((2, 3), dtype=o.x.dtype, device=o.device)),
    "zeros_like": _elementwise(lambda xp, o: xp.zeros_like(o.x)),
    "full_like": _elementwise(lambda xp, o: xp.full_like(o.x, 1.5)),
    "ones_like": _elementwise(lambda xp, o: xp.ones_like(o.x)),
    "astype": _elementwise(
        lambda xp, o: (
            xp.astype(o.flags, o.x.dtype),
            xp.astype(o.whole, o.x.dtype),
            xp.astype(o.x, o.x.dtype, copy=False),
        )
    ),
    "reshape": Call(lambda xp, o: xp.reshape(o.x, (o.x.shape[1], o.x.shape[0]))),
    "permute_dims": Call(lambda xp, o: xp.permute_dims(o.x[None, ...], (1, 2, 0))),
    "flip": Call(lambda xp, o: (xp.flip(o.x, axis=0), xp.flip(o.x, axis=1))),
    "broadcast_to": Call(lambda xp, o: xp.broadcast_to(o.x[None, ...], (2, *o.x.shape))),
    "stack": _elementwise(lambda xp, o: xp.stack((o.x, o.positive))),
    "unstack": Call(lambda xp, o: tuple(xp.unstack(o.x))),
    "concat": Call(
        lambda xp, o: (
            xp.concat((o.x, o.positive), axis=0),
            xp.concat((o.x, o.positive), axis=-1),
        )
    ),
    "take": _of_values(
        lambda xp, o: (xp.take(o.x, o.index, axis=0), xp.take(o.x, o.index, axis=1))
    ),
    "take_along_axis": _of_values(
        lambda xp, o: xp.take_along_axis(o.x, o.index[: o.x.shape[0], None], axis=-1)
    ),
    "where": _elementwise(lambda xp, o: xp.where(o.flags, o.x, o.positive)),
    "searchsorted": Call(lambda xp, o: xp.searchsorted(o.ascending, o.index)),
    "unique_inverse": Call(lambda xp, o: tuple(xp.unique_inverse(o.index))),
    "abs": _elementwise(lambda xp, o: (xp.abs(o.x), xp.abs(o.whole))),
    "sign": _elementwise(lambda xp, o: xp.sign(o.x)),
    "sqrt": _elementwise(lambda xp, o: xp.sqrt(o.positive)),
    "exp": _elementwise(lambda xp, o: xp.exp(o.x)),
    "log": _elementwise(lambda xp, o: xp.log(o.positive)),
    "log1p": _elementwise(lambda xp, o: xp.log1p(o.positive)),
    "logaddexp": _elementwise(lambda xp, o: xp.logaddexp(o.x, o.positive)),
    "tanh": _elementwise(lambda xp, o: (xp.tanh(o.x), xp.tanh(o.large))),
    "isfinite": _elementwise(lambda xp, o: xp.isfinite(o.x)),
    "all": _elementwise(lambda xp, o: xp.all(o.flags)),
    "clip": _elementwise(
        lambda xp, o: (xp.clip(o.x, -0.5, 0.5), xp.clip(o.x, max=0.25), xp.clip(o.x, min=0.25))
    ),
    "maximum": _elementwise(lambda xp, o: (xp.maximum(o.x, o.positive), xp.maximum(o.x, 0.0))),
    "minimum": _elementwise(lambda xp, o: (xp.minimum(o.x, o.positive), xp.minimum(o.x, 0.0))),
    "max": _of_values(lambda xp, o: (xp.max(o.x), xp.max(o.x, axis=-1, keepdims=True))),
    "min": _of_values(lambda xp, o: (xp.min(o.x), xp.min(o.x, axis=-1, keepdims=True))),
    "mean": _of_values(lambda xp, o: (xp.mean(o.x), xp.mean(o.x, axis=-1, keepdims=True))),
    "sum": Call(
        lambda xp, o: (xp.sum(o.x), xp.sum(o.x, axis=0), xp.sum(o.x, axis=-1, keepdims=True))
    ),
}
"""By function, a call of it."""

OPERATOR_CALLS: Mapping[str, Call] = {
    "x.T": Call(lambda _, o: o.x.T),
    "x @ y": Call(lambda _, o: o.x @ o.y),
    "y.T @ x.T": Call(lambda _, o: o.y.T @ o.x.T),
    "x @ p.T": Call(lambda _, o: o.x @ o.positive.T),
    "x.T @ p": Call(lambda _, o: o.x.T @ o.positive),
    "x + p": _elementwise(lambda _, o: o.x + o.positive),
    "x - p": _elementwise(lambda _, o: o.x - o.positive),
    "x * p": _elementwise(lambda _, o: o.x * o.positive),
    "x / p": _elementwise(lambda _, o: o.x / o.positive),
    "-x": _elementwise(lambda _, o: -o.x),
    "1 - x": _elementwise(lambda _, o: 1 - o.x),
    "0.5 * x + 0.5": _beside_float(lambda _, o: 0.5 * o.x + 0.5),
    "8.0 * x": _beside_float(lambda _, o: 8.0 * o.x),
    "0 * x": _elementwise(lambda _, o: 0 * o.x),
    "x / 3.0": _beside_float(lambda _, o: o.x / 3.0),
    "x += p": _elementwise(_add_in_place),
    "x *= 2.0": _elementwise(_multiply_in_place),
    "~f": _elementwise(lambda _, o: ~o.flags),
    "f & f": _elementwise(lambda _, o: o.flags & ~o.flags),
    "f | f": _elementwise(lambda _, o: o.flags | ~o.flags),
    "x < p": _elementwise(lambda _, o: o.x < o.positive),
    "x > 0": _elementwise(lambda _, o: o.x > 0),
    "x >= 0": _elementwise(lambda _, o: o.x >= 0),
    "x == x": _elementwise(lambda _, o: o.x == o.x),
    "k == 1": _elementwise(lambda _, o: o.whole == 1),
    "k != 1": _elementwise(lambda _, o: o.whole != 1),
    "k + k": _elementwise(lambda _, o: o.whole + o.whole),
    "k * 3": _elementwise(lambda _, o: o.whole * 3),
    "k - 1": _elementwise(lambda _, o: o.whole - 1),
    "x[i, ...]": _of_values(lambda _, o: o.x[o.x.shape[0] - 1, ...]),
    "x[-1:, ...]": _of_values(lambda _, o: o.x[-1:, ...]),
    "x[:, 1:3]": Call(lambda _, o: o.x[:, 1:3]),
    "x[..., 2:]": Call(lambda _, o: o.x[..., 2:]),
    "x[None, ...]": _elementwise(lambda _, o: o.x[None, ...]),
    "x[:0, :]": Call(lambda _, o: o.x[:0, :]),
    "k[:, None]": Call(lambda _, o: o.index[:, None]),
}
"""By operator, a call of it; x and p are floats, f booleans, k integers."""

CALLS: Mapping[str, Call] = {
    **FUNCTION_CALLS,
    **{f"operator {name}": call for name, call in OPERATOR_CALLS.items()},
}
"""All of them; the names of operators begin with ``"operator"``."""
