"""The gradient of several batches as if they were one."""

from xprnn.engine.gradients import GradientArray, add, times
from xprnn.losses import Loss
from xprnn.optim.protocol import Gradients


class Accumulation:
    """The gradient of the loss over batches joined, from the gradients of each.

    ::

        g = Σ g_k                             of a sum                  (1)
        g = Σ n_k g_k / Σ n_k                 of a mean over n_k entries

    The latter is a running mean, no larger than the gradients themselves::

        N = n_1 + ... + n_k
        g ← g (N - n_k) / N + g_k n_k / N                               (2)

    Sparse gradients stay sparse.
    """

    def __init__(self, loss: Loss) -> None:
        self.mean = loss.reduction == "mean"
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.gradients: dict[str, GradientArray] = {}
        self.batches = self.entries = 0

    def add(self, gradients: Gradients, entries: int) -> None:
        """Join a batch whose target has so many entries."""
        self.batches += 1
        self.entries += entries
        if self.batches == 1:
            self.gradients = dict(gradients)
            return
        before = self.gradients
        if self.mean:
            # No entries at all: all gradients are zero.
            share = entries / max(1, self.entries)
            before = {k: times(g, 1 - share) for k, g in before.items()}
            gradients = {k: times(g, share) for k, g in gradients.items()}  # (2)
        self.gradients = {k: add(g, gradients[k]) for k, g in before.items()}  # (1)
