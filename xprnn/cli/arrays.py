"""Files of arrays (.npz), which any network's input can be given in."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

from xprnn.backend.host.arrays import HostArray, np

SUFFIX = ".npz"


class Given(NamedTuple):
    """The arrays of a file.

    Attributes
    ----------
    x : host array, (T, B, I), or of integers, (T, B)
    lengths : list of int or None
    mask : host array of bool, (T, B), or None
    others : dict of host array
        Those of other names that were asked for, as far as the file has them.
    """

    x: HostArray
    lengths: list[int] | None
    mask: HostArray | None
    others: dict[str, HostArray]


def read_arrays(path: Path, needed: Sequence[str], known: Sequence[str] = ()) -> Given:
    """Read a file of arrays.

    Parameters
    ----------
    path : Path
    needed : sequence of str
        The names of arrays that must be there, ``"x"`` among them.
    known : sequence of str
        The names of further ones that may be.

    Raises
    ------
    OSError
        If it can't be read.
    ValueError
        If it is no such file, lacks an array, or has one of a wrong shape or dtype.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names = sorted(file.files)
            missing = [name for name in needed if name not in names]
            if missing:
                raise ValueError(f"it has {', '.join(names) or 'no arrays'}: no {missing[0]}")
            numbers = {n: file[n] for n in dict.fromkeys((*needed, *known)) if n in names}
            lengths = file["lengths"].tolist() if "lengths" in names else None
            mask = file["mask"] if "mask" in names else None
    except (BadZipFile, ValueError, EOFError) as error:
        raise ValueError(
            f"{str(path)!r}: expected a .npz file with the "
            f"{'arrays' if len(needed) > 1 else 'array'} {' and '.join(needed)}: {error}"
        ) from error
    for name, array in numbers.items():
        if array.dtype.kind not in "iuf" or array.ndim < 1:
            raise ValueError(
                f"{str(path)!r}: {name} is {array.dtype} of shape {array.shape}: expected numbers"
            )
    x = numbers.pop("x")
    if x.ndim < 2:
        raise ValueError(f"{str(path)!r}: x has shape {x.shape}: expected (T, B, inputs) or (T, B)")
    if lengths is not None and (not isinstance(lengths, list) or len(lengths) != x.shape[1]):
        count = len(lengths) if isinstance(lengths, list) else 1
        raise ValueError(f"{str(path)!r}: lengths has {count} entries: expected {x.shape[1]}")
    if mask is not None and mask.shape != x.shape[:2]:
        raise ValueError(f"{str(path)!r}: mask has shape {mask.shape}: expected {x.shape[:2]}")
    return Given(x, lengths, mask, numbers)
