"""The pages of the cells: equations, parameters and shapes are those of the code."""

import re
from pathlib import Path

import pytest

import xprnn
from xprnn.cells import CELLS

PAGES = Path(__file__).parents[1] / "docs" / "cells"
# By the name of the cell.
DOCUMENTED = {
    page.stem.replace("-", "_"): page
    for page in sorted(PAGES.glob("*.md"))
    if page.stem != "README"
}


def numbered(text):
    """Return the numbered equations, by number, spaces aside."""
    lines = [re.fullmatch(r" {4,}([^#]*[^#\s]) +\((\d)\)", line) for line in text.splitlines()]
    return {found[2]: " ".join(found[1].split()) for found in lines if found}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_page_is_that_of_a_cell_and_in_the_index(name):
    assert name in CELLS
    index = (PAGES / "README.md").read_text()
    assert f"({DOCUMENTED[name].name})" in index
    assert f'`"{name}"`' in index


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
