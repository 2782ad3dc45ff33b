"""The examples and their arguments; `tests.test_notebooks` runs them."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
# By file: arguments for a short run, and the pictures that it makes.
SMALL = {
    "bring_your_own_cell.py": (["--epochs", "2"], {"loss.png"}),
    "counting_ones.py": (
        ["--length", "4", "--sequences", "8", "--every", "100"],
        {"counting_ones.png", "state_gradients.png"},
    ),
    "general_network.py": (
        ["--epochs", "3"],
        {"network.png", "one_to_many.png", "closed_loop.png", "contributions.png"},
    ),
    "inside_torch.py": (["--epochs", "3", "--seconds", "0"], {"loss.png"}),
    "language_model.py": (
        ["--epochs", "2", "--hidden", "6", "--sentences", "120", "--trial", "1000"],
        {"loss.png", "window.png"},
    ),
    "standard_tasks.py": (
        ["--steps", "4", "--hidden", "4", "--updates", "2", "--every", "1"],
        {"adding.png"},
    ),
    "noisy_sine.py": (
        ["--epochs", "3", "--neurons", "5", "--every", "2"],
        {
            "fit.png",
            "fit_0002.png",
            "loss.png",
            "states.png",
            "other_x.png",
            "gradient_cosines.png",
            "arrows.png",
            "trainings.png",
        },
    ),
}
# The pages for a browser, see docs/inspect.md.
PAGES = {
    "counting_ones.py": {"linear_steps.html", "logistic_steps.html"},
    "general_network.py": {"many_to_one_steps.html"},
    "language_model.py": {"sentence_steps.html"},
    "noisy_sine.py": {"steps.html"},
}


def test_none_is_forgotten():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SMALL)


@pytest.mark.parametrize("name", ["counting_ones.py", "noisy_sine.py"])
def test_every_zero_is_refused(name, tmp_path, capsys):
    main = runpy.run_path(str(EXAMPLES / name))["main"]
    with pytest.raises(SystemExit):
        main(["--every", "0", "--out", str(tmp_path / "out")])
    assert "--every is 0: expected at least 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
