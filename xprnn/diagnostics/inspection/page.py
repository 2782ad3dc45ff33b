"""``inspect.html``: one self-contained page that shows a pass step by step."""

import html
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from xprnn.backend.host.arrays import np
from xprnn.backend.host.files import write_atomic
from xprnn.backend.types import Array
from xprnn.cells import Arrays
from xprnn.diagnostics.inspection.encoding import encoded, norms
from xprnn.diagnostics.inspection.record import LayerRecord, Record
from xprnn.diagnostics.inspection.recording import record
from xprnn.engine.network import RNN
from xprnn.losses import Loss

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("data.js", "values.js", "equations.js", "diagram.js", "page.js")

NUMBERS = 400_000
"""A page holds at most about this many numbers: 2 MB."""

STEPS = 400
"""A page draws at most this many steps."""


RUNS = 10
"""The most runs of steps that a message lists."""


class Page(NamedTuple):
    """A page that shows a pass step by step, self-contained.

    In a notebook it shows itself.

    Attributes
    ----------
    html : str
    record : Record
        The numbers, of all steps.
    shown : slice
        The steps that the page shows.
    messages : tuple of str
        What the page says first: which part it shows, where NaN arose.
    """

    html: str
    record: Record
    shown: slice
    messages: tuple[str, ...]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page, whole or not at all."""
        write_atomic(path, self.html.encode())

    def __repr__(self) -> str:
        steps = self.shown.stop - self.shown.start
        return f"Page({steps} of {self.record.steps} steps, {len(self.html) / 1e6:.2f} MB)"

    def _repr_html_(self) -> str:
        source = html.escape(self.html, quote=True)
        return (
            f'<iframe srcdoc="{source}" title="A pass, step by step" '
            'style="width:100%;height:860px;border:1px solid #8888"></iframe>'
        )


def inspect_page(
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
    steps: tuple[int, int] | None = None,
    vocabulary: Sequence[str] = (),
    title: str | None = None,
    notes: Sequence[str] = (),
) -> Page:
    """Return a page that goes through one sequence, forwards and backwards, step by step.

    It draws the network unfolded in time, and shows at each step the values of x, u, v, gates, h
    and y, and on the way back dy, dh in its two parts (from this step's output and from the step
    after), du, dv, and what the step adds to the gradients of W, U and b; beside them the cell's
    equations.  All of it, for any cell, comes from the network's own passes; names are those of the
    cell's formula and of the numbered equations in its docstring.

    Parameters
    ----------
    net : RNN
    x : array, (T, B, I), or of integers, (T, B)
    target : array, optional
        What the loss compares the output with.
    loss : str or Loss
    d_output : array, optional
        The gradient of the output, in its shape, instead of a target.
    state : tuple of array, (layers·D, B, H) each, optional
        The initial state; None for zero.
    lengths : sequence of int, optional
        The page shows padding, and that nothing happens there.
    mask : array of bool, (T, B), optional
        Which steps exist, instead of lengths.  The page leaves out the missing ones and counts the
        others from 0; its head says which steps of the input they are.
    window : int, optional
        Windowed truncation: see `RNN.backward`.  What it cuts off is shown as cut.
    weights : array, optional
        Of the target's entries: see `RNN.value_and_grad`.
    sequence : int
        Which sequence of the batch.  The loss is that of this sequence alone.
    steps : (int, int), optional
        The first step to show, and the one after the last.  None: all of them; or, of a sequence
        that is too long for a page, the last ones.  The gradients are those of the whole sequence
        in any case.
    vocabulary : sequence of str, optional
        The names of the tokens.
    title : str, optional
    notes : sequence of str
        Further lines for the head of the page.

    Returns
    -------
    Page
        ``.save(path)`` writes it; ``.html`` is its text, and ``.record`` holds the numbers.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or shape, or out of range; if neither a target nor
        ``d_output`` is given, or both are; or if the sequence has no step.

    Notes
    -----
    There is no dropout.  The passes run again as plain array code, so a network that is trained
    with ``recompute=True`` has a page like any other; memory grows with the number of steps.

    Examples
    --------
    >>> import numpy as np, xprnn
    >>> net = xprnn.RNN(2, 3, 1, cell="gru", dtype="float64", rng=0)
    >>> x, target = np.ones((5, 1, 2)), np.zeros((5, 1, 1))
    >>> page = xprnn.diagnostics.inspect_page(net, x, target)
    >>> page.record.layers[0]["dh"].shape
    (5, 3)
    >>> _, gradient = net.value_and_grad(x, target)
    >>> name = "weight_hh_l0"
    >>> bool(np.allclose(page.record.gradients()[name], gradient.parameters[name]))
    True
    """
    found = record(
        net,
        x,
        target,
        loss,
        d_output=d_output,
        state=state,
        lengths=lengths,
        mask=mask,
        window=window,
        weights=weights,
        sequence=sequence,
        vocabulary=vocabulary,
    )
    return page_of(found, steps=steps, title=title, notes=notes)


def page_of(
    record: Record,
    *,
    steps: tuple[int, int] | None = None,
    title: str | None = None,
    notes: Sequence[str] = (),
) -> Page:
    """Return the page of a record; see `inspect_page`."""
    shown = _shown(record, steps)
    messages = tuple(_messages(record, shown))
    data = encoded(record, shown)
    data["title"] = title or f"Forwards and backwards through {record.steps} steps"
    data["messages"] = list(messages)
    data["notes"] = [*notes, *(flow_sentence(record, layer) for layer in record.layers)]
    return Page(_assembled(data), record, shown, messages)


def flow_sentence(record: Record, layer: LayerRecord) -> str:
    """Say how the gradient grows or shrinks on its way back, and at which step most."""
    dh = norms(layer["dh"])
    before = "t+1" if layer.reverse else "t-1"
    passed = norms(layer[f"dh_later({before})"])
    order = range(record.steps) if layer.reverse else range(record.steps - 1, -1, -1)
    start, end = order[0], order[-1]
    most = int(np.argmax(np.where(np.isfinite(dh), dh, 0.0)))
    peak = "" if most in (start, end) else f", {dh[most]:.3g} at step {most}, where it is largest,"
    head = f"{layer.name}: ‖dh‖ is {dh[start]:.3g} at step {start}{peak}"
    head += f" and {dh[end]:.3g} at step {end}"
    with np.errstate(all="ignore"):
        factors = np.where(dh > 0, passed / np.where(dh > 0, dh, 1.0), 0.0)
    inner = [t for t in order if t != end and np.isfinite(factors[t])]
    if not inner or not np.all(np.isfinite(dh)):
        return head + "."
    t = max(inner, key=lambda k: factors[k])
    to = t + 1 if layer.reverse else t - 1
    if np.ptp(factors[inner]) <= 1e-6 * factors[t]:
        return f"{head}. Every step passes on {factors[t]:.3g} times what reaches it."
    if factors[t] > 1:
        return f"{head}. It grows most from step {t} to step {to}: {factors[t]:.3g} times."
    return f"{head}. Every step passes on less than reaches it, at most {factors[t]:.3g} times."


def _shown(record: Record, steps: tuple[int, int] | None) -> slice:
    """Return the steps to show."""
    total = record.steps
    if steps is None:
        width = sum(
            q.values.shape[1] for layer in record.layers for q in (*layer.forward, *layer.backward)
        )
        most = max(1, min(STEPS, NUMBERS // max(width, 1)))
        return slice(max(0, total - most), total)
    if len(steps) != 2:
        raise TypeError(f"steps is {steps!r}: expected two ints, the first step and the end")
    first, stop = steps
    for k in steps:
        if isinstance(k, bool) or not hasattr(k, "__index__"):
            raise TypeError(f"steps is {steps!r}: expected two ints, the first step and the end")
    if not 0 <= first < stop <= total:
        raise ValueError(
            f"steps is ({first}, {stop}): expected 0 ≤ first < end ≤ {total}, the sequence's steps"
        )
    return slice(int(first), int(stop))


def _messages(record: Record, shown: slice) -> list[str]:
    messages = []
    if record.places is not None:
        messages.append(
            f"Missing steps are left out: steps 0 to {record.steps - 1} of this page are steps "
            f"{_runs(record.places)} of the input."
        )
    if shown.stop - shown.start < record.steps:
        messages.append(
            f"This page shows steps {shown.start} to {shown.stop - 1} of the sequence's "
            f"{record.steps}; gradients are those of the whole sequence."
        )
    bad = record.first_nonfinite()
    if bad is not None:
        messages.append(f"First non-finite: {bad}.")
    return messages


def _runs(numbers: Sequence[int]) -> str:
    """Return ascending numbers in words, "2, 5 to 8", and the last run if there are many."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    parts = [part.tolist() for part in np.split(np.asarray(numbers), breaks)]
    runs = [f"{a[0]}" if len(a) == 1 else f"{a[0]} to {a[-1]}" for a in parts]
    return ", ".join(runs if len(runs) <= RUNS else [*runs[: RUNS - 1], "...", runs[-1]])


def _assembled(data: dict[str, object]) -> str:
    text = {
        name: (ASSETS / name).read_text("utf-8") for name in (*SCRIPTS, "page.html", "page.css")
    }
    # A "<" in the data could end the script.
    safe = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    # Not str.format, because styles and scripts are full of braces.
    whole = text["page.html"]
    for mark, content in {
        "TITLE": html.escape(str(data["title"])),
        "STYLE": text["page.css"],
        "SCRIPT": "\n".join(text[name] for name in SCRIPTS),
        "DATA": safe,
    }.items():
        whole = whole.replace(f"<!--{mark}-->", content, 1)
    return whole
