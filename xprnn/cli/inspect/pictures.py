"""The pictures of ``xprnn inspect``, of the last layer."""

from collections.abc import Callable
from typing import TypeAlias

from xprnn import diagnostics
from xprnn.backend.host.arrays import np
from xprnn.cells import has_recurrent_matrix
from xprnn.cli.inspect.sequences import Inspected
from xprnn.diagnostics import Figure, Flow, Page
from xprnn.engine.network import RNN

Pictures: TypeAlias = dict[str, tuple[Callable[[], Figure], str]]

MATRIX = 250
"""Up to so many steps the contribution of each loss is computed: a backward pass for each."""


def pictures(
    net: RNN, data: Inspected, flow: Flow, page: Page
) -> dict[str, tuple[Callable[[], Figure], str]]:
    """Return the pictures by their files' names: a function that draws it, and what it shows."""
    record, layer = page.record, page.record.layers[-1]
    tokens = None
    if record.x.dtype.kind in "iu":
        names = record.vocabulary
        tokens = [names[k] if k < len(names) else str(k) for k in record.x.tolist()]
    row = len(flow.names) - 1

    def gates() -> Figure:
        found = diagnostics.gates_over_time(
            net, data.x, lengths=data.lengths, mask=data.mask, row=row
        )
        return diagnostics.plot_gates(found, tokens=tokens)

    drawn: Pictures = {
        "flow.png": (lambda: diagnostics.plot_flow(flow, tokens=tokens), "‖∂L/∂h(t)‖ over steps"),
        "states.png": (
            lambda: diagnostics.plot_state_map(layer["h"], tokens=tokens),
            "the hidden state over steps",
        ),
        "gates.png": (gates, "the gates over steps"),
    }
    if has_recurrent_matrix(net.cell):
        drawn["eigenvalues.png"] = (
            lambda: diagnostics.plot_eigenvalues(flow, row=row),
            "U's eigenvalues and the unit circle",
        )
    if flow.matrix is not None:
        drawn["contributions.png"] = (
            lambda: diagnostics.plot_contributions(flow, row=row, tokens=tokens),
            "what each step's loss contributes",
        )
    if layer["h"].shape[1] > 1 and record.steps > 1 and np.all(np.isfinite(layer["h"])):
        drawn["phase.png"] = (
            lambda: diagnostics.plot_phase(layer["h"]),
            "the state's way through the plane of its principal components",
        )
    return drawn
