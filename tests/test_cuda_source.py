"""CUDA C that is written from cells: it compiles for a device, and its functions are right."""

import re

import numpy as np
import pytest

from tests import cuda_host
from tests.cuda_cells import DTYPES, TRACED, VARIANTS, kernels
from tests.nvrtc import compile_cuda
from xprnn.formula.cuda_functions import EXPRESSIONS
from xprnn.formula.cuda_source import Variant, forward_source, saved_homes
from xprnn.formula.program import ARITHMETIC, BOOL, COMPARISONS, FUNCTIONS, Builder

runs_on_the_host = pytest.mark.skipif(cuda_host.COMPILER is None, reason="there is no C++ compiler")

FULLEST = tuple(variant for variant in VARIANTS if variant.masked and variant.lengths)

A = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, -7.0, 1e-3, 60.0, np.inf, -np.inf, np.nan]
B = [0.0, -0.0, 1.0, -1.0, 2.0, -3.0, 0.25, np.inf, -np.inf, np.nan]


def joined(sources):
    """Return one text of several kernels."""
    return "".join(
        f"namespace n{k} {{ {s.text.replace(f' {s.name}(', f' {s.name}_{k}(')} }}\n"
        for k, s in enumerate(sources)
    )


@pytest.mark.parametrize("cell", TRACED.values(), ids=TRACED)
def test_every_kernel_compiles_for_a_device(cell):
    everything = kernels(cell)
    ptx, log = compile_cuda(joined(everything))
    assert log == ""
    assert len(re.findall(r"\.entry xprnn_(?:forward|backward)_\d+", ptx)) == len(everything)
    # The last stage, to machine code, takes longest; these hold what the others hold.
    assert compile_cuda(joined(kernels(cell, FULLEST)), machine_code=True)[1] == ""


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("cell", TRACED.values(), ids=TRACED)
def test_no_kernel_of_another_dtype_computes_with_doubles(cell, dtype):
    ptx, _ = compile_cuda(joined(kernels(cell, (Variant(dtype, True, True),))))
    assert ".f64" not in ptx
    assert ".f32" in ptx


def run(program, u, v, dtype):
    """Return what a program with one state variable saves, given u and v of one step, (1, n)."""
    source = forward_source(program, 1, Variant(dtype))
    (kernel,) = cuda_host.compiled([source.text])
    batch, hidden = u.shape
    arrays = {"u": u.astype(dtype), "v": v.astype(dtype), "states0": np.zeros((2, *u.shape), dtype)}
    saved = {}
    for k, index in enumerate(program.outputs["saved"]):
        kind = bool if program.nodes[index].kind == BOOL else dtype
        saved[k] = arrays[f"saved{k}"] = np.zeros(u.shape, kind)
    kernel(
        (-(-hidden // 64), 1),
        (64, 4),
        (0, 1, batch, hidden, *(arrays[name] for name in source.arguments)),
    )
    return saved


@runs_on_the_host
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_function_is_that_of_numpy(dtype):
    """On zeros of both signs, halves, infinities and NaN, each with each."""
    builder, ops = Builder(), sorted(ARITHMETIC | COMPARISONS)
    a, b = builder.input("u0"), builder.input("v0")
    nodes = [builder.apply(op, *(a, b)[: FUNCTIONS[op]]) for op in ops]
    state = builder.apply("add", a, b)
    program = builder.program({"state": (state,), "saved": tuple(nodes)})
    u, v = (grid.reshape(1, -1).astype(dtype) for grid in np.meshgrid(A, B))
    got = run(program, u, v, dtype)
    homes = saved_homes(program)
    for k, op in enumerate(ops):
        home, place = homes[k]
        if home != "saved":
            assert op in ("add", "positive")
            continue
        with np.errstate(all="ignore"):
            want = {"round": np.rint}.get(op) or getattr(np, op)
            want = want(*(u, v)[: FUNCTIONS[op]])
        assert got[place].dtype == want.dtype
        rtol = {"float16": 2e-3, "float32": 1e-6, "float64": 1e-14}[dtype]
        exact = op in COMPARISONS or op in (
            "nextafter",
            "floor_divide",
            "remainder",
            "round",
            "sign",
        )
        np.testing.assert_allclose(got[place], want, 0 if exact else rtol, err_msg=op)
        if op not in ("maximum", "minimum"):  # of 0 and -0 either is right
            told = ~np.isnan(want)
            if op == "nextafter":  # of two zeros it is the second, but to NumPy's float16
                told &= u != v
            signs = np.signbit(got[place][told] * 1.0), np.signbit(want[told] * 1.0)
            np.testing.assert_array_equal(*signs, err_msg=op)


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
    got = run(program, u, v, "float64")
    p, q = u < v, u > 0.25
    for k, op in enumerate(ops):
        np.testing.assert_array_equal(got[k], getattr(np, op)(p, q), err_msg=op)
    np.testing.assert_array_equal(got[5], ~p)
    np.testing.assert_array_equal(got[6], q.astype(float))
    assert saved_homes(program)[-1] == ("after", 0)


@runs_on_the_host
@pytest.mark.parametrize("dtype", DTYPES)
def test_constants_are_rounded_as_the_dtype_does(dtype):
    values = (0.1, -1 / 3, 1e-5, 65504.0, 1e300, -np.inf, np.nan, 7.0)
    builder = Builder()
    a = builder.input("u0")
    truth = builder.apply("isnan", a)
    nodes = [builder.apply("where", truth, a, builder.constant(value)) for value in values]
    program = builder.program({"state": (builder.apply("add", a, a),), "saved": tuple(nodes)})
    got = run(program, np.zeros((1, 2)), np.zeros((1, 2)), dtype)
    with np.errstate(over="ignore"):
        for k, value in enumerate(values):
            np.testing.assert_array_equal(got[k], np.full((1, 2), value).astype(dtype))


def test_every_function_has_an_expression():
    assert set(FUNCTIONS) | {"where", "astype"} == set(EXPRESSIONS)


def test_what_equals_a_state_is_kept_once():
    builder = Builder()
    h, u = builder.input("state0"), builder.input("u0")
    new, other = builder.apply("add", h, u), builder.apply("tanh", u)
    program = builder.program({"state": (new,), "saved": (other, new, h, other)})
    assert saved_homes(program) == [("saved", 0), ("after", 0), ("before", 0), ("saved", 0)]
