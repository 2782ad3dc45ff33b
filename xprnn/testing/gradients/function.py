"""`check_gradient`: any function over a namespace against its hand-written backward."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xprnn.backend import Backend, find_library, get_backend
from xprnn.backend.host.arrays import Seed, generator
from xprnn.backend.host.threads import blas_threads
from xprnn.testing.gradients.check import Options, check
from xprnn.testing.gradients.pair import check_float64, pair_of, word_of
from xprnn.testing.gradients.report import (
    GradientError,
    GradientReport,
    common_factor,
    kinks_of,
)


def check_gradient(
    function: Callable[..., Any],
    backward: Callable[..., Any],
    *arrays: object,
    backend: str | Backend | None = None,
    mode: str = "auto",
    directions: int = 2,
    tolerance: float | None = None,
    rng: Seed = 0,
) -> GradientReport:
    """Compare any function's hand-written gradient with numeric derivatives, and raise if wrong.

    For authors of operators, kernels, layers and losses: no cell, no network::

        y = function(xp, *arrays)
        d_arrays = backward(xp, *arrays, dy)

    must satisfy ⟨dy, J v⟩ = ⟨d_arrays, v⟩ for a random dy and all directions v, where J is the
    derivative of the function.  Both get the namespace of a backend first, and compute in float64.

    Parameters
    ----------
    function : callable
        Returns an array, or a tuple of arrays, of floats.
    backward : callable
        Takes the same arguments, and after them the gradient of what the function returns: an
        array, or a tuple of arrays.  It returns the gradient of every array: a tuple, or an array
        if there is only one.  None stands for an array of integers or truth values, or for zero.
    *arrays : array_like
        The point: numbers, (nested) lists, host arrays, or arrays of the backend.  Floats are
        converted to float64; integers and truth values are passed as they are, and have no
        gradient.
    backend : str or Backend, optional
        None: that of the first array that is not of the host, or else NumPy.
    mode : {"auto", "forward", "complex", "central", "directions"}
        See `check_gradients`.
    directions : int
        See `check_gradients`.
    tolerance : float, optional
        See `check_gradients`.
    rng : int, numpy.random.Generator or None
        Where dy and the directions are drawn from.

    Returns
    -------
    GradientReport
        A finding for each array, by the name of the function's parameter.

    Raises
    ------
    GradientError
        An AssertionError, with the report: a gradient is wrong, or there are kinks everywhere, so
        that there is no gradient; the message has the place of the kink.
    ContractError
        An AssertionError, too: what is returned has the wrong number, shape, dtype or library; an
        argument is written into; the same call gives two results; or float64 is combined with
        narrower floats.
    TypeError, ValueError
        If `function` or `backward` can't be called with these arguments, or an argument does not
        fit.

    Examples
    --------
    >>> import numpy as np, xprnn
    >>> def softplus(xp, x):
    ...     return xp.log1p(xp.exp(x))
    >>> def softplus_backward(xp, x, dy):
    ...     return dy / (1 + xp.exp(-x))
    >>> x = np.random.default_rng(0).normal(size=(3, 4))
    >>> report = xprnn.testing.check_gradient(softplus, softplus_backward, x)
    >>> report.method, report.passed
    ('forward mode of every entry', True)
    """
    options, random = Options(mode, directions, tolerance), generator(rng)
    backend = _backend_of(arrays) if backend is None else backend
    double = get_backend(backend, dtype="float64")
    given = tuple(double.asarray(a) for a in arrays)
    names = _names(function, len(given))
    floats = [bool(double.xp.isdtype(a.dtype, "real floating")) for a in given]
    if not any(floats):
        raise TypeError("there is no array of floats among the arguments: nothing has a gradient")
    _callable("function", function, ("xp", *names))
    _callable("backward", backward, ("xp", *names, "dy"))
    with double.library.quiet(), blas_threads(1):
        pair = pair_of(function, backward, double, given, names, floats, random)
        gradients = pair.gradients()
        check_float64(pair)
        found = check(pair.function(), gradients, pair.size(), options, random)
    report = GradientReport(
        f"{word_of(backward)} of {word_of(function)}",
        found.method,
        found.tolerance,
        found.findings,
        found.notes,
    )
    if not report.passed:
        raise GradientError(_message(report, backward), report)
    return report


def _backend_of(arrays: Sequence[object]) -> str | Backend:
    """Return the backend of the first array that is not of the host; without one, NumPy."""
    for a in arrays:
        library = find_library(a)
        if library is not None and library.name != "numpy":
            device = library.device_of(a)
            return get_backend(library.name, library.device_name(device), "float64")
    return "numpy"


def _names(function: Callable[..., Any], count: int) -> tuple[str, ...]:
    """Return the names of the arrays: those of the function's parameters after the namespace."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[1:]
    except (TypeError, ValueError):
        parameters = []
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in parameters if p.kind in plain][:count]
    return (*names, *(f"arrays[{k}]" for k in range(len(names), count)))


def _callable(role: str, called: object, names: Sequence[str]) -> None:
    """Refuse what can't be called with these arguments."""
    if not callable(called):
        raise TypeError(f"{role} is {called!r}: expected a callable")
    try:
        inspect.signature(called).bind(*names)
    except TypeError as error:
        raise TypeError(
            f"{role} is {word_of(called)}, which can't be called as "
            f"{word_of(called)}({', '.join(names)}): {error}"
        ) from error
    except ValueError:
        return  # of a compiled function nothing is known before it is called


def _message(report: GradientReport, backward: Callable[..., Any]) -> str:
    if not report.failures:
        return "every gradient is zero, or lost in rounding, which shows nothing"
    worst, *others = report.failures
    wrong = [finding for finding in report.findings if not finding.passed]
    sentence, common = worst.sentence(report.method), common_factor(wrong)
    if common and len(common.names) > 1:
        lines = [f"{common.words}: look at what they share in {_place(backward)}", sentence]
    else:
        lines = [
            sentence,
            kinks_of(report) if worst.verdict == "kinks" else "",
            f"look at the lines of {_place(backward)} that make it",
            common.words if common else "",
        ]
    also = f"also failed: {', '.join(finding.name for finding in others)}" if others else ""
    return "\n".join(line for line in (*lines, also) if line)


def _place(function: Callable[..., Any]) -> str:
    """Return a function's name, file and line."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    at = f" ({Path(code.co_filename).name}:{code.co_firstlineno})" if code else ""
    return f"{word_of(function)}{at}"
