"""What the system lets this process use: cores and memory."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_UNLIMITED = 2**60
"""Bytes.  Control groups of version 1 write a number beyond this where there is no limit."""


@cache
def cores() -> int:
    """Return the number of cores that this process may use, at least one; read once.

    It is the number of those that it may be scheduled on, or less where a control group, such as
    that of a container, has a quota of processor time: whole cores of that, because threads that
    wait for each other lose more by being stopped than another one gains.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min([count, *_quotas()]))


@cache
def memory() -> int | None:
    """Return the bytes of memory that this process may use; None if unknown; read once."""
    try:
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, OSError, ValueError):
        found = []
    for folder in _folders("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            words = _words(folder / name)
            if words and words[0].isdecimal() and int(words[0]) < _UNLIMITED:
                found.append(int(words[0]))
    return min(found, default=None)


def _quotas() -> Iterator[int]:
    """Yield the whole cores of every quota that holds for this process."""
    for folder in _folders("cpu"):
        # Version 2: quota and period in one file; version 1: a file for each.
        quota, *period = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") or [""]
        period = period or _words(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period and period[0].isdecimal() and int(period[0]):
            yield int(quota) // int(period[0])


def _folders(controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups that this process is in, from the inmost outwards."""
    for line in _lines(_OWN_CGROUPS):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        # Version 2 has one tree; version 1 has one for each set of controllers, under its name and,
        # by links, under that of each of them.
        root = _CGROUPS / controller if controllers else _CGROUPS
        inmost = root / path.lstrip("/")
        for folder in (inmost, *inmost.parents):
            if not folder.is_relative_to(root):
                break
            yield folder


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
