"""What Numba compiles for the arrays of NumPy: the optional extra ``xprnn[jit]``.

`why_no_numba` says why Numba can't be used.  The other modules are imported only if it can:

===============  ===============================================================================
`tiles`          a tile of a matrix product, whose sums stay in registers
`packed`         the product of a time step, by a matrix that is packed once for all steps
`functions`      tanh, exp and a few others as plain arithmetic, which compilers vectorise
`intrinsics`     what Numba's Python has no words for: atomic counters, views by address
`build`          compiles a function and caches the result on disk
`gemm`           matrix products of all steps, in shapes at which a BLAS is slow
`scatter`        sums of rows by index
`softmax`        the parts of a softmax
===============  ===============================================================================
"""

import importlib.util
import os
import re
from functools import cache

VARIABLE = "XPRNN_LOWERING"
_KEY = os.environ.encodekey(VARIABLE)
WORDS = ("on", "off", "numpy", "numba")
NUMBA = (0, 61)
"""The oldest version of Numba that can be used."""


def lowering_word() -> str:
    """Return the value of the environment variable ``XPRNN_LOWERING``, by default ``on``.

    Raises
    ------
    ValueError
        If it is none of ``on``, ``off``, ``numpy`` and ``numba``.
    """
    # Every pass asks several times, and os.environ.get takes a microsecond for a variable that is
    # not set, because it raises and catches two KeyErrors.
    variables = getattr(os.environ, "_data", None)
    if variables is not None and _KEY not in variables:
        return "on"
    word = os.environ.get(VARIABLE, "on")
    if word not in WORDS:
        known = ", ".join(map(repr, WORDS))
        raise ValueError(f"{VARIABLE} is {word!r}: expected one of {known}")
    return word


@cache
def why_no_numba() -> str:
    """Return why Numba can't be used; an empty text if it can."""
    if importlib.util.find_spec("numba") is None:
        return 'Numba is not installed: pip install "xprnn[jit]"'
    from importlib import metadata  # slow to import, and rarely needed

    version = "of an unknown version"
    try:
        version = metadata.version("numba")
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < NUMBA:
            return f"Numba {version} is too old: {NUMBA[0]}.{NUMBA[1]} is needed"
        importlib.import_module("xprnn.backend.numba.build")
        if importlib.import_module("numba").config.DISABLE_JIT:
            return f"Numba {version} can't be used: NUMBA_DISABLE_JIT is set"
    except Exception as error:
        # Numba refuses versions of NumPy that it does not know, with errors of any type.
        return f"Numba {version} can't be used: {error}"
    return ""


@cache
def vector_bits() -> int:
    """Return the width of the vectors that compiled code uses; only called if Numba can be used."""
    return 8 * int(importlib.import_module("xprnn.backend.numba.tiles").VECTOR_BYTES)
