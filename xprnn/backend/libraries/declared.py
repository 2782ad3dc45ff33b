"""What a namespace declares of its devices: their dtypes, and the dtype of an index.

A device need not have every dtype of its library: many accelerators have no float64, some no
integers of 64 bits.
"""

from xprnn.backend.host.arrays import HostArray, np
from xprnn.backend.types import REALS, Device, DType, Namespace


def dtypes_on(xp: Namespace, device: Device) -> tuple[str, ...]:
    """Return the names of the real dtypes that a namespace has on a device, as it declares."""
    # Only of known libraries it is known how bfloat16 comes to the host.
    there = tuple(name for name in REALS if hasattr(xp, name) and name != "bfloat16")
    try:
        declared = xp.__array_namespace_info__().dtypes(device=device)
    except Exception:
        return there
    # float16 is not in the standard, so no namespace declares it.
    return tuple(name for name in there if name in declared or name == "float16")


def indexing_on(xp: Namespace, device: Device) -> DType:
    """Return the dtype of indices on a device."""
    info = xp.__array_namespace_info__()
    try:
        return info.default_dtypes(device=device)["indexing"]
    except TypeError:
        return info.default_dtypes()["indexing"]


def with_integers_of(a: HostArray, xp: Namespace, device: Device) -> HostArray:
    """Return host integers in a dtype that the device has, if their values fit."""
    if a.dtype.kind not in "iu" or a.dtype.name in dtypes_on(xp, device):
        return a
    for name in ("int64", "int32"):
        if name in dtypes_on(xp, device) and np.array_equal(a.astype(name), a):
            return a.astype(name)
    raise ValueError(
        f"integers of {a.dtype.name} do not fit on device {device}, which has "
        f"{', '.join(n for n in dtypes_on(xp, device) if 'int' in n) or 'no integers'}"
    )
