"""What the README promises: its Python runs as printed, its commands exist."""

import re
import shlex
from pathlib import Path

import pytest

from xprnn.cli.main import build_parser

README = Path(__file__).parents[1] / "README.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


def test_the_python_runs_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = blocks("python")
    assert len(code) == 4
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


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    assert len(links) > 5
    for link in links:
        assert (README.parent / link).exists(), link
