"""A buffer shared by arrays that must be separate: caught, and the message leads to it."""

import re
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.planted import Carried, after, caught, disagreement, network
from xprnn import RNN
from xprnn.engine.layer import layer
from xprnn.losses import SquaredError
from xprnn.testing import ContractError, GradientError, check_cell, check_gradients


@dataclass(frozen=True)
class Buffered(Carried):
    """All steps save into the same array."""

    held: dict = field(default_factory=dict, compare=False, repr=False)

    def buffer(self, name, a):
        held = self.held.setdefault((name, a.shape, a.dtype), np.empty_like(a))
        held[...] = a
        return held

    def forward(self, xp, u, v, state):
        new, (a,) = super().forward(xp, u, v, state)
        return new, (self.buffer("a", a),)


class BufferedState(Buffered):
    def forward(self, xp, u, v, state):
        (h,), saved = Carried.forward(self, xp, u, v, state)
        return (self.buffer("h", h),), saved


class BufferedGradient(Buffered):
    forward = Carried.forward

    def backward(self, xp, saved, previous, d_state):
        (dz,), _, d_previous = super().backward(xp, saved, previous, d_state)
        dz = self.buffer("dz", dz)
        return (dz,), (dz,), d_previous


class OverwritingBackward(Buffered):
    """Backward computes in the array that forward has returned."""

    def forward(self, xp, u, v, state):
        (h,), saved = Carried.forward(self, xp, u, v, state)
        return (self.buffer("h", h),), saved

    def backward(self, xp, saved, previous, d_state):
        self.buffer("h", d_state[0])
        return super().backward(xp, saved, previous, d_state)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Buffered, "forward's saved[0] of one step is overwritten by the next step: expected new"),
        (BufferedState, "forward's state[0] of one step is overwritten by the next step"),
        (BufferedGradient, "backward's du[0] of one step is overwritten by the next step"),
        (OverwritingBackward, "backward writes into state[0]: expected it to leave"),
    ],
)
def test_a_shared_buffer_in_a_cell(kind, words):
    assert words in caught(ContractError, kind())
    assert words in disagreement(kind())
    with pytest.raises(ContractError) as info:
        check_cell(kind())
    assert words in str(info.value)


def test_a_shared_buffer_of_outputs(monkeypatch):
    held = np.empty((5, 3, 2))

    def buffered(run):
        held[...] = run.output
        return run._replace(output=held)

    after(monkeypatch, RNN, "forward", buffered)
    assert caught(ContractError) == (
        "the output of one pass is overwritten by the next: passes share an array"
    )


def test_a_shared_buffer_of_tapes(monkeypatch):
    held = np.empty((5, 3, 4))

    def buffered(trajectory):
        held[...] = trajectory.saved[0]
        return trajectory._replace(saved=(held,))

    after(monkeypatch, layer, "run_forward", buffered)
    message = caught(ContractError)
    assert message.startswith("the gradient of weight_ih_l0 differs when there is a pass between")
    assert message.endswith("passes share an array, which the second overwrites")
    tokens = np.array([[0, 1, 1], [1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]])
    with pytest.raises(ContractError, match="differs when there is a pass between"):
        check_gradients(network(), tokens)


def test_a_backward_that_writes_into_the_tape(monkeypatch):
    right = layer.run_backward

    def writing(backend, cell, recurrent, trajectory, *rest):
        back = right(backend, cell, recurrent, trajectory, *rest)
        trajectory.saved[0][...] = 0
        return back

    monkeypatch.setattr(layer, "run_backward", writing)
    assert caught(ContractError).startswith(
        "the gradient of weight_ih_l0 differs when backward goes through the same run again"
    )


class WritingError(SquaredError):
    def value_and_grad(self, output, target, valid=None, *, overwrite=False):
        value, gradient = super().value_and_grad(output, target)
        output[...] = gradient
        return value, gradient


def test_a_loss_that_writes_into_the_output():
    message = caught(ContractError, target=np.zeros((5, 3, 2)), loss=WritingError())
    assert message.endswith(" writes into the output: expected it to leave its arguments alone")


class InPlace(Carried):
    """The gradient of h is computed in the array that is also the gradient of u."""

    def backward(self, xp, saved, previous, d_state):
        (a,), (dh,) = saved, d_state
        dz = dh * (1 - a * a)
        d_h = dz
        d_h *= 0.3
        return (dz,), (dz,), (d_h,)


def test_a_shared_array_of_two_results():
    """The lowered loops differ, too, but the wrong formula is reported first."""
    message = (
        r"all of u\[0\], v\[0\] are off by the same factor 0.3: look at what they share: dz\n"
        r".*dz = dh \* \(1 - a \* a\)\nthe gradient of previous h\["
    )
    with pytest.raises(GradientError, match=rf"\A{message}"):
        check_cell(InPlace())
    assert re.match(rf"the cell's backward is wrong: {message}", caught(cell=InPlace()))
