"""The pages: their Python runs, their commands parse, and what they name and link to exists."""

import argparse
import ast
import contextlib
import importlib
import io
import re
import shlex
import sys
from pathlib import Path

import pytest

import xprnn
from xprnn.cli.main import build_parser
from xprnn.optim import OPTIMIZERS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    str(page.relative_to(ROOT)): page
    for page in [
        *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
        *sorted(path for path in DOCS.rglob("*.md") if "generated" not in path.parts),
    ]
}
# Notes keep the names of their day, the changelog says what they became.
CURRENT = [name for name in PAGES if not name.startswith(("docs/notes/", "CHANGELOG"))]
MAP = (DOCS / "where-is-what.md").read_text("utf-8")

# What a page's Python needs too long for: in the tests it is done with less.
SHORTER = {"docs/design.md": ("100_000", "1_000")}


def text_of(name):
    return PAGES[name].read_text("utf-8")


def fenced(name, language):
    """Yield the blocks of a language, each with the file that the line above it names, if any."""
    pattern = rf"(?:^`([\w/.]+)`\n\n)?^```{language}\n(.*?)^```"
    yield from re.findall(pattern, text_of(name), re.MULTILINE | re.DOTALL)


def prose(name):
    """Return a page without its blocks."""
    return re.sub(r"^```.*?^```", "", text_of(name), flags=re.MULTILINE | re.DOTALL)


def quoted(name):
    """Return what is in backticks, outside of blocks."""
    return re.findall(r"`([^`\n]+)`", prose(name))


def with_block(language):
    return [name for name in PAGES if any(fenced(name, language))]


# Python.


def check_readme(names, printed, folder):
    assert names["history"].loss[-1] < names["history"].loss[0]
    assert (folder / "model.safetensors").is_file()
    assert "weight_hh_l0" in printed


def check_optimizers(names, printed, _):
    untrained = xprnn.RNN(1, 20, 1, dtype="float64", rng=0)
    assert float(printed) < xprnn.evaluate(untrained, (names["x"] / 10, names["target"]))


def check_interop(names, printed, _):
    assert "cell=GRU(), bias=True, returns='sequence', layers=2, bidirectional=True" in printed
    assert "RNN(100, 32, 100, cell=LSTM(" in printed
    trained = {name for name, p in names["model"].named_parameters() if p.requires_grad}
    assert {*names["model"].state_dict()} - trained == {"rnn.bias_hh_l0", "rnn.bias_hh_l1"}


def check_testing(_, printed, folder):
    assert "torch on cpu in float32" in printed
    assert (folder / "src" / "leaky.py").is_file()


def check_checkpoints(names, _, folder):
    assert names["history"].resumed > 0
    assert (folder / "run.ckpt").is_file()


def check_inspect(names, printed, folder):
    assert (folder / "inspect.html").is_file()
    assert "[ 1.  2.  5. 11.] [64. 32. 16.  8.]" in printed
    gradients = {name: g.item() for name, g in names["page"].record.gradients().items()}
    assert gradients == {"weight_ih_l0": 88, "weight_hh_l0": 104}


CHECKS = {
    "README.md": check_readme,
    "docs/inspect.md": check_inspect,
    "docs/checkpoints.md": check_checkpoints,
    "docs/interop.md": check_interop,
    "docs/optimizers.md": check_optimizers,
    "docs/testing.md": check_testing,
}


@pytest.mark.parametrize("name", with_block("python"))
def test_the_python_of_a_page_runs_top_to_bottom(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "src")
    names, printed = {"__name__": "page"}, io.StringIO()
    try:
        for file, code in fenced(name, "python"):
            if file:
                (tmp_path / file).parent.mkdir(exist_ok=True)
                (tmp_path / file).write_text(code)
                # An import before it may have noted that the folder does not exist.
                importlib.invalidate_caches()
            with contextlib.redirect_stdout(printed):
                exec(compile(code.replace(*SHORTER.get(name, ("", ""))), name, "exec"), names)
    finally:
        sys.modules.pop("leaky", None)
    CHECKS.get(name, lambda *_: None)(names, printed.getvalue(), tmp_path)


def test_the_page_of_the_optimizers_has_every_rule():
    page = text_of("docs/optimizers.md")
    for name, kind in OPTIMIZERS.items():
        assert f"`{name}`" in page
        assert page.count(f"| `{kind.__name__}` |") == 2


# Commands.


@pytest.mark.parametrize("name", with_block("console"))
def test_every_command_of_a_page_parses(name):
    for _, block in fenced(name, "console"):
        for line in block.splitlines():
            words = shlex.split(line.partition(" > ")[0], comments=True)
            if words:
                assert words[0] == "xprnn"
                assert callable(build_parser().parse_args(words[1:]).run)


def options(parser):
    """Yield the long options of a command, and of those below it."""
    for action in parser._actions:
        yield from (name for name in action.option_strings if name.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from options(command)


def test_the_page_of_the_commands_has_every_option():
    page = text_of("docs/command-line.md")
    missing = {name for name in options(build_parser()) if not re.search(rf"{name}\b", page)}
    assert missing <= {"--help", "--version"}


def test_the_commands_at_the_top_of_the_readme_are_the_documented_ones():
    (_, first), (_, second) = fenced("README.md", "bash")
    assert first.split(" && ") == [
        "python3 -m venv .venv",
        '.venv/bin/pip install -q ".[cli]"',
        ".venv/bin/xprnn train sine\n",
    ]
    assert second == "bash ci/test.sh\n"
    assert (ROOT / "ci" / "test.sh").is_file()


# Links, paths and names.


def anchors(page):
    """Return what links into a page can name: its headings, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ +(.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_of_a_page_leads_somewhere(name):
    page = PAGES[name]
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(name)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("name", CURRENT)
def test_every_path_of_a_page_exists(name):
    shown = {file for file, _ in fenced(name, "python")}
    paths = r"(?<![\w/.-])(?:xprnn|tests|docs|examples|ci)/[\w./-]*\w/?"
    for path in set(re.findall(paths, prose(name))) - shown:
        # NAME and DATE stand for any.
        assert (ROOT / path).exists() or re.search(r"[A-Z]{4}", path), path


def resolve(dotted):
    """Return the object of a dotted name."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise AttributeError(dotted)


@pytest.mark.parametrize("name", CURRENT)
def test_every_public_name_of_a_page_exists(name):
    parts = "optim|data|losses|cells|testing|diagnostics|interop|initializers"
    for word in quoted(name):
        found = re.match(rf"(?:xprnn|{parts})((?:\.[A-Za-z_]\w*)+)(?![\w/-])(?!\.\w)", word)
        if found and not word.endswith(".py"):
            dotted = found[0] if found[0].startswith("xprnn.") else f"xprnn.{found[0]}"
            resolve(dotted)


# The map.


def defined(tree):
    """Return the names that a module or a class defines, and what stands in each class."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            for part in ast.walk(target) if target is not None else ():
                if isinstance(part, ast.Name):
                    found[part.id] = node
    return found


def test_every_function_that_the_map_names_is_there():
    named = re.findall(r"`([\w/]+\.py)::([\w.]+)`", MAP)
    assert len(named) > 50
    for path, dotted in named:
        at = ast.parse((ROOT / "xprnn" / path).read_text("utf-8"))
        for part in dotted.split("."):
            assert part in defined(at), f"{path}::{dotted}"
            at = defined(at)[part]


def test_every_path_that_the_map_names_is_there():
    for word in re.findall(r"`([\w/]+/(?:\w+\.py)?)(?:::[\w.]+)?`", MAP):
        assert (ROOT / "xprnn" / word).exists() or (ROOT / word).exists(), word


def test_every_file_is_on_the_map_and_nothing_else():
    rows, folder = set(), None
    for line in MAP.partition("\n## The tree\n")[2].partition("\n## ")[0].splitlines():
        if heading := re.match(r"### `xprnn/([\w/]*)`", line):
            folder = heading[1]
        elif row := re.match(r"\| `(\w+\.py)` \| \S", line):
            rows.add(f"{folder}{row[1]}")
    files = {
        str(path.relative_to(ROOT / "xprnn"))
        for path in (ROOT / "xprnn").rglob("*.py")
        if path.name != "__init__.py"
    }
    assert rows - files == set()
    assert files - rows == set()


def test_the_version_is_the_one_of_the_changelog():
    date = re.search(
        rf"^## {re.escape(xprnn.__version__)} \((.*)\)$", text_of("CHANGELOG.md"), re.M
    )
    citation = (DOCS / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {xprnn.__version__}\n" in citation
    assert f"\ndate-released: {date[1]}\n" in citation
