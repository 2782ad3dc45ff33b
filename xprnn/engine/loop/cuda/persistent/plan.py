"""Which tile a persistent kernel has, for a size and a device; or why there is none.

All tiles of a list are weighed by an estimate of their clock cycles a step.  The numbers in it are
the device's published rates and guesses of what waiting costs: no device has been measured yet.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from xprnn.backend.kernels import Limits
from xprnn.engine.loop.cuda.persistent.tile import QUAD, WARP, Tile

REGISTERS = 65536
"""Of a multiprocessor, on every device since 2014; and at most 255 a thread."""

STEP_CYCLES = 20000
"""What a step of the loop of step kernels takes at least, which is the host's time: some 12 µs."""

BARRIER_CYCLES = 1500
"""From the last write of a block to the first read of another one."""

LATENCY_CYCLES = 700
"""Until a read of the memory that all multiprocessors share is answered."""

CELL_CYCLES = 800
"""The cell's formula, whose functions are long and depend on each other."""

TENSOR_CORES = (8, 0)
"""The compute capability from which tensor cores multiply TF32."""


class Work(NamedTuple):
    """What the kernel is for.

    Attributes
    ----------
    hidden, gates, batch : int
        H, G and B.
    real_bytes : int
        Of a number in shared memory: 8 for float64, else 4.
    backward : bool
    tensor_cores : bool
        Whether products may be those of tensor cores, if the device has them.
    """

    hidden: int
    gates: int
    batch: int
    real_bytes: int
    backward: bool
    tensor_cores: bool = False


class Plan(NamedTuple):
    """How a loop runs.

    Attributes
    ----------
    tile : Tile
    slices : int
        How many slices of the sequences, of ``tile.sequences`` each, are computed at a time.
    turns : int
        How many launches there are, one after the other.
    cycles : float
        The estimate for a step of all sequences.
    """

    tile: Tile
    slices: int
    turns: int
    cycles: float


@lru_cache(maxsize=4096)
def plan(work: Work, limits: Limits) -> Plan | str:
    """Return the best plan; or, in words, why there is none."""
    kinds = [False]
    if work.tensor_cores and limits.capability >= TENSOR_CORES:
        kinds.append(True)
    works = [work._replace(tensor_cores=kind) for kind in kinds]
    plans = [_planned(tile, w, limits) for w in works for tile in _tiles(w, limits)]
    if not plans:
        columns = "columns" if work.backward else "rows"
        return (
            f"U's {columns} for H = {work.hidden} don't fit into the shared memory of "
            f"{limits.multiprocessors} multiprocessors of {limits.shared_bytes} bytes each"
        )
    return min(plans, key=lambda p: (p.cycles, p.tile))


def slower(work: Work, found: Plan, limits: Limits) -> str:
    """Return why the kernels of one step are likely to be faster; an empty text if they aren't."""
    products = work.batch * work.gates * work.hidden**2 * work.real_bytes / 4
    # cuBLAS at half of the peak, 128 products a cycle.
    cycles = max(STEP_CYCLES, products / (64 * limits.multiprocessors))
    if found.cycles <= cycles:
        return ""
    return (
        f"for H = {work.hidden}, B = {work.batch} a step in {found.turns} turns would take about "
        f"{found.cycles:.0f} cycles, and a step of single kernels {cycles:.0f}"
    )


def _planned(tile: Tile, work: Work, limits: Limits) -> Plan:
    needed = -(-work.batch // tile.sequences)
    # Those that wait for nobody need not be there at the same time.
    room = limits.multiprocessors // tile.across
    slices = needed if tile.alone else min(needed, room)
    rounds = -(-needed // room)
    return Plan(tile, slices, -(-needed // slices), rounds * _cycles(tile, work.real_bytes))


def _tiles(work: Work, limits: Limits) -> Iterator[Tile]:
    """Yield all tiles that fit."""
    for units, sequences in product(_units(work), _sequences(work)):
        items = units * sequences
        if items > 512 or -(-work.hidden // units) > limits.multiprocessors:
            continue
        for threads in (64, 128, 256, 512):
            if threads < items or (threads > 64 and threads > 16 * items):
                continue
            for rows_each, sequences_each in product((1, 2, 3, 4, 5, 6, 8), (1, 2, 4, 8)):
                tile = _tile(work, units, sequences, threads, (rows_each, sequences_each), limits)
                if tile is not None:
                    yield tile


def _units(work: Work) -> list[int]:
    step = 8 if work.tensor_cores else 1
    all_of_them = -(-work.hidden // step) * step
    some = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
    return [all_of_them, *(n for n in some if n % step == 0 and n < all_of_them)]


def _sequences(work: Work) -> list[int]:
    least = 16 if work.tensor_cores else 1
    some = (1, 2, 4, 8, 16, 32, 64)
    return [n for n in some if n == least or least < n < 2 * work.batch]


def _tile(
    work: Work,
    units: int,
    sequences: int,
    threads: int,
    each: tuple[int, int],
    limits: Limits,
) -> Tile | None:
    """Return the tile with as large chunks as there is room for; None if there is none."""
    rows_each, sequences_each = each
    down, across = (16, 8) if work.tensor_cores else (1, 1)
    rows = units * (1 if work.backward else work.gates)
    if rows % (rows_each * across) or sequences % (sequences_each * down):
        return None
    if work.tensor_cores and sequences_each > 1:
        return None
    teams = threads // WARP if work.tensor_cores else threads
    groups = rows // (rows_each * across) * (sequences // (sequences_each * down))
    if groups > teams or _registers(work, each) > min(255, REGISTERS // threads):
        return None
    depth = work.hidden * (work.gates if work.backward else 1)
    step = 4 * QUAD if work.tensor_cores else QUAD
    for chunks in (1,) if units >= work.hidden else (1, 2, 4, 8):
        chunk = -(-depth // chunks // step) * step
        parts = min(teams // groups, -(-chunk // step))
        tile = Tile(
            work.hidden,
            work.gates,
            work.backward,
            units,
            sequences,
            threads,
            rows_each,
            sequences_each,
            parts,
            chunk,
            work.tensor_cores,
        )
        if tile.numbers_shared * work.real_bytes <= limits.shared_bytes:
            return tile
    return None


def _registers(work: Work, each: tuple[int, int]) -> int:
    """Return how many registers a thread is likely to need."""
    rows, sequences = each
    words = work.real_bytes // 4
    sums = 4 * rows + 4 * rows + 8 if work.tensor_cores else rows * sequences + QUAD * sum(each)
    return 40 + 12 * words + words * sums


def _cycles(tile: Tile, real_bytes: int) -> float:
    """Return an estimate of the clock cycles of a step of a block."""
    words, multiply = real_bytes / 4, 0.0
    groups = tile.row_groups * tile.sequence_groups * tile.parts
    if tile.tensor_cores:
        steps = -(-tile.chunk // (16 * tile.parts)) * tile.chunks
        multiply = steps * groups * max(4 * tile.tile_rows, 8 + 4 * tile.tile_rows)
    else:
        steps = -(-tile.chunk // (QUAD * tile.parts)) * tile.chunks
        wide = min(WARP, tile.row_groups)
        # 32 banks: the rows that a warp reads, and the sequences, which most of it shares.
        reads = tile.tile_rows * max(1, wide // 8) + tile.tile_sequences * (WARP // wide)
        multiplies = tile.tile_rows * tile.tile_sequences
        multiply = steps * -(-groups // WARP) * max(multiplies, reads) * words
    parts = 2 * tile.parts * tile.sequences * tile.rows * words / WARP
    total = multiply + parts + CELL_CYCLES + 100 * tile.chunks
    if not tile.alone:
        bring = tile.sequences * tile.depth * words / WARP * 2
        total += bring + LATENCY_CYCLES + BARRIER_CYCLES
    return total
