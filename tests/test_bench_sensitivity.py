"""``xprnn bench sensitivity``: the smallest error that is found, by xprnn and by others."""

import json

import pytest

from tests.cli_tools import run
from xprnn.bench.sensitivity import ERRORS, Planted, smallest_found
from xprnn.cli.bench import sensitivity as command
from xprnn.testing import GradientError, check_cell

WANTED = 1e-11


def test_the_search_finds_the_smallest():
    for error in ERRORS:
        asked = []

        def found(planted, error=error, asked=asked):
            asked.append(planted)
            return planted >= error

        assert smallest_found(found) == error
        assert len(asked) <= 6
    assert smallest_found(lambda error: False) is None
    assert smallest_found(lambda error: True) == ERRORS[-1]


def test_the_planted_error_is_where_it_is_said():
    check_cell(Planted(error=0.0), mode="central")
    with pytest.raises(GradientError, match=r"\Athe gradient of u\[0\]\["):
        check_cell(Planted(error=0.1))


@pytest.mark.parametrize(
    "backend",
    ["numpy", "numpy:", *(pytest.param(b, marks=pytest.mark.full) for b in ("torch", "jax"))],
)
def test_errors_of_1e_11_are_found(backend, tmp_path):
    done = run(
        "bench", "sensitivity", "--backends", backend, "--against", "none", "--out", tmp_path
    )
    assert done.status == 0, done.err
    rows = json.loads((tmp_path / "bench-sensitivity.json").read_text())["rows"]
    assert {(row["check"], row["mode"]) for row in rows} == {
        *(("check_cell", mode) for mode in command.CELL_MODES),
        ("check_gradients", "directions"),
    }
    exact = [row["smallest"] for row in rows if row["mode"] in ("forward", "directions")]
    assert max(exact) <= WANTED
    (coarse,) = (row["smallest"] for row in rows if row["mode"] == "central")
    assert 1e-7 < coarse < 1e-5
    assert f"check_cell                {backend:<18}forward     2e-12" in done.out


def test_json_and_others(monkeypatch):
    monkeypatch.setattr(command, "rows_of", lambda backend: iter(()))
    monkeypatch.setattr(command, "result_of", lambda *a, what: ["a check", 0.002])
    done = run("bench", "sensitivity", "--backends", "numpy", "--against", "torch", "--json")
    facts = json.loads(done.out)
    assert facts["others"] == [{"check": "a check", "smallest": 0.002}]
    assert set(facts["versions"]) == {"numpy", "torch"}


def test_a_mode_that_can_not_be_used_is_said():
    def check(error):
        raise ValueError("no complex numbers")

    assert command._smallest(check) is None
    assert "can't be used" in command._line("check_cell", "x:", "complex", None)


@pytest.mark.full
def test_the_checks_of_other_libraries_find_less():
    from xprnn.bench.process import result_of

    for library, allowed in (("torch", 1e-3), ("jax", 1e-5)):
        _, smallest = result_of("xprnn.bench.sensitivity", library, what=library)
        assert allowed <= smallest < 10 * allowed
