"""Gradients that are products: a sum of few outer products, kept as its factors.

The gradient of a matrix that few rows went through, dyᵀ h, is as large as the matrix and says no
more than dy and h do.  `FactoredGradient` holds these; `xprnn.engine.gradients` has the functions
that take it, a sparse gradient and a dense one alike.
"""

from dataclasses import dataclass

from xprnn.backend import primitives_of
from xprnn.backend.types import Array


@dataclass(frozen=True, eq=False)
class FactoredGradient:
    """The matrix leftᵀ right.

    Attributes
    ----------
    left : array, (N, M)
    right : array, (N, K)

    Examples
    --------
    >>> import numpy as np
    >>> g = FactoredGradient(np.array([[1.0, 0.0, 2.0]]), np.array([[3.0, 5.0]]))
    >>> g.shape
    (3, 2)
    >>> g.to_dense()
    array([[ 3.,  5.],
           [ 0.,  0.],
           [ 6., 10.]])
    """

    left: Array
    right: Array

    @property
    def shape(self) -> tuple[int, int]:
        """(M, K)."""
        return self.left.shape[1], self.right.shape[1]

    def rows(self, rows: slice) -> "FactoredGradient":
        """Return some rows of the matrix."""
        return FactoredGradient(self.left[:, rows], self.right)

    def to_dense(self) -> Array:
        """Return the whole matrix."""
        return primitives_of(self.left).product(self.left.T, self.right)
