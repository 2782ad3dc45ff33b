"""The order of rows: oldest first, and whether they are those of one series."""

from collections.abc import Sequence
from typing import NamedTuple

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.host.quoting import listed, quoted
from xprnn.data.tables.grid import Grid
from xprnn.data.tables.numbers.entries import looks_like_number
from xprnn.data.tables.times.finding import Found
from xprnn.data.tables.times.spacing import clock_changes


class Order(NamedTuple):
    """An order of rows, and what is told of it."""

    rows: HostArray
    notes: tuple[str, ...]


def order_of(grid: Grid, found: Found, used: Sequence[int]) -> Order:
    """Return the order in which rows go forward in time.

    Raises
    ------
    ValueError
        If the rows are those of several series.
    """
    ticks = found.times.ticks
    steps = np.diff(ticks)
    rows = np.arange(len(ticks))
    if not np.any(steps < 0):
        _refuse_panel(grid, found, rows, used)
        return Order(rows, ())
    notes = []
    if np.sum(steps < 0) > 4 * np.sum(steps > 0):
        rows = rows[::-1]
        notes.append("newest first, turned round")
    turned = ticks[rows]
    back = np.flatnonzero(np.diff(turned) < 0)
    if found.times.dates and len(back):
        # When the clocks are put back, an hour comes twice.
        ticks, changes = clock_changes(turned)
        if changes and not np.any(np.diff(ticks) < 0):
            return Order(rows, tuple(notes))
    _refuse_panel(grid, found, rows, used)
    if len(back):
        k = int(back[0])
        first, second = (_at(grid, found, int(rows[j])) for j in (k, k + 1))
        notes.append(f"not in order ({second} after {first}), sorted by {found.name}")
        rows = rows[np.argsort(turned, kind="stable")]
    return Order(rows, tuple(notes))


def duplicates(grid: Grid, found: Found) -> tuple[str, ...]:
    """Return a note about rows with the same time."""
    ticks = found.times.ticks
    if found.times.dates:
        ticks, _ = clock_changes(ticks)
    same = np.flatnonzero(np.diff(ticks) == 0)
    if not len(same):
        return ()
    shown = [
        f"{grid.word}s {grid.lines[k]} and {grid.lines[k + 1]} ({found.texts[k]})"
        for k in same[:3].tolist()
    ]
    many = len(same) - len(shown)
    return (f"the same time in {', '.join(shown)}" + (f" and {many} more" if many else ""),)


def _at(grid: Grid, found: Found, k: int) -> str:
    return f"{grid.word} {grid.lines[k]}, {found.texts[k]}"


def _refuse_panel(grid: Grid, found: Found, rows: HostArray, used: Sequence[int]) -> None:
    """Refuse rows of several series: most of their times occur several times."""
    ticks = found.times.ticks[rows]
    distinct = np.unique(ticks)
    if len(distinct) > 0.7 * len(ticks) or len(distinct) < 2:
        return
    restarts = np.flatnonzero(np.diff(ticks) < 0)
    if len(restarts):
        k = int(restarts[0]) + 1
        text = (
            f"the times start again in {_at(grid, found, int(rows[k]))}, after "
            f"{found.texts[int(rows[k - 1])]}"
        )
    else:
        k = int(np.flatnonzero(np.diff(ticks) == 0)[0])
        text = (
            f"{grid.word}s {grid.lines[int(rows[k])]} and {grid.lines[int(rows[k + 1])]} have the "
            f"same time, {found.texts[int(rows[k])]}, and {len(ticks) - len(distinct)} more do"
        )
    key = _key(grid, ticks, rows, {*used, *found.columns})
    if key is None:
        advice = "expected the rows of one"
    else:
        entries = list(dict.fromkeys(grid.column(key)))
        name = grid.name(key)
        option = f"{name}={entries[0]}"
        advice = (
            f"column {quoted(name)} tells them apart ({listed(entries, 5)}): expected "
            f"--where {option if ' ' not in option else quoted(option)} or another (from Python, "
            f"where={{{name!r}: {entries[0]!r}}})"
        )
    raise ValueError(f"{grid.file}: {text}: it holds several series; {advice}")


def _key(grid: Grid, ticks: HostArray, rows: HostArray, taken: set[int]) -> int | None:
    """Return the column whose entries tell the series apart: no time occurs twice with one."""
    best = None
    for k in range(grid.width):
        if k in taken:
            continue
        entries = [grid.rows[j][k] for j in rows.tolist()]
        count = len(set(entries))
        if not 1 < count <= len(entries) / 2:
            continue
        pairs = len(set(zip(entries, ticks.tolist(), strict=True)))
        score = (pairs == len(entries), not all(map(looks_like_number, entries)), -count)
        if pairs > 0.95 * len(entries) and (best is None or score > best[0]):
            best = (score, k)
    return None if best is None else best[1]
