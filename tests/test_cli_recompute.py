"""``--recompute``: the same files, with less memory."""

import pytest

import xprnn.engine.layer.layer
from tests.cli_tools import contents, run
from tests.test_recompute import pieces_of
from xprnn.engine.network import loss_and_grad

pytestmark = pytest.mark.slow

TEXT = "the cat sat. a dog ran to the cat. the dog sat.\n" * 12
SUNSPOTS = ("csv", "sunspots", "--column", "SUNACTIVITY", "--networks", "1", "--window", "7")


@pytest.fixture
def asked(monkeypatch):
    """Return the ``recompute`` of every training step; segments have three time steps."""
    found, step = [], loss_and_grad

    def noted(*args, recompute=False, **options):
        found.append(recompute)
        return step(*args, recompute=recompute, **options)

    monkeypatch.setattr("xprnn.training.step.loss_and_grad", noted)
    monkeypatch.setattr(xprnn.engine.layer.layer, "cut", pieces_of(3))
    return found


@pytest.mark.parametrize("words", [("text", "--level", "words"), ("text", "--level", "characters")])
def test_text(words, asked, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    same(words[0], file, *words[1:], "--chunk", 8, asked=asked, tmp_path=tmp_path)


def test_series(asked, tmp_path):
    same(*SUNSPOTS, "--cell", "lstm", asked=asked, tmp_path=tmp_path)


def same(*words, asked, tmp_path):
    """Train with and without ``--recompute``, and compare every file."""
    kept = []
    for options in ([], ["--recompute"]):
        out = tmp_path / f"run{len(options)}"
        done = run("train", *words, "--hidden", 5, "--epochs", 1, *options, "--out", out)
        assert done.status == 0, done.err
        kept.append(contents(out))
        assert set(asked) == {bool(options)}
        asked.clear()
    assert kept[0] == kept[1]


def test_not_with_a_window(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    done = run("train", "text", file, "--recompute", "--window", 4, "--out", tmp_path / "run")
    assert done.status == 1
    assert (
        "--window 4 needs the whole tape, which --recompute does not store: expected one of the two"
        in done.error
    )
