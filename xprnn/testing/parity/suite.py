"""Small problems that together use all of the network, for every cell on every backend."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from xprnn.backend import Backend
from xprnn.backend.host.arrays import generator
from xprnn.cells import Cell
from xprnn.engine.network import RNN
from xprnn.testing.parity.check import DTYPES, assert_parity
from xprnn.testing.parity.report import ParityError, ParityReport

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
) -> Iterator[Result]:
    """Run `assert_parity` for every cell on every problem, and yield the results.

    Parameters
    ----------
    cells : mapping of str to Cell
    backends : sequence of Backend
        Compared with NumPy.
    sizes : Sizes
    dtypes : sequence of {"float64", "float32"}
    steps : int
        The number of updates in the training.
    seed : int
        The seed of weights and data.
    """
    for name, cell in cells.items():
        for problem, (network, options) in _problems(cell, sizes, steps, seed).items():
            make_net = partial(_make_net, network)
            try:
                report = assert_parity(make_net, backends=backends, dtypes=dtypes, **options)
            except ParityError as error:
                report = error.report
            yield Result(name, problem, report)


def _make_net(options: dict[str, Any], backend: Backend) -> RNN:
    return RNN(**options, backend=backend)


def _problems(
    cell: Cell, sizes: Sizes, steps: int, seed: int
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return the arguments of `RNN` and those of `assert_parity`, by the problem's name."""
    T, B, I, H, O = sizes  # noqa: E741
    rng = generator(seed)
    network = {"input_size": I, "hidden_size": H, "output_size": O, "cell": cell, "rng": seed}
    numbers = {
        "x": rng.normal(size=(T, B, I)),
        "state": [rng.normal(size=(1, B, H)) for _ in cell.state],
        "steps": steps,
        "rng": seed,
    }
    # "numbers" has the training, which takes most of the time, and "tokens" all that "numbers" has
    # not.  Of one class the probability is one, and the gradient zero: so there are at least two.
    more = network | {"output_size": max(2, O), "layers": 2, "bidirectional": True, "dropout": 0.2}
    tokens = {
        "x": rng.integers(0, I, size=(T, B)),
        "loss": "cross_entropy",
        "lengths": rng.integers(1, T + 1, size=B).tolist(),
        "window": 2,
        "steps": 0,
        "rng": seed,
    }
    return dict(zip(PROBLEMS, ((network, numbers), (more, tokens)), strict=True))
