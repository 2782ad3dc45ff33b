"""A network's loss over data."""

from xprnn.data.batches import Batches, each_batch
from xprnn.engine.network import RNN
from xprnn.losses import Loss, get_loss, where_valid
from xprnn.training.epoch import TotalLoss, valid_steps


def evaluate(net: RNN, batches: Batches, *, loss: str | Loss = "squared_error") -> float:
    """Return a network's loss over data, without training.

    Parameters
    ----------
    net : RNN
    batches : iterable of (x, target) or of Batch, or one pair
    loss : str or Loss

    Returns
    -------
    float
        Over all batches together: the mean over all entries, or their sum, by the loss's reduction.
    """
    loss = get_loss(loss)
    total, state = TotalLoss(loss), None
    for batch in each_batch(batches):
        output, final = net(batch.x, state if batch.carry else None, batch.lengths)
        target = loss.check(tuple(output.shape), batch.target, net.backend)
        valid = where_valid(valid_steps(net, batch))
        total.add(float(loss(output, target, *valid)), loss.entries(target, *valid))
        state = final
    if total.batches == 0:
        # Not a loss of zero, which early stopping would take for the best of all.
        raise ValueError(
            "no batch to evaluate: expected at least one (a generator can be used once only)"
        )
    return total.value()
