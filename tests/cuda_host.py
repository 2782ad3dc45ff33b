"""CUDA kernels run on the host: the same source, compiled as C++, a thread after the other.

The threads of a block that wait for each other are fibres: each runs until it waits.
"""

import ctypes
import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from xprnn.backend.cuda.precision import BFLOAT16, HALF

COMPILER = shutil.which("g++") or shutil.which("c++")

SHIM = """
#include <math.h>
#define __global__
#define __device__
#define __forceinline__ inline
static struct { unsigned x, y; } blockIdx, threadIdx, blockDim, gridDim;
"""

BITS = """
#include <string.h>
inline unsigned __float_as_uint(float x) { unsigned a; memcpy(&a, &x, 4); return a; }
inline float __uint_as_float(unsigned a) { float x; memcpy(&x, &a, 4); return x; }
"""
"""Two functions of the device's compiler."""

FIBRES = """
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
#define __shared__ static
enum { READY, WAITS, DONE, MOST = 1024, STACK = 32768 };
static ucontext_t home, place[MOST];
static char stacks[MOST][STACK];
static int state[MOST], now;
static void (*body)(void**);
static void** given;
static void turn(int after) { state[now] = after; swapcontext(&place[now], &home); }
static void enter() { body(given); turn(DONE); }
static void __syncthreads() { turn(WAITS); }
template <class T> static T atomicMax(T* a, T b) { T old = *a; if (b > old) *a = b; return old; }
static void run_block(void (*f)(void**), void** a) {
    const int all = blockDim.x * blockDim.y;
    body = f, given = a;
    for (int k = 0; k < all; ++k) {
        getcontext(&place[k]);
        place[k].uc_stack.ss_sp = stacks[k], place[k].uc_stack.ss_size = STACK;
        makecontext(&place[k], enter, 0);
        state[k] = READY;
    }
    for (;;) {
        int waiting = 0, done = 0;
        for (int k = 0; k < all; ++k) {
            threadIdx = {k % blockDim.x, k / blockDim.x}, now = k;
            if (state[k] == READY) swapcontext(&home, &place[k]);
            waiting += state[k] == WAITS, done += state[k] == DONE;
        }
        if (done == all) return;
        if (done) { fprintf(stderr, "a thread ended before a barrier\\n"); abort(); }
        if (waiting == all) for (int k = all; k--;) state[k] = READY;
    }
}
"""
"""The first thread runs first, so that it doesn't find by chance what others should have left."""

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

NUMBERS = {"long long": (int, ctypes.c_longlong), "double": (float, ctypes.c_double)}

SIGNATURE = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')


class HostKernel(NamedTuple):
    """A kernel that can be called: ``kernel(grid, block, arguments)``."""

    run: Any
    types: tuple[str, ...]
    """Of the arguments, ``"stored*"`` and the like."""
    sizes: dict[str, int]
    """Bytes of what these point to."""

    def __call__(self, grid: tuple, block: tuple, arguments: tuple) -> None:
        held = in_c(self.types, self.sizes, arguments)
        self.run(*grid, *block, addresses(held))


def in_c(types: tuple[str, ...], sizes: dict[str, int], arguments: tuple) -> list[Any]:
    """Return numbers and addresses for a kernel, of which anything else would be read wrongly."""
    held = []
    for type_, a in zip(types, arguments, strict=True):
        if type_ in NUMBERS:
            kind, made = NUMBERS[type_]
            assert type(a) is kind
            held.append(made(a))
            continue
        assert a.flags.c_contiguous
        assert a.itemsize == sizes[type_]
        assert (a.dtype == bool) == (type_ == "bool*")
        held.append(ctypes.c_void_p(a.ctypes.data))
    return held


def addresses(held: list[Any]) -> Any:
    """Return where arguments are, which must stay there."""
    return (ctypes.c_void_p * len(held))(*(ctypes.addressof(h) for h in held))


def signature(parameters: str) -> tuple[tuple[str, ...], str]:
    """Return the types of a kernel's parameters, and C's expressions for them out of ``a``."""
    types = tuple(_type(parameter) for parameter in parameters.split(","))
    return types, ", ".join(f"*({type_}*)a[{k}]" for k, type_ in enumerate(types))


def compiled(texts: list[str]) -> list[HostKernel]:
    """Compile kernels, all in one go."""
    parts, found = [SHIM, BITS, *[FIBRES] * any(map(_meets, texts))], []
    for number, text in enumerate(texts):
        name, parameters = SIGNATURE.search(text).groups()
        types, casts = signature(parameters)
        half = HALF in text or BFLOAT16 in text
        text = text.replace(HALF, HALF_ON_HOST).replace(f" {name}(", f" {name}_{number}(")  # noqa: PLW2901
        call = f"{name}_{number}({casts})"
        block = "run_block(call, a)"
        if not _meets(text):
            block = f"""for (threadIdx.x = 0; threadIdx.x < bx; ++threadIdx.x)
    for (threadIdx.y = 0; threadIdx.y < by; ++threadIdx.y) {call}"""
        parts.append(f"""namespace n{number} {{
{text}
static void call(void** a) {{ {call}; }}
extern "C" void run_{number}(unsigned gx, unsigned gy, unsigned bx, unsigned by, void** a) {{
    gridDim = {{gx, gy}}, blockDim = {{bx, by}};
    for (blockIdx.x = 0; blockIdx.x < gx; ++blockIdx.x)
    for (blockIdx.y = 0; blockIdx.y < gy; ++blockIdx.y)
    {block};
}} }}""")
        real = 4 if "typedef float real" in text else 8
        sizes = {"stored*": 2 if half else real, "real*": real, "bool*": 1}
        sizes |= dict.fromkeys(("double*", "long long*", "unsigned long long*"), 8)
        sizes["int*"] = 4
        found.append((types, sizes))
    library = build("\n".join(parts))
    return [HostKernel(library[f"run_{k}"], *rest) for k, rest in enumerate(found)]


def _meets(text: str) -> bool:
    """Whether the threads of a block work together."""
    return "__syncthreads" in text or "atomicMax" in text


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
