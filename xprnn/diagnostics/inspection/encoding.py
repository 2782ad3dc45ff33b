"""A record as JSON: the page's data.

Arrays are base64 of little-endian numbers, which hold NaN and infinity, and are a third of the
size of decimals.  An array that is needed twice is stored once.
"""

import base64
from collections.abc import Callable
from typing import Any

from xprnn.backend.host.arrays import HostArray, np
from xprnn.diagnostics.inspection.equations import parts
from xprnn.diagnostics.inspection.record import Contribution, LayerRecord, Line, Quantity, Record

OUTPUTS = 12
"""With more outputs than four times this number, each step has this many: the largest."""

EXACT = 60_000
"""A page of float64 with more numbers than this has them in float32, if they are in its range."""

Encoded = dict[str, Any]


class Pool:
    """Arrays of the steps that a page shows, each stored once."""

    def __init__(self, steps: slice, *, exact: bool = True) -> None:
        self.steps, self.exact = steps, exact
        self.arrays: list[Encoded] = []
        self.numbers = 0
        self._places: dict[tuple[str, tuple[int, ...], bytes], int] = {}

    def add(self, values: HostArray) -> int:
        """Return the place of an array of all steps, (T, K) or (T,)."""
        return self.add_whole(values[self.steps])

    def add_whole(self, values: HostArray) -> int:
        """Return the place of an array, (N, K) or (N,)."""
        kind = "i4" if values.dtype.kind in "iu" else "f8" if self._wide(values) else "f4"
        raw = np.ascontiguousarray(values, dtype=f"<{kind}").tobytes()
        key = (kind, values.shape, raw)
        if key not in self._places:
            self._places[key] = len(self.arrays)
            width = values.shape[1] if values.ndim == 2 else 1
            text = base64.b64encode(raw).decode()
            self.arrays.append({"kind": kind, "width": width, "data": text})
            self.numbers += values.size
        return self._places[key]

    def _wide(self, values: HostArray) -> bool:
        """Return whether numbers must stay in double precision."""
        if self.exact:
            return True
        sizes = np.abs(values[np.isfinite(values) & (values != 0)])
        limits = np.finfo(np.float32)
        return bool(sizes.size and (sizes.max() > limits.max or sizes.min() < limits.tiny))


def decode(array: Encoded) -> HostArray:
    """Return an array of the page's data, (N, K)."""
    raw = base64.b64decode(array["data"])
    numbers: HostArray = np.frombuffer(raw, dtype=f"<{array['kind']}")
    return np.reshape(numbers, (-1, int(array["width"])))


def encoded(record: Record, shown: slice) -> Encoded:
    """Return the data of a page that shows some steps of a record."""
    exact = record.dtype == "float64"
    pool = Pool(shown, exact=exact)
    data = _encoded(record, shown, pool)
    if exact and pool.numbers > EXACT:
        data = _encoded(record, shown, Pool(shown, exact=False))
    return data


def _encoded(record: Record, shown: slice, pool: Pool) -> Encoded:
    layers = [_layer(layer, pool) for layer in record.layers]
    for layer, found in zip(record.layers, layers, strict=True):
        found["norms"] = pool.add_whole(norms(layer["dh"]))
        found["passed"] = pool.add_whole(norms(layer[f"dh_later({layer.before})"]))
    output = _output(record, pool)
    return {
        "network": record.network,
        "dtype": record.dtype,
        "steps": record.steps,
        "padding": record.padding,
        "first": shown.start,
        "shown": shown.stop - shown.start,
        "window": record.window,
        "tokens": _tokens(record, shown),
        "loss": record.loss,
        "value": None if record.value is None else repr(record.value),
        "output": output,
        "layers": layers,
        "arrays": pool.arrays,
    }


def norms(values: HostArray) -> HostArray:
    """Return ‖·‖ of each row, which does not overflow where the entries don't."""
    with np.errstate(all="ignore"):
        largest = np.max(np.abs(values), axis=1, keepdims=True)
        scale = np.where(np.isfinite(largest) & (largest > 0), largest, 1.0)
        sizes: HostArray = scale[:, 0] * np.sqrt(np.sum((values / scale) ** 2, axis=1))
    return sizes


def _layer(layer: LayerRecord, pool: Pool) -> Encoded:
    return {
        "name": layer.name,
        "layer": layer.layer,
        "reverse": layer.reverse,
        "forward": {
            "rows": [_row(q, pool) for q in layer.forward],
            "lines": [_line(line, pool) for line in layer.forward_lines],
        },
        "backward": {
            "rows": [_row(q, pool) for q in layer.backward],
            "lines": [_line(line, pool) for line in layer.backward_lines],
        },
        "adds": [_adds(c, pool) for c in layer.contributions],
    }


def _row(quantity: Quantity, pool: Pool) -> Encoded:
    name, values, group, line, note = quantity
    return {"name": name, "array": pool.add(values), "group": group, "line": line, "note": note}


def _line(line: Line, pool: Pool) -> Encoded:
    left, equals, right = line.text.partition(" = ")
    split = [
        *parts(left, _used(left, line.left, pool)),
        *([equals] if equals else []),
        *parts(right, _used(right, line.right, pool)),
    ]
    return {"parts": split, "number": line.number, "cites": list(line.cites)}


def _used(text: str, values: dict[str, HostArray], pool: Pool) -> dict[str, int]:
    named = [part[0] for part in parts(text, dict.fromkeys(values, 0)) if isinstance(part, list)]
    return {str(name): pool.add(values[str(name)]) for name in named}


def _adds(
    contribution: Contribution, pool: Pool, add: Callable[[HostArray], int] | None = None
) -> Encoded:
    add = pool.add if add is None else add
    name, text, left, right, tokens, shape, rows, heads = contribution
    if rows is not None:
        shape = (left.shape[1], *shape[1:])
    return {
        "name": name,
        "text": text,
        "left": add(left),
        "right": None if right is None else add(right),
        "tokens": None if tokens is None else pool.add(tokens),
        "shape": list(shape),
        "heads": heads,
        "output": contribution.of_output,
    }


def _tokens(record: Record, shown: slice) -> list[str] | None:
    """Return the names of the input's tokens; None for other input."""
    if record.x.dtype.kind not in "iu":
        return None
    return [_token(record, int(k)) for k in record.x[shown]]


def _token(record: Record, k: int) -> str:
    return record.vocabulary[k] if 0 <= k < len(record.vocabulary) else str(k)


def _output(record: Record, pool: Pool) -> Encoded:
    """Return y, dy and target: of each step, or of the last alone."""
    add = pool.add_whole if record.last else pool.add
    y, dy, p, target = record.output, record.d_output, record.probabilities, record.target
    chosen = None
    if y.shape[1] > 4 * OUTPUTS:
        chosen = _largest(y, target)
        y, dy = (np.take_along_axis(a, chosen, axis=1) for a in (y, dy))
        p = None if p is None else np.take_along_axis(p, chosen, axis=1)
    named = record.vocabulary and record.output.shape[1] == len(record.vocabulary)
    ids = np.arange(y.shape[1]) if chosen is None else chosen
    seen = ids if chosen is None or record.last else chosen[pool.steps]
    names: dict[str, str] = {}
    if named:
        names = {str(k): record.vocabulary[k] for k in np.unique(seen).tolist()}
        if target is not None and target.dtype.kind in "iu":
            here = target if record.last else target[pool.steps]
            known = [k for k in np.unique(here).tolist() if k >= 0]
            names |= {str(k): record.vocabulary[k] for k in known}
    return {
        "last": record.last,
        "readout": record.readout,
        "size": record.output.shape[1],
        "y": add(y),
        "dy": add(dy),
        "probabilities": None if p is None else add(p),
        "chosen": None if chosen is None else add(chosen),
        "names": names,
        "target": None if target is None else add(target),
        "classes": target is not None and target.dtype.kind in "iu",
        "losses": None if record.losses is None else add(record.losses),
        "adds": [
            _adds(c, pool, add if c.of_output else pool.add)
            for c in record.contributions
            if chosen is None or not c.of_output
        ],
    }


def _largest(y: HostArray, target: HostArray | None) -> HostArray:
    """Return the numbers of each step's largest outputs, the target's first."""
    order = np.argsort(-np.nan_to_num(y), axis=1, kind="stable")[:, :OUTPUTS]
    if target is None or target.dtype.kind not in "iu":
        return order
    rows = []
    for line, k in zip(order.tolist(), target.reshape(-1).tolist(), strict=True):
        rows.append(([k] if k >= 0 else []) + [j for j in line if j != k])
    return np.asarray([row[:OUTPUTS] for row in rows])
