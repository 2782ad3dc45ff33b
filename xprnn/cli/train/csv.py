"""``xprnn train csv``: a forecaster of a series, or of several."""

import argparse
import json
import shlex
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from xprnn import checks
from xprnn.backend import get_backend
from xprnn.backend.host.arrays import HostArray, np
from xprnn.cli.common import check_extras, say_written
from xprnn.cli.huge import refuse_huge
from xprnn.cli.series import read_table, series_options, words_of
from xprnn.cli.train.csv_comparison import as_json, compared, print_table
from xprnn.cli.train.csv_more import KEPT, train_more
from xprnn.cli.train.csv_options import Wanted, forecast_options, wanted
from xprnn.cli.train.csv_results import OUTPUT, Results, kind_words, left_range, picture
from xprnn.cli.train.csv_training import Data, Trainer, tail_of
from xprnn.cli.train.options import (
    check_options,
    network_options,
    optimizer_options,
    recompute_option,
    run_options,
)
from xprnn.cli.train.progress import counting
from xprnn.cli.train.ranks import device_of, distributed_option, together
from xprnn.cli.train.session import MODEL, Session, checkpoints, outputs
from xprnn.data import Columns
from xprnn.data.combination import Choice, choose
from xprnn.data.seasons import find_season
from xprnn.models.forecaster import Forecaster

FEWEST = 10
"""The fewest values to train on."""
HELP = "forecast a column of a CSV file"
DESCRIPTION = """\
Forecast a column of a CSV file, or several together.  The last part of the series is held out:
nothing is fitted to it.  On the end of the training part are chosen: levels or differences, the
window that forecasts are made from, and how long to train.  The model is a linear forecast and an
ensemble of networks that learn what it leaves over.  Prints the errors on the held-out part beside
those of baselines, and which forecast is best; writes the model, then trained on all values, the
histories, the forecasts and a picture."""
EXAMPLE = """\
examples:
  xprnn train csv sunspots --column SUNACTIVITY --time YEAR      (comes with xprnn)
  xprnn train csv sales.csv --column units --season 12 --horizon 12
  xprnn train csv new.csv --from runs/csv/model.safetensors"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    series_options(parser, required=True, column=False)
    parser.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="MODEL",
        help="train a saved forecaster on with the rows of this file: its scaling, window, "
        "differences and columns are kept",
    )
    forecast_options(parser)
    network_options(parser, hidden=10, bidirectional=True)
    optimizer_options(parser, lr=0.1, momentum=0.9, schedule="inverse")
    run_options(parser)
    distributed_option(parser)
    add = parser.add_argument
    recompute_option(parser)
    add("--networks", type=int, default=5, metavar="N", help="networks in the ensemble (default 5)")
    add("--batch", type=int, default=16, metavar="N", help="windows in an update (default 16)")
    add(
        "--epochs",
        type=int,
        metavar="N",
        help="exactly N passes over the training part (default: until the error on its end rises)",
    )
    parser.set_defaults(kept_defaults={name: parser.get_default(name) for name in KEPT})


class Problem(NamedTuple):
    """What is forecast, and what was chosen for it.

    Attributes
    ----------
    asked : Wanted
    table : Columns
    names : tuple of str
        The columns that are forecast.
    data : Data
    season : int
        The period; 0: there is none.
    told : str
        How it is known.
    choice : Choice
    """

    asked: Wanted
    table: Columns
    names: tuple[str, ...]
    data: Data
    season: int
    told: str
    choice: Choice


class Trained(NamedTuple):
    """The forecasters of the folds, and the one that is delivered if it is another."""

    folds: list[tuple[int, int, Forecaster]]
    delivered: Forecaster | None


def run(args: argparse.Namespace) -> int:
    """Choose, train, compare, write and print."""
    with together(args):
        return train_more(args) if args.start is not None else _run(args)


def _run(args: argparse.Namespace) -> int:
    """Do so on one of the ranks."""
    check_extras()
    asked = wanted(args)
    count = _check(args)
    backend = get_backend(args.backend, device_of(args.communicator), args.dtype)
    problem = _read(args, asked)
    trainings = count * (args.folds + (not args.no_refit))
    files = checkpoints(args, trainings)
    trainer = Trainer(args, backend, problem.data, problem.choice, files)
    histories = [f"history-{k}.jsonl" for k in range(1, count + 1)]
    pictures = [picture(k) for k in range(len(problem.names))]
    folder = outputs(args, "csv", MODEL, *pictures, OUTPUT, *histories)

    trained = None
    with Session(args, trainer.epochs * trainings) as session:
        trained = _train(args, trainer, session)
    if args.rank:
        return session.quiet_status()
    if trained is None:
        # Of what ended early, the networks that are whole forecast.
        first = trainer.evaluated or trainer.compared(whole=False)
        trained = Trained([(problem.data.cut, len(problem.data.values), first)], None)
    results = Results(args, problem.names, problem.table, problem.data, trainer, trained.folds)
    with counting("evaluating", results.work) as tick:
        results.forecast(max(asked.horizons), tick)
    final = trained.delivered or trained.folds[0][2]
    final = final._replace(intervals=results.intervals)
    extra = results.metadata(problem.season)
    model = session.save(folder, lambda path: final.save(path, **extra))
    with session.finishing(model):
        for name, history in zip(histories, session.histories, strict=False):
            history.save(folder / name)
        results.write(folder)
        comparisons = [
            compared(
                name,
                k,
                problem.data.values,
                trained.folds,
                results.forecasts,
                asked.horizons,
                problem.season,
                problem.data.covariates,
            )
            for k, name in enumerate(problem.names)
        ]
        if args.json:
            print(json.dumps(as_json(comparisons, _chosen(problem, trainer))))
        else:
            details = f" ({trainer.updates} updates of each network, {len(trainer.kept)} averaged)"
            _print(args, problem, trainer, results, session.summary(backend, details))
            for comparison in comparisons:
                print_table(comparison)
            for line in results.sentences(refitted=trained.delivered is not None):
                print(line)
            written = {
                MODEL: f"the network; next: {_next(args, model)}",
                "history-*.jsonl": "the loss of every epoch of each network, JSON lines",
                OUTPUT: "the held-out part: one-step forecast, interval, closed loop",
                ", ".join(pictures): "the held-out part, one-step and closed-loop forecast",
            }
            say_written(folder, written)
        for error, deviation, name in results.one_step_errors():
            session.warn_if_diverged(
                error, deviation, f"the mean of {name}", measure="error one step ahead"
            )
    return session.status(model)


def _check(args: argparse.Namespace) -> int:
    """Check the options that are not of the forecast; return the number of networks."""
    check_options(args)
    checks.positive_int("--batch", args.batch)
    count = checks.positive_int("--networks", args.networks)
    if count > 1 and (args.layers > 1 or args.bidirectional):
        raise ValueError(
            f"--networks {count} become one network of one layer and direction: expected "
            "--networks 1 with --layers or --bidirectional"
        )
    return count


def _read(args: argparse.Namespace, asked: Wanted) -> Problem:
    """Read the series, and choose what is forecast of it."""
    targets = list(dict.fromkeys(args.column or ()))
    table = read_table(args, targets, known=args.covariate)
    count = len(targets) or 1
    values = np.ascontiguousarray(table.values[:, :count])
    covariates = None
    if args.covariate:
        covariates = np.ascontiguousarray(table.values[:, count:])
        bad = np.argwhere(~np.isfinite(covariates))
        if len(bad):
            raise ValueError(
                f"the covariate {table.names[count + bad[0, 1]]!r} has no value in row "
                f"{bad[0, 0] + 1}, where {table.names[0]!r} has one"
            )
    for name, column in zip(table.names, values.T, strict=False):
        refuse_huge(args.file, name, column)
    cut = _cut(len(values), args)
    data = Data(values, covariates, cut - tail_of(cut), cut)
    season, told = _season(values[:cut, 0], asked)
    names = tuple(table.names[:count])
    choice = _choice(data, season, asked, args)
    if not args.json:
        # Not flushed: a reader that has gone must not end the training.
        with suppress(OSError):
            print(table.found)
    return Problem(asked, table, names, data, season, told, choice)


def _train(args: argparse.Namespace, trainer: Trainer, session: Session) -> Trained:
    """Train what is compared, anew for every further fold, and what is delivered."""
    if not trainer.exact:
        trainer.train_first(session)
    evaluated = trainer.compared(whole=True)
    cut, count = trainer.data.cut, len(trainer.data.values)
    edges = [round(edge) for edge in np.linspace(cut, count, args.folds + 1)]
    folds = [(cut, edges[1], evaluated)]
    folds += [
        (edges[k], edges[k + 1], _again(trainer, session, k, edges[k]))
        for k in range(1, args.folds)
    ]
    return Trained(folds, None if args.no_refit else _again(trainer, session, args.folds, count))


def _again(trainer: Trainer, session: Session, phase: int, stop: int) -> Forecaster:
    """Train anew on the values before ``stop``; where networks add nothing, there are none."""
    if not trainer.updates:
        return trainer.silent(stop)
    return trainer.again(session, phase, stop)


def _season(training: HostArray, asked: Wanted) -> tuple[int, str]:
    """Return the period, and how it is known."""
    if asked.season is not None:
        return asked.season, f"season: {asked.season or 'none'}, as asked for"
    found = find_season(training)
    if found is None:
        return 0, "season: none found (--season N names one)"
    return found.period, (
        f"season: {found.period} steps, where the autocorrelation is {found.correlation:.2f} "
        "(--season names another, or none)"
    )


def _choice(data: Data, season: int, asked: Wanted, args: argparse.Namespace) -> Choice:
    kinds = asked.differences
    if args.difference in ("seasonal", "both") and not season:
        raise ValueError(
            f"--difference {args.difference}: no season was found; --season N says which it is"
        )
    training = data.values[: data.cut]
    choice = choose(
        training,
        season,
        covariates=data.known(data.cut),
        differences=kinds,
        window=args.window,
        most=(data.head if args.epochs is None else data.cut) - max(2, data.head // 4),
        changes=any(left_range(column, data.head) for column in training.T),
    )
    needed = choice.window + choice.differencing.lost + 1
    room = data.head if args.epochs is None else data.cut
    if needed > room:
        raise ValueError(
            f"{len(data.values)} values leave {room} to train networks on, without those that are "
            f"held out or tell when to stop: expected at least {needed} for a window of "
            f"{choice.window}"
        )
    return choice


def _chosen(problem: Problem, trainer: Trainer) -> dict[str, object]:
    return {
        "difference": problem.choice.differencing.name,
        "season": problem.season or None,
        "window": problem.choice.window,
        "updates": trainer.updates,
    }


def _print(
    args: argparse.Namespace, problem: Problem, trainer: Trainer, results: Results, summary: str
) -> None:
    """Print what was chosen, and what is remarkable."""
    data, choice = problem.data, problem.choice
    count = len(data.values)
    print(f"{', '.join(problem.names)}: {count} values, the last {count - data.cut} held out")
    print(problem.told)
    words = kind_words(choice.differencing)
    how = "asked for" if args.difference != "auto" and args.window else "chosen"
    print(
        f"{how}: {words}, a window of {choice.window}, {trainer.updates} updates (tried on the end "
        "of the training part)"
    )
    for line in results.remarks():
        print(line)
    print(summary)


def _next(args: argparse.Namespace, model: Path) -> str:
    """Return the command that applies the model to the same file."""
    return shlex.join(["xprnn", "apply", str(model), str(args.file), *words_of(args)])


def _cut(count: int, args: argparse.Namespace) -> int:
    """Return the index at which the held-out part begins."""
    cut: int = count - round(args.held_out * count)
    if args.folds > max(1, count - cut):
        raise ValueError(
            f"--folds is {args.folds}, but {count - cut} values are held out: expected at most as "
            "many"
        )
    if cut < FEWEST or cut >= count:
        raise ValueError(
            f"{count} values leave {cut} to train on and {count - cut} held out: expected at least "
            f"{FEWEST} and 1"
        )
    return cut
