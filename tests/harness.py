"""A backend in a test, and which cases run on which."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Self

import numpy as np
import pytest

from tests.cases import CELLS, FEW, VARIANTS, Case
from xprnn import RNN, Backend, get_backend

FLAVOURS = {
    "numpy": ("numpy", None),
    "numpy-readonly": ("numpy", None),
    # On a device that is not the default: an array that is made without naming it is found out.
    "strict": ("array_api_strict", "device1"),
    "torch": ("torch", None),
    "jax": ("jax", None),
}
if find_spec("cupy"):
    FLAVOURS["cupy"] = ("cupy", None)


def flavour(name: str, *row: Any, full: bool = False) -> Any:
    """Return a parameter set whose last value is a flavour; ``quick`` takes NumPy's alone."""
    words = [str(getattr(each, "id", each)) for each in (*row, name)]
    marks = [pytest.mark.another_flavour] * (name != "numpy") + [pytest.mark.full] * full
    return pytest.param(*row, name, id="-".join(words), marks=marks)


def on_every_backend(
    rows: Sequence[Any] = CELLS, on_jax: Sequence[Any] = FEW, argument: str = "case"
) -> pytest.MarkDecorator:
    """Parametrize a test by the rows of a table and by backends, on JAX by fewer unless FULL=1.

    JAX compiles every operation once for each shape, which takes a hundred times as long as the
    other libraries take to compute it.  Elsewhere but on NumPy the table's variants are left out.
    """

    def left_out(name: str, row: Any) -> bool:
        if name == "jax":
            return row not in on_jax
        return name != "numpy" and str(getattr(row, "id", "")).startswith(VARIANTS)

    pairs = [flavour(name, row, full=left_out(name, row)) for name in FLAVOURS for row in rows]
    return pytest.mark.parametrize((argument, "harness"), pairs, indirect=["harness"])


def on_flavours(*names: str) -> pytest.MarkDecorator:
    """Parametrize a test by those of some flavours that are installed."""
    found = [flavour(name) for name in names if name in FLAVOURS]
    return pytest.mark.parametrize("harness", found, indirect=True)


jax_in_full = pytest.mark.parametrize(
    "harness", [flavour(name, full=name == "jax") for name in FLAVOURS], indirect=True
)
"""On JAX with FULL=1 alone: what the host does, or what another test sees on JAX too."""


@dataclass(frozen=True)
class Harness:
    """A backend, and what it takes to put a case on it.

    Attributes
    ----------
    read_only : bool
        Whether every array that is handed to the library refuses to be written to.
    """

    backend: Backend
    read_only: bool = False

    @property
    def dtype(self) -> str:
        return self.backend.dtype_name

    def at(self, dtype: str) -> Self:
        """Return the same backend in another dtype."""
        return replace(self, backend=get_backend(self.backend, dtype=dtype))

    def array(self, host: Any, dtype: str | None = None) -> Any:
        """Bring host data to the backend; the caller's array is not shared."""
        array = self.backend.asarray(np.array(host), dtype)
        if self.read_only:
            array.flags.writeable = False
        return array

    def arrays(self, host: tuple[np.ndarray, ...]) -> tuple[Any, ...]:
        """Bring a state to the backend."""
        return tuple(self.array(part) for part in host)

    def named(self, host: dict[str, np.ndarray]) -> dict[str, Any]:
        """Bring parameters or gradients to the backend."""
        return {name: self.array(array) for name, array in host.items()}

    def net(self, case: Case, seed: int = 0) -> RNN:
        """Return the case's network, with the weights of ``case.parameters(seed)``."""
        net = case.make(backend=self.backend, initializer="zeros")
        net.parameters = self.named(case.parameters(seed))
        return net

    def host(self, array: Any) -> np.ndarray:
        """Return an array's values, once it is known to be where and what it should be."""
        assert self.backend.owns(array), f"{type(array)} is no array of {self.backend}"
        assert array.dtype == self.backend.dtype
        return np.array(self.backend.to_numpy(array))

    def hosts(self, named: dict[str, Any]) -> dict[str, np.ndarray]:
        """Return the values of arrays by name."""
        return {name: self.host(array) for name, array in named.items()}
