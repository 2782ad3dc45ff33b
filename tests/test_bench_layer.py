"""``xprnn bench layer``: every library does the same work; the table has what was measured."""

import json
import time

import numpy as np
import pytest

from tests.cli_tools import run
from xprnn.backend.host.kernels import has_instructions
from xprnn.bench import layer, timing
from xprnn.bench.layer import LayerCase
from xprnn.bench.peers import jax_layer, torch_layer
from xprnn.bench.timing import CELLS
from xprnn.cli.bench import options

pytestmark = pytest.mark.slow

CASE = LayerCase(3, 4, 2, 5)


@pytest.mark.parametrize("cell", CELLS)
def test_the_same_work(cell):
    gradient = layer.xprnn_layer(cell, CASE, "numpy", 1)()
    assert gradient.input.shape == (5, 2, 3)
    rows = {"elman": 1, "gru": 3, "lstm": 4}[cell] * CASE.hidden
    dx, *rest = torch_layer.prepare(cell, CASE, "cpu", 1)()
    assert tuple(dx.shape) == gradient.input.shape
    assert [tuple(d.shape) for d in rest] == [(rows, 3), (rows, 4), (rows,), (rows,)]
    assert {str(dx.dtype), str(gradient.input.dtype)} <= {"float32", "torch.float32"}
    assert all(np.any(np.asarray(d)) for d in (dx, *rest))


@pytest.mark.parametrize(
    "cell", [pytest.param(cell, marks=[pytest.mark.full] * (cell != "lstm")) for cell in CELLS]
)
def test_the_same_work_in_jax(cell):
    rows = {"elman": 1, "gru": 3, "lstm": 4}[cell] * CASE.hidden
    y, (dx, rest) = jax_layer.prepare(cell, CASE, "cpu", 1)()
    assert y.shape == (5, 2, 4)
    assert dx.shape == (5, 2, 3)
    assert [d.shape for d in rest] == [(3, rows), (4, rows), (rows,), (rows,)]
    assert str(y.dtype) == "float32"
    assert all(np.any(np.asarray(d)) for d in (dx, *rest))


def test_the_table(monkeypatch, tmp_path):
    times = {"xprnn": 0.002, "torch": 0.004, "jax": 0.008}
    monkeypatch.setattr(timing, "seconds_in", lambda module, library, *_: times[library])
    done = run("bench", "layer", "--cells", "gru", "--cases", "tiny,wide", "--out", tmp_path)
    assert done.status == 0, done.err
    assert (
        "gru    tiny     1, 32, 1, 100           2.00 ms    4.00 ms    8.00 ms    0.50" in done.out
    )
    assert "geometric mean of the ratios 0.50; 2 of 2 are at most 0.9" in done.out
    found = json.loads((tmp_path / "bench-layer.json").read_text())
    assert [row["case"] for row in found["rows"]] == ["tiny", "wide"]
    assert set(found["versions"]) == {"numpy", "torch", "jax"}


ALONE = [
    "--cells",
    "elman",
    "--cases",
    "tiny",
    "--against",
    "none",
    "--json",
    "--seconds",
    "0.02",
    "--rounds",
    "1",
]


@pytest.mark.parametrize(("lowering", "said"), [("off", "is disabled"), ("numpy", "NumPy calls")])
def test_in_a_process_of_its_own(lowering, said):
    done = run("bench", "layer", *ALONE, "--lowering", lowering)
    assert done.status == 0, done.err
    found = json.loads(done.out)
    (row,) = found["rows"]
    assert row["ours"] > 0
    assert (row["peers"], row["ratio"]) == ({}, None)
    assert said in found["lowering"]["elman"]
    assert found["lowering"]["elman"].startswith("Elman(")


def test_libraries_take_turns_and_the_best_of_each_counts(monkeypatch):
    order = []

    def seconds(module, *words, threads, what, **variables):
        order.append((words[0], variables))
        disturbed = 10 if len(order) in {1, 5} else 1
        return disturbed * {"xprnn": 0.002, "torch": 0.004, "jax": 0.003}[words[0]]

    monkeypatch.setattr(timing, "result_of", seconds)
    setting = timing.Setting(1, lowering="off")
    (row,) = timing.compare("layer", ["gru"], ["tiny"], ["torch", "jax"], setting)
    assert [library for library, _ in order] == ["xprnn", "torch", "jax"] * 2
    assert row.ours == 0.002
    assert row.peers == {"torch": 0.004, "jax": 0.003}
    assert row.ratio == pytest.approx(2 / 3)
    assert [variables for _, variables in order[:2]] == [{"XPRNN_LOWERING": "off"}, {}]


def test_the_median_of_calls_after_warm_up():
    waits = iter([0, 0, 0, *[0.002] * 5, *[0] * 3, 0.1])
    assert 0.002 <= timing.measure(lambda: time.sleep(next(waits)), 1e-9) < 0.1


def test_a_peer_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(timing, "seconds_in", lambda *_: 0.002)
    found = options.importlib.util.find_spec
    monkeypatch.setattr(
        options.importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "jax" else found(name, *rest),
    )
    words = ["bench", "layer", "--cells", "gru", "--cases", "tiny"]
    lines = run(*words).out.splitlines()
    assert "jax is not installed and is left out" in lines
    assert lines[-2].split()[-1] == "1.00"
    assert json.loads(run(*words, "--json").out)["missing"] == ["jax"]


def test_a_process_that_fails_says_why():
    setting = timing.Setting(1, backend="abacus")
    with pytest.raises(RuntimeError, match=r"timing xprnn \(gru, tiny\) failed: .*'abacus'"):
        list(timing.compare("layer", ["gru"], ["tiny"], [], setting))
    done = run("bench", "layer", "--backend", "abacus")
    assert done.status == 1
    assert "the lowering of abacus failed: ValueError: unknown backend 'abacus'" in done.error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--cells foo", "--cells is 'foo': expected 'elman' or 'gru' or 'lstm'"),
        ("--cases huge", "--cases is 'huge': expected 'tiny'"),
        ("--against mxnet", "--against is 'mxnet': expected 'torch' or 'jax'"),
        ("--threads 0", "--threads is 0: expected an int of at least 1"),
        ("--lowering fast", "--lowering is 'fast': expected 'on' or 'off' or 'numpy' or 'numba'"),
        ("--seconds 0", "--seconds is 0.0: expected a number above 0"),
        ("--isa avx1024", "--isa is 'avx1024': expected 'sse4.2' or 'avx2' or 'avx512'"),
        ("--rounds 0", "--rounds is 0: expected an int of at least 1"),
    ],
)
def test_what_makes_no_sense(words, message):
    done = run("bench", "layer", *words.split())
    assert done.status == 1
    assert message in done.error


def test_instructions_that_the_processor_lacks(monkeypatch):
    able = {"sse4.2", "avx2"}
    monkeypatch.setattr("xprnn.bench.isa.has_instructions", lambda name: name in able)
    done = run("bench", "layer", "--isa", "avx512")
    assert done.status == 1
    assert (
        "--isa is 'avx512', which this processor can't do: it can do 'sse4.2', 'avx2'" in done.error
    )


@pytest.mark.skipif(not has_instructions("avx2"), reason="another processor")
def test_every_process_is_kept_to_the_instructions(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=here")
    kept = {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "",
        "OPENBLAS_CORETYPE": "Haswell",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "XLA_FLAGS": "--xla_dump_to=here --xla_cpu_max_isa=AVX2",
    }
    seen = []

    def found(module, *words, what, threads, **variables):
        seen.append((module, words[0], variables))
        return {"lstm": "lowered"} if module.endswith("lowering") else 0.5

    for module in ("timing", "lowering", "origins.comparison"):
        monkeypatch.setattr(f"xprnn.bench.{module}.result_of", found)
    shape = "--cells", "lstm", "--cases", "tiny", "--rounds", "1"
    for command, count in [
        (("layer", *shape), 4),
        (("train", *shape[:2], "--cases", "forecast"), 5),
    ]:
        seen.clear()
        done = run("bench", *command, "--isa", "avx2", "--lowering", "numba")
        assert done.status == 0
        assert "every library is kept to the instructions avx2: NUMBA_CPU_NAME=haswell" in done.out
        assert len(seen) == count
        for module, library, variables in seen:
            assert variables.items() >= kept.items(), (module, library)
            ours = library == "xprnn" or module.endswith("lowering")
            assert variables.get("XPRNN_LOWERING") == ("numba" if ours else None)
    seen.clear()
    facts = json.loads(run("bench", "origins", "--isa", "avx2", "--json").out)
    assert facts["isa"] == "avx2"
    assert seen
    assert all(variables.items() >= kept.items() for *_, variables in seen)
