"""Two devices in one process: a network on each, trained in turn, and arrays that are mixed up."""

import importlib
import sys
from typing import Any

import numpy as np

from ci.gpu.record import TRIAL, Record, seconds_left
from ci.gpu.run import ONE_DEVICE
from xprnn import RNN, cuda_loop, fit
from xprnn.optim import Adam

DEVICES = ("cuda:0", "cuda:1")

LIMIT = 1e-10
"""In float64, after a few updates, on two devices of different kinds."""

T, B, H = (8, 2, 3) if TRIAL else (20, 16, 48)
ROUNDS = 1 if TRIAL else 3


def network(problem: str, device: str) -> tuple[RNN, tuple[Any, Any], str]:
    """Return a network on a device, a batch, and the name of the loss."""
    rng = np.random.default_rng(0)
    if problem == "tokens":
        net = RNN(9, H, 9, cell="gru", layers=2, embedding_size=4, backend="cupy", device=device,
                  dtype="float64", dropout=0.5, rng=0)  # fmt: skip
        x = net.backend.asarray(rng.integers(0, 9, (T, B)))
        return net, (x, x), "cross_entropy"
    net = RNN(3, H, 3, cell="lstm", backend="cupy", device=device, dtype="float64", rng=0)
    x = net.backend.asarray(rng.standard_normal((T, B, 3)))
    return net, (x, x), "squared_error"


def trained(problem: str, loop: str) -> dict[str, Any]:
    """Train a network on each device, an epoch here and an epoch there; return what was found."""
    cases = [network(problem, device) for device in DEVICES]
    losses: list[list[float]] = [[], []]
    with cuda_loop(loop):
        for _ in range(ROUNDS):
            for k, (net, batch, loss) in enumerate(cases):
                made = fit(net, [batch] * 2, loss=loss, optimizer="adam", clip_norm=1.0)
                losses[k] += made.loss
    nets = [net for net, _, _ in cases]
    here, there = ({k: net.backend.to_numpy(p) for k, p in net.parameters.items()} for net in nets)
    errors = [float(np.max(np.abs(there[k] - p)) / np.max(np.abs(p))) for k, p in here.items()]
    return {
        "problem": problem,
        "loop": loop,
        # Not max(), which may lose NaN.
        "error": float(np.max([*errors, *np.abs(np.subtract(*losses) / losses[0])])),
        "same_bits": all(np.array_equal(there[k], p) for k, p in here.items()),
        "where": [
            sorted({int(p.device.id) for p in net.parameters.values()}) == [k]
            for k, net in enumerate(nets)
        ],
    }


def refused(what: str, call: Any) -> dict[str, Any]:
    """Make a call that has to be refused; return what it said."""
    try:
        call()
    except ValueError as error:
        return {"mixed": what, "refused": "is on device" in f"{error}", "why": f"{error}"}
    return {"mixed": what, "refused": False, "why": "it was not refused"}


def main() -> str | None:
    """Compare; return what is wrong, if anything is."""
    cupy = importlib.import_module("cupy")
    record, wrong = Record("devices"), list[str]()
    if cupy.cuda.runtime.getDeviceCount() < 2:
        record.note(left_out="all: there is one device")
        record.finish()
        sys.exit(ONE_DEVICE)
    names = [cupy.cuda.runtime.getDeviceProperties(k)["name"] for k in range(2)]
    (first, _, _), (second, batch, loss) = (network("series", device) for device in DEVICES)
    x, target = (first.backend.asarray(second.backend.to_numpy(a)) for a in batch)
    for what, call in (
        ("x", lambda: second.value_and_grad(x, batch[1], loss)),
        ("target", lambda: second.value_and_grad(batch[0], target, loss)),
        ("gradients", lambda: Adam().update(
            first.parameters, Adam().init(second.parameters), second.parameters)),
    ):  # fmt: skip
        row = refused(what, call)
        record.add(**row)
        if not row["refused"]:
            wrong.append(what)
    for problem, loop in (
        *(("series", "step"), ("tokens", "step")),
        *(("series", "persistent"), ("tokens", "persistent")),
    ):
        if seconds_left() < 6:
            print(record.out_of_time(f"from {problem} with {loop} kernels on"))
            break
        row = trained(problem, loop)
        record.add(**row)
        # Not ``error > LIMIT``, which NaN passes.
        alike = row["same_bits"] if names[0] == names[1] else row["error"] <= LIMIT
        if not (alike and all(row["where"])):
            wrong.append(f"{problem} with {loop} kernels")
    if cupy.cuda.Device().id:
        wrong.append(f"device {cupy.cuda.Device().id} is the current one afterwards")
    return record.finish(f"two devices: {', '.join(wrong)}" if wrong else "")


if __name__ == "__main__":
    sys.exit(main())
