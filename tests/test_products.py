"""Products that threads share on NumPy, while BLAS is limited to one thread."""

import os
import threading

import numpy as np
import pytest
import threadpoolctl

from tests.closeness import assert_close
from tests.process import run_python
from xprnn import get_backend
from xprnn.backend.host import cut_products, threads, tuning
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
    monkeypatch.setattr(numpy_products, "_SMALL_VECTOR", 0)
    monkeypatch.setattr(tuning, "BLAS_ALONE", 0)
    monkeypatch.setattr(tuning, "BLAS_ALONE_VECTOR", 0)
    monkeypatch.setattr(tuning, "BLAS_SHARED", 1)
    monkeypatch.setattr(tuning, "PART_LENGTH", 1)
    monkeypatch.setattr(numpy_products, "compute_threads", lambda: 3)
    monkeypatch.setattr(cut_products, "compute_threads", lambda: 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(7, 5, 3), (3, 5, 7), (1, 4, 5), (5, 4, 1), (64, 30, 64)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_shared_product(shape, dtype, turned, shared, monkeypatch):
    parts = []
    share = threads.share

    def counted(work, given):
        parts.extend(given)
        share(work, given)

    monkeypatch.setattr(cut_products, "share", counted)
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
    monkeypatch.setattr(cut_products, "compute_threads", lambda: 4)
    monkeypatch.setattr(cut_products, "share", lambda _, parts: seen.append(len(parts)))
    LIBRARY.product(np.zeros((work // 2, 2), "float32"), np.zeros((2, 1), "float32"))
    assert seen == ([] if wanted is None else [wanted])


def test_one_thread_alone_shares_nothing(monkeypatch):
    monkeypatch.setattr(tuning, "BLAS_SHARED", 1)
    monkeypatch.setattr(cut_products, "share", None)
    with threads.blas_threads(1):
        LIBRARY.product(np.ones((300, 300)), np.ones((300, 300)))


def test_blas_has_one_thread_inside_and_what_it_had_after(shared, monkeypatch):
    with threadpoolctl.threadpool_limits(2, "blas"):
        inside = []
        monkeypatch.setattr(cut_products, "share", lambda *_: inside.append(counts()))
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


def test_a_time_loop_has_one_blas_thread_throughout(monkeypatch):
    monkeypatch.setattr(threads, "compute_threads", lambda: 2)
    loop = threads.step_products(16, 2**16)
    with threadpoolctl.threadpool_limits(2, "blas"):
        one, two = [1] * len(counts()), [2] * len(counts())
        with loop:
            assert counts() == one
            with threads.one_blas_thread:
                assert counts() == one
            assert counts() == one
        assert counts() == two
        # Ctrl-C can come before the body of a block, which then is never left.
        threads.one_blas_thread.__enter__()
        with loop:
            assert counts() == one
        assert counts() == two


def test_a_quota_of_one_core_leaves_no_threads_to_the_blas(monkeypatch):
    """OpenBLAS counts the machine's cores, not those that a container may use."""
    monkeypatch.setattr(threads, "compute_threads", lambda: 1)
    threads._began_with_one.cache_clear()
    inside, matmul = [], numpy_products._matmul
    monkeypatch.setattr(
        numpy_products, "_matmul", lambda a, b: inside.append(counts()) or matmul(a, b)
    )
    a, b = np.ones((80, 80)), np.ones((80, 80))
    assert len(a) * b.size >= tuning.BLAS_ALONE
    try:
        with threadpoolctl.threadpool_limits(2, "blas"):
            numpy_products._by_blas(a, b)
            with threads.step_products(16, 2**16):
                inside.append(counts())
            assert inside == [[1] * len(counts())] * 2
            assert counts() == [2] * len(counts())
    finally:
        threads._began_with_one.cache_clear()


STEP_SHAPES = {
    "one part": (3, 20, 40, 1),
    "by columns": (3, 20, 41, 4),
    "by rows": (41, 20, 6, 4),
    "a row": (1, 20, 40, 4),
}


@pytest.mark.parametrize("shape", STEP_SHAPES.values(), ids=STEP_SHAPES)
@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
def test_products_of_a_step_are_cut_in_the_same_way_for_every_number_of_threads(
    shape, turned, monkeypatch
):
    rows, depth, columns, parts = shape
    monkeypatch.setattr(tuning, "STEP_PART", rows * depth * columns // parts)
    monkeypatch.setattr(tuning, "BLAS_PARTS", 4)
    monkeypatch.setattr(tuning, "PART_LENGTH", 1)
    rng = np.random.default_rng(0)
    a = rng.normal(size=(rows, depth)).astype("float32")
    b = rng.normal(size=(depth, columns)).astype("float32")
    if turned:
        b = np.ascontiguousarray(b.T).T
    shares, found = [], set()

    def counted(work, numbers):
        shares.append(len(numbers))
        threads.share(work, numbers)

    monkeypatch.setattr(cut_products, "share", counted)
    for count in (1, 2, 3, 8):
        monkeypatch.setattr(cut_products, "compute_threads", lambda count=count: count)
        out = np.full((rows, columns), np.nan, "float32")
        cut_products.step_dot(rows, b)(a, b, out)
        assert_close(out, a.astype("float64") @ b, 1e-6, "product")
        found.add(out.tobytes())
    assert len(found) == 1
    assert shares == ([] if parts == 1 else [2, 3, 4])


ANY_THREADS = """
import numpy as np
import xprnn
from xprnn.backend.host import tuning

tuning.STEP_PART = 50_000
rng = np.random.default_rng(0)
for cell in ("elman", "gru", "lstm"):
    net = xprnn.RNN(100, 192, 5, cell=cell, rng=0)
    for steps, batch in ((12, 33), (3, 7), (12, 1)):
        run = net.forward(rng.normal(size=(steps, batch, 100)).astype("float32"))
        gradient = net.backward(run, np.ones_like(run.output))
        found = [run.output, *gradient.parameters.values()]
        print(hash(b"".join(np.ascontiguousarray(a).tobytes() for a in found)))
"""


@pytest.mark.parametrize("lowering", ["numpy", "off"])
def test_another_number_of_threads_gives_the_same_bits(lowering):
    found = [
        run_python(
            ANY_THREADS,
            XPRNN_LOWERING=lowering,
            PYTHONHASHSEED="0",
            **dict.fromkeys(threads.VARIABLES, count),
        )
        for count in ("1", "2")
    ]
    assert len(found[0].split()) == 9
    assert found[0] == found[1]


def test_small_loops_and_single_threads_set_nothing(monkeypatch):
    nothing = threads.step_products(1, 4)
    monkeypatch.setattr(threads, "compute_threads", lambda: 2)
    assert threads.step_products(16, 2**13) is nothing
    assert threads.step_products(16, 2**14) is not nothing
    assert threads.step_products(1, 2**14) is not nothing
    monkeypatch.undo()
    with threads.blas_threads(1):
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
    monkeypatch.setattr(cut_products, "share", None)
    monkeypatch.setattr(numpy_products, "can_limit_blas", lambda: False)
    assert LIBRARY.product(np.ones((4, 4)), np.ones((4, 4)))[0, 0] == 4


def test_variables_for_blas_hold_for_all_threads():
    code = "from xprnn.backend.host.threads import compute_threads; print(compute_threads())"
    assert run_python(code, OMP_NUM_THREADS="1").strip() == "1"
