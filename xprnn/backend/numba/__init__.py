"""What Numba compiles for the arrays of NumPy: the optional extra ``xprnn[jit]``.

Nothing in here is imported before `numba_missing` has found that it can be.
"""

import importlib.util
import os
import re
from functools import cache

VARIABLE = "XPRNN_LOWERING"
WORDS = ("on", "off", "numpy", "numba")
NUMBA = (0, 61)
"""The oldest version of Numba that will do."""


def lowering_word() -> str:
    """Return what the environment variable ``XPRNN_LOWERING`` says.

    Raises
    ------
    ValueError
        If that is none of ``on``, ``off``, ``numpy`` and ``numba``.
    """
    word = os.environ.get(VARIABLE, "on")
    if word not in WORDS:
        known = ", ".join(map(repr, WORDS))
        raise ValueError(f"{VARIABLE} is {word!r}: expected one of {known}")
    return word


@cache
def numba_missing() -> str:
    """Say why Numba can't be used; nothing if it can."""
    if importlib.util.find_spec("numba") is None:
        return 'Numba is not installed: pip install "xprnn[jit]"'
    from importlib import metadata  # loads a great deal

    version = "of an unknown version"
    try:
        version = metadata.version("numba")
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < NUMBA:
            return f"Numba {version} is too old: {NUMBA[0]}.{NUMBA[1]} is needed"
        importlib.import_module("xprnn.backend.numba.build")
        if importlib.import_module("numba").config.DISABLE_JIT:
            return f"Numba {version} can't be used: NUMBA_DISABLE_JIT is set"
    except Exception as error:
        # It refuses versions of NumPy that it doesn't know, and may do so in any way.
        return f"Numba {version} can't be used: {error}"
    return ""


@cache
def vector_bits() -> int:
    """Return the width of the vectors that compiled code uses; only asked where Numba is usable."""
    return 8 * int(importlib.import_module("xprnn.backend.numba.tiles").VECTOR_BYTES)
