"""``xprnn train csv``: forecasts of a column, and the baselines beside them."""

import csv
import math
import re
from itertools import takewhile

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
LEVELS = ("--difference", "none", "--season", "none")
SMALL = ("--hidden", 3, "--epochs", 2, "--networks", 2, "--window", 6, *LEVELS)
SUNSPOTS = ("train", "csv", "sunspots", "--column", "SUNACTIVITY")
VALUES = read_csv(sunspots(), "SUNACTIVITY").values


def errors_of(out):
    """Return the printed errors one step ahead, by name."""
    table = out.partition("scaled error:\n")[2]
    lines = takewhile(lambda line: line.startswith("  "), table.splitlines())
    return {line[:48].strip(): float(line[48:].split()[0]) for line in lines}


def closed_loop_error(out):
    return float(out.partition("closed loop over 62 steps: root mean squared error ")[2].split()[0])


def forecaster_of(folder):
    return Forecaster.of(RNN.load(folder / MODEL))


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    folder = tmp_path_factory.mktemp("default")
    return folder, run(*SUNSPOTS, "--out", folder)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The default training, in a few epochs, and not trained on everything afterwards."""
    folder = tmp_path_factory.mktemp("short")
    return folder, run(*SUNSPOTS, "--epochs", 8, "--no-refit", "--out", folder)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes values (and a time column, with a semicolon) to a file."""

    def write(values, name="file.csv", encoding="utf-8", column="y"):
        path = tmp_path / name
        rows = (f"{2000 + k};{value!r}\n" for k, value in enumerate(np.asarray(values).tolist()))
        path.write_text(f"t;{column}\n" + "".join(rows), encoding=encoding)
        return path

    return write


def test_the_defaults_beat_what_they_must(default):
    assert default[1].status == 0
    errors = errors_of(default[1].out)
    assert errors["persistence, the last value"] == 33.28
    assert errors["drift, and the mean change"] == 33.29
    assert errors["seasonal naive forecast (11 steps back)"] == 37.86
    assert errors["autoregression AR(9), order by AIC"] == 19.44
    # 18.3 to 19.1, for the seeds that were tried.
    assert errors["network"] <= 19.4
    assert "\nSUNACTIVITY: the network is best\n" in default[1].out


def test_the_defaults_say_what_they_chose(default):
    out, f = default[1].out, forecaster_of(default[0])
    assert "season: 11 steps, where the autocorrelation is 0.55 (--season names another" in out
    assert re.search(r"^chosen: levels, a window of 9, \d+ updates", out, re.MULTILINE)
    assert (f.window, f.difference, f.season, len(f.linear)) == (9, False, 0, 1)
    # Delivered is a network that has seen everything.
    assert f.scaling == (pytest.approx(VALUES.mean()), pytest.approx(VALUES.std()))
    assert re.search(r"^intervals for 90 %, made from earlier errors, hold \d+ %", out, re.M)
    assert len(f.intervals.widths[0]) == 24
    assert "the model that is saved was trained on all values after that" in out


def test_the_errors_are_those_of_the_model_on_the_held_out_part(short):
    folder, result = short
    errors, f = errors_of(result.out), forecaster_of(folder)
    one_step = f.one_step(VALUES)[247 - f.needed :]
    assert errors["network"] == pytest.approx(rmse(one_step, VALUES[247:]), rel=1e-3)
    forecast = f.closed_loop(VALUES[:247], 62)
    assert closed_loop_error(result.out) == pytest.approx(rmse(forecast, VALUES[247:]), rel=1e-3)


def test_the_model_is_the_mean_of_networks_with_the_training_part_s_scaling(short):
    f = forecaster_of(short[0])
    assert f.scaling == (pytest.approx(VALUES[:247].mean()), pytest.approx(VALUES[:247].std()))
    assert (f.net.hidden_size, f.net.returns, f.net.cell) == (50, "last", Elman())
    U = f.net.parameters["weight_hh_l0"].reshape(5, 10, 5, 10)
    own = np.eye(5, dtype=bool)[:, None, :, None] & np.ones((1, 10, 1, 10), dtype=bool)
    assert np.all((U != 0) == own)
    assert (f.net.metadata["column"], f.net.metadata["seed"]) == ("SUNACTIVITY", 0)


def test_the_results_are_where_they_are_said_to_be(short):
    folder, result = short
    histories = {f"history-{k}.jsonl" for k in range(1, 6)}
    assert set(contents(folder)) == {MODEL, PICTURE, "output.csv"} | histories
    lines = result.out.splitlines()
    assert lines[:2] == [
        "read 309 rows: YEAR (yearly), SUNACTIVITY",
        "SUNACTIVITY: 309 values, the last 62 held out",
    ]
    (trained,) = [line for line in lines if line.startswith("trained")]
    updates = 8 * math.ceil((247 - forecaster_of(folder).needed) / 16)
    said = f"trained 40 epochs ({updates} updates of each network, 5 averaged) in "
    assert trained.startswith(said)
    assert trained.endswith(" s on numpy (cpu, float32), seed 0")
    for name in histories:
        records = History.load(folder / name).records
        assert [record.epoch for record in records] == list(range(1, 9))
        assert records[-1].loss < records[0].loss
    assert f"written to {folder}:\n" in result.out
    assert f"next: xprnn apply {folder / MODEL} sunspots\n" in result.out
    for name in (MODEL, "history-*.jsonl", "output.csv", PICTURE):
        assert re.search(rf"^  {re.escape(name)} ", result.out, re.MULTILINE)
    assert (folder / PICTURE).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_the_table_of_the_held_out_part(short):
    folder, _ = short
    with (folder / "output.csv").open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["YEAR", "SUNACTIVITY", "one_step", "lower", "upper", "closed_loop"]
    assert [row[0] for row in rows] == [str(year) for year in range(1947, 2009)]
    f = forecaster_of(folder)
    table = np.array([[float(x or "nan") for x in row] for row in rows])
    np.testing.assert_array_equal(table[:, 1], VALUES[247:])
    np.testing.assert_allclose(table[:, 2], f.one_step(VALUES)[247 - f.needed :], rtol=1e-6)
    np.testing.assert_allclose(table[:, 5], f.closed_loop(VALUES[:247], 62), rtol=1e-6)
    np.testing.assert_allclose(table[1:, 3] + table[1:, 4], 2 * table[1:, 2], rtol=1e-9)
    # Without a tail there is no error before the first forecast; then the largest so far.
    assert np.isnan(table[0, 3])
    assert table[2, 4] - table[2, 2] == pytest.approx(max(abs(table[:2, 1] - table[:2, 2])))


def test_the_picture_shows_the_held_out_part(tmp_path, monkeypatch):
    figures = keep_figures(monkeypatch)
    words = ("--time", "YEAR", *SMALL, "--no-refit", "--out", tmp_path)
    assert run(*SUNSPOTS, *words).status == 0
    figure = figures["forecast.png"]
    lines, f = lines_of(figure), forecaster_of(tmp_path)
    # The held-out part, and half as many values before it: 31.
    np.testing.assert_array_equal(lines["data"], [range(216, 309), VALUES[216:]])
    one_step = [range(247, 309), f.one_step(VALUES)[247 - 6 :]]
    np.testing.assert_allclose(lines["one step ahead"], one_step)
    closed_loop = [range(247, 309), f.closed_loop(VALUES[:247], 62)]
    np.testing.assert_allclose(lines["closed loop"], closed_loop)
    (band,) = figure.axes[0].collections
    assert band.get_label() == "90 % interval, one step ahead"
    assert figure.axes[0].xaxis.get_major_formatter()(247) == "1947"
    assert figure.axes[0].get_ylabel() == "SUNACTIVITY"


def test_progress_counts_the_epochs_of_all_networks(short):
    lines = short[1].err.splitlines()
    assert lines[0].startswith("epoch 1/40, loss ")
    assert [line.split(",")[0] for line in lines[1:]] == [f"epoch {k}/40" for k in range(4, 41, 4)]


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
        words = ("--delimiter", ";", *SMALL, *difference, "--no-refit", "--out", tmp_path / name)
        assert run("train", "csv", path, "--column", "y", *words).status == 0
        models.append(forecaster_of(tmp_path / name))
    # Nothing but the intervals, which are made of the errors there.
    assert repr(models[0][1:-1]) == repr(models[1][1:-1])
    for key, array in models[0].net.parameters.items():
        np.testing.assert_array_equal(array, models[1].net.parameters[key])
    assert forecaster_of(tmp_path / "one").difference is bool(difference)


@pytest.mark.parametrize(("share", "count"), [("0.1", 6), ("0.25", 15), ("0.5", 30), ("0.008", 0)])
def test_the_share_that_is_held_out(tmp_path, write, share, count, no_pictures):
    words = ("--delimiter", ";", *SMALL, "--held-out", share, "--out", tmp_path / "out")
    result = run("train", "csv", write(VALUES[:60]), "--column", "y", *words)
    if count == 0:
        assert result.status == 1
        assert "60 values leave 60 to train on and 0 held out: expected at least 10" in result.error
        return
    assert f"\ny: 60 values, the last {count} held out\n" in result.out
    values = VALUES[:60]
    linear = Autoregression.by_aic(values[:-count])
    errors = errors_of(result.out)
    assert errors[f"autoregression AR({linear.order}), order by AIC"] == pytest.approx(
        rmse(linear.one_step(values)[-count:], values[-count:]), rel=1e-3
    )
    assert errors["persistence, the last value"] == pytest.approx(
        rmse(persistence(values)[-count:], values[-count:]), rel=1e-3
    )


def test_a_trend_is_forecast_better_from_changes(tmp_path, write, no_pictures):
    steps = np.arange(120.0)
    path = write(10 * steps + np.sin(steps / 2))
    words = ("--delimiter", ";", "--hidden", 8, "--networks", 1, "--window", 12, "--epochs", 40)
    given = (*words, "--season", "none", "--no-linear", "--no-refit", "--out", tmp_path)
    levels = run("train", "csv", path, "--column", "y", *given, "--difference", "none")
    changes = run("train", "csv", path, "--column", "y", *given)
    assert errors_of(changes.out)["network"] < 1
    assert errors_of(levels.out)["network"] > 5
    said = "y rises out of what the network has seen: "
    assert f"\n{said}differences were chosen\n" in changes.out
    assert f"\n{said}levels are forecast; --difference auto may be better\n" in levels.out


def never_training(given):
    """Return a stand-in for `fit` that notes what it was given."""

    def fit(net, batches, **options):
        given.append(options | {"net": net, "batches": batches})
        return History([Record(1, 1.0, None, 1.0)])

    return fit


def test_the_options_reach_the_training(tmp_path, write, monkeypatch):
    given = []
    monkeypatch.setattr(session, "fit", never_training(given))
    words = (
        "--hidden 3 --activation relu --lr 0.5 --momentum 0.25 --clip 7 --epochs 9 --batch 8"
        " --networks 3 --window 4 --held-out 0.2 --dtype float64 --seed 4 --delimiter ;"
        " --difference none --season none"
    )
    path = write(VALUES[:50])
    result = run("train", "csv", path, "--column", "y", *words.split(), "--out", tmp_path)
    assert result.status == 0
    # Three networks to compare, of 40 values, and three that see all 50.
    assert len(given) == 6
    for options in given:
        assert options["optimizer"] == SGD(0.5, momentum=0.25, decay=9 / 45)
        assert (options["clip_norm"], options["epochs"]) == (7.0, 9)
        net = options["net"]
        assert (net.hidden_size, net.cell, net.backend.dtype_name) == (3, Elman("relu"), "float64")
    # 36 windows in batches of 8 are 5 updates in each epoch, 46 are 6.
    for options, windows, updates in ((given[0], 36, 5), (given[3], 46, 6)):
        assert (len(options["batches"].ends), len(options["batches"])) == (windows, updates)
    weights = [options["net"].parameters["weight_ih_l0"] for options in given]
    for k, mine in enumerate(weights):
        assert all(np.all(mine != other) for other in weights[:k])
    assert forecaster_of(tmp_path).net.hidden_size == 9


def test_how_long_it_trains_by_default(tmp_path, monkeypatch, no_pictures):
    given = []
    monkeypatch.setattr(session, "fit", never_training(given))
    assert run(*SUNSPOTS, "--no-refit", "--out", tmp_path).status == 0
    for options in given:
        # An epoch has at least 10 updates; the last 50 of 247 values stop the training.
        assert (len(options["batches"]), options["epochs"], options["patience"]) == (10, 40, 6)
        assert len(options["validation"].ends) == 50
    assert len(given) == 5


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
    assert f"trained {2 * interrupted - 1} epochs (" in result.out
    assert f" updates of each network, {len(kept)} averaged) in " in result.out
    assert set(contents(tmp_path)) == {MODEL, PICTURE, "output.csv"} | {
        f"history-{k}.jsonl" for k in range(1, interrupted + 1)
    }


def test_a_training_that_explodes_keeps_the_last_good_model(tmp_path):
    words = ["--activation", "relu", "--lr", "1e10", "--clip", "1e30", "--hidden", "5"]
    result = run(*SUNSPOTS, *words, "--out", tmp_path)
    assert result.status == 1
    assert re.match(r"xprnn: error: the loss is (inf|nan) in epoch 1, batch \d+: ", result.error)
    assert result.error.endswith(f"; it is {tmp_path / MODEL}")
    assert np.all(np.isfinite(forecaster_of(tmp_path).one_step(VALUES)))
    # Networks that are no good are left out.
    assert errors_of(result.out)["network: its linear part alone"] < 25
