"""A layer's passes as a record."""

from xprnn.diagnostics.inspection.backward import backward_quantities, contributions
from xprnn.diagnostics.inspection.forward import forward_quantities
from xprnn.diagnostics.inspection.record import LayerRecord
from xprnn.diagnostics.inspection.view import View


def layer_record(view: View) -> LayerRecord:
    """Return every quantity of a layer in one direction."""
    forward, forward_lines = forward_quantities(view)
    backward, backward_lines = backward_quantities(view)
    return LayerRecord(
        view.direction.layer,
        view.direction.reverse,
        forward,
        backward,
        forward_lines,
        backward_lines,
        tuple(contributions(view)),
    )
