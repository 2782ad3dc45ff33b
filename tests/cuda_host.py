"""CUDA kernels run on the host: the same source, compiled as C++, a thread after the other."""

import ctypes
import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from xprnn.backend.cuda.precision import HALF

COMPILER = shutil.which("g++") or shutil.which("c++")

SHIM = """
#include <math.h>
#define __global__
#define __device__
#define __forceinline__ inline
static struct { unsigned x, y; } blockIdx, threadIdx, blockDim, gridDim;
"""

# The two conversions are instructions of the device; not every C++ compiler has such a type.
HALF_ON_HOST = """
inline float load(const unsigned short* p, long long k) {
    const int bits = p[k] & 0x7fff, e = bits >> 10, m = bits & 0x3ff;
    float size = e ? ldexpf(m + 1024, e - 25) : ldexpf(m, -24);
    if (e == 31) size = m ? NAN : INFINITY;
    return p[k] & 0x8000 ? -size : size;
}
inline void store(unsigned short* p, long long k, float x) {
    const float size = fabsf(x);
    int e, bits;
    if (x != x) bits = 0x7e00;
    else if (size >= 65520) bits = 0x7c00;
    else if (size < ldexpf(1, -14)) bits = rintf(ldexpf(size, 24));
    // To the nearest, ties to even, and into the next exponent where that is nearest.
    else { const float m = frexpf(size, &e); bits = ((e + 13) << 10) + (int)rintf(m * 2048); }
    p[k] = bits | (signbit(x) ? 0x8000 : 0);
}
"""

SIGNATURE = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')


class HostKernel(NamedTuple):
    """A kernel that can be called: ``kernel(grid, block, arguments)``."""

    run: Any
    types: tuple[str, ...]
    """Of the arguments, ``"stored*"`` and the like."""
    sizes: dict[str, int]
    """Bytes of what these point to."""

    def __call__(self, grid: tuple, block: tuple, arguments: tuple) -> None:
        assert len(arguments) == len(self.types)
        held = []
        for type_, a in zip(self.types, arguments, strict=True):
            if type_ == "long long":
                assert type(a) is int
                held.append(ctypes.c_longlong(a))
                continue
            # Anything else would be read wrongly without a word.
            assert a.flags.c_contiguous
            assert a.itemsize == self.sizes[type_]
            assert (a.dtype == bool) == (type_ == "bool*")
            held.append(ctypes.c_void_p(a.ctypes.data))
        places = (ctypes.c_void_p * len(held))(*(ctypes.addressof(h) for h in held))
        self.run(*grid, *block, places)


def compiled(texts: list[str]) -> list[HostKernel]:
    """Compile kernels, all in one go."""
    parts, found = [SHIM], []
    for number, text in enumerate(texts):
        name, parameters = SIGNATURE.search(text).groups()
        types = tuple(_type(p) for p in parameters.split(","))
        casts = ", ".join(f"*({type_}*)a[{k}]" for k, type_ in enumerate(types))
        half = HALF in text
        text = text.replace(HALF, HALF_ON_HOST).replace(f" {name}(", f" {name}_{number}(")  # noqa: PLW2901
        parts.append(f"""namespace n{number} {{
{text}
extern "C" void run_{number}(unsigned gx, unsigned gy, unsigned bx, unsigned by, void** a) {{
    gridDim = {{gx, gy}}, blockDim = {{bx, by}};
    for (blockIdx.x = 0; blockIdx.x < gx; ++blockIdx.x)
    for (blockIdx.y = 0; blockIdx.y < gy; ++blockIdx.y)
    for (threadIdx.x = 0; threadIdx.x < bx; ++threadIdx.x)
    for (threadIdx.y = 0; threadIdx.y < by; ++threadIdx.y) {name}_{number}({casts});
}} }}""")
        real = 4 if "typedef float real" in text else 8
        found.append((types, {"stored*": 2 if half else real, "real*": real, "bool*": 1}))
    library = build("\n".join(parts))
    return [HostKernel(library[f"run_{k}"], *rest) for k, rest in enumerate(found)]


@functools.cache
def alone(text: str) -> HostKernel:
    """Compile one kernel."""
    return compiled([text])[0]


def _type(parameter: str) -> str:
    words = parameter.replace("const ", "").replace("__restrict__", "").split()
    return " ".join(words[:-1])


def build(text: str) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernels.cpp")
        path.write_text(text)
        options = ["-std=c++14", "-O0", "-w", "-shared", "-fPIC", "-ffp-contract=off"]
        made = path.with_suffix(".so")
        subprocess.run([COMPILER, *options, "-o", made, path], check=True)
        return ctypes.CDLL(str(made))
