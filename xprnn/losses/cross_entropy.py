"""Cross-entropy of integer targets, softmax included."""

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from xprnn import checks
from xprnn.backend import Backend, Library, describe, library_of, namespace_of
from xprnn.backend.entry import entry
from xprnn.backend.host.arrays import np
from xprnn.backend.types import Array, DType, Namespace
from xprnn.losses.protocol import ReadoutGradients, sum_dtype
from xprnn.losses.weighting import REDUCTIONS, are_weights, share

PADDING = -1
"""The target of a place without a token."""

BLOCK = 2**20
"""Entries of the logits that are processed at a time, so that temporaries are small."""


@dataclass(frozen=True)
class CrossEntropy:
    """The negative log-probability of the target under the softmax of the output.

    ::

        m = max_j y_j,   Z = Σ_j exp(y_j - m),   p_j = exp(y_j - m) / Z   (1)
        L = s Σ c_k (log Z + m - y_k),   k the target                     (2)
        dy_j = s c_k (p_j - [j = k])                                      from (2)

    over all tokens that exist, T·B without padding, with s = 1 for the sum and s = 1/Σ c_k for the
    mean; a target of ``ignore_index`` is padding and contributes nothing.  c_k is the class's
    weight, 1 unless ``class_weights`` are given.  The unit is the nat; the exponential of the mean
    is the perplexity.

    Label smoothing takes a share ε of each target for all V classes together, so that the network
    does not become too sure::

        L = s Σ ((1 - ε) c_k (log Z + m - y_k) + ε/V Σ_j c_j (log Z + m - y_j))      (3)

    With weights w each token counts w times, in all of these and in Σ c_k.

    Shapes: output (T, B, V) and target (T, B), or (B, V) and (B,).

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        ``"none"``: the value is that of each token, in the target's shape, and the gradient that of
        their sum.
    class_weights : sequence of float, optional
        c, one for each class, at least 0.
    label_smoothing : float
        ε in [0, 1).
    ignore_index : int
        Below 0, the target of a place that does not count.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong type or out of range.

    Notes
    -----
    The maximum is subtracted before the exponential, so no logit is too large.  No one-hot matrix
    is formed, and where the caller allows it the gradient is written into the logits, so that there
    is only one array of their size.  The same as ``CrossEntropyLoss(ignore_index=-1)`` of
    torch with the same options.

    References
    ----------
    Label smoothing: C. Szegedy et al., "Rethinking the Inception architecture for computer vision",
    CVPR (2016).

    Examples
    --------
    >>> import numpy as np
    >>> float(CrossEntropy()(np.zeros((1, 1, 8)), np.array([[3]])))    # log 8
    2.0794415416798357
    """

    reduction: str = "mean"
    class_weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    ignore_index: int = PADDING

    takes_weights: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.choice("reduction", self.reduction, REDUCTIONS)
        smoothing = checks.number("label_smoothing", self.label_smoothing, below=1.0)
        object.__setattr__(self, "label_smoothing", smoothing)
        ignored = self.ignore_index
        if isinstance(ignored, bool) or not hasattr(ignored, "__index__"):
            raise TypeError(f"ignore_index is {ignored!r}: expected an int")
        if ignored >= 0:
            raise ValueError(f"ignore_index is {ignored}: expected an int below 0")
        if self.class_weights is not None:
            object.__setattr__(self, "class_weights", _class_weights(self.class_weights))

    def check(self, shape: tuple[int, ...], target: object, backend: Backend) -> Array:
        classes = shape[-1]
        if self.class_weights is not None and len(self.class_weights) != classes:
            raise ValueError(
                f"class_weights has {len(self.class_weights)} entries: expected one for each of "
                f"the {classes} classes"
            )
        ignored = self.ignore_index
        return checks.tokens("target", target, backend, shape[:-1], classes, ignored=ignored)

    def entries(self, target: Array, mask: Array | None = None) -> int | float:
        if self.class_weights is not None and not are_weights(mask):
            return self._exact(target, mask)
        counted = self.count(target, mask)
        return float(counted) if are_weights(mask) else int(counted)

    def _exact(self, target: Array, mask: Array | None) -> float:
        """Return the sum of the targets' class weights, on the host, where there is float64."""
        library = library_of(target)
        target = _existing(library.namespace(), target, mask, self.ignore_index)
        host = library.to_host(target)
        return float(np.asarray(self.class_weights)[host[host != self.ignore_index]].sum())

    def count(self, target: Array, mask: Array | None = None) -> int | Array:
        xp = namespace_of(target)
        if self.class_weights is not None or are_weights(mask):
            # A mask of truth values has no dtype to sum in.
            wide = sum_dtype(xp, mask) if are_weights(mask) else xp.float32
            return xp.sum(self._places(xp, target, mask, wide)[2])
        target = _existing(xp, target, mask, self.ignore_index)
        # Padding is the only negative target that `check` accepts; unsigned targets have none.
        return xp.sum(xp.astype(target >= 0, xp.int32), dtype=xp.int32)

    @entry
    def __call__(self, output: Array, target: Array, mask: Array | None = None) -> Array:
        library = library_of(output)
        xp = library.namespace()
        fused = self._fused(library, output, target, mask, gradient=False, overwrite=False)
        if fused is not None:
            return fused[0]
        rows = self._rows(library, output, target, mask)
        parts = [_value(library, rows.part(k))[0] for k in rows.blocks()]
        return self._combined(xp, parts, rows.of_target, target)

    @entry
    def value_and_grad(
        self, output: Array, target: Array, mask: Array | None = None, *, overwrite: bool = False
    ) -> tuple[Array, Array]:
        library = library_of(output)
        xp = library.namespace()
        fused = self._fused(library, output, target, mask, gradient=True, overwrite=overwrite)
        if fused is not None:
            return fused
        rows = self._rows(library, output, target, mask)
        parts, gradient, blocks = [], rows.logits, rows.blocks()
        if len(blocks) > 1 and not overwrite:
            gradient = xp.empty_like(gradient)
        for k in blocks:
            part = rows.part(k) if len(blocks) > 1 else rows
            value, block = _value(library, part, gradient=True, overwrite=overwrite)
            parts.append(value)
            if part.smooth is not None:
                block = block - part.smooth * part.c  # from (3)
            if block.dtype != gradient.dtype:
                block = xp.astype(block, gradient.dtype)
            if len(blocks) > 1:
                block = library.put_rows(gradient, k, block)
            gradient = block
        value = self._combined(xp, parts, rows.of_target, target)
        return value, library.reshaped(gradient, output.shape)

    def reads_out(self, rows: int, R: Array) -> bool:
        # A class derived from this one may compute something else, and label smoothing needs the
        # logits themselves.
        if type(self) is not CrossEntropy or self.label_smoothing:
            return False
        return library_of(R).readout_rows(rows, R) > 0

    def readout_value(
        self, R: Array, r: Array | None, h: Array, target: Array, mask: Array | None = None
    ) -> Array:
        library = library_of(h)
        xp = library.namespace()
        classes, of_target = self._factors(xp, h, target, mask)[:2]
        chosen = xp.maximum(classes, 0)  # 0 where there is padding
        m, Z, picked = library.softmax_of_readout(library.rows(h), R, r, chosen)
        # As in `_value`.
        values = of_target * (xp.log(Z) + (m - picked))  # (2)
        return self._combined(xp, [values], of_target, target)

    def value_and_readout_grad(
        self,
        R: Array,
        r: Array | None,
        h: Array,
        target: Array,
        mask: Array | None = None,
        *,
        of_output: bool,
    ) -> tuple[Array, ReadoutGradients]:
        library = library_of(h)
        xp = library.namespace()
        classes, of_target = self._factors(xp, h, target, mask)[:2]
        found = library.softmax_readout(
            library.rows(h),
            R,
            r,
            xp.maximum(classes, 0),  # 0 where there is padding
            of_target,
            of_target,
            whole=of_output,
        )
        # As in `_value`.
        values = of_target * (xp.log(found.Z) + (found.m - found.picked))  # (2)
        dh = library.reshaped(found.h, h.shape)
        gradients = ReadoutGradients(dh, found.logits, found.weight, found.bias)
        return self._combined(xp, [values], of_target, target), gradients

    def _fused(
        self,
        library: Library,
        output: Array,
        target: Array,
        mask: Array | None,
        *,
        gradient: bool,
        overwrite: bool,
    ) -> tuple[Array, Array] | None:
        """Return value and gradient in few kernels, where the library has them for this loss."""
        if library.fused is None or are_weights(mask) or self != CrossEntropy(self.reduction):
            return None
        if self.reduction == "none":
            return None
        xp = library.namespace()
        value, d = library.fused.softmax_loss(
            library.rows(output),
            xp.reshape(target, (-1,)),
            None if mask is None else xp.reshape(mask, (-1,)),
            mean=self.reduction == "mean",
            gradient=gradient,
            overwrite=overwrite,
        )
        return value, None if d is None else xp.reshape(d, output.shape)

    def _combined(
        self, xp: Namespace, parts: list[Array], of_target: Array, target: Array
    ) -> Array:
        """Return the loss of the values of all rows, which come in blocks."""
        if self.reduction == "none":
            values = xp.concat(parts, axis=0) if parts else of_target
            return xp.reshape(values, target.shape)
        if not parts:
            return xp.sum(of_target[:0, ...])
        total: Array = 0.0
        for part in parts:
            total = total + xp.sum(part)
        return total

    def _places(
        self, xp: Namespace, target: Array, mask: Array | None, wide: DType
    ) -> tuple[Array, Array, Array]:
        """Return all targets in a row, (N,), w of each and w c_k of each, (N, 1)."""
        weighted = are_weights(mask)
        if not weighted:
            target = _existing(xp, target, mask, self.ignore_index)
        classes = library_of(target).reshaped(target, (math.prod(target.shape),))
        w = xp.astype(classes != self.ignore_index, wide)[:, None]
        if weighted:
            w = w * xp.astype(xp.reshape(mask, w.shape), wide, copy=False)
        if self.class_weights is None:
            return classes, w, w
        return classes, w, w * xp.take(self._c(xp, w), xp.maximum(classes, 0), axis=0)[:, None]

    def _c(self, xp: Namespace, beside: Array) -> Array:
        return xp.asarray(
            self.class_weights, dtype=beside.dtype, device=library_of(beside).device_of(beside)
        )

    def _factors(
        self, xp: Namespace, beside: Array, target: Array, mask: Array | None
    ) -> tuple[Array, Array, Array]:
        """Return all targets in a row, (N,), s w c_k of each and s w of each, (N, 1)."""
        classes, w, of_target = self._places(xp, target, mask, sum_dtype(xp, beside))
        if self.reduction == "mean":
            plain = of_target is w and not are_weights(mask)
            total = xp.sum(of_target)
            # The number of tokens is at least one if it isn't zero.
            s = 1 / xp.maximum(total, 1.0) if plain else share(xp, total)
            w, of_target = w * s, of_target * s
        return classes, of_target, w

    def _rows(self, library: Library, output: Array, target: Array, mask: Array | None) -> "_Rows":
        xp = library.namespace()
        classes, of_target, w = self._factors(xp, output, target, mask)
        V = output.shape[-1]
        logits = library.reshaped(output, (classes.shape[0], V))
        if not self.label_smoothing:
            return _Rows(logits, classes, of_target, of_target, None, None)
        if self.class_weights is None:
            c = xp.zeros((V,), dtype=w.dtype, device=library.device_of(w)) + 1
        else:
            c = self._c(xp, w)
        of_target, smooth = (1 - self.label_smoothing) * of_target, self.label_smoothing / V * w
        return _Rows(logits, classes, of_target, of_target + smooth * xp.sum(c), smooth, c)


class _Rows(NamedTuple):
    """Logits and targets, a row for each, and how much the parts of (3) count there.

    Attributes
    ----------
    logits : array, (N, V)
    classes : array of int, (N,)
    of_target : array, (N, 1)
        s w (1 - ε) c_k.
    of_all : array, (N, 1)
        The factor of p: the sum of the parts' factors.
    smooth : array, (N, 1), or None
        s w ε/V; None without smoothing.
    c : array, (V,), or None
    """

    logits: Array
    classes: Array
    of_target: Array
    of_all: Array
    smooth: Array | None
    c: Array | None

    def blocks(self) -> list[slice]:
        """Return slices of the rows that are processed one after the other."""
        count, V = self.logits.shape
        rows = max(1, BLOCK // V)
        return [slice(k, min(k + rows, count)) for k in range(0, count, rows)]

    def part(self, k: slice) -> "_Rows":
        """Return some of the rows."""
        smooth = None if self.smooth is None else self.smooth[k, :]
        of_target, of_all = self.of_target[k, :], self.of_all[k, :]
        return _Rows(self.logits[k, :], self.classes[k], of_target, of_all, smooth, self.c)


def _class_weights(given: object) -> tuple[float, ...]:
    kind = describe(given) if hasattr(given, "shape") else repr(given)
    try:
        # The entries of a dict or a set would be in no order, or the classes themselves.
        entries = () if isinstance(given, Mapping | Set) else given
        weights = tuple(float(w) for w in entries)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        weights = ()
    if not weights:
        raise TypeError(f"class_weights is {kind}: expected a list with a number for each class")
    for k, w in enumerate(weights):
        checks.number(f"class_weights[{k}]", w)
    if not any(weights):
        raise ValueError("class_weights are all zero: expected at least one that is not")
    return weights


def _existing(xp: Namespace, target: Array, valid: Array | None, ignored: int) -> Array:
    """Return the target, ``ignored`` in the padding."""
    if valid is None:
        return target
    return xp.where(valid[..., 0], target, xp.full_like(target, ignored))


def _value(
    library: Library, rows: _Rows, *, gradient: bool = False, overwrite: bool = False
) -> tuple[Array, Array]:
    """Return the loss of each row, (N, 1), and its gradient without the part of the smoothing.

    Without ``gradient`` the second is something else.  With ``overwrite`` it is written into the
    logits.
    """
    xp = library.namespace()
    chosen = xp.maximum(rows.classes, 0)  # 0 where there is padding
    logits = rows.logits
    if logits.dtype != rows.of_target.dtype:
        logits = xp.astype(logits, rows.of_target.dtype)
    distances: Array = None
    if rows.smooth is not None:
        distances = xp.sum((xp.max(logits, axis=-1, keepdims=True) - logits) * rows.c, axis=-1)
    if gradient:
        m, made, Z, picked = library.softmax_gradient(
            logits, chosen, rows.of_all, rows.of_target, overwrite=overwrite
        )  # (1), and from (2)
    else:
        picked = library.entries(logits, chosen)
        m, made, Z = library.softmax_parts(logits, overwrite=overwrite)  # (1)
    log_Z = xp.log(Z)
    # m - picked first, because log Z would be lost in a large m.
    value = rows.of_target * (log_Z + (m - picked))  # (2)
    if rows.smooth is not None:
        value = value + rows.smooth * (log_Z * xp.sum(rows.c) + distances[:, None])  # (3)
    return value, made
