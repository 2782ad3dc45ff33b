"""Huber's loss."""

from dataclasses import dataclass

from xprnn import checks
from xprnn.backend.types import Array, Namespace
from xprnn.losses.elementwise import ElementwiseLoss


@dataclass(frozen=True)
class Huber(ElementwiseLoss):
    """Half the squared error of small errors, and in proportion to large ones.

    ::

        e = y - target
        l = ½ e²               if |e| ≤ δ, else  δ (|e| - ½ δ)        (1)
        l' = e, but at most δ and at least -δ                         from (1)

    Outliers pull on the network with a bounded force.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        See `xprnn.losses.elementwise.ElementwiseLoss`.
    delta : float
        δ > 0, in the target's unit.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong type or out of range.

    Notes
    -----
    The same as ``torch.nn.HuberLoss``.

    References
    ----------
    P. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35
    (1964), 73-101.

    Examples
    --------
    >>> import numpy as np
    >>> loss = Huber("none", delta=1.0)
    >>> loss(np.array([[0.5, 3.0]]), np.zeros((1, 2))).tolist()
    [[0.125, 2.5]]
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "delta", checks.number("delta", self.delta, open_=True))

    def each(self, xp: Namespace, y: Array, target: Array) -> tuple[Array, Array]:
        e = y - target
        near = xp.clip(e, -self.delta, self.delta)
        # Both cases of (1), as near is e in the first and ±δ in the second.
        return near * (e - 0.5 * near), near
