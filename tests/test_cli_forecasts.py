"""``train csv``: JSON, horizons, folds, several columns, covariates, training on everything."""

import json
import re

import numpy as np
import pytest

from tests.cli_tools import contents, run
from xprnn import RNN, Forecaster
from xprnn.data import read_series, rmse, sunspots

pytestmark = pytest.mark.slow

MODEL = "model.safetensors"
SPOTS = ("train", "csv", "sunspots", "--column", "SUNACTIVITY")
QUICK = ("--networks", 1, "--epochs", 2, "--hidden", 3)
VALUES = read_series(sunspots(), "SUNACTIVITY").values


def forecaster_of(folder):
    return Forecaster.of(RNN.load(folder / MODEL))


@pytest.fixture
def shop(tmp_path):
    """Return a file of two columns that depend on two covariates, known 12 steps further."""
    rng = np.random.default_rng(0)
    price, open_ = 10 + rng.normal(size=132).cumsum() / 10, rng.integers(0, 2, size=132)
    a = 50 - 3 * price + 20 * open_ + rng.normal(size=132) / 5
    b = 2 * np.sin(np.arange(132) / 3) + rng.normal(size=132) / 5
    rows = [
        f"{k},{f'{a[k]:.3f},{b[k]:.3f}' if k < 120 else ','},{price[k]:.3f},{open_[k]}"
        for k in range(132)
    ]
    path = tmp_path / "shop.csv"
    path.write_text("day,a,b,price,open\n" + "\n".join(rows) + "\n")
    return path


def test_json_is_one_object_with_these_keys(tmp_path, no_pictures):
    result = run(*SPOTS, *QUICK, "--no-refit", "--json", "--out", tmp_path)
    found = json.loads(result.out)
    assert set(found) == {"rmse", "best", "verdict", "choice"}
    assert list(found["rmse"]) == ["persistence", "drift", "seasonal", "ar", "network"]
    assert set(found["choice"]) == {"difference", "season", "window", "updates"}
    f = forecaster_of(tmp_path)
    error = rmse(f.one_step(VALUES)[247 - f.needed :], VALUES[247:])
    assert found["rmse"]["network"] == pytest.approx(error, rel=1e-6)
    assert found["best"] == min(found["rmse"], key=found["rmse"].get)
    assert found["choice"]["season"] == 11


def test_json_has_null_where_there_is_no_baseline(tmp_path, no_pictures):
    path = tmp_path / "short.csv"
    path.write_text("y\n" + "".join(f"{v}\n" for v in VALUES[:20]))
    words = ("train", "csv", path, "--column", "y", *QUICK, "--season", "none", "--json")
    found = json.loads(run(*words, "--out", tmp_path / "out").out)
    assert found["rmse"]["seasonal"] is None
    assert found["choice"]["season"] is None


def test_a_baseline_that_is_better_is_named_with_its_lead(tmp_path, no_pictures):
    rng = np.random.default_rng(3)
    path = tmp_path / "walk.csv"
    path.write_text("y\n" + "".join(f"{v:.4f}\n" for v in rng.normal(size=60).cumsum() + 9))
    words = ("train", "csv", path, "--column", "y", "--networks", 1, "--epochs", 1, "--hidden", 3)
    words = (*words, "--no-linear", "--difference", "none", "--no-refit", "--season", "none")
    found = json.loads(run(*words, "--json", "--out", tmp_path / "out").out)
    errors = found["rmse"]
    assert errors["network"] > 1.05 * errors["persistence"]
    best = found["best"]
    lead = 100 * (1 - errors[best] / errors["network"])
    sentence = rf"(\w+|AR\(\d+\)) is better by {lead:.0f} %: use it, or give the network more data"
    assert re.match(sentence, found["verdict"])
    also = "; persistence is better, too, by "
    assert (also in found["verdict"]) == (best != "persistence")


def test_every_horizon_asked_for_and_the_spread_over_folds(tmp_path, no_pictures):
    words = ("--horizon", "1,3", "--folds", 2, "--no-refit", "--out", tmp_path)
    result = run(*SPOTS, *QUICK, *words)
    assert "part, one step ahead (62 forecasts, ± over 2 folds), and mean absolute" in result.out
    assert "part, 3 steps ahead (58 forecasts, ± over 2 folds), and mean absolute" in result.out
    found = re.findall(r"persistence, the last value +(\S+) ± (\S+) +(\S+)\n", result.out)
    whole = VALUES[247:] - VALUES[246:-1]
    halves = [np.sqrt(np.mean(part**2)) for part in (whole[:31], whole[31:])]
    scale = np.mean(np.abs(VALUES[11:247] - VALUES[:236]))
    want = [np.sqrt(np.mean(whole**2)), np.std(halves, ddof=1), np.mean(np.abs(whole)) / scale]
    assert [float(x) for x in found[0]] == pytest.approx(want, rel=2e-3)
    assert "1 step ahead, " in result.out.partition("made from earlier errors, hold ")[2]


def test_the_delivered_model_has_seen_everything(tmp_path, no_pictures):
    for name, more in (("all", ()), ("kept", ("--no-refit",))):
        assert run(*SPOTS, *QUICK, *more, "--out", tmp_path / name).status == 0
    all_, kept = forecaster_of(tmp_path / "all"), forecaster_of(tmp_path / "kept")
    assert all_.scaling.mean == pytest.approx(VALUES.mean())
    assert kept.scaling.mean == pytest.approx(VALUES[:247].mean())
    # What is compared is the same.
    same = [contents(tmp_path / name)["output.csv"] for name in ("all", "kept")]
    assert same[0] == same[1]


def test_several_columns_and_what_is_known_in_advance(tmp_path, shop, no_pictures):
    words = ("--column", "a", "--column", "b", "--covariate", "price", "--covariate", "open")
    out = tmp_path / "out"
    result = run("train", "csv", shop, *words, *QUICK, "--time", "day", "--out", out)
    assert result.status == 0
    assert "\na: the network is best\n" in result.out
    assert {MODEL, "output.csv"} < set(contents(out))
    f = forecaster_of(out)
    assert (f.net.input_size, f.net.output_size, len(f.covariates)) == (4, 2, 2)
    result = run("apply", out / MODEL, shop, "--out", tmp_path / "applied")
    assert result.status == 0
    assert "the next 12 values: " in result.out
    rows = contents(tmp_path / "applied")["output.csv"].decode().splitlines()
    assert rows[0].startswith("day,a,a_one_step,a_closed_loop,a_lower,a_upper,b,")
    # What is forecast follows the covariate that is known: 20 more where it is 1.
    open_ = np.array([float(row.split(",")[-1]) for row in shop.read_text().splitlines()[-12:]])
    ahead = np.array([float(row.split(",")[3]) for row in rows[-12:]])
    assert ahead[open_ == 1].mean() - ahead[open_ == 0].mean() > 10
    result = run("apply", out / MODEL, shop, "--steps", 13, "--out", tmp_path / "applied")
    assert "has 12 rows after the last 'a': expected 13 with 'price', 'open' and no 'a'" in (
        result.last_error
    )


def test_several_columns_in_json(tmp_path, shop, no_pictures):
    words = ("--column", "a", "--column", "b", *QUICK, "--missing", "cut", "--json", "--no-refit")
    found = json.loads(run("train", "csv", shop, *words, "--out", tmp_path / "out").out)
    assert set(found["rmse"]) == set(found["best"]) == set(found["verdict"]) == {"a", "b"}
    assert set(found["rmse"]["a"]) == {"persistence", "drift", "seasonal", "ar", "network"}


def test_a_constant_change_goes_on(tmp_path, no_pictures):
    path, out = tmp_path / "count.csv", tmp_path / "out"
    path.write_text("y\n" + "".join(f"{k}\n" for k in range(1, 101)))
    result = run("train", "csv", path, "--column", "y", "--out", out)
    assert (result.status, result.err) == (0, "")
    assert "y rises out of what the network has seen: differences were chosen\n" in result.out
    result = run("apply", out / MODEL, path, "--steps", 3, "--out", out)
    assert "the next 3 values: 101, 102, 103\n" in result.out


def test_a_series_in_another_unit_gets_a_warning(tmp_path, no_pictures):
    assert run(*SPOTS, *QUICK, "--out", tmp_path).status == 0
    path = tmp_path / "other.csv"
    path.write_text("SUNACTIVITY\n" + "".join(f"{1000 * v}\n" for v in VALUES))
    words = ("--time", "none", "--out", tmp_path)
    result = run("apply", tmp_path / MODEL, path, *words)
    assert result.status == 0
    assert "is far from what the network was trained on (mean 49.75, deviation 40.39)" in result.err
    assert run("apply", tmp_path / MODEL, "sunspots", "--out", tmp_path).err == ""


def test_values_that_are_no_values_are_told_before_the_training(tmp_path, no_pictures):
    path = tmp_path / "huge.csv"
    path.write_text("y\n" + "".join(f"{v}\n" for v in [*VALUES[:40], 1e308, *VALUES[40:60]]))
    result = run("train", "csv", path, "--column", "y", "--out", tmp_path / "out")
    assert "row 41 of the data: y is 1e+308 among values around" in result.error
    assert "--na 1e+308 --missing interpolate" in result.error
    words = ("--na", "1e+308", "--missing", "interpolate", *QUICK, "--out", tmp_path / "out")
    assert run("train", "csv", path, "--column", "y", *words).status == 0


def test_windows_are_cut_out_in_blocks(tmp_path, monkeypatch, no_pictures):
    widest, call = [], RNN.__call__

    def watch(net, x, *more, **options):
        widest.append(x.shape[1])
        return call(net, x, *more, **options)

    monkeypatch.setattr(RNN, "__call__", watch)
    path = tmp_path / "long.csv"
    rng = np.random.default_rng(0)
    path.write_text("y\n" + "".join(f"{v:.3f}\n" for v in rng.normal(size=8000)))
    words = ("--networks", 1, "--hidden", 3, "--difference", "none", "--season", "none")
    assert run("train", "csv", path, "--column", "y", *words, "--out", tmp_path / "o").status == 0
    assert 512 <= max(widest) <= 1024
