"""The products of a time loop on CuPy: by address, with TF32, and in CUDA graphs.

cuBLAS, streams and graphs are stand-ins on the host (`tests.device_blas`), which read matrices at
the addresses that they are given.
"""

import ctypes
import logging

import numpy as np
import pytest

from tests import cuda_host
from tests.cuda_problem import Device, problem
from tests.device_arrays import BLAS, EVENTS, device_arrays, on_device
from tests.device_blas import CUPYS_HANDLE
from xprnn import RNN, fit
from xprnn.backend.kernels import StepLaunch, StepProduct
from xprnn.backend.libraries import cupy_blas
from xprnn.backend.libraries import cupy_graphs as graphs
from xprnn.backend.libraries.cupy import CuPyKernels
from xprnn.backend.libraries.cupy_products import cupys_gemm, prepared
from xprnn.cells import GRU, LSTM, Elman
from xprnn.data.batches import Batch
from xprnn.engine.loop.cuda.cell import Variant

T, B, K, N = 9, 3, 4, 5


@pytest.fixture(autouse=True)
def device():
    with device_arrays():
        yield


@pytest.fixture
def graph(monkeypatch):
    monkeypatch.setenv("XPRNN_CUDA_GRAPH", "on")


def draw(*shape, dtype="float64", seed=0):
    return on_device(np.random.default_rng(seed).standard_normal(shape).astype(dtype))


def nothing(*shape, dtype="float64"):
    return on_device(np.full(shape, np.nan, dtype))


TOLERANCE = {"float64": 1e-14, "float32": 1e-6, "float16": 1e-2, "bfloat16": 4e-2}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_product_of_a_step(dtype, every_step, transposed):
    a = draw(T, B, K, dtype=dtype) if every_step else draw(B, K, dtype=dtype)
    b = draw(*((N, K) if transposed else (K, N)), dtype=dtype, seed=1)
    out = nothing(B, N, dtype=dtype)
    multiply = prepared(StepProduct(a, b, out, transposed), cupys_gemm())
    for t in (0, 6, T - 1):
        multiply(t)
        want = (a[t] if every_step else a).astype("float64")
        want = want @ (b.T if transposed else b).astype("float64")
        slack = TOLERANCE[dtype]
        np.testing.assert_allclose(out.get().astype("float64"), want.get(), rtol=slack, atol=slack)


@pytest.mark.parametrize("by", ["argument", "variable"])
@pytest.mark.parametrize(
    ("dtype", "wanted", "compute"),
    [
        ("float32", 0, 68),
        ("float32", 1, 77),
        ("float64", 1, 70),
        ("float16", 1, 68),
        ("bfloat16", 1, 68),
    ],
)
def test_the_type_of_the_sums(dtype, wanted, compute, by, monkeypatch):
    """Sums of halves are formed in float32, and TF32 is for float32 alone."""
    monkeypatch.setenv("CUPY_TF32", str(wanted * (by == "variable")))
    a, b = draw(B, K, dtype=dtype), draw(K, N, dtype=dtype)
    tf32 = bool(wanted) and by == "argument"
    prepared(StepProduct(a, b, nothing(B, N, dtype=dtype), tf32=tf32), cupys_gemm())(0)
    assert [name for name in EVENTS if name.startswith("compute")] == [f"compute {compute}"]


class Counter:
    """A kernel that notes when it ran, and leaves what the product before it has made."""

    def __init__(self):
        self.ran = []

    def __call__(self, grid, block, arguments):
        t, h, out = arguments
        BLAS.do(lambda: self._run(t, h, out))

    def nothing(self, grid, block, arguments):
        """Be launched, and do nothing."""

    def _run(self, t, h, out):
        self.ran.append(t)
        h[t + 1] = np.tanh(out)


def recurrence(kernel, steps=T, seed=0):
    """Return the states of h(t) = tanh(U h(t-1)), and the arguments of `repeat` that make them."""
    h, U, out = draw(steps + 1, B, K, seed=seed), draw(K, K, seed=seed + 9), nothing(B, K)
    want = np.array(h)
    for t in range(steps):
        want[t + 1] = np.tanh(want[t] @ np.asarray(U).T)
    launch = StepLaunch(kernel, (1, 1), (1, 1), (h, out))
    calls = (StepProduct(h, U, out, transposed=True), launch)
    return h, want, (calls, (h[:1], U), (h,))


@pytest.mark.usefixtures("graph")
def test_a_loop_is_captured_when_it_comes_again():
    kernel = Counter()
    h, want, calls = recurrence(kernel)
    launched, done = [], []
    for _ in range(4):
        h[1:] = np.nan
        CuPyKernels().repeat(range(T), *calls)
        np.testing.assert_allclose(h.get(), want, rtol=1e-13)
        launched.append(EVENTS["graph"])
        done.append(EVENTS["product"])
    assert launched == [0, 1, 2, 3]
    assert kernel.ran == 4 * list(range(T))
    # One tries the library out, then those of the first call, then those that are captured.
    assert done == [1 + T, 1 + 2 * T, 1 + 2 * T, 1 + 2 * T]
    (found,) = (graphs.graphs_here() for _ in range(1))
    assert found.captures == 1


@pytest.mark.usefixtures("graph")
def test_other_arrays_are_served_by_the_same_graph():
    kernel = Counter()
    loops = [recurrence(kernel, seed=seed) for seed in range(5)]
    for h, want, calls in loops:
        h[1:] = np.nan
        CuPyKernels().repeat(range(T), *calls)
        np.testing.assert_allclose(h.view(np.ndarray), want, rtol=1e-13)
    assert graphs.graphs_here().captures == 1
    assert EVENTS["graph"] == 4
    # What one has made is not touched by those after it.
    for h, want, _ in loops:
        np.testing.assert_allclose(h.view(np.ndarray), want, rtol=1e-13)


@pytest.mark.usefixtures("graph")
def test_fewer_steps_are_another_loop():
    kernel = Counter()
    for steps in (T, T - 1, T, T - 1):
        h, want, calls = recurrence(kernel)
        h[1:] = np.nan
        CuPyKernels().repeat(range(steps), *calls)
        np.testing.assert_allclose(h[: steps + 1].view(np.ndarray), want[: steps + 1], rtol=1e-13)
    assert graphs.graphs_here().captures == 2


@pytest.mark.usefixtures("graph")
@pytest.mark.parametrize("differs", ["shape", "dtype", "size", "grid", "kernel", "same array"])
def test_what_makes_two_loops_differ(differs):
    kernels = (Counter(), Counter())
    for number in (0, 1, 0, 1):
        other = number == 1
        kernel = kernels[number if differs == "kernel" else 0]
        grid = (1, 2) if differs == "grid" and other else (1, 1)
        size = 8 if differs == "size" and other else 7
        rows = B + 1 if differs == "shape" and other else B
        h = draw(rows, K, dtype="float32" if differs == "dtype" and other else "float64")
        second = h if differs == "same array" and other else draw(*h.shape, dtype=h.dtype)
        launch = StepLaunch(kernel.nothing, grid, (1, 1), (size, h, second))
        CuPyKernels().repeat(range(T), (launch,), (h, second), (h,))
    assert graphs.graphs_here().captures == 2


@pytest.mark.usefixtures("graph")
@pytest.mark.parametrize("limit", ["WORTH", "MOST"])
def test_a_loop_that_holds_too_much_has_no_graph(limit, monkeypatch):
    h, want, calls = recurrence(Counter())
    held = sum(a.nbytes for a in graphs._arrays_of(calls[0]).values())
    allowed = held // T if limit == "WORTH" else held - 1
    monkeypatch.setattr(graphs, limit, allowed)
    for _ in range(3):
        h[1:] = np.nan
        CuPyKernels().repeat(range(T), *calls)
        np.testing.assert_allclose(h.view(np.ndarray), want, rtol=1e-13)
    assert graphs.graphs_here().captures == 0
    monkeypatch.setattr(graphs, limit, allowed + 1)
    for _ in range(2):
        CuPyKernels().repeat(range(T), *calls)
    assert graphs.graphs_here().captures == 1


@pytest.mark.usefixtures("graph")
def test_capturing_ends_where_graphs_are_seldom_launched(monkeypatch):
    """As with batches of ever other lengths."""
    monkeypatch.setattr(graphs, "KEPT", 2)
    kernel = Counter()
    for steps in (8, 9, 10, 11):
        for _ in range(3):
            h, want, calls = recurrence(kernel, steps)
            h[1:] = np.nan
            CuPyKernels().repeat(range(steps), *calls)
            np.testing.assert_allclose(h.view(np.ndarray), want, rtol=1e-13)
    assert graphs.graphs_here().captures == 2


@pytest.mark.usefixtures("graph")
def test_steps_backward_are_captured_in_their_order():
    kernel = Counter()
    _, _, calls = recurrence(kernel)
    for _ in range(3):
        CuPyKernels().repeat(range(T)[::-1], *calls)
    assert kernel.ran == 3 * list(range(T))[::-1]


@pytest.mark.usefixtures("graph")
@pytest.mark.parametrize("limit", ["KEPT", "MOST"])
def test_graphs_are_bounded(limit, monkeypatch):
    loops = [recurrence(Counter()) for _ in range(3)]
    held = sum(a.nbytes for a in graphs._arrays_of(loops[0][2][0]).values())
    monkeypatch.setattr(graphs, limit, 2 if limit == "KEPT" else 2 * held)
    monkeypatch.setattr(graphs.Graphs, "_wasteful", False)
    for _ in range(2):
        for _, _, calls in loops:
            CuPyKernels().repeat(range(T), *calls)
    found = graphs.graphs_here()
    assert (found.captures, len(found._captured)) == (3, 2)


@pytest.mark.usefixtures("graph")
def test_a_stream_has_its_own_workspace_and_graphs():
    here = graphs.graphs_here()
    with BLAS.stream():
        other = graphs.graphs_here()
    assert other is not here
    assert other.blas.workspace.data.ptr != here.blas.workspace.data.ptr
    assert graphs.graphs_here() is here


@pytest.mark.usefixtures("graph")
def test_a_refused_capture_is_said_once_and_the_loop_runs(caplog):
    BLAS.refuses = RuntimeError("cudaErrorStreamCaptureUnsupported")
    h, want, calls = recurrence(Counter())
    with caplog.at_level(logging.WARNING, "xprnn"):
        for _ in range(4):
            h[1:] = np.nan
            CuPyKernels().repeat(range(T), *calls)
            np.testing.assert_allclose(h.get(), want, rtol=1e-13)
    assert EVENTS["graph"] == 0
    (said,) = caplog.messages
    assert said == (
        "CUDA graphs are not used, time loops are launched step by step: "
        "RuntimeError: cudaErrorStreamCaptureUnsupported"
    )


@pytest.mark.usefixtures("graph")
def test_a_failure_within_the_capture_ends_the_capture():
    class Refusing(Counter):
        def __call__(self, grid, block, arguments):
            if BLAS.current.captured is not None:
                raise RuntimeError("not while capturing")
            super().__call__(grid, block, arguments)

    h, want, calls = recurrence(Refusing())
    for _ in range(3):
        h[1:] = np.nan
        CuPyKernels().repeat(range(T), *calls)
        np.testing.assert_allclose(h.get(), want, rtol=1e-13)
    assert "not while capturing" in graphs.refusal.reason
    assert all(stream.captured is None for stream in BLAS.known.values())


@pytest.mark.usefixtures("graph")
def test_without_the_library_products_go_through_cupy(monkeypatch, caplog):
    def missing():
        raise OSError("libcublas.so.13: cannot open shared object file")

    monkeypatch.setattr(cupy_blas, "loaded_library", missing)
    h, want, calls = recurrence(Counter())
    CuPyKernels().repeat(range(T), *calls)
    np.testing.assert_allclose(h.get(), want, rtol=1e-13)
    assert "libcublas.so.13" in caplog.text


@pytest.mark.usefixtures("graph")
def test_a_status_of_cublas_is_an_error():
    blas = cupy_blas.Blas(0)
    with pytest.raises(RuntimeError, match="cublasGemmEx failed with cuBLAS's status 7"):
        blas.gemm()(*(0, 0, 1, 1, 1, 0, 0, 99, 1, 0, 0, 1, 0, 0, 0, 1, 68, -1))


def test_an_error_of_the_first_call_is_not_hidden(graph):
    """A loop that was begun can't be run again: its arrays have been written to."""

    def broken(*_):
        raise MemoryError("out of memory")

    _, _, calls = recurrence(Counter())
    (product, launch), *others = calls
    with pytest.raises(MemoryError, match="out of memory"):
        CuPyKernels().repeat(range(T), (launch._replace(launch=broken), product), *others)
    assert not graphs.refusal.reason


@pytest.mark.parametrize(("word", "steps"), [("off", T), ("on", graphs.FEWEST - 1)])
def test_off_and_few_steps_use_cupys_handle(word, steps, monkeypatch):
    monkeypatch.setenv("XPRNN_CUDA_GRAPH", word)
    seen = []
    monkeypatch.setattr(BLAS.binding, "gemmEx", lambda handle, *_: seen.append(handle))
    _, _, calls = recurrence(Counter())
    for _ in range(3):
        CuPyKernels().repeat(range(steps), *calls)
    assert seen == 3 * steps * [CUPYS_HANDLE]
    assert EVENTS["graph"] == 0


def test_a_word_that_is_unknown(monkeypatch):
    monkeypatch.setenv("XPRNN_CUDA_GRAPH", "yes")
    with pytest.raises(ValueError, match="XPRNN_CUDA_GRAPH is 'yes': expected one of 'on', 'off'"):
        CuPyKernels().repeat(range(1), (), (), ())


def test_the_stand_in_reads_matrices_by_columns():
    a = np.arange(6.0).reshape(2, 3, order="F")
    b = np.ones((3, 2), order="F")
    c = np.full((2, 2), np.nan, order="F")
    factors = np.array([2.0, 0.0])
    BLAS.binding.gemmEx(
        *(CUPYS_HANDLE, 0, 0, 2, 2, 3, factors.ctypes.data, a.ctypes.data, 1, 2),
        *(b.ctypes.data, 1, 3, factors.ctypes.data + 8, c.ctypes.data, 1, 2, 70, -1),
    )
    np.testing.assert_array_equal(c, 2 * a @ b)
    assert ctypes.sizeof(ctypes.c_void_p) == 8


compiles = pytest.mark.skipif(cuda_host.COMPILER is None, reason="there is no C++ compiler")


@pytest.mark.slow
@compiles
@pytest.mark.usefixtures("graph")
@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM(peepholes=True)], ids=str)
def test_everything_that_a_loop_returns_comes_out_of_the_graph(cell, monkeypatch):
    monkeypatch.setenv("XPRNN_CUDA_LOOP", "step")
    p = problem(cell, Variant("float64", True, True), steps=9)
    for _ in range(3):
        Device(on_device).compare(cell, p, p.dh)
        p.u, p.dh = p.u[::-1].copy(), p.dh * 0.9
        p.recurrent = p.recurrent._replace(mask=p.recurrent.mask * 1.1)
    found = graphs.graphs_here()
    assert (found.captures, found.launches) == (2, 4)
    for each in found._captured.values():
        assert sum(a.nbytes for a in each.arrays) == each.held


@pytest.mark.slow
@compiles
@pytest.mark.parametrize(
    "options",
    [
        {"cell": "elman"},
        {"cell": "gru", "layers": 2, "bidirectional": True},
        {"cell": "lstm", "recurrent_dropout": 0.3, "lengths": [9, 12, 10]},
    ],
    ids=lambda options: options["cell"],
)
def test_a_training_has_the_same_bits_with_graphs(options, monkeypatch):
    monkeypatch.setenv("XPRNN_CUDA_LOOP", "step")
    rng, found = np.random.default_rng(0), {}
    lengths = options.pop("lengths", None)
    x = rng.standard_normal((12, 3, 2))
    for word in ("off", "on"):
        monkeypatch.setenv("XPRNN_CUDA_GRAPH", word)
        EVENTS.clear()
        net = RNN(2, 4, 2, backend="cupy", dtype="float64", rng=0, **options)
        data = net.backend.asarray(x)
        batch = Batch(data, data, lengths=lengths)
        fit(net, [batch, batch], epochs=3, optimizer="adam")
        found[word] = {k: np.array(net.backend.to_numpy(a)) for k, a in net.parameters.items()}
    for name, without in found["off"].items():
        np.testing.assert_array_equal(found["on"][name], without)
    assert graphs.graphs_here().captures > 0
    assert EVENTS["graph"] > graphs.graphs_here().captures
