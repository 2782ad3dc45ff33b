"""Tiles for tests of persistent kernels: small, uneven, and each in another way."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from tests import cuda_fibres, device_arrays
from xprnn.engine.loop.cuda.cell import KernelSource, Variant
from xprnn.engine.loop.cuda.persistent import loops
from xprnn.engine.loop.cuda.persistent.loops import PersistentLoops
from xprnn.engine.loop.cuda.persistent.plan import Plan, Work
from xprnn.engine.loop.cuda.persistent.tile import Tile
from xprnn.engine.loop.trace import trace

FULL = os.environ.get("FULL", "0") != "0"

STEPS, BATCH, HIDDEN = 4, 7, 10
"""Three blocks of four units, two slices of four sequences, neither of which comes out even."""


def padded(n: int, step: int) -> int:
    return -(-n // step) * step


def shared(work: Work) -> Tile:
    """Return a tile of blocks that wait for each other, which bring sequences in two chunks."""
    H, G, back = work.hidden, work.gates, work.backward
    depth, rows = (G * H, 2) if back else (H, G if G < 4 else 2)
    groups = (4 if back else 4 * G) // rows * 2
    threads = padded(2 * groups, 32)
    chunk = padded(-(-depth // 2), 4)
    return Tile(H, G, back, 4, 4, threads, rows, 2, 2, chunk)


def alone(work: Work) -> Tile:
    """Return a tile of blocks with all units, and so with nothing to wait for."""
    H, G, back = work.hidden, work.gates, work.backward
    depth, rows = (G * H, 2) if back else (H, G if G < 4 else 2)
    groups = (H if back else G * H) // rows
    return Tile(H, G, back, H, 2, padded(2 * groups, 32), rows, 2, 2, padded(depth, 4))


def cores(work: Work) -> Tile:
    """Return a tile of blocks that wait for each other and multiply with tensor cores."""
    H, G, back = work.hidden, work.gates, work.backward
    depth, rows = (G * H, 1) if back else (H, G)
    chunk = padded(-(-depth // 2), 16)
    return Tile(H, G, back, 8, 16, 128, rows, 1, 2, chunk, tensor_cores=True)


TILES: dict[str, Callable[[Work], Tile]] = {"shared": shared, "alone": alone, "cores": cores}


def sources(cell: Any, variant: Variant, kind: str, hidden: int = HIDDEN) -> list[KernelSource]:
    """Return both kernels of a cell, with a tape and an outer gradient."""
    made = PersistentLoops(trace(cell))
    works = [Work(hidden, cell.gates, BATCH, 4, backward) for backward in (False, True)]
    there, back = map(TILES[kind], works)
    return [
        made.forward_source(variant, there, save=True),
        made.backward_source(variant, back, outer=True),
    ]


@contextmanager
def tiles(kind: str, *, slices: int = 2) -> Iterator[None]:
    """Give every size the tile of a kind, with so many slices at a time."""

    def planned(work: Work, limits: Any) -> Plan:
        tile = TILES[kind](work)
        needed = padded(work.batch, tile.sequences) // tile.sequences
        many = needed if tile.alone else min(slices, needed)
        return Plan(tile, many, padded(needed, many) // many, 0.0)

    with mock.patch.object(loops, "plan", planned):
        yield


def ready(texts: list[str], runs: list[str] | None = None) -> Any:
    """Return a ``with`` block in which kernels of these texts are compiled already.

    With ``runs``, other texts take their places.
    """
    made = cuda_fibres.compiled(runs or texts)
    return mock.patch.object(device_arrays, "KERNELS", dict(zip(texts, made, strict=True)))


def schedule(name: str, **options: Any) -> Any:
    """Return a ``with`` block in which blocks take turns in this way."""
    return mock.patch.object(device_arrays, "SCHEDULE", {"schedule": name, **options})
