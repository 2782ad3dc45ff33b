"""Whether a network computes the same on every backend."""

from collections.abc import Mapping, Sequence
from typing import Any

from xprnn import checks
from xprnn.backend import Backend, available_backends, get_backend, prefer
from xprnn.backend.host.arrays import Seed, generator
from xprnn.backend.types import Array
from xprnn.losses import Loss, get_loss
from xprnn.optim import OPTIMIZERS, SGD, Optimizer
from xprnn.testing.contract import check_contract
from xprnn.testing.parity.comparison import Measurement
from xprnn.testing.parity.problem import MakeNet, Problem
from xprnn.testing.parity.reference import take_truth
from xprnn.testing.parity.report import ParityError, ParityReport, Side

DTYPES = ("float64", "float32")


def assert_parity(
    make_net: MakeNet,
    x: Array,
    backends: Sequence[str | Backend] | None = None,
    reference: str | Backend = "numpy",
    *,
    target: Array | None = None,
    loss: str | Loss = "squared_error",
    state: Sequence[Array] | None = None,
    lengths: Any = None,
    window: int | None = None,
    dtypes: Sequence[str] = DTYPES,
    optimizers: Mapping[str, Optimizer] | None = None,
    steps: int = 100,
    rng: Seed = 0,
) -> ParityReport:
    """Check that a network computes the same on every backend.

    On every backend, in every dtype, in this order: each function of the namespace that xprnn uses
    by itself; then namespace, device, dtype and shape of all the network's arrays; output, final
    state, loss and every gradient; the parameters after one update by each optimizer; the
    parameters after ``steps`` updates by the first of them.  All of it is compared with what the
    reference computes in float64, the reference's own float32 included.

    Parameters
    ----------
    make_net : callable
        ``make_net(backend) -> RNN``, called with an opened `Backend` (a library, a device, a
        dtype), several times with each, to return a new network on it, always of the same weights:
        ``lambda backend: xprnn.RNN(3, 8, 2, backend=backend, rng=0)``.  Random numbers are drawn on
        the host, so the same seed gives the same weights everywhere.
    x : array_like of float (T, B, I), or of int (T, B)
        On the host, as all data here: NumPy arrays or lists.
    backends : sequence of str or Backend, optional
        See `get_backend`; ``"module:namespace"`` is one of your own, whose functions are used for
        everything here, also if its arrays are another library's.  None: all that are installed.
    reference : str or Backend
    target : array_like, optional
        None: drawn at random, classes for cross-entropy.
    loss : str or Loss
    state : sequence of array_like, optional
        The initial state; None for zero.
    lengths : optional
        See `RNN.forward`.
    window : int, optional
        See `RNN.backward`.
    dtypes : sequence of {"float64", "float32"}
    optimizers : mapping of str to Optimizer, optional
        None: SGD with momentum, and each of `xprnn.optim.OPTIMIZERS` as it is by default.
    steps : int
        Of the training; 0 for none.
    rng : int, numpy.random.Generator or None
        Of the target.

    Returns
    -------
    ParityReport
        The worst error of every quantity and where it is, and the time of a training step.

    Raises
    ------
    ParityError
        An AssertionError with the report: if a backend disagrees, or can't do something, or if the
        reference's numbers are none to agree with, being NaN, infinite, or gradients that are all
        zero.
    ContractError
        An AssertionError, too: on the reference the cell returns something of the wrong form; see
        `check_contract`.
    TypeError, ValueError
        If an argument is of the wrong type or unknown, a loss is no number, or ``make_net`` makes a
        network that is elsewhere or has other weights.
    ImportError, RuntimeError
        If a backend is not installed, or has no device that works.

    Notes
    -----
    An error is relative to the array's norm, its largest entry.  The tolerances and their reasons
    are in `xprnn.testing.parity.tolerances`; none depends on the case.

    Examples
    --------
    >>> import numpy as np, xprnn
    >>> def make_net(backend):
    ...     return xprnn.RNN(3, 8, 2, backend=backend, rng=0)
    >>> x = np.random.default_rng(0).normal(size=(5, 4, 3))
    >>> report = assert_parity(make_net, x, ["array_api_strict"], steps=10)
    >>> [(side.backend, side.dtype) for side in report.sides]
    [('numpy', 'float64'), ('numpy', 'float32'), ('array_api_strict', 'float64'),
     ('array_api_strict', 'float32')]
    """
    dtypes = tuple(checks.choice("dtypes", dtype, DTYPES) for dtype in _several("dtypes", dtypes))
    if steps != 0:
        steps = checks.positive_int("steps", steps)
    rules = _optimizers(optimizers)
    names = available_backends() if backends is None else _several("backends", backends)
    first = get_backend(reference, dtype="float64")
    opened = [
        get_backend(backend, dtype=dtype)
        for backend in (first, *_others(names, first))
        for dtype in dtypes
    ]
    host = get_backend("numpy", dtype="float64")
    problem = Problem(
        make_net,
        host.asarray(x),
        None if target is None else host.asarray(target),
        get_loss(loss),
        None if state is None else tuple(host.asarray(part) for part in state),
        lengths,
        window,
    )
    with prefer(first.library), first.library.quiet():
        check_contract(problem.network(first).cell, backend=first)
        problem = problem.with_target(first, generator(rng))
        truth = take_truth(problem, first, rules, steps, dtypes)
    fault = truth.fault()
    if fault is not None:
        device = first.library.device_name(first.device)
        side = Side(first.name, device, first.dtype_name, (fault,), None)
        raise ParityError(ParityReport(first.name, steps, (side,), truth.zero))
    sides = tuple(Measurement(problem, truth, backend).run(rules, steps) for backend in opened)
    report = ParityReport(first.name, steps, sides, truth.zero)
    if not report.agrees:
        raise ParityError(report)
    return report


def default_optimizers() -> dict[str, Optimizer]:
    """Return what a network is trained with: the first for many steps, all for one."""
    rules: dict[str, Optimizer] = {"momentum": SGD(0.05, momentum=0.9)}
    return rules | {name: kind() for name, kind in OPTIMIZERS.items()}


def _optimizers(given: object) -> dict[str, Optimizer]:
    if given is None:
        return default_optimizers()
    if not isinstance(given, Mapping) or not given:
        raise TypeError(f"optimizers is {given!r}: expected a mapping, name -> optimizer")
    for name, rule in given.items():
        if isinstance(rule, type) or not isinstance(rule, Optimizer):
            raise TypeError(f"optimizers[{name!r}] is {rule!r}: expected an optimizer instance")
    return dict(given)


def _others(names: Sequence[Any], first: Backend) -> list[Backend]:
    """Return the backends to compare with the first, opened, each once."""
    opened: dict[tuple[str, str], Backend] = {}
    for name in names:
        backend = get_backend(name)
        place = backend.name, backend.library.device_name(backend.device)
        if place != (first.name, first.library.device_name(first.device)):
            opened[place] = backend
    if not opened:
        raise ValueError(f"there is no backend to compare {first.name} with: got {list(names)}")
    return list(opened.values())


def _several(name: str, given: object) -> tuple[Any, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise TypeError(f"{name} is {given!r}: expected a list of them")
    return tuple(given)
