"""Which equation a wrong gradient belongs to, and where that stands."""

import re

from xprnn.cells import Cell, unit_names
from xprnn.testing.gradients.report import Finding

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
