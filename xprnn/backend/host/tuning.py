"""The tuning constants of the work on host arrays, in one table.

None of them changes what is computed, beyond the order of some sums: they decide which of two ways
is taken, and how work is cut into pieces.  They were chosen for one machine.  Unless an entry says
otherwise, that is two cores of an Intel Xeon with AVX-512 (vectors of 512 bits), Linux, Python
3.11, NumPy 2.4.6 with OpenBLAS 0.3.31 and Numba 0.68.1, on 2026-11-26.  The whole diary is in
``docs/notes/performance-diary.md``.

Read the constants as attributes of this module when they are needed (``tuning.BLOCK_ENTRIES``), so
that they can be changed.  The sections "inside compiled code" and "waiting" are read when the code
is compiled, once per process.

Units: an *entry* is one number of an array, a *multiplication* one term of a product's sums, so
that (n, K) by (K, M) has n·K·M of them.  Names of products are those of BLAS, N for a matrix as it
is stored and T for its transpose: NN is a b, NT is a bᵀ, TN is aᵀ b, all three of a row-major
result with n rows and M columns and sums of K terms.

Constants of the same nature that concern one place only stand there: what the time loop's threads
share (`xprnn.engine.loop.numba.team`), the blocks of a loop of NumPy calls
(`xprnn.engine.loop.numpy.loops`), when a readout is computed in another order
(`xprnn.engine.readout`), the length of a segment (`xprnn.engine.layer.segments`) and the blocks of
the cross-entropy (`xprnn.losses.cross_entropy`).
"""

from typing import NamedTuple

# -- NumPy calls: blocks and sums

BLOCK_ENTRIES = 2**16
"""Entries.

Decides: elementwise rules (an optimizer's update, for instance) and products that are added to an
array run over blocks of this many entries, so that their temporaries stay in the cache.
Measured: updates in place of 800,000 weights, 2¹⁵ and 2¹⁶ alike; 2¹³, 2¹⁴, 2¹⁷ and 2¹⁸ slower.
"""

NEW_BLOCK_ENTRIES = 2**14
"""Entries.

Decides: elementwise rules whose results are new arrays run over blocks of this many entries, so
that their temporaries are in the cache, and too small for the C library to fetch from the system
each time.
Measured: see the diary, "memory that is kept".
"""

BLOCK_ROWS = 64
"""Rows.

Decides: blocks with more rows than this have a multiple of it, because a BLAS is slower at the rows
that don't fill its tiles.
Measured: not separately.
"""

SQUARE_SUM_ENTRIES = 2**13
"""Entries.

Decides: sums of squares are products of vectors of this length: short enough for BLAS to keep to
one thread, and for the rounding of the sum.
Measured: the norm of a language model's gradients, 0.78 to 0.83 ms as one sum, 0.29 ms in pieces.
"""

REPEATS = 4
"""Rows per distinct index.

Decides: rows with fewer repeats of their index than this are sorted by index, and each run is
summed.
Measured: not separately.
"""

INDICATOR_INDICES = 256
"""Distinct indices.

Decides: without compiled code, rows with at most this many distinct indices are summed by a product
with the indicator matrix, others by sorting.
Measured: sums for 2048 tokens of 65 kinds and 512 columns, 6.6 ms by sorting, about 1 ms by the
product.
"""

# -- products by BLAS: how many threads

BLAS_ALONE = 2**18
"""Multiplications.

Decides: OpenBLAS keeps smaller products of matrices to one thread, so nothing is done about it.
Measured: no; it is OpenBLAS's own bound (``SMP_THRESHOLD_MIN * GEMM_MULTITHREAD_THRESHOLD``).
"""

BLAS_ALONE_VECTOR = 2**13
"""Multiplications.

Decides: the same for products of a matrix and a vector.
Measured: no; OpenBLAS's own bound, ``2304 * GEMM_MULTITHREAD_THRESHOLD`` = 9216, rounded down.
"""

BLAS_SHARED = 15 * 10**6
"""Multiplications.

Decides: products of this size are cut into two parts, and those twice as large into twice as many
(`BLAS_PARTS`); threads share the parts.
Measured: waking a second thread takes 50 to 250 µs, in which one thread multiplies 4 to 20 million
times (160 GFLOP/s).
"""

BLAS_PARTS = 16
"""Parts.

Decides: a product is cut into at most this many.  The number of threads does not change how it is
cut, nor therefore the bits.
Measured: no.
"""

STEP_PART = 16 * 10**6
"""Multiplications.

Decides: a product within a step of a time loop in NumPy calls is cut into parts of at least this
size, where sequences are not (`LOOP_SHARED`).  Without compiled code the threads can't spin, and
are woken in every step.
Measured: on the Zen 5, 2026-11-29, 256 bits, loops with two threads uncut, with parts of 16·10⁶ and
of 2·10⁶: Elman wide 36.3, 21.9, 22.9 ms, LSTM wide 160, 90, 93, GRU dbench 446, 253, 264.  With one
thread 16·10⁶ costs 1 to 5 %.
"""

PART_LENGTH = 96
"""Rows or columns, whichever are more.

Decides: each part of a cut product has at least this many, because a BLAS packs the other operand
anew for each of them.
Measured: on the Zen 5, 2026-11-29, 256 bits, two threads: (256, 6400) by (6400, 256), 6.6 ms in one
piece with one thread, 3.45 in 2 parts, 3.55 in 4, 3.91 in 8, 4.40 in 16; (512, 3200) by (3200, 128)
1.92, 1.85, 1.91, 2.12.  Products of more rows than terms take 1 to 4 % longer in 16 parts.
"""

LOOP_SHARED = 2 * 10**6
"""Multiplications in a step.

Decides: the sequences of a time loop in NumPy calls are cut into parts, which threads share, if a
step multiplies as often.
Measured: on the Zen 5, 2026-11-29, 256 bits, 64 sequences, forward and backward, with one thread
and two: Elman of 256 units (4·10⁶) 16.7 and 10.5 ms, LSTM of 256 67 and 41, of 512 247 and 142.
One thread takes 0 to 15 % longer for it, because products are smaller.
"""

LOOP_ROWS = 32
"""Sequences.

Decides: each part has at least as many.
Measured: with 16, LSTM of 128 units, 12.1 and 9.8 ms with two threads, but 16.6 with one; with 16
of 64 units both calls and products are so short that two threads wait for the interpreter's lock
and take twice as long as one.
"""

LOOP_WEIGHTS = 2**23
"""Bytes of the recurrent weights.

Decides: where they are larger, the product of each step is cut instead (`STEP_PART`), so that no
two threads read all of them.
Measured: LSTM of 512 units (4 MiB), 142 ms and 161; of 1024 (16 MiB) 95 and 93.
"""

# -- compiled code: when it is used instead of a BLAS or NumPy
#
# On the Zen 5, 2026-11-29, in shapes from (100, 2000, 500) and (512, 300, 512) to (6400, 512, 512)
# and (800, 1024, 1024), in float32 and float64, with one thread and two, compiled products took
# 0.65 to 1.03 of the time of OpenBLAS's with 256 bits on both sides, 0.53 to 1.01 with 512.

COMPILED_PRODUCT = 2**17
"""Multiplications.

Decides: smaller products are left to BLAS.
Measured: by CPU time against OpenBLAS.
"""

COMPILED_LARGER_PRODUCT = 2**20
"""Multiplications.

Decides: smaller products NN (of more than `NN_FEW_ROWS` rows) and TN are left to BLAS.
Measured: by CPU time against OpenBLAS.
"""

COMPILED_THIN = 2**13
"""Entries of the gradient of u.

Decides: with as many, the gradients of an input of one feature, its weights and the bias are formed
in one compiled pass.  Where BLAS has several threads, it would have to be given one for each of the
three, which takes 2 to 3 µs each time.
Measured: on the Zen 5, 2026-11-29, a pass of GRU and LSTM at tiny (9,600 and 12,800 entries) with
two threads 127.7 → 117.6 and 138.4 → 127.1 µs, with one 115.3 → 117.1 and 130.6 → 126.2; Elman at
tiny (3,200) with one 74.9 → 77.2.
"""

NN_FEW_ROWS = 32
"""Rows of the result.

Decides: products NN with at most this many rows read b once, in place, and are cut into
`NN_PARTS` sums instead of into rows.
Measured: (20, 8000) by (8000, 100), 0.48 to 0.57 ms by OpenBLAS, 0.35 ms compiled.
"""

NN_LARGE = 2**17
"""Entries of b.

Decides: products NN with few rows are left to BLAS if b is smaller.
Measured: by CPU time against OpenBLAS.
"""

SOFTMAX_ENTRIES = 2**15
"""Entries of the logits.

Decides: for fewer, NumPy is used, and nothing is compiled.
Measured: 20 rows of 8000 (five times this), 0.14 ms by NumPy, 0.087 ms compiled; the bound itself
was not.
"""

READOUT_COLUMNS = 1024
"""Outputs.

Decides: the cross-entropy of a readout with at least this many is computed together with the
readout, in blocks (`xprnn.backend.numba.softmax_readout`).
Measured: see the diary, "readout and loss in blocks".
"""

READOUT_ENTRIES = 2**22
"""Entries of the logits.

Decides: if there are more, the readout's rows are done some after the others, in the same memory.
Measured: no; 16 MiB of float32.
"""

READOUT_ROWS = 256
"""Rows.

Decides: at least this many are done at a time, however many outputs there are, because all weights
are read and their gradient is added to each time.
Measured: no.
"""

SCATTER_ENTRIES = 2**15
"""Entries of the rows to be summed by index.

Decides: for fewer, NumPy is used, and nothing is compiled.
Measured: not separately.
"""

UPDATE_ENTRIES = 2**13
"""Entries of all parameters.

Decides: the update of fewer is made by NumPy calls, and nothing is compiled.
Measured: not separately.
"""

# -- compiled code: how work is shared

PRODUCT_PER_THREAD = 8 * 10**6
"""Multiplications.

Decides: a compiled product gets one thread for each of these, at least one.
Measured: on the Zen 5, 2026-11-29, whole layers with two threads, 6·10⁶ against 10⁷: the LSTM at
rltools, whose products of the input and of dW have 17 million, 0.97 (512 bits) and 0.94 (256).
"""

TOGETHER_PER_THREAD = 9 * 10**6
"""Multiplications.

Decides: compiled products that are formed together, those of a layer's gradients, get one thread
for each of these, at least one.
Measured: in the same way: the GRU at small, of 20 million, 0.97 and 0.92 with two threads; Elman at
rltools, of 17 million, whose time loop leaves the second thread asleep, 1.08 and 1.03.
"""

SOFTMAX_PER_THREAD = 2**17
"""Entries of the logits.

Decides: a compiled softmax gets one thread for each of these, at least one.
Measured: 320 rows of 8000 (twenty times this), 1.45 ms with one thread, 0.76 ms with two.
"""

READOUT_BLOCK_ENTRIES = 2**17
"""Entries of the logits.

Decides: the columns of a block are as many as give this many entries: half a MiB, so that a block
stays in a core's second-level cache beside the weights that made it.
Measured: on the Zen 5 (1 MiB), 2026-11-29, (320, 100) by (100, 8000): blocks of 192, 320, 480 and
640 columns 9.2, 8.7, 9.1, 8.8 ms with 512 bits, and 14.9, 14.5, 14.8, 14.5 with 256.
"""

READOUT_BLOCK_COLUMNS = 4032
"""Columns of the logits, a multiple of 64.

Decides: a block has at most so many, so that there are some for several threads.
Measured: on the Zen 5, 20 rows and 8000 columns: 960, 1920 and 8000 0.421, 0.414, 0.405 ms.
"""

READOUT_PARTS = 8
"""Sums.

Decides: the gradient of what a readout reads is the sum of at most this many parts, so that
several threads can form them.  The number of threads does not change it, nor therefore the bits.
Measured: not separately.
"""

OUTER_PER_THREAD = 2**17
"""Entries of the product.

Decides: a compiled product of one column and one row gets one thread for each of these, at least
one.
Measured: not separately.
"""

UPDATE_PER_THREAD = 2**17
"""Entries of all parameters.

Decides: a compiled update gets one thread for each of these, at least one.
Measured: see the diary, "whole training steps".
"""

SCATTER_PER_THREAD = 2**19
"""Entries of the rows to be summed by index.

Decides: compiled sums get one thread for each of these, at least one.
Measured: not separately.
"""

NN_PARTS = 4
"""Sums.

Decides: a product NN with few rows is the sum of this many products of parts of b's rows, so that
several threads can form them.  The number of threads does not change it, nor therefore the bits.
Measured: not separately.
"""

# -- inside compiled code

PASS_TERMS = 128
"""Terms of a sum.

Decides: a compiled product goes over its terms in passes of this many.  A block of b of as many
rows, a tile wide, stays in the first-level cache while the rows of a go by.
Measured: on an AMD EPYC of the Zen 5 generation, 2026-11-28, with 512 and 256 bits: products TN
with 64, 128 and 256 within 2 %, except of (6400, 1024) and (6400, 256), 5 % faster with 128.
"""

PASS_TERMS_FEW_ROWS = 160
"""Terms of a sum.

Decides: the same for products NN of few rows, whose b is not packed.
Measured: on the Zen 5, (20, 8000) by (8000, 100): 80 and 160 within 2 %.
"""

PRODUCT_BLOCK_ROWS = 480
"""Rows of the result, a multiple of the tiles' heights.

Decides: a compiled product does all columns of a pass for this many rows before it goes on to the
next: the part of a that they need stays in the second-level cache.
Measured: on the Zen 5, products TN, 0 to 7 % faster than with 240.
"""

FETCHED_BYTES = 2**20
"""Bytes of b.

Decides: a compiled product of a larger b brings each block of it into the caches while it computes
with the one before.
Measured: on the Zen 5, 2026-11-29, see the diary, "large products".
"""

FETCHED_ROWS = 48
"""Rows of the result, a multiple of the tiles' heights.

Decides: for this many rows at a time, it fetches some more of the next block.
Measured: likewise; 24, 48 and 96 are alike with 256 bits, with 512 bits 24 is slower.
"""

PACKED_DISTANCE = 2048
"""Bytes.

Decides: a transposed a whose rows are farther apart, and which has at least `PACKED_TERMS` of them,
is packed: what is read of it together lies on more pages than the processor has at hand, and if the
distance is a multiple of 4096, in a few places of the first-level cache.
Measured: on the Zen 5, 2026-11-29, in GFLOP/s without packing and with it.  512 bits: (6400, 1000)
and (6400, 256) 179, 218; (320, 8000) and (320, 100) 185, 192; distances of 2000 to 2080 bytes
alike.  256 bits: 112, 119, and 113 both.
"""

PACKED_TERMS = 64
"""Rows of a.  See `PACKED_DISTANCE`."""

STEP_PASS_ROWS = 256
"""Rows of the packed matrix, the terms of a sum.

Decides: the product of a time step goes over a panel in passes of this many rows, which stay in the
cache while the sequences of the batch go by.
Measured: 128, 256 and 384 alike.
"""

PACKED_ROWS = 16
"""Rows of the matrix.

Decides: a matrix that is packed as it is stored, U for the backward loop, is read in blocks of this
many whole rows.
Measured: on the Zen 5, 2026-11-29, half of the columns of U; see the diary, "wide layers".
"""


class TileShape(NamedTuple):
    """The tiles of products (see `xprnn.backend.numba.tiles`).

    Attributes
    ----------
    rows : int
        Of the tallest tile.
    vectors : int
        The width of the widest ones.
    parts : int
        In tiles of one row, how many partial sums each entry is formed from.
    rows_of_two, rows_of_one : int
        Of the tallest tiles that are two vectors and one vector wide.
    """

    rows: int
    vectors: int
    parts: int
    rows_of_two: int
    rows_of_one: int


TILES = {
    (512, 32): TileShape(6, 4, 4, 10, 10),
    (256, 16): TileShape(4, 3, 4, 6, 10),
    (128, 16): TileShape(4, 2, 4, 4, 8),
}
"""By the bits of a vector and the number of registers.

Measured: on the Zen 5, 2026-11-28, a step's product, (32, 128) by (128, 512), in GFLOP/s.  With 512
bits 6 by 4 vectors 258, 12 by 2 255, 8 by 3 267 (but slower with one to four rows); with 256 bits
4 by 3 134, 6 by 2 128, 4 by 2 118; with 128 bits 4 by 2 48, 6 by 2 49 (but 33 instead of 44 with
two rows), 4 by 3 36.  Narrower tiles are taller, so that they have about as many sums; on the same
processor, 2026-11-29, the language model's three products took 871 µs with 256 bits when all had
four rows, and 820 since; with 512 bits 517, and 500 since.
"""


def tile_shape(bits: int, registers: int) -> TileShape:
    """Return the entry of `TILES`; that of the same number of registers where there is none."""
    likest = {16: (256, 16), 32: (512, 32)}[registers]
    return TILES.get((bits, registers), TILES[likest])


# -- waiting

BARRIER_SPINS = 2000
"""Reads of the counter that the threads share.

Decides: a thread that waits for the others of its time step reads this often before it lets another
thread have its core.
Measured: not separately.
"""
