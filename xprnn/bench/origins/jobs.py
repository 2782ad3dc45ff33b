"""The jobs of the comparison: training steps written plainly, and the same in xprnn.

``python -m xprnn.bench.origins.jobs NAME OPTIONS`` runs one of `JOBS` in that process, with options
as JSON, and prints what it returns: the seconds of a step, or an error.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.memory import keep_freed_memory
from xprnn.bench.origins.plain import (
    LanguageWeights,
    SineWeights,
    language_gradient,
    sine_epoch,
)
from xprnn.bench.timing import seconds_of
from xprnn.data import sine
from xprnn.engine.gradients import dense
from xprnn.engine.network import RNN, loss_and_grad
from xprnn.losses import CrossEntropy
from xprnn.optim import SGD

RATE, MOMENTUM = 0.005, 0.95


def language_problem(
    vocabulary: int, steps: int, batch: int, rng: int = 0
) -> tuple[HostArray, HostArray]:
    """Return tokens x and target, (T, B): random sentences of one length."""
    tokens = np.random.default_rng(rng).integers(0, vocabulary, (steps + 1, batch))
    return tokens[:-1].copy(), tokens[1:].copy()


def language_net(vocabulary: int, hidden: int, dtype: str) -> RNN:
    """Return the language model; it has no biases, like the original."""
    return RNN(vocabulary, hidden, vocabulary, bias=False, dtype=dtype, rng=0)


def language_weights(net: RNN) -> LanguageWeights:
    """Return a network's weights in the form of the plain loops."""
    p = net.parameters
    return LanguageWeights(p["weight_ih_l0"], p["weight_hh_l0"], p["readout.weight"])


def language_plain(vocabulary: int, hidden: int, steps: int, window: int, dtype: str) -> float:
    """Return the seconds of one plain SGD step on one sentence."""
    x, target = language_problem(vocabulary, steps, 1)
    weights = language_weights(language_net(vocabulary, hidden, dtype))

    def work() -> None:
        nonlocal weights
        gradient = language_gradient(weights, x[:, 0], target[:, 0], window)
        weights = LanguageWeights(*(w - RATE * g for w, g in zip(weights, gradient, strict=True)))

    return median_seconds(work, repeats=7, warm_up=1)


def language_xprnn(
    vocabulary: int, hidden: int, steps: int, window: int, dtype: str, batch: int = 1
) -> float:
    """Return the seconds of one SGD step on a batch of sentences.

    The update is in place.
    """
    x, target = language_problem(vocabulary, steps, batch)
    net = language_net(vocabulary, hidden, dtype)
    optimizer, loss = SGD(RATE), CrossEntropy("sum")
    state = optimizer.init(net.parameters)

    def work() -> None:
        nonlocal state
        _, gradient, _ = loss_and_grad(net, x, target, loss, window=window, factored=True)
        old = net.parameters
        net.parameters, state = optimizer.update(gradient.parameters, state, old, into=(old, state))

    return median_seconds(work, repeats=200, warm_up=30)


def language_error(vocabulary: int, hidden: int, steps: int, window: int) -> float:
    """Return how far xprnn's gradients are from the plain ones, relative to the largest entry."""
    x, target = language_problem(vocabulary, steps, 1)
    net = language_net(vocabulary, hidden, "float64")
    plain = language_gradient(language_weights(net), x[:, 0], target[:, 0], window)
    _, gradient = net.value_and_grad(x, target, loss=CrossEntropy("sum"), window=window)
    g = gradient.parameters
    ours = (dense(g["weight_ih_l0"]), dense(g["weight_hh_l0"]), dense(g["readout.weight"]))
    return max(
        float(np.max(np.abs(a - b)) / np.max(np.abs(b))) for a, b in zip(ours, plain, strict=True)
    )


def _sine(dtype: str) -> tuple[HostArray, HostArray]:
    x, y = sine(rng=0)
    return (0.1 * x).astype(dtype), y.astype(dtype)


def sine_plain(hidden: int, dtype: str) -> float:
    """Return the seconds of one plain epoch of the network of docs/noisy-sine.md."""
    x, y = _sine(dtype)
    rng = np.random.default_rng(0)
    shapes = ((hidden, 1), (hidden, hidden), (hidden, 1), (1, hidden))
    std = 0.1 * np.sqrt(100 / hidden)
    weights = SineWeights(*(rng.normal(0, std, shape).astype(dtype) for shape in shapes))
    velocity = SineWeights(*(np.zeros_like(weight) for weight in weights))

    def work() -> None:
        nonlocal weights, velocity
        weights, velocity, _ = sine_epoch(
            weights, velocity, x[:, 0, 0], y[:, 0, 0], learning_rate=RATE, momentum=MOMENTUM
        )

    return median_seconds(work, repeats=7, warm_up=1)


def sine_xprnn(hidden: int, dtype: str) -> float:
    """Return the seconds of one epoch of the same network in xprnn."""
    x, y = _sine(dtype)
    net = RNN(1, hidden, 1, dtype=dtype, rng=0)
    optimizer = SGD(RATE, momentum=MOMENTUM)
    state = optimizer.init(net.parameters)

    def work() -> None:
        nonlocal state
        _, gradient = net.value_and_grad(x, y)
        old = net.parameters
        net.parameters, state = optimizer.update(gradient.parameters, state, old, into=(old, state))

    return median_seconds(work, repeats=60, warm_up=10)


def median_seconds(work: Callable[[], object], *, repeats: int, warm_up: int) -> float:
    """Return the median time of a call."""
    for _ in range(warm_up):
        work()
    return float(np.median([seconds_of(work) for _ in range(repeats)]))


JOBS: dict[str, Any] = {
    job.__name__: job
    for job in (language_plain, language_xprnn, language_error, sine_plain, sine_xprnn)
}

if __name__ == "__main__":
    keep_freed_memory()  # for both sides, because the command line does it, too
    print(json.dumps(JOBS[sys.argv[1]](**json.loads(sys.argv[2]))))  # noqa: T201
