"""Array libraries that xprnn doesn't know, through ``module:namespace`` alone.

What is known to be wrong in them is in ``known.toml`` and, with the smallest reproduction, in
docs/findings.md.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import xprnn
from tests.cli_tools import run

pytestmark = pytest.mark.skipif(
    os.environ.get("GUESTS", "0") == "0", reason="GUESTS=1 tests real array libraries"
)

WHOLE = ("dpnp:", "marray:numpy", "array_api_compat.torch:")
"""Libraries that run everything."""
KNOWN = Path(__file__).with_name("known.toml")


def _installed(name):
    module = name.partition(":")[0]
    pytest.importorskip(module)
    return name


@pytest.mark.parametrize("name", WHOLE)
def test_everything_is_computed_and_agrees(name):
    words = ("--backends", "numpy", "--backend", _installed(name), "--json", "--xfail", KNOWN)
    result = run("parity", *words, "--cells", "lstm", "--steps", 10)
    facts = json.loads(result.out)
    wrong = [row for row in facts["rows"] if row["status"] == "disagrees"]
    assert wrong == []
    assert result.status == 0, result.last_error
    mine = [row for row in facts["rows"] if row["backend"] == name]
    assert {row["quantity"] for row in mine} == {
        *("functions", "structure", "output", "state", "loss", "gradients", "update", "training"),
    }
    assert [row["name"] for row in mine if row["status"] == "skipped"] == []


def test_dask_has_no_values_until_it_is_asked_for_them():
    backend = xprnn.get_backend(_installed("array_api_compat.dask.array:"), dtype="float64")
    assert list(backend.library.missing) == ["take_along_axis"]
    net = xprnn.RNN(3, 4, 2, cell="gru", backend=backend, rng=0)
    judge = xprnn.RNN(3, 4, 2, cell="gru", dtype="float64", rng=0)
    x, target = (np.random.default_rng(0).normal(size=(3, 2, k)) for k in (3, 2))
    (value, got), (right, want) = (
        one.value_and_grad(one.backend.asarray(x), one.backend.asarray(target))
        for one in (net, judge)
    )
    assert float(value) == pytest.approx(float(right), rel=1e-12)
    for name, gradient in want.parameters.items():
        np.testing.assert_allclose(backend.to_numpy(got.parameters[name]), gradient, atol=1e-12)


@pytest.mark.parametrize("name", WHOLE)
def test_a_cell_is_checked_exactly(name):
    backend = xprnn.get_backend(_installed(name), dtype="float64")
    report = xprnn.testing.check_cell(xprnn.cells.get_cell("lstm"), backend=backend)
    assert "forward mode" in str(report)
