"""Playing a processor of fewer instructions: every library is kept to the same ones.

A processor that has vectors of 512 bits can compute with 256 and with 128, too.  Each library has a
variable of its own for that, which it reads when it is loaded, so they are set for processes.
"""

import os

from xprnn import checks
from xprnn.backend.host.kernels import has_instructions

_VARIABLES = (
    "NUMBA_CPU_NAME",
    "OPENBLAS_CORETYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "XLA_FLAGS",
)
ISAS = {
    "sse4.2": ("nehalem", "Nehalem", "SSE4_2", "default", "SSE41", "SSE4_2"),
    "avx2": ("haswell", "Haswell", "AVX2", "avx2", "AVX2", "AVX2"),
    "avx512": ("skylake-avx512", "SkylakeX", "AVX512", "avx512", "AVX512_CORE", "AVX512"),
}
"""The values of the variables, by the name of the instructions."""


def isa_variables(isa: str | None) -> dict[str, str]:
    """Return the environment variables of a process that uses no other instructions.

    Parameters
    ----------
    isa : str or None
        A name of `ISAS`; None: all that the processor has, and no variables.

    Raises
    ------
    ValueError
        If the name is unknown, or this processor doesn't have the instructions.
    """
    if isa is None:
        return {}
    checks.choice("--isa", isa, ISAS)
    if not has_instructions(isa):
        able = ", ".join(repr(name) for name in ISAS if has_instructions(name)) or "none"
        raise ValueError(f"--isa is {isa!r}, which this processor can't do: it can do {able}")
    found = dict(zip(_VARIABLES, ISAS[isa], strict=True))
    # Numba would add the features of this processor to those of the named one.
    found["NUMBA_CPU_FEATURES"] = ""
    flags = os.environ.get("XLA_FLAGS", ""), f"--xla_cpu_max_isa={found['XLA_FLAGS']}"
    found["XLA_FLAGS"] = " ".join(flags).strip()
    return found
