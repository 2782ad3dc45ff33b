"""Which network, which optimizer: the options of every training, in the API's words."""

import argparse
from typing import Any

from xprnn import checks
from xprnn.cells import ACTIVATIONS, CELLS, Cell, Elman, get_cell
from xprnn.optim import OPTIMIZERS, Optimizer, Rprop, schedules
from xprnn.optim.schedules import halve_on_rise
from xprnn.training.run import RateScale

SCHEDULES = ("constant", "inverse", "cosine", "halve")
RATES = {"adam": 0.002, "adamw": 0.002, "rmsprop": 0.001, "adagrad": 0.05, "rprop": 0.01}
"""Where the command's own learning rate, made for SGD, would be no good."""
MOMENTUM = ("sgd", "rmsprop")


def network_options(
    parser: argparse.ArgumentParser, *, hidden: int, bidirectional: bool = False
) -> None:
    """Add the options that say what the network is."""
    add = parser.add_argument_group("network").add_argument
    cells = ", ".join(name for name in CELLS if name != "elman")
    add("--cell", default="elman", metavar="NAME", help=f"elman (default), {cells}")
    add("--activation", help=f"of Elman's cell: {', '.join(ACTIVATIONS)} (default tanh)")
    add("--hidden", type=int, default=hidden, help=f"neurons of a layer (default {hidden})")
    add("--layers", type=int, default=1, help="one above the other (default 1)")
    if bidirectional:
        add("--bidirectional", action="store_true", help="read from both ends")
    add("--dropout", type=float, default=0.0, help="share dropped between layers (default 0)")
    add(
        "--recurrent-dropout",
        type=float,
        default=0.0,
        help="share of the last state dropped, the same at every step (default 0)",
    )


def optimizer_options(
    parser: argparse.ArgumentParser, *, lr: float, momentum: float, schedule: str
) -> None:
    """Add the options that say how it learns."""
    add = parser.add_argument_group("training").add_argument
    names = ", ".join(name for name in OPTIMIZERS if name != "sgd")
    add("--optimizer", default="sgd", metavar="NAME", help=f"sgd (default), {names}")
    others = ", ".join(f"{rate:g} for {name}" for name, rate in RATES.items())
    add("--lr", type=float, help=f"learning rate (default {lr:g} for sgd, {others})")
    add("--momentum", type=float, help=f"of sgd (default {momentum:g}) or rmsprop (default 0)")
    add("--weight-decay", type=float, default=0.0, help="of weights, not of biases (default 0)")
    add(
        "--schedule",
        default=schedule,
        metavar="NAME",
        help="of the learning rate: constant; inverse (to a tenth, as 1/(1+decay·n)); cosine (to "
        f"zero); halve (whenever the watched loss rises) (default {schedule})",
    )
    add("--clip", type=float, default=1.0, help="limit of the gradient's norm (default 1)")
    parser.set_defaults(sgd_lr=lr, sgd_momentum=momentum)


def check_choices(args: argparse.Namespace) -> None:
    """Refuse what the options can't mean, in the words of the command line."""
    checks.positive_int("--hidden", args.hidden)
    checks.positive_int("--layers", args.layers)
    checks.number("--dropout", args.dropout, below=1.0)
    checks.number("--recurrent-dropout", args.recurrent_dropout, below=1.0)
    if args.dropout and args.layers == 1:
        raise ValueError(
            f"--dropout {args.dropout:g} is between layers, and --layers is 1: more layers, or "
            "--recurrent-dropout"
        )
    if args.cell == "elman":
        Elman(_activation(args))
    else:
        get_cell(args.cell)
        if args.activation is not None:
            raise ValueError(f"--activation is of Elman's cell, and --cell is {args.cell}")
    checks.choice("--optimizer", args.optimizer, OPTIMIZERS)
    checks.choice("--schedule", args.schedule, SCHEDULES)
    if args.lr is not None:
        checks.number("--lr", args.lr, open_=True)
    if args.momentum is not None:
        checks.number("--momentum", args.momentum, below=1.0)
        if args.optimizer not in MOMENTUM:
            raise ValueError(
                f"--momentum is of {' and '.join(MOMENTUM)}, and --optimizer is {args.optimizer}"
            )
    checks.number("--weight-decay", args.weight_decay)
    if args.optimizer == "rprop" and (args.weight_decay or args.schedule != "constant"):
        raise ValueError(
            "--optimizer rprop has steps of its own: expected --schedule constant, and no "
            "--weight-decay"
        )
    checks.number("--clip", args.clip, open_=True)


def check_window_option(args: argparse.Namespace) -> None:
    """Refuse a window of fewer than no steps, or one that recomputing can't have."""
    if args.window is not None and args.window < 0:
        raise ValueError(f"--window is {args.window}: expected 0 or more steps")
    if args.window is not None and getattr(args, "recompute", False):
        raise ValueError(
            f"--recompute keeps less than --window {args.window} needs: expected one of the two"
        )


def recompute_option(parser: argparse.ArgumentParser) -> None:
    """Add the option of trainings on sequences as long as their user likes."""
    parser.add_argument(
        "--recompute",
        action="store_true",
        help="for long sequences: compute them again on the way back instead of keeping them in "
        "memory; the results are the same",
    )


def network(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `RNN` that the options stand for."""
    cell: str | Cell = args.cell if args.cell != "elman" else Elman(_activation(args))
    return {
        "cell": cell,
        "layers": args.layers,
        "bidirectional": getattr(args, "bidirectional", False),
        "dropout": args.dropout,
        "recurrent_dropout": args.recurrent_dropout,
    }


def optimizer(args: argparse.Namespace, updates: int) -> Optimizer:
    """Return the optimizer, for so many updates."""
    name = args.optimizer
    rate = args.lr if args.lr is not None else RATES.get(name, args.sgd_lr)
    options: dict[str, Any] = {}
    if name in MOMENTUM:
        default = args.sgd_momentum if name == "sgd" else 0.0
        options["momentum"] = default if args.momentum is None else args.momentum
    if name == "rprop":
        return Rprop(initial=rate)
    if args.weight_decay:
        options["weight_decay"] = args.weight_decay
    if args.schedule == "inverse" and name == "sgd":
        options["decay"] = 9 / updates
    elif args.schedule == "inverse":
        rate = schedules.inverse_time(rate, 9 / updates)
    elif args.schedule == "cosine":
        rate = schedules.cosine(rate, updates)
    made: Any = OPTIMIZERS[name]
    chosen: Optimizer = made(learning_rate=rate, **options)
    return chosen


def rate_scale(args: argparse.Namespace) -> RateScale | None:
    """Return the rule that looks at losses, if that is the schedule."""
    return halve_on_rise if args.schedule == "halve" else None


def _activation(args: argparse.Namespace) -> str:
    return "tanh" if args.activation is None else args.activation
