"""The source of one step of a time loop in CUDA C: one fused elementwise kernel each way.

Numbers refer to the equations in `xprnn.engine.loop.protocol`.  The products, (2) and (8), and the
sum over sequences in (11) are in `xprnn.engine.loop.cuda.loops`; normalisation, (3) and (7), is not
here.

A thread computes unit j of sequence b, and then of every so many sequences further on if there are
more than the grid holds.  It reads all that it needs, computes the formula in registers, and then
writes, so an array that is carried from step to step may be overwritten in place.  No two threads
write to one entry, and there are no atomic operations: the same numbers give the same bits.

Arrays are contiguous and have all steps; t is an argument of the kernel.  Names::

    i, w, n             place in (B, H), place in (B, G·H), number of entries of (B, H)
    u, v, unit0         the projected input (T, B, G·H), the product (B, G·H), per-unit parameters
    states0, saved0     (T+1, B, H), (T, B, H)
    masked              m h(t), (B, H), which the next product reads
    valid               the padding mask, (T, B)
    through_U, carry0   Uᵀ dv(t+1), and the rest of the gradient of the state, (B, H)
    dh                  the gradient that reaches the outputs from outside the loop, (T, B, H)
    du, dv, total0      results: (T, B, G·H), and sums over t per sequence and unit, (B, H)
    d_state0            the gradient of the state after the step, of this unit
    inside              whether the step is within the sequence
    x3                  node 3 of the program
"""

import re
from abc import ABC, abstractmethod
from typing import NamedTuple

from xprnn.engine.loop.cuda.functions import PRECISIONS, expression, literal, prelude
from xprnn.engine.loop.program import BOOL, CONSTANT, FLOAT, INPUT, Program, split_name
from xprnn.engine.loop.results import direct_gradient, one_gradient, saved_places

NUMBERS = ("t", "T", "B", "H")
"""The first arguments of a kernel, 64 bits each."""

_BEFORE, _AFTER, _STEP = "t * n + i", "(t + 1) * n + i", "i"


class KernelSource(NamedTuple):
    """A kernel.

    Attributes
    ----------
    name : str
    text : str
    arguments : tuple of str
        The arrays that it takes after `NUMBERS`.
    """

    name: str
    text: str
    arguments: tuple[str, ...]


class Variant(NamedTuple):
    """What a kernel is made for.

    Attributes
    ----------
    dtype : {"float16", "float32", "float64"}
    masked : bool
        Whether there is a mask of recurrent dropout.
    lengths : bool
        Whether there is a padding mask.
    """

    dtype: str
    masked: bool = False
    lengths: bool = False


class _Kernel(ABC):
    """The text of a kernel, while it is written."""

    def __init__(self, program: Program, gates: int, variant: Variant) -> None:
        self.program, self.gates, self.variant = program, gates, variant
        self.precision = PRECISIONS[variant.dtype]
        self.arguments: dict[str, str] = {}
        self.lines: list[str] = []
        # They come last, because the compiler can't know that they hit nothing that is read.
        self.stores: list[str] = []

    def pointer(self, name: str, kind: str, *, written: bool = False) -> str:
        """Return the name of an array, and make it an argument."""
        type_ = {FLOAT: "stored", BOOL: "bool", "real": "real"}[kind]
        if written or name not in self.arguments:
            # __restrict__: read through a cache that doesn't see writes.
            self.arguments[name] = f"{type_}* " if written else f"const {type_}* __restrict__ "
        return name

    def load(self, name: str, place: str, kind: str = FLOAT) -> str:
        """Return an expression for an entry of an array."""
        return f"load({self.pointer(name, kind)}, {place})"

    def store(self, name: str, place: str, value: str, kind: str = FLOAT) -> None:
        """Write an entry of an array."""
        self.stores.append(f"store({self.pointer(name, kind, written=True)}, {place}, {value});")

    def let(self, name: str, value: str, kind: str = FLOAT) -> str:
        """Define a local variable, and return its name."""
        self.lines.append(f"const {'bool' if kind == BOOL else 'real'} {name} = {value};")
        return name

    def gate(self, k: int, place: str = "") -> str:
        """Return the place of gate k in (B, G·H), or in (T, B, G·H) after `step`."""
        return f"{place}w + {k} * H" if k else f"{place}w"

    @property
    def step(self) -> str:
        """The place where step t of (T, B, G·H) begins."""
        return f"t * {self.gates} * n + "

    @abstractmethod
    def input(self, name: str, kind: str) -> str:
        """Return an expression for an input of the formula."""

    def compute(self) -> None:
        """Write the formula."""
        names = self.names = list[str]()
        for index, node in enumerate(self.program.nodes):
            if node.op == CONSTANT:
                names.append(literal(node, self.precision))
            elif node.op == INPUT:
                name = f"{node.value}"
                names.append(self.let(f"{name}_", self.input(name, node.kind), node.kind))
            else:
                operands = [names[a] for a in node.args]
                value = expression(node.op, operands, self.precision)
                names.append(self.let(f"x{index}", value, node.kind))

    def within(self, value: str, otherwise: str) -> str:
        """Return an expression: the one within the sequence, the other past its end."""
        return f"inside ? {value} : {otherwise}" if self.variant.lengths else value

    def source(self, name: str) -> KernelSource:
        """Return the kernel."""
        head = ", ".join(f"long long {number}" for number in NUMBERS)
        pointers = "".join(f",\n    {type_}{a}" for a, type_ in self.arguments.items())
        body = "\n".join(f"        {line}" for line in self.lines + self.stores)
        # A compiler warns of unused variables.
        places = {"i": "b * H + j", "w": f"{self.gates} * b * H + j"}
        used = [f"{k} = {v}" for k, v in places.items() if re.search(rf"\b{k}\b", body)]
        ops = {node.op for node in self.program.nodes}
        text = f"""{prelude(self.precision, ops)}
extern "C" __global__ void {name}(
    {head}{pointers})
{{
    const long long j = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= H) return;
    const long long n = B * H, rows = (long long)gridDim.y * blockDim.y;
    for (long long b = (long long)blockIdx.y * blockDim.y + threadIdx.y; b < B; b += rows) {{
        const long long {", ".join(used)};
{body}
    }}
}}
"""
        return KernelSource(name, text, tuple(self.arguments))


class _Forward(_Kernel):
    def input(self, name: str, kind: str) -> str:
        del kind  # floats, all of them
        group, k = split_name(name)
        if group == "unit":
            return self.load(name, "j")
        if group == "state":
            return self.load(f"states{k}", _BEFORE)
        return self.load(group, self.gate(k or 0, self.step if group == "u" else ""))

    def build(self) -> KernelSource:
        nodes, outputs, lengths = self.program.nodes, self.program.outputs, self.variant.lengths
        for k in range(len(outputs["state"])):
            self.pointer(f"states{k}", FLOAT, written=True)
        if lengths:
            self.let("inside", self.load("valid", "t * B + b", BOOL), BOOL)
        self.compute()
        for k, index in enumerate(outputs["state"]):
            held = self.load(f"states{k}", _BEFORE) if lengths else ""
            new = self.let(f"new{k}", self.within(self.names[index or 0], held))  # (4)
            self.store(f"states{k}", _AFTER, new)
        if self.variant.masked and self.reads_product:
            # (1), of the next step
            masked = self.let("masked_", f"new0 * {self.load('mask', _STEP)}")
            self.store("masked", _STEP, masked)
        places = saved_places(self.program)
        for k, (place, index) in enumerate(zip(places, outputs["saved"], strict=True)):
            if place == ("saved", k):
                value, kind = self.names[index or 0], nodes[index or 0].kind
                self.store(f"saved{k}", _BEFORE, value, kind)
        return self.source("xprnn_forward")

    @property
    def reads_product(self) -> bool:
        """Whether the formula reads v."""
        return "v" in self.arguments


class _Backward(_Kernel):
    def input(self, name: str, kind: str) -> str:
        group, k = split_name(name)
        if group == "unit":
            return self.load(name, "j")
        if group == "d_state":
            return name
        return self.load(f"states{k}" if group == "previous" else name, _BEFORE, kind)

    def carried(self) -> None:
        """Write the gradient of the state after the step."""
        through_U = self.load("through_U", _STEP)
        if self.variant.masked:
            through_U += f" * {self.load('mask', _STEP)}"  # (9), of the step before this call
        # At the last step there is no product yet, and all of dh is in carry0.
        first, later = self.load("carry0", _STEP), f"({through_U})"
        if self.needs_carry:
            later = f"{first} + {later}"  # (9)
        d = f"(t + 1 < T ? {later} : {first})"
        if "dh" in self.arguments:
            d += f" + {self.load('dh', _BEFORE)}"  # (5)
        read = self.program.inputs("d_state")
        for k in range(len(self.program.outputs["previous"])):
            if self.variant.lengths or k in read:
                self.let(f"d_state{k}", self.load(f"carry{k}", _STEP) if k else d)

    @property
    def needs_carry(self) -> bool:
        """See the function of this name."""
        return needs_carry(self.program, self.variant)

    def build(self, *, outer: bool) -> KernelSource:
        outputs = self.program.outputs
        if outer:
            self.pointer("dh", FLOAT)
        if self.variant.lengths:
            self.let("inside", self.load("valid", "t * B + b", BOOL), BOOL)
        self.carried()
        self.compute()
        for name in ("dv",) if one_gradient(self.program) else ("dv", "du"):
            for k, index in enumerate(outputs[name]):
                value = self.within(self.names[index or 0], "0")  # (6)
                self.store(name, self.gate(k, self.step), value)
        for k, index in enumerate(outputs["units"]):
            self.pointer(f"total{k}", "real", written=True)
            part = self.within(self.names[index or 0], "0")  # (6)
            total = self.let(f"total{k}_", f"total{k}[i] + ({part})")  # (11), over the steps
            self.stores.append(f"total{k}[i] = {total};")
        for k, result in enumerate(outputs["previous"]):
            if k or self.needs_carry:
                value = "0" if result is None else self.names[result]
                self.store(f"carry{k}", _STEP, self.within(value, f"d_state{k}"))  # (10)
        return self.source("xprnn_backward")


def needs_carry(program: Program, variant: Variant) -> bool:
    """Return whether dh has a part besides Uᵀ dv(t+1) that goes from step to step.

    That is a direct gradient of the formula, or what is held past the end of a sequence.
    """
    return variant.lengths or direct_gradient(program) is not None


def forward_source(program: Program, gates: int, variant: Variant) -> KernelSource:
    """Return the kernel of step t, forward: ``xprnn_forward``."""
    return _Forward(program, gates, variant).build()


def backward_source(program: Program, gates: int, variant: Variant, *, outer: bool) -> KernelSource:
    """Return the kernel of step t, backward: ``xprnn_backward``.  Without ``outer``, dh is None."""
    return _Backward(program, gates, variant).build(outer=outer)
