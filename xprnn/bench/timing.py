"""The same work in several libraries, timed in rounds that take turns.

A module of work is run as ``python -m xprnn.bench.MODULE LIBRARY CELL CASE PLACE THREADS SECONDS``,
which is `serve`: it times one library in this process and prints the seconds as JSON.  The peers'
work is in ``xprnn.bench.peers.LIBRARY_MODULE``.
"""

import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from xprnn.backend.host.memory import keep_freed_memory
from xprnn.bench.process import hold_to, measure, result_of

PEERS = ("torch", "jax")
LOWERING = "XPRNN_LOWERING"
LOWERINGS = ("off", "numpy", "numba", "on")
ON_DEVICE = ("cupy", "cuda")

CaseT_contra = TypeVar("CaseT_contra", contravariant=True)


class Prepare(Protocol[CaseT_contra]):
    """Makes the work of one cell at one shape; PLACE is xprnn's backend or a peer's device."""

    def __call__(
        self, cell: str, case: CaseT_contra, place: str, threads: int, /
    ) -> Callable[[], Any]:
        """Return the work: one call of it is what is timed."""
        ...


class Setting(NamedTuple):
    """How to time.

    Attributes
    ----------
    threads : int
        Every process is held to as many cores, and its thread pools to as many threads.
    backend : str
        Xprnn's; with ``"cupy"`` the peers compute on the GPU, too.
    lowering : str, optional
        What the environment variable ``XPRNN_LOWERING`` is for xprnn's processes; None: as it is.
    seconds : float
        How long a process measures, after warm-up; at least nine calls.
    rounds : int
        How often every library has its turn.
    """

    threads: int
    backend: str = "numpy"
    lowering: str | None = None
    seconds: float = 1.0
    rounds: int = 2

    @property
    def device(self) -> str:
        """Where the peers compute."""
        return "cuda" if self.backend == "cupy" else "cpu"

    def variables(self, library: str) -> dict[str, str]:
        """Return what is set in the environment of a library's process."""
        return {LOWERING: self.lowering} if self.lowering and library == "xprnn" else {}


class TimeRow(NamedTuple):
    """One cell at one shape.

    Attributes
    ----------
    cell, case : str
    ours : float
        Seconds.
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


def compare(
    module: str, cells: Sequence[str], cases: Sequence[str], peers: Sequence[str], setting: Setting
) -> Iterator[TimeRow]:
    """Time, one row after the other.

    Every library has a process of its own in each round, and rounds take turns: xprnn, its peers,
    xprnn, its peers.  Of a library's medians the smallest counts, since what disturbs a machine
    only ever adds time.

    Parameters
    ----------
    module : str
        Of this package: ``"layer"`` or ``"training"``.
    cells, cases : sequence of str
    peers : sequence of str
        Of `PEERS`, all installed.
    setting : Setting

    Raises
    ------
    RuntimeError
        If a process fails; the message has its last words.
    """
    for cell in cells:
        for case in cases:
            times: dict[str, list[float]] = {}
            for _ in range(setting.rounds):
                for library in ("xprnn", *peers):
                    seconds = seconds_in(module, library, cell, case, setting)
                    times.setdefault(library, []).append(seconds)
            best = {library: min(each) for library, each in times.items()}
            ours = best.pop("xprnn")
            ratio = ours / min(best.values()) if best else None
            yield TimeRow(cell, case, ours, best, ratio)


def seconds_in(module: str, library: str, cell: str, case: str, setting: Setting) -> float:
    """Return the median seconds of one library's work, in a process of its own."""
    place = setting.backend if library == "xprnn" else setting.device
    words = (library, cell, case, place, setting.threads, setting.seconds)
    found = result_of(
        f"xprnn.bench.{module}",
        *words,
        what=f"timing {library} ({cell}, {case})",
        threads=setting.threads,
        **setting.variables(library),
    )
    return float(found)


def serve(
    module: str,
    ours: Prepare[CaseT_contra],
    cases: Mapping[str, CaseT_contra],
    words: Sequence[str],
) -> None:
    """Time one library in this process, and print the seconds."""
    library, cell, case, place, threads, seconds = words
    if place not in ON_DEVICE:
        hold_to(int(threads))
    keep_freed_memory()  # for all libraries alike, as the command line does
    prepare: Prepare[CaseT_contra] = ours if library == "xprnn" else peer(library, module).prepare
    work = prepare(cell, cases[case], place, int(threads))
    print(json.dumps(measure(work, float(seconds))), file=sys.stdout)  # noqa: T201


def peer(library: str, module: str) -> Any:
    """Return the module that has a peer's work."""
    return importlib.import_module(f"xprnn.bench.peers.{library}_{module}")


def lowering_of(cells: Sequence[str], setting: Setting) -> dict[str, str]:
    """Return how xprnn runs cells in its processes, by cell, in the words of `explain_lowering`."""
    found: dict[str, str] = result_of(
        "xprnn.bench.timing",
        setting.backend,
        *cells,
        what=f"the lowering of {setting.backend}",
        threads=setting.threads,
        **setting.variables("xprnn"),
    )
    return found


if __name__ == "__main__":
    from xprnn.engine.loop.lowering import explain_lowering

    backend, *names = sys.argv[1:]
    print(json.dumps({name: explain_lowering(name, backend) for name in names}))  # noqa: T201
