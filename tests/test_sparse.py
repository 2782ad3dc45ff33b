"""Sparse gradients: they compute as their dense form does."""

import numpy as np
import pytest

from tests.closeness import FLOAT64, assert_close
from xprnn.engine.gradients import (
    SparseGradient,
    add,
    clipped,
    dense,
    plus,
    square_sum,
    sum_columns,
    times,
    trimmed,
)
from xprnn.optim import SGD, Rprop, clip_by_norm, clip_by_value, global_norm

DENSE = np.array([[0.0, 3.0, 0.0, -1.0], [0.0, 0.5, 0.0, 0.0], [0.0, -2.0, 0.0, 4.0]])
"""Columns 0 and 2 are zero."""


def sparse(harness, axis: int) -> SparseGradient:
    """Return the matrix above, or its transpose, as a sparse gradient."""
    indices, values = harness.array([1, 3]), DENSE[:, [1, 3]]
    if axis == 1:
        return SparseGradient(indices, harness.array(values), (3, 4), axis=1)
    return SparseGradient(indices, harness.array(values.T), (4, 3), axis=0)


def whole(axis: int) -> np.ndarray:
    return DENSE if axis == 1 else DENSE.T


axes = pytest.mark.parametrize("axis", [0, 1], ids=["rows", "columns"])


@axes
def test_the_whole_matrix(harness, axis):
    g = sparse(harness, axis)
    assert harness.host(g.to_dense()).tolist() == whole(axis).tolist()
    assert harness.host(dense(g)).tolist() == whole(axis).tolist()
    assert dense(g.values) is g.values
    assert g != sparse(harness, axis)


@axes
def test_arithmetic(harness, axis):
    g, want = sparse(harness, axis), whole(axis)
    a = harness.array(np.arange(12.0).reshape(want.shape))
    assert harness.host(plus(a, g)).tolist() == (harness.host(a) + want).tolist()
    assert harness.host(plus(a, a)).tolist() == (2 * harness.host(a)).tolist()
    assert harness.host(a).ravel().tolist() == list(range(12))
    assert harness.host(times(g, -2.0).to_dense()).tolist() == (-2 * want).tolist()
    assert harness.host(times(a, 2.0)).tolist() == (2 * harness.host(a)).tolist()
    assert float(square_sum(g)) == np.sum(want * want)
    assert harness.host(clipped(g, 1.5).to_dense()).tolist() == np.clip(want, -1.5, 1.5).tolist()
    assert harness.host(g.to_dense()).tolist() == want.tolist()


@axes
def test_nothing_at_all(harness, axis):
    indices = harness.array(np.zeros(0, int))
    values = harness.array(np.zeros((3, 0) if axis == 1 else (0, 3)))
    g = SparseGradient(indices, values, (3, 4) if axis == 1 else (4, 3), axis)
    assert not np.any(harness.host(g.to_dense()))
    a = harness.array(whole(axis))
    moved = plus(a, g)
    assert harness.host(moved).tolist() == whole(axis).tolist()
    # JAX arrays can't be written to, so on JAX it may be the same array.
    assert moved is not a or harness.backend.name == "jax"


def test_sums_by_token(harness):
    rows = np.random.default_rng(0).normal(size=(50, 3))
    tokens = np.random.default_rng(1).integers(0, 9, 50) * 2
    g = sum_columns(harness.array(rows), harness.array(tokens), 20)
    assert harness.backend.to_numpy(trimmed(g).indices).tolist() == sorted(set(tokens.tolist()))
    want = np.stack([rows[tokens == j].sum(axis=0) for j in range(20)], axis=1)
    assert_close(harness.host(g.to_dense()), want, FLOAT64)


def test_every_token_the_same(harness):
    g = sum_columns(harness.array(np.ones((4, 2))), harness.array([3, 3, 3, 3]), 5)
    assert harness.host(g.to_dense()).tolist() == [[0, 0, 0, 4, 0]] * 2


def test_clipping(harness):
    g, other = sparse(harness, 1), harness.array([12.0])
    # 9 + 1 + 0.25 + 4 + 16 = 30.25, and 12² = 144.
    assert float(global_norm({"a": g, "b": other})) == pytest.approx(174.25**0.5, rel=1e-15)
    for order in ({"a": g, "b": other}, {"b": other, "a": g}):
        small, norm = clip_by_norm(order, 1.0)
        assert float(norm) == pytest.approx(174.25**0.5, rel=1e-15)
        assert_close(harness.host(small["a"].to_dense()), DENSE / 174.25**0.5, FLOAT64)
        assert_close(harness.host(small["b"]), [12 / 174.25**0.5], FLOAT64)
    cut = clip_by_value({"a": g, "b": other}, 1.0)
    assert harness.host(cut["a"].to_dense()).tolist() == np.clip(DENSE, -1, 1).tolist()
    assert harness.host(cut["b"]).tolist() == [1]


@axes
@pytest.mark.parametrize(
    "optimizer",
    [SGD(0.1), SGD(0.1, momentum=0.9), SGD(0.1, momentum=0.9, nesterov=True, decay=1), Rprop()],
    ids=str,
)
def test_optimizers_take_it_as_its_dense_form(harness, optimizer, axis):
    found = []
    for g in (sparse(harness, axis), harness.array(whole(axis))):
        p = {"w": harness.array(np.ones(whole(axis).shape))}
        state = optimizer.init(p)
        for _ in range(3):
            p, state = optimizer.update({"w": g}, state, p)
        found.append(harness.host(p["w"]))
    assert_close(found[0], found[1], FLOAT64)
    assert np.any(found[0] != 1)


def test_sums_in_blocks_are_sums(harness):
    """So many words that the default's indicator matrix is formed in several blocks."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, 900, 6000)
    rows = rng.normal(size=(6000, 2))
    found, sums = harness.backend.library.sum_by_index(
        harness.array(rows), harness.array(index, "int64")
    )
    expected = np.zeros((900, 2))
    np.add.at(expected, index, rows)
    np.testing.assert_array_equal(harness.backend.to_numpy(found), np.unique(index))
    np.testing.assert_allclose(harness.host(sums), expected[np.unique(index)], atol=1e-11)


@axes
def test_sums(harness, axis):
    g, want = sparse(harness, axis), whole(axis)
    other = SparseGradient(
        harness.array([0, 1]),
        harness.array(DENSE[:, [1, 3]] + 2 if axis == 1 else (DENSE[:, [1, 3]] + 2).T),
        g.shape,
        axis,
    )
    more = harness.host(other.to_dense())
    total = add(g, other)
    assert isinstance(total, SparseGradient)
    assert (total.shape, total.axis) == (g.shape, axis)
    assert harness.backend.to_numpy(trimmed(total).indices).tolist() == [0, 1, 3]
    assert harness.host(total.to_dense()).tolist() == (want + more).tolist()
    assert harness.host(g.to_dense()).tolist() == want.tolist()
    a = harness.array(more)
    for one, two in ((g, a), (a, g)):
        assert harness.host(add(one, two)).tolist() == (want + more).tolist()
    assert harness.host(add(a, a)).tolist() == (2 * more).tolist()
    assert harness.host(a).tolist() == more.tolist()


def test_sums_along_different_axes(harness):
    columns = sparse(harness, 1)
    rows = SparseGradient(harness.array([2]), harness.array([[1.0, 2.0, 3.0, 4.0]]), (3, 4), axis=0)
    want = DENSE + harness.host(rows.to_dense())
    for one, two in ((columns, rows), (rows, columns)):
        assert harness.host(add(one, two)).tolist() == want.tolist()


@axes
def test_the_sum_with_nothing(harness, axis):
    g = sparse(harness, axis)
    none = SparseGradient(
        g.indices[:0], g.values[:0, :] if axis == 0 else g.values[:, :0], g.shape, axis
    )
    for one, two in ((g, none), (none, g), (none, none)):
        want = 0 * whole(axis) if one is two else whole(axis)
        assert harness.host(dense(add(one, two))).tolist() == want.tolist()
