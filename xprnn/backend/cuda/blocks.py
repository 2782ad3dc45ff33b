"""What the kernels here share: sums and maxima over the threads of a block, in a fixed order."""

from collections.abc import Mapping, Sequence

from xprnn.backend.cuda.precision import HEAD

THREADS = 256
"""Threads of a block, a power of two: the functions below are made for this number."""

BLOCKS = 1024
"""The most blocks that share an array; each thread takes entries in turns."""

SUM_BLOCKS = 256
"""The same for a sum, each of whose blocks leaves a part to be added."""

SUM = f"""{HEAD}double sum_over_block(double x) {{
    __shared__ double parts[{THREADS}];
    parts[threadIdx.x] = x;
    __syncthreads();
    for (unsigned half = {THREADS // 2}; half; half /= 2) {{
        if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
        __syncthreads();
    }}
    const double sum = parts[0];
    __syncthreads();
    return sum;
}}
"""
"""In double precision, so that neither a square overflows nor a long sum loses small terms."""

SUM_REAL = SUM.replace("double", "real")
"""In the precision of the kernel: for sums of some hundreds or thousands of terms."""

MAXIMUM = f"""{HEAD}real maximum_over_block(real x) {{
    __shared__ real parts[{THREADS}];
    parts[threadIdx.x] = x;
    __syncthreads();
    for (unsigned half = {THREADS // 2}; half; half /= 2) {{
        if (threadIdx.x < half) {{
            const real a = parts[threadIdx.x], b = parts[threadIdx.x + half];
            parts[threadIdx.x] = a > b || a != a ? a : b;
        }}
        __syncthreads();
    }}
    const real largest = parts[0];
    __syncthreads();
    return largest;
}}
"""
"""NaN if one of them is."""

EACH = """
    const long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long stride = (long long)gridDim.x * blockDim.x;
"""
"""Where a thread begins, and how far it is to its next entry."""


def blocks_for(entries: int, most: int = BLOCKS) -> int:
    """Return the number of blocks of a kernel that goes over this number of entries."""
    return max(1, min(most, -(-entries // THREADS)))


def chosen(arrays: Sequence[Mapping[str, str]]) -> tuple[str, str]:
    """Return the parameters of a kernel for several arrays, and the lines that choose among them.

    One launch then serves all of them: the second axis of the grid says which array a block is for.

    Parameters
    ----------
    arrays : sequence of mapping
        For each array the types of what the kernel takes for it, by their names in the kernel; the
        number of entries n comes first.  A name that another array has and this one lacks is zero.
    """
    declared = {"n": "long long"}
    parameters, cases = [], []
    for k, array in enumerate(arrays):
        own = {"n": "long long"} | dict(array)
        declared |= own
        parameters.append(", ".join(f"{kind} {name}{k}" for name, kind in own.items()))
        cases.append(f"case {k}: {' '.join(f'{name} = {name}{k};' for name in own)} break;")
    lines = [f"{kind.replace(' __restrict__', '')} {name} = 0;" for name, kind in declared.items()]
    lines += ["switch (blockIdx.y) {", *cases, "}"]
    return ",\n    ".join(parameters), "\n    ".join(lines)
