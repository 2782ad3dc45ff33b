"""Compiled code for processors with narrower vectors than this one's, in processes of their own."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import llvmlite.binding as llvm
import pytest

import xprnn
from tests.process import run_python
from xprnn.backend.host import tuning
from xprnn.backend.host.kernels import has_instructions
from xprnn.bench.isa import ISAS, isa_variables

pytestmark = pytest.mark.slow

pytest.importorskip("numba")

from xprnn.backend.numba import lowering_word, why_no_numba  # noqa: E402
from xprnn.backend.numba.target import probe, target  # noqa: E402

BITS = {"sse4.2": 128, "avx2": 256, "avx512": 512}
NARROWER = [isa for isa in ISAS if has_instructions(isa) and BITS[isa] < 8 * target().vector_bytes]
"""The instructions of narrower vectors that this processor has."""

CHECK = """
import numpy as np
import xprnn
from tests.step_products import compare_products, multiplier
from xprnn.backend.numba import addresses, gemm, tiles
from xprnn.backend.numba.target import target

print(8 * target().vector_bytes, *tiles.SHAPE)
draw = np.random.default_rng(0).normal
compare_products("float32", multiplier("float32", addresses.loop_table("float32")))
for n, K, M in [(1, 7, 64), (7, 300, 65), (33, 17, 100), (500, 130, 17)]:
    a, b, c = (draw(size=s).astype("float32") for s in ((n, K), (M, K), (n, M)))
    bias, want = c[0], a.astype("float64") @ b.T
    at, bt = np.ascontiguousarray(a.T), np.ascontiguousarray(b.T)
    for found, exact in [
        (gemm.multiply_nt(a, b, bias), want + bias),
        (gemm.multiply_nn(a, bt), want),
        (gemm.multiply_tn(at, bt), want),
        (gemm.add_tn(at, bt, more := c.copy()) or more, want + c),
    ]:
        assert np.abs(found - exact).max() < 1e-5 * np.abs(exact).max(), (n, K, M)
net = xprnn.RNN(5, 37, 3, cell="lstm", dtype="float32", rng=0)
x, target = draw(size=(6, 9, 5)).astype("float32"), draw(size=(6, 9, 3)).astype("float32")
for window in (None, 2):
    value, gradient = net.value_and_grad(x, target, window=window)
    with xprnn.disable_lowering():
        exact, want = net.value_and_grad(x, target, window=window)
    assert abs(value - exact) < 1e-5 * exact
    for name, g in want.parameters.items():
        assert np.abs(gradient.parameters[name] - g).max() < 1e-5 * np.abs(g).max(), name
assert "compiled by Numba" in xprnn.explain_lowering("lstm")
"""


@pytest.mark.parametrize("isa", NARROWER)
def test_products_and_loops(isa):
    printed = run_python(CHECK, XPRNN_LOWERING="numba", **isa_variables(isa))
    registers = 32 if isa == "avx512" else 16
    shape = tuning.tile_shape(BITS[isa], registers)
    assert printed.split() == [str(number) for number in (BITS[isa], *shape)]


@pytest.mark.full
@pytest.mark.parametrize("isa", NARROWER)
def test_the_compiled_tests(isa):
    root = Path(xprnn.__file__).parents[1]
    names = ("multiply", "rows", "threads", "functions")
    files = [str(root / f"tests/test_compiled_{name}.py") for name in names]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        env=os.environ | isa_variables(isa),
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


KEPT = """
import numpy as np
from xprnn.backend.numba import scatter
from xprnn.backend.numba.build import build_closure

made = build_closure(scatter._scatter_for(), scatter._signature(np.dtype("float32")))
rows = np.arange(12, dtype="float32").reshape(3, 4)
sums = np.zeros((2, 4), "float32")
made.call(rows, np.array([1, 0, 1]), sums, 0, 4)
print(made.cached, sums.tolist() == [[4, 5, 6, 7], [8, 10, 12, 14]])
"""


@pytest.mark.skipif(not NARROWER, reason="this processor has no narrower vectors")
def test_a_cache_with_code_of_another_width(tmp_path):
    narrow, kept = isa_variables(NARROWER[0]), str(tmp_path / "kept")
    for variables, cached in [({}, False), (narrow, False), ({}, True), (narrow, True)]:
        printed = run_python(KEPT, XPRNN_CACHE=kept, XPRNN_LOWERING="numba", **variables)
        assert printed == f"{cached} True\n"


@pytest.mark.parametrize(
    ("triple", "cpu", "found"),
    [
        ("x86_64-unknown-linux-gnu", "nehalem", (16, 16)),
        ("x86_64-unknown-linux-gnu", "haswell", (32, 16)),
        ("x86_64-unknown-linux-gnu", "znver3", (32, 16)),
        ("x86_64-unknown-linux-gnu", "skylake-avx512", (64, 32)),
        ("aarch64-unknown-linux-gnu", "neoverse-n1", (16, 32)),
        ("arm64-apple-darwin", "apple-m1", (16, 32)),
    ],
)
def test_what_llvm_says_of_a_processor(triple, cpu, found):
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        llvm.Target.from_triple(triple)
    except RuntimeError:
        pytest.skip("this LLVM doesn't compile for it")
    assert probe(triple, cpu, "") == found
    shape = tuning.tile_shape(8 * found[0], found[1])
    # Sums, a row of p and an entry of a have registers.
    assert shape.rows * shape.vectors + shape.vectors + 1 <= found[1]


def test_a_processor_that_llvm_does_not_know(monkeypatch):
    monkeypatch.setenv("NUMBA_CPU_NAME", "pentium-99")
    monkeypatch.setenv("XPRNN_LOWERING", "numba")
    why_no_numba.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="NUMBA_CPU_NAME is 'pentium-99', which LLVM"):
            reason = why_no_numba()
        assert "expected a name like 'haswell'" in reason
        assert lowering_word() == "numba"
        with pytest.raises(ImportError, match="pentium-99"):
            xprnn.explain_lowering("lstm")
        monkeypatch.setenv("XPRNN_LOWERING", "on")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "NumPy calls" in xprnn.explain_lowering("lstm")
        monkeypatch.setenv("NUMBA_CPU_NAME", "haswell")
        why_no_numba.cache_clear()
        assert why_no_numba() == ""
    finally:
        why_no_numba.cache_clear()


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ("+avx2,junk", "has 'junk': expected features like '+avx2' or '-avx2'"),
        ("-junk", "has 'junk', which LLVM doesn't know"),
    ],
)
def test_features_that_llvm_does_not_know(monkeypatch, features, said):
    monkeypatch.setenv("NUMBA_CPU_FEATURES", features)
    why_no_numba.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match=re.escape(f"NUMBA_CPU_FEATURES {said}")):
            why_no_numba()
    finally:
        why_no_numba.cache_clear()
