"""Compiled loops in several threads, in processes that fork, and their products by themselves."""

import os
import threading
from itertools import product

import numpy as np
import pytest

from tests.process import run_python
from tests.step_products import compare_products, multiplier
from tests.time_loops import Problem
from xprnn import RNN
from xprnn.backend.host import workers
from xprnn.backend.host.workers import Workers
from xprnn.cells import GRU, LSTM, Elman
from xprnn.engine.loop.loop import run_backward_keeping
from xprnn.engine.loop.lowering import lowerings_of

pytestmark = pytest.mark.slow

numba = pytest.importorskip("numba")

from xprnn.backend.numba import addresses, tiles  # noqa: E402
from xprnn.engine.loop.numba import loops, team  # noqa: E402
from xprnn.engine.loop.numba.parts import GROUP  # noqa: E402


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    monkeypatch.setenv("XPRNN_LOWERING", "numba")


@pytest.fixture(params=["units", "sequences"])
def threads(request, monkeypatch):
    """Return a function that sets the number of threads of a loop, however little it has to do."""
    monkeypatch.setattr(team, "START", 1)
    monkeypatch.setattr(team, "MEETING", 1)
    # Threads own sequences where U fits into each core's cache.
    monkeypatch.setattr(team, "OWN_CACHE", 0 if request.param == "units" else np.inf)
    monkeypatch.setattr(team, "WORKERS", Workers())
    return lambda count: monkeypatch.setattr(team, "compute_threads", lambda: count)


def bits(problem):
    there, back = problem.chosen(problem.dh)
    arrays = (*there.states, *there.saved, back.du, back.da, *back.units, *back.state)
    given = problem.backend, problem.cell, problem.recurrent, there, problem.dh, problem.d_state
    return [a.tobytes() for a in (*arrays, run_backward_keeping(*given)[1])]


def shares(steps, batch, hidden, dtype="float64"):
    U = np.empty((hidden, hidden), dtype)
    return team.shares(steps, batch, U, tiles.lanes(U.itemsize))


THREADED = [
    (LSTM(peepholes=True), 27, "float64"),
    (GRU(), 32, "float64"),
    (LSTM(), 40, "float32"),
    (Elman(), 17, "float32"),
]


@pytest.mark.parametrize(("cell", "batch", "dtype"), THREADED)
def test_the_same_bits_however_many_threads(cell, batch, dtype, threads):
    tolerance = 1e-12 if dtype == "float64" else 4e-6
    lengths = (6, 2, 5, 0, 3, 1, *[6] * (batch - 6))
    problem = Problem(cell, 6, batch, 70, dtype, masked=True, lengths=lengths, tolerance=tolerance)
    threads(1)
    want = bits(problem)
    for count in (2, 3):
        threads(count)
        assert len(shares(6, batch, 70, dtype)) == count
        assert bits(problem) == want
    problem.compare(problem.dh)


def test_the_shares_cover_everything_once(threads):
    for hidden, batch, count in product(
        (1, 7, 8, 9, 70, 1000), (1, 8, 9, 24, 100), (1, 2, 3, 7, 100)
    ):
        threads(count)
        found = shares(1000, batch, hidden)
        owned = np.zeros((hidden, batch), int)
        for share in found:
            owned[share.first : share.last, share.start : share.stop] += 1
            assert share.first % tiles.lanes(8) == share.start % GROUP == 0
            assert share.first < share.last
            assert share.start < share.stop
        assert np.all(owned == 1)
        assert len(found) <= count


def test_little_work_is_not_shared(monkeypatch):
    monkeypatch.setattr(team, "compute_threads", lambda: 4)
    assert shares(10, 4, 32) == [(0, 32, 0, 4)]
    assert len(shares(1000, 64, 256)) == 4


def test_two_python_threads_share_one_team(threads):
    threads(2)
    problems = [Problem(GRU(), 40, 17, 32, seed=seed) for seed in range(2)]
    wanted = [bits(problem) for problem in problems]
    faults = []

    def work(problem, want):
        faults.extend(problem.seed for _ in range(15) if bits(problem) != want)

    workers = [
        threading.Thread(target=work, args=pair)
        for pair in [*zip(problems, wanted, strict=True)] * 2
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers)
    assert not faults


def test_threads_that_are_interrupted_do_not_wait_for_ever(threads, monkeypatch):
    threads(3)
    problem = Problem(Elman(), 30, 24, 70)
    want = bits(problem)
    begin = workers._Worker.begin

    def interrupted(worker, job):
        begin(worker, job)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(workers._Worker, "begin", interrupted)
        with pytest.raises(KeyboardInterrupt):
            problem.chosen(problem.dh)
    assert bits(problem) == want


def test_where_no_thread_can_be_started_there_is_one(threads, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    problem = Problem(Elman(), 30, 24, 70)
    threads(1)
    want = bits(problem)
    threads(3)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert bits(problem) == want
    assert team.WORKERS.size == 0
    assert bits(problem) == want
    assert team.WORKERS.size == 2


SETUP = """
import atexit, os, warnings
import numpy as np
import xprnn
from xprnn.engine.loop.numba import team  # noqa: E402

team.START = team.MEETING = 1
team.OWN_CACHE = 0
team.compute_threads = lambda: 2
net = xprnn.RNN(1, 32, 1, cell="gru", dtype="float64", rng=0)
x = np.ones((5, 3, 1))
bits = lambda: net.value_and_grad(x, x)[1].parameters["weight_hh_l0"].tobytes()
want = bits()
assert team.WORKERS.size
"""

FORKED = """
# From 3.12 on, Python warns of a fork in a process with threads.
warnings.simplefilter("ignore")
child = os.fork()
if not child:
    os._exit(0 if bits() == want else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), bits() == want)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_that_forks_and_ends():
    # At the end no thread can be started, nor given anything to do.
    at_exit = "atexit.register(lambda: print(bits() == want))\n"
    assert run_python(SETUP + at_exit + FORKED) == "0 True\nTrue\n"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_product_of_a_step(dtype):
    compare_products(dtype, multiplier(dtype, addresses.loop_table(dtype)))


def test_how_one_thread_calls_a_loop_is_kept_for_a_few_shapes(monkeypatch):
    net = RNN(2, 3, cell="gru", rng=0)
    kept = lowerings_of(net.backend, net.cell)[0]._alone
    kept.clear()
    monkeypatch.setattr(loops, "_MOST_ALONE", 4)
    xs = [np.ones((steps, 1, 2), "float32") for steps in (1, 2, 3, 4, 5, 6, 1)]
    outputs = [net(x)[0] for x in xs]
    assert 0 < len(kept) <= 4
    kept.clear()
    again = [net(x)[0] for x in reversed(xs)]
    for a, b in zip(outputs, reversed(again), strict=True):
        assert np.array_equal(a, b)
    # Where several threads may share the work, their number is asked for at every call.
    kept.clear()
    monkeypatch.setattr(team, "START", 1)
    net(xs[3])
    assert not kept
