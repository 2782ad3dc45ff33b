"""Kernels for the norm of several arrays together, and for scaling them by it.

Sums are taken in double precision and in a fixed order, so the same numbers give the same bits.
Squares of doubles may overflow where the norm does not: so the squares of the entries times 2⁻⁶⁰⁰
are summed too, and used where the first sum is infinite.
"""

from xprnn.backend.cuda.blocks import EACH, SUM, chosen
from xprnn.backend.cuda.precision import PRECISIONS, access

SQUARES = "xprnn_square_sums"
LIMIT = "xprnn_limit"
SCALE = "xprnn_scale"


def squares_text(dtype: str, count: int) -> str:
    """Return the kernel that sums squares: two sums for each block and array."""
    parameters, choice = chosen([{"a": "const stored* __restrict__"}] * count)
    small = "const double s = ldexp(x, -600); small += s * s;" if dtype == "float64" else ""
    return f"""{access(PRECISIONS[dtype])}{SUM}
extern "C" __global__ void {SQUARES}(
    double* sums,
    {parameters})
{{{EACH}
    {choice}
    double sum = 0, small = 0;
    for (long long i = first; i < n; i += stride) {{
        const double x = load(a, i);
        sum += x * x;
        {small}
    }}
    sum = sum_over_block(sum);
    small = sum_over_block(small);
    if (threadIdx.x) return;
    const long long k = (long long)blockIdx.y * gridDim.x + blockIdx.x;
    sums[2 * k] = sum;
    sums[2 * k + 1] = small;
}}
"""


def limit_text(dtype: str) -> str:
    """Return the kernel that makes of these sums the norm, and limit / max(norm, limit)."""
    return f"""{access(PRECISIONS[dtype])}{SUM}
extern "C" __global__ void {LIMIT}(
    long long n, double limit, const double* __restrict__ sums, stored* norm, double* factor)
{{
    double sum = 0, small = 0;
    for (long long i = threadIdx.x; i < n; i += blockDim.x) {{
        sum += sums[2 * i];
        small += sums[2 * i + 1];
    }}
    sum = sum_over_block(sum);
    small = sum_over_block(small);
    if (threadIdx.x) return;
    const double found = sum == 1.0 / 0.0 && small ? ldexp(sqrt(small), 600) : sqrt(sum);
    store(norm, 0, (real)found);
    // A norm that is NaN makes the factor NaN.
    factor[0] = limit / (found < limit ? limit : found);
}}
"""


def scale_text(dtype: str, count: int) -> str:
    """Return the kernel that multiplies arrays by a factor on the device."""
    parameters, choice = chosen([{"a": "const stored* __restrict__", "out": "stored*"}] * count)
    return f"""{access(PRECISIONS[dtype])}
extern "C" __global__ void {SCALE}(
    const double* __restrict__ factor,
    {parameters})
{{{EACH}
    {choice}
    const real by = (real)factor[0];
    for (long long i = first; i < n; i += stride) store(out, i, load(a, i) * by);
}}
"""
