"""``xprnn train sine``: the lecture's problem."""

import argparse
import shlex
from dataclasses import replace

from xprnn import checks, diagnostics
from xprnn.backend import get_backend
from xprnn.backend.host.arrays import HostArray, generator, np
from xprnn.backend.host.threads import blas_threads
from xprnn.backend.types import Array
from xprnn.cli.common import check_extras, results_folder, say_written
from xprnn.cli.train.options import (
    check_window_option,
    network,
    network_options,
    optimizer,
    optimizer_options,
    rate_scale,
)
from xprnn.cli.train.session import (
    HISTORY,
    MODEL,
    Ending,
    Progress,
    check_training,
    checkpoints,
    saved,
    training_options,
)
from xprnn.data import sine
from xprnn.engine.network import RNN
from xprnn.optim import SGD
from xprnn.training.evaluation import evaluate
from xprnn.training.fit import fit
from xprnn.training.history import History

TASK = "sine"
HELP = "fit a noisy sine, y = sin x + noise"
DESCRIPTION = """\
Fit a noisy sine: x from -10 to 10 in steps of 0.1, y = sin x + 0.1·N(0, 1), one sequence of 200
steps; loss ½·mean((ŷ-y)²).  Writes the model, the history and three pictures."""
EXAMPLE = """\
examples:
  xprnn train sine
  xprnn train sine --hidden 500 --seed 7 --out my-run"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    network_options(parser, hidden=100, bidirectional=True)
    optimizer_options(parser, lr=0.02, momentum=0.95, schedule="constant")
    training_options(parser)
    parser.add_argument("--epochs", type=int, default=600, help="updates (default 600)")
    parser.add_argument(
        "--decay", type=float, default=0.0, help="of sgd's learning rate (default 0)"
    )
    parser.add_argument(
        "--window", type=int, help="every loss reaches back this many steps (default: all)"
    )
    parser.add_argument("--noise", type=float, default=0.1, help="deviation (default 0.1)")


def run(args: argparse.Namespace) -> int:
    """Train, write, tell."""
    check_extras()
    check_training(args)
    checks.number("--decay", args.decay)
    if args.decay and args.optimizer != "sgd":
        raise ValueError(f"--decay is of sgd, and --optimizer is {args.optimizer}")
    check_window_option(args)
    checks.number("--noise", args.noise)
    backend = get_backend(args.backend, dtype=args.dtype)
    rng = generator(args.seed)
    x, y = sine(noise=args.noise, rng=rng)
    # Scaled to ±1: the uniform initial weights are made for inputs of that size.
    scale = 1 / float(np.max(np.abs(x)))
    net = RNN(1, args.hidden, 1, **network(args), backend=backend, rng=rng)
    net.metadata = {
        "task": TASK,
        "input_scale": scale,
        "trained_from": float(x[0, 0, 0]),
        "trained_to": float(x[-1, 0, 0]),
        "seed": args.seed,
    }
    chosen = optimizer(args, args.epochs)
    if isinstance(chosen, SGD):
        chosen = replace(chosen, decay=args.decay)
    (checkpoint,) = checkpoints(args)
    folder = results_folder(args.out, "sine")
    data = backend.asarray(x * scale), backend.asarray(y)
    with (
        Ending(args.checkpoint) as ending,
        Progress(args.epochs) as progress,
        blas_threads(args.threads),
    ):
        history = fit(
            net,
            data,
            optimizer=chosen,
            epochs=args.epochs,
            window=args.window,
            clip_norm=args.clip,
            rate_scale=rate_scale(args),
            # On its own data: nothing is to be generalised here, but the loss of a network near the
            # edge of stability leaps now and then, and the last epoch may be such a one.
            validation=data,
            patience=args.epochs,
            callbacks=[progress],
            checkpoint=checkpoint,
        )
        ending.histories.append(history)
    (history,) = ending.histories
    net.save(folder / MODEL)
    history.save(folder / HISTORY)
    floor = 0.5 * args.noise**2
    with saved(folder / MODEL):
        pictures = _pictures(net, x, y, data[0], history, floor)
        for name, figure in pictures.items():
            diagnostics.save_figure(figure, folder / name)
        print(
            f"trained {len(history)} epochs in {history.seconds:.1f} s on {backend.name} "
            f"({backend.device}, {backend.dtype_name}), seed {args.seed}\n"
            f"loss ½·mean((ŷ-y)²): {evaluate(net, data):#.3g} (the noise alone: {floor:#.3g})"
        )
        apply = shlex.join(("xprnn", "apply", str(folder / MODEL)))
        files = {
            MODEL: f"the network; next: {apply} --from 0 --to 20 --step 0.3",
            HISTORY: "the loss of every epoch, JSON lines",
            "fit.png": "y and ŷ",
            "loss.png": "the loss over epochs, log scale",
            "states.png": "the states of the first 20 neurons over time",
        }
        made = {MODEL, HISTORY, *pictures}
        say_written(folder, {name: what for name, what in files.items() if name in made})
    return ending.status(folder / MODEL)


def _pictures(
    net: RNN, x: HostArray, y: HostArray, scaled: Array, history: History, floor: float
) -> dict[str, diagnostics.Figure]:
    """Return the figures by file name; none of the loss if no epoch was completed."""
    run, line = net.forward(scaled), x[:, 0, 0]
    states = net.backend.to_numpy(run.tape.h)[:, 0, :]
    figures = {
        "fit.png": diagnostics.plot_fit(
            line,
            net.backend.to_numpy(run.output)[:, 0, 0],
            data=y[:, 0, 0],
            truth=np.sin(line),
            title=f"A noisy sine and a network of {net.hidden_size} neurons",
        ),
        "states.png": diagnostics.plot_states(states, x=line, xlabel="x", title="States h"),
    }
    if len(history):
        figures["loss.png"] = diagnostics.plot_loss(
            history.loss,
            floor=floor or None,
            best_epoch=history.best_epoch,
            title="Loss ½·mean((ŷ-y)²)",
        )
    return figures
