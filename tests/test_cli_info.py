"""``xprnn info``: what is installed, and whether it works."""

import json
import sys
from importlib import metadata

import numpy as np
import pytest
import threadpoolctl
import torch

import xprnn
from tests.cli_tools import run
from xprnn.backend import probe
from xprnn.backend.host import threads
from xprnn.backend.registry import NAMES
from xprnn.engine.loop import explaining


@pytest.fixture
def no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", None)


@pytest.mark.usefixtures("no_cupy")
def test_every_backend_is_listed_with_its_version_and_devices_or_its_reason():
    result = run("info")
    assert (result.status, result.err) == (0, "")
    first, *rest = result.out.splitlines()
    assert first.startswith(f"xprnn {xprnn.__version__}, Python 3.")
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in rest[1:6]}
    assert set(lines) == set(NAMES) == {"numpy", "cupy", "torch", "jax", "array_api_strict"}
    assert lines["numpy"] == f"{np.__version__}, cpu"
    assert lines["torch"].startswith(f"{torch.__version__}, cpu")
    assert ", CPU_DEVICE, device1, device2" in lines["array_api_strict"]
    assert lines["cupy"].startswith("not usable: the backend 'cupy' is not installed (")
    assert 'pip install "xprnn[cuda13]"' in lines["cupy"]
    assert rest[-1] == "numpy: numpy on cpu computes in float32"


def test_blas_is_listed_with_its_threads(monkeypatch):
    monkeypatch.setattr("xprnn.cli.info.narrower_blas", lambda: None)
    lines = run("info").out.partition("BLAS:\n")[2].splitlines()[:-2]
    known = [lib for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"]
    assert len(known) >= 1
    assert lines == [
        f"  {lib['internal_api']} {lib['version']}, {lib['num_threads']} threads"
        if lib.get("version")
        else f"  {lib['internal_api']}, {lib['num_threads']} threads"
        for lib in known
    ]


def test_what_makes_the_time_loops_is_said(monkeypatch):
    def line() -> str:
        return run("info").out.partition("time loops on NumPy: ")[2].splitlines()[0]

    assert line() == "NumPy calls (XPRNN_LOWERING is 'numpy')"
    monkeypatch.setenv("XPRNN_LOWERING", "off")
    assert line() == "plain array code (XPRNN_LOWERING is 'off')"
    monkeypatch.setenv("XPRNN_LOWERING", "on")
    monkeypatch.setenv("XPRNN_CACHE", "off")
    assert line() == f"Numba {metadata.version('numba')}, compiled code in no folder"
    monkeypatch.setattr(explaining, "why_no_numba", lambda: "Numba is not installed")
    assert line() == "NumPy calls (Numba is not installed)"


@pytest.mark.slow
def test_compiled_code_is_counted_by_processor_and_version(monkeypatch, tmp_path):
    build = pytest.importorskip("xprnn.backend.numba.build", exc_type=ImportError)
    monkeypatch.setenv("XPRNN_LOWERING", "on")
    monkeypatch.setenv("XPRNN_CACHE", str(tmp_path / "kept"))

    def lines() -> list[str]:
        said = run("info", "--out", tmp_path / "facts").out
        assert "Warning" not in said
        found = said.partition("time loops on NumPy: ")[2].splitlines()[1:-2]
        facts = json.loads((tmp_path / "facts" / "info.json").read_text(encoding="utf-8"))
        assert facts["compiled"] == [line.removeprefix("  ") for line in found]
        return facts["compiled"]

    own = build.made_for()
    assert own.endswith(f", by xprnn {xprnn.__version__} and Numba {metadata.version('numba')}")
    assert lines() == [f"none for {own} yet: the first use compiles, for some seconds"]
    source = "def least(x):\n    x[0] = 1\n"
    build.build(source, {}, build.types.void(build.types.float64[::1]))
    assert lines() == [f"1 function for {own}, used here"]
    (file,) = (tmp_path / "kept").glob("least_*.py")
    (code,) = (tmp_path / "kept").rglob("least_*.nbc")
    for name, words in [("a", "\n# for haswell (256 bits), by another"), ("b", ""), ("c", "")]:
        (file.parent / f"{name}.py").write_text(f"def least(x): pass{words}\n", encoding="utf-8")
        (code.parent / f"{name}.least.nbc").write_bytes(b"")
    (file.parent / "none.py").write_text("def least(x): pass\n", encoding="utf-8")
    assert lines() == [
        f"1 function for {own}, used here",
        "2 functions for an older version, not used here",
        "1 function for haswell (256 bits), by another, not used here",
    ]


def test_blas_is_told_from_other_thread_pools(monkeypatch):
    pools = [
        {"user_api": "openmp", "internal_api": "openmp", "num_threads": 8, "version": None},
        {"user_api": "blas", "internal_api": "mkl", "num_threads": 4, "version": "2024"},
        {"user_api": "blas", "internal_api": "blis", "num_threads": 1},
    ]
    monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda: pools)
    assert threads.blas() == [
        {"name": "mkl", "version": "2024", "threads": 4},
        {"name": "blis", "version": None, "threads": 1},
    ]
    assert "BLAS:\n  mkl 2024, 4 threads\n  blis, 1 threads\n" in run("info").out


def test_without_threadpoolctl_it_is_what_numpy_was_built_with(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    (library,) = threads.blas()
    assert (library["name"], library["version"]) == (built["name"], built["version"])
    assert library["threads"] == "unknown"
    assert f"  {built['name']} {built['version']}, unknown threads\n" in run("info").out


def test_the_facts_go_to_a_file(tmp_path):
    result = run("info", "--out", tmp_path / "made" / "here")
    assert result.status == 0
    assert result.out.endswith(f"written to {tmp_path / 'made' / 'here'}: info.json\n")
    facts = json.loads((tmp_path / "made" / "here" / "info.json").read_text(encoding="utf-8"))
    assert facts["xprnn"] == xprnn.__version__
    assert facts["python"] == sys.version
    assert facts["blas"] == threads.blas()
    assert [backend["name"] for backend in facts["backends"]] == list(NAMES)
    numpy = facts["backends"][0]
    assert numpy == {
        "name": "numpy",
        "version": np.__version__,
        "devices": ["cpu"],
        "reason": "",
    }


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--dtype", "float64"), "numpy: numpy on cpu computes in float64"),
        (("--backend", "torch"), "torch: torch on cpu computes in float32"),
        (("--backend", "array_api_strict"), "array_api_strict: array_api_strict on array_api_str"),
    ],
)
def test_the_backend_that_is_asked_for_is_tried(words, line):
    result = run("info", *words)
    assert result.status == 0
    assert result.out.splitlines()[-1].startswith(line)


@pytest.mark.usefixtures("no_cupy")
def test_auto_says_what_it_stands_for():
    assert not probe("cupy").usable
    assert run("info", "--backend", "auto").out.splitlines()[-1].startswith("auto: numpy on cpu ")


@pytest.mark.usefixtures("no_cupy")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--backend", "cupy"), "the backend 'cupy' is not installed"),
        (("--backend", "numpie"), "unknown backend 'numpie': known are 'numpy', 'cupy', 'torch'"),
        (("--dtype", "float128"), "dtype is 'float128': numpy computes in float16, float32, flo"),
    ],
)
def test_what_can_not_be_used_is_an_error_after_the_list(words, message):
    result = run("info", *words)
    assert result.status == 1
    assert result.error.startswith(f"xprnn: error: {message}")
    assert "\nBLAS:\n" in result.out
