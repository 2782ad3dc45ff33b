"""``xprnn train csv``: a forecaster of a series."""

import argparse
import math
import shlex
from contextlib import suppress
from pathlib import Path

from xprnn import checks, diagnostics
from xprnn.backend import get_backend
from xprnn.backend.host.arrays import HostArray, generator
from xprnn.cli.common import check_extras, say_written
from xprnn.cli.series import read_table, reading_memory, series_options, words_of
from xprnn.cli.train.options import (
    check_options,
    chosen_optimizer,
    network_arguments,
    network_options,
    optimizer_options,
    recompute_option,
    run_options,
)
from xprnn.cli.train.session import MODEL, Session, checkpoints, outputs
from xprnn.data import Autoregression, Series, persistence, rmse
from xprnn.engine.network import RNN
from xprnn.models.ensemble import merge
from xprnn.models.forecaster import Forecaster

UPDATES = 2000
"""The default number of updates of each network."""
AR_ORDER = 9
PICTURE = "forecast.png"
HELP = "forecast a column of a CSV file"
DESCRIPTION = """\
Forecast a column of a CSV file.  A network reads a window of values and forecasts the next one; the
model is an ensemble, the mean of several networks that start from different weights.  The last part
of the series is held out: nothing is fitted to it.  Prints the one-step error there beside those of
two baselines, persistence (the last value) and a linear autoregression; writes the model, the
histories and a picture."""
EXAMPLE = """\
examples:
  xprnn train csv sunspots --column SUNACTIVITY --time YEAR      (comes with xprnn)
  xprnn train csv sales.csv --column units --difference"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    series_options(parser, required=True)
    network_options(parser, hidden=10, bidirectional=True)
    optimizer_options(parser, lr=0.1, momentum=0.9, schedule="inverse")
    run_options(parser)
    add = parser.add_argument
    add(
        "--window",
        type=int,
        default=22,
        metavar="N",
        help="values that a forecast is made from (default 22)",
    )
    recompute_option(parser)
    add("--networks", type=int, default=5, metavar="N", help="networks in the ensemble (default 5)")
    add("--batch", type=int, default=16, metavar="N", help="windows in an update (default 16)")
    add(
        "--epochs",
        type=int,
        metavar="N",
        help=f"epochs of each network (default: enough for {UPDATES} updates)",
    )
    add(
        "--difference",
        action="store_true",
        help="forecast the next change from the last changes: for series with a trend",
    )
    add(
        "--held-out",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="share of the series that is held out, at its end (default 0.2)",
    )


def run(args: argparse.Namespace) -> int:
    """Train, compare, write and print."""
    check_extras()
    check_options(args)
    checks.positive_int("--batch", args.batch)
    backend = get_backend(args.backend, dtype=args.dtype)
    table = read_table(args, [args.column])
    series = table.series()
    values = series.values
    cut = _cut(len(values), args)
    rng = generator(args.seed)
    count = checks.positive_int("--networks", args.networks)
    if count > 1 and (args.layers > 1 or args.bidirectional):
        raise ValueError(
            f"--networks {count} become one network of one layer and direction: expected "
            "--networks 1 with --layers or --bidirectional"
        )
    options = network_arguments(args) | {"returns": "last", "backend": backend, "rng": rng}
    nets = [RNN(1, args.hidden, 1, **options) for _ in range(count)]
    forecasters = [
        Forecaster.fitted_scaling(net, args.window, values[:cut], difference=args.difference)
        for net in nets
    ]
    batches = forecasters[0].batches(values[:cut], args.batch, rng)
    epochs: int = math.ceil(UPDATES / len(batches)) if args.epochs is None else args.epochs
    chosen = chosen_optimizer(args, epochs * len(batches))
    files = checkpoints(args, count)
    histories = [f"history-{k}.jsonl" for k in range(1, count + 1)]
    folder = outputs(args, "csv", MODEL, PICTURE, *histories)
    # What can't be printed is no reason not to train; after the training it is told.
    with suppress(OSError):
        print(table.found, flush=True)

    trained: list[RNN] = []
    with Session(args, epochs * count) as session:
        for net, checkpoint in zip(nets, files, strict=True):
            trained.append(net)
            session.fit(net, batches, chosen, checkpoint, epochs=epochs, recompute=args.recompute)
    # A network whose training ended early would spoil the mean, so it counts only if it is alone.
    kept = trained if session.error is None else trained[:-1] or trained
    forecaster = forecasters[0]._replace(net=merge(kept))
    model = session.save(
        folder,
        lambda path: forecaster.save(
            path, column=series.name, seed=args.seed, reading=reading_memory(args, table)
        ),
    )
    with session.finishing(model):
        for name, history in zip(histories, session.histories, strict=False):
            history.save(folder / name)
        closed_loop = forecaster.closed_loop(values[:cut], len(values) - cut)
        _draw(forecaster, series, cut, closed_loop, folder)
        details = f" ({epochs} of each network, {len(kept)} averaged)"
        print(
            f"{series.name}: {len(values)} values, the last {len(values) - cut} held out\n"
            f"{session.summary(backend, details)}"
        )
        _compare(forecaster, values, cut, closed_loop)
        say_written(
            folder,
            {
                MODEL: f"the network; next: {_next(args, model)}",
                "history-*.jsonl": "the loss of every epoch of each network, JSON lines",
                PICTURE: "the held-out part, one-step and closed-loop forecast",
            },
        )
    return session.status(model)


def _next(args: argparse.Namespace, model: Path) -> str:
    """Return the command that applies the model to the same file."""
    words = ["xprnn", "apply", str(model), str(args.file), *words_of(args)]
    return shlex.join(words)


def _cut(count: int, args: argparse.Namespace) -> int:
    """Return the index at which the held-out part begins."""
    share = checks.number("--held-out", args.held_out, below=1.0, open_=True)
    window = checks.positive_int("--window", args.window)
    cut = count - round(share * count)
    needed = max(window + args.difference, 2 * AR_ORDER) + 1
    if cut < needed or cut >= count:
        raise ValueError(
            f"{count} values leave {cut} to train on and {count - cut} held out: expected at least "
            f"{needed} (more than the window, and than {2 * AR_ORDER} for the baseline) and 1"
        )
    return cut


def _compare(forecaster: Forecaster, values: HostArray, cut: int, closed_loop: HostArray) -> None:
    """Print the errors on the held-out part."""
    held_out = values[cut:]
    linear = Autoregression.fitted(values[:cut], AR_ORDER)
    rows = [
        ("persistence, the last value", persistence(values)[cut - 1 :]),
        (
            f"autoregression AR({AR_ORDER}), least squares",
            linear.one_step(values)[cut - AR_ORDER :],
        ),
        ("network", forecaster.one_step(values)[cut - forecaster.needed :]),
    ]
    print("root mean squared error on the held-out part, one step ahead:")
    for name, forecast in rows:
        print(f"  {name:<36} {rmse(forecast, held_out):8.4g}")
    print(f"  {f'(network, closed loop over {len(held_out)} steps)':<36} ", end="")
    print(f"{rmse(closed_loop, held_out):8.4g}")


def _draw(
    forecaster: Forecaster, series: Series, cut: int, closed_loop: HostArray, folder: Path
) -> None:
    values = series.values
    figure = diagnostics.plot_forecast(
        values,
        forecaster.one_step(values)[cut - forecaster.needed :],
        closed_loop,
        # With some of the training part before it, from which the forecast starts.
        start=max(0, cut - (len(values) - cut) // 2),
        one_step_start=cut,
        closed_loop_start=cut,
        times=series.times,
        ylabel=series.name,
        title=f"{series.name}: held-out part and its forecasts",
    )
    diagnostics.save_figure(figure, folder / PICTURE)
