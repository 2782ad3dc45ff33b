"""Forward passes of a network with arrays of any kind, whole or in windows.

The arrays are real, complex, or carry tangents.

This is the only module of the gradient check that knows the engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from xprnn.backend import Backend
from xprnn.backend.host.arrays import generator
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.arguments import without_padding
from xprnn.engine.existing import check_existing, mask_of
from xprnn.engine.loop.lowering import disable_lowering
from xprnn.engine.network import RNN
from xprnn.engine.stack import draw_masks, forward
from xprnn.testing.gradients.numeric import Analytic


class Point(NamedTuple):
    """The arrays that an objective depends on.

    Attributes
    ----------
    parameters : mapping of str to array
    x : array, (T, B, I), or array of int, (T, B)
    state : tuple of array
    through : Backend or None
        The backend that computes with them; None: the network's own, with all that it has.
    """

    parameters: Mapping[str, Array]
    x: Array
    state: Arrays
    through: Backend | None = None


class Outputs(NamedTuple):
    """Output and final state of a forward pass."""

    output: Array
    state: Arrays


@dataclass(frozen=True)
class Call:
    """The arguments of a network that the objective is not differentiated by.

    Attributes
    ----------
    lengths : sequence of int, or None
    mask : array of bool, (T, B), or None
    seed : int
        The seed of the dropout masks, which so are the same in every pass.
    """

    lengths: Sequence[int] | None
    mask: Array | None
    seed: int

    def options(self, net: RNN) -> dict[str, Any]:
        """Return keyword arguments of `RNN.forward`, without those that have no effect."""
        given = {"lengths": self.lengths, "mask": self.mask}
        options = {name: value for name, value in given.items() if value is not None}
        return options | ({"rng": self.seed} if has_dropout(net) else {})

    def of(self, backend: Backend, part: slice, steps: int, batch: int) -> "Call":
        """Return the arguments for some of the sequences."""
        existing = check_existing(self.lengths, self.mask, steps, batch, backend)
        mask = mask_of(existing, steps)
        return self if mask is None else replace(self, lengths=None, mask=mask[:, part])


def analytic(backend: Backend) -> Backend:
    """Return a backend for complex numbers."""
    return replace(backend, xp=Analytic(backend.xp))


def has_dropout(net: RNN) -> bool:
    """Whether a network has dropout of any kind."""
    return net.dropout > 0 or net.recurrent_dropout > 0


def run(net: RNN, point: Point, call: Call) -> Outputs:
    """Run a network forward with the arrays of a point, which become its parameters."""
    options = call.options(net)
    if point.through is None:
        net.parameters = point.parameters
        output, state, _ = net.forward(point.x, point.state, **options)
        return Outputs(output, state)
    # `RNN.forward` refuses complex numbers and tangents, so this calls what is below it.  Only
    # plain array code computes with them.
    rng = generator(options.pop("rng")) if "rng" in options else None
    backend, x, valid = point.through, point.x, None
    masks = draw_masks(net.architecture, backend, rng, *x.shape[:2])
    if call.lengths is not None or call.mask is not None:
        x, valid = without_padding("x", x, backend, call.lengths, call.mask)
    with disable_lowering():
        output, state, _ = forward(
            net.architecture,
            backend,
            point.parameters,
            x,
            point.state,
            valid,
            save=True,
            masks=masks,
        )
    return Outputs(output, state)


def truncates(net: RNN, window: int | None, steps: int, call: Call) -> bool:
    """Whether a window cuts off some path through this number of steps.

    Raises
    ------
    ValueError
        If it does, and the truncated gradient is not the gradient of any function.
    """
    # Through several layers in both directions, a path can go forth and back in time.
    if window is None or window >= (steps - 1) * (net.layers if net.bidirectional else 1):
        return False
    unlike = {
        "in both directions": net.bidirectional,
        "with dropout": has_dropout(net),
        "with lengths": call.lengths is not None,
        "with a mask": call.mask is not None,
    }
    for words, given in unlike.items():
        if given:
            raise ValueError(
                f"window is {window}, which truncates the gradients of {steps} steps: {words} "
                "that can't be checked, because no pass over windows has them for its gradients"
            )
    return True


def states_before(net: RNN, point: Point, call: Call, window: int) -> Arrays:
    """Return the states that windows 1, 2, ... start from, all of them as one batch.

    Window j has the steps j to j + window.  Window 0 starts from the initial state.
    """
    state, found = point.state, []
    for t in range(point.x.shape[0] - window - 1):
        one = point._replace(x=point.x[t : t + 1, ...], state=state)
        state = run(net, one, call).state
        found.append(state)
    return tuple(net.backend.xp.concat(parts, axis=1) for parts in zip(*found, strict=True))


def run_windowed(net: RNN, point: Point, call: Call, window: int, held: Arrays) -> Outputs:
    """Run a network so that each output depends on its step and the ``window`` steps before alone.

    The gradient of that is the truncated gradient.  Each output, except the first ones, comes from
    a pass over its own window, which starts from a constant state.  These passes are one batch.

    Parameters
    ----------
    net : RNN
    point : Point
    call : Call
    window : int
    held : tuple of array
        The constant states, of `states_before`.
    """
    xp, size = (point.through or net.backend).xp, window + 1
    steps, batch = point.x.shape[:2]
    starts = range(1, steps - window)
    windows = xp.concat([point.x[j : j + size, ...] for j in starts], axis=1)
    late = run(net, point._replace(x=windows, state=held), call)
    final = tuple(part[:, -batch:, :] for part in late.state)
    if net.returns == "last":
        return Outputs(late.output[-batch:, :], final)
    early = run(net, point._replace(x=point.x[:size, ...]), call)
    last = late.output[-1, ...]
    last = xp.reshape(last, (len(starts), batch, last.shape[1]))
    return Outputs(xp.concat((early.output, last), axis=0), final)
