"""What the processor and NumPy's BLAS compute with: instructions, and the vectors of kernels.

OpenBLAS has kernels for many processors, and chooses those of the one that it knows and that is
most like the processor at hand.  On one that is newer than itself these may be of half the width:
version 0.3.31 takes kernels of 256 bits for an AMD EPYC of the Zen 5 generation, which has 512.
"""

import importlib
from functools import cache
from typing import Any

_BITS = {
    512: ("skylakex", "cooperlake", "sapphirerapids"),
    256: ("haswell", "zen"),
    128: ("prescott", "core2", "penryn", "dunnington", "nehalem", "barcelona", "atom"),
}
"""Bits of the vectors, by OpenBLAS's names for its kernels of x86.

There are more names, of processors of which nothing was measured.
"""


def blas_vector_bits() -> int | None:
    """Return the bits of the vectors of the kernels in use; None if that is not known.

    Finding it out needs the package threadpoolctl.
    """
    kernels = _kernels()
    return next((bits for bits, names in _BITS.items() if kernels in names), None)


@cache
def _kernels() -> str:
    """Return the name of NumPy's BLAS's kernels, in lower case; empty if it is not known."""
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


_NEEDED = {"sse4.2": ("SSE42",), "avx2": ("AVX2", "FMA3"), "avx512": ("AVX512_SKX",)}


def has_instructions(name: str) -> bool:
    """Return whether the processor has these instructions: ``sse4.2``, ``avx2`` or ``avx512``.

    ``avx2`` includes those that multiply and add at once; ``avx512`` is what Skylake servers have.
    """
    found = _features()
    return all(found.get(feature, False) for feature in _NEEDED[name])


@cache
def _features() -> dict[str, bool]:
    """Return which features of processors NumPy found, by its names."""
    umath: Any = importlib.import_module("numpy._core._multiarray_umath")
    return dict(umath.__cpu_features__)
