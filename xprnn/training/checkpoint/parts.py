"""Parts of a training whose state a checkpoint can write and restore.

A state consists of plain data and arrays.  A `functools.partial` in it, called without arguments,
stands for what it returns: it is called only if the checkpoint is written.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from xprnn.backend.host.arrays import Generator, HostArray, np, random_state, restore_random
from xprnn.backend.host.quoting import quoted


def digest(host: HostArray) -> str:
    """Return a hash of an array's values."""
    return hashlib.sha256(np.ascontiguousarray(host).tobytes()).hexdigest()


@runtime_checkable
class Stateful(Protocol):
    """Something that can return its state, and go back to one.

    `xprnn.fit` asks data for its state before every epoch; the next iteration over the data must
    depend on nothing else.
    """

    def state(self) -> Any:
        """Return the state: None, numbers, strings, arrays, and tuples, lists or dicts of them."""
        ...

    def restore(self, state: Any) -> None:
        """Go back to a state that the method ``state`` returned."""
        ...


class RandomGenerator:
    """A random generator as a part; None has no state."""

    def __init__(self, rng: Generator | None) -> None:
        self.rng = rng

    def state(self) -> Any:
        return None if self.rng is None else random_state(self.rng)

    def restore(self, state: Any) -> None:
        if self.rng is not None:
            restore_random(self.rng, state)


class StatefulCallbacks:
    """The callbacks that have a state, as one part."""

    def __init__(self, callbacks: Iterable[object]) -> None:
        self.callbacks = [each for each in callbacks if isinstance(each, Stateful)]

    def state(self) -> Any:
        return [callback.state() for callback in self.callbacks]

    def restore(self, state: Any) -> None:
        if not isinstance(state, list) or len(state) != len(self.callbacks):
            count = len(state) if isinstance(state, list) else quoted(state)
            raise ValueError(
                f"{len(self.callbacks)} callbacks have the methods state and restore: "
                f"expected {count}"
            )
        for callback, own in zip(self.callbacks, state, strict=True):
            callback.restore(own)
