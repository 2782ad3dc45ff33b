"""Kernels that look for entries that are not allowed, without anybody waiting for the answer.

Of an array with n entries each writes ``n - i`` for the first bad entry i into ``found``, a number
that was zero before; zero remains where all entries are good.
"""

from xprnn.backend.cuda.blocks import EACH
from xprnn.backend.cuda.precision import PRECISIONS, access

NOT_FINITE = "xprnn_not_finite"
OUT_OF_RANGE = "xprnn_out_of_range"

OUT_OF_RANGE_TEXT = f"""
extern "C" __global__ void {OUT_OF_RANGE}(
    long long n, long long count, long long ignored,
    const long long* __restrict__ a, unsigned long long* found)
{{{EACH}
    for (long long i = first; i < n; i += stride) {{
        const long long k = a[i];
        if ((k < 0 || k >= count) && k != ignored) {{
            atomicMax(found, (unsigned long long)(n - i));
            return;
        }}
    }}
}}
"""


def not_finite_text(dtype: str) -> str:
    """Return the kernel that looks for NaN and infinity."""
    return f"""{access(PRECISIONS[dtype])}
extern "C" __global__ void {NOT_FINITE}(
    long long n, const stored* __restrict__ a, unsigned long long* found)
{{{EACH}
    for (long long i = first; i < n; i += stride) {{
        const real x = load(a, i);
        // Infinity minus infinity is NaN, and NaN equals nothing.
        if (!(x - x == 0)) {{
            atomicMax(found, (unsigned long long)(n - i));
            return;
        }}
    }}
}}
"""
