"""`Checkpoint`: which file is written, and when."""

import os
from dataclasses import dataclass
from pathlib import Path

from xprnn import checks
from xprnn.backend.host.files import followed
from xprnn.backend.host.locks import Lock

MINUTES = 1.0
"""How often a checkpoint is written by default."""


@dataclass(frozen=True)
class Checkpoint:
    """A file from which a training can be resumed exactly where it was.

    It is written after the first update, when the training ends, on Ctrl-C, and in between at the
    intervals given here, which can be combined.  The previous checkpoint is kept as
    ``<path>.previous``.  Every call of `xprnn.fit` needs a file of its own: a second call
    that uses the same file at the same time is refused.

    Parameters
    ----------
    path : path
    every_steps : int, optional
        Write after this many updates, again and again.
    every_minutes : float, optional
        Write after the first update at which this many minutes have passed.
    every_epochs : int, optional
        Write at the end of every ``every_epochs``-th epoch.  Without any of the three: every
        minute.
    resume : bool
        True: resume from the file, or begin if there is none yet, so that the same call can be
        repeated.  False: begin; it is an error if the file is there already.

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
        """The path as a `Path`."""
        return Path(self.path)

    @property
    def previous(self) -> Path:
        """The path of the previous checkpoint, beside the file that a symbolic link points to."""
        return Path(f"{followed(self.file)}.previous")

    def lock(self) -> Lock:
        """Return the lock on the file, which the training that writes it holds."""
        return Lock(followed(self.file), f"the checkpoint {str(self.file)!r}")
