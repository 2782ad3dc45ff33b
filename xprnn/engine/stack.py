"""A network's forward and backward pass: embedding, layers and directions, readout, and back.

::

    x⁰ = E[x], or x                                                   (1)
    hˡ = layer l, forward in time, of xˡ                              (2)
    h̃ˡ = layer l, reversed in time, of xˡ                             (3)
    xˡ⁺¹ = mˡ (hˡ, h̃ˡ)                                                (4)
    y = R (hᴸ, h̃ᴸ) + r                                                (5)

(3) in bidirectional networks only; mˡ a dropout mask, where there is one.  The mask's, the
concatenation's and the reversal's derivatives are themselves, backwards.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import NamedTuple

from xprnn.backend import Backend
from xprnn.backend.host.arrays import Generator
from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays
from xprnn.engine.architecture import Architecture, Direction
from xprnn.engine.embedding import look_up, look_up_backward
from xprnn.engine.gradients import GradientArray
from xprnn.engine.layer.layer import (
    Tape,
    run_layer,
    run_layer_backward,
    sweep_input,
    sweep_layer,
    swept_layer,
    whole,
)
from xprnn.engine.layer.weights import Weights
from xprnn.engine.layer.window import Sweep
from xprnn.engine.lengths import only_within, within
from xprnn.engine.readout import read_out, read_out_backward


class NetworkTape(NamedTuple):
    """What the backward pass needs of the forward pass.

    Attributes
    ----------
    architecture : Architecture
    backend : Backend
    x : array, (T, B, I), or of integers, (T, B)
        See `xprnn.engine.lengths.only_within`.
    valid : array of bool, (T, B, 1), or None
        Which steps are within their sequence; None: all.
    layers : tuple of Tape
        Of every layer in every direction; a reversed one's arrays are reversed in time.
    masks : tuple of array, (T, B, H·D), or None
        mˡ of every layer but the last.
    h : array, (T, B, H·D) or (B, H·D)
        What the readout reads.
    """

    architecture: Architecture
    backend: Backend
    x: Array
    valid: Array | None
    layers: tuple[Tape, ...]
    masks: tuple[Array | None, ...]
    h: Array

    @property
    def recomputes(self) -> bool:
        """Whether the layers' tapes are computed again."""
        return any(layer.recomputes for layer in self.layers)


class Run(NamedTuple):
    """A forward pass.

    Attributes
    ----------
    output : array
        (T, B, O), or (B, O) if the network returns the last output only; without a readout O is
        H·D.
    state : tuple of array, (layers·D, B, H) each
        The final state: of the reversed direction, that after the first step.
    tape : NetworkTape
        What `RNN.backward` needs.
    """

    output: Array
    state: Arrays
    tape: NetworkTape


class Gradient(NamedTuple):
    """The gradients of a loss.

    Attributes
    ----------
    parameters : dict of array
        Of the names and shapes of the network's parameters; a
        `xprnn.engine.gradients.SparseGradient` for the weight that integers picked rows or columns
        of, and if asked for a `xprnn.engine.gradients.FactoredGradient` for the readout's weight.
    input : array, (T, B, I), or None
        None if the input was integers.
    state : tuple of array, (layers·D, B, H) each
        Of the initial state.
    """

    parameters: dict[str, GradientArray]
    input: Array | None
    state: Arrays


def check_run(architecture: Architecture, backend: Backend, run: Run) -> None:
    """Refuse a forward pass that another kind of network has made."""
    if run.tape.architecture is architecture and run.tape.backend is backend:
        return
    names = [field.name for field in fields(architecture)]
    made = {"backend": run.tape.backend} | {k: getattr(run.tape.architecture, k) for k in names}
    wanted = {"backend": backend} | {k: getattr(architecture, k) for k in names}
    unlike = [name for name, value in wanted.items() if made[name] != value]
    if unlike:
        differences = (f"{name} is {made[name]}, not {wanted[name]}" for name in unlike)
        raise ValueError(f"run is of another network: {', '.join(differences)}")


def gradient_within(tape: NetworkTape, d_output: Array) -> Array:
    """Return the gradient of an output with zeros beyond the sequences' ends."""
    if tape.valid is None or tape.architecture.returns == "last":
        return d_output
    xp = tape.backend.xp
    return xp.where(tape.valid, d_output, xp.zeros_like(d_output[..., :1]))


def forward(
    architecture: Architecture,
    backend: Backend,
    parameters: Mapping[str, Array],
    x: Array,
    state: Arrays,
    lengths: tuple[int, ...] | None = None,
    *,
    save: bool,
    recompute: bool = False,
    rng: Generator | None = None,
) -> Run:
    """Run a network over an input, its arguments known to be right.

    Parameters
    ----------
    x : array, (T, B, I), or of integers, (T, B)
    state : tuple of array, (layers·D, B, H) each
    lengths : tuple of int, or None
    save : bool
        False keeps no tape that `backward` could use.
    recompute : bool
        Let `backward` compute the layers' tapes again, segment by segment.
    rng : numpy.random.Generator or None
        Where dropout masks are drawn from; None: no dropout.
    """
    xp = backend.xp
    steps, batch = x.shape[:2]
    valid = within(backend, lengths, steps)
    inputs = x = only_within(xp, valid, x)
    if architecture.embedding_size is not None:
        inputs = look_up(xp, parameters["embedding.weight"], x)  # (1)
    tapes: list[Tape] = []
    masks: list[Array | None] = []
    finals: list[Arrays] = []
    outputs: list[Array] = []
    for k, direction in enumerate(architecture.stack()):
        if direction.layer and not direction.reverse:
            inputs, mask_l = _between(architecture, backend, outputs, rng)
            masks.append(mask_l)
            outputs = []
        unrolled = run_layer(
            backend,
            architecture.cell,
            _weights(direction, parameters),
            _turned(xp, direction, inputs),
            _of_layer(state, k),
            valid=None if valid is None else _turned(xp, direction, valid),
            mask=_recurrent_mask(architecture, backend, batch, rng),
            save=save,
            recompute=recompute,
        )  # (2), (3)
        outputs.append(_turned(xp, direction, unrolled.h))
        finals.append(unrolled.state)
        tapes.append(unrolled.tape)
    if architecture.returns == "last":
        outputs = [final[0] for final in finals[-architecture.directions :]]
    output = h = _joined(xp, outputs)
    if architecture.output_size is not None:
        R, r = parameters["readout.weight"], parameters.get("readout.bias")
        output = read_out(xp, R, r, h)  # (5)
        if valid is not None and architecture.returns == "sequence":
            # Where h is zero, beyond the sequences' ends, y is r; in place, for it may be large.
            output *= xp.astype(valid, output.dtype)
    tape = NetworkTape(architecture, backend, x, valid, tuple(tapes), tuple(masks), h)
    return Run(output, _stacked(xp, finals), tape)


def backward(
    parameters: Mapping[str, Array],
    tape: NetworkTape,
    d_output: Array,
    d_state: Arrays,
    window: int | None,
    *,
    factored: bool = False,
) -> Gradient:
    """Propagate gradients back through `forward`, its arguments known to be right.

    Parameters
    ----------
    d_output : array
        Of the output, in its shape; zero beyond the sequences' ends, see `gradient_within`.
    d_state : tuple of array, (layers·D, B, H) each
        Of the final state.
    window : int or None
    factored : bool
        Let the gradient of the readout's weight be factored, where that is less.
    """
    architecture, xp = tape.architecture, tape.backend.xp
    gradients: dict[str, GradientArray] = {}
    through_readout = partial(
        _through_readout, parameters, tape, d_output, gradients, factored=factored
    )
    stack = architecture.stack()
    weights = [_weights(direction, parameters) for direction in stack]
    cell = architecture.cell
    hops = tape.x.shape[0] - 1
    if architecture.bidirectional:
        # There is no end of going forth and back but that of the layers.
        hops *= architecture.layers
    states: list[Arrays] = []
    if window is None or window >= hops:

        def through(k: int, dh: Array | None, d_final: Arrays) -> Array | None:
            done = run_layer_backward(cell, weights[k], tape.layers[k], dh, d_final)
            gradients.update(_named(stack[k], done.weights))
            states.append(done.state)
            return done.x

        # What reaches a layer has no name here: a long sequence's should not outlive the layer.
        d_input = _walk(tape, stack, through_readout(), d_state, through)  # from (2), (3)
        states.reverse()
    else:
        dh = through_readout()
        tapes = [whole(tape_l) for tape_l in tape.layers]
        sweeps: list[Sweep | None] = [None] * len(stack)

        def through(k: int, dh: Array | None, d_final: Arrays) -> Array | None:
            done = sweep_layer(cell, weights[k], tapes[k], dh, d_final, sweeps[k])
            sweeps[k] = done
            return sweep_input(weights[k], tapes[k], done) if stack[k].layer else None

        for _ in range(window + 1):
            _walk(tape, stack, dh, d_state, through)
        layers = [
            swept_layer(w, t, done)
            for w, t, done in zip(weights, tapes, sweeps, strict=True)
            if done is not None
        ]
        bottom = zip(stack[: architecture.directions], layers, strict=False)
        d_input = _summed([_turned(xp, direction, layer.x) for direction, layer in bottom])
        for direction, layer in zip(stack, layers, strict=True):
            gradients |= _named(direction, layer.weights)
        states = [layer.state for layer in layers]
    if architecture.embedding_size is not None:
        E = parameters["embedding.weight"]
        gradients["embedding.weight"] = look_up_backward(xp, E, tape.x, d_input)  # from (1)
        d_input = None
    found = {name: gradients[name] for name in parameters}
    return Gradient(found, d_input, _stacked(xp, states))


def _through_readout(
    parameters: Mapping[str, Array],
    tape: NetworkTape,
    d_output: Array,
    gradients: dict[str, GradientArray],
    *,
    factored: bool,
) -> Array:
    """Return what reaches the top layer's output, and add the readout's gradients to the others."""
    if tape.architecture.output_size is None:
        return d_output
    R, r = parameters["readout.weight"], parameters.get("readout.bias")
    xp = tape.backend.xp
    readout = read_out_backward(xp, R, r, tape.h, d_output, factored=factored)  # from (5)
    gradients |= {"readout.weight": readout.weight, "readout.bias": readout.bias}
    return readout.h


def _walk(
    tape: NetworkTape,
    stack: tuple[Direction, ...],
    dh: Array,
    d_state: Arrays,
    through: Callable[[int, Array | None, Arrays], Array | None],
) -> Array | None:
    """Go down from the top layer, and return what reaches the input; None if that is integers.

    Parameters
    ----------
    dh : array
        What reaches the top layer's output.
    through : callable
        ``through(k, dh, d_final)`` goes through layer and direction k, given what reaches its
        outputs, (T, B, H), and its final state, and returns what reaches its input.
    """
    architecture, xp = tape.architecture, tape.backend.xp
    hidden, arriving, dx = architecture.hidden_size, dh, []
    del dh
    for k in reversed(range(len(stack))):
        direction, d_final = stack[k], _of_layer(d_state, k)
        mine = slice(hidden, None) if direction.reverse else slice(0, hidden)
        # No view of all of it: a windowed sweep knows by the object that it has seen it before.
        dh_k = arriving[..., mine] if architecture.bidirectional else arriving
        if direction.layer == architecture.layers - 1 and architecture.returns == "last":
            # The output is the final state, so its gradient enters there and at no step before.
            d_final, dh_k = (d_final[0] + dh_k, *d_final[1:]), None
        dx.append(_turned(xp, direction, through(k, _turned(xp, direction, dh_k), d_final)))
        if not direction.reverse:
            # On the way back a layer's first direction is its last: the layer is done.
            arriving, dx = _summed(dx), []
            if direction.layer:
                arriving = _times(arriving, tape.masks[direction.layer - 1])  # from (4)
    return arriving


def _weights(direction: Direction, parameters: Mapping[str, Array]) -> Weights:
    W, U, b, units, gains = direction.names
    return Weights(
        parameters[W],
        parameters[U],
        parameters.get(b),
        tuple(map(parameters.get, units)),
        tuple(map(parameters.__getitem__, gains)),
    )


def _named(direction: Direction, weights: Weights) -> dict[str, GradientArray | None]:
    """Return a layer's gradients by the names of its parameters."""
    names, (W, U, b, units, gains) = direction.names, weights
    named = {names.W: W, names.U: U, names.b: b}
    named.update(zip(names.units, units, strict=True))
    named.update(zip(names.gains, gains, strict=True))
    return named


def _of_layer(state: Arrays, k: int) -> Arrays:
    """Return the state of one layer in one direction."""
    return tuple([part[k, ...] for part in state])


def _between(
    architecture: Architecture, backend: Backend, outputs: list[Array], rng: Generator | None
) -> tuple[Array, Array | None]:
    """Return the input of the next layer, (4), and its mask."""
    joined = _joined(backend.xp, outputs)
    rate = architecture.dropout
    m = None if rng is None else mask(backend, rng, rate, tuple(joined.shape))
    return _times(joined, m), m


def _recurrent_mask(
    architecture: Architecture, backend: Backend, batch: int, rng: Generator | None
) -> Array | None:
    rate, shape = architecture.recurrent_dropout, (batch, architecture.hidden_size)
    return None if rng is None else mask(backend, rng, rate, shape)


def _times(a: Array, m: Array | None) -> Array:
    return a if m is None else a * m


def _turned(xp: Namespace, direction: Direction, a: Array | None) -> Array | None:
    """Return a, reversed in time for the reversed direction."""
    return xp.flip(a, axis=0) if direction.reverse and a is not None else a


def _joined(xp: Namespace, parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else xp.concat(parts, axis=-1)


def _summed(parts: list[Array | None]) -> Array | None:
    """Return what both directions put on their common input; None if that was integers."""
    first, *others = parts
    for part in others:
        first = first + part if first is not None else None
    return first


def _stacked(xp: Namespace, states: list[Arrays]) -> Arrays:
    """Return the network's state, (layers·D, B, H) each, from those of all its layers."""
    if len(states) == 1:
        return tuple([part[None, ...] for part in states[0]])
    return tuple(map(xp.stack, zip(*states, strict=True)))


def mask(backend: Backend, rng: Generator, rate: float, shape: tuple[int, ...]) -> Array | None:
    """Return a mask of 0, with probability ``rate``, and 1/(1-rate); None if the rate is zero.

    Dividing where it is kept leaves the mean as it was, so inference needs no factor.

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR
    15 (2014).  One mask for all steps of a recurrence: Y. Gal and Z. Ghahramani, "A theoretically
    grounded application of dropout in recurrent neural networks", NIPS 2016.
    """
    if rate == 0:
        return None
    kept = rng.random(shape, dtype="float32") >= rate
    return backend.asarray(kept / (1 - rate))
