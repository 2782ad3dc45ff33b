"""Weights from torch and back, which needs no torch; and networks as modules of torch."""

from typing import TYPE_CHECKING, Any

from xprnn.interop.torch.weights import from_state_dict, to_state_dict

if TYPE_CHECKING:
    from xprnn.interop.torch.module import Module

__all__ = ["Module", "from_state_dict", "to_state_dict"]


def __getattr__(name: str) -> Any:
    # A subclass of torch.nn.Module can't be made before torch is imported.
    if name != "Module":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from xprnn.interop.torch.module import Module
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError("xprnn.interop.torch.Module needs torch: pip install torch") from error
    return Module


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
