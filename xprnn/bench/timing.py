"""Timing the same work in several libraries, which take turns.

Two modules have work to time, `xprnn.bench.layer` and `xprnn.bench.training`: their `WORK`.
``python -m`` one of them, with ``LIBRARY CELL CASE PLACE THREADS SECONDS PRECISION``, times one
library in that process and prints the seconds as JSON: `time_and_print`.  `compare` starts these
processes.
"""

import importlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from xprnn.backend.host.arrays import np
from xprnn.backend.host.memory import keep_freed_memory
from xprnn.backend.numba import VARIABLE
from xprnn.bench.isa import isa_variables
from xprnn.bench.process import hold_to, result_of

CELLS = ("elman", "gru", "lstm")
"""The cells that every library has."""
PEERS = ("torch", "jax")
ON_DEVICE = ("cupy", "cuda")
"""The places that are not the CPU."""
PRECISIONS = ("float32", "tf32", "float16", "bfloat16")
"""float32 with products in float32, with products in TF32 (on a GPU), and all arrays in 16 bits.

They are asked for by name on every side, because libraries differ in what they do by default."""
MINIMUM_CALLS = 9

CaseT_contra = TypeVar("CaseT_contra", contravariant=True)


class Prepare(Protocol[CaseT_contra]):
    """A function that prepares the work of one cell at one shape, before anything is timed."""

    def __call__(
        self, cell: str, case: CaseT_contra, place: str, threads: int, precision: str, /
    ) -> Callable[[], Any]:
        """Return the work; one call of it is what is timed.

        Parameters
        ----------
        cell : str
        case : LayerCase or TrainingCase
        place : str
            For xprnn the name of its backend, for other libraries ``"cpu"`` or ``"cuda"``.
        threads : int
        precision : str
            One of `PRECISIONS`.
        """
        ...


class Work(NamedTuple):
    """What a module has to time.

    Attributes
    ----------
    module : str
        Its name in this package; the work in another library is in ``peers.LIBRARY_MODULE``.
    ours : Prepare
        Prepares the work in xprnn.
    cases : mapping of str to case
        Shapes by name.
    """

    module: str
    ours: Prepare[Any]
    cases: Mapping[str, Any]

    def prepare(
        self, library: str, cell: str, case: Any, place: str, threads: int, precision: str
    ) -> Callable[[], Any]:
        """Return the work of a library, ready to be timed in this process."""
        prepare = self.ours if library == "xprnn" else peer(library, self.module).prepare
        work: Callable[[], Any] = prepare(cell, case, place, threads, precision)
        return work


class Setting(NamedTuple):
    """How to time.

    Attributes
    ----------
    threads : int
        The number of cores that every process may use, and of threads in its thread pools.
    backend : str
        The backend of xprnn; with ``"cupy"`` the other libraries compute on the GPU, too.
    lowering : str, optional
        The value of the environment variable ``XPRNN_LOWERING`` in the processes of xprnn; None:
        as in this process.
    seconds : float
        How long a process measures, after warm-up; it makes at least nine calls.
    rounds : int
        The number of turns of every library.
    precision : str
        One of `PRECISIONS`.
    isa : str, optional
        The instructions that every process is kept to, a name of `xprnn.bench.isa.ISAS`; None: all
        that the processor has.
    """

    threads: int
    backend: str = "numpy"
    lowering: str | None = None
    seconds: float = 1.0
    rounds: int = 2
    precision: str = "float32"
    isa: str | None = None

    def place(self, library: str) -> str:
        """Return where a library computes, in the words of `Prepare`."""
        if library == "xprnn":
            return self.backend
        return "cuda" if self.backend == "cupy" else "cpu"

    def variables(self, library: str) -> dict[str, str]:
        """Return the environment variables that are set for a library's process."""
        found = isa_variables(self.isa)
        if library != "xprnn":
            return found
        if self.lowering:
            found[VARIABLE] = self.lowering
        if self.backend == "cupy":
            # CuPy's own switch, for every product in and around the time loop.
            found["CUPY_TF32"] = "1" if self.precision == "tf32" else "0"
        return found


class TimeRow(NamedTuple):
    """The times of one cell at one shape.

    Attributes
    ----------
    cell, case : str
    ours : float
        Seconds that xprnn takes.
    peers : dict of float
        Seconds that the other libraries take, by name.
    ratio : float or None
        The time of xprnn over that of the fastest other library: below 1 xprnn is faster.  None
        without other libraries.
    """

    cell: str
    case: str
    ours: float
    peers: dict[str, float]
    ratio: float | None


def compare(
    module: str, cells: Sequence[str], cases: Sequence[str], peers: Sequence[str], setting: Setting
) -> Iterator[TimeRow]:
    """Time every cell at every shape in every library, one row after the other.

    Every library has a new process in each round, and the libraries take turns: xprnn, its peers,
    xprnn, its peers.  The smallest of a library's medians counts, because whatever else runs on a
    machine only ever adds time.

    Parameters
    ----------
    module : str
        A module of this package that has work to time: ``"layer"`` or ``"training"``.
    cells, cases : sequence of str
    peers : sequence of str
        The other libraries, from `PEERS`; all must be installed.
    setting : Setting

    Raises
    ------
    RuntimeError
        If a process fails; the message has the last line that it wrote to stderr.
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
    """Return the median seconds of one library's work, timed in a new process."""
    place = setting.place(library)
    words = (library, cell, case, place, setting.threads, setting.seconds, setting.precision)
    found = result_of(
        f"xprnn.bench.{module}",
        *words,
        what=f"timing {library} ({cell}, {case})",
        threads=setting.threads,
        **setting.variables(library),
    )
    return float(found)


def time_and_print(work: Work, words: Sequence[str]) -> None:
    """Time one library in this process, and print the seconds.

    Parameters
    ----------
    work : Work
    words : sequence of str
        The arguments of the process.
    """
    library, cell, case, place, threads, seconds, precision = words
    begin(place, int(threads))
    call = work.prepare(library, cell, work.cases[case], place, int(threads), precision)
    print(json.dumps(measure(call, float(seconds))))  # noqa: T201


def begin(place: str, threads: int) -> None:
    """Make a process ready to time work at a place."""
    if place not in ON_DEVICE:
        hold_to(threads)
    keep_freed_memory()  # for every library, because the command line does it, too


def peer(library: str, module: str) -> Any:
    """Return the module with another library's work; its function `prepare` is a `Prepare`."""
    return importlib.import_module(f"xprnn.bench.peers.{library}_{module}")


def measure(work: Callable[[], object], seconds: float) -> float:
    """Return the median time of a call, from as many as fit into some seconds, after warm-up."""
    started = time.perf_counter()
    calls = 0
    while calls < 3 or (time.perf_counter() - started < 0.3 * seconds and calls < 1000):
        work()
        calls += 1
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < MINIMUM_CALLS or time.perf_counter() - started < seconds:
        times.append(seconds_of(work))
    return float(np.median(times))


def seconds_of(work: Callable[[], object]) -> float:
    """Return the time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
