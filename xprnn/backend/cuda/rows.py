"""Kernels for rows and columns by index: the sums of rows with equal indices, and a scatter.

How many distinct indices there are is not known on the host, and reading it would wait for the
device.  So the sums are in as many rows as there can be, and at the end, past the distinct indices,
stand indices that name no row: ``count``, one past the last.
"""

from xprnn.backend.cuda.blocks import EACH, THREADS
from xprnn.backend.cuda.precision import PRECISIONS, access

RUNS = "xprnn_runs"
SUMS = "xprnn_run_sums"
SCATTER = "xprnn_scatter"

RUNS_TEXT = f"""
extern "C" __global__ void {RUNS}(
    long long n, long long slots, long long count, const long long* __restrict__ index,
    const long long* __restrict__ order, long long* starts, long long* found)
{{
    // One block: runs of equal indices begin where an index differs from the one before it.
    __shared__ long long begun[{THREADS}];
    long long before = 0;
    for (long long base = 0; base < n; base += {THREADS}) {{
        const long long i = base + threadIdx.x;
        const long long k = i < n ? index[order[i]] : count;
        const bool begins = k >= 0 && k < count && (i == 0 || index[order[i - 1]] != k);
        begun[threadIdx.x] = begins;
        __syncthreads();
        for (unsigned reach = 1; reach < {THREADS}; reach *= 2) {{
            const long long more = threadIdx.x >= reach ? begun[threadIdx.x - reach] : 0;
            __syncthreads();
            begun[threadIdx.x] += more;
            __syncthreads();
        }}
        if (begins) {{
            starts[before + begun[threadIdx.x] - 1] = i;
            found[before + begun[threadIdx.x] - 1] = k;
        }}
        before += begun[{THREADS} - 1];
        __syncthreads();
    }}
    for (long long slot = before + threadIdx.x; slot < slots; slot += {THREADS}) {{
        starts[slot] = n;
        found[slot] = count;
    }}
}}
"""
"""``order`` sorts ``index``, stably."""


def sums_text(dtype: str) -> str:
    """Return the kernel that sums each run's rows, in their order."""
    return f"""{access(PRECISIONS[dtype])}
extern "C" __global__ void {SUMS}(
    long long n, long long slots, long long K, long long count,
    const stored* __restrict__ rows, const long long* __restrict__ index,
    const long long* __restrict__ order, const long long* __restrict__ starts,
    const long long* __restrict__ found, stored* sums)
{{{EACH}
    for (long long i = first; i < slots * K; i += stride) {{
        const long long slot = i / K, k = i - slot * K;
        real sum = 0;
        for (long long at = starts[slot]; at < n && index[order[at]] == found[slot]; ++at)
            sum += load(rows, order[at] * K + k);
        store(sums, i, sum);
    }}
}}
"""


def scatter_text(dtype: str, *, add: bool) -> str:
    """Return the kernel that puts rows (or columns) into a matrix, or adds them to it.

    Entry k of the row of a slot goes to ``index[slot] * along + k * across`` of ``out``.
    """
    value = "load(out, place) + value" if add else "value"
    return f"""{access(PRECISIONS[dtype])}
extern "C" __global__ void {SCATTER}(
    long long slots, long long K, long long count, long long along, long long across,
    const long long* __restrict__ index, const stored* __restrict__ values,
    stored* out)
{{{EACH}
    for (long long i = first; i < slots * K; i += stride) {{
        const long long slot = i / K, k = i - slot * K, row = index[slot];
        if (row >= count) continue;
        const long long place = row * along + k * across;
        const real value = load(values, i);
        store(out, place, {value});
    }}
}}
"""
