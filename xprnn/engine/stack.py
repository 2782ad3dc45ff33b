"""A network's forward and backward pass: embedding, layers and directions, readout.

::

    x⁰ = E[x], or x                                                   (1)
    hˡ = layer l, forward in time, of xˡ                              (2)
    h̃ˡ = layer l, reversed in time, of xˡ                             (3)
    xˡ⁺¹ = mˡ (hˡ, h̃ˡ) [+ xˡ]                                         (4)
    y = R ((hᴸ, h̃ᴸ) [+ xᴸ]) + r                                       (5)

(3) in bidirectional networks only; mˡ is a dropout mask, if there is dropout; + xˡ in residual
networks, from the second layer on, where both have the same size.  The backward pass goes through
the same equations from (5) to (1): it multiplies by the same mask, adds what came past the layer to
what came through it, splits what was concatenated, and reverses in time what was reversed.  With
tied weights E and R are one matrix, whose gradient is the sum of both equations' shares.  Where h
is a projection of what the cell puts out, see `xprnn.engine.recurrent`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter
from typing import Any

from xprnn.backend import Backend, library_of
from xprnn.backend.host.arrays import Generator
from xprnn.backend.types import Array, Namespace
from xprnn.cells import Arrays
from xprnn.engine.architecture import Architecture, Direction
from xprnn.engine.dropout import NO_MASKS, Masks, mask, masked
from xprnn.engine.embedding import look_up, look_up_backward
from xprnn.engine.gradients import GradientArray, plus
from xprnn.engine.layer.layer import (
    Tape,
    in_one_segment,
    run_layer,
    run_layer_backward,
    sweep_gradient,
    sweep_input_gradient,
    sweep_layer,
    swept_states,
)
from xprnn.engine.layer.reaching import Reached
from xprnn.engine.layer.weights import Weights
from xprnn.engine.layer.window import Sweep
from xprnn.engine.readout import ReadoutGradient, read_out, read_out_backward
from xprnn.engine.recurrent import (
    Factors,
    formed,
    output_share,
    put_out,
    put_out_backward,
    split_backward,
    spread_backward,
)
from xprnn.engine.results import Gradient, NetworkTape, Run


def forward(
    architecture: Architecture,
    backend: Backend,
    parameters: Mapping[str, Array],
    x: Array,
    state: Arrays,
    valid: Array | None = None,
    *,
    save: bool,
    recompute: bool = False,
    masks: Masks,
    reads_out: bool = True,
) -> Run:
    """Run a network over an input; the arguments have been checked.

    Parameters
    ----------
    x : array, (T, B, I), or of integers, (T, B)
    state : tuple of array, (layers·D, B, H) each
    valid : array of bool, (T, B, 1), or None
        The padding mask; the padding of ``x`` is filled, see `xprnn.engine.lengths.fill_padding`.
    save : bool
        False: `backward` can't use the tape.
    recompute : bool
        Gradient checkpointing: `backward` recomputes the layers' tapes, segment by segment.
    masks : Masks
        Of dropout: see `draw_masks`.
    reads_out : bool
        False: the output is h, because the loss reads out.
    """
    xp = backend.xp
    layer_input = x
    if architecture.embedding_size is not None:
        layer_input = look_up(xp, parameters["embedding.weight"], x)  # (1)
    tapes: list[Tape] = []
    finals: list[Arrays] = []
    outputs: list[Array] = []
    factors: list[Factors] = []
    # The layer whose final h alone is read, if there is one.
    ending = architecture.layers - 1 if architecture.returns == "last" else None
    skips = False
    for k, direction in enumerate(architecture.stack):
        if direction.layer and not direction.reverse:
            h = backend.library.concatenated(outputs)
            if masks.between:
                h = masked(h, masks.between[direction.layer - 1])
            layer_input = h + layer_input if skips else h  # (4)
            outputs = []
        skips = direction.skips
        reverse = direction.reverse
        h, final, layer_tape = run_layer(
            backend,
            architecture.cell,
            _weights(architecture, backend, direction, parameters),
            _reversed(xp, layer_input) if reverse else layer_input,
            _state_of(state, direction),
            valid=_reversed(xp, valid) if reverse else valid,
            mask=masks.recurrent[k] if masks.recurrent else None,
            save=save,
            recompute=recompute,
        )  # (2), (3)
        ends = direction.layer == ending
        if ends:
            h = final[0]
        if direction.P is not None:
            P, m = parameters[direction.P], h
            h = put_out(xp, P, m)
            if save:
                factors.append(Factors(parameters[direction.names.U], P, m))
        outputs.append(_reversed(xp, h) if reverse and not ends else h)
        finals.append(final)
        tapes.append(layer_tape)
    if (
        architecture.returns == "last"
        and len(outputs) == 1
        and architecture.output_size is None
        and not skips
    ):
        # A copy for the same reasons as in `_stacked`; two are concatenated anyway.
        outputs = [backend.library.copy(outputs[0])]
    h = backend.library.concatenated(outputs)
    if skips:
        h = h + (_last(architecture, backend, layer_input, valid))  # (5)
    output = h
    if reads_out and architecture.output_size is not None:
        R, r = parameters[architecture.readout_weight], parameters.get("readout.bias")
        output = read_out(R, r, h)  # (5)
        if valid is not None and architecture.returns == "sequence":
            # In the padding, where h is zero, y is r.  In place, because the output may be large.
            output *= xp.astype(valid, output.dtype)
    made_by = tuple(parameters.values())
    tape = NetworkTape(
        architecture,
        backend,
        x,
        valid,
        tuple(tapes),
        masks.between,
        h,
        made_by,
        tuple(factors),
    )
    return Run(output, _stacked(architecture, backend, finals), tape)


def draw_masks(
    architecture: Architecture, backend: Backend, rng: Generator | None, steps: int, batch: int
) -> Masks:
    """Return the dropout masks of a pass, drawn from ``rng``; None: no dropout."""
    rate, recurrent_rate = architecture.dropout, architecture.recurrent_dropout
    if rng is None or not (rate or recurrent_rate):
        return NO_MASKS
    between: list[Array | None] = []
    recurrent: list[Array | None] = []
    for direction in architecture.stack:
        if direction.layer and not direction.reverse:
            between.append(mask(backend, rng, rate, (steps, batch, direction.input_size)))
        recurrent.append(mask(backend, rng, recurrent_rate, (batch, direction.hidden_size)))
    return Masks(tuple(between), tuple(recurrent))


def zero_padding(tape: NetworkTape, d_output: Array) -> Array:
    """Return the gradient of an output, zero in the padding."""
    if tape.valid is None or tape.architecture.returns == "last":
        return d_output
    return tape.backend.library.zero_unless(tape.valid, d_output)


def backward(
    parameters: Mapping[str, Array],
    tape: NetworkTape,
    d_output: Array | ReadoutGradient,
    d_state: Arrays,
    window: int | None,
    *,
    factored: bool = False,
    parameters_only: bool = False,
    of_weights: bool = True,
    watch: Callable[[int, Reached], None] | None = None,
    done: Callable[[Mapping[str, GradientArray]], None] | None = None,
) -> Gradient:
    """Propagate gradients back through `forward`; the arguments have been checked.

    Parameters
    ----------
    d_output : array or ReadoutGradient
        Of the output, in its shape; zero in the padding, see `zero_padding`.  Or, if the loss has
        read out, the gradients of the readout.
    d_state : tuple of array, (layers·D, B, H) each
        Of the final state.
    window : int or None
    factored : bool
        Let the gradient of the readout's weight be factored, where that takes less memory.
    parameters_only : bool
        Leave out the gradients of the input and of the initial state.
    of_weights : bool
        False: leave out the gradients of the layers' parameters, which are then None.
    watch : callable, optional
        ``watch(k, reached)`` is shown what reaches the states of layer and direction k.
    done : callable, optional
        Called with the gradients that are final so far whenever a layer's have become so, except
        with a window, where all do at once.
    """
    architecture, xp = tape.architecture, tape.backend.xp
    gradients: dict[str, GradientArray] = {}
    readout_backward = partial(
        _readout_backward, parameters, tape, d_output, gradients, factored=factored
    )
    longest_path = tape.x.shape[0] - 1
    if architecture.bidirectional:
        # A path may go through all steps in each layer, forward in one and reversed in the next.
        longest_path *= architecture.layers
    of_input = not parameters_only or architecture.embedding_size is not None
    given = tape, readout_backward, d_state, gradients, watch
    if window is None or window >= longest_path:
        d_input, states = _layers_backward(
            *given, of_input=of_input, of_weights=of_weights, done=done
        )
    else:
        d_input, states = _layers_backward_windowed(*given, window=window)
    if architecture.embedding_size is not None:
        E = parameters["embedding.weight"]
        of_rows = look_up_backward(xp, E, tape.x, d_input)  # from (1)
        if architecture.tied:
            # The softmax reaches every row, so the sum is dense.
            gradients["embedding.weight"] = plus(gradients["embedding.weight"], of_rows)
        else:
            gradients["embedding.weight"] = of_rows
        d_input = None
    in_order = {name: gradients[name] for name in parameters}
    if parameters_only:
        return Gradient(in_order, None, ())
    return Gradient(in_order, d_input, _stacked(architecture, tape.backend, states))


def backward_from_last(
    parameters: Mapping[str, Array],
    tape: NetworkTape,
    d_last: Array,
    d_state: Arrays,
    watch: Callable[[int, Reached], None],
) -> None:
    """Show what reaches the states of a gradient that enters at the sequences' ends alone.

    Of networks of one direction: a reversed one has its own last step elsewhere.

    Parameters
    ----------
    d_last : array, (B, O)
        Of each sequence's last output.
    d_state : tuple of array, (layers·D, B, H) each
        Of the final state.
    watch : callable
        See `backward`.
    """
    architecture, stack = tape.architecture, tape.architecture.stack
    if architecture.output_size is not None:
        R = parameters[architecture.readout_weight]
        d_last = tape.backend.library.product(d_last, R)  # from (5)

    def layer_backward(k: int, dh: Array | None, d_final: Arrays) -> Array | None:
        layer = tape.layers[k]
        return run_layer_backward(
            architecture.cell,
            layer.weights,
            layer,
            dh,
            d_final,
            of_input=stack[k].layer > 0,
            of_weights=False,
            watch=partial(watch, k),
        ).x

    down_the_layers(tape, d_last, d_state, layer_backward, at_last=True)  # from (2), (3)


def _readout_backward(
    parameters: Mapping[str, Array],
    tape: NetworkTape,
    d_output: Array | ReadoutGradient,
    gradients: dict[str, GradientArray],
    *,
    factored: bool,
) -> Array:
    """Return the gradient of the top layer's output; add those of the readout's parameters."""
    if tape.architecture.output_size is None:
        return d_output
    name = tape.architecture.readout_weight
    if isinstance(d_output, ReadoutGradient):
        readout = d_output
    else:
        R, r = parameters[name], parameters.get("readout.bias")
        factored = factored and not tape.architecture.tied
        readout = read_out_backward(
            tape.backend.xp, R, r, tape.h, d_output, factored=factored
        )  # from (5)
    gradients |= {name: readout.weight, "readout.bias": readout.bias}
    return readout.h


def _layers_backward(
    tape: NetworkTape,
    readout_backward: Callable[[], Array],
    d_state: Arrays,
    gradients: dict[str, GradientArray],
    watch: Callable[[int, Reached], None] | None,
    *,
    of_input: bool,
    of_weights: bool,
    done: Callable[[Mapping[str, GradientArray]], None] | None = None,
) -> tuple[Array | None, list[Arrays]]:
    """Go back through the layers, without a window.

    Parameters
    ----------
    readout_backward : callable
        Returns the gradient of the top layer's output.
    d_state : tuple of array, (layers·D, B, H) each
    gradients : dict
        Gets the gradients of the layers' parameters.
    of_input : bool
        Whether the gradient of the lowest layer's input is wanted.
    watch, of_weights, done
        See `backward`.

    Returns
    -------
    d_input : array or None
    states : list of tuple of array
        The gradients of the initial states of every layer in every direction.
    """
    architecture, layers = tape.architecture, tape.layers
    states: list[Arrays] = []
    shares: dict[int, Array] = {}

    def layer_backward(k: int, dh: Array | None, d_final: Arrays) -> Array | None:
        gradient = run_layer_backward(
            architecture.cell,
            layers[k].weights,
            layers[k],
            dh,
            d_final,
            of_input=of_input or architecture.stack[k].layer > 0,
            of_weights=of_weights,
            watch=None if watch is None else partial(watch, k),
        )
        gradients.update(_by_name(tape, k, gradient.weights, shares))
        if done is not None:
            done(gradients)
        states.append(gradient.state)
        return gradient.x

    # The gradient of the top layer's output has no name here, so that it is freed when that layer
    # is done: it is as large as a long sequence.
    d_input = down_the_layers(
        tape,
        readout_backward(),
        d_state,
        layer_backward,
        partial(_share, tape, shares) if of_weights and tape.factors else None,
    )  # from (2), (3)
    states.reverse()
    return d_input, states


def _layers_backward_windowed(
    tape: NetworkTape,
    readout_backward: Callable[[], Array],
    d_state: Arrays,
    gradients: dict[str, GradientArray],
    watch: Callable[[int, Reached], None] | None,
    *,
    window: int,
) -> tuple[Array | None, list[Arrays]]:
    """Do the same with a window, in sweeps through all layers; see `xprnn.engine.layer.window`."""
    architecture, xp = tape.architecture, tape.backend.xp
    stack = architecture.stack
    dh = readout_backward()
    tapes = [in_one_segment(layer) for layer in tape.layers]
    sweeps: list[Sweep | None] = [None] * len(stack)

    def layer_backward(k: int, dh: Array | None, d_final: Arrays) -> Array | None:
        layer = tapes[k]
        given = architecture.cell, layer.weights, layer, dh, d_final
        swept = sweep_layer(*given, sweeps[k], count, watched=watch is not None)
        sweeps[k] = swept
        return sweep_input_gradient(layer.weights, layer, swept) if stack[k].layer else None

    # A layer alone does all of its sweeps at once.
    rounds, count = (1, window + 1) if architecture.layers == 1 else (window + 1, 1)
    shares: dict[int, Array] = {}
    for left in reversed(range(rounds)):
        # The last sweep has the whole gradient.
        projected = partial(_share, tape, shares) if tape.factors and not left else None
        down_the_layers(tape, dh, d_state, layer_backward, projected)
    if watch is not None:
        for k, swept in enumerate(sweeps):
            if swept is not None:
                watch(k, swept_states(tapes[k].weights, tapes[k], swept))
    layers = [
        sweep_gradient(layer.weights, layer, swept)
        for layer, swept in zip(tapes, sweeps, strict=True)
        if swept is not None
    ]
    for k, layer in enumerate(layers):
        gradients |= _by_name(tape, k, layer.weights, shares)
    bottom = zip(stack[: architecture.directions], layers, strict=False)
    d_input = _summed(
        [_reversed(xp, layer.x) if direction.reverse else layer.x for direction, layer in bottom]
    )
    return d_input, [layer.state for layer in layers]


def _share(tape: NetworkTape, shares: dict[int, Array], k: int, dh: Array) -> None:
    """Keep what the output of layer and direction k adds to its projection's gradient."""
    shares[k] = output_share(tape.factors[k], dh)


def down_the_layers(
    tape: NetworkTape,
    dh: Array,
    d_state: Arrays,
    layer_backward: Callable[[int, Array | None, Arrays], Array | None],
    projected: Callable[[int, Array], None] | None = None,
    *,
    at_last: bool | None = None,
) -> Array | None:
    """Go down from the top layer; return the gradient of the input, None if that is integers.

    Parameters
    ----------
    dh : array
        The gradient of the top layer's output.
    layer_backward : callable
        ``layer_backward(k, dh, d_final)`` takes the gradients of layer and direction k's outputs,
        (T, B, H), before their projection, and final state, and returns the gradient of its input.
    projected : callable, optional
        ``projected(k, dh)`` is shown the gradient of what the projection of layer and direction k
        puts out.
    at_last : bool, optional
        Whether ``dh`` is that of the last outputs alone, (B, H·D).  None: where those are all that
        the network returns.
    """
    architecture, xp = tape.architecture, tape.backend.xp
    if at_last is None:
        at_last = architecture.returns == "last"
    stack = architecture.stack
    d_layer, d_inputs = dh, []

    # What goes past a layer that skips.
    d_past: Any = None
    if stack[-1].skips:
        d_past = _last_backward(tape, dh) if at_last else dh
    del dh
    for k in reversed(range(len(stack))):
        direction = stack[k]
        d_final, size = _state_of(d_state, direction), direction.features
        # In one direction the object itself and no view of it: a windowed sweep recognises an
        # unchanged gradient by the object.
        dh_k = d_layer
        if architecture.bidirectional:
            dh_k = d_layer[..., size:] if direction.reverse else d_layer[..., :size]
        ends = at_last and direction.layer == architecture.layers - 1
        if direction.reverse and not ends:
            dh_k = xp.flip(dh_k, axis=0)
        if tape.factors:
            if projected is not None:
                projected(k, dh_k)
            dh_k = put_out_backward(xp, tape.factors[k], dh_k)
        if ends:
            # The output is the final state, so its gradient enters there and at no step before.
            d_final, dh_k = (d_final[0] + dh_k, *d_final[1:]), None
        if direction.reverse:
            # The result has no name, so that a long sequence's gradient doesn't outlive its use.
            d_inputs.append(_reversed(xp, layer_backward(k, dh_k, d_final)))
            continue
        # On the way back a layer's forward direction comes last: the layer is done.
        d_inputs.append(layer_backward(k, dh_k, d_final))
        d_layer, d_inputs = _summed(d_inputs), []
        if direction.skips:
            d_layer = d_layer + d_past
        if direction.layer:
            d_past = d_layer if stack[k - 1].skips else None
            if tape.masks:
                d_layer = masked(d_layer, tape.masks[direction.layer - 1])  # from (4)
    return d_layer


def _last(architecture: Architecture, backend: Backend, x: Array, valid: Array | None) -> Array:
    """Return what of the top layer's input goes past it, (T, B, H·D), or (B, H·D) of the last step.

    A reversed direction's last step is the sequence's first.
    """
    if architecture.returns == "sequence":
        return x
    ends = _ends(architecture, backend, x.shape[0], valid)
    H, xp, zero = architecture.stack[-1].features, backend.xp, backend.xp.zeros_like(x[..., :1])
    parts = [x[..., k * H : (k + 1) * H] for k in range(len(ends))]
    return backend.library.concatenated(
        [xp.sum(xp.where(end, part, zero), axis=0) for part, end in zip(parts, ends, strict=True)]
    )


def _last_backward(tape: NetworkTape, dh: Array) -> Array:
    """Return the gradient of the top layer's input that comes past it."""
    architecture, backend = tape.architecture, tape.backend
    ends = _ends(architecture, backend, tape.x.shape[0], tape.valid)
    xp, zero = backend.xp, backend.xp.zeros_like(dh[None, :, :1])
    H = architecture.stack[-1].features
    parts = [dh[None, :, k * H : (k + 1) * H] for k in range(len(ends))]
    return backend.library.concatenated(
        [xp.where(end, part, zero) for part, end in zip(parts, ends, strict=True)]
    )


def _ends(
    architecture: Architecture, backend: Backend, steps: int, valid: Array | None
) -> list[Array]:
    """Return which step is each direction's last, (T, B, 1) or (T, 1, 1) of bool."""
    xp = backend.xp
    each = xp.arange(steps, device=backend.device)[:, None, None]
    if valid is None:
        return [each == steps - 1, each == 0][: architecture.directions]
    last = xp.max(xp.where(valid, each, -xp.ones_like(each)), axis=0)
    first = xp.min(xp.where(valid, each, steps * xp.ones_like(each)), axis=0)
    return [each == last, each == first][: architecture.directions]


def _weights(
    architecture: Architecture,
    backend: Backend,
    direction: Direction,
    parameters: Mapping[str, Array],
) -> Weights:
    W, U, b, units, gains = direction.names
    recurrent = parameters.get(U)
    if architecture.forms_recurrent:
        P = None if direction.P is None else parameters[direction.P]
        recurrent = formed(backend, recurrent, P, architecture.heads)
    return Weights(
        parameters[W],
        recurrent,
        parameters.get(b),
        tuple(map(parameters.get, units)) if units else (),
        tuple(map(parameters.__getitem__, gains)) if gains else (),
    )


def _by_name(
    tape: NetworkTape, k: int, weights: Weights, shares: Mapping[int, Array]
) -> dict[str, GradientArray | None]:
    """Return the gradients of layer and direction k by the names of its parameters."""
    direction, (W, U, b, units, gains) = tape.architecture.stack[k], weights
    names = direction.names
    named = {names.W: W, names.U: U, names.b: b}
    if direction.P is not None:
        factors = (None, None) if U is None else split_backward(tape.factors[k], U, shares[k])
        named[names.U], named[direction.P] = factors
    elif tape.architecture.heads > 1 and U is not None:
        named[names.U] = spread_backward(tape.backend, U, tape.architecture.heads)
    if units:
        named.update(zip(names.units, units, strict=True))
    if gains:
        named.update(zip(names.gains, gains, strict=True))
    return named


def _state_of(state: Arrays, direction: Direction) -> Arrays:
    """Return the state of one layer in one direction."""
    parts = tuple(map(itemgetter(direction.of_state), state))
    if len(direction.of_state) > 2:
        # Loops read whole rows.
        parts = tuple([library_of(part).copy(part) for part in parts])
    return parts


def _reversed(xp: Namespace, a: Array | None) -> Array | None:
    """Return a reversed in time."""
    return None if a is None else xp.flip(a, axis=0)


def _summed(d_inputs: list[Array | None]) -> Array | None:
    """Return the gradient of a layer's input from its directions' shares; None for integers."""
    total, *others = d_inputs
    for other in others:
        total = library_of(total).plus(total, other) if total is not None else None
    return total


def _stacked(architecture: Architecture, backend: Backend, states: list[Arrays]) -> Arrays:
    """Return the network's state, (layers·D, B, H) each, from those of all its layers.

    H is the largest of the layers; the units that a smaller layer lacks are zero.

    Never a view: of the tape, which writing into it would spoil, or of the states of all steps,
    which it would keep in memory.
    """
    if len(states) == 1:
        return tuple([backend.library.copy(part[None, ...]) for part in states[0]])
    if isinstance(architecture.hidden_size, tuple):
        states = [
            tuple([_widened(backend.xp, part, architecture.width) for part in parts])
            for parts in states
        ]
    return tuple(map(backend.xp.stack, zip(*states, strict=True)))


def _widened(xp: Namespace, part: Array, width: int) -> Array:
    """Return a state with zeros for the units that are missing."""
    missing = width - part.shape[-1]
    if not missing:
        return part
    zero = xp.zeros_like(part[..., :1])
    return xp.concat([part, *[zero] * missing], axis=-1)
