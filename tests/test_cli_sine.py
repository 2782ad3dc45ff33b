"""``xprnn train sine``: its files, its output, and the ways in which a training can end."""

import json
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests.cli_tools import contents, environment, keep_figures, lines_of, run, run_module
from xprnn import RNN, History, TrainingInterrupted, data, diagnostics, evaluate
from xprnn.cells import Elman
from xprnn.cli.train import progress, session, sine
from xprnn.optim import SGD
from xprnn.training.history import Record

pytestmark = pytest.mark.slow

MODEL, HISTORY = "model.safetensors", "history.jsonl"
PICTURES = {"fit.png", "loss.png", "states.png"}
SMALL = ("--hidden", 4, "--epochs", 4)


def loss_of(folder, **options):
    """Return a saved network's loss on the data of seed 0."""
    net = RNN.load(folder / MODEL, dtype="float64")
    x, y = data.sine(rng=0, **options)
    return evaluate(net, (x / 10, y))


def printed_loss(out):
    return float(re.search(r"^loss ½·mean\(\(ŷ-y\)²\): (\S+) ", out, re.MULTILINE)[1])


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    folder = tmp_path_factory.mktemp("default")
    return folder, run("train", "sine", "--out", folder)


def test_the_defaults_fit_the_sine(default):
    folder, result = default
    assert result.status == 0
    assert loss_of(folder) <= 0.006
    assert printed_loss(result.out) == pytest.approx(loss_of(folder), rel=5e-3)
    assert "(the noise alone: 0.00500)" in result.out


def test_the_results_are_where_they_are_said_to_be(default):
    folder, result = default
    assert set(contents(folder)) == {MODEL, HISTORY} | PICTURES
    before, _, after = result.out.partition(f"written to {folder}:\n")
    assert re.match(r"trained 600 epochs in \d+\.\d s on numpy \(cpu, float32\), seed 0\n", before)
    assert [line.split()[0] for line in after.splitlines()] == [
        MODEL,
        HISTORY,
        "fit.png",
        "loss.png",
        "states.png",
    ]
    assert f"next: xprnn apply {folder / MODEL} --to 20\n" in after


def test_the_model_knows_what_it_was_trained_on(default):
    net = RNN.load(default[0] / MODEL)
    assert (net.input_size, net.hidden_size, net.output_size) == (1, 100, 1)
    assert (net.cell, net.returns, net.backend.dtype_name) == (Elman(), "sequence", "float32")
    assert net.metadata == {
        "task": "sine",
        "input_scale": 0.1,
        "trained_from": -10.0,
        "trained_to": pytest.approx(9.9),
        "seed": 0,
    }


def test_the_history_is_json_lines_and_its_best_epoch_is_what_is_kept(default):
    folder, _ = default
    lines = [json.loads(line) for line in (folder / HISTORY).read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 601))
    assert all(line["loss"] > 0 and line["gradient_norm"] > 0 for line in lines)
    best = min(line["validation_loss"] for line in lines)
    assert loss_of(folder) == pytest.approx(best, rel=1e-3)
    assert History.load(folder / HISTORY).loss == [line["loss"] for line in lines]


def test_the_pictures_are_pictures(default):
    for name in PICTURES:
        content = (default[0] / name).read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert len(content) > 20_000


def test_the_pictures_show_the_training(tmp_path, monkeypatch):
    figures = keep_figures(monkeypatch)
    assert run("train", "sine", "--dtype", "float64", *SMALL, "--out", tmp_path).status == 0
    assert set(figures) == PICTURES
    x, y = data.sine(rng=0)
    net = RNN.load(tmp_path / MODEL)
    fitted, states = net(x / 10)[0], net.forward(x / 10).tape.h
    lines = lines_of(figures["fit.png"])
    wanted = {"ŷ, network": fitted, "y, data": y, "without noise": np.sin(x)}
    assert set(lines) == set(wanted)
    for name, want in wanted.items():
        np.testing.assert_allclose(lines[name], [x.ravel(), want.ravel()], atol=1e-9)
    lines = lines_of(figures["loss.png"])
    history = History.load(tmp_path / HISTORY)
    losses = history.loss
    kept = 1 + int(np.argmin(history.validation_loss))
    assert set(lines) == {"training", "noise floor 0.005", f"kept: epoch {kept}"}
    np.testing.assert_array_equal(lines["training"], [[1, 2, 3, 4], losses])
    rows = [line for line in figures["states.png"].axes[0].lines if len(line.get_xdata()) == 200]
    largest = np.max(np.abs(states))
    for k, row in enumerate(rows):
        want = k - 0.45 * states[:, 0, k] / largest
        np.testing.assert_allclose(row.get_data(), [x.ravel(), want], atol=1e-9)
    assert len(rows) == 4


def test_without_a_terminal_progress_is_some_plain_lines(default):
    lines = default[1].err.splitlines()
    assert re.fullmatch(r"epoch 1/600, loss \d\.\d+", lines[0])
    for line in lines[1:]:
        assert re.fullmatch(r"epoch \d+/600, loss \d\.\d+, \d+ s left", line)
    epochs = [int(re.match(r"epoch (\d+)", line)[1]) for line in lines]
    assert epochs == [1, *range(60, 601, 60)]
    assert lines[-1].endswith(" 0 s left")


def test_on_a_terminal_progress_is_a_bar(tmp_path):
    result = run("train", "sine", *SMALL, "--out", tmp_path, terminal=True)
    assert result.status == 0
    assert "training: 100%" in result.err
    assert "4/4" in result.err
    assert re.search(r"loss=0\.\d+", result.err)
    assert "epoch 1/4" not in result.err


def test_the_time_left_is_that_of_the_epochs_left(monkeypatch, capsys):
    clock = iter([103.0, 106.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    with progress.Progress(3) as shown:
        shown(None, Record(1, 0.123456, None, None))
        shown(None, Record(2, 5.0, None, None))
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1/3, loss 0.1235",
        "epoch 2/3, loss 5, 3 s left",
    ]


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name in ("one", "again"):
        assert run("train", "sine", *SMALL, "--seed", 5, "--out", tmp_path / name).status == 0
    one = contents(tmp_path / "one")
    assert contents(tmp_path / "again") == one
    assert run("train", "sine", *SMALL, "--seed", 6, "--out", tmp_path / "other").status == 0
    other = contents(tmp_path / "other")
    assert all(one[name] != other[name] for name in one)
    module = run_module("train", "sine", *SMALL, "--seed", 5, "--out", "module", cwd=tmp_path)
    assert (module.status, module.err.count("\n")) == (0, 4)
    assert contents(tmp_path / "module") == one


@pytest.mark.parametrize("backend", ["torch", "array_api_strict"])
def test_another_backend_trains_the_same_network(tmp_path, backend, no_pictures):
    exact = ("--dtype", "float64", "--hidden", 4, "--epochs", 2)
    result = run("train", "sine", *exact, "--backend", backend, "--out", tmp_path / "there")
    assert result.status == 0
    assert f" on {backend} (" in result.out
    run("train", "sine", *exact, "--out", tmp_path / "here")
    there, here = RNN.load(tmp_path / "there" / MODEL), RNN.load(tmp_path / "here" / MODEL)
    for name, array in here.parameters.items():
        np.testing.assert_allclose(there.parameters[name], array, rtol=1e-10)


def test_the_options_reach_the_training(tmp_path, monkeypatch):
    given = {}

    def fit(net, batches, **options):
        given.update(options, net=net, batches=batches)
        return History([Record(1, 1.0, 1.0, 1.0)])

    monkeypatch.setattr(session, "fit", fit)
    words = (
        "--hidden 3 --activation relu --lr 0.5 --momentum 0.25 --decay 0.125 --clip 7 --epochs 9"
        " --noise 0 --dtype float64 --seed 4"
    )
    result = run("train", "sine", *words.split(), "--out", tmp_path)
    assert result.status == 0
    assert given["optimizer"] == SGD(0.5, momentum=0.25, decay=0.125)
    assert (given["clip_norm"], given["epochs"]) == (7.0, 9)
    net, (x, y) = given["net"], given["batches"]
    assert (net.hidden_size, net.cell, net.backend.dtype_name) == (3, Elman("relu"), "float64")
    np.testing.assert_allclose(y, np.sin(10 * x), atol=1e-14)
    assert "(the noise alone: 0.00)" in result.out


def test_the_folder_is_a_new_one_unless_named(tmp_path, monkeypatch, no_pictures):
    monkeypatch.chdir(tmp_path)
    for name in ("sine", "sine-2", "sine-3"):
        result = run("train", "sine", *SMALL)
        assert result.status == 0
        assert re.search(rf"^written to runs.{name}:$", result.out, re.MULTILINE)
        assert (tmp_path / "runs" / name / MODEL).is_file()
    assert len(list((tmp_path / "runs").iterdir())) == 3


def test_a_path_with_a_space_is_quoted_where_it_is_to_be_copied(tmp_path, monkeypatch, no_pictures):
    monkeypatch.chdir(tmp_path)
    assert "xprnn apply 'my run/model.safetensors' --to" in (
        run("train", "sine", *SMALL, "--out", "my run").out.replace("\\", "/")
    )


# A shell that runs the tests in the background ignores SIGINT, and child processes inherit that.
INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from xprnn.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_ctrl_c_keeps_the_model_and_says_where(tmp_path):
    words = ("train", "sine", "--hidden", "10", "--epochs", "10000000", "--out", str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", INTERRUPTIBLE, *words],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stderr.readline().startswith("epoch 1/10000000, loss ")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    told = re.fullmatch(
        r"xprnn: training interrupted after (\d+) epochs; the model so far is (.*)\n", err
    )
    assert told[2] == str(tmp_path / MODEL)
    epochs = int(told[1])
    assert epochs >= 1
    assert f"trained {epochs} epochs" in out
    assert len(History.load(tmp_path / HISTORY)) == epochs
    assert set(contents(tmp_path)) == {MODEL, HISTORY} | PICTURES
    assert loss_of(tmp_path) < 1


def test_ctrl_c_in_the_first_epoch_leaves_no_picture_of_no_loss(tmp_path, monkeypatch):
    def fit(net, batches, **options):
        raise TrainingInterrupted(History())

    monkeypatch.setattr(session, "fit", fit)
    result = run("train", "sine", *SMALL, "--out", tmp_path)
    assert result.status == 130
    assert result.error.startswith("xprnn: training interrupted after 0 epochs; the model so far")
    assert set(contents(tmp_path)) == {MODEL, HISTORY, "fit.png", "states.png"}
    assert "loss.png" not in result.out
    assert loss_of(tmp_path) < 1


def test_ctrl_c_while_drawing_says_where_the_model_is(tmp_path, monkeypatch):
    def interrupt(*words):
        raise KeyboardInterrupt

    monkeypatch.setattr(diagnostics, "save_figure", interrupt)
    result = run("train", "sine", *SMALL, "--out", tmp_path)
    assert result.status == 130
    assert result.last_error == f"xprnn: interrupted; the model is {tmp_path / MODEL}"
    assert loss_of(tmp_path) < 1


def test_ctrl_c_before_the_training(tmp_path, monkeypatch):
    def interrupt(*words, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(sine, "get_backend", interrupt)
    result = run("train", "sine", "--out", tmp_path)
    assert result.status == 130
    assert result.error == "xprnn: interrupted before there was anything to save"


@pytest.mark.parametrize(
    "words",
    [
        "--activation identity --lr 1e30 --clip 1e30",
        "--activation relu --lr 1e10 --clip 1e30",
        "--activation relu --lr 1e10 --clip 1e30 --backend torch",
    ],
)
def test_a_training_that_explodes_keeps_the_last_good_model(tmp_path, words, no_pictures):
    result = run("train", "sine", "--hidden", 5, "--epochs", 50, *words.split(), "--out", tmp_path)
    assert result.status == 1
    assert re.fullmatch(
        r"xprnn: error: the (validation )?loss is (inf|nan) in epoch \d+, batch 1: .* a smaller "
        r"learning rate or clip_norm=1\.0 may help; it is (.*)",
        result.last_error,
    )
    assert result.last_error.endswith(str(tmp_path / MODEL))
    assert "Warning" not in result.err
    assert all(np.all(np.isfinite(p)) for p in RNN.load(tmp_path / MODEL).parameters.values())
    assert np.isfinite(loss_of(tmp_path))
    assert np.isfinite(printed_loss(result.out))
