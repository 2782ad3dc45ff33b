"""`assert_parity`: whether a network computes the same on every backend."""

from collections.abc import Mapping, Sequence
from typing import Any

from xprnn import checks
from xprnn.backend import Backend, available_backends, get_backend, prefer
from xprnn.backend.host.arrays import Seed, generator
from xprnn.backend.types import Array
from xprnn.losses import Loss, get_loss
from xprnn.optim import OPTIMIZERS, SGD, Optimizer
from xprnn.testing.contract import check_contract
from xprnn.testing.parity.comparison import Comparison
from xprnn.testing.parity.problem import MakeNet, Problem
from xprnn.testing.parity.reference import compute_reference
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
    """Check that a network computes the same on every backend, and raise if it does not.

    Compared are, on every backend and in every dtype, in this order:

    - each function of the array API standard that xprnn uses, on small arrays;
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
        See `RNN.forward`.
    window : int, optional
        See `RNN.backward`.
    dtypes : sequence of {"float64", "float32"}
    optimizers : mapping of str to Optimizer, optional
        None: SGD with momentum, and each of `xprnn.optim.OPTIMIZERS` with its defaults.
    steps : int
        The number of updates in the training; 0 for no training.
    rng : int, numpy.random.Generator or None
        The source of the target.

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
        computed = compute_reference(problem, first, rules, steps, dtypes)
    fault = computed.fault()
    if fault is not None:
        device = first.library.device_name(first.device)
        side = Side(first.name, device, first.dtype_name, (fault,), None)
        raise ParityError(ParityReport(first.name, steps, (side,), computed.zero))
    sides = tuple(Comparison(problem, computed, backend).run(rules, steps) for backend in opened)
    report = ParityReport(first.name, steps, sides, computed.zero)
    if not report.agrees:
        raise ParityError(report)
    return report


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
