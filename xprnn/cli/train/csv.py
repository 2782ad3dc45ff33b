"""``xprnn train csv``: forecast a series."""

import argparse
import math
import shlex
from pathlib import Path

from xprnn import checks, diagnostics
from xprnn.backend import get_backend
from xprnn.backend.host.arrays import HostArray, generator
from xprnn.backend.host.threads import blas_threads
from xprnn.cli.common import check_extras, results_folder, say_written
from xprnn.cli.train.options import (
    network,
    network_options,
    optimizer,
    optimizer_options,
    rate_scale,
    recompute_option,
)
from xprnn.cli.train.session import (
    MODEL,
    Ending,
    Progress,
    check_training,
    checkpoints,
    saved,
    training_options,
)
from xprnn.data import Autoregression, Series, persistence, read_csv, rmse, sunspots
from xprnn.engine.network import RNN
from xprnn.models.ensemble import merge
from xprnn.models.forecaster import Forecaster
from xprnn.training.fit import fit

UPDATES = 2000
AR_ORDER = 9
HELP = "forecast a column of a CSV file"
DESCRIPTION = """\
Forecast a column of a CSV file.  Networks read a window of values and forecast the next; several
that differ in their initial weights are averaged.  The last part of the series is held out: nothing
is fitted on it.  Prints the one-step error there beside two baselines, persistence (the last value)
and a linear autoregression, and writes the model, the histories and a picture."""
EXAMPLE = """\
examples:
  xprnn train csv sunspots --column SUNACTIVITY --time YEAR      (comes with xprnn)
  xprnn train csv sales.csv --column units --difference"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    file_options(parser, required=True)
    network_options(parser, hidden=10, bidirectional=True)
    optimizer_options(parser, lr=0.1, momentum=0.9, schedule="inverse")
    training_options(parser)
    add = parser.add_argument
    add("--window", type=int, default=22, help="values that a forecast is made from (default 22)")
    recompute_option(parser)
    add("--networks", type=int, default=5, help="how many are averaged (default 5)")
    add("--batch", type=int, default=16, help="windows an update (default 16)")
    add(
        "--epochs",
        type=int,
        help=f"of each network (default: as many as make {UPDATES} updates)",
    )
    add(
        "--difference",
        action="store_true",
        help="forecast changes from changes: for series with a trend",
    )
    add("--held-out", type=float, default=0.2, help="the last part of the series (default 0.2)")


def file_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the options that say what to read."""
    add = parser.add_argument
    what = "a CSV file whose first line names the columns, or: sunspots"
    add("file", metavar="FILE", type=Path, nargs=None if required else "?", help=what)
    add("--column", metavar="NAME", required=required, help="the column to forecast")
    add("--time", metavar="NAME", help="a column that must be evenly spaced; labels the pictures")
    add("--delimiter", type=delimiter, help="between fields (default: a comma), or tab")
    add("--encoding", help="of the file (default UTF-8)")


def delimiter(text: str) -> str:
    """Parse a delimiter."""
    character = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(character) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not one character, and not tab")
    return character


def read(args: argparse.Namespace, column: str) -> Series:
    """Read the series that the options name."""
    path: Path = args.file
    if str(path) == "sunspots" and not path.exists():
        path = sunspots()
    given = {k: getattr(args, k) for k in ("delimiter", "encoding") if getattr(args, k)}
    return read_csv(path, column, time=args.time, **given)


def run(args: argparse.Namespace) -> int:
    """Train, compare, write, tell."""
    check_extras()
    check_training(args)
    checks.positive_int("--batch", args.batch)
    backend = get_backend(args.backend, dtype=args.dtype)
    series = read(args, args.column)
    values = series.values
    cut = _cut(len(values), args)
    rng = generator(args.seed)
    count = checks.positive_int("--networks", args.networks)
    if count > 1 and (args.layers > 1 or args.bidirectional):
        raise ValueError(
            f"--networks {count} become one network of one layer and direction: expected "
            "--networks 1 with --layers or --bidirectional"
        )
    nets = [
        RNN(
            1,
            args.hidden,
            1,
            **network(args),
            returns="last",
            backend=backend,
            rng=rng,
        )
        for _ in range(count)
    ]
    forecasters = [
        Forecaster.fitted_scaling(net, args.window, values[:cut], difference=args.difference)
        for net in nets
    ]
    batches = forecasters[0].batches(values[:cut], args.batch, rng)
    epochs: int = math.ceil(UPDATES / len(batches)) if args.epochs is None else args.epochs
    # The learning rate ends at a tenth: the last updates settle what the first ones found.
    chosen = optimizer(args, epochs * len(batches))
    kept_in = checkpoints(args, count)
    folder = results_folder(args.out, "csv")

    trained: list[RNN] = []
    with (
        Ending(args.checkpoint) as ending,
        Progress(epochs * count) as progress,
        blas_threads(args.threads),
    ):
        for net, checkpoint in zip(nets, kept_in, strict=True):
            trained.append(net)
            history = fit(
                net,
                batches,
                optimizer=chosen,
                epochs=epochs,
                recompute=args.recompute,
                clip_norm=args.clip,
                rate_scale=rate_scale(args),
                callbacks=[progress],
                checkpoint=checkpoint,
            )
            ending.histories.append(history)
    # One that was cut short would spoil the mean of the others, so it is kept only if it is alone.
    kept = trained if ending.error is None else trained[:-1] or trained
    forecaster = forecasters[0]._replace(net=merge(kept))
    forecaster.save(folder / MODEL, column=series.name, seed=args.seed)
    for k, history in enumerate(ending.histories, start=1):
        history.save(folder / f"history-{k}.jsonl")
    with saved(folder / MODEL):
        print(
            f"{series.name}: {len(values)} values, the last {len(values) - cut} held out\n"
            f"trained {ending.epochs} epochs ({epochs} of each network, {len(kept)} averaged) in "
            f"{ending.seconds:.1f} s on {backend.name} ({backend.device}, {backend.dtype_name}), "
            f"seed {args.seed}"
        )
        closed_loop = forecaster.closed_loop(values[:cut], len(values) - cut)
        _compare(forecaster, values, cut, closed_loop)
        _draw(forecaster, series, cut, closed_loop, folder)
        say_written(
            folder,
            {
                MODEL: f"the network; next: {_next(args, folder / MODEL)}",
                "history-*.jsonl": "the loss of every epoch of each network, JSON lines",
                "forecast.png": "the held-out part, one-step and closed-loop forecast",
            },
        )
    return ending.status(folder / MODEL)


def _next(args: argparse.Namespace, model: Path) -> str:
    """Return the command that applies the model to the same file."""
    words = ["xprnn", "apply", str(model), str(args.file)]
    for name in ("time", "delimiter", "encoding"):
        if getattr(args, name):
            words += [f"--{name}", {"\t": "tab"}.get(getattr(args, name), getattr(args, name))]
    return shlex.join(words)


def _cut(count: int, args: argparse.Namespace) -> int:
    """Return where the held-out part begins."""
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
        # Some of the training part before it, to see where the forecast comes from.
        start=max(0, cut - (len(values) - cut) // 2),
        one_step_start=cut,
        closed_loop_start=cut,
        times=series.times,
        ylabel=series.name,
        title=f"{series.name}: held-out part and its forecasts",
    )
    diagnostics.save_figure(figure, folder / "forecast.png")
