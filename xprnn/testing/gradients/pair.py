"""A function and its backward, as what a check of gradients differentiates and compares."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from xprnn.backend import Backend, describe, dtype_name, get_backend
from xprnn.backend.differentiation import dual_backend, lifted
from xprnn.backend.host.arrays import Generator, HostArray, np
from xprnn.backend.types import Array, Namespace
from xprnn.testing.arrays import host_copy
from xprnn.testing.contract import ContractError
from xprnn.testing.gradients.compare import Gradients
from xprnn.testing.gradients.goal import weighted
from xprnn.testing.gradients.numeric import Analytic, Direction, Function, Pushed
from xprnn.testing.precision import ADVICE, narrower_in, watch


@dataclass(frozen=True)
class Pair:
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
        """Return the number as a function of host arrays."""
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
                    f"{word_of(self.backward)} writes into {name}: expected it to leave its "
                    "arguments alone"
                )
        again = self._called(arrays, dy)
        for name, a in first.items():
            if not np.array_equal(a, again[name], equal_nan=True):
                raise ContractError(
                    f"{word_of(self.backward)} gives two results for the same arguments: the "
                    f"gradient of {name} differs"
                )
        return first

    def _called(self, arrays: Sequence[Array], dy: Any) -> dict[str, HostArray]:
        """Call backward, and return the gradients on the host."""
        backend, word = self.backend, word_of(self.backward)
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


def pair_of(
    function: Callable[..., Any],
    backward: Callable[..., Any],
    backend: Backend,
    given: Sequence[Array],
    names: Sequence[str],
    floats: Sequence[bool],
    rng: Generator,
) -> Pair:
    """Call the function, check what it returns, and return what is to be differentiated."""
    arrays = dict(zip(names, given, strict=True))
    before = [host_copy(backend, a) for a in given]
    y = function(backend.xp, *given)
    results = _results(y)
    for k, part in enumerate(results):
        word = f"{word_of(function)} returned" + (f" at place {k}" if len(results) > 1 else "")
        _of_form(word, part, backend, None)
    for name, kept, a in zip(names, before, given, strict=True):
        if not np.array_equal(kept, host_copy(backend, a), equal_nan=True):
            raise ContractError(
                f"{word_of(function)} writes into {name}: expected it to leave its arguments alone"
            )
    shapes = [tuple(part.shape) for part in results]
    weights = tuple(np.asarray(rng.normal(size=shape)) for shape in shapes)
    variables = tuple(name for name, real in zip(names, floats, strict=True) if real)
    single = not isinstance(y, tuple | list)
    return Pair(function, backward, backend, arrays, variables, weights, single)


def check_float64(pair: Pair) -> None:
    """Refuse formulas that combine float64 with narrower floats; tried on the host."""
    xp: Namespace = get_backend("numpy", dtype="float64").xp
    arrays = watch(host_copy(pair.backend, a) for a in pair.arrays.values())
    dy = watch(pair.weights)
    calls = {
        word_of(pair.forward): partial(pair.forward, xp, *arrays),
        word_of(pair.backward): partial(pair.backward, xp, *arrays, dy[0] if pair.single else dy),
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


def word_of(function: object) -> str:
    """Return the name of a function, for messages."""
    return str(getattr(function, "__name__", None) or type(function).__name__)
