"""A training whose weights are known beforehand."""

import numpy as np

from xprnn import RNN
from xprnn.cells import Elman

ONE, ZERO = np.ones((1, 1, 1)), np.zeros((1, 1, 1))
"""One step of one sequence: with weight w the output is w and the loss against zero is w²/2."""


def scalar_net(w: float, activation: str = "identity") -> RNN:
    """Return the network y = φ(w x): one weight, the others are fixed."""
    net = RNN(1, 1, cell=Elman(activation), bias=False, dtype="float64", initializer="zeros")
    net.parameters["weight_ih_l0"] = np.array([[w]])
    return net


def weight(net: RNN) -> float:
    return float(net.parameters["weight_ih_l0"][0, 0])


class Scripted:
    """An optimizer that ignores its gradients and sets one parameter to one value after another."""

    def __init__(self, *values: object, name: str = "weight_ih_l0") -> None:
        self.values, self.name = values, name

    def init(self, parameters):
        del parameters
        return 0

    def update(self, gradients, state, parameters):
        del gradients
        value = np.asarray(self.values[min(state, len(self.values) - 1)], "float64")
        new = np.broadcast_to(value, parameters[self.name].shape)
        return dict(parameters) | {self.name: new}, state + 1
