"""Networks as ONNX files, and recurrent networks of ONNX files as networks."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xprnn.interop.onnx.reading import load
    from xprnn.interop.onnx.writing import export

__all__ = ["export", "load"]


def __getattr__(name: str) -> Any:
    # Importing xprnn.interop needs no library whose name is in it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from xprnn.interop.onnx import reading, writing
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "onnx":
            raise
        raise ImportError(
            f'xprnn.interop.onnx.{name} needs onnx: pip install "xprnn[onnx]"'
        ) from error
    return writing.export if name == "export" else reading.load


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
