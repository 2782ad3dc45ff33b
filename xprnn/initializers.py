"""Initial values of parameters."""

from xprnn.engine.initializers import (
    INITIALIZERS,
    Chrono,
    Identity,
    Initializer,
    Normal,
    Orthogonal,
    SpectralRadius,
    Uniform,
    Zeros,
    get_initializer,
)

__all__ = [
    "INITIALIZERS",
    "Chrono",
    "Identity",
    "Initializer",
    "Normal",
    "Orthogonal",
    "SpectralRadius",
    "Uniform",
    "Zeros",
    "get_initializer",
]
