"""Every quantity of one sequence's forward and backward pass, by name, on the host."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np


class Line(NamedTuple):
    """A line of equations, as it is shown beside the numbers.

    Attributes
    ----------
    text : str
    number : int or None
        Its number in the cell's docstring.
    cites : tuple of int
        The numbers of the equations that it comes from.
    left, right : dict of host array, (T, K) each
        The values of names on its left side, and on its right side.
    """

    text: str
    number: int | None = None
    cites: tuple[int, ...] = ()
    left: dict[str, HostArray] = {}  # noqa: RUF012 - a NamedTuple's default; nobody writes into it
    right: dict[str, HostArray] = {}  # noqa: RUF012


class Quantity(NamedTuple):
    """A quantity at every step.

    Attributes
    ----------
    name : str
    values : host array, (T, K)
    group : str
        What it is part of, such as ``"cell"``.
    line : int or None
        The line that computes it, of `LayerRecord.forward_lines` or ``backward_lines``.
    note : str
    """

    name: str
    values: HostArray
    group: str
    line: int | None = None
    note: str = ""


class Contribution(NamedTuple):
    """What every step adds to the gradient of a parameter.

    Attributes
    ----------
    name : str
        Of the parameter.
    text : str
        The equation.
    left : host array, (T, M)
    right : host array, (T, N), or None
        Step t adds the matrix left(t) right(t)ᵀ; None: the vector left(t).
    tokens : host array of int, (T,), or None
        Step t adds left(t) to the column of that number; to the row, for an embedding.
    shape : tuple of int
        The parameter's.
    rows : slice or None
        The rows of the parameter that the matrix is added to; None: all of them.
    heads : int
        With more than one, the parameter has the blocks of the matrix that a layer's heads read,
        one below the other; see `xprnn.engine.recurrent`.
    """

    name: str
    text: str
    left: HostArray
    right: HostArray | None
    tokens: HostArray | None
    shape: tuple[int, ...]
    rows: slice | None = None
    heads: int = 1

    @property
    def of_output(self) -> bool:
        """Whether it is one for each output, and not for each step."""
        return self.text.startswith(("dR ", "dr "))

    @property
    def of_rows(self) -> bool:
        """Whether tokens choose rows and not columns."""
        return self.name.startswith("embedding")

    def at(self, t: int) -> HostArray:
        """Return what step t adds, in the parameter's shape."""
        if self.tokens is not None:
            whole = np.zeros(self.shape)
            place = (self.tokens[t], ...) if self.of_rows else (..., self.tokens[t])
            whole[place] = self.left[t]
            return whole
        added = self.left[t] if self.right is None else np.outer(self.left[t], self.right[t])
        return self._placed(added)

    def total(self) -> HostArray:
        """Return the sum over all steps: the parameter's gradient."""
        if self.tokens is not None:
            whole = np.zeros(self.shape)
            rows = whole if self.of_rows else whole.T
            for token, row in zip(self.tokens, self.left, strict=True):
                rows[token] += row
            return whole
        return self._placed(
            self.left.sum(axis=0) if self.right is None else self.left.T @ self.right
        )

    def _placed(self, added: HostArray) -> HostArray:
        """Return an array of the parameter's shape, from that of its rows."""
        if self.heads > 1:
            K = self.shape[1]
            blocks = added.reshape(-1, self.heads, K, self.heads, K)
            added = np.einsum("giaib->giab", blocks).reshape(-1, K)
        if self.rows is None:
            return added
        whole = np.zeros(self.shape)
        whole[self.rows] = added
        return whole


@dataclass(frozen=True)
class LayerRecord:
    """A layer in one direction: every quantity at every step, t in the sequence's order.

    Attributes
    ----------
    layer : int
    reverse : bool
        Whether it reads from the last step to the first: then what is "before" a step is t+1.
    forward, backward : tuple of Quantity
        In the order in which they are computed.
    forward_lines, backward_lines : tuple of Line
    contributions : tuple of Contribution
    """

    layer: int
    reverse: bool
    forward: tuple[Quantity, ...]
    backward: tuple[Quantity, ...]
    forward_lines: tuple[Line, ...]
    backward_lines: tuple[Line, ...]
    contributions: tuple[Contribution, ...]

    @property
    def name(self) -> str:
        """``"layer 0"``, or ``"layer 0 reversed"``."""
        return f"layer {self.layer}{' reversed' * self.reverse}"

    @property
    def before(self) -> str:
        """The step that is read before step t: ``"t-1"``, or ``"t+1"``."""
        return "t+1" if self.reverse else "t-1"

    def __getitem__(self, name: str) -> HostArray:
        """Return a quantity's values, (T, K), by its name: ``record.layers[0]["dh"]``."""
        for quantity in (*self.forward, *self.backward):
            if quantity.name == name:
                return quantity.values
        names = ", ".join(q.name for q in (*self.forward, *self.backward))
        raise KeyError(f"no quantity {name!r}: known are {names}")


@dataclass(frozen=True)
class Record:
    """One sequence, forwards and backwards through a network.

    Attributes
    ----------
    network : str
        Its ``repr``.
    dtype : str
    steps, padding : int
        Steps of the sequence, and of padding after it.
    window : int or None
    loss : str
        ``"SquaredError"``, say; ``""`` if the gradient of the output was given.
    value : float or None
        The loss.
    losses : host array, (T,), or None
        What each step adds to the loss.
    x : host array, (T, I), or of integers, (T,)
    target : host array or None
        (T, O), (T,) of integers, or of the last output alone.
    output, d_output : host array, (T, O), or (1, O) of the last output alone
    last : bool
        Whether there is an output after the last step alone.
    readout : str
        Its equation; ``""`` if there is none.
    layers : tuple of LayerRecord
    contributions : tuple of Contribution
        To the readout's gradients, and the embedding's.
    vocabulary : tuple of str
        The tokens' names; empty if they have none.
    places : tuple of int or None
        Which steps of the input the steps are, if some are missing before or between them.
    """

    network: str
    dtype: str
    steps: int
    padding: int
    window: int | None
    loss: str
    value: float | None
    losses: HostArray | None
    x: HostArray
    target: HostArray | None
    output: HostArray
    d_output: HostArray
    probabilities: HostArray | None
    last: bool
    readout: str
    layers: tuple[LayerRecord, ...]
    contributions: tuple[Contribution, ...]
    vocabulary: tuple[str, ...] = field(default=())
    places: tuple[int, ...] | None = None

    def gradients(self) -> dict[str, HostArray]:
        """Return the parameters' gradients: the sums of what the steps add."""
        sums: dict[str, HostArray] = {}
        for c in self.all_contributions():
            # Tied weights have two contributions.
            sums[c.name] = sums[c.name] + c.total() if c.name in sums else c.total()
        return sums

    def all_contributions(self) -> Iterator[Contribution]:
        """Yield the contributions of every layer, and of readout and embedding."""
        for layer in self.layers:
            yield from layer.contributions
        yield from self.contributions

    def first_nonfinite(self) -> str | None:
        """Say where NaN or infinity arises first, in the order of computation; None if nowhere."""
        for layer in self.layers:
            found = _first_bad(layer.forward, layer, forwards=True)
            if found:
                return found
        y = Quantity("y", self.output, "output")
        found = _first_bad((y,), None, forwards=True, offset=self.steps - len(self.output))
        if found:
            return found
        if self.value is not None and not np.isfinite(self.value):
            return "the loss"
        dy = Quantity("dy", self.d_output, "output")
        found = _first_bad((dy,), None, forwards=True, offset=self.steps - len(self.output))
        if found:
            return found
        for layer in reversed(self.layers):
            found = _first_bad(layer.backward, layer, forwards=False)
            if found:
                return found
        return None


def _first_bad(
    quantities: Sequence[Quantity], layer: LayerRecord | None, *, forwards: bool, offset: int = 0
) -> str | None:
    """Return the first quantity that is not finite, in the order in which steps are computed."""
    bad = [~np.isfinite(q.values) for q in quantities]
    steps = [(np.flatnonzero(b.any(axis=1)), k) for k, b in enumerate(bad)]
    upwards = forwards == (layer is None or not layer.reverse)
    firsts = [(at[0] if upwards else -at[-1], k) for at, k in steps if len(at)]
    if not firsts:
        return None
    t, k = min(firsts)
    t = abs(int(t))
    unit = int(np.flatnonzero(bad[k][t])[0])
    where = "" if layer is None else f", {layer.name}"
    return f"{quantities[k].name} at step {t + offset}, unit {unit}{where}"
