"""Everything that xprnn knows about array libraries.

No other package names one.  A library is imported when a backend of it is asked for, never before.

The modules, each importing only those above it:

==================  ============================================================================
`types`             names for arrays, namespaces, devices and dtypes in signatures
`host`              arrays, files, threads and memory of the host, whatever library computes
`numba`             compiled code for NumPy's arrays, where Numba is installed
`cuda`              CUDA kernels that know no cells, as text
`dual`              values with tangents, for exact derivatives
`entry`             the decorator of public functions, which enters the device of their arrays
`operations`        what a library may do faster than with functions of the standard
`kernels`           what a lowering to CUDA kernels needs from a library
`questions`         checks whose answers are read later, all at once
`library`           `Library`: what must be known about an array library
`libraries`         one file per library
`registry`          which libraries there are, and which one an array belongs to
`handle`            `Backend`: a library with a device and a dtype to compute in
`differentiation`   the backend of a backend's dual arrays
`opening`           `get_backend` and the like, which make a `Backend`
==================  ============================================================================
"""

from xprnn.backend.handle import Backend, conversion, describe, dtype_name, on_host
from xprnn.backend.libraries.partial import FUNCTIONS, NEEDED_FOR, MissingFunctionError
from xprnn.backend.library import Library
from xprnn.backend.opening import available_backends, backend_of, get_backend, probe
from xprnn.backend.registry import find_library, from_host, library_of, namespace_of, prefer
from xprnn.backend.types import FLOATS, HALVES

__all__ = [
    "FLOATS",
    "FUNCTIONS",
    "HALVES",
    "NEEDED_FOR",
    "Backend",
    "Library",
    "MissingFunctionError",
    "available_backends",
    "backend_of",
    "conversion",
    "describe",
    "dtype_name",
    "find_library",
    "from_host",
    "get_backend",
    "library_of",
    "namespace_of",
    "on_host",
    "prefer",
    "probe",
]
