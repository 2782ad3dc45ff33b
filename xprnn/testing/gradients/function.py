"""`check_gradient`: any function over a namespace against its hand-written backward."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from xprnn.backend import Backend, describe, dtype_name, find_library, get_backend
from xprnn.backend.differentiation import dual_backend, lifted
from xprnn.backend.host.arrays import Generator, HostArray, Seed, generator, np
from xprnn.backend.host.threads import blas_threads
from xprnn.backend.types import Array, Namespace
from xprnn.testing.arrays import host_copy
from xprnn.testing.contract import ContractError
from xprnn.testing.gradients.check import Options, check
from xprnn.testing.gradients.compare import Gradients
from xprnn.testing.gradients.goal import weighted
from xprnn.testing.gradients.numeric import Analytic, Direction, Function, Pushed
from xprnn.testing.gradients.report import (
    GradientError,
    GradientReport,
    common_factor,
    kinks_of,
)
from xprnn.testing.precision import ADVICE, narrower_in, watch


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
        subject = _subject(function, backward, double, given, names, floats, random)
        gradients = subject.gradients()
        _in_float64(subject)
        found = check(subject.function(), gradients, subject.size(), options, random)
    report = GradientReport(
        f"{_word(backward)} of {_word(function)}",
        found.method,
        found.tolerance,
        found.findings,
        found.notes,
    )
    if not report.passed:
        raise GradientError(_message(report, backward), report)
    return report


@dataclass(frozen=True)
class _Subject:
    """The number Σ dy y, as a function of the arrays.

    Attributes
    ----------
    forward, backward : callable
    backend : Backend
        In float64.
    arrays : dict of array
        The arguments by name.
    variables : tuple of str
        The names of those that have a gradient.
    weights : tuple of array
        dy, on the host.
    single : bool
        Whether the function returns an array, and no tuple.
    """

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    backend: Backend
    arrays: Mapping[str, Array]
    variables: tuple[str, ...]
    weights: tuple[HostArray, ...]
    single: bool

    def function(self) -> Function:
        hosts = {name: host_copy(self.backend, self.arrays[name]) for name in self.variables}
        return Function(hosts, self._terms, push=self._push)

    def size(self) -> float:
        """Return S of `xprnn.testing.gradients.compare`."""
        y = _results(self.forward(self.backend.xp, *self.arrays.values()))
        pairs = zip(y, self.weights, strict=True)
        sizes = (np.maximum(1, np.abs(host_copy(self.backend, a))) * w for a, w in pairs)
        return float(np.sqrt(sum(np.sum(part * part) for part in sizes)))

    def dy(self) -> Any:
        """Return the gradient of what the function returns, in its form."""
        arrays = tuple(self.backend.asarray(w) for w in self.weights)
        return arrays[0] if self.single else arrays

    def gradients(self) -> Gradients:
        """Return the gradients under test, after a check of their form."""
        backend, arrays = self.backend, tuple(self.arrays.values())
        dy = self.dy()
        kept = [host_copy(backend, a) for a in (*arrays, *_results(dy))]
        first = self._called(arrays, dy)
        words = (*self.arrays, *(f"dy[{k}]" for k in range(len(kept) - len(arrays))))
        for name, before, a in zip(words, kept, (*arrays, *_results(dy)), strict=True):
            if not np.array_equal(before, host_copy(backend, a), equal_nan=True):
                raise ContractError(
                    f"{_word(self.backward)} writes into {name}: expected it to leave its "
                    "arguments alone"
                )
        again = self._called(arrays, dy)
        for name, a in first.items():
            if not np.array_equal(a, again[name], equal_nan=True):
                raise ContractError(
                    f"{_word(self.backward)} gives two results for the same arguments: the "
                    f"gradient of {name} differs"
                )
        return first

    def _called(self, arrays: Sequence[Array], dy: Any) -> dict[str, HostArray]:
        """Call backward, and return the gradients on the host."""
        backend, word = self.backend, _word(self.backward)
        returned = self.backward(backend.xp, *arrays, dy)
        found = tuple(returned) if isinstance(returned, tuple | list) else (returned,)
        if len(found) != len(arrays):
            raise ContractError(
                f"{word} returned {len(found)} gradient{'s' * (len(found) > 1)}: expected "
                f"{len(arrays)}, of {', '.join(self.arrays)}"
            )
        gradients = {}
        for (name, a), g in zip(self.arrays.items(), found, strict=True):
            if name not in self.variables:
                continue
            if g is None:
                gradients[name] = np.zeros(tuple(a.shape))
                continue
            _of_form(f"{word} returned for {name}", g, backend, tuple(a.shape))
            gradients[name] = host_copy(backend, g)
        return gradients

    def _terms(self, moved: Direction) -> HostArray:
        backend, xp = self.backend, self.backend.xp
        arrays = dict(self.arrays)
        if any(np.iscomplexobj(a) for a in moved.values()):
            xp = Analytic(xp)
            arrays |= {n: self._device(host_copy(backend, arrays[n]) + 0j) for n in self.variables}
        arrays |= {name: self._device(a) for name, a in moved.items()}
        y = _results(self.forward(xp, *arrays.values()))
        pairs = zip(y, self.weights, strict=True)
        return np.concatenate([(backend.to_numpy(a) * w).ravel() for a, w in pairs])

    def _push(self, at: Direction, tangents: Direction) -> Pushed:
        dual = dual_backend(self.backend)

        def lift(name: str, a: Array) -> Array:
            along = self._device(tangents[name]) if name in tangents else None
            return lifted(dual, self._device(at[name]) if name in at else a, along)

        arrays = [lift(name, a) for name, a in self.arrays.items()]
        width = next(iter(tangents.values())).shape[0]
        return weighted(dual, _results(self.forward(dual.xp, *arrays)), self.weights, width)

    def _device(self, a: HostArray) -> Array:
        return self.backend.library.from_host(a, self.backend.device)


def _subject(
    function: Callable[..., Any],
    backward: Callable[..., Any],
    backend: Backend,
    given: Sequence[Array],
    names: Sequence[str],
    floats: Sequence[bool],
    rng: Generator,
) -> _Subject:
    """Call the function, check what it returns, and return what is to be differentiated."""
    arrays = dict(zip(names, given, strict=True))
    before = [host_copy(backend, a) for a in given]
    y = function(backend.xp, *given)
    results = _results(y)
    for k, part in enumerate(results):
        word = f"{_word(function)} returned" + (f" at place {k}" if len(results) > 1 else "")
        _of_form(word, part, backend, None)
    for name, kept, a in zip(names, before, given, strict=True):
        if not np.array_equal(kept, host_copy(backend, a), equal_nan=True):
            raise ContractError(
                f"{_word(function)} writes into {name}: expected it to leave its arguments alone"
            )
    shapes = [tuple(part.shape) for part in results]
    weights = tuple(np.asarray(rng.normal(size=shape)) for shape in shapes)
    variables = tuple(name for name, real in zip(names, floats, strict=True) if real)
    single = not isinstance(y, tuple | list)
    return _Subject(function, backward, backend, arrays, variables, weights, single)


def _in_float64(subject: _Subject) -> None:
    """Refuse formulas that combine float64 with narrower floats; tried on the host."""
    xp: Namespace = get_backend("numpy", dtype="float64").xp
    arrays = watch(host_copy(subject.backend, a) for a in subject.arrays.values())
    dy = watch(subject.weights)
    calls = {
        _word(subject.forward): partial(subject.forward, xp, *arrays),
        _word(subject.backward): partial(
            subject.backward, xp, *arrays, dy[0] if subject.single else dy
        ),
    }
    for word, call in calls.items():
        narrower = narrower_in(call)
        if narrower is not None:
            raise ContractError(f"{word} {narrower}: {ADVICE}")


def _results(y: Any) -> tuple[Array, ...]:
    return tuple(y) if isinstance(y, tuple | list) else (y,)


def _of_form(words: str, a: Any, backend: Backend, shape: tuple[int, ...] | None) -> None:
    """Refuse what is no array of the backend in float64, or of another shape."""
    if not backend.library.is_array(a):
        raise ContractError(f"{words} {describe(a)}: expected an array of {backend.name}")
    if a.dtype != backend.dtype:
        given = dtype_name(a.dtype)
        raise ContractError(f"{words} an array of {given}: expected float64, as the arguments")
    if shape is not None and tuple(a.shape) != shape:
        raise ContractError(f"{words} an array of shape {tuple(a.shape)}: expected {shape}")


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
            f"{role} is {_word(called)}, which can't be called as "
            f"{_word(called)}({', '.join(names)}): {error}"
        ) from error
    except ValueError:
        return  # of a compiled function nothing is known before it is called


def _word(function: object) -> str:
    return str(getattr(function, "__name__", None) or type(function).__name__)


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
    return f"{_word(function)}{at}"
