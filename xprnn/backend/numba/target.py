"""The processor that Numba compiles for, as tiles must know it: its vectors and their registers.

That is the host, unless the environment variables ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES``
name another one.  No list of processors is kept here: LLVM compiles a small loop for the processor,
and the registers that the machine code uses say what it has.
"""

import re
from functools import cache
from typing import NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core.registry import cpu_target

_LIVE = 24
"""Vectors that the probe's loop keeps: more than 16 registers hold, and fewer than 32 do."""
_REGISTER_BYTES = {"zmm": 64, "ymm": 32, "xmm": 16, "q": 16, "v": 16}
"""Bytes of vector registers by name: of x86, and of ARM's NEON (``q`` or ``v``)."""


class Target(NamedTuple):
    """A processor.

    Attributes
    ----------
    vector_bytes : int
        The size of its widest vectors.
    registers : int
        How many registers it has for them: 16 or 32.
    """

    vector_bytes: int
    registers: int


@cache
def target() -> Target:
    """Return the processor that Numba compiles for in this process."""
    return probe(*cpu_target.target_context.codegen().magic_tuple())


def probe(triple: str, cpu: str, features: str) -> Target:
    """Return a processor's vectors, by the machine code of a loop that keeps `_LIVE` of them."""
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features)
    assembly = machine.emit_assembly(llvm.parse_assembly(_source(triple)))
    used: dict[str, int] = {}
    for name, number in re.findall(r"\b([xyz]mm|[qv])(\d+)\b", assembly):
        used[name] = max(used.get(name, 0), int(number) + 1)
    if not used:
        return Target(16, 16)
    widest = max(used, key=lambda name: _REGISTER_BYTES[name])
    return Target(_REGISTER_BYTES[widest], 32 if used[widest] > 16 else 16)


def _source(triple: str) -> str:
    """Return the loop: each vector, of 64 bytes, is multiplied by the next one in every round."""
    module = ir.Module()
    module.triple = triple
    number, kind = ir.IntType(64), ir.VectorType(ir.FloatType(), 16)
    function = ir.Function(module, ir.FunctionType(kind, [number, *[kind] * _LIVE]), "probe")
    count, *given = function.args
    before, body, after = (function.append_basic_block() for _ in range(3))
    builder = ir.IRBuilder(before)
    builder.branch(body)
    builder.position_at_end(body)
    done = builder.phi(number)
    vectors = [builder.phi(kind) for _ in given]
    products = [builder.fmul(a, b) for a, b in zip(vectors, vectors[1:] + vectors[:1], strict=True)]
    more = builder.add(done, ir.Constant(number, 1))
    for phi, first, next_ in zip([done, *vectors], [count, *given], [more, *products], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(next_, body)
    builder.cbranch(builder.icmp_signed("<", more, ir.Constant(number, 0)), body, after)
    builder.position_at_end(after)
    total = products[0]
    for product in products[1:]:
        total = builder.fadd(total, product)
    builder.ret(total)
    return str(module)
