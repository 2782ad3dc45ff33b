# %% [markdown]
# # A cell of your own
#
# A cell consists of its elementwise formulas and their derivatives: no time loop, no matrix
# products, no backend.  This page adds a cell that the library doesn't have, in twenty lines, and
# it gets everything that the library's own cells have.
#
# It is a leaky integrator: the state follows an Elman candidate n with a time constant of τ = 1/a
# steps.  Every unit has its own time constant, and learns it.
#
#     a    = σ(p)                               p (H,), a parameter per unit      (1)
#     n(t) = tanh(u(t) + v(t))                                                    (2)
#     h(t) = h(t-1) + a (n(t) - h(t-1))                                           (3)
#
# u(t) = W x(t) + b and v(t) = U h(t-1) come from the engine.  (3) is an Euler step of
# dh/dt = (n - h) / τ, the neuron of H. Jaeger et al., "Optimization and applications of echo state
# networks with leaky-integrator neurons", Neural Networks 20 (2007), here trained by BPTT.
#
# As a script: `python examples/bring_your_own_cell.py [--epochs N] [--out FOLDER]`.

# %%
import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import xprnn
from xprnn import diagnostics, testing
from xprnn.cells.activations import logistic

# %% [markdown]
# ## 1. The cell
#
# `gates` says that W, U and b have one block, `state` that the state is h alone, and `units` that
# there is a parameter p with an entry per unit.  `forward` finds p after the blocks of v, and
# `backward` after what `forward` saved.  The gradient of p goes after the blocks of dv; the
# engine sums it over steps and sequences.  Both functions use only the array API standard, and
# never write into an array.


# %%
@dataclass(frozen=True)
class Leaky:
    gates = 1
    state = ("h",)
    units = ("leak",)

    def forward(self, xp, u, v, state):
        (h,), (v_n, p) = state, v
        a = logistic(xp, p)  # (1)
        n = xp.tanh(u[0] + v_n)  # (2)
        return (h + a * (n - h),), (n,)  # (3)

    def backward(self, xp, saved, previous, d_state):
        (n, p), (h,), (dh,) = saved, previous, d_state
        a = logistic(xp, p)
        dz = dh * a * (1 - n * n)  # from (3), (2)
        dp = dh * (n - h) * (a * (1 - a))  # from (3), (1)
        return (dz,), (dz, dp), (dh - dh * a,)  # from (2), (3)


# %% [markdown]
# ## 2. Is it right?
#
# `check_cell` compares `backward` with numeric derivatives of `forward`, block by block.
# `check_gradients` does the same for a whole network, here with two layers in both directions.  A
# mistake raises an error that names the block and its worst entry: leave out the factor a in dz and
# see.


# %%
def prove():
    report = testing.check_cell(Leaky())
    print(f"cell: {', '.join(finding.name for finding in report.findings[:4])} are right")
    net = xprnn.RNN(2, 5, 1, cell=Leaky(), layers=2, bidirectional=True, rng=0)
    x = np.random.default_rng(1).normal(size=(6, 3, 2))
    report = testing.check_gradients(net, x)
    worst = max(finding.error for finding in report.findings)
    print(f"network: {len(report.findings)} gradients, off by {worst:.0e} at most")


# %% [markdown]
# The cell is fast, too, without a line written for that: its formulas are traced and lowered, to
# compiled loops or to in-place NumPy calls.

# %%
print(xprnn.explain_lowering(Leaky()))

# %% [markdown]
# ## 3. A task
#
# The input is white noise; the target is two running means of it, one over about 3 steps and one
# over about 30.  The initial time constants lie between 2 and 50 steps.  All networks have the same
# number of units.  Leaky has twelve parameters more than Elman, and ends with a much lower loss.
# GRU and LSTM have about three times as many parameters, end lower still, and take longer.


# %%
CONSTANTS = (3, 30)


def running_means(steps=100, sequences=32, seed=0):
    """Return x (T, B, 1) and its running means (T, B, 2), scaled to variance one."""
    x = np.random.default_rng(seed).normal(size=(steps, sequences, 1))
    means, mean = [], np.zeros((sequences, 2))
    rate = 1 / np.array(CONSTANTS)
    for x_t in x:
        mean = mean + rate * (x_t - mean)
        means.append(mean * np.sqrt((2 - rate) / rate))
    return x, np.stack(means)


def make(cell, hidden=12):
    net = xprnn.RNN(1, hidden, 2, cell=cell, dtype="float64", rng=0)
    if "leak_l0" in net.parameters:
        tau = np.geomspace(2, 50, hidden)
        net.parameters["leak_l0"] = -np.log(tau - 1)  # then a = σ(p) = 1/τ
    return net


def train(cell, epochs):
    net, data, unseen = make(cell), running_means(), running_means(seed=1)
    start = time.perf_counter()
    history = xprnn.fit(
        net, data, optimizer=xprnn.optim.Adam(0.01), epochs=epochs, clip_norm=1.0, validation=unseen
    )
    seconds = time.perf_counter() - start
    name = cell if isinstance(cell, str) else type(cell).__name__
    count = sum(array.size for array in net.parameters.values())
    final = history.validation_loss[-1]
    print(
        f"{name:6} {count:4} numbers, {seconds:4.1f} s: loss {history.loss[0]:.3f} -> "
        f"{history.loss[-1]:.4f}, of unseen sequences {final:.4f}"
    )
    return net, history


# %% [markdown]
# ## 4. Every backend, and a file
#
# The file does not contain the cell's code, so `load` takes the cell.  It runs on every backend
# that is installed, and the outputs and gradients are the same up to rounding.


# %%
def everywhere(path):
    x, target = running_means(steps=20, sequences=4, seed=2)
    reference = xprnn.RNN.load(path, cell=Leaky())
    y, _ = reference(x)
    _, gradient = reference.value_and_grad(x, target)
    for backend in xprnn.available_backends():
        net = xprnn.RNN.load(path, backend=backend, cell=Leaky())
        to_device, to_host = net.backend.asarray, net.backend.to_numpy
        output, _ = net(to_device(x))
        _, found = net.value_and_grad(to_device(x), to_device(target))
        off = [np.max(np.abs(to_host(output) - y))]
        off += [
            np.max(np.abs(to_host(found.parameters[k]) - g)) for k, g in gradient.parameters.items()
        ]
        assert max(off) < 1e-10
        print(f"{backend}: output and gradients differ by {max(off):.0e} at most")


# %%
def main(argv=None):
    parser = argparse.ArgumentParser(description="A cell of your own.")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path("runs/bring_your_own_cell"))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)

    prove()
    net, history = train(Leaky(), args.epochs)
    for cell in ("elman", "gru", "lstm"):
        train(cell, args.epochs)
    tau = 1 + np.exp(-net.parameters["leak_l0"])
    print("time constants learned:", " ".join(f"{t:.1f}" for t in np.sort(tau)))

    path = args.out / "leaky.safetensors"
    net.save(path)
    everywhere(path)

    figure = diagnostics.plot_loss(
        history.loss, history.validation_loss, title="Leaky, running means"
    )
    diagnostics.save_figure(figure, args.out / "loss.png")
    print(f"written: {args.out}")
    diagnostics.show_pictures(args.out)


if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)
