"""``xprnn apply`` with arrays: any network, whatever it was trained on."""

import argparse
import io
from pathlib import Path

from xprnn.backend.host.arrays import np
from xprnn.backend.host.files import write_atomic
from xprnn.cli.apply_series import finite
from xprnn.cli.arrays import read_arrays
from xprnn.cli.common import of_model, results_folder, say_written
from xprnn.engine.network import RNN

OUTPUT = "output.npz"


def apply_arrays(args: argparse.Namespace, net: RNN) -> int:
    """Apply a network to the array x of a file; write its output and its final state."""
    path: Path = args.file
    names = [f"state_{name}" for name in net.cell.state]
    given = read_arrays(path, ("x",), names)
    missing = [name for name in names if name not in given.others]
    if given.others and missing:
        raise ValueError(
            f"{str(path)!r}: it has {', '.join(given.others)}, but no {missing[0]}: expected all "
            "state variables or none"
        )
    backend = net.backend
    # Whole numbers are tokens only where they have no axis of inputs.
    tokens = given.x.ndim == 2 and given.x.dtype.kind in "iu"
    x = backend.asarray(given.x, dtype=None if tokens else backend.dtype)
    state = None
    if given.others:
        state = tuple(backend.asarray(given.others[name], dtype=backend.dtype) for name in names)
    output, final = net(x, state, given.lengths, mask=given.mask)
    arrays = {"output": backend.to_numpy(output)}
    for name, part in zip(net.cell.state, final, strict=True):
        arrays[f"final_{name}"] = backend.to_numpy(part)
    with of_model(args.model):
        for array in arrays.values():
            finite(array.reshape(-1))
    folder = results_folder(args.out, "apply")
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    write_atomic(folder / OUTPUT, content.getvalue())
    steps, batch = given.x.shape[:2]
    counted = f"{batch} sequence{'s' * (batch != 1)} of {steps} step{'s' * (steps != 1)}"
    print(f"applied to {counted} in {path}")
    say_written(folder, {OUTPUT: ", ".join(f"{n} {a.shape}" for n, a in arrays.items())})
    return 0
