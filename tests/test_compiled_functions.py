"""The elementwise functions of compiled loops: those made for them, and all that formulas use."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from tests.time_loops import Problem
from xprnn import get_backend
from xprnn.engine.loop import lowering
from xprnn.engine.loop.explaining import explain_lowering
from xprnn.engine.loop.program import ARITHMETIC, COMPARISONS, FUNCTIONS
from xprnn.testing import check_cell

pytestmark = pytest.mark.slow

numba = pytest.importorskip("numba")

from xprnn.backend.numba import functions  # noqa: E402
from xprnn.backend.numba.target import target  # noqa: E402

TINY = {"float32": np.float32(1e-45), "float64": 5e-324}


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    monkeypatch.setenv("XPRNN_LOWERING", "numba")


@cache
def over(function, arguments=1):
    """Return a function of one number as a function of an array, vectorised as in a time loop."""
    if arguments == 1:

        def loop(x, out):
            for j in range(x.shape[0]):
                out[j] = function(x[j])

    else:

        def loop(x, y, out):
            for j in range(x.shape[0]):
                out[j] = function(x[j], y[j])

    return numba.njit(error_model="numpy", fastmath={"contract"})(loop)


def values(function, *x):
    out = np.empty_like(x[0])
    over(function, len(x))(*x, out)
    return out


def numbers(dtype, largest):
    """Return numbers of every size and both signs, without the special ones."""
    rng = np.random.default_rng(0)
    small = np.exp2(rng.uniform(-130 if dtype == "float32" else -1060, 0, 20_000))
    all_of_them = np.concatenate(
        [small, rng.uniform(0, 1, 20_000), rng.uniform(0, largest, 20_000)]
    )
    return np.concatenate([all_of_them, -all_of_them]).astype(dtype)


def in_last_places(got, want):
    """Return the largest error, in units in the last place, against results of higher precision."""
    unit = np.spacing(np.abs(want.astype(got.dtype)))
    return np.max(np.abs(got.astype(want.dtype) - want) / unit)


@pytest.mark.parametrize(
    ("function", "judge", "dtype", "largest", "bound"),
    [
        (functions.tanh32, np.tanh, "float32", 12, 5),
        (functions.tanh64, np.tanh, "float64", 25, 2),
        (functions.exp64, np.exp, "float64", 700, 2),
    ],
    ids=["tanh32", "tanh64", "exp64"],
)
def test_accuracy(function, judge, dtype, largest, bound):
    x = numbers(dtype, largest)
    exact = judge(x.astype(np.float64 if dtype == "float32" else np.longdouble))
    if np.finfo(np.longdouble).eps == np.finfo(np.float64).eps:
        bound += 1  # the judge's own rounding
    if target().vector_bytes == 16:
        bound += 0.5  # without fused multiplication and addition each product is rounded
    assert in_last_places(values(function, x), exact) <= bound


@pytest.mark.parametrize(
    ("function", "dtype"), [(functions.tanh32, "float32"), (functions.tanh64, "float64")]
)
def test_tanh_of_special_values(function, dtype):
    largest, tiny = np.finfo(dtype).max, TINY[dtype]
    x = np.array([0, -0.0, np.inf, -np.inf, np.nan, largest, -largest, tiny, -tiny], dtype)
    got = values(function, x)
    np.testing.assert_array_equal(got[:7], np.array([0, 0, 1, -1, np.nan, 1, -1], dtype))
    np.testing.assert_array_equal(np.signbit(got[:2]), [False, True])
    assert np.all(np.abs(got[7:]) <= 2 * tiny)
    x = np.linspace(0, 30, 10_001, dtype=dtype)
    assert np.all(np.abs(values(function, np.concatenate([x, -x]))) <= 1)
    # An odd function, to the bit: what is symmetric stays so.
    np.testing.assert_array_equal(values(function, -x), -values(function, x))


def test_exp_of_special_values():
    x = np.array([0, -0.0, np.inf, -np.inf, np.nan, 709.782712893384, 710, 1e308, -1e308, 5e-324])
    with np.errstate(over="ignore", under="ignore"):
        want = np.exp(x)
    got = values(functions.exp64, x)
    np.testing.assert_allclose(got, want, rtol=4e-16)
    # Down through the subnormals to zero.
    x = np.linspace(-700, -760, 6001)
    with np.errstate(under="ignore"):
        want = np.exp(x)
    got = values(functions.exp64, x)
    assert np.all(np.abs(got - want) <= 2 * np.spacing(want))
    assert want[-1] == got[-1] == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_maximum_and_minimum(name, dtype):
    special = [0, 1, -1, np.inf, -np.inf, np.nan, TINY[dtype]]
    x, y = (a.ravel() for a in np.meshgrid(*[np.array(special, dtype)] * 2))
    with np.errstate(invalid="ignore"):
        want = getattr(np, name)(x, y)
    np.testing.assert_array_equal(values(getattr(functions, name), x, y), want)


@dataclass(frozen=True)
class Everything:
    """A cell that saves functions of u₁ and u₂, and of the truth values u₁ > u₂ and u₂ > u₃."""

    names: tuple[str, ...]

    gates = 3
    state = ("h",)

    def forward(self, xp, u, v, state):
        truths = u[0] > u[1], u[1] > u[2]
        saved = []
        for name in self.names:
            args = u if name in ARITHMETIC or name in COMPARISONS else truths
            saved.append(getattr(xp, name)(*args[: FUNCTIONS[name]]))
        return (u[0],), tuple(saved)

    def backward(self, xp, saved, previous, d_state):
        zero = xp.zeros_like(d_state[0])
        return (d_state[0], zero, zero), (zero, zero, zero), (None,)

    def __repr__(self):
        return "Everything"


SOME = (
    "exp",
    "floor_divide",
    "hypot",
    "log1p",
    "maximum",
    "nextafter",
    "pow",
    "remainder",
    "round",
)
"""The functions to check in single precision, too: compiling all of them takes seconds."""

INEXACT = {"float64": 1e-14, "float32": 2e-6}


def made_of_everything(names, dtype):
    """Return what the compiled loop and the plain one save."""
    problem = Problem(Everything(names), 6, 7, 17, dtype=dtype, prepare=np.array)
    special = [0, -0.0, 1, -1, 0.5, -2.5, 3, np.inf, -np.inf, np.nan, TINY[dtype], 1e30, -1e30, 0.1]
    pairs = [a.ravel() for a in np.meshgrid(*[np.array(special, dtype)] * 2)]
    u = problem.u.reshape(-1, 3, 17)
    rows = -(-len(pairs[0]) // 17)
    for k, pair in enumerate(pairs):
        u[:rows, k] = np.resize(pair, (rows, 17))
    with np.errstate(all="ignore"):
        return problem, problem.plain(save=True)[0].saved


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_function_of_a_formula(dtype):
    names = tuple(FUNCTIONS) if dtype == "float64" else SOME
    problem, want = made_of_everything(names, dtype)
    loops = lowering.lowerings_of(problem.backend, problem.cell)[0]
    assert loops.name == "numba"
    assert loops.suits(problem.work()), loops.describe()
    got = loops.forward(problem.u, problem.recurrent, problem.state, save=True).saved
    for name, a, b in zip(names, got, want, strict=True):
        np.testing.assert_allclose(
            a, b, rtol=INEXACT[dtype], atol=INEXACT[dtype], equal_nan=True, err_msg=name
        )


def test_a_formula_that_can_not_be_compiled_runs_all_the_same(monkeypatch):
    loops = pytest.importorskip("xprnn.engine.loop.numba.loops")
    cell = Everything(("expm1", "isfinite"))
    problem = Problem(cell)
    found = lowering.lowerings_of(get_backend("numpy"), cell)[0]
    names = loops._names

    def without(loop, dtype):
        return {k: v for k, v in names(loop, dtype).items() if k != "expm1"}

    monkeypatch.setattr(loops, "_names", without)
    problem.compare(problem.dh)
    assert not found.suits(problem.work())
    assert found.suits(problem.work("backward"))
    assert "forward in float64 can't be compiled: " in explain_lowering(cell)
    names = [finding.name for finding in check_cell(cell).findings]
    assert "lowered h" in names
    assert "lowered by numba h" not in names
