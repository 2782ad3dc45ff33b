"""Batches, with the place that a training has reached in them."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from xprnn.backend import Backend, describe
from xprnn.data.batches import Batch, Batches, each_batch, is_one
from xprnn.training.checkpoint.parts import as_stateful, digest

Fingerprint = dict[str, list[str]]


class Source:
    """Batches that can be taken up again in the middle of an epoch.

    What was read of that epoch is read again, and compared: its first and its last batch must be
    what they were.  Data with the methods of `Stateful` is set to where it was before the epoch;
    of a list or a tuple every epoch is the same; anything else is read again from the very first
    epoch, which comes to the same for all that is not drawn without a seed.

    Parameters
    ----------
    name : str
        In messages.
    batches : iterable of (x, target) or of Batch, or one pair
    backend : Backend
    """

    def __init__(self, name: str, batches: Batches, backend: Backend) -> None:
        self.name, self.batches, self.backend = name, batches, backend
        self.stateful = as_stateful(batches)
        self.epochs = self.read = 0
        self.ended = True
        self.start: Any = None
        self.first = self.last = Batch(None, None)
        self._rest: Iterator[Batch] | None = None

    def describe(self) -> dict[str, Any]:
        """Return what the data is, as far as that can be said without reading it."""
        count: int | None = None
        # Not all have a length, and of those some refuse to tell.
        with suppress(TypeError):
            count = 1 if is_one(self.batches) else len(self.batches)  # type: ignore[arg-type]
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
        """Go to the place where the data was.

        Raises
        ------
        ValueError
            If it is other data.
        """
        if state["epochs"] == 0:
            return
        if self.stateful is not None:
            self.stateful.restore(state["start"])
        elif self._unknown:
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
            # What has the same random generator may have drawn from it since.
            self.stateful.restore(state["now"])

    @property
    def _unknown(self) -> bool:
        """Whether nobody can tell how an epoch depends on those before it."""
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
        now = self._fingerprint(batch)
        where = f"{self.name} are other data: of epoch {self.epochs}, batch {self.read}"
        for part, (kind, values) in now.items():
            kind_before, values_before = before.get(part, ["nothing", ""])
            if kind != kind_before:
                raise ValueError(f"{where}, {part} is {kind}: expected {kind_before}, as before")
            if values != values_before:
                drawn = DRAWN if self._unknown else ""
                raise ValueError(f"{where}, {part} has other values than before{drawn}")

    def _fingerprint(self, batch: Batch) -> Fingerprint:
        """Return for every part of a batch what it is, and a digest of its values."""
        found = {}
        for name, part in batch._asdict().items():
            if self.backend.library.is_array(part):
                found[name] = [describe(part), digest(self.backend.to_numpy(part))]
            else:
                found[name] = [repr(part), ""]
        return found


DRAWN = " (data that draws random numbers needs a seed, or the methods state and restore)"
