"""``xprnn bench quality``: both libraries train alike; the output has their differences."""

import json
import math
import re
import sys

import numpy as np
import pytest

from tests.cli_tools import run
from tests.closeness import between_backends
from xprnn.bench.peers import torch_quality
from xprnn.bench.quality import comparison as quality
from xprnn.bench.quality.comparison import Curves, moved_by_roundings, problem_of, run_quality
from xprnn.bench.quality.plot import plot_quality
from xprnn.bench.quality.training import (
    OPTIMIZERS,
    Point,
    TrainingSetting,
    XprnnTraining,
    main,
    points,
    write_problem,
)
from xprnn.cli.bench import quality as bench_quality
from xprnn.interop.torch import to_state_dict

pytestmark = pytest.mark.slow

TEXT = "the cat sat on the mat. a dog ran to the cat! did the mat move? no.\n" * 12
SETTING = TrainingSetting(
    steps=40,
    every=15,
    batch=3,
    chunk=11,
    optimizer="sgd",
    rate=0.5,
    momentum=0.9,
    clip=0.2,
    dtype="float64",
)


def problem(dtype="float64"):
    return problem_of(TEXT, 0.2, 7, 2, dtype, 0)


def trained(setting, weights=None):
    """Train in both libraries in this process, and return their points."""
    made = problem(setting.dtype)
    weights = to_state_dict(made.net, rnn="lstm") if weights is None else weights
    both = XprnnTraining(setting, weights), torch_quality.prepare(setting, weights)
    return [list(points(setting, each, made.tokens, made.held_out)) for each in both]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_both_train_the_same(optimizer):
    """Several passes, so the state is carried over and reset; the last chunk is shorter."""
    rate = {"sgd": 0.5, "adam": 0.02}[optimizer]
    ours, theirs = trained(SETTING._replace(optimizer=optimizer, rate=rate))
    assert [p.step for p in ours] == [0, 15, 30, 40]
    assert [len(p.losses) for p in ours] == [0, 15, 15, 10]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.losses == pytest.approx(other.losses, rel=1e-11)
        assert mine.held_out == pytest.approx(other.held_out, rel=1e-11)
    assert ours[-1].held_out < ours[0].held_out - 0.3


def test_the_first_losses_agree_to_float32_rounding():
    ours, theirs = trained(SETTING._replace(dtype="float32", steps=3))
    assert ours[-1].losses == pytest.approx(
        theirs[-1].losses, rel=between_backends("float32", 3 * SETTING.chunk)
    )
    assert ours[0].held_out == pytest.approx(
        theirs[0].held_out, rel=between_backends("float32", SETTING.chunk)
    )


def test_a_loss_that_is_not_finite_ends_a_training():
    weights = to_state_dict(problem().net, rnn="lstm")
    weights["readout.bias"][:] = np.nan
    with pytest.raises(FloatingPointError, match=r"loss is nan in step 1: try a smaller --lr"):
        trained(SETTING, weights)


def test_weights_moved_by_a_rounding():
    net = problem_of(TEXT, 0.2, 30, 1, "float32", 0).net
    weights = to_state_dict(net, rnn="lstm")
    moved = moved_by_roundings(weights, 0)
    assert list(moved) == list(weights)
    up, all_ = 0, 0
    for name, before in weights.items():
        after = moved[name]
        assert after.dtype == before.dtype == np.float32
        if name == "lstm.bias_hh_l0":
            assert not after.any()
            continue
        assert np.all(
            (after == np.nextafter(before, np.inf, dtype=before.dtype)) | (after < before)
        )
        assert np.all(after != before)
        assert np.all(np.nextafter(after, before) == before)
        up, all_ = up + int(np.sum(after > before)), all_ + before.size
    assert 0.45 < up / all_ < 0.55


@pytest.mark.parametrize("library", ["xprnn", "torch"])
def test_what_a_process_prints(library, tmp_path, capsys):
    made = problem()
    weights = to_state_dict(made.net, rnn="lstm")
    setting = SETTING._replace(steps=4, every=3)
    write_problem(tmp_path, setting, made.tokens, made.held_out, {"some": weights})
    main(library, tmp_path, "some")
    printed = [Point(**json.loads(line)) for line in capsys.readouterr().out.splitlines()]
    assert printed == trained(setting)[library == "torch"]


@pytest.mark.full
def test_the_command(tmp_path, monkeypatch):
    """A small comparison in three processes; the weights of the third are moved visibly."""
    monkeypatch.setattr(
        quality, "moved_by_roundings", lambda state, rng: {k: 1.01 * a for k, a in state.items()}
    )
    text = tmp_path / "cats.txt"
    text.write_text(TEXT)
    small = {"steps": 7, "every": 3, "hidden": 5, "layers": 1, "batch": 4, "chunk": 9}
    words = [word for name, value in small.items() for word in (f"--{name}", value)]
    result = run("bench", "quality", text, *words, "--held-out", "0.2", "--out", tmp_path / "q")
    assert result.status == 0, result.err
    rows = [line.split() for line in result.out.splitlines() if re.match(r" +\d+ ", line)]
    assert [int(row[0]) for row in rows] == [0, 3, 6, 7]
    facts = json.loads((tmp_path / "q" / "bench-quality.json").read_text())
    assert (tmp_path / "q" / "quality.png").read_bytes().startswith(b"\x89PNG")
    assert facts["text"] == "cats.txt"
    assert facts["characters"] == len(TEXT)
    assert facts["updates"] == [0, 3, 6, 7]
    assert [row[-4] for row in rows] == [f"{x:.4f}" for x in facts["held_out_losses"]["xprnn"]]
    losses = facts["training_losses"]
    assert {name: len(each) for name, each in losses.items()} == dict.fromkeys(quality.RUNS, 7)
    assert losses["xprnn"] == pytest.approx(losses["torch"], rel=between_backends("float32", 7 * 9))
    assert losses["xprnn"] != losses["torch"]
    assert 1e-4 < facts["apart"]["moved"]["training"] < 1e-1
    assert "cats.txt: 816 characters, the last 163 held out" in result.out
    assert "7 updates of 4 × 9 characters, Adam, learning rate 0.002," in result.out


def invented(losses):
    """Imitate the processes: one point per update, with given losses."""

    def run_quality(problem, setting, rng):
        for k in range(len(losses["xprnn"]) + 1):
            yield {
                name: Point(k, each[max(0, k - 1) : k], 2 * each[k - 1] if k else 9.0)
                for name, each in losses.items()
            }

    return run_quality


INVENTED = {"xprnn": [4.0, 3.0, 2.5], "torch": [4.0, 3.25, 2.0], "moved": [4.0, 3.0, 1.875]}


def test_what_is_printed_is_what_came_out(monkeypatch, tmp_path):
    monkeypatch.setattr(bench_quality, "run_quality", invented(INVENTED))
    result = run("bench", "quality", "--json", "--hidden", "4", "--out", tmp_path)
    facts = json.loads(result.out)
    assert facts == json.loads((tmp_path / "bench-quality.json").read_text())
    assert facts["text"] == "Python's reference"
    assert facts["final_held_out"] == {"xprnn": 5.0, "torch": 4.0, "moved": 3.75}
    assert facts["apart"] == {
        "xprnn": {"held_out": 1.0, "training": 0.5, "training_update": 3},
        "moved": {"held_out": 0.25, "training": 0.25, "training_update": 2},
    }
    lines = run("bench", "quality", "--hidden", "4", "--out", tmp_path).out.splitlines()
    assert "      3     2.5000     2.0000    5.0000    4.0000     1.0e+00          2.5e-01" in lines
    assert (
        "xprnn and torch: 1.0e+00 apart in the held-out loss at the end (5.0000 and 4.0000), "
        "at most 5.0e-01 in a training loss (update 3)"
    ) in lines


def test_the_picture():
    curves = Curves()
    for step in invented(INVENTED)(None, None, 0):
        curves.add(step)
    above, below = plot_quality(curves, title="a $ b").axes
    drawn = {line.get_label(): line.get_data() for line in above.lines}
    for name in ("xprnn", "torch"):
        x, y = drawn[f"{name}, training"]
        assert list(zip(x, y, strict=True)) == list(enumerate(INVENTED[name], start=1))
        x, y = drawn[f"{name}, held out"]
        assert list(x) == [0, 1, 2, 3]
        assert list(y) == [9.0, *(2 * loss for loss in INVENTED[name])]
    apart = {line.get_label(): line.get_ydata() for line in below.lines}
    np.testing.assert_array_equal(apart["xprnn and torch"], [np.nan, 0.25, 0.5])
    (other,) = apart.keys() - {"xprnn and torch"}
    np.testing.assert_array_equal(apart[other], [np.nan, 0.25, 0.125])
    assert below.get_yscale() == "log"


def test_a_process_that_fails_says_why(monkeypatch):
    monkeypatch.setattr(quality, "RUNS", {"xprnn": "abacus"})
    with pytest.raises(RuntimeError, match=r"training 'xprnn' failed: .*abacus_quality"):
        list(run_quality(problem(), SETTING))


def test_processes_end_with_the_comparison(monkeypatch):
    monkeypatch.setattr(quality, "RUNS", {"xprnn": "xprnn"})
    started, popen = [], quality.subprocess.Popen

    def record(*args, **options):
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(quality.subprocess, "Popen", record)
    comparison = run_quality(problem(), SETTING._replace(steps=10**9, threads=3))
    first = next(comparison)["xprnn"]
    assert first.step == 0
    assert math.isfinite(first.held_out)
    assert started[0].poll() is None
    comparison.close()
    assert started[0].returncode != 0


def test_without_torch(monkeypatch, tmp_path):
    for name in ("torch", "array_api_compat.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    result = run("bench", "quality", "--out", tmp_path / "q")
    assert result.status == 1
    assert re.search(
        r"error: the comparison is with torch: .* not installed .*pip install torch$", result.error
    )
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "0"], "--steps is 0: expected an int of at least 1"),
        (["--every", "0"], "--every is 0: expected an int of at least 1"),
        (["--lr", "0"], "--lr is 0.0: expected a number above 0"),
        (["--held-out", "1"], "--held-out is 1.0: expected a number above 0 and below 1"),
        (["--batch", "200"], "163 tokens do not make 200 streams"),
        (["--dtype", "int8"], "dtype is 'int8'"),
    ],
)
def test_bad_options(words, message, tmp_path):
    text = tmp_path / "cats.txt"
    text.write_text(TEXT)
    words = ["--held-out", "0.2", *words]
    result = run("bench", "quality", text, *words, "--out", tmp_path / "q")
    assert result.status == 1
    assert message in result.error
    assert not (tmp_path / "q").exists()
