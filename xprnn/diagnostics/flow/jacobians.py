"""The Jacobian of every step of a sequence, and what their products do.

Row j of J(t) is J(t)ᵀ e_j: what the backward step makes of the gradient e_j of the state after the
step.  All steps are done at once, one row after the other.
"""

import math

from xprnn import checks
from xprnn.backend.host.arrays import HostArray, np
from xprnn.diagnostics.flow.result import Jacobians
from xprnn.engine.architecture import Direction
from xprnn.engine.layer.layer import Tape, in_one_segment
from xprnn.engine.loop.plain import step_back
from xprnn.engine.normalization import Normalized
from xprnn.engine.results import NetworkTape


def jacobians_of(tape: NetworkTape, sequence: int) -> Jacobians:
    """Return what the Jacobians of one sequence say.

    Raises
    ------
    ValueError
        If there is no such sequence, or the tape leaves steps to be recomputed.
    """
    batch, steps = tape.x.shape[1], tape.x.shape[0]
    sequence = checks.index("sequence", sequence, batch)
    if tape.recomputes:
        raise ValueError(
            "jacobians=True needs the whole tape, and this one was made with recompute=True: "
            "expected recompute=False"
        )
    end = steps
    if tape.valid is not None:
        end = int(np.sum(tape.backend.to_numpy(tape.valid)[:, sequence]))
    norms, products, exponents = [], [], []
    for direction, layer in zip(tape.architecture.stack, tape.layers, strict=True):
        J = _jacobians(tape, direction, layer, sequence, end)
        with np.errstate(over="ignore", invalid="ignore"):
            sizes = _sizes(J)
            products.append(_padded(_product_norms(J), steps))
            exponents.append(_largest_exponent(J))
        norms.append(_padded(sizes[::-1] if direction.reverse else sizes, steps))
    return Jacobians(np.stack(norms), np.stack(products), np.array(exponents))


def _jacobians(
    tape: NetworkTape, direction: Direction, layer: Tape, sequence: int, end: int
) -> HostArray:
    """Return J of every step of the sequence, in reading order, (T', S·H, S·H)."""
    backend, cell = tape.backend, tape.architecture.cell
    xp, hidden, count = backend.xp, direction.hidden_size, len(cell.state)
    (segment,) = in_one_segment(layer).segments
    assert segment.tape is not None
    trajectory, recurrent = segment.tape.trajectory, layer.recurrent
    steps = slice(-end, None) if direction.reverse else slice(0, end)
    only = slice(sequence, sequence + 1)
    previous = tuple([part[:-1, ...][steps, only, :] for part in trajectory.states])
    saved = tuple([part[steps, only, :] for part in trajectory.saved])
    normalized = trajectory.normalized
    if normalized is not None:
        normalized = Normalized(*[part[steps, only, ...] for part in normalized])
    mask = recurrent.mask
    recurrent = recurrent._replace(valid=None, mask=None if mask is None else mask[only, :])
    zeros, each = xp.zeros_like(previous[0]), xp.arange(hidden, device=backend.device)
    rows = []
    for variable in range(count):
        for unit in range(hidden):
            one = xp.astype(each == unit, zeros.dtype) + zeros
            d_state = tuple([one if k == variable else zeros for k in range(count)])
            step = step_back(xp, cell, recurrent, saved, previous, normalized, None, d_state)
            parts = [backend.to_numpy(part)[:, 0, :].astype(np.float64) for part in step.state]
            rows.append(np.concatenate(parts, axis=1))
    return np.stack(rows, axis=1)


def _sizes(J: HostArray) -> HostArray:
    """Return the largest singular value of each matrix; nan of one that is not finite."""
    sizes = np.full(len(J), math.nan)
    good = np.all(np.isfinite(J), axis=(1, 2))
    sizes[good] = np.linalg.norm(J[good], ord=2, axis=(1, 2))
    return sizes


def _product_norms(J: HostArray) -> HostArray:
    """Return ‖J(e) ⋯ J(e-k+1)‖ for k = 0, 1, ..., (T'+1,)."""
    product, scale, found = np.eye(J.shape[1]), 0.0, [1.0]
    for step in J[::-1]:
        product = product @ step
        size = float(_sizes(product[None])[0])
        # The product is kept near one, so that it neither overflows nor vanishes.
        found.append(math.exp(min(scale + math.log(size), 700.0)) if size > 0 else size)
        if size > 0:
            product, scale = product / size, scale + math.log(size)
    return np.array(found)


def _largest_exponent(J: HostArray) -> float:
    """Return the mean of log |R₁₁| of J(t) Q(t-1) = Q(t) R(t)."""
    if not np.all(np.isfinite(J)):
        return math.nan
    Q, total = np.eye(J.shape[1]), 0.0
    for step in J:
        Q, R = np.linalg.qr(step @ Q)
        if R[0, 0] == 0:
            return -math.inf
        total += math.log(abs(R[0, 0]))
    return total / len(J)


def _padded(a: HostArray, steps: int) -> HostArray:
    """Return the first entries of an array, with nan after them."""
    whole = np.full(steps, math.nan)
    kept = a[:steps]
    whole[: len(kept)] = kept
    return whole
