"""Formulas as lists of operations: what tracing makes of them, and what it refuses."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.gated import Gated
from xprnn.cells import GRU, LSTM, Elman
from xprnn.engine.loop.numpy.loops import NumPyLoops
from xprnn.engine.loop.numpy.phases import Phase, late_nodes
from xprnn.engine.loop.numpy.plan import plan_backward, plan_forward
from xprnn.engine.loop.numpy.regroup import regrouped
from xprnn.engine.loop.numpy.storage import Storage
from xprnn.engine.loop.program import Builder, Node, Program
from xprnn.engine.loop.protocol import Recurrent
from xprnn.engine.loop.trace import trace, trace_forward
from xprnn.engine.loop.tracer import Tracer, Untraceable


@dataclass(frozen=True)
class Formula:
    """A cell of one gate whose next state is a function of u + v."""

    function: Any
    gates = 1
    state = ("h",)

    def forward(self, xp, u, v, state):
        return (self.function(xp, u[0], v[0], state[0]),), ()

    def backward(self, xp, saved, previous, d_state):
        return (d_state[0],), (d_state[0],), (None,)


def text(function) -> str:
    return str(trace_forward(Formula(function)))


def test_a_formula_in_words():
    assert str(trace_forward(Elman("logistic"))).splitlines() == [
        "n2 = add(u0, v0)",
        "n4 = multiply(0.5, n2)",
        "n5 = tanh(n4)",
        "n6 = multiply(0.5, n5)",
        "n7 = add(n6, 0.5)",
        "state: n7",
        "saved: n7",
    ]


@pytest.mark.parametrize(
    ("function", "operations"),
    [
        (lambda xp, u, v, h: xp.tanh(u + v) * xp.tanh(v + u), 3),
        (lambda xp, u, v, h: (u - v) * (v - u), 3),
        (lambda xp, u, v, h: (u + v) ** 2 + (u + v) * (u + v) + xp.square(u + v), 4),
        (lambda xp, u, v, h: xp.negative(-(u + v)), 1),
        (lambda xp, u, v, h: 1 * (u + v) / 1 - 0, 1),
        (lambda xp, u, v, h: (u + v) + 0, 2),
        (lambda xp, u, v, h: (u + v) * xp.ones_like(u), 1),
        (lambda xp, u, v, h: u + v * (xp.full_like(u, 3) - 1), 2),
        (lambda xp, u, v, h: (xp.exp(u), u + v)[1], 1),
        (lambda xp, u, v, h: xp.where(u > 0, v, v), 0),
        (lambda xp, u, v, h: xp.astype(u, h.dtype) + xp.asarray(2.0, dtype=u.dtype), 1),
    ],
)
def test_the_same_is_computed_once_and_what_does_nothing_never(function, operations):
    assert trace_forward(Formula(function)).operations() == operations


def test_constants_are_computed_beforehand():
    assert text(lambda xp, u, v, h: u * (xp.exp(xp.zeros_like(u)) + 0.5)) == (
        "n2 = multiply(u0, 1.5)\nstate: n2\nsaved: "
    )
    assert text(lambda xp, u, v, h: u + xp.where(xp.ones_like(u) > 0, 2.0, xp.inf) * xp.pi) == (
        f"n2 = add(u0, {2 * np.pi})\nstate: n2\nsaved: "
    )


def test_zeros_of_both_signs_are_two_constants():
    assert text(lambda xp, u, v, h: u * 0.0 + v * -0.0).count("multiply") == 2


REFUSED = {
    "a product": (lambda xp, u, v, h: u @ v, "it has a product (@)"),
    "a product by name": (lambda xp, u, v, h: xp.matmul(u, v), "it has a product (xp.matmul)"),
    "if": (lambda xp, u, v, h: u if u > 0 else v, "it asks whether an array is true"),
    "float": (lambda xp, u, v, h: u * float(v), "it asks for an array's values"),
    "an index": (lambda xp, u, v, h: u + v[0], "it takes an array apart"),
    "writing": (lambda xp, u, v, h: u.__setitem__(0, v), "it takes an array apart, or writes"),
    "a loop": (lambda xp, u, v, h: sum(u), "it takes an array apart"),
    "a sum": (lambda xp, u, v, h: u - xp.sum(u), "it uses xp.sum, which is not an elementwise"),
    "a shape": (lambda xp, u, v, h: u * u.shape[0], "it uses .shape of an array"),
    "a dtype": (lambda xp, u, v, h: xp.astype(u, xp.float32), "it uses xp.float32"),
    "an array": (lambda xp, u, v, h: u * np.ones(3), "it computes with a numpy.ndarray"),
    "a NumPy number": (lambda xp, u, v, h: u * np.float64(2), "it computes with a numpy.float64"),
    "NumPy": (lambda xp, u, v, h: np.tanh(u), "TypeError: operand 'Operand'"),
    "truth + number": (lambda xp, u, v, h: u + (v > 0), "it calls add on truth values"),
    "not a number": (lambda xp, u, v, h: xp.logical_not(u), "it calls logical_not on numbers"),
    "where": (lambda xp, u, v, h: xp.where(u, u, v), "it calls where on other than"),
    "arguments": (lambda xp, u, v, h: xp.tanh(u, v), "it calls tanh with 2 arguments, not 1"),
    "a dtype in words": (lambda xp, u, v, h: xp.astype(u, "float32"), "names the dtype 'float32'"),
    "a bug": (lambda xp, u, v, h: 1 / 0, "ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize(("function", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_list_of_operations_is_refused(function, reason):
    with pytest.raises(Untraceable) as caught:
        trace(Formula(function))
    assert str(caught.value).startswith("Formula.forward can't be traced: ")
    assert reason in str(caught.value)


def test_an_operand_that_was_kept_is_refused():
    kept = []

    def function(xp, u, v, h):
        kept.append(u)
        return u + kept[0]

    trace_forward(Formula(function))
    with pytest.raises(Untraceable, match="it keeps an array of another call"):
        trace_forward(Formula(function))


def test_the_wrong_number_of_results_is_refused():
    class Short(Gated):
        def backward(self, xp, saved, previous, d_state):
            du, dv, d_previous = super().backward(xp, saved, previous, d_state)
            return du[:1], dv, d_previous

    with pytest.raises(Untraceable, match=r"Short\.backward returns 1 gradients of u, not 2"):
        trace(Short())


ELEMENTWISE = [
    "abs",
    "sign",
    "sqrt",
    "square",
    "exp",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "ceil",
    "floor",
    "trunc",
    "round",
    "negative",
    "positive",
    "reciprocal",
]
BINARY = [
    "add",
    "subtract",
    "multiply",
    "divide",
    "pow",
    "floor_divide",
    "remainder",
    "maximum",
    "minimum",
    "atan2",
    "hypot",
    "logaddexp",
    "copysign",
    "nextafter",
]
TRUTHS = ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]


def judged(function):
    """Hold the lowered formula to the plain one."""
    cell = Formula(function)
    loops = NumPyLoops(trace(cell))
    rng = np.random.default_rng(0)
    u, U = rng.uniform(0.1, 0.9, size=(1, 2, 3)), np.eye(3)
    state = (rng.uniform(0.1, 0.9, size=(2, 3)),)
    (got,) = loops.forward(u, Recurrent(U), state, save=True).states
    import array_api_compat.numpy as xp

    want = cell.forward(xp, (u[0],), state, state)[0][0]
    np.testing.assert_array_equal(got[1], want)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_functions_of_one(name):
    judged(lambda xp, u, v, h: getattr(xp, name)((u + v) / 2 if name != "acosh" else u + 1))


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two(name):
    judged(lambda xp, u, v, h: getattr(xp, name)(u, v) + getattr(xp, name)(v, xp.ones_like(u) / 3))


@pytest.mark.parametrize("name", TRUTHS)
def test_comparisons(name):
    judged(lambda xp, u, v, h: xp.astype(getattr(xp, name)(u, v), u.dtype))


def test_operators():
    judged(lambda xp, u, v, h: +u // 0.3 + u % 0.2 + 2**v - (1 - v) ** 1.5 + abs(-u) / (3 / v))
    judged(lambda xp, u, v, h: xp.where((u < v) | ~(u >= 0.5) ^ (v <= 0.5), u, -v))
    judged(lambda xp, u, v, h: xp.where((u == v) & (u != h), u, 2.0))


def test_what_the_loop_does_not_carry_is_computed_ahead():
    backward = trace(LSTM()).backward
    plan = plan_backward(backward, 4)
    names = {"multiply", "add"}
    assert {plan.program.nodes[k].op for k in plan.nodes_of(Phase.STEP)} == names
    assert len(plan.nodes_of(Phase.STEP)) == 7
    assert len(plan.steps.buffers) == 0
    # dh z, and dh or da times a factor for each of da_r, da_z, da_n and dm.
    gru = plan_backward(trace(GRU()).backward, 3)
    assert [gru.program.nodes[k].op for k in gru.nodes_of(Phase.STEP)] == ["multiply"] * 5


def test_factors_are_gathered():
    made = Builder()
    d, a, b = made.input("d_state0"), made.input("saved0"), made.input("saved1")
    first = made.apply("multiply", made.apply("multiply", d, a), b)
    second = made.apply("subtract", d, made.apply("multiply", d, a))
    third = made.apply("negative", made.apply("multiply", second, b))
    program = made.program({"du": (first, third)})
    late = late_nodes(program.nodes, {"d_state"})
    again = regrouped(program, late)
    still = late_nodes(again.nodes, {"d_state"})
    assert sum(again.nodes[k].op == "multiply" for k in still) == len(still) - 1 == 2


def test_buffers_are_as_few_as_can_be():
    made = Builder()
    x = made.input("x")
    a = made.apply("exp", x)
    b = made.apply("multiply", a, x)
    c = made.apply("add", a, b)
    d = made.apply("tanh", c)
    nodes, order = made.nodes, [a, b, c, d]
    storage = Storage(nodes, order, {x: "x", d: "result"}, {d}, shareable={"result"})
    assert storage.places == {x: "x", a: "result", b: "s0", c: "result", d: "result"}
    assert len(storage.buffers) == 1


def test_where_keeps_what_it_still_reads():
    nodes = [
        Node("input", (), "x"),
        Node("exp", (0,)),
        Node("greater", (1, 0), None, "bool"),
        Node("negative", (0,)),
        Node("where", (2, 1, 3)),
    ]
    storage = Storage(nodes, [1, 2, 3, 4], {0: "x"}, {4})
    assert storage.places[4] == storage.places[3] != storage.places[1]


def test_neighbouring_gates_are_one():
    def joined(cell, gates):
        plan = plan_forward(trace_forward(cell), gates)
        return [(each.first, each.last) for each in plan.joined], plan.wide

    assert joined(LSTM(), 4) == ([(0, 4)], ())
    assert joined(GRU(), 3) == ([(0, 2)], ())
    assert joined(Elman(), 1) == ([], ())


def test_a_program_without_what_nobody_needs():
    made = Builder()
    x, y = made.input("x"), made.input("y")
    made.apply("exp", x)
    z = made.apply("sin", y)
    assert made.program({"out": (z, None)}) == Program(
        (Node("input", (), "y"), Node("sin", (0,))), {"out": (1, None)}
    )


def test_the_tracer_has_constants_and_no_others():
    assert Tracer().e == np.e
    with pytest.raises(Untraceable, match=r"it uses xp\.float64"):
        _ = Tracer().float64
