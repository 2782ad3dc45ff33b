"""Small problems that together use all of the network, for every cell on every backend."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from xprnn.backend import Backend, prefer
from xprnn.backend.host.arrays import generator
from xprnn.cells import Cell
from xprnn.engine.network import RNN
from xprnn.losses import get_loss
from xprnn.testing.parity.check import DTYPES, compare_backends, in_dtypes
from xprnn.testing.parity.functions import FunctionReport, check_functions
from xprnn.testing.parity.problem import Problem, place_of
from xprnn.testing.parity.report import ParityError, ParityReport
from xprnn.testing.parity.watch import Watch

PROBLEMS = ("numbers", "tokens")


class Sizes(NamedTuple):
    """Steps, sequences, inputs (or vocabulary), hidden units, outputs (or classes)."""

    T: int = 8
    B: int = 4
    I: int = 3  # noqa: E741
    H: int = 10
    O: int = 2  # noqa: E741


class Result(NamedTuple):
    """The result of one problem with one cell.

    Attributes
    ----------
    cell, problem : str
    report : ParityReport
    """

    cell: str
    problem: str
    report: ParityReport


def run_suite(
    cells: Mapping[str, Cell],
    backends: Sequence[Backend],
    sizes: Sizes,
    *,
    dtypes: Sequence[str] = DTYPES,
    steps: int = 100,
    seed: int = 0,
    watch: Watch | None = None,
    functions: dict[Backend, FunctionReport] | None = None,
) -> Iterator[Result]:
    """Compare the backends for every cell on every problem, and yield the results.

    Parameters
    ----------
    cells : mapping of str to Cell
    backends : sequence of Backend
        Compared with NumPy.
    sizes : Sizes
    dtypes : sequence of {"float64", "float32", "float16", "bfloat16"}
    steps : int
        The number of updates in the training; 0 for none.
    seed : int
        The seed of weights and data.
    watch : Watch, optional
        Is told every stage; its time limit holds for each problem on each backend in each dtype.
    functions : dict, optional
        The functions that have been compared before, by `compare_functions`.
    """
    watch, functions = watch or Watch(), {} if functions is None else functions
    for name, cell in cells.items():
        for problem, (network, options) in _problems(cell, sizes, steps, seed).items():
            told = Watch(partial(_tell, watch, f"{name}, {problem}"), watch.limit)
            data = Problem(
                partial(_make_net, network),
                options["x"],
                None,
                get_loss(options["loss"]),
                options["state"],
                options["lengths"],
                options["window"],
            )
            try:
                report = compare_backends(
                    data,
                    backends,
                    dtypes=dtypes,
                    steps=options["steps"],
                    rng=seed,
                    watch=told,
                    functions=functions,
                )
            except ParityError as error:
                report = error.report
            yield Result(name, problem, report)


def compare_functions(
    backends: Sequence[Backend], dtypes: Sequence[str], watch: Watch | None = None
) -> dict[Backend, FunctionReport]:
    """Compare each function of backends with NumPy, in each dtype that they have.

    A backend that can't be asked at all is left out: `run_suite` says why.
    """
    watch = watch or Watch()
    found: dict[Backend, FunctionReport] = {}
    for backend in (one for given in backends for one in in_dtypes(given, dtypes)):
        own = Watch(partial(_tell, watch, f"functions of {place_of(backend)}"), watch.limit)
        with prefer(backend.library), backend.library.quiet(), suppress(Exception):
            found[backend] = check_functions(backend, own.stage)
    return found


def _tell(watch: Watch, case: str, words: str) -> None:
    watch.tell(f"{case}, {words}")


def _make_net(options: dict[str, Any], backend: Backend) -> RNN:
    return RNN(**options, backend=backend)


def _problems(
    cell: Cell, sizes: Sizes, steps: int, seed: int
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return the arguments of `RNN` and the rest of the problem, by its name."""
    T, B, I, H, O = sizes  # noqa: E741
    rng = generator(seed)
    network = {"input_size": I, "hidden_size": H, "output_size": O, "cell": cell, "rng": seed}
    numbers = {
        "x": rng.normal(size=(T, B, I)),
        "state": tuple(rng.normal(size=(1, B, H)) for _ in cell.state),
        "loss": "squared_error",
        "lengths": None,
        "window": None,
        "steps": steps,
    }
    # "numbers" has the training, which takes most of the time, and "tokens" all that "numbers" has
    # not.  Of one class the probability is one, and the gradient zero: so there are at least two.
    more = network | {"output_size": max(2, O), "layers": 2, "bidirectional": True, "dropout": 0.2}
    tokens = {
        "x": rng.integers(0, I, size=(T, B)),
        "state": None,
        "loss": "cross_entropy",
        "lengths": rng.integers(1, T + 1, size=B).tolist(),
        "window": 2,
        "steps": 0,
    }
    return dict(zip(PROBLEMS, ((network, numbers), (more, tokens)), strict=True))
