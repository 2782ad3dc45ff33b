"""`fit`: the training loop as its users call it.

It checks its arguments and makes a `TrainingRun` of them, which trains.
"""

import os
from collections.abc import Sequence
from contextlib import nullcontext

from xprnn import checks
from xprnn.backend.entry import entry
from xprnn.data.batches import Batches
from xprnn.distributed import Communicator, get_communicator
from xprnn.distributed.team import Team
from xprnn.engine.arguments import check_recompute, check_window
from xprnn.engine.network import RNN
from xprnn.losses import Loss, get_loss
from xprnn.optim import SGD, Optimizer, get_optimizer
from xprnn.optim.clipping import CLIP_BY
from xprnn.training.best import BestWeights
from xprnn.training.checkpoint import Checkpoint
from xprnn.training.evaluation import check_reduction
from xprnn.training.hint import hint_if_not_compiled
from xprnn.training.history import History
from xprnn.training.ranks import Ranks, whole
from xprnn.training.run import Callback, RateScale, TrainingRun
from xprnn.training.step import TrainingStep


@entry
def fit(
    net: RNN,
    batches: Batches,
    *,
    loss: str | Loss = "squared_error",
    optimizer: str | Optimizer | None = None,
    epochs: int = 1,
    window: int | None = None,
    recompute: bool = False,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_by: str = "network",
    accumulate: int = 1,
    report_every: int = 1,
    rate_scale: RateScale | None = None,
    validation: Batches | None = None,
    patience: int | None = None,
    min_delta: float = 0.0,
    callbacks: Sequence[Callback] = (),
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    communicator: str | Communicator | None = None,
) -> History:
    """Train a network, in place.

    Parameters
    ----------
    net : RNN
        Every update replaces its parameters; the arrays that it had before are not written to.
    batches : iterable of (x, target) or of Batch, or one pair
        Iterated once per epoch, so a generator serves for one epoch only; see `xprnn.data`.
    loss : str or Loss
    optimizer : str or Optimizer, optional
        A name of `xprnn.optim.OPTIMIZERS` means its default options; None: ``SGD()``.
    epochs : int
    window : int, optional
        Windowed truncation: every step's loss reaches back through exactly this many steps before
        it.  None: all the way.
    recompute : bool
        Gradient checkpointing, for long sequences: the backward pass computes the forward pass
        again, in segments, instead of reading a tape.  Memory grows with √T, and the weights end
        with the same bits (on a CUDA device, to rounding).  Not together with a window.
    clip_norm : float, optional
        Scale the gradients of an update so that the norm of all of them together is at most this.
        The history reports the largest norm of every epoch, before clipping.
    clip_value : float, optional
        Clip every gradient entry to ±clip_value (before the norm is computed).
    clip_by : {"network", "layer", "parameter"}
        What ``clip_norm`` limits: the norm of all gradients together; that of each layer (as in
        `xprnn.optim.clip_by_layer`); or that of each parameter.  The history then has the largest
        of these norms.
    accumulate : int
        Gradient accumulation: make one update of this many batches, with the gradient that they
        would have as one batch.  The last update of an epoch may have fewer.
    report_every : int
        Read the losses every this many updates.  To read one waits until a device has computed it,
        and the next step can't be prepared meanwhile; with a larger number the device has always
        something to do.  The history is the same.  A loss that is NaN or infinite is found so much
        later, and the network then goes back to the weights before the batches that are read
        together; so do inputs that are not finite, on a CUDA device.  There, a batch all of whose
        targets are padding counts as an update of gradient zero.
    rate_scale : callable, optional
        Called after every epoch with the losses so far (of the validation data if there is any,
        else of the training); the optimizer's learning rate is multiplied by what it returns.  An
        example is `xprnn.optim.schedules.halve_on_rise`.
    validation : as ``batches``, optional
        Data whose loss is computed after every epoch.
    patience : int, optional
        Early stopping: stop when the validation loss has not fallen for this many epochs.  The
        network ends with the weights of the best epoch, even if training stops for another reason.
        Needs ``validation``.
    min_delta : float
        The validation loss has fallen if it is lower by more than this.
    callbacks : sequence of callable
        Each is called after every epoch with the network and the epoch's `Record`, and stops the
        training by returning a true value.  A callback may replace parameters, or write into their
        arrays.  The state of a callback with the methods ``state`` and ``restore`` is part of the
        checkpoint.  One that is a `Watcher`, such as `xprnn.diagnostics.GradientFlow`, also sees
        the first batch of every epoch, before its step.
    checkpoint : Checkpoint or path, optional
        A file that is written regularly, so that a run that was stopped, in whatever way, can be
        resumed and end with the same bits; see `Checkpoint`.  A path means ``Checkpoint(path)``,
        which is written every minute, and raises an error if the file is there already.
    communicator : str or Communicator, optional
        Train together with other processes, all of which make the same call with the same data and
        seeds: each computes the gradient of its share of every batch's sequences.  ``"mpi"``: those
        that ``mpiexec`` or ``srun`` has started; ``"nccl"``: those of ``torchrun``, each with a
        network on a CUDA device of its own.  Losses and weights are those of one process, to
        rounding, and the same to the bit on every rank; rank 0 writes the checkpoint.  Losses are
        read after every batch, whatever ``report_every`` says.  See docs/distributed.md.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, data does not fit the network, or the
        checkpoint is damaged or of another training (the message says what differs).
    NonFiniteLossError
        If a loss becomes NaN or infinite; the message names epoch and batch.
    TrainingInterrupted
        On Ctrl-C: a `KeyboardInterrupt` with the history.
    RankError
        If another rank fails, does not answer, or was called with other arguments.
    FileExistsError
        If there is a checkpoint, but its ``resume`` is False.
    OSError
        If the checkpoint can't be read or written.

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
    found = get_communicator(communicator)
    team = Team(found) if found.size > 1 else None
    # Whatever ends the training on one rank ends it on all.
    with nullcontext() if team is None else team:
        loss, ranks = check_reduction(get_loss(loss)), None
        if team is not None:
            ranks, batches = Ranks(team, net, loss), whole(batches)
            validation = None if validation is None else whole(validation)
        epochs = checks.positive_int("epochs", epochs)
        window = check_window(window)
        step = TrainingStep(
            net,
            loss,
            SGD() if optimizer is None else get_optimizer(optimizer),
            None if clip_norm is None else checks.number("clip_norm", clip_norm, open_=True),
            None if clip_value is None else checks.number("clip_value", clip_value, open_=True),
            window,
            check_recompute(recompute, window),
            checks.positive_int("accumulate", accumulate),
            History(),
            checks.positive_int("report_every", report_every),
            checks.choice("clip_by", clip_by, CLIP_BY),
            ranks,
        )
        if clip_by != "network" and clip_norm is None:
            raise ValueError(f"clip_by is {clip_by!r}, but clip_norm is None: expected a limit")
        if patience is not None:
            patience = checks.positive_int("patience", patience)
            if validation is None:
                raise ValueError(
                    f"patience is {patience}, but there is no validation data to watch"
                )
        min_delta = checks.number("min_delta", min_delta)
        if rate_scale is not None:
            # Finds an optimizer without a learning rate before any work is done.
            step.scale_rate(1.0)
        best = BestWeights(net, min_delta, copies=bool(callbacks)) if patience is not None else None
        run = TrainingRun(step, batches, epochs, rate_scale, validation, best, patience, callbacks)
        if ranks is not None:
            ends = {"epochs": epochs, "patience": patience}
            ranks.agree(run.same() | ends | {"checkpoint": checkpoint is not None})
        if checkpoint is not None:
            run.track(checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint))
        history = run.run()
    hint_if_not_compiled(net, history.seconds)
    return history
