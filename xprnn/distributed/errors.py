"""The error of ranks that can't go on together."""

AGREED = "known_to_all_ranks"
"""The attribute of an error that every rank knows of, so that none waits for another."""


class RankError(RuntimeError):
    """Another rank failed, does not answer, or differs from this one."""


def agreed(error: BaseException) -> bool:
    """Whether every rank knows of an error."""
    return getattr(error, AGREED, False)


def mark_agreed(error: BaseException) -> None:
    """Note that every rank knows of an error."""
    setattr(error, AGREED, True)


class LostRankError(RankError):
    """A rank does not answer any more."""
