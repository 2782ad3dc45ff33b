"""The backends that ``xprnn parity`` is to compare, as they were named."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xprnn.backend import Backend, get_backend, probe
from xprnn.backend.registry import NAMES
from xprnn.testing import Side


class Place(NamedTuple):
    """A backend in the list, perhaps on a device of its own; or the reason why it can't be used.

    Attributes
    ----------
    name : str
        As it was named, such as ``torch@cuda:1`` or ``module:namespace``.
    backend : Backend or None
        None if it can't be used.
    version : str or None
    reason : str
        Why it can't be used.
    """

    name: str
    backend: Backend | None
    version: str | None
    reason: str

    @classmethod
    def of(cls, name: str) -> "Place":
        """Open the backend of a name.

        A library that is not installed is not an error: the place says so.

        Raises
        ------
        ValueError
            If the name or the device is unknown.
        """
        library, _, device = name.partition("@")
        if library in NAMES:
            found = probe(library)
            backend = get_backend(library, device or None) if found.usable else None
            return cls(name, backend, found.version, found.reason)
        here = str(Path.cwd())
        if ":" in library and here not in sys.path:
            # A user's own module is often in the working folder, where a command doesn't look.
            sys.path.append(here)
        backend = get_backend(library, device or None)
        return cls(name, backend, backend.library.version(), "")

    def lacks(self, dtypes: Sequence[str]) -> tuple[str, ...]:
        """Return those of the dtypes that its device does not have."""
        if self.backend is None:
            return ()
        there = self.backend.library.dtypes(self.backend.device)
        return tuple(dtype for dtype in dtypes if dtype not in there)

    def facts(self) -> dict[str, Any]:
        """Return it as plain data."""
        backend, device, hardware = self.backend, "", ""
        if backend is not None:
            device = backend.library.device_name(backend.device)
            hardware = backend.library.hardware(backend.device)
        return {
            "name": self.name,
            "version": self.version,
            "usable": backend is not None,
            "device": device,
            "hardware": hardware,
            "reason": self.reason,
        }

    def __str__(self) -> str:
        facts = self.facts()
        if self.backend is None:
            return f"not usable: {self.reason}"
        return ", ".join(filter(None, (self.version, facts["device"], facts["hardware"])))


def names_of(places: Sequence[Place]) -> Callable[[Side], str]:
    """Return a function from a side of a report to its backend's name in the list."""
    names: dict[tuple[str, str], str] = {}
    for place in places:
        if place.backend is not None:
            names.setdefault((place.backend.name, place.facts()["device"]), place.name)
    return lambda side: names.get((side.backend, side.device), side.backend)
