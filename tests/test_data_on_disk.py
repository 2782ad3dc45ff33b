"""Data larger than memory: batches of a mapped file read no more than their part of it."""

import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xprnn
from xprnn import data
from xprnn.data import text

T, N = 100, 4000
MOST = 0.05
"""Of the file."""


pytestmark = pytest.mark.usefixtures("without_pool")


class Half:
    """A communicator of two ranks, as far as `data.shard` asks."""

    rank, size = 1, 2


def peak(make: Callable[[Any], Iterable[data.Batch]], mapped: Any) -> float:
    """Return what was held at most while batches were read, as a share of the file."""
    next(iter(make(mapped)))  # what is imported at first use doesn't count
    tracemalloc.start()
    try:
        for batch in make(mapped):
            assert type(np.asarray(batch.x)) is np.ndarray
            assert not np.may_share_memory(batch.x, mapped)
        return tracemalloc.get_traced_memory()[1] / mapped.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "make",
    [
        lambda x: data.minibatches(x, x, 20, rng=0),
        lambda x: data.minibatches(x, x, 20, shuffle=False),
        lambda x: data.chunks(x, x, 1),
        lambda x: data.shard(data.minibatches(x, x, 20, rng=0), Half()),  # type: ignore[arg-type]
    ],
    ids=["shuffled", "in order", "chunks", "shard"],
)
def test_batches_hold_their_part_alone(make: Any, tmp_path: Path) -> None:
    mapped = np.lib.format.open_memmap(
        tmp_path / "x.npy", mode="w+", dtype="float32", shape=(T, N, 2)
    )
    assert peak(make, mapped) < MOST


def test_streams_of_tokens_on_disk(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 9, 400_001).astype("int32")
    tokens.tofile(tmp_path / "tokens")
    mapped = np.memmap(tmp_path / "tokens", "int32", "r")

    def make(mapped: Any) -> Any:
        return data.chunks(*text.streams(mapped, 16), 50)

    assert peak(make, mapped) < MOST
    for found, wanted in zip(make(mapped), make(tokens), strict=True):
        assert np.array_equal(found.x, wanted.x)
        assert np.array_equal(found.target, wanted.target)
    net = xprnn.RNN(9, 4, 9, rng=0)
    batches = [batch for batch, _ in zip(make(mapped), range(2), strict=False)]
    assert len(xprnn.fit(net, batches, loss="cross_entropy").loss) == 1
