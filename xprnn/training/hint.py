"""Hints, each once in a process: what would make a training faster.

**A network this small may train faster on the CPU.**

On a GPU a time step of a small layer costs what its launches cost, whatever it computes.  The rule
counts the multiplications of U h(t-1) for a batch, G·H·H·B.  Below `FEW` of them one CPU core needs
about as long as two launches take: an estimate that ``xprnn bench crossover`` checks on a machine.

**Compiled loops are not installed.**

On NumPy they need about half the time; said at the end of a training that was long enough for that
to count.
"""

import logging

from xprnn.backend.numba import lowering_word, why_no_numba
from xprnn.cells import recurrent_blocks
from xprnn.engine.network import RNN

FEW = 2**18
"""Multiplications of a step: an LSTM with 64 units and 16 sequences makes as many."""

LONG = 20.0
"""Seconds of training from which installing something is worth a line."""

_log = logging.getLogger("xprnn")
_said: set[str] = set()


def multiplications(net: RNN, batch: int) -> int:
    """Return G·H·H·B: the multiplications of a layer's recurrent product in one time step."""
    architecture = net.architecture
    return int(recurrent_blocks(architecture.cell) * architecture.width**2 * batch)


def hint_if_small(net: RNN, batch: int) -> None:
    """Log a warning if a network is on an accelerator, and small; at most once in a process.

    Parameters
    ----------
    net : RNN
    batch : int
        B, the sequences in a batch.
    """
    backend = net.backend
    if backend.name in _said or not backend.library.is_accelerator(backend.device):
        return
    count = multiplications(net, batch)
    if count < FEW:
        _said.add(backend.name)
        _log.warning(
            "this network makes G·H·H·B = %d multiplications in a time step, which may take longer "
            "on a GPU than on the CPU (below about %d); xprnn bench crossover measures it",
            count,
            FEW,
        )


def hint_if_not_compiled(net: RNN, seconds: float) -> None:
    """Log a warning after a long training on NumPy without Numba; at most once in a process.

    Parameters
    ----------
    net : RNN
    seconds : float
        How long the training took.
    """
    missing = net.backend.library.lowering == "numpy" and lowering_word() == "on"
    if seconds <= LONG or not missing or "numba" in _said:
        return
    reason = why_no_numba()
    if reason:
        _said.add("numba")
        _log.warning("this training could take about half the time with compiled loops: %s", reason)
