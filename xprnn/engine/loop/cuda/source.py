"""The source of one step of a time loop in CUDA C: one fused elementwise kernel each way.

A thread has one unit j of one sequence b, and the next sequences if there are more than the grid
holds.  It reads everything, computes the formula in registers, and writes everything, so an array
that is carried from step to step may be overwritten in place.  No two threads write to one entry,
and there are no atomic operations: the same numbers give the same bits.

Arrays are those of the whole sequence, contiguous; the kernel is told t.  Names::

    i, w, n             place in (B, H), place in (B, G·H), entries of (B, H)
    u, v, unit0         the projected input (T, B, G·H), the product (B, G·H), per-unit parameters
    states0, saved0     (T+1, B, H), (T, B, H)
    masked              h(t) times the mask, (B, H): what the next product reads
    valid               which steps are within their sequence, (T, B)
    q, carry0           Uᵀ dv(t+1), and the rest of the gradient of the state, (B, H)
    dh                  the gradient that reaches the outputs from outside, (T, B, H)
    du, dv, total0      results: (T, B, G·H), and sums over t per sequence and unit, (B, H)
"""

import re
from abc import ABC, abstractmethod
from typing import NamedTuple

from xprnn.engine.loop.cuda.functions import PRECISIONS, expression, literal, prelude
from xprnn.engine.loop.program import BOOL, CONSTANT, FLOAT, INPUT, Program

NUMBERS = ("t", "T", "B", "H")
"""The kernel's first arguments, 64 bits each."""

_BEFORE, _AFTER, _STEP = "t * n + i", "(t + 1) * n + i", "i"


class KernelSource(NamedTuple):
    """A kernel.

    Attributes
    ----------
    name : str
    text : str
    arguments : tuple of str
        The arrays that it takes after `NUMBERS`, in order.
    """

    name: str
    text: str
    arguments: tuple[str, ...]


class Variant(NamedTuple):
    """Which kernel of a formula.

    Attributes
    ----------
    dtype : {"float16", "float32", "float64"}
    masked : bool
        Whether h(t-1) is multiplied by a mask on its way to U.
    lengths : bool
        Whether steps may be past the end of their sequence.
    """

    dtype: str
    masked: bool = False
    lengths: bool = False


def saved_homes(program: Program) -> list[tuple[str, int]]:
    """Return per saved quantity where it is kept.

    ``("before", k)`` is state variable k before the step, ``("after", k)`` after it, and
    ``("saved", k)`` the k-th saved quantity, which is this one or one that equals it.
    """
    known: dict[int | None, tuple[str, int]] = {}
    for index, node in enumerate(program.nodes):
        if node.op == INPUT and _split(f"{node.value}")[0] == "state":
            known[index] = ("before", _split(f"{node.value}")[1])
    for k, new in enumerate(program.outputs["state"]):
        known.setdefault(new, ("after", k))
    return [known.setdefault(kept, ("saved", k)) for k, kept in enumerate(program.outputs["saved"])]


class _Kernel(ABC):
    """A kernel's text as it grows."""

    def __init__(self, program: Program, gates: int, variant: Variant) -> None:
        self.program, self.gates, self.variant = program, gates, variant
        self.precision = PRECISIONS[variant.dtype]
        self.arguments: dict[str, str] = {}
        self.lines: list[str] = []
        # After all that is read, because the compiler can't know that they hit nothing of it.
        self.stores: list[str] = []

    def pointer(self, name: str, kind: str, *, written: bool = False) -> str:
        """Return the name of an array, which is then an argument."""
        type_ = {FLOAT: "stored", BOOL: "bool", "real": "real"}[kind]
        if written or name not in self.arguments:
            # Only what nobody writes may be read through the cache that doesn't see writes.
            self.arguments[name] = f"{type_}* " if written else f"const {type_}* __restrict__ "
        return name

    def load(self, name: str, place: str, kind: str = FLOAT) -> str:
        """Return an expression for an entry of an array."""
        return f"load({self.pointer(name, kind)}, {place})"

    def store(self, name: str, place: str, value: str, kind: str = FLOAT) -> None:
        """Write an entry of an array."""
        self.stores.append(f"store({self.pointer(name, kind, written=True)}, {place}, {value});")

    def let(self, name: str, value: str, kind: str = FLOAT) -> str:
        """Define a local variable."""
        self.lines.append(f"const {'bool' if kind == BOOL else 'real'} {name} = {value};")
        return name

    def gate(self, k: int, place: str = "") -> str:
        """Return the place of gate k in (B, G·H), or of (T, B, G·H) at step t."""
        return f"{place}w + {k} * H" if k else f"{place}w"

    @property
    def step(self) -> str:
        """Where step t of (T, B, G·H) begins."""
        return f"t * {self.gates} * n + "

    @abstractmethod
    def input(self, name: str, kind: str) -> str:
        """Return an expression for an input of the formula."""

    def compute(self) -> None:
        """Compute all nodes."""
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
        """Return an expression for what counts within a sequence only."""
        return f"inside ? {value} : {otherwise}" if self.variant.lengths else value

    def source(self, name: str) -> KernelSource:
        """Return the kernel."""
        head = ", ".join(f"long long {number}" for number in NUMBERS)
        pointers = "".join(f",\n    {type_}{a}" for a, type_ in self.arguments.items())
        body = "\n".join(f"        {line}" for line in self.lines + self.stores)
        # What is unused would be warned of.
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
        del kind  # numbers, all of them
        group, k = _split(name)
        if group == "unit":
            return self.load(name, "j")
        if group == "state":
            return self.load(f"states{k}", _BEFORE)
        return self.load(group, self.gate(k, self.step if group == "u" else ""))

    def build(self) -> KernelSource:
        nodes, outputs, lengths = self.program.nodes, self.program.outputs, self.variant.lengths
        for k in range(len(outputs["state"])):
            self.pointer(f"states{k}", FLOAT, written=True)
        if lengths:
            self.let("inside", self.load("valid", "t * B + b", BOOL), BOOL)
        self.compute()
        for k, index in enumerate(outputs["state"]):
            held = self.load(f"states{k}", _BEFORE) if lengths else ""
            new = self.let(f"new{k}", self.within(self.names[index or 0], held))
            self.store(f"states{k}", _AFTER, new)
        if self.variant.masked and self.reads_product:
            masked = self.let("masked_", f"new0 * {self.load('mask', _STEP)}")
            self.store("masked", _STEP, masked)
        for k, (home, index) in enumerate(
            zip(saved_homes(self.program), outputs["saved"], strict=True)
        ):
            if home == ("saved", k):
                value, kind = self.names[index or 0], nodes[index or 0].kind
                self.store(f"saved{k}", _BEFORE, value, kind)
        return self.source("xprnn_forward")

    @property
    def reads_product(self) -> bool:
        return "v" in self.arguments


class _Backward(_Kernel):
    def input(self, name: str, kind: str) -> str:
        group, k = _split(name)
        if group == "unit":
            return self.load(name, "j")
        if group == "d_state":
            return f"d{k}"
        return self.load(f"states{k}" if group == "previous" else name, _BEFORE, kind)

    def carried(self) -> None:
        """Gather the gradient of the state after the step."""
        outputs, lengths = self.program.outputs, self.variant.lengths
        through_U = self.load("q", _STEP)
        if self.variant.masked:
            through_U += f" * {self.load('mask', _STEP)}"
        # There is no product yet at the last step; and none but the product may come to h later.
        first, later = self.load("carry0", _STEP), f"({through_U})"
        if self.keeps_rest:
            later = f"{first} + {later}"
        d = f"(t + 1 < T ? {later} : {first})"
        if "dh" in self.arguments:
            d += f" + {self.load('dh', _BEFORE)}"
        read = {f"{node.value}" for node in self.program.nodes if node.op == INPUT}
        if lengths or "d_state0" in read:
            self.let("d0", d)
        for k in range(1, len(outputs["previous"])):
            if lengths or f"d_state{k}" in read:
                self.let(f"d{k}", self.load(f"carry{k}", _STEP))

    @property
    def keeps_rest(self) -> bool:
        """Whether the gradient of h has a part that doesn't come through U."""
        return keeps_rest(self.program, self.variant)

    def build(self, *, outer: bool) -> KernelSource:
        outputs = self.program.outputs
        if outer:
            self.pointer("dh", FLOAT)
        if self.variant.lengths:
            self.let("inside", self.load("valid", "t * B + b", BOOL), BOOL)
        self.carried()
        self.compute()
        for name in ("dv",) if outputs["du"] == outputs["dv"] else ("dv", "du"):
            for k, index in enumerate(outputs[name]):
                value = self.within(self.names[index or 0], "0")
                self.store(name, self.gate(k, self.step), value)
        for k, index in enumerate(outputs["units"]):
            self.pointer(f"total{k}", "real", written=True)
            part = self.within(self.names[index or 0], "0")
            total = self.let(f"total{k}_", f"total{k}[i] + ({part})")
            self.stores.append(f"total{k}[i] = {total};")
        for k, result in enumerate(outputs["previous"]):
            if k or self.keeps_rest:
                value = "0" if result is None else self.names[result]
                self.store(f"carry{k}", _STEP, self.within(value, f"d{k}"))
        return self.source("xprnn_backward")


def _split(name: str) -> tuple[str, int]:
    """Return group and number of an input."""
    group = name.rstrip("0123456789")
    return group, int(name[len(group) :])


def keeps_rest(program: Program, variant: Variant) -> bool:
    """Whether the gradient of h has a part that doesn't come through U."""
    return variant.lengths or program.outputs["previous"][0] is not None


def forward_source(program: Program, gates: int, variant: Variant) -> KernelSource:
    """Return the kernel of step t, forward: ``xprnn_forward``."""
    return _Forward(program, gates, variant).build()


def backward_source(program: Program, gates: int, variant: Variant, *, outer: bool) -> KernelSource:
    """Return the kernel of step t, backward: ``xprnn_backward``; with ``outer`` there is a dh."""
    return _Backward(program, gates, variant).build(outer=outer)
