"""Threads that wait for work: all jobs are done, errors arrive, and nobody waits for ever."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest

from tests.process import run_python
from xprnn.backend.host import workers
from xprnn.backend.host.workers import Trials, Workers


def watch(address: int, count: int) -> None:
    """Spin in Python, for a moment."""
    for _ in range(20):
        time.sleep(0)


@pytest.fixture(params=["sleep", "spin"])
def team(request):
    team = Workers()
    if request.param == "spin":
        team.use_spin(watch)
    yield team
    team.close()


def test_jobs_run_at_the_same_time_in_threads_of_their_own(team):
    for _ in range(200):
        names, meeting = set(), threading.Barrier(3)

        def job(names=names, meeting=meeting):
            meeting.wait(20)
            names.add(threading.current_thread().name)

        assert team.run([job] * 3)
        assert len(names) == 3
        assert threading.current_thread().name in names
    assert team.size == 2


def test_one_job_or_taken_threads_are_left_to_the_caller(team):
    done = []
    assert not team.run([lambda: done.append(1)])
    inner = []

    def nested():
        inner.append(team.run([lambda: done.append(2)] * 2))

    assert team.run([nested, nested])
    assert inner == [False, False]
    assert done == []


@pytest.mark.parametrize("first", [False, True])
def test_errors_arrive(team, first):
    def bad():
        raise ValueError("in a job")

    done = []
    jobs = [bad, lambda: done.append(1)]
    with pytest.raises(ValueError, match="in a job"):
        team.run(jobs if first else jobs[::-1])
    assert team.run([lambda: done.append(2)] * 2)
    # After an error of its own the caller does not wait for the others.
    started = time.monotonic()
    while len(done) < 3 and time.monotonic() - started < 20:
        time.sleep(0.001)
    assert sorted(done) == [1, 2, 2]
    assert team.size <= 2


def test_after_an_interrupt_the_thread_that_is_still_at_work_is_left_alone(team):
    go, done = threading.Event(), []

    def interrupted():
        raise KeyboardInterrupt

    def slow():
        go.wait(20)
        done.append("slow")

    with pytest.raises(KeyboardInterrupt):
        team.run([interrupted, slow])
    assert team.run([lambda: done.append("next")] * 2)
    assert done == ["next"] * 2
    assert team.size == 2
    go.set()
    team._workers[0]._done.acquire()
    team._workers[0]._done.release()
    assert team.run([lambda: done.append("last")] * 3)
    assert team.size == 2


def test_what_a_job_refers_to_is_free_when_it_is_done(team):
    a = np.zeros(4)
    seen = weakref.ref(a)

    def job(a=a):
        return a.sum()

    jobs = [job, job]
    del a, job
    assert team.run(jobs)
    del jobs
    gc.collect()
    assert seen() is None


def test_where_no_thread_can_be_started(team, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert not team.run([lambda: None] * 2)
    assert team.run([lambda: None] * 2)


def test_after_the_end_there_are_none(team):
    assert team.run([lambda: None] * 2)
    (thread,) = [worker.thread for worker in team._workers]
    team.close()
    assert not thread.is_alive()
    assert not team.run([lambda: None] * 2)


ENDS = """
import atexit, os, signal, threading, warnings
from xprnn.backend.host.workers import WORKERS
warnings.simplefilter("ignore")  # from 3.12 on, of a fork in a process with threads
done = []
job = lambda: done.append(1)
assert WORKERS.run([job, job])
if hasattr(os, "fork"):
    child = os.fork()
    if not child:
        signal.alarm(20)  # it would wait for threads that it does not have
        os._exit(0 if WORKERS.run([job, job]) and len(done) == 4 else 1)
    assert os.waitpid(child, 0)[1] == 0
def busy():
    while threading.main_thread().is_alive():
        WORKERS.run([job, job])
threading.Thread(target=busy).start()
print("end")
"""


def test_a_process_that_forks_and_ends():
    assert run_python(ENDS) == "end\n"


@pytest.mark.slow
def test_how_long_a_read_takes_is_not_told_by_the_first_ones(monkeypatch):
    pytest.importorskip("numba")
    from xprnn.backend.numba import waiting

    now, asked = [0.0], []

    def wait(address, count, reads, grace):
        asked.append(reads)
        now[0] += reads * (9e-9 if len(asked) == 1 else 1e-9)

    monkeypatch.setattr(waiting.time, "perf_counter", lambda: now[0])
    waiting.spin(wait)(0, 1)
    assert asked[-1] * 1e-9 == pytest.approx(waiting.SPIN, rel=1e-3)


@pytest.mark.slow
def test_spinning_ends_when_there_is_work_or_after_a_while():
    pytest.importorskip("numba")
    from xprnn.backend.numba import waiting

    spin = waiting.spin(waiting._compiled())
    counter = np.zeros(1, np.int64)
    started = time.perf_counter()
    spin(counter.ctypes.data, 1)
    assert time.perf_counter() - started < 5  # 60 µs on an idle machine
    counter[0] = 1
    spin(counter.ctypes.data, 1)
    team = Workers()
    team.use_spin(spin)
    done = []
    for _ in range(300):
        assert team.run([lambda: done.append(1)] * 2)
    assert len(done) == 600
    team.close()


def test_what_several_threads_have_lost_is_left_to_one_for_a_while():
    trials = Trials()

    def tried(together, calls):
        """Return which of some calls were tried, in each of which the parts took that long."""
        found = []
        for _ in range(calls):
            found.append(trials.wanted())
            if found[-1]:
                trials.tell(together, 1.0, 2)
        return found

    assert all(tried(1.2, 50))
    lost = tried(2.1, 40)
    left = [len(run) for run in "".join(".t"[k] for k in lost).split("t")]
    assert left == [0, 0, 1, 2, 4, 8, 16, 2]
    tried(2.1, 1000)
    assert trials.skipped <= Trials.MOST
    # They are tried again, and one gain is enough.
    assert any(tried(1.2, Trials.MOST + 1))
    assert all(tried(1.2, 50))
    assert tried(2.1, 1) == tried(1.9, 1) == tried(2.1, 1) == [True]


def test_jobs_that_do_not_gain_are_left_to_the_caller(team, monkeypatch):
    now, worked = [0.0], [0.0]
    monkeypatch.setattr(workers.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(workers.time, "thread_time", lambda: worked[0])
    caller, done = threading.current_thread(), []

    def job(late):
        done.append(1)
        if threading.current_thread() is caller:
            now[0] += 1 + late
            worked[0] += 1

    def run(late, calls):
        return [team.run_if_faster([lambda: job(late)] * 2) for _ in range(calls)]

    assert all(run(0.0, 3))
    slow = run(1.5, 8)
    assert slow == [True, True, False, True, False, False, True, False]
    assert sum(done) == 2 * (3 + 4)
    assert not all(run(0.0, 5))
    assert all(run(0.0, 10))


def test_the_start_of_a_thread_is_not_taken_for_a_loss(team, monkeypatch):
    monkeypatch.setattr(team.trials, "tell", lambda *args: pytest.fail(f"{args}"))
    assert team.run_if_faster([lambda: None] * 2)
