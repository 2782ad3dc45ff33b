"""The loops on CuPy against the plain ones, with kernels and arrays of the host in CuPy's place.

The kernels are the very ones that a device would get.  Not seen here: the device's own rounding,
its scheduling, and CuPy itself.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests import cuda_host, device_arrays
from tests.cases import CELLS
from tests.closeness import assert_close
from tests.cuda_cells import TRACED, VARIANTS, kernels
from tests.device_arrays import EVENTS, on_device
from xprnn import formula, get_backend
from xprnn.cells import GRU, LSTM, Elman, MinimalGated, unit_names
from xprnn.formula.cuda_source import Variant
from xprnn.formula.cupy_lowering import CuPyLoops
from xprnn.recurrence import Recurrent, run_backward, run_forward
from xprnn.testing.lowering import compare_lowering
from xprnn.timeloop import run_backward as chosen_backward
from xprnn.timeloop import run_forward as chosen_forward

pytestmark = pytest.mark.skipif(cuda_host.COMPILER is None, reason="there is no C++ compiler")

TOLERANCE = {"float64": 1e-13, "float32": 3e-6, "float16": 3e-2}
LENGTHS = (5, 0, 3)

# Every variant in float64; in the others what has all of it, and what has nothing of it.
CHOSEN = tuple(v for v in VARIANTS if v.dtype == "float64" or v.masked == v.lengths)
CHOSEN = tuple(v for v in CHOSEN if v.dtype != "float16" or v.masked)

each_cell = pytest.mark.parametrize("cell", TRACED.values(), ids=TRACED)


@pytest.fixture(autouse=True)
def device():
    with device_arrays.device_arrays():
        yield


def problem(cell, variant, steps=5, batch=3, hidden=4):
    """Return arguments of a time loop, host arrays, nothing in them zero."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=shape).astype(variant.dtype)

    states = [tuple(draw(batch, hidden) for _ in cell.state) for _ in range(2)]
    valid = np.arange(steps)[:, None, None] < np.resize(LENGTHS, batch)[:, None]
    return SimpleNamespace(
        u=draw(steps, batch, cell.gates * hidden),
        recurrent=Recurrent(
            draw(cell.gates * hidden, hidden) / np.asarray(2 * hidden**0.5, variant.dtype),
            tuple(draw(hidden) for _ in unit_names(cell)),
            None,
            draw(batch, hidden) if variant.masked else None,
            valid if variant.lengths else None,
        ),
        state=states[0],
        d_state=states[1],
        dh=draw(steps, batch, hidden),
        valid=valid,
    )


def plain(cell, p, dh, *, save=True):
    xp = get_backend("numpy").xp
    there = run_forward(xp, cell, p.u, p.recurrent, p.state, save=save)
    return there, run_backward(xp, cell, p.recurrent, there, dh, p.d_state) if save else None


def lowered(cell, p, dh, *, save=True):
    backend = get_backend("cupy", dtype=p.u.dtype.name)
    assert isinstance(formula.lowering_for(backend, cell), CuPyLoops)
    u, state, d_state = on_device(p.u), on_device(p.state), on_device(p.d_state)
    recurrent = on_device(p.recurrent)
    there = chosen_forward(backend, cell, u, recurrent, state, save=save)
    if not save:
        return there, None
    return there, chosen_backward(backend, cell, recurrent, there, on_device(dh), d_state)


def compare(cell, p, dh, *, save=True):
    """Hold the loops to the reference."""
    (there, back), (want_there, want_back) = (f(cell, p, dh, save=save) for f in (lowered, plain))
    pairs = {"states": (there.states, want_there.states)}
    # Beyond an end, what is saved is not used: the state is held, and kept as such.
    inside = True if p.recurrent.valid is None else p.valid
    pairs["saved"] = tuple(
        tuple(np.where(inside, a, 0) for a in t.saved) for t in (there, want_there)
    )
    if save:
        pairs |= {
            name: (getattr(back, name), getattr(want_back, name)) for name in ("units", "state")
        }
        pairs["du, da"] = back[:2], want_back[:2]
        assert back.du is back.da or want_back.du is not want_back.da
    tolerance = TOLERANCE[p.u.dtype.name]
    for name, (got, want) in pairs.items():
        assert len(got) == len(want), name
        for k, (a, b) in enumerate(zip(got, want, strict=True)):
            assert a.dtype == b.dtype, f"{name}[{k}]"
            numbers = (np.asarray(c, "float64") for c in (a, b))
            assert_close(*numbers, tolerance, f"{name}[{k}]", floor=tolerance)


@each_cell
def test_the_same_as_the_plain_loop(cell, monkeypatch):
    """In all dtypes, with and without mask, lengths, gradients of all outputs, tape."""
    texts = [kernel.text for kernel in kernels(cell, CHOSEN)]
    ready = dict(zip(texts, cuda_host.compiled(texts), strict=True))
    monkeypatch.setattr(device_arrays, "KERNELS", ready)
    for variant in CHOSEN:
        p = problem(cell, variant)
        compare(cell, p, p.dh)
        compare(cell, p, None)
        compare(cell, p, None, save=False)
    for shape in [(1, 1, 1), (1, 3, 4), (40, 1, 3), (3, 2, 1), (2, 2, 130), (2, 70, 2), (9, 0, 4)]:
        p = problem(cell, Variant("float64", True, True), *shape)
        compare(cell, p, p.dh)
    backend = get_backend("cupy", dtype="float64")
    findings = compare_lowering(
        cell, formula.lowering_for(backend, cell), backend, np.random.default_rng(0)
    )
    assert [f for f in findings if f.verdict == "wrong"] == []


@pytest.fixture
def two_rows(monkeypatch):
    """A grid that is too small for a batch."""
    monkeypatch.setattr("xprnn.formula.cupy_lowering.ROWS", 2)
    monkeypatch.setattr("xprnn.formula.cupy_lowering.THREADS", 4)


@pytest.mark.usefixtures("two_rows")
def test_more_sequences_than_the_grid_holds():
    p = problem(LSTM(), Variant("float64", True, True), steps=3, batch=11, hidden=5)
    compare(LSTM(), p, p.dh)


def strided(a):
    wide = np.full([2 * n for n in a.shape], np.nan).astype(a.dtype)
    wide[tuple(slice(None, None, 2) for _ in a.shape)] = a
    return wide[tuple(slice(None, None, 2) for _ in a.shape)]


def read_only(a):
    a.flags.writeable = False
    return a


@pytest.mark.parametrize("prepare", [strided, np.asfortranarray, read_only])
def test_arguments_of_any_layout(prepare):
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
    compare(cell, p, p.dh)


def test_a_tape_of_one_loop_serves_the_other():
    cell, variant = GRU(), Variant("float64", True, True)
    p = problem(cell, variant)
    want_there, want = plain(cell, p, p.dh)
    backend, recurrent = get_backend("cupy", dtype="float64"), on_device(p.recurrent)
    there, _ = lowered(cell, p, p.dh)
    host = lambda arrays: tuple(np.array(a) for a in arrays)  # noqa: E731
    mixed = there._replace(states=host(there.states), saved=host(there.saved))
    xp = get_backend("numpy").xp
    back = run_backward(xp, cell, p.recurrent, mixed, p.dh, p.d_state)
    assert_close(back.da, want.da, 1e-13)
    tape = want_there._replace(
        states=on_device(want_there.states), saved=on_device(want_there.saved)
    )
    back = chosen_backward(backend, cell, recurrent, tape, on_device(p.dh), on_device(p.d_state))
    assert_close(back.da, want.da, 1e-13)


@pytest.mark.parametrize("variant", [Variant("float32"), Variant("float32", True, True)])
@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM(), LSTM(peepholes=True)], ids=str)
def test_one_product_and_one_launch_a_step_and_nothing_is_made(cell, variant):
    counts = []
    for steps in (5, 9):
        p = problem(cell, variant, steps=steps)
        EVENTS.clear()
        lowered(cell, p, p.dh)
        assert EVENTS["launch"] == EVENTS["product"] == 2 * steps
        assert EVENTS["read"] == 1  # when the backend was opened
        counts.append(EVENTS["empty"])
    assert counts[0] == counts[1]


@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM(), MinimalGated()], ids=str)
def test_a_tape_is_as_large_as_what_is_saved(cell):
    there, _ = lowered(cell, problem(cell, Variant("float64")), None)
    kept = {id(_owner(a)) for a in (*there.states, *there.saved)}
    assert len(kept) == {"Elman": 1, "GRU": 5, "LSTM": 7, "MinimalGated": 4}[type(cell).__name__]


def _owner(a):
    while a.base is not None:
        a = a.base
    return a


def test_nan_passes_as_it_does_in_the_plain_loop():
    cell = Elman("relu")
    p = problem(cell, Variant("float64"))
    p.u[1, 0, 0], p.u[2, 1, 1], p.u[3, 2, 2] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        got, want = (f(cell, p, None, save=False)[0].states[0] for f in (lowered, plain))
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
    assert formula.explain("elman", "cupy").startswith(
        "Elman(activation='tanh') is lowered to CUDA kernels: 2 operations forward"
    )
