"""``xprnn train csv --from MODEL``: a saved forecaster, trained on with new rows."""

import argparse
import shlex

from xprnn import checks
from xprnn.backend import get_backend
from xprnn.backend.host.arrays import HostArray, generator, np
from xprnn.cli.common import check_extras, of_model, say_written
from xprnn.cli.models import load_model
from xprnn.cli.series import columns_of, read_table, remembered_reading, words_of
from xprnn.cli.train.csv_training import EPOCHS, LEAST, MOST, PATIENCE, VALIDATION_BATCH, tail_of
from xprnn.cli.train.options import check_options, chosen_optimizer
from xprnn.cli.train.ranks import device_of
from xprnn.cli.train.session import HISTORY, MODEL, Session, checkpoints, outputs
from xprnn.data import rmse
from xprnn.models.forecaster import Forecaster
from xprnn.training.evaluation import evaluate

KEPT = (
    *("difference", "season", "window", "covariate", "no_linear", "no_refit"),
    *("horizon", "folds", "interval", "json", "networks"),
)
"""Options of a training from the beginning, which a model that is there has behind it."""


def train_more(args: argparse.Namespace) -> int:
    """Train the model of ``--from`` on with the rows of another file; write and print.

    Scaling, window, differences and linear part are kept, so the numbers mean to the network what
    they meant.  Training stops when the loss on the end of the training part has not fallen for a
    while; if no weights are better there than those of the model, these are kept.
    """
    check_extras()
    _check(args)
    backend = get_backend(args.backend, device_of(args.communicator), args.dtype)
    net = load_model(args.start, backend=backend)
    net.rng = rng = generator(args.seed)
    with of_model(args.start):
        forecaster = Forecaster.of(net)
        columns, covariates = columns_of(net.metadata, forecaster)
        remembered = remembered_reading(net.metadata)
    if args.column is not None and len(args.column) != len(columns):
        raise ValueError(
            f"--column is given {len(args.column)} times, but the network in {str(args.start)!r} "
            f"forecasts {len(columns)}: {', '.join(columns)}"
        )
    table = read_table(args, args.column or columns, known=covariates, remembered=remembered)
    count = len(columns)
    values = np.ascontiguousarray(table.values[:, :count])
    known = np.ascontiguousarray(table.values[:, count:]) if covariates else None
    cut = len(values) - round(args.held_out * len(values))
    head = cut - tail_of(cut)
    if head <= forecaster.needed or cut >= len(values):
        raise ValueError(
            f"{len(values)} values leave {head} to train on, {cut - head} that tell when to stop "
            f"and {len(values) - cut} held out: expected more than {forecaster.needed} to train "
            f"on, which the network in {str(args.start)!r} reads to forecast the next"
        )
    (checkpoint,) = checkpoints(args)
    folder = outputs(args, "csv", MODEL, HISTORY)
    print(table.found, flush=True)
    with of_model(args.start):
        before = _errors(forecaster, values, known, cut)
    trained = forecaster.training_batches(
        values[:head], args.batch, rng, covariates=_upto(known, head), least=LEAST, most=MOST
    )
    tail = forecaster.training_batches(
        values[:cut], VALIDATION_BATCH, None, covariates=_upto(known, cut), start=head
    )
    epochs = EPOCHS if args.epochs is None else args.epochs
    weights, least = dict(net.parameters), evaluate(net, tail)
    with Session(args, epochs) as session:
        session.fit(
            net,
            trained,
            chosen_optimizer(args, epochs * len(trained)),
            checkpoint,
            epochs=epochs,
            validation=tail,
            patience=PATIENCE,
            recompute=args.recompute,
        )
    if args.rank:
        return session.quiet_status()
    (history,) = session.histories
    losses = [loss for loss in history.validation_loss if loss is not None]
    better = bool(losses) and min(losses) < least
    if not better:
        net.parameters = weights
    extra = {**net.metadata, "seed": args.seed}
    model = session.save(folder, lambda path: forecaster.save(path, **extra))
    with session.finishing(model):
        history.save(folder / HISTORY)
        now = _errors(forecaster, values, known, cut)
        print(f"{', '.join(columns)}: {len(values)} values, the last {len(values) - cut} held out")
        print(session.summary(backend))
        _print(columns, values, cut, before, now)
        if not better:
            print("no weights were better on the end of the training part: the model is as it was")
        following = shlex.join(["xprnn", "apply", str(model), str(args.file), *words_of(args)])
        files = {MODEL: f"the network; next: {following}", HISTORY: "the losses, JSON lines"}
        say_written(folder, files)
    return session.status(model)


def _check(args: argparse.Namespace) -> None:
    """Check the options, and refuse those of what the model has already."""
    check_options(args)
    checks.positive_int("--batch", args.batch)
    checks.number("--held-out", args.held_out, below=1.0, open_=True)
    defaults = {**args.network_defaults, **args.kept_defaults}
    given = [name for name, default in defaults.items() if vars(args)[name] != default]
    if given:
        raise ValueError(
            f"--{given[0].replace('_', '-')} belongs to a training from the beginning: expected "
            "no options of the network, of what is forecast or of the comparison beside --from"
        )


def _upto(known: HostArray | None, stop: int) -> HostArray | None:
    return None if known is None else known[:stop]


def _errors(
    forecaster: Forecaster, values: HostArray, known: HostArray | None, cut: int
) -> list[float]:
    """Return the root mean squared error of each column on the held-out part, one step ahead."""
    y = values if values.shape[1] > 1 else values[:, 0]
    found = forecaster.rolled(y, cut, len(values), covariates=known)[0]
    table = found.reshape(len(values) - cut, -1)
    if not np.all(np.isfinite(table)):
        raise ValueError("the network's forecasts are not finite: its weights are too large")
    return [rmse(*pair) for pair in zip(table.T, values[cut:].T, strict=True)]


def _print(
    columns: list[str], values: HostArray, cut: int, before: list[float], now: list[float]
) -> None:
    """Print the errors, and what the training was good for."""
    print("root mean squared error on the held-out part, one step ahead:")
    for k, name in enumerate(columns):
        told = f" of {name}" if len(columns) > 1 else ""
        rows = {
            f"persistence{told}": rmse(values[cut - 1 : -1, k], values[cut:, k]),
            f"the model before{told}": before[k],
            f"the model now{told}": now[k],
        }
        for row, error in rows.items():
            print(f"  {row:<36} {error:>12.4g}")
        change = now[k] / before[k] - 1 if before[k] else 0.0
        if abs(change) >= 5e-4:
            words = "less" if change < 0 else "more"
            print(f"the training made the error {abs(change):.1%} {words}")
