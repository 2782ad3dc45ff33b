"""The position that a training has reached in its data, and the way back to it."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from xprnn.backend import Backend, describe
from xprnn.backend.host.quoting import quoted
from xprnn.data.batches import Batch, Batches, each_batch, is_single
from xprnn.training.checkpoint.parts import Stateful, digest

Fingerprint = dict[str, list[str]]


class DataPosition:
    """Batches, iterated by epochs, with a position that can be restored in the middle of an epoch.

    To restore it, the batches of that epoch that were read before are read again, and the first and
    the last of them are compared with those before.  Data with the methods of `Stateful` first goes
    back to its state at the beginning of the epoch.  A list or a tuple is the same in every epoch.
    Any other data is read again from the first epoch on, which gives the same batches unless they
    are drawn at random without a seed.

    Parameters
    ----------
    name : str
        The name of the data in messages.
    batches : iterable of (x, target) or of Batch, or one pair
    backend : Backend
    most_epochs : int
        How many epochs there can be at most.
    """

    def __init__(self, name: str, batches: Batches, backend: Backend, most_epochs: int) -> None:
        self.most_epochs = most_epochs
        self.name, self.batches, self.backend = name, batches, backend
        # An object, because a type checker takes no iterable for a Stateful.
        data: object = batches
        self.stateful = data if isinstance(data, Stateful) else None
        self.epochs = self.read = 0
        self.ended = True
        self.start: Any = None
        self.first = self.last = Batch(None, None)
        self._rest: Iterator[Batch] | None = None

    def describe(self) -> dict[str, Any]:
        """Return what is known of the data without reading it: its type and length."""
        count: int | None = None
        # Not all data has a length, and len() may raise a TypeError even if the method exists.
        with suppress(TypeError):
            count = 1 if is_single(self.batches) else len(self.batches)  # type: ignore[arg-type]
        return {"type": type(self.batches).__name__, "length": count}

    def __iter__(self) -> Iterator[Batch]:
        rest, self._rest = self._rest, None
        for batch in self._begin() if rest is None else rest:
            self._note(batch)
            yield batch
        self.ended = True

    def state(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "read": self.read,
            "ended": self.ended,
            "start": self.start,
            "now": None if self.stateful is None else self.stateful.state(),
            "first": partial(self._fingerprint, self.first) if self.read else None,
            "last": partial(self._fingerprint, self.last) if self.read else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a position.

        Raises
        ------
        ValueError
            If the data is not the same as before.
        """
        if state["epochs"] > self.most_epochs:
            raise ValueError(f"{self.name} were read {state['epochs']} times: more than asked for")
        if state["epochs"] == 0:
            self._begin_anew(state)
            return
        if self.stateful is not None:
            self.stateful.restore(state["start"])
        elif self._opaque:
            for _ in range(state["epochs"] - 1):
                for _ in each_batch(self.batches):
                    pass
        self.epochs = state["epochs"] - 1
        rest = self._begin()
        for _ in range(state["read"]):
            batch = next(rest, None)
            if batch is None:
                raise ValueError(
                    f"{self.name} end after {self.read} batches of epoch {self.epochs}: "
                    f"expected at least {state['read']}, as before"
                )
            self._note(batch)
            if self.read == 1:
                self._compare(batch, state["first"])
        self._compare(self.last, state["last"])
        if not state["ended"]:
            self._rest = rest
        elif next(rest, None) is not None:
            raise ValueError(
                f"{self.name} go on after {self.read} batches of epoch {self.epochs}: "
                "expected an end there, as before"
            )
        self.ended = state["ended"]
        if self.stateful is not None:
            # Since the last batch, others may have drawn from the random generator of the data.
            self.stateful.restore(state["now"])

    def _begin_anew(self, state: dict[str, Any]) -> None:
        """Go back to the state before the first epoch."""
        self.epochs = self.read = 0
        self.ended, self._rest, self.start = True, None, state["start"]
        if self.stateful is not None:
            self.stateful.restore(state["now"])

    @property
    def _opaque(self) -> bool:
        """Whether the only way to an epoch of the data is through all epochs before it."""
        return self.stateful is None and not isinstance(self.batches, list | tuple)

    def _begin(self) -> Iterator[Batch]:
        self.start = None if self.stateful is None else self.stateful.state()
        self.epochs, self.read, self.ended = self.epochs + 1, 0, False
        return each_batch(self.batches)

    def _note(self, batch: Batch) -> None:
        self.read += 1
        self.last = batch
        if self.read == 1:
            self.first = batch

    def _compare(self, batch: Batch, before: Fingerprint) -> None:
        if not isinstance(before, dict):
            raise TypeError(f"the description of {self.name} is {quoted(before)}: expected a dict")
        now = self._fingerprint(batch)
        where = f"{self.name} are other data: of epoch {self.epochs}, batch {self.read}"
        for part, (kind, values) in now.items():
            kind_before, values_before = before.get(part, ["nothing", ""])
            if kind != kind_before:
                raise ValueError(f"{where}, {part} is {kind}: expected {kind_before}, as before")
            if values != values_before:
                drawn = DRAWN if self._opaque else ""
                raise ValueError(f"{where}, {part} has other values than before{drawn}")

    def _fingerprint(self, batch: Batch) -> Fingerprint:
        """Return, for every part of a batch, a description and a hash of its values."""
        found = {}
        for name, part in batch._asdict().items():
            if self.backend.library.is_array(part):
                found[name] = [describe(part), digest(self.backend.to_numpy(part))]
            else:
                found[name] = [repr(part), ""]
        return found


DRAWN = " (data that draws random numbers needs a seed, or the methods state and restore)"
