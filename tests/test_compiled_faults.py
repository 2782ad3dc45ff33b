"""Numba missing, too old or broken; caches that can't be written, read or trusted."""

import importlib
import importlib.util
import pickle
import re
import sys
import warnings
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest

from tests.process import run_python
from tests.time_loops import Problem
from xprnn import RNN, explain_lowering
from xprnn.cells import Elman
from xprnn.engine.loop import lowering

pytestmark = pytest.mark.slow

COMPILER = "xprnn.backend.numba.build"


@pytest.fixture
def looked_for(monkeypatch):
    """Look for Numba anew, here and after the test."""
    monkeypatch.setenv("XPRNN_LOWERING", "on")
    lowering.why_no_numba.cache_clear()
    yield
    lowering.why_no_numba.cache_clear()


def absent(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "numba" else found(name, *a)
    )


def old(monkeypatch):
    present(monkeypatch)
    monkeypatch.setattr(metadata, "version", lambda name: "0.60.0")


def without_metadata(monkeypatch):
    present(monkeypatch)

    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)


def broken(monkeypatch):
    present(monkeypatch)
    monkeypatch.setattr(metadata, "version", lambda name: "0.99.1")
    imported = importlib.import_module

    def refuse(name, *a):
        if name == COMPILER:
            raise SystemError("initialization of _internal failed")
        return imported(name, *a)

    monkeypatch.setattr(importlib, "import_module", refuse)


def disabled(monkeypatch):
    present(monkeypatch)
    monkeypatch.setattr(metadata, "version", lambda name: "0.99.1")
    modules = {COMPILER: None, "numba": SimpleNamespace(config=SimpleNamespace(DISABLE_JIT=1))}
    imported = importlib.import_module
    monkeypatch.setattr(
        importlib, "import_module", lambda name, *a: modules.get(name) or imported(name, *a)
    )
    monkeypatch.setitem(sys.modules, COMPILER, SimpleNamespace())


def present(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: found("json" if name == "numba" else name, *a)
    )


@pytest.mark.usefixtures("looked_for")
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (absent, 'Numba is not installed: pip install "xprnn[jit]"'),
        (old, "Numba 0.60.0 is too old: 0.61 is needed"),
        (
            without_metadata,
            f"Numba of an unknown version can't be used: {metadata.PackageNotFoundError('numba')}",
        ),
        (broken, "Numba 0.99.1 can't be used: initialization of _internal failed"),
        (disabled, "Numba 0.99.1 can't be used: NUMBA_DISABLE_JIT is set"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_without_numba_the_library_works_and_says_why(fault, reason, monkeypatch):
    fault(monkeypatch)
    assert explain_lowering("elman").splitlines() == [
        "Elman(activation='tanh') is lowered to NumPy calls: 2 operations forward, 3 backward",
        reason,
    ]
    problem = Problem(Elman())
    assert lowering.lowering_for(problem.backend, problem.cell, problem.work()).name == "numpy"
    problem.compare(problem.dh)
    monkeypatch.setenv("XPRNN_LOWERING", "numba")
    net = RNN(1, 3, rng=0)
    with pytest.raises(ImportError, match=re.escape(f"XPRNN_LOWERING is 'numba', but {reason}")):
        net(np.ones((2, 1, 1), "float32"))


def test_where_numba_may_not_compile():
    pytest.importorskip("numba")
    code = "import xprnn; print(xprnn.explain_lowering('elman'))"
    said = run_python(code, XPRNN_LOWERING="on", NUMBA_DISABLE_JIT="1")
    assert said.endswith("can't be used: NUMBA_DISABLE_JIT is set\n")


# A function that is compiled in no time, in place of a loop.
SOURCE = "def first(x):\n    x[0] = factor\n"


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Return the module, with a cache folder of its own and no warning given yet."""
    pytest.importorskip("numba")
    from xprnn.backend.numba import build

    monkeypatch.setenv("XPRNN_CACHE", str(tmp_path / "compiled"))
    monkeypatch.setattr(build, "_warned", False)
    return build


def built(build, factor=2.0, *, source=SOURCE):
    """Compile the function, call it, and return what was built."""
    from numba import types

    made = build.build(source, {"factor": factor}, types.void(types.float64[::1]))
    x = np.zeros(1)
    made.call(x)
    assert x[0] == factor
    return made


def test_what_was_compiled_is_kept(build, tmp_path):
    assert not built(build).cached
    assert built(build).cached
    assert "loaded in" in built(build).describe()
    assert {f.suffix for f in (tmp_path / "compiled").rglob("*.*")} == {".py", ".nbi", ".nbc"}


def test_formulas_that_differ_in_a_constant_only(build):
    for _ in range(2):
        for factor in (2.0, 3.0, np.float64(4), 5):
            built(build, factor)
    assert not built(build, 6.0).cached


def test_what_is_read_from_disk_is_not_taken_for_another_of_this_process(tmp_path):
    # Numba numbers functions from the same number on in every process, and of two helpers with the
    # same name and number the linker takes the first.
    code = """
from tests.step_products import compare_products, multiplier
from xprnn.backend.numba import addresses
for dtype in {dtypes}:
    compare_products(dtype, multiplier(dtype, addresses.loop_table(dtype)))
print({{built.cached for built in addresses._kept_alive[-5:]}})
"""
    folder = str(tmp_path)
    assert run_python(code.format(dtypes=["float64"]), XPRNN_CACHE=folder) == "{False}\n"
    found = run_python(code.format(dtypes=["float32", "float64"]), XPRNN_CACHE=folder)
    assert found == "{True}\n"


def test_a_function_that_is_called_by_its_address_is_cached_too(build):
    from numba import types

    for cached in (False, True):
        made = build.build(
            "def twice(x):\n    return x * two\n",
            {"two": 2},
            types.intp(types.intp),
            by_address=True,
        )
        assert made.cached is cached
        assert made.call.ctypes(21) == 42


def test_no_cache_is_wanted(build, tmp_path, monkeypatch):
    monkeypatch.setenv("XPRNN_CACHE", "off")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            assert not built(build).cached
    assert list(tmp_path.iterdir()) == []
    assert build.cache_folder() is None


@pytest.mark.parametrize(
    ("platform", "variable", "wanted"),
    [
        ("linux", "XDG_CACHE_HOME", "xprnn"),
        ("win32", "LOCALAPPDATA", "xprnn"),
        ("darwin", "HOME", "Library/Caches/xprnn"),
        ("linux", "HOME", ".cache/xprnn"),
    ],
)
def test_where_it_is_kept(platform, variable, wanted, build, tmp_path, monkeypatch):
    for name in ("XPRNN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(build.sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert build.cache_folder() == tmp_path / wanted


def test_a_folder_that_can_not_be_written(build, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XPRNN_CACHE", str(tmp_path / "file" / "below"))
    words = "compiled code can't be cached, each process compiles its own: .*XPRNN_CACHE names"
    with pytest.warns(RuntimeWarning, match=words) as caught:
        assert not built(build).cached
    assert len(caught) == 1
    # Warnings are errors here.
    assert not built(build).cached


def test_a_folder_that_becomes_full(build, monkeypatch):
    from numba.core import caching

    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", refuse)
    with pytest.warns(RuntimeWarning, match="No space left on device") as caught:
        assert not built(build).cached
    assert len(caught) == 1


def empty(file):
    file.write_bytes(b"")


def nonsense(file):
    file.write_bytes(b"\x80nonsense" * 40)


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-9])


def something_else(file):
    file.write_bytes(pickle.dumps({"what": "else"}))


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("spoil", [empty, nonsense, cut_short, something_else])
def test_a_cache_that_was_spoiled_is_made_anew(spoil, suffix, build, tmp_path):
    built(build)
    (file,) = tmp_path.rglob(f"*.{suffix}")
    spoil(file)
    assert not built(build).cached
    assert built(build).cached


def test_a_mistake_in_the_source_is_no_matter_of_the_cache(build):
    from numba.core.errors import NumbaError

    with pytest.raises(NumbaError):
        built(build, source="def first(x):\n    x[0] = unknown\n")


SECOND = """
import numpy as np, logging, xprnn
logging.basicConfig(level="INFO", format="%(message)s", stream=__import__("sys").stdout)
net = xprnn.RNN(1, 3, 1, rng=0)
x = np.ones((4, 2, 1), "f")
print(net.value_and_grad(x, x)[0].tobytes().hex())
"""


def test_a_second_process_loads_what_the_first_compiled():
    pytest.importorskip("numba")
    texts = [run_python(SECOND, XPRNN_LOWERING="numba").splitlines() for _ in range(2)]
    assert [line.split(" in ")[0] for line in texts[1][:-1]] == [
        "the function forward was loaded",
        *["the function strip was loaded"] * 3,
        "the function product was loaded",
        "the function pack was loaded",
        "the function backward was loaded",
    ]
    assert texts[0][-1] == texts[1][-1]
