"""Every example runs, at a small size."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = {"noisy_sine.py": ["--epochs", "3", "--neurons", "5"]}


def test_none_is_forgotten():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SMALL)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_example(name, tmp_path, capsys):
    main = runpy.run_path(str(EXAMPLES / name))["main"]
    main([*SMALL[name], "--out", str(tmp_path)])
    assert "loss" in capsys.readouterr().out
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {"fit.png", "loss.png", "states.png", "other_x.png"}
