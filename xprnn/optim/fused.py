"""Updates on a CUDA device: one kernel for all parameters, from the rule's own formula.

`xprnn.optim.recipes` makes a program of the formula.  Its numbers, which differ from update to
update, become arguments of the kernel, so it is compiled once.

A sparse gradient is not spread out: each thread looks its row (or column) up among the gradient's
indices.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from xprnn.backend import dtype_name, library_of
from xprnn.backend.cuda.blocks import EACH, THREADS, blocks_for, chosen
from xprnn.backend.cuda.precision import PRECISIONS
from xprnn.backend.types import Array, Rule
from xprnn.engine.gradients import GradientArray, SparseGradient, component, multiplied_out
from xprnn.engine.loop.cuda.functions import expression, literal, prelude
from xprnn.engine.loop.program import BOOL, CONSTANT, INPUT, Node
from xprnn.engine.loop.tracer import Untraceable
from xprnn.optim.recipes import Recipe, recipe

TOGETHER = 8
"""How many parameters one launch serves, at most."""

NAME = "xprnn_update"


class _Task(NamedTuple):
    """A parameter to update.

    Attributes
    ----------
    name : str
    gradient : array or SparseGradient
    arrays : tuple of array
        The parameter and its memories, without those that are None.
    """

    name: str
    gradient: Array | SparseGradient
    arrays: tuple[Array, ...]


class _Form(NamedTuple):
    """What a kernel is made for: all that its text depends on.

    Attributes
    ----------
    dtype : str
    nodes : tuple of Node
        The formula, its constants without their values.
    results : tuple of int
        The node of each new array.
    sparse : tuple of bool
        Of each parameter, whether its gradient is sparse.
    keeps : bool
        Whether rows that a sparse gradient does not hold stay unchanged.
    """

    dtype: str
    nodes: tuple[Node, ...]
    results: tuple[int, ...]
    sparse: tuple[bool, ...]
    keeps: bool


def fused_update(
    formulas: Mapping[str, Rule],
    gradients: Mapping[str, GradientArray],
    parameters: Mapping[str, Array],
    memories: Sequence[Mapping[str, Array]],
    *,
    lazy: bool,
) -> dict[str, tuple[Array | None, ...]] | None:
    """Return each parameter's new arrays, the parameter first; see `xprnn.optim.walk`.

    None if the formula is not elementwise, so that it can't be traced.
    """
    groups: dict[tuple[Any, ...], list[_Task]] = {}
    for name, p in parameters.items():
        arrays = (p, *(memory.get(name) for memory in memories))
        present = tuple(a is not None for a in arrays)
        _check_devices(name, gradients[name], arrays)
        key = (id(formulas[name]), present, dtype_name(p.dtype), library_of(p).device_of(p))
        task = _Task(
            name, multiplied_out(gradients[name]), tuple(a for a in arrays if a is not None)
        )
        groups.setdefault(key, []).append(task)
    new: dict[str, tuple[Array | None, ...]] = {}
    for (_, present, dtype, _), tasks in groups.items():
        xp = library_of(tasks[0].arrays[0]).namespace()
        try:
            made = recipe(formulas[tasks[0].name], present, xp, dtype)
        except Untraceable:
            return None
        for k in range(0, len(tasks), TOGETHER):
            arrays_of = _launched(made, dtype, tasks[k : k + TOGETHER], keeps=lazy)
            for task, arrays in zip(tasks[k:], arrays_of, strict=False):
                each = iter(arrays)
                new[task.name] = tuple(next(each) if there else None for there in present)
    return {name: new[name] for name in parameters}


def _check_devices(name: str, g: GradientArray, arrays: Sequence[Array | None]) -> None:
    """Refuse arrays that are not all on the device of the parameter, the first of them."""
    p, *memories = arrays
    library = library_of(p)
    device = library.device_of(p)
    for what, a in (("gradients", component(g)), *(("state's array", a) for a in memories)):
        if a is not None and library.device_of(a) != device:
            raise ValueError(
                f"{what}[{name!r}] is on device {library.device_of(a)}: expected {device}, "
                "where the parameter is"
            )


def _launched(
    made_of: Recipe, dtype: str, tasks: Sequence[_Task], *, keeps: bool
) -> list[tuple[Array, ...]]:
    """Launch the kernel for some parameters, and return their new arrays."""
    library = library_of(tasks[0].arrays[0])
    kernels, xp = library.kernels(), library.namespace()
    sparse = tuple(isinstance(task.gradient, SparseGradient) for task in tasks)
    form = _Form(dtype, made_of.nodes, made_of.results, sparse, keeps)
    # A constant is an argument, so that another learning rate needs no other kernel.
    arguments: list[Any] = list(made_of.numbers)
    made, most = [], 1
    for task in tasks:
        arrays = [kernels.contiguous(a) for a in task.arrays]
        new = tuple(xp.empty(a.shape, dtype=a.dtype, device=library.device_of(a)) for a in arrays)
        most = max(most, arrays[0].size)
        arguments += [arrays[0].size, *_gradient(task), *arrays, *new]
        made.append(new)
    launch = kernels.compiled(NAME, _text(form))
    launch((blocks_for(most), len(tasks)), (THREADS, 1), tuple(arguments))
    return made


def _gradient(task: _Task) -> list[Any]:
    """Return a gradient's arguments: its values, and if it is sparse where they belong."""
    g, library = task.gradient, library_of(task.arrays[0])
    kernels = library.kernels()
    values = library.namespace().astype(component(g), task.arrays[0].dtype, copy=False)
    if not isinstance(g, SparseGradient):
        return [kernels.contiguous(values)]
    rows = values if g.axis == 0 else values.T
    indices = library.namespace().astype(g.indices, library.namespace().int64, copy=False)
    numbers = (indices.shape[0], g.shape[1], g.axis, rows.shape[1])
    return [kernels.contiguous(rows), kernels.contiguous(indices), *numbers]


_SEARCH = """real g_;
        bool absent = false;
        if (width) {
            const long long row = i / width, column = i - row * width, at = axis ? column : row;
            long long low = 0, high = slots;
            while (low < high) {
                const long long middle = (low + high) / 2;
                if (index[middle] < at) low = middle + 1;
                else high = middle;
            }
            absent = low == slots || index[low] != at;
            g_ = absent ? 0 : load(g, low * length + (axis ? row : column));
        } else g_ = load(g, i);"""
"""Reads an entry of a gradient, which may be sparse: then the width of the matrix is not 0."""


@lru_cache(maxsize=256)
def _text(form: _Form) -> str:
    """Return the kernel."""
    precision = PRECISIONS[form.dtype]
    count = len(form.results)
    arrays = {f"a{k}": "const stored* __restrict__" for k in range(count)}
    arrays |= {f"r{k}": "stored*" for k in range(count)}
    dense = {"g": "const stored* __restrict__"}
    where = {"index": "const long long* __restrict__"}
    where |= dict.fromkeys(("slots", "width", "axis", "length"), "long long")
    parameters, choice = chosen(
        [dense | (where if sparse else {}) | arrays for sparse in form.sparse]
    )
    body = [_SEARCH if any(form.sparse) else "const real g_ = load(g, i);"]
    if any(form.sparse) and form.keeps:
        copies = " ".join(f"store(r{k}, i, load(a{k}, i));" for k in range(count))
        body += [f"if (absent) {{ {copies} continue; }}"]
    names, constants = list[str](), list[str]()
    for index, node in enumerate(form.nodes):
        if node.op == CONSTANT and node.kind != BOOL:
            constants.append(f"double c{index}")
            names.append(f"(real)c{index}")
        elif node.op == CONSTANT:
            names.append(literal(node, precision))
        elif node.op == INPUT:
            names.append(f"{node.value}_")
            if node.value != "g":
                body.append(f"const real {node.value}_ = load({node.value}, i);")
        else:
            value = expression(node.op, [names[a] for a in node.args], precision)
            kind = "bool" if node.kind == BOOL else "real"
            body.append(f"const {kind} x{index} = {value};")
            names.append(f"x{index}")
    body += [f"store(r{k}, i, {names[index]});" for k, index in enumerate(form.results)]
    head = ",\n    ".join([*constants, parameters])
    lines = "\n        ".join(body)
    return f"""{prelude(precision, {node.op for node in form.nodes})}
extern "C" __global__ void {NAME}(
    {head})
{{{EACH}
    {choice}
    for (long long i = first; i < n; i += stride) {{
        {lines}
    }}
}}
"""
