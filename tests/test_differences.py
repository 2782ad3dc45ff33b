"""Numeric derivatives of functions whose derivatives are known."""

import numpy as np
import pytest

from xprnn.testing.gradients.compare import Directions, Entries, compare
from xprnn.testing.gradients.numeric import (
    EPS,
    RUNGS,
    STEP,
    Function,
    Slopes,
    central,
    complex_step,
    rounding_of,
    why_not_complex,
)

LIMIT = 1e-6 / 8


def of(formula, values, grain=0.0):
    """Return Σ formula(a), entry by entry, as a function of an array a."""
    variables = {"a": np.array(values, dtype=np.float64)}
    return Function(variables, lambda moved: formula({**variables, **moved}["a"]).ravel(), grain)


def slopes(f):
    rest = f.terms({})
    rounding = rounding_of(f, rest, np.random.default_rng(0))
    return central(f, Entries("a", f.variables["a"]), rest, rounding, LIMIT)


FORMULAS = {
    "exp": (np.exp, np.exp),
    "tanh": (np.tanh, lambda a: 1 / np.cosh(a) ** 2),
    "cube": (lambda a: a**3, lambda a: 3 * a**2),
    # Its curvature has a scale of 1e-3.
    "wave": (lambda a: np.sin(1000 * a) / 1000, lambda a: np.cos(1000 * a)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_derivatives_of_smooth_functions(name):
    formula, derivative = FORMULAS[name]
    values = np.random.default_rng(1).normal(size=(4, 5))
    f = of(formula, values)
    found, want = slopes(f), derivative(values).ravel()
    assert not np.any(found.kink)
    assert np.all(np.abs(found.value - want) <= 1e-6 * np.abs(want) + 1e-9 + found.noise)
    exact = complex_step(f, Entries("a", values)).value
    np.testing.assert_allclose(exact, want, rtol=1e-12)


def test_large_values_have_large_steps():
    found = slopes(of(lambda a: a**2, [1e8, 1e-8]))
    np.testing.assert_allclose(found.value, [2e8, 2e-8], rtol=1e-7, atol=1e-2)
    assert found.noise[0] < 1e4
    assert Entries("a", np.array([1e8, -3.0, 0.01])).size(0) == 1e8
    assert [Entries("a", np.array([1e8, -3.0, 0.01])).size(k) for k in (1, 2)] == [3.0, 1.0]


def test_noise_is_not_below_the_error():
    # 1e6 is added and subtracted, so that digits are lost.
    f = of(lambda a: (np.tanh(a) + 1e6) - 1e6, np.linspace(-2, 2, 50), grain=1e6)
    found = slopes(f)
    error = np.abs(found.value - 1 / np.cosh(np.linspace(-2, 2, 50)) ** 2)
    assert np.all(error <= found.noise)
    assert np.max(error) > np.max(found.noise) / 1000


def test_terms_that_stay_add_no_rounding():
    variables = {"a": np.zeros(1)}

    def terms(moved):
        return np.array([1e12, float({**variables, **moved}["a"][0])])

    f = Function(variables, terms)
    found = central(f, Entries("a", variables["a"]), f.terms({}), 0.0, LIMIT)
    assert found.value == pytest.approx([1.0], abs=1e-12)


@pytest.mark.parametrize("distance", np.concatenate([[0.0], np.logspace(-5, 0.5, 80)]))
@pytest.mark.parametrize("side", [-1, 1])
def test_a_kink_is_found_or_avoided(distance, side):
    # The slope is 1 below the kink and 3 above it.  Distances are relative to the largest step.
    at = side * distance * STEP
    found = slopes(of(lambda a: 1.0 * a + 2.0 * np.maximum(a - at, 0), [0.0]))
    smooth = 1.0 if at > 0 else 3.0
    if distance == 0:
        assert found.kink[0]
    assert found.kink[0] or found.value[0] == pytest.approx(smooth, rel=1e-6)
    if distance > RUNGS[-1]:
        assert not found.kink[0]


def test_a_small_kink_is_one_if_it_is_larger_than_rounding():
    bent = of(lambda a: 1 + a + 2e-5 * np.maximum(a, 0), [0.0])
    assert slopes(bent).kink.tolist() == [True]
    lost = of(lambda a: 1 + a + 2e-9 * np.maximum(a, 0), [0.0])
    assert slopes(lost).kink.tolist() == [False]


def test_a_jump_is_a_kink():
    assert slopes(of(lambda a: np.where(a > 1e-9, 1.0, 0.0) + a, [0.0])).kink.tolist() == [True]


def test_what_is_not_finite_is_no_kink():
    with np.errstate(invalid="ignore"):
        found = slopes(of(lambda a: a * np.inf, [1.0]))
    assert not found.kink[0]
    assert not np.isfinite(found.value[0])


@pytest.mark.parametrize(
    ("formula", "analytic"),
    [
        (np.tanh, True),
        (lambda a: a.real**2, False),
        (np.abs, False),
        (lambda a: np.tanh(a) + 1e-2 * np.abs(a), False),
        (lambda a: np.exp(a) if a.dtype == np.float64 else 1 / 0, False),
        (lambda a: a * np.nan if a.dtype == complex else a, False),
    ],
)
def test_the_complex_step_is_believed_only_where_it_is_right(formula, analytic):
    f = of(formula, [0.5, -1.5])
    rest = f.terms({})
    rounding = rounding_of(f, rest, np.random.default_rng(0))
    reason = why_not_complex(f, rest, rounding, np.random.default_rng(1))
    assert (reason is None) == analytic


def test_a_network_that_is_not_finite_is_no_reason_against_the_complex_step():
    f = of(lambda a: a * np.nan, [0.5])
    assert why_not_complex(f, f.terms({}), 0.0, np.random.default_rng(1)) is None


def compared(g, n, *, size=0.0, noise=0.0, kink=False, tolerance=1e-6):
    g, n = np.array(g, dtype=np.float64), np.array(n, dtype=np.float64)
    found = Slopes(n, np.full(n.shape, noise), np.broadcast_to(kink, n.shape))
    flat = found._replace(value=n.ravel(), noise=found.noise.ravel(), kink=found.kink.ravel())
    return compare(Entries("a", g), g.shape, {"a": g}, flat, tolerance, size)


@pytest.mark.parametrize(
    ("g", "n", "options", "verdict"),
    [
        ([1.0, 2.0], [1.0, 2.0], {}, "right"),
        ([1.0, 2.0], [1.0, 2.0 + 1e-5], {}, "wrong"),
        ([1.0, 2.0], [1.0, 2.0 + 1e-6], {}, "right"),
        ([1.0, 2.0], [1.0, 2.0 + 1e-5], {"tolerance": 1e-4}, "right"),
        # Errors are relative to the entry itself, or to a thousandth of the largest.
        ([1.0, 1e-2], [1.0, 1e-2 + 1e-7], {}, "wrong"),
        ([1.0, 1e-6], [1.0, 1e-6 + 5e-10], {}, "right"),
        ([1.0, 1e-6], [1.0, 1e-6 + 5e-9], {}, "wrong"),
        ([0.0, 0.0], [0.0, 1e-9], {}, "wrongly zero"),
        ([0.0, 1e-9], [0.0, 0.0], {}, "wrong"),
        ([0.0, 0.0], [0.0, 0.0], {}, "zero"),
        ([0.0, 0.0], [0.0, 1e-9], {"noise": 1e-8}, "zero"),
        ([1e-9, 0.0], [0.0, 0.0], {"noise": 1e-8}, "unseen"),
        ([1.0, 0.0], [1.0, 1e-9], {"noise": 1e-8}, "right"),
        ([1.0, 0.0], [1.0, 1e-7], {"noise": 1e-8}, "wrong"),
        ([1.0, 0.0], [1.0, 2e-9 + 8 * EPS * 1e6], {"size": 1e6}, "right"),
        ([1.0, 0.0], [1.0, 2e-9 + 32 * EPS * 1e6], {"size": 1e6}, "wrong"),
        ([np.nan, 1.0], [1.0, 1.0], {}, "not finite"),
        ([1.0, np.inf], [1.0, 1.0], {}, "not finite"),
        ([1.0, 1.0], [1.0, np.nan], {}, "not finite"),
        ([5.0, 1.0], [1.0, 1.0], {"kink": [True, False]}, "right"),
        ([5.0, 2.0], [1.0, 1.0], {"kink": [True, False]}, "wrong"),
        ([5.0, 2.0], [1.0, 1.0], {"kink": True}, "kinks"),
        ([np.nan, 1.0], [1.0, 1.0], {"kink": [True, False]}, "not finite"),
    ],
)
def test_verdicts(g, n, options, verdict):
    assert compared(g, n, **options).verdict == verdict


def test_the_worst_entry_is_the_one_farthest_beyond_its_tolerance():
    found = compared([[1.0, 2.0], [3.0, 1e-2]], [[1.0, 2.0], [3.0 + 3e-5, 2e-2]])
    assert found.index == (1, 1)
    assert (found.backward, found.numeric) == (1e-2, 2e-2)
    assert found.error == pytest.approx(1e-2 / (2e-2 + 3e-3), rel=1e-4)
    nan = compared([1.0, 2.0, np.nan], [9.0, 2.0, 1.0])
    assert nan.index == (2,)
    assert compared([1.0, np.nan], [1.0, 1.0], kink=[False, True]).index == (1,)


def test_inner_products_of_directions():
    moved = {"a": np.array([1.0, -2.0]), "b": np.array([[3.0]])}
    probe = Directions("all", (moved, {"a": np.array([0.0, 1.0])}))
    gradients = {"a": np.array([10.0, 1.0]), "b": np.array([[2.0]])}
    assert probe.project(gradients).tolist() == [14.0, 1.0]
    assert probe.index(0) is None
