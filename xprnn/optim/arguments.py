"""Checks of what an update and clipping are given, all of them before anything changes."""

from collections.abc import Mapping
from typing import Any

from xprnn.backend import describe, library_of
from xprnn.backend.types import Array
from xprnn.engine.gradients import FactoredGradient, GradientArray, SparseGradient
from xprnn.optim.protocol import Gradients, Parameters


class NaNGradientError(ValueError):
    """A gradient has entries that are NaN.

    Attributes
    ----------
    names : list of str
        The parameters that it belongs to.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            f"the gradient of {', '.join(names)} has entries that are NaN: nothing was changed"
        )
        self.names = names


def check_mapping(name: str, given: object) -> None:
    """Refuse what is not a mapping of names to arrays."""
    # A dict first: to ask an abstract class takes longer.
    if isinstance(given, dict) or isinstance(given, Mapping):  # noqa: SIM101
        return
    hint = f": expected {name}.parameters" if hasattr(given, "parameters") else ""
    raise TypeError(
        f"{name} is of type {type(given).__name__}{hint or ': expected a dict of arrays by name'}"
    )


def check_gradients(gradients: Gradients, parameters: Parameters) -> None:
    """Refuse gradients that are not those of the parameters, or have entries that are NaN.

    Raises
    ------
    TypeError, ValueError
    """
    check_mapping("gradients", gradients)
    check_mapping("parameters", parameters)
    if gradients.keys() != parameters.keys():
        _refuse_names("gradients", gradients, parameters)
    for name, p in parameters.items():
        g, kind = gradients[name], type(p)
        # What is of the parameter's class and shape needs no further question.
        if isinstance(g, FactoredGradient):
            fits = type(g.left) is type(g.right) is kind
        else:
            fits = type(g.values if isinstance(g, SparseGradient) else g) is kind
        if not fits or g.shape != p.shape:
            _check_array(f"gradients[{name!r}]", g, p)
    check_not_nan(gradients)


def check_not_nan(gradients: Gradients) -> None:
    """Raise an error that names the parameters whose gradients have entries that are NaN."""
    parts: list[Array] = []
    for g in gradients.values():
        if isinstance(g, FactoredGradient):
            parts += (g.left, g.right)
        else:
            parts.append(g.values if isinstance(g, SparseGradient) else g)
    if not parts:
        return
    library = library_of(parts[0])
    if library.any_nan(parts):
        raise NaNGradientError([k for k, g in gradients.items() if library.any_nan(_floats(g))])


def check_state_type(rule: object, state: object, kind: type) -> None:
    """Refuse a state that another rule made."""
    if type(state) is not kind:
        raise TypeError(
            f"state is of type {type(state).__name__}: expected the {kind.__name__} that "
            f"{type(rule).__name__}.init(parameters) or the update before returned"
        )


def check_memory(rule: object, name: str, memory: Any, parameters: Parameters, kept: bool) -> None:
    """Refuse a dict of a state that does not fit the parameters, or the rule's options.

    Parameters
    ----------
    kept : bool
        Whether the rule, with its options, has an array for every parameter in this dict; if not,
        it is empty.
    """
    if not kept:
        if memory:
            raise ValueError(
                f"state.{name} has arrays: expected it empty, as {rule} has no such memory; "
                "the state is of other options"
            )
        return
    if not isinstance(memory, Mapping):
        raise TypeError(f"state.{name} is of type {type(memory).__name__}: expected a dict")
    if not memory and parameters:
        raise ValueError(
            f"state.{name} is empty: expected an array for every parameter; "
            f"the state is of other options than those of {rule}"
        )
    if memory.keys() != parameters.keys():
        _refuse_names(f"state.{name}", memory, parameters)
    for key, p in parameters.items():
        a = memory[key]
        if a.shape != p.shape or type(a) is not type(p):
            _check_array(f"state.{name}[{key!r}]", a, p)


def _floats(g: GradientArray) -> tuple[Array, ...]:
    """Return the arrays that hold a gradient's numbers."""
    if isinstance(g, SparseGradient):
        return (g.values,)
    return (g.left, g.right) if isinstance(g, FactoredGradient) else (g,)


def _refuse_names(name: str, given: Mapping[str, Any], parameters: Parameters) -> None:
    missing = [key for key in parameters if key not in given]
    if missing:
        raise KeyError(
            f"{name} lacks {', '.join(map(str, missing))}: expected an array for every parameter"
        )
    extra = [str(key) for key in given if key not in parameters]
    raise KeyError(
        f"{name} has {', '.join(extra)}, which no parameter is called: known are "
        f"{', '.join(map(str, parameters))}"
    )


def _check_array(name: str, a: object, p: Array) -> None:
    """Refuse what is not an array, or a gradient, of the library and the shape of a parameter."""
    given = a.shape if isinstance(a, SparseGradient | FactoredGradient) else None
    if given is None:
        if not hasattr(a, "shape") or not hasattr(a, "dtype"):
            raise TypeError(f"{name} is of type {type(a).__name__}: expected an array")
        if library_of(a) is not library_of(p):
            raise TypeError(f"{name} is {describe(a)}: expected an array like {describe(p)}")
        given = a.shape
    elif any(library_of(part) is not library_of(p) for part in _floats(a)):
        raise TypeError(f"{name} is of another library than the parameter, {describe(p)}")
    if tuple(given) != tuple(p.shape):
        raise ValueError(f"{name} has shape {tuple(given)}: expected {tuple(p.shape)}")
