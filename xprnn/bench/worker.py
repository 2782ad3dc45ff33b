"""A process that times one library at whatever cell and shape it is asked for, one after another.

`xprnn.bench.timing.compare` has a new process for every figure, which on a device costs more than
the figure: loading a library, opening a device and compiling take seconds.  Workers of several
libraries can take turns in the same way.

``python -m xprnn.bench.worker MODULE LIBRARY PLACE THREADS SECONDS`` reads a line of JSON
for each figure, ``{"cell": ..., "case": {...}, "precision": ...}``, and answers with a line,
``{"seconds": ...}`` or ``{"error": ...}``.
"""

import importlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any, NamedTuple, Self

from xprnn.bench.process import environment
from xprnn.bench.timing import Setting, Work, begin, measure


class Worker:
    """The process of a library, to be used in a ``with`` block, which ends it.

    Parameters
    ----------
    module : str
        ``"layer"`` or ``"training"``.
    library : str
        ``"xprnn"``, or one of `xprnn.bench.timing.PEERS`.
    setting : Setting
        Without its rounds, which are the caller's.
    place : str, optional
        Where the library computes; None: as the setting says.
    variables : mapping of str, optional
        Further environment variables of the process.
    """

    def __init__(
        self,
        module: str,
        library: str,
        setting: Setting,
        place: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.library = library
        place = setting.place(library) if place is None else place
        self.precision, threads = setting.precision, setting.threads
        words = (module, library, place, threads, setting.seconds)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "xprnn.bench.worker", *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(threads, **setting.variables(library), **(variables or {})),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def seconds(self, cell: str, case: Any, precision: str | None = None) -> float:
        """Return the median seconds of the library's work.

        Parameters
        ----------
        cell : str
        case : LayerCase or TrainingCase
            Any shape, with a name or without.
        precision : str, optional
            Another one than the setting's, which xprnn on CuPy would not heed: there it is set in
            the environment.

        Raises
        ------
        RuntimeError
            If the work fails, with the error in a line; the worker can be asked again.  If the
            process has ended.
        """
        what = f"timing {self.library} ({cell}, {', '.join(map(str, case))})"
        asked = {"cell": cell, "case": case._asdict(), "precision": precision or self.precision}
        sent, received = self._process.stdin, self._process.stdout
        assert sent is not None
        assert received is not None
        try:
            print(json.dumps(asked), file=sent, flush=True)
            line = received.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"{what} failed: the process has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{what} failed: {answer['error']}")
        return float(answer["seconds"])


class _Order(NamedTuple):
    """What a worker is told when it starts."""

    module: str
    library: str
    place: str
    threads: int
    seconds: float


def serve(words: Sequence[str], asked: IO[str], answered: IO[str]) -> None:
    """Answer every line of ``asked`` until there are no more."""
    module, library, place, threads, seconds = words
    order = _Order(module, library, place, int(threads), float(seconds))
    work: Work = importlib.import_module(f"xprnn.bench.{module}").WORK
    begin(order.place, order.threads)
    for line in asked:
        print(json.dumps(_answer(work, order, json.loads(line))), file=answered, flush=True)


def _answer(work: Work, order: _Order, question: dict[str, Any]) -> dict[str, Any]:
    try:
        shape: Any = type(next(iter(work.cases.values())))
        case, precision = shape(**question["case"]), question["precision"]
        call = work.prepare(
            order.library, question["cell"], case, order.place, order.threads, precision
        )
        return {"seconds": measure(call, order.seconds)}
    except Exception as error:
        # One shape that does not fit into memory must not cost the others.
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


if __name__ == "__main__":
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    serve(sys.argv[1:], sys.stdin, answers)
