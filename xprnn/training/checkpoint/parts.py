"""What a training consists of, as its checkpoint sees it: parts that can go back in time.

A part's state is plain data and arrays; a `functools.partial` without arguments in it stands for
what it returns, which is then worked out only if the checkpoint is written.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from xprnn.backend.host.arrays import Generator, HostArray, np, random_state, restore_random


def digest(host: HostArray) -> str:
    """Return a number that other values do not have."""
    return hashlib.sha256(np.ascontiguousarray(host).tobytes()).hexdigest()


@runtime_checkable
class Stateful(Protocol):
    """Something that says where it is, and can go back there.

    Data for `xprnn.fit` is asked before every epoch, and what it says must be all that the next
    iteration over it depends on.
    """

    def state(self) -> Any:
        """Return where it is: None, numbers, text, arrays, and tuples, lists, dicts of them."""
        ...

    def restore(self, state: Any) -> None:
        """Go to where it was when `state` was asked."""
        ...


def as_stateful(one: object) -> Stateful | None:
    """Return the object if it has a state, else None."""
    return one if isinstance(one, Stateful) else None


class Random:
    """A random generator, if there is one."""

    def __init__(self, rng: Generator | None) -> None:
        self.rng = rng

    def state(self) -> Any:
        return None if self.rng is None else random_state(self.rng)

    def restore(self, state: Any) -> None:
        if self.rng is not None:
            restore_random(self.rng, state)


class Several:
    """Those of some objects that have a state."""

    def __init__(self, objects: Iterable[object]) -> None:
        found = (as_stateful(one) for one in objects)
        self.objects = [one for one in found if one is not None]

    def state(self) -> Any:
        return [one.state() for one in self.objects]

    def restore(self, state: Any) -> None:
        if len(state) != len(self.objects):
            raise ValueError(
                f"{len(self.objects)} callbacks have the methods state and restore: "
                f"expected {len(state)}"
            )
        for one, its in zip(self.objects, state, strict=True):
            one.restore(its)
