"""Proofs for users: that gradients are right."""

from xprnn.testing.cell import check_cell
from xprnn.testing.contract import ContractError, check_contract
from xprnn.testing.findings import Finding, GradientError, GradientReport
from xprnn.testing.gradients import check_gradients

__all__ = [
    "ContractError",
    "Finding",
    "GradientError",
    "GradientReport",
    "check_cell",
    "check_contract",
    "check_gradients",
]
