"""Cross-entropy of integer targets, softmax included."""

import math
from dataclasses import dataclass

from xprnn import checks
from xprnn.backend import Backend, Library, library_of, namespace_of
from xprnn.backend.entry import entry
from xprnn.backend.types import Array, Namespace
from xprnn.losses.protocol import sum_dtype

PADDING = -1
"""The target of a place without a token."""

BLOCK = 2**20
"""Entries of the logits that are processed at a time, so that temporaries are small."""


@dataclass(frozen=True)
class CrossEntropy:
    """The negative log-probability of the target under the softmax of the output.

    ::

        m = max_j y_j,   Z = Σ_j exp(y_j - m)                             (1)
        L = s Σ (log Z + m - y_k),   k the target                         (2)
        dy_j = s (exp(y_j - m) / Z - [j = k])                             from (2)

    over all tokens that exist, T·B without padding, with s = 1 for the sum and s = 1/tokens for the
    mean; a target of -1 is padding and contributes nothing.  The unit is the nat; the exponential
    of the mean is the perplexity.

    Shapes: output (T, B, V) and target (T, B), or (B, V) and (B,).

    Parameters
    ----------
    reduction : {"mean", "sum"}

    Raises
    ------
    ValueError
        If the reduction is neither.

    Notes
    -----
    The maximum is subtracted before the exponential, so no logit is too large.  No one-hot matrix
    is formed, and where the caller allows it the gradient is written into the logits, so that there
    is only one array of their size.  The same as ``torch.nn.CrossEntropyLoss(ignore_index=-1)``.

    Examples
    --------
    >>> import numpy as np
    >>> float(CrossEntropy()(np.zeros((1, 1, 8)), np.array([[3]])))    # log 8
    2.0794415416798357
    """

    reduction: str = "mean"

    def __post_init__(self) -> None:
        checks.choice("reduction", self.reduction, ("mean", "sum"))

    def check(self, shape: tuple[int, ...], target: object, backend: Backend) -> Array:
        return checks.tokens("target", target, backend, shape[:-1], shape[-1], ignored=PADDING)

    def entries(self, target: Array, valid: Array | None = None) -> int:
        return int(self.count(target, valid))

    def count(self, target: Array, valid: Array | None = None) -> int | Array:
        xp = namespace_of(target)
        target = _existing(xp, target, valid)
        # Padding is the only negative target that `check` accepts; unsigned targets have none.
        return xp.sum(xp.astype(target >= 0, xp.int32), dtype=xp.int32)

    @entry
    def __call__(self, output: Array, target: Array, valid: Array | None = None) -> Array:
        library = library_of(output)
        xp = library.namespace()
        fused = self._fused(library, output, target, valid, gradient=False, overwrite=False)
        if fused is not None:
            return fused[0]
        logits, classes, weights = self._rows(xp, output, _existing(xp, target, valid))
        total = xp.sum(weights[:0, ...])
        for rows in _blocks(logits):
            part = logits[rows, :], classes[rows], weights[rows, :]
            total = total + _value(library, *part, overwrite=False)[0]
        return total

    @entry
    def value_and_grad(
        self, output: Array, target: Array, valid: Array | None = None, *, overwrite: bool = False
    ) -> tuple[Array, Array]:
        library = library_of(output)
        xp = library.namespace()
        fused = self._fused(library, output, target, valid, gradient=True, overwrite=overwrite)
        if fused is not None:
            return fused
        logits, classes, weights = self._rows(xp, output, _existing(xp, target, valid))
        total, gradient = xp.sum(weights[:0, ...]), logits
        blocks = _blocks(logits)
        if len(blocks) > 1 and not overwrite:
            gradient = xp.empty_like(logits)
        for rows in blocks:
            weight = weights[rows, :]
            part, block, Z, chosen = _value(
                library, logits[rows, :], classes[rows], weight, overwrite=overwrite
            )
            total = total + part
            block *= weight / Z
            block = library.add_to_entries(block, chosen, -weight[:, 0])  # from (2)
            block = xp.astype(block, gradient.dtype, copy=False)
            if len(blocks) > 1:
                block = library.put_rows(gradient, rows, block)
            gradient = block
        return total, xp.reshape(gradient, output.shape)

    def _fused(
        self,
        library: Library,
        output: Array,
        target: Array,
        valid: Array | None,
        *,
        gradient: bool,
        overwrite: bool,
    ) -> tuple[Array, Array] | None:
        """Return value and gradient in few kernels, where the library has them."""
        if library.fused is None:
            return None
        xp = library.namespace()
        value, d = library.fused.softmax_loss(
            library.rows(output),
            xp.reshape(target, (-1,)),
            None if valid is None else xp.reshape(valid, (-1,)),
            mean=self.reduction == "mean",
            gradient=gradient,
            overwrite=overwrite,
        )
        return value, None if d is None else xp.reshape(d, output.shape)

    def _rows(self, xp: Namespace, output: Array, target: Array) -> tuple[Array, Array, Array]:
        """Return logits (N, V), targets (N,) and each token's share of the loss, (N, 1)."""
        count = math.prod(target.shape)
        classes = xp.reshape(target, (count,))
        wide = sum_dtype(xp, output)
        weights = xp.astype(classes != PADDING, wide)[:, None]
        if self.reduction == "mean":
            weights = weights / xp.maximum(xp.sum(weights), 1.0)
        logits = xp.reshape(output, (count, output.shape[-1]))
        return logits, classes, weights


def _existing(xp: Namespace, target: Array, valid: Array | None) -> Array:
    """Return the target, -1 in the padding."""
    if valid is None:
        return target
    return xp.where(valid[..., 0], target, xp.full_like(target, PADDING))


def _value(
    library: Library, logits: Array, classes: Array, weights: Array, *, overwrite: bool
) -> tuple[Array, Array, Array, Array]:
    """Return the loss, exp(y - m), Z (N, 1), and the targets with padding replaced by class 0.

    With ``overwrite`` the exponentials are written into the logits.
    """
    xp = library.namespace()
    chosen = xp.maximum(classes, 0)
    logits = xp.astype(logits, weights.dtype, copy=False)
    picked = library.entries(logits, chosen)
    m, exponentials, Z = library.softmax_parts(logits, overwrite=overwrite)  # (1)
    # m - picked first, because log Z would be lost in a large m.
    return xp.sum(weights * (xp.log(Z) + (m - picked))), exponentials, Z, chosen  # (2)


def _blocks(logits: Array) -> list[slice]:
    rows = max(1, BLOCK // logits.shape[1])
    return [
        slice(start, min(start + rows, logits.shape[0]))
        for start in range(0, logits.shape[0], rows)
    ]
