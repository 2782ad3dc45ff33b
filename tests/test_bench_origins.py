"""``xprnn bench origins``: both sides do the same work; the output has what was measured."""

import json

import numpy as np
import pytest

from tests.cli_tools import run
from xprnn import RNN
from xprnn.bench import process
from xprnn.bench.origins import comparison, jobs
from xprnn.bench.origins.comparison import OriginsRow, run_origins
from xprnn.bench.origins.plain import SineWeights, sine_epoch
from xprnn.bench.timing import Setting

SMALL = {"vocabulary": 30, "hidden": 5, "steps": 6, "window": 2}


def test_both_language_models_have_the_same_gradient():
    assert jobs.language_error(**SMALL) < 1e-12


def test_a_wrong_gradient_would_be_seen(monkeypatch):
    monkeypatch.setattr(jobs, "language_gradient", lambda weights, *_: weights)
    assert jobs.language_error(**SMALL) > 0.1


def test_both_sines_take_the_same_steps():
    rng = np.random.default_rng(0)
    x, y = (a.astype("float64") for a in jobs._sine("float64"))
    net = RNN(1, 6, 1, dtype="float64", rng=0)
    net.parameters["readout.bias"] = np.zeros(1)
    p = net.parameters
    weights = SineWeights(
        p["weight_ih_l0"], p["weight_hh_l0"], p["bias_l0"][:, None], p["readout.weight"]
    )
    velocity = SineWeights(*(0.01 * rng.normal(size=weight.shape) for weight in weights))
    value, gradient = net.value_and_grad(x, y)
    _, moved, loss = sine_epoch(
        weights, velocity, x[:, 0, 0], y[:, 0, 0], learning_rate=0.5, momentum=0.25
    )
    assert loss == pytest.approx(float(value), rel=1e-13)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_l0", "readout.weight")
    for name, before, after in zip(names, velocity, moved, strict=True):
        expected = 0.25 * before - 0.5 * gradient.parameters[name].reshape(before.shape)
        np.testing.assert_allclose(after, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("job", "options"),
    [
        (jobs.language_plain, {**SMALL, "dtype": "float32"}),
        (jobs.language_xprnn, {**SMALL, "dtype": "float32", "batch": 2}),
        (jobs.sine_plain, {"hidden": 4, "dtype": "float32"}),
        (jobs.sine_xprnn, {"hidden": 4, "dtype": "float32"}),
    ],
)
def test_jobs_measure_a_time(job, options):
    assert 0 < job(**options) < 60


def test_a_job_runs_in_a_process_of_its_own_with_its_threads(monkeypatch):
    seen = {}

    def record(command, **options):
        seen.update(command=command, env=options["env"])
        return type("Done", (), {"returncode": 0, "stdout": "0.25", "stderr": ""})

    monkeypatch.setattr(process.subprocess, "run", record)
    assert comparison.seconds_of("sine_xprnn", {"hidden": 4}, Setting(3)) == 0.25
    assert seen["command"][1:] == ["-m", "xprnn.bench.origins.jobs", "sine_xprnn", '{"hidden": 4}']
    assert seen["env"]["OPENBLAS_NUM_THREADS"] == "3"


def test_a_job_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"benchmark sine_xprnn failed: .*dtype"):
        comparison.seconds_of("sine_xprnn", {"hidden": 4, "dtype": "int8"}, Setting(1))


def test_ratios_are_plain_over_ours(monkeypatch):
    times = {"language_error": 1e-15, "language_plain": 0.2, "sine_plain": 0.08}
    monkeypatch.setattr(
        "xprnn.bench.origins.comparison.seconds_of",
        lambda job, options, setting: times.get(job, 0.016 if "batch" in options else 0.002),
    )
    rows = list(run_origins(Setting(1, rounds=1), lambda _: None))
    assert [round(row.ratio) for row in rows] == [100, 100, 2, 40, 40, 40, 40]
    assert rows[2] == OriginsRow("a sentence: alone, in batches of 16", 0.002, 0.001, 2.0, 3)


def test_both_sides_take_turns_and_have_their_best_round(monkeypatch):
    asked = []

    def seconds(job, options, setting):
        asked.append((job, options.get("batch", 1)))
        return {"language_plain": 0.3, "sine_plain": 0.3}.get(job, 0.01) + 1 / len(asked)

    monkeypatch.setattr("xprnn.bench.origins.comparison.seconds_of", seconds)
    rows = list(run_origins(Setting(1, rounds=3), lambda _: None))
    assert asked[0] == ("language_error", 1)
    turns = [("language_plain", 1), ("language_xprnn", 1)] * 6
    turns += [("language_xprnn", 1), ("language_xprnn", 16)] * 3
    assert asked[1:19] == turns
    assert asked[19:] == [("sine_plain", 1), ("sine_xprnn", 1)] * 12
    assert rows[0].plain == pytest.approx(0.3 + 1 / 6)
    assert rows[0].ours == pytest.approx(0.01 + 1 / 7)
    assert rows[0].ratio == rows[0].plain / rows[0].ours
    assert rows[2].ours == pytest.approx((0.01 + 1 / 19) / 16)


def test_the_command_prints_and_writes(monkeypatch, tmp_path):
    row = OriginsRow("work", 0.2, 0.1, 2.0, 3)
    monkeypatch.setattr("xprnn.cli.bench.origins.run_origins", lambda setting, tell: iter([row]))
    result = run("bench", "origins", "--threads", "1", "--out", tmp_path)
    assert result.status == 0
    assert "200.00 ms   100.00 ms     2.0 times (target 3)" in result.out
    facts = json.loads((tmp_path / "bench-origins.json").read_text())
    assert facts["rows"] == [row._asdict()]
    assert facts["threads"] == 1
    assert facts["rounds"] == 3
    assert json.loads(run("bench", "origins", "--json").out)["rows"] == [row._asdict()]
