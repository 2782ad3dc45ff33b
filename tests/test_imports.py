"""Which modules are imported, and when."""

import pytest

from tests.process import run_python

pytestmark = pytest.mark.slow

ARRAYS = ("torch", "jax", "array_api_strict", "cupy")
HEAVY = (
    *ARRAYS,
    "jaxlib",
    "matplotlib",
    "tqdm",
    "safetensors",
    "scipy",
    "pandas",
    "numba",
    "threadpoolctl",
)

LOADED = f"""
import sys
print(*sorted(set({HEAVY}) & {{name.partition(".")[0] for name in sys.modules}}))
"""


def test_importing_the_library_loads_no_other_array_library():
    assert run_python("import xprnn" + LOADED).split() == []


OWN = """
import sys, numpy.random
before = set(sys.modules)
import xprnn
after = set(sys.modules) - before
outside = {name.partition(".")[0] for name in after} - sys.stdlib_module_names
print(*sorted(outside))
print(*sorted(name for name in after if name.count(".") == 1 and name.startswith("xprnn.")))
print(*sorted(name for name in after if name.startswith("numpy.")))
print(*sorted({"unittest", "subprocess", "argparse", "asyncio", "multiprocessing"} & after))
"""


def test_importing_the_library_loads_itself_and_numpy_alone():
    """``import xprnn`` loads neither all of NumPy nor the parts of xprnn that no training needs."""
    outside, parts, numpys, standard = run_python(OWN).splitlines()
    assert outside.split() == ["xprnn"]
    late = {"xprnn.testing", "xprnn.diagnostics", "xprnn.interop", "xprnn.cli", "xprnn.bench"}
    assert not late & set(parts.split())
    assert {"xprnn.engine", "xprnn.training"} <= set(parts.split())
    assert numpys.split() == []
    assert standard.split() == []


def test_late_parts_come_when_asked_for():
    code = """
import sys, xprnn
for name in ("testing", "diagnostics", "interop"):
    assert name in dir(xprnn) and name in xprnn.__all__
    print(getattr(xprnn, name).__name__)
try:
    xprnn.tests
except AttributeError as error:
    print(error)
"""
    assert run_python(code).splitlines() == [
        "xprnn.testing",
        "xprnn.diagnostics",
        "xprnn.interop",
        "module 'xprnn' has no attribute 'tests'",
    ]


def test_training_on_numpy_loads_no_other_array_library():
    code = """
import numpy as np, xprnn
net = xprnn.RNN(1, 3, 1, rng=0)
x = net.backend.asarray(np.ones((4, 2, 1)))
history = xprnn.fit(net, xprnn.data.minibatches(x, x, 1, rng=0), clip_norm=1.0)
assert len(history) == 1
"""
    assert run_python(code + LOADED).split() == []


@pytest.mark.parametrize("name", ["torch", "array_api_strict"])
def test_opening_a_backend_loads_that_library_alone(name):
    others = set(ARRAYS) - {name}
    loaded = run_python(f"import xprnn; xprnn.get_backend({name!r})" + LOADED).split()
    assert name in loaded
    assert not others & set(loaded)


def test_opening_jax_loads_it_alone_and_sets_its_flag_when_asked_for_float64_alone():
    code = f"""
import numpy as np, xprnn
net = xprnn.RNN(2, 2, 2, backend="jax", rng=0)
{LOADED}
import jax
x = net.backend.asarray(np.ones((2, 2, 2)))
xprnn.fit(net, [(x, x)], clip_norm=1.0)
print(jax.config.jax_enable_x64, *{{str(p.dtype) for p in net.parameters.values()}})
x, target = np.random.default_rng(0).normal(size=(2, 2, 2, 2))
nets = [xprnn.RNN(2, 2, 2, dtype="float64", rng=0, backend=name) for name in ("jax", "numpy")]
for net in nets:
    value, gradient = net.value_and_grad(net.backend.asarray(x), net.backend.asarray(target))
    print(value.dtype, repr(float(value)), float(gradient.parameters["weight_hh_l0"][0, 0]))
"""
    loaded, single, in_jax, in_numpy = run_python(code).splitlines()
    assert "jax" in loaded.split()
    assert not {"torch", "array_api_strict", "cupy"} & set(loaded.split())
    assert single.split() == ["False", "float32"]
    assert in_jax.split()[0] == "float64"
    got, want = ([float(word) for word in line.split()[1:]] for line in (in_jax, in_numpy))
    assert got == pytest.approx(want, rel=1e-13)
