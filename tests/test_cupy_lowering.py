"""The loops on CuPy against the plain ones, with kernels and arrays of the host in CuPy's place.

The kernels are the very ones that a device would get.  Not seen here: the device's own rounding,
its scheduling, and CuPy itself.
"""

from dataclasses import replace

import numpy as np
import pytest

from tests import cuda_host, device_arrays
from tests.cases import CELLS
from tests.closeness import assert_close
from tests.cuda_cells import DTYPES, NORMALIZED, each_traced, kernels
from tests.cuda_problem import CHOSEN, Device, plain, problem
from tests.device_arrays import EVENTS, NAMES, on_device
from xprnn import cuda_loop, get_backend
from xprnn.backend.host.floats import float_limits
from xprnn.cells import GRU, LSTM, Elman, IndRNN, MinGRU, MinimalGated, MinLSTM
from xprnn.engine.loop.cuda.source import Variant
from xprnn.engine.loop.explaining import explain_lowering
from xprnn.engine.loop.loop import run_backward as chosen_backward
from xprnn.engine.loop.plain import PlainLoops
from xprnn.engine.loop.protocol import Recurrent
from xprnn.optim import global_norm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(cuda_host.COMPILER is None, reason="there is no C++ compiler"),
]


@pytest.fixture(autouse=True)
def device():
    with device_arrays.device_arrays():
        get_backend("cupy")  # proves that the device works, once
        yield Device(on_device)


@each_traced
def test_the_same_as_the_plain_loop(cell, device, monkeypatch):
    texts = [kernel.text for kernel in kernels(cell, CHOSEN)]
    ready = dict(zip(texts, cuda_host.compiled(texts), strict=True))
    monkeypatch.setattr(device_arrays, "KERNELS", ready)
    device.compare_all(cell)


@pytest.mark.parametrize("cell", NORMALIZED, ids=str)
def test_a_layer_that_normalises_is_the_plain_loop(cell, device):
    for variant in CHOSEN:
        p = problem(cell, variant)
        device.compare(cell, p, p.dh)
    device.compare(cell, p, None)
    device.compare(cell, p, None, save=False)
    # More rows than a block has threads, and one alone.
    for shape in [(2, 2, 130), (3, 2, 1), (9, 0, 4)]:
        p = problem(cell, Variant("float64", True, True), *shape)
        device.compare(cell, p, p.dh)


def on_host_of(a):
    if isinstance(a, tuple):
        made = map(on_host_of, a)
        return type(a)(*made) if hasattr(a, "_fields") else tuple(made)
    return None if a is None else get_backend("cupy").to_numpy(a)


@pytest.mark.parametrize("cell", NORMALIZED, ids=str)
def test_a_tape_that_is_normalised_serves_the_other_loop(cell, device):
    p = problem(cell, Variant("float64", True, True))
    want_there, want = plain(cell, p, p.dh)
    there, _ = device.lowered(cell, p, p.dh)
    loops = PlainLoops(get_backend("numpy").xp, cell)
    back = loops.backward(p.recurrent, on_host_of(there), p.dh, p.d_state)
    backend, recurrent = get_backend("cupy", dtype="float64"), device.there(p.recurrent)
    tape, dh, d_state = device.there(want_there), device.there(p.dh), device.there(p.d_state)
    other = chosen_backward(backend, cell, recurrent, tape, dh, d_state)
    for found in (back, on_host_of(other)):
        assert_close(found.da, want.da, 1e-13)
        assert_close(found.gain, want.gain, 1e-13)


@pytest.mark.parametrize("cell", NORMALIZED, ids=str)
def test_a_graph_of_a_layer_that_normalises(cell, device, monkeypatch):
    monkeypatch.setenv("XPRNN_CUDA_GRAPH", "on")
    p = problem(cell, Variant("float64", True, True), steps=9)
    for _ in range(3):
        device.compare(cell, p, p.dh)
    # Forward and backward, the second time and the third.
    assert EVENTS["graph"] == 4


@pytest.fixture
def two_rows(monkeypatch):
    """Make the grid too small for a batch."""
    monkeypatch.setattr("xprnn.engine.loop.cuda.loops.ROWS", 2)
    monkeypatch.setattr("xprnn.engine.loop.cuda.loops.THREADS", 4)


@pytest.mark.usefixtures("two_rows")
def test_more_sequences_than_the_grid_holds(device):
    p = problem(LSTM(), Variant("float64", True, True), steps=3, batch=11, hidden=5)
    device.compare(LSTM(), p, p.dh)


def strided(a):
    wide = np.full([2 * n for n in a.shape], np.nan).astype(a.dtype)
    wide[tuple(slice(None, None, 2) for _ in a.shape)] = a
    return wide[tuple(slice(None, None, 2) for _ in a.shape)]


def read_only(a):
    a.flags.writeable = False
    return a


@pytest.mark.parametrize("prepare", [strided, np.asfortranarray, read_only])
def test_arguments_of_any_layout(prepare, device):
    cell = LSTM(peepholes=True)
    p = problem(cell, Variant("float64", True, True))
    made = {
        k: None if a is None else prepare(a)
        for k, a in p.recurrent._asdict().items()
        if k != "units"
    }
    p.recurrent = Recurrent(units=tuple(map(prepare, p.recurrent.units)), **made)
    p.u, p.dh = prepare(p.u), prepare(p.dh)
    p.state, p.d_state = (tuple(map(prepare, s)) for s in (p.state, p.d_state))
    device.compare(cell, p, p.dh)


def test_a_tape_of_one_loop_serves_the_other(device):
    cell, variant = GRU(), Variant("float64", True, True)
    p = problem(cell, variant)
    want_there, want = plain(cell, p, p.dh)
    backend, recurrent = get_backend("cupy", dtype="float64"), on_device(p.recurrent)
    there, _ = device.lowered(cell, p, p.dh)
    host = lambda arrays: tuple(np.array(a) for a in arrays)  # noqa: E731
    mixed = there._replace(states=host(there.states), saved=host(there.saved))
    loops = PlainLoops(get_backend("numpy").xp, cell)
    back = loops.backward(p.recurrent, mixed, p.dh, p.d_state)
    assert_close(back.da, want.da, 1e-13)
    tape = want_there._replace(
        states=on_device(want_there.states), saved=on_device(want_there.saved)
    )
    back = chosen_backward(backend, cell, recurrent, tape, on_device(p.dh), on_device(p.d_state))
    assert_close(back.da, want.da, 1e-13)


@pytest.mark.parametrize("variant", [Variant("float32"), Variant("float32", True, True)])
@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM(), LSTM(peepholes=True)], ids=str)
def test_one_product_and_one_launch_a_step_and_nothing_is_made(cell, variant, device):
    counts = []
    for steps in (5, 9):
        p = problem(cell, variant, steps=steps)
        EVENTS.clear()
        NAMES.clear()
        device.lowered(cell, p, p.dh)
        assert NAMES["xprnn_forward"] == NAMES["xprnn_backward"] == steps
        assert EVENTS["product"] == 2 * steps
        assert EVENTS["read"] == 0
        counts.append(EVENTS["empty"])
    assert counts[0] == counts[1]


@pytest.mark.parametrize("variant", [Variant("float64"), Variant("float32", lengths=True)])
@pytest.mark.parametrize("cell", [MinGRU(), MinLSTM(), IndRNN()], ids=lambda c: type(c).__name__)
def test_one_launch_for_all_steps_without_a_recurrent_matrix(cell, variant, device):
    for steps in (1, 7):
        p = problem(cell, variant, steps=steps)
        EVENTS.clear()
        NAMES.clear()
        device.compare(cell, p, p.dh)
        assert NAMES["xprnn_forward"] == NAMES["xprnn_backward"] == 1
        assert EVENTS["product"] == 0
    assert "one launch each way" in explain_lowering(cell, "cupy")


@pytest.mark.parametrize("cell", NORMALIZED, ids=str)
def test_a_layer_that_normalises_takes_one_launch_more_a_step(cell, device):
    counts = []
    for steps in (5, 9):
        p = problem(cell, Variant("float32", True, True), steps=steps)
        EVENTS.clear()
        NAMES.clear()
        device.lowered(cell, p, p.dh)
        names = ("forward", "backward", "normalize", "normalize_backward")
        assert [NAMES[f"xprnn_{name}"] for name in names] == [steps] * 4
        assert EVENTS["product"] == 2 * steps
        assert EVENTS["read"] == 0
        counts.append((EVENTS["empty"], EVENTS["launch"] - 4 * steps))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM(), MinimalGated()], ids=str)
def test_a_tape_is_as_large_as_what_is_saved(cell, device):
    there, _ = device.lowered(cell, problem(cell, Variant("float64")), None)
    kept = {id(_owner(a)) for a in (*there.states, *there.saved)}
    assert len(kept) == {"Elman": 1, "GRU": 5, "LSTM": 7, "MinimalGated": 4}[type(cell).__name__]


def _owner(a):
    while a.base is not None:
        a = a.base
    return a


def test_nan_passes_as_it_does_in_the_plain_loop(device):
    cell = Elman("relu")
    p = problem(cell, Variant("float64"))
    p.u[1, 0, 0], p.u[2, 1, 1], p.u[3, 2, 2] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        there, want = (f(cell, p, None, save=False)[0].states[0] for f in (device.lowered, plain))
    got = there.get()
    np.testing.assert_array_equal(got, want)
    assert np.isnan(got).any()


@pytest.mark.parametrize("lengths", [None, (3, 4, 1)], ids=["even", "lengths"])
@pytest.mark.parametrize("case", CELLS, ids=lambda case: case.id)
def test_a_network_and_all_its_gradients(case, lengths):
    case = replace(case, layers=2, bidirectional=True, recurrent_dropout=0.5, dropout=0.5, H=3)
    data = case.problem()
    arguments = {"lengths": lengths, "rng": 7}
    nets = [case.make(dtype="float64", rng=1, backend=name) for name in ("numpy", "cupy")]
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


def test_what_explain_says():
    said = explain_lowering("elman", "cupy")
    assert "is lowered to CUDA kernels, one a step each way: 2 operations forward" in said


def test_what_explain_says_of_normalisation():
    cell = LSTM(layer_norm=True)
    said = explain_lowering(cell, "cupy", hidden=4)
    assert "CUDA kernels, one a step each way and one that normalises: " in said
    with cuda_loop("auto"):
        said = explain_lowering(cell, "cupy", hidden=4)
        assert "where that does not suit" not in said
        reason = "step kernels, because the layer normalises its projections"
        assert [f"{way}: {reason}" in said for way in ("forward", "backward")] == [True, True]
    with cuda_loop("persistent"):
        said = explain_lowering(cell, "cupy")
        assert "can't run" in said
        assert "says 'persistent', but it normalises its projections" in said
    with cuda_loop("plain"):
        assert "says 'plain'" in explain_lowering(cell, "cupy")


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_norm_of_large_gradients(dtype):
    limits = float_limits(dtype)
    largest = limits.max / 4
    host = {"a": np.full((2, 2), largest, dtype), "b": np.full(3, -largest / 2, dtype)}
    norm = global_norm({name: on_device(a) for name, a in host.items()})
    assert norm.dtype == dtype
    assert float(norm) == pytest.approx(largest * 4.75**0.5, rel=2 * limits.eps)
