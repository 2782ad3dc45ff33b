"""What there is to say about the libraries: for messages and records, never for decisions."""

from typing import Any

from xprnn.backend.host.arrays import np
from xprnn.backend.registry import LIBRARIES

NAMES = tuple(LIBRARIES)
"""Every backend's name, installed or not."""


def blas() -> list[dict[str, Any]]:
    """Return name, version and threads of every BLAS library that is loaded.

    Without threadpoolctl, which knows them at run time, it is what NumPy was built with, and the
    threads are "unknown".
    """
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        built: Any = np.show_config(mode="dicts")
        library = built["Build Dependencies"]["blas"]
        return [{"name": library["name"], "version": library.get("version"), "threads": "unknown"}]
    return [
        {
            "name": library["internal_api"],
            "version": library.get("version"),
            "threads": library["num_threads"],
        }
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]
