"""What the record of a layer is made from, and how its numbers get their names."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from xprnn.backend import Backend
from xprnn.backend.host.arrays import HostArray, np
from xprnn.cells import Arrays, Cell, has_layer_norm
from xprnn.diagnostics.inspection.passes import Back, Forth
from xprnn.diagnostics.inspection.record import Line, Quantity
from xprnn.diagnostics.inspection.watching import Call, Statement
from xprnn.engine.architecture import Architecture, Direction
from xprnn.engine.layer.layer import Tape
from xprnn.engine.recurrent import Factors

Result: TypeAlias = tuple[str, Any, Statement | None]
"""A name, what it stands for, and the statement that computed it."""

Host: TypeAlias = Callable[[Any], HostArray | None]
"""Returns an array as (T, K) on the host, in the sequence's order; None if it is not one of T."""


@dataclass(frozen=True)
class View:
    """A layer in one direction, and its passes.

    Attributes
    ----------
    tape : Tape
        Of one segment.
    cut : tuple of array, (T, 1, H) each, or None
        What a window keeps from reaching each state.
    factors : Factors or None
        Of the recurrent matrix, if the layer has a projection.
    """

    architecture: Architecture
    direction: Direction
    tape: Tape
    forth: Forth
    back: Back
    cut: Arrays | None
    factors: Factors | None

    @property
    def cell(self) -> Cell:
        return self.architecture.cell

    @property
    def normalises(self) -> bool:
        return has_layer_norm(self.cell)

    @property
    def before(self) -> str:
        """What equations call the step that is read before step t."""
        return "(t+1)" if self.direction.reverse else "(t-1)"

    @property
    def after(self) -> str:
        return "(t-1)" if self.direction.reverse else "(t+1)"

    @property
    def projection(self) -> str:
        """What stands behind U in equations: ``" P"`` if the layer has a projection."""
        return "" if self.factors is None else " P"

    @property
    def projection_back(self) -> str:
        """What stands before Uᵀ in equations."""
        return "" if self.factors is None else "Pᵀ "

    def projected(self, h: HostArray) -> HostArray:
        """Return P h of every step on the host, (T, P), given h, (T, H)."""
        assert self.factors is not None
        P: HostArray = self.tape.backend.to_numpy(self.factors.P).astype(np.float64)
        return h @ P.T

    @property
    def recurrent_shape(self) -> tuple[int, ...]:
        """The shape of the parameter U."""
        return self.architecture.shapes()[self.direction.names.U]

    def host(self, a: Any) -> HostArray | None:
        """Return an array of every step on the host, (T, K), in the sequence's order.

        None if it is no array of every step, nor of a number for each unit.
        """
        found = on_host(self.tape.backend, self.forth.u.shape[0], a)
        return found if found is None or not self.direction.reverse else found[::-1]

    def values(self, a: Any) -> HostArray:
        """Return the same of what is known to be such an array."""
        found = self.host(a)
        assert found is not None
        return found

    def named(self, values: Mapping[str, Any]) -> dict[str, HostArray]:
        """Return those that are such arrays."""
        found = {name: self.host(alone(a)) for name, a in values.items()}
        return {name: a for name, a in found.items() if a is not None}


def on_host(backend: Backend, steps: int, a: Any) -> HostArray | None:
    """Return an array as (T, K) on the host; None if it isn't one."""
    if not backend.owns(a):
        return None
    values = backend.to_numpy(a)
    if values.ndim < 2:
        # A parameter per unit, or a number: the same at every step.
        values = np.broadcast_to(np.atleast_1d(values), (steps, max(values.size, 1)))
    elif values.ndim == 3 and values.shape[:2] == (steps, 1):
        values = values[:, 0, :]
    elif values.ndim != 2 or len(values) != steps:
        return None
    return values if values.dtype.kind in "iu" else values.astype(np.float64)


class Rows:
    """Quantities by name: a name that is taken gets a prime."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.quantities: list[Quantity] = []

    def add(
        self, name: str, values: Any, group: str, line: int | None = None, note: str = ""
    ) -> None:
        found = self._host(values)
        if found is None:
            return
        names = {q.name for q in self.quantities}
        while name in names:
            name += "′"
        self.quantities.append(Quantity(name, found, group, line, note))

    def known(self) -> dict[str, HostArray]:
        return {q.name: q.values for q in self.quantities}


def results_of(call: Call, state: dict[str, Any]) -> list[Result]:
    """Return what a formula has computed, by its names, in the order in which it did.

    Parameters
    ----------
    call : Call
    state : dict
        The new state; what has no name in the formula comes last, by these names.
    """
    seen = {id(a) for argument in call.arguments for a in flat(argument)}
    results: list[Result] = []
    for executed in call.executed:
        for name, value in executed.written.items():
            single = alone(value)
            if hasattr(single, "shape") and id(single) not in seen:
                results.append((name, single, executed.statement))
    named = {(name, id(a)) for name, a, _ in results}
    last = call.executed[-1].statement if call.executed else None
    results += [(k, a, last) for k, a in state.items() if (k, id(a)) not in named]
    return results


def flat(value: Any) -> Iterable[Any]:
    """Yield the elements of nested tuples."""
    if isinstance(value, tuple | list):
        for part in value:
            yield from flat(part)
    else:
        yield value


def alone(value: Any) -> Any:
    """Return the element of a tuple of one, else the value itself."""
    return value[0] if isinstance(value, tuple | list) and len(value) == 1 else value


def source_lines(view: View, call: Call, lines: list[Line]) -> dict[object, int]:
    """Append the statements that computed something; return their places."""
    placed: dict[object, int] = {}
    for statement, read, written in call.executed:
        if statement is None or not statement.works:
            continue
        placed[statement] = len(lines)
        left, right = view.named(written), view.named(read)
        lines.append(Line(statement.text, None, statement.cites, left, right))
    return placed
