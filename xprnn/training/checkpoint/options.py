"""What is written where, and when."""

import os
from dataclasses import dataclass
from pathlib import Path

from xprnn import checks

MINUTES = 1.0
"""How often a checkpoint is written if nothing is said."""


@dataclass(frozen=True)
class Checkpoint:
    """A file from which a training can go on exactly where it was.

    It is written after the first update, when the training ends, on Ctrl-C, and in between as often
    as is said here; of several intervals each counts.  The one before is kept, as
    ``<path>.previous``.  Every call of `xprnn.fit` needs a file of its own.

    Parameters
    ----------
    path : path
    every_steps : int, optional
        After every so many updates.
    every_minutes : float, optional
        After the first update at which so many minutes have passed.
    every_epochs : int, optional
        At the end of every so many epochs.  None of the three: every minute.
    resume : bool
        True: go on from the file, or from the beginning if there is none yet, so that the same call
        serves again and again.  False: begin; a file that is there is an error.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong type or out of range.

    Examples
    --------
    >>> Checkpoint("run.ckpt", every_minutes=5, resume=True).every_minutes
    5.0
    """

    path: str | os.PathLike[str]
    every_steps: int | None = None
    every_minutes: float | None = None
    every_epochs: int | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike):
            raise TypeError(f"checkpoint is {self.path!r}: expected a path or an xprnn.Checkpoint")
        checked = {"path": Path(self.path), "resume": checks.boolean("resume", self.resume)}
        steps, minutes, epochs = self.every_steps, self.every_minutes, self.every_epochs
        if steps is None and minutes is None and epochs is None:
            minutes = MINUTES
        if minutes is not None:
            minutes = checks.number("every_minutes", minutes)
        checked["every_minutes"] = minutes
        for name, count in (("every_steps", steps), ("every_epochs", epochs)):
            checked[name] = None if count is None else checks.positive_int(name, count)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def file(self) -> Path:
        """The path, as one."""
        return Path(self.path)

    @property
    def previous(self) -> Path:
        """Where the checkpoint before is kept."""
        return Path(f"{self.file}.previous")
