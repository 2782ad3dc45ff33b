"""What a network is, apart from its weights and from where it computes."""

from dataclasses import dataclass
from typing import Any

from xprnn import checks
from xprnn.backend.host import HostArray, Seed, generator, np
from xprnn.cells import Cell, cell_config, cell_from_config, get_cell
from xprnn.initializers import Initializer, get_initializer

RETURNS = ("sequence", "last")
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Architecture:
    """Sizes, cell and form of the output; see `RNN` for each.

    Raises
    ------
    TypeError, ValueError
        If one is of the wrong type, unknown or out of range.
    """

    input_size: int
    hidden_size: int
    output_size: int | None
    cell: Cell
    bias: bool
    returns: str

    def __post_init__(self) -> None:
        checked = {
            "input_size": checks.positive_int("input_size", self.input_size),
            "hidden_size": checks.positive_int("hidden_size", self.hidden_size),
            "output_size": self.output_size
            if self.output_size is None
            else checks.positive_int("output_size", self.output_size),
            "cell": get_cell(self.cell),
            "bias": checks.boolean("bias", self.bias),
            "returns": checks.choice("returns", self.returns, RETURNS),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def shapes(self) -> dict[str, Shape]:
        """Return the shape of every parameter, by name."""
        rows = self.cell.gates * self.hidden_size
        shapes: dict[str, Shape] = {
            "weight_ih_l0": (rows, self.input_size),
            "weight_hh_l0": (rows, self.hidden_size),
        }
        if self.bias:
            shapes["bias_l0"] = (rows,)
        if self.output_size is not None:
            shapes["readout.weight"] = (self.output_size, self.hidden_size)
            if self.bias:
                shapes["readout.bias"] = (self.output_size,)
        return shapes

    def initial(self, initializer: str | Initializer, rng: Seed) -> dict[str, HostArray]:
        """Return initial values of every parameter, each gate's block drawn by itself."""
        draw, random = get_initializer(initializer), generator(rng)
        values = {}
        for name, shape in self.shapes().items():
            fan_in = self.input_size if name == "weight_ih_l0" else self.hidden_size
            gates = 1 if name.startswith("readout.") else self.cell.gates
            block = (shape[0] // gates, *shape[1:])
            values[name] = np.concatenate([draw(random, block, fan_in) for _ in range(gates)])
        return values

    def output_shape(self, steps: int, batch: int) -> Shape:
        """Return the shape of the output: (T, B, O), or (B, O) for the last one."""
        size = self.hidden_size if self.output_size is None else self.output_size
        return (batch, size) if self.returns == "last" else (steps, batch, size)

    def config(self) -> dict[str, Any]:
        """Return it as plain data; the cell is None if it is not part of xprnn."""
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "output_size": self.output_size,
            "cell": cell_config(self.cell),
            "bias": self.bias,
            "returns": self.returns,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], cell: Cell | None) -> "Architecture":
        """Return what `config` described, with the cell if it could not.

        Raises
        ------
        KeyError
            If something is missing.
        ValueError
            If a cell is needed and not given, or given and not needed.
        """
        saved = config["cell"]
        if saved is None and cell is None:
            raise ValueError(
                "the network was saved with a cell of the user's own: pass it as `cell`"
            )
        if saved is not None and cell is not None:
            raise ValueError(f"the file says which cell it needs ({saved}): don't pass `cell`")
        return cls(
            config["input_size"],
            config["hidden_size"],
            config["output_size"],
            cell_from_config(saved) if cell is None else cell,
            config["bias"],
            config["returns"],
        )
