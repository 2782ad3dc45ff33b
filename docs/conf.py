"""The documentation as a site: `bash ci/docs.sh` builds it from these pages.

The pages are Markdown that reads well in a repository, too, so nothing in them is for Sphinx but
the tables of contents. What they link to outside of `docs/` is mapped to pages of the site here;
examples are notebooks, which are run; the reference comes from docstrings and parsers.
"""

import os
import re
import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS / "_extensions")]

import generate

from xprnn import __version__

project = "xprnn"
author = "xprnn contributors"
project_copyright = "xprnn contributors"
release = version = __version__
language = "en"

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_templates", "generated/examples/runs", "images/*.py"]
root_doc = "index"

# Markdown.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
myst_links_external_new_tab = False

# Examples are notebooks in jupytext's percent format. Their pictures are drawn without a window.
os.environ["MPLBACKEND"] = "Agg"
nb_execution_mode = "cache" if generate.EXECUTE else "off"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_execution_in_temp = False  # the pages that they write are part of the site
nb_merge_streams = True
nb_render_markdown_format = "myst"

# The reference. `name` in a docstring is a link, if there is such a name.
default_role = "py:obj"
templates_path = ["_templates"]
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's Parameters have them
autodoc_preserve_defaults = True
numpydoc_show_class_members = False  # each method has its text instead
numpydoc_xref_param_type = False

# The look.
html_theme = "furo"
html_title = f"xprnn {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"


def page(app, name, source):
    """Map links that leave the folder to pages of the site."""
    source[0] = generate.linked(source[0], name)


def skip(app, what, name, member, skipped, options):
    """Leave out a named tuple's fields, which its text describes, and scikit-learn's methods."""
    field = str(getattr(member, "__doc__", "")).startswith("Alias for field number")
    return True if field or re.fullmatch(r"set_\w+_request", name) else None


def walks(app, exception):
    """Copy the pages that the examples have written: each walks through a pass."""
    for path in (DOCS / "generated" / "examples" / "runs").glob("*/*.html"):
        target = Path(app.outdir) / "walks" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def setup(app):
    generate.write(DOCS)
    app.connect("source-read", page)
    app.connect("autodoc-skip-member", skip)
    app.connect("build-finished", walks)
    return {"parallel_read_safe": True}
