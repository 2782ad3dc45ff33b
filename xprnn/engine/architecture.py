"""What a network is, apart from the values of its weights and the backend it computes on."""

import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache, cached_property
from typing import Any, NamedTuple

from xprnn import checks
from xprnn.cells import (
    Cell,
    cell_config,
    cell_from_config,
    get_cell,
    has_layer_norm,
    has_recurrent_matrix,
    unit_names,
)

RETURNS = ("sequence", "last")
Shape = tuple[int, ...]


class ParameterNames(NamedTuple):
    """The parameters' names of one layer in one direction, for the fields of `xprnn.Weights`."""

    W: str
    U: str
    b: str
    units: tuple[str, ...]
    gains: tuple[str, ...]


class Direction(NamedTuple):
    """One layer in one direction, and the names of its parameters.

    Attributes
    ----------
    layer : int
    reverse : bool
        Whether it reads from the last step to the first.
    suffix : str
        The ending of its parameters' names.
    input_size : int
    names : ParameterNames
        Including the biases, which a network may lack.
    hidden_size : int
    of_state : tuple
        The index of its state in the network's.
    skips : bool
        Whether its layer's input is added to its output.
    features : int
        The size of its output: H, or that of the projection.
    P : str or None
        The name of the projection, if there is one.
    """

    layer: int
    reverse: bool
    suffix: str
    input_size: int
    names: ParameterNames
    hidden_size: int
    of_state: tuple[Any, ...]
    skips: bool
    features: int
    P: str | None


@dataclass(frozen=True)
class Architecture:
    """Sizes, cell and form of the output; see `RNN` for each.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, unknown or out of range.
    """

    input_size: int
    hidden_size: int | tuple[int, ...]
    output_size: int | None
    cell: Cell
    bias: bool = True
    returns: str = "sequence"
    layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    embedding_size: int | None = None
    # Files and checkpoints from before it was there are those of networks without it.
    tied: bool = field(default=False, metadata={"later": True})
    residual: bool = field(default=False, metadata={"later": True})
    projection: int | None = field(default=None, metadata={"later": True})
    heads: int = field(default=1, metadata={"later": True})

    def __post_init__(self) -> None:
        layers = checks.positive_int("layers", self.layers)
        hidden, layers = _hidden_sizes(self.hidden_size, layers)
        checked = {
            "input_size": checks.positive_int("input_size", self.input_size),
            "hidden_size": hidden,
            "output_size": _size("output_size", self.output_size),
            "cell": get_cell(self.cell),
            "bias": checks.boolean("bias", self.bias),
            "returns": checks.choice("returns", self.returns, RETURNS),
            "layers": layers,
            "bidirectional": checks.boolean("bidirectional", self.bidirectional),
            "dropout": checks.number("dropout", self.dropout, below=1.0),
            "recurrent_dropout": checks.number(
                "recurrent_dropout", self.recurrent_dropout, below=1.0
            ),
            "embedding_size": _size("embedding_size", self.embedding_size),
            "tied": checks.boolean("tied", self.tied),
            "residual": checks.boolean("residual", self.residual),
            "projection": _size("projection", self.projection),
            "heads": checks.positive_int("heads", self.heads),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.projection is not None:
            self._check_projection(self.projection)
        if self.heads > 1:
            self._check_heads()
        if self.tied:
            self._check_tied()
        if self.residual:
            self._check_residual()
        if not has_recurrent_matrix(self.cell):
            self._check_no_recurrent_matrix()

    def _check_no_recurrent_matrix(self) -> None:
        """Refuse what is applied to U h(t-1) where there is no U."""
        name = type(self.cell).__name__
        if self.recurrent_dropout:
            raise ValueError(
                f"recurrent_dropout={self.recurrent_dropout} drops entries of h(t-1) before U "
                f"multiplies it, and {name} has no U: expected 0"
            )
        if has_layer_norm(self.cell):
            raise ValueError(
                f"{name} has layer_norm, which normalises U h(t-1), and recurrent_matrix=False, "
                "without U: expected one of both"
            )

    def _check_projection(self, size: int) -> None:
        """Refuse a projection that makes h no smaller, and one without U."""
        smallest = min(self.sizes)
        if size >= smallest:
            raise ValueError(
                f"projection is {size}, the size of h = P m, and hidden_size is "
                f"{self.hidden_size}, that of m: expected less than {smallest}"
            )
        if not has_recurrent_matrix(self.cell):
            raise ValueError(
                f"projection={size} makes U and P the factors of the recurrent matrix, and "
                f"{type(self.cell).__name__} has none: expected None"
            )

    def _check_heads(self) -> None:
        """Refuse heads that don't divide the units, and those without a U of their own."""
        if any(size % self.heads for size in self.sizes):
            raise ValueError(
                f"heads is {self.heads}, blocks of units of the same size, and hidden_size is "
                f"{self.hidden_size}: expected a divisor"
            )
        if not has_recurrent_matrix(self.cell):
            raise ValueError(
                f"heads={self.heads} divides the recurrent matrix into blocks, and "
                f"{type(self.cell).__name__} has none: expected 1"
            )
        if self.projection is not None:
            raise ValueError(
                f"heads is {self.heads} and projection is {self.projection}: expected one of the "
                "two, since U P has no blocks"
            )

    def _check_residual(self) -> None:
        """Refuse residual connections that connect nothing."""
        if self.layers > 1 and not any(direction.skips for direction in self.stack):
            raise ValueError(
                f"residual=True connects neighbouring layers of the same size, but hidden_size is "
                f"{self.hidden_size}: expected two such layers"
            )

    def _check_tied(self) -> None:
        """Check that one matrix can be both embedding and readout; its size need not be given."""
        if self.embedding_size is None:
            object.__setattr__(self, "embedding_size", self.features)
        if (self.output_size, self.embedding_size) != (self.input_size, self.features):
            raise ValueError(
                f"tied=True makes one matrix of the embedding, ({self.input_size}, "
                f"{self.embedding_size}), and the readout, ({self.output_size}, {self.features}): "
                f"expected an output_size of {self.input_size} and an embedding_size of "
                f"{self.features}, or None"
            )

    @property
    def directions(self) -> int:
        """D: 2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """H of each layer."""
        H = self.hidden_size
        return (H,) * self.layers if isinstance(H, int) else H

    @property
    def forms_recurrent(self) -> bool:
        """Whether the matrix of the recurrence is formed for each pass, and is no parameter."""
        return self.projection is not None or self.heads > 1

    @cached_property
    def width(self) -> int:
        """The largest H, the last axis of the network's state."""
        return max(self.sizes)

    @property
    def features(self) -> int:
        """H·D of the top layer, or P·D, the size of its output at one step."""
        return self._put_out(self.layers - 1) * self.directions

    def _put_out(self, layer: int) -> int:
        """Return the size of what a layer puts out in one direction."""
        return self.sizes[layer] if self.projection is None else self.projection

    @property
    def readout_weight(self) -> str:
        """The name of R, which is the embedding's if both are tied."""
        return "embedding.weight" if self.tied else "readout.weight"

    @cached_property
    def stack(self) -> tuple[Direction, ...]:
        """Every layer in every direction, in the order of the state's first axis."""
        # Computed once, because every pass uses it and a small network would be slower.
        return tuple(
            self._direction(layer, reverse)
            for layer in range(self.layers)
            for reverse in (False, True)[: self.directions]
        )

    def _direction(self, layer: int, reverse: bool) -> Direction:
        suffix = f"_l{layer}{'_reverse' * reverse}"
        inputs = self.embedding_size or self.input_size
        if layer:
            inputs = self._put_out(layer - 1) * self.directions
        norms = ("norm_ih", "norm_hh") if has_layer_norm(self.cell) else ()
        names = ParameterNames(
            f"weight_ih{suffix}",
            f"weight_hh{suffix}",
            f"bias{suffix}",
            tuple(f"{name}{suffix}" for name in unit_names(self.cell)),
            tuple(f"{name}{suffix}" for name in norms),
        )
        hidden, k = self.sizes[layer], layer * self.directions + reverse
        of_state = (k, ...) if hidden == self.width else (k, ..., slice(0, hidden))
        features = self._put_out(layer)
        skips = self.residual and layer > 0 and features == self._put_out(layer - 1)
        P = None if self.projection is None else f"weight_hr{suffix}"
        return Direction(
            layer, reverse, suffix, inputs, names, hidden, of_state, skips, features, P
        )

    def state_shape(self, batch: int) -> Shape:
        """Return the shape of each state variable, (layers·D, B, H), H being the largest."""
        return (len(self.stack), batch, self.width)

    def output_shape(self, steps: int, batch: int) -> Shape:
        """Return the shape of the output: (T, B, O), or (B, O) if only the last is returned."""
        size = self.features if self.output_size is None else self.output_size
        return (batch, size) if self.returns == "last" else (steps, batch, size)

    def shapes(self) -> dict[str, Shape]:
        """Return the shape of every parameter, by name."""
        return dict(self._shapes)

    @cached_property
    def _shapes(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        if self.embedding_size is not None:
            shapes["embedding.weight"] = (self.input_size, self.embedding_size)
        for direction in self.stack:
            suffix, hidden = direction.suffix, direction.hidden_size
            rows = self.cell.gates * hidden
            shapes[f"weight_ih{suffix}"] = (rows, direction.input_size)
            if has_recurrent_matrix(self.cell):
                shapes[f"weight_hh{suffix}"] = (rows, direction.features // self.heads)
            if self.bias:
                shapes[f"bias{suffix}"] = (rows,)
            if direction.P is not None:
                shapes[direction.P] = (direction.features, hidden)
            for name in self.units():
                shapes[f"{name}{suffix}"] = (hidden,)
            if has_layer_norm(self.cell):
                shapes[f"norm_ih{suffix}"] = shapes[f"norm_hh{suffix}"] = (rows,)
        if self.output_size is not None:
            shapes[self.readout_weight] = (self.output_size, self.features)
            if self.bias:
                shapes["readout.bias"] = (self.output_size,)
        return shapes

    def units(self) -> tuple[str, ...]:
        """Return the names of the cell's per-unit parameters that the network has."""
        names = unit_names(self.cell)
        return names if self.bias else tuple(n for n in names if not n.startswith("bias"))

    def config(self) -> dict[str, Any]:
        """Return the architecture as plain data; the cell is None if it is not part of xprnn."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if not _unused(f, self)}
        if isinstance(self.hidden_size, tuple):
            plain["hidden_size"] = list(self.hidden_size)
        return plain | {"cell": cell_config(self.cell)}

    @classmethod
    def from_config(cls, config: Mapping[str, object], cell: Cell | None) -> "Architecture":
        """Return the architecture that `config` has described.

        Parameters
        ----------
        config : mapping
            From a file: every entry is checked.  Entries that describe no architecture are ignored.
        cell : Cell or None
            The cell, if ``config`` does not say which it is.

        Raises
        ------
        TypeError, ValueError
            If an entry is missing, of the wrong type, unknown or out of range.
        """
        options: dict[str, Any] = {}
        for f in fields(cls):
            if f.name in config:
                options[f.name] = config[f.name]
            elif f.name not in LATER:
                raise ValueError(f"{f.name} is missing")
        return cls(**options | {"cell": cell_from_config(config["cell"]) if cell is None else cell})


LATER = tuple(f.name for f in fields(Architecture) if f.metadata.get("later"))
"""Options that older files lack, and newer ones too where they have their default values."""


def _unused(option: Field[Any], architecture: Architecture) -> bool:
    return option.name in LATER and getattr(architecture, option.name) == option.default


def _hidden_sizes(given: int | tuple[int, ...], layers: int) -> tuple[int | tuple[int, ...], int]:
    """Return the hidden size, or those of the layers if they differ, and the number of layers."""
    if not isinstance(given, tuple | list):
        return checks.positive_int("hidden_size", given), layers
    sizes = tuple(checks.positive_int(f"hidden_size[{k}]", size) for k, size in enumerate(given))
    if not sizes:
        raise ValueError("hidden_size is empty: expected one size for each layer")
    if layers not in (1, len(sizes)):
        raise ValueError(
            f"layers is {layers}, but hidden_size has {len(sizes)} sizes, one for each layer"
        )
    return sizes[0] if len(set(sizes)) == 1 else sizes, len(sizes)


@cache
def layer_of(name: str) -> str:
    """Return the name of a parameter's layer: ``"layer 0"``, ..., ``"readout"``, ``"embedding"``.

    Parameters of other names are layers of their own.
    """
    found = re.search(r"_l(\d+)(?:_reverse)?$", name)
    return f"layer {found[1]}" if found else name.partition(".")[0]


def _size(name: str, value: int | None) -> int | None:
    return value if value is None else checks.positive_int(name, value)
