"""The network in a graph that another program has written."""

from xprnn.engine.saving import Saved
from xprnn.interop.onnx.files import File


def recognized(file: File) -> Saved:
    """Return a network."""
    raise ValueError(f"{file.path!r}: not an export of xprnn")
