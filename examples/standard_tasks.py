# %% [markdown]
# # Three tasks that ask for a long memory
#
# - **adding**: the sum of two marked numbers among T
# - **copy**: ten symbols, repeated after T steps
# - **digits**: handwritten digits, read pixel by pixel (scikit-learn's 8x8 pixels, 64 steps)
#
# Each cell trains until it has solved the task on sequences that it has never seen, or its updates
# are used up.  The page `docs/standard-tasks.md` has results.
#
# As a script: `python examples/standard_tasks.py [--task NAME] [--steps T,T,...] [--cells A,B]
# [--hidden N] [--updates N] [--seconds S] [--every N] [--seed N] [--out FOLDER] [--resume]`.

# %%
import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

import xprnn
from xprnn import data, diagnostics
from xprnn.cells import Elman
from xprnn.optim import Adam, ParameterGroups, RMSprop

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
STEPS = {"adding": (100, 200, 400, 750), "copy": (100, 200, 400, 750), "digits": (64,)}

# %% [markdown]
# ## How each cell is trained
#
# What decides is where the network starts.  The ideas and their sources:
#
# - **Chrono** biases let gates keep the state for up to T steps (Tallec and Ollivier 2018).
# - **IRNN**: rectified units and the identity as U add up what comes in (Le et al. 2015).
# - **IndRNN**: the last layer's recurrent weights w begin where |w| to the power of T is between
#   1/2 and 2, and are kept below that (Li et al. 2018; the authors' code).
# - **A rotation**: a linear network with an orthogonal U turns its state and forgets nothing, so
#   the readout finds the symbols of T steps ago; U itself must hardly move (Henaff, Szlam and LeCun
#   2016; slow learning of orthogonal matrices: Lezcano-Casado and Martínez-Rubio 2019).
# - **Open gates**: GRU, LSTM and sLSTM are such a network, too, while their gates let everything
#   through and tanh gets small numbers.
# - **Layers**: gates that don't read the state can't combine two inputs; those of the next layer
#   can (Feng et al. 2024).


# %%
class Setting(NamedTuple):
    """A network and how it is trained."""

    cell: str | Elman
    optimizer: object
    layers: int = 1
    hidden: int = 64
    initializer: str | Mapping[str, str] = "uniform"
    gate_biases: tuple[float, ...] = ()
    """Of the first layer, one for each gate; empty: as the initializer draws them."""
    goes_on: bool = False
    """Whether the network that has solved one length goes on with the next (a curriculum)."""


@dataclass(frozen=True)
class Bounded:
    """An optimizer after which the recurrent weights of an IndRNN are clipped to ±bound."""

    inner: Adam
    bound: float

    def init(self, parameters):
        return self.inner.init(parameters)

    def update(self, gradients, state, parameters):
        parameters, state = self.inner.update(gradients, state, parameters)
        for name, w in parameters.items():
            if name.startswith("recurrent_weight"):
                parameters[name] = np.clip(w, -self.bound, self.bound)
        return parameters, state


def adding(steps, longest):
    """Return the settings; all networks go on from one length to the next, up to the longest."""
    gated, chrono = Adam(0.005), f"chrono:{max(2, longest)}"
    irnn = {"U": "identity", "b": "zeros"}
    small = {"W": "normal:0.01", "b": "zeros"}
    settings = {
        "elman": Setting(Elman("relu"), Adam(min(0.001, 0.1 / steps)), 1, 100, irnn),
        "ind_rnn": Setting("ind_rnn", Bounded(Adam(0.002), 2 ** (1 / longest)), 2, 64, small),
        "gru": Setting("gru", gated, initializer=chrono),
        "lstm": Setting("lstm", gated, initializer=chrono),
        "slstm": Setting("slstm", gated, initializer=chrono),
        "min_gru": Setting("min_gru", gated, 2, initializer=chrono),
    }
    return {cell: setting._replace(goes_on=True) for cell, setting in settings.items()}


def copy(steps, longest):
    """Return the settings; every length has a network of its own."""
    del longest
    slow = RMSprop(0.001 / steps)
    linear = ParameterGroups({"weight_hh*": slow}, RMSprop(0.001))
    open_ = ParameterGroups({"weight_hh*": slow, "readout.*": RMSprop(0.1)}, RMSprop(0.0001))
    turn = {"U": "orthogonal", "b": "zeros"}
    small = {**turn, "W": "normal:0.01"}
    of_gru = {**small, "bias_hn": "zeros"}
    falling = xprnn.optim.schedules.step(0.003, 7000, 0.2)
    return {
        "elman": Setting(Elman("identity"), linear, 1, 128, turn),
        "ind_rnn": Setting("ind_rnn", Bounded(Adam(0.002), 2 ** (1 / steps)), 3, 128),
        "gru": Setting("gru", open_, 1, 128, of_gru, (10, -10, 0)),  # r, z, n
        "lstm": Setting("lstm", open_, 1, 128, small, (10, -10, 0, 10)),  # i, f, g, o
        "slstm": Setting("slstm", open_, 1, 128, small, (0, -10, 0, 10)),  # i, f, z, o
        "min_gru": Setting("min_gru", Adam(falling), 3, 128),
    }


def digits(steps, longest):
    """Return the settings."""
    del longest
    gated, chrono = Adam(0.003), f"chrono:{steps}"
    return {
        "elman": Setting(Elman("tanh"), Adam(0.001), 1, 128, {"U": "orthogonal", "b": "zeros"}),
        "ind_rnn": Setting("ind_rnn", Bounded(Adam(0.002), 2 ** (1 / steps)), 3, 128),
        "gru": Setting("gru", gated, initializer=chrono),
        "lstm": Setting("lstm", gated, initializer=chrono),
        "slstm": Setting("slstm", gated, initializer=chrono),
        "min_gru": Setting("min_gru", gated, 3, initializer=chrono),
    }


SETTINGS = {"adding": adding, "copy": copy, "digits": digits}


def network(setting, task, hidden, seed):
    """Return a new network."""
    net = xprnn.RNN(
        task.inputs,
        hidden or setting.hidden,
        task.outputs,
        cell=setting.cell,
        layers=setting.layers,
        returns=task.returns,
        initializer=setting.initializer,
        dtype="float32",
        rng=seed,
    )
    if setting.gate_biases:
        biases = np.array(setting.gate_biases, dtype="float32")
        net.parameters["bias_l0"] = np.repeat(biases, net.hidden_size)
    if setting.cell == "ind_rnn" and task.returns == "last":
        # The readout sees the last step alone, so the layer below it must remember all others.
        bound, rng = setting.optimizer.bound, np.random.default_rng(seed)
        top = f"recurrent_weight_l{setting.layers - 1}"
        net.parameters[top] = rng.uniform(1 / bound, bound, net.hidden_size)
    return net


# %% [markdown]
# ## The training
#
# An epoch is so many batches that are drawn when they are needed, and then a test.  The checkpoint
# that `fit` writes holds the curve as well, because `Progress` has the methods `state` and
# `restore`.


# %%
@dataclass
class Progress:
    """A callback that tests the network, and stops when the task is solved."""

    task: Adding | Copy | Digits
    every: int
    deadline: float
    time_is_up: bool = False
    curve: list[list[float]] = field(default_factory=list)  # updates, score
    seconds: float = 0.0  # of processor time, with those before a resumed training
    started: float = field(default_factory=time.process_time)

    @property
    def solved(self):
        score, limit = self.curve[-1][1], self.task.limit
        return score < limit if self.task.falling else score >= limit

    def test(self, net, updates):
        x = self.task.held_out[0]
        y, _ = net(x if x.dtype.kind == "i" else x.astype("float32"))
        self.curve.append([updates, self.task.score(y)])
        return self.solved

    def __call__(self, net, record):
        # Not asked before: a training in short pieces makes one epoch at least in each.
        self.time_is_up = time.perf_counter() > self.deadline
        return self.test(net, record.epoch * self.every)

    def state(self):
        return {"curve": list(self.curve), "seconds": self.all_seconds()}

    def restore(self, state):
        self.curve, self.seconds = state["curve"], state["seconds"]
        self.started = time.process_time()

    def all_seconds(self):
        return self.seconds + time.process_time() - self.started


class Drawn:
    """The batches of an epoch, new ones every time; when time is up, no further epoch begins."""

    def __init__(self, progress):
        self.task, self.count, self.progress = progress.task, progress.every, progress

    def __len__(self):
        return self.count

    def __iter__(self):
        if self.progress.time_is_up:
            raise KeyboardInterrupt  # as Ctrl-C: the checkpoint is written, and can be resumed
        return (self.task.batch() for _ in range(self.count))

    def state(self):
        return dict(self.task.rng.bit_generator.state)

    def restore(self, state):
        self.task.rng.bit_generator.state = state


def train(net, setting, progress, args, name):
    """Train until the task is solved; return how it ended."""
    try:
        if progress.test(net, 0):
            return "solved"
        xprnn.fit(
            net,
            Drawn(progress),
            loss=progress.task.loss,
            optimizer=setting.optimizer,
            epochs=-(-args.updates // args.every),
            clip_norm=1.0,
            callbacks=[progress],
            checkpoint=xprnn.Checkpoint(args.out / "checkpoints" / name, resume=args.resume),
        )
    except xprnn.NonFiniteLossError:
        return "infinite"
    except KeyboardInterrupt:
        return "stopped"
    return "solved" if progress.solved else "not solved"


# %% [markdown]
# ## The comparison


# %%
def compare(args):
    """Return a list of results for each cell, one for each length until one isn't solved."""
    found = {}
    print(f"loss {TASKS[args.task].loss}, batches of 50, gradients clipped at norm 1, float32")
    for cell in args.cells:
        net, total, found[cell] = None, 0, []
        for steps in args.steps:
            task = TASKS[args.task](steps, np.random.default_rng(args.seed))
            setting = SETTINGS[args.task](steps, args.steps[-1])[cell]
            if net is None or not setting.goes_on:
                net, total = network(setting, task, args.hidden, args.seed), 0
            progress = Progress(task, args.every, args.deadline)
            end = train(net, setting, progress, args, f"{args.task}-{cell}-{steps}.ckpt")
            updates, score = progress.curve[-1]
            seconds, total = round(progress.all_seconds(), 1), total + updates
            found[cell].append(
                {"steps": steps, "solved": end == "solved", "seconds": seconds, "end": end}
                | {"updates": updates, "total": total, "curve": progress.curve}
                | {"setting": str(setting)}
            )
            more = f"{updates} more" if total > updates else str(updates)
            print(f"{args.task}, T = {steps}, {cell}: {ENDS[end].format(more)}, "
                  f"{task.measure} {score:.4f}, {seconds:.0f} s", flush=True)  # fmt: skip
            if end == "stopped":
                return found
            if end != "solved":
                break
    return found


ENDS = {
    "solved": "solved after {} updates",
    "not solved": "not solved in {} updates",
    "infinite": "the loss became infinite after {} updates",
    "stopped": "stopped after {} updates, --resume goes on",
}

# %% [markdown]
# The picture tells the cells apart without their colours, too: by markers and dashes.

# %%
LOOKS = dict(
    zip(
        CELLS,
        (
            ("#000000", "o", "-"),
            ("#e69f00", "s", "--"),
            ("#0072b2", "^", "-."),
            ("#d55e00", "D", ":"),
            ("#009e73", "v", (0, (6, 1, 1, 1, 1, 1))),
            ("#cc79a7", "P", (0, (8, 3))),
        ),
        strict=True,
    )
)


def draw(found, args):
    """Draw the score over updates at the first length, and the updates over the length."""
    from matplotlib.figure import Figure

    task, panels = TASKS[args.task], 1 + (len(args.steps) > 1)
    figure = Figure(figsize=(5 * panels + 2, 4.5), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for cell, results in found.items():
        color, marker, dashes = LOOKS[cell]
        # Without the untrained network, unless that is all there is.
        updates, scores = zip(*(results[0]["curve"][1:] or results[0]["curve"]), strict=True)
        look = {"color": color, "marker": marker, "ls": dashes, "label": cell}
        full = color if results[0]["solved"] else "white"
        axes[0].plot(updates, scores, markevery=[-1], mfc=full, **look)
    axes[0].axhline(task.limit, color="0.5", lw=1, zorder=0)
    # Where no curve is: many end at the limit early in copying, late in the other tasks.
    side, at = ("right", 0.99) if args.task == "copy" else ("left", 0.01)
    axes[0].text(at, task.limit, f"solved: {task.limit:g}", color="0.35", size=9, va="bottom",
                 ha=side, transform=axes[0].get_yaxis_transform())  # fmt: skip
    axes[0].set(title=f"{args.task}, T = {args.steps[0]}", xlabel="updates", ylabel=task.measure)
    axes[0].set_xscale("log")
    _plain_numbers(axes[0].xaxis)
    if task.falling:
        axes[0].set_yscale("log")
    solved = all(result["solved"] for results in found.values() for result in results)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", handlelength=4,
                  title=None if solved else "hollow marker:\nnot solved")  # fmt: skip
    if panels == 2:
        _draw_lengths(axes[1], found, args)
    return figure


def _draw_lengths(axes, found, args):
    """Draw how many updates each length took, with those of shorter ones if a network goes on."""
    for k, (cell, results) in enumerate(found.items()):
        color, marker, dashes = LOOKS[cell]
        updates = [result["total"] for result in results]
        # Side by side, where cells took the same number of updates.
        steps = [result["steps"] * 1.025 ** (k - len(found) / 2) for result in results]
        axes.plot(steps, updates, color=color, ls=dashes, lw=1)
        for at, count, result in zip(steps, updates, results, strict=True):
            axes.plot(at, count, marker, color=color, mfc=color if result["solved"] else "white")
    axes.set(xscale="log", yscale="log", xlabel="T", ylabel="updates")
    _plain_numbers(axes.yaxis)
    which = "" if args.task == "copy" else ", all lengths up to T"
    axes.set(title=f"updates until solved{which}")
    axes.set_xticks(args.steps, [str(steps) for steps in args.steps])
    axes.set_xticks([], minor=True)


def _plain_numbers(axis):
    """Write 100, 200, 500 in place of powers of ten."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_tick_params(labelsize=9)
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))


# %%
def positive(kind):
    def read(text):
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text}: expected above 0")
        return value

    read.__name__ = kind.__name__  # which argparse's message has
    return read


def seed(text):
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"{text}: expected 0 or more")
    return int(text)


def parsed(argv):
    """Return the arguments, checked."""
    parser = argparse.ArgumentParser(description="Three tasks that ask for a long memory.")
    add = parser.add_argument
    add("--task", choices=TASKS, default="adding", help="default: adding")
    add("--steps", help="lengths T, rising, separated by commas (default: 100,200,400,750)")
    add("--cells", default=",".join(CELLS), help="which ones, separated by commas")
    add("--hidden", type=positive(int), help="units in each layer (default: the cell's setting)")
    add(
        "--updates",
        type=positive(int),
        default=10000,
        help="at most, rounded up to --every (default 10000)",
    )
    add("--seconds", type=positive(float), help="stop after this time; --resume goes on")
    add("--every", type=positive(int), default=50, help="updates between two tests (default 50)")
    add("--seed", type=seed, default=0, help="of weights and data (default 0)")
    add("--out", type=Path, default=Path("standard-tasks"), help="folder (default standard-tasks)")
    add("--resume", action="store_true", help="go on from the checkpoints in the folder --out")
    args = parser.parse_args(argv)
    args.cells = args.cells.split(",")
    unknown = [cell for cell in args.cells if cell not in CELLS]
    if unknown:
        parser.error(f"--cells has {unknown[0]!r}: known are {', '.join(CELLS)}")
    if args.task == "digits" and args.steps:
        parser.error("--steps: the digits have 64 pixels, so their length can't be chosen")
    try:
        steps = [int(text) for text in args.steps.split(",")] if args.steps else STEPS[args.task]
    except ValueError:
        parser.error(f"--steps is {args.steps!r}: expected numbers such as 100,200")
    least = 2 if args.task == "adding" else 1
    if min(steps) < least or sorted(set(steps)) != list(steps):
        parser.error(f"--steps is {args.steps}: expected rising numbers, from {least}")
    args.steps = steps
    args.deadline = time.perf_counter() + (args.seconds or float("inf"))
    if not args.resume and any((args.out / "checkpoints").glob(f"{args.task}-*.ckpt")):
        parser.error(f"{args.out} has checkpoints of an earlier run: --resume goes on from them, "
                     "another --out begins anew")  # fmt: skip
    return args


def main(argv=None):
    args = parsed(argv)
    (args.out / "checkpoints").mkdir(parents=True, exist_ok=True)
    try:
        found = compare(args)
    except ValueError as error:
        if not args.resume:
            raise
        raise SystemExit(f"{error}\nanother --out begins anew") from None
    diagnostics.save_figure(draw(found, args), args.out / f"{args.task}.png")
    (args.out / f"{args.task}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"picture and curves: {args.out}")
    diagnostics.show_pictures(args.out)


if __name__ == "__main__":
    # As a notebook, an adding problem that takes seconds.
    short = ["--steps", "20,40", "--seconds", "20", "--resume"]
    main(short if "get_ipython" in globals() else None)
