"""One recurrent layer, forward and backward; see `xprnn.bench.timing`."""

import sys
from collections.abc import Callable
from typing import Any

from xprnn.bench.case import CASES, LayerCase
from xprnn.bench.timing import serve
from xprnn.engine.network import RNN


def xprnn_layer(cell: str, case: LayerCase, backend: str, threads: int) -> Callable[[], Any]:
    """Return the work in xprnn: y = layer(x), and from dL/dy the gradients of x and parameters."""
    del threads  # BLAS reads them from the environment
    data = case.data()
    net = RNN(case.inputs, case.hidden, cell=cell, backend=backend, dtype="float32", rng=0)
    x, dy = net.backend.asarray(data.x), net.backend.asarray(data.dy)

    def work() -> Any:
        run = net.forward(x)
        gradient = net.backward(run, dy)
        net.backend.library.synchronize()
        return gradient

    return work


if __name__ == "__main__":
    serve("layer", xprnn_layer, CASES, sys.argv[1:])
