"""Cells with a second product within a step: the GRU as published, and one of a user's."""

from dataclasses import dataclass

import numpy as np
import pytest

import xprnn
from tests.second_product import SecondProduct
from tests.time_loops import Problem
from xprnn import RNN
from xprnn.cells import GRUResetBefore
from xprnn.diagnostics import gates_over_time
from xprnn.testing import ContractError, GradientError, check_cell, check_gradients

CELLS = [GRUResetBefore(), SecondProduct()]
each = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: type(cell).__name__)
X = np.random.default_rng(0).normal(size=(6, 3, 2))
LENGTHS = [6, 2, 4]


def make(cell, **options):
    return RNN(2, 4, 3, cell=cell, dtype="float64", rng=0, **options)


@each
def test_every_derivative(cell):
    names = [f.name for f in check_cell(cell).findings]
    assert {"u[2]", "v[2]", "previous h", "operand: v[0]", "operand: previous h"} <= set(names)
    for options in ({"layers": 2, "bidirectional": True}, {"recurrent_dropout": 0.4}):
        net = make(cell, **options)
        assert check_gradients(net, X, lengths=LENGTHS).passed
    assert check_gradients(make(cell, layers=2), X, window=2).passed


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        pytest.param(
            name,
            cell,
            id=f"{name}-{type(cell).__name__}",
            # JAX compiles for two seconds; `test_gradients.py` has this cell there, too.
            marks=[pytest.mark.full] if (name, cell) == ("jax", GRUResetBefore()) else [],
        )
        for name in ("torch", "jax", "array_api_strict")
        for cell in CELLS
    ],
)
def test_every_backend_agrees_with_numpy(name, cell):
    net = make(cell, layers=2, bidirectional=True, recurrent_dropout=0.3)
    other, target = net.to(name), np.ones((6, 3, 3))

    def run(net):
        x, y = net.backend.asarray(X), net.backend.asarray(target)
        value, gradient = net.value_and_grad(x, y, lengths=LENGTHS, rng=1)
        return float(value), {n: net.backend.to_numpy(g) for n, g in gradient.parameters.items()}

    (value, wanted), (got_value, got) = run(net), run(other)
    assert got_value == pytest.approx(value, rel=1e-13)
    for parameter, array in wanted.items():
        np.testing.assert_allclose(got[parameter], array, rtol=1e-11, atol=1e-14)


@each
def test_saved_and_recomputed(cell, tmp_path):
    net, target = make(cell), np.zeros((6, 3, 3))
    _, plain = net.value_and_grad(X, target)
    _, again = net.value_and_grad(X, target, recompute=True)
    for name, array in plain.parameters.items():
        assert np.array_equal(array, again.parameters[name])
    net.save(tmp_path / "net.safetensors")
    same = RNN.load(
        tmp_path / "net.safetensors", cell=cell if isinstance(cell, SecondProduct) else None
    )
    assert np.array_equal(same(X)[0], net(X)[0])


@each
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "dropout"])
@pytest.mark.parametrize("lengths", [None, [5, 0, 3]], ids=["full", "lengths"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_loop_of_numpy_calls(cell, masked, lengths, dtype):
    problem = Problem(cell, masked=masked, lengths=lengths, dtype=dtype)
    for dh in (None, problem.dh):
        problem.compare(dh)
    problem.compare(save=False)


@dataclass(frozen=True)
class ReadsItsOperand(GRUResetBefore):
    """Its formula reads, and saves, what the second product reads: without a mask."""

    def operand(self, xp, u, v, state):
        return xp.tanh(u[0] + v[0])

    def operand_backward(self, xp, saved, previous, d_operand):
        q, _ = saved
        d = d_operand * (1 - q * q)
        return (d, None, None), (d, None), (None,)

    def forward(self, xp, u, v, state):
        q, n = xp.tanh(u[0] + v[0]), xp.tanh(u[2] + v[2])
        return (q * n + u[1],), (q, n)

    def backward(self, xp, saved, previous, d_state):
        (q, n), (dh,) = saved, d_state
        d_q, d_n = dh * n * (1 - q * q), dh * q * (1 - n * n)
        return (d_q, dh, d_n), (d_q, None, d_n), (None,)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "dropout"])
def test_an_operand_that_the_formula_reads_too(masked):
    problem = Problem(ReadsItsOperand(), masked=masked)
    problem.compare(problem.dh)
    assert check_gradients(make(ReadsItsOperand(), recurrent_dropout=0.4 * masked), X).passed


@each
@pytest.mark.parametrize("window", [0, 2])
def test_windows_are_those_of_plain_code(cell, window):
    net, target = make(cell, layers=2, recurrent_dropout=0.3), np.ones((6, 3, 3))
    options = {"window": window, "rng": 1, "lengths": LENGTHS}
    value, got = net.value_and_grad(X, target, **options)
    with xprnn.disable_lowering():
        wanted_value, wanted = net.value_and_grad(X, target, **options)
    assert float(value) == pytest.approx(float(wanted_value), rel=1e-13)
    for name, array in wanted.parameters.items():
        np.testing.assert_allclose(got.parameters[name], array, rtol=1e-11, atol=1e-14)


def test_what_runs_it_and_what_does_not():
    words = "GRUResetBefore() is lowered to NumPy calls: 15 operations forward, 10 backward\n"
    words += "it has a second product within the step, which only NumPy calls make so far"
    assert xprnn.explain_lowering("gru_reset_before") == words
    assert list(gates_over_time(make("gru_reset_before"), X)) == ["r", "z", "n"]


@dataclass(frozen=True)
class Forgets(SecondProduct):
    """Its operand has a wrong derivative."""

    def operand_backward(self, xp, saved, previous, d_operand):
        du, dv, (dh, _) = super().operand_backward(xp, saved, previous, d_operand)
        return du, dv, (dh, None)


@dataclass(frozen=True)
class Narrow(SecondProduct):
    """Its operand has another shape."""

    def operand(self, xp, u, v, state):
        return super().operand(xp, u, v, state)[:, :1]


def without(name):
    return dataclass(frozen=True)(type("Lacking", (SecondProduct,), {name: None}))()


def having(**attributes):
    return dataclass(frozen=True)(type("Odd", (SecondProduct,), attributes))()


def test_wrong_cells():
    with pytest.raises(GradientError, match="previous c"):
        check_cell(Forgets())
    with pytest.raises(ContractError, match=r"state\[0\] has shape \(3, 1\): expected \(3, 4\)"):
        check_cell(Narrow())
    for cell, error, message in [
        (without("operand"), TypeError, "expected a method operand, too"),
        (without("operand_backward"), TypeError, "expected a method operand_backward, too"),
        (having(second_product=3), ValueError, "second_product = 3: expected how many of its 3"),
        (having(second_product=True), ValueError, "second_product = True"),
        (having(layer_norm=True), ValueError, "both layer_norm and second_product"),
        (having(recurrent_matrix=False), ValueError, "but no recurrent_matrix"),
    ]:
        with pytest.raises(error, match=message):
            RNN(2, 4, cell=cell)
