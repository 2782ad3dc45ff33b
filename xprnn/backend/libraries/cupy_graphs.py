"""Time loops as CUDA graphs on CuPy: captured once, then launched by one call.

A graph is bound to the addresses that it was captured with.  So it has arrays of its own: what a
loop is given is copied into them, and what it has made is copied out, which takes as long as a
launch or two and a pass over the tape.  A graph serves every loop of the same kernels and shapes.
Loops that hold more for each step than a launch is worth are launched step by step.

CuPy refuses cuBLAS while a stream is being captured, so products go through a handle of our own
(`xprnn.backend.libraries.cupy_blas`).  Loops that are fit for a graph always use it, captured or
not, and with one workspace, so that cuBLAS chooses the same algorithms and the bits don't depend on
which call it is.
"""

import importlib
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from xprnn.backend.kernels import StepLaunch, StepProduct
from xprnn.backend.libraries.cupy_blas import Blas
from xprnn.backend.libraries.cupy_products import cupys_gemm, prepared, tf32_wanted
from xprnn.backend.types import Array

VARIABLE = "XPRNN_CUDA_GRAPH"
WORDS = ("on", "off")

FEWEST = 8
"""Steps below which a graph saves nothing."""
WORTH = 8 * 2**20
"""Bytes that a loop's arrays may hold for each step: copying them takes what two launches take.

An estimate for 3 TB/s; not yet measured."""
MOST = 2**30
"""Bytes that the arrays of all graphs of a stream may hold."""
KEPT = 16
"""Graphs of a stream; the one that was not used for longest goes first."""
REMEMBERED = 128
"""Kinds of loops that were seen once."""

_OF_EACH_THREAD = 2
"""The address by which every thread means a default stream of its own."""

_log = logging.getLogger("xprnn")
Calls = Sequence[StepProduct | StepLaunch]
_Place: TypeAlias = tuple[int, tuple[int, ...], str]
"""An array: its address, shape and dtype."""


def graph_word() -> str:
    """Return the value of the environment variable ``XPRNN_CUDA_GRAPH``, by default ``on``.

    Raises
    ------
    ValueError
        If it is neither ``on`` nor ``off``.
    """
    word = os.environ.get(VARIABLE, "on")
    if word not in WORDS:
        raise ValueError(f"{VARIABLE} is {word!r}: expected one of {', '.join(map(repr, WORDS))}")
    return word


def repeat(steps: range, calls: Calls, given: Sequence[Array], made: Sequence[Array]) -> None:
    """Make these calls at each of these steps: see `xprnn.backend.kernels.Kernels.repeat`."""
    if graph_word() == "on" and len(steps) >= FEWEST:
        graphs = graphs_here()
        if graphs is not None and graphs.run(steps, calls, given, made):
            return
    make(steps, calls, cupys_gemm)


def make(steps: range, calls: Calls, gemm: Callable[[], Any]) -> None:
    """Make the calls one after the other; ``gemm`` is asked for if there is a product."""
    functions = [
        prepared(call, gemm()) if isinstance(call, StepProduct) else _launching(call)
        for call in calls
    ]
    if len(functions) == 2:
        first, second = functions
        for t in steps:
            first(t)
            second(t)
        return
    for t in steps:
        for function in functions:
            function(t)


def _launching(call: StepLaunch) -> Callable[[int], object]:
    launch, grid, block, arguments = call
    return lambda t: launch(grid, block, (t, *arguments))


class Refusal:
    """Whether graphs have been refused in this process, which is said once."""

    def __init__(self) -> None:
        self.reason = ""

    def because(self, error: Exception) -> None:
        if not self.reason:
            self.reason = f"{type(error).__name__}: {error}"
            _log.warning(
                "CUDA graphs are not used, time loops are launched step by step: %s", self.reason
            )


refusal = Refusal()


def graphs_here() -> "Graphs | None":
    """Return the graphs of the current device and stream; None if they have been refused."""
    if refusal.reason:
        return None
    cuda = importlib.import_module("cupy").cuda
    try:
        stream = cuda.get_current_stream().ptr
        thread = threading.get_ident() if stream == _OF_EACH_THREAD else 0
        return _graphs(cuda.Device().id, stream, thread)
    except Exception as error:
        refusal.because(error)
        return None


@cache
def _graphs(device: int, stream: int, thread: int) -> "Graphs":
    del device, thread  # the current ones
    return Graphs(Blas(stream), stream)


class Captured(NamedTuple):
    """A graph, with arrays of its own.

    Attributes
    ----------
    graph : object
    given : list of (int, array, int)
        Which of the arrays that the loop is given, where it is copied to, how many rows.
    made : list of array
        What is copied out, in the order in which the loop wants it.
    arrays : tuple of array
        All that the graph reads and writes, its scratch included, so that it stays.
    held : int
        Their bytes.
    """

    graph: Any
    given: list[tuple[int, Array, int]]
    made: list[Array]
    arrays: tuple[Array, ...]
    held: int

    def run(self, given: Sequence[Array], made: Sequence[Array]) -> None:
        """Copy in, launch, copy out."""
        copyto = importlib.import_module("cupy").copyto
        for which, twin, rows in self.given:
            copyto(twin, given[which][:rows])
        self.graph.launch()
        for array, twin in zip(made, self.made, strict=True):
            copyto(array, twin)


class Graphs:
    """The graphs that are launched in one stream of a device.

    Parameters
    ----------
    blas : Blas
        With a workspace of its own, because graphs of two streams may run at the same time.
    stream : int
        Its address.
    """

    def __init__(self, blas: Blas, stream: int) -> None:
        self.blas, self.stream = blas, stream
        self.captures = self.launches = 0
        self._lock = threading.Lock()
        self._seen = OrderedDict[Hashable, None]()
        self._captured = OrderedDict[Hashable, Captured]()

    def run(
        self, steps: range, calls: Calls, given: Sequence[Array], made: Sequence[Array]
    ) -> bool:
        """Make the calls, or launch their graph; False if they are not fit for one, or refused."""
        arrays = _arrays_of(calls)
        held = sum(a.nbytes for a in arrays.values())
        if held > MOST or held > WORTH * len(steps):
            return False
        key = (steps, tf32_wanted(), *_identity(calls, arrays))
        with self._lock:
            found = self._captured.get(key)
            if found is None and (key not in self._seen or self._wasteful):
                self._seen[key] = None
                while len(self._seen) > REMEMBERED:
                    self._seen.popitem(last=False)
                # This compiles kernels, and loads what cuBLAS needs, before any capture.  An error
                # is the caller's: a loop that was begun can't be run again from the start.
                make(steps, calls, self.blas.gemm)
                return True
            if found is None:
                try:
                    found = self._capture(steps, calls, arrays, given, made)
                except Exception as error:
                    refusal.because(error)
                    return False
                self._captured[key] = found
                while (
                    len(self._captured) > KEPT
                    or sum(each.held for each in self._captured.values()) > MOST
                ):
                    self._captured.popitem(last=False)
            self._captured.move_to_end(key)
            found.run(given, made)
            self.launches += 1
            return True

    @property
    def _wasteful(self) -> bool:
        """Whether the graphs so far were launched too seldom to be worth their capture."""
        return self.captures >= KEPT and self.launches < 8 * self.captures

    def _capture(
        self,
        steps: range,
        calls: Calls,
        arrays: dict[_Place, Array],
        given: Sequence[Array],
        made: Sequence[Array],
    ) -> Captured:
        """Return the graph of the calls, none of which is made."""
        cupy = importlib.import_module("cupy")
        twins = {place: cupy.empty(a.shape, dtype=a.dtype) for place, a in arrays.items()}
        copied = []
        for place, twin in twins.items():
            # The whole array, or else its first rows.
            same = [k for k, a in enumerate(given) if _place(a) == place]
            same += [k for k, a in enumerate(given) if _begins(a, place)]
            if same:
                rows = min(given[same[0]].shape[0], twin.shape[0])
                copied.append((same[0], twin[:rows], rows))
        wanted = [twins[_place(a)] for a in made]
        replaced = [_replaced(call, twins) for call in calls]
        # The default stream can't be captured; a graph may be launched in any.
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            try:
                self.blas.use(stream.ptr)
                make(steps, replaced, self.blas.gemm)
            finally:
                # Also after an error, or the thread could capture nothing any more.
                graph = stream.end_capture()
                self.blas.use(self.stream)
        self.captures += 1
        held = sum(twin.nbytes for twin in twins.values())
        return Captured(graph, copied, wanted, tuple(twins.values()), held)


def _place(a: Array) -> _Place:
    return a.data.ptr, a.shape, str(a.dtype)


def _begins(a: Array, place: _Place) -> bool:
    """Return whether an array begins where another does, with rows of the same size."""
    address, shape, dtype = place
    return (a.data.ptr, a.shape[1:], str(a.dtype)) == (address, shape[1:], dtype)


def _arrays_of(calls: Calls) -> dict[_Place, Array]:
    """Return the arrays of all calls, each once."""
    found: dict[_Place, Array] = {}
    for call in calls:
        if isinstance(call, StepProduct):
            each: Sequence[Any] = (call.a, call.b, call.out)
        else:
            each = [a for a in call.arguments if not isinstance(a, int | float)]
        found |= {_place(a): a for a in each}
    return found


def _identity(calls: Calls, arrays: dict[_Place, Array]) -> Iterator[Hashable]:
    """Yield what determines the work of calls, up to the addresses: a graph has its own."""
    number = {place: k for k, place in enumerate(arrays)}
    for _, shape, dtype in arrays:
        yield shape, dtype
    for call in calls:
        if isinstance(call, StepProduct):
            places = (number[_place(a)] for a in (call.a, call.b, call.out))
            yield (*places, call.transposed, call.tf32)
        else:
            yield (
                *(call.launch, call.grid, call.block),
                *(
                    a if isinstance(a, int | float) else ("array", number[_place(a)])
                    for a in call.arguments
                ),
            )


def _replaced(
    call: StepProduct | StepLaunch, twins: dict[_Place, Array]
) -> StepProduct | StepLaunch:
    """Return a call with other arrays."""
    if isinstance(call, StepProduct):
        a, b, out = (twins[_place(each)] for each in (call.a, call.b, call.out))
        return call._replace(a=a, b=b, out=out)
    arguments = (a if isinstance(a, int | float) else twins[_place(a)] for a in call.arguments)
    return call._replace(arguments=tuple(arguments))
