"""Memory that is kept for large arrays: never shared, bounded, released, and safe with threads."""

import copy
import gc
import os
import pickle
import sys
import threading

import numpy as np
import pytest

import xprnn
from tests.process import run_python
from xprnn.backend.host import limits, pool
from xprnn.backend.host.pool import SMALLEST, Kept, Pool

FLOAT = np.dtype("float32")
MIB = 2**20


@pytest.fixture
def own(monkeypatch) -> Pool:
    """Return a pool of the test's own, which `pool.empty` takes from."""
    mine = Pool(64 * MIB)
    monkeypatch.setattr(pool, "pool", lambda: mine)
    return mine


def address(a):
    return a.__array_interface__["data"][0]


def test_memory_is_used_again_as_soon_as_no_array_refers_to_it(own):
    a = pool.empty((100, 1000), FLOAT)
    place, view = address(a), a[3:, ::2].T
    del a
    assert address(pool.empty((100, 1000), FLOAT)) != place
    del view
    assert address(pool.empty((100, 1000), FLOAT)) == place
    # Somewhat smaller ones fit, much smaller ones would waste it.
    assert address(pool.empty((90, 1000), FLOAT)) == place
    assert address(pool.empty((60, 1000), FLOAT)) != place


@pytest.mark.parametrize(
    "hold",
    [
        memoryview,
        lambda a: a.reshape(-1).view("uint8")[5:].data,
        lambda a: np.lib.stride_tricks.sliding_window_view(a, 3, axis=1),
        np.from_dlpack,
        lambda a: np.broadcast_to(a[:1], (7, 1000)),
        lambda a: pytest.importorskip("torch").from_numpy(a)[1:],
        lambda a: a.flat,
        lambda a: a.ctypes,
    ],
)
def test_whatever_refers_to_an_array_keeps_its_memory(own, hold):
    a = pool.empty((100, 1000), FLOAT)
    held = hold(a)
    del a
    assert own.kept().idle == 0
    del held
    assert own.kept().idle == own.kept().size > 0


def test_small_arrays_are_left_alone(own):
    assert pool.empty((SMALLEST // 4 - 1,), FLOAT).base is None
    assert pool.empty((0, 5), FLOAT).shape == (0, 5)
    assert own.kept() == Kept(0, 0, 0)
    assert pool.empty((SMALLEST // 4,), FLOAT).base is not None


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bool", "int64"])
def test_arrays_are_ordinary(own, dtype):
    for shape in ((300, 400), (2**17,), (8, 4, 5000), (1, 2**18)):
        a = pool.empty(shape, np.dtype(dtype))
        assert (a.shape, a.dtype, type(a)) == (shape, dtype, np.ndarray)
        assert a.flags.c_contiguous
        assert a.flags.writeable
        assert address(a) % 64 == 0
        a[...] = 1
        assert a.all()
        for other in (copy.deepcopy(a), copy.copy(a), pickle.loads(pickle.dumps(a))):
            assert np.array_equal(other, a)
            assert not np.shares_memory(other, a)
    assert not pool.zeros((300, 400), np.dtype(dtype)).any()


def test_copies(own):
    a = np.arange(60000.0).reshape(200, 300).T
    b = pool.copied(a)
    assert b.flags.c_contiguous
    assert b.base is not None
    assert np.array_equal(a, b)
    assert pool.copied(a, FLOAT).dtype == FLOAT
    assert pool.copied(a[:2, :2]).base is None


def test_no_two_arrays_ever_share_memory(own):
    rng, held = np.random.default_rng(0), {}
    for k in range(3000):
        a = pool.empty((int(rng.integers(SMALLEST, 4 * SMALLEST)),), np.dtype("uint8"))
        a[::1000] = k % 256
        a[-1] = k % 256
        held[k] = a[1:] if k % 3 else a
        for old in rng.choice(list(held), 1 + (len(held) > 20), replace=False):
            b = held.pop(old)
            assert (b[999 if old % 3 else 0 :: 1000] == old % 256).all()
            assert b[-1] == old % 256
    assert own.kept().size <= own.limit


def test_there_is_a_limit(own):
    held = [pool.empty((MIB,), FLOAT) for _ in range(20)]
    assert own.kept().size <= own.limit
    assert sum(a.base is not None for a in held) == 15
    del held
    idle = own.kept().idle
    assert 60 * MIB <= idle <= own.limit
    # Idle blocks make room, the oldest first, and no more of them than is needed.
    large = pool.empty((5 * MIB,), FLOAT)
    assert large.base is not None
    assert own.kept().size <= own.limit
    assert own.kept().blocks == 11
    assert pool.empty((20 * MIB,), FLOAT).base is None


def test_what_is_never_used_again_goes_back(own):
    del_me = pool.empty((10 * MIB,), FLOAT)
    del del_me
    for _ in range(2 * pool._PATIENCE):
        pool.empty((MIB // 4,), FLOAT)
    assert own.kept().blocks == 1
    assert own.kept().size < 2 * MIB


def test_release(own):
    kept, gone = pool.empty((MIB,), FLOAT), pool.empty((MIB,), FLOAT)
    kept[...] = 7
    del gone
    freed = pool.release_memory()
    assert freed == pytest.approx(4 * MIB, rel=0.01)
    assert own.kept() == Kept(0, 0, 0)
    another = pool.empty((MIB,), FLOAT)
    another[...] = 0
    assert (kept == 7).all()
    assert pool.release_memory() == 0


def test_it_goes_with_a_network(own):
    def train():
        net = xprnn.RNN(16, 64, cell="lstm", rng=0)
        x = np.ones((50, 16, 16), "float32")
        net.backward(net.forward(x), np.ones((50, 16, 64), "float32"))
        assert own.kept().idle > MIB
        return net

    net = train()
    assert own.kept().idle > MIB
    del net
    gc.collect()
    assert own.kept() == Kept(0, 0, 0)


def test_who_takes_a_block_that_another_has_just_taken_gives_it_up(own, monkeypatch):
    shape, others = (100, 1000), []
    pool.empty(shape, FLOAT)
    references = pool._Block.references

    def interrupted(block):
        count = references(block)
        if not others:
            others.append(None)
            others[0] = pool.empty(shape, FLOAT)  # as another thread does, after the count
        return count

    monkeypatch.setattr(pool._Block, "references", interrupted)
    mine = pool.empty(shape, FLOAT)
    assert others[0].base is not None
    assert not np.shares_memory(mine, others[0])


def test_threads_never_get_the_same_memory(own):
    before, faults, barrier = sys.getswitchinterval(), [], threading.Barrier(4)

    def work(seed):
        rng = np.random.default_rng(seed)
        barrier.wait()
        for k in range(2000):
            # All threads ask for the same few sizes, and drop them at once.
            a = pool.empty((SMALLEST // 8 * int(rng.integers(1, 4)),), np.dtype("float64"))
            a[:8] = a[-8:] = mine = 1000 * seed + k
            b = pool.empty(a.shape, a.dtype)
            b[:8] = b[-8:] = -mine
            if not ((a[:8] == mine).all() and (a[-8:] == mine).all() and (b[:8] == -mine).all()):
                faults.append((seed, k))

    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not faults


FORK = """
import os, threading, warnings
import numpy as np
import xprnn
from xprnn.backend.host import pool
warnings.simplefilter("ignore")  # from 3.12 on, of a fork in a process with threads
stop = threading.Event()
def busy():
    while not stop.is_set():
        pool.empty((2**18,), np.dtype("float32"))[:] = 1
thread = threading.Thread(target=busy, daemon=True)
thread.start()
held = pool.empty((2**18,), np.dtype("float32"))
held[:] = 5
for _ in range(20):
    child = os.fork()
    if not child:
        held[:] = 6
        for k in range(50):
            a, b = (pool.empty((2**18,), np.dtype("float32")) for _ in range(2))
            a[:], b[:] = k, -k
            assert (a == k).all() and (b == -k).all() and (held == 6).all()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (held == 5).all()
stop.set()
thread.join()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_that_forks():
    assert run_python(FORK) == "done\n"


@pytest.mark.parametrize(("given", "size"), [("0", 0), ("3", 3 * MIB)])
def test_the_limit_can_be_set(monkeypatch, given, size):
    monkeypatch.setenv(pool.VARIABLE, given)
    assert pool.pool.__wrapped__().limit == size


def test_without_a_setting_it_is_a_part_of_the_memory(monkeypatch):
    monkeypatch.delenv(pool.VARIABLE, raising=False)
    monkeypatch.setattr(pool, "memory_of_the_system", lambda: 8 * MIB)
    assert pool.pool.__wrapped__().limit == 2 * MIB
    monkeypatch.setattr(pool, "memory_of_the_system", lambda: None)
    assert pool.pool.__wrapped__().limit == 2**30
    assert limits.memory() > 2**26


@pytest.mark.parametrize("given", ["", "much", "-1", "1.5", "1GB"])
def test_a_bad_limit(monkeypatch, given):
    monkeypatch.setenv(pool.VARIABLE, given)
    with pytest.raises(ValueError, match=f"XPRNN_POOL is '{given}': expected a number of MiB"):
        pool.pool.__wrapped__()


def test_without_a_pool_arrays_are_numpys_own(monkeypatch):
    none = Pool(0)
    monkeypatch.setattr(pool, "pool", lambda: none)
    assert pool.empty((MIB,), FLOAT).base is None
    assert none.kept() == Kept(0, 0, 0)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("count", [3, 2000])
def test_rows_and_columns_that_are_picked(axis, count):
    library, rng = xprnn.get_backend().library, np.random.default_rng(0)
    a, index = rng.random((40, 50), dtype="float32"), rng.integers(0, 40, count)
    for matrix in (a, a.T, a[:, ::-1]):
        np.testing.assert_array_equal(library.taken(matrix, index, axis), matrix.take(index, axis))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 20_000, 39_999])
def test_one_entry_of_a_large_array_is_not_finite(value, place):
    library, a = xprnn.get_backend().library, np.full(40_000, 1e30, "float32")
    assert library.all_finite(a)  # although the sum of its squares overflows
    assert library.all_finite(a[::2])
    a[place] = value
    assert not library.all_finite(a)
    assert not library.all_finite(a.reshape(200, 200).T)
