"""Linear forecasts: autoregressions of a series or of its differences, fitted with a ridge."""

from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.data.differencing import Differencing

MOST_ROWS = 20_000
"""How many of the last values a fit reads: more change its few coefficients hardly."""
RIDGES = 10.0 ** np.linspace(-6.0, 2.0, 25)
"""The ridge parameters that a fit chooses from, in units of the variables' variance."""


class Linear(NamedTuple):
    """A linear forecast of the next value.

    ::

        ŷ(t) = base(t) + c + Σ_k a_k Δ(t-k) + Σ_j g_j Δz_j(t),   k = 1 ... p

    Δ are the differences of ``differencing``, base(t) what undoes them, and z_j inputs that are
    known in advance (covariates), of which the same differences are taken.  With p = 0 it is
    persistence (first differences, c = 0), drift (c the mean change) or the seasonal naive forecast
    (seasonal differences, c = 0).

    Attributes
    ----------
    differencing : Differencing
    constant : float
        c
    coefficients : host array, (p,)
        a_1 ... a_p, of the latest difference first.
    inputs : host array, (C,)
        g
    """

    differencing: Differencing
    constant: float
    coefficients: HostArray
    inputs: HostArray

    @property
    def needed(self) -> int:
        """How many values come before the first that can be forecast."""
        return max(1, self.differencing.lost + len(self.coefficients))

    def next(self, history: HostArray, inputs: HostArray | None = None) -> HostArray:
        """Forecast the value that follows each history.

        Parameters
        ----------
        history : host array, (L, B)
            B histories of L values, L at least `needed`; the last is the latest.
        inputs : host array, (L + 1, B, C), optional
            The covariates of the same times and of the one to forecast.

        Returns
        -------
        host array, (B,)
        """
        p, lost = len(self.coefficients), self.differencing.lost
        forecast = self.differencing.base(history) + self.constant
        if p:
            changes = self.differencing.apply(history[-p - lost :])
            forecast = forecast + self.coefficients[::-1] @ changes
        if inputs is not None and len(self.inputs):
            forecast = forecast + self.differencing.apply(inputs[-lost - 1 :])[-1] @ self.inputs
        return np.asarray(forecast)

    @classmethod
    def fitted(
        cls,
        values: HostArray,
        order: int,
        differencing: Differencing,
        covariates: HostArray | None = None,
        *,
        constant: bool = True,
    ) -> "Linear":
        """Fit the coefficients by ridge regression on standardised differences.

        The ridge parameter is that of the lowest generalised cross-validation error
        ``mean(r²) / (1 - dof/n)²``, of 25 between 10⁻⁶ and 10².

        Parameters
        ----------
        values : host array, (N,)
            N above ``differencing.lost + order``.
        order : int
            p, 0 or more.
        differencing : Differencing
        covariates : host array, (N, C), optional
        constant : bool
            False: c = 0, for order 0 and no covariates.

        References
        ----------
        G. H. Golub, M. Heath and G. Wahba, "Generalized cross-validation as a method for choosing a
        good ridge parameter", Technometrics 21 (1979), 215-223.
        """
        rows = MOST_ROWS + differencing.lost + order
        changes = differencing.apply(values[-rows:])
        mean, std = float(np.mean(changes)), float(np.std(changes))
        count = 0 if covariates is None else covariates.shape[1]
        if not constant or (order == 0 and count == 0):
            return cls(differencing, mean if constant else 0.0, np.zeros(0), np.zeros(0))
        # Of equal changes, rounding alone is left.
        scale = std if std > 1e-13 * float(np.max(np.abs(values[-rows:]))) else np.inf
        z = (changes - mean) / scale
        columns = [z[order - k : len(z) - k] for k in range(1, order + 1)]
        widths = np.ones(count)
        if covariates is not None:
            known = differencing.apply(covariates[-rows:])[order:]
            widths = np.std(known, axis=0)
            widths = np.where(widths > 0, widths, np.inf)
            columns += list(((known - np.mean(known, axis=0)) / widths).T)
        a = ridge(np.column_stack(columns), z[order:])
        own, of_inputs = a[:order], a[order:]
        if not np.isfinite(scale):
            return cls(differencing, mean, np.zeros(order), np.zeros(count))
        g = of_inputs * scale / widths
        fitted = np.column_stack(columns) @ a
        level = float(np.mean(z[order:] - fitted)) * scale + mean * (1.0 - float(np.sum(own)))
        if covariates is not None:
            level -= float(np.mean(known, axis=0) @ g)
        return cls(differencing, level, own, g)


def ridge(x: HostArray, y: HostArray) -> HostArray:
    """Return the coefficients (p,) of the ridge regression of y (n,) on x (n, p) and a constant."""
    n = len(y)
    x, y = x - np.mean(x, axis=0), y - np.mean(y)
    # The triangle of a QR decomposition has the singular values of x and few rows.
    triangle: HostArray = np.linalg.qr(np.column_stack([x, y]))[1]
    u, s, vt = np.linalg.svd(triangle[:, :-1], full_matrices=False)
    projected = u.T @ triangle[:, -1]
    kept = s**2 / (s**2 + n * RIDGES[:, None])
    dof = 1.0 + np.sum(kept, axis=1)
    residual = np.sum(y**2) - np.sum((1.0 - (1.0 - kept) ** 2) * projected**2, axis=1)
    scores = np.maximum(residual, 0.0) / np.maximum(1.0 - dof / n, 1e-9) ** 2
    scores = np.where(dof < n - 1, scores, np.inf)
    # Of equal scores, that of the strongest ridge.
    best = int(np.argmin(scores[::-1]))
    chosen = RIDGES[::-1][best]
    answer: HostArray = vt.T @ (s * projected / (s**2 + n * chosen))
    return answer
