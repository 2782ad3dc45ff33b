"""A network's forward and backward pass: the layer, then the readout, and back."""

from collections.abc import Mapping
from typing import NamedTuple

from xprnn.architecture import Architecture
from xprnn.backend import Backend
from xprnn.backend.types import Array
from xprnn.bptt import Tape, Weights, run_layer, run_layer_backward
from xprnn.cells import Arrays
from xprnn.readout import read_out, read_out_backward
from xprnn.sparse import GradientArray


class Run(NamedTuple):
    """A forward pass.

    Attributes
    ----------
    output : array
        (T, B, O), or (B, O) if the network returns the last output only; without a readout O = H.
    state : tuple of array, (1, B, H) each
        The final state.
    tape : Tape
        What `RNN.backward` needs.
    """

    output: Array
    state: Arrays
    tape: Tape


class Gradient(NamedTuple):
    """The gradients of a loss.

    Attributes
    ----------
    parameters : dict of array
        Of the names and shapes of the network's parameters; that of W is a
        `xprnn.sparse.SparseGradient` if the input was integers.
    input : array, (T, B, I), or None
        None if the input was integers.
    state : tuple of array, (1, B, H) each
        Of the initial state.
    """

    parameters: dict[str, GradientArray]
    input: Array | None
    state: Arrays


def check_run(architecture: Architecture, backend: Backend, run: Run) -> None:
    """Refuse a forward pass that another kind of network has made."""
    x, hidden = run.tape.x, run.tape.trajectory.states[0].shape[2]
    steps, batch = x.shape[:2]
    given = (run.tape.backend, *x.shape[2:], hidden, *run.output.shape)
    inputs = (architecture.input_size,) * (x.ndim - 2)
    shape = architecture.output_shape(steps, batch)
    wanted = (backend, *inputs, architecture.hidden_size, *shape)
    if given != wanted:
        raise ValueError(
            f"run is of another network: one with {hidden} hidden units that made "
            f"{tuple(run.output.shape)} of {tuple(x.shape)} on {run.tape.backend}; this one has "
            f"{architecture.hidden_size} and makes {shape}, on {backend}"
        )


def forward(
    architecture: Architecture,
    backend: Backend,
    parameters: Mapping[str, Array],
    x: Array,
    state: Arrays,
    *,
    save: bool,
) -> Run:
    """Run a network over an input, its arguments known to be right.

    Parameters
    ----------
    x : array, (T, B, I), or of integers, (T, B)
    state : tuple of array, (1, B, H) each
    save : bool
        False keeps no tape that `backward` could use.
    """
    h, final, tape = run_layer(
        backend, architecture.cell, _weights(parameters), x, _bottom(state), save=save
    )
    output = final[0] if architecture.returns == "last" else h
    if architecture.output_size is not None:
        R, r = parameters["readout.weight"], parameters.get("readout.bias")
        output = read_out(backend.xp, R, r, output)
    return Run(output, _stacked(final), tape)


def backward(
    architecture: Architecture,
    parameters: Mapping[str, Array],
    tape: Tape,
    d_output: Array,
    d_state: Arrays,
    window: int | None,
) -> Gradient:
    """Propagate gradients back through `forward`, its arguments known to be right.

    Parameters
    ----------
    d_output : array
        Of the output, in its shape.
    d_state : tuple of array, (1, B, H) each
        Of the final state.
    window : int or None
    """
    gradients: dict[str, GradientArray] = {}
    dh, d_final, last = d_output, _bottom(d_state), architecture.returns == "last"
    if architecture.output_size is not None:
        h = tape.trajectory.states[0]
        R, r = parameters["readout.weight"], parameters.get("readout.bias")
        readout = read_out_backward(
            tape.backend.xp, R, r, h[-1, ...] if last else h[1:, ...], d_output
        )
        dh, gradients["readout.weight"] = readout.h, readout.weight
        gradients["readout.bias"] = readout.bias
    if last:
        # The output is the final state, so its gradient enters there and at no step before.
        d_final, dh = (d_final[0] + dh, *d_final[1:]), None
    layer = run_layer_backward(architecture.cell, _weights(parameters), tape, dh, d_final, window)
    gradients["weight_ih_l0"], gradients["weight_hh_l0"], gradients["bias_l0"] = layer.weights
    return Gradient({name: gradients[name] for name in parameters}, layer.x, _stacked(layer.state))


def _weights(parameters: Mapping[str, Array]) -> Weights:
    return Weights(
        parameters["weight_ih_l0"], parameters["weight_hh_l0"], parameters.get("bias_l0")
    )


def _bottom(state: Arrays) -> Arrays:
    """Return the state of the one layer there is, (B, H) each, from that of the network."""
    return tuple(part[0, ...] for part in state)


def _stacked(state: Arrays) -> Arrays:
    """Return the state of the network, (1, B, H) each, from that of the one layer there is."""
    return tuple(part[None, ...] for part in state)
