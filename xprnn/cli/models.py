"""The MODEL of a command: a file that xprnn has saved, or an ONNX file."""

from pathlib import Path
from typing import Any

from xprnn.engine.network import RNN

ONNX = ".onnx"


def load_model(path: Path, **options: Any) -> RNN:
    """Return the network of a file; a name that ends in .onnx is that of an ONNX file.

    ``options`` are those that `RNN.load` and `xprnn.interop.onnx.load` have in common.
    """
    if path.suffix.lower() != ONNX:
        return RNN.load(path, **options)
    # Only here, since no other model needs what it imports.
    from xprnn.interop import onnx

    return onnx.load(path, **options)
