# %% [markdown]
# # A recurrent network learns a noisy sine, and what goes wrong with a wrong gradient
#
# x runs from -10 to 10 in steps of 0.1, y = sin x + 0.1·N(0, 1): one sequence of T = 200 steps.
#
#     h(t) = tanh(W_x x(t) + W_h h(t-1) + b)          ŷ(t) = W_y h(t)          L = ½ Σ (ŷ - y)² / T
#
# A lecture builds this network from scratch.  Here it is trained twice, with our own settings and
# with the lecture's, and applied to other x.  The second half takes the gradient that the lecture
# printed, which is wrong for five reasons, repairs them one after another, and trains with it.  The
# page `docs/noisy-sine.md` explains the example.
#
# As a script: `python examples/noisy_sine.py [--epochs N] [--neurons N] [--every N] [--window K]
# [--out FOLDER]`; the lecture's size is `--neurons 500 --epochs 1000 --window 5` (two minutes).

# %%
import argparse
import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

import xprnn
from xprnn import diagnostics

# %% [markdown]
# ## 1. Training
#
# The lecture differentiates the sum of the squared errors and reports their mean, and so does this
# page: every loss that it prints is L.  The lecture has no output bias; the readout of xprnn has
# one, which is zero here and frozen.


# %%
class Settings(NamedTuple):
    """How to train: SGD with momentum and the rate lr / (1 + decay·iteration), on scaled x."""

    learning_rate: float
    initializer: str | xprnn.initializers.Normal
    scale: float = 1.0
    decay: float = 0.0
    momentum: float = 0.95
    clip_norm: float | None = None


# Uniform initial weights in ±1/√n suit an x in ±1; clipping limits the leaps of the gradient.
OURS = Settings(1e-4, "uniform", scale=0.1, clip_norm=200.0)
LECTURE = Settings(1e-5, xprnn.initializers.Normal(0.1))

LOSS = xprnn.losses.SquaredError("sum")
GOAL = 0.040  # the lecture's loss after 1000 epochs
NOISE = 0.005  # the loss of sin x

MISSING = (
    "The arrow that is missing in the gradient that the lecture printed: from each step's error to "
    "its state, y(t) to h(t) on the way back.  Of dh(t) it has only what the step after sends, so "
    "the last step's error alone flows back; here every step adds its own."
)

W_X, W_H, B, W_Y = NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_l0", "readout.weight")
R = "readout.bias"


def new_network(settings, neurons, seed=0):
    """Return a network of the lecture's form, with an output bias of zero."""
    net = xprnn.RNN(1, neurons, 1, initializer=settings.initializer, dtype="float64", rng=seed)
    net.parameters[R] = 0 * net.parameters[R]
    net.metadata["scale"] = settings.scale
    return net


class Freezing(NamedTuple):
    """An optimizer that freezes some parameters, by setting their gradients to zero."""

    optimizer: xprnn.optim.SGD
    frozen: tuple[str, ...]

    def init(self, parameters):
        return self.optimizer.init(parameters)

    def update(self, gradients, state, parameters):
        zeros = {name: 0 * gradients[name] for name in self.frozen}
        return self.optimizer.update({**gradients, **zeros}, state, parameters)


def new_optimizer(settings, frozen=(R,)):
    sgd = xprnn.optim.SGD(settings.learning_rate, momentum=settings.momentum, decay=settings.decay)
    return Freezing(sgd, frozen)


# %%
def train(x, y, settings, *, epochs, neurons, window=None, frozen=(R,), callbacks=()):
    """Train a network with the true gradient; return it and the loss L of every epoch."""
    net = new_network(settings, neurons)
    history = xprnn.fit(
        net,
        (settings.scale * x, y),
        loss=LOSS,
        optimizer=new_optimizer(settings, frozen),
        epochs=epochs,
        window=window,
        clip_norm=settings.clip_norm,
        callbacks=callbacks,
    )
    return net, [loss / len(x) for loss in history.loss]


def apply(net, x):
    """Return ŷ for x of any length and spacing."""
    return net(net.metadata["scale"] * x)[0]


def watch(x, y, every, draw):
    """Return a callback that prints the loss and draws y and ŷ every so many epochs."""

    def look(net, record):
        if record.epoch % every == 0:
            print(f"  epoch {record.epoch}: loss {record.loss / len(x):.4f}")
            title = f"epoch {record.epoch}"
            figure = diagnostics.plot_fit(flat(x), flat(apply(net, x)), data=flat(y), title=title)
            draw(f"fit_{record.epoch:04d}.png", figure)

    return look


def flat(a):
    """Return one sequence of one variable, (T, 1, 1), as (T,)."""
    return a[:, 0, 0]


def outcome(losses):
    """Say when a loss reached the goal, and where it ended."""
    reached = next((k for k, loss in enumerate(losses, start=1) if loss <= GOAL), None)
    when = f"not in {len(losses)} epochs" if reached is None else f"in {reached} epochs"
    return f"loss {GOAL:.3f} {when}, at the end {losses[-1]:.4f}"


# %% [markdown]
# ## 2. The gradient as it was printed
#
# This is backpropagation through time, one step after another.  With δ(t), the gradient of the
# argument of tanh, and e = ŷ - y, the true gradient is
#
#     dh(T) = W_yᵀ e(T)                 δ(t) = (1 - h(t)²) dh(t)
#     dh(t-1) = W_hᵀ δ(t) + W_yᵀ e(t-1)
#     dW_x = Σ δ(t) x(t)    dW_h = Σ δ(t) h(t-1)ᵀ    db = Σ δ(t)    dW_y = Σ e(t) h(t)ᵀ
#
# The printed gradient is wrong for five reasons.  The function below has all of them, except those
# whose numbers are in `repaired`.

# %%
CAUSES = {
    1: "one activation object for all steps: every derivative is the last step's",
    2: "the errors of all steps but the last never reach the state",
    3: "W_h is not transposed on the way back",
    4: "the outer product for dW_h is transposed",
    5: "the bias is updated by itself, not by its gradient",
}
ALL = frozenset(CAUSES)


def lecture_gradient(parameters, x, y, repaired=frozenset(), reached=None):
    """Return the loss L·T and its gradient as printed, with some of the five causes repaired.

    A list ``reached`` gets dh(t) of every step, from the last to the first.
    """
    W_x, W_h, b, W_y = (parameters[name] for name in NAMES)
    x, y, T = flat(x), flat(y), len(x)

    h = [np.zeros_like(b)]  # h[0] is the state before the first step
    for t in range(T):
        h.append(np.tanh(W_x[:, 0] * x[t] + W_h @ h[t] + b))
    e = np.array([W_y[0] @ h[t + 1] - y[t] for t in range(T)])

    dW_x, dW_h, db, dW_y = (np.zeros_like(parameters[name]) for name in NAMES)
    dh = W_y[0] * e[-1]
    for t in reversed(range(T)):
        if reached is not None:
            reached.append(dh)
        activated = h[t + 1] if 1 in repaired else h[T]
        delta = (1 - activated**2) * dh
        dW_x[:, 0] += delta * x[t]
        dW_h += np.outer(delta, h[t]) if 4 in repaired else np.outer(h[t], delta)
        db += delta
        dW_y += e[t] * h[t + 1]
        dh = W_h.T @ delta if 3 in repaired else W_h @ delta
        if 2 in repaired and t > 0:
            dh = dh + W_y[0] * e[t - 1]
    if 5 not in repaired:
        db = b

    gradients = {W_X: dW_x, W_H: dW_h, B: db, W_Y: dW_y, R: np.zeros(1)}
    return 0.5 * float(e @ e), gradients


# %% [markdown]
# ## 3. How wrong is it?
#
# The measure is the cosine of the angle between a gradient and the true one, for each weight and
# for all together: 1 is the same direction, 0 is a right angle.  It says nothing about lengths.


# %%
def cosine(a, b):
    a, b = np.ravel(a), np.ravel(b)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def cosines(net, x, y, repaired):
    """Return the cosines for W_x, W_h, b, W_y and for all of them joined."""
    _, gradient = net.value_and_grad(x, y, LOSS)
    true = [gradient.parameters[name] for name in NAMES]
    _, gradients = lecture_gradient(net.parameters, x, y, repaired)
    printed = [gradients[name] for name in NAMES]
    joined = [np.concatenate([np.ravel(part) for part in parts]) for parts in (printed, true)]
    return [cosine(a, b) for a, b in zip(printed, true, strict=True)] + [cosine(*joined)]


# %% [markdown]
# The networks have 8 neurons, the data 20 steps, x = -10, -9, ..., 9; weights and noise differ from
# network to network.  The bias is repaired first, because it affects nothing else.  The four others
# follow in an order in which the median of the cosine for W_h never falls.

# %%
ORDER = (5, 4, 2, 1, 3)
STAGES = [frozenset(ORDER[:count]) for count in range(len(ORDER) + 1)]
LABELS = (
    "as printed",
    "+ 5 bias",
    "+ 4 outer product",
    "+ 2 errors",
    "+ 1 derivatives",
    "+ 3 transpose",
)


def problem(seed, neurons=8, step=1.0):
    """Return a new network with the lecture's weights, x and y."""
    return new_network(LECTURE, neurons, seed), *xprnn.data.sine(step=step, rng=seed)


def study(networks=20):
    """Return the first network's cosines, (stages, 5), and W_h's in all, (stages, networks)."""
    problems = [problem(seed) for seed in range(networks)]
    first = np.array([cosines(*problems[0], stage) for stage in STAGES])
    spread = np.array([[cosines(*p, stage)[1] for p in problems] for stage in STAGES])
    return first, spread


def table(first, spread):
    """Return the study as lines of text."""
    lines = [
        f"{'repaired':18}{'W_x':>7}{'W_h':>7}{'b':>7}{'W_y':>7}{'all':>7}   W_h: median, range"
    ]
    for label, row, many in zip(LABELS, first, spread, strict=True):
        numbers = "".join(f"{c:7.3f}" for c in row)
        middle, low, high = np.median(many), many.min(), many.max()
        lines.append(f"{label:18}{numbers}   {middle:6.3f}  {low:6.3f} to {high:5.3f}")
    return lines


def keeping(spread):
    """Return the number of networks whose cosine never falls from stage to stage."""
    return int(np.sum(np.all(np.diff(spread, axis=0) > -1e-9, axis=0)))


def count_orders(networks=20):
    """Try every order of repairs, and look at the cosine for W_h.

    Return the number of orders in which its median never falls, and the largest number of networks
    in which it never falls in the same order.
    """
    problems = [problem(seed) for seed in range(networks)]
    subsets = [frozenset(s) for k in range(6) for s in itertools.combinations(CAUSES, k)]
    at = {s: np.array([cosines(*p, s)[1] for p in problems]) for s in (*subsets, ALL)}
    rising, most = 0, 0
    for order in itertools.permutations(CAUSES):
        values = np.array([at[frozenset(order[:count])] for count in range(6)])
        rising += bool(np.all(np.diff(np.median(values, axis=1)) > -1e-9))
        most = max(most, keeping(values))
    return rising, most


# %% [markdown]
# ### Which arrow is missing
#
# ‖dh(t)‖ of the true gradient, and with one cause at a time left in.  4 and 5 don't touch it.
# Cause 2 is a missing arrow, that from each step's error to its state: what is left comes from the
# last step alone, and fades.  1 and 3 are wrong factors on the arrow from a step to the one before.


# %%
def plot_arrows(net, x, y):
    """Draw the true ‖dh(t)‖, that with each cause that touches it, and that of all together."""
    flow = diagnostics.gradient_flow(net, x, y, loss=LOSS)
    stages = {
        "only 2: no errors but the last": ALL - {2},
        "only 1: one derivative for all": ALL - {1},
        "only 3: W_h not transposed": ALL - {3},
        "as printed": frozenset(),
    }
    rows = [flow.norms[0]]
    for repaired in stages.values():
        reached = []
        lecture_gradient(net.parameters, x, y, repaired, reached)
        rows.append(np.linalg.norm(reached[::-1], axis=1))
    names = ("the true flow", *stages)
    print("‖dh(t)‖ at the first step, over the true one:")
    for name, row in zip(names[1:], rows[1:], strict=True):
        print(f"  {name}: {row[0] / rows[0][0]:.3g}")
    return diagnostics.plot_flow(flow._replace(names=names, norms=np.array(rows)))


# %% [markdown]
# ## 4. Training with it
#
# The network, the optimizer and the number of epochs are the same as with the true gradient.  For
# comparison, a third training updates the readout alone and freezes all recurrent weights: the
# printed gradient of W_y is right, so this shows what the wrong gradients of the others add.


# %%
def train_as_printed(x, y, settings, *, epochs, neurons):
    """Train like `train`, but with the printed gradient; return the loss L of every epoch."""
    net, optimizer = new_network(settings, neurons), new_optimizer(settings)
    state, losses = optimizer.init(net.parameters), []
    for _ in range(epochs):
        loss, gradients = lecture_gradient(net.parameters, settings.scale * x, y)
        net.parameters, state = optimizer.update(gradients, state, net.parameters)
        losses.append(loss / len(x))
    return losses


# %% [markdown]
# ## 5. Two pictures


# %%
def plot_cosines(first, spread):
    """Draw the cosines: of the first network, and of W_h in all networks."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    stages = range(len(LABELS))
    names = ("W_x", "W_h", "b", "W_y", "all together")
    looks = ("s-", "o-", "^-", "v--", "D:")
    colors = ("#e08e1a", "#0b6fb8", "#2a9d5c", "0.6", "#d1495b")
    for name, column, look, color in zip(names, first.T, looks, colors, strict=True):
        left.plot(stages, column, look, color=color, lw=1.8, ms=5, label=name, clip_on=False)
    left.set_title("one network of 8 neurons, 20 steps")
    left.set_ylabel("cosine with the true gradient")
    lines = right.plot(stages, spread, color="0.75", lw=0.8)
    lines[0].set_label("each network")
    right.plot(stages, np.median(spread, axis=1), "o-", color=colors[1], lw=2.2, label="median")
    right.set_title(f"W_h in {spread.shape[1]} networks")
    for axes in (left, right):
        axes.axhline(0, color="0.85", lw=0.8, zorder=0)
        axes.set_xticks(stages, LABELS, rotation=30, ha="right")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower right")
    return figure


def plot_trainings(trainings):
    """Draw losses over epochs on a logarithmic scale, by name."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    axes = figure.subplots()
    looks = (("#0b6fb8", "-"), ("#d1495b", "-"), ("#e08e1a", "--"))
    for (name, losses), (color, line) in zip(trainings.items(), looks, strict=True):
        axes.semilogy(range(1, len(losses) + 1), losses, line, color=color, lw=1.6, label=name)
    axes.axhline(GOAL, color="0.2", lw=1, ls="--", label=f"the lecture's end, {GOAL:.3f}")
    axes.axhline(NOISE, color="0.2", lw=1, ls=":", label=f"the noise alone, {NOISE:.3f}")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
    return figure


# %% [markdown]
# ## 6. All of it


# %%
def main(argv=None):
    parser = argparse.ArgumentParser(description="A recurrent network learns a noisy sine.")
    parser.add_argument("--epochs", type=int, default=600, help="the lecture took 1000")
    parser.add_argument("--neurons", type=int, default=100, help="the lecture took 500 to 800")
    parser.add_argument("--every", type=int, default=100, help="epochs from picture to picture")
    parser.add_argument("--window", type=int, help="with the lecture's settings: steps back")
    parser.add_argument("--out", type=Path, default=Path("runs/noisy_sine"))
    args = parser.parse_args(argv)
    if args.every < 1:
        parser.error(f"--every is {args.every}: expected at least 1")
    args.out.mkdir(parents=True, exist_ok=True)
    size = {"epochs": args.epochs, "neurons": args.neurons}

    def draw(name, figure):
        diagnostics.save_figure(figure, args.out / name)

    x, y = xprnn.data.sine(rng=0)
    print(f"training {args.neurons} neurons for {args.epochs} epochs, our settings ...")
    net, losses = train(x, y, OURS, **size, callbacks=[watch(x, y, args.every, draw)])
    print(outcome(losses))
    draw("fit.png", diagnostics.plot_fit(flat(x), flat(apply(net, x)), data=flat(y)))
    draw("loss.png", diagnostics.plot_loss(losses, floor=NOISE))
    states = net.forward(OURS.scale * x).tape.h[:, 0, :]
    draw("states.png", diagnostics.plot_states(states, x=flat(x), xlabel="x"))
    page = diagnostics.inspect_page(
        net, OURS.scale * x, y, title="The true gradient, step by step", notes=[MISSING]
    )
    page.save(args.out / "steps.html")
    print(diagnostics.gradient_flow(net, OURS.scale * x, y).sentence)
    print(f"the true gradient, step by step, in a browser: {args.out / 'steps.html'}")

    # The last step of the lecture: other x, three times as far apart, half of them not trained on.
    other = np.arange(0, 20, 0.3).reshape(-1, 1, 1)
    fitted, truth = flat(apply(net, other)), flat(np.sin(other))
    draw(
        "other_x.png",
        diagnostics.plot_fit(flat(other), fitted, truth=truth, trained=(-10, 10)),
    )

    print("\nthe printed gradient's cosine with the true one: a network of 8 neurons, 20 steps")
    first, spread = study()
    print(*table(first, spread), sep="\n")
    rising, most = count_orders()
    print(
        f"in {rising} of the 120 orders of repair the median for W_h never falls; in none do more"
    )
    print(
        f"than {most} of the {spread.shape[1]} networks keep to that, in this one {keeping(spread)}"
    )
    large = problem(0, args.neurons, step=0.1)
    row = ", ".join(f"{cosines(*large, stage)[1]:.3f}" for stage in STAGES)
    print(f"W_h, {args.neurons} neurons, 200 steps: {row}")
    draw("gradient_cosines.png", plot_cosines(first, spread))
    draw("arrows.png", plot_arrows(*problem(0)))

    print(f"\ntraining {args.neurons} neurons for {args.epochs} epochs, the lecture's settings ...")
    readout_only = (W_X, W_H, B, R)
    trainings = {
        "true gradient": train(x, y, LECTURE, **size, window=args.window)[1],
        "printed gradient": train_as_printed(x, y, LECTURE, **size),
        "readout alone": train(x, y, LECTURE, **size, frozen=readout_only)[1],
    }
    for name, curve in trainings.items():
        print(f"  {name}: {outcome(curve)}")
    draw("trainings.png", plot_trainings(trainings))
    print(f"pictures: {args.out}")
    diagnostics.show_pictures(args.out)


if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)  # a notebook has no arguments of its own
