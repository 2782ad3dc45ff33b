"""``xprnn info``: what is installed, and whether it works."""

import argparse
import json
import platform
import sys
from typing import Any

from xprnn._version import __version__
from xprnn.backend import get_backend, probe
from xprnn.backend.host.files import output_folder, write_atomic
from xprnn.backend.host.kernels import narrower_blas
from xprnn.backend.host.threads import blas
from xprnn.backend.registry import NAMES
from xprnn.engine.loop.explaining import compiled_code, lowering_in_use

HELP = "show versions, backends with their devices, BLAS and its threads"
DESCRIPTION = """\
Show the version, every backend with its version and devices (or why it can't be used), the BLAS
library behind NumPy and its threads, whether it leaves the processor's widest vectors unused, how
time loops run on NumPy, and which compiled code is kept for which processor.  --backend and --dtype
are tried out, so that the exit status says whether they work.  --out writes info.json; --seed
changes nothing."""
EXAMPLE = """\
examples:
  xprnn info
  xprnn info --backend cupy --dtype float64"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add no options: those of every command are enough."""
    del parser


def run(args: argparse.Namespace) -> int:
    """Collect and print."""
    probes = [probe(name) for name in NAMES]
    libraries = blas()
    print(f"xprnn {__version__}, Python {platform.python_version()}, {platform.platform()}")
    print("backends:")
    for found in probes:
        if found.usable:
            what = f"{found.version}, {', '.join(found.devices)}"
        else:
            what = f"not usable: {found.reason}"
        print(f"  {found.name:<17} {what}")
    print("BLAS:")
    for library in libraries:
        what = f"{library['name']} {library['version'] or ''}".strip()
        print(f"  {what}, {library['threads']} threads")
    narrower = narrower_blas()
    if narrower is not None:
        print(f"  NumPy's BLAS: {narrower}")
    print(f"time loops on NumPy: {lowering_in_use()}")
    code = compiled_code()
    for line in code:
        print(f"  {line}")
    chosen = get_backend(args.backend, dtype=args.dtype)
    print(f"{args.backend}: {chosen.name} on {chosen.device} computes in {chosen.dtype_name}")
    if args.out is not None:
        facts: dict[str, Any] = {
            "xprnn": __version__,
            "python": sys.version,
            "platform": platform.platform(),
            "backends": [found._asdict() for found in probes],
            "blas": libraries,
            "narrower_blas": narrower,
            "lowering": lowering_in_use(),
            "compiled": code,
        }
        folder = output_folder(args.out)
        write_atomic(folder / "info.json", (json.dumps(facts, indent=2) + "\n").encode())
        print(f"written to {folder}: info.json")
    return 0
