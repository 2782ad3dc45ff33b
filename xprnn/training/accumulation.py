"""Gradient accumulation: one gradient from several batches, as if they were one batch."""

from xprnn.engine.gradients import GradientArray, add, times
from xprnn.losses import Loss
from xprnn.optim.protocol import Gradients


class Accumulation:
    """The gradient of the loss over all batches together, from the gradient of each batch.

    ::

        g = Σ g_k                             if the loss is a sum      (1)
        g = Σ n_k g_k / Σ n_k                 if it is a mean over n_k entries

    The mean is computed as a running mean, which does not exceed the gradients themselves::

        N = n_1 + ... + n_k
        g ← g (N - n_k) / N + g_k n_k / N                               (2)

    Sparse gradients stay sparse.  A batch without an entry adds nothing, not even rows of zeros,
    which an optimizer would take for tokens that were seen.
    """

    def __init__(self, loss: Loss) -> None:
        self.mean = loss.reduction == "mean"
        self.clear()

    def clear(self) -> None:
        """Forget all batches."""
        self.gradients: dict[str, GradientArray] = {}
        self.batches, self.entries = 0, 0.0

    def add(self, gradients: Gradients, entries: float) -> None:
        """Add a batch whose loss is over this number of entries, or this sum of weights."""
        self.batches += 1
        self.entries += entries
        if self.batches == 1 or (entries and entries == self.entries):
            self.gradients = dict(gradients)
            return
        if not entries:
            return
        before = self.gradients
        if self.mean:
            share = entries / self.entries
            before = {k: times(g, 1 - share) for k, g in before.items()}
            gradients = {k: times(g, share) for k, g in gradients.items()}  # (2)
        self.gradients = {k: add(g, gradients[k]) for k, g in before.items()}  # (1)
