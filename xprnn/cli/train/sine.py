"""``xprnn train sine``: a network that fits a noisy sine."""

import argparse
import shlex
from dataclasses import replace

from xprnn import checks, diagnostics
from xprnn.backend import get_backend
from xprnn.backend.host.arrays import HostArray, generator, np
from xprnn.backend.types import Array
from xprnn.cli.common import check_extras, say_written
from xprnn.cli.train.options import (
    check_options,
    check_window_option,
    chosen_optimizer,
    network_arguments,
    network_options,
    optimizer_options,
    run_options,
)
from xprnn.cli.train.ranks import device_of, distributed_option, together
from xprnn.cli.train.session import HISTORY, MODEL, Session, checkpoints, outputs
from xprnn.data import sine
from xprnn.engine.network import RNN
from xprnn.optim import SGD
from xprnn.training.evaluation import evaluate
from xprnn.training.history import History

TASK = "sine"
HELP = "fit a noisy sine, y = sin x + noise"
DESCRIPTION = """\
Fit a noisy sine: x from -10 to 10 in steps of 0.1, y = sin x + 0.1·N(0, 1), as one sequence of 200
steps with the loss ½·mean((ŷ-y)²).  The weights of the best epoch are saved.  Writes the model, the
history and three pictures."""
EXAMPLE = """\
examples:
  xprnn train sine
  xprnn train sine --hidden 500 --seed 7 --out my-run"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    network_options(parser, hidden=100, bidirectional=True)
    optimizer_options(parser, lr=0.02, momentum=0.95, schedule="constant")
    run_options(parser)
    distributed_option(parser)
    add = parser.add_argument
    add("--epochs", type=int, default=600, metavar="N", help="number of updates (default 600)")
    add(
        "--decay",
        type=float,
        default=0.0,
        metavar="D",
        help="decay of sgd's learning rate (default 0)",
    )
    add(
        "--window",
        type=int,
        metavar="K",
        help="how many steps the loss of each step reaches back (default: all)",
    )
    add(
        "--noise",
        type=float,
        default=0.1,
        metavar="S",
        help="standard deviation of the noise (default 0.1)",
    )


def run(args: argparse.Namespace) -> int:
    """Train, write and print."""
    with together(args):
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    """Do so on one of the ranks."""
    check_extras()
    check_options(args)
    checks.number("--decay", args.decay)
    if args.decay and args.optimizer != "sgd":
        raise ValueError(f"--decay is an option of sgd, but --optimizer is {args.optimizer}")
    check_window_option(args)
    checks.number("--noise", args.noise)
    backend = get_backend(args.backend, device_of(args.communicator), args.dtype)
    rng = generator(args.seed)
    x, y = sine(noise=args.noise, rng=rng)
    # Scaled to ±1, the size of inputs that the uniform initial weights are made for.
    scale = 1 / float(np.max(np.abs(x)))
    net = RNN(1, args.hidden, 1, **network_arguments(args), backend=backend, rng=rng)
    net.metadata = {
        "task": TASK,
        "input_scale": scale,
        "trained_from": float(x[0, 0, 0]),
        "trained_to": float(x[-1, 0, 0]),
        "seed": args.seed,
    }
    chosen = chosen_optimizer(args, args.epochs)
    if isinstance(chosen, SGD):
        chosen = replace(chosen, decay=args.decay)
    (checkpoint,) = checkpoints(args)
    folder = outputs(args, "sine", MODEL, HISTORY, "fit.png", "loss.png", "states.png")
    data = backend.asarray(x * scale), backend.asarray(y)
    with Session(args, args.epochs) as session:
        session.fit(
            net,
            data,
            chosen,
            checkpoint,
            epochs=args.epochs,
            window=args.window,
            # The loss leaps now and then, perhaps in the last epoch.  Validation on the same data
            # keeps the weights of the best epoch.
            validation=data,
            patience=args.epochs,
        )
    if args.rank:
        return session.quiet_status()
    (history,) = session.histories
    model = session.save(folder, net.save)
    floor = 0.5 * args.noise**2
    with session.finishing(model):
        history.save(folder / HISTORY)
        pictures = _pictures(net, x, y, data[0], history, floor)
        for name, figure in pictures.items():
            diagnostics.save_figure(figure, folder / name)
        loss, of_zero = evaluate(net, data), 0.5 * float(np.mean(y**2))
        print(
            f"{session.summary(backend)}\n"
            f"loss ½·mean((ŷ-y)²): {loss:#.3g} (the noise alone: {floor:#.3g})"
        )
        session.warn_if_diverged(loss, of_zero, "an answer of 0")
        apply = shlex.join(("xprnn", "apply", str(model)))
        files = {
            MODEL: f"the network; next: {apply} --to 20",
            HISTORY: "the loss of every epoch, JSON lines",
            "fit.png": "y and ŷ",
            "loss.png": "the loss over epochs, log scale",
            "states.png": "the states of the first 20 units over time",
        }
        made = {MODEL, HISTORY, *pictures}
        say_written(folder, {name: what for name, what in files.items() if name in made})
    return session.status(model)


def _pictures(
    net: RNN, x: HostArray, y: HostArray, scaled: Array, history: History, floor: float
) -> dict[str, diagnostics.Figure]:
    """Return the figures by file name; one of the loss only if an epoch was completed."""
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
