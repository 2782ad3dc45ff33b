"""A cell's equations as text: the numbered lines of its docstring, and the names of its gates."""

import inspect
import re
from typing import NamedTuple

from xprnn.cells import Cell, unit_names
from xprnn.engine.architecture import Architecture

_NUMBERED = re.compile(r"^\s*(\S.*?=.*?)\s{2,}\((\d+)\)\s*$")
_ORDER = re.compile(r"gates in the order ((?:\w+(?:, | and )?)+)")
_NAME = re.compile(r"[^\W\d]\w*(?:\(t(?:[-+]1)?\))?(?:\[\d+\])?")


class Equation(NamedTuple):
    """A numbered equation of a docstring."""

    number: int
    text: str

    @property
    def computes(self) -> str:
        """The name on its left side, without ``(t)``."""
        return self.text.partition("=")[0].strip().removesuffix("(t)")


def numbered_equations(cell: Cell) -> tuple[Equation, ...]:
    """Return the equations of a cell's docstring that stand on a line of their own, numbered."""
    text = inspect.getdoc(type(cell)) or ""
    found = map(_NUMBERED.match, text.splitlines())
    return tuple(
        Equation(int(match[2]), " ".join(match[1].split())) for match in found if match is not None
    )


def gate_names(cell: Cell) -> tuple[str, ...]:
    """Return the names of a cell's gates, in the order of its blocks; one gate has none.

    They are those of its docstring ("gates in the order r, z, n"), or the numbers from 0.
    """
    if cell.gates == 1:
        return ("",)
    text = " ".join((inspect.getdoc(type(cell)) or "").split())
    match = _ORDER.search(text)
    names = re.findall(r"\w+", match[1].replace(" and ", ", ")) if match else []
    if len(names) == cell.gates == len(set(names)):
        return tuple(names)
    return tuple(map(str, range(cell.gates)))


def block_names(cell: Cell, letter: str) -> tuple[str, ...]:
    """Return the names of the blocks of u or v: ``u_r``, ``u_z``, ...; or ``u``."""
    return tuple(f"{letter}_{gate}" if gate else letter for gate in gate_names(cell))


def short_unit_names(cell: Cell) -> tuple[str, ...]:
    """Return what equations call the per-unit parameters: ``b_hn`` is ``bias_hn``."""
    return tuple(re.sub(r"^([a-z])[a-z]*_", r"\1_", name) for name in unit_names(cell))


def read_out_of(architecture: Architecture) -> str:
    """Return what the readout multiplies by, at step t."""
    top = architecture.stack[-1]
    put_out = "h(t)" if top.P is None else "P h(t)"
    return f"({put_out} + x(t))" if top.skips else put_out


def readout_equation(architecture: Architecture) -> str:
    """Return the readout's equation; ``""`` if there is none."""
    if architecture.output_size is None:
        return ""
    return f"y(t) = R {read_out_of(architecture)}{' + r' if architecture.bias else ''}"


def transposed(factor: str) -> str:
    """Return the transposed text of a factor: ``h(t)ᵀ``, ``(P h(t))ᵀ``."""
    return f"({factor})ᵀ" if " " in factor and not factor.startswith("(") else f"{factor}ᵀ"


def parts(text: str, known: dict[str, int]) -> list[str | list[str | int]]:
    """Split an equation into text, and names whose values are known: ``[name, value]``.

    >>> parts("z(t) = u(t) + 1", {"z(t)": 4, "u(t)": 7})
    [['z(t)', 4], ' = ', ['u(t)', 7], ' + 1']
    """
    found: list[str | list[str | int]] = []
    end = 0
    for match in _NAME.finditer(text):
        if match[0] in known:
            found += [text[end : match.start()], [match[0], known[match[0]]]]
            end = match.end()
    return [part for part in (*found, text[end:]) if part]
