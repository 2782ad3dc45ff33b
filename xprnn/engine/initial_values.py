"""The initial values of a network's parameters."""

import re

from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.cells import Cell, initial_bias, retention, unit_names, unit_ranges
from xprnn.engine.architecture import Architecture
from xprnn.engine.initializers import (
    ByKind,
    Chrono,
    Initializer,
    Uniform,
    chosen_initializers,
)


def initial_values(
    architecture: Architecture, initializer: ByKind, rng: Generator
) -> dict[str, HostArray]:
    """Return initial values of every parameter; each gate's block is a draw of its own.

    Raises
    ------
    TypeError, ValueError
        If it is no initializer, or it can't draw one of the parameters.
    """
    shapes, values, cell = architecture.shapes(), {}, architecture.cell
    kinds = {name: _kind(name) for name in shapes}
    drawn_by = chosen_initializers(
        initializer, dict.fromkeys(k for k in kinds.values() if not k.startswith("norm_"))
    )
    if architecture.embedding_size is not None:
        name = "embedding.weight"
        # An entry of a token's vector has one incoming connection, that of the token; as a
        # readout the matrix sums over the features.
        fan_in = architecture.features if architecture.tied else 1
        values[name] = _drawn(drawn_by[name], name, rng, shapes[name], fan_in)
    for direction in architecture.stack:
        hidden = direction.hidden_size
        for name in (n for n in shapes if n.endswith(direction.suffix)):
            kind, shape = kinds[name], shapes[name]
            if name == direction.P:
                values[name] = _drawn(drawn_by[kind], name, rng, shape, hidden)
                continue
            fan_in = direction.input_size if kind == "weight_ih" else direction.features
            gates = shape[0] // hidden
            block = (hidden, *shape[1:])
            if kind == "weight_hh":
                # One draw for each head, too, of the units that it has.
                fan_in, gates = shape[1], gates * architecture.heads
                block = (hidden // architecture.heads, shape[1])
            if kind.startswith("norm_"):
                values[name] = np.ones(shape)
                continue
            draw, added = drawn_by[kind], np.repeat(initial_bias(cell), hidden)
            if kind == "bias" and isinstance(draw, Chrono):
                gated = np.repeat(retention(cell), hidden)
                values[name] = draw.biases(rng, retention(cell), hidden)
                values[name] += np.where(gated, 0.0, added)
                continue
            bounds = _range_of(cell, kind)
            if bounds is not None and isinstance(draw, Uniform):
                values[name] = rng.uniform(*bounds, shape)
                continue
            values[name] = np.concatenate(
                [_drawn(draw, name, rng, block, fan_in) for _ in range(gates)]
            )
            if kind == "bias":
                values[name] += added
    for name in (n for n in shapes if n.startswith("readout.")):
        values[name] = _drawn(drawn_by[name], name, rng, shapes[name], architecture.features)
    return values


def _range_of(cell: Cell, kind: str) -> tuple[float, float] | None:
    """Return the bounds of the initial values of a per-unit parameter, if it has any."""
    ranges = unit_ranges(cell)
    names = unit_names(cell)
    return ranges[names.index(kind)] if ranges is not None and kind in names else None


def _kind(name: str) -> str:
    """Return a parameter's name without layer and direction."""
    return re.sub(r"_l\d+(_reverse)?$", "", name)


def _drawn(
    draw: Initializer, name: str, rng: Generator, shape: tuple[int, ...], fan_in: int
) -> HostArray:
    try:
        return draw(rng, shape, fan_in)
    except ValueError as error:
        raise ValueError(f"initial values of {name}: {error}") from error
