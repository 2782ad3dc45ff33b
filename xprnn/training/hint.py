"""A hint, once in a process: a network this small may train faster on the CPU.

On a GPU a time step of a small layer costs what its launches cost, whatever it computes.  The rule
counts the multiplications of U h(t-1) for a batch, G·H·H·B.  Below `FEW` of them one CPU core needs
about as long as two launches take: an estimate that ``xprnn bench crossover`` checks on a machine.
"""

import logging

from xprnn.engine.network import RNN

FEW = 2**18
"""Multiplications of a step: an LSTM with 64 units and 16 sequences makes as many."""

_log = logging.getLogger("xprnn")
_said: set[str] = set()


def multiplications(net: RNN, batch: int) -> int:
    """Return G·H·H·B: the multiplications of a layer's recurrent product in one time step."""
    architecture = net.architecture
    return int(architecture.cell.gates * architecture.hidden_size**2 * batch)


def hint_if_small(net: RNN, batch: int) -> None:
    """Log a warning if a network is on an accelerator, and small; at most once in a process.

    Parameters
    ----------
    net : RNN
    batch : int
        B, the sequences in a batch.
    """
    backend = net.backend
    if _said or not backend.library.is_accelerator(backend.device):
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
