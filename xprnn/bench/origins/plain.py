"""The plain algorithms: one time step after another, in NumPy, as their authors wrote them.

They serve to compare results and times; the library itself uses none of them.  Their gradients are
right, their bookkeeping is a textbook's, and nothing is vectorised over time.
"""

from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np


class LanguageWeights(NamedTuple):
    """U (H, V) of the input, W (H, H) of the state, V (V, H) of the output; no biases."""

    U: HostArray
    W: HostArray
    V: HostArray


def language_gradient(
    weights: LanguageWeights, x: HostArray, target: HostArray, window: int
) -> LanguageWeights:
    """Return the gradient of the summed cross-entropy of one sentence, by nested loops.

    The input is dense one-hot vectors.  The loss of every step goes back through that step and the
    ``window`` steps before it.  At each of these steps the original runs a whole layer: forward
    again, including the output, then back, with dense outer products for the three weights and
    the gradient of the input.

    Parameters
    ----------
    weights : LanguageWeights
    x, target : host array of int, (T,)
    window : int
    """
    U, W, V = weights
    hidden, vocabulary = U.shape
    one_hot = np.zeros((len(x), vocabulary), dtype=U.dtype)
    one_hot[np.arange(len(x)), x] = 1
    zero = np.zeros(hidden, dtype=U.dtype)
    h: list[HostArray] = []
    p: list[HostArray] = []
    for t in range(len(x)):
        state, logits = _layer(weights, one_hot[t], h[t - 1] if t else zero)
        exponentials = np.exp(logits - logits.max())
        h.append(state)
        p.append(exponentials / exponentials.sum())
    dU, dW, dV = np.zeros_like(U), np.zeros_like(W), np.zeros_like(V)
    for t in range(len(x)):
        d_logits = p[t].copy()
        d_logits[target[t]] -= 1
        dh = zero
        for s in range(t, max(-1, t - window - 1), -1):
            before = h[s - 1] if s else zero
            state, _ = _layer(weights, one_hot[s], before)
            dV += np.outer(d_logits, state)
            dz = (dh + V.T @ d_logits) * (1 - state**2)
            dU += np.outer(dz, one_hot[s])
            dW += np.outer(dz, before)
            _dx = U.T @ dz
            dh = W.T @ dz
            # Only the last step of the window has a loss.
            d_logits = np.zeros_like(d_logits)
    return LanguageWeights(dU, dW, dV)


def _layer(
    weights: LanguageWeights, x: HostArray, before: HostArray
) -> tuple[HostArray, HostArray]:
    """Return the state and the logits of one step."""
    state = np.tanh(weights.U @ x + weights.W @ before)
    return state, weights.V @ state


class SineWeights(NamedTuple):
    """Wx (H, 1), Wh (H, H), b (H, 1), Wy (1, H)."""

    Wx: HostArray
    Wh: HostArray
    b: HostArray
    Wy: HostArray


def sine_epoch(
    weights: SineWeights,
    velocity: SineWeights,
    x: HostArray,
    y: HostArray,
    *,
    learning_rate: float,
    momentum: float,
) -> tuple[SineWeights, SineWeights, float]:
    """Train the lecture's network for one epoch; return weights, velocity and loss.

    One time step after another, forward and back, with outer products at each step.  The loss is
    ½ mean((ŷ - y)²), the gradient is the true one.

    Parameters
    ----------
    weights, velocity : SineWeights
    x, y : host array, (T,)
    learning_rate, momentum : float
    """
    Wx, Wh, b, Wy = weights
    steps = len(x)
    h = [np.zeros_like(b)]
    error = np.zeros(steps, dtype=Wx.dtype)
    for t in range(steps):
        h.append(np.tanh(Wx * x[t] + Wh @ h[t] + b))
        error[t] = (Wy @ h[t + 1]).item() - y[t]
    dWx, dWh, db, dWy = (np.zeros_like(weight) for weight in weights)
    dh = np.zeros_like(b)
    for t in reversed(range(steps)):
        d_y = error[t] / steps
        dWy += d_y * h[t + 1].T
        dh = dh + Wy.T * d_y
        dz = dh * (1 - h[t + 1] ** 2)
        dWx += dz * x[t]
        dWh += dz @ h[t].T
        db += dz
        dh = Wh.T @ dz
    gradient = SineWeights(dWx, dWh, db, dWy)
    velocity = SineWeights(
        *(momentum * v - learning_rate * g for v, g in zip(velocity, gradient, strict=True))
    )
    moved = SineWeights(*(w + v for w, v in zip(weights, velocity, strict=True)))
    return moved, velocity, float(0.5 * np.mean(error**2))
