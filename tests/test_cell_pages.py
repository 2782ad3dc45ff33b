"""What the README and the pages of the cells promise: their Python runs, their links lead on."""

import re
import shlex
from pathlib import Path

import pytest

import xprnn
from xprnn.cells import CELLS
from xprnn.cli.main import build_parser

README = Path(__file__).parents[1] / "README.md"
PAGES = README.parent / "docs" / "cells"
# By the name of the cell.
DOCUMENTED = {
    page.stem.replace("-", "_"): page
    for page in sorted(PAGES.glob("*.md"))
    if page.stem != "README"
}


def blocks(language, page=README):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def numbered(text):
    """Return the numbered equations, by number, spaces aside."""
    lines = [re.fullmatch(r" {4,}([^#]*[^#\s]) +\((\d)\)", line) for line in text.splitlines()]
    return {found[2]: " ".join(found[1].split()) for found in lines if found}


def test_the_python_runs_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = blocks("python")
    assert len(code) == 5
    namespace = {}
    for block in code:
        exec(compile(block, str(README), "exec"), namespace)
    history = namespace["history"]
    assert history.loss[-1] < history.loss[0]
    assert (tmp_path / "model.safetensors").is_file()
    assert "weight_hh_l0" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line", [line for block in blocks("console") for line in block.splitlines() if line.strip()]
)
def test_every_command_parses(line):
    words = shlex.split(line, comments=True)
    assert words[0] == "xprnn"
    assert callable(build_parser().parse_args(words[1:]).run)


def test_the_set_up_commands_are_the_documented_ones():
    first, second = blocks("bash")
    assert first.split(" && ") == [
        "python3 -m venv .venv",
        '.venv/bin/pip install -q ".[cli]"',
        ".venv/bin/xprnn train sine\n",
    ]
    assert second == "bash ci/test.sh\n"
    assert (README.parent / "ci" / "test.sh").is_file()


@pytest.mark.parametrize("page", [README, *sorted(PAGES.glob("*.md"))], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert len(links) > 1
    for link in links:
        assert link.startswith("https://arxiv.org/") or (page.parent / link).exists(), link


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_page_is_that_of_a_cell_and_in_the_index(name):
    assert name in CELLS
    index = (PAGES / "README.md").read_text()
    assert f"({DOCUMENTED[name].name})" in index
    assert f'`"{name}"`' in index


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page):
    namespace = {}
    code = blocks("python", page)
    assert code
    for block in code:
        exec(compile(block, str(page), "exec"), namespace)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_page_has_the_equations_of_the_code(name):
    wanted = numbered(CELLS[name].__doc__)
    found = numbered(DOCUMENTED[name].read_text())
    assert len(wanted) >= 2
    assert {number: found.get(number) for number in wanted} == wanted


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_page_names_the_parameters_with_their_shapes(name):
    options = {"lstm": {"peepholes": True, "layer_norm": True}}.get(name, {})
    # Sizes that tell H from multiples of I.
    net = xprnn.RNN(2, 7, cell=CELLS[name](**options))
    rows = re.findall(r"^\| (`\w+_l0`.*?) \| \((.*?)\)", DOCUMENTED[name].read_text(), re.MULTILINE)
    found = {
        parameter: tuple(
            int(size.rstrip("HI") or 1) * {"H": 7, "I": 2}[size[-1]]
            for size in shape.replace(" ", "").strip(",").split(",")
        )
        for parameters, shape in rows
        for parameter in re.findall(r"`(\w+)`", parameters)
    }
    assert found == {parameter: tuple(a.shape) for parameter, a in net.parameters.items()}
