"""What goes wrong between CuPy and a device, in words that say what to do.

CuPy's own messages name functions of CUDA; which error means what was looked up in CuPy 14.
"""

import os
from typing import NoReturn

DRIVERS = {12: "525", 13: "580"}
"""The oldest driver for each version of CUDA, by NVIDIA's release notes."""

_CACHE = "CuPy's folder of compiled kernels ({folder}, or where CUPY_CACHE_DIR says)"


class DeviceMemoryError(MemoryError):
    """A device has no room for an array; the message says how much was asked for and is free."""


def in_words(error: BaseException, version: int | None) -> str:
    """Return what an error at the first use of a device means.

    Parameters
    ----------
    error : exception
    version : int or None
        The version of CUDA that CuPy was built for; None if it doesn't say.
    """
    text, extra = f"{type(error).__name__}: {error}", f"xprnn[cuda{version or 13}]"
    for signs, meaning in _MEANINGS:
        if any(sign.lower() in text.lower() for sign in signs):
            folder = os.path.expanduser("~/.cupy/kernel_cache")  # noqa: PTH111 - CuPy's own words
            driver = DRIVERS.get(version or 13, "580")
            where = _CACHE.format(folder=folder)
            said = meaning.format(extra=extra, driver=driver, cache=where, version=version or 13)
            return f"{said} ({error})"
    return str(error)


_MEANINGS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("libcuda.so", "nvcuda.dll"),
        "there is no NVIDIA driver: install one of version {driver} or newer",
    ),
    (
        ("cudaErrorInsufficientDriver", "unsupported_ptx_version", "UNSUPPORTED_PTX"),
        "there is no NVIDIA driver, or it is too old for CUDA {version}: it takes version {driver} "
        'or newer, as `nvidia-smi` shows it; for an older one, pip install "xprnn[cuda12]"',
    ),
    (("cudaErrorNoDevice",), "this machine has no CUDA device, or CUDA_VISIBLE_DEVICES hides it"),
    (
        ("cudaErrorInitializationError", "CUDA_ERROR_NOT_INITIALIZED"),
        "CUDA can't be used in this process, which was forked from one that used it: start "
        "processes with multiprocessing's method 'spawn'",
    ),
    (
        ("NoKernelImage", "NO_BINARY_FOR_GPU", "INVALID_IMAGE", "INVALID_SOURCE", "INVALID_PTX"),
        "a kernel was compiled for another kind of device: remove {cache}",
    ),
    (
        ("CUDA headers", "cannot open source file", "cuda_fp16", "cuda_runtime.h"),
        'CuPy finds no CUDA headers to compile kernels with: pip install "{extra}"',
    ),
    (
        ("nvrtc",),
        'CuPy finds no NVRTC, CUDA\'s compiler of kernels: pip install "{extra}"',
    ),
    (("cublas",), 'CuPy finds no cuBLAS, CUDA\'s matrix products: pip install "{extra}"'),
    (
        ("PermissionError", "Read-only file system", "No space left", "OSError"),
        "{cache} can't be written: set CUPY_CACHE_DIR to one that can, or CUPY_CACHE_IN_MEMORY=1",
    ),
)
"""Signs of an error, in any case, and what it means; the first that fits counts."""


def no_room(error: MemoryError, free: int, total: int) -> NoReturn:
    """Raise an error that says how much memory a device has."""
    raise DeviceMemoryError(
        f"{error} {free:,} of the device's {total:,} bytes are free: expected a smaller batch, "
        "shorter sequences or recompute=True; nothing was changed"
    ) from error
