"""Running the command line, in this process or in a new one."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import xprnn
from xprnn import diagnostics
from xprnn.cli import main


class Result(NamedTuple):
    """The exit status and the output of a command."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The line on stderr; fails if there is not exactly one, such as a traceback."""
        assert self.err.endswith("\n")
        (line,) = self.err.splitlines()
        return line

    @property
    def last_error(self) -> str:
        """The last line on stderr, after the lines of the progress."""
        return self.err.splitlines()[-1]


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def run(*words: object, terminal: bool = False) -> Result:
    """Run a command in this process."""
    out, err = io.StringIO(), Terminal() if terminal else io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(word) for word in words])
        except SystemExit as exit_:
            status = exit_.code
    assert isinstance(status, int)
    return Result(status, out.getvalue(), err.getvalue())


def environment(**changes: str) -> dict[str, str]:
    """Return an environment in which Python finds xprnn."""
    root = str(Path(xprnn.__file__).parents[1])
    return os.environ | {"PYTHONPATH": root, "PYTHONUTF8": "1"} | changes


def run_module(*words: object, cwd: Path, **changes: str) -> Result:
    """Run ``python -m xprnn`` in a folder, with warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "xprnn", *map(str, words)],
        cwd=cwd,
        env=environment(**changes),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def keep_figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return a dict that collects the figures of later commands by file name, unwritten."""
    figures: dict[str, Any] = {}

    def keep(figure: Any, path: Path) -> None:
        figures[path.name] = figure

    monkeypatch.setattr(diagnostics, "save_figure", keep)
    return figures


def lines_of(figure: Any) -> dict[str, np.ndarray]:
    """Return the data of a figure's labelled lines, (2, N), by label; it has one pair of axes."""
    (axes,) = figure.axes
    return {
        line.get_label(): np.array(line.get_data())
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
