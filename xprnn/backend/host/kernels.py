"""The instructions that the processor has."""

import importlib
from functools import cache
from typing import Any

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
