"""``xprnn train csv``: forecasts of a column, and the baselines beside them."""

import re

import numpy as np
import pytest

from tests.cli_tools import contents, keep_figures, lines_of, run
from xprnn import RNN, Forecaster, History, TrainingInterrupted
from xprnn.cells import Elman
from xprnn.cli.train import session
from xprnn.data import Autoregression, persistence, read_csv, rmse, sunspots
from xprnn.optim import SGD
from xprnn.training.history import Record

pytestmark = pytest.mark.slow

MODEL, PICTURE = "model.safetensors", "forecast.png"
SMALL = ("--hidden", 3, "--epochs", 2, "--networks", 2, "--window", 6)
SUNSPOTS = ("train", "csv", "sunspots", "--column", "SUNACTIVITY")
VALUES = read_csv(sunspots(), "SUNACTIVITY").values


def errors_of(out):
    """Return the printed errors, by name."""
    lines = out.partition("one step ahead:\n")[2].partition("written to")[0].splitlines()
    return {line[:38].strip(): float(line[38:]) for line in lines}


def forecaster_of(folder):
    return Forecaster.of(RNN.load(folder / MODEL))


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    folder = tmp_path_factory.mktemp("default")
    return folder, run(*SUNSPOTS, "--out", folder)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The default training, in a seventh of the epochs."""
    folder = tmp_path_factory.mktemp("short")
    return folder, run(*SUNSPOTS, "--epochs", 20, "--out", folder)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes values (and a time column, with a semicolon) to a file."""

    def write(values, name="file.csv", encoding="utf-8", column="y"):
        path = tmp_path / name
        rows = (f"{2000 + k};{value!r}\n" for k, value in enumerate(np.asarray(values).tolist()))
        path.write_text(f"t;{column}\n" + "".join(rows), encoding=encoding)
        return path

    return write


@pytest.mark.full
def test_the_defaults_beat_what_they_must(default):
    assert default[1].status == 0
    errors = errors_of(default[1].out)
    assert errors["persistence, the last value"] == 33.28
    assert errors["autoregression AR(9), least squares"] == 19.44
    assert errors["network"] <= 22.8
    assert set(errors) == {
        "persistence, the last value",
        "autoregression AR(9), least squares",
        "network",
        "(network, closed loop over 62 steps)",
    }


def test_the_errors_are_those_of_the_model_on_the_held_out_part(short):
    folder, result = short
    errors, f = errors_of(result.out), forecaster_of(folder)
    one_step = f.one_step(VALUES)[247 - 22 :]
    assert errors["network"] == pytest.approx(rmse(one_step, VALUES[247:]), rel=1e-3)
    closed_loop = errors["(network, closed loop over 62 steps)"]
    forecast = f.closed_loop(VALUES[:247], 62)
    assert closed_loop == pytest.approx(rmse(forecast, VALUES[247:]), rel=1e-3)


def test_the_model_is_the_mean_of_networks_with_the_training_part_s_scaling(short):
    f = forecaster_of(short[0])
    assert (f.window, f.difference) == (22, False)
    assert f.scaling == (pytest.approx(VALUES[:247].mean()), pytest.approx(VALUES[:247].std()))
    assert (f.net.hidden_size, f.net.returns, f.net.cell) == (50, "last", Elman())
    U = f.net.parameters["weight_hh_l0"].reshape(5, 10, 5, 10)
    own = np.eye(5, dtype=bool)[:, None, :, None] & np.ones((1, 10, 1, 10), dtype=bool)
    assert np.all((U != 0) == own)
    assert (f.net.metadata["column"], f.net.metadata["seed"]) == ("SUNACTIVITY", 0)


def test_the_results_are_where_they_are_said_to_be(short):
    folder, result = short
    histories = {f"history-{k}.jsonl" for k in range(1, 6)}
    assert set(contents(folder)) == {MODEL, PICTURE} | histories
    read, first, second, *_ = result.out.splitlines()
    assert read == "read 309 rows: YEAR (yearly), SUNACTIVITY"
    assert first == "SUNACTIVITY: 309 values, the last 62 held out"
    assert second.startswith("trained 100 epochs (20 of each network, 5 averaged) in ")
    assert second.endswith(" s on numpy (cpu, float32), seed 0")
    for name in histories:
        records = History.load(folder / name).records
        assert [record.epoch for record in records] == list(range(1, 21))
        assert records[-1].loss < 0.5 * records[0].loss
    assert f"written to {folder}:\n" in result.out
    assert f"next: xprnn apply {folder / MODEL} sunspots\n" in result.out
    for name in (MODEL, "history-*.jsonl", PICTURE):
        assert re.search(rf"^  {re.escape(name)} ", result.out, re.MULTILINE)
    assert (folder / PICTURE).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_the_picture_shows_the_held_out_part(tmp_path, monkeypatch):
    figures = keep_figures(monkeypatch)
    assert run(*SUNSPOTS, "--time", "YEAR", *SMALL, "--out", tmp_path).status == 0
    figure = figures["forecast.png"]
    lines, f = lines_of(figure), forecaster_of(tmp_path)
    # The held-out part, and half as many values before it: 31.
    np.testing.assert_array_equal(lines["data"], [range(216, 309), VALUES[216:]])
    one_step = [range(247, 309), f.one_step(VALUES)[247 - 6 :]]
    np.testing.assert_allclose(lines["one step ahead"], one_step)
    closed_loop = [range(247, 309), f.closed_loop(VALUES[:247], 62)]
    np.testing.assert_allclose(lines["closed loop"], closed_loop)
    assert figure.axes[0].xaxis.get_major_formatter()(247) == "1947"
    assert figure.axes[0].get_ylabel() == "SUNACTIVITY"


def test_progress_counts_the_epochs_of_all_networks(short):
    lines = short[1].err.splitlines()
    assert lines[0].startswith("epoch 1/100, loss ")
    assert [line.split(",")[0] for line in lines[1:]] == [
        f"epoch {k}/100" for k in range(10, 101, 10)
    ]


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (("one", 5), ("again", 5), ("other", 6)):
        assert run(*SUNSPOTS, *SMALL, "--seed", seed, "--out", tmp_path / name).status == 0
    one, again, other = (contents(tmp_path / name) for name in ("one", "again", "other"))
    assert again == one
    assert all(other[name] != one[name] for name in one)


@pytest.mark.parametrize("difference", [(), ("--difference",)], ids=["levels", "changes"])
def test_what_is_held_out_is_not_trained_on(tmp_path, write, difference, no_pictures):
    models = []
    for name, held_out in (("one", VALUES[48:60]), ("other", np.full(12, 1e6))):
        path = write(np.concatenate([VALUES[:48], held_out]))
        words = ("--delimiter", ";", *SMALL, *difference, "--out", tmp_path / name)
        assert run("train", "csv", path, "--column", "y", *words).status == 0
        models.append((tmp_path / name / MODEL).read_bytes())
    assert models[0] == models[1]
    assert forecaster_of(tmp_path / "one").difference is bool(difference)


@pytest.mark.parametrize(
    ("share", "count"), [("0.1", 6), ("0.25", 15), ("0.5", 30), ("0.008", 0), ("0.009", 1)]
)
def test_the_share_that_is_held_out(tmp_path, write, share, count, no_pictures):
    words = ("--delimiter", ";", *SMALL, "--held-out", share, "--out", tmp_path / "out")
    result = run("train", "csv", write(VALUES[:60]), "--column", "y", *words)
    if count == 0:
        assert result.status == 1
        assert "60 values leave 60 to train on and 0 held out: expected at least 19" in result.error
        return
    assert f"\ny: 60 values, the last {count} held out\n" in result.out
    values = VALUES[:60]
    linear = Autoregression.fitted(values[:-count], 9).one_step(values)
    errors = errors_of(result.out)
    assert errors["autoregression AR(9), least squares"] == pytest.approx(
        rmse(linear[-count:], values[-count:]), rel=1e-3
    )
    assert errors["persistence, the last value"] == pytest.approx(
        rmse(persistence(values)[-count:], values[-count:]), rel=1e-3
    )


def test_a_trend_is_forecast_better_from_changes(tmp_path, write, no_pictures):
    steps = np.arange(120.0)
    path = write(10 * steps + np.sin(steps / 2))
    words = ("--delimiter", ";", "--hidden", 8, "--networks", 1, "--window", 12, "--epochs", 60)
    levels = run("train", "csv", path, "--column", "y", *words, "--out", tmp_path / "a")
    changes = run("train", "csv", path, "--column", "y", *words, "--difference", "--out", tmp_path)
    assert errors_of(changes.out)["network"] < 1
    assert errors_of(levels.out)["network"] > 5


def test_the_options_reach_the_training(tmp_path, write, monkeypatch):
    given = []

    def fit(net, batches, **options):
        given.append(options | {"net": net, "batches": batches})
        return History([Record(1, 1.0, None, 1.0)])

    monkeypatch.setattr(session, "fit", fit)
    words = (
        "--hidden 3 --activation relu --lr 0.5 --momentum 0.25 --clip 7 --epochs 9 --batch 8"
        " --networks 3 --window 4 --held-out 0.2 --dtype float64 --seed 4 --delimiter ;"
    )
    result = run(
        "train", "csv", write(VALUES[:50]), "--column", "y", *words.split(), "--out", tmp_path
    )
    assert result.status == 0
    assert len(given) == 3
    for options in given:
        # 36 windows in batches of 8 are 5 updates in each epoch.
        assert options["optimizer"] == SGD(0.5, momentum=0.25, decay=9 / 45)
        assert (options["clip_norm"], options["epochs"]) == (7.0, 9)
        assert (len(options["batches"]), options["batches"].x.shape) == (5, (4, 36, 1))
        net = options["net"]
        assert (net.hidden_size, net.cell, net.backend.dtype_name) == (3, Elman("relu"), "float64")
    weights = [options["net"].parameters["weight_ih_l0"] for options in given]
    assert np.all(weights[0] != weights[1])
    assert forecaster_of(tmp_path).net.hidden_size == 9


def test_how_long_it_trains_by_default(tmp_path, monkeypatch, no_pictures):
    given = []

    def fit(net, batches, **options):
        given.append((len(batches), options["epochs"]))
        return History([Record(1, 1.0, None, 1.0)])

    monkeypatch.setattr(session, "fit", fit)
    assert run(*SUNSPOTS, "--out", tmp_path).status == 0
    # 225 windows in batches of 16 are 15 updates; 134 times 15 is the first above 2000.
    assert given == [(15, 134)] * 5


@pytest.mark.parametrize("backend", ["torch", "array_api_strict"])
def test_another_backend_trains_the_same_network(tmp_path, write, backend, no_pictures):
    path = write(VALUES[:40])
    exact = ("--delimiter", ";", *SMALL, "--dtype", "float64")
    run("train", "csv", path, "--column", "y", *exact, "--out", tmp_path / "here")
    words = (*exact, "--backend", backend, "--out", tmp_path / "there")
    result = run("train", "csv", path, "--column", "y", *words)
    assert result.status == 0
    assert f" on {backend} (" in result.out
    here, there = (forecaster_of(tmp_path / name).net for name in ("here", "there"))
    for name, array in here.parameters.items():
        np.testing.assert_allclose(there.parameters[name], array, rtol=1e-9, atol=1e-12)


def test_files_of_other_kinds(tmp_path, write, no_pictures):
    path = write(VALUES[:40], "Größe in t.csv", "latin-1", "Größe")
    path.write_bytes(path.read_bytes().replace(b";", b"\t"))
    words = ("--delimiter", "tab", "--encoding", "latin-1", "--time", "t")
    result = run("train", "csv", path, "--column", "Größe", *words, *SMALL, "--out", tmp_path)
    assert result.status == 0
    assert "\nGröße: 40 values, the last 8 held out\n" in result.out
    command = f"xprnn apply {tmp_path / MODEL} '{path}' --delimiter tab --encoding latin-1"
    assert f"next: {command}\n" in result.out


def test_a_column_s_name_is_no_formula(tmp_path, write):
    name = r"$a^$ in $ \frac$"
    words = ("--column", name, "--delimiter", ";", *SMALL, "--out", tmp_path / "out")
    assert run("train", "csv", write(VALUES[:40], column=name), *words).status == 0


def test_a_time_column_may_be_uneven(tmp_path, write, no_pictures):
    path = write(VALUES[:40])
    path.write_text(path.read_text().replace("2007;", "2007.5;"))
    result = run("train", "csv", path, "--column", "y", "--time", "t", *SMALL, "--out", tmp_path)
    assert result.status == 0
    assert result.out.startswith("read 40 rows: t (irregular), y; the times are labels: rows count")


def test_a_file_called_sunspots_comes_first(tmp_path, write, monkeypatch):
    write(VALUES[:40], "sunspots")
    monkeypatch.chdir(tmp_path)
    words = ("--column", "y", "--delimiter", ";", *SMALL)
    result = run("train", "csv", "sunspots", *words)
    assert "\ny: 40 values, the last 8 held out\n" in result.out
    assert (tmp_path / "runs" / "csv" / MODEL).is_file()


@pytest.mark.parametrize(("interrupted", "hidden"), [(1, 3), (2, 3), (3, 6)])
def test_ctrl_c_keeps_the_networks_that_are_whole(tmp_path, monkeypatch, interrupted, hidden):
    real, calls = session.fit, []

    def fit(net, batches, **options):
        calls.append(net)
        if len(calls) < interrupted:
            return real(net, batches, **options)
        raise TrainingInterrupted(History([Record(1, 1.0, None, 1.0)]))

    monkeypatch.setattr(session, "fit", fit)
    result = run(*SUNSPOTS, *SMALL, "--networks", 3, "--out", tmp_path)
    assert result.status == 130
    assert result.last_error == (
        f"xprnn: training interrupted after 1 epochs; the model so far is {tmp_path / MODEL}"
    )
    f, kept = forecaster_of(tmp_path), calls[: max(1, interrupted - 1)]
    assert f.net.hidden_size == hidden
    want = np.mean([f._replace(net=net).one_step(VALUES) for net in kept], axis=0)
    np.testing.assert_allclose(f.one_step(VALUES), want, rtol=1e-4)
    assert f"trained {2 * interrupted - 1} epochs (2 of each network, {len(kept)} ave" in result.out
    assert set(contents(tmp_path)) == {MODEL, PICTURE} | {
        f"history-{k}.jsonl" for k in range(1, interrupted + 1)
    }


def test_a_training_that_explodes_keeps_the_last_good_model(tmp_path):
    words = ["--activation", "relu", "--lr", "1e10", "--clip", "1e30", "--hidden", "5"]
    result = run(*SUNSPOTS, *words, "--out", tmp_path)
    assert result.status == 1
    assert re.match(r"xprnn: error: the loss is (inf|nan) in epoch 1, batch \d+: ", result.error)
    assert result.error.endswith(f"; it is {tmp_path / MODEL}")
    assert np.all(np.isfinite(forecaster_of(tmp_path).one_step(VALUES)))
    assert errors_of(result.out)["network"] < 1e3
