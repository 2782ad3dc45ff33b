"""The time loops of a device against each other, and against the plain one.

A loop that is run twice must give the same bits, and so must the step kernels with and without a
CUDA graph, which launch the same work.  A persistent kernel adds up its products in another order
than cuBLAS, so it agrees to rounding; so does the plain loop.
"""

import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ci.gpu.record import TRIAL, Record, seconds_left
from xprnn import get_backend
from xprnn.backend import Backend
from xprnn.backend.libraries.cupy_graphs import graphs_here
from xprnn.backend.registry import LIBRARIES
from xprnn.cells import Cell, get_cell, unit_names
from xprnn.cells.lstm import LSTM
from xprnn.engine.loop.cuda.choice import cuda_loop
from xprnn.engine.loop.cuda.persistent.loops import PersistentLoops
from xprnn.engine.loop.loop import plain_loops
from xprnn.engine.loop.lowering import lowerings_of
from xprnn.engine.loop.protocol import Loops, Recurrent, Work

LIMIT = {"float64": 1e-10, "float32": 2e-4, "float16": 5e-2, "bfloat16": 0.2, "tf32": 2e-2}
"""Of a difference, relative to the largest entry of an array."""


class Shape(NamedTuple):
    """T, B, H, whether there are masks, and a padding mask."""

    steps: int
    batch: int
    hidden: int
    masked: bool = False
    lengths: bool = False


SMALL, LARGE = Shape(10, 3, 7, masked=True, lengths=True), Shape(20, 64, 256)


def problems() -> Iterator[tuple[str, Cell, str, Shape]]:
    """Yield cells, dtypes and shapes, the most important first."""
    if TRIAL:
        yield "elman", get_cell("elman"), "float64", SMALL
        yield "elman", get_cell("elman"), "bfloat16", SMALL
        return
    cells: dict[str, Cell] = {name: get_cell(name) for name in ("lstm", "gru", "elman")}
    for shape in (LARGE, SMALL):
        for dtype in ("float32", "float64", "float16", "bfloat16"):
            for name, cell in cells.items():
                yield name, cell, dtype, shape
    yield "lstm, peepholes", LSTM(peepholes=True), "float32", LARGE
    for shape in (Shape(50, 64, 512), Shape(20, 16, 1024), Shape(10, 32, 2048), Shape(20, 8, 64)):
        yield "lstm", cells["lstm"], "float32", shape


def arguments(cell: Cell, backend: Backend, shape: Shape) -> dict[str, Any]:
    """Return random arguments of a time loop, on the device."""
    rng, (T, B, H, masked, lengths) = np.random.default_rng(0), shape

    def draw(*sizes: int, scale: float = 1.0) -> Any:
        return backend.asarray(scale * rng.standard_normal(sizes))

    units = tuple(draw(H) for _ in unit_names(cell))
    within = np.arange(T)[:, None, None] < rng.integers(0, T + 1, B)[:, None]
    return {
        "u": draw(T, B, cell.gates * H),
        "recurrent": Recurrent(
            draw(cell.gates * H, H, scale=0.5 / H**0.5),
            units,
            mask=backend.asarray(rng.integers(0, 2, (B, H)) * 2.0) if masked else None,
            valid=backend.asarray(within, dtype="bool") if lengths else None,
        ),
        "state": tuple(draw(B, H) for _ in cell.state),
        "dh": draw(T, B, H),
        "d_state": tuple(draw(B, H) for _ in cell.state),
    }


def results(loops: Loops, backend: Backend, a: dict[str, Any]) -> dict[str, Any]:
    """Return what a loop computes, forward and backward, on the host."""
    there = loops.forward(a["u"], a["recurrent"], a["state"], save=True)
    back = loops.backward(a["recurrent"], there, a["dh"], a["d_state"])
    arrays = {f"states {k}": s for k, s in enumerate(there.states)}
    arrays |= {"du": back.du, "da": back.da}
    arrays |= {f"units {k}": s for k, s in enumerate(back.units)}
    arrays |= {f"state {k}": s for k, s in enumerate(back.state)}
    return {name: backend.to_numpy(array) for name, array in arrays.items()}


def ways(backend: Backend, cell: Cell) -> Iterator[tuple[Loops, str, str]]:
    """Yield the loops of a cell, whether with graphs, and how they multiply."""
    # Step kernels first, for the others to be compared with.
    for loops in lowerings_of(backend, cell)[::-1]:
        yield loops, "off", "float32"
        if not isinstance(loops, PersistentLoops):
            yield loops, "on", "float32"
        if backend.dtype_name == "float32":
            yield loops, "off", "tf32"


def why_not(loops: Loops, backend: Backend, dtype: str, shape: Shape) -> str:
    """Return why a loop can't do its work both ways; an empty text if it can."""
    limits = backend.library.kernels().limits(backend.device)
    for direction in ("forward", "backward"):
        work = Work(direction, dtype, shape.steps, shape.batch, shape.lengths, shape.hidden, limits)
        if isinstance(loops, PersistentLoops):
            # Insisting, however slow it may be.
            reason = loops.why_not(work, insist=True)
            if reason:
                return f"{direction}: {reason}"
        elif not loops.suits(work):
            return f"{direction}: it does not suit"
    return ""


def graphs_captured() -> int:
    """Return how many graphs were captured in this process."""
    found = graphs_here()
    return found.captures if found is not None else 0


def difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, str]:
    """Return the largest difference relative to its array's largest entry, and the array's name."""
    found = [(0.0, "")]
    for name, b in other.items():
        wide = b.astype("float64")
        error = np.max(np.abs(one[name].astype("float64") - wide)) / (np.max(np.abs(wide)) or 1.0)
        # NaN is the largest difference of all.
        found.append((float("inf") if np.isnan(error) else float(error), name))
    return max(found)


def same_bits(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether all arrays are equal to the bit."""
    return all(np.array_equal(one[name], b) for name, b in other.items())


def main() -> str | None:
    """Compare; return what is wrong, if anything is."""
    record, wrong = Record("loops", limits=LIMIT), []
    for name, cell, dtype, shape in problems():
        if seconds_left() < 5:
            print(record.out_of_time(f"from {name} in {dtype}, {tuple(shape)} on"))
            break
        lacks = LIBRARIES["cupy"].why_not(dtype)
        if lacks:
            record.add(cell=name, dtype=dtype, **shape._asdict(), left_out=lacks)
            continue
        backend = get_backend("cupy", dtype=dtype)
        a = arguments(cell, backend, shape)
        where: dict[str, Any] = {"cell": name, "dtype": dtype, **shape._asdict()}
        without: dict[str, Any] = {}
        steps: dict[str, dict[str, Any]] = {}
        plain = results(plain_loops(backend, cell), backend, a)
        for loops, graph, precision in ways(backend, cell):
            where |= {"loop": loops.name, "graph": graph, "precision": precision}
            with cuda_loop(matmul_precision=precision):
                reason = why_not(loops, backend, dtype, shape)
                if reason:
                    record.add(**where, left_out=reason)
                    continue
                os.environ["XPRNN_CUDA_GRAPH"] = graph
                before = graphs_captured()
                # A graph is captured at the second call, unless the loop holds too much.
                runs = [results(loops, backend, a) for _ in range(3)]
            error, array = difference(runs[-1], plain)
            again = all(same_bits(run, runs[0]) for run in runs[1:])
            limit = LIMIT["tf32" if precision == "tf32" else dtype]
            captured = graph == "on" and graphs_captured() > before
            as_without = graph == "off" or same_bits(runs[0], without)
            without = runs[0]
            steps.setdefault(precision, runs[0])
            from_steps, _ = difference(runs[0], steps[precision])
            facts = {"again": again, "captured": captured, "as_without_graph": as_without}
            record.add(**where, error=error, array=array, from_steps=from_steps, **facts)
            if not (again and as_without and error <= limit and from_steps <= limit):
                wrong.append(
                    f"{loops.name} ({name}, {dtype}, {tuple(shape)}, graph {graph}, {precision})"
                )
    os.environ.pop("XPRNN_CUDA_GRAPH", None)
    return record.finish(f"wrong: {'; '.join(wrong)}" if wrong else "")


if __name__ == "__main__":
    sys.exit(main())
