"""The best weights so far, by the validation loss; a training ends with them."""

import math
from collections.abc import Mapping
from typing import Any

from xprnn.engine.network import RNN


class BestWeights:
    """The weights of the epoch with the lowest validation loss so far.

    Attributes
    ----------
    epoch : int
        That epoch; 0 before the first.
    value : float
        Its validation loss.
    parameters : dict of array
    """

    def __init__(self, net: RNN, min_delta: float) -> None:
        self.net, self.min_delta = net, min_delta
        self.epoch, self.value = 0, math.inf
        self.parameters = dict(net.parameters)

    def compare(self, epoch: int, value: float) -> None:
        """Take the network's weights if their loss is lower by more than ``min_delta``."""
        if value < self.value - self.min_delta:
            self.epoch, self.value = epoch, value
            # Copies, because a callback may write into the network's arrays.
            copy = self.net.backend.library.copy
            self.parameters = {k: copy(p) for k, p in self.net.parameters.items()}

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "value": self.value, "parameters": self.parameters}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.value = state["epoch"], state["value"]
        self.parameters = state["parameters"]
