"""What `xprnn.diagnostics.gradient_flow` costs, beside the passes that it makes.

``python -m xprnn.bench.flow CELL CASE BACKEND THREADS SECONDS`` times them in that process, in
turns, and prints the seconds as JSON.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import np
from xprnn.bench.layer import CASES
from xprnn.bench.process import result_of
from xprnn.bench.timing import MINIMUM_CALLS, Setting, begin, seconds_of
from xprnn.diagnostics import gradient_flow
from xprnn.engine.network import RNN


class FlowRow(NamedTuple):
    """The times of one cell at one shape.

    Attributes
    ----------
    cell, case : str
    forward, backward, flow, from_tape : float
        Seconds of a forward pass with its tape, of a backward pass, and of `gradient_flow`, which
        makes one of the former and two of the latter, all measures by default included; given a
        `Run`, it makes no forward pass.
    ratio, tape_ratio : float
        Those of the flow, and of the flow from a Run, to the backward pass.
    """

    cell: str
    case: str
    forward: float
    backward: float
    flow: float
    from_tape: float
    ratio: float
    tape_ratio: float


def run_flow(cells: Sequence[str], cases: Sequence[str], setting: Setting) -> Iterator[FlowRow]:
    """Time every cell at every shape, each in a process of its own.

    Raises
    ------
    RuntimeError
        If a process fails; the message has the last line that it wrote to stderr.
    """
    for cell in cells:
        for case in cases:
            forward, backward, flow, from_tape = result_of(
                "xprnn.bench.flow",
                *(cell, case, setting.backend, setting.threads, setting.seconds),
                what=f"timing gradient_flow ({cell}, {case})",
                threads=setting.threads,
                **setting.variables("xprnn"),
            )
            ratios = flow / backward, from_tape / backward
            yield FlowRow(cell, case, forward, backward, flow, from_tape, *ratios)


def works(cell: str, case: str, backend: str) -> tuple[Callable[[], Any], ...]:
    """Return the forward pass, the backward pass, the flow and that from a Run, to be timed.

    The network has no readout, and a loss at every step.
    """
    shape = CASES[case]
    x, dy = shape.data()
    net = RNN(shape.inputs, shape.hidden, cell=cell, backend=backend, rng=0)
    x, dy = net.backend.asarray(x), net.backend.asarray(dy)
    run, synchronize = net.forward(x), net.backend.library.synchronize

    def forward() -> None:
        synchronize(net.forward(x).output)

    def backward() -> None:
        synchronize(net.backward(run, dy))

    def flow() -> None:
        # What it returns is on the host: nothing is left to wait for.
        gradient_flow(net, x, d_output=dy)

    def from_tape() -> None:
        gradient_flow(net, run, d_output=dy)

    return forward, backward, flow, from_tape


def measured(works: Sequence[Callable[[], Any]], seconds: float) -> list[float]:
    """Return the median time of each work; they take turns."""
    for _ in range(3):
        for work in works:
            work()
    times: list[list[float]] = []
    while len(times) < MINIMUM_CALLS or np.sum(times) < seconds * len(works):
        times.append([seconds_of(work) for work in works])
    return [float(median) for median in np.median(times, axis=0)]


if __name__ == "__main__":
    cell, case, backend, threads, seconds = sys.argv[1:]
    begin(backend, int(threads))
    print(json.dumps(measured(works(cell, case, backend), float(seconds))))  # noqa: T201
