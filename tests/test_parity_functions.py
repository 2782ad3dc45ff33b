"""Every function of a namespace, alone: layouts, special values, accuracy, the smallest input."""

import array_api_strict
import numpy as np
import pytest

from tests.namespaces import Changed, Sealed, Vault
from xprnn import get_backend
from xprnn.backend import prefer
from xprnn.testing.parity.functions import CALLS, check_functions
from xprnn.testing.parity.functions.accuracy import accuracies
from xprnn.testing.parity.functions.operands import LAYOUTS, host_operands, operands
from xprnn.testing.parity.functions.special import BINARY, UNARY, values

pytestmark = pytest.mark.slow

DTYPES = ("float64", "float32")


@pytest.fixture
def changed(monkeypatch):
    """Return a function that checks NumPy's or another namespace with some functions replaced."""

    def check(base=np, dtype="float64", **functions):
        made = Changed(base, **functions)
        monkeypatch.setattr("tests.namespaces.replaced", made, raising=False)
        monkeypatch.delitem(_opened(), "tests.namespaces:replaced", raising=False)
        backend = get_backend("tests.namespaces:replaced", dtype=dtype)
        with prefer(backend.library), backend.library.quiet():
            report = check_functions(backend)
        monkeypatch.delitem(_opened(), "tests.namespaces:replaced", raising=False)
        return {row.name: row for row in report.rows if row.status != "agrees"}, report

    return check


def _opened():
    from xprnn.backend import registry

    return registry._user_namespaces


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["numpy", "array_api_strict", "torch"])
def test_right_namespaces_are_right(name, dtype):
    report = check_functions(get_backend(name, dtype=dtype))
    assert [row.name for row in report.rows] == list(CALLS)
    assert [str(row) for row in report.rows if row.status != "agrees"] == []
    assert all(0.3 < ulps < 4 for ulps in report.ulps.values())
    assert set(report.ulps) == {"tanh", "exp", "log", "sqrt"}


def test_half_precision():
    for name in ("numpy", "torch"):
        report = check_functions(get_backend(name, dtype="float16"))
        assert all(row.agrees for row in report.rows)


def _is_flipped(a):
    return isinstance(a, np.ndarray) and any(s < 0 for s in a.strides)


def _is_broadcast(a):
    return isinstance(a, np.ndarray) and 0 in a.strides and a.size > 1


def _is_transposed(a):
    return isinstance(a, np.ndarray) and a.ndim == 2 and a.strides[0] < a.strides[1]


def _is_strided(a):
    return isinstance(a, np.ndarray) and a.ndim == 2 and a.strides[1] == 2 * a.itemsize


def _is_offset(a):
    return isinstance(a, np.ndarray) and a.base is not None and a.flags.c_contiguous


@pytest.mark.parametrize(
    ("layout", "when", "words"),
    [
        ("flipped", _is_flipped, "for flipped flags = [[True, True]], positive = [["),
        ("broadcast", _is_broadcast, "for broadcast flags"),
        ("transposed", _is_transposed, "for transposed flags"),
        ("strided", _is_strided, "for strided flags"),
    ],
)
def test_a_function_that_is_wrong_for_one_layout_is_caught(changed, layout, when, words):
    """As a library does that looks at the strides of one operand alone."""

    def where(condition, x, y):
        made = np.where(condition, x, y)
        return made + 0.5 if when(x) else made

    wrong, _ = changed(where=where)
    assert set(wrong) == {"where"}
    assert wrong["where"].where.startswith("where[")
    assert wrong["where"].detail.startswith(words)


def test_layouts_are_what_they_are_called():
    numpy = get_backend("numpy", dtype="float64")
    checks = {
        "flipped": _is_flipped,
        "broadcast": _is_broadcast,
        "transposed": _is_transposed,
        "strided": _is_strided,
        "offset": _is_offset,
    }
    for layout in LAYOUTS:
        made = operands(numpy, layout)
        want = host_operands(rows_alike=layout == "broadcast")
        for name, array in made.arrays.items():
            assert np.array_equal(array, want[name])
            if name in ("x", "y", "positive") and layout in checks:
                assert checks[layout](array), (layout, name)


def test_the_smallest_input_is_found(changed):
    wrong, _ = changed(sum=lambda x, **o: np.sum(x, **o) + 0.5 * (np.shape(x)[-1:] >= (3,)))
    assert wrong["sum"].detail.startswith("for x = [[")
    # Two rows of three numbers: the smallest shape with three columns.
    assert wrong["sum"].detail.count("[") == 3
    wrong, _ = changed(exp=lambda x: np.exp(x) * (1.5 if len(np.shape(x)) == 2 else 1.0))
    assert wrong["exp"].detail == "for x = [[1.75]]"


@pytest.mark.parametrize(
    ("name", "change", "where"),
    [
        ("sum", {"sum": lambda x, **o: np.sum(x, **o) * (1 if x.size else np.nan)}, "sum"),
        ("exp", {"exp": lambda x: np.exp(x) * (1 if np.ndim(x) else 2)}, "exp"),
    ],
    ids=["empty", "no-dimensions"],
)
def test_empty_arrays_and_arrays_without_dimensions(changed, name, change, where):
    wrong, _ = changed(**change)
    assert set(wrong) == {name}
    assert wrong[name].where.startswith(where)


def test_integers_are_tried(changed):
    def as_int8(a):
        return np.abs(a.astype("int8") * 32) // 32 if np.asarray(a).dtype.kind == "i" else np.abs(a)

    wrong, _ = changed(abs=as_int8)
    assert set(wrong) == {"abs"}


class Rounded(Sealed):
    """An array whose product with one number is wrong."""

    @staticmethod
    def _seal(value):
        return Rounded(value) if isinstance(value, type(array_api_strict.empty(0))) else value

    def __rmul__(self, number):
        return self._seal(self._held * (number + 1e-3 * (number == 8.0)))


class RoundedVault(Vault):
    arrays = Rounded


def test_an_operator_is_named_as_the_operator(changed):
    wrong, _ = changed(RoundedVault())
    assert set(wrong) == {"operator 8.0 * x"}
    assert wrong["operator 8.0 * x"].where.startswith("operator 8.0 * x[0, 0]")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"tanh": lambda x: np.tanh(x) + 0.0}, "tanh of -0.0 is 0.0: expected -0.0"),
        (
            {"maximum": lambda a, b: np.where(np.greater(a, b), a, b)},
            "maximum of nan, 0.0 is 0.0: expected nan",
        ),
        ({"sqrt": lambda x: np.sqrt(np.abs(x))}, "sqrt of -0.0 is 0.0: expected -0.0"),
        ({"exp": lambda x: np.exp(np.minimum(x, 700.0))}, "exp of 1.797"),
        ({"isfinite": lambda x: ~np.isnan(x)}, "isfinite of inf is True: expected False"),
    ],
    ids=["zero", "nan", "negative", "huge", "infinite"],
)
def test_special_values(changed, change, where):
    wrong, _ = changed(**change)
    (name,) = change
    assert set(wrong) == {name}
    assert wrong[name].where.startswith(where)


def test_subnormal_numbers_may_be_zero_and_it_is_said(changed):
    def flushing(function):
        def flushed(x):
            small = np.abs(x) < np.finfo(np.asarray(x).dtype).smallest_normal
            return function(np.where(small, np.copysign(np.zeros_like(x), x), x))

        return flushed

    wrong, report = changed(sqrt=flushing(np.sqrt), log=flushing(np.log))
    assert wrong == {}
    assert report.notes == ("takes subnormal numbers for zero: sqrt, log",)


def test_special_values_have_their_names_in_the_list():
    assert set(UNARY) | set(BINARY) <= set(CALLS)
    a = values("float32")
    assert a.dtype == "float32"
    assert np.sum(np.isnan(a)) == 1
    assert np.sum(np.isinf(a)) == 2
    assert np.sum((a != 0) & (np.abs(a) < np.finfo("float32").smallest_normal)) == 4


def test_an_error_of_some_numbers_is_found(changed):
    """A function may be wrong where the small arrays have no numbers: beyond 100, say."""

    def exp(x):
        return np.exp(x) * np.where((x > 100) & (x < 700), 1 + 1e-9, 1)

    wrong, report = changed(exp=exp)
    assert set(wrong) == {"exp"}
    assert wrong["exp"].error == pytest.approx(1e-9, rel=1e-3)
    assert wrong["exp"].where.startswith("exp of ")
    assert report.ulps["exp"] > 1e6


def test_units_in_the_last_place_are_measured(changed):
    _, report = changed(exp=lambda x: np.nextafter(np.nextafter(np.exp(x), np.inf), np.inf))
    assert 2 < report.ulps["exp"] < 2.7


def test_without_mpmath_float64_is_not_judged(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mpmath", None)
    assert accuracies(get_backend("numpy", dtype="float64")) == ({}, [])
    ulps, wrong = accuracies(get_backend("numpy", dtype="float32"))
    assert set(ulps) == {"tanh", "exp", "log", "sqrt"}
    assert wrong == []


def test_a_missing_function_is_skipped_and_named():
    backend = get_backend("tests.namespaces:no_unique", dtype="float64")
    report = check_functions(backend)
    (row,) = [row for row in report.rows if row.status != "agrees"]
    assert (row.name, row.status) == ("unique_inverse", "skipped")
    assert row.agrees
    assert str(row).startswith("functions: unique_inverse skipped: the namespace")


def test_a_wrong_asarray_ends_it():
    backend = get_backend("tests.namespaces:rounding_asarray", dtype="float64")
    with prefer(backend.library):
        report = check_functions(backend)
    assert [row.name for row in report.rows] == ["asarray"]


def test_an_exception_is_kept_whole(changed):
    def broken(x):
        raise ZeroDivisionError("no\n  exp today")

    wrong, _ = changed(exp=broken)
    assert wrong["exp"].where == "exp fails: ZeroDivisionError: no exp today"
    assert "in broken" in wrong["exp"].trace


def test_a_device_without_indices_is_told():
    """array-api-strict's device without 64-bit integers can't return indices (in 2.6.1)."""
    report = check_functions(get_backend("array_api_strict@no_x64"))
    assert [row.name for row in report.rows] == list(CALLS)
    wrong = {row.name for row in report.rows if row.status != "agrees"}
    assert wrong <= {"searchsorted", "unique_inverse"}
