"""Kernels that look for entries that are not allowed, without anybody waiting for the answer.

Of an array with n entries each writes ``n - i`` for the first bad entry i into ``found``, a number
that was zero before; zero remains where all entries are good.
"""

from xprnn.backend.cuda.blocks import EACH, chosen
from xprnn.backend.cuda.precision import PRECISIONS, access

NOT_FINITE = "xprnn_not_finite"
OUT_OF_RANGE = "xprnn_out_of_range"
NOTE = "xprnn_note"

MOST = 8
"""The most arrays that are looked at together."""

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


def not_finite_text(dtype: str, count: int) -> str:
    """Return the kernel that looks for NaN and infinity in several arrays."""
    parameters, choice = chosen([{"a": "const stored* __restrict__"}] * count)
    return f"""{access(PRECISIONS[dtype])}
extern "C" __global__ void {NOT_FINITE}(
    unsigned long long* found,
    {parameters})
{{{EACH}
    {choice}
    for (long long i = first; i < n; i += stride) {{
        const real x = load(a, i);
        // Infinity minus infinity is NaN, and NaN equals nothing.
        if (!(x - x == 0)) {{
            atomicMax(found + blockIdx.y, (unsigned long long)(n - i));
            return;
        }}
    }}
}}
"""


def note_text(dtype: str, counts: str) -> str:
    """Return the kernel that gathers what is to be read: a loss, its entries, what was found.

    ``counts`` is the type of the number of entries, empty if that isn't found on the device.
    """
    entries = f"const {counts}* __restrict__ entries," if counts else ""
    return f"""typedef {PRECISIONS[dtype].real} real;
extern "C" __global__ void {NOTE}(
    long long questions, const real* __restrict__ loss, {entries}
    const unsigned long long* __restrict__ found, double* row)
{{
    const unsigned k = threadIdx.x;
    if (k == 0) row[0] = loss[0];
    if (k == 1) row[1] = {"entries[0]" if counts else "0"};
    if (k >= 2 && k < 2 + questions) row[k] = found[k - 2];
}}
"""
