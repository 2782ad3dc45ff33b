"""`check_contract`: whether a cell returns what the engine expects, and changes no arguments."""

import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

from xprnn.backend import Backend, describe, dtype_name, get_backend
from xprnn.backend.host.arrays import Generator, HostArray, Seed, generator, np
from xprnn.backend.types import Array
from xprnn.cells import (
    Arrays,
    Cell,
    get_cell,
    has_recurrent_matrix,
    recurrent_blocks,
    second_product,
    unit_names,
)
from xprnn.testing.arrays import host_copy, largest_finite
from xprnn.testing.operand import OperandCell
from xprnn.testing.precision import ADVICE, narrower_in, watch


class ContractError(AssertionError):
    """A cell, a loss or a network returns something of the wrong form, or writes into arguments."""


class Sample(NamedTuple):
    """The arguments of one step: arrays of (B, H), and of (H,) for per-unit parameters."""

    u: Arrays
    v: Arrays
    units: Arrays
    state: Arrays
    d_state: Arrays


class Step(NamedTuple):
    """What `forward` and `backward` of a cell return for a sample."""

    state: Arrays
    saved: Arrays
    du: tuple[Array | None, ...]
    dv: tuple[Array | None, ...]
    d_previous: tuple[Array | None, ...]


def check_contract(cell: str | Cell, *, backend: str | Backend = "numpy", rng: Seed = 0) -> None:
    """Check that a cell returns what the engine expects, in float32 and in float64.

    Checked on random arguments are

    - that `forward` and `backward` can be called with the engine's arguments;
    - the number, shape, dtype and library of all arrays that `forward` and `backward` return;
    - that neither writes into its arguments, or into arrays that it returned before;
    - that the same arguments give the same results, and parts of a batch those of the whole;
    - that `backward` of all steps at once, (T, B, H), gives the same as step by step;
    - that float64 arguments are not combined with narrower floats.

    Whether the derivatives are right is checked by `check_cell`.

    Parameters
    ----------
    cell : str or Cell
    backend : str or Backend
        The backend to compute on.
    rng : int, numpy.random.Generator or None
        The source of the arguments.

    Raises
    ------
    ContractError
        An AssertionError: the first thing that is wrong, as what was returned and what was
        expected.

    Examples
    --------
    >>> import xprnn
    >>> xprnn.testing.check_contract("lstm")
    """
    cell, random = get_cell(cell), generator(rng)
    for dtype in ("float32", "float64"):
        contract_in(cell, get_backend(backend, dtype=dtype), random)


def contract_in(cell: Cell, backend: Backend, rng: Generator) -> None:
    """Check a cell's contract in one dtype."""
    given = getattr(cell, "recurrent_matrix", True)
    if not isinstance(given, bool):
        _fail(cell, f"recurrent_matrix is {given!r}: expected True or False")
    _takes(cell, "forward", ("xp", "u", "v", "state"))
    _takes(cell, "backward", ("xp", "saved", "previous", "d_state"))
    if second_product(cell):
        _takes(cell, "operand", ("xp", "u", "v", "state"))
        _takes(cell, "operand_backward", ("xp", "saved", "previous", "d_operand"))
        contract_in(OperandCell(cell), backend, rng)
    samples = [draw(cell, backend, rng) for _ in range(2)]
    first = take_step(cell, backend, samples[0])
    kept = _returned(backend, first)
    steps = [first, take_step(cell, backend, samples[1])]
    _not_overwritten(cell, kept, _returned(backend, first))
    _repeatable(cell, backend, samples[0], first)
    _in_parts(cell, backend, samples[0], first)
    _all_at_once(cell, backend, samples, steps)
    if backend.dtype_name == "float64":
        _all_in_float64(cell, backend, samples[0])


def draw(cell: Cell, backend: Backend, rng: Generator, batch: int = 3, hidden: int = 4) -> Sample:
    """Return random arguments of one step."""

    def arrays(count: int, *shape: int) -> Arrays:
        return tuple(backend.asarray(rng.normal(size=shape)) for _ in range(count))

    variables = len(cell.state)
    return Sample(
        arrays(cell.gates, batch, hidden),
        arrays(recurrent_blocks(cell), batch, hidden),
        arrays(len(unit_names(cell)), hidden),
        arrays(variables, batch, hidden),
        arrays(variables, batch, hidden),
    )


def take_step(cell: Cell, backend: Backend, sample: Sample) -> Step:
    """Call `forward` and `backward` of a cell, and check the form of what they return.

    Raises
    ------
    ContractError
        If it is wrong, or an argument has been written into.
    """
    xp, shape = backend.xp, tuple(sample.u[0].shape)
    variables = f"({', '.join(cell.state)})"
    v = (*sample.v, *sample.units)
    before = _hosts(backend, u=sample.u, v=v, state=sample.state)
    returned = _forward(cell, backend, sample, v)
    _unchanged(cell, "forward", before, _hosts(backend, u=sample.u, v=v, state=sample.state))
    state, saved = _parts(cell, "forward", returned, ("state", "saved"))
    _count(cell, "forward's state", state, len(cell.state), variables)
    _arrays(cell, "forward's state", state, backend, shape)
    _count(cell, "forward's saved", saved)
    _arrays(cell, "forward's saved", saved, backend, shape, saved=True)

    kept = (*saved, *sample.units)
    given = {"saved": kept, "previous": sample.state, "d_state": sample.d_state, "state": state}
    before = _hosts(backend, **given)
    gradients = cell.backward(xp, kept, sample.state, sample.d_state)
    _unchanged(cell, "backward", before, _hosts(backend, **given))
    du, dv, d_previous = _parts(cell, "backward", gradients, ("du", "dv", "d_previous"))
    gates, units = cell.gates, unit_names(cell)
    also = f" and one for each of {', '.join(units)}" if units else ""
    _count(cell, "backward's du", du, gates, f"G = {gates}")
    blocks = recurrent_blocks(cell)
    expected = f"G = {gates}{also}" if blocks else f"none, as it has no recurrent_matrix{also}"
    _count(cell, "backward's dv", dv, blocks + len(units), expected)
    _count(cell, "backward's d_previous", d_previous, len(cell.state), variables)
    partly = bool(second_product(cell))
    _arrays(cell, "backward's du", du, backend, shape, optional=partly)
    _arrays(cell, "backward's dv", dv, backend, shape, optional=partly)
    _arrays(cell, "backward's d_previous", d_previous, backend, shape, optional=True)
    return Step(tuple(state), tuple(saved), tuple(du), tuple(dv), tuple(d_previous))


def _forward(cell: Cell, backend: Backend, sample: Sample, v: Arrays) -> Any:
    """Call `forward`, and say what is wrong if a cell reads blocks of v that it says it doesn't."""
    try:
        return cell.forward(backend.xp, sample.u, v, sample.state)
    except (IndexError, ValueError) as error:
        if has_recurrent_matrix(cell):
            raise
        units = len(unit_names(cell))
        _fail(
            cell,
            f"forward fails with {type(error).__name__}: {error}; the cell has "
            f"recurrent_matrix = False, so v is a tuple of {units}, its per-unit parameters alone: "
            "expected it to read no block of U h(t-1)",
        )


def _takes(cell: Cell, method: str, names: tuple[str, ...]) -> None:
    """Refuse a method that can't be called with these arguments."""
    try:
        signature = inspect.signature(getattr(cell, method))
    except ValueError:
        return  # of a compiled function nothing is known before it is called
    try:
        signature.bind(*names)
    except TypeError as error:
        _fail(cell, f"{method} can't be called as {method}({', '.join(names)}): {error}")


def _returned(backend: Backend, step: Step) -> dict[str, HostArray]:
    """Return copies of the arrays of a step, by names for messages."""
    found: dict[str, HostArray] = {}
    for field, arrays in step._asdict().items():
        method = "forward" if field in ("state", "saved") else "backward"
        there = {k: a for k, a in enumerate(arrays) if a is not None}
        hosts = _hosts(backend, **{field: tuple(there.values())}).values()
        found |= {f"{method}'s {field}[{k}]": a for k, a in zip(there, hosts, strict=True)}
    return found


def _not_overwritten(cell: Cell, before: dict[str, HostArray], after: dict[str, HostArray]) -> None:
    for name, array in before.items():
        if not _same(array, after[name]):
            _fail(
                cell,
                f"{name} of one step is overwritten by the next step: expected new arrays from "
                "every call, as all steps are kept until backward has gone through them",
            )


def _all_in_float64(cell: Cell, backend: Backend, sample: Sample) -> None:
    """Refuse a cell that combines float64 with a narrower float.

    It is tried on the host, because the formulas are the same on every backend.
    """
    xp = get_backend("numpy", dtype="float64").xp
    u, v, units, state, d_state = (watch(backend.to_numpy(a) for a in arrays) for arrays in sample)
    saved: list[Array] = []

    def forward() -> None:
        saved.extend(cell.forward(xp, u, (*v, *units), state)[1])

    def backward() -> None:
        cell.backward(xp, (*watch(saved), *units), state, d_state)

    for method in (forward, backward):
        narrower = narrower_in(method)
        if narrower is not None:
            _fail(cell, f"{method.__name__} {narrower}: {ADVICE}")


def _repeatable(cell: Cell, backend: Backend, sample: Sample, first: Step) -> None:
    """Refuse a cell whose results for the same arguments differ."""
    again = take_step(cell, backend, sample)
    for field, one, other in zip(Step._fields, first, again, strict=True):
        for k, (a, b) in enumerate(zip(one, other, strict=True)):
            if a is not None and not _same(backend.to_numpy(a), backend.to_numpy(b)):
                _fail(cell, f"{field}[{k}] differs when the same step is taken again")


def _in_parts(cell: Cell, backend: Backend, sample: Sample, whole: Step) -> None:
    """Refuse a cell whose results for a sequence depend on the others in the batch."""
    u, v, units, state, d_state = sample
    rows = slice(0, 1)

    def some(arrays: Iterable[Array | None]) -> Any:
        return tuple(None if a is None else a[rows, ...] for a in arrays)

    part = take_step(cell, backend, Sample(some(u), some(v), units, some(state), some(d_state)))
    near = 64 * float(backend.xp.finfo(backend.dtype).eps)
    for field, one, other in zip(Step._fields, part, whole, strict=True):
        for k, (a, b) in enumerate(zip(one, some(other), strict=True)):
            if a is None:
                continue
            got, want = backend.to_numpy(a), backend.to_numpy(b)
            allowed = near * max(1.0, largest_finite(want))
            if not np.allclose(got, want, rtol=0, atol=allowed, equal_nan=True):
                _fail(cell, f"{field}[{k}] of a sequence differs when it is alone in its batch")


def _all_at_once(cell: Cell, backend: Backend, samples: list[Sample], steps: list[Step]) -> None:
    """Refuse a cell whose `backward` of all steps at once differs from that of each step."""
    xp, shape = backend.xp, (len(samples), *samples[0].u[0].shape)
    # The units are the same at all steps.
    units = samples[0].units

    def stacked(parts: Iterable[Arrays]) -> Arrays:
        return tuple(xp.stack(arrays) for arrays in zip(*parts, strict=True))

    each = [
        cell.backward(xp, (*step.saved, *units), sample.state, sample.d_state)
        for sample, step in zip(samples, steps, strict=True)
    ]
    whole = cell.backward(
        xp,
        (*stacked(step.saved for step in steps), *units),
        stacked(sample.state for sample in samples),
        stacked(sample.d_state for sample in samples),
    )
    near = 64 * float(xp.finfo(backend.dtype).eps)
    for j, word in enumerate(("du", "dv", "d_previous")):
        name = f"backward's {word}, of all steps at once,"
        _count(cell, name, whole[j], len(each[0][j]), "as of one step")
        optional = word == "d_previous" or bool(second_product(cell))
        _arrays(cell, name, whole[j], backend, shape, optional=optional)
        for k, array in enumerate(whole[j]):
            if array is None:
                continue
            got = backend.to_numpy(array)
            want = np.stack([backend.to_numpy(one[j][k]) for one in each])
            allowed = near * max(1.0, largest_finite(want))
            if not np.allclose(got, want, rtol=0, atol=allowed, equal_nan=True):
                _fail(cell, f"{name} differs from that of single steps in block {k}")


def _parts(cell: Cell, method: str, returned: object, names: tuple[str, ...]) -> tuple[Any, ...]:
    wanted = f"({', '.join(names)})"
    if not isinstance(returned, tuple | list) or len(returned) != len(names):
        _fail(cell, f"{method} returned {_what(returned)}: expected {wanted}")
    return tuple(returned)


def _count(cell: Cell, name: str, parts: object, count: int | None = None, of: str = "") -> None:
    if not isinstance(parts, tuple | list):
        _fail(cell, f"{name} is {_what(parts)}: expected a tuple of arrays")
    if count is not None and len(parts) != count:
        blocks = "array" if len(parts) == 1 else "arrays"
        _fail(cell, f"{name} has {len(parts)} {blocks}: expected {count}, {of}")


def _arrays(
    cell: Cell,
    name: str,
    parts: tuple[Array | None, ...],
    backend: Backend,
    shape: tuple[int, ...],
    *,
    optional: bool = False,
    saved: bool = False,
) -> None:
    for k, a in enumerate(parts):
        if optional and a is None:
            continue
        if a is None or not backend.library.is_array(a):
            _fail(cell, f"{name}[{k}] is {_what(a)}: expected an array of {backend.name}")
        if tuple(a.shape) != shape:
            _fail(cell, f"{name}[{k}] has shape {tuple(a.shape)}: expected {shape}")
        # A cell may save booleans.
        if a.dtype != backend.dtype and (not saved or backend.xp.isdtype(a.dtype, "real floating")):
            given = dtype_name(a.dtype)
            _fail(cell, f"{name}[{k}] has dtype {given}: expected {backend.dtype_name}, as given")


def _hosts(backend: Backend, **named: Arrays) -> dict[str, HostArray]:
    return {
        f"{name}[{k}]": host_copy(backend, a)
        for name, arrays in named.items()
        for k, a in enumerate(arrays)
    }


def _unchanged(
    cell: Cell, method: str, before: dict[str, HostArray], after: dict[str, HostArray]
) -> None:
    for name, array in before.items():
        if not _same(array, after[name]):
            _fail(cell, f"{method} writes into {name}: expected it to leave its arguments alone")


def _same(a: HostArray, b: HostArray) -> bool:
    return np.array_equal(a, b, equal_nan=True)


def _what(a: object) -> str:
    return f"a {type(a).__name__} of {len(a)}" if isinstance(a, tuple | list) else describe(a)


def _fail(cell: Cell, what: str) -> NoReturn:
    raise ContractError(f"{cell}: {what}")
