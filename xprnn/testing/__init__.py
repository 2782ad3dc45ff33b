"""Proofs for users: that gradients are right, and that every backend computes the same."""

from xprnn.testing.contract import ContractError, check_contract
from xprnn.testing.gradients.cell import check_cell
from xprnn.testing.gradients.function import check_gradient
from xprnn.testing.gradients.network import check_gradients
from xprnn.testing.gradients.report import Finding, GradientError, GradientReport
from xprnn.testing.parity.check import assert_parity
from xprnn.testing.parity.report import ParityError, ParityReport, Row, Side
from xprnn.testing.parity.tolerances import tolerance, tolerance_after

__all__ = [
    "ContractError",
    "Finding",
    "GradientError",
    "GradientReport",
    "ParityError",
    "ParityReport",
    "Row",
    "Side",
    "assert_parity",
    "check_cell",
    "check_contract",
    "check_gradient",
    "check_gradients",
    "tolerance",
    "tolerance_after",
]
