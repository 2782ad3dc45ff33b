"""Persistent CUDA kernels run on the host: the same source, with all threads of all blocks."""

import ctypes
import functools
import re
from pathlib import Path
from typing import Any, NamedTuple

from tests.cuda_host import BITS, HALF_ON_HOST, addresses, build, in_c, signature
from xprnn.backend.cuda.precision import BFLOAT16, HALF
from xprnn.engine.loop.cuda.persistent.fragments import MMA, SHARED

SCHEDULES = {
    "in order": 0,
    "reversed": 1,
    "rotated": 2,
    "greedy": 3,
    "greedy, reversed": 4,
    "first threads": 5,
}

OUTCOMES = ("fine", "deadlock", "torn")
"""Torn: threads at different barriers, or a write past the end of the shared memory."""

# Ties away from zero, as the instruction's name has it.
MMA_ON_HOST = """
static inline float kept(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7f800000) != 0x7f800000) bits = (bits + 0x1000) & 0xffffe000;
    memcpy(&x, &bits, 4);
    return x;
}
using host::multiply_add;
"""

SIGNATURE = re.compile(r'extern "C" __global__ void __launch_bounds__\(.*?\) (\w+)\(([^)]*)\)')


class KernelError(Exception):
    """The kernel did not come to its end."""


class HostKernel(NamedTuple):
    """A kernel that can be called: ``kernel(grid, block, arguments, shared_bytes)``."""

    run: Any
    types: tuple[str, ...]
    """Of the arguments, ``"stored*"`` and the like."""
    sizes: dict[str, int]
    """Bytes of what these point to."""

    def __call__(
        self,
        grid: tuple,
        block: tuple,
        arguments: tuple,
        shared_bytes: int,
        schedule: str = "in order",
        clock_step: int = 1,
        patience: int = 2,
    ) -> None:
        assert block[1] == 1
        held = in_c(self.types, self.sizes, arguments)
        places = addresses(held)
        numbers = (*grid, block[0], shared_bytes, SCHEDULES[schedule])
        outcome = OUTCOMES[self.run(places, *numbers, ctypes.c_longlong(clock_step), patience)]
        if outcome != "fine":
            raise KernelError(outcome)


def compiled(texts: list[str]) -> list[HostKernel]:
    """Compile kernels, all in one go."""
    parts, found = [Path(__file__).with_name("cuda_fibres.h").read_text("utf-8"), BITS], []
    for number, text in enumerate(texts):
        name, parameters = SIGNATURE.search(text).groups()
        types, casts = signature(parameters)
        half, wide = HALF in text or BFLOAT16 in text, "typedef float real" not in text
        assert HALF in text or text.count("asm") == 2 * (MMA in text)
        host = text.replace(HALF, HALF_ON_HOST).replace(MMA, MMA_ON_HOST)
        host = host.replace(SHARED, "float4* const shared = (float4*)host::memory;")
        host = host.replace('extern "C" ', "").replace(f" {name}(", f" {name}_{number}(")
        parts.append(f"""namespace n{number} {{
{host}
static void body(void** a) {{ {name}_{number}({casts}); }}
extern "C" int run_{number}(void** a, unsigned gx, unsigned gy, unsigned threads, unsigned bytes,
                            int schedule, long long step, int patience) {{
    return host::run(body, a, gx, gy, threads, bytes, schedule, step, patience);
}} }}""")
        real = 8 if wide else 4
        found.append((types, {"stored*": 2 if half else real, "real*": real, "bool*": 1}))
    library = build("\n".join(parts))
    sizes = {"unsigned*": 4}
    return [
        HostKernel(library[f"run_{k}"], types, sizes | rest)
        for k, (types, rest) in enumerate(found)
    ]


@functools.cache
def alone(text: str) -> HostKernel:
    """Compile one kernel."""
    return compiled([text])[0]
