"""Whole training steps: loss, gradients, clipping, update; see `xprnn.bench.timing`."""

import sys
from collections.abc import Callable
from itertools import cycle
from typing import Any

from xprnn.bench.timing import serve
from xprnn.bench.training_case import CLIP, RATE, TRAININGS, TrainingCase
from xprnn.engine.network import RNN
from xprnn.losses import get_loss
from xprnn.optim import Adam, clip_by_norm


def network(cell: str, case: TrainingCase, backend: str = "numpy") -> RNN:
    """Return the model; torch gets the same weights."""
    return RNN(
        case.inputs,
        case.hidden,
        case.outputs,
        cell=cell,
        returns="last" if case.last else "sequence",
        backend=backend,
        dtype="float32",
        rng=0,
    )


def xprnn_training(
    cell: str, case: TrainingCase, backend: str, threads: int, **options: Any
) -> Callable[[], Any]:
    """Return the work in xprnn: one training step, which returns the loss before.

    Parameters
    ----------
    cell : str
    case : TrainingCase
    backend : str
    threads : int
        BLAS reads them from the environment.
    options
        Of `RNN.value_and_grad`.
    """
    del threads
    net, data = network(cell, case, backend), case.data()
    asarray = net.backend.asarray
    batches = cycle([(asarray(x), asarray(y)) for x, y in zip(*data, strict=True)])
    loss = get_loss("cross_entropy" if case.tokens else "squared_error")
    # Lazy updates of the columns of W are no rule of torch's.
    optimizer = Adam(RATE, lazy=False)
    memory = optimizer.init(net.parameters)

    def work() -> float:
        nonlocal memory
        x, target = next(batches)
        value, gradient = net.value_and_grad(x, target, loss, **options)
        clipped, _ = clip_by_norm(gradient.parameters, CLIP)
        net.parameters, memory = optimizer.update(clipped, memory, net.parameters)
        return float(value)

    return work


if __name__ == "__main__":
    serve("training", xprnn_training, TRAININGS, sys.argv[1:])
