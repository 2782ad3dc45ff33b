"""Showing the pictures of a folder in a notebook."""

import importlib
import os
import sys
from pathlib import Path


def show_pictures(folder: str | os.PathLike[str]) -> None:
    """Show a folder's PNG files, sorted by name, if this runs in a notebook; else do nothing.

    Examples
    --------
    >>> show_pictures("runs/noisy_sine")    # no notebook: shows nothing
    """
    # A notebook has already imported IPython; elsewhere it need not be installed.
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        return
    tools = importlib.import_module("IPython.display")
    for file in sorted(Path(folder).glob("*.png")):
        tools.display(tools.Image(filename=str(file)))
