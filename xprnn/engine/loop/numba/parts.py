"""What the sources of the compiled time loops are put together from.

The names in them are explained in `xprnn.engine.loop.numba.source`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from xprnn.engine.loop.numba.rows import Rows
from xprnn.engine.loop.program import BOOL, FLOAT, Program
from xprnn.engine.loop.results import Place, backward_results
from xprnn.engine.loop.text import function, indented

NUMBERS = ("table", "save", "first", "last", "start", "stop", "team")
"""The first arguments of a loop: the address of a table of compiled functions (see
`xprnn.backend.numba.addresses`); whether to save anything; the units (from first to last - 1) and
the sequences (from start to stop - 1) that the thread owns; and how many threads share these
sequences."""

GROUP = 8
"""The gradients of per-unit parameters are summed over groups of this many sequences.  A thread
owns whole groups, so that the same sums are formed however many threads there are."""


class Argument(NamedTuple):
    """An array that a loop takes: its number of axes, its kind, and whether the loop writes it."""

    axes: int
    kind: str = FLOAT
    written: bool = False


class Loop(NamedTuple):
    """The source of a loop, and how to call it.

    Attributes
    ----------
    source : str
    arrays : tuple of Argument
        Its arguments after `NUMBERS` and the arrays ``sync`` and ``work``.
    constants : dict
        The constants that it names: their values and kinds.
    saved : dict
        Forward: by the number of a saved quantity that has an array of its own, its kind.
    places : tuple
        Forward: see `saved_places`.
    """

    source: str
    arrays: tuple[Argument, ...]
    constants: dict[str, tuple[float | bool, str]]
    saved: dict[int, str] = {}  # noqa: RUF012 - never written to
    places: tuple[Place, ...] = ()


def row_at(name: str, array: str, place: str, kind: str = FLOAT, width: str = "n") -> str:
    """Return the line that makes a row of an array, given where it begins."""
    size = "SIZE" if kind == FLOAT else "1"
    return f"{name} = row({zero_of(kind)}, at_{array} + ({place}) * {size}, {width})"


def addresses(names: Iterable[str]) -> list[str]:
    """Return the lines that take the addresses of arrays."""
    return [f"at_{name} = {name}.ctypes.data" for name in names]


def packing(first: str, last: str, place: str, turned: int = 0) -> list[str]:
    """Return the line that packs columns of U, or with ``turned`` of Uᵀ, to a place."""
    return [f"call(table, PACK, (at_U, U.shape[0], H, {first}, {last}, {turned}, {place}))"]


def in_use(names: Iterable[str]) -> list[str]:
    """Return the lines that keep arrays alive which the loop reads by their address only."""
    return [f"hold({name})" for name in names]


def scratch_rows(kinds: dict[str, str]) -> list[str]:
    """Return the lines that make rows which are only needed within a step."""
    return [
        f"{name} = empty(W, {'boolean' if kind == BOOL else 'dtype'})"
        for name, kind in kinds.items()
    ]


def zero_of(kind: str) -> str:
    """Return what stands for zero in a row of this kind."""
    return "False" if kind == BOOL else "zero"


def either(test: str, one: list[str], other: list[str]) -> list[str]:
    """Return one or the other lines under a test."""
    return [f"if {test}:", *indented(one), "else:", *indented(other)]


def head(name: str, arrays: Iterable[str], numbers: Sequence[str] = NUMBERS) -> str:
    """Return a loop's name and the names of its arguments."""
    return f"{name}({', '.join((*numbers, 'sync', 'work', *arrays))})"


class Back:
    """What the loops of the backward direction have in common.

    Attributes
    ----------
    rows : Rows
        The formula.
    states, units : range
    wholes : list of str
        The gradients of v and, if it differs, of u.
    grads : list of str
        Their rows.
    product : bool
        Whether the cell reads v, so that there is a product through U.
    scratch : dict of str to str
        Rows that are only needed within a step.
    direct : str
        dh(t-1) by the paths that don't go through U.
    others : list of (int, str)
        The gradients of the other state variables before the step.
    inputs, sums : list of str
        The lines that make the rows of inputs; that add to the sums of the per-unit parameters'
        gradients, in a loop over units.
    """

    def __init__(self, program: Program, saved: Sequence[str]) -> None:
        program, results = backward_results(program)
        outputs, previous = program.outputs, program.outputs["previous"]
        self._kinds = saved
        self.rows = rows = Rows(
            program, results, [index for index in previous if index is not None]
        )
        self.states, self.units = range(len(previous)), range(len(outputs["units"]))
        self.wholes = [group for group in ("dv", "du") if group in outputs]
        self.product = bool(outputs["dv"])
        self.grads = [f"{group}{k}" for group in self.wholes for k in range(len(outputs[group]))]
        unit_grads = {name: FLOAT for name in results.values() if name.startswith("unit_grad")}
        self.scratch = rows.scratch | unit_grads
        values = ["zero" if index is None else f"{rows.name(index)}[j]" for index in previous]
        self.direct, self.others = values[0], list(enumerate(values))[1:]
        self.inputs = [
            *(row_at(f"saved{k}", f"saved{k}_", "here", saved[k]) for k in program.inputs("saved")),
            *(row_at(f"previous{k}", f"states{k}", "here") for k in program.inputs("previous")),
            *(row_at(f"sum{k}", f"sum{k}_", "b // GROUP * H + first") for k in self.units),
        ]
        summed = [rows.name(index or 0) for index in outputs["units"]]
        self.sums = [f"    sum{k}[j] += {name}[j]" for k, name in enumerate(summed)]  # (11)

    def loop(
        self,
        name: str,
        lines: list[str],
        carried: dict[str, Argument],
        numbers: Sequence[str] = NUMBERS,
        *,
        keeps: bool = False,
    ) -> Loop:
        """Return a loop, given its lines and the arrays of the state's gradients.

        With ``keeps``, ``reached`` comes after ``mask``.
        """
        three, written = Argument(3), Argument(3, FLOAT, written=True)
        arrays = {"U": Argument(2), "dh": three, "valid": Argument(2, BOOL), "mask": Argument(2)}
        if keeps:
            arrays["reached"] = written
        arrays |= {f"unit{k}_": Argument(1) for k in self.units}
        arrays |= {f"states{k}": three for k in self.states}
        arrays |= {f"saved{k}_": Argument(3, kind) for k, kind in enumerate(self._kinds)}
        arrays |= carried
        arrays |= dict.fromkeys(self.wholes, written)
        arrays |= {f"sum{k}_": Argument(2, FLOAT, written=True) for k in self.units}
        source = function(head(name, arrays, numbers), lines)
        return Loop(source, tuple(arrays.values()), self.rows.constants())
