"""Two weights learn to count the ones in a sequence, and why plain gradient descent fails at it.

x is a binary sequence, the target the number of its ones.  The state is a single number:

    h(t) = w_x x(t) + w_rec h(t-1)        h(0) = 0        y = h(T)        L = ½ mean((y - target)²)

The answer is w_x = w_rec = 1.  The second half of the example puts a logistic function into every
step but the last, out of two unrolls that share their weights.

Run it with ``python examples/counting_ones.py [--length T] [--every N] [--out FOLDER]``.
"""

# %%
import argparse
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

import xprnn
from xprnn import diagnostics
from xprnn.cells import Elman

FAR, NEAR = (-1.5, 2.0), (0.5, 0.5)  # where to start from: (w_x, w_rec); far is the tutorial's
GOAL = 1e-7  # the loss at which both weights are within 1e-3 of one
LOST = 1e3  # a weight of that size is not coming back
SGD = xprnn.optim.SGD(0.002, momentum=0.9)
RPROP = xprnn.optim.Rprop(0.001)
LOOKS = (("#d1495b", "--"), ("#e08e1a", ".-"), ("#0b6fb8", ".-"), ("#2a9d5c", ".-"))


# %%
def counter(w_x, w_rec):
    """Return the linear network with these weights."""
    net = xprnn.RNN(1, 1, cell=Elman("identity"), bias=False, returns="last", dtype="float64")
    net.parameters = {
        "weight_ih_l0": net.backend.asarray([[float(w_x)]]),
        "weight_hh_l0": net.backend.asarray([[float(w_rec)]]),
    }
    return net


def weights_of(net):
    """Return (w_x, w_rec)."""
    return tuple(net.parameters[k].item() for k in ("weight_ih_l0", "weight_hh_l0"))


# %% [markdown]
# Backpropagation through time gets the gradient of every state first, dh(t) = w_rec dh(t+1), and
# uses it for both weights: dw_x = Σ dh(t) x(t), dw_rec = Σ dh(t) h(t-1).  What decides is that
# power of w_rec.


# %%
def state_gradients(net, x, target):
    """Return the mean of |dL/dh(t)| over the sequences, for every t, in units of the last."""
    _, gradient = net.value_and_grad(x, target)
    dh = np.abs(gradient.input[:, :, 0]).mean(axis=1)  # w_x dh(t), and w_x cancels out
    return dh / dh[-1]


# %%
class Walk(NamedTuple):
    """A training: the weights (w_x, w_rec) and the loss before every update, and after the last."""

    name: str
    weights: list
    losses: list

    @property
    def outcome(self):
        if self.losses[-1] < GOAL:
            return f"there after {len(self.weights) - 1} steps"
        return "lost" if max(map(abs, self.weights[-1])) > LOST else "not there yet"


def train(name, start, x, target, optimizer, *, clip=None, most=3000, every=1):
    """Walk from a start to the goal, or off the map, and print the gradient at the steps."""
    print(f"\n{name}, from w_x = {start[0]:g}, w_rec = {start[1]:g}")
    net, walk = counter(*start), Walk(name, [], [])
    state = optimizer.init(net.parameters)
    for step in range(most + 1):
        walk.weights.append(weights_of(net))
        if max(map(abs, walk.weights[-1])) > LOST:
            walk.losses.append(math.inf)
            break
        value, gradient = net.value_and_grad(x, target)
        walk.losses.append(float(value))
        if step % every == 0:
            dw_x, dw_rec = (gradient.parameters[k].item() for k in net.parameters)
            words = "w = ({:.6f}, {:.6f})  loss {:.3e}  dw_x {:+.3e}  dw_rec {:+.3e}"
            print(f"  {step:4d}:", words.format(*walk.weights[-1], value, dw_x, dw_rec))
        if value < GOAL or step == most:
            break
        update = gradient.parameters
        if clip is not None:
            update, _ = xprnn.optim.clip_by_norm(update, clip)
        net.parameters, state = optimizer.update(update, state, net.parameters)
    w_x, w_rec = walk.weights[-1]
    print(f"  {walk.outcome}: w_x = {w_x:.6g}, w_rec = {w_rec:.6g}, loss {walk.losses[-1]:.3g}")
    return walk


# %%
def surface(w_x, w_rec, x, target):
    """Return the loss on a grid (w_rec, w_x): one run for each w_rec, since y is linear in w_x."""
    y = np.stack([counter(1, w)(x)[0][:, 0] for w in w_rec])  # (w_rec, B)
    return 0.5 * np.mean((w_x[:, None] * y[:, None, :] - target[:, 0]) ** 2, axis=2)


def plot_walks(walks, x, target):
    """Draw the walks on the loss: on the left the whole map, on the right around the goal."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, (low, high) in zip(panels, ((-3, 3), (0, 2)), strict=True):
        line = np.linspace(low, high, 201)
        loss = np.maximum(surface(line, line, x, target), 1e-3)
        shades = axes.pcolormesh(line, line, loss, norm=LogNorm(1e-3, 1e8), cmap="Greys")
        for walk, (color, look) in zip(walks, LOOKS, strict=True):
            axes.plot(*zip(*walk.weights, strict=True), look, color=color, lw=1.3, ms=3)
            axes.plot(*walk.weights[0], "o", color=color, ms=6)
        axes.plot(1, 1, "*", color="black", ms=11)
        axes.set(xlim=(low, high), ylim=(low, high), xlabel="w_x", ylabel="w_rec", aspect="equal")
    figure.colorbar(shades, ax=panels, label="loss")
    lines = panels[0].lines[0:-1:2]
    names = [f"{walk.name}: {walk.outcome}" for walk in walks]
    figure.legend(lines, names, loc="outside lower center", ncols=2, frameon=False)
    return figure
