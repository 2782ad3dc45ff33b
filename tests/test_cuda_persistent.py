"""Persistent CUDA kernels on the host: all threads of all blocks, under several schedules.

Not seen here: the device's caches and the order in which its memory shows writes.  That reads of
what other blocks write go past the nearest cache, and that fences stand where they must, is looked
up in the assembly.
"""

import itertools
import re

import numpy as np
import pytest

from tests import cuda_host, device_arrays
from tests.cuda_cells import HALVES, VARIANTS, each_with_a_product
from tests.cuda_fibres import SCHEDULES, KernelError
from tests.cuda_problem import Device, problem
from tests.cuda_tiles import BATCH, FULL, HIDDEN, STEPS, ready, schedule, sources, tiles
from tests.device_arrays import NAMES, on_device
from tests.nvrtc import compile_cuda
from tests.odd_cells import Branching, Patchwork
from tests.test_cuda_source import has_compiler
from xprnn import cuda_loop, get_backend
from xprnn.backend.registry import LIBRARIES
from xprnn.cells import LSTM, SLSTM, Elman
from xprnn.engine.loop.cuda.cell import Variant
from xprnn.engine.loop.loop import run_forward

pytestmark = pytest.mark.slow

runs_on_the_host = pytest.mark.skipif(cuda_host.COMPILER is None, reason="there is no C++ compiler")

FULLEST = Variant("float64", True, True)
CELL = LSTM(peepholes=True)


@pytest.fixture
def device():
    with device_arrays.device_arrays(), cuda_loop("persistent"):
        yield Device(on_device, slack=0.2)


def given(cell=CELL, variant=FULLEST):
    return problem(cell, variant, STEPS, BATCH, HIDDEN)


def results(device, cell, p):
    """Return all that both passes write, as bytes."""
    there, back = device.lowered(cell, p, p.dh)
    arrays = (*there.states, *there.saved, back.du, back.da, *back.units, *back.state)
    # Past the end of a sequence nobody reads what was saved.
    return b"".join(np.array(a.view(np.ndarray)).tobytes() for a in arrays)


@runs_on_the_host
@each_with_a_product
def test_the_plain_loop_and_the_same_bits_under_every_schedule(cell, device):
    kinds, variants = ("shared", "alone"), VARIANTS if FULL else (FULLEST,)
    made = [kernel for v in variants for kind in kinds for kernel in sources(cell, v, kind)]
    with ready(list({kernel.text: None for kernel in made})):
        for variant, kind in itertools.product(variants, kinds):
            p, found = given(cell, variant), set()
            device.slack = 0.2 if variant.dtype == "float64" else 1.0
            if variant.dtype == "bfloat16" and isinstance(cell, SLSTM):
                # Its exponentials multiply what is rounded: in float16 the plain loop itself is off
                # by 0.022 of float64's, these kernels by 0.023, and bfloat16 has three bits less.
                device.slack = 4.0
            # Their h jumps where a number is 2, and 16 bits don't always say on which side it is.
            jumps = variant.dtype in HALVES and isinstance(cell, Branching | Patchwork)
            with tiles(kind):
                if not jumps:
                    device.compare(cell, p, p.dh)
                for name in SCHEDULES:
                    with schedule(name):
                        found.add(results(device, cell, p))
            assert len(found) == 1


@runs_on_the_host
def test_without_a_tape_and_without_an_outer_gradient(device):
    with tiles("shared"):
        p = given(Elman())
        device.compare(Elman(), p, None)
        device.compare(Elman(), p, None, save=False)


@runs_on_the_host
@pytest.mark.parametrize("dtype", ["float32", *HALVES])
def test_tensor_cores(dtype, device):
    """They multiply what is rounded to TF32, which every number of 16 bits is already."""
    variant = Variant(dtype, True, True)
    texts = [kernel.text for kernel in sources(CELL, variant, "cores", 20)]
    p, found = problem(CELL, variant, STEPS, BATCH, 20), set()
    with ready(texts), tiles("cores"):
        for name in SCHEDULES:
            with schedule(name):
                found.add(results(device, CELL, p))
        assert len(found) == 1
        device.slack = 1.0 if dtype in HALVES else 500
        device.compare(CELL, p, p.dh)
        if dtype in HALVES:
            return
        device.slack = 1.0
        with pytest.raises(AssertionError):
            device.compare(CELL, p, p.dh)
        # With factors that are in TF32, nothing is rounded in the first step's product.
        short = problem(CELL, Variant(dtype), 1, BATCH, 20)
        short.state = tuple(map(tf32, short.state))
        short.recurrent = short.recurrent._replace(U=tf32(short.recurrent.U))
        device.compare(CELL, short, short.dh, save=False)


def tf32(a):
    return ((a.view(np.uint32) + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)


@runs_on_the_host
def test_slices_in_turn_are_the_same_bits(device):
    texts = [kernel.text for kernel in sources(CELL, FULLEST, "shared")]
    found = []
    with ready(texts):
        for slices, launches in ((2, 2), (1, 4)):
            with tiles("shared", slices=slices):
                NAMES.clear()
                found.append(results(device, CELL, given()))
                assert NAMES["together"] == launches
    assert found[0] == found[1]


# What may go wrong, and each time one of the results or the end of the kernel must show it.

WHERE = {
    "no waiting": (
        "while ((seen = *(volatile unsigned*)count) < (unsigned)target)",
        "while (false)",
    ),
    "a forward step late": ("missed(count, t * ACROSS", "missed(count, (t - 1) * ACROSS"),
    "a backward step late": ("(T - from) * ACROSS", "(T - from - 1) * ACROSS"),
    "nobody waits for thread 0": ("return __syncthreads_or(given_up);", "return given_up;"),
    "arriving before all have written": (
        "arrive(unsigned* count) {\n    __syncthreads();",
        "arrive(unsigned* count) {",
    ),
    "the state before": ("fresh(states0, from * n", "fresh(states0, (from ? from - 1 : 0) * n"),
    "the gradient after": ("fresh(dv, from *", "fresh(dv, (from + 1 < T ? from + 1 : from) *"),
    "the next unit": ("* UNITS + r)", "* UNITS + (r + 1) % UNITS)"),
    "the next unit, backward": (
        "product = summed(parts, s, r)",
        "product = summed(parts, s, (r + 1) % UNITS)",
    ),
    "the next sequence": (
        "X[row * SEQUENCE_STRIDE + c] = b0 + row < B",
        "X[(row + 1) % SEQUENCES * SEQUENCE_STRIDE + c] = b0 + row < B",
    ),
    "the next row of U": ("unit = j0 + row % UNITS", "unit = j0 + (row + 1) % UNITS"),
    "the next column of U": ("* H + j0 + row))", "* H + j0 + (row + 1 < H - j0 ? row + 1 : 0)))"),
    "a chunk twice": ("add_products(sums, W + start, X)", "add_products(sums, W, X)"),
    "a part forgotten": ("part = 1; part < PARTS", "part = 2; part < PARTS"),
    "no mask of U's input": (" * load(mask, (b0 + row) * H + k)", ""),
    "no mask of the gradient": ("(product * load(mask, i))", "(product)"),
    "no mask of the first gradient": ("summed(parts, s, r) * load(mask, i)", "summed(parts, s, r)"),
    "no ends of sequences": ("inside ?", "true ?"),
    "no held state": ("carried0 + summed", "summed"),
    "what a thread does not own": ("if (own) ", ""),
}
"""What may go wrong: by its name, a text and what takes its place."""

NOT_ALONE = {
    "no waiting",
    "a forward step late",
    "a backward step late",
    "nobody waits for thread 0",
    "arriving before all have written",
    "the state before",
    "the gradient after",
    "a chunk twice",
}
"""What a block that has all units does not have."""


def mutated(text, kind):
    """Yield mutations of a kernel, with their names."""
    for name, (right, wrong) in WHERE.items():
        if right in text and not (kind == "alone" and name in NOT_ALONE):
            yield name, text.replace(right, wrong)
    body = text.index('extern "C"')
    for number, found in enumerate(re.finditer(r"__syncthreads\(\);", text)):
        if found.start() > body:
            yield f"meeting {number}", text[: found.start()] + ";" + text[found.end() :]


@runs_on_the_host
@pytest.mark.parametrize("kind", ["shared", "alone"])
def test_every_mutation_is_found(kind, device):
    p, unseen, tried = given(), [], set()
    texts = [kernel.text for kernel in sources(CELL, FULLEST, kind)]
    wrong = [(way, *found) for way, text in enumerate(texts) for found in mutated(text, kind)]
    runs = [text for _, _, text in wrong]
    with tiles(kind), ready(texts):
        right = results(device, CELL, p)
    with tiles(kind), ready([*texts, *runs]) as kernels:
        for way, name, text in wrong:
            tried.add(name)
            kept = dict(kernels)
            kernels[texts[way]] = kernels[text]
            if not any(differs(device, p, right, order) for order in SCHEDULES):
                unseen.append(name)
            kernels.update(kept)
    assert unseen == []
    expected = set(WHERE) - (NOT_ALONE if kind == "alone" else set())
    assert {name for name in tried if not name.startswith("meeting")} == expected
    assert len(tried) - len(expected) >= 3


def differs(device, p, right, order):
    try:
        with schedule(order):
            return results(device, CELL, p) != right
    except KernelError:
        return True


@runs_on_the_host
def test_a_block_that_does_not_come(device):
    """Without a clock that is a deadlock, and with one an error that names the kernel."""
    p = given()
    texts = [kernel.text for kernel in sources(CELL, FULLEST, "shared")]
    absent = "if (blockIdx.y != 1) atomicAdd(count, 1u);"
    runs = [text.replace("atomicAdd(count, 1u);", absent) for text in texts]
    assert runs != texts
    with tiles("shared"), ready(texts, runs):
        with pytest.raises(KernelError, match="deadlock"):
            forward(p)
        with schedule("in order", clock_step=1 << 30, patience=1 << 10):
            states = forward(p).states[0]
        assert np.isfinite(states.view(np.ndarray)[1]).all()
        assert np.isnan(states.view(np.ndarray)[2:]).all()
        with pytest.raises(RuntimeError, match=r"xprnn_forward_all \(G = 4, H = 10, B = 7\) has"):
            forward(p)
        # It is said once.
        with schedule("in order", clock_step=1 << 30, patience=1 << 10):
            states = forward(p).states[0]
        library = LIBRARIES["cupy"]
        with pytest.raises(RuntimeError, match="XPRNN_CUDA_LOOP=step does without"):
            library.to_host(states)
        library.to_host(states)


def forward(p):
    """Return what the forward pass writes, with a tape."""
    u, recurrent, state = on_device((p.u, p.recurrent, p.state))
    backend = get_backend("cupy", dtype="float64")
    return run_forward(backend, CELL, u, recurrent, state, save=True)


@has_compiler
@pytest.mark.parametrize("kind", ["shared", "cores"])
def test_what_others_write_is_read_past_the_nearest_cache_and_behind_fences(kind):
    for kernel in sources(Elman(), Variant("float32"), kind):
        ptx, log = compile_cuda(kernel.text, quick=False)
        assert log == ""
        assert "ld.global.cg.f32" in ptx
        assert "ld.volatile.global.u32" in ptx
        # Before a block counts itself, after it has seen the others, and before the fault is said.
        assert len(re.findall(r"membar\.gl|fence\.(?:acq_rel|sc)\.gpu", ptx)) >= 2
        assert len(re.findall(r"membar\.sys|fence\.(?:acq_rel|sc)\.sys", ptx)) >= 1
