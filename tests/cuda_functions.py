"""Every function of a program in one kernel, and what NumPy makes of the same numbers."""

from typing import Any

import numpy as np

from xprnn.engine.loop.cuda.source import KernelSource, Variant, forward_source
from xprnn.engine.loop.program import ARITHMETIC, BOOL, COMPARISONS, FUNCTIONS, Builder, Program
from xprnn.engine.loop.results import saved_places

A = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, -7.0, 1e-3, 60.0, np.inf, -np.inf, np.nan]
B = [0.0, -0.0, 1.0, -1.0, 2.0, -3.0, 0.25, np.inf, -np.inf, np.nan]
"""Zeros of both signs, halves, infinities and NaN; each is combined with each."""

OPS = sorted((ARITHMETIC | COMPARISONS).keys() - {"positive", "square"})
"""All functions but those that `Builder` replaces."""

EXACT = {*COMPARISONS, "nextafter", "floor_divide", "remainder", "round", "sign", "abs", "negative"}
RTOL = {"float16": 2e-3, "bfloat16": 8e-3, "float32": 1e-6, "float64": 1e-14}


def arrays_of(program: Program, u: Any, v: Any, dtype: str) -> tuple[KernelSource, dict[str, Any]]:
    """Return the kernel of a program with one gate and one state variable, and its arguments."""
    arrays = {"u": u.astype(dtype), "v": v.astype(dtype), "states0": np.zeros((2, *u.shape), dtype)}
    for k, index in enumerate(program.outputs["saved"]):
        kind = bool if program.nodes[index].kind == BOOL else dtype
        arrays[f"saved{k}"] = np.zeros(u.shape, kind)
    return forward_source(program, 1, Variant(dtype)), arrays


def every_function(dtype: str) -> tuple[KernelSource, dict[str, Any], Any, Any]:
    """Return a kernel of all functions, its arguments, and the operands (1, n) of them."""
    builder = Builder()
    a, b = builder.input("u0"), builder.input("v0")
    nodes = [builder.apply(op, *(a, b)[: FUNCTIONS[op]]) for op in OPS]
    # Not one of the results above, so that each of them is saved.
    state = builder.apply("multiply", a, builder.constant(2.0))
    program = builder.program({"state": (state,), "saved": tuple(nodes)})
    assert all(place == ("saved", k) for k, place in enumerate(saved_places(program)))
    u, v = (grid.reshape(1, -1).astype(dtype) for grid in np.meshgrid(A, B))
    return *arrays_of(program, u, v, dtype), u, v


def expect_every_function(
    arrays: dict[str, Any], u: Any, v: Any, slack: float = 1, *, flushed: bool = False
) -> None:
    """Compare what the kernel has written.

    With ``flushed``, subnormal numbers of float32 were flushed to zero, as CuPy's kernels do.
    """
    for k, op in enumerate(OPS):
        got = arrays[f"saved{k}"]
        # With ml_dtypes NumPy has the neighbours of bfloat16, but not all signs of zeros.
        wide = u.dtype.name == "bfloat16" and op != "nextafter"
        given = [a.astype("float32") if wide else a for a in (u, v)]
        with np.errstate(all="ignore"):
            want = (np.rint if op == "round" else getattr(np, op))(*given[: FUNCTIONS[op]])
            want = want.astype(u.dtype) if wide and want.dtype != bool else want
        assert got.dtype == want.dtype
        if flushed and op == "nextafter" and u.dtype == np.float32:
            # The neighbours of zero are subnormal.
            got, want = (np.where(u == 0, 0, a) for a in (got, want))
        rtol = 0 if op in EXACT else RTOL[u.dtype.name] * slack
        if u.dtype.name == "bfloat16" and want.dtype != bool:
            got, want = got.astype("float32"), want.astype("float32")
        np.testing.assert_allclose(got, want, rtol, err_msg=op)
        if op not in ("maximum", "minimum"):  # of 0 and -0 either is right
            told = ~np.isnan(want)
            if op == "nextafter":  # of two zeros it is the second, except in NumPy's float16
                told &= u != v
            signs = np.signbit(got[told] * 1.0), np.signbit(want[told] * 1.0)
            np.testing.assert_array_equal(*signs, err_msg=op)
