"""Networks inside models of other libraries, and weights from there and back."""

from xprnn.interop import jax, onnx, sklearn, torch

__all__ = ["jax", "onnx", "sklearn", "torch"]
