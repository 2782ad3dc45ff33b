"""``xprnn bench flow``: the works are the passes and the flow; the table has what was measured."""

import json

import numpy as np

from tests.cli_tools import run
from xprnn.bench import flow
from xprnn.bench.flow import works
from xprnn.bench.layer import LayerCase
from xprnn.engine.results import Run


def test_the_works_are_the_passes_and_the_flow(monkeypatch):
    monkeypatch.setitem(flow.CASES, "few", LayerCase(2, 3, 2, 4))
    found = []
    monkeypatch.setattr(
        flow,
        "gradient_flow",
        lambda net, x, *, d_output: found.append((x, d_output.shape, net.hidden_size)),
    )
    all_of_them = works("gru", "few", "numpy")
    assert len(all_of_them) == 4
    for work in all_of_them:
        work()
    (x, *sizes), (run_before, *again) = found
    assert (x.shape, *sizes) == ((4, 2, 2), (4, 2, 3), 3)
    assert isinstance(run_before, Run)
    assert again == sizes


def test_medians_of_turns():
    order = []
    medians = flow.measured([lambda: order.append(0), lambda: order.append(1)], 1e-9)
    assert order == [0, 1] * 12
    assert len(medians) == 2
    assert all(np.isfinite(medians))


def test_the_table(monkeypatch, tmp_path):
    monkeypatch.setattr(flow, "result_of", lambda *_, **__: [0.001, 0.002, 0.005, 0.004])
    done = run("bench", "flow", "--cells", "gru", "--cases", "tiny", "--out", tmp_path)
    assert done.status == 0, done.err
    line = "gru    tiny     1, 32, 1, 100           1.00 ms    2.00 ms    5.00 ms    2.50"
    assert line + "      4.00 ms    2.00\n" in done.out
    (row,) = json.loads((tmp_path / "bench-flow.json").read_text())["rows"]
    assert (row["ratio"], row["tape_ratio"]) == (2.5, 2.0)
