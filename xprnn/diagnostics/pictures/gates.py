"""The gates of a network over time, by their names, for `plot_gates`."""

from collections.abc import Sequence

from xprnn import checks
from xprnn.backend.entry import entry
from xprnn.backend.host.arrays import HostArray
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.diagnostics.inspection.equations import gate_names
from xprnn.diagnostics.inspection.recording import record
from xprnn.engine.network import RNN


@entry
def gates_over_time(
    net: RNN,
    x: Array,
    *,
    state: Arrays | None = None,
    lengths: Sequence[int] | None = None,
    mask: Array | None = None,
    sequence: int = 0,
    row: int = 0,
) -> dict[str, HostArray]:
    """Return the gates of a layer over one sequence, (T, H) each, by name, without dropout.

    The names are those of the cell's docstring and formula, such as i, f, g and o.  A cell whose
    gates have no names, a user's own say, has everything that its formula computes; one with a
    single gate has h alone.

    Parameters
    ----------
    net : RNN
    x, state, lengths, mask
        See `RNN.forward`.
    sequence : int
        Which sequence of the batch; of a shorter one, the steps that exist.
    row : int
        Which layer and direction, in the order of the state.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit the network, or is out of range.

    Examples
    --------
    >>> import numpy as np, xprnn
    >>> net = xprnn.RNN(1, 8, cell="lstm", dtype="float64", rng=0)
    >>> gates = gates_over_time(net, np.ones((20, 1, 1)))
    >>> list(gates), gates["f"].shape
    (['i', 'f', 'g', 'o'], (20, 8))
    """
    backend = net.backend
    steps, batch = x.shape[:2] if getattr(x, "ndim", 0) > 1 else (1, 1)
    shape = net.architecture.output_shape(steps, batch)
    zeros = backend.library.zeros(shape, backend.dtype, backend.device)
    found = record(
        net, x, d_output=zeros, state=state, lengths=lengths, mask=mask, sequence=sequence
    )
    layer = found.layers[checks.index("row", row, len(found.layers))]
    computed = {q.name: q.values for q in layer.forward if q.group == "cell"}
    if net.cell.gates == 1:
        return {"h": layer["h"]}
    named = {name: computed[name] for name in gate_names(net.cell) if name in computed}
    return named or computed
