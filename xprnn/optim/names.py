"""Choosing parameters by patterns of their names."""

from collections.abc import Iterable
from fnmatch import fnmatchcase


def matching(what: str, pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that a pattern matches: ``*``, ``?`` and ``[...]`` as in file names.

    Parameters
    ----------
    what : str
        Where the pattern stands, for the message.
    pattern : str
    names : iterable of str

    Raises
    ------
    ValueError
        If there is none: a pattern without effect is a mistake in it.
    """
    names = list(names)
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise ValueError(
            f"{what} has the pattern {pattern!r}, which matches no parameter: "
            f"known are {', '.join(names) or 'none'}"
        )
    return found
