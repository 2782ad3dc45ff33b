"""Tensors as arrays of another library and back, in the same memory (DLPack)."""

from functools import lru_cache

import torch
from torch.utils.dlpack import from_dlpack

from xprnn.backend import Backend, get_backend
from xprnn.backend.types import Array

ON_CPU, ON_CUDA = "numpy", "cupy"
"""The libraries without a framework of their own: where one can't compute, the other can."""


def backend_for(library: str, tensor: torch.Tensor) -> Backend:
    """Return the backend that computes where a tensor is, in its dtype.

    Parameters
    ----------
    library : str
        The backend's name.  NumPy stands for CuPy where the tensor is on a CUDA device, and the
        other way round.
    tensor : tensor

    Raises
    ------
    ValueError
        If the library can't compute on the tensor's device or in its dtype.
    """
    return _opened(library, tensor.device, str(tensor.dtype).removeprefix("torch."))


@lru_cache(maxsize=64)
def _opened(library: str, device: torch.device, dtype: str) -> Backend:
    if library == "torch":
        return get_backend("torch", device, dtype)
    if device.type == "cpu":
        return get_backend(ON_CPU if library == ON_CUDA else library, None, dtype)
    if device.type == "cuda" and library in (ON_CPU, ON_CUDA):
        return get_backend(ON_CUDA, device.index, dtype)
    raise ValueError(
        f"the module is on {str(device)!r}, where the backend {library!r} can't compute: expected "
        'a device of that backend, or a module made of net.to("torch")'
    )


def to_array(backend: Backend, tensor: torch.Tensor) -> Array:
    """Return the array of the backend that has a tensor's memory."""
    tensor = tensor.detach()
    if backend.name == "torch":
        return tensor
    # Laid out as every library can take it.
    return backend.xp.from_dlpack(tensor if tensor.is_contiguous() else tensor.contiguous())


def to_tensor(backend: Backend, array: Array) -> torch.Tensor:
    """Return the tensor that has an array's memory; a copy if the library counts on it."""
    if backend.name == "torch":
        tensor: torch.Tensor = array
        return tensor
    # Arrays of libraries like JAX never change, which torch doesn't know.
    return from_dlpack(array) if backend.name in (ON_CPU, ON_CUDA) else from_dlpack(array).clone()
