"""One LSTM layer of a few steps on the device against NumPy, forward and backward."""

import sys
import time

import numpy as np

from ci.gpu.record import Record
from ci.gpu.run import NO_DEVICE
from xprnn import RNN, explain_lowering
from xprnn.backend import probe

LIMIT = 1e-5
"""In float32, relative to the largest entry of an array."""


def main() -> str | None:
    """Compare; return what is wrong, if anything is."""
    record = Record("smoke", explain=explain_lowering("lstm", "cupy"))
    print(record.facts["explain"])
    rng, wrong = np.random.default_rng(0), []
    for hidden, batch, steps in ((8, 2, 2), (64, 4, 10)):
        x, dy = (rng.standard_normal((steps, batch, hidden), dtype="float32") for _ in range(2))
        found = {}
        started = time.perf_counter()
        for name in ("numpy", "cupy"):
            net = RNN(hidden, hidden, cell="lstm", backend=name, rng=0)
            run = net.forward(net.backend.asarray(x))
            gradient = net.backward(run, net.backend.asarray(dy))
            arrays = {"output": run.output, "x": gradient.input, **gradient.parameters}
            found[name] = {k: net.backend.to_numpy(a) for k, a in arrays.items()}
        seconds = time.perf_counter() - started
        for name, want in found["numpy"].items():
            error = float(np.max(np.abs(found["cupy"][name] - want)) / np.max(np.abs(want)))
            # Not ``error > LIMIT``, which NaN passes.
            if not error <= LIMIT:
                wrong.append(f"{name} at H = {hidden} by {error:.2g}")
            record.add(hidden=hidden, batch=batch, steps=steps, array=name, error=error)
        record.note(seconds=round(seconds, 2))
    return record.finish(f"differs from NumPy: {', '.join(wrong)}" if wrong else "")


if __name__ == "__main__":
    usable = probe("cupy")
    if not usable.usable:
        print(usable.reason, file=sys.stderr)
        sys.exit(NO_DEVICE)
    sys.exit(main())
