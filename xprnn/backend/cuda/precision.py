"""Numbers of each dtype in CUDA C: how they are stored, read, computed with and written."""

from typing import NamedTuple

from xprnn.backend.host.arrays import np

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
    stored : str
        In memory.
    real : str
        In all arithmetic.
    host : type
        NumPy's type, which constants are rounded to.
    """

    stored: str
    real: str
    host: type

    @property
    def suffix(self) -> str:
        """The suffix of C's functions and literals."""
        return "f" if self.real == "float" else ""


PRECISIONS = {
    "float16": Precision("unsigned short", "float", np.float16),
    "float32": Precision("float", "float", np.float32),
    "float64": Precision("double", "double", np.float64),
}
"""By dtype.  Arithmetic of float16 is in float32; results are rounded when they are stored."""


def access(precision: Precision) -> str:
    """Return the types ``stored`` and ``real``, and the functions ``load`` and ``store``."""
    half = precision is PRECISIONS["float16"]
    types = f"typedef {precision.stored} stored;\ntypedef {precision.real} real;\n"
    return types + (HALF if half else _DIRECT) + _TRUTH
