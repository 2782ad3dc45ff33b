"""One recurrent layer, forward and backward, against other libraries.

``python -m xprnn.bench.layer LIBRARY OPTIONS`` times one library on several cases, in this process,
and prints one JSON line for each; `run_layer_bench` starts one such process per library and cell.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from xprnn.backend.host import np
from xprnn.backend.memory import keep_freed_memory
from xprnn.bench.case import CASES, LayerCase
from xprnn.bench.process import THREAD_VARIABLES
from xprnn.network import RNN

PEERS = ("torch", "jax")
MINIMUM_CALLS, SECONDS = 9, 1.0


class LayerRow(NamedTuple):
    """One cell at one shape.

    Attributes
    ----------
    cell, case : str
    ours : float
        Seconds, the median.
    peers : dict of float
        Seconds by library.
    ratio : float or None
        Ours over the best peer's: below 1 is faster.  None without peers.
    """

    cell: str
    case: str
    ours: float
    peers: dict[str, float]
    ratio: float | None


def xprnn_layer(cell: str, case: LayerCase, backend: str, threads: int) -> Callable[[], Any]:
    """Return the same work in xprnn."""
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


def measure(work: Callable[[], object]) -> float:
    """Return the median seconds of a call, after warm-up."""
    started = time.perf_counter()
    calls = 0
    while calls < 3 or (time.perf_counter() - started < 0.3 * SECONDS and calls < 1000):
        work()
        calls += 1
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < MINIMUM_CALLS or time.perf_counter() - started < SECONDS:
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


def run_layer_bench(
    cells: Sequence[str],
    cases: Sequence[str],
    peers: Sequence[str],
    threads: int,
    backend: str,
) -> Iterator[LayerRow]:
    """Time, one row after the other.

    Parameters
    ----------
    cells, cases : sequence of str
    peers : sequence of str
        Of `PEERS`, all installed.
    threads : int
        Every process is held to as many cores, and its thread pools to as many threads.
    backend : str
        Xprnn's; with ``"cupy"`` the peers compute on the GPU, too.

    Raises
    ------
    RuntimeError
        If a process fails; the message has its last words.
    """
    for cell in cells:
        for case in cases:
            device = "cuda" if backend == "cupy" else "cpu"
            ours = _seconds("xprnn", cell, case, backend, threads)
            theirs = {peer: _seconds(peer, cell, case, device, threads) for peer in peers}
            ratio = ours / min(theirs.values()) if theirs else None
            yield LayerRow(cell, case, ours, theirs, ratio)


def _seconds(library: str, cell: str, case: str, place: str, threads: int) -> float:
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
    command = [sys.executable, "-m", "xprnn.bench.layer", library, cell, case, place, str(threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(f"timing {library} ({cell}, {case}) failed: {words[-1]}")
    return float(json.loads(done.stdout))


def _main(library: str, cell: str, case: str, place: str, threads: int) -> float:
    if hasattr(os, "sched_setaffinity") and place != "cupy":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if library == "xprnn":
        keep_freed_memory()
        return measure(xprnn_layer(cell, CASES[case], place, threads))
    peer = importlib.import_module(f"xprnn.bench.peers.{library}_layer")
    return measure(peer.prepare(cell, CASES[case], place, threads))


if __name__ == "__main__":
    name, cell, case, place, threads = sys.argv[1:]
    print(json.dumps(_main(name, cell, case, place, int(threads))))  # noqa: T201
