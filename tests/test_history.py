"""The history: its columns, and its file."""

import json
import sys

import pytest

from xprnn import History
from xprnn.training.history import Record

RECORDS = [
    Record(epoch=1, loss=0.5, validation_loss=None, gradient_norm=None),
    Record(epoch=2, loss=0.1 + 0.2, validation_loss=1e-300, gradient_norm=2.0),
]


def test_columns():
    history = History(RECORDS)
    assert len(history) == 2
    assert history.loss == [0.5, 0.1 + 0.2]
    assert history.validation_loss == [None, 1e-300]
    assert (history.stopped, history.best_epoch, history.seconds) == ("", None, 0.0)


def test_it_is_shown_in_a_line():
    assert repr(History()) == "History(0 epochs, 0.0 s)"
    assert repr(History(RECORDS[:1])) == "History(1 epoch, loss 0.5 -> 0.5, 0.0 s)"
    records = [Record(1, 0.5, 0.6, None), Record(2, 0.25, 0.3, None), Record(3, 0.125, 0.4, None)]
    assert repr(History(records, "patience", 2, 1.26)) == (
        "History(3 epochs, loss 0.5 -> 0.125, validation 0.6 -> 0.4, best epoch 2, "
        "ended by patience, 1.3 s)"
    )


def test_a_new_history_is_empty():
    assert History().records == []
    assert History().records is not History().records


def test_a_round_trip_is_exact(tmp_path):
    path = tmp_path / "history.jsonl"
    History(RECORDS).save(path)
    assert History.load(path).records == RECORDS
    History(RECORDS).save(str(path))
    assert History.load(str(path)).records == RECORDS


def test_the_file_is_json_lines(tmp_path):
    path = tmp_path / "history.jsonl"
    History(RECORDS).save(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [record._asdict() for record in RECORDS]


def test_an_empty_history_has_an_empty_file(tmp_path):
    path = tmp_path / "history.jsonl"
    History().save(path)
    assert path.read_bytes() == b""
    assert History.load(path) == History()


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        '{"epoch": 1}',
        '{"epoch": 1, "loss": 2, "extra": 3}',
        "3",
        "[1, 2, 3, 4]",
        "null",
    ],
)
def test_what_is_no_record(tmp_path, line):
    path = tmp_path / "history.jsonl"
    good = json.dumps(RECORDS[0]._asdict())
    path.write_text(f"{good}\n{line}\n")
    with pytest.raises(ValueError, match=r"history\.jsonl', line 2: not a record"):
        History.load(path)


def test_an_infinite_norm_is_written_as_json(tmp_path):
    History([Record(1, 0.5, None, float("inf"))]).save(tmp_path / "h.jsonl")
    assert History.load(tmp_path / "h.jsonl").records == [Record(1, 0.5, None, None)]


def test_as_a_data_frame(monkeypatch):
    history = History([Record(1, 2.0, None, 3.5), Record(2, 1.0, None, float("inf"))])
    frame = history.to_frame()
    assert frame.index.name == "epoch"
    assert frame.index.tolist() == [1, 2]
    assert frame.loss.tolist() == [2.0, 1.0]
    assert frame.validation_loss.isna().all()
    assert frame.gradient_norm.tolist() == [3.5, float("inf")]
    assert {str(kind) for kind in frame.dtypes} == {"float64"}
    assert History().to_frame().shape == (0, 3)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'needs pandas: pip install "xprnn\[data\]"'):
        history.to_frame()
