"""One recurrent layer, forward and backward: its shapes, and the work in xprnn.

The work in other libraries is in ``xprnn.bench.peers.LIBRARY_layer``; see `xprnn.bench.timing` for
the arguments of ``python -m xprnn.bench.layer``.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from xprnn.backend import HALVES
from xprnn.backend.host.arrays import HostArray, np
from xprnn.bench.timing import Work, time_and_print
from xprnn.cells import get_cell
from xprnn.engine.loop.cuda.choice import cuda_loop
from xprnn.engine.network import RNN


class LayerData(NamedTuple):
    """x (T, B, I) and dL/dy (T, B, H), in float32."""

    x: HostArray
    dy: HostArray


class LayerCase(NamedTuple):
    """The shape of a layer and its data: I, H, B, T."""

    inputs: int
    hidden: int
    batch: int
    steps: int

    def data(self) -> LayerData:
        """Return random data, the same for every library."""
        rng = np.random.default_rng(0)
        shapes = (self.inputs, self.hidden)
        x, dy = (
            rng.standard_normal((self.steps, self.batch, size), dtype="float32") for size in shapes
        )
        return LayerData(x, dy)

    def operations(self, cell: str) -> int:
        """Return the floating-point operations of all products, forward and backward.

        A multiplication and an addition count as two: of W x and U h once forward, and twice
        backward, for the gradient of each factor.
        """
        rows = get_cell(cell).gates * self.hidden
        return 6 * self.steps * self.batch * rows * (self.inputs + self.hidden)

    def transfer(self, cell: str, itemsize: int) -> int:
        """Return the bytes that any implementation reads or writes.

        Those of x, y, dy, dx, the weights and their gradients, each once; what an implementation
        keeps in between is its own affair.
        """
        rows = get_cell(cell).gates * self.hidden
        data = 2 * self.steps * self.batch * (self.inputs + self.hidden)
        weights = 2 * rows * (self.inputs + self.hidden + 1)
        return itemsize * (data + weights)


CASES = {
    "tiny": LayerCase(1, 32, 1, 100),
    "wildml": LayerCase(100, 100, 1, 20),
    "lecture": LayerCase(1, 500, 1, 200),
    "small": LayerCase(32, 64, 16, 50),
    "rltools": LayerCase(32, 64, 32, 64),
    "medium": LayerCase(64, 128, 32, 100),
    "large": LayerCase(256, 256, 64, 100),
    "fastrnn": LayerCase(512, 512, 64, 100),
    "wide": LayerCase(1024, 1024, 32, 25),
    "dbench": LayerCase(1760, 1760, 16, 50),
}
"""The shapes by name.

Some are known from elsewhere: ``wildml`` has the size of D. Britz's language model (see
docs/language-model.md), ``lecture`` that of docs/noisy-sine.md, ``fastrnn`` that of PyTorch's
benchmark fastrnns and ``dbench`` that of Baidu's DeepBench.
"""


def xprnn_layer(
    cell: str, case: LayerCase, backend: str, threads: int, precision: str = "float32"
) -> Callable[[], Any]:
    """Return the work in xprnn: y = layer(x), and from dL/dy the gradients of x and parameters."""
    del threads  # BLAS reads the number from the environment
    data, dtype = case.data(), precision if precision in HALVES else "float32"
    net = RNN(case.inputs, case.hidden, cell=cell, backend=backend, dtype=dtype, rng=0)
    x, dy = net.backend.asarray(data.x), net.backend.asarray(data.dy)

    def work() -> Any:
        with cuda_loop(matmul_precision="tf32" if precision == "tf32" else "float32"):
            run = net.forward(x)
            gradient = net.backward(run, dy)
        net.backend.library.synchronize((run.output, gradient))
        return gradient

    return work


WORK = Work("layer", xprnn_layer, CASES)

if __name__ == "__main__":
    time_and_print(WORK, sys.argv[1:])
