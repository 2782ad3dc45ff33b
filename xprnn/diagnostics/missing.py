"""Sequences whose missing steps are left out, for what follows a sequence step by step."""

from collections.abc import Sequence

from xprnn import checks
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.types import Array
from xprnn.engine.existing import check_existing, closed_up
from xprnn.engine.network import RNN


def without_missing(
    net: RNN,
    x: Array,
    lengths: Sequence[int] | None,
    mask: Array | None,
    *others: Array | None,
) -> tuple[Array, Sequence[int] | None, tuple[Array | None, ...], HostArray | None]:
    """Return a batch with each sequence's steps at the front, in their order.

    What has another form is returned unchanged, for the network or the loss to refuse.

    Parameters
    ----------
    net : RNN
    x : array, (T, B, I), or of integers, (T, B)
    lengths, mask
        See `RNN.forward`.
    others : array or None
        Targets, gradients and weights: those of every step, (T, B, ...), are moved like x.

    Returns
    -------
    x : array
    lengths : sequence of int or None
    others : tuple of array or None
    existing : host array of bool, (T, B), or None
        Where the steps were; None if nothing has moved.
    """
    checks.of_backend("x", x, net.backend)
    if mask is None or x.ndim not in (2, 3):
        return x, lengths, others, None
    steps, batch = x.shape[:2]
    existing = check_existing(lengths, mask, steps, batch, net.backend)
    if existing is None or isinstance(existing, tuple):
        return x, existing, others, None

    def moved(a: Array | None) -> Array | None:
        stepwise = net.returns == "sequence" and net.backend.owns(a)
        if a is None or not stepwise or tuple(a.shape[:2]) != (steps, batch):
            return a
        return closed_up(existing, a)

    ends = np.sum(existing, axis=0).tolist()
    return closed_up(existing, x), ends, tuple(map(moved, others)), existing
