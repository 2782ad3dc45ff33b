"""What the training loop asks of an optimizer."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from xprnn.backend.types import Array

Parameters: TypeAlias = Mapping[str, Array]


@runtime_checkable
class Optimizer(Protocol):
    """An update rule as two pure functions; what it remembers is passed in and returned."""

    def init(self, parameters: Parameters) -> Any:
        """Return the state before the first update."""
        ...

    def update(
        self, gradients: Parameters, state: Any, parameters: Parameters
    ) -> tuple[dict[str, Array], Any]:
        """Return the new parameters and the new state; the arguments stay as they are."""
        ...
