"""Random numbers of a whole batch, of which a rank uses those of its own sequences."""

from typing import Any

from xprnn.backend.host.arrays import Generator, HostArray


class PartOfBatch(Generator):
    """A generator of dropout masks: it draws those of all sequences, and returns a rank's.

    So a rank's masks are those that its sequences have in a training of one process, and every
    rank's generator is in the same state after each batch.

    Parameters
    ----------
    whole : numpy.random.Generator
        Advances as if it drew the numbers itself.
    start, stop, count : int
        The rank's sequences, and the number of all.
    """

    def __init__(self, whole: Generator, start: int, stop: int, count: int) -> None:
        super().__init__(whole.bit_generator)
        self._part, self._count = slice(start, stop), count

    def random(  # type: ignore[override]
        self,
        size: tuple[int, ...] | None = None,
        dtype: Any = "float64",
        out: HostArray | None = None,
    ) -> HostArray:
        """Draw numbers for all sequences, which lie along the last axis but one."""
        shape = size if out is None else out.shape
        assert shape is not None
        *leading, _, features = shape
        drawn: HostArray = super().random((*leading, self._count, features), dtype=dtype)
        part: HostArray = drawn[..., self._part, :]
        if out is None:
            return part
        out[...] = part
        return out
