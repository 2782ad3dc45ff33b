"""Sums over the ranks of which half as many bytes are sent, with error feedback.

Numbers are sent as float16, in blocks of 1,024 with a power of two each, so that none overflows and
the largest of a block keeps 11 significant bits.  Each rank adds what rounding took away to its
gradient of the next update (F. Seide and others, "1-bit stochastic gradient descent", Interspeech
2014; S. P. Karimireddy and others, "Error feedback fixes SignSGD", ICML 2019)::

    v_r = g_r + e_r                            (1)  what rank r has to say
    q_r = half(v_r), e_r = v_r - q_r           (2)  what it says, and what it keeps for later
    s = Σ_r q_r                                (3)  on the rank whose part of the numbers it is
    q = half(s), e_r += s - q                  (4)  what all get, and what that rank keeps for later

Sums are formed in float32 (or float64) in the order of the ranks, and every rank decodes the same
bits.  Over all updates the sums that were given out and what is kept add up to the sums of the
gradients: nothing is lost, but up to the last update's rounding it comes late.
"""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Any

from xprnn.backend import Backend
from xprnn.backend.host.arrays import HostArray, np
from xprnn.distributed.protocol import CompressingCommunicator

BLOCK = 1024
"""Numbers that share a power of two."""
AT_ONCE = 32
"""Blocks that are converted at once, which fit into a cache."""
LARGEST = 15
"""A block's largest number is brought to 2¹⁴ to 2¹⁵; float16 ends at 65504."""


class Compression:
    """Compressed sums, and what each rank keeps for the next one.

    Parameters
    ----------
    communicator : CompressingCommunicator
    backend : Backend
        Of the network.

    Attributes
    ----------
    kept : dict of host array, (size of the parameter,)
        e_r by the name of the parameter, in float32 or float64.
    """

    def __init__(self, communicator: CompressingCommunicator, backend: Backend) -> None:
        self.communicator, self.backend = communicator, backend
        self.kept: dict[str, HostArray] = {}

    def all_reduce(self, buffer: HostArray, places: Mapping[str, tuple[int, int]]) -> None:
        """Replace an array of gradients by its sum over all ranks, in place.

        Parameters
        ----------
        buffer : host array, (N,)
        places : mapping of str to (int, int)
            Where each parameter's gradient begins and ends.
        """
        communicator = self.communicator
        rank, size = communicator.rank, communicator.size
        for name, (start, stop) in places.items():
            if name in self.kept:
                buffer[start:stop] += self.kept[name]  # (1)
        count = -(-len(buffer) // BLOCK)
        bounds = [k * count // size for k in range(size + 1)]
        counts = [stop - start for start, stop in pairwise(bounds)]
        own = slice(bounds[rank] * BLOCK, bounds[rank + 1] * BLOCK)
        values: HostArray = np.zeros(count * BLOCK, dtype=buffer.dtype)
        values[: len(buffer)] = buffer
        said = encoded(values)  # (2), values become e_r
        parts = communicator.exchange(said, counts)
        total = decoded(parts[0], values.dtype)
        for part in parts[1:]:
            total += decoded(part, values.dtype)  # (3)
        given = encoded(total)
        values[own] += total  # (4)
        buffer[...] = decoded(communicator.gather(given, counts), values.dtype)[: len(buffer)]
        if not np.isfinite(values).all():
            # What is not finite ends the training, and is nothing to keep.
            np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        self.kept |= {name: values[start:stop] for name, (start, stop) in places.items()}

    def state(self) -> dict[str, Any]:
        """Return what all ranks keep, each by rank; gathered when it is written."""
        return {name: partial(self._of_all, kept) for name, kept in self.kept.items()}

    def restore(self, state: Any) -> None:
        """Go back to a state; of another number of ranks, rank 0 keeps the sum.

        Raises
        ------
        ValueError
            If it is none.
        """
        if not isinstance(state, dict):
            raise TypeError("what the ranks keep is no dict")
        found = {}
        for name, every in state.items():
            rows = every if isinstance(every, np.ndarray) else self.backend.to_numpy(every)
            if rows.ndim != 2 or not np.isfinite(rows).all():
                raise ValueError(f"what the ranks keep of {name!r} is not finite, or no matrix")
            if len(rows) == self.communicator.size:
                found[name] = rows[self.communicator.rank].copy()
            elif self.communicator.rank == 0:
                found[name] = rows.sum(axis=0)
        self.kept = found

    def _of_all(self, kept: HostArray) -> HostArray:
        return self.communicator.gather(kept[None], (1,) * self.communicator.size)


def encoded(values: HostArray) -> HostArray:
    """Return blocks, (N / 1024, 1 + 1024) of uint16: an exponent, and floats of 16 bits.

    Of the values remains what rounding takes away.
    """
    blocks = values.reshape(-1, BLOCK)
    found: HostArray = np.empty((len(blocks), 1 + BLOCK), dtype=np.uint16)
    least = LARGEST + 2 - np.finfo(values.dtype).maxexp
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for start in range(0, len(blocks), AT_ONCE):
            part, to = blocks[start : start + AT_ONCE], found[start : start + AT_ONCE]
            largest = np.maximum(np.max(part, axis=1), -np.min(part, axis=1))
            exponents = np.where(np.isfinite(largest), np.frexp(largest)[1], LARGEST)
            # Or the power of two would be infinite; so small numbers become zero.
            exponents = np.maximum(exponents, least).astype(np.int16)
            to[:, 0] = exponents.view(np.uint16)
            halves = (part * _powers(LARGEST - exponents, values.dtype)).astype(np.float16)
            to[:, 1:] = halves.view(np.uint16)
            part -= halves.astype(values.dtype) * _powers(exponents - LARGEST, values.dtype)
    return found


def decoded(blocks: HostArray, dtype: Any) -> HostArray:
    """Return the numbers, (N,), of this dtype."""
    found: HostArray = np.empty((len(blocks), BLOCK), dtype=dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for start in range(0, len(blocks), AT_ONCE):
            part = blocks[start : start + AT_ONCE]
            exponents = np.ascontiguousarray(part[:, 0]).view(np.int16)
            halves = np.ascontiguousarray(part[:, 1:]).view(np.float16).astype(dtype)
            powers = _powers(exponents - LARGEST, halves.dtype)
            np.multiply(halves, powers, out=found[start : start + AT_ONCE])
    return found.reshape(-1)


def _powers(exponents: HostArray, dtype: Any) -> HostArray:
    """Return powers of two, (N, 1)."""
    found: HostArray = np.ldexp(np.ones(len(exponents), dtype), exponents.astype(np.int32))
    return found[:, None]
