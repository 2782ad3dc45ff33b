"""``xprnn apply``: a saved network on new input."""

import csv
import re

import numpy as np
import pytest

from tests.cli_tools import contents, keep_figures, lines_of, run
from xprnn import RNN, Forecaster, LanguageModel
from xprnn.data import read_csv, rmse, sunspots
from xprnn.data.text import Vocabulary

pytestmark = pytest.mark.slow

MODEL = "model.safetensors"
VALUES = read_csv(sunspots(), "SUNACTIVITY").values


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a model of the sine and one of the sunspots, both barely trained."""
    folder = tmp_path_factory.mktemp("models")
    small = ("--hidden", 3, "--epochs", 2)
    assert run("train", "sine", *small, "--out", folder / "sine").status == 0
    words = ("--column", "SUNACTIVITY", "--networks", 2, "--window", 6, "--season", "none")
    words = (*words, "--difference", "none")
    assert run("train", "csv", "sunspots", *words, *small, "--out", folder / "csv").status == 0
    return folder


@pytest.fixture
def sine(folder):
    return folder / "sine" / MODEL


@pytest.fixture
def series(folder):
    return folder / "csv" / MODEL


def read(path):
    """Return a CSV file's header, and its columns as text."""
    with path.open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    return header, list(zip(*rows, strict=True))


def sine_by_hand(model, x):
    net = RNN.load(model, dtype="float64")
    return net((np.asarray(x) / 10).reshape(-1, 1, 1))[0][:, 0, 0]


def test_the_sine_at_other_x(tmp_path, sine):
    result = run("apply", sine, "--from", 0, "--to", 20, "--step", 0.3, "--out", tmp_path)
    assert (result.status, result.err) == (0, "")
    header, (x, fitted) = read(tmp_path / "output.csv")
    assert header == ["x", "y_hat"]
    assert x == tuple(f"{0.3 * k:.9g}" for k in range(67))
    want = sine_by_hand(sine, 0.3 * np.arange(67))
    np.testing.assert_allclose(np.array(fitted, float), want, rtol=1e-5, atol=1e-6)
    assert set(contents(tmp_path)) == {"output.csv", "output.png"}
    assert (tmp_path / "output.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert f"written to {tmp_path}:\n  output.csv  x, ŷ\n  output.png  ŷ over x\n" in result.out
    assert "  (trained from x = -10 on, in steps of 0.1: after another start, or " in result.out


def test_the_sine_on_its_own_grid(tmp_path, sine):
    result = run("apply", sine, "--out", tmp_path)
    assert result.status == 0
    assert "another start" not in result.out
    _, (x, _) = read(tmp_path / "output.csv")
    # Rounded as a person would write it: not -0.0999999999999996.
    assert x == tuple(f"{k / 10:g}" for k in range(-100, 100))


@pytest.mark.parametrize(
    ("options", "inside", "outside"),
    [
        (("--from", "-3", "--to", "3"), np.arange(-30, 30) / 10, []),
        (("--from", "10", "--to", "12"), [], np.arange(100, 120) / 10),
        (
            ("--from", "9", "--to", "11", "--step", "0.45"),
            [9, 9.45, 9.9],
            [10.35, 10.8],
        ),
    ],
)
def test_the_distance_from_the_sine_in_and_out_of_the_trained_range(
    tmp_path, sine, options, inside, outside
):
    result = run("apply", sine, *options, "--out", tmp_path)
    x = np.concatenate([inside, outside])
    errors = sine_by_hand(sine, x) - np.sin(x)
    assert result.out.startswith(f"applied to {len(x)} values of x; root mean squared distance")
    found = re.findall(
        r"^  (inside|outside) the trained range \[-10, 9\.9\]: (\S+)$", result.out, re.M
    )
    cut = len(inside)
    want = {"inside": errors[:cut], "outside": errors[cut:]}
    assert [where for where, _ in found] == [k for k, part in want.items() if len(part)]
    for where, value in found:
        assert float(value) == pytest.approx(np.sqrt(np.mean(want[where] ** 2)), rel=1e-3)


def test_a_series_is_forecast_past_its_end(tmp_path, series):
    result = run("apply", series, "sunspots", "--steps", 3, "--out", tmp_path)
    assert (result.status, result.err) == (0, "")
    header, columns = read(tmp_path / "output.csv")
    step, values, one_step, closed_loop, lower, upper = columns
    f = Forecaster.of(RNN.load(series))
    assert header == ["YEAR", "SUNACTIVITY", "one_step", "closed_loop", "lower", "upper"]
    assert step == tuple(map(str, range(1700, 2012)))
    assert values == (*map(repr, VALUES.tolist()), "", "", "")
    assert one_step[:6] == one_step[-3:-1] * 3 == ("",) * 6
    np.testing.assert_allclose(np.array(one_step[6:-3], float), f.one_step(VALUES), rtol=1e-10)
    assert set(closed_loop[:-3]) == {""}
    want = f.closed_loop(VALUES, 3)
    np.testing.assert_allclose(np.array(closed_loop[-3:], float), want, rtol=1e-10)
    middle = (np.array(lower[6:], float) + np.array(upper[6:], float)) / 2
    np.testing.assert_allclose(middle[:-3], f.one_step(VALUES), rtol=1e-9)
    np.testing.assert_allclose(middle[-3:], want, rtol=1e-9)
    widths = np.array(upper[6:], float) - middle
    np.testing.assert_allclose(widths[:-3], f.intervals.widths[0][0], rtol=1e-6)
    np.testing.assert_allclose(widths[-3:], f.intervals.widths[0][:3], rtol=1e-6)
    error = rmse(f.one_step(VALUES), VALUES[6:])
    assert f"309 values; root mean squared error one step ahead: {error:.4g}\n" in result.out
    assert f"the next 3 values: {', '.join(f'{value:.4g}' for value in want)}\n" in result.out
    assert set(contents(tmp_path)) == {"output.csv", "output.png"}


@pytest.mark.parametrize(("steps", "start"), [(3, 209), (50, 159), (200, 0)])
def test_the_picture_shows_the_end_of_the_series_and_what_follows(
    tmp_path, series, monkeypatch, steps, start
):
    figures = keep_figures(monkeypatch)
    assert run("apply", series, "sunspots", "--steps", steps, "--out", tmp_path).status == 0
    lines, f = lines_of(figures["output.png"]), Forecaster.of(RNN.load(series))
    np.testing.assert_array_equal(lines["data"], [range(start, 309), VALUES[start:]])
    first = max(start, 6)
    one_step = [range(first, 309), f.one_step(VALUES)[first - 6 :]]
    np.testing.assert_allclose(lines["one step ahead"], one_step)
    closed_loop = [range(309, 309 + steps), f.closed_loop(VALUES, steps)]
    np.testing.assert_allclose(lines["closed loop"], closed_loop)


def test_the_picture_of_the_sine_shades_what_was_not_trained_on(tmp_path, sine, monkeypatch):
    figures = keep_figures(monkeypatch)
    assert run("apply", sine, "--from", 0, "--to", 20, "--step", 0.5, "--out", tmp_path).status == 0
    x, lines = 0.5 * np.arange(40), lines_of(figures["output.png"])
    np.testing.assert_allclose(lines["ŷ, network"], [x, sine_by_hand(sine, x)], atol=1e-5)
    np.testing.assert_allclose(lines["without noise"], [x, np.sin(x)], atol=1e-12)
    (shade,) = figures["output.png"].axes[0].patches
    assert (shade.get_x(), shade.get_width()) == (pytest.approx(9.9), pytest.approx(9.6))


def test_the_time_column_labels_the_rows(tmp_path, series):
    assert run("apply", series, "sunspots", "--time", "YEAR", "--out", tmp_path).status == 0
    header, (year, *_) = read(tmp_path / "output.csv")
    assert header[0] == "YEAR"
    # Twelve values are the default.
    assert year == tuple(map(str, range(1700, 2009 + 12)))


def test_another_column_of_another_file_of_another_kind(tmp_path, series):
    path = tmp_path / "other.csv"
    numbers = [1234567890.125 + k % 3 for k in range(8)]
    path.write_text("spots;other\n" + "".join(f"{k};{value}\n" for k, value in enumerate(numbers)))
    words = ("--column", "other", "--delimiter", ";", "--steps", 1, "--out", tmp_path)
    result = run("apply", series, path, *words)
    assert result.status == 0
    assert "\nother: 8 values; " in result.out
    header, (_, values, *_) = read(tmp_path / "output.csv")
    assert header[1] == "other"
    assert [float(value) for value in values[:-1]] == numbers


@pytest.mark.parametrize("words", [("--backend", "torch"), ("--dtype", "float64")])
def test_another_backend_or_dtype_says_the_same(tmp_path, sine, words):
    run("apply", sine, "--out", tmp_path / "here")
    assert run("apply", sine, *words, "--out", tmp_path / "there").status == 0
    (_, (_, here)), (_, (_, there)) = (
        read(tmp_path / name / "output.csv") for name in ("here", "there")
    )
    np.testing.assert_allclose(np.array(there, float), np.array(here, float), rtol=1e-4, atol=1e-6)


def test_the_seed_changes_nothing(tmp_path, series):
    for seed in (1, 2):
        words = ("apply", series, "sunspots", "--seed", seed, "--out", tmp_path / str(seed))
        assert run(*words).status == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_the_folder_is_a_new_one_unless_named(tmp_path, sine, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("apply", "apply-2"):
        assert run("apply", sine).status == 0
        assert (tmp_path / "runs" / name / "output.csv").is_file()


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("sine", "sunspots", "FILE: not an option for a network trained on the sine"),
        (
            "sine",
            "sunspots --column x --steps 3",
            "FILE, --column, --steps: not an option for a",
        ),
        ("sine", "--time x --delimiter ; --encoding utf-8", "--time, --delimiter, --encoding: not"),
        ("csv", "sunspots --from 3", "--from: not an option for a network trained on a series"),
        (
            "csv",
            "sunspots --from 3 --to 4 --step 1",
            "--from, --to, --step: not an option for a",
        ),
        ("csv", "", "the network forecasts a series: name a CSV file after the model"),
        ("csv", "sunspots --steps 0", "--steps is 0: expected an int of at least 1"),
        ("csv", "sunspots --column X", "has no column 'X': its columns are 'YEAR', 'SUNACTIVITY'"),
        ("csv", "nothing.csv", "'nothing.csv': No such file or directory"),
        ("sine", "--from 3 --to 2", "start is 3 and stop is 2: expected start below stop"),
        ("sine", "--step 0", "step is 0.0: expected a number above 0"),
        ("sine", "--backend numpie", "unknown backend 'numpie': known are 'numpy'"),
        ("sine", "--dtype int8", "dtype is 'int8': numpy computes in float16, float32, float64"),
    ],
)
def test_what_does_not_fit_the_model(tmp_path, folder, monkeypatch, model, words, message):
    monkeypatch.chdir(tmp_path)
    result = run("apply", folder / model / MODEL, *words.split())
    assert result.status == 1
    assert result.error.startswith("xprnn: error: ")
    assert message in result.error
    assert list(tmp_path.iterdir()) == []


def test_a_series_that_is_too_short(tmp_path, series):
    path = tmp_path / "short.csv"
    path.write_text("SUNACTIVITY\n" + "1\n" * 6)
    result = run("apply", series, path, "--out", tmp_path / "out")
    assert result.error == (
        f"xprnn: error: {str(path)!r} has 6 values: expected more than 6, which the network in "
        f"{str(series)!r} reads to forecast the next"
    )
    assert not (tmp_path / "out").exists()


def test_a_model_of_the_user_s_own(tmp_path):
    RNN(1, 2, 1, rng=0).save(tmp_path / "own.safetensors")
    result = run("apply", tmp_path / "own.safetensors", "--out", tmp_path / "out")
    assert result.status == 1
    assert "has no task that `xprnn train` knows: expected a .npz file with its input" in (
        result.error
    )


def test_a_language_model_is_sampled_from(tmp_path):
    net = RNN(5, 2, 5, rng=0)
    LanguageModel(net, Vocabulary.of(["ab"]), "characters").save(tmp_path / "text.safetensors")
    result = run("apply", tmp_path / "text.safetensors", "--out", tmp_path / "out")
    assert result.status == 1
    assert "is a language model: expected one trained on the sine or on a series" in result.error
    assert result.error.endswith("; `xprnn sample` writes with it")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", [0, 5, 100, -1])
def test_a_model_file_that_is_cut_off(tmp_path, sine, part):
    path = tmp_path / "part.safetensors"
    path.write_bytes(sine.read_bytes()[:part])
    result = run("apply", path, "--out", tmp_path / "out")
    assert result.status == 1
    assert "is not a whole safetensors file; cut off, or something else?" in result.error
    assert not (tmp_path / "out").exists()


def test_a_model_file_that_is_none(tmp_path):
    (tmp_path / "text").write_text("This is not a model, but a text of some length.\n")
    assert "'text' is not a whole safetensors" in (
        run("apply", tmp_path / "text").error.replace(f"{tmp_path}/", "")
    )
    assert "there is no model file 'nothing'" in run("apply", "nothing").error


def test_arrays_for_any_network(tmp_path):
    net = RNN(2, 4, 3, cell="lstm", layers=2, dtype="float64", rng=0)
    path, data, out = tmp_path / "net.safetensors", tmp_path / "data.npz", tmp_path / "out"
    net.save(path)
    rng = np.random.default_rng(0)
    x, h, c = (rng.normal(size=shape) for shape in ((5, 3, 2), (2, 3, 4), (2, 3, 4)))
    mask = rng.random((5, 3)) < 0.6
    for given, options in [
        ({}, {}),
        ({"lengths": [5, 0, 2]}, {"lengths": [5, 0, 2]}),
        ({"mask": mask, "state_h": h, "state_c": c}, {"mask": mask, "state": (h, c)}),
    ]:
        np.savez(data, x=x, **given)
        result = run("apply", path, data, "--out", out)
        assert result.status == 0, result.err
        assert f"applied to 3 sequences of 5 steps in {data}" in result.out
        output, final = net(x, **options)
        with np.load(out / "output.npz") as found:
            assert set(found.files) == {"output", "final_h", "final_c"}
            for name, want in zip(("output", "final_h", "final_c"), (output, *final), strict=True):
                np.testing.assert_array_equal(found[name], want)
    for given, message in [
        ({}, "expected a .npz file with the array x: it has no arrays: no x"),
        ({"x": x, "state_h": h}, "it has state_h, but no state_c: expected all state variables"),
        ({"x": x[..., 0]}, "x has shape (5, 3): expected (T, B, 2)"),
        ({"x": x, "lengths": [1, 2]}, "lengths has 2 entries: expected 3"),
        ({"x": x, "lengths": 5}, "lengths has 1 entries: expected 3"),
        ({"x": x, "mask": mask.T}, "mask has shape (3, 5): expected (5, 3)"),
        ({"x": x, "mask": 1.0 * mask}, "expected an array of bool, (5, 3)"),
        ({"x": x * np.nan}, "x[0, 0, 0] is nan"),
        ({"x": x > 0}, "x is bool of shape (5, 3, 2): expected numbers"),
    ]:
        np.savez(data, **given)
        assert message in run("apply", path, data, "--out", tmp_path / "no").error
    np.savez(data, x=x)
    assert "--steps: not an option for arrays" in run("apply", path, data, "--steps", 3).error
    assert not (tmp_path / "no").exists()


def test_tokens_as_arrays(tmp_path):
    net = RNN(6, 4, 6, rng=0)
    net.metadata = {"task": "text"}
    net.save(tmp_path / "net.safetensors")
    tokens = np.arange(6).reshape(3, 2)
    np.savez(tmp_path / "data.npz", x=tokens)
    words = (tmp_path / "net.safetensors", tmp_path / "data.npz", "--out", tmp_path)
    assert run("apply", *words).status == 0
    with np.load(tmp_path / "output.npz") as found:
        np.testing.assert_array_equal(found["output"], net(tokens)[0])
