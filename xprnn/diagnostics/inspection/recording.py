"""Recording: a network's passes over one sequence as a `Record`.

Names are the cell's own: those of its formula (see `xprnn.diagnostics.inspection.watching`), and
those of the numbered equations in its docstring.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from xprnn import checks
from xprnn.backend import library_of
from xprnn.backend.entry import entry
from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.diagnostics.inspection.equations import read_out_of, readout_equation, transposed
from xprnn.diagnostics.inspection.layers import layer_record
from xprnn.diagnostics.inspection.passes import backward_kept, forward_again, one_segment
from xprnn.diagnostics.inspection.record import Contribution, Record
from xprnn.diagnostics.inspection.view import View
from xprnn.diagnostics.missing import without_missing
from xprnn.engine.arguments import check_inputs, check_window, zero_state
from xprnn.engine.lengths import check_lengths, fill_target
from xprnn.engine.network import RNN
from xprnn.engine.readout import read_out_backward
from xprnn.engine.results import NetworkTape
from xprnn.engine.stack import draw_masks, forward
from xprnn.losses import CrossEntropy, Loss, check_weights, get_loss, mask_arguments


@entry
def record(
    net: RNN,
    x: Array,
    target: Array | None = None,
    loss: str | Loss = "squared_error",
    *,
    d_output: Array | None = None,
    state: Arrays | None = None,
    lengths: Sequence[int] | None = None,
    mask: Array | None = None,
    window: int | None = None,
    weights: Array | None = None,
    sequence: int = 0,
    vocabulary: Sequence[str] = (),
) -> Record:
    """Return every quantity of a forward and a backward pass over one sequence of a batch.

    The loss is that of this sequence alone, and there is no dropout.

    Parameters
    ----------
    net : RNN
    x, target, loss, state, lengths, mask, window, weights
        See `RNN.value_and_grad`.  With a mask the record has the steps that exist.
    d_output : array, optional
        The gradient of the output, in its shape, instead of a target.
    sequence : int
        Which sequence of the batch.
    vocabulary : sequence of str
        The names of the tokens.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or shape, or out of range; if neither a target nor
        ``d_output`` is given, or both are; or if the sequence has no step.
    """
    if not isinstance(net, RNN):
        raise TypeError(f"net is {type(net).__name__}: expected an RNN")
    architecture, backend = net.architecture, net.backend
    loss, window = get_loss(loss), check_window(window)
    if (target is None) == (d_output is None):
        given = "neither" if target is None else "both"
        raise ValueError(f"{given} of target and d_output given: expected one of them")
    x, lengths, (target, d_output, weights), existing = without_missing(
        net, x, lengths, mask, target, d_output, weights
    )
    x, initial, valid = check_inputs(architecture, backend, x, state, lengths)
    steps, batch = x.shape[:2]
    b = checks.index("sequence", sequence, batch, ", one of the batch's sequences")
    shape = architecture.output_shape(steps, batch)
    ends = check_lengths(lengths, steps, batch)
    n = steps if ends is None else ends[b]
    if n == 0:
        raise ValueError(f"sequence {b} has no steps: expected one with at least one (T ≥ 1)")
    places = _places(existing, b)
    last = architecture.returns == "last"
    one = slice(b, b + 1)
    at = (one,) if last else (slice(0, n), one)
    if d_output is None:
        target = loss.check(shape, target if last else fill_target(backend, valid, target), backend)
        if weights is not None:
            weights = check_weights(loss, weights, shape[:-1], target, backend)
            weights = weights[(*at, ...)]
        target = target[(*at, ...)]
    else:
        d_output = checks.array("d_output", d_output, backend, shape)[(*at, ...)]
    with backend.library.quiet():
        x, initial = x[:n, one, ...], tuple(part[:, one, :] for part in initial)
        masks = draw_masks(architecture, backend, None, n, 1)
        run = forward(
            architecture, backend, net.parameters, x, initial, None, save=True, masks=masks
        )
        output = backend.library.copy(run.output)
        value, losses = None, None
        if target is not None:
            counted = mask_arguments(weights)
            values, d_output = loss.value_and_grad(backend.library.copy(output), target, *counted)
            value = float(backend.xp.sum(values))
            losses = _losses(loss, output, target, weights, value, last=last)
        assert d_output is not None
        layers, contributions = _layers(net, run.tape, d_output, window)
        host = backend.to_numpy
        softmax = None
        if target is not None and isinstance(loss, CrossEntropy):
            softmax = _probabilities(output)
        return Record(
            network=repr(net),
            dtype=backend.dtype_name,
            steps=n,
            padding=0 if places else steps - n,
            window=window,
            loss="" if target is None else type(loss).__name__,
            value=value,
            losses=losses,
            x=_wide(host(x[:, 0, ...])),
            target=None if target is None else _wide(_one(host(target), last=last)),
            output=_wide(_one(host(output), last=last)),
            d_output=_wide(_one(host(d_output), last=last)),
            probabilities=None if softmax is None else _wide(_one(host(softmax), last=last)),
            last=last,
            readout=readout_equation(architecture),
            layers=layers,
            contributions=contributions,
            vocabulary=tuple(vocabulary),
            places=places,
        )


def _places(existing: HostArray | None, b: int) -> tuple[int, ...] | None:
    """Return which steps of the input exist; None if they are its first ones."""
    if existing is None:
        return None
    places = np.flatnonzero(existing[:, b]).tolist()
    return None if places == list(range(len(places))) else tuple(places)


def _layers(
    net: RNN, tape: NetworkTape, d_output: Array, window: int | None
) -> tuple[tuple[Any, ...], tuple[Contribution, ...]]:
    """Return the layers' records, and the contributions of readout and embedding."""
    architecture, backend, xp = net.architecture, net.backend, net.backend.xp
    parameters, tapes = net.parameters, one_segment(tape)
    dh = d_output
    if architecture.output_size is not None:
        R, r = parameters[architecture.readout_weight], parameters.get("readout.bias")
        dh = read_out_backward(xp, R, r, tape.h, d_output).h
    d_state = zero_state(backend, architecture.cell, architecture.state_shape(1))
    backs, d_input = backward_kept(tape, tapes, dh, d_state, window)
    cuts: list[Arrays | None] = [None] * len(tapes)
    if window is not None:
        whole, _ = backward_kept(tape, tapes, dh, d_state, None)
        cuts = [
            tuple(
                full - kept
                for full, kept in zip(w.call.arguments[-1], b.call.arguments[-1], strict=True)
            )
            for w, b in zip(whole, backs, strict=True)
        ]
    factors = tape.factors or (None,) * len(tapes)
    views = [
        View(
            architecture, direction, layer, forward_again(architecture.cell, layer), back, cut, both
        )
        for direction, layer, back, cut, both in zip(
            architecture.stack, tapes, backs, cuts, factors, strict=True
        )
    ]
    layers = tuple(map(layer_record, views))
    return layers, tuple(_ends(net, tape, d_output, d_input))


def _ends(
    net: RNN, tape: NetworkTape, d_output: Array, d_input: Array | None
) -> Iterable[Contribution]:
    """Yield the contributions to the gradients of readout and embedding."""
    host, shapes = net.backend.to_numpy, net.architecture.shapes()
    if net.output_size is not None:
        last = net.returns == "last"
        dy, h = (_wide(_one(host(a), last=last)) for a in (d_output, tape.h))
        name = net.architecture.readout_weight
        read = transposed(read_out_of(net.architecture))
        yield Contribution(name, f"dR += dy(t) {read}", dy, h, None, shapes[name])
        if net.bias:
            yield Contribution("readout.bias", "dr += dy(t)", dy, None, None, dy.shape[1:])
    if net.embedding_size is not None:
        tokens, de = host(tape.x)[:, 0].astype(np.int64), _wide(host(d_input)[:, 0, :])
        name = "embedding.weight"
        yield Contribution(name, "dE[x(t)] += dx(t)", de, None, tokens, shapes[name])


def _losses(
    loss: Loss, output: Array, target: Array, weights: Array | None, value: float, *, last: bool
) -> HostArray | None:
    """Return what each step adds to the loss; None if the loss is not such a sum."""
    if last:
        return np.asarray([value])
    xp = library_of(output).namespace()
    whole, parts = float(loss.entries(target, *mask_arguments(weights))), []
    for t in range(output.shape[0]):
        step = slice(t, t + 1)
        counted = mask_arguments(None if weights is None else weights[step, ...])
        entries = float(loss.entries(target[step, ...], *counted))
        share = entries / whole if loss.reduction == "mean" and whole else 1.0
        part = xp.sum(loss(output[step, ...], target[step, ...], *counted))
        parts.append(float(part) * share if entries else 0.0)
    losses = np.asarray(parts)
    close = np.isclose(losses.sum(), value, rtol=1e-3, equal_nan=True)
    return losses if close or not np.isfinite(value) else None


def _probabilities(logits: Array) -> Array:
    library = library_of(logits)
    _, exponentials, Z = library.softmax_parts(library.rows(logits), overwrite=False)
    return library.namespace().reshape(exponentials / Z, logits.shape)


def _one(a: HostArray, *, last: bool) -> HostArray:
    """Return the only sequence's entries: (T, ...), or (1, ...) of the last output alone."""
    return a if last else a[:, 0, ...]


def _wide(a: HostArray) -> HostArray:
    return a if a.dtype.kind in "iu" else a.astype(np.float64)
