"""What `gradient_flow` returns, and how it is said in a sentence."""

import math
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np

HALF, LITTLE, DOUBLE, MUCH = 0.5, 0.01, 2.0, 10.0
"""What is left where the gradient's reach ends, where the gradient itself ends; from where on its
growth is told, and called an explosion."""


class Flow(NamedTuple):
    """How the gradient of a loss flows back through time.

    Arrays are NumPy's, in float64.  T steps, D directions, G gates, H hidden units; a row for every
    layer and direction, in the order of the state: layer 0, layer 0 reversed, layer 1, ...  Norms
    are Euclidean, over the batch and the units.  Nothing reaches the padding.

    Attributes
    ----------
    names : tuple of str
        Of the rows: ``"layer 0"``, ``"layer 0 reversed"``, ...
    loss : float or None
        None if ``d_output`` was given.
    norms : array, (layers·D, T)
        ‖∂L/∂h(t)‖: of the whole gradient that reaches h(t), from this step's loss, from the steps
        after it (in a reversed direction: before it) and from the layers above.
    decay : array, (layers·D, T)
        Entry k is the norm of what the *last* loss alone sends back over k steps, ‖∂L_s/∂h(s-k)‖
        with s the last step of each sequence whose output has a gradient (in a reversed direction
        the first, and h(s+k)).  Where sequences are too short for k steps, it is estimated from
        the others, and nan if there are none.  A window cuts it off.
    reach : array, (layers·D,)
        The steps after which half of it is left: the smallest k ≥ 1 with decay[k] ≤ ½ decay[0].
        inf if more than half is left at the sequence's other end; nan where nothing arrives, or
        what arrives is not finite.
    extent : array, (layers·D,)
        How far back it reaches at all: the largest k with decay[k] ≥ decay[0] / 100; nan as above.
    saturation : array, (layers·D, G)
        The share of each gate's entries, over steps, sequences and units, whose activation has a
        slope of at most ``bound`` times its largest slope: ``|tanh'(a)|`` ≤ bound, or
        ``|σ'(a)|`` ≤
        bound / 4.  nan for a cell whose formula can't be traced.
    recurrent : array, (layers·D, G, H, H)
        U, by gates.
    parameters : tuple of str
        The parameters' names.
    gradient_norms, weight_norms : array, (P,)
        Of each parameter's gradient, and of the parameter itself.
    update_ratios : array, (P,), or None
        With an ``optimizer``: the norm of its first update of each parameter, divided by that of
        the parameter.
    matrix : array, (layers·D, T, T), or None
        With ``matrix=True``: entry (s, t) is ‖∂L_s/∂h(t)‖, of what the loss of step s contributes.
    jacobians : Jacobians or None
        With ``jacobians=True``.
    nonfinite : str
        Where the first NaN or infinity arises, in the forward pass or on the way back; else empty.

    Examples
    --------
    >>> import numpy as np, xprnn
    >>> net = xprnn.RNN(1, 1, cell=xprnn.cells.Elman("identity"), bias=False, returns="last",
    ...                 dtype="float64", rng=0)
    >>> net.parameters["weight_hh_l0"][:] = 0.8
    >>> flow = xprnn.diagnostics.gradient_flow(net, np.ones((30, 1, 1)), np.zeros((1, 1)))
    >>> flow.reach             # 0.8³ = 0.512, 0.8⁴ = 0.41
    array([4.])
    >>> print(flow.sentence)
    gradient reaches back 20 steps (half of it within 4)
    >>> flow
    <Flow: gradient reaches back 20 steps (half of it within 4)>
    """

    names: tuple[str, ...]
    loss: float | None
    norms: HostArray
    decay: HostArray
    reach: HostArray
    extent: HostArray
    saturation: HostArray
    recurrent: HostArray
    parameters: tuple[str, ...]
    gradient_norms: HostArray
    weight_norms: HostArray
    update_ratios: HostArray | None = None
    matrix: HostArray | None = None
    jacobians: "Jacobians | None" = None
    nonfinite: str = ""

    def __repr__(self) -> str:
        """Return the sentence: all arrays would be pages of numbers."""
        return f"<Flow: {'; '.join(self.sentence.splitlines())}>"

    @property
    def eigenvalues(self) -> HostArray:
        """The eigenvalues of U, (layers·D, G, H), complex; computed when they are asked for."""
        if not np.all(np.isfinite(self.recurrent)):
            return np.full(self.recurrent.shape[:3], complex(math.nan, math.nan))
        return np.linalg.eigvals(self.recurrent).astype(np.complex128)

    @property
    def spectral_radius(self) -> HostArray:
        """The largest size of an eigenvalue of U, (layers·D, G)."""
        radius: HostArray = np.max(np.abs(self.eigenvalues), axis=-1)
        return radius

    @property
    def gradient_norm(self) -> float:
        """The norm of the gradients of all parameters together, which ``clip_norm`` limits."""
        return math.hypot(*self.gradient_norms)

    @property
    def sentence(self) -> str:
        """How far the gradient reaches, in words: a sentence for every layer and direction."""
        if self.nonfinite:
            return f"the gradient is not finite; first non-finite: {self.nonfinite}"
        said = [
            _in_words(decay, reach, extent)
            for decay, reach, extent in zip(self.decay, self.reach, self.extent, strict=True)
        ]
        if len(said) == 1:
            return said[0]
        return "\n".join(f"{name}: {text}" for name, text in zip(self.names, said, strict=True))


class Jacobians(NamedTuple):
    """The Jacobian J(t) = ∂s(t)/∂s(t-1) of each step of one sequence; s is h, or (h, c).

    Attributes
    ----------
    norms : array, (layers·D, T)
        ‖J(t)‖, the largest singular value; nan in the padding.  J is that of the layer alone, its
        input held.
    products : array, (layers·D, T)
        Entry k is ‖J(e) J(e-1) ⋯ J(e-k+1)‖ with e the last step that the direction reads: what a
        change of the state k steps before the end has become there.  Entry 0 is 1.
    lyapunov : array, (layers·D,)
        The largest Lyapunov exponent of the steps read, per step: the mean of ``log |R₁₁(t)|`` of
        the decompositions J(t) Q(t-1) = Q(t) R(t).  Below 0 a small change fades, above 0 it grows.
    """

    norms: HostArray
    products: HostArray
    lyapunov: HostArray


def reach_of(decay: HostArray) -> tuple[HostArray, HostArray]:
    """Return reach and extent of each row of a decay; see `Flow`.

    Trailing entries that are nan, where no sequence has a step, don't count.

    >>> reach_of(np.array([[1.0, 0.7, 0.4, 0.2, 0.005]]))
    (array([2.]), array([3.]))
    """
    found = np.array([_reach_of(row) for row in decay], float).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _reach_of(row: HostArray) -> tuple[float, float]:
    row = _known(row)
    start = float(row[0]) if len(row) else 0.0
    if not (start > 0 and math.isfinite(row.max())):
        return math.nan, math.nan
    below = int((row <= HALF * start).argmax())  # not the first
    beyond = int((row[::-1] >= LITTLE * start).argmax())
    return below or math.inf, len(row) - 1 - beyond


def _known(row: HostArray) -> HostArray:
    if not math.isnan(row[-1]):
        return row
    known = np.flatnonzero(~np.isnan(row))
    return row[: known[-1] + 1 if len(known) else 0]


def _in_words(decay: HostArray, reach: float, extent: float) -> str:
    decay = _known(decay)
    if math.isnan(reach):
        return "no gradient arrives" if np.all(decay == 0) else "the gradient is not finite"
    first = len(decay) - 1
    if first == 0:
        return "gradient of a single step: it has no way back"
    peak = int(np.argmax(decay))
    if decay[peak] >= MUCH * decay[0]:
        times = decay[peak] / decay[0]
        return (
            f"gradient explodes: {times:.3g} times as large {_steps(peak)} back "
            f"(×{times ** (1 / peak):.3g} a step)"
        )
    far = _steps(int(extent)) + ", all there are" * (int(extent) == first)
    half = f"half of it within {int(reach)}" if math.isfinite(reach) else _left(decay, int(extent))
    return f"gradient reaches back {far} ({half})"


def _left(decay: HostArray, extent: int) -> str:
    """Say what is left where a gradient ends of which half never went."""
    times = decay[extent] / decay[0]
    if times < DOUBLE:
        return "more than half of it is left there"
    return f"{times:.3g} times as large there"


def _steps(count: int) -> str:
    return f"{count} step" if count == 1 else f"{count} steps"
