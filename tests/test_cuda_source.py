"""CUDA C that is written from cells: it compiles for a device, and its functions are right."""

import re
import sys

import numpy as np
import pytest

from tests import cuda_host
from tests.cuda_cells import DTYPES, HALVES, VARIANTS, each_traced, kernels
from tests.cuda_functions import arrays_of, every_function, expect_every_function
from tests.nvrtc import compile_cuda
from xprnn.engine.loop.cuda.functions import EXPRESSIONS
from xprnn.engine.loop.cuda.source import Variant
from xprnn.engine.loop.program import FUNCTIONS, Builder
from xprnn.engine.loop.results import saved_places

pytestmark = pytest.mark.slow

runs_on_the_host = pytest.mark.skipif(cuda_host.COMPILER is None, reason="there is no C++ compiler")

has_compiler = pytest.mark.skipif(
    sys.platform == "darwin", reason="NVIDIA's compiler is not made for this system"
)

FULLEST = tuple(variant for variant in VARIANTS if variant.masked and variant.lengths)


def joined(sources):
    """Return one text of several kernels."""
    return "".join(
        f"namespace n{k} {{ {s.text.replace(f' {s.name}(', f' {s.name}_{k}(')} }}\n"
        for k, s in enumerate(sources)
    )


@has_compiler
@each_traced
def test_every_kernel_compiles_for_a_device(cell):
    everything = kernels(cell)
    ptx, log = compile_cuda(joined(everything))
    assert log == ""
    assert len(re.findall(r"\.entry xprnn_(?:forward|backward)_\d+", ptx)) == len(everything)
    # The last stage, to machine code, takes longest; these kernels contain all that the others do.
    assert compile_cuda(joined(kernels(cell, FULLEST)), machine_code=True)[1] == ""


@has_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_function_compiles_for_a_device(dtype):
    source, *_ = every_function(dtype)
    ptx, log = compile_cuda(source.text, machine_code=True)
    assert log == ""
    assert ".entry xprnn_forward" in ptx


@has_compiler
@pytest.mark.parametrize("dtype", [*HALVES, "float32"])
@each_traced
def test_no_kernel_of_another_dtype_computes_with_doubles(cell, dtype):
    ptx, _ = compile_cuda(joined(kernels(cell, (Variant(dtype, True, True),))))
    assert ".f64" not in ptx
    assert ".f32" in ptx


def run(source, arrays, shape):
    """Run a kernel on arrays of one row or of several."""
    (kernel,) = cuda_host.compiled([source.text])
    grid, block = (-(-shape[1] // 64), 1), (64, 4)
    kernel(grid, block, (0, 1, *shape, *(arrays[name] for name in source.arguments)))


def saved_of(program, u, v, dtype="float64"):
    """Return what a program saves."""
    source, arrays = arrays_of(program, u, v, dtype)
    run(source, arrays, u.shape)
    return [arrays[f"saved{k}"] for k in range(len(program.outputs["saved"]))]


@runs_on_the_host
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_function_is_that_of_numpy(dtype):
    source, arrays, u, v = every_function(dtype)
    run(source, arrays, u.shape)
    expect_every_function(arrays, u, v)


@runs_on_the_host
def test_truth_values():
    builder = Builder()
    a, b = builder.input("u0"), builder.input("v0")
    p, q = builder.apply("less", a, b), builder.apply("greater", a, builder.constant(0.25))
    ops = ("logical_and", "logical_or", "logical_xor", "equal", "not_equal")
    nodes = [builder.apply(op, p, q) for op in ops] + [builder.apply("logical_not", p)]
    chosen = builder.apply("where", p, a, builder.constant(-0.1))
    number = builder.apply("astype", q)
    program = builder.program({"state": (chosen,), "saved": (*nodes, number, chosen)})
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(2, 3, 40))
    got = saved_of(program, u, v)
    p, q = u < v, u > 0.25
    for k, op in enumerate(ops):
        np.testing.assert_array_equal(got[k], getattr(np, op)(p, q), err_msg=op)
    np.testing.assert_array_equal(got[5], ~p)
    np.testing.assert_array_equal(got[6], q.astype(float))
    assert saved_places(program)[-1] == ("after", 0)


@runs_on_the_host
def test_every_number_of_16_bits_is_read_and_written():
    """With the stand-in for the device's instructions."""
    builder = Builder()
    program = builder.program({"state": (builder.input("u0"),), "saved": ()})
    bits = np.arange(2**16, dtype=np.uint16).reshape(1, -1)
    source, arrays = arrays_of(program, bits.view(np.float16), np.zeros((1, 1)), "float16")
    run(source, arrays, bits.shape)
    np.testing.assert_array_equal(arrays["states0"][1], bits.view(np.float16))
    builder = Builder()
    third = builder.apply("divide", builder.input("u0"), builder.constant(3.0))
    program = builder.program({"state": (third,), "saved": ()})
    source, arrays = arrays_of(program, bits.view(np.float16), np.zeros((1, 1)), "float16")
    run(source, arrays, bits.shape)
    with np.errstate(invalid="ignore"):
        want = (bits.view(np.float16)[0].astype(np.float32) / np.float32(3)).astype(np.float16)
    np.testing.assert_array_equal(arrays["states0"][1][0], want)


@runs_on_the_host
@pytest.mark.parametrize("dtype", DTYPES)
def test_constants_are_rounded_as_the_dtype_does(dtype):
    values = (0.1, -1 / 3, 1e-5, 65504.0, 1e300, -np.inf, np.nan, 7.0)
    builder = Builder()
    a = builder.input("u0")
    constants = [builder.constant(value) for value in values]
    truth = builder.apply("isnan", a)
    nodes = [builder.apply("where", truth, a, k) for k in constants]
    nodes += [builder.apply("equal", a, k) for k in constants]
    program = builder.program({"state": (builder.apply("add", a, a),), "saved": tuple(nodes)})
    with np.errstate(over="ignore"):
        held = np.array([values]).astype(dtype)
    got = saved_of(program, np.where(np.isnan(held), np.zeros_like(held), held), held, dtype)
    for k, value in enumerate(held[0]):
        # NumPy doesn't take the NaN of bfloat16 for one.
        np.testing.assert_array_equal(got[k].astype(float), np.full((1, len(values)), float(value)))
        # The array's number and the constant are equal, and not neighbours.
        assert got[len(values) + k][0, k] == (not np.isnan(value))


def test_every_function_has_an_expression():
    assert set(FUNCTIONS) | {"where", "astype"} == set(EXPRESSIONS)


def test_what_equals_a_state_is_kept_once():
    builder = Builder()
    h, u = builder.input("state0"), builder.input("u0")
    new, other = builder.apply("add", h, u), builder.apply("tanh", u)
    program = builder.program({"state": (new,), "saved": (other, new, h, other)})
    assert saved_places(program) == [("saved", 0), ("after", 0), ("before", 0), ("saved", 0)]
