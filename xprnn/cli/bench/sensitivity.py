"""``xprnn bench sensitivity``: the smallest wrong gradient that a check finds, beside others."""

import argparse
from collections.abc import Callable, Iterator
from typing import NamedTuple

from xprnn._version import __version__
from xprnn.backend import Backend, available_backends, get_backend
from xprnn.backend.host.arrays import np
from xprnn.bench.process import result_of
from xprnn.bench.sensitivity import PeerRow, Planted, smallest_found
from xprnn.bench.timing import PEERS
from xprnn.cli.bench.options import against_option, json_option, peers_of
from xprnn.cli.bench.report import Report, machine
from xprnn.engine.loop.lowering import disable_lowering
from xprnn.engine.network import RNN
from xprnn.testing import GradientError, check_cell, check_gradients

HELP = "find the smallest error that checks of gradients find, beside torch and JAX"
DESCRIPTION = """\
Multiply one gradient of an LSTM (that of the input gate's argument) by 1 + e, and look for the
smallest e at which a check fails: xprnn.testing.check_cell in each of its modes and check_gradients
along random directions, on every backend in float64; torch.autograd.gradcheck and
jax.test_util.check_grads with their default options, on the same formulas, in processes of their
own.  The e are 0.1, 0.05, 0.02, 0.01 and so on.  --backend, --dtype and --seed change nothing;
--out writes bench-sensitivity.json."""
EXAMPLE = """\
examples:
  xprnn bench sensitivity
  xprnn bench sensitivity --backends numpy,module:namespace --against none"""

CELL_MODES = ("forward", "complex", "central")
GUEST = "numpy:"
"""A user namespace that is always there."""


class SensitivityRow(NamedTuple):
    """What a check of xprnn finds.

    Attributes
    ----------
    backend, check, mode : str
    smallest : float or None
        The smallest relative error that it finds; None: the mode can't be used.
    """

    backend: str
    check: str
    mode: str
    smallest: float | None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--backends",
        metavar="NAMES",
        help="backends, separated by commas, or user namespaces as module:attribute (default: all "
        f"that can be used, and {GUEST})",
    )
    against_option(parser, PEERS)
    json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Plant, check and print."""
    names = (*available_backends(), GUEST)
    if args.backends is not None:
        names = tuple(name.strip() for name in args.backends.split(","))
    backends = [get_backend(name, dtype="float64") for name in names]
    peers = peers_of(args.against, PEERS)
    report = Report("sensitivity", args)
    versions = ", ".join(f"{name} {version}" for name, version in peers.versions().items())
    facts = machine()
    report.tell(f"{facts['platform']}, Python {facts['python']}, xprnn {__version__}, {versions}")
    report.tell_missing(peers)
    report.tell(f"{'check':<26}{'backend':<18}{'mode':<12}smallest error found")
    rows = []
    for backend in backends:
        for row in rows_of(backend):
            rows.append(row)
            report.tell(_line(row.check, row.backend, row.mode, row.smallest))
    others = []
    for library in peers.installed:
        found = result_of("xprnn.bench.sensitivity", library, what=f"the check of {library}")
        other = PeerRow(*found)
        others.append(other)
        report.tell(_line(other.check, library, "default", other.smallest))
    report.finish(
        {
            **peers.facts(),
            "rows": [row._asdict() for row in rows],
            "others": [other._asdict() for other in others],
        }
    )
    return 0


def rows_of(backend: Backend) -> Iterator[SensitivityRow]:
    """Yield what every check of xprnn finds on a backend."""
    for mode in CELL_MODES:
        yield SensitivityRow(backend.name, "check_cell", mode, _smallest(_by_cell(backend, mode)))
    found = _smallest(_by_network(backend))
    yield SensitivityRow(backend.name, "check_gradients", "directions", found)


def _smallest(check: Callable[[float], object]) -> float | None:
    def found(error: float) -> bool:
        try:
            check(error)
        except GradientError:
            return True
        return False

    try:
        with disable_lowering():
            return smallest_found(found)
    except ValueError:
        return None  # the mode can't be used on this backend


def _by_cell(backend: Backend, mode: str) -> Callable[[float], object]:
    return lambda error: check_cell(Planted(error=error), backend=backend, mode=mode)


def _by_network(backend: Backend) -> Callable[[float], object]:
    x = backend.asarray(np.random.default_rng(1).normal(size=(3, 2, 3)))

    def check(error: float) -> object:
        net = RNN(3, 4, 2, cell=Planted(error=error), backend=backend, rng=0)
        return check_gradients(net, x, mode="directions")

    return check


def _line(check: str, backend: str, mode: str, smallest: float | None) -> str:
    words = "can't be used" if smallest is None else f"{smallest:.0e}"
    return f"{check:<26}{backend:<18}{mode:<12}{words}"
