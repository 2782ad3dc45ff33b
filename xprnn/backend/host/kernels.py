"""How wide the vectors are that NumPy's BLAS computes with.

OpenBLAS has kernels for many processors, and chooses those of the one that it knows and that is
most like the processor at hand.  On one that is newer than itself these may be of half the width:
version 0.3.31 takes kernels of 256 bits for an AMD EPYC of the Zen 5 generation, which has 512.
"""

from functools import cache

_BITS = {512: ("skylakex", "cooperlake", "sapphirerapids"), 256: ("haswell", "zen")}
"""Bits of the vectors, by OpenBLAS's names for its kernels, of those that multiply and add at once.
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
