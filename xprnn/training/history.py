"""The record of a training run: one line of numbers for each epoch."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from xprnn.backend.host.files import write_atomic
from xprnn.backend.host.quoting import quoted, shortened
from xprnn.backend.host.strict_json import parse_json
from xprnn.data.decoding import read_decoded

if TYPE_CHECKING:
    from pandas import DataFrame


class Record(NamedTuple):
    """One epoch.

    Attributes
    ----------
    epoch : int
        From 1.
    loss : float
        Over the epoch's batches, each before its update: the mean over all entries or their sum,
        as the loss's reduction says.
    validation_loss : float or None
        Over the validation data, after the epoch; None without such data.
    gradient_norm : float or None
        The largest norm of an update's gradients, before clipping: of all of them, or with
        ``clip_by`` of a layer or a parameter.  None without ``clip_norm``.
    """

    epoch: int
    loss: float
    validation_loss: float | None
    gradient_norm: float | None


@dataclass
class History:
    """The epochs of a training run.

    Attributes
    ----------
    records : list of Record
    stopped : str
        Why the run ended: ``"epochs"`` (all done), ``"patience"``, ``"callback"``,
        ``"interrupted"``, ``"non-finite"``; ``""`` while it goes on.
    best_epoch : int or None
        With ``patience``, the epoch whose weights the network has at the end.
    seconds : float
        The time of all epochs.  Not part of the file, so that equal runs write equal files.
    optimizer_state : object
        The optimizer's last state.  Not part of the file.
    resumed : int or None
        After how many updates the run was resumed from a checkpoint; None if it was not.
    """

    records: list[Record] = field(default_factory=list)
    stopped: str = ""
    best_epoch: int | None = None
    seconds: float = 0.0
    optimizer_state: Any = field(default=None, repr=False, compare=False)
    resumed: int | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        """Epochs, first and last losses, and why the run ended; `records` has all numbers."""
        words = [f"{len(self)} epoch{'' if len(self) == 1 else 's'}"]
        if self.records:
            first, last = self.records[0], self.records[-1]
            words.append(f"loss {first.loss:.4g} -> {last.loss:.4g}")
            if first.validation_loss is not None and last.validation_loss is not None:
                words.append(
                    f"validation {first.validation_loss:.4g} -> {last.validation_loss:.4g}"
                )
        if self.best_epoch is not None:
            words.append(f"best epoch {self.best_epoch}")
        if self.stopped:
            words.append(f"ended by {self.stopped}")
        return f"History({', '.join(words)}, {self.seconds:.1f} s)"

    @property
    def loss(self) -> list[float]:
        """Every epoch's training loss."""
        return [record.loss for record in self.records]

    @property
    def validation_loss(self) -> list[float | None]:
        """Every epoch's validation loss."""
        return [record.validation_loss for record in self.records]

    def to_frame(self) -> "DataFrame":
        """Return a pandas data frame: a row for each epoch, which is the index.

        Its columns are the other fields of `Record`; one that was not recorded is NaN.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError('History.to_frame needs pandas: pip install "xprnn[data]"') from error
        columns = {
            name: [getattr(record, name) for record in self.records] for name in Record._fields[1:]
        }
        index = pd.Index([record.epoch for record in self.records], name="epoch", dtype="int64")
        return pd.DataFrame(columns, index=index, dtype="float64")

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {
            "records": partial(_first, self.records, len(self.records)),
            "stopped": self.stopped,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state."""
        self.records = [_checked(Record(*values)) for values in state["records"]]
        self.stopped, self.best_epoch = state["stopped"], state["best_epoch"]
        if type(self.best_epoch) not in (int, type(None)):
            raise TypeError(f"best_epoch is {quoted(self.best_epoch)}: expected an int or None")
        if self.best_epoch is not None and not 1 <= self.best_epoch <= len(self.records):
            raise ValueError(
                f"best_epoch is {quoted(self.best_epoch)}: expected 1 to {len(self.records)}, or "
                "None"
            )
        self.seconds = state["seconds"]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON lines: for every epoch an object with the fields of its `Record`.

        A gradient norm that was infinite is written as null, as JSON has no infinity.
        """
        lines = []
        for record in self.records:
            norm = record.gradient_norm
            if norm is not None and not math.isfinite(norm):
                record = record._replace(gradient_norm=None)  # noqa: PLW2901
            lines.append(json.dumps(record._asdict(), allow_nan=False) + "\n")
        write_atomic(path, "".join(lines).encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "History":
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If a line is not a record; the message names it.
        """
        records = []
        text = read_decoded(Path(path), "utf-8")
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                records.append(_checked(Record(**parse_json(line))))
            except (ValueError, TypeError) as error:
                reason = shortened(str(error))
                raise ValueError(
                    f"{str(path)!r}, line {number}: not a record ({reason})"
                ) from error
        return cls(records)


@runtime_checkable
class HasHistory(Protocol):
    """An error that ended a training, which carries the history of the epochs before it."""

    history: History


def _first(records: Sequence[Record], count: int) -> list[list[Any]]:
    return [list(record) for record in records[:count]]


def _checked(record: Record) -> Record:
    """Return a record from a file, known to hold numbers."""
    numbers = [value for value in record if isinstance(value, int | float)]
    absent = sum(value is None for value in record[2:])
    if type(record.epoch) is not int or bool in map(type, numbers):
        raise TypeError(
            f"a record is {quoted(record)}: expected the number of an epoch, and losses"
        )
    if len(numbers) + absent != len(record):
        raise TypeError(f"a record is {quoted(record)}: expected numbers or None")
    return record
