"""Weights of other libraries: ``xprnn.interop.torch``."""

from xprnn.interop import torch

__all__ = ["torch"]
