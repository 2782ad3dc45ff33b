"""The kernels that know no cells compile for a device, with CuPy's options, without a warning."""

import sys

import pytest

from tests.cuda_cells import DTYPES, HALVES
from tests.nvrtc import compile_cuda
from tests.optimizers import RULES
from xprnn import get_backend
from xprnn.backend.cuda import losses, norm, questions, rows
from xprnn.engine.loop.cuda import normalize
from xprnn.optim import fused
from xprnn.optim.descent import Context
from xprnn.optim.recipes import recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform == "darwin", reason="NVIDIA's compiler is not made for this system"
    ),
]


def joined(texts):
    """Return one text of several kernels, each in a namespace of its own."""
    return "".join(
        f"namespace n{k} {{ {text.replace('__global__ void xprnn', f'__global__ void k{k}')} }}\n"
        for k, text in enumerate(texts)
    )


def texts_of(dtype):
    yield questions.OUT_OF_RANGE_TEXT
    yield questions.not_finite_text(dtype, 3)
    yield from (questions.note_text(dtype, counts) for counts in ("", "int", "long long"))
    yield norm.squares_text(dtype, 2)
    yield norm.limit_text(dtype)
    yield norm.scale_text(dtype, 8)
    for masked in (False, True):
        yield losses.softmax_text(dtype, masked=masked)
        yield losses.softmax_gradient_text(dtype, masked=masked)
        yield losses.squares_text(dtype, masked=masked)
        yield losses.squares_gradient_text(dtype, masked=masked)
    yield losses.total_text(dtype)
    yield from (normalize.forward_text(dtype, save=save) for save in (False, True))
    yield normalize.backward_text(dtype)
    yield rows.RUNS_TEXT
    yield rows.sums_text(dtype)
    yield from (rows.scatter_text(dtype, add=add) for add in (False, True))


def updates(dtype):
    """Yield the kernel of every rule, dense and sparse gradients together."""
    be = get_backend("torch" if dtype == "bfloat16" else "numpy", dtype=dtype)
    for row in RULES:
        rule, p = row.ours, {"w": be.asarray([[1.0, 2.0]])}
        state = rule.init(p)
        if hasattr(rule, "formula"):
            formula = rule.formula(state, Context(0.25, in_place=False))
            memories = [getattr(state, name).get("w") for name in rule.memories]
        else:
            formula, memories = rule._formula, [state.step["w"], state.sign["w"]]
        present = tuple(a is not None for a in (p, *memories))
        made = recipe(formula, present, be.xp, dtype)
        form = fused._Form(dtype, made.nodes, made.results, (False, True), keeps=True)
        yield fused._text(form)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kernel_compiles(dtype):
    everything = [*texts_of(dtype), *dict.fromkeys(updates(dtype))]
    ptx, log = compile_cuda(joined(everything), machine_code=True)
    assert log == ""
    assert ptx.count(".entry ") == len(everything)


@pytest.mark.parametrize("capability", [75, 80, 86, 100])
def test_normalisation_compiles_for_other_devices(capability):
    for dtype in DTYPES:
        texts = [normalize.forward_text(dtype, save=save) for save in (False, True)]
        texts.append(normalize.backward_text(dtype))
        ptx, log = compile_cuda(joined(texts), capability=capability)
        assert log == ""
        assert ptx.count(".entry ") == 3


@pytest.mark.parametrize("dtype", [*HALVES, "float32"])
def test_updates_and_gradients_compute_without_doubles(dtype):
    """Functions of doubles are slow on many devices; a factor that is read in double is not."""
    slow = [losses.softmax_gradient_text(dtype, masked=True), *dict.fromkeys(updates(dtype))]
    slow += [normalize.forward_text(dtype, save=True), normalize.backward_text(dtype)]
    ptx, _ = compile_cuda(joined(slow))
    for operation in ("add.f64", "mul.f64", "fma.rn.f64", "div.rn.f64", "sqrt.rn.f64"):
        assert operation not in ptx
