"""A network's loss over data."""

from xprnn.backend.entry import entry
from xprnn.backend.types import Array
from xprnn.data.batches import Batch, Batches, each_batch
from xprnn.engine.existing import check_existing, existing_steps
from xprnn.engine.lengths import fill_target
from xprnn.engine.network import RNN, states_and_loss
from xprnn.losses import Loss, check_weights, combined, get_loss, mask_arguments
from xprnn.training.reports import Reports


@entry
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
        Over all batches together: the mean over all entries or their sum, as the loss's reduction
        says.

    Raises
    ------
    TypeError, ValueError
        If the data does not fit the network or the loss, or there is nothing to evaluate: no batch,
        or no batch with an entry, because there are no sequences or all targets are ignored.
    """
    return total_loss(net, batches, check_reduction(get_loss(loss))).value("to evaluate")


def total_loss(net: RNN, batches: Batches, loss: Loss) -> "TotalLoss":
    """Return a network's loss over data, to which that over other data can be added.

    Raises
    ------
    TypeError, ValueError
        See `evaluate`.
    """
    total, state = TotalLoss(loss), None
    reports = Reports(net.backend.library, 1)
    for batch in each_batch(batches):
        with reports.asking() as questions:
            before = state if batch.carry else None
            output, final, loss_of = states_and_loss(
                net, batch.x, before, batch.lengths, batch.mask, loss
            )
            shape = net.architecture.output_shape(*batch.x.shape[:2])
            target = fill_target(net.backend, valid_steps(net, batch), batch.target)
            target = loss.check(shape, target, net.backend)
        mask = mask_arguments(batch_mask(net, loss, batch, target))
        value, entries = loss_of(output, target, *mask), reports.entries(loss, target, *mask)
        reports.add(total.batches + 1, value, entries, questions)
        for report in reports.read():
            if report.fault:
                raise ValueError(report.fault)
            total.add(report.loss, report.entries)
        state = final
    if total.batches == 0:
        # Early stopping would take a loss of zero for the best one.
        raise ValueError(
            "no batch to evaluate: expected at least one (a generator can be used once only)"
        )
    return total


def check_reduction(loss: Loss) -> Loss:
    """Return a loss, known to be one number."""
    if loss.reduction == "none":
        raise ValueError(f"loss is {loss}: expected the reduction 'mean' or 'sum', one number")
    return loss


def valid_steps(net: RNN, batch: Batch) -> Array | None:
    """Return the padding mask of a batch's loss, (T, B, 1); None if every output counts."""
    if net.returns == "last":
        return None
    steps, sequences = batch.x.shape[:2]
    given = batch.lengths, batch.mask, steps, sequences
    return existing_steps(net.backend, check_existing(*given, net.backend), steps)


def batch_mask(net: RNN, loss: Loss, batch: Batch, target: Array) -> Array | None:
    """Return what a loss takes as ``mask``: the padding mask, the weights, or both in one."""
    valid, weights = valid_steps(net, batch), batch.weights
    if weights is None:
        return valid
    steps, sequences = batch.x.shape[:2]
    places = (sequences,) if net.returns == "last" else (steps, sequences)
    checked = check_weights(loss, weights, places, target, net.backend, some=False)
    return combined(valid, checked)


class TotalLoss:
    """A loss over several batches: the mean over all entries, or the sum."""

    def __init__(self, loss: Loss) -> None:
        self.loss, self.mean = loss, loss.reduction == "mean"
        self.total, self.entries, self.batches = 0.0, 0.0, 0

    def add(self, value: float, entries: float) -> None:
        self.total += value * entries if self.mean else value
        self.entries += entries
        self.batches += 1

    def value(self, what: str) -> float:
        """Return the loss.

        Parameters
        ----------
        what : str
            What the entries are for, in the message: ``"to evaluate"``, say.

        Raises
        ------
        ValueError
            If no batch had an entry: early stopping would take a loss of zero for the best one.
        """
        if self.entries == 0:
            count = f"{self.batches} batches" if self.batches > 1 else "one batch"
            raise ValueError(
                f"nothing {what}: {count} without an entry, because there are no sequences, or "
                "every target is ignored (padding) or has the weight 0"
            )
        return self.total / self.entries if self.mean else self.total
