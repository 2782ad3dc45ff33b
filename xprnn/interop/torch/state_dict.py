"""Names and shapes in torch's state dicts: the network that they describe, or what is wrong."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xprnn import checks
from xprnn.backend import describe, find_library
from xprnn.backend.host.arrays import HostArray, np, plain_array
from xprnn.cells import ACTIVATIONS, GRU, LSTM, Cell, Elman, get_cell
from xprnn.engine.architecture import Architecture

BY_GATES = {1: "elman", 3: "gru", 4: "lstm"}
"""The cell with this number of gates."""

_RECURRENT = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh)_l([0-9]+)(_reverse)?")
_PROJECTED = re.compile(r"weight_hr_l[0-9]+(_reverse)?")
_ELSEWHERE = re.compile(r"(|.*\.)weight_hh_l0")
_SHOWN = 6


@dataclass(frozen=True)
class Names:
    """The names of the parts of a torch module, each with its dot; None for an absent part."""

    rnn: str
    readout: str | None
    embedding: str | None

    @classmethod
    def checked(cls, rnn: str, readout: str | None, embedding: str | None) -> "Names":
        if not isinstance(rnn, str):
            raise TypeError(f"rnn is {rnn!r} ({type(rnn).__name__}): expected a string")
        readout, embedding = _with_dot("readout", readout), _with_dot("embedding", embedding)
        if readout is not None and readout == embedding:
            raise ValueError(f"readout and embedding are both {readout!r}: expected two names")
        return cls(_with_dot("rnn", rnn) or "", readout, embedding)

    def of(self, name: str) -> tuple[str, ...]:
        """Return the torch names of a parameter: two for b, which include b_hn; none for b_hn."""
        part, dot, kind = name.partition(".")
        if dot:
            prefix = self.readout if part == "readout" else self.embedding
            return () if prefix is None else (prefix + kind,)
        kind, _, suffix = name.partition("_l")
        if kind == "bias":
            return f"{self.rnn}bias_ih_l{suffix}", f"{self.rnn}bias_hh_l{suffix}"
        return () if kind == "bias_hn" else (self.rnn + name,)

    def required(self) -> tuple[str, ...]:
        """Return the torch names that must be there because the user named their module."""
        parts = (("readout", self.readout), ("embedding", self.embedding))
        return tuple(f"{name}weight" for part, name in parts if name not in (None, f"{part}."))


def _with_dot(argument: str, name: str | None) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(
            f"{argument} is {name!r} ({type(name).__name__}): expected a string or None"
        )
    return name if not name or name.endswith(".") else f"{name}."


def check_cell(cell: Cell) -> None:
    """Refuse a cell that torch does not have, and subclasses, whose formulas are unknown."""
    match cell:
        case LSTM(peepholes=has, layer_norm=normalised):
            known = not (has or normalised)
        case Elman(phi=phi):
            known = phi in (ACTIVATIONS["tanh"], ACTIVATIONS["relu"])
        case _:
            known = isinstance(cell, GRU)
    if not known or type(cell) not in (Elman, GRU, LSTM):
        raise ValueError(
            f"cell is {cell}: torch has no such cell; expected Elman with tanh or relu, GRU, or "
            "LSTM without peepholes and layer_norm"
        )


def check_projection(cell: Cell, projection: int | None) -> None:
    """Refuse a projection where torch has none."""
    if projection is not None and not isinstance(cell, LSTM):
        raise ValueError(
            f"projection is {projection} and cell is {cell}: in torch the LSTM alone has "
            "projections (proj_size); expected LSTM"
        )


def host_arrays(state_dict: object) -> dict[str, HostArray]:
    """Return copies of the entries, known to be floats."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"state_dict is {type(state_dict).__name__}: expected a mapping of names to arrays, "
            "such as module.state_dict()"
        )
    return {_name(key): _host(key, value) for key, value in state_dict.items()}


def _name(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the state dict has the key {key!r}: expected names")
    return key


def _host(name: object, value: object) -> HostArray:
    library = find_library(value)
    try:
        host = np.array(
            plain_array(str(name), value) if library is None else library.to_host(value)
        )
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise TypeError(f"{name} is {describe(value)}: NumPy can't hold it: {reason}") from error
    if host.dtype.kind != "f":
        raise TypeError(f"{name} is {describe(value)}: expected an array of floats")
    return host


def architecture_of(
    state: Mapping[str, HostArray], names: Names, cell: str | Cell | None, **options: Any
) -> Architecture:
    """Return the architecture that follows from names and shapes; all entries are checked."""
    recurrent = [name.removeprefix(names.rnn) for name in state if name.startswith(names.rnn)]
    made, hidden, projection = _cell_and_sizes(state, names, cell, recurrent)
    present = [found for name in recurrent if (found := _RECURRENT.fullmatch(name))]
    layers, bidirectional = len({found[2] for found in present}), any(f[3] for f in present)
    features = (projection or hidden) * (2 if bidirectional else 1)
    table = _shape(state, names.of("embedding.weight"), ("V", "E"))
    first = _shape(state, names.of("weight_ih_l0"), (made.gates * hidden, "I"))
    last = _shape(state, names.of("readout.weight"), ("O", features))
    biases = [names.of("readout.bias"), *(names.of(f"bias_l{layer}") for layer in range(layers))]
    architecture = Architecture(
        # If the first layer is missing, the check below says so, with everything else.
        input_size=table[0] if table else first[1] if first else 1,
        hidden_size=hidden,
        output_size=last[0] if last else None,
        cell=made,
        bias=any(name in state for pair in biases for name in pair),
        layers=layers,
        bidirectional=bidirectional,
        embedding_size=table[1] if table else None,
        projection=projection,
        **options,
    )
    _check_entries(state, names, architecture)
    return architecture


def _cell_and_sizes(
    state: Mapping[str, HostArray],
    names: Names,
    cell: str | Cell | None,
    recurrent: list[str],
) -> tuple[Cell, int, int | None]:
    """Return the cell, H, and P if there is a projection."""
    if cell is not None:
        check_cell(get_cell(cell))
    (name,) = names.of("weight_hh_l0")
    if name not in state:
        others = [at for other in state if (at := _ELSEWHERE.fullmatch(other))]
        hint = f"; pass rnn={others[0][1]!r} for {others[0][0]!r}" if others else ""
        raise KeyError(f"the state dict lacks {name!r}: it has {_listed(state)}{hint}")
    shape, projection = state[name].shape, None
    hidden = shape[-1] if shape else 0
    projected = next((names.rnn + n for n in recurrent if _PROJECTED.fullmatch(n)), None)
    if projected is not None:
        checks.of_shape(projected, state[projected], (hidden, "H"))
        projection, hidden = state[projected].shape
    if len(shape) != 2 or 0 in shape or hidden == 0 or shape[0] % hidden:
        columns = "H" if projection is None else f"P), {projected} of (P, H"
        raise ValueError(f"{name} has shape {shape}: expected (G·H, {columns})")
    gates = shape[0] // hidden
    found = f"{name} has shape {shape}, of {gates} gates"
    if cell is None and gates not in BY_GATES:
        raise ValueError(f"{found}: expected 1 (RNN), 3 (GRU) or 4 (LSTM)")
    made = get_cell(BY_GATES[gates] if cell is None else cell)
    if made.gates != gates:
        raise ValueError(f"{found}: {made} has {made.gates}")
    check_projection(made, projection)
    return made, hidden, projection


def _shape(
    state: Mapping[str, HostArray], names: tuple[str, ...], expected: checks.Shape
) -> tuple[int, ...] | None:
    """Return the shape of an entry after checking it; None if the entry is missing."""
    for name in names:
        if name in state:
            checks.of_shape(name, state[name], expected)
            return tuple(state[name].shape)
    return None


def _check_entries(
    state: Mapping[str, HostArray], names: Names, architecture: Architecture
) -> None:
    """Refuse a state dict with missing or extra entries, or with wrong shapes."""
    shapes = architecture.shapes()
    if architecture.tied:
        shapes["readout.weight"] = shapes["embedding.weight"]
    expected = {theirs: shape for name, shape in shapes.items() for theirs in names.of(name)}
    every = dict.fromkeys((*expected, *names.required()))
    missing = [name for name in every if name not in state]
    extra = [name for name in state if name not in expected]
    faults = []
    if missing:
        also = " (all layers have biases, or none has: zeros stand for none)"
        faults.append(f"lacks {_listed(missing)}{also * any('bias' in name for name in missing)}")
    if extra:
        faults.append(f"has {_listed(extra)} besides the network's own")
    if faults:
        raise KeyError(f"the state dict {' and '.join(faults)}: expected {_listed(every)}")
    for name, shape in expected.items():
        checks.of_shape(name, state[name], shape)
    if architecture.tied:
        both = [n for part in ("embedding", "readout") for n in names.of(f"{part}.weight")]
        if not all(np.array_equal(state[both[0]], state[name]) for name in both):
            raise ValueError(f"tied is True, but {' and '.join(map(repr, both))} differ")


def _listed(names: Iterable[str]) -> str:
    """Return names for a message, only the first ones if there are many."""
    every = [repr(name) for name in names]
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return (", ".join(every[:_SHOWN]) or "nothing") + more
