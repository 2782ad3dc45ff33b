"""``xprnn parity``: the table, the JSON, the exit status."""

import json
import re
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest

import xprnn
from tests.cli_tools import run, run_module
from xprnn.cells import CELLS
from xprnn.cli.main import build_parser
from xprnn.cli.parity import command as parity
from xprnn.testing.parity.functions import CALLS
from xprnn.testing.parity.suite import PROBLEMS

pytestmark = pytest.mark.slow

SMALL = ("--cells", "elman", "--sizes", "3,2,2,4,2", "--steps", "2")
OFF = "tests.namespaces:off_tanh"


@pytest.fixture
def no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", None)


def small(*words, **options):
    return run("parity", *words, *SMALL, **options)


def table(out: str) -> list[list[str]]:
    """Return the entries of the table's rows."""
    rows = out.partition("ms/step\n")[2].partition("nearest to its tolerance")[0]
    return [row.split() for row in rows.splitlines()]


@pytest.mark.usefixtures("no_cupy")
def test_backends_that_agree():
    result = small("--backends", "numpy,array_api_strict,torch")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    functions = lines.index("functions, each alone, and errors of some in units in the last place:")
    found = [re.sub(r" +", " ", line) for line in lines[functions + 1 : functions + 7]]
    for line in found:
        assert re.fullmatch(
            rf" \w+ in float\d\d {len(CALLS)} of {len(CALLS)}; tanh \d\.\d, exp \d\.\d, "
            r"log \d\.\d, sqrt \d\.\d",
            line,
        )
    del lines[functions : functions + 7]
    assert lines[0].startswith(f"xprnn {xprnn.__version__}, Python 3.")
    assert lines[1:3] == ["backends:", f"  numpy             {np.__version__}, cpu"]
    assert lines[5].split() == [
        *("cell", "backend", "dtype", "functions", "output", "gradients", "update"),
        *("2", "steps", "ms/step"),
    ]
    rows = table(result.out)
    assert [row[:3] for row in rows] == [
        ["elman", backend, dtype]
        for backend in ("numpy", "array_api_strict", "torch")
        for dtype in ("float64", "float32")
    ]
    assert rows[0][3:8] == ["0"] * 5
    for row in rows:
        assert all(0 <= float(entry) < 1e-5 for entry in row[3:8])
        assert float(row[8]) > 0
    assert all(float(row[4]) > 1e-9 for row in rows[1::2])
    assert lines[-1] == "all of them agree"
    assert all(len(line) <= 100 for line in lines[1:])
    (where,) = [line for line in lines if line.startswith("  torch in float32: ")]
    assert re.fullmatch(
        r"  torch in float32: .* off by \d\.\de-\d\d \(\d\.\de-\d\d allowed\)", where
    )


@pytest.mark.usefixtures("no_cupy")
def test_every_backend_is_listed_and_what_is_missing_is_no_error(monkeypatch):
    # JAX is left out, because it would compile for seconds.
    monkeypatch.setitem(sys.modules, "jax.numpy", None)
    result = small("--dtype", "float32")
    assert (result.status, result.err) == (0, "")
    assert "\n  cupy              not usable: the backend 'cupy' is not installed (" in result.out
    assert "\n  jax               not usable: the backend 'jax' is not installed (" in result.out
    assert [row[1] for row in table(result.out)] == ["numpy", "torch", "array_api_strict"]
    assert all(len(line) <= 100 for line in result.out.splitlines()[1:])


@pytest.mark.usefixtures("no_cupy")
@pytest.mark.parametrize("words", [("--backends", "torch,cupy"), ("--backend", "cupy")])
def test_what_was_named_and_is_missing_is_an_error_at_the_end(monkeypatch, words):
    monkeypatch.setitem(sys.modules, "jax.numpy", None)
    result = small(*words, "--dtype", "float32")
    assert result.status == 1
    assert result.error == "xprnn: error: can't be used: cupy"
    assert "not usable: the backend 'cupy' is not installed" in result.out
    assert "torch" in [row[1] for row in table(result.out)]
    assert "all of them agree" in result.out


def test_devices_are_told_apart():
    names = ["numpy", "array_api_strict", "array_api_strict@device1"]
    result = small("--backends", ",".join(names), "--dtype", "float64", "--json")
    assert result.status == 0
    facts = json.loads(result.out)
    devices = ["cpu", "CPU_DEVICE", "device1"]
    assert [(b["name"], b["device"]) for b in facts["backends"]] == list(
        zip(names, devices, strict=True)
    )
    for found in (facts["rows"], facts["times"]):
        assert list(dict.fromkeys((f["backend"], f["device"]) for f in found)) == list(
            zip(names, devices, strict=True)
        )
    alone = ("--backends", "array_api_strict@device2", "--backend", "array_api_strict:@device1")
    result = small(*alone, "--dtype", "float64")
    assert result.status == 1
    assert result.error.startswith("xprnn: error: device is 'device1': array_api_strict")
    result = small(*alone[:2], "--dtype", "float64")
    assert result.status == 0
    assert [row[1] for row in table(result.out)] == ["numpy", "…_api_strict@device2"]
    assert "\n  array_api_strict@device2 in float64: " in result.out


@pytest.mark.parametrize("name", ["torch@cuda:77", "numpy@gpu"])
def test_a_device_that_is_not_there_is_an_error(name):
    result = small("--backends", name)
    assert result.status == 1
    assert result.error.startswith(f"xprnn: error: device is '{name.partition('@')[2]}': ")
    assert "namespace" not in result.error


def test_a_wrong_namespace_is_shown_to_be_wrong_and_where():
    result = small("--backends", "numpy", "--backend", OFF, "--backend", "tests.namespaces:vault")
    assert (result.status, result.err) == (1, "")
    rows = {(row[1], row[2]): row[3:] for row in table(result.out)}
    short = "…t.namespaces:off_tanh"[-19:]
    assert list(rows)[2] == (f"…{short}", "float64")
    wrong = rows[f"…{short}", "float64"]
    assert all(entry.endswith("!") for entry in wrong[:5])
    assert wrong[0] == "1.1e-06!"
    del rows[f"…{short}", "float64"]
    # In float32 tanh is wrong where the result is zero, and nothing else shows it.
    assert rows[f"…{short}", "float32"].pop(0) == "wrong!"
    assert not any("!" in entry for row in rows.values() for entry in row)
    told = result.out.partition(f"DISAGREES: {OFF} in float64\n")[2]
    told, _, narrow = told.partition(f"DISAGREES: {OFF} in float32\n")
    assert narrow.startswith("  functions: tanh of 0.0 is 9.9")
    told = told.splitlines()
    assert told[0].startswith("  functions: tanh[")
    assert told[1].startswith("  elman, numbers, output: output[")
    assert any(line.startswith("  elman, tokens, gradients: ") for line in told)
    # A wrong function is printed once, not for every case.
    assert len([line for line in told if "tanh" in line]) == 1
    assert "DISAGREES: " not in "\n".join(told)
    assert "all of them agree" not in result.out
    assert all(len(line) <= 100 for line in result.out.splitlines()[1:])


@pytest.mark.parametrize("entry", ["flat_stack", "wide_sum"])
def test_what_has_no_numbers_is_shown_as_wrong(entry):
    words = ("--backend", f"tests.namespaces:{entry}", "--dtype", "float32")
    result = small("--backends", "numpy", *words)
    assert result.status == 1
    assert table(result.out)[1][3:] == ["wrong!", "wrong!", "-", "-", "-", "-"]


def test_much_that_is_wrong_is_told_in_few_lines(monkeypatch):
    monkeypatch.setattr("xprnn.cli.parity.table.MOST", 3)
    result = small("--backends", "numpy", "--backend", OFF, "--dtype", "float64")
    told = result.out.partition(f"DISAGREES: {OFF} in float64\n")[2].splitlines()
    assert len(told) == 4
    assert re.fullmatch(r"  and \d+ more lines; --json has everything", told[-1])


@pytest.mark.usefixtures("no_cupy")
def test_json_has_everything(tmp_path):
    result = small(
        *("--backends", "array_api_strict,cupy", "--backend", OFF, "--json"),
        *("--seed", "3", "--out", tmp_path / "made"),
    )
    assert result.status == 1
    assert result.error == "xprnn: error: can't be used: cupy"
    facts = json.loads(result.out)
    assert result.out == (tmp_path / "made" / "parity.json").read_text()
    assert facts["date"] == date.today().isoformat()
    assert facts["xprnn"] == xprnn.__version__
    assert (facts["reference"], facts["seed"], facts["steps"]) == ("numpy", 3, 2)
    assert facts["sizes"] == {"T": 3, "B": 2, "I": 2, "H": 4, "O": 2}
    assert facts["agrees"] is False
    assert [place["name"] for place in facts["backends"]] == [
        *("numpy", "array_api_strict", "cupy", OFF)
    ]
    numpy, strict, cupy, off = facts["backends"]
    assert numpy == {
        "name": "numpy",
        "version": np.__version__,
        "usable": True,
        "device": "cpu",
        "hardware": "",
        "reason": "",
    }
    assert (strict["device"], off["usable"]) == ("CPU_DEVICE", True)
    assert (cupy["usable"], cupy["version"]) == (False, None)
    assert "not installed" in cupy["reason"]
    rows = facts["rows"]
    assert {row["cell"] for row in rows} == {"elman"}
    assert {row["problem"] for row in rows} == set(PROBLEMS)
    assert {row["backend"] for row in rows} == {"numpy", "array_api_strict", OFF}
    wrong = [row for row in rows if not row["agrees"]]
    functions = [row for row in rows if row["quantity"] == "functions"]
    assert len(functions) == len(CALLS) * 3 * 2
    alone = [row for row in functions if not row["agrees"]]
    assert [(r["backend"], r["dtype"], r["name"]) for r in alone] == [
        (OFF, "float64", "tanh"),
        (OFF, "float32", "tanh"),
    ]
    assert alone[0]["where"].startswith("tanh[")
    assert alone[0]["error"] == pytest.approx(1e-6, rel=0.2)
    assert alone[0]["detail"] == "for large = [[14.0]], x = [[1.75]]"
    assert alone[1]["where"].startswith("tanh of 0.0 is ")
    others = [row for row in wrong if row not in alone]
    assert {(row["backend"], row["dtype"]) for row in others} == {(OFF, "float64")}
    assert all(row["error"] > row["tolerance"] > 0 for row in others)
    assert {row["status"] for row in rows} == {"agrees", "disagrees"}
    times = facts["times"]
    assert {(row["cell"], row["backend"], row["dtype"]) for row in times} == {
        ("elman", backend, dtype)
        for backend in ("numpy", "array_api_strict", OFF)
        for dtype in ("float64", "float32")
    }
    assert all(row["seconds"] > 0 for row in times)


def test_what_is_infinite_is_null_in_json():
    words = ("--backend", "tests.namespaces:nan_tanh", "--dtype", "float64", "--json")
    result = small("--backends", "numpy", *words)
    rows = json.loads(result.out, parse_constant=pytest.fail)["rows"]
    assert any(row["error"] is None and not row["agrees"] for row in rows)


def test_the_folder_gets_a_file_and_the_screen_a_word(tmp_path):
    result = small("--backends", "array_api_strict", "--out", tmp_path, "--dtype", "float64")
    assert result.out.endswith(f"written to {tmp_path}: parity.json\n")
    assert json.loads((tmp_path / "parity.json").read_text())["agrees"] is True


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("--backends numpie", 1, "unknown backend 'numpie': known are 'numpy', 'cupy', 'torch',"),
        ("--backend nosuch:xp", 1, "the namespace 'nosuch:xp': can't import 'nosuch' (ModuleNot"),
        (
            "--backend json:",
            1,
            "'json:' is no array API namespace: it lacks __array_namesp",
        ),
        ("--backend tests.namespaces:narrow", 1, "dtype is 'float64': tests.namespaces:narrow cre"),
        ("--backends numpy,,torch", 1, "--backends is 'numpy,,torch': expected names with comma"),
        ("--cells elman,nosuch", 1, "unknown cell 'nosuch': known are "),
        ("--dtype bfloat32", 1, "--dtype is 'bfloat32': expected 'float64' or 'float32' or"),
        ("--steps -1", 1, "--steps is -1: expected an int of at least 1"),
        ("--time-limit 0", 1, "--time-limit is 0.0: expected "),
        ("--time-limit soon", 2, "argument --time-limit: invalid float value: 'soon'"),
        ("--xfail nosuch.toml", 1, "'nosuch.toml': No such file"),
        ("--sizes 3,2,0,4,2", 1, "I of --sizes is 0: expected an int of at least 1"),
        ("--sizes 3,2", 2, "argument --sizes: '3,2' is not five integers with commas, T,B,I,H,O"),
        ("--sizes 3,2,1,4,-2", 2, "argument --sizes: '3,2,1,4,-2' is not five integers"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(words, status, message):
    result = run("parity", *words.split())
    assert result.status == status
    assert message in result.error
    assert result.out == ""


def test_nothing_to_compare_is_no_agreement():
    result = run("parity", "--backends", "numpy")
    assert result.status == 1
    assert "there is no backend to compare with numpy: the smallest is array" in result.error


def test_a_module_of_the_working_folder_is_found(tmp_path):
    (tmp_path / "mine.py").write_text("from array_api_strict import *\n")
    words = ("--backends", "numpy", "--backend", "mine:", *SMALL, "--dtype", "float64")
    result = run_module("parity", *words, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert [row[1] for row in table(result.out)] == ["numpy", "mine:"]


def test_a_command_that_is_elsewhere_finds_it_too(tmp_path, monkeypatch):
    (tmp_path / "mine_too.py").write_text("from array_api_strict import *\n")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if Path(p or ".").resolve() != tmp_path])
    monkeypatch.chdir(tmp_path)
    words = ("--backends", "numpy", "--backend", "mine_too:", "--dtype", "float64")
    assert small(*words).status == 0
    assert sys.path[-1] == str(tmp_path)


def test_a_terminal_shows_a_bar_and_the_table_all_the_same(monkeypatch):
    words = ("--backends", "array_api_strict", "--dtype", "float64")
    result = small(*words, terminal=True)
    assert result.status == 0
    assert re.search(r"parity: .* \d/2 ", result.err)
    assert len(table(result.out)) == 2
    monkeypatch.setitem(sys.modules, "tqdm", None)
    result = small(*words, terminal=True)
    assert (result.status, result.err) == (0, "")


def test_one_of_everything():
    words = ("--backends", "torch", "--cells", "elman", "--sizes", "1,1,1,1,1", "--steps", "1")
    result = run("parity", *words)
    assert (result.status, result.err) == (0, "")
    assert result.out.partition("ms/step")[0].split()[-2:] == ["1", "step"]


def test_the_page_says_what_happens(tmp_path, capsys):
    page = (Path(__file__).parents[1] / "docs" / "testing.md").read_text(encoding="utf-8")
    section = page.partition("## Parity of backends\n")[2].partition("\n## ")[0]
    example, library = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    exec(compile(example, "testing.md", "exec"), {})
    assert "torch on cpu in float32" in capsys.readouterr().out

    (tmp_path / "mylibrary.py").write_text(library)
    (words,) = re.findall(r"`xprnn (parity .*mylibrary: .*?)`", section)
    result = run_module(*words.split(), "--steps", 2, cwd=tmp_path)
    assert result.status == 1
    *_, printed = re.findall(r"^```text\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    shown = "DISAGREES: mylibrary: in float64\n  functions: tanh[0, 0] off by 1.1e-06 (1.0e-12 all"
    assert shown in printed
    assert shown in result.out
    for line in re.findall(r"^xprnn .*", section, re.MULTILINE):
        words = line.partition("#")[0].partition(">")[0].split()[1:]
        assert callable(build_parser().parse_args(words).run)


def test_everything_is_the_default(monkeypatch):
    seen = {}

    def run_suite(cells, backends, sizes, **options):
        seen.setdefault("cells", []).extend(cells)
        seen.update(sizes=tuple(sizes), options=options)
        return iter(())

    monkeypatch.setattr(parity, "run_suite", run_suite)
    monkeypatch.setattr(parity, "facts_of", lambda *_: {"agrees": True})
    result = run("parity", "--backends", "array_api_strict")
    assert result.status == 0
    assert seen["cells"] == list(CELLS)
    assert seen["sizes"] == (8, 4, 3, 10, 2)
    assert seen["options"].pop("watch").limit is None
    assert {backend.name for backend in seen["options"].pop("functions")} == {
        "numpy",
        "array_api_strict",
    }
    assert seen["options"] == {"dtypes": ["float64", "float32"], "steps": 100, "seed": 0}
