# %% [markdown]
# # Three tasks that ask for a long memory
#
# - **adding**: the sum of two marked numbers among T
# - **copy**: ten symbols, repeated after T steps
# - **digits**: handwritten digits, read pixel by pixel (scikit-learn's 8x8 pixels, 64 steps)
#
# Each cell trains until it has solved the task on sequences that it has never seen, or until its
# updates or its time are used up.  The page `docs/standard-tasks.md` has results.
#
# As a script: `python examples/standard_tasks.py [--task NAME] [--steps T] [--cells A,B]
# [--hidden N] [--updates N] [--seconds S] [--rate R] [--seed N] [--out FOLDER]`.

# %%
import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np

import xprnn
from xprnn import data, diagnostics
from xprnn.cells import Elman

CELLS = ("elman", "ind_rnn", "gru", "lstm", "slstm", "min_gru")

# %% [markdown]
# ## The tasks
#
# Each draws batches, and says how well a network does: a number, and whether the task is solved.


# %%
class Adding:
    """Solved: a mean squared error below 0.01.  Always to say 1 has 0.167."""

    inputs, outputs, loss, measure = 2, 1, "squared_error", "mean squared error"
    returns, limit, falling = "last", 0.01, True

    def __init__(self, steps, rng):
        self.steps, self.rng = steps, rng
        self.held_out = data.adding(steps, 500, rng=rng)

    def batch(self):
        return data.adding(self.steps, 50, rng=self.rng)

    def score(self, y):
        return float(np.mean((y - self.held_out[1]) ** 2))


class Copy:
    """Solved: 99 % of the symbols are right.  Guessing has 12.5 %."""

    inputs, outputs, loss, measure = 10, 9, "cross_entropy", "share of symbols that are right"
    returns, limit, falling = "sequence", 0.99, False

    def __init__(self, steps, rng):
        self.steps, self.rng = steps, rng
        self.held_out = data.copy_memory(steps, 200, rng=rng)

    def batch(self):
        return data.copy_memory(self.steps, 50, rng=self.rng)

    def score(self, y):
        return float(np.mean(np.argmax(y[-10:], axis=-1) == self.held_out[1][-10:]))


class Digits:
    """Solved: 95 % of 360 digits that were held out are right.  Guessing has 10 %."""

    inputs, outputs, loss, measure = 1, 10, "cross_entropy", "share of digits that are right"
    returns, limit, falling = "last", 0.95, False

    def __init__(self, steps, rng):
        from sklearn.datasets import load_digits

        self.steps = steps
        x, self.target = load_digits(return_X_y=True)
        self.x, self.rng = x.T[..., None] / 16, rng  # (T, B, 1), T = 64
        order = rng.permutation(len(x))
        test, self.train = order[:360], order[360:]
        self.held_out = self.x[:, test], self.target[test]

    def batch(self):
        chosen = self.rng.choice(self.train, 50, replace=False)
        return self.x[:, chosen], self.target[chosen]

    def score(self, y):
        return float(np.mean(np.argmax(y, axis=-1) == self.held_out[1]))


TASKS = {"adding": Adding, "copy": Copy, "digits": Digits}

# %% [markdown]
# ## The networks
#
# Gates that keep the state begin with biases for times up to T (chrono); the Elman cell has
# rectified units and the identity as U (IRNN).  A layer of minGRU can't combine two inputs, because
# its gates don't read the state, so it has two.


# %%
def network(cell, task, hidden, steps, seed):
    initializer, layers = "uniform", 1
    if cell in ("gru", "lstm", "slstm", "min_gru"):
        initializer = f"chrono:{max(2, steps)}"
    if cell == "elman":
        cell = Elman("relu")
        initializer = {"U": "identity", "b": "zeros", "W": "normal:0.001"}
    if cell == "min_gru":
        layers = 2
    return xprnn.RNN(
        task.inputs,
        hidden,
        task.outputs,
        cell=cell,
        layers=layers,
        returns=task.returns,
        initializer=initializer,
        dtype="float32",
        rng=seed,
    )


def train(net, task, args):
    """Return the curve, a list of (updates, score), whether it is solved, and the seconds."""
    adam, started, curve = xprnn.optim.Adam(args.rate), time.perf_counter(), []
    state, asarray = adam.init(net.parameters), net.backend.asarray
    of_integers = task.loss == "cross_entropy"
    solved = False
    for update in itertools.count():
        seconds = time.perf_counter() - started
        out_of_time = seconds > args.seconds
        if update % args.every == 0 or update == args.updates or out_of_time:
            x = task.held_out[0]
            y, _ = net(x if x.dtype.kind == "i" else asarray(x.astype("float32")))
            score = task.score(y)
            curve.append((update, score))
            solved = score < task.limit if task.falling else score >= task.limit
            if solved or out_of_time or update == args.updates:
                break
        x, target = task.batch()
        x = x if x.dtype.kind == "i" else asarray(x.astype("float32"))
        target = target if of_integers else asarray(target.astype("float32"))
        _, gradient = net.value_and_grad(x, target, task.loss)
        clipped, _ = xprnn.optim.clip_by_norm(gradient.parameters, 1.0)
        net.parameters, state = adam.update(clipped, state, net.parameters)
    return curve, solved, seconds


# %% [markdown]
# ## The comparison


# %%
def compare(args):
    found = {}
    print(f"loss {TASKS[args.task].loss}, {args.hidden} units, batches of 50, Adam {args.rate:g}")
    steps = 64 if args.task == "digits" else args.steps
    for cell in args.cells:
        task = TASKS[args.task](steps, np.random.default_rng(args.seed))
        net = network(cell, task, args.hidden, steps, args.seed)
        curve, solved, seconds = train(net, task, args)
        found[cell] = {"curve": curve, "solved": solved, "seconds": round(seconds, 1)}
        last, score = curve[-1]
        said = f"solved after {last} updates" if solved else f"not solved in {last} updates"
        print(f"{args.task}, T = {steps}, {cell}: {said}, {task.measure} {score:.4f}, "
              f"{seconds:.0f} s", flush=True)  # fmt: skip
    return found


def draw(found, args):
    from matplotlib.figure import Figure

    task, figure = TASKS[args.task], Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for k, (cell, result) in enumerate(found.items()):
        updates, scores = zip(*result["curve"], strict=True)
        axes.plot(updates, scores, color=f"C{k}", label=cell)
        if result["solved"]:
            axes.plot(updates[-1], scores[-1], "o", color=f"C{k}")
    axes.axhline(task.limit, color="0.4", ls="--", lw=1, label=f"solved: {task.limit:g}")
    steps = 64 if args.task == "digits" else args.steps
    axes.set(title=f"{args.task}, T = {steps}", xlabel="updates", ylabel=task.measure)
    if task.falling:
        axes.set_yscale("log")
    axes.legend()
    return figure


def positive(kind):
    def read(text):
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text}: expected above 0")
        return value

    return read


def main(argv=None):
    parser = argparse.ArgumentParser(description="Three tasks that ask for a long memory.")
    add = parser.add_argument
    add("--task", choices=TASKS, default="adding")
    add("--steps", type=positive(int), default=100, help="T, of adding and copy (default 100)")
    add("--cells", default=",".join(CELLS), help="which ones, separated by commas")
    add("--hidden", type=positive(int), default=64, help="units in each layer (default 64)")
    add("--updates", type=positive(int), default=5000, help="at most so many (default 5000)")
    add("--seconds", type=positive(float), default=300, help="at most, each cell (default 300)")
    add("--rate", type=positive(float), default=0.005, help="Adam's learning rate (default 0.005)")
    add("--every", type=positive(int), default=50, help="updates between two tests (default 50)")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("standard-tasks"))
    args = parser.parse_args(argv)
    args.cells = args.cells.split(",")
    unknown = [cell for cell in args.cells if cell not in CELLS]
    if unknown:
        parser.error(f"--cells has {unknown[0]!r}: known are {', '.join(CELLS)}")
    if args.task == "adding" and args.steps < 2:
        parser.error("--steps is 1: expected at least 2, one for each mark")
    found = compare(args)
    args.out.mkdir(parents=True, exist_ok=True)
    diagnostics.save_figure(draw(found, args), args.out / f"{args.task}.png")
    (args.out / f"{args.task}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"picture and curves: {args.out}")
    diagnostics.show_pictures(args.out)


if __name__ == "__main__":
    # As a notebook, an adding problem that takes seconds.
    short = ["--steps", "20", "--hidden", "16", "--seconds", "5", "--rate", "0.01"]
    main(short if "get_ipython" in globals() else None)
