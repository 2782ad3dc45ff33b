"""What Numba compiles for the arrays of NumPy: the optional extra ``xprnn[jit]``.

`why_no_numba` says why Numba can't be used.  The other modules are imported only if it can:

=================  =============================================================================
`tiles`            a tile of a matrix product, whose sums stay in registers
`packed`           the product of a time step, by a matrix that is packed once for all steps
`functions`        tanh, exp and a few others as plain arithmetic, which compilers vectorise
`intrinsics`       what Numba's Python has no words for: atomic counters, views by address
`build`            compiles a function and caches the result on disk
`addresses`        what compiled code calls by address, so that it is compiled once
`gemm`             matrix products of all steps
`scatter`          sums of rows by index
`softmax`          the parts of a softmax
`softmax_readout`  a readout with its cross-entropy, in blocks
=================  =============================================================================
"""

import importlib.util
import os
import re
import sys
import warnings
from functools import cache

VARIABLE = "XPRNN_LOWERING"
_KEY = os.environ.encodekey(VARIABLE)
_VARIABLES = getattr(os.environ, "_data", None)
WORDS = ("on", "off", "numpy", "numba")
ANNOUNCED = "xprnn_compiling"
"""The attribute of a log record that says what is about to be compiled, which takes seconds."""
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
    if _VARIABLES is not None and _KEY not in _VARIABLES:
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
        unknown = _unknown_processor()
        if unknown:
            reason = f"Numba {version} can't be used: {unknown}"
            warnings.warn(reason, RuntimeWarning, stacklevel=2)
            return reason
        importlib.import_module("xprnn.backend.numba.build")
        if importlib.import_module("numba").config.DISABLE_JIT:
            return f"Numba {version} can't be used: NUMBA_DISABLE_JIT is set"
    except Exception as error:
        # Numba refuses versions of NumPy that it does not know, with errors of any type.
        return f"Numba {version} can't be used: {error}"
    return ""


def _unknown_processor() -> str:
    """Return what is wrong with `PROCESSOR`'s variables; an empty text if nothing is.

    LLVM ends the whole process when it compiles for a processor that it doesn't know, or reads a
    feature without a sign, and says so beforehand only on stderr.  So another process asks it.
    """
    name, features = (os.environ.get(variable, "") for variable in PROCESSOR)
    if name in ("", "generic") and not features:
        return ""
    unsigned = [each for each in features.split(",") if each and each[0] not in "+-"]
    if unsigned:
        return f"NUMBA_CPU_FEATURES has {unsigned[0]!r}: expected features like '+avx2' or '-avx2'"
    import subprocess  # slow to import, and rarely needed

    done = subprocess.run(
        [sys.executable, "-c", _ASK_LLVM, name, features],
        capture_output=True,
        text=True,
        check=False,
    )
    unknown = re.search(r"'\+?-?(\S*)' is not a recognized feature", done.stderr)
    if unknown:
        return f"NUMBA_CPU_FEATURES has {unknown[1]!r}, which LLVM doesn't know"
    if done.returncode == 0 and "not a recognized processor" not in done.stderr:
        return ""
    return f"NUMBA_CPU_NAME is {name!r}, which LLVM doesn't know: expected a name like 'haswell'"


PROCESSOR = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")
"""Numba's environment variables for the processor that it compiles for."""

_ASK_LLVM = """
import contextlib, sys
import llvmlite.binding as llvm
with contextlib.suppress(RuntimeError):  # newer versions need no call, and refuse it
    llvm.initialize()
llvm.initialize_native_target()
llvm.Target.from_default_triple().create_target_machine(
    cpu=sys.argv[1], features=sys.argv[2]
)
"""
