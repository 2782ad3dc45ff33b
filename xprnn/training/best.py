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
    copies : bool
        Whether they are copies of the network's arrays: needed where a callback may write into
        those.  Otherwise they are the same arrays, which a checkpoint then holds once.
    """

    def __init__(self, net: RNN, min_delta: float, *, copies: bool) -> None:
        self.net, self.min_delta, self.copies = net, min_delta, copies
        self.epoch, self.value = 0, math.inf
        self.parameters = dict(net.parameters)

    def compare(self, epoch: int, value: float) -> None:
        """Take the network's weights if their loss is lower by more than ``min_delta``."""
        if value < self.value - self.min_delta:
            self.epoch, self.value = epoch, value
            self.parameters = dict(self.net.parameters)
            if self.copies:
                copy = self.net.backend.library.copy
                self.parameters = {k: copy(p) for k, p in self.parameters.items()}

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "value": self.value, "parameters": self.parameters}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.value = state["epoch"], state["value"]
        self.parameters = state["parameters"]
