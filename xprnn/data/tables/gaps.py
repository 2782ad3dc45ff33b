"""Missing values: at the ends they are cut, between others they are filled as the user says."""

from collections.abc import Sequence
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.quoting import listed, quoted


class Filled(NamedTuple):
    """Rows without gaps.

    Attributes
    ----------
    start, stop : int
        Which rows they are of those that were given.
    values : host array, (stop - start, C), float64
    notes : tuple of str
        What was done, for the user.
    """

    start: int
    stop: int
    values: HostArray
    notes: tuple[str, ...]


def fill_gaps(
    values: HostArray,
    names: Sequence[str],
    lines: Sequence[int],
    missing: str,
    *,
    file: str,
    word: str,
    targets: int,
) -> Filled:
    """Return rows without gaps.

    Parameters
    ----------
    values : host array, (N, C), float64
        NaN where a value is missing.
    names, lines : sequence
        Of the columns and the rows.
    missing : str
        What to do about gaps between values, as `Reading` has it.
    file, word : str
        For messages.
    targets : int
        How many columns, the first ones, must have values to the end.

    Raises
    ------
    ValueError
        If there are gaps and they are refused.
    """
    whole = np.all(~np.isnan(values), axis=1)
    with_targets = np.all(~np.isnan(values[:, :targets]), axis=1)
    if not np.any(whole):
        raise ValueError(
            f"{file}: no {word} has a value in each of {', '.join(map(quoted, names))}"
        )
    start = int(np.argmax(whole))
    stop = len(values) - int(np.argmax(with_targets[::-1]))
    notes = []
    if start:
        notes.append(_cut("leading", names, values[:start], lines[:start], word))
    if stop < len(values):
        notes.append(_cut("last", names[:targets], values[stop:, :targets], lines[stop:], word))
    part, part_lines = values[start:stop].copy(), lines[start:stop]
    gaps = np.flatnonzero(np.any(np.isnan(part), axis=1))
    if not len(gaps):
        return Filled(start, stop, part, tuple(notes))
    if missing == "refuse":
        first = int(gaps[0])
        column = names[int(np.argmax(np.isnan(part[first])))]
        count = len(gaps)
        others = listed((str(part_lines[k]) for k in gaps.tolist()), 5)
        every = f"; {count} of {len(part)} are, in {word}s {others}" if count > 1 else ""
        raise ValueError(
            f"{file}, {word} {part_lines[first]}, column {quoted(column)}: the value is missing"
            f"{every}: expected --missing fill (with the value before), interpolate or cut (from "
            "Python, missing='fill')"
        )
    if missing == "cut":
        return _longest(part, part_lines, start, notes, word)
    for k in range(part.shape[1]):
        part[:, k] = _filled(part[:, k], missing)
    verb = "filled with the value before" if missing == "fill" else "interpolated"
    shown = listed((str(part_lines[k]) for k in gaps.tolist()), 5)
    notes.append(f"{_count(len(gaps))} {verb} ({word}s {shown})")
    return Filled(start, stop, part, tuple(notes))


def _filled(column: HostArray, missing: str) -> HostArray:
    there = np.flatnonzero(~np.isnan(column))
    index = np.arange(len(column))
    if missing == "interpolate":
        return np.interp(index, there, column[there])
    before = np.searchsorted(there, index, side="right") - 1
    return column[there[before]]


def _longest(
    part: HostArray, lines: Sequence[int], start: int, notes: Sequence[str], word: str
) -> Filled:
    """Return the longest run of rows without gaps."""
    gaps = np.flatnonzero(np.any(np.isnan(part), axis=1))
    starts, stops = np.concatenate([[0], gaps + 1]), np.concatenate([gaps, [len(part)]])
    k = int(np.argmax(stops - starts))
    first, end = int(starts[k]), int(stops[k])
    note = f"cut to {word}s {lines[first]} to {lines[end - 1]}, the longest part without gaps"
    return Filled(start + first, start + end, part[first:end], (*notes, note))


def _cut(which: str, names: Sequence[str], part: HostArray, lines: Sequence[int], word: str) -> str:
    column = names[int(np.argmax(np.isnan(part).sum(axis=0)))]
    count = len(part)
    which = which if count > 1 or which != "last" else "last"
    where = f"{word} {lines[0]}" if count == 1 else f"{word}s {lines[0]} to {lines[-1]}"
    rows = "row" if count == 1 else f"{count} rows"
    return f"the {which} {rows} without a value in {column} cut ({where})"


def _count(count: int) -> str:
    return "1 missing value" if count == 1 else f"{count} missing values"
