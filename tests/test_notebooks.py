"""Every example is a notebook: jupytext's percent format, explained, run cell by cell."""

import re
import sys
from pathlib import Path
from types import ModuleType

import jupytext
import nbformat
import pytest

from tests.test_examples import EXAMPLES, PAGES, SMALL
from xprnn import diagnostics

pytestmark = pytest.mark.slow

MARKER = re.compile(r"# %%( \[markdown\])?")


def notebook_of(name):
    """Return an example converted as Jupyter opens it, through the text of an ipynb file."""
    notebook = jupytext.read(EXAMPLES / name, fmt="py:percent")
    return nbformat.reads(jupytext.writes(notebook, fmt="ipynb"), as_version=4)


@pytest.fixture(params=sorted(path.name for path in EXAMPLES.glob("*.py")))
def name(request):
    return request.param


def test_is_in_percent_format(name):
    lines = (EXAMPLES / name).read_text().splitlines()
    markers = [line for line in lines if line.startswith("# %")]
    assert [line for line in markers if not MARKER.fullmatch(line)] == []
    notebook = notebook_of(name)
    nbformat.validate(notebook)
    assert len(notebook.cells) == len(markers)
    assert notebook.cells[0].source.startswith("# "), "a notebook begins with its title"
    for cell in notebook.cells:
        assert cell.source.strip(), "an empty cell"
        if cell.cell_type == "code":
            compile(cell.source, name, "exec")


def test_is_explained(name):
    texts = [cell.source for cell in notebook_of(name).cells if cell.cell_type == "markdown"]
    assert sum(len(text.split()) for text in texts) >= 30


@pytest.fixture
def shown(monkeypatch):
    """Return the names of the pictures that a notebook shows."""
    names: list[str] = []
    ipython, tools = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = object
    ipython.version_info = (9, 0)  # which matplotlib asks for at its first figure
    tools.Image, tools.display = lambda filename: Path(filename).name, names.append
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", tools)
    return names


def test_runs_from_top_to_bottom(name, shown, tmp_path, monkeypatch, capsys):
    arguments, pictures = SMALL[name]
    monkeypatch.setattr(sys, "argv", [name, *arguments, "--out", str(tmp_path)])
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    for number, cell in enumerate(notebook_of(name).cells, start=1):
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{name}, cell {number}", "exec"), vars(main))
    assert "loss" in capsys.readouterr().out
    assert {path.name for path in tmp_path.glob("*.png")} == pictures
    assert shown == sorted(pictures)
    assert {path.name for path in tmp_path.glob("*.html")} == PAGES.get(name, set())


def test_nothing_is_shown_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "picture.png").write_bytes(b"")
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: None
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    diagnostics.show_pictures(tmp_path)
    monkeypatch.delitem(sys.modules, "IPython")
    diagnostics.show_pictures(tmp_path)
