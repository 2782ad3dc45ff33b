"""How small an error a check of gradients finds: the step that all are given, and the search.

All check the same: one step of an LSTM, of which the gradient of the input gate's argument is
multiplied by 1 + ε.  The checks of other libraries are in
``xprnn.bench.peers.LIBRARY_sensitivity``, those of xprnn in `xprnn.cli.bench.sensitivity`.
"""

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.types import Array, Namespace
from xprnn.cells import LSTM, Arrays

ERRORS = tuple(m * 10.0**-k for k in range(1, 17) for m in (1, 0.5, 0.2))
"""The relative errors that are planted, the largest first."""

BATCH, HIDDEN = 3, 4


@dataclass(frozen=True)
class Planted(LSTM):
    """An LSTM with a relative error in the gradient of u[0].

    Parameters
    ----------
    error : float
        ε.
    """

    error: float = 0.0

    def backward(
        self, xp: Namespace, saved: Arrays, previous: Arrays, d_state: Arrays
    ) -> tuple[Arrays, Arrays, tuple[Array | None, ...]]:
        du, dv, d_previous = super().backward(xp, saved, previous, d_state)
        return (du[0] * (1 + self.error), *du[1:]), dv, d_previous


class PeerRow(NamedTuple):
    """What another library's check finds.

    Attributes
    ----------
    check : str
        What was called.
    smallest : float or None
        The smallest relative error that was found; None: not even the largest.
    """

    check: str
    smallest: float | None


def sample() -> tuple[HostArray, ...]:
    """Return the arguments of a step on the host: four blocks of u, four of v, h and c."""
    rng = np.random.default_rng(0)
    return tuple(np.asarray(rng.normal(size=(BATCH, HIDDEN))) for _ in range(10))


def smallest_found(found: Callable[[float], bool]) -> float | None:
    """Return the smallest error that a check finds, by bisection; None if it finds none.

    Parameters
    ----------
    found : callable
        Whether the check finds an error of this size.

    Examples
    --------
    >>> smallest_found(lambda error: error > 1e-5)
    2e-05
    """
    low, high = 0, len(ERRORS)
    # All errors before `low` are found, and none from `high` on.
    while low < high:
        middle = (low + high) // 2
        if found(ERRORS[middle]):
            low = middle + 1
        else:
            high = middle
    return ERRORS[low - 1] if low else None


def main(library: str) -> None:
    """Print as JSON what another library's check finds."""
    module = importlib.import_module(f"xprnn.bench.peers.{library}_sensitivity")
    print(json.dumps(PeerRow(module.CHECK, smallest_found(module.found))))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
