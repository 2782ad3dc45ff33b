"""When a checkpoint is written, and how a training goes on from one."""

import math
import tempfile
import time
from collections.abc import Mapping
from typing import Any, TypeAlias

from xprnn.backend import Backend
from xprnn.backend.host.files import remove_parts
from xprnn.training.checkpoint.description import description, differences
from xprnn.training.checkpoint.file import Content, find, write
from xprnn.training.checkpoint.options import Checkpoint
from xprnn.training.checkpoint.parts import Stateful
from xprnn.training.checkpoint.tree import Packer, Unpacker, named_kinds

Parts: TypeAlias = Mapping[str, Stateful]


class Keeper:
    """Writes a training's checkpoint when it is due.

    Parameters
    ----------
    checkpoint : Checkpoint
    backend : Backend
    parts : mapping of str to Stateful
        All that changes during the training; restored in this order.
    same : mapping of str to object
        All that must be the same when it goes on, by the names that the user knows.
    """

    def __init__(
        self, checkpoint: Checkpoint, backend: Backend, parts: Parts, same: Mapping[str, Any]
    ) -> None:
        self.checkpoint, self.backend, self.parts = checkpoint, backend, parts
        self.same = {name: description(value) for name, value in same.items()}
        self.snapshot: dict[str, Any] = {}
        self.due = False
        self.keep = True
        self.written = -math.inf

    def begin(self) -> bool:
        """Go on from the checkpoint if there is one; return whether the training does.

        That a checkpoint can be written is found out here; the first is after the first update, so
        that a training that can't begin leaves none.

        Raises
        ------
        FileExistsError
            If there is a checkpoint, and it was not said that the training goes on.
        OSError
            If the checkpoint can't be read or written.
        TypeError
            If a state can't be kept.
        ValueError
            If the checkpoint is damaged, or of another training.
        """
        self.snapshot = self._states()
        self.kinds = named_kinds(self.snapshot)
        file, previous = self.checkpoint.file, self.checkpoint.previous
        if not self.checkpoint.resume and (file.exists() or previous.exists()):
            there = file if file.exists() else previous
            raise FileExistsError(
                f"there is a checkpoint {str(there)!r} already: resume=True goes on from it; "
                "to begin anew, remove it or name another file"
            )
        found = find(self.checkpoint) if self.checkpoint.resume else None
        if found is None:
            Packer(self.backend, self.kinds)(self.snapshot, "training")
        else:
            content, self.keep = found
            self._resume(content)
        self._prepare()
        return found is not None

    def update(self, updates: int) -> None:
        """Write after an update, the so-manieth, if that is due."""
        every = self.checkpoint.every_steps
        self._note(due=every is not None and updates % every == 0)

    def epoch(self, number: int, *, last: bool) -> None:
        """Write after an epoch if that is due, as it is after the last."""
        every = self.checkpoint.every_epochs
        self._note(due=last or (every is not None and number % every == 0))

    def flush(self) -> None:
        """Write where the training last was, unless that is written already."""
        if self.due:
            self._write()

    def _note(self, *, due: bool) -> None:
        # Every time, so that there is something whole to write should Ctrl-C come in a step.
        self.snapshot, self.due = self._states(), True
        minutes = self.checkpoint.every_minutes
        due = due or self.written == -math.inf
        if due or (minutes is not None and time.monotonic() - self.written >= 60 * minutes):
            self._write()

    def _prepare(self) -> None:
        file = self.checkpoint.file
        try:
            with tempfile.TemporaryFile(dir=file.parent):
                remove_parts(file)
        except OSError as error:
            raise OSError(
                f"can't write the checkpoint {str(file)!r}: {error.strerror or error}"
            ) from error

    def _states(self) -> dict[str, Any]:
        return {name: part.state() for name, part in self.parts.items()}

    def _write(self) -> None:
        pack = Packer(self.backend, self.kinds)
        data = {"same": self.same, "parts": pack(self.snapshot, "training")}
        write(self.checkpoint, Content(data, pack.arrays), keep=self.keep)
        self.keep, self.due, self.written = True, False, time.monotonic()

    def _resume(self, content: Content) -> None:
        different = differences(self.same, content.data["same"])
        where = f"the checkpoint {str(self.checkpoint.file)!r}"
        if different:
            raise ValueError(f"{where} is of another training: {'; '.join(different)}")
        unpack = Unpacker(self.backend, self.kinds, content.arrays)
        try:
            states = unpack(content.data["parts"])
            for name, part in self.parts.items():
                part.restore(states[name])
        except ValueError as error:
            raise ValueError(f"{where} is of another training: {error}") from error
        self.due, self.written = False, time.monotonic()
