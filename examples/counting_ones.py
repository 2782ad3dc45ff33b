# %% [markdown]
# # Counting ones
#
# Two weights learn to count the ones in a sequence.  Plain gradient descent fails at it; this page
# shows why, and what doesn't.
#
# x is a binary sequence, and the target is the number of its ones.  The state is a single number:
#
#     h(t) = w_x x(t) + w_rec h(t-1)      h(0) = 0      y = h(T)      L = ½ mean((y - target)²)
#
# The solution is w_x = w_rec = 1.  In the second half of the example every step but the last has a
# logistic function; that takes two unrolls that share their weights.  The pages
# `docs/counting-ones.md` and `docs/counting-ones-logistic.md` explain the example.
#
# As a script: `python examples/counting_ones.py [--length T] [--every N] [--out FOLDER]`.

# %%
import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

import xprnn
from xprnn import diagnostics
from xprnn.cells import Elman

FAR, NEAR = (-1.5, 2.0), (0.5, 0.5)  # initial (w_x, w_rec); FAR is the original's
GOAL = 1e-7  # at this loss both weights are within 1e-3 of one
LOST = 1e3  # a weight of this size does not come back
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
# ## Backpropagation through time
#
# First comes the gradient of every state, dh(t) = w_rec dh(t+1), a power of w_rec.  Both weights
# use it: dw_x = Σ dh(t) x(t), dw_rec = Σ dh(t) h(t-1).  So with the distance from the last step the
# gradients vanish where |w_rec| < 1, and explode where |w_rec| > 1.


# %%
def state_gradients(net, x, target):
    """Return ‖dL/dh(t)‖ over the sequences, for every t, relative to the last."""
    dh = diagnostics.gradient_flow(net, x, target).norms[0]
    return dh / dh[-1]


def plot_state_gradients(x, target, every=(0.5, 0.9, 1.0, 1.1, 2.0)):
    """Draw ‖dL/dh(t)‖ for several w_rec: the slopes are their logarithms."""
    flows = [diagnostics.gradient_flow(counter(0.9, w_rec), x, target) for w_rec in every]
    together = flows[0]._replace(
        names=tuple(f"w_rec = {w_rec:g}" for w_rec in every),
        norms=np.concatenate([flow.norms / flow.norms[:, -1:] for flow in flows]),
    )
    return diagnostics.plot_flow(together, title="the gradient of every state, over the last one's")


# %% [markdown]
# ## Trainings, and the loss surface that they walk on


# %%
class Walk(NamedTuple):
    """A training: the weights (w_x, w_rec) of every step, and their loss."""

    name: str
    weights: list
    losses: list

    @property
    def outcome(self):
        lost = max(map(abs, self.weights[-1])) > LOST
        words = "lost" if lost else "there" if self.losses[-1] < GOAL else "not there"
        return f"{words} after {(steps := len(self.weights) - 1)} step{'s' * (steps != 1)}"


def train(name, start, x, target, optimizer, *, clip=None, most=3000, every=1):
    """Train until the goal is reached or the weights are lost; print every so many steps."""
    print(f"\n{name}, from w_x = {start[0]:g}, w_rec = {start[1]:g}")
    net, walk = counter(*start), Walk(name, [], [])
    state = optimizer.init(net.parameters)
    for step in range(most + 1):
        walk.weights.append(weights_of(net))
        if max(map(abs, walk.weights[-1])) > LOST:
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
    print(f"  {walk.outcome}: w_x = {w_x:.6g}, w_rec = {w_rec:.6g}")
    return walk


# %%
def surface(w_x, w_rec, x, target):
    """Return the loss on a grid (w_rec, w_x), by one run for each w_rec: y is linear in w_x."""
    y = np.stack([counter(1, w)(x)[0][:, 0] for w in w_rec])  # (w_rec, B)
    return 0.5 * np.mean((w_x[:, None] * y[:, None, :] - target[:, 0]) ** 2, axis=2)


def plot_walks(walks, x, target):
    """Draw the walks on the loss surface: all of it on the left, the goal enlarged on the right."""
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


# %% [markdown]
# ## With a logistic function
#
# Now every step but the last has a logistic function σ.  The last has none, because values of σ are
# below one and could not be a count:
#
#     h(t) = σ(w_x x(t) + w_rec h(t-1)),  t < T        y = w_x x(T) + w_rec h(T-1)
#
# That takes two unrolls: one for all steps but the last, and one with another cell for the last
# step, which begins with the state that the first one ended in.  Both share their weights, so the
# gradients of both are added.


# %%
def logistic_loss_and_grad(weights, x, target):
    """Return the loss, the gradients of w_x and w_rec, and y (B, 1)."""
    pair = xprnn.Weights(weights["w_x"], weights["w_rec"])
    _, state, steps = xprnn.unroll(Elman("logistic"), pair, x[:-1])
    y, _, last = xprnn.unroll(Elman("identity"), pair, x[-1:], state)
    value, dy = xprnn.losses.SquaredError().value_and_grad(y, target[None])
    late = xprnn.unroll_backward(Elman("identity"), pair, last, dy)
    early = xprnn.unroll_backward(Elman("logistic"), pair, steps, None, late.state)
    gradients = {
        "w_x": early.weights.W + late.weights.W,
        "w_rec": early.weights.U + late.weights.U,
    }
    return float(value), gradients, y[0]


def finite_differences(weights, x, target, step=1e-5):
    """Return the same gradients, computed from values of the loss."""
    gradients = {}
    for name, w in weights.items():
        above, below = (
            logistic_loss_and_grad({**weights, name: w + h}, x, target)[0] for h in (step, -step)
        )
        gradients[name] = np.full((1, 1), (above - below) / (2 * step))
    return gradients


def check_gradient(weights, x, target):
    """Print both gradients of the logistic form, and return their largest difference."""
    _, explicit, _ = logistic_loss_and_grad(weights, x, target)
    numeric, worst = finite_differences(weights, x, target), 0.0
    for name, g in explicit.items():
        difference = abs(g.item() - numeric[name].item())
        words = f"  d{name}: {g.item():+.12f}, by finite differences {numeric[name].item():+.12f}"
        print(f"{words}, difference {difference:.1e}")
        worst = max(worst, difference)
    return worst


# %% [markdown]
# ## Step by step
#
# Two pages for the browser show every number of one sequence, forwards and backwards.  On the
# first, w_rec = 2 doubles the gradient at every step on its way back.  On the second, every
# logistic step multiplies it by h (1 - h), at most a quarter, and by w_rec: it vanishes.  That one
# has all steps but the last; what the last one passes back is its dy.


# %%
def write_pages(x, target, folder):
    """Write a page of the linear network and one of the logistic form, of the first sequence."""
    page = diagnostics.inspect_page(
        counter(1, 2), x, target, title="Counting ones: w_x = 1, w_rec = 2"
    )
    page.save(folder / "linear_steps.html")
    pair = xprnn.Weights(np.full((1, 1), -1.5), np.full((1, 1), 2.0))
    _, state, _ = xprnn.unroll(Elman("logistic"), pair, x[:-1])
    y, _, last = xprnn.unroll(Elman("identity"), pair, x[-1:], state)
    _, dy = xprnn.losses.SquaredError().value_and_grad(y[:, :1], target[None, :1])
    dy = np.concatenate([dy, np.zeros_like(y[:, 1:])], axis=1)
    late = xprnn.unroll_backward(Elman("identity"), pair, last, dy)
    net = xprnn.RNN(1, 1, cell=Elman("logistic"), bias=False, returns="last", dtype="float64")
    net.parameters = {"weight_ih_l0": pair.W, "weight_hh_l0": pair.U}
    page = diagnostics.inspect_page(
        net, x[:-1], d_output=late.state[0], title="Counting ones: the logistic steps"
    )
    page.save(folder / "logistic_steps.html")
    flow = diagnostics.gradient_flow(net, x[:-1], d_output=late.state[0])
    print(f"the logistic steps: {flow.sentence}")


# %%
def every_sequence(length):
    """Return all binary sequences of a length, (T, 2^T, 1), and their numbers of ones, (2^T, 1)."""
    bits = np.arange(2**length) >> np.arange(length)[:, None] & 1
    x = bits[:, :, None].astype(np.float64)
    return x, x.sum(axis=0)


def train_logistic(x, target, *, start=FAR, steps=400):
    """Train the logistic form with Rprop; return weights, losses and final gradients."""
    weights = {"w_x": np.full((1, 1), start[0]), "w_rec": np.full((1, 1), start[1])}
    state, losses = RPROP.init(weights), []
    for _ in range(steps):
        value, gradients, _ = logistic_loss_and_grad(weights, x, target)
        losses.append(value)
        weights, state = RPROP.update(gradients, state, weights)
    return weights, losses, gradients


def say_what_it_counts(length):
    """Train on all sequences of a length, and print what the network has learned."""
    x, target = every_sequence(length)
    weights, losses, gradients = train_logistic(x, target)
    _, _, y = logistic_loss_and_grad(weights, x, target)
    w_x, w_rec = (w.item() for w in weights.values())
    slope = max(abs(g.item()) for g in gradients.values())
    print(f"\n{length} steps: loss {losses[0]:.4g} -> {losses[-1]:.4f}, gradient {slope:.0e}")
    print(f"  w_x = {w_x:.4f}, w_rec = {w_rec:.4f}")
    print(
        f"  a constant has {length / 8:.4f}; a constant and the last digit {(length - 1) / 8:.4f}"
    )
    right = np.mean(np.round(y) == target)
    print(
        f"  {right:.1%} of all sequences counted right; always saying {length // 2} gives "
        f"{np.mean(target == length // 2):.1%}"
    )
    # How much a one at each step adds to y, on average over all values at the other steps.
    effects = [np.mean(y[x[t, :, 0] == 1]) - np.mean(y[x[t, :, 0] == 0]) for t in range(length)]
    print("  a one adds (last step first):", *(f"{effect:.4f}" for effect in effects[::-1][:5]))
    return weights, losses


# %% [markdown]
# ## All of it


# %%
def main(argv=None):
    parser = argparse.ArgumentParser(description="Two weights learn to count the ones.")
    parser.add_argument("--length", type=int, default=10, help="steps of a sequence")
    parser.add_argument("--sequences", type=int, default=20)
    parser.add_argument("--every", type=int, default=1, help="steps from print to print")
    parser.add_argument("--out", type=Path, default=Path("runs/counting_ones"))
    args = parser.parse_args(argv)
    if args.length < 2:
        parser.error(f"--length is {args.length}: expected at least 2, a last step and one before")
    if args.every < 1:
        parser.error(f"--every is {args.every}: expected at least 1")
    args.out.mkdir(parents=True, exist_ok=True)

    x, target = xprnn.data.count_ones(args.length, args.sequences, rng=0)
    print("|dL/dh(t)| from the first step to the last, in units of the last:")
    for w_rec in (0.5, 1.0, 2.0):
        gradients = state_gradients(counter(0.9, w_rec), x, target)
        print(f"  w_rec = {w_rec:g}:", *(f"{g:.3g}" for g in gradients))
        print(f"    {diagnostics.gradient_flow(counter(0.9, w_rec), x, target).sentence}")
    diagnostics.save_figure(plot_state_gradients(x, target), args.out / "state_gradients.png")

    walks = [
        train("SGD", FAR, x, target, SGD, every=args.every),
        train("SGD, clipped", FAR, x, target, SGD, clip=1.0, every=args.every),
        train("Rprop", FAR, x, target, RPROP, every=args.every),
        train("SGD from nearer", NEAR, x, target, SGD, every=args.every),
    ]
    print("\nall together")
    for walk in walks:
        w_x, w_rec = walk.weights[-1]
        print(f"  {walk.name}: {walk.outcome}, w_x = {w_x:.5f}, w_rec = {w_rec:.5f}")
    picture = args.out / "counting_ones.png"
    diagnostics.save_figure(plot_walks(walks, x, target), picture)
    print(f"picture: {picture}")
    write_pages(x, target, args.out)
    print(f"step by step, in a browser: {args.out}/linear_steps.html and logistic_steps.html")

    trained = counter(*walks[2].weights[-1])
    for length in (12, 100):
        longer = np.ones((length, 1, 1))
        print(f"{length} ones: Rprop's network counts {trained(longer)[0].item():.4f}")

    print("\nthe logistic form: its gradient, at w_x = -1.5, w_rec = 2")
    check_gradient({"w_x": np.full((1, 1), -1.5), "w_rec": np.full((1, 1), 2.0)}, x, target)
    for length in (2, 5, 10):
        say_what_it_counts(length)
    diagnostics.show_pictures(args.out)


if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)
