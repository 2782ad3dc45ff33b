"""Where a number that is not finite arises: a batch's step, computed a second time.

A training keeps a batch until its loss has been read, and nothing else is done before one is not
finite.  Validation data is read a second time.
"""

import copy
from typing import Any, NamedTuple

from xprnn.backend.host.arrays import random_state, restore_random
from xprnn.data.batches import Batch, Batches, each_batch
from xprnn.engine.arguments import check_inputs, zero_state
from xprnn.engine.lengths import fill_target
from xprnn.engine.network import RNN
from xprnn.engine.nonfinite import first_in_forward, first_on_the_way_back
from xprnn.engine.results import Run
from xprnn.engine.stack import draw_masks, forward
from xprnn.losses import Loss, mask_arguments
from xprnn.training.evaluation import batch_mask


def first_in_data(net: RNN, batches: Batches) -> str:
    """Return where the first number arises that is not finite when a network is evaluated.

    Empty if there is no batch, as of a generator that has been read.
    """
    state, number = None, 0
    for number, batch in enumerate(each_batch(batches), start=1):
        before = state if batch.carry else None
        output, state = net(batch.x, before, batch.lengths, mask=batch.mask)
        if not net.backend.library.all_finite(output):
            place = first_in_forward(net.parameters, _without_dropout(net, batch, before))
            return f"{place}, in batch {number}"
    return "the loss (every output is finite)" if number else ""


def _without_dropout(net: RNN, batch: Batch, state: Any) -> Run:
    """Return the forward pass of an evaluation, with its tape."""
    architecture, backend = net.architecture, net.backend
    given = batch.x, state, batch.lengths, batch.mask
    x, initial, valid = check_inputs(architecture, backend, *given)
    masks = draw_masks(architecture, backend, None, *x.shape[:2])
    return forward(architecture, backend, net.parameters, x, initial, valid, save=True, masks=masks)


class _Step(NamedTuple):
    """What a step was given; ``random`` is the generator's state before its dropout masks."""

    batch: Batch
    state: Any
    random: dict[str, Any] | None


class Places:
    """The steps whose losses were not read yet, and where their numbers cease to be finite.

    Parameters
    ----------
    net : RNN
        With the weights of these steps.
    loss : Loss
    window : int or None
    recompute : bool
    kept : bool
        Whether to keep batches; else every place is unknown.
    """

    def __init__(
        self, net: RNN, loss: Loss, window: int | None, recompute: bool, *, kept: bool
    ) -> None:
        self.net, self.loss, self.kept = net, loss, kept
        self.window, self.recompute = window, recompute
        self._steps: dict[int, _Step] = {}

    def note(self, number: int, batch: Batch, state: Any) -> None:
        """Keep a batch, before its step."""
        if self.kept:
            architecture = self.net.architecture
            draws = architecture.dropout or architecture.recurrent_dropout
            random = random_state(self.net.rng) if draws else None
            self._steps[number] = _Step(batch, state, random)

    def forget(self, *, but: int) -> None:
        """Forget the batches whose losses have been read, except that of the step in progress."""
        self._steps = {number: step for number, step in self._steps.items() if number == but}

    def in_forward(self, number: int) -> str:
        """Return where the first number of a step's forward pass arises that is not finite."""
        step = self._steps.get(number)
        if step is None:
            return ""
        run = self._run(step)
        return first_in_forward(self.net.parameters, run) or "the loss (every output is finite)"

    def on_the_way_back(self, number: int) -> str:
        """Return the same of its backward pass."""
        step = self._steps.get(number)
        if step is None:
            return ""
        net, run, target = self.net, self._run(step), step.batch.target
        architecture, backend = net.architecture, net.backend
        valid = run.tape.valid if architecture.returns == "sequence" else None
        target = fill_target(backend, valid, target)
        target = self.loss.check(tuple(run.output.shape), target, backend)
        mask = mask_arguments(batch_mask(net, self.loss, step.batch, target))
        _, d_output = self.loss.value_and_grad(run.output, target, *mask)
        shape = architecture.state_shape(run.tape.x.shape[1])
        d_state = zero_state(backend, architecture.cell, shape)
        return first_on_the_way_back(net.parameters, run, d_output, d_state, self.window)

    def _run(self, step: _Step) -> Run:
        batch, rng = step.batch, None
        if step.random is not None:
            rng = copy.deepcopy(self.net.rng)
            restore_random(rng, step.random)
        return self.net.forward(
            batch.x,
            step.state,
            batch.lengths,
            mask=batch.mask,
            rng=rng,
            recompute=self.recompute,
        )
