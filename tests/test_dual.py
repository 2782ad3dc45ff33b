"""Dual arrays: every function's derivative, whatever the shapes, on every library."""

import array_api_strict
import numpy as np
import pytest

from xprnn import get_backend
from xprnn.backend.differentiation import dual_backend, lifted, noting_kinks, tangent_of, value_of
from xprnn.backend.dual.rules import BINARY, UNARY

K = 3
"""Directions at once."""
POSITIVE = {"sqrt", "log", "log2", "log10", "acosh", "pow", "atan2", "hypot"}
SMALL = {"asin", "acos", "atanh", "log1p"}
STEP = 1e-3


def numpy():
    return dual_backend(get_backend("numpy", dtype="float64"))


def points(name, *shape, seed=0):
    """Return arguments far from every kink and jump."""
    x = np.random.default_rng(seed).uniform(0.15, 0.85, shape)
    if name in SMALL or name == "tan":
        return x
    x = x + np.random.default_rng(seed + 1).integers(1 if name in POSITIVE else -3, 3, shape)
    return np.where(np.abs(x - np.round(x)) < 0.05, x + 0.1, x) if name == "round" else x


def by_differences(function, arrays, directions):
    """Return the derivatives along directions, with an error of the sixth order in the step."""
    weights = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}

    def at(k, t):
        return function(*(a + t * d[k] for a, d in zip(arrays, directions, strict=True)))

    return np.stack(
        [
            sum(w * (at(k, n * STEP) - at(k, -n * STEP)) for n, w in weights.items()) / STEP
            for k in range(K)
        ]
    )


def check(function, *arrays, backend=None, near=1e-9):
    """Compare the tangents of ``function(xp, *arrays)`` with differences on NumPy."""
    dual = dual_backend(backend) if backend else numpy()
    base = backend or get_backend("numpy", dtype="float64")
    rng = np.random.default_rng(7)
    directions = [rng.uniform(-1, 1, (K, *a.shape)) for a in arrays]
    given = [
        lifted(dual, base.asarray(a), base.asarray(d))
        for a, d in zip(arrays, directions, strict=True)
    ]
    y = function(dual.xp, *given)
    value, tangent = (base.to_numpy(a) for a in (value_of(y), tangent_of(y, K)))
    xp = get_backend("numpy").xp
    np.testing.assert_allclose(value, function(xp, *arrays), rtol=1e-13, atol=1e-13)
    assert tangent.shape == (K, *value.shape)
    wanted = by_differences(lambda *a: function(xp, *a), arrays, directions)
    np.testing.assert_allclose(tangent, wanted, rtol=near, atol=near)


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_argument(name):
    x = points(name, 4, 5) + (1.0 if name == "acosh" else 0.0)
    check(lambda xp, a: getattr(xp, name)(a), x, near=1e-8)


# nextafter's value is the argument's up to the last digit, which differences can't resolve.
@pytest.mark.parametrize("name", [*sorted(BINARY.keys() - {"nextafter"}), "pow"])
@pytest.mark.parametrize("shapes", [((4, 5), (4, 5)), ((5,), (4, 5)), ((4, 1), (5,))], ids=str)
def test_functions_of_two_arguments(name, shapes):
    one, other = (points(name, *shape, seed=k) for k, shape in enumerate(shapes))
    if name in ("maximum", "minimum"):
        other = other + 0.05
    if name in ("remainder", "floor_divide"):
        one, other = np.full(shapes[0], 7.3), np.full(shapes[1], 2.1)
    check(lambda xp, a, b: getattr(xp, name)(a, b), one, other, near=1e-7)


def numbers_on_either_side(xp, a):
    return (2 - a) * 3 + a / 2 - 1 / a + (a**2) * 0.5 + 2**a - (+a) - abs(-a)


def shapes_of_all_kinds(xp, a):
    b = xp.permute_dims(a, (2, 0, 1))  # (4, 2, 3)
    b = xp.reshape(b, (4, 6))
    c = xp.concat((b, xp.flip(b, axis=0)), axis=-1)[1:, ::2]  # (3, 6)
    d = xp.stack((c, 2 * c), axis=1)  # (3, 2, 6)
    e = xp.broadcast_to(d[0, ...][None, ...], (2, 2, 6))
    one, other = xp.unstack(xp.moveaxis(e, 0, -1), axis=-1)
    f = xp.squeeze(xp.expand_dims(one * other, axis=0), axis=0)
    return xp.take(f, xp.asarray([0, 2, 2]), axis=1) + xp.roll(f, 1, axis=1)[:, :3]


def sums_of_all_kinds(xp, a):
    a = xp.asarray(a)
    one = xp.sum(a) + xp.mean(a, axis=-1) * xp.var(a, axis=(0, 1), correction=1)[:3]
    two = xp.std(a, axis=0) + xp.max(a, axis=0) - xp.min(a, axis=0, keepdims=True)[0, ...]
    return xp.sum(two, axis=1) + xp.sum(one) + xp.cumulative_sum(xp.sum(a, axis=0), axis=1)[:, 2]


def choices(xp, a):
    high = xp.clip(a, 0.4, 0.6) + xp.where(a > 0.5, a * a, xp.zeros_like(a))
    at = xp.argmax(a, axis=-1)[..., None]
    return high + xp.take_along_axis(a, at, axis=-1) + xp.sort(a, axis=-1) * xp.astype(a, a.dtype)


@pytest.mark.parametrize(
    "function", [numbers_on_either_side, shapes_of_all_kinds, sums_of_all_kinds, choices]
)
@pytest.mark.parametrize("backend", ["numpy", "array_api_strict", "torch"])
def test_the_other_functions(function, backend):
    x = np.random.default_rng(3).uniform(0.2, 0.8, (2, 3, 4))
    check(function, x, backend=get_backend(backend, dtype="float64"), near=1e-8)


@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4, 5)),
     ((3, 4), (2, 4, 5)), ((2, 3, 4), (4,))],
    ids=str,
)  # fmt: skip
def test_products(left, right):
    check(lambda xp, a, b: a @ b, points("", *left), points("", *right, seed=5))


def test_what_does_not_change_has_no_tangent():
    xp, one = numpy().xp, lifted(numpy(), np.ones(3), np.ones((1, 3)))
    for a in (xp.zeros_like(one), one > 0, xp.isfinite(one), xp.argmax(one), xp.asarray([1.0])):
        assert a.tangent is None
    assert (one + np.ones(3)).tangent is not None
    assert (np.ones(3) + one).tangent is not None


def test_what_has_no_derivative_is_refused_by_name():
    xp, one = numpy().xp, lifted(numpy(), np.ones((2, 2)), np.ones((1, 2, 2)))
    with pytest.raises(TypeError, match=r"xp\.unique_values has no rule for its derivative"):
        xp.unique_values(one)
    with pytest.raises(TypeError, match=r"xp\.linalg has no derivatives"):
        xp.linalg.inv(one)
    with pytest.raises(TypeError, match=r"float\(\) takes a number out of an array, and so loses"):
        float(xp.sum(one))
    with pytest.raises(TypeError, match="writes into an array"):
        one[0, 0] = 1.0
    with pytest.raises(TypeError):
        np.exp(one)
    assert float(xp.sum(xp.ones((2, 2)))) == 4.0


def test_kinks_are_noted_with_their_place_and_their_directions():
    dual = numpy()
    x = lifted(dual, np.array([[1.0, 0.0, -2.0]]), np.array([[[1.0, 0, 0]], [[0, 1.0, 0]]]))
    with noting_kinks() as found:
        dual.xp.maximum(x, 0.0)
        abs(x)
        dual.xp.where(x >= 0, x, 2 * x)
        dual.xp.max(x, axis=-1)
        dual.xp.clip(x, -1, 0)
    assert [kink.function for kink in found] == ["maximum", "abs", "greater_equal", "clip"]
    for kink in found:
        assert kink.place == (0, 1)
        assert list(kink.along) == [False, True]
        assert "test_dual.py:" in str(kink)
        assert str(kink).endswith("in test_kinks_are_noted_with_their_place_and_their_directions)")


def test_at_a_tie_the_second_argument_is_chosen():
    dual = numpy()
    x = lifted(dual, np.zeros(2), np.ones((1, 2)))
    np.testing.assert_array_equal(dual.xp.maximum(x, 0.0).tangent, np.zeros((1, 2)))


@pytest.mark.parametrize(
    "backend",
    ["numpy", "torch", "array_api_strict", pytest.param("jax", marks=pytest.mark.full)],
)
def test_operations_that_libraries_have_faster(backend):
    base = get_backend(backend, dtype="float64")
    dual, rng = dual_backend(base), np.random.default_rng(0)
    rows, d = rng.normal(size=(5, 3)), rng.normal(size=(K, 5, 3))
    index = lifted(dual, base.asarray(np.array([2, 0, 2, 3, 0])))
    library = dual.library
    a = lifted(dual, base.asarray(rows), base.asarray(d))
    found, sums = library.sum_by_index(a, index)
    np.testing.assert_array_equal(base.to_numpy(value_of(found)), [0, 2, 3])
    want = np.stack([d[:, [1, 4]].sum(1), d[:, [0, 2]].sum(1), d[:, 3]], axis=1)
    np.testing.assert_allclose(base.to_numpy(tangent_of(sums, K)), want, rtol=1e-14)
    for axis, turn in ((0, lambda a: a), (1, lambda a: a.T)):
        zeros = library.zeros((4, 3) if axis == 0 else (3, 4), base.dtype, base.device)
        for put in (library.add_at, library.put_at):
            spread = turn(put(zeros, found, turn(sums), axis))
            got = base.to_numpy(tangent_of(spread, K))
            np.testing.assert_allclose(got[:, [0, 2, 3]], want, rtol=1e-14)
            assert not got[:, 1].any()
    whole = library.put_rows(a, slice(1, 3), a[3:, ...])
    np.testing.assert_array_equal(base.to_numpy(tangent_of(whole, K)), d[:, [0, 3, 4, 3, 4]])


def test_the_library_of_a_dual_array_is_found():
    from xprnn.backend import find_library, namespace_of

    dual = dual_backend(get_backend("array_api_strict", dtype="float64"))
    a = lifted(dual, array_api_strict.ones(2))
    assert find_library(a) is dual.library
    assert namespace_of(a) is dual.xp
    assert dual_backend(get_backend("array_api_strict")).library is dual.library
    assert not dual_backend(get_backend("torch")).library.is_array(a)
