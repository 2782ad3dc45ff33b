"""Products that threads share on NumPy, while BLAS is limited to one thread."""

import os
import threading

import numpy as np
import pytest
import threadpoolctl

from tests.closeness import assert_close
from tests.process import run_python
from xprnn import get_backend
from xprnn.backend.host import threads, tuning
from xprnn.backend.host.workers import Workers
from xprnn.backend.libraries import numpy_products

LIBRARY = get_backend("numpy").library


def counts():
    """Return the number of threads of NumPy's BLAS."""
    found = [
        library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"
    ]
    own = [library for library in found if "numpy" in library["filepath"]]
    return [library["num_threads"] for library in own or found]


@pytest.fixture
def shared(monkeypatch):
    """Let every product be shared between three threads."""
    monkeypatch.setattr(numpy_products, "_SMALL", 0)
    monkeypatch.setattr(tuning, "BLAS_ALONE", 0)
    monkeypatch.setattr(tuning, "BLAS_ALONE_VECTOR", 0)
    monkeypatch.setattr(tuning, "BLAS_SHARED", 1)
    monkeypatch.setattr(numpy_products, "compute_threads", lambda: 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(7, 5, 3), (3, 5, 7), (1, 4, 2), (2, 4, 1), (64, 30, 64)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_shared_product(shape, dtype, turned, shared, monkeypatch):
    parts = []
    share = threads.share

    def counted(work, given):
        parts.extend(given)
        share(work, given)

    monkeypatch.setattr(numpy_products, "share", counted)
    rows, depth, columns = shape
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(rows, depth)), rng.normal(size=(depth, columns))
    given = (a.astype(dtype), b.astype(dtype))
    if turned:
        given = tuple(np.ascontiguousarray(m.T).T for m in given)
    c = LIBRARY.product(*given)
    assert parts == [0, 1, 2]
    assert c.dtype == dtype
    assert_close(c, a @ b, 1e-15 if dtype == "float64" else 1e-6, "product")


@pytest.mark.parametrize(
    ("work", "wanted"), [(2**13 - 2, None), (14 * 10**6, None), (15 * 10**6, 2), (10**9, 4)]
)
def test_how_many_threads(work, wanted, monkeypatch):
    seen = []
    monkeypatch.setattr(numpy_products, "compute_threads", lambda: 4)
    monkeypatch.setattr(numpy_products, "share", lambda _, parts: seen.append(len(parts)))
    LIBRARY.product(np.zeros((work // 2, 2), "float32"), np.zeros((2, 1), "float32"))
    assert seen == ([] if wanted is None else [wanted])


def test_one_thread_alone_shares_nothing(monkeypatch):
    monkeypatch.setattr(tuning, "BLAS_SHARED", 1)
    monkeypatch.setattr(numpy_products, "share", None)
    with threads.blas_threads(1):
        LIBRARY.product(np.ones((300, 300)), np.ones((300, 300)))


def test_blas_has_one_thread_inside_and_what_it_had_after(shared, monkeypatch):
    with threadpoolctl.threadpool_limits(2, "blas"):
        inside = []
        monkeypatch.setattr(numpy_products, "share", lambda *_: inside.append(counts()))
        LIBRARY.product(np.ones((4, 4)), np.ones((4, 4)))
        assert inside == [[1] * len(counts())]
        assert counts() == [2] * len(counts())


def test_the_last_one_to_leave_takes_the_setting_back():
    with threadpoolctl.threadpool_limits(2, "blas"):
        entered, leave = threading.Event(), threading.Event()

        def other():
            with threads.one_blas_thread:
                entered.set()
                leave.wait(10)

        thread = threading.Thread(target=other)
        with threads.one_blas_thread:
            thread.start()
            assert entered.wait(10)
            assert counts() == [1] * len(counts())
        assert counts() == [1] * len(counts())
        leave.set()
        thread.join()
        assert counts() == [2] * len(counts())


def test_loops_with_several_threads_and_products_with_one_take_turns(monkeypatch):
    monkeypatch.setattr(threads, "compute_threads", lambda: 2)
    loop = threads.step_products(16, 2**16)
    order, inside = [], threading.Event()

    def multiply():
        inside.set()
        with threads.one_blas_thread:
            order.append(("product", counts()))

    def run_loop():
        with loop:
            order.append(("loop", counts()))

    with threadpoolctl.threadpool_limits(2, "blas"):
        many = len(counts())
        for mine, other in ((loop, multiply), (threads.one_blas_thread, run_loop)):
            inside.clear()
            with mine:
                thread = threading.Thread(target=other)
                thread.start()
                thread.join(0.1)
                assert thread.is_alive()
                order.append(("mine", counts()))
            thread.join(10)
            assert not thread.is_alive()
        # A product inside a loop does not wait for the loop.
        with loop, threads.one_blas_thread:
            order.append(("both", counts()))
        # Ctrl-C can come before the body of a block, which then is never left.
        threads.one_blas_thread.__enter__()
        with loop:
            order.append(("after", counts()))
        assert counts() == [2] * many
    one, two = [1] * many, [2] * many
    assert order == [
        ("mine", two),
        ("product", one),
        ("mine", one),
        ("loop", two),
        ("both", two),
        ("after", two),
    ]


def test_small_loops_and_single_threads_take_no_turns(monkeypatch):
    nothing = threads.step_products(1, 4)
    monkeypatch.setattr(threads, "compute_threads", lambda: 2)
    assert threads.step_products(16, 2**13) is nothing
    assert threads.step_products(16, 2**14) is not nothing
    assert threads.step_products(1, 2**14) is not nothing
    monkeypatch.setattr(threads, "compute_threads", lambda: 1)
    assert threads.step_products(16, 2**20) is nothing


TWO_TRAININGS = """
import os
import threading
import numpy as np
import xprnn

def train(seed):
    rng = np.random.default_rng(seed)
    net = xprnn.RNN(20, 192, 5, cell="lstm", rng=seed)
    x, y = (rng.normal(size=(20, 16, size)).astype("float32") for size in (20, 5))
    xprnn.fit(net, [(x, y)] * 4, epochs=2, optimizer="adam")
    return b"".join(p.tobytes() for p in net.parameters.values())

alone = [train(seed) for seed in (0, 1)]
together = {}
threads = [
    threading.Thread(target=lambda seed=seed: together.update({seed: train(seed)}))
    for seed in (0, 1)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print([together[seed] == alone[seed] for seed in (0, 1)])
"""


@pytest.mark.parametrize("lowering", ["numpy", "off"])
def test_two_trainings_at_the_same_time_give_the_bits_of_one_after_the_other(lowering):
    free = dict.fromkeys(threads.VARIABLES, "")
    found = run_python(TWO_TRAININGS, XPRNN_LOWERING=lowering, **free)
    assert found == "[True, True]\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_process_waits_for_no_thread_of_its_parent():
    with threadpoolctl.threadpool_limits(2, "blas"), threads.one_blas_thread:
        child = os.fork()
        if child == 0:
            same = counts() == [2] * len(counts())
            os._exit(not same)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_error_in_a_part_is_raised():
    def work(part):
        if part == 1:
            raise ValueError("part 1")

    with pytest.raises(ValueError, match="part 1"):
        threads.share(work, range(3))


def test_without_threads_to_be_had_this_one_does_all(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "WORKERS", Workers())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        done = []
        threads.share(done.append, range(3))
        assert done == [0, 1, 2]


def test_without_threadpoolctl_blas_is_left_alone(shared, monkeypatch):
    monkeypatch.setattr(numpy_products, "share", None)
    monkeypatch.setattr(numpy_products, "can_limit_blas", lambda: False)
    assert LIBRARY.product(np.ones((4, 4)), np.ones((4, 4)))[0, 0] == 4


def test_variables_for_blas_hold_for_all_threads():
    code = "from xprnn.backend.host.threads import compute_threads; print(compute_threads())"
    assert run_python(code, OMP_NUM_THREADS="1").strip() == "1"
