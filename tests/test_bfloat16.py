"""bfloat16 on torch and JAX: data in and out, losses, networks in files, and parity."""

import json

import numpy as np
import pytest
import torch

import xprnn
from tests.cli_tools import run
from xprnn.backend import dtype_name, get_backend
from xprnn.backend.host.floats import float_limits, rounded, spacing
from xprnn.interop.torch import from_state_dict, to_state_dict
from xprnn.losses import CrossEntropy, SquaredError

NARROW = "bfloat16"
HAVE = ("torch", "jax")

X = np.random.default_rng(0).normal(size=(8, 4, 3))


@pytest.fixture(params=HAVE)
def backend(request):
    return get_backend(request.param, dtype=NARROW)


def _net(backend, **options):
    return xprnn.RNN(3, 10, 2, cell="gru", backend=backend, rng=0, **options)


def _bits(a):
    """Return the bits of float32, so that NaN and the zeros can be compared."""
    assert a.dtype == "float32"
    return np.where(np.isnan(a), 0, a.view(np.uint32))


def test_rounding_on_the_host():
    """Any bits of a float32, among them infinities, NaN and subnormal numbers."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, size=20_000, dtype=np.uint32)
    ties = (bits & 0xFFFF0000) | 0x8000
    a = np.concatenate((bits, ties)).view(np.float32)
    want = torch.from_numpy(a).to(torch.bfloat16).float().numpy()
    with np.errstate(all="ignore"):
        found = rounded(a, NARROW)
    assert np.array_equal(np.isnan(found), np.isnan(want))
    assert np.array_equal(_bits(found), _bits(want))


def test_limits():
    theirs, ours = torch.finfo(torch.bfloat16), float_limits(NARROW)
    assert (ours.eps, ours.smallest_normal, ours.max) == (theirs.eps, theirs.tiny, theirs.max)
    assert ours.smallest_subnormal == ours.smallest_normal * ours.eps
    one = torch.tensor([1.0, 3.0, -100.0], dtype=torch.bfloat16)
    next_one = torch.nextafter(one, 2 * one)
    assert np.array_equal(spacing(one.float().numpy(), NARROW), abs(next_one - one).float().numpy())
    assert spacing(np.zeros(1), NARROW) == ours.smallest_subnormal


def test_in_and_out(backend):
    """To nearest, of two the even one; and the numbers come back in float32."""
    given = np.array([1 + 2**-8, 1 + 3 * 2**-8, 0.1, 1e39, -0.0, np.nan])
    with np.errstate(over="ignore"):
        a, want = backend.asarray(given), rounded(given, NARROW)
    assert (want[0], want[1], want[3]) == (1.0, 1 + 2**-6, np.inf)
    assert dtype_name(a.dtype) == NARROW
    assert backend.owns(a)
    assert np.array_equal(_bits(backend.to_numpy(a)), _bits(want))
    assert dtype_name(backend.asarray([1, 2]).dtype) != NARROW
    whole = backend.asarray([1, 257], dtype=NARROW)
    assert backend.to_numpy(whole).tolist() == [1.0, 256.0]
    again = backend.asarray(get_backend(backend, dtype="float32").asarray(given[:3]))
    assert np.array_equal(_bits(backend.to_numpy(again)), _bits(want[:3]))


def test_an_array_for_another_backend(backend):
    """The message has the code that brings it to the host, and that code works."""
    a = backend.asarray([0.5, 1.0])
    with pytest.raises(TypeError, match=f"got .*dtype {NARROW}") as error:
        get_backend("numpy").asarray(a)
    code = str(error.value).split("as ")[1].split(" does")[0]
    assert eval(code, {"a": a, "numpy": np}).dtype == "float32"


@pytest.mark.parametrize("name", ["numpy", "array_api_strict", "jax.numpy:"])
def test_a_library_without_it(name):
    has = get_backend(name)
    with pytest.raises(ValueError, match=r"dtype is 'bfloat16': .* computes in .*float32"):
        get_backend(name, dtype=NARROW)
    with pytest.raises(ValueError, match="dtype is 'bfloat16'"):
        _net(has).to(has, dtype=NARROW)


def test_an_array_of_a_dtype_that_a_library_lacks():
    with pytest.raises(ValueError, match="dtype is 'bfloat16': expected one of bool, int8"):
        get_backend("numpy").asarray([0.5], dtype=NARROW)


def test_losses_add_up_in_float32(backend):
    y, target = (
        backend.asarray(np.full((300, 300, 1), 2.0)),
        backend.asarray(np.zeros((300, 300, 1))),
    )
    value, gradient = SquaredError().value_and_grad(y, target)
    assert float(value) == pytest.approx(2, rel=1e-6)
    assert dtype_name(gradient.dtype) == NARROW
    y, target = backend.asarray(np.zeros((70, 1000, 4))), backend.asarray(np.zeros((70, 1000), int))
    value, gradient = CrossEntropy().value_and_grad(y, target)
    assert float(value) == pytest.approx(np.log(4), rel=2**-8)
    assert float(gradient[0, 0, 0]) == pytest.approx(-0.75 / 70_000, rel=2**-7)


def test_the_weights_are_those_of_float32_rounded(backend):
    wide = _net(get_backend(backend, dtype="float32"))
    made, moved = _net(backend), wide.to(backend.name, dtype=NARROW)
    for name, weight in wide.parameters.items():
        want = rounded(wide.backend.to_numpy(weight), NARROW)
        for net in (made, moved):
            assert dtype_name(net.parameters[name].dtype) == NARROW
            assert np.array_equal(backend.to_numpy(net.parameters[name]), want)
    assert moved.to("numpy", dtype="float32").parameters.keys() == wide.parameters.keys()


def test_files(tmp_path, backend):
    """The arrays are written in float32; that loses nothing, and the dtype comes back."""
    path, net = tmp_path / "net.safetensors", _net(backend)
    net.save(path)
    header = path.read_bytes()
    entries = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
    assert entries["readout.weight"]["dtype"] == "F32"
    same = xprnn.RNN.load(path, backend=backend.name)
    wide = xprnn.RNN.load(path, dtype="float32")
    assert (same.backend, wide.backend.name) == (backend, "numpy")
    for name, weight in net.parameters.items():
        host = backend.to_numpy(weight)
        assert np.array_equal(backend.to_numpy(same.parameters[name]), host)
        assert np.array_equal(wide.parameters[name], host)
    with pytest.raises(ValueError, match="'bfloat16': numpy computes in float16, float32, float64"):
        xprnn.RNN.load(path)


def test_a_weight_that_is_too_large_for_it(tmp_path):
    path, net = tmp_path / "net.safetensors", xprnn.RNN(3, 4, 2)
    net.parameters["readout.bias"][1] = 3.4e38
    net.save(path)
    with pytest.raises(ValueError, match=r"readout.bias\[1\] is 3.4e\+38, not finite in bfloat16"):
        xprnn.RNN.load(path, backend="torch", dtype=NARROW)


def test_state_dicts_of_torch():
    theirs = torch.nn.GRU(3, 5).to(torch.bfloat16).state_dict()
    net = from_state_dict(theirs, cell="gru", rnn="", backend="torch", dtype=NARROW)
    assert net.backend.dtype_name == NARROW
    weight = net.parameters["weight_ih_l0"]
    assert torch.equal(torch.sort(weight.ravel())[0], torch.sort(theirs["weight_ih_l0"].ravel())[0])
    assert from_state_dict(theirs, cell="gru", rnn="").backend.dtype_name == "float32"
    assert {a.dtype.name for a in to_state_dict(net).values()} == {"float32"}


@pytest.mark.parametrize("name", ["torch", pytest.param("jax", marks=pytest.mark.full)])
def test_parity(name):
    """NumPy, the reference, has no side; every step is rounded to eight bits."""
    report = xprnn.testing.assert_parity(_net, X, [name], dtypes=[NARROW], steps=5)
    (side,) = report.sides
    assert (side.backend, side.dtype) == (name, NARROW)
    assert all(0.4 < ulps < 1.5 for ulps in side.ulps.values())
    for row in side.rows:
        if row.quantity in ("output", "state", "gradients"):
            assert 1e-3 < row.error < 3e-2
    with pytest.raises(ValueError, match="array_api_strict computes in float32, float64"):
        xprnn.testing.assert_parity(_net, X, ["array_api_strict"], dtypes=[NARROW], steps=0)


@pytest.mark.parametrize(
    ("function", "wrong", "where"),
    [
        ("tanh", lambda right, x: right(x) * 1.1, r"tanh\[\d, \d\]|tanh of "),
        ("abs", lambda right, x: right(x) + 0 * x, "abs of -?inf is nan: expected inf"),
    ],
)
def test_an_error_is_found(monkeypatch, function, wrong, where):
    xp = get_backend("torch").xp
    right = getattr(xp, function)
    monkeypatch.setattr(xp, function, lambda x: wrong(right, x))
    with pytest.raises(AssertionError, match=where):
        xprnn.testing.assert_parity(_net, X, ["torch"], dtypes=[NARROW], steps=0)


@pytest.mark.slow
def test_the_command():
    words = "parity --backends torch --cells elman --sizes 3,2,2,4,2 --steps 2 --dtype bfloat16"
    result = run(*words.split())
    assert result.status == 0
    assert "no bfloat16: skipped" in result.out
    head, line = (
        next(text for text in result.out.splitlines() if text.startswith(start))
        for start in ("cell ", "elman torch")
    )
    assert len(head) == len(line)
