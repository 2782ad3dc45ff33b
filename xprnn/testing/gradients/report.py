"""What a gradient check has found, as a table and in words."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from xprnn.cells import Cell, has_recurrent_matrix, recurrent_blocks, unit_names
from xprnn.testing.arrays import Index, entry_name

PASSED = ("right", "zero", "unseen")
"""The verdicts on a gradient with which nothing is wrong, as far as is known."""
AT_KINKS = "at a kink there is no derivative to compare with"
SAME_FACTOR = 1e-4
"""How much the factors of several gradients may differ to be one."""


@dataclass(frozen=True)
class Finding:
    """The gradient of one array against numeric derivatives, at its worst entry or direction.

    Attributes
    ----------
    name : str
        Of a network's array: ``"weight_hh_l0"``, ``"input"``, ``"state h"``; of a cell's:
        ``"u[0]"``; ``"all"`` for directions that change all arrays together.
    shape : tuple of int, or None
        The array's shape; None for ``"all"``.
    compared : int
        The number of entries, or directions, that were compared.
    kinks : int
        The number that could not be compared, because the function has no derivative there.
    index : tuple of int, or None
        The index of the worst entry; None for a direction.
    backward, numeric : float
        The derivative with respect to that entry, or along that direction, as computed by backward
        and numerically.
    error : float
        Their difference, relative to the larger of the two, or to a thousandth of the largest
        derivative of the array if that is more.
    verdict : {"right", "zero", "unseen", "wrong", "wrongly zero", "not finite", "kinks"}
        ``"zero"``: the gradient is zero and should be, which shows little.  ``"unseen"``: it is so
        small that numeric derivatives are mostly rounding, which shows little, too.  ``"wrongly
        zero"``: all of it is zero and should not be.  ``"kinks"``: nothing could be compared.
    factor : float, optional
        Of a wrong gradient all of whose entries are the right ones times one number: that number.
    """

    name: str
    shape: Index | None
    compared: int
    kinks: int
    index: Index | None
    backward: float
    numeric: float
    error: float
    verdict: str
    factor: float | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong with the gradient as far as numeric derivatives show."""
        return self.verdict in PASSED

    @property
    def where(self) -> str:
        """``"weight_hh_l0[3, 1]"``, or ``"weight_hh_l0 along a random direction"``."""
        if self.index is None:
            return f"{self.name} along a random direction"
        return entry_name(self.name, self.index)

    def sentence(self, method: str) -> str:
        """Return what is wrong, in a sentence."""
        if self.verdict == "kinks":
            return f"the gradient of {self.name} can't be compared: there are kinks everywhere"
        also = f" (all of {self.name} is zero)" if self.verdict == "wrongly zero" else ""
        numeric = method.partition(" of ")[0].partition(" in ")[0]
        return (
            f"the gradient of {self.where} is {self.backward:.10g} by backward{also}, "
            f"but {self.numeric:.10g} by {numeric}"
        )


@dataclass(frozen=True)
class GradientReport:
    """The result of a gradient check; printed, it is a table.

    ``report["weight_hh_l0"]`` is the finding of that name.

    Attributes
    ----------
    subject : str
        What was checked.
    method : str
        How the numeric derivatives were computed.
    tolerance : float
        The largest relative error allowed; see `Finding.error`.
    findings : tuple of Finding
        One for each array.
    notes : tuple of str
        What was not checked, and what else is worth knowing.
    """

    subject: str
    method: str
    tolerance: float
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that are wrong, the worst first, and that of all arrays together last."""
        failures = [finding for finding in self.findings if not finding.passed]
        return tuple(sorted(failures, key=_rank))

    @property
    def empty(self) -> bool:
        """Whether the check shows nothing, as every gradient is zero or lost in rounding."""
        return not any(finding.verdict == "right" for finding in self.findings)

    @property
    def passed(self) -> bool:
        """Whether no gradient is wrong, and some gradient is right without being zero."""
        return not self.failures and not self.empty

    def __getitem__(self, name: str) -> Finding:
        for finding in self.findings:
            if finding.name == name:
                return finding
        known = ", ".join(finding.name for finding in self.findings)
        raise KeyError(f"there is no {name!r} in this report: it has {known}")

    def __str__(self) -> str:
        head = ("", "shape", "compared", "worst", "backward", "numeric", "error", "")
        # Next to wrong gradients, the others are of interest by their names only.
        shown = [finding for finding in self.findings if not (self.failures and finding.passed)]
        rows = [head, *(_cells(finding) for finding in shown)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"{self.subject}: {self.method}, tolerance {self.tolerance:g}"]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join(cells).rstrip())
        for verdict in PASSED:
            names = [f.name for f in self.findings if f.verdict == verdict and f not in shown]
            lines += [f"{verdict}: {', '.join(names)}"] if names else []
        return "\n".join([*lines, *self.notes])


class Common(NamedTuple):
    """What several wrong gradients have in common: the names, and the factor in words."""

    names: tuple[str, ...]
    words: str


def common_factor(failures: Sequence[Finding]) -> Common | None:
    """Return the largest group of gradients that are off by one factor; None if none is."""
    groups: list[list[Finding]] = []
    for finding in failures:
        if finding.factor is None or finding.shape is None:
            continue
        for group in groups:
            first = group[0].factor or 0.0
            if abs(finding.factor - first) <= SAME_FACTOR * abs(first):
                group.append(finding)
                break
        else:
            groups.append([finding])
    if not groups:
        return None
    group = max(groups, key=len)
    names, factor = tuple(finding.name for finding in group), group[0].factor or 0.0
    sign = abs(factor + 1) <= SAME_FACTOR
    # A factor near one would look like one.
    times = f"{factor:.12g}" if abs(factor - 1) < SAME_FACTOR else f"{factor:.6g}"
    if len(names) == 1:
        words = "has the wrong sign" if sign else f"is off by the factor {times}"
        return Common(names, f"every entry of {names[0]} {words}")
    words = "have the wrong sign" if sign else f"are off by the same factor {times}"
    return Common(names, f"all of {', '.join(names)} {words}")


def kinks_of(report: GradientReport) -> str:
    """Return the note about kinks; an empty text if there are none."""
    return next((note for note in report.notes if note.startswith(AT_KINKS)), "")


class GradientError(AssertionError):
    """A gradient is wrong, or the check shows nothing because all gradients are zero.

    Attributes
    ----------
    report : GradientReport
    """

    def __init__(self, message: str, report: GradientReport) -> None:
        super().__init__(message, report)
        self.report = report

    @property
    def sentence(self) -> str:
        """The first line of the message, which says what is wrong."""
        return str(self.args[0]).partition("\n")[0]

    def __str__(self) -> str:
        return f"{self.args[0]}\n\n{self.report}"


def _rank(finding: Finding) -> tuple[bool, float]:
    # "all" comes last, because it leads to no equation.  NaN is worse than any error.
    error = -math.inf if math.isnan(finding.error) else -finding.error
    return finding.shape is None, error


def _cells(finding: Finding) -> tuple[str, ...]:
    kinks = f" + {finding.kinks} at kinks" if finding.kinks else ""
    index = finding.index
    return (
        finding.name,
        "" if finding.shape is None else str(finding.shape),
        f"{finding.compared}{kinks}",
        "direction" if index is None else f"[{', '.join(map(str, index))}]",
        f"{finding.backward:.9g}",
        f"{finding.numeric:.9g}",
        f"{finding.error:.1e}",
        finding.verdict,
    )


_LAYER = re.compile(r"(?P<kind>.+?)_l\d+(_reverse)?")


_NETWORK = {
    "weight_ih": "the gradient of W is Σ du(t) x(t)ᵀ; look at the cell's du",
    "weight_hh": "the gradient of U is Σ dv(t) h(t-1)ᵀ; look at the cell's dv",
    "weight_hr": "the gradient of P is Σ dh(t) m(t)ᵀ + Uᵀ dM, M = U P; look at the cell's dv",
    "bias": "the gradient of b is Σ du(t); look at the cell's du",
    "norm_ih": "the gradient of γ is Σ du(t) N(W x(t)); look at the normalisation",
    "norm_hh": "the gradient of γ is Σ dv(t) N(U h(t-1)); look at the normalisation",
    "readout.weight": "the gradient of R is Σ dy(t) h(t)ᵀ, without the cell; look at the readout",
    "readout.bias": "the gradient of r is Σ dy(t), without the cell; look at the readout",
    "embedding.weight": "the gradient of row k is Σ dx(t) over x(t) = k, and if it is tied to the "
    "readout also Σ dy(t)[k] h(t)ᵀ; look at the embedding",
    "input": "the gradient of x(t) is Wᵀ du(t); look at the cell's du",
}


def network_advice(cell: Cell, hidden: int, finding: Finding) -> str:
    """Return the equation of a network that a gradient comes from, and where to look."""
    name, index = finding.name, finding.index
    found = _LAYER.fullmatch(name)
    kind = found["kind"] if found else name
    if kind in unit_names(cell):
        k = recurrent_blocks(cell) + unit_names(cell).index(kind)
        return f"its gradient is Σ dv[{k}](t); look at the cell's dv[{k}]"
    if name.startswith("state "):
        variable = name.removeprefix("state ")
        through = ""
        if variable == cell.state[0] and has_recurrent_matrix(cell):
            through = "Uᵀ dv(1), and "
        k = cell.state.index(variable)
        return (
            f"the gradient of {variable}(0) is {through}what the cell passes on; look at the "
            f"cell's d_previous[{k}]" + (" and dv" if through else "")
        )
    advice = _NETWORK.get(kind, "")
    if index is not None and kind in ("weight_ih", "weight_hh", "bias") and cell.gates > 1:
        advice += f"[{index[0] // hidden}]"
    return advice


def between_steps(wrong: set[str]) -> str:
    """Return where to look if these arrays' gradients are wrong although the cell is right.

    An empty text if only a few are wrong.
    """
    whole = {"weight_ih_l0", "weight_hh_l0"} <= wrong and any(n.startswith("state ") for n in wrong)
    if not whole:
        return ""
    if wrong & {"readout.weight", "readout.bias"}:
        return "the readout's are wrong, too: look where backward begins, at the loss or d_output"
    return (
        "with so much wrong, look between the steps: dh(t-1) = Uᵀ dv(t) + d_previous, and what "
        "reaches h(t-1) from outside"
    )
