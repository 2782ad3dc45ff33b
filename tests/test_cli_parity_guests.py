"""``xprnn parity`` for libraries that lack something, fail, are slow, or are known to be wrong."""

import json
import re
import sys
import time

import array_api_strict
import pytest

from tests import namespaces
from tests.cli_tools import run
from tests.namespaces import Changed
from xprnn.cli.parity import progress
from xprnn.cli.parity.progress import Progress

pytestmark = pytest.mark.slow

SMALL = ("--cells", "elman", "--sizes", "3,2,2,4,2", "--steps", "2", "--dtype", "float64")
OFF = "tests.namespaces:off_tanh"


def small(*words, **options):
    return run("parity", *SMALL, "--backends", "numpy", *words, **options)


@pytest.fixture
def namespace(monkeypatch):
    """Return a function that makes a namespace out of array-api-strict's, and returns its name."""

    def make(name, **changes):
        monkeypatch.setattr(namespaces, name, Changed(array_api_strict, **changes), raising=False)
        return f"tests.namespaces:{name}"

    return make


def test_no_training():
    result = small("--backend", "array_api_strict", "--steps", 0, "--json")
    facts = json.loads(result.out)
    assert result.status == 0
    assert facts["steps"] == 0
    assert facts["times"] == []
    assert "training" not in {row["quantity"] for row in facts["rows"]}


def test_what_a_library_lacks_is_named_above_the_table():
    words = ("--backend", "tests.namespaces:no_unique", "--backend", "array_api_strict@no_float64")
    result = small(*words, "--dtype", "float64,float32")
    assert result.status == 0
    assert re.search(r"array_api_strict@no_float64 +\d.*; no float64: skipped\n", result.out)
    text = " ".join(result.out.split())
    assert re.search(
        r"in float64 (\d+) of (?!\1)\d+; skipped: no unique_inverse \(gradients of tokens and "
        r"embeddings\); tanh \d",
        text,
    )
    assert (
        "skipped: tests.namespaces:no_unique in float64: elman, tokens, run the rest: the" in text
    )
    assert [line for line in result.out.splitlines() if "no_float64 float64" in line] == []


def test_a_library_without_any_of_the_dtypes_can_not_be_used():
    result = small("--backend", "tests.namespaces:single", "--backend", "array_api_strict")
    assert result.status == 1
    assert result.error == "xprnn: error: can't be used: tests.namespaces:single"
    assert "; no float64: skipped\n" in result.out


def test_what_comes_after_the_time_limit_is_skipped_and_listed(namespace):
    def slow(x):
        time.sleep(0.05)
        return array_api_strict.tanh(x)

    result = small("--backend", namespace("slow", tanh=slow), "--time-limit", 0.2)
    assert result.status == 0
    limit = "the time limit of 0.2 s was reached at: "
    assert "skipped: the rest (the namespace" not in result.out
    assert limit in " ".join(result.out.split())
    assert "skipped: tests.namespaces:slow in float64: elman, numbers, run the rest: the time" in (
        " ".join(result.out.split())
    )


def test_an_exception_has_its_place_and_with_debug_its_traceback(namespace):
    calls = []

    def broken(x):
        # Right for the small arrays of the functions alone.
        if x.shape == (2, 4):
            calls.append(x)
            raise ZeroDivisionError("no tanh today")
        return array_api_strict.tanh(x)

    name = namespace("broken_tanh", tanh=broken)
    result = small("--backend", name)
    assert result.status == 1
    text = " ".join(result.out.split())
    assert re.search(
        r"run: ZeroDivisionError: no tanh today \(at cells/activations.py:\d+ in _t", text
    )
    assert "Traceback" not in result.out
    result = small("--backend", name, "--debug")
    assert result.out.count("Traceback (most recent call last):") == 1
    assert 'in broken\n    raise ZeroDivisionError("no tanh today")' in result.out
    assert calls


@pytest.mark.parametrize(
    "code", ["import nosuch", "1 +", "raise SystemError('no driver\\x1b[31m')"]
)
def test_a_library_that_can_not_be_imported(tmp_path, monkeypatch, code):
    (tmp_path / "faulty_guest.py").write_text(code)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    result = small("--backend", "faulty_guest:")
    assert result.status == 1
    assert result.error.startswith(
        "xprnn: error: the namespace 'faulty_guest:': can't import 'faulty_guest' ("
    )
    assert "\x1b" not in result.error
    assert result.out == ""


# Progress.


def test_a_slow_comparison_says_where_it_is(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.01)
    shown = Progress(2, silent=False)
    with shown.shown():
        shown.stage("lstm, numbers, training step 3 of 100")
        _wait_for(lambda: capsys.readouterr().err.count("xprnn parity: lstm, numbers, training"))
    err = capsys.readouterr().err
    assert all(
        re.fullmatch(r"xprnn parity: .*, \d+ s \(\d+ s in all\)", w) for w in err.split("\n") if w
    )


def test_the_bar_shows_the_stage(monkeypatch):
    told = []

    class Bar:
        def set_postfix_str(self, words):
            told.append(words)

        def close(self):
            told.append("closed")

    monkeypatch.setattr(progress, "REFRESH", 0.01)
    monkeypatch.setattr(progress, "_bar", lambda _: Bar())
    shown = Progress(2, silent=False)
    with shown.shown():
        shown.stage("lstm, " + "x" * 100)
        _wait_for(lambda: told)
    assert re.fullmatch(r"lstm, x+…, 0 s", told[0])
    assert told[-1] == "closed"


def _wait_for(happened):
    end = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


# Expected disagreements.


@pytest.fixture
def xfail(tmp_path):
    def write(text):
        path = tmp_path / "expected.toml"
        path.write_text(text)
        return "--xfail", path

    return write


def test_what_is_expected_to_disagree_is_no_error_and_is_listed(xfail):
    words = xfail('[functions]\ntanh = "off by 1e-6"\n[cells]\nelman = "because of tanh"\n')
    result = small("--backend", OFF, *words)
    assert (result.status, result.err) == (0, "")
    assert f"disagrees as expected: {OFF} in float64: functions tanh: off by 1e-6\n" in result.out
    assert result.out.endswith("all of them agree, except where it is expected\n")
    rows = json.loads(small("--backend", OFF, *words, "--json").out)["rows"]
    wrong = [row for row in rows if row["status"] == "expected"]
    assert {row["reason"] for row in wrong} == {"off by 1e-6", "because of tanh"}
    assert {row["backend"] for row in wrong} == {OFF}


def test_what_is_expected_of_one_backend_is_not_of_another(xfail):
    own = f'["{OFF}"]\nfunctions.tanh = "known"\ncells.elman = "known"\n'
    assert small("--backend", OFF, *xfail(own)).status == 0
    result = small("--backend", OFF, *xfail(own.replace("off_tanh", "off_sqrt")))
    assert result.status == 1
    assert "DISAGREES" in result.out


def test_what_agrees_although_it_is_expected_not_to_is_an_error(xfail):
    words = xfail('[functions]\ntanh = "off by 1e-6"\nexp = "wrong"\n[cells]\nelman = "tanh"\n')
    result = small("--backend", OFF, *words)
    assert result.status == 1
    assert result.error == (
        f"xprnn: error: --xfail {words[1]}: functions exp is expected to disagree (wrong), but it "
        "agrees"
    )


def test_what_is_skipped_is_not_stale(xfail):
    words = xfail('[functions]\nunique_inverse = "not there yet"\n')
    assert small("--backend", "tests.namespaces:no_unique", *words).status == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[functions", "Expected ']'"),
        ('[functions]\ntnah = "x"', "functions.tnah is unknown: known are asarray, "),
        ('[cells]\nlstn = "x"', "cells.lstn is unknown: known are elman, "),
        ("[functions]\ntanh = 1", "functions.tanh is 1: expected a reason, as text"),
        ('[functions]\ntanh = " "', "functions.tanh is ' ': expected a reason, as text"),
        ("functions = 3", "functions is 3: expected a table"),
        ('[function]\ntanh = "x"', "function is unknown: expected functions, cells or the name"),
        ('["dpnp:".function]\ntanh = "x"', "'dpnp:'.function is unknown: expected functions, ce"),
        ('["dpnp:".functions]\ntnah = "x"', "'dpnp:'.functions.tnah is unknown: known are asarr"),
    ],
)
def test_a_bad_file_is_refused_before_anything_is_done(xfail, text, message):
    words = xfail(text)
    result = small("--backend", OFF, *words)
    assert result.status == 1
    assert result.error.startswith(f"xprnn: error: --xfail '{words[1]}': ")
    assert message in result.error
    assert result.out == ""


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "expected.toml"
    path.write_bytes(b"\xff\xfe")
    result = small("--backend", OFF, "--xfail", path)
    assert result.error.startswith(f"xprnn: error: --xfail '{path}': 'utf-8' codec can't decode")
