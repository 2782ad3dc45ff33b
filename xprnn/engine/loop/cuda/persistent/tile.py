"""What one block of a persistent kernel has: its units and sequences, and how its threads share.

A kernel has the numbers of its tile as constants.
"""

from typing import NamedTuple

WARP = 32

QUAD = 4
"""Numbers that a thread reads from shared memory at once."""


class Tile(NamedTuple):
    """A block's work.

    In a step the block multiplies: forward, the G·UNITS rows of U of its units by h(t-1) of its
    sequences; backward, the columns of its units by dv(t+1).  Both are sums over ``depth`` entries
    of rows in shared memory.

    Attributes
    ----------
    hidden, gates : int
        H and G.
    backward : bool
    units, sequences : int
        Of the block.  A thread has one unit of one sequence, outside the product.
    threads : int
    tile_rows, tile_sequences : int
        Of a thread in the product, whose sums it keeps in registers.  With tensor cores: of a warp,
        in units of 8 rows and 16 sequences.
    parts : int
        Into how many parts the sums are split, which are added in their order at the end.
    chunk : int
        Entries of each sequence that are in shared memory at a time.
    tensor_cores : bool
        Whether products are those of tensor cores, of numbers rounded to TF32.
    """

    hidden: int
    gates: int
    backward: bool
    units: int
    sequences: int
    threads: int
    tile_rows: int
    tile_sequences: int
    parts: int
    chunk: int
    tensor_cores: bool = False

    @property
    def alone(self) -> bool:
        """Whether the block has all units, and so waits for no other block."""
        return self.units >= self.hidden

    @property
    def across(self) -> int:
        """How many blocks share a slice of the sequences."""
        return -(-self.hidden // self.units)

    @property
    def rows(self) -> int:
        """Rows of U in shared memory; backward, columns."""
        return self.units if self.backward else self.gates * self.units

    @property
    def depth(self) -> int:
        """Terms of a sum."""
        return self.gates * self.hidden if self.backward else self.hidden

    @property
    def chunks(self) -> int:
        """How many chunks a row has."""
        return -(-self.depth // self.chunk)

    @property
    def stride(self) -> int:
        """From a row of U in shared memory to the next one."""
        return padded(self.chunks * self.chunk, tensor_cores=self.tensor_cores)

    @property
    def sequence_stride(self) -> int:
        """From a sequence in shared memory to the next one."""
        return padded(self.chunk, tensor_cores=self.tensor_cores)

    @property
    def row_groups(self) -> int:
        """Threads, or warps, side by side across the rows."""
        return self.rows // (self.tile_rows * (8 if self.tensor_cores else 1))

    @property
    def sequence_groups(self) -> int:
        """Threads, or warps, side by side across the sequences."""
        return self.sequences // (self.tile_sequences * (16 if self.tensor_cores else 1))

    @property
    def numbers_shared(self) -> int:
        """Numbers in shared memory: the rows, the sequences, and the parts of the sums."""
        vectors = self.sequences * self.sequence_stride
        return self.rows * self.stride + vectors + self.parts * self.sequences * self.rows


def padded(length: int, *, tensor_cores: bool) -> int:
    """Return the distance of rows of this length in shared memory.

    Such that the threads that read together read from different banks, of which there are 32: eight
    rows, four numbers of each; with tensor cores two rows, sixteen numbers of each.
    """
    if tensor_cores:
        return length + (WARP // 2 - length) % WARP
    return length + (QUAD - length) % (2 * QUAD)
