"""Other formats and libraries: ``xprnn.interop.torch``."""

import importlib
from types import ModuleType

PUBLIC = ("torch",)


def __getattr__(name: str) -> ModuleType:
    """Import a module when it is first asked for: they need the network, which needs this one."""
    if name in PUBLIC:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
