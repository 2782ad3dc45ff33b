"""Networks that train with persistent kernels, in place of a device, and who chooses them."""

from dataclasses import replace

import numpy as np
import pytest

from tests import cuda_host, device_arrays
from tests.cases import row_of
from tests.closeness import assert_close
from tests.cuda_problem import Device, problem
from tests.cuda_tiles import schedule
from tests.device_arrays import EVENTS, NAMES, on_device
from xprnn import RNN, cuda_loop, explain_lowering, fit, get_backend
from xprnn.backend.libraries import cupy_launches
from xprnn.backend.registry import LIBRARIES
from xprnn.cells import GRU, LSTM, Elman
from xprnn.data import minibatches
from xprnn.engine.loop.cuda.cell import Variant

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(cuda_host.COMPILER is None, reason="there is no C++ compiler"),
]


@pytest.fixture(autouse=True)
def device():
    with device_arrays.device_arrays():
        yield Device(on_device)


@pytest.mark.parametrize("lengths", [None, (3, 4, 1)], ids=["even", "lengths"])
@pytest.mark.parametrize("row", ["gru", "lstm-peepholes"])
def test_a_network_and_all_its_gradients(row, lengths):
    case = replace(row_of(row), bidirectional=True, recurrent_dropout=0.5, dropout=0.5, H=3)
    data = case.problem()
    arguments = {"lengths": lengths, "rng": 7}
    nets = [case.make(dtype="float64", rng=1, backend=name) for name in ("numpy", "cupy")]
    EVENTS.clear()
    with cuda_loop("persistent"):
        want, (value, gradient) = (
            net.value_and_grad(
                net.backend.asarray(data.x), net.backend.asarray(data.target), **arguments
            )
            for net in nets
        )
    assert float(value) == pytest.approx(float(want[0]), rel=1e-13)
    to_host = nets[1].backend.to_numpy
    for name, array in want[1].parameters.items():
        assert_close(to_host(gradient.parameters[name]), array, 1e-11, name, floor=1e-13)
    assert_close(to_host(gradient.input), want[1].input, 1e-11, "x")


@pytest.mark.parametrize("hidden", [3, 24], ids=["alone", "shared"])
def test_a_training(hidden):
    """Of blocks that wait for nobody, and of blocks that do, with an uneven last batch."""
    rng, nets = np.random.default_rng(0), {}
    x = rng.normal(size=(6, 7, 2))
    for backend, loop in (("numpy", "auto"), ("cupy", "persistent"), ("cupy", "step")):
        net = RNN(2, hidden, 2, cell="lstm", dtype="float64", backend=backend, rng=0)
        data = minibatches(net.backend.asarray(x), net.backend.asarray(x), 4, rng=1)
        NAMES.clear()
        with cuda_loop(loop), schedule("greedy"):
            fit(net, data, epochs=2, optimizer="adam", clip_norm=1.0)
            # Two batches, of each of which both directions are one launch.
            assert NAMES["together"] == (8 if loop == "persistent" else 0)
            if loop == "persistent":
                said = explain_lowering("lstm", net.backend, hidden=hidden, batch=4)
                assert ("share a slice" in said) == (hidden == 24)
        nets[loop] = {k: net.backend.to_numpy(a) for k, a in net.parameters.items()}
    for name, want in nets["auto"].items():
        for loop in ("persistent", "step"):
            assert_close(nets[loop][name], want, 1e-11, name)


def test_one_launch_each_way_whatever_the_length(device):
    counts = []
    for steps in (5, 9):
        p = problem(LSTM(), Variant("float32"), steps=steps)
        with cuda_loop("persistent"):
            device.lowered(LSTM(), p, p.dh)
            EVENTS.clear()
            NAMES.clear()
            device.lowered(LSTM(), p, p.dh)
        assert NAMES["together"] == 2
        assert EVENTS["product"] == 0
        counts.append(EVENTS["empty"])
    assert counts[0] == counts[1]


def test_who_chooses(device, monkeypatch):
    """The innermost block, then the environment variable, then the estimate."""
    p = problem(Elman(), Variant("float64"), steps=4, hidden=3)

    def launches():
        NAMES.clear()
        device.lowered(Elman(), p, p.dh)
        return NAMES["together"], NAMES["xprnn_forward"] + NAMES["xprnn_backward"]

    monkeypatch.setenv("XPRNN_CUDA_LOOP", "auto")
    assert launches() == (2, 0)
    with cuda_loop("step"):
        assert launches() == (0, 8)
        with cuda_loop(matmul_precision="tf32"):
            assert launches() == (0, 8)
        with cuda_loop("auto"):
            assert launches() == (2, 0)
    monkeypatch.setenv("XPRNN_CUDA_LOOP", "persistent")
    assert launches() == (2, 0)
    monkeypatch.setenv("XPRNN_CUDA_LOOP", "step")
    assert launches() == (0, 8)
    monkeypatch.setenv("XPRNN_CUDA_LOOP", "fast")
    with pytest.raises(ValueError, match="XPRNN_CUDA_LOOP is 'fast': expected one of 'auto', 'per"):
        launches()


def test_what_explain_says(monkeypatch):
    def said(loop=None, cell="elman", **sizes):
        with cuda_loop(loop):
            return explain_lowering(cell, "cupy", **sizes)

    assert "is lowered to persistent CUDA kernels, one launch each way" in said("auto")
    assert "where that does not suit, it is lowered to CUDA kernels, one a step" in said("auto")
    small, shared, large = (said("auto", hidden=h, batch=4) for h in (8, 100, 500))
    assert "forward: one persistent kernel, 8 units of 1 sequences" in small
    assert "no block waits for another" in small
    assert "blocks share a slice" in shared
    assert "backward: step kernels, because U's columns for H = 500 don't fit into" in large
    assert "of 6 multiprocessors of 20000 bytes each" in large
    assert "forward: step kernels, because XPRNN_CUDA_LOOP" in said("step", hidden=8)
    assert "runs as plain array code: XPRNN_CUDA_LOOP (or cuda_loop) says 'plain'" in said("plain")
    monkeypatch.setitem(device_arrays.ATTRIBUTES, "MultiProcessorCount", 1)
    cupy_launches.limits.cache_clear()
    slow = said("auto", "lstm", hidden=20, batch=4000)
    assert "cycles, and a step of single kernels" in slow
    assert "forward: one persistent kernel" in said("persistent", "lstm", hidden=20, batch=4000)


def test_what_is_refused(device):
    net = RNN(2, 500, 2, backend="cupy", rng=0)
    x = net.backend.asarray(np.zeros((3, 2, 2)))
    refused = pytest.raises(ValueError, match="says 'persistent', but U's rows for H = 500 don't")
    with cuda_loop("persistent"), refused:
        net(x)
    refused = pytest.raises(ValueError, match="loop is 'fast': expected 'auto' or 'persistent'")
    with refused, cuda_loop("fast"):
        pass
    refused = pytest.raises(ValueError, match="matmul_precision is 'half': expected 'float32'")
    with refused, cuda_loop(matmul_precision="half"):
        pass


def test_tf32_by_name(monkeypatch):
    """On a device with tensor cores for it, and for float32 alone: 16 bits have them anyway."""

    def said(dtype, precision):
        with cuda_loop("persistent", matmul_precision=precision):
            backend = get_backend("cupy", dtype=dtype)
            return explain_lowering("lstm", backend, hidden=512, batch=64)

    large = {"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 232448}
    for name, value in large.items():
        monkeypatch.setitem(device_arrays.ATTRIBUTES, name, value)
    cupy_launches.limits.cache_clear()
    assert said("float32", "tf32").count("products on tensor cores") == 2
    for half in ("float16", "bfloat16"):
        assert said(half, "float32").count("products on tensor cores") == 2
    assert "tensor cores" not in said("float32", "float32")
    assert "tensor cores" not in said("float64", "tf32")
    monkeypatch.setitem(device_arrays.ATTRIBUTES, "ComputeCapabilityMajor", 7)
    cupy_launches.limits.cache_clear()
    assert "tensor cores" not in said("float32", "tf32")


def test_a_cell_with_layer_normalisation_runs_in_step_kernels(device):
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    made = []
    for backend in ("numpy", "cupy"):
        cell = LSTM(layer_norm=True)
        net = RNN(2, 3, 2, cell=cell, dtype="float64", backend=backend, rng=0)
        with cuda_loop("auto"):
            NAMES.clear()
            y, _ = net(net.backend.asarray(x))
        made.append(net.backend.to_numpy(y))
    assert_close(made[1], made[0], 1e-12)
    assert NAMES["xprnn_normalize"] == NAMES["xprnn_forward"] == 4
    with cuda_loop("persistent"), pytest.raises(ValueError, match="normalises its projections"):
        net(net.backend.asarray(x))


def test_a_kernel_that_gave_up_ends_a_training_with_its_name(monkeypatch):
    """Where the loss is read, and before anything is made of it."""
    net = RNN(2, 3, 2, backend="cupy", rng=0)
    x = net.backend.asarray(np.random.default_rng(0).normal(size=(4, 4, 2)))
    with cuda_loop("persistent"):
        net(x)
        watch = cupy_launches.watch()
        launched = device_arrays.Together.__call__

        def give_up(self, grid, block, arguments, **options):
            launched(self, grid, block, arguments, **options)
            watch.numbers[:] = 1, 2

        monkeypatch.setattr(device_arrays.Together, "__call__", give_up)
        with pytest.raises(RuntimeError, match=r"xprnn_forward_all \(G = 1, H = 3, B = 4\) has"):
            fit(net, [(x, x)], epochs=1, loss="squared_error")
    LIBRARIES["cupy"].raise_given_up()


def test_blocks_that_can_not_be_there_together_are_an_error_in_words(monkeypatch, device):
    p = problem(GRU(), Variant("float64"), steps=3, batch=3, hidden=40)
    with cuda_loop("persistent"):
        get_backend("cupy")
        cupy_launches.limits(0)
        monkeypatch.setitem(device_arrays.ATTRIBUTES, "MultiProcessorCount", 1)
        with pytest.raises(RuntimeError, match="can't be on the device at the same time"):
            device.lowered(GRU(), p, p.dh)
