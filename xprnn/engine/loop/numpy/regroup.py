"""Regrouping a formula that is linear in what the time loop carries.

A cell's `backward` multiplies the gradient of the state by factors that depend on no gradient::

    da = dh * tanh_c * (o * (1 - o))    becomes    da = dh * (tanh_c * (o * (1 - o)))
    da = (dh - dh * z) * k              becomes    da = dh * ((1 - z) * k)

so that one multiplication is left inside the time loop, and the factor can be computed for many
steps at once.  Results are the same to rounding.
"""

from typing import NamedTuple

from xprnn.engine.loop.program import CONSTANT, INPUT, Builder, Program, renumbered


class _Form(NamedTuple):
    """The product base · factor of two nodes; a factor of None is 1."""

    base: int
    factor: int | None


class _Regrouping:
    """One pass over a program, from its first node to its last."""

    def __init__(self, program: Program, late: set[int]) -> None:
        self.nodes, self.late, self.made = program.nodes, late, Builder()
        self.place: dict[int, int] = {}
        # By a node of the old program, two ways to write it as a product: with the base as far back
        # as possible, and with the nearest base that is computed in any case.
        self.forms: dict[int, tuple[_Form, _Form]] = {}

    def run(self, wanted: set[int]) -> dict[int, int]:
        """Return the new nodes of the wanted old ones."""
        for index in range(len(self.nodes)):
            self._step(index)
            if index in wanted and index in self.late:
                self.value(index)
        return {index: self.value(index) for index in wanted}

    def value(self, index: int) -> int:
        """Return the new node of an old one, and compute it if it isn't computed yet."""
        if index not in self.place:
            deep, near = self.forms[index]
            made = self.product(near)
            self.place[index] = made
            self.forms[index] = (deep, _Form(made, None))
        return self.place[index]

    def product(self, form: _Form) -> int:
        """Return the node that computes a form."""
        if form.factor is None:
            return form.base
        return self.made.apply("multiply", form.base, form.factor)

    def _step(self, index: int) -> None:
        node = self.nodes[index]
        if index not in self.late or node.op == INPUT:
            self.place[index] = self._copied(index)
            self.forms[index] = (_Form(self.place[index], None),) * 2
            return
        found = self._scaled(index) or self._summed(index)
        if found is None:
            made = self.made.apply(node.op, *(self.value(a) for a in node.args))
            self.place[index] = made
            found = (_Form(made, None),) * 2
        self.forms[index] = found

    def _copied(self, index: int) -> int:
        node = self.nodes[index]
        if node.op == INPUT:
            return self.made.input(f"{node.value}", node.kind)
        if node.op == CONSTANT:
            return self.made.constant(node.value)  # type: ignore[arg-type]
        return self.made.apply(node.op, *(self.value(a) for a in node.args))

    def _scaled(self, index: int) -> tuple[_Form, _Form] | None:
        """Return the forms of a multiple of something late: late · early, or -late."""
        node = self.nodes[index]
        if node.op == "negative":
            late, factor = node.args[0], self.made.constant(-1.0)
        elif node.op == "multiply" and len(self.late.intersection(node.args)) == 1:
            late, early = sorted(node.args, key=lambda a: a not in self.late)
            factor = self.value(early)
        else:
            return None
        deep, near = (self._times(form, factor) for form in self.forms[late])
        return deep, near

    def _times(self, form: _Form, factor: int) -> _Form:
        if form.factor is not None:
            factor = self.made.apply("multiply", form.factor, factor)
        return _Form(form.base, factor)

    def _summed(self, index: int) -> tuple[_Form, _Form] | None:
        """Return the forms of a sum of two multiples of one late node."""
        node = self.nodes[index]
        if node.op not in ("add", "subtract") or not self.late.issuperset(node.args):
            return None
        first, second = (self.forms[a][0] for a in node.args)
        if first.base != second.base:
            return None
        one = self.made.constant(1.0)
        factors = (one if form.factor is None else form.factor for form in (first, second))
        form = _Form(first.base, self.made.apply(node.op, *factors))
        return form, form


def regrouped(program: Program, late: set[int]) -> Program:
    """Return a program with fewer operations on late nodes, and the same results to rounding.

    Parameters
    ----------
    program : Program
    late : set of int
        The nodes that depend on what the time loop carries.
    """
    passing = _Regrouping(program, late)
    place = passing.run(set(program.wanted()))
    return passing.made.program(renumbered(program.outputs, place))
