"""Everything that xprnn knows of array libraries.

No other package names one.  A library is imported when a backend of it is asked for, never before.
"""

from xprnn.backend.handle import FLOATS, Backend, describe, dtype_name
from xprnn.backend.libraries.namespace import FUNCTIONS
from xprnn.backend.library import Library
from xprnn.backend.opening import available_backends, backend_of, get_backend, probe
from xprnn.backend.registry import find_library, from_host, library_of, namespace_of, prefer

__all__ = [
    "FLOATS",
    "FUNCTIONS",
    "Backend",
    "Library",
    "available_backends",
    "backend_of",
    "describe",
    "dtype_name",
    "find_library",
    "from_host",
    "get_backend",
    "library_of",
    "namespace_of",
    "prefer",
    "probe",
]
