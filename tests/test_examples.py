"""The examples and their arguments; `tests.test_notebooks` runs them."""

import json
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
        ["--steps", "4,6", "--hidden", "4", "--updates", "2", "--every", "1"],
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


@pytest.fixture(scope="module")
def standard_tasks():
    return runpy.run_path(str(EXAMPLES / "standard_tasks.py"))["main"]


def results(folder, task):
    """Return every cell's results, without seconds."""
    found = json.loads((folder / f"{task}.json").read_text())
    return {cell: [r | {"seconds": None} for r in lengths] for cell, lengths in found.items()}


@pytest.mark.parametrize(
    ("task", "cell", "steps"), [("adding", "ind_rnn", "10,20"), ("copy", "gru", "10")]
)
def test_a_standard_task_is_solved(task, cell, steps, standard_tasks, tmp_path, capsys):
    short = ["--task", task, "--cells", cell, "--steps", steps, "--updates", "800"]
    standard_tasks([*short, "--every", "25", "--out", str(tmp_path)])
    lengths = results(tmp_path, task)[cell]
    assert [result["solved"] for result in lengths] == [True] * len(steps.split(","))
    assert "solved after" in capsys.readouterr().out


def test_a_standard_task_in_pieces_ends_as_in_one(standard_tasks, tmp_path, capsys):
    short = ["--steps", "4,6", "--cells", "gru,ind_rnn", "--hidden", "4", "--updates", "6"]
    short += ["--every", "2"]
    standard_tasks([*short, "--out", str(tmp_path / "one")])
    # The first piece begins, each of the others makes an epoch more.
    pieces = 0
    while "stopped" in capsys.readouterr().out or not pieces:
        pieces += 1
        assert pieces < 20
        more = ["--resume"] * (pieces > 1)
        standard_tasks([*short, "--seconds", "1e-9", *more, "--out", str(tmp_path / "pieces")])
    assert pieces > 3
    assert results(tmp_path / "pieces", "adding") == results(tmp_path / "one", "adding")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "20,10"], "--steps is 20,10: expected rising numbers, from 2"),
        (["--steps", "1"], "--steps is 1: expected rising numbers, from 2"),
        (["--steps", "ten"], "--steps is 'ten': expected numbers such as 100,200"),
        (["--task", "digits", "--steps", "9"], "--steps: the digits have 64 pixels"),
        (["--cells", "gru,lstn"], "--cells has 'lstn': known are elman, "),
        (["--seconds", "0"], "argument --seconds: 0: expected above 0"),
    ],
)
def test_a_standard_task_refuses(arguments, message, standard_tasks, tmp_path, capsys):
    with pytest.raises(SystemExit):
        standard_tasks([*arguments, "--out", str(tmp_path / "out")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_standard_task_overwrites_no_earlier_run(standard_tasks, tmp_path, capsys):
    short = ["--steps", "4", "--cells", "gru", "--hidden", "4", "--updates", "1"]
    standard_tasks([*short, "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        standard_tasks([*short, "--out", str(tmp_path)])
    assert "has checkpoints of an earlier run: --resume goes on" in capsys.readouterr().err
    short[short.index("--hidden") + 1] = "5"
    with pytest.raises(SystemExit, match="hidden_size is 5, in the checkpoint 4"):
        standard_tasks([*short, "--resume", "--out", str(tmp_path)])
