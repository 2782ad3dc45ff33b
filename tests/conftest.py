"""The backends that a test runs on."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pytest

from tests.cases import Case
from xprnn import RNN, Backend, get_backend
from xprnn.backend import probe

# Compiling takes a second and more per formula: tests/test_compiled*.py do it for every cell.
os.environ.setdefault("XPRNN_LOWERING", "numpy")


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep compiled code where all processes of a run find it, and no other run does."""
    # With pytest-xdist, each worker's folder is in that of the run.
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with pytest.MonkeyPatch.context() as patch:
        if "XPRNN_CACHE" not in os.environ:
            patch.setenv("XPRNN_CACHE", str(folder / "compiled"))
        yield


FLAVOURS = {
    "numpy": ("numpy", None),
    "numpy-readonly": ("numpy", None),
    "strict": ("array_api_strict", None),
    "strict-device1": ("array_api_strict", "device1"),
    "torch": ("torch", None),
    "jax": ("jax", None),
    "cupy": ("cupy", None),
}


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


@pytest.fixture(params=FLAVOURS)
def harness(request: pytest.FixtureRequest) -> Harness:
    """Return a backend in float64; ``harness.at("float32")`` is its other half."""
    name, device = FLAVOURS[request.param]
    found = probe(name)
    if not found.usable:
        pytest.skip(found.reason)
    backend = get_backend(name, device, dtype="float64")
    return Harness(backend, read_only=request.param == "numpy-readonly")
