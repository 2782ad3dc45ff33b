"""NVIDIA's run-time compiler, which needs no device: the package ``nvidia-cuda-nvrtc``."""

import ctypes
import functools
from importlib.metadata import files

CUPY = ("--std=c++17", "-ftz=true", "--device-as-default-execution-space")
"""What CuPy 14 passes for a `RawKernel`; the second flushes subnormal float32 numbers to zero."""

OPTIONS = (*CUPY, "--Ofast-compile=max")
"""The last one to be quick here, because nothing is run."""


@functools.cache
def _library() -> ctypes.CDLL:
    # Its other half is found beside it.
    (path,) = (f for f in files("nvidia-cuda-nvrtc") if f.name.startswith("libnvrtc.so"))
    return ctypes.CDLL(str(path.locate()))


def compile_cuda(
    text: str, *, machine_code: bool = False, capability: int = 90, quick: bool = True
) -> tuple[str, str]:
    """Return the assembly (PTX), and what the compiler had to say; an error if it can't.

    For a device of this compute capability, by default of Hopper's kind; with ``machine_code`` down
    to what that one runs.  Unless ``quick``, it is optimized as for CuPy.
    """
    architecture = f"--gpu-architecture={'sm' if machine_code else 'compute'}_{capability}"
    options = (architecture, *(OPTIONS if quick else CUPY))
    library, program = _library(), ctypes.c_void_p()
    made = library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"x.cu", 0, None, None)
    assert made == 0
    try:
        words = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = library.nvrtcCompileProgram(program, len(options), words)
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
