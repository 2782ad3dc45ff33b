"""One layer, forward and backward, against torch with cuDNN: ten shapes, four precisions.

Each row has the times, their ratio (below 1 xprnn is faster), microseconds a time step, and the
shares of the card's product rate and bandwidth as measured here: what is the least that any
implementation computes and moves, over what the card could do in the time.
"""

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

from ci.gpu.rates import bandwidth, product_rate
from ci.gpu.record import TRIAL, Record, peer_workers, seconds_left, torch_versions
from xprnn.backend import HALVES
from xprnn.backend.registry import LIBRARIES
from xprnn.bench.layer import LayerCase
from xprnn.bench.timing import Setting
from xprnn.bench.worker import Worker

CASES = {
    "fastrnn": LayerCase(512, 512, 64, 100),
    "large": LayerCase(256, 256, 64, 100),
    "wide": LayerCase(1024, 1024, 32, 25),
    "medium": LayerCase(64, 128, 32, 100),
    "small": LayerCase(32, 64, 16, 50),
    "deepbench-512": LayerCase(512, 512, 16, 25),
    "deepbench-256": LayerCase(256, 256, 16, 150),
    "flashrnn": LayerCase(768, 768, 16, 256),
    "deepbench-1760": LayerCase(1760, 1760, 16, 50),
    "deepbench-2048": LayerCase(2048, 2048, 32, 25),
}
"""Those of DeepBench (Baidu) and FlashRNN have the shapes of these benchmarks."""
ROUNDS: tuple[tuple[str, tuple[str, ...], dict[str, str]], ...] = (
    ("float32", ("lstm", "gru", "elman"), {}),
    ("tf32", ("lstm",), {}),
    ("float16", ("lstm",), {}),
    ("bfloat16", ("lstm",), {}),
    ("float32", ("lstm",), {"XPRNN_CUDA_LOOP": "step", "XPRNN_CUDA_GRAPH": "on"}),
    ("float32", ("lstm",), {"XPRNN_CUDA_LOOP": "step", "XPRNN_CUDA_GRAPH": "off"}),
    ("tf32", ("gru", "elman"), {}),
    ("float16", ("elman", "gru"), {}),
)
"""Precision, cells, and environment variables of xprnn; the most important first."""
SECONDS = 0.02 if TRIAL else 0.25


def main() -> str | None:
    """Time; return what is wrong, if anything is."""
    wrong, rates = 0, {"bandwidth": bandwidth()}
    record = Record("layer", peers=torch_versions(), rates=rates)
    if lacks("bfloat16"):
        record.note(without_bfloat16=lacks("bfloat16"))
    work = [
        (precision, variables, cell, name)
        for precision, cells, variables in ROUNDS
        if not lacks(precision)
        for cell in cells
        for name in list(CASES)[: 1 if TRIAL else None]
    ]
    peers = peer_workers("layer", SECONDS)
    with contextlib.ExitStack() as held:
        workers: list[Worker] = []
        for k, (precision, variables, cell, name) in enumerate(work):
            if seconds_left() < 6:
                print(
                    record.out_of_time(f"{len(work) - k} rows, from {precision} {cell} {name} on")
                )
                break
            if k == 0 or work[k - 1][:2] != (precision, variables):
                if precision not in rates:
                    rates[precision] = product_rate(precision)
                    record.note(rates=rates)
                held.close()
                setting = Setting(4, "cupy", seconds=SECONDS, precision=precision)
                ours = Worker("layer", "xprnn", setting, variables=variables)
                workers = [held.enter_context(ours), *peers]
            shape = LayerCase(3, 4, 2, 5) if TRIAL else CASES[name]
            row = timed(workers, cell, shape, precision, rates)
            wrong += "error" in row
            record.add(precision=precision, cell=cell, case=name, **variables, **row)
    return record.finish(f"{wrong} timings failed" if wrong else "")


def lacks(precision: str) -> str:
    """Return why CuPy lacks a precision; an empty text if it has it."""
    return LIBRARIES["cupy"].why_not(precision)


def timed(
    workers: Sequence[Worker], cell: str, case: LayerCase, precision: str, rates: dict[str, float]
) -> dict[str, Any]:
    """Return a row, with the error of the first library that fails, if any does."""
    row: dict[str, Any] = dict(case._asdict())
    try:
        times = {worker.library: worker.seconds(cell, case, precision) for worker in workers}
    except RuntimeError as error:
        return row | {"error": f"{error}"}
    ours = times["xprnn"]
    row |= {f"{library}_ms": 1e3 * seconds for library, seconds in times.items()}
    row["us_a_step"] = 1e6 * ours / case.steps
    if "torch" in times:
        row["ratio"] = ours / times["torch"]
    itemsize = 2 if precision in HALVES else 4
    row["of_product_rate"] = case.operations(cell) / ours / rates[precision]
    row["of_bandwidth"] = case.transfer(cell, itemsize) / ours / rates["bandwidth"]
    return row


if __name__ == "__main__":
    sys.exit(main())
