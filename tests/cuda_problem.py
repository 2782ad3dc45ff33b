"""Time loops on CuPy, or on its stand-in, against the plain loop on the host."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.closeness import assert_close
from tests.cuda_cells import HALVES, VARIANTS
from xprnn import get_backend
from xprnn.backend import dtype_name
from xprnn.backend.host.floats import host_float
from xprnn.cells import has_layer_norm, recurrent_blocks, unit_names
from xprnn.engine.loop.cuda.loops import CuPyLoops
from xprnn.engine.loop.cuda.source import Variant
from xprnn.engine.loop.explaining import explain_lowering
from xprnn.engine.loop.loop import run_backward as chosen_backward
from xprnn.engine.loop.loop import run_forward as chosen_forward
from xprnn.engine.loop.plain import PlainLoops
from xprnn.engine.loop.protocol import Recurrent
from xprnn.engine.loop.trace import trace
from xprnn.testing.gradients.lowering import compare_lowering

TOLERANCE = {"float64": 1e-13, "float32": 3e-6, "float16": 3e-2, "bfloat16": 6e-2}
LENGTHS = (5, 0, 3)

# Every variant in float64; in the other dtypes those with both masks, and with neither.
CHOSEN = tuple(v for v in VARIANTS if v.dtype == "float64" or v.masked == v.lengths)
CHOSEN = tuple(v for v in CHOSEN if v.dtype not in HALVES or v.masked)

SHAPES = [(1, 1, 1), (1, 3, 4), (40, 1, 3), (3, 2, 1), (2, 2, 130), (2, 70, 2), (9, 0, 4)]


def problem(cell: Any, variant: Variant, steps: int = 5, batch: int = 3, hidden: int = 4) -> Any:
    """Return arguments of a time loop, host arrays, nothing in them zero.

    With a gain if the cell has layer normalisation.
    """
    rng, rows = np.random.default_rng(0), recurrent_blocks(cell) * hidden

    def draw(*shape):
        return rng.normal(size=shape).astype(variant.dtype)

    states = [tuple(draw(batch, hidden) for _ in cell.state) for _ in range(2)]
    valid = np.arange(steps)[:, None, None] < np.resize(LENGTHS, batch)[:, None]
    rng_gain = np.random.default_rng(1)
    gain = rng_gain.normal(1, 0.5, cell.gates * hidden).astype(variant.dtype)
    return SimpleNamespace(
        u=draw(steps, batch, cell.gates * hidden),
        recurrent=Recurrent(
            draw(rows, hidden) / np.asarray(2 * hidden**0.5, variant.dtype),
            tuple(draw(hidden) for _ in unit_names(cell)),
            gain if has_layer_norm(cell) else None,
            draw(batch, hidden) if variant.masked else None,
            valid if variant.lengths else None,
        ),
        state=states[0],
        d_state=states[1],
        dh=draw(steps, batch, hidden),
        valid=valid,
    )


def plain(cell: Any, p: Any, dh: Any, *, save: bool = True) -> Any:
    """Return what the reference finds, for bfloat16 in float32."""
    if p.u.dtype.name == "bfloat16":
        p, dh = SimpleNamespace(**{k: widened(a) for k, a in vars(p).items()}), widened(dh)
    loops = PlainLoops(get_backend("numpy").xp, cell)
    there = loops.forward(p.u, p.recurrent, p.state, save=save)
    return there, loops.backward(p.recurrent, there, dh, p.d_state) if save else None


def widened(a: Any) -> Any:
    """Return an array of bfloat16, or several, in float32; all else stays."""
    if isinstance(a, tuple):
        made = map(widened, a)
        return type(a)(*made) if hasattr(a, "_fields") else tuple(made)
    return a if a is None or a.dtype == bool else a.astype("float32")


@dataclass
class Device:
    """Where the loops run.

    Attributes
    ----------
    put : callable
        Brings an array of the host there.
    slack : float
        How many times the tolerance: functions of another library have other last bits.
    """

    put: Callable[[Any], Any]
    slack: float = 1.0

    def there(self, a: Any) -> Any:
        """Bring an array, or several, or None."""
        if isinstance(a, tuple):
            made = map(self.there, a)
            return type(a)(*made) if hasattr(a, "_fields") else tuple(made)
        return None if a is None else self.put(a)

    def lowered(self, cell: Any, p: Any, dh: Any, *, save: bool = True) -> Any:
        """Return what the loops find."""
        backend = get_backend("cupy", dtype=p.u.dtype.name)
        assert "CUDA kernels, one " in explain_lowering(cell, backend)
        u, recurrent, state = (self.there(a) for a in (p.u, p.recurrent, p.state))
        there = chosen_forward(backend, cell, u, recurrent, state, save=save)
        if not save:
            return there, None
        dh, d_state = self.there(dh), self.there(p.d_state)
        return there, chosen_backward(backend, cell, recurrent, there, dh, d_state)

    def compare(self, cell: Any, p: Any, dh: Any, *, save: bool = True) -> None:
        """Hold the loops to the reference."""
        there, back = self.lowered(cell, p, dh, save=save)
        want_there, want_back = plain(cell, p, dh, save=save)
        pairs = {"states": (there.states, want_there.states)}
        pairs["saved"] = there.saved, want_there.saved
        pairs["normalized"] = there.normalized or (), want_there.normalized or ()
        if save:
            pairs["units"] = back.units, want_back.units
            pairs["state"] = back.state, want_back.state
            pairs["du, da"] = back[:2], want_back[:2]
            assert (back.gain is None) == (want_back.gain is None)
            if back.gain is not None:
                pairs["gain"] = (back.gain,), (want_back.gain,)
            assert back.du is back.da or want_back.du is not want_back.da
        dtype = p.u.dtype.name
        tolerance, to_host = TOLERANCE[dtype] * self.slack, get_backend("cupy").to_numpy
        for name, (got, want) in pairs.items():
            assert len(got) == len(want), name
            for k, (a, b) in enumerate(zip(got, want, strict=True)):
                assert host_float(dtype_name(a.dtype)) == b.dtype.name, f"{name}[{k}]"
                a, b = (np.asarray(c, "float64") for c in (to_host(a), b))  # noqa: PLW2901
                if name == "saved" and p.recurrent.valid is not None:
                    # Past the end nobody reads it, and only a saved state is held there.
                    a, b = (np.where(p.valid, c, 0) for c in (a, b))  # noqa: PLW2901
                assert_close(a, b, tolerance, f"{name}[{k}]", floor=tolerance)

    def compare_all(self, cell: Any) -> None:
        """Compare in all dtypes, with and without masks, lengths, outer gradients and a tape."""
        for variant in CHOSEN:
            p = problem(cell, variant)
            self.compare(cell, p, p.dh)
            self.compare(cell, p, None)
            self.compare(cell, p, None, save=False)
        for shape in SHAPES:
            p = problem(cell, Variant("float64", True, True), *shape)
            self.compare(cell, p, p.dh)
        backend = get_backend("cupy", dtype="float64")
        findings = compare_lowering(cell, CuPyLoops(trace(cell)), backend, np.random.default_rng(0))
        assert [f for f in findings if f.verdict == "wrong"] == []
