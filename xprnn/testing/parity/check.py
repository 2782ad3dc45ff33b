"""`assert_parity`: whether a network computes the same on every backend."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from xprnn import checks
from xprnn.backend import Backend, available_backends, get_backend, prefer
from xprnn.backend.host.arrays import Seed, generator
from xprnn.backend.types import Array
from xprnn.losses import Loss, get_loss
from xprnn.optim import OPTIMIZERS, SGD, Optimizer
from xprnn.testing.contract import check_contract
from xprnn.testing.parity.comparison import Comparison
from xprnn.testing.parity.functions import FunctionReport
from xprnn.testing.parity.problem import MakeNet, Problem, place_of
from xprnn.testing.parity.reference import compute_reference
from xprnn.testing.parity.report import ParityError, ParityReport, Side
from xprnn.testing.parity.watch import Watch

DTYPES = ("float64", "float32")
"""The dtypes that are compared by default."""
ALL_DTYPES = (*DTYPES, "float16", "bfloat16")


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
    mask: Any = None,
    window: int | None = None,
    dtypes: Sequence[str] = DTYPES,
    optimizers: Mapping[str, Optimizer] | None = None,
    steps: int = 100,
    rng: Seed = 0,
    time_limit: float | None = None,
) -> ParityReport:
    """Check that a network computes the same on every backend, and raise if it does not.

    Compared are, on every backend and in every dtype, in this order:

    - each function of the array API standard that xprnn uses, with NumPy: on small arrays of every
      layout, and on special values;
    - library, device, dtype and shape of all the network's arrays;
    - output, final state, loss and every gradient;
    - the parameters after one update by each optimizer;
    - the parameters after ``steps`` updates by the first optimizer.

    The reference computes all of it in float64, and everything is compared with that, also what the
    reference computes in float32.

    Parameters
    ----------
    make_net : callable
        ``make_net(backend) -> RNN`` returns a new network on a `Backend` (a library with a device
        and a dtype), always with the same weights: ``lambda backend: xprnn.RNN(3, 8, 2,
        backend=backend, rng=0)``.  Random numbers are drawn on the host, so a seed gives the same
        weights everywhere.  It is called several times for each backend.
    x : array_like of float (T, B, I), or of int (T, B)
        The input, on the host like all data here: NumPy arrays or lists.
    backends : sequence of str or Backend, optional
        The backends to compare; see `get_backend`.  ``"module:namespace"`` is a user namespace,
        whose functions compute everything here, even if its arrays are those of another library.
        None: all backends that are installed.
    reference : str or Backend
        The backend to compare with.
    target : array_like, optional
        None: drawn at random; classes for cross-entropy.
    loss : str or Loss
    state : sequence of array_like, optional
        The initial state.  None: zero.
    lengths : optional
    mask : array_like of bool, (T, B), optional
        Which steps exist; one of the two: see `RNN.forward`.
    window : int, optional
        See `RNN.backward`.
    dtypes : sequence of {"float64", "float32", "float16", "bfloat16"}
        What a device lacks is skipped.  In float16 and bfloat16 the training keeps its parameters,
        and what the optimizer remembers, in float32.
    optimizers : mapping of str to Optimizer, optional
        None: SGD with momentum, and each of `xprnn.optim.OPTIMIZERS` with its defaults.
    steps : int
        The number of updates in the training; 0 for no training.
    rng : int, numpy.random.Generator or None
        The source of the target.
    time_limit : float, optional
        In seconds, for each backend in each dtype; what comes after it is skipped.

    Returns
    -------
    ParityReport
        The worst error of every quantity and where it is, and the time of a training step.

    Raises
    ------
    ParityError
        An AssertionError with the report: a backend disagrees or can't compute something; or the
        reference's numbers can't be compared with, because they are not finite or all its gradients
        are zero.
    ContractError
        An AssertionError, too: on the reference, the cell returns something of the wrong form; see
        `check_contract`.
    TypeError, ValueError
        If an argument has a wrong type or an unknown value, a loss is not one number, or
        ``make_net`` returns a network on another backend or with other weights.
    ImportError, RuntimeError
        If a backend is not installed, or has no device that works.

    Notes
    -----
    Errors are relative to the largest entry of an array.  `xprnn.testing.parity.tolerances` has the
    tolerances and their reasons.  They do not depend on the problem, but what rounding does to this
    problem is measured and allowed on top (`xprnn.testing.parity.slack`).

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
    if time_limit is not None:
        time_limit = checks.number("time_limit", time_limit, open_=True)
    report = compare_backends(
        Problem(make_net, x, target, get_loss(loss), _tuple(state), lengths, window, mask),
        backends,
        reference,
        dtypes=dtypes,
        optimizers=optimizers,
        steps=steps,
        rng=rng,
        watch=Watch(limit=time_limit),
    )
    if not report.agrees:
        raise ParityError(report)
    return report


def compare_backends(
    problem: Problem,
    backends: Sequence[str | Backend] | None,
    reference: str | Backend = "numpy",
    *,
    dtypes: Sequence[str] = DTYPES,
    optimizers: Mapping[str, Optimizer] | None = None,
    steps: int = 100,
    rng: Seed = 0,
    watch: Watch | None = None,
    functions: dict[Backend, FunctionReport] | None = None,
) -> ParityReport:
    """Return the report of `assert_parity`, whose data may be anything on the host.

    Each function is compared once for all problems that share ``functions``.  A dtype that a device
    lacks is skipped there.

    Raises
    ------
    ValueError
        If a backend that was named has none of the dtypes; for the rest, see `assert_parity`.
    """
    dtypes = tuple(
        checks.choice("dtypes", dtype, ALL_DTYPES) for dtype in _several("dtypes", dtypes)
    )
    if steps != 0:
        steps = checks.positive_int("steps", steps)
    rules, watch = _optimizers(optimizers), watch or Watch()
    known = {} if functions is None else functions
    names = available_backends() if backends is None else _several("backends", backends)
    first = get_backend(reference, dtype="float64")
    opened = in_dtypes(first, dtypes)
    for one in _others(names, first):
        mine = in_dtypes(one, dtypes)
        if not mine and backends is not None:
            get_backend(one, dtype=dtypes[0])  # says which dtypes it has
        opened += mine
    host = get_backend("numpy", dtype="float64")
    problem = replace(
        problem,
        x=host.asarray(problem.x),
        target=None if problem.target is None else host.asarray(problem.target),
        state=None if problem.state is None else tuple(map(host.asarray, problem.state)),
    )
    with prefer(first.library), first.library.quiet():
        watch.tell(f"{first.name} as the reference")
        check_contract(problem.network(first).cell, backend=first)
        problem = problem.with_target(first, generator(rng))
        computed = compute_reference(problem, first, rules, steps, dtypes)
    fault = computed.fault()
    if fault is not None:
        device = first.library.device_name(first.device)
        side = Side(first.name, device, first.dtype_name, (fault,), None)
        raise ParityError(ParityReport(first.name, steps, (side,), computed.zero))
    sides = []
    for backend in opened:
        own = Watch(partial(_tell, watch, place_of(backend)), watch.limit)
        comparison = Comparison(problem, computed, backend, own, known.get(backend))
        sides.append(comparison.run(rules, steps))
        if comparison.functions is not None:
            known[backend] = comparison.functions
    return ParityReport(first.name, steps, tuple(sides), computed.zero)


def in_dtypes(backend: Backend, dtypes: Sequence[str]) -> list[Backend]:
    """Return a backend in each of the dtypes that its device has."""
    there = backend.library.dtypes(backend.device)
    return [get_backend(backend, dtype=dtype) for dtype in dtypes if dtype in there]


def _tuple(given: Sequence[Array] | None) -> tuple[Array, ...] | None:
    return None if given is None else tuple(given)


def _tell(watch: Watch, place: str, words: str) -> None:
    watch.tell(f"{place}: {words}")


def default_optimizers() -> dict[str, Optimizer]:
    """Return the optimizers of `assert_parity`, the one for the training first."""
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
    """Open the backends to compare with the first, each once."""
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
