"""What a CUDA kernel does in one step of one unit of one sequence, either way: the cell's lines.

They are written from the cell's program, and so are the loop's equations around them, which are
cited by their numbers in `xprnn.engine.loop.protocol`.  Where a value of another unit comes from, a
product or a carried sum, is up to the kernel: that of one step (`xprnn.engine.loop.cuda.source`) or
that of all steps (`xprnn.engine.loop.cuda.persistent.source`).  Normalisation, (3) and (7), is in
neither, but in `xprnn.engine.loop.cuda.normalize`.

Arrays are contiguous and have all steps.  Names in the text::

    t, b, j             step, sequence, unit
    i, w, n             place in (B, H), place in (B, G·H), number of entries of (B, H)
    u, v, unit0         the projected input (T, B, G·H), the product (B, G·H), per-unit parameters
    states0, saved0     (T+1, B, H), (T, B, H)
    mask, valid         of recurrent dropout (B, H); the padding mask, (T, B)
    dh                  the gradient that reaches the outputs from outside the loop, (T, B, H)
    du, dv              results, (T, B, G·H)
    d_state0            the gradient of the state after the step, of this unit
    inside              whether the step is within the sequence
    x3                  node 3 of the program
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

from xprnn.engine.loop.cuda.functions import PRECISIONS, expression, literal
from xprnn.engine.loop.program import BOOL, CONSTANT, FLOAT, INPUT, Program, split_name
from xprnn.engine.loop.results import direct_gradient, one_gradient, saved_places

BEFORE, AFTER, HERE = "t * n + i", "(t + 1) * n + i", "i"
"""Places in (T+1, B, H) before and after the step, and in (B, H)."""


class KernelSource(NamedTuple):
    """A kernel.

    Attributes
    ----------
    name : str
    text : str
    arguments : tuple of str
        The arrays that it takes after its numbers.
    """

    name: str
    text: str
    arguments: tuple[str, ...]


class Variant(NamedTuple):
    """What a kernel is made for.

    Attributes
    ----------
    dtype : {"float16", "bfloat16", "float32", "float64"}
    masked : bool
        Whether there is a mask of recurrent dropout.
    lengths : bool
        Whether there is a padding mask.
    """

    dtype: str
    masked: bool = False
    lengths: bool = False


class CellLines(ABC):
    """The lines of a step, while they are written."""

    def __init__(self, program: Program, gates: int, variant: Variant) -> None:
        self.program, self.gates, self.variant = program, gates, variant
        self.precision = PRECISIONS[variant.dtype]
        self.arguments: dict[str, str] = {}
        # What needs no other unit of this step, so that it can be read early.
        self.reads: list[str] = []
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
        self.lines.append(_definition(name, value, kind))
        return name

    def read(self, name: str, value: str, kind: str = FLOAT) -> str:
        """Define a local variable that needs nothing of this step, and return its name."""
        self.reads.append(_definition(name, value, kind))
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
        """Define the variable of an input of the formula, and return its name."""

    def compute(self) -> None:
        """Write the formula."""
        names = self.names = list[str]()
        for index, node in enumerate(self.program.nodes):
            if node.op == CONSTANT:
                names.append(literal(node, self.precision))
            elif node.op == INPUT:
                names.append(self.input(f"{node.value}", node.kind))
            else:
                operands = [names[a] for a in node.args]
                value = expression(node.op, operands, self.precision)
                names.append(self.let(f"x{index}", value, node.kind))

    def within(self, value: str, otherwise: str) -> str:
        """Return an expression: the one within the sequence, the other past its end."""
        return f"inside ? {value} : {otherwise}" if self.variant.lengths else value


class ForwardLines(CellLines):
    """The lines of a step forward."""

    @abstractmethod
    def product(self, gate: int) -> str:
        """Return an expression for v of a gate."""

    @property
    def reads_product(self) -> bool:
        """Whether the formula reads v."""
        return bool(self.program.inputs("v"))

    def input(self, name: str, kind: str) -> str:
        del kind  # floats, all of them
        group, k = split_name(name)
        if group == "v":
            return self.let(f"{name}_", self.product(k or 0))
        if group == "unit":
            value = self.load(name, "j")
        elif group == "state":
            value = self.load(f"states{k}", BEFORE)
        else:
            value = self.load(group, self.gate(k or 0, self.step))
        return self.read(f"{name}_", value)

    def write(self) -> None:
        """Write the step."""
        nodes, outputs, lengths = self.program.nodes, self.program.outputs, self.variant.lengths
        for k in range(len(outputs["state"])):
            self.pointer(f"states{k}", FLOAT, written=True)
        if lengths:
            self.read("inside", self.load("valid", "t * B + b", BOOL), BOOL)
        self.compute()
        for k, index in enumerate(outputs["state"]):
            held = self.read(f"held{k}", self.load(f"states{k}", BEFORE)) if lengths else ""
            new = self.let(f"new{k}", self.within(self.names[index or 0], held))  # (4)
            self.store(f"states{k}", AFTER, new)
        places = saved_places(self.program)
        for k, (place, index) in enumerate(zip(places, outputs["saved"], strict=True)):
            if place == ("saved", k):
                value, kind = self.names[index or 0], nodes[index or 0].kind
                self.store(f"saved{k}", BEFORE, value, kind)


class BackwardLines(CellLines):
    """The lines of a step backward."""

    @abstractmethod
    def product_back(self) -> str:
        """Return an expression for Uᵀ dv(t+1), which is read where t + 1 < T alone."""

    @abstractmethod
    def carried(self, k: int) -> str:
        """Return an expression for what the step after has left of the gradient of state k."""

    @abstractmethod
    def carry(self, k: int, value: str) -> None:
        """Leave a part of the gradient of state k to the step before."""

    @abstractmethod
    def add_to_total(self, k: int, part: str) -> None:
        """Add to the gradient of per-unit parameter k."""

    @property
    def needs_carry(self) -> bool:
        """See the function of this name."""
        return needs_carry(self.program, self.variant)

    def input(self, name: str, kind: str) -> str:
        group, k = split_name(name)
        if group == "d_state":
            return self.let(f"{name}_", name)
        if group == "unit":
            value = self.load(name, "j")
        else:
            value = self.load(f"states{k}" if group == "previous" else name, BEFORE, kind)
        return self.read(f"{name}_", value, kind)

    def gradient_of_state(self) -> None:
        """Write the gradient of the state after the step."""
        first = d = self.carried(0)
        if reads_product(self.program):
            through_U = self.product_back()
            if self.variant.masked:
                through_U += f" * {self.load('mask', HERE)}"  # (9), of the step before this call
            # At the last step there is no product yet, and all of dh is in what was given.
            later = f"({through_U})"
            if self.needs_carry:
                later = f"{first} + {later}"  # (9)
            d = f"(t + 1 < T ? {later} : {first})"
        if "dh" in self.arguments:
            d += f" + {self.read('dh_', self.load('dh', BEFORE))}"  # (5)
        read = self.program.inputs("d_state")
        for k in range(len(self.program.outputs["previous"])):
            if self.variant.lengths or k in read:
                self.let(f"d_state{k}", self.carried(k) if k else d)

    def write(self, *, outer: bool) -> None:
        """Write the step.  Without ``outer``, dh is None."""
        outputs = self.program.outputs
        if outer:
            self.pointer("dh", FLOAT)
        if self.variant.lengths:
            self.read("inside", self.load("valid", "t * B + b", BOOL), BOOL)
        self.gradient_of_state()
        self.compute()
        for name in ("dv",) if one_gradient(self.program) else ("dv", "du"):
            for k, index in enumerate(outputs[name]):
                value = self.let(f"{name}{k}_", self.within(self.names[index or 0], "0"))  # (6)
                self.store(name, self.gate(k, self.step), value)
        for k, index in enumerate(outputs["units"]):
            self.add_to_total(k, self.within(self.names[index or 0], "0"))  # (6), (11)
        for k, result in enumerate(outputs["previous"]):
            if k or self.needs_carry:
                value = "0" if result is None else self.names[result]
                self.carry(k, self.within(value, f"d_state{k}"))  # (10)


def needs_carry(program: Program, variant: Variant) -> bool:
    """Return whether dh has a part besides Uᵀ dv(t+1) that goes from step to step.

    That is a direct gradient of the formula, or what is held past the end of a sequence.  Without U
    it is all of dh.
    """
    direct = direct_gradient(program) is not None
    return variant.lengths or direct or not reads_product(program)


def reads_product(program: Program) -> bool:
    """Return whether the cell of a backward formula reads v, so that there is a product with U."""
    return bool(program.outputs["dv"])


def _definition(name: str, value: str, kind: str) -> str:
    return f"const {'bool' if kind == BOOL else 'real'} {name} = {value};"
