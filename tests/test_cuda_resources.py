"""Persistent CUDA kernels compile for every architecture, and have room on it."""

import pytest

from tests.cuda_cells import each_with_a_product
from tests.cuda_tiles import FULL
from tests.nvrtc import compile_cuda
from tests.ptxas import assembler, resources
from tests.test_cuda_source import has_compiler
from xprnn.backend.kernels import Limits
from xprnn.cells import GRU, LSTM, Elman
from xprnn.engine.loop.cuda.cell import Variant
from xprnn.engine.loop.cuda.persistent.loops import PersistentLoops
from xprnn.engine.loop.cuda.persistent.plan import REGISTERS, Plan, Work, plan, slower
from xprnn.engine.loop.trace import trace

# A T4, an A100, a GeForce 3090, an H200 and a B200: from "Technical specifications per compute
# capability" of the CUDA programming guide.
DEVICES = {
    75: Limits(40, 65536, (7, 5)),
    80: Limits(108, 166912, (8, 0)),
    86: Limits(82, 101376, (8, 6)),
    90: Limits(132, 232448, (9, 0)),
    100: Limits(148, 232448, (10, 0)),
}

SIZES = ((64, 64), (256, 64), (512, 64), (1024, 16))
"""H and B."""

KINDS = ("float32", "float64", "float16", "bfloat16", "tf32")

has_assembler = pytest.mark.skipif(
    assembler() is None, reason="the package nvidia-cuda-nvcc is not installed"
)


def work(cell, kind, size, backward):
    real, cores = (8 if kind == "float64" else 4), kind in ("float16", "bfloat16", "tf32")
    return Work(size[0], cell.gates, size[1], real, backward, cores)


def planned(cell, kind, size, backward, capability):
    """Return a plan that is likely to be used, or None."""
    asked, limits = work(cell, kind, size, backward), DEVICES[capability]
    found = plan(asked, limits)
    return None if isinstance(found, str) or slower(asked, found, limits) else found


def source(cell, kind, found):
    loops = PersistentLoops(trace(cell))
    variant = Variant("float32" if kind == "tf32" else kind, True, True)
    if found.tile.backward:
        return loops.backward_source(variant, found.tile, outer=True)
    return loops.forward_source(variant, found.tile, save=True)


# Without FULL=1, some of each.
CASES = [
    (cell, kind, size, capability)
    for cell in (Elman(), GRU(), LSTM(), LSTM(peepholes=True))
    for kind in KINDS
    for size in SIZES
    for capability in DEVICES
]
SOME = [
    (LSTM(peepholes=True), "float32", (512, 64), 90),
    (LSTM(peepholes=True), "float64", (256, 64), 90),
    (LSTM(peepholes=True), "tf32", (512, 64), 80),
    (GRU(), "float16", (512, 64), 100),
    (LSTM(peepholes=True), "bfloat16", (512, 64), 90),
    (Elman(), "bfloat16", (64, 64), 75),
    (GRU(), "float32", (256, 64), 86),
    (Elman(), "float32", (1024, 16), 80),
    (LSTM(), "float32", (64, 64), 75),
]


@has_compiler
@has_assembler
@pytest.mark.slow
@pytest.mark.parametrize(
    "case", CASES if FULL else SOME, ids=lambda case: "-".join(map(str, case)).replace(" ", "")
)
def test_nothing_is_spilled_and_all_has_room(case):
    cell, kind, size, capability = case
    made = 0
    for backward in (False, True):
        found = planned(cell, kind, size, backward, capability)
        if found is None:
            continue
        made += 1
        ptx, log = compile_cuda(source(cell, kind, found).text, capability=capability, quick=False)
        assert log == ""
        (needed,) = resources(ptx, capability).values()
        assert needed.spilled == needed.stack == 0
        # They are given in units of 8.
        assert -(-needed.registers // 8) * 8 * found.tile.threads <= REGISTERS
        assert ("mma.sync" in ptx) == found.tile.tensor_cores
    assert made or FULL


@has_compiler
@pytest.mark.slow
@pytest.mark.parametrize("capability", DEVICES if FULL else [75, 100])
@each_with_a_product
def test_every_cell_compiles(cell, capability):
    for kind in KINDS if FULL else ("float32",):
        for size in ((64, 64), (256, 64)) if FULL else ((128, 64),):
            for backward in (False, True):
                found = plan(work(cell, kind, size, backward), DEVICES[capability])
                if not isinstance(found, str):
                    _, log = compile_cuda(source(cell, kind, found).text, capability=capability)
                    assert log == ""


@pytest.mark.parametrize("capability", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_plan_fits(kind, capability):
    limits, fitting = DEVICES[capability], 0
    for cell in (Elman(), GRU(), LSTM()):
        for size in (*SIZES, (1, 1), (33, 7), (200, 1), (512, 300), (4096, 64)):
            for backward in (False, True):
                asked = work(cell, kind, size, backward)
                found = plan(asked, limits)
                if isinstance(found, Plan):
                    fitting += 1
                    expect_room(found, asked, limits)
                else:
                    assert size[0] > 200
                    assert "don't fit into the shared memory" in found
    assert fitting > 20


def expect_room(found, asked, limits):
    tile = found.tile
    assert tile.numbers_shared * asked.real_bytes <= limits.shared_bytes
    assert tile.alone or tile.across * found.slices <= limits.multiprocessors
    assert found.turns * found.slices * tile.sequences >= asked.batch
    assert tile.units * tile.across >= asked.hidden
    assert tile.units * tile.sequences <= tile.threads <= 512
    teams = tile.row_groups * tile.sequence_groups * tile.parts
    assert teams * (32 if tile.tensor_cores else 1) <= tile.threads
    rows_each = tile.tile_rows * (8 if tile.tensor_cores else 1)
    assert tile.row_groups * rows_each == tile.rows
    each = tile.tile_sequences * (16 if tile.tensor_cores else 1)
    assert tile.sequence_groups * each == tile.sequences
    assert tile.chunk * tile.chunks >= tile.depth
    assert not tile.tensor_cores or limits.capability >= (8, 0)


def test_what_is_chosen():
    """Small networks in blocks that wait for nobody; large ones not at all."""
    limits = DEVICES[90]
    small = plan(work(LSTM(), "float32", (32, 16), False), limits)
    assert small.tile.alone
    assert small.turns == 1
    large = plan(work(LSTM(), "float32", (512, 64), False), limits)
    assert not large.tile.alone
    assert (large.turns, large.slices * large.tile.across) == (1, 128)
    assert plan(work(LSTM(), "tf32", (512, 64), False), limits).tile.tensor_cores
    assert not plan(
        work(LSTM(), "tf32", (512, 64), False),
        DEVICES[75]._replace(shared_bytes=232448, multiprocessors=132),
    ).tile.tensor_cores
    wide = work(LSTM(), "float32", (1024, 64), True)
    assert plan(wide, limits).turns > 1
    assert "a step of single kernels" in slower(wide, plan(wide, limits), limits)
