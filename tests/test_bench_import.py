"""``xprnn bench import``: what was imported, how long it took, how large it is."""

import json
from importlib import metadata
from pathlib import Path

import pytest

from tests.cli_tools import run
from xprnn.bench import imports
from xprnn.bench.imports import ImportRow, SizeRow, run_imports, size_of
from xprnn.cli.bench import imports as bench_import

pytestmark = pytest.mark.slow


def test_interpreters_take_turns_and_medians_count(monkeypatch):
    order, seconds = [], iter([9.0, 9.0, 0.1, 1.0, 0.3, 3.0, 0.2, 2.0])

    def imported(library, folder):
        order.append(library)
        beyond = next(seconds)
        return {"numpy": 2 * beyond, "beyond": beyond, "modules": ["jaxlib", "jax.x", "scipy.y"]}

    monkeypatch.setattr(imports, "_imported", imported)
    rows = run_imports(("xprnn", "jax"), 3)
    assert order == ["xprnn", "jax"] * 4  # the first ones are warm-up
    assert rows == [
        ImportRow("xprnn", 0.4, 0.2, 3, ["jax", "jaxlib", "scipy"]),
        ImportRow("jax", 4.0, 2.0, 3, ["scipy"]),
    ]


def test_a_fresh_interpreter(tmp_path):
    found = imports._imported("xprnn", str(tmp_path))
    assert "xprnn.engine" in found["modules"]
    assert not {name.partition(".")[0] for name in found["modules"]} & set(imports.HEAVY)
    assert 0 < found["beyond"] < 600
    # The bytecode is compiled once, for all later imports.
    assert any(path.name.startswith("unroll.") for path in tmp_path.rglob("*.pyc"))
    with pytest.raises(RuntimeError, match=r"importing abacus failed: .*No module named 'abacus'"):
        imports._imported("abacus", str(tmp_path))


def distribution(folder: Path, name: str, needs: tuple[str, ...], size: int, listed=True):
    """Install a distribution with a package of a given size in bytes."""
    package = folder / name.lower().replace("-", "_")
    package.mkdir()
    (package / "__init__.py").write_bytes(b"#" * size)
    (package / "x.pyc").write_bytes(b"#" * 1000)
    info = folder / f"{package.name}-1.0.dist-info"
    info.mkdir()
    lines = "".join(f"Requires-Dist: {line}\n" for line in needs)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{lines}")
    files = [f"{package.name}/__init__.py", f"{package.name}/x.pyc"] if listed else []
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def test_sizes(tmp_path, monkeypatch):
    needs = (
        "Tree_Two (>=1.0)",
        "tree-three[fast]>=2; python_version >= '3'",
        "tree-four; extra == 'x'",
        "not-there-at-all; platform_system == 'Windows'",
    )
    distribution(tmp_path, "tree-one", needs, 100)
    distribution(tmp_path, "Tree-Two", ("tree-one", "tree-three"), 20)
    distribution(tmp_path, "tree-three", (), 3, listed=False)
    distribution(tmp_path, "tree-four", (), 5000)
    monkeypatch.syspath_prepend(tmp_path)
    size = size_of("tree-one")
    assert size == SizeRow("tree-one", 100, 23, ["tree-three", "tree-two"])
    assert size.whole == 123
    with pytest.raises(metadata.PackageNotFoundError):
        size_of("not-there-at-all")


ROWS = [ImportRow("xprnn", 0.08, 0.1, 150, []), ImportRow("torch", 0.09, 2.5, 900, ["tqdm"])]


def invented(monkeypatch, rows):
    monkeypatch.setattr(bench_import, "run_imports", lambda libraries, repeats: rows)
    monkeypatch.setattr(
        bench_import, "size_of", lambda name: SizeRow(name, 2**20, 2**21, ["numpy"])
    )


def test_the_table(monkeypatch, tmp_path):
    invented(monkeypatch, ROWS)
    done = run("bench", "import", "--against", "torch", "--out", tmp_path)
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert "torch        0.090 s     2.500 s      900   tqdm" in lines
    assert "xprnn: within 0.15 s beyond NumPy, no heavy module" in lines
    assert "xprnn            1.0 MiB       3.0 MiB   numpy" in lines
    facts = json.loads((tmp_path / "bench-import.json").read_text())
    assert facts["imports"] == [row._asdict() for row in ROWS]
    assert [size["library"] for size in facts["sizes"]] == ["xprnn", "torch"]
    assert set(facts["versions"]) == {"numpy", "torch"}


def test_what_is_missed_is_said(monkeypatch):
    invented(monkeypatch, [ImportRow("xprnn", 0.08, 0.2, 150, ["scipy"])])
    lines = run("bench", "import", "--against", "none").out.splitlines()
    assert "xprnn: NOT within 0.15 s beyond NumPy, HEAVY: scipy" in lines

    def without(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(bench_import, "size_of", without)
    lines = run("bench", "import", "--against", "none").out.splitlines()
    assert "xprnn     is not installed as a distribution: no size" in lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--against mxnet", "--against is 'mxnet': expected 'torch' or 'jax'"),
        ("--repeats 0", "--repeats is 0: expected an int of at least 1"),
    ],
)
def test_what_makes_no_sense(words, message):
    done = run("bench", "import", *words.split())
    assert done.status == 1
    assert message in done.error
