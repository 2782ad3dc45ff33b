"""The loops and the functions on a CUDA device; not collected where CuPy is not installed."""

import numpy as np
import pytest

from tests.cuda_cells import DTYPES, TRACED
from tests.cuda_functions import every_function, expect_every_function
from tests.cuda_problem import Device, problem
from tests.cuda_trainings import same_as_numpy, series, text
from tests.optimizers import KINDS
from xprnn import cuda_loop, get_backend
from xprnn.backend import probe
from xprnn.cells import GRU, LSTM, Elman
from xprnn.engine.loop.cuda.source import Variant


@pytest.fixture
def cupy():
    """Return CuPy's backend."""
    found = probe("cupy")
    if not found.usable:
        pytest.skip(found.reason)
    return get_backend("cupy")


@pytest.fixture
def device(cupy):
    return Device(lambda a: cupy.asarray(a, dtype=a.dtype.name), slack=10)


@pytest.mark.parametrize("cell", TRACED.values(), ids=TRACED)
def test_the_same_on_cupy_as_the_plain_loop(cell, device):
    device.compare_all(cell)


@pytest.mark.parametrize("shape", [(5, 3, 4), (9, 70, 100), (7, 33, 200)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM(peepholes=True)], ids=str)
def test_persistent_kernels_on_cupy_are_the_plain_loop(cell, dtype, shape, device):
    """Blocks with all units, and blocks that wait for each other; uneven, both of them."""
    p = problem(cell, Variant(dtype, True, True), *shape)
    with cuda_loop("persistent"):
        device.compare(cell, p, p.dh)


@pytest.mark.parametrize("loop", ["step", "persistent"])
def test_the_same_bits_twice_on_cupy(loop, cupy, device):
    cell, host = LSTM(peepholes=True), cupy.to_numpy
    p = problem(cell, Variant("float32", True, True), steps=20, batch=64, hidden=300)
    with cuda_loop(loop):
        (_, first), (_, second) = (device.lowered(cell, p, p.dh) for _ in range(2))
    for a, b in zip((first.du, *first.units), (second.du, *second.units), strict=True):
        np.testing.assert_array_equal(host(a), host(b))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_function_on_cupy(dtype, cupy):
    source, arguments, u, v = every_function(dtype)
    arrays = {name: cupy.asarray(a, dtype=a.dtype.name) for name, a in arguments.items()}
    launch = cupy.library.kernels().compiled(source.name, source.text)
    pointers = (arrays[name] for name in source.arguments)
    launch((-(-u.shape[1] // 64), 1), (64, 1), (0, 1, *u.shape, *pointers))
    saved = {name: cupy.to_numpy(a) for name, a in arrays.items()}
    expect_every_function(saved, u, v, slack=10, flushed=True)


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("row", KINDS, ids=lambda row: row.id)
@pytest.mark.parametrize("make", [series, text])
def test_trainings_on_cupy_are_those_of_numpy(make, row):
    same_as_numpy(make, row.ours, 1e-9)
