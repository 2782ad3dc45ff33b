"""The equations of the time loop: each implementation cites those that it implements."""

import io
import re
import tokenize
from pathlib import Path

import pytest

import xprnn
from xprnn.engine.loop import protocol

FOLDER = Path(xprnn.__file__).parent / "engine" / "loop"

NORMALISATION = {3, 7}

LOOPS = {
    "plain": (["plain.py"], set()),
    # Its steps are those of the plain loop.
    "scan": (["scan.py"], {*range(1, 5), *range(6, 10)}),
    "numpy": (["numpy/source.py"], NORMALISATION),
    "numba": (["numba/source.py", "numba/parts.py", "numba/loops.py"], NORMALISATION),
    "persistent": (["cuda/persistent/source.py", "cuda/cell.py", "cuda/arrays.py"], NORMALISATION),
    "cuda": (["cuda/source.py", "cuda/cell.py", "cuda/arrays.py", "cuda/loops.py"], NORMALISATION),
}
"""By implementation, its files, and the equations that are not for it."""


def numbers(text):
    return [int(number) for number in re.findall(r"\((\d+)\)", text)]


def equations():
    """Return the numbers of the equations, in order: those at the ends of indented lines."""
    lines = re.findall(r"^ {4}.*?\((\d+)\)(?: +from .*)?$", protocol.__doc__, re.MULTILINE)
    return [int(number) for number in lines]


def test_the_equations_are_numbered_in_order():
    assert equations() == list(range(1, 12))


@pytest.mark.parametrize("name", LOOPS)
def test_every_equation_is_cited_where_it_is_implemented(name):
    files, absent = LOOPS[name]
    texts = [(FOLDER / file).read_text("utf-8") for file in files]
    cited = set()
    for text in texts:
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        for token in tokens:
            if token.type == tokenize.COMMENT:
                cited.update(numbers(token.string))
    assert cited == set(equations()) - absent
    # What is absent is said at the top.
    head = texts[0].split('"""')[1]
    assert absent <= set(numbers(head))
