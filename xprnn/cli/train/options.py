"""The options of every training, and the network and optimizer that they stand for."""

import argparse
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from xprnn import checks
from xprnn.cells import ACTIVATIONS, CELLS, Cell, Elman, get_cell
from xprnn.engine.initializers import INITIALIZERS, Initializer, get_initializer
from xprnn.optim import OPTIMIZERS, Optimizer, Rprop, schedules
from xprnn.optim.clipping import CLIP_BY
from xprnn.optim.schedules import halve_on_rise
from xprnn.training.run import RateScale

SCHEDULES = ("constant", "inverse", "cosine", "halve")
RATES = {"adam": 0.002, "adamw": 0.002, "rmsprop": 0.001, "adagrad": 0.05, "rprop": 0.01}
"""Default learning rates of optimizers; that of SGD is the command's own."""
MOMENTUM = ("sgd", "rmsprop")
"""The optimizers that have a momentum."""


def network_options(
    parser: argparse.ArgumentParser,
    *,
    hidden: int,
    bidirectional: bool = False,
    cell: str = "elman",
    recurrent_dropout: float = 0.0,
) -> None:
    """Add the options of the network; ``hidden`` and the like are the command's defaults."""
    group = parser.add_argument_group("network")
    add = group.add_argument
    add("--cell", default=cell, metavar="NAME", help=_names(CELLS, cell))
    activations = ", ".join(ACTIVATIONS)
    add("--activation", metavar="NAME", help=f"of the Elman cell: {activations} (default tanh)")
    add(
        "--hidden",
        type=_sizes,
        default=hidden,
        metavar="N",
        help=f"units in each layer (default {hidden}); 128,64: in the first and in the second",
    )
    add("--layers", type=int, default=1, metavar="N", help="number of layers (default 1)")
    add(
        "--residual",
        action="store_true",
        help="add a layer's input to its output where both have the same size, from the second "
        "layer on",
    )
    add(
        "--projection",
        type=int,
        metavar="N",
        help="project what a layer puts out, and U reads, to N numbers, fewer than --hidden "
        "(default: no projection)",
    )
    add(
        "--heads",
        type=int,
        default=1,
        metavar="N",
        help="blocks of units, each connected to itself alone; divides --hidden (default 1)",
    )
    if bidirectional:
        add("--bidirectional", action="store_true", help="read the sequence in both directions")
    add(
        "--dropout",
        type=float,
        default=0.0,
        metavar="P",
        help="probability of dropping a value between layers (default 0)",
    )
    add(
        "--recurrent-dropout",
        type=float,
        default=recurrent_dropout,
        metavar="P",
        help="probability of dropping a unit of h(t-1), the same units at every step "
        f"(default {recurrent_dropout:g})",
    )
    add(
        "--initializer",
        default="uniform",
        metavar="NAME",
        help=f"of the weights: {', '.join(INITIALIZERS)}, a number after a colon (chrono:100); "
        "or for some kinds of parameters, U=orthogonal,b=chrono:100 (default uniform)",
    )
    added = [action.dest for action in group._group_actions]
    parser.set_defaults(network_defaults={name: parser.get_default(name) for name in added})


def optimizer_options(
    parser: argparse.ArgumentParser,
    *,
    lr: float,
    momentum: float,
    schedule: str,
    optimizer: str = "sgd",
    rates: Mapping[str, float] = RATES,
) -> None:
    """Add the options of the optimizer.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    lr, momentum : float
        The defaults of SGD.
    schedule, optimizer : str
        The defaults.
    rates : mapping
        The default learning rates of the other optimizers.
    """
    add = parser.add_argument_group("training").add_argument
    add("--optimizer", default=optimizer, metavar="NAME", help=_names(OPTIMIZERS, optimizer))
    rates = {"sgd": lr, **rates}
    each = ", ".join(f"{rate:g} for {name}" for name, rate in rates.items())
    add("--lr", type=float, metavar="RATE", help=f"learning rate (default {each})")
    add(
        "--momentum",
        type=float,
        metavar="M",
        help=f"momentum of sgd (default {momentum:g}) or rmsprop (default 0)",
    )
    add(
        "--weight-decay",
        type=float,
        default=0.0,
        metavar="D",
        help="decay of weights, but not of biases (default 0)",
    )
    add(
        "--schedule",
        default=schedule,
        metavar="NAME",
        help="schedule of the learning rate: constant; inverse (falls to a tenth, as "
        "1/(1+decay·n)); cosine (falls to zero); halve (halved whenever the loss "
        f"rises) (default {schedule})",
    )
    add(
        "--clip",
        type=float,
        default=1.0,
        metavar="NORM",
        help="largest norm of the gradient (default 1)",
    )
    add(
        "--clip-by",
        default="network",
        metavar="WHAT",
        help="what --clip limits: network (default), all parameters together; layer, those of each "
        "layer; parameter, each by itself",
    )
    parser.set_defaults(default_rates=rates, sgd_momentum=momentum)


def run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the training as a process: threads and checkpoints."""
    add = parser.add_argument_group("run").add_argument
    add(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="BLAS threads (default 1; more pay for large networks on a quiet machine)",
    )
    add(
        "--report-every",
        type=int,
        default=1,
        metavar="N",
        help="read the losses every N updates (default 1): with a larger N a CUDA device never "
        "waits for the host; the results are the same",
    )
    add(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="write a checkpoint every minute, from which --resume goes on",
    )
    add(
        "--resume",
        action="store_true",
        help="go on from the checkpoint, if there is one; all other options must be as before",
    )


def check_options(args: argparse.Namespace) -> None:
    """Check the options of this module, and the epochs, in the words of the command line.

    Raises
    ------
    ValueError
        If an option makes no sense, alone or with another.
    """
    _check_layers(args)
    checks.number("--dropout", args.dropout, below=1.0)
    checks.number("--recurrent-dropout", args.recurrent_dropout, below=1.0)
    if args.dropout and args.layers == 1:
        raise ValueError(
            f"--dropout {args.dropout:g} acts between layers, but --layers is 1: expected more "
            "layers, or --recurrent-dropout"
        )
    if args.cell == "elman":
        Elman(_activation(args))
    else:
        get_cell(args.cell)
        if args.activation is not None:
            raise ValueError(
                f"--activation is an option of the Elman cell, but --cell is {args.cell}"
            )
    _initializer(args)
    checks.choice("--optimizer", args.optimizer, OPTIMIZERS)
    checks.choice("--schedule", args.schedule, SCHEDULES)
    if args.lr is not None:
        checks.number("--lr", args.lr, open_=True)
    if args.momentum is not None:
        checks.number("--momentum", args.momentum, below=1.0)
        if args.optimizer not in MOMENTUM:
            raise ValueError(
                f"--momentum is an option of {' and '.join(MOMENTUM)}, but --optimizer is "
                f"{args.optimizer}"
            )
    checks.number("--weight-decay", args.weight_decay)
    if args.optimizer == "rprop" and (args.weight_decay or args.schedule != "constant"):
        raise ValueError(
            "--optimizer rprop adapts its own steps: expected --schedule constant, and no "
            "--weight-decay"
        )
    checks.number("--clip", args.clip, open_=True)
    checks.choice("--clip-by", args.clip_by, CLIP_BY)
    checks.positive_int("--threads", args.threads)
    checks.positive_int("--report-every", args.report_every)
    if args.epochs is not None:
        checks.positive_int("--epochs", args.epochs)
    if args.resume and args.checkpoint is None:
        raise ValueError("--resume needs --checkpoint FILE: which one to go on from")


def _check_layers(args: argparse.Namespace) -> None:
    checks.positive_int("--layers", args.layers)
    for size in args.hidden if isinstance(args.hidden, tuple) else (args.hidden,):
        checks.positive_int("--hidden", size)
    if isinstance(args.hidden, tuple):
        if args.layers not in (1, len(args.hidden)):
            raise ValueError(
                f"--hidden has {len(args.hidden)} sizes, one for each layer, but --layers is "
                f"{args.layers}"
            )
        args.layers = len(args.hidden)
    sizes = args.hidden if isinstance(args.hidden, tuple) else (args.hidden,)
    checks.positive_int("--heads", args.heads)
    if any(size % args.heads for size in sizes):
        raise ValueError(
            f"--heads is {args.heads}, blocks of units of the same size, and --hidden is "
            f"{_written(sizes)}: expected a divisor"
        )
    if args.heads > 1 and args.projection is not None:
        raise ValueError(
            f"--heads is {args.heads} and --projection is {args.projection}: expected one of both"
        )
    if args.projection is not None:
        checks.positive_int("--projection", args.projection)
        if args.projection >= min(sizes):
            raise ValueError(
                f"--projection is {args.projection}: expected fewer than the {min(sizes)} units of "
                "--hidden"
            )
    if args.residual and args.layers == 1:
        raise ValueError("--residual connects layers, but --layers is 1: expected more layers")
    differ = len(sizes) > 1 and all(a != b for a, b in pairwise(sizes))
    if args.residual and args.projection is None and differ:
        raise ValueError(
            "--residual connects neighbouring layers of the same size, but --hidden is "
            f"{_written(sizes)}: expected two such layers"
        )


def check_window_option(args: argparse.Namespace) -> None:
    """Check ``--window``, which must not be negative and excludes ``--recompute``."""
    if args.window is not None and args.window < 0:
        raise ValueError(f"--window is {args.window}: expected 0 or more steps")
    if args.window is not None and getattr(args, "recompute", False):
        raise ValueError(
            f"--window {args.window} needs the whole tape, which --recompute does not store: "
            "expected one of the two"
        )


def recompute_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--recompute``, for trainings whose sequences may be long."""
    parser.add_argument(
        "--recompute",
        action="store_true",
        help="for long sequences: save memory by computing the states a second time on the way "
        "back (gradient checkpointing); the results are the same",
    )


def network_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `RNN` that the options stand for."""
    cell: str | Cell = args.cell if args.cell != "elman" else Elman(_activation(args))
    return {
        "cell": cell,
        "layers": args.layers,
        "bidirectional": getattr(args, "bidirectional", False),
        "dropout": args.dropout,
        "recurrent_dropout": args.recurrent_dropout,
        "initializer": _initializer(args),
        "residual": args.residual,
        "projection": args.projection,
        "heads": args.heads,
    }


def chosen_optimizer(args: argparse.Namespace, updates: int) -> Optimizer:
    """Return the optimizer for a number of updates."""
    name = args.optimizer
    rate = args.default_rates[name] if args.lr is None else args.lr
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
    """Return the rule that scales the learning rate by the losses, if there is one."""
    return halve_on_rise if args.schedule == "halve" else None


def _sizes(text: str) -> int | tuple[int, ...]:
    """Return what ``--hidden`` says: a number, or one for each layer."""
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of units: expected one, such as 128, or one for each layer, "
            "such as 128,64"
        ) from None
    return sizes[0] if len(sizes) == 1 else sizes


def _written(sizes: Iterable[int]) -> str:
    """Return sizes as ``--hidden`` has them."""
    return ",".join(map(str, sizes))


def top_size(args: argparse.Namespace) -> int:
    """Return the number of units of the top layer."""
    return args.hidden[-1] if isinstance(args.hidden, tuple) else int(args.hidden)


def _initializer(args: argparse.Namespace) -> Initializer | dict[str, Initializer]:
    """Return the initializer, or those by kind of parameter, that ``--initializer`` stands for."""
    text: str = args.initializer
    try:
        if "=" not in text:
            return get_initializer(text)
        pairs = [part.partition("=") for part in text.split(",")]
        return {kind.strip(): get_initializer(name.strip()) for kind, _, name in pairs}
    except ValueError as error:
        raise ValueError(f"--initializer {text}: {error}") from None


def _names(known: Iterable[str], default: str) -> str:
    """Return the help of an option that takes one of these names."""
    return ", ".join((f"{default} (default)", *(name for name in known if name != default)))


def _activation(args: argparse.Namespace) -> str:
    return "tanh" if args.activation is None else args.activation
