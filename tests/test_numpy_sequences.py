"""Time loops in NumPy calls whose sequences threads share."""

import numpy as np
import pytest

from tests.cases import row_of
from tests.odd_cells import Holding, Patchwork
from tests.time_loops import Problem
from xprnn.backend.host import tuning
from xprnn.cells import GRU, GRUResetBefore
from xprnn.engine.loop.numpy import sequences
from xprnn.engine.loop.numpy.loops import NumPyLoops
from xprnn.engine.loop.traced import formulas_of

CELLS = (GRU(), row_of("lstm-peepholes").cell, GRUResetBefore(), Patchwork(), Holding())
each_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: type(cell).__name__)
each_kind = pytest.mark.parametrize(
    "given", [{}, {"masked": True}, {"lengths": (5, 2, 0, 3, 4)}], ids=["", "mask", "lengths"]
)


@pytest.fixture
def cut(monkeypatch):
    """Cut every batch of two sequences and more."""
    monkeypatch.setattr(tuning, "LOOP_SHARED", 0)
    monkeypatch.setattr(tuning, "LOOP_ROWS", 1)
    sequences.parts.cache_clear()
    yield
    sequences.parts.cache_clear()


def loops_of(cell):
    return NumPyLoops(formulas_of(cell))


def arrays_of(there, back):
    """Return the bytes of all results."""
    found = (*there.states, *there.saved, back.du, back.da, *back.units, *back.state)
    return [a.tobytes() for a in found]


@pytest.mark.usefixtures("cut")
@each_kind
@each_cell
def test_the_same_as_the_plain_loop_and_for_every_number_of_threads(cell, given, monkeypatch):
    problem, results, shares = Problem(cell, batch=5, **given), [], []

    def counted(work, numbers):
        shares.append(len(numbers))
        threads_share(work, numbers)

    threads_share = sequences.share
    monkeypatch.setattr(sequences, "share", counted)
    for count in (1, 2, 3):
        monkeypatch.setattr(sequences, "compute_threads", lambda count=count: count)
        found = problem.passes(loops_of(cell), problem.dh)
        problem.compare_passes(found, problem.plain(problem.dh))
        results.append(arrays_of(*found))
    assert results[0] == results[1] == results[2]
    assert shares == [2, 2, 3, 3]


def test_an_error_reaches_the_caller_and_its_settings_reach_the_threads(monkeypatch):
    monkeypatch.setattr(sequences, "compute_threads", lambda: 2)
    largest = np.full(2, 3e38, "float32")

    def square(part):
        return largest[part] * largest[part]

    parts = slice(0, 1), slice(1, 2)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        sequences.of_each(square, (slice(0, 0), parts[1]))
    with np.errstate(over="ignore"):
        assert np.isinf(sequences.of_each(square, parts)).all()


def test_how_a_batch_is_cut():
    def count(batch, hidden, itemsize=4):
        return len(sequences.parts(batch, 4 * hidden * hidden, itemsize))

    assert count(64, 256) == count(64, 512) == count(127, 256) == 2
    assert count(128, 256) == 4
    assert count(63, 256) == count(1, 4096) == count(64, 64) == 1
    assert count(64, 1024) == count(64, 1024, 8) == count(64, 768, 8) == 1
    covered = [n for part in sequences.parts(133, 2**20, 4) for n in range(133)[part]]
    assert covered == list(range(133))
