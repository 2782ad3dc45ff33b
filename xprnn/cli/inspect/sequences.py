"""The sequence that a network is inspected on: from DATA, or the one of the model's task."""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.quoting import quoted
from xprnn.backend.types import Array
from xprnn.cli.arrays import SUFFIX, read_arrays
from xprnn.cli.common import of_model
from xprnn.cli.series import OPTIONS, columns_of, read_table, remembered_reading
from xprnn.cli.train.sine import TASK as SINE
from xprnn.data import read_texts, sine
from xprnn.data.segmentation import LEVELS, PARTS
from xprnn.engine.network import RNN
from xprnn.losses import LOSSES
from xprnn.models.forecaster import TASK as SERIES
from xprnn.models.forecaster import Forecaster
from xprnn.models.language import TASK as TEXT
from xprnn.models.language import LanguageModel
from xprnn.models.task import entry

MOST = 1000
"""Of a text that is one long stream, this many tokens are read."""


class Inspected(NamedTuple):
    """What a network is inspected on.

    Attributes
    ----------
    x, target : array
        Of one sequence: x is (T, 1, I), or integers (T, 1).
    loss : str
    words : str
        What it is.
    lengths : list of int, optional
    mask : array of bool, (T, 1), optional
    vocabulary : tuple of str
    """

    x: Array
    target: Array
    loss: str
    words: str
    lengths: Sequence[int] | None = None
    vocabulary: tuple[str, ...] = ()
    mask: HostArray | None = None


def inspected(args: argparse.Namespace, net: RNN) -> Inspected:
    """Return what the command is to inspect the network on.

    Raises
    ------
    OSError, ValueError
        If DATA can't be read, is missing, or is none that the network can read.
    """
    task = net.metadata.get("task")
    tasks: dict[str, Callable[[argparse.Namespace, RNN], Inspected]]
    tasks = {SINE: _sine, SERIES: _series, TEXT: _text}
    if args.file is not None and args.file.suffix == SUFFIX:
        return _arrays(args, net)
    if not isinstance(task, str) or task not in tasks:
        what = (
            "the model is of no task that `xprnn train` has"
            if task is None
            else (f"the model's task is {quoted(task)}, which `xprnn train` does not have")
        )
        given = "" if args.file is None else f", not {str(args.file)!r}"
        raise ValueError(
            f"{str(args.model)!r}: {what}: expected DATA, a .npz file with the arrays x and target"
            f"{given} (numpy.savez('data.npz', x=x, target=target))"
        )
    return tasks[task](args, net)


def trained_on(net: RNN) -> str:
    """Say what a network was trained on, as far as its metadata tell."""
    data = net.metadata
    task = data.get("task")
    if task == SINE:
        ends = (data.get("trained_from"), data.get("trained_to"))
        start, stop = (f"{x:.4g}" if isinstance(x, float) else quoted(x) for x in ends)
        return f"a noisy sine, x from {start} to {stop}"
    if task == SERIES:
        columns, known = data.get("columns", data.get("column")), data.get("covariates")
        beside = f" with {quoted(known)} known" if known else ""
        return (
            f"the series {quoted(columns)}{beside}, {quoted(data.get('window'))} values to "
            "forecast the next"
        )
    if task == TEXT:
        tokens = data.get("tokens")
        count = len(tokens) if isinstance(tokens, list) else "?"
        return f"a text, by {quoted(data.get('level')).strip(chr(39))}: {count} in the vocabulary"
    return "unknown (no task in its metadata)" if task is None else f"{quoted(task)}"


def _sine(args: argparse.Namespace, net: RNN) -> Inspected:
    _refuse_file(args, "the sine has its own")
    _refuse(args, "the sine", ("text", *OPTIONS))
    x, target = sine(noise=0.0)
    with of_model(args.model):
        form = (net.input_size, net.output_size, net.returns, net.embedding_size)
        if form != (1, 1, "sequence", None):
            raise ValueError(f"net is {net}: expected RNN(1, H, 1)")
        scale = float(entry(net.metadata, "input_scale"))
        if not math.isfinite(scale):
            raise ValueError(f"input_scale is {scale}: expected a finite number")
    asarray = net.backend.asarray
    words = f"y = sin x without noise, x from {x[0, 0, 0]:g} to {x[-1, 0, 0]:.4g}"
    return Inspected(asarray(x * scale), asarray(target), "squared_error", words)


def _series(args: argparse.Namespace, net: RNN) -> Inspected:
    _refuse(args, "a series", ("text",))
    with of_model(args.model):
        forecaster = Forecaster.of(net)
        columns, covariates = columns_of(net.metadata, forecaster)
        remembered = remembered_reading(net.metadata)
    columns, count = args.column or columns, len(columns)
    if len(columns) != count:
        raise ValueError(
            f"--column is given {len(columns)} times, but the network in {str(args.model)!r} "
            f"forecasts {count} columns"
        )
    names = ", ".join(columns)
    if args.file is None:
        raise ValueError(
            f"{str(args.model)!r} forecasts the series {names!r}: name its file after the model, "
            "such as sunspots"
        )
    table = read_table(args, columns, known=covariates, remembered=remembered)
    values = np.ascontiguousarray(table.values[:, :count] if count > 1 else table.values[:, 0])
    known = np.ascontiguousarray(table.values[:, count:]) if covariates else None
    needed = forecaster.needed
    if len(values) <= needed:
        raise ValueError(
            f"{str(args.file)!r} has {len(values)} values: expected more than {needed}, which the "
            "network reads to forecast the next"
        )
    with of_model(args.model):
        x, target = forecaster.examples(values, known)
    windows = x.shape[1]
    k = _sequence(args, windows, "windows of values", windows - 1)
    first = k + needed - forecaster.window
    words = f"{names}: values {first} to {first + forecaster.window - 1} of {len(values)}"
    one = slice(k, k + 1)
    return Inspected(
        x[:, one, :], target[one, :], "squared_error", f"{words}, to forecast the next"
    )


def _text(args: argparse.Namespace, net: RNN) -> Inspected:
    _refuse(args, "a text", tuple(name for name in OPTIONS if name != "encoding"))
    with of_model(args.model):
        model = LanguageModel.of(net)
    if (args.file is None) == (args.text is None):
        given = "neither is given" if args.file is None else "both are given"
        raise ValueError(
            f"{str(args.model)!r} is a language model: expected DATA, a text file, or --text TEXT; "
            f"{given}"
        )
    if args.text is not None:
        text, source = args.text, "--text"
    else:
        text = read_texts([args.file], args.encoding or "utf-8").text
        source = str(args.file)
    parts = [LEVELS[model.level](part) for part in PARTS[model.unit](text)]
    parts = [part for part in parts if part]
    if not parts:
        raise ValueError(f"{source}: there are no tokens in it")
    k = _sequence(args, len(parts), f"{model.unit}s", 0)
    encode = model.vocabulary.encode
    indices = (
        encode(parts[k]) if model.unit == "stream" else model.vocabulary.encode_sentence(parts[k])
    )
    if len(indices) < 2:
        raise ValueError(f"{source}: a single token has no next one to predict")
    read = indices[: MOST + 1]
    cut = f", its first {MOST} tokens" if len(read) < len(indices) else ""
    words = f"{model.unit} {k} of {len(parts)} in {source}{cut}"
    asarray = net.backend.asarray
    return Inspected(
        asarray(read[:-1, None]),
        asarray(read[1:, None]),
        "cross_entropy",
        words,
        vocabulary=model.vocabulary.tokens,
    )


def _arrays(args: argparse.Namespace, net: RNN) -> Inspected:
    """Return the arrays of a .npz file."""
    _refuse(args, "arrays", ("text", *OPTIONS))
    path: Path = args.file
    x, lengths, mask, others = read_arrays(path, ("x", "target"))
    target = others["target"]
    loss = "cross_entropy" if target.dtype.kind in "iu" else "squared_error"
    loss = args.loss or loss
    batch = x.shape[1]
    k = _sequence(args, batch, "sequences", 0)
    asarray = net.backend.asarray
    words = f"sequence {k} of {batch} in {path}"
    one = slice(k, k + 1)
    return Inspected(
        asarray(x[:, one]),
        asarray(target[one] if net.returns == "last" else target[:, one]),
        loss,
        words,
        None if lengths is None else lengths[one],
        _tokens(net),
        None if mask is None else mask[:, one],
    )


def _tokens(net: RNN) -> tuple[str, ...]:
    """Return the vocabulary in a network's metadata, if there is one."""
    tokens = net.metadata.get("tokens")
    if not isinstance(tokens, list) or len(tokens) != net.input_size:
        return ()
    return tuple(map(str, tokens))


def _sequence(args: argparse.Namespace, count: int, what: str, default: int) -> int:
    """Return the number of the sequence to show."""
    k: int = default if args.sequence is None else args.sequence
    if not 0 <= k < count:
        raise ValueError(f"--sequence is {k}: expected 0 to {count - 1}; there are {count} {what}")
    return k


def _refuse_file(args: argparse.Namespace, why: str) -> None:
    if args.file is not None:
        raise ValueError(
            f"{str(args.file)!r}: the model was trained on the sine, which needs no DATA: {why} "
            "sequence; expected none, or a .npz file with the arrays x and target"
        )


def _refuse(args: argparse.Namespace, what: str, names: Sequence[str]) -> None:
    """Refuse options that this kind of data doesn't have."""
    given = [f"--{name}" for name in names if getattr(args, name, None) is not None]
    if given:
        raise ValueError(f"{', '.join(given)}: not an option for {what}")


KNOWN_LOSSES = tuple(LOSSES)
