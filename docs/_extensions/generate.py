"""The pages that are made from the code: the reference, the commands, the examples as notebooks.

They are written below `docs/generated/`, which git ignores.
"""

import argparse
import importlib
import inspect
import os
import re
import types
from pathlib import Path

import jupytext
from nbformat.v4 import new_markdown_cell

from xprnn.cli.main import build_parser

ROOT = Path(__file__).parents[2]
EXECUTE = os.environ.get("EXAMPLES", "1") != "0"

MODULES = {
    "xprnn": "Networks, training, models",
    "xprnn.cells": "Cells",
    "xprnn.losses": "Losses",
    "xprnn.optim": "Optimizers",
    "xprnn.optim.schedules": "Schedules of the learning rate",
    "xprnn.initializers": "Initial values of parameters",
    "xprnn.data": "Batches, series and their transformations",
    "xprnn.data.text": "Texts and vocabularies",
    "xprnn.distributed": "Training on several processes",
    "xprnn.diagnostics": "Pictures and figures of gradients",
    "xprnn.testing": "Proofs of gradients and parity",
    "xprnn.interop.torch": "Torch",
    "xprnn.interop.jax": "JAX",
    "xprnn.interop.sklearn": "scikit-learn",
    "xprnn.interop.onnx": "ONNX",
}

# What Sphinx and the examples write.
KEPT = ("api/objects/", "examples/runs/")

# Files outside of the folder that have a page of their own here.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "generated/contributing.md",
    "CHANGELOG.md": "generated/changelog.md",
    "LICENSE": "generated/license.md",
    "examples": "tutorials.md",
}


def _public(module):
    """Return the public objects of a module by name: its `__all__`, or what is defined in it."""
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return {name: getattr(module, name) for name in sorted(names)}


def _table(names):
    lines = [".. autosummary::", "   :toctree: objects", "   :nosignatures:", ""]
    return [*lines, *(f"   {name}" for name in names), ""]


def _module_page(name, title):
    """Return the page of a module: its first sentences, and a table for each kind of object."""
    module = importlib.import_module(name)
    kinds: dict[str, list[str]] = {"Classes": [], "Functions": [], "Errors": [], "Values": []}
    for one, value in _public(module).items():
        if inspect.ismodule(value):
            continue
        if isinstance(value, types.GenericAlias) or not callable(value):
            kind = "Values"
        elif inspect.isclass(value):
            kind = "Errors" if issubclass(value, BaseException) else "Classes"
        else:
            kind = "Functions"
        kinds[kind].append(one)
    heading = f"{name}: {title[0].lower() if title[1].islower() else title[0]}{title[1:]}"
    text = [heading, "=" * len(heading), "", f".. currentmodule:: {name}", ""]
    text += [inspect.getdoc(module) or "", ""]
    for kind, names in kinds.items():
        if kind == "Values":
            for one in names:
                value = getattr(module, one)
                shown = ", ".join(value) if isinstance(value, dict) else repr(value)
                text += [f".. py:data:: {one}", "", f"   ``{shown}``", ""]
        elif names:
            text += [kind, "-" * len(kind), "", *_table(names)]
    return "\n".join(text)


def _commands(parser):
    """Yield the parsers of all commands, in the order in which `--help` lists them."""
    groups = [part for part in parser._actions if isinstance(part, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for below in group.choices.values():
            yield from _commands(below)


def _commands_page():
    """Return the page of what every command prints with `--help`."""
    os.environ["COLUMNS"] = "96"
    text = [
        "# Every command's help\n",
        "[The command line](docs/command-line.md) says what the commands are for.\n",
    ]
    for parser in _commands(build_parser()):
        text += [f"## {parser.prog}\n", f"```text\n{parser.format_help().rstrip()}\n```\n"]
    return "\n".join(text)


def _walks(path):
    """Yield a text with links to the pages that an example writes, which walk through a pass."""
    names = re.findall(r'"(\w+\.html)"', path.read_text("utf-8"))
    links = [f'<a href="../../walks/{path.stem}/{name}">{name}</a>' for name in names]
    if links and EXECUTE:
        yield f"## Every gradient, step by step\n\nOn a page of its own: {', '.join(links)}"


def write(docs):
    """Write the generated pages; those that are as they were keep their times."""
    folder = docs / "generated"
    pages = {f"api/{name}.rst": _module_page(name, title) for name, title in MODULES.items()}
    pages["commands.md"] = _commands_page()
    for name, target in PAGES.items():
        if target.startswith("generated/"):
            text = (ROOT / name).read_text("utf-8")
            if name == "LICENSE":
                text = f"# License\n\n```text\n{text}\n```\n"
            pages[target.removeprefix("generated/")] = text
    for path in sorted((ROOT / "examples").glob("*.py")):
        notebook = jupytext.read(path, fmt="py:percent")
        notebook.cells += [new_markdown_cell(text) for text in _walks(path)]
        for number, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{number}"
            if cell.cell_type == "markdown":  # other examples are notebooks, too
                cell.source = re.sub(r"\]\((\w+)\.py\)", r"](\1.ipynb)", cell.source)
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        pages[f"examples/{path.stem}.ipynb"] = jupytext.writes(notebook, fmt="ipynb")
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
    for path in folder.rglob("*"):
        old = path.relative_to(folder).as_posix()
        if path.is_file() and old not in pages and not old.startswith(KEPT):
            path.unlink()


LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def linked(text, name):
    """Return a page's text with the links that leave `docs/` turned to the site's pages.

    `name` is the page's, without its ending, relative to `docs/`; a page of `generated/` was
    written for the root of the project.
    """
    place = ROOT / "docs" / Path(name).parent
    home = ROOT if name.startswith("generated/") and name.count("/") == 1 else place
    up = "../" * name.count("/")

    def turn(match):
        target = match[2]
        if "://" in target or target.startswith(("mailto:", "/")):
            return match[0]
        path = os.path.relpath(os.path.normpath(home / target), ROOT).replace(os.sep, "/")
        if path.startswith("docs/") and home == place:
            return match[0]
        if path.startswith("docs/"):
            new = path.removeprefix("docs/")
        elif path in PAGES:
            new = PAGES[path]
        elif path.startswith("examples/") and path.endswith(".py"):
            new = f"generated/examples/{Path(path).stem}.ipynb"
        else:
            new = f"../{path}"
        return f"{match[1]}{up}{new}{match[3]}"

    return LINK.sub(turn, text)
