"""One pass over a sequence, every quantity at every step: recorded, and shown on a page."""

from xprnn.diagnostics.inspection.page import Page, inspect_page
from xprnn.diagnostics.inspection.record import Contribution, LayerRecord, Quantity, Record

__all__ = ["Contribution", "LayerRecord", "Page", "Quantity", "Record", "inspect_page"]
