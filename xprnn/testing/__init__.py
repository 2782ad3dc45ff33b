"""Proofs for users: that gradients are right, and that every backend computes the same."""

from xprnn.testing.cell import check_cell
from xprnn.testing.contract import ContractError, check_contract
from xprnn.testing.findings import Finding, GradientError, GradientReport
from xprnn.testing.gradients import check_gradients
from xprnn.testing.parity import assert_parity
from xprnn.testing.report import ParityError, ParityReport, Row, Side
from xprnn.testing.tolerances import tolerance, tolerance_after

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
    "check_gradients",
    "tolerance",
    "tolerance_after",
]
