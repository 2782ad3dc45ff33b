"""One training step, from the output to the update: its models, data, and the work in xprnn.

The work in other libraries is in ``xprnn.bench.peers.LIBRARY_training``; see `xprnn.bench.timing`
for the arguments of ``python -m xprnn.bench.training``.
"""

import sys
from collections.abc import Callable
from itertools import cycle
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.bench.timing import Work, time_and_print
from xprnn.engine.loop.cuda.choice import cuda_loop
from xprnn.engine.network import RNN
from xprnn.losses import get_loss
from xprnn.optim import Adam, clip_by_norm

RATE, CLIP = 0.001, 1.0
"""The learning rate of Adam, and the norm at which gradients are clipped."""


class TrainingData(NamedTuple):
    """x and target of every batch.

    Tokens are integers (T, B); other inputs are floats (T, B, I), and their targets (T, B, O), or
    (B, O) where only the last step has an output.
    """

    x: list[HostArray]
    target: list[HostArray]


class TrainingCase(NamedTuple):
    """A model and the shape of its batches.

    Attributes
    ----------
    inputs, hidden, outputs, batch, steps : int
    tokens : bool
        Whether inputs are tokens, as one-hot vectors, and outputs their logits.  The loss is then
        the mean cross-entropy, else ½ mean((y - target)²).
    last : bool
        Whether only the last step has an output.
    """

    inputs: int
    hidden: int
    outputs: int
    batch: int
    steps: int
    tokens: bool = False
    last: bool = False

    def data(self, batches: int = 4) -> TrainingData:
        """Return random data, the same for every library."""
        rng = np.random.default_rng(0)
        x: list[HostArray] = []
        target: list[HostArray] = []
        for _ in range(batches):
            if self.tokens:
                tokens = rng.integers(0, self.inputs, (self.steps + 1, self.batch))
                x.append(tokens[:-1].copy())
                target.append(tokens[1:].copy())
                continue
            when = () if self.last else (self.steps,)
            shapes = ((self.steps, self.batch, self.inputs), (*when, self.batch, self.outputs))
            one, other = (rng.standard_normal(shape, dtype="float32") for shape in shapes)
            x.append(one)
            target.append(other)
        return TrainingData(x, target)


CASES = {
    "characters": TrainingCase(65, 128, 65, 32, 64, tokens=True),
    "characters-256": TrainingCase(65, 256, 65, 32, 64, tokens=True),
    "forecast-last": TrainingCase(1, 64, 1, 32, 50, last=True),
    "forecast": TrainingCase(1, 64, 1, 32, 50),
}


def network(cell: str, case: TrainingCase, backend: str = "numpy") -> RNN:
    """Return the model in xprnn; other libraries take their initial weights from it."""
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
    cell: str,
    case: TrainingCase,
    backend: str,
    threads: int,
    precision: str = "float32",
    **options: Any,
) -> Callable[[], Any]:
    """Return the work in xprnn: one training step, which returns the loss before the update.

    Parameters
    ----------
    cell : str
    case : TrainingCase
    backend : str
    threads : int
        Unused, because BLAS reads the number from the environment.
    precision : {"float32", "tf32"}
        Arrays are in float32.
    options
        Of `RNN.value_and_grad`.
    """
    del threads  # BLAS reads the number from the environment
    net, data = network(cell, case, backend), case.data()
    asarray = net.backend.asarray
    batches = cycle([(asarray(x), asarray(y)) for x, y in zip(*data, strict=True)])
    loss = get_loss("cross_entropy" if case.tokens else "squared_error")
    # torch has no lazy updates.
    optimizer = Adam(RATE, lazy=False)
    memory = optimizer.init(net.parameters)

    def work() -> float:
        nonlocal memory
        x, target = next(batches)
        with cuda_loop(matmul_precision=precision):
            value, gradient = net.value_and_grad(x, target, loss, **options)
        clipped, _ = clip_by_norm(gradient.parameters, CLIP)
        net.parameters, memory = optimizer.update(clipped, memory, net.parameters)
        return float(value)

    return work


WORK = Work("training", xprnn_training, CASES)

if __name__ == "__main__":
    time_and_print(WORK, sys.argv[1:])
