"""The arrays of a time loop on a device: all are made before the loop begins."""

from typing import Any

from xprnn.backend import library_of
from xprnn.backend.kernels import Kernels
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.loop.program import BOOL, Program
from xprnn.engine.loop.protocol import Recurrent, Trajectory
from xprnn.engine.loop.results import saved_places


class Maker:
    """Makes arrays of the dtype of another one, on its device."""

    def __init__(self, a: Array) -> None:
        library = library_of(a)
        self.xp, self.dtype, self.device = library.namespace(), a.dtype, library.device_of(a)

    def empty(self, *shape: int, dtype: Any = None) -> Array:
        return self.xp.empty(shape, dtype=dtype or self.dtype, device=self.device)

    def zeros(self, *shape: int, dtype: Any) -> Array:
        return self.xp.zeros(shape, dtype=dtype, device=self.device)

    @property
    def wide(self) -> Any:
        """The dtype of sums over many steps: 16 bits are too coarse for them."""
        return self.xp.float64 if self.dtype == self.xp.float64 else self.xp.float32


def forward_arrays(
    device: Kernels,
    make: Maker,
    program: Program,
    u: Array,
    recurrent: Recurrent,
    state: Arrays,
    *,
    save: bool,
) -> tuple[Trajectory, dict[str, Array]]:
    """Return what a forward loop writes, and by name all that a kernel takes except its scratch.

    Parameters
    ----------
    program : Program
        The forward formula, with what it saves.
    """
    _, units, _, mask, valid = recurrent
    steps, batch, _ = u.shape
    hidden = recurrent.U.shape[1]
    states = tuple(make.empty(steps + 1, batch, hidden) for _ in state)
    for whole, first in zip(states, state, strict=True):
        whole[0, ...] = first
    given = {"u": u, "mask": mask, "valid": valid}
    given |= {f"unit{k}": unit for k, unit in enumerate(units)}
    arrays = {k: device.contiguous(a) for k, a in given.items() if a is not None}
    arrays |= {f"states{k}": whole for k, whole in enumerate(states)}
    saved: list[Array] = []
    for where, k in saved_places(program) if save else ():
        if where == "before":
            saved.append(states[k][:-1, ...])
        elif where == "after":
            saved.append(states[k][1:, ...])
        elif k < len(saved):
            saved.append(saved[k])
        else:
            kind = program.nodes[program.outputs["saved"][k] or 0].kind
            dtype = make.xp.bool if kind == BOOL else u.dtype
            saved.append(make.empty(steps, batch, hidden, dtype=dtype))
            arrays[f"saved{k}"] = saved[k]
    return Trajectory(states, tuple(saved)), arrays


def backward_arrays(
    device: Kernels,
    make: Maker,
    names: tuple[str, ...],
    gates: int,
    recurrent: Recurrent,
    trajectory: Trajectory,
    dh: Array | None,
    d_state: Arrays,
) -> dict[str, Array]:
    """Return by name all that a kernel takes except its scratch: results are ``dv``, ``du``,
    ``carry0`` and so on, which hold the gradient of the final state, and ``total0`` and so on,
    which are zero.

    Parameters
    ----------
    names : tuple of str
        What the kernel takes.
    gates : int
        G.
    """
    U, units, _, mask, valid = recurrent
    states, saved, _ = trajectory
    rows, hidden = U.shape
    steps, batch = states[0].shape[0] - 1, states[0].shape[1]
    given = {"dh": dh, "mask": mask, "valid": valid}
    for name, group in (("unit", units), ("states", states), ("saved", saved)):
        given |= {f"{name}{k}": a for k, a in enumerate(group)}
    arrays = {k: device.contiguous(a) for k, a in given.items() if k in names and a is not None}
    for k, last in enumerate(d_state):
        arrays[f"carry{k}"] = make.empty(batch, hidden)
        arrays[f"carry{k}"][...] = last
    for k in range(len(units)):
        arrays[f"total{k}"] = make.zeros(batch, hidden, dtype=make.wide)
    arrays["dv"] = make.empty(steps, batch, rows)
    arrays["du"] = make.empty(steps, batch, gates * hidden) if "du" in names else arrays["dv"]
    return arrays


def unit_gradients(make: Maker, arrays: dict[str, Array], units: Arrays) -> Arrays:
    """Return the gradients of the per-unit parameters: (11), over the sequences."""
    return tuple(summed(make, arrays[f"total{k}"]) for k in range(len(units)))


def summed(make: Maker, total: Array) -> Array:
    """Return a parameter's gradient from its sums over the steps, one for each sequence."""
    return make.xp.astype(make.xp.sum(total, axis=0), make.dtype, copy=False)
