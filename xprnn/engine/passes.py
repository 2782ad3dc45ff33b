"""A network's passes as functions of arrays, which a library that compiles takes as they are.

The arguments have been checked.
"""

from collections.abc import Callable, Mapping

from xprnn.backend import Backend
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.engine.architecture import Architecture
from xprnn.engine.dropout import Masks
from xprnn.engine.gradients import GradientArray
from xprnn.engine.readout import ReadoutGradient, loss_of_readout, reads_out
from xprnn.engine.results import Gradient, NetworkTape
from xprnn.engine.stack import backward, draw_masks, forward, zero_padding
from xprnn.losses import Loss, ReadsOut, combined, mask_arguments


def inference(
    architecture: Architecture,
    backend: Backend,
    parameters: Mapping[str, Array],
    x: Array,
    state: Arrays,
    valid: Array | None,
    *,
    reads_out: bool = True,
) -> tuple[Array, Arrays]:
    """Return output and final state; see `xprnn.engine.stack.forward`."""
    masks, given = draw_masks(architecture, backend, None, *x.shape[:2]), (x, state, valid)
    run = forward(
        architecture, backend, parameters, *given, save=False, masks=masks, reads_out=reads_out
    )
    return run.output, run.state


def backward_of_padded(
    parameters: Mapping[str, Array],
    tape: NetworkTape,
    d_output: Array,
    d_state: Arrays,
    window: int | None,
) -> Gradient:
    """Return the gradients, whatever the output's gradient is in the padding."""
    if tape.valid is not None:
        d_output = zero_padding(tape, d_output)
    return backward(parameters, tape, d_output, d_state, window)


def step_of(
    architecture: Architecture,
    backend: Backend,
    loss: Loss,
    parameters: Mapping[str, Array],
    x: Array,
    target: Array,
    state: Arrays,
    d_state: Arrays,
    valid: Array | None,
    weights: Array | None,
    masks: Masks,
    *,
    window: int | None,
    recompute: bool,
    factored: bool,
    parameters_only: bool,
    protect: bool,
    done: Callable[[Mapping[str, GradientArray]], None] | None = None,
) -> tuple[Array, Gradient, Arrays]:
    """Return the loss, its gradients, and the final state.

    Parameters
    ----------
    weights : array or None
        How much each entry of the target counts; None: 1.
    protect : bool
        Whether the loss is one that might write into the output, where that is part of the tape.
    done : callable, optional
        See `xprnn.engine.stack.backward`.
    """
    reading: ReadsOut | None = None
    if architecture.output_size is not None:
        R = parameters[architecture.readout_weight]
        rows = x.shape[0] * x.shape[1] if architecture.returns == "sequence" else x.shape[1]
        reading = loss if reads_out(loss, rows, R) else None
    output, final, tape = forward(
        architecture,
        backend,
        parameters,
        x,
        state,
        valid,
        save=True,
        recompute=recompute,
        masks=masks,
        reads_out=reading is None,
    )
    # Without a readout the output is part of the tape, which the loss must not overwrite.
    overwrite = architecture.output_size is not None
    if not overwrite and protect and tape.shares_output:
        output = backend.library.protected(output)
    mask = combined(valid if architecture.returns == "sequence" else None, weights)
    d_output: Array | ReadoutGradient
    if reading is not None:
        r, factored = parameters.get("readout.bias"), factored and not architecture.tied
        value, d_output = loss_of_readout(reading, R, r, output, target, mask, factored=factored)
    else:
        value, d_output = loss.value_and_grad(
            output, target, *mask_arguments(mask), overwrite=overwrite
        )
    del output  # as large as a long sequence
    gradient = backward(
        parameters,
        tape,
        d_output,
        d_state,
        window,
        factored=factored,
        parameters_only=parameters_only,
        done=done,
    )
    return value, gradient, final
