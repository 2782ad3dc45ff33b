"""What a gradient check found, and how it says so."""

import math
import re
from dataclasses import dataclass

from xprnn.cells import Cell, unit_names

Index = tuple[int, ...]


@dataclass(frozen=True)
class Finding:
    """One array's gradient against numbers: the entry, or the direction, that agrees least.

    Attributes
    ----------
    name : str
        ``"weight_hh_l0"``, ``"input"``, ``"state h"``; of a cell ``"u[0]"``; ``"all"`` for
        directions that move every array.
    shape : tuple of int, or None
        None for ``"all"``.
    compared : int
        How many entries, or directions, were compared.
    kinks : int
        How many were not, because the function has no derivative there.
    index : tuple of int, or None
        Which entry is the worst; None for a direction.
    backward, numeric : float
        Its gradient (along a direction: the inner product), as computed and as it should be.
    error : float
        Their difference, relative to the larger one; where that is below a thousandth of the
        largest in the array, to that thousandth.
    verdict : {"right", "zero", "unseen", "wrong", "wrongly zero", "not finite", "kinks"}
        ``"zero"``: so it should be, but zero agrees with much.  ``"unseen"``: so small that
        differences are mostly rounding, and agree with much, too.  ``"wrongly zero"``: all of it is
        zero, and should not be.  ``"kinks"``: nothing could be compared.
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

    @property
    def passed(self) -> bool:
        """Whether the gradient is right as far as can be seen."""
        return self.verdict in ("right", "zero", "unseen")

    @property
    def where(self) -> str:
        """``"weight_hh_l0[3, 1]"``, or ``"weight_hh_l0 along a random direction"``."""
        if self.index is None:
            return f"{self.name} along a random direction"
        return f"{self.name}[{', '.join(map(str, self.index))}]"

    def sentence(self, method: str) -> str:
        """Return what is wrong."""
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
    """All of it; printed, a table.

    Attributes
    ----------
    subject : str
        What was checked.
    method : str
        How the numbers were found.
    tolerance : float
        Relative, see `Finding.error`.
    findings : tuple of Finding
    notes : tuple of str
        What was not checked, and what else there is to know.
    """

    subject: str
    method: str
    tolerance: float
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The arrays whose gradients are wrong, the worst first, and all together last."""
        failures = [finding for finding in self.findings if not finding.passed]
        return tuple(sorted(failures, key=_rank))

    @property
    def empty(self) -> bool:
        """Whether nothing was shown, because every gradient is zero, or lost in rounding."""
        return not any(finding.verdict == "right" for finding in self.findings)

    @property
    def passed(self) -> bool:
        """Whether no gradient is wrong, and some are more than zero."""
        return not self.failures and not self.empty

    def __getitem__(self, name: str) -> Finding:
        for finding in self.findings:
            if finding.name == name:
                return finding
        known = ", ".join(finding.name for finding in self.findings)
        raise KeyError(f"there is no {name!r} in this report: it has {known}")

    def __str__(self) -> str:
        head = ("", "shape", "compared", "worst", "backward", "numeric", "error", "")
        rows = [head, *(_cells(finding) for finding in self.findings)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"{self.subject}: {self.method}, tolerance {self.tolerance:g}"]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join(cells).rstrip())
        return "\n".join([*lines, *self.notes])


class GradientError(AssertionError):
    """A gradient is wrong, or nothing can be said of any.

    Attributes
    ----------
    report : GradientReport
    """

    def __init__(self, message: str, report: GradientReport) -> None:
        super().__init__(message, report)
        self.report = report

    def __str__(self) -> str:
        return f"{self.args[0]}\n\n{self.report}"


def _rank(finding: Finding) -> tuple[bool, float]:
    # "all" leads to no equation.
    # What is not finite has no error to compare, and is worse than any.
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
    "bias": "the gradient of b is Σ du(t); look at the cell's du",
    "norm_ih": "the gradient of γ is Σ du(t) N(W x(t)); look at the normalisation",
    "norm_hh": "the gradient of γ is Σ dv(t) N(U h(t-1)); look at the normalisation",
    "readout.weight": "the gradient of R is Σ dy(t) h(t)ᵀ, without the cell; look at the readout",
    "readout.bias": "the gradient of r is Σ dy(t), without the cell; look at the readout",
    "embedding.weight": "the gradient of row k is Σ dx(t) over x(t) = k; look at the embedding",
    "input": "the gradient of x(t) is Wᵀ du(t); look at the cell's du",
}


def network_advice(cell: Cell, hidden: int, finding: Finding) -> str:
    """Return which equation of a network a finding belongs to, and where to look."""
    name, index = finding.name, finding.index
    found = _LAYER.fullmatch(name)
    kind = found["kind"] if found else name
    if kind in unit_names(cell):
        k = cell.gates + unit_names(cell).index(kind)
        return f"its gradient is Σ dv[{k}](t); look at the cell's dv[{k}]"
    if name.startswith("state "):
        variable = name.removeprefix("state ")
        through = "Uᵀ dv(1), and " if variable == cell.state[0] else ""
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
    """Return where to look if a right cell's gradients are wrong in so many arrays; or nothing."""
    whole = {"weight_ih_l0", "weight_hh_l0"} <= wrong and any(n.startswith("state ") for n in wrong)
    if not whole:
        return ""
    if wrong & {"readout.weight", "readout.bias"}:
        return "the readout's are wrong, too: look where backward begins, at the loss or d_output"
    return (
        "with so much wrong, look between the steps: dh(t-1) = Uᵀ dv(t) + d_previous, and what "
        "reaches h(t-1) from outside"
    )
