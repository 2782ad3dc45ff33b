"""The command ``xprnn parity``."""

import argparse
import json
from collections.abc import Sequence

from xprnn import checks
from xprnn.backend.host.files import check_writable, output_folder, write_atomic
from xprnn.backend.host.quoting import printable
from xprnn.backend.host.threads import blas_threads
from xprnn.backend.registry import NAMES
from xprnn.cells import CELLS, get_cell
from xprnn.cli.common import tell
from xprnn.cli.parity.expected import Expected
from xprnn.cli.parity.junit import junit
from xprnn.cli.parity.page import page
from xprnn.cli.parity.places import Place
from xprnn.cli.parity.progress import Progress
from xprnn.cli.parity.table import Table, facts_of, functions_lines, head, tail
from xprnn.testing.parity.check import ALL_DTYPES, DTYPES, in_dtypes
from xprnn.testing.parity.suite import PROBLEMS, Result, Sizes, compare_functions, run_suite
from xprnn.testing.parity.watch import Watch

HELP = "check that all backends compute the same, your own included"
DESCRIPTION = """\
Compute the same networks on every backend and compare them with NumPy in float64: each function of
the namespace alone, the output, every gradient, an update by every optimizer, and a training.
Prints the largest errors, relative to the largest entry of each array, and where they are; a !
marks an error beyond its tolerance.  The exit status is 1 if anything disagrees, or if a backend
that was named can't be used.  --out writes parity.json."""
EXAMPLE = """\
examples:
  xprnn parity
  xprnn parity --backends numpy,torch --cells elman --dtype float64
  xprnn parity --backends torch,torch@cuda
  xprnn parity --backend mylibrary:namespace
  xprnn parity --json > parity.json"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options; unlike in other commands, --backend and --dtype take several."""
    add = parser.add_argument
    add(
        "--backends",
        metavar="NAMES",
        help="separated by commas; torch@cuda:1 names a device (default: all that are installed)",
    )
    add(
        "--backend",
        metavar="NAME",
        action="append",
        default=[],
        help="one more, may be repeated; module:namespace is an array library of your own (module: "
        "if the module itself is the namespace)",
    )
    add(
        "--cells",
        metavar="NAMES",
        default=",".join(CELLS),
        help="separated by commas (default: all)",
    )
    standard = ",".join(map(str, Sizes()))
    add(
        "--sizes",
        metavar="T,B,I,H,O",
        type=_sizes,
        default=Sizes(),
        help=f"steps, sequences, inputs, hidden units, outputs (default {standard})",
    )
    add(
        "--dtype",
        metavar="NAMES",
        default=",".join(DTYPES),
        help=f"separated by commas, of {', '.join(ALL_DTYPES)} (default {','.join(DTYPES)})",
    )
    add(
        "--steps",
        type=int,
        default=100,
        metavar="N",
        help="number of training steps, 0 for none (default 100)",
    )
    add(
        "--time-limit",
        type=float,
        metavar="SECONDS",
        help="for each problem on each backend in each dtype; what comes after it is skipped",
    )
    add(
        "--xfail",
        metavar="FILE",
        help="TOML with reasons for disagreements that are expected, by function and by cell",
    )
    add("--junit", metavar="FILE", help="also write the results as JUnit XML")
    add("--html", metavar="FILE", help="also write them as one HTML page")
    add("--json", action="store_true", help="print the result as JSON instead of a table")


def _sizes(text: str) -> Sizes:
    words = text.split(",")
    if len(words) != len(Sizes()) or not all(word.strip().isdecimal() for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is not five integers with commas, T,B,I,H,O")
    return Sizes(*map(int, words))


def run(args: argparse.Namespace) -> int:
    """Compute, compare and print."""
    limit = _checked(args)
    cells = {name: get_cell(name) for name in _words("--cells", args.cells)}
    dtypes = [checks.choice("--dtype", name, ALL_DTYPES) for name in _words("--dtype", args.dtype)]
    expected = Expected() if args.xfail is None else Expected.read(args.xfail)
    folder = None if args.out is None else output_folder(args.out)
    listed = NAMES if args.backends is None else _words("--backends", args.backends)
    places = [Place.of(name) for name in dict.fromkeys((*listed, *args.backend))]
    if "numpy" not in [place.name for place in places]:
        places.insert(0, Place.of("numpy"))
    # An error here comes before any work.
    backends = [place.backend for place in places if place.backend and _opened(place, dtypes)]
    table = Table(places, list(cells), dtypes, args.steps)
    results: list[Result] = []
    progress = Progress(len(cells) * len(PROBLEMS), silent=args.json)
    watch = Watch(progress.stage, limit)
    with progress.shown(), blas_threads(1):
        progress.print(head(places, dtypes))
        if not any(backend.name != "numpy" for backend in backends):
            raise RuntimeError(
                "there is no backend to compare with numpy: the smallest is array_api_strict (pip "
                "install array-api-strict), and --backend MODULE:NAMESPACE takes one of your own"
            )
        functions = compare_functions(backends, dtypes, watch)
        progress.print(functions_lines(places, functions))
        progress.print([table.head()])
        for name, cell in cells.items():
            mine = []
            for result in run_suite(
                {name: cell},
                backends,
                args.sizes,
                dtypes=dtypes,
                steps=args.steps,
                seed=args.seed,
                watch=watch,
                functions=functions,
            ):
                mine.append(expected.marked(result, places))
                progress.advance()
            progress.print(table.lines(mine))
            results += mine
        progress.print(tail(results, places, traces=args.debug))
        facts = facts_of(places, results, args.sizes, args.steps, args.seed)
    text = json.dumps(facts, indent=2)
    if args.json:
        print(text)
    if folder is not None:
        write_atomic(folder / "parity.json", f"{text}\n".encode())
        if not args.json:
            print(f"written to {folder}: parity.json")
    stale = expected.stale()
    if args.junit is not None:
        write_atomic(args.junit, junit(results, places, stale))
    if args.html is not None:
        write_atomic(args.html, page(facts, results, places, functions, stale))
    named = args.backend if args.backends is None else [place.name for place in places]
    missing = [
        place.name
        for place in places
        if place.name in named
        and (place.backend is None or (place.name != "numpy" and place.backend not in backends))
    ]
    if missing:
        tell(f"xprnn: error: can't be used: {', '.join(missing)}")
    for words in stale:
        tell(f"xprnn: error: --xfail {args.xfail}: {printable(words)}")
    return int(bool(missing or stale) or not facts["agrees"])


def _checked(args: argparse.Namespace) -> float | None:
    """Check the options that are numbers or files, and return the time limit."""
    for letter, size in args.sizes._asdict().items():
        checks.positive_int(f"{letter} of --sizes", size)
    if args.steps != 0:
        checks.positive_int("--steps", args.steps)
    for path in filter(None, (args.junit, args.html)):
        check_writable(path)
    limit = args.time_limit
    return None if limit is None else checks.number("--time-limit", limit, open_=True)


def _opened(place: Place, dtypes: Sequence[str]) -> bool:
    """Open a backend in every dtype that it has, and return whether it has any."""
    return place.backend is not None and bool(in_dtypes(place.backend, dtypes))


def _words(option: str, text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise ValueError(f"{option} is {text!r}: expected names with commas between")
    return words
