"""Values that are too large beside the others to be forecast."""

from pathlib import Path

from xprnn.backend.host.arrays import HostArray, np

LARGEST, TIMES = 1e150, 1e15
"""Squares of larger values overflow; and a value may be so many median deviations away."""


def refuse_huge(file: Path, name: str, values: HostArray) -> None:
    """Refuse a value that no network can read beside the others, before any work is done.

    Raises
    ------
    ValueError
        It names the row and the option that helps.
    """
    middle = float(np.median(values))
    deviation = float(np.median(np.abs(values / 2 - middle / 2)))
    limit = min(LARGEST, TIMES * deviation) if deviation > 0 else LARGEST
    bad = np.flatnonzero(np.abs(values / 2 - middle / 2) > limit)
    if len(bad):
        value = float(values[bad[0]])
        raise ValueError(
            f"{str(file)!r}, row {bad[0] + 1} of the data: {name} is {value!r} among values around "
            f"{middle:.4g}; if it stands for a missing value: --na {value!r} --missing interpolate"
        )
