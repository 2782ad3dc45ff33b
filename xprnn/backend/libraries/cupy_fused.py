"""What CuPy's arrays need, in few kernels of our own, none of which anybody waits for.

A kernel of CuPy's own costs 11 to 47 µs of host time, one of these 3.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from typing import Any

from xprnn.backend.cuda import losses, norm, questions, rows
from xprnn.backend.cuda.blocks import SUM_BLOCKS, THREADS, blocks_for
from xprnn.backend.kernels import Launch
from xprnn.backend.types import HALVES, Array

TOGETHER = 8
"""How many arrays one launch serves, at most."""

_COUNTS = {"int32": "int", "int64": "long long", "float32": "float", "float64": "double"}

_REAL = dict.fromkeys(HALVES, "float32")
"""The dtype that arithmetic is in, where it is another one."""


@lru_cache(maxsize=1024)
def compiled(name: str, text: str) -> Launch:
    """Return a kernel of a source text, which is compiled at its first launch on a device."""
    # Not a RawModule, which would compile at once, and for the current device.
    launch: Launch = importlib.import_module("cupy").RawKernel(text, name)
    return launch


def _made(name: str, write: Callable[..., str], *options: Any, **words: Any) -> Launch:
    return compiled(name, _written(write, options, tuple(words.items())))


@cache
def _written(write: Callable[..., str], options: tuple[Any, ...], words: tuple[Any, ...]) -> str:
    return write(*options, **dict(words))


def _empty(shape: tuple[int, ...] | int, dtype: Any) -> Array:
    return importlib.import_module("cupy").empty(shape, dtype)


def _contiguous(a: Array) -> Array:
    return a if a.flags.c_contiguous else importlib.import_module("cupy").ascontiguousarray(a)


def answers() -> Array:
    """Return room for the answers to questions.MOST questions, zeros."""
    return importlib.import_module("cupy").zeros(questions.MOST, "uint64")


def ask_finite(arrays: Sequence[Array], found: Array) -> None:
    """Write for each array 0, or n - i for its first entry i that is not finite."""
    for first, part in _parts([_contiguous(a) for a in arrays]):
        write, dtype = questions.not_finite_text, part[0].dtype.name
        launch = _made(questions.NOT_FINITE, write, dtype, len(part))
        across = blocks_for(max(a.size for a in part))
        pairs = (x for a in part for x in (a.size, a))
        launch((across, len(part)), (THREADS, 1), (found[first:] if first else found, *pairs))


def ask_in_range(a: Array, count: int, ignored: int | None, found: Array) -> None:
    """Do the same for integers: those from 0 to count-1, and ``ignored``, are good."""
    launch = compiled(questions.OUT_OF_RANGE, questions.OUT_OF_RANGE_TEXT)
    # 0 is good anyway, or there are no good ones.
    numbers = (a.size, count, -1 if ignored is None and count == 0 else ignored or 0)
    arguments = (*numbers, _contiguous(a.astype("int64", copy=False)), found)
    launch((blocks_for(a.size), 1), (THREADS, 1), arguments)


def notes(count: int) -> Array:
    """Return room for this number of notes."""
    return _empty((count, 2 + questions.MOST), "float64")


def note(row: Array, loss: Array, entries: Array | None, found: Array) -> None:
    """Gather in a row of `notes` a loss, the number of its entries, and the answers."""
    dtype = loss.dtype.name if loss.dtype.name in ("float32", "float64") else "float64"
    loss = loss.astype(dtype, copy=False)
    counts = "" if entries is None else _COUNTS[entries.dtype.name]
    launch = _made(questions.NOTE, questions.note_text, dtype, counts)
    counted = () if entries is None else (entries,)
    launch((1, 1), (32, 1), (questions.MOST, loss, *counted, found, row))


def _parts(arrays: Sequence[Array]) -> Iterator[tuple[int, Sequence[Array]]]:
    """Yield what is launched together: the place of the first, and some arrays of one dtype."""
    first = 0
    while first < len(arrays):
        last = first + 1
        while last < min(len(arrays), first + TOGETHER) and (
            arrays[last].dtype == arrays[first].dtype
        ):
            last += 1
        yield first, arrays[first:last]
        first = last


def norm_and_factor(arrays: Sequence[Array], limit: float) -> tuple[Array, Array]:
    """Return the norm of arrays, in the first one's dtype, and limit / max(norm, limit)."""
    arrays = [_contiguous(a) for a in arrays]
    dtype = arrays[0].dtype
    blocks = blocks_for(max(a.size for a in arrays), SUM_BLOCKS)
    sums = _empty((len(arrays), blocks, 2), "float64")
    for first, part in _parts(arrays):
        launch = _made(norm.SQUARES, norm.squares_text, part[0].dtype.name, len(part))
        pairs = (x for a in part for x in (a.size, a))
        launch((blocks, len(part)), (THREADS, 1), (sums[first:], *pairs))
    found, factor = _empty((), dtype), _empty((), "float64")
    launch = _made(norm.LIMIT, norm.limit_text, dtype.name)
    launch((1, 1), (THREADS, 1), (len(arrays) * blocks, float(limit), sums, found, factor))
    return found, factor


def scaled(arrays: Sequence[Array], factor: Array) -> list[Array]:
    """Return arrays times such a factor, new ones."""
    arrays = [_contiguous(a) for a in arrays]
    made = [_empty(a.shape, a.dtype) for a in arrays]
    for first, part in _parts(arrays):
        launch = _made(norm.SCALE, norm.scale_text, part[0].dtype.name, len(part))
        triples = (x for a, out in zip(part, made[first:], strict=False) for x in (a.size, a, out))
        across = blocks_for(max(a.size for a in part))
        launch((across, len(part)), (THREADS, 1), (factor, *triples))
    return made


def softmax_loss(
    logits: Array,
    target: Array,
    valid: Array | None,
    *,
    mean: bool,
    gradient: bool,
    overwrite: bool,
) -> tuple[Array, Array | None]:
    """Return cross-entropy of logits (N, V) and targets (N,), and its gradient if wanted."""
    logits, target = _contiguous(logits), _contiguous(target.astype("int64", copy=False))
    mask = () if valid is None else (_contiguous(valid),)
    (count, size), dtype = logits.shape, logits.dtype.name
    real = _REAL.get(dtype, dtype)
    m, Z, terms = _empty(count, real), _empty(count, real), _empty((count, 2), "float64")
    if count:
        launch = _made(losses.SOFTMAX, losses.softmax_text, dtype, masked=bool(mask))
        given = (count, size, logits, target, *mask)
        launch((min(count, 4096), 1), (THREADS, 1), (*given, m, Z, terms))
    result, value = _total(terms, dtype, mean=mean)
    if not gradient:
        return value, None
    dy = logits if overwrite else _empty(logits.shape, dtype)
    if count:
        launch = _made(
            losses.SOFTMAX_GRADIENT, losses.softmax_gradient_text, dtype, masked=bool(mask)
        )
        launch((blocks_for(logits.size), 1), (THREADS, 1), (*given, m, Z, result, dy))
    return value, dy


def square_loss(
    output: Array, target: Array, valid: Array | None, *, mean: bool, gradient: bool
) -> tuple[Array, Array | None]:
    """Return half the squared error of (N, O), and its gradient if wanted."""
    output = _contiguous(output)
    target = _contiguous(target.astype(output.dtype, copy=False))
    mask = () if valid is None else (_contiguous(valid),)
    (count, size), dtype = output.shape, output.dtype.name
    blocks = blocks_for(output.size, SUM_BLOCKS)
    terms = _empty((blocks, 2), "float64")
    launch = _made(losses.SQUARES, losses.squares_text, dtype, masked=bool(mask))
    given = (count, size, output, target, *mask)
    launch((blocks, 1), (THREADS, 1), (*given, terms))
    result, value = _total(terms, dtype, mean=mean)
    if not gradient:
        return value, None
    dy = _empty(output.shape, dtype)
    if output.size:
        launch = _made(
            losses.SQUARES_GRADIENT, losses.squares_gradient_text, dtype, masked=bool(mask)
        )
        launch((blocks_for(output.size), 1), (THREADS, 1), (*given, result, dy))
    return value, dy


def _total(terms: Array, dtype: str, *, mean: bool) -> tuple[Array, Array]:
    result, value = _empty(2, "float64"), _empty((), _REAL.get(dtype, dtype))
    launch = _made(losses.TOTAL, losses.total_text, dtype)
    launch((1, 1), (THREADS, 1), (terms.shape[0], int(mean), terms, result, value))
    return result, value


def sum_by_index(given: Array, index: Array, count: int) -> tuple[Array, Array]:
    """Return the indices below ``count`` that occur, and the sum of the rows (N, K) of each.

    There are as many as can occur; the last ones are ``count``, and their sums zero.
    """
    cupy = importlib.import_module("cupy")
    given, index = _contiguous(given), _contiguous(index.astype("int64", copy=False))
    (n, width), slots = given.shape, min(given.shape[0], count)
    order = cupy.argsort(index)
    starts, found = _empty(slots, "int64"), _empty(slots, "int64")
    sums = _empty((slots, width), given.dtype)
    if slots:
        launch = compiled(rows.RUNS, rows.RUNS_TEXT)
        launch((1, 1), (THREADS, 1), (n, slots, count, index, order, starts, found))
        launch = _made(rows.SUMS, rows.sums_text, given.dtype.name)
        arguments = (n, slots, width, count, given, index, order, starts, found, sums)
        launch((blocks_for(slots * width), 1), (THREADS, 1), arguments)
    return found, sums


def scatter(out: Array, index: Array, values: Array, axis: int, *, add: bool) -> Array:
    """Put rows (axis 0) or columns (axis 1) into ``out``, or add them; those past its end not."""
    slots, size = index.shape[0], out.itemsize
    if slots and out.size:
        across = 1 - axis
        steps = (out.strides[k] // size for k in (axis, across))
        launch = _made(rows.SCATTER, rows.scatter_text, out.dtype.name, add=add)
        numbers = (slots, out.shape[across], out.shape[axis], *steps)
        index = _contiguous(index.astype("int64", copy=False))
        values = values.astype(out.dtype, copy=False)
        ordered = _contiguous(values if axis == 0 else values.T)
        arguments = (*numbers, index, ordered, out)
        launch((blocks_for(slots * out.shape[across]), 1), (THREADS, 1), arguments)
    return out
