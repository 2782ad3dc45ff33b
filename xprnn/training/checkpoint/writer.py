"""When a training's checkpoint is written, and how a training resumes from one."""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from xprnn.backend import Backend
from xprnn.backend.host.files import check_writable, remove_parts
from xprnn.backend.host.locks import Lock
from xprnn.backend.host.quoting import quoted, shortened
from xprnn.distributed.team import Team
from xprnn.training.checkpoint.description import description, differences
from xprnn.training.checkpoint.file import Content, find, write
from xprnn.training.checkpoint.form import check_form
from xprnn.training.checkpoint.options import Checkpoint
from xprnn.training.checkpoint.parts import Stateful
from xprnn.training.checkpoint.sharing import shared
from xprnn.training.checkpoint.tree import Packer, Unpacker, named_kinds

Parts: TypeAlias = Mapping[str, Stateful]

UNFORMED = ("callbacks", "random", "compression")
"""Parts whose state may have another form than at the beginning; they check it themselves."""

GATHERED = ("epoch", "compression")
"""Parts of which each rank has its own, in the order of the training's parts."""

UNFIT = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What a part raises if a state does not fit."""


class CheckpointWriter:
    """Writes a training's checkpoint when it is due, and restores the training from it.

    Parameters
    ----------
    checkpoint : Checkpoint
    backend : Backend
    parts : mapping of str to Stateful
        Everything that changes during the training; restored in this order.  If a part can't be
        restored, those before it are set back to their own states.
    same : mapping of str to object
        Everything that must be the same when the training is resumed, by the names that the user
        knows.
    team : Team, optional
        The ranks of the training.  Rank 0 reads and writes the file, and all of them restore it.

    Attributes
    ----------
    is_time : callable
        Returns whether ``every_minutes`` have passed; on all ranks the same.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        backend: Backend,
        parts: Parts,
        same: Mapping[str, Any],
        team: Team | None = None,
    ) -> None:
        self.checkpoint, self.backend, self.parts = checkpoint, backend, parts
        self.team, self.first = team, team is None or team.rank == 0
        self.is_time: Callable[[], bool] = self.time_is_up
        self.same = {name: description(value) for name, value in same.items()}
        self.snapshot: dict[str, Any] = {}
        self.unwritten = False
        self.file_is_whole = True
        self.written = -math.inf
        self._has_file = False
        self._lock: Lock | None = None

    def begin(self) -> bool:
        """Resume from the checkpoint if there is one; return whether the training was resumed.

        An error of writing is found here, before the training begins.  The first checkpoint is
        written after the first update, so that a training that fails before leaves none.

        Raises
        ------
        BlockingIOError
            If another training uses the checkpoint.
        FileExistsError
            If there is a checkpoint, but ``resume`` is False.
        OSError
            If the checkpoint can't be read or written.
        TypeError
            If a state has a type that can't be written.
        ValueError
            If the checkpoint is damaged, or of another training.
        """
        try:
            return self._begin()
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Let others use the file."""
        if self._lock is not None:
            self._lock.release()

    def _acquire(self) -> None:
        try:
            self._lock = self.checkpoint.lock()
            self._lock.acquire()
        except BlockingIOError:
            raise
        except OSError as error:
            raise self._not_writable(error) from error

    def _begin(self) -> bool:
        self.snapshot = self._states()
        self.kinds = named_kinds(self.snapshot)
        found = self._found() if self.first else None
        if self.team is not None:
            found = shared(self.team, found)
        if found is not None:
            content, self.file_is_whole = found
            self._restore(content)
        return found is not None

    def _found(self) -> tuple[Content, bool] | None:
        """Return the checkpoint to resume from, if there is one; see `find`."""
        self._acquire()
        file, previous = self.checkpoint.file, self.checkpoint.previous
        if not self.checkpoint.resume and (file.exists() or previous.exists()):
            there = file if file.exists() else previous
            raise FileExistsError(
                f"there is a checkpoint {str(there)!r} already: resume=True resumes from it; "
                "to begin anew, remove it or name another file"
            )
        found = find(self.checkpoint) if self.checkpoint.resume else None
        self._check_writable()
        if found is None:
            Packer(self.backend, self.kinds)(self.snapshot, "training")
        return found

    def due(self, updates: int) -> bool:
        """Return whether a snapshot after the ``updates``-th update is to be written."""
        every = self.checkpoint.every_steps
        return every is not None and updates % every == 0

    def after_update(self, updates: int) -> None:
        """Take a snapshot after an update, the ``updates``-th, and write it if that is due."""
        self._take_snapshot(due=self.due(updates))

    def after_epoch(self, number: int, *, last: bool) -> None:
        """Take a snapshot after an epoch, and write it if that is due; the last always is."""
        every = self.checkpoint.every_epochs
        self._take_snapshot(due=last or (every is not None and number % every == 0))

    def flush(self) -> None:
        """Write the last snapshot, unless it is written already and its file is still there."""
        needed = self.unwritten or (self._has_file and not self.checkpoint.file.exists())
        if self.team is not None:
            # Only rank 0 sees the file.
            needed = bool(self.team.meet("a checkpoint", float(needed))[0, 0])
        if needed:
            self._write()

    def time_is_up(self) -> bool:
        """Return whether it is time for a checkpoint by this process's clock."""
        minutes = self.checkpoint.every_minutes
        return minutes is not None and time.monotonic() - self.written >= 60 * minutes

    def _take_snapshot(self, *, due: bool) -> None:
        # After every update, so that Ctrl-C in the middle of a step finds a consistent state.
        self.snapshot, self.unwritten = self._states(), True
        if due or self.written == -math.inf or self.is_time():
            self._write()

    def _check_writable(self) -> None:
        file = self.checkpoint.file
        try:
            remove_parts(file)
            check_writable(file)
        except OSError as error:
            raise self._not_writable(error) from error

    def _not_writable(self, error: OSError) -> OSError:
        reason = error.strerror or error
        return OSError(f"can't write the checkpoint {str(self.checkpoint.file)!r}: {reason}")

    def _states(self) -> dict[str, Any]:
        return {name: part.state() for name, part in self.parts.items()}

    def _write(self) -> None:
        pack = Packer(self.backend, self.kinds)
        if self.first:
            data = {"same": self.same, "parts": pack(self.snapshot, "training")}
            # A damaged file must not replace the good one before it.
            write(self.checkpoint, Content(data, pack.arrays), keep_previous=self.file_is_whole)
        else:
            # Rank 0 gathers what each rank has of its own.
            for name in GATHERED:
                pack(self.snapshot.get(name), "training")
        self.file_is_whole, self.unwritten, self.written = True, False, time.monotonic()
        self._has_file = True

    def _restore(self, content: Content) -> None:
        where = f"the checkpoint {str(self.checkpoint.file)!r}"
        if content.data.keys() != {"same", "parts"}:
            raise ValueError(f"{where} holds no training: it has {quoted(list(content.data))}")
        different = differences(self.same, content.data["same"])
        if different:
            raise ValueError(
                f"{where} is of another training: {shortened('; '.join(different), 2000)}"
            )
        unpack = Unpacker(self.backend, self.kinds, content.arrays)
        changed: list[str] = []
        try:
            states = unpack(content.data["parts"])
            if not isinstance(states, dict) or states.keys() != self.parts.keys():
                raise ValueError(f"it has the parts {quoted(states)}")
            for name, own in self.snapshot.items():
                if name not in UNFORMED:
                    check_form(name, states[name], own, self.backend)
            for name, part in self.parts.items():
                changed.append(name)
                part.restore(states[name])
        except BaseException as error:
            self._go_back(changed, error)
            # Errors of the user's own callbacks stay what they are.
            foreign = changed[-1:] == ["callbacks"]
            if isinstance(error, ValueError if foreign else UNFIT):
                reason = shortened(str(error), 2000)
                raise ValueError(f"{where} is of another training: {reason}") from error
            raise
        self.unwritten, self.written = False, time.monotonic()

    def _go_back(self, changed: list[str], error: BaseException) -> None:
        """Undo what was restored, the last part first, because another part can't be restored."""
        for name in reversed(changed):
            try:
                self.parts[name].restore(_evaluated(self.snapshot[name]))
            except Exception as again:
                error.add_note(f"{name} could not be set back to what it was before: {again!r}")


def _evaluated(state: Any) -> Any:
    """Return a part's state with each partial among its values replaced by what it stands for."""
    if not isinstance(state, dict):
        return state
    return {k: value() if isinstance(value, partial) else value for k, value in state.items()}
