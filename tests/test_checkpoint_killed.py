"""SIGKILL at twenty moments, and the run ends with the same bits as one that was never stopped."""

import os

import pytest

from tests.killed import EPOCHS, KILLS, train
from tests.process import run_python
from tests.resuming import remains
from xprnn import Checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
]


def test_killed_twenty_times_it_ends_with_the_same_bits(tmp_path):
    path = tmp_path / "run.ckpt"
    out = run_python(f"from tests.killed import main; main({str(path)!r}, seed=0)")
    last_epoch, writing = map(int, out.split())
    assert last_epoch > 1
    assert writing >= KILLS // 4

    net, history = train(Checkpoint(path, every_epochs=10, resume=True))
    assert 3 * last_epoch <= history.resumed < 3 * EPOCHS
    assert remains(net, history) == remains(*train())
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["run.ckpt", "run.ckpt.previous"]
