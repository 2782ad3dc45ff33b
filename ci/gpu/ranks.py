"""Ranks over NCCL, one a device: sums of every dtype, and a training against one of one process."""

import importlib
import json
import os
import socket
import subprocess
import sys
from typing import Any

import numpy as np

from ci.gpu.record import TRIAL, Record, seconds_left
from xprnn import RNN, fit, get_backend
from xprnn.distributed import NCCL
from xprnn.distributed.reduction import summed

DTYPES = ("float16", "float32", "float64", "int64", "bfloat16")
LIMIT = 1e-9
"""In float64, after a few updates."""
MOST = 8
"""Ranks at most."""
T, B, H = (3, 4, 3) if TRIAL else (20, 16, 48)


def part() -> dict[str, Any]:
    """Return what a rank finds."""
    here = NCCL()
    backend = get_backend("cupy", here.device_name)
    dtypes = [d for d in DTYPES if not TRIAL or d != "bfloat16"]
    found: dict[str, Any] = {"rank": here.rank, "device": here.device_name, "sums": {}}
    with here.device:
        for dtype in dtypes:
            a = backend.asarray(np.full(1000, here.rank + 1), dtype)
            here.all_reduce_on_device([a])
            found["sums"][dtype] = float(backend.to_numpy(a)[-1])
        rows = backend.asarray(np.full((here.rank, 3), float(here.rank)), "float64")
        whole = here.gather_on_device(rows, list(range(here.size)))
        found["gathered"] = backend.to_numpy(whole)[:, 0].tolist()
        double = get_backend("cupy", here.device_name, "float64")
        g = {"W": double.asarray(np.ones((2, 3)) * (here.rank + 1))}
        whole = summed(here, double, g, 1 / here.size, all_dense=True)["W"]
        found["mean"] = float(double.to_numpy(whole)[-1, -1])
    found["loss"] = losses(here.device_name, here)
    return found


def losses(device: str, communicator: NCCL | None) -> list[float]:
    """Train; return the losses."""
    rng = np.random.default_rng(0)
    net = RNN(3, H, 3, cell="lstm", backend="cupy", device=device, dtype="float64", rng=0)
    x = net.backend.asarray(rng.standard_normal((T, B, 3)))
    made = fit(net, (x, x), epochs=2 if TRIAL else 5, optimizer="adam", clip_norm=1.0,
               communicator=communicator)  # fmt: skip
    return made.loss


def expected(size: int) -> dict[str, Any]:
    """Return what each rank should find, but for the losses."""
    total = size * (size + 1) / 2
    return {
        "gathered": [float(rank) for rank in range(size) for _ in range(rank)],
        "mean": total / size,
        "sums": total,
    }


def started(size: int, seconds: float) -> tuple[list[dict[str, Any]], str]:
    """Run `part` in as many processes; return what they found, or what went wrong."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "ci.gpu.ranks", "part"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{size}"}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"},
        )
        for rank in range(size)
    ]
    found: list[dict[str, Any]] = []
    wrong = ""
    for rank, process in enumerate(running):
        try:
            said = process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            wrong = wrong or f"rank {rank} took more than {seconds:.0f} s"
            for each in running:
                each.kill()
            said = process.communicate()[0]
        if process.returncode:
            wrong = wrong or f"rank {rank} ended with status {process.returncode}"
        else:
            found.append(json.loads(said.splitlines()[-1]))
    return found, wrong


def main() -> str | None:
    """Run with one rank, and with as many as there are devices; return what is wrong."""
    cupy = importlib.import_module("cupy")
    record, wrong = Record("ranks"), list[str]()
    devices = min(int(cupy.cuda.runtime.getDeviceCount()), MOST)
    alone = losses("cuda:0", None)
    sizes = [1] if devices == 1 else [1, devices]
    for size in sizes:
        if seconds_left() < 6:
            print(record.out_of_time(f"from {size} ranks on"))
            break
        found, failed = started(size, seconds_left())
        for row in found:
            wanted = expected(size)
            error = float(np.max(np.abs(np.array(row["loss"]) - alone) / np.array(alone)))
            right = set(row["sums"].values()) == {wanted["sums"]} and all(
                row[name] == wanted[name] for name in ("gathered", "mean")
            )
            record.add(size=size, error=error, right=right, **row)
            if not (right and error <= LIMIT):
                failed = failed or f"rank {row['rank']} of {size} differs"
        if failed:
            wrong.append(failed)
    if devices == 1:
        record.note(left_out="several ranks: there is one device")
    return record.finish(f"ranks: {', '.join(wrong)}" if wrong else "")


if __name__ == "__main__":
    if sys.argv[1:] == ["part"]:
        print(json.dumps(part()))
    else:
        sys.exit(main())
