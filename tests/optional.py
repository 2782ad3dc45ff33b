"""Libraries that only some machines have, such as the judges of a test."""

import importlib
from types import ModuleType
from typing import Any

import pytest


class Missing:
    """In the place of a library that is not installed: a test that uses it is skipped.

    If it is used while a file of tests is imported, all of the file is.
    """

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            # Asked for by pytest, which looks at all that a file of tests has.
            raise AttributeError(name)
        pytest.skip(self._reason, allow_module_level=True)


def optional(name: str) -> ModuleType | Missing:
    """Import a library if it is there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        return Missing(f"could not import {name!r}: {error}")
