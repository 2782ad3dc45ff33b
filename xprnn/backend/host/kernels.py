"""What the processor and NumPy's BLAS compute with: instructions, and the vectors of kernels.

OpenBLAS has kernels for many processors, and chooses those of the one that it knows and that is
most like the processor at hand, unless an environment variable names others (`CORE`).
"""

import importlib
import os
from functools import cache
from typing import Any

_NEEDED = {"sse4.2": ("SSE42",), "avx2": ("AVX2", "FMA3"), "avx512": ("AVX512_SKX",)}


def has_instructions(name: str) -> bool:
    """Return whether the processor has these instructions: ``sse4.2``, ``avx2`` or ``avx512``.

    ``avx2`` includes those that multiply and add at once; ``avx512`` is what Skylake servers have.
    """
    found = _features()
    return all(found.get(feature, False) for feature in _NEEDED[name])


_BITS = {
    512: ("skylakex", "cooperlake", "sapphirerapids"),
    256: ("haswell", "zen"),
    128: ("prescott", "core2", "penryn", "dunnington", "nehalem", "barcelona", "atom"),
}
"""Bits of the vectors, by OpenBLAS's names for its kernels of x86.

There are more names, of processors of which nothing was measured.
"""

CORE = "OPENBLAS_CORETYPE"
"""The environment variable by which OpenBLAS is told which kernels to take."""

_WIDEST = (("avx512", 512, "SkylakeX"), ("avx2", 256, "Haswell"))
"""Instructions, the bits of their vectors, and OpenBLAS's kernels for them, the widest first."""


def narrower_blas() -> str | None:
    """Say that NumPy's BLAS has narrower vectors than the processor, and what to do about it.

    None if it has not, or if that is not known.
    """
    kernels = _kernels()
    bits = next((bits for bits, names in _BITS.items() if kernels in names), None)
    if bits is None:
        return None
    for instructions, able, wider in _WIDEST:
        if has_instructions(instructions):
            if bits >= able:
                return None
            chosen = os.environ.get(CORE)
            why = f", because {CORE} is {chosen!r}" if chosen else ""
            return (
                f"its vectors have {bits} bits{why}, this processor's {able}: with {CORE}={wider} "
                "set before Python starts, products take about half the time"
            )
    return None


@cache
def _kernels() -> str:
    """Return the name of NumPy's BLAS's kernels, in lower case; empty if it is not known.

    Finding it out needs the package threadpoolctl.
    """
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return ""
    found = [
        library.get("architecture", "")
        for library in threadpool_info()
        if library["internal_api"] == "openblas" and "numpy" in library["filepath"]
    ]
    return found[0].lower() if len(found) == 1 else ""


@cache
def _features() -> dict[str, bool]:
    """Return which features of processors NumPy found, by its names."""
    umath: Any = importlib.import_module("numpy._core._multiarray_umath")
    return dict(umath.__cpu_features__)
