"""``xprnn bench distributed``: its works run on ranks, and the table has what they measured."""

import importlib.util
import json

import pytest

from tests.cli_tools import run
from xprnn import RNN
from xprnn.bench import distributed
from xprnn.bench.distributed import WORKS, Shape, added_seconds, launched, weights_of

FIGURES = {
    "training": {"update"},
    "overhead": {"without", "with"},
    "reduction": {"xprnn", "mpi4py"},
    "messages": {"latency", "bandwidth"},
    "layers": {"at the end", "meanwhile"},
    "torch": {"update"},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "work",
    ["reduction", *(pytest.param(k, marks=pytest.mark.full) for k in WORKS if k != "reduction")],
)
def test_a_work_on_two_ranks(work: str) -> None:
    if work == "torch" and not importlib.util.find_spec("torch"):
        pytest.skip("torch is not installed")
    found = launched(work, 1 if work == "overhead" else 2, 0.01, Shape(4, 2, 3))
    assert found.keys() == FIGURES[work]
    assert all(seconds > 0 for seconds in found.values())


def test_the_model_of_a_sum() -> None:
    assert added_seconds(1, 1e6, 1e-6, 1e9) == 0
    assert added_seconds(2, 1e6, 1e-6, 1e9) == pytest.approx(1e-3 + 2e-6)
    assert added_seconds(1000, 1e6, 1e-6, 1e9) == pytest.approx(1.998e-3 + 20e-6)


def test_the_weights_of_a_training() -> None:
    net = RNN(distributed.FEATURES, 8, distributed.FEATURES, cell="lstm", layers=3)
    assert weights_of(Shape(8, 1, 1), 3) == sum(p.size for p in net.parameters.values())


def test_a_job_that_fails_is_told() -> None:
    with pytest.raises(RuntimeError, match="nothing on 1 ranks failed: KeyError: 'nothing'"):
        launched("nothing", 1, 0.01, Shape())


def test_without_a_launcher_the_error_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(distributed.sys, "executable", "/nowhere/python")
    monkeypatch.setattr(distributed.shutil, "which", lambda name: None)
    with pytest.raises(ImportError, match=r'there is no mpiexec: pip install "xprnn\[mpi\]"'):
        distributed.launcher()


def test_the_table(monkeypatch, tmp_path) -> None:
    def figures(work, ranks, seconds, shape):
        found = {"training": 0.1, "torch": 0.2}.get(work, 0) * (1.25 if ranks == 2 else 1)
        return {
            "update": found,
            "without": 0.1,
            "with": 0.101,
            "xprnn": 0.0022,
            "mpi4py": 0.002,
            "latency": 1e-6,
            "bandwidth": 1e9,
            "at the end": 0.07,
            "meanwhile": 0.065,
        }

    monkeypatch.setattr("xprnn.cli.bench.distributed.launched", figures)
    done = run("bench", "distributed", "--batch", "8", "--out", tmp_path, "--against", "none")
    assert done.status == 0, done.err
    assert "xprnn        1    100.00 ms            80      1.00" in done.out
    assert "xprnn        2    125.00 ms           128      1.60" in done.out
    assert "a communicator of one rank: +1.0 %" in done.out
    assert "Allreduce 2.00 ms, ratio 1.10" in done.out
    assert "30 MB of gradients: 70.00 ms an update, 65.00 ms where" in done.out
    assert "a message takes 1.0 us and 1.00 GB/s are moved" in done.out
    # 0.1 s, and 1.216640 MB twice (for many ranks) at 1 GB/s.
    assert ", 0.976 on 1024" in done.out
    facts = json.loads((tmp_path / "bench-distributed.json").read_text())
    assert [row["speed"] for row in facts["rows"]] == [80.0, 128.0]
