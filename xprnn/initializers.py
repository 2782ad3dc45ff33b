"""Initial values of parameters."""

from xprnn.engine.initializers import (
    INITIALIZERS,
    Initializer,
    Normal,
    Orthogonal,
    Uniform,
    Zeros,
    get_initializer,
)

__all__ = [
    "INITIALIZERS",
    "Initializer",
    "Normal",
    "Orthogonal",
    "Uniform",
    "Zeros",
    "get_initializer",
]
