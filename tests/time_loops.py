"""Random arguments of time loops for any cell, and the comparison with the plain loop."""

from dataclasses import dataclass

import numpy as np

from tests.cases import CELLS, row_of
from tests.closeness import assert_close
from tests.odd_cells import ODD_CELLS, Deaf, Holding, Patchwork
from xprnn import get_backend
from xprnn.cells import LSTM, Elman, has_layer_norm, recurrent_blocks, unit_names
from xprnn.engine.loop import lowering
from xprnn.engine.loop.loop import run_backward as chosen_backward
from xprnn.engine.loop.loop import run_forward as chosen_forward
from xprnn.engine.loop.plain import PlainLoops
from xprnn.engine.loop.protocol import Recurrent, Work

TOLERANCE = {"float64": 1e-13, "float32": 3e-6, "float16": 3e-2}


def named(*cells):
    return {f"{cell}".replace(" ", ""): cell for cell in cells}


# Normalisation belongs to the engine: an LSTM with it has the same formulas as one without.
EVERY = named(
    *(row.cell for row in CELLS if not (isinstance(row.cell, LSTM) and has_layer_norm(row.cell))),
    *ODD_CELLS,
)
"""Every formula."""

COMPILED = named(
    *(row_of(name).cell for name in ("elman-tanh", "gru", "lstm-peepholes")),
    Elman("relu"),
    Patchwork(),
    Holding(),
    Deaf(),
)
"""The formulas that are worth a compilation, which takes a second and more, without FULL=1."""


@dataclass
class Problem:
    """Arguments of a time loop, nothing in them zero.

    Attributes
    ----------
    lengths : sequence of int, or None
        Of the sequences, (B,).
    tolerance : float, or None
        Relative to the largest entry; None for that of the dtype.
    """

    cell: object
    steps: int = 5
    batch: int = 3
    hidden: int = 4
    dtype: str = "float64"
    masked: bool = False
    seed: int = 0
    prepare: object = staticmethod(lambda a: a)
    lengths: object = None
    tolerance: float | None = None

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        T, B, H, G = self.steps, self.batch, self.hidden, self.cell.gates

        def draw(*shape):
            return self.prepare(rng.normal(size=shape).astype(self.dtype))

        self.backend = get_backend("numpy", dtype=self.dtype)
        rows = recurrent_blocks(self.cell) * H
        self.u, U = draw(T, B, G * H), draw(rows, H) / np.asarray(2 * H**0.5, self.dtype)
        units = tuple(draw(H) for _ in unit_names(self.cell))
        mask = draw(B, H) if self.masked else None
        self.valid = None
        if self.lengths is not None:
            self.valid = np.arange(T)[:, None, None] < np.asarray(self.lengths)[:, None]
        self.recurrent = Recurrent(self.prepare(U), units, None, mask, self.valid)
        self.state, self.d_state = (tuple(draw(B, H) for _ in self.cell.state) for _ in range(2))
        self.dh = draw(T, B, H)

    def work(self, direction="forward"):
        """Return what is asked of a lowering."""
        return Work(direction, self.dtype, self.steps, self.batch, self.valid is not None)

    def plain(self, dh=None, save=True):
        """Return what the reference finds."""
        return self.passes(PlainLoops(self.backend.xp, self.cell), dh, save)

    def passes(self, loops, dh=None, save=True):
        """Return what some loops find, forward and backward."""
        there = loops.forward(self.u, self.recurrent, self.state, save=save)
        if not save:
            return there, None
        return there, loops.backward(self.recurrent, there, dh, self.d_state)

    def chosen(self, dh=None, save=True):
        """Return what the library finds."""
        there = chosen_forward(
            self.backend, self.cell, self.u, self.recurrent, self.state, save=save
        )
        if not save:
            return there, None
        return there, chosen_backward(
            self.backend, self.cell, self.recurrent, there, dh, self.d_state
        )

    def compare(self, dh=None, save=True):
        """Hold one to the other."""
        for direction in ("forward", "backward"):
            assert lowering.lowering_for(self.backend, self.cell, self.work(direction)) is not None
        self.compare_passes(self.chosen(dh, save), self.plain(dh, save))

    def compare_passes(self, got, want):
        """Hold the results of two forward passes, and of the backward passes if there are any."""
        (there, back), (want_there, want_back) = got, want
        self.compare_arrays("states", there.states, want_there.states)
        # Beyond a sequence's end nobody reads what was saved.
        saved, want_saved = map(self.within, (there.saved, want_there.saved))
        self.compare_arrays("saved", saved, want_saved)
        if want_back is not None:
            self.compare_arrays("units", back.units, want_back.units)
            self.compare_arrays("state", back.state, want_back.state)
            self.compare_arrays("du, da", back[:2], want_back[:2])
            assert back.du is back.da or want_back.du is not want_back.da

    def within(self, arrays):
        """Return the entries of arrays, (T, B, ...) each, within the sequences."""
        if self.valid is None:
            return arrays
        return tuple(a[self.valid[:, :, 0]] for a in arrays)

    def compare_arrays(self, name, got, want):
        assert len(got) == len(want)
        tolerance = TOLERANCE[self.dtype] if self.tolerance is None else self.tolerance
        for k, (a, b) in enumerate(zip(got, want, strict=True)):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            if not a.size:
                continue
            # assert_close takes differences, which truth values don't have.
            pair = (np.asarray(c, self.dtype) if c.dtype == bool else c for c in (a, b))
            assert_close(*pair, tolerance, f"{name}[{k}]", floor=tolerance)


def read_only(a):
    a.flags.writeable = False
    return a


def strided(a):
    wide = np.full([2 * n for n in a.shape], np.nan, a.dtype)
    wide[tuple(slice(None, None, 2) for _ in a.shape)] = a
    return wide[tuple(slice(None, None, 2) for _ in a.shape)]


def reversed_in_memory(a):
    return np.asfortranarray(a[::-1])[::-1]


def misaligned(a):
    """Return a copy that starts in the middle of a number."""
    room = np.empty(a.nbytes + a.itemsize, np.uint8)
    copy = room[a.itemsize // 2 :][: a.nbytes].view(a.dtype).reshape(a.shape)
    copy[...] = a
    return copy
