"""What a network's passes return: a run with its tape, gradients, tangents."""

from dataclasses import fields
from typing import NamedTuple

from xprnn.backend import Backend
from xprnn.backend.trees import tree
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.architecture import Architecture
from xprnn.engine.gradients import GradientArray, trimmed
from xprnn.engine.layer.layer import Tape
from xprnn.engine.recurrent import Factors


@tree("architecture", "backend")
class NetworkTape(NamedTuple):
    """What the backward pass needs from the forward pass.

    Attributes
    ----------
    architecture : Architecture
    backend : Backend
    x : array, (T, B, I), or of integers, (T, B)
        The input, its padding filled: see `xprnn.engine.lengths.fill_padding`.
    valid : array of bool, (T, B, 1), or None
        The padding mask: which steps exist.  None: all.
    layers : tuple of Tape
        Of every layer in every direction; a reversed one's arrays are reversed in time.
    masks : tuple of array, (T, B, H·D), or None
        The dropout mask mˡ of every layer but the last; empty without dropout.
    h : array, (T, B, H·D) or (B, H·D)
        What the readout reads.
    parameters : tuple of array
        Those that made the tape, in the network's order.
    factors : tuple of Factors
        Of every layer in every direction; empty for a network without a projection.
    """

    architecture: Architecture
    backend: Backend
    x: Array
    valid: Array | None
    layers: tuple[Tape, ...]
    masks: tuple[Array | None, ...]
    h: Array
    parameters: tuple[Array, ...]
    factors: tuple[Factors, ...] = ()

    @property
    def recomputes(self) -> bool:
        """Whether the backward pass recomputes the layers (gradient checkpointing)."""
        return any(layer.recomputes for layer in self.layers)

    @property
    def shares_output(self) -> bool:
        """Whether the network's output is memory that the backward pass reads."""
        a = self.architecture
        return (
            a.output_size is None
            and a.returns == "sequence"
            and not a.bidirectional
            and a.projection is None
            and not a.stack[-1].skips
            and self.layers[-1].shares_h
        )


class Run(NamedTuple):
    """A forward pass.

    Attributes
    ----------
    output : array
        (T, B, O), or (B, O) if the network returns the last output only; without a readout O is
        H·D.
    state : tuple of array, (layers·D, B, H) each
        The final state; a reversed direction's is the one after the sequence's first step.
    tape : NetworkTape
        What `RNN.backward` needs.
    """

    output: Array
    state: Arrays
    tape: NetworkTape


class Tangents(NamedTuple):
    """A forward pass, and its derivative along a direction: see `RNN.jvp`.

    Attributes
    ----------
    output, d_output : array, (T, B, O) or (B, O)
    state, d_state : tuple of array, (layers·D, B, H) each
        Of the final state.
    """

    output: Array
    d_output: Array
    state: Arrays
    d_state: Arrays


class Gradient(NamedTuple):
    """The gradients of a loss.

    Attributes
    ----------
    parameters : dict of array
        By the names of the network's parameters, in their shapes.  A weight that integer input
        picks rows or columns of has a `xprnn.engine.gradients.SparseGradient`; inside a training
        the readout's weight may have a `xprnn.engine.gradients.FactoredGradient`.
    input : array, (T, B, I), or None
        None if the input was integers.
    state : tuple of array, (layers·D, B, H) each
        Of the initial state.
    """

    parameters: dict[str, GradientArray]
    input: Array | None
    state: Arrays


def trimmed_gradient(gradient: Gradient) -> Gradient:
    """Return a gradient whose sparse parts hold the rows seen and nothing else."""
    parameters = {name: trimmed(g) for name, g in gradient.parameters.items()}
    return Gradient(parameters, gradient.input, gradient.state)


def check_run(architecture: Architecture, backend: Backend, run: Run) -> None:
    """Refuse a forward pass of a network of another architecture or backend."""
    if run.tape.architecture is architecture and run.tape.backend is backend:
        return
    names = [field.name for field in fields(architecture)]
    made = {"backend": run.tape.backend} | {k: getattr(run.tape.architecture, k) for k in names}
    wanted = {"backend": backend} | {k: getattr(architecture, k) for k in names}
    unlike = [name for name, value in wanted.items() if made[name] != value]
    if unlike:
        differences = (f"{name} is {made[name]}, not {wanted[name]}" for name in unlike)
        raise ValueError(f"run belongs to a different network: {', '.join(differences)}")
