"""Headers of megabytes that would become a hundred megabytes of Python objects are refused unread.

`tracemalloc` counts what reading allocates, which is the same on every machine; the seconds follow.
What users save, such as large vocabularies and long histories, is read all the same.
"""

import json
import tracemalloc

import pytest

from tests.hostile import joined, split, with_digest
from tests.resuming import train
from tests.test_checkpoint import carried
from xprnn import RNN, Checkpoint
from xprnn.backend.host.strict_json import parse_json
from xprnn.training.checkpoint.file import Content, find, write

LENGTH = 3_000_000
"""Characters that are added to a header."""


def repeated(part, length=LENGTH):
    """Return a part of JSON again and again; a ``#`` in it becomes a number."""
    count = length // (len(part) + 1)
    return ",".join(part.replace("#", f"{k:06d}") for k in range(count))


TENSOR = '"#":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
DENSE = {
    "lists": f"[{repeated('[]')}]",
    "objects": f"[{repeated('{}')}]",
    "nested": f"[{repeated('[[[[]]]]')}]",
    "short objects": f"[{repeated(json.dumps({'a': 1}))}]",
    "keys": "{" + ",".join(f'"{k:x}":0' for k in range(LENGTH // 9)) + "}",
    "deep": "[" * LENGTH,
}


def with_header(content, added, place):
    """Return a file with JSON added to its header, or to its configuration, and a digest."""
    header, data = split(content)
    if place == "header":
        return joined(f'{json.dumps(header)[:-1]},"added":{added}}}', data)
    metadata = header["__metadata__"]
    metadata["config"] = f'{metadata["config"][:-1]},"added":{added}}}'
    return with_digest(joined(json.dumps(header), data))


def peak_of(call):
    """Return the most memory that a call had at once."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the bytes of a model and of a checkpoint."""
    folder = tmp_path_factory.mktemp("valid")
    RNN(2, 3, 1, rng=0).save(folder / "model")
    train(carried, Checkpoint(folder / "checkpoint"))
    return {name: (folder / name).read_bytes() for name in ("model", "checkpoint")}


READERS = {
    "model": RNN.load,
    "checkpoint": lambda path: find(Checkpoint(path)),
}


@pytest.mark.parametrize("place", ["header", "config"])
@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("dense", DENSE)
def test_a_dense_header_is_refused_unread(files, tmp_path, dense, kind, place):
    path = tmp_path / "file"
    path.write_bytes(with_header(files[kind], DENSE[dense], place))

    def read():
        with pytest.raises(ValueError, match=r"file' .*its lists and objects need about \d+ MB of"):
            READERS[kind](path)

    assert peak_of(read) < 3 * path.stat().st_size


@pytest.mark.parametrize("kind", READERS)
def test_a_header_of_too_many_arrays_is_refused_unread(files, tmp_path, kind):
    path = tmp_path / "file"
    header, data = split(files[kind])
    path.write_bytes(joined(f"{json.dumps(header)[:-1]},{repeated(TENSOR, 2 * LENGTH)}}}", data))

    def read():
        with pytest.raises(ValueError, match=r"file' .*its lists and objects need about \d+ MB of"):
            READERS[kind](path)

    assert peak_of(read) < 3 * path.stat().st_size


def test_large_vocabularies_load(tmp_path):
    net = RNN(2, 3, 1, rng=0)
    words = [f"word{k}" for k in range(60_000)]
    net.metadata = {
        "words": words,
        "numbers": {word: k for k, word in enumerate(words)},
        "merges": [[word[:3], word[3:]] for word in words],
        "text": "[a: b] {c}\n" * 20_000,
    }
    net.save(tmp_path / "file")
    assert RNN.load(tmp_path / "file").metadata == net.metadata


def test_long_histories_are_written_and_read(tmp_path):
    records = [{"named": ["Record", k, 1 / (k + 1), None, None]} for k in range(200_000)]
    write(Checkpoint(tmp_path / "run.ckpt"), Content({"records": records}, {}), keep_previous=False)
    content, _ = find(Checkpoint(tmp_path / "run.ckpt"))
    assert content.data == {"records": records}


def test_what_could_not_be_read_is_not_written(tmp_path):
    net = RNN(2, 3, 1, rng=0)
    net.metadata = {"a": [[]] * 1_000_000}
    with pytest.raises(ValueError, match="need about 96 MB of memory, which is more than 10 times"):
        net.save(tmp_path / "file")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("text", [f"[{repeated('1')}]", f"[{repeated('1e5')}]", f'["{"ab:" * 9}"]'])
def test_numbers_and_text_have_no_such_bound(text):
    assert parse_json(text) == json.loads(text)
