"""Data-parallel training: the same numbers as in one process, on every rank."""

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xprnn
from tests import ranks
from tests.ranks import launch, results
from xprnn import History, get_backend
from xprnn.cli.main import main
from xprnn.distributed import NoCommunicator
from xprnn.distributed.mpi import check_launcher
from xprnn.training.ranks import check_way

pytestmark = pytest.mark.slow


def close(found: Any, wanted: Any) -> None:
    """Compare losses and norms to 1e-10."""
    found, wanted = (np.array(part["records"], dtype=float) for part in (found, wanted))
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("count", "epochs"),
    [
        (1, 1),
        (2, 2),
        # 100 updates.
        *(pytest.param(count, 20, marks=pytest.mark.full) for count in (1, 2, 4)),
    ],
)
def test_every_optimizer_has_the_losses_of_one_process(
    count: int, epochs: int, tmp_path: Path
) -> None:
    found = results(count, "trainings", tmp_path, epochs)
    for rank in found:
        assert rank == found[0]
    alone = {
        f"{train.__name__}-{name}": ranks.numbers(train(name, epochs))
        for train in (ranks.dense, ranks.sparse)
        for name in ranks.OPTIMIZERS
    }
    for name, training in found[0].items():
        close(training, alone[name])
    if count == 1:
        assert found[0] == alone


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.full)])
def test_dropout_accumulation_and_batches_smaller_than_the_ranks(
    count: int, tmp_path: Path
) -> None:
    found = results(count, "kinds", tmp_path)
    for rank in found:
        assert rank == found[0]
    close(found[0], ranks.numbers(ranks.dropping()))


@pytest.mark.parametrize(
    ("count", "kinds"),
    [
        (2, ["plain"]),
        pytest.param(2, [*ranks.DEEP], marks=pytest.mark.full),
        pytest.param(4, [*ranks.DEEP], marks=pytest.mark.full),
    ],
    ids=["2", "2 of all kinds", "4 of all kinds"],
)
def test_sums_that_overlap_have_the_same_bits(count: int, kinds: list[str], tmp_path: Path) -> None:
    found = results(count, "overlapping", tmp_path, *kinds)
    for rank in found:
        assert rank == found[0]
    said = found[0]
    for kind in kinds:
        assert said[f"on, {kind}"] == said[f"off, {kind}"]
        close(said[f"on, {kind}"], ranks.numbers(ranks.deep(**ranks.DEEP[kind])))
        if count == 2:
            assert said[f"on, {kind}"] == said[f"one, {kind}"]
    # Each update starts the same sums; an epoch has 3 of them, or 2 accumulated ones.
    updates = 3 * sum(2 if kind == "accumulated" else 3 for kind in kinds)
    assert said["on, started"] == said["off, started"]
    assert said["on, started"] % updates == 0
    assert said["on, started"] > updates
    assert said["one, started"] == 0


@pytest.mark.full
@pytest.mark.parametrize("layer", [1, 4, 7])
def test_a_backward_pass_that_fails_leaves_no_sum_open(layer: int, tmp_path: Path) -> None:
    (first, whole), (second, same) = results(2, "broken", tmp_path, layer)
    assert second == "OSError: out of order"
    assert first.endswith("failed: OSError: out of order")
    assert whole == same
    close(whole, ranks.numbers(ranks.deep()))


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (2, ["dense"]),
        pytest.param(2, ["sparse"], marks=pytest.mark.full),
        pytest.param(4, ["dense", "sparse"], marks=pytest.mark.full),
    ],
    ids=["2", "2 sparse", "4"],
)
def test_compressed_gradients_train_as_well(count: int, names: list[str], tmp_path: Path) -> None:
    found = results(count, "compressed", tmp_path, *names)
    for rank in found:
        assert rank == found[0]
    for name in names:
        losses = [found[0][each]["records"] for each in (name, f"{name}, plain")]
        half, plain = (np.array(each, dtype=float)[:, 0] for each in losses)
        # 100 updates, or 20.
        assert (half != plain).any()
        assert half[-1] < 0.98 * half[0]
        np.testing.assert_allclose(half, plain, rtol=1e-3)


@pytest.mark.parametrize(
    ("count", "dtype"), [(2, "float64"), pytest.param(3, "float32", marks=pytest.mark.full)]
)
def test_what_rounding_takes_away_comes_later(count: int, dtype: str, tmp_path: Path) -> None:
    found = results(count, "adding", tmp_path, dtype)
    for rank in found:
        assert rank["said"] == found[0]["said"]
    # A sum is off by 2⁻¹¹ of a block's numbers, and fifty together are no further off.
    assert 1e-4 < found[0]["first"] < 0.01
    assert found[0]["off"] < 3 * found[0]["first"]
    assert found[0]["with what is kept"] < (1e-4 if dtype == "float32" else 1e-12)


@pytest.mark.full
def test_what_is_not_finite_is_passed_on(tmp_path: Path) -> None:
    for said in results(2, "spoiled", tmp_path):
        assert said == ["[2.0, nan, inf, 4.0]", [0, 0, 0, 0]]


@pytest.mark.full
@pytest.mark.parametrize("then", [2, 4])
def test_compressed_trainings_are_resumed(then: int, tmp_path: Path) -> None:
    results(2, "half_way", tmp_path, tmp_path, 3)
    (tmp_path / "other").mkdir()
    whole = results(2, "half_way", tmp_path / "other", tmp_path / "other", 6)
    found = results(then, "half_way", tmp_path, tmp_path, 6)
    if then == 2:
        assert found == whole
    one, other = (np.array(each[0]["records"], dtype=float) for each in (found, whole))
    np.testing.assert_allclose(one[:, 0], other[:, 0], rtol=1e-3)
    assert "compress" in results(1, "half_way", tmp_path, tmp_path, 6)[0]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param(2, 2, marks=pytest.mark.full),
        pytest.param(2, 1, marks=pytest.mark.full),
        pytest.param(4, 2, marks=pytest.mark.full),
    ],
)
def test_a_training_that_failed_on_one_rank_is_resumed(
    first: int, then: int, tmp_path: Path
) -> None:
    said = results(first, "stopped_inside", tmp_path, tmp_path)
    assert said[-1] == "OSError: the disk is gone"
    for other in said[:-1]:
        assert other.startswith(f"RankError: rank {first - 1} (pid ")
        assert other.endswith("failed: OSError: the disk is gone")
    resumed = results(then, "resumed", tmp_path, tmp_path)
    undisturbed = ranks.numbers(ranks.sparse(epochs=9))
    close(resumed[0], undisturbed)
    if first == then:
        assert resumed[0] == results(then, "whole", tmp_path)[0]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        pytest.param(
            "clip_norm",
            "rank 0: clip_norm is 2.0, on rank 0 0.5; patience is 3, on rank 0 2 (",
            marks=pytest.mark.full,
        ),
        pytest.param(
            "seed",
            "RankError: rank 1 differs from rank 0: net.parameters.weight_ih_l0 is ",
            marks=pytest.mark.full,
        ),
        ("weights", "RankError: the weights at the end of epoch 2 differ between rank 0 and rank"),
        pytest.param(
            "signal",
            "TrainingInterrupted: training interrupted after 2 epochs",
            marks=pytest.mark.full,
        ),
        pytest.param("version", "rank 0: version is '0.0.9', on rank 0 '", marks=pytest.mark.full),
        pytest.param("data", "the first batch of epoch 1 differ", marks=pytest.mark.full),
        pytest.param(
            "batches",
            "rank 0 is at a step, rank 1 at the end of an epoch: expected as many",
            marks=pytest.mark.full,
        ),
    ],
    ids=lambda value: value if " " not in value else "",
)
def test_ranks_that_differ_end_together(what: str, expected: str, tmp_path: Path) -> None:
    for said in results(2, "differing", tmp_path, what):
        assert expected in said


@pytest.mark.parametrize("what", ["argument", pytest.param("callback", marks=pytest.mark.full)])
def test_an_error_on_one_rank_is_told_on_the_others(what: str, tmp_path: Path) -> None:
    other, own = results(2, "differing", tmp_path, what)
    assert own.startswith("ValueError: ")
    assert other.startswith("RankError: rank 1 (pid ")
    assert other.endswith(f"failed: {own}")


def test_a_forked_process_is_refused(tmp_path: Path) -> None:
    assert "forked after MPI had started" in results(1, "forked", tmp_path)[0]


@pytest.mark.parametrize(
    ("kills", "epochs"),
    [pytest.param(1, 12, marks=pytest.mark.full), pytest.param(20, 60, marks=pytest.mark.full)],
)
def test_a_killed_rank_costs_nothing(kills: int, epochs: int, tmp_path: Path) -> None:
    chance = random.Random(kills)
    ended = [ranks.killed(2, tmp_path, epochs, chance) for _ in range(kills)]
    assert any(ended)
    found = results(2, "long", tmp_path, tmp_path, epochs)
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert found == results(2, "long", undisturbed, undisturbed, epochs)


@pytest.mark.full
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--distributed", "mpi", "--hiden"], "xprnn: error: unrecognized arguments: --hiden (see"),
        (["--distributed=gloo"], "xprnn: error: --distributed is 'gloo': expected 'mpi' or 'nccl'"),
        (["--distributed", "nccl"], "xprnn: error: --distributed nccl adds up arrays of CuPy, and"),
    ],
)
def test_a_wrong_option_is_told_once(words: list[str], expected: str) -> None:
    done = launch(2, "-m", "xprnn", "train", "text", *words)
    assert done.returncode
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("xprnn")]
    assert line.startswith(expected)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("words", [["mpi", "--hiden"], ["gloo"]], ids=lambda words: words[0])
def test_rank_0_alone_tells_of_a_wrong_option(
    words: list[str],
    rank: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PMI_RANK", f"{rank}")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    try:
        status = main(["train", "text", "--distributed", *words])
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    assert status in (1, 2)
    assert capsys.readouterr().err.count("\n") == (rank == 0)


def test_gradients_that_go_through_the_host_are_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backend = get_backend("numpy")
    for _ in range(2):
        check_way(NoCommunicator(), backend)
    assert not caplog.text
    monkeypatch.setattr(type(backend.library), "is_accelerator", lambda *_: True)
    for _ in range(2):
        check_way(NoCommunicator(), backend)
    assert caplog.text.count("go through the host's memory on their way to the other ranks") == 1


SERIES = ["csv", "sunspots", "--column", "SUNACTIVITY", "--epochs", "2", "--networks", "2"]


@pytest.mark.full
@pytest.mark.parametrize(
    "words",
    [["sine", "--epochs", "9"], SERIES, [*SERIES[:-2], "--from", "csv"]],
    ids=["sine", "csv", "from"],
)
def test_series_are_trained_on_two_ranks(words: list[str], tmp_path: Path) -> None:
    command = ["-m", "xprnn", "train"]
    if "--from" in words:
        assert launch(1, *command, *SERIES, "--out", tmp_path).returncode == 0
        words = [*words[:-1], str(tmp_path / "model.safetensors")]
    else:
        words = [*words, "--dtype", "float64", "--hidden", "4"]
    alone = launch(1, *command, *words, "--out", tmp_path / "alone")
    both = launch(2, *command, *words, "--out", tmp_path / "both", "--distributed", "mpi")
    assert both.returncode == 0, both.stderr
    assert both.stderr.startswith("2 ranks: rank 0 (pid ")
    said = "a batch of 1 sequences leaves 1 of 2 ranks without any"
    assert both.stderr.count(said) == (words[0] == "sine")
    one, two = (History.load(next((tmp_path / n).glob("hist*"))) for n in ("alone", "both"))
    np.testing.assert_allclose(one.loss, two.loss, rtol=1e-5 if "--from" in words else 1e-10)
    last = alone.stdout.replace("alone", "both").splitlines()[-2:]
    assert last == both.stdout.splitlines()[-2:]


@pytest.mark.full
def test_text_is_trained_on_two_ranks(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a few words, and a few more of them.\n" * 200)
    command = ["-m", "xprnn", "train", "text", tmp_path / "text.txt", "--level", "characters"]
    command += ["--epochs", "2", "--hidden", "8", "--dtype", "float64"]
    alone = launch(1, *command, "--out", tmp_path / "alone")
    both = launch(2, *command, "--out", tmp_path / "both", "--distributed", "mpi")
    assert both.returncode == 0
    assert both.stderr.startswith("2 ranks: rank 0 (pid ")
    assert both.stdout.count("written to") == 1
    one, two = (History.load(tmp_path / name / "history.jsonl") for name in ("alone", "both"))
    np.testing.assert_allclose(one.loss, two.loss, rtol=1e-10)
    assert alone.stdout.replace("alone", "both").splitlines()[2:] == both.stdout.splitlines()[2:]


@pytest.mark.full
def test_a_rank_that_does_not_answer_is_named(tmp_path: Path) -> None:
    done = launch(2, "-m", "tests.ranks", "late", tmp_path, "3")
    assert done.returncode
    assert "LostRankError: rank 1 (pid " in (tmp_path / "0.json").read_text()
    assert "did not answer for 0.4 s" in (tmp_path / "0.json").read_text()


def test_a_launcher_of_another_mpi_is_refused() -> None:
    with pytest.raises(
        RuntimeError, match=r"has started 4 processes .*, but MPI knows 1: .*MPICH 5"
    ):
        check_launcher(1, {"OMPI_COMM_WORLD_SIZE": "4"}, "MPICH 5\nmore")
    check_launcher(4, {"PMI_SIZE": "4"}, "MPICH 5")


def test_without_mpi4py_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r'pip install "xprnn\[mpi\]"'):
        xprnn.distributed.get_communicator("mpi")


@pytest.mark.parametrize(
    ("given", "error", "expected"),
    [
        ("gloo", ValueError, "communicator is 'gloo': expected 'mpi'"),
        (4, TypeError, 'communicator is int: expected "mpi", "nccl" or a'),
    ],
)
def test_other_communicators_are_refused(given: Any, error: Any, expected: str) -> None:
    with pytest.raises(error, match=expected):
        ranks.dense(epochs=1, communicator=given)


@pytest.mark.full
def test_a_signal_to_the_launcher_saves_once(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a few words, and a few more of them.\n" * 200)
    words = ["-m", "xprnn", "train", "text", "text.txt", "--level", "characters", "--epochs"]
    words += ["9999", "--hidden", "8", "--out", "out", "--distributed", "mpi"]
    done = ranks.stopped(2, [*words, "--checkpoint", "it.ckpt"], tmp_path, "it.ckpt")
    assert done.returncode == 143
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("xprnn: ")]
    assert line.startswith("xprnn: training interrupted after ")
    assert line.endswith("out/model.safetensors; the same command with --resume goes on")
