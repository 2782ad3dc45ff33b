"""Numbers of each dtype in CUDA C: how they are stored, read, computed with and written."""

from typing import NamedTuple

HEAD = "__device__ __forceinline__ "

HALF = f"""{HEAD}real load(const unsigned short* p, long long k) {{
    real x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(p[k]));
    return x;
}}
{HEAD}void store(unsigned short* p, long long k, real x) {{
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(p[k]) : "f"(x));
}}
"""
"""Reading and writing float16, without CUDA's header for it, which may be missing."""

BFLOAT16 = f"""{HEAD}real load(const unsigned short* p, long long k) {{
    return __uint_as_float((unsigned)p[k] << 16);
}}
{HEAD}void store(unsigned short* p, long long k, real x) {{
    const unsigned bits = __float_as_uint(x);
    // To the nearest, of two the even one.  Adding to a NaN could make another number of it.
    p[k] = x != x ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}}
"""
"""Reading and writing bfloat16, the upper half of a float32.  Devices have an instruction for it
from compute capability 8.0 on; these few are for all of them, and give the same bits."""

_DIRECT = f"""{HEAD}real load(const stored* p, long long k) {{ return p[k]; }}
{HEAD}void store(stored* p, long long k, real x) {{ p[k] = x; }}
"""

_TRUTH = f"""{HEAD}bool load(const bool* p, long long k) {{ return p[k]; }}
{HEAD}void store(bool* p, long long k, bool x) {{ p[k] = x; }}
"""


class Precision(NamedTuple):
    """The C types for a dtype.

    Attributes
    ----------
    dtype : str
        Its name.
    stored : str
        In memory.
    real : str
        In all arithmetic.
    access : str
        The functions ``load`` and ``store``.
    """

    dtype: str
    stored: str
    real: str
    access: str

    @property
    def suffix(self) -> str:
        """The suffix of C's functions and literals."""
        return "f" if self.real == "float" else ""

    @property
    def half(self) -> bool:
        """Whether numbers are stored in 16 bits."""
        return self.stored == "unsigned short"


PRECISIONS = {
    precision.dtype: precision
    for precision in (
        Precision("float16", "unsigned short", "float", HALF),
        Precision("bfloat16", "unsigned short", "float", BFLOAT16),
        Precision("float32", "float", "float", _DIRECT),
        Precision("float64", "double", "double", _DIRECT),
    )
}
"""By dtype.  Arithmetic of 16 bits is in float32; results are rounded when they are stored."""


def access(precision: Precision) -> str:
    """Return the types ``stored`` and ``real``, and the functions ``load`` and ``store``."""
    types = f"typedef {precision.stored} stored;\ntypedef {precision.real} real;\n"
    return types + precision.access + _TRUTH
