"""The cells that the tests lower to CUDA, and all kernels of a cell."""

import importlib.util
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.cases import CELLS
from tests.odd_cells import ODD_CELLS
from tests.time_loops import COMPILED
from xprnn.cells import GRU, LSTM, second_product
from xprnn.engine.loop.cuda.cell import reads_product
from xprnn.engine.loop.cuda.loops import CuPyLoops
from xprnn.engine.loop.cuda.source import KernelSource, Variant
from xprnn.engine.loop.trace import trace

EXAMPLE = Path(__file__).parents[1] / "examples" / "bring_your_own_cell.py"


def _example() -> object:
    spec = importlib.util.spec_from_file_location("bring_your_own_cell", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Leaky()


# Normalisation belongs to the engine: a cell with it has the same formula as without.
TRACED = {
    case.id: case.cell
    for case in CELLS
    if not getattr(case.cell, "layer_norm", False) and not second_product(case.cell)
}
TRACED |= {type(cell).__name__: cell for cell in ODD_CELLS} | {"example": _example()}
"""By their names in the tests."""


def each(cells: dict[str, object]) -> pytest.MarkDecorator:
    """Return the mark of a test for each of these cells.

    Each is compiled: without FULL=1 these are the cells that the tests of Numba take.
    """
    return pytest.mark.parametrize(
        "cell",
        [
            pytest.param(cell, id=name, marks=[pytest.mark.full] * (cell not in COMPILED.values()))
            for name, cell in cells.items()
        ],
    )


each_traced = each(TRACED)
each_with_a_product = each(
    {name: cell for name, cell in TRACED.items() if reads_product(trace(cell).backward)}
)
"""Persistent kernels are for these: the others need no product, and so no block that waits."""


@dataclass(frozen=True)
class NormalizedGRU(GRU):
    """The gradients of u and of v differ already before the normalisation."""

    layer_norm: bool = True


NORMALIZED = (LSTM(peepholes=True, layer_norm=True), NormalizedGRU())

# NumPy has bfloat16 where ml_dtypes is installed, which a machine with a device may lack.
try:
    import ml_dtypes

    HALVES = ("float16", np.dtype(ml_dtypes.bfloat16).name)
except ImportError:
    HALVES = ("float16",)
DTYPES = (*HALVES, "float32", "float64")
VARIANTS = tuple(
    Variant(dtype, *options)
    for dtype in DTYPES
    for options in itertools.product((False, True), repeat=2)
)


def whole_loops(loops: CuPyLoops) -> tuple[bool, bool]:
    """Return whether all steps are one launch, forwards and backwards."""
    return (
        not loops.formulas.forward.inputs("v"),
        not reads_product(loops.formulas.backward),
    )


def kernels(cell: object, variants: tuple[Variant, ...] = VARIANTS) -> list[KernelSource]:
    """Return every kernel of a cell: with and without a tape, with and without a dh."""
    loops = CuPyLoops(trace(cell))
    forward, backward = whole_loops(loops)
    made = [
        kernel
        for variant in variants
        for other in (False, True)
        for kernel in (
            loops.forward_kernel(variant, save=other, whole=forward),
            loops.backward_kernel(variant, outer=other, whole=backward),
        )
    ]
    return list({kernel.text: kernel for kernel in made}.values())
