"""The site's pages: all are in its tables of contents, and links lead to pages of the site.

The site itself is built by `bash ci/docs.sh`, where every warning is an error.
"""

import importlib
import re
import sys
from pathlib import Path

import pytest

import xprnn

DOCS = Path(__file__).parents[1] / "docs"
TOCTREE = re.compile(r"^```{toctree}\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def generate(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "_extensions")
    yield importlib.import_module("generate")
    sys.modules.pop("generate")


def entries():
    """Yield what the tables of contents name, relative to docs/."""
    for page in DOCS.rglob("*.md"):
        for block in TOCTREE.findall(page.read_text("utf-8")):
            lines = [line for line in block.splitlines() if line and not line.startswith(":")]
            for line in lines:
                if "*" in line:
                    found = sorted(page.parent.glob(f"{line}.md"))
                    yield from (path.relative_to(DOCS).with_suffix("").as_posix() for path in found)
                else:
                    yield f"{page.parent.relative_to(DOCS) / line}"


def test_every_page_is_in_the_contents_once():
    pages = {
        path.relative_to(DOCS).with_suffix("").as_posix()
        for path in DOCS.rglob("*.md")
        if "generated" not in path.parts
    }
    named = [entry for entry in entries() if not entry.startswith("generated/")]
    assert pages - {"index"} - set(named) == set(), "add it to docs/how-to.md or the like"
    assert set(named) - pages == set()
    assert len(named) == len(set(named))


def test_what_is_generated_is_in_the_contents(generate):
    made = {f"generated/api/{name}" for name in generate.MODULES} | {"generated/commands"}
    made |= {target.removesuffix(".md") for target in generate.PAGES.values() if "/" in target}
    examples = (DOCS.parent / "examples").glob("*.py")
    made |= {f"generated/examples/{path.stem}" for path in examples}
    assert {entry for entry in entries() if entry.startswith("generated/")} == made


def test_every_public_module_is_in_the_reference(generate):
    modules = {
        value.__name__
        for name in xprnn.__all__
        if type(value := getattr(xprnn, name)) is type(xprnn)
    }
    assert "xprnn.optim" in modules
    assert modules - set(generate.MODULES) == {"xprnn.interop"}
    libraries = {name for name in generate.MODULES if name.startswith("xprnn.interop.")}
    assert libraries == {f"xprnn.interop.{name}" for name in xprnn.interop.__all__}


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("design", "gpu.md#memory", "gpu.md#memory"),
        ("index", "../CONTRIBUTING.md#add-a-cell", "generated/contributing.md#add-a-cell"),
        ("cells/gru", "../../CONTRIBUTING.md", "../generated/contributing.md"),
        ("cells/gru", "../../xprnn/cells/gru.py", "../../xprnn/cells/gru.py"),
        (
            "tutorials/first-network",
            "../../examples/noisy_sine.py",
            "../generated/examples/noisy_sine.ipynb",
        ),
        ("generated/contributing", "docs/design.md", "../design.md"),
        ("generated/contributing", "xprnn/cells/protocol.py", "../../xprnn/cells/protocol.py"),
        ("design", "https://example.org/a.md", "https://example.org/a.md"),
    ],
)
def test_links_that_leave_the_folder(generate, page, link, expected):
    assert generate.linked(f"see [it]({link}).", page) == f"see [it]({expected})."
