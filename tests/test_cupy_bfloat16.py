"""bfloat16 on CuPy: stored in 16 bits, summed in float32.  On a stand-in for the device.

The stand-in has what CuPy 14.2 lacks for the dtype, too: see `tests.device_arrays`.
"""

import sys

import ml_dtypes
import numpy as np
import pytest

import xprnn
from tests import cuda_host, device_arrays
from tests.cuda_problem import problem
from tests.device_arrays import EVENTS, NAMES, on_device
from xprnn import RNN, cuda_loop, fit, get_backend
from xprnn.backend import dtype_name
from xprnn.backend.cuda.precision import BFLOAT16, PRECISIONS, access
from xprnn.backend.host.floats import rounded
from xprnn.cells import GRU, LSTM
from xprnn.engine import stack
from xprnn.engine.gradients import add, component, times
from xprnn.engine.loop.cuda.cell import Variant
from xprnn.engine.loop.cuda.loops import CuPyLoops
from xprnn.engine.loop.trace import trace
from xprnn.optim import Adam

NARROW = "bfloat16"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(cuda_host.COMPILER is None, reason="there is no C++ compiler"),
]


@pytest.fixture(autouse=True)
def device():
    with device_arrays.device_arrays():
        yield


def bits(a):
    """Return the bits of bfloat16 numbers, one NaN for all."""
    held = np.ascontiguousarray(a).view(np.uint16)
    return np.where(held & 0x7FFF > 0x7F80, np.uint16(0x7FC0), held)


# Reading and writing

TEXT = (
    access(PRECISIONS[NARROW])
    + """
extern "C" __global__ void both_ways(long long n, const real* x, stored* y, real* z)
{
    for (long long k = 0; k < n; ++k) { store(y, k, x[k]); z[k] = load(y, k); }
}
"""
)


def both_ways(text, x):
    y, z = np.zeros(x.shape, np.uint16), np.zeros(x.shape, np.float32)
    (kernel,) = cuda_host.compiled([text])
    kernel((1, 1), (1, 1), (x.size, x, y, z))
    return y.view(ml_dtypes.bfloat16), z


def floats():
    """Return float32 numbers of any bits, all those in bfloat16 and all ties among them."""
    exact = np.arange(2**16, dtype=np.uint32) << 16
    any_bits = np.random.default_rng(0).integers(0, 2**32, 100_000, np.uint32)
    return np.concatenate((exact, exact | 0x8000, any_bits)).view(np.float32)


def test_numbers_are_rounded_to_the_nearest_and_read_as_they_are():
    x = floats()
    y, z = both_ways(TEXT, x)
    with np.errstate(all="ignore"):
        want = rounded(x, NARROW)
        np.testing.assert_array_equal(bits(y), bits(want.astype(NARROW)))
    np.testing.assert_array_equal(z, want)
    # Signs stay, those of NaN too.
    np.testing.assert_array_equal(np.signbit(z), np.signbit(x))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(bits + 0x7fff + (bits >> 16 & 1)) >> 16", "bits >> 16"),
        ("(bits + 0x7fff + (bits >> 16 & 1)) >> 16", "(bits + 0x8000) >> 16"),
        ("x != x ?", "false ?"),
        ("bits >> 16 | 0x40", "bits >> 16"),
    ],
    ids=["cut off", "ties upward", "a NaN that is added to", "a NaN that becomes infinity"],
)
def test_wrong_roundings_are_found(right, wrong):
    assert right in BFLOAT16
    x = floats()
    with np.errstate(all="ignore"):
        want = rounded(x, NARROW)
    try:
        _, z = both_ways(TEXT.replace(right, wrong), x)
    except AssertionError:
        return
    assert not np.array_equal(z, want, equal_nan=True)


@pytest.mark.parametrize("cell", [LSTM(peepholes=True), GRU()], ids=str)
def test_a_step_is_that_of_float32_rounded_once(cell):
    """To the bit, both ways: whatever is stored was computed in float32."""
    loops, made = CuPyLoops(trace(cell)), {}
    p = problem(cell, Variant(NARROW, True, True), steps=1)
    names = ("float32", NARROW)
    variants = [Variant(name, True, True) for name in names]
    sources = [
        (loops.forward_kernel(v, save=True), loops.backward_kernel(v, outer=True)) for v in variants
    ]
    kernels = cuda_host.compiled([s.text for pair in sources for s in pair])
    rng = np.random.default_rng(1)
    for k, name in enumerate(names):
        for way in (0, 1):
            source, kernel = sources[k][way], kernels[2 * k + way]
            types = dict(zip(source.arguments, kernel.types[4:], strict=True))
            arrays = {}
            for argument in source.arguments:
                shape = p.u.shape if argument in ("u", "du", "dv") else p.dh.shape[1:]
                shape = p.u.shape[1:] if argument == "v" else shape
                shape = (2, *p.dh.shape[1:]) if "states" in argument else shape
                if types[argument] == "bool*":
                    arrays[argument] = np.ones(shape, bool)
                    continue
                # The same numbers for both, in bfloat16.
                key = (way, argument)
                made.setdefault(key, rng.normal(size=shape).astype(NARROW))
                wide = "float32" if types[argument] == "real*" else name
                arrays[argument] = made[key].astype(wide)
            kernel((1, 1), (64, 4), (0, 1, *p.dh.shape[1:], *arrays.values()))
            made[name, way] = arrays
    for way in (0, 1):
        for argument, narrow in made[NARROW, way].items():
            wide = made["float32", way][argument]
            want = wide if wide.dtype == narrow.dtype else wide.astype(NARROW)
            assert narrow.tobytes() == want.tobytes(), argument


# What CuPy has


def test_the_namespace():
    xp = get_backend("cupy", dtype=NARROW).xp
    a = on_device(np.asarray([1.0, -2.0], NARROW))
    assert xp.isdtype(a.dtype, "real floating")
    assert xp.isdtype(a.dtype, ("bool", "numeric"))
    assert xp.isdtype(a.dtype, a.dtype)
    assert not xp.isdtype(a.dtype, ("integral", "bool", "complex floating", xp.float32))
    assert xp.isdtype(xp.float32, "real floating")
    assert not xp.isdtype(xp.float32, a.dtype)
    for given in (a, a.dtype):
        assert float(xp.finfo(given).eps) == 2.0**-7
    assert float(xp.finfo(xp.float32).eps) == 2.0**-23
    wide = a.astype("float32")
    for made in (xp.where(a > 0, a, a), xp.where(a > 0, a, 0.5), xp.clip(a, max=1.0)):
        assert made.dtype == NARROW
    assert xp.where(a > 0, a, wide).dtype == xp.clip(wide, max=1.0).dtype == "float32"
    # The stand-in is no better than CuPy itself.
    assert np.where(a > 0, a, a).dtype == (a * 0.5).dtype == "float32"


def test_a_version_without_it(monkeypatch):
    monkeypatch.setattr(sys.modules["cupy"], "__version__", "13.6.0")
    device_arrays.forget()
    said = r"cupy computes in float16, float32, float64 \(CuPy has bfloat16 from version 14 on, and"
    with pytest.raises(ValueError, match=said + " this is 13.6.0"):
        get_backend("cupy", dtype=NARROW)


def test_an_old_numpy(monkeypatch):
    monkeypatch.setattr(np, "__version__", "2.0.2")
    device_arrays.forget()
    with pytest.raises(ValueError, match=r"with NumPy 2.1.2 or newer, and this is 2.0.2\)"):
        get_backend("cupy", dtype=NARROW)


def test_without_ml_dtypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    device_arrays.forget()
    with pytest.raises(ValueError, match=r"with the package ml_dtypes: pip install ml_dtypes\)"):
        get_backend("cupy", dtype=NARROW)
    # Everything else is as it was.
    assert get_backend("cupy", dtype="float16").dtype_name == "float16"


# Networks

X = np.random.default_rng(0).normal(size=(5, 3, 2))


@pytest.mark.parametrize("loop", ["persistent", "step", "plain"])
@pytest.mark.parametrize("cell", [GRU(), LSTM(peepholes=True, layer_norm=True)], ids=str)
def test_a_network_and_all_its_gradients(cell, loop):
    """All of them are of its dtype, and near those of float64 of the same weights."""
    if loop == "persistent" and getattr(cell, "layer_norm", False):
        pytest.skip("blocks share no mean")
    options = {"layers": 2, "bidirectional": True, "recurrent_dropout": 0.2, "dropout": 0.1}
    net = RNN(2, 6, 2, cell=cell, backend="cupy", dtype=NARROW, rng=0, **options)
    want_of = net.to("numpy", dtype="float64")
    x = net.backend.asarray(X)
    for lengths, window in ((None, None), ((5, 3, 1), None), ((5, 3, 1), 2)):
        given = {"lengths": lengths, "window": window, "rng": 3}
        with cuda_loop(loop):
            value, gradient = net.value_and_grad(x, x, "squared_error", **given)
        host = net.backend.to_numpy(x).astype("float64")
        want, d_want = want_of.value_and_grad(host, host, "squared_error", **given)
        assert float(value) == pytest.approx(float(want), rel=1e-2)
        arrays = gradient.parameters | {"x": gradient.input}
        for name, wide in (d_want.parameters | {"x": d_want.input}).items():
            assert arrays[name].dtype == NARROW, name
            error = np.max(abs(net.backend.to_numpy(arrays[name]) - wide)) / np.max(abs(wide))
            assert error < 0.13, name


def test_sweeps_hand_the_dtype_down(monkeypatch):
    """Or the products of the layer below would be of two dtypes."""
    found, right = [], stack.sweep_input_gradient

    def noted(*arguments):
        found.append(right(*arguments))
        return found[-1]

    monkeypatch.setattr(stack, "sweep_input_gradient", noted)
    net = RNN(2, 3, 2, cell="elman", layers=2, backend="cupy", dtype=NARROW, rng=0)
    x = net.backend.asarray(X)
    net.value_and_grad(x, x, "squared_error", window=1)
    assert {dtype_name(a.dtype) for a in found} == {NARROW}


def training(dtype, tokens, **options):
    net = RNN(4, 6, 4, cell="lstm", backend="cupy", dtype=dtype, rng=0)
    rng = np.random.default_rng(0)
    x = net.backend.asarray(rng.integers(0, 4, (5, 3)) if tokens else rng.normal(size=(5, 3, 4)))
    EVENTS.clear()
    NAMES.clear()
    loss = "cross_entropy" if tokens else "squared_error"
    history = fit(net, [(x, x)] * 3, loss=loss, optimizer=Adam(0.01), epochs=2, **options)
    return net, history, dict(EVENTS), dict(NAMES)


@pytest.mark.parametrize("loop", ["step", pytest.param("persistent", marks=pytest.mark.full)])
@pytest.mark.parametrize("tokens", [False, True], ids=["series", "text"])
@pytest.mark.parametrize(
    "options",
    [{}, {"clip_norm": 0.1, "accumulate": 2}, {"clip_value": 0.05}],
    ids=lambda options: "-".join(options) or "plain",
)
def test_a_training_launches_what_one_of_float16_does(tokens, options, loop):
    with cuda_loop(loop):
        _, half, *counts = training("float16", tokens, **options)
        net, history, *others = training(NARROW, tokens, **options)
    extra = {"astype"} if {"clip_value", "accumulate"} & options.keys() else set()
    names = [{k: n for k, n in found[1].items() if k not in extra} for found in (counts, others)]
    assert names[0] == names[1]
    for what in ("read", "upload", "product"):
        assert counts[0].get(what) == others[0].get(what)
    if not extra:
        assert counts == others
    assert all(p.dtype == NARROW for p in net.parameters.values())
    assert history.loss == pytest.approx(half.loss, rel=2e-2)


def test_gradients_keep_their_dtype_when_they_are_clipped_added_and_scaled():
    net, *_ = training(NARROW, True)
    x = net.backend.asarray(np.random.default_rng(1).integers(0, 4, (5, 3)))
    _, gradient = net.value_and_grad(x, x, "cross_entropy")
    clipped, _ = xprnn.optim.clip_by_norm(gradient.parameters, 1e-3)
    limited = xprnn.optim.clip_by_value(gradient.parameters, 1e-3)
    halves = {name: times(g, 0.5) for name, g in gradient.parameters.items()}
    whole = {name: add(g, halves[name]) for name, g in gradient.parameters.items()}
    for made in (clipped, limited, halves, whole):
        assert {dtype_name(component(g).dtype) for g in made.values()} == {NARROW}


def test_files_go_to_other_libraries(tmp_path):
    net = RNN(2, 3, 2, cell="gru", backend="cupy", dtype=NARROW, rng=0)
    net.save(tmp_path / "net.safetensors")
    for backend, dtype in (("torch", None), ("cupy", None), ("numpy", "float32")):
        same = RNN.load(tmp_path / "net.safetensors", backend=backend, dtype=dtype)
        assert same.backend.dtype_name == dtype or NARROW
        for name, p in net.parameters.items():
            got = same.backend.to_numpy(same.parameters[name])
            np.testing.assert_array_equal(got, net.backend.to_numpy(p))


def test_data_in_and_out():
    backend = get_backend("cupy", dtype=NARROW)
    given = np.array([1 + 2**-8, 1 + 3 * 2**-8, 0.1, 3.4e38, -0.0, np.nan])
    with np.errstate(all="ignore"):
        want = rounded(given, NARROW)
        found = backend.to_numpy(backend.asarray(given))
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, want)
    # An array of the device in another dtype is rounded there.
    wide = get_backend("cupy").asarray(given[:3])
    np.testing.assert_array_equal(backend.to_numpy(backend.asarray(wide)), want[:3])
    with pytest.raises(TypeError, match=r"a\.astype\('float32'\)\.get\(\) does"):
        get_backend("numpy").asarray(backend.asarray(given))


def make_net(backend):
    return RNN(2, 5, 2, cell="gru", backend=backend, rng=0)


def test_parity():
    """Operators that meet a Python float return float32, as CuPy's own do; networks don't."""
    report = xprnn.testing.assert_parity(make_net, X, ["cupy"], dtypes=[NARROW], steps=3)
    (side,) = report.sides
    assert (side.backend, side.dtype) == ("cupy", NARROW)
    for row in side.rows:
        if row.quantity in ("output", "state", "gradients"):
            assert 1e-3 < row.error < 3e-2


@pytest.mark.parametrize("function", ["tanh", "where"])
def test_a_function_that_returns_float32_is_found(function, monkeypatch):
    xp = get_backend("cupy").xp
    right = getattr(xp, function)
    monkeypatch.setattr(xp, function, lambda *args: right(*args).astype("float32"))
    with pytest.raises(AssertionError, match=f"{function} returns an array of dtype float32"):
        xprnn.testing.assert_parity(make_net, X, ["cupy"], dtypes=[NARROW], steps=0)


def test_gradients_of_several_dtypes():
    """Each is read and scaled in its own."""
    host = {name: np.full(3, 2.0, name) for name in (NARROW, "float32", "float64", "float16")}
    there = {name: on_device(a) for name, a in host.items()}
    clipped, norm = xprnn.optim.clip_by_norm(there, 1.0)
    assert float(norm) == pytest.approx(48**0.5, rel=1e-2)
    for name, g in clipped.items():
        assert g.dtype == name
        np.testing.assert_allclose(g.get().astype(float), 2 / 48**0.5, rtol=4e-3)
