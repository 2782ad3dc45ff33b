"""What xprnn needs to know of an array library, and the few things that all of them share."""

import importlib
from abc import ABC, abstractmethod
from typing import ClassVar

from xprnn.backend.host import HostArray, np
from xprnn.backend.types import Array, Device, Namespace


class Library(ABC):
    """An array library: how it is loaded, which devices it has, how arrays come and go.

    Nothing is imported before `namespace` is called.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    """The module whose presence in ``sys.modules`` means that arrays of this library can exist."""
    install: ClassVar[str]
    """The command that installs it."""

    @abstractmethod
    def namespace(self) -> Namespace:
        """Import the library and return its array API namespace; ImportError if it is missing."""

    @abstractmethod
    def is_array(self, a: object) -> bool:
        """Whether ``a`` is an array of this library; only asked once the library is loaded."""

    @abstractmethod
    def device(self, spec: object) -> Device:
        """Return the device that ``spec`` names (None: the default), known to work.

        ValueError if there is no such device, RuntimeError if no device works at all.
        """

    @abstractmethod
    def devices(self) -> tuple[str, ...]:
        """Return the devices that can be used, as text."""

    def device_of(self, a: Array) -> Device:
        """Return the device that holds ``a``."""
        return a.device

    def prepare(self, dtype: str) -> None:
        """Do what the library needs before it can compute in ``dtype`` (by default nothing)."""
        del dtype

    def from_host(self, a: HostArray, device: Device) -> Array:
        """Copy a host array to the device, same dtype."""
        # The copy keeps a read-only host array (which torch would warn of) from being shared.
        return self.namespace().asarray(np.array(a), device=device)

    def to_host(self, a: Array) -> HostArray:
        """Return the array's values as a host array."""
        return np.asarray(a)

    def version(self) -> str:
        """Return the version of the library, which has been loaded."""
        return str(importlib.import_module(self.module).__version__)
