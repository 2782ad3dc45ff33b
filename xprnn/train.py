"""The training loop."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias, cast

from xprnn import checks
from xprnn.arguments import check_window
from xprnn.backend.types import Array
from xprnn.data.batches import Batch
from xprnn.history import History, Record
from xprnn.losses import Loss, get_loss
from xprnn.network import RNN
from xprnn.optim import SGD, Optimizer, get_optimizer
from xprnn.step import BestWeights, TotalLoss, TrainingStep

Callback: TypeAlias = Callable[[RNN, Record], object]
RateScale: TypeAlias = Callable[[Sequence[float]], float]
Pair: TypeAlias = tuple[Array, Array]
Batches: TypeAlias = Iterable[Batch | Pair] | Pair


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during training; the network holds the weights so far.

    Attributes
    ----------
    history : History
        The epochs completed before.
    """

    def __init__(self, history: History) -> None:
        super().__init__(f"training interrupted after {len(history)} epochs")
        self.history = history


def fit(  # noqa: PLR0912
    net: RNN,
    batches: Batches,
    *,
    loss: str | Loss = "squared_error",
    optimizer: str | Optimizer | None = None,
    epochs: int = 1,
    window: int | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    rate_scale: RateScale | None = None,
    validation: Batches | None = None,
    patience: int | None = None,
    min_delta: float = 0.0,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Train a network, in place.

    Parameters
    ----------
    net : RNN
        Its parameters are replaced at every step; the arrays that it had stay as they are.
    batches : iterable of (x, target) or of Batch, or one pair
        Iterated once an epoch, so a generator serves for one epoch only; see `xprnn.data`.
    loss : str or Loss
    optimizer : str or Optimizer, optional
        A name of `xprnn.optim.OPTIMIZERS` stands for its default options; None: ``SGD()``.
    epochs : int
    window : int, optional
        Windowed truncation: every step's loss reaches back through exactly this many steps before
        it.  None: all the way.
    clip_norm : float, optional
        Scale the gradients of a batch so that their norm, all together, is at most this.
    clip_value : float, optional
        Move every gradient entry into ±clip_value (before the norm is taken).
    rate_scale : callable, optional
        Called after every epoch with the losses so far (of the validation data if there is any,
        else of the training), returns what the optimizer's learning rate is multiplied by from
        then on; `xprnn.optim.schedules.halve_on_rise`, say.
    validation : as ``batches``, optional
        Data whose loss is computed after every epoch.
    patience : int, optional
        Stop when the validation loss has not fallen for this many epochs, and keep the weights of
        the best epoch (also if it ends for another reason).  Needs ``validation``.
    min_delta : float
        What counts as falling: by more than this.
    callbacks : sequence of callable
        Each called with the network and the `Record` of the epoch that has ended; one that returns
        a true value stops the training.  A callback may replace parameters, but must not write into
        their arrays, which the best weights so far may share.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or data does not fit the network.
    NonFiniteLossError
        If a loss becomes NaN or infinite; it names epoch and batch.
    TrainingInterrupted
        On Ctrl-C, a `KeyboardInterrupt` with the history.

    Examples
    --------
    >>> import xprnn
    >>> x, target = xprnn.data.sine(rng=0)
    >>> net = xprnn.RNN(1, 20, 1, dtype="float64", rng=0)
    >>> sgd = xprnn.optim.SGD(0.01, momentum=0.9)
    >>> history = xprnn.fit(net, (x / 10, target), optimizer=sgd, epochs=20, clip_norm=1.0)
    >>> history.loss[-1] < history.loss[0]
    True
    """
    if not isinstance(net, RNN):
        raise TypeError(f"net is {type(net).__name__}: expected an RNN")
    epochs = checks.positive_int("epochs", epochs)
    step = TrainingStep(
        net,
        get_loss(loss),
        SGD() if optimizer is None else get_optimizer(optimizer),
        None if clip_norm is None else checks.number("clip_norm", clip_norm, open_=True),
        None if clip_value is None else checks.number("clip_value", clip_value, open_=True),
        check_window(window),
    )
    if patience is not None:
        patience = checks.positive_int("patience", patience)
        if validation is None:
            raise ValueError(f"patience is {patience}, but there is no validation data to watch")
    min_delta = checks.number("min_delta", min_delta)
    if rate_scale is not None:
        step.scale(1.0)
    history = History()
    best = BestWeights(net, min_delta) if patience is not None else None
    try:
        for epoch in range(1, epochs + 1):
            started = time.perf_counter()
            mean_or_sum, norm = _epoch(step, batches, epoch, history)
            validated = None
            if validation is not None:
                with net.backend.library.quiet():
                    validated = evaluate(net, validation, loss=step.loss)
                if not math.isfinite(validated):
                    step.fail(f"the validation loss is {validated}", history, epoch)
            record = Record(epoch, mean_or_sum, validated, norm)
            history.records.append(record)
            history.seconds += time.perf_counter() - started
            if best is not None and validated is not None:
                best.note(epoch, validated)
                history.best_epoch = best.epoch
            if rate_scale is not None:
                losses = history.loss if validation is None else history.validation_loss
                step.scale(rate_scale(cast("list[float]", losses)))
            # A list, because every callback is called, also after one that asks to stop.
            if any([callback(net, record) for callback in callbacks]):  # noqa: C419
                history.stopped = "callback"
                break
            if best is not None and patience is not None and epoch - best.epoch >= patience:
                history.stopped = "patience"
                break
        else:
            history.stopped = "epochs"
    except KeyboardInterrupt:
        history.stopped = "interrupted"
        raise TrainingInterrupted(history) from None
    finally:
        if best is not None and best.epoch:
            net.parameters = best.parameters
    return history


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
    for batch in _each(batches):
        output, final = net(batch.x, state if batch.carry else None)
        target = loss.check(tuple(output.shape), batch.target, net.backend)
        total.add(float(loss(output, target)), target)
        state = final
    if total.batches == 0:
        # Not a loss of zero, which early stopping would take for the best of all.
        raise ValueError(
            "no batch to evaluate: expected at least one (a generator can be used once only)"
        )
    return total.value()


def _epoch(
    step: TrainingStep, batches: Batches, epoch: int, history: History
) -> tuple[float, float | None]:
    """Return the epoch's loss and its largest gradient norm."""
    total, largest, final = TotalLoss(step.loss), None, None
    step.batch = 0
    for batch in _each(batches):
        step.batch += 1
        value, norm, final = step(batch, final if batch.carry else None, epoch, history)
        total.add(value, batch.target)
        if norm is not None:
            largest = max(float(norm), largest or 0.0)
    if step.batch == 0:
        again = " (a generator can be used for one epoch only)" if epoch > 1 else ""
        raise ValueError(f"batches is empty in epoch {epoch}: expected at least one batch{again}")
    step.check_weights(epoch, history)
    return total.value(), largest


def _each(batches: Batches) -> Iterator[Batch]:
    """Iterate over an iterable of batches, or over the one pair that was given."""
    pair = isinstance(batches, tuple) and len(batches) == 2 and hasattr(batches[0], "shape")
    if isinstance(batches, Batch) or pair:
        batches = (batches,)  # type: ignore[assignment]
    if not isinstance(batches, Iterable):
        raise TypeError(f"batches is {type(batches).__name__}: expected an iterable of batches")
    for number, batch in enumerate(batches, start=1):
        if isinstance(batch, Batch):
            yield batch
        elif isinstance(batch, tuple | list) and len(batch) == 2:
            yield Batch(*batch)
        else:
            raise TypeError(
                f"batch {number} is {type(batch).__name__}: expected (x, target) or a Batch"
            )
