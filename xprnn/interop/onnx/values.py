"""What is known of a value in another program's graph, without computing it.

Axes have names: T and B of steps and sequences, D of directions, H of units, F of features, and
``"0"`` and ``"1"`` of an input whose T and B are not known yet.
"""

from typing import NamedTuple, TypeAlias

from xprnn.backend.host.arrays import HostArray

Axes: TypeAlias = tuple[str, ...]


class Constant(NamedTuple):
    """An array of the file."""

    array: HostArray


class Sizes(NamedTuple):
    """Numbers that depend on the sizes of inputs only."""


class Zeros(NamedTuple):
    """Zeros, of sizes that are not known."""


class Given(NamedTuple):
    """An input of the graph, moved; or its rows from ``start`` on; or its tokens' embedding."""

    name: str
    axes: Axes
    start: int = 0
    embedded: bool = False


class Hidden(NamedTuple):
    """The output of layer ``layer``; without the axis T, the state at each sequence's end."""

    layer: int
    axes: Axes


class Final(NamedTuple):
    """Final states: ``rows`` are pairs of layer and direction."""

    what: str
    rows: tuple[tuple[int, int], ...]
    axes: Axes


class Read(NamedTuple):
    """The output of the readout."""

    axes: Axes


Value: TypeAlias = Constant | Sizes | Zeros | Given | Hidden | Final | Read
