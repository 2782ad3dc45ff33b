"""``xprnn bench``: its comparisons, which run `xprnn.bench` and print its rows."""

from xprnn.cli.bench import (
    crossover,
    distributed,
    flow,
    imports,
    layer,
    memory,
    origins,
    quality,
    sensitivity,
    train,
)
from xprnn.cli.common import Command

COMPARISONS: dict[str, Command] = {
    "origins": origins,
    "layer": layer,
    "train": train,
    "memory": memory,
    "flow": flow,
    "import": imports,
    "quality": quality,
    "crossover": crossover,
    "distributed": distributed,
    "sensitivity": sensitivity,
}
