"""Updates of NumPy's arrays by compiled loops, from the rule's own formula.

`xprnn.optim.recipes` makes a program of the formula.  Its numbers, which differ from update to
update, are arguments of the compiled function, so it is compiled once.  It goes through all arrays
of a parameter in blocks that stay in the cache, where NumPy calls go through whole arrays, a dozen
times.  Each operation is rounded as NumPy rounds it: the new values are the same to the bit, except
for the sign of a zero.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from xprnn.backend import library_of
from xprnn.backend.host import tuning
from xprnn.backend.host.arrays import np
from xprnn.backend.host.pool import empty
from xprnn.backend.host.threads import compute_threads, share
from xprnn.backend.numba.build import NumbaError, build, types
from xprnn.backend.numba.waiting import let_workers_spin
from xprnn.backend.types import Array, Rule
from xprnn.engine.gradients import GradientArray
from xprnn.engine.loop.numba.names import formula_names
from xprnn.engine.loop.numba.rows import Rows
from xprnn.engine.loop.program import BOOL, CONSTANT, INPUT, Node, Program
from xprnn.engine.loop.text import function, indented
from xprnn.engine.loop.tracer import Untraceable
from xprnn.optim.recipes import KEPT, recipe

BLOCK = 1024
"""Entries that are updated before the next ones are: some rows of as many are in the first-level
cache at once."""

_FLOATS = {np.dtype("float32"): types.float32, np.dtype("float64"): types.float64}
_WHOLE = 64
"""A multiple of this many entries is a thread's part, so that none writes into another's lines."""

Update = Callable[..., None]


class _Task(NamedTuple):
    """A parameter to update.

    Attributes
    ----------
    update : callable
        ``update(numbers, first, last, g, *arrays, *places)``.
    numbers : array of float64
        The formula's numbers.
    size : int
        Entries.
    arrays : list of array
        Gradient, parameter and memories, then the places of the new values, all of one axis.
    """

    update: Update
    numbers: Array
    size: int
    arrays: list[Array]

    def do(self, k: int, threads: int) -> None:
        """Update the k-th of as many parts as there are threads."""
        bounds = [self.size * i // threads // _WHOLE * _WHOLE for i in (k, k + 1)]
        if k == threads - 1:
            bounds[1] = self.size
        self.update(self.numbers, *bounds, *self.arrays)


def compiled_update(
    formulas: Mapping[str, Rule],
    gradients: Mapping[str, GradientArray],
    parameters: Mapping[str, Array],
    memories: Sequence[Mapping[str, Array]],
    into: Sequence[Mapping[str, Array]] | None,
) -> dict[str, tuple[Array | None, ...]]:
    """Return the new arrays of those parameters that compiled code can update.

    That are those with a dense gradient, arrays in row-major order of one dtype, float32 or
    float64, and a formula that can be traced.  The arguments are those of
    `xprnn.optim.walk.update_each`.
    """
    tasks: list[_Task] = []
    new: dict[str, tuple[Array | None, ...]] = {}
    known: dict[tuple[int, tuple[bool, ...], Any], tuple[Update, Array] | None] = {}
    for name, p in parameters.items():
        g, arrays = gradients[name], (p, *[memory.get(name) for memory in memories])
        if not _suitable(g, arrays):
            continue
        formula, present = formulas[name], tuple([a is not None for a in arrays])
        key = id(formula), present, p.dtype
        if key not in known:
            known[key] = _made(formula, present, p.dtype)
        found = known[key]
        if found is None:
            continue
        if into is None:
            places = [None if a is None else empty(a.shape, a.dtype) for a in arrays]
        else:
            pairs = zip(arrays, [kind.get(name) for kind in into], strict=True)
            places = [None if a is None else _place(place, a) for a, place in pairs]
        # Views of one axis.
        flat = [a.ravel() for a in (g, *arrays, *places) if a is not None]
        tasks.append(_Task(*found, p.size, flat))
        new[name] = tuple(places)
    _do(tasks)
    return new


def _do(tasks: Sequence[_Task]) -> None:
    """Update all parameters, in several threads if there is enough to do."""
    total = sum([task.size for task in tasks])
    threads = total // tuning.UPDATE_PER_THREAD
    if threads > 1:
        threads = min(threads, compute_threads())
    if threads < 2:
        for update, numbers, size, arrays in tasks:
            update(numbers, 0, size, *arrays)
        return
    let_workers_spin()
    large = [task for task in tasks if task.size >= threads * _WHOLE]
    small = [task for task in tasks if task.size < threads * _WHOLE]

    def part(k: int) -> None:
        if k == 0:
            # By the thread that called, because the others begin later.
            for task in small:
                task.do(0, 1)
        for task in large:
            task.do(k, threads)

    share(part, range(threads))


def _suitable(g: GradientArray, arrays: Sequence[Array | None]) -> bool:
    """Whether compiled code takes a parameter's arrays."""
    # An array of another class may compute in another way, and one of no axes is a scalar.
    if type(g) is not np.ndarray or not g.ndim or g.dtype not in _FLOATS:
        return False
    dtype = g.dtype
    for a in (g, *arrays):
        if a is None:
            continue
        if type(a) is not np.ndarray or a.dtype != dtype:
            return False
        flags = a.flags
        if not flags.carray and not (flags.c_contiguous and flags.aligned):
            return False
    return True


def _place(given: Array | None, a: Array) -> Array:
    """Return the array for the new values of another: the one given up, if it fits."""
    if (
        type(given) is np.ndarray
        and given.shape == a.shape
        and given.dtype == a.dtype
        and given.flags.carray
    ):
        return given
    return empty(a.shape, a.dtype)


def _made(formula: Rule, present: tuple[bool, ...], dtype: Any) -> tuple[Update, Array] | None:
    """Return a formula, compiled, and its numbers; None if it can't be."""
    xp = library_of(_SAMPLE).namespace()
    try:
        made = recipe(formula, present, xp, _FLOATS[dtype].name)
    except Untraceable:
        return None
    # By its identity, which is no other program's while the entry refers to it.
    key = id(made.nodes), present, dtype
    if key not in _updates:
        if len(_updates) >= KEPT:
            _updates.clear()
        _updates[key] = _compiled(made.nodes, made.results, sum(present), dtype), made.nodes
    update = _updates[key][0]
    return None if update is None else (update, np.array(made.numbers, np.float64))


_SAMPLE = np.empty(0)
_updates: dict[tuple[int, tuple[bool, ...], Any], tuple[Update | None, object]] = {}
_announced: set[str] = set()


@lru_cache(maxsize=256)
def _compiled(
    nodes: tuple[Node, ...], results: tuple[int, ...], count: int, dtype: Any
) -> Update | None:
    """Return ``update(numbers, first, last, g, *arrays, *places)``; None if Numba can't compile it.

    ``count`` is the number of arrays besides g, and of places.
    """
    if len(results) != count:
        return None
    entry = _FLOATS[dtype]
    given, filled = types.Array(entry, 1, "C", readonly=True), types.Array(entry, 1, "C")
    numbers = types.Array(types.float64, 1, "C", readonly=True)
    bounds = types.intp, types.intp
    arrays = [given] * (1 + count) + [filled] * count
    names = formula_names(dtype.name) | {"BLOCK": BLOCK}
    names |= {
        f"k{index}": node.value
        for index, node in enumerate(nodes)
        if node.op == CONSTANT and node.kind == BOOL
    }
    signature = types.void(numbers, *bounds, *arrays)
    # A rule may have several formulas: for biases, say.  They are told of in one line.
    words = "" if dtype.name in _announced else f"the optimizer's update in {dtype.name}"
    _announced.add(dtype.name)
    source = _source(nodes, results, count)
    try:
        built = build(source, names, signature, fastmath=(), announced=words)
    except NumbaError:
        # Numba may lack a function that the formula uses.
        return None
    call: Update = built.call
    return call


def _source(nodes: tuple[Node, ...], results: tuple[int, ...], count: int) -> str:
    """Return the source of the function.

    New values are put where they belong at the end of a block, because a formula may read an array
    again after the new one is known, and because a compiler makes no vector instructions of a loop
    whose arrays may overlap.
    """
    computed = {index: f"t{index}" for index in results if nodes[index].op not in (INPUT, CONSTANT)}
    rows = Rows(Program(nodes, {"new": results}), computed)
    numbers = [
        f"k{index} = dtype(numbers[{place}])"
        for place, index in enumerate(
            index for index, node in enumerate(nodes) if node.op == CONSTANT and node.kind != BOOL
        )
    ]
    names = ["g", *(f"a{k}" for k in range(count))]
    lines = [
        *numbers,
        *(f"{name} = empty(BLOCK, dtype)" for name in computed.values()),
        *(
            f"{name} = empty(BLOCK, {'boolean' if kind == BOOL else 'dtype'})"
            for name, kind in rows.scratch.items()
        ),
        *(f"at_{name} = {name}_.ctypes.data" for name in names),
        *(f"at_r{k} = r{k}_.ctypes.data" for k in range(count)),
        "for at in range(first, last, BLOCK):",
        "    n = min(BLOCK, last - at)",
        *(f"    {name} = row(zero, at_{name} + at * SIZE, n)" for name in names),
        *indented(rows.loops()),
    ]
    for k, index in enumerate(results):
        node = nodes[index]
        value = f"k{index}" if node.op == CONSTANT else f"{rows.name(index)}[j]"
        lines += [
            f"    r{k} = row(zero, at_r{k} + at * SIZE, n)",
            "    for j in range(n):",
            f"        r{k}[j] = {value}",
        ]
    places = [f"r{k}_" for k in range(count)]
    arguments = ["numbers", "first", "last", *(f"{name}_" for name in names), *places]
    return function(f"update({', '.join(arguments)})", lines)
