"""NVIDIA's run-time compiler, which needs no device: the package ``nvidia-cuda-nvrtc``."""

import ctypes
import functools
from importlib.metadata import files

OPTIONS = ("--gpu-architecture=compute_90", "--std=c++14", "--Ofast-compile=max")
"""A device of Hopper's kind, and the standard that CuPy asks for."""


@functools.cache
def _library() -> ctypes.CDLL:
    # Its other half is found beside it.
    (path,) = (f for f in files("nvidia-cuda-nvrtc") if f.name.startswith("libnvrtc.so"))
    return ctypes.CDLL(str(path.locate()))


def compile_cuda(text: str) -> tuple[str, str]:
    """Return the assembly (PTX), and what the compiler had to say; an error if it can't."""
    library, program = _library(), ctypes.c_void_p()
    made = library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"x.cu", 0, None, None)
    assert made == 0
    try:
        words = (ctypes.c_char_p * len(OPTIONS))(*(option.encode() for option in OPTIONS))
        status = library.nvrtcCompileProgram(program, len(OPTIONS), words)
        log = _text(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog, program)
        assert status == 0, log
        return _text(library.nvrtcGetPTXSize, library.nvrtcGetPTX, program), log
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _text(size: object, read: object, program: ctypes.c_void_p) -> str:
    count = ctypes.c_size_t()
    assert size(program, ctypes.byref(count)) == 0
    buffer = ctypes.create_string_buffer(count.value)
    assert read(program, buffer) == 0
    return buffer.value.decode()
