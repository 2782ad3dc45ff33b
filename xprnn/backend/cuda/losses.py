"""Kernels of the two losses; the numbers in brackets are those of the equations in their classes.

A loss is a sum over entries, or over tokens; those past the end of a sequence, and targets that are
padding, are left out.  With a mean, the loss and its gradient are divided by the number of the
others, which is found on the device: the first kernel of a loss leaves parts of both sums in
``terms``, the second adds them and finds s, and the third computes the gradient.
"""

from xprnn.backend.cuda.blocks import EACH, MAXIMUM, SUM, THREADS
from xprnn.backend.cuda.precision import PRECISIONS, access

SOFTMAX = "xprnn_softmax_rows"
SOFTMAX_GRADIENT = "xprnn_softmax_gradient"
SQUARES = "xprnn_error_rows"
SQUARES_GRADIENT = "xprnn_error_gradient"
TOTAL = "xprnn_total_loss"


def softmax_text(dtype: str, *, masked: bool) -> str:
    """Return the kernel that finds each row's m, Z and loss: (1) and (2) of `CrossEntropy`.

    A block takes one row after another.  ``terms`` gets the loss and whether the place counts.
    """
    valid, missing = _mask(masked)
    exp, log = ("exp", "log") if dtype == "float64" else ("expf", "logf")
    return f"""{access(PRECISIONS[dtype])}{SUM}{MAXIMUM}
extern "C" __global__ void {SOFTMAX}(
    long long rows, long long V, const stored* __restrict__ y,
    const long long* __restrict__ target{valid}, real* m, real* Z, double* terms)
{{
    for (long long row = blockIdx.x; row < rows; row += gridDim.x) {{
        const stored* logits = y + row * V;
        real most = -1 / (real)0.0;
        for (long long j = threadIdx.x; j < V; j += {THREADS}) {{
            const real x = load(logits, j);
            most = most > x || most != most ? most : x;
        }}
        most = maximum_over_block(most);
        double sum = 0;
        for (long long j = threadIdx.x; j < V; j += {THREADS})
            sum += {exp}(load(logits, j) - most);
        sum = sum_over_block(sum);
        if (threadIdx.x) continue;
        const long long k = target[row];
        const bool counts = k >= 0 && k < V{missing};
        m[row] = most;
        Z[row] = (real)sum;
        terms[2 * row] = counts ? {log}((real)sum) + (most - load(logits, k)) : 0;
        terms[2 * row + 1] = counts;
    }}
}}
"""


def softmax_gradient_text(dtype: str, *, masked: bool) -> str:
    """Return the kernel of the gradient, from (2), which may be written into the logits."""
    valid, missing = _mask(masked)
    exp = "exp" if dtype == "float64" else "expf"
    return f"""{access(PRECISIONS[dtype])}
extern "C" __global__ void {SOFTMAX_GRADIENT}(
    long long rows, long long V, const stored* y, const long long* __restrict__ target{valid},
    const real* __restrict__ m, const real* __restrict__ Z, const double* __restrict__ result,
    stored* dy)
{{{EACH}
    const real s = (real)result[1];
    for (long long i = first; i < rows * V; i += stride) {{
        const long long row = i / V, j = i - row * V, k = target[row];
        const bool counts = k >= 0 && k < V{missing};
        store(dy, i, counts ? s * ({exp}(load(y, i) - m[row]) / Z[row] - (j == k ? 1 : 0)) : 0);
    }}
}}
"""


def squares_text(dtype: str, *, masked: bool) -> str:
    """Return the kernel that sums ½ (y - target)², (1) of `SquaredError`: a part for each block."""
    valid, missing = _mask(masked)
    return f"""{access(PRECISIONS[dtype])}{SUM}
extern "C" __global__ void {SQUARES}(
    long long rows, long long O, const stored* __restrict__ y, const stored* __restrict__ target
    {valid}, double* terms)
{{{EACH}
    double sum = 0, count = 0;
    for (long long i = first; i < rows * O; i += stride) {{
        const long long row = i / O;
        if (!(row >= 0{missing})) continue;
        const double d = load(y, i) - load(target, i);
        sum += 0.5 * d * d;
        count += 1;
    }}
    sum = sum_over_block(sum);
    count = sum_over_block(count);
    if (threadIdx.x) return;
    terms[2 * blockIdx.x] = sum;
    terms[2 * blockIdx.x + 1] = count;
}}
"""


def squares_gradient_text(dtype: str, *, masked: bool) -> str:
    """Return the kernel of the gradient, from (1), which may be written into the output."""
    valid, missing = _mask(masked)
    return f"""{access(PRECISIONS[dtype])}
extern "C" __global__ void {SQUARES_GRADIENT}(
    long long rows, long long O, const stored* y, const stored* __restrict__ target{valid},
    const double* __restrict__ result, stored* dy)
{{{EACH}
    const real s = (real)result[1];
    for (long long i = first; i < rows * O; i += stride) {{
        const long long row = i / O;
        store(dy, i, row >= 0{missing} ? (load(y, i) - load(target, i)) * s : 0);
    }}
}}
"""


def total_text(dtype: str) -> str:
    """Return the kernel that adds the terms: ``result`` gets their sum and s, one block alone.

    ``value`` gets the loss, in the dtype of the sum.
    """
    return f"""{SUM}typedef {PRECISIONS[dtype].real} real;
extern "C" __global__ void {TOTAL}(
    long long n, long long mean, const double* __restrict__ terms,
    double* result, real* value)
{{
    double sum = 0, count = 0;
    for (long long i = threadIdx.x; i < n; i += {THREADS}) {{
        sum += terms[2 * i];
        count += terms[2 * i + 1];
    }}
    sum = sum_over_block(sum);
    count = sum_over_block(count);
    if (threadIdx.x) return;
    // The loss of an empty batch is zero, not 0/0.
    const double s = mean ? 1 / (count > 1 ? count : 1) : 1;
    result[0] = count;
    result[1] = s;
    value[0] = (real)(s * sum);
}}
"""


def _mask(masked: bool) -> tuple[str, str]:
    """Return the parameter for a padding mask, and the condition that a row's place exists."""
    return (", const bool* __restrict__ valid", " && valid[row]") if masked else ("", "")
