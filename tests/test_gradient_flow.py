"""The gradient that reaches every state: right for every cell, and said in figures and words."""

import logging
import math
from dataclasses import dataclass

import numpy as np
import pytest

import xprnn
from tests.cases import CELLS, FEW, Case, each_cell, row_of
from tests.closeness import FLOAT64, assert_close
from tests.flowing import by_differences, by_torch
from tests.harness import Harness, on_every_backend
from tests.judge import masks_of
from tests.odd_cells import ODD_CELLS, Branching
from tests.second_product import SecondProduct
from tests.stacks import DEEP, LENGTHS, SOME, deep_of
from xprnn import RNN
from xprnn.backend import probe
from xprnn.backend.operations import Operations
from xprnn.cells import Elman
from xprnn.diagnostics import Flow, gradient_flow
from xprnn.engine.stack import backward, zero_padding
from xprnn.losses import SquaredError

SUM = SquaredError("sum")


def norms(dh: np.ndarray) -> np.ndarray:
    return np.sqrt(np.sum(dh**2, axis=(2, 3)))


def made(case: Case, seed: int = 0) -> RNN:
    net = case.make(dtype="float64")
    net.parameters = case.parameters(seed)
    return net


def linear(w: float, **options) -> RNN:
    """Return the network of one unit that multiplies its state by w at every step."""
    options = {"bias": False, "returns": "last", "dtype": "float64"} | options
    net = RNN(1, 1, cell=Elman("identity"), **options)
    net.parameters["weight_ih_l0"][:] = 1.0
    net.parameters["weight_hh_l0"][:] = w
    return net


@pytest.mark.parametrize("case", SOME, ids=lambda case: case.id)
def test_the_norms_are_those_of_torch(case: Case) -> None:
    net, problem = made(case), case.problem()
    run = net.forward(problem.x, problem.state, case.lengths, rng=1)
    flow = gradient_flow(net, run, d_output=problem.d_output, d_state=problem.d_state)
    expected = by_torch(case, case.parameters(), problem, problem.d_output, masks_of(run))
    assert_close(flow.norms, norms(expected), FLOAT64)


@each_cell
def test_the_norms_are_those_of_finite_differences(case: Case) -> None:
    case = case.but(T=3, B=2, H=3, lengths=(3, 2), bidirectional=True)
    problem = case.problem()
    flow = gradient_flow(
        made(case), problem.x, problem.target, loss=SUM, state=problem.state, lengths=(3, 2)
    )
    # The padding's outputs are no part of the loss.
    problem.target[2, 1] = 0.0
    expected = by_differences(case, case.parameters(), problem)
    np.testing.assert_allclose(flow.norms, norms(expected), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("lengths", [None, [5, 2]])
@pytest.mark.parametrize(
    "cell", [*ODD_CELLS, SecondProduct()], ids=lambda cell: type(cell).__name__
)
def test_cells_of_odd_forms(cell, lengths: list[int] | None) -> None:
    """Here the library's own forward pass, one step after another, takes the differences."""
    net = RNN(2, 3, cell=cell, dtype="float64", rng=0)
    rng = np.random.default_rng(2)
    x, d_output = rng.normal(size=(5, 2, 2)), rng.normal(size=(5, 2, 3))
    state = tuple(rng.normal(size=(1, 2, 3)) for _ in cell.state)
    d_state = tuple(rng.normal(size=(1, 2, 3)) for _ in cell.state)
    ends = lengths or [5, 5]

    def goal(b: int, at: int, change: np.ndarray) -> float:
        s, total = tuple(part[:, b : b + 1] for part in state), 0.0
        for t in range(ends[b]):
            _, s = net(x[t : t + 1, b : b + 1], s)
            if t == at:
                s = (s[0] + change, *s[1:])
            total += np.sum(s[0][0] * d_output[t, b])
        return total + sum(np.sum(p * d[:, b : b + 1]) for p, d in zip(s, d_state, strict=True))

    dh = np.zeros((1, 5, 2, 3))
    for b in range(2):
        for t in range(ends[b]):
            for i, step in enumerate(1e-6 * np.eye(3)):
                dh[0, t, b, i] = (goal(b, t, step) - goal(b, t, -step)) / 2e-6
    flow = gradient_flow(
        net, x, d_output=d_output, d_state=d_state, state=state, lengths=lengths, jacobians=True
    )
    np.testing.assert_allclose(flow.norms, norms(dh), rtol=1e-6, atol=1e-8)


@on_every_backend()
def test_backends_agree(case: Case, harness: Harness) -> None:
    case = case.but(layers=2, lengths=(4, 2, 3))
    problem, options = case.problem(), {"matrix": True, "jacobians": True, "loss": SUM}
    lengths = case.lengths
    on_numpy = gradient_flow(made(case), problem.x, problem.target, lengths=lengths, **options)
    x, target = harness.array(problem.x), harness.array(problem.target)
    found = gradient_flow(harness.net(case), x, target, lengths=lengths, **options)
    for name in ("norms", "decay", "saturation", "gradient_norms", "matrix"):
        assert_close(getattr(found, name), getattr(on_numpy, name), FLOAT64)
    for part, expected in zip(found.jacobians, on_numpy.jacobians, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-9)
    np.testing.assert_array_equal(found.reach, on_numpy.reach)
    assert found.sentence == on_numpy.sentence
    assert all(type(a) is np.ndarray for a in (found.norms, found.reach, found.matrix))


def states_reached(net: RNN, run, d_output, d_state, window=None) -> np.ndarray:
    """Return the vectors, (layers·D, T, B, H), of one segment."""
    found = {}
    backward(
        net.parameters,
        run.tape,
        zero_padding(run.tape, d_output),
        d_state,
        window,
        watch=lambda k, reached: found.update({k: reached.dh}),
    )
    turned = [d.reverse for d in net.architecture.stack]
    return np.stack([found[k][::-1] if turned[k] else found[k] for k in sorted(found)])


@pytest.mark.parametrize("window", [None, 0, 2])
@pytest.mark.parametrize("case", DEEP, ids=lambda case: case.id)
def test_the_matrix_is_of_vectors_that_add_up_to_the_whole(case: Case, window: int | None) -> None:
    case = case.but(returns="sequence", O=6)
    net, problem = made(case), case.problem()
    run = net.forward(problem.x, problem.state, case.lengths, rng=1)
    d_state = tuple(np.zeros_like(part) for part in problem.d_state)
    parts = []
    for s in range(case.T):
        only = np.zeros_like(problem.d_output)
        only[s] = problem.d_output[s]
        parts.append(states_reached(net, run, only, d_state, window))
    whole = states_reached(net, run, problem.d_output, d_state, window)
    assert_close(sum(parts), whole, FLOAT64)
    flow = gradient_flow(net, run, d_output=problem.d_output, window=window, matrix=True)
    assert_close(flow.matrix, np.stack([norms(part) for part in parts], axis=1), FLOAT64)
    assert_close(flow.norms, norms(whole), FLOAT64)


@each_cell
def test_a_window_is_cut(case: Case) -> None:
    case = case.but(T=6)
    net, problem = made(case), case.problem()
    flow = gradient_flow(net, problem.x, d_output=problem.d_output, window=2, matrix=True)
    s, t = np.indices((6, 6))
    inside = (t <= s) & (s - t <= 2)
    assert np.all(flow.matrix[0][inside] > 0)
    assert np.all(flow.matrix[0][~inside] == 0)
    assert np.all(flow.decay[0, 3:] == 0)
    whole = gradient_flow(net, problem.x, d_output=problem.d_output, matrix=True)
    assert_close(flow.matrix[0][inside], whole.matrix[0][inside], FLOAT64)


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.id)
def test_a_tape_that_is_recomputed_gives_the_same(case: Case, caplog) -> None:
    case = case.but(T=200, B=64)  # two segments
    net, problem = made(case), case.problem()
    flow = gradient_flow(net, problem.x, d_output=problem.d_output)
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "xprnn"):
        again = gradient_flow(net, problem.x, d_output=problem.d_output, recompute=True)
    assert "computes the steps that it leaves out again" in caplog.text
    np.testing.assert_array_equal(again.norms, flow.norms)
    np.testing.assert_array_equal(again.saturation, flow.saturation)
    expected = by_torch(case, case.parameters(), zero_state_of(problem), problem.d_output)
    assert_close(flow.norms, norms(expected), 1e-8)  # gradients that explode over 200 steps


def zero_state_of(problem):
    zeros = tuple(np.zeros_like(part) for part in problem.state)
    return problem._replace(state=zeros, d_state=zeros)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_reach_of_one_unit_is_that_worked_out_by_hand(reverse: bool) -> None:
    # ∂L/∂h(T-1-k) = 0.8ᵏ (h(T-1) - target); 0.8³ = 0.512 is more than half, 0.8⁴ = 0.4096 less.
    net = linear(0.8, bidirectional=reverse)
    if reverse:
        net.parameters["weight_ih_l0_reverse"][:] = 1.0
        net.parameters["weight_hh_l0_reverse"][:] = 0.8
    x = np.ones((30, 1, 1))
    target = np.zeros((1, 1 + reverse))
    flow = gradient_flow(net, x, target, loss=SUM)
    h = sum(0.8**k for k in range(30))
    decay = h * 0.8 ** np.arange(30)
    for k in range(1 + reverse):
        np.testing.assert_allclose(flow.decay[k], decay, rtol=1e-12)
        np.testing.assert_allclose(flow.norms[k], decay if k else decay[::-1], rtol=1e-12)
    assert flow.reach.tolist() == [4.0] * (1 + reverse)
    # 0.8²⁰ = 0.0115, 0.8²¹ = 0.0092.
    assert flow.extent.tolist() == [20.0] * (1 + reverse)
    assert "gradient reaches back 20 steps (half of it within 4)" in flow.sentence
    assert flow.spectral_radius.ravel() == pytest.approx(0.8)


def test_the_reach_is_that_of_the_last_loss_where_every_step_has_one() -> None:
    # Every step's loss adds to the whole gradient, which is then nearly the same everywhere.
    net = linear(0.8, returns="sequence")
    flow = gradient_flow(net, np.zeros((30, 2, 1)), d_output=np.ones((30, 2, 1)))
    assert flow.norms[0, 5] == pytest.approx(math.sqrt(2) * 5, rel=0.01)
    assert flow.reach.tolist() == [4.0]


def test_the_last_loss_may_be_an_earlier_step_s() -> None:
    net = linear(0.8, returns="sequence")
    d_output = np.ones((30, 2, 1))
    d_output[20:, 0] = 0.0
    flow = gradient_flow(net, np.zeros((30, 2, 1)), d_output=d_output)
    np.testing.assert_allclose(flow.decay[0], math.sqrt(2) * 0.8 ** np.arange(30), rtol=1e-12)
    d_output[20:] = 0.0
    flow = gradient_flow(net, np.zeros((30, 2, 1)), d_output=d_output)
    np.testing.assert_allclose(flow.decay[0, :20], math.sqrt(2) * 0.8 ** np.arange(20), rtol=1e-12)


def test_a_reversed_direction_sends_the_first_loss_on() -> None:
    net = linear(0.8, returns="sequence", bidirectional=True)
    net.parameters["weight_hh_l0_reverse"][:] = 0.5
    d_output = np.ones((30, 2, 2))
    d_output[:3], d_output[3] = 0.0, 2.0  # the first loss is that of step 3
    flow = gradient_flow(net, np.zeros((30, 2, 1)), d_output=d_output, lengths=[30, 20])
    forwards = math.sqrt(2) * 0.8 ** np.arange(30)
    np.testing.assert_allclose(flow.decay[0], forwards, rtol=1e-12)
    backwards = 2 * math.sqrt(2) * 0.5 ** np.arange(27)
    np.testing.assert_allclose(flow.decay[1, :27], backwards, rtol=1e-12)
    assert np.all(np.isnan(flow.decay[1, 27:]))
    assert flow.reach.tolist() == [4.0, 1.0]


def test_sequences_of_unequal_lengths_have_the_reach_of_each() -> None:
    net = linear(0.8, returns="sequence")
    d_output = np.ones((30, 3, 1))
    flow = gradient_flow(net, np.zeros((30, 3, 1)), d_output=d_output, lengths=[30, 3, 12])
    np.testing.assert_allclose(flow.decay[0], math.sqrt(3) * 0.8 ** np.arange(30), rtol=1e-12)
    short = gradient_flow(net, np.zeros((30, 1, 1)), d_output=d_output[:, :1], lengths=[12])
    assert np.all(np.isnan(short.decay[0, 12:]))
    assert np.all(short.norms[0, 12:] == 0)
    assert short.reach.tolist() == [4.0]


@pytest.mark.parametrize(
    ("w", "said"),
    [
        (1.0, "reaches back 29 steps, all there are (more than half of it is left there)"),
        (1.05, "reaches back 29 steps, all there are (4.12 times as large there)"),
        (1.2, "explodes: 198 times as large 29 steps back (×1.2 a step)"),
        (0.0, "reaches back 0 steps (half of it within 1)"),
        (-0.5, "reaches back 6 steps (half of it within 1)"),
    ],
)
def test_vanishing_and_exploding_are_said(w: float, said: str) -> None:
    flow = gradient_flow(linear(w), np.ones((30, 1, 1)), np.full((1, 1), 7.5))
    assert flow.sentence == f"gradient {said}"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("w", [1.9, 0.1])
def test_norms_are_right_where_their_squares_overflow_or_vanish(w: float, dtype: str) -> None:
    dtype = "float32" if w > 1 else dtype
    steps = {"float16": 6, "float32": 100 if w > 1 else 36}[dtype]
    net = linear(w, dtype=dtype)
    zeros, ones = net.backend.asarray(np.zeros((steps, 1, 1))), net.backend.asarray([[1.0]])
    flow = gradient_flow(net, zeros, d_output=ones)
    np.testing.assert_allclose(flow.decay[0], w ** np.arange(steps, dtype=float), rtol=2e-2)


def test_jacobians_of_a_tanh_layer_are_those_of_its_formula() -> None:
    net = RNN(2, 3, dtype="float64", rng=0)
    x = np.random.default_rng(0).normal(size=(7, 2, 2))
    flow = gradient_flow(net, x, d_output=np.ones((7, 2, 3)), jacobians=True, sequence=1)
    h = net.forward(x).output[:, 1]
    U = net.parameters["weight_hh_l0"]
    J = (1 - h**2)[:, :, None] * U
    np.testing.assert_allclose(flow.jacobians.norms[0], np.linalg.norm(J, 2, axis=(1, 2)))
    product, expected = np.eye(3), [1.0]
    for step in J[:0:-1]:
        product = product @ step
        expected.append(np.linalg.norm(product, 2))
    np.testing.assert_allclose(flow.jacobians.products[0], expected)


def test_the_lyapunov_exponent_of_a_linear_layer_is_that_of_its_largest_eigenvalue() -> None:
    net = RNN(1, 3, cell=Elman("identity"), dtype="float64", rng=0)
    Q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    net.parameters["weight_hh_l0"] = Q @ np.diag([1.3, 0.7, -0.2]) @ Q.T
    x, d_output = np.zeros((400, 1, 1)), np.ones((400, 1, 3))
    flow = gradient_flow(net, x, d_output=d_output, jacobians=True)
    assert flow.jacobians.lyapunov[0] == pytest.approx(math.log(1.3), abs=0.01)
    assert flow.spectral_radius[0, 0] == pytest.approx(1.3)


@pytest.mark.parametrize("case", CELLS, ids=lambda case: case.id)
def test_jacobians_of_a_sequence_end_in_the_gradient_of_its_first_state(case: Case) -> None:
    # The product of all steps' Jacobians, H + ... finite differences of the final state.
    case = case.but(B=1, O=None)
    net, problem = made(case), case.problem()
    flow = gradient_flow(net, problem.x, d_output=problem.d_output, state=problem.state,
                         jacobians=True)  # fmt: skip

    def final(flat: np.ndarray) -> np.ndarray:
        state = tuple(part.reshape(1, 1, case.H) for part in np.split(flat, len(case.cell.state)))
        _, found = net(problem.x[-1:], state)
        return np.concatenate([part.ravel() for part in found])

    run = net.forward(problem.x[:-1], problem.state)
    before = np.concatenate([part.ravel() for part in run.state])
    columns = [
        (final(before + step) - final(before - step)) / 2e-6 for step in 1e-6 * np.eye(len(before))
    ]
    J = np.stack(columns, axis=1)
    assert flow.jacobians.norms[0, -1] == pytest.approx(np.linalg.norm(J, 2), rel=1e-6)
    assert flow.jacobians.products[0, 1] == pytest.approx(np.linalg.norm(J, 2), rel=1e-6)


SATURATED = [
    (Elman("tanh"), 1),
    (Elman("logistic"), 1),
    (xprnn.cells.LSTM(peepholes=True), 4),
    (xprnn.cells.GRU(), 3),
    (xprnn.cells.MinimalGated(), 2),
]


@pytest.mark.parametrize("lengths", [None, [4, 2]])
@pytest.mark.parametrize(("cell", "gates"), SATURATED, ids=str)
def test_one_gate_is_saturated_where_its_bias_is_large(cell, gates, lengths) -> None:
    x, d_output = np.zeros((4, 2, 1)), np.ones((4, 2, 5))
    for k in range(gates):
        net = RNN(1, 5, cell=cell, dtype="float64", rng=0)
        none = gradient_flow(net, x, d_output=d_output, lengths=lengths).saturation
        assert none.tolist() == [[0.0] * gates]
        net.parameters["bias_l0"][k * 5 : k * 5 + 2] = -20.0
        flow = gradient_flow(net, x, d_output=d_output, lengths=lengths)
        expected = np.zeros((1, gates))
        expected[0, k] = 2 / 5
        np.testing.assert_allclose(flow.saturation, expected)


def test_saturation_counts_dead_units_and_asks_for_the_bound() -> None:
    net = RNN(1, 4, cell=Elman("relu"), dtype="float64", rng=0)
    net.parameters["bias_l0"] = np.array([-9.0, 1.0, 1.0, 1.0])
    x, d_output = np.zeros((3, 1, 1)), np.ones((3, 1, 4))
    flow = gradient_flow(net, x, d_output=d_output)
    h = net(x)[0]
    assert flow.saturation[0, 0] == np.mean(h <= 0)
    net = RNN(1, 4, initializer="zeros", dtype="float64")
    net.parameters["bias_l0"] = np.array([0.0, 1.0, 2.0, 3.0])  # slopes 1, 0.42, 0.07, 0.0099
    for bound, share in ((0.005, 0.0), (0.05, 0.25), (0.1, 0.5), (0.5, 0.75)):
        found = gradient_flow(net, x, d_output=d_output, bound=bound).saturation
        assert found.tolist() == [[share]]


def test_linear_gates_are_never_saturated_and_clipped_ones_at_both_ends() -> None:
    flow = gradient_flow(linear(5.0), np.ones((9, 1, 1)), np.zeros((1, 1)))
    assert flow.saturation.tolist() == [[0.0]]
    net = RNN(1, 4, cell=Branching(), initializer="zeros", dtype="float64")
    net.parameters["bias_l0"][4:] = [-2.0, -0.5, 0.5, 2.0]  # clip(u₂ + v₂, -1, 1)
    flow = gradient_flow(net, np.ones((3, 1, 1)), d_output=np.ones((3, 1, 4)))
    assert flow.saturation.tolist() == [[0.0, 0.5]]


@dataclass
class Summing:
    """A cell that no one can trace: it adds up its units."""

    gates = 1
    state = ("h",)

    def forward(self, xp, u, v, state):
        h = xp.tanh(u[0] + v[0])
        assert float(xp.sum(h)) < 100
        return (h,), (h,)

    def backward(self, xp, saved, previous, d_state):
        dz = (d_state[0] * (1 - saved[0] ** 2),)
        return dz, dz, (None,)


def test_a_cell_that_is_not_traced_has_norms_and_no_known_saturation() -> None:
    x, d_output = np.ones((4, 2, 1)), np.ones((4, 2, 3))
    net, elman = (RNN(1, 3, cell=c, dtype="float64", rng=0) for c in (Summing(), "elman"))
    flow = gradient_flow(net, x, d_output=d_output)
    assert np.all(np.isnan(flow.saturation))
    np.testing.assert_allclose(flow.norms, gradient_flow(elman, x, d_output=d_output).norms)


def test_gradients_and_updates_against_the_weights() -> None:
    net = RNN(2, 3, 1, dtype="float64", rng=0)
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(5, 2, 2)), rng.normal(size=(5, 2, 1))
    before = {name: p.copy() for name, p in net.parameters.items()}
    value, gradient = net.value_and_grad(x, target)
    flow = gradient_flow(net, x, target, optimizer=xprnn.optim.SGD(0.1))
    assert flow.loss == float(value)
    assert flow.parameters == tuple(net.parameters)
    for k, name in enumerate(flow.parameters):
        g, p = np.linalg.norm(gradient.parameters[name]), np.linalg.norm(before[name])
        assert flow.gradient_norms[k] == pytest.approx(g, rel=1e-12)
        assert flow.weight_norms[k] == pytest.approx(p, rel=1e-12)
        assert flow.update_ratios[k] == pytest.approx(0.1 * g / p, rel=1e-9)
        np.testing.assert_array_equal(net.parameters[name], before[name])
    whole = math.sqrt(sum(np.sum(g**2) for g in gradient.parameters.values()))
    assert flow.gradient_norm == pytest.approx(whole)


@pytest.mark.parametrize("embedding_size", [None, 3])
def test_tokens(embedding_size: int | None) -> None:
    case = row_of("lstm").but(I=6, embedding_size=embedding_size, layers=2)
    case = case.but(I=6)
    net = made(case)
    tokens = np.random.default_rng(0).integers(0, 6, (4, 3))
    targets = np.random.default_rng(1).integers(0, 2, (4, 3))
    flow = gradient_flow(net, tokens, targets, loss="cross_entropy")
    _, gradient = net.value_and_grad(tokens, targets, "cross_entropy")
    names = list(net.parameters)
    norm = np.linalg.norm(xprnn.engine.gradients.dense(gradient.parameters[names[0]]))
    assert flow.gradient_norms[0] == pytest.approx(norm)


def test_a_lowered_loop_and_the_plain_one_show_the_same() -> None:
    case = deep_of("gru")
    problem, net = case.problem(), made(case)
    options = {"d_output": problem.d_output, "lengths": LENGTHS, "rng": 0}
    flow = gradient_flow(net, problem.x, **options)
    with xprnn.disable_lowering():
        plain = gradient_flow(net, problem.x, **options)
    assert_close(flow.norms, plain.norms, FLOAT64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["numpy", "jax"])
def test_compiled_passes_show_the_same(name: str, monkeypatch) -> None:
    """The carried path of the GRU is a loop of the compiled function there."""
    if not probe(name).usable:
        pytest.skip(f"{name} can't be used")
    net, problem = made(row_of("gru")), row_of("gru").problem()
    flow = gradient_flow(net, problem.x, d_output=problem.d_output)
    monkeypatch.setenv("XPRNN_LOWERING", "on")
    other = net.to(name)
    x, d_output = (other.backend.asarray(a) for a in (problem.x, problem.d_output))
    compiled = gradient_flow(other, x, d_output=d_output)
    assert_close(compiled.norms, flow.norms, FLOAT64)
    assert_close(compiled.decay, flow.decay, FLOAT64)
    if name == "numpy":
        # There the loop keeps what it carries: in the padding, the final state's gradient.
        steps, batch = problem.x.shape[:2]
        lengths = [steps - 1 - b % 2 for b in range(batch)]
        options = {"d_output": problem.d_output, "d_state": problem.d_state, "lengths": lengths}
        compiled = gradient_flow(net, problem.x, **options)
        monkeypatch.setenv("XPRNN_LOWERING", "off")
        assert_close(compiled.norms, gradient_flow(net, problem.x, **options).norms, FLOAT64)
        assert compiled.norms[0, -1] == 0


def test_a_run_and_its_input_give_the_same() -> None:
    case = row_of("gru")
    problem, net = case.problem(), made(case)
    run = net.forward(problem.x)
    flow = gradient_flow(net, problem.x, problem.target)
    again = gradient_flow(net, run, problem.target)
    np.testing.assert_array_equal(flow.norms, again.norms)
    assert isinstance(flow, Flow)


def test_what_does_not_fit_is_refused() -> None:
    net = RNN(2, 3, 1, dtype="float64", rng=0)
    x, y = np.ones((4, 2, 2)), np.ones((4, 2, 1))
    run = net.forward(x)

    def refused(error: type[Exception], message: str, *arguments, **options) -> None:
        with pytest.raises(error, match=message):
            gradient_flow(*arguments, **options)

    refused(TypeError, "net is str: expected an RNN", "net", x, y)
    refused(ValueError, "neither of target and d_output given: expected one of them", net, x)
    refused(ValueError, "both of target and d_output given", net, x, y, d_output=y)
    refused(ValueError, r"d_output has shape \(4, 2\): expected \(4, 2, 1\)", net, x,
            d_output=y[..., 0])  # fmt: skip
    refused(ValueError, r"target has shape", net, x, y[..., 0])
    refused(ValueError, r"expected at least one step", net, x[:0], y[:0])
    refused(ValueError, r"x\[1, 0, 0\] is nan", net, np.where(np.arange(4) == 1, np.nan, 1.0)
            .reshape(4, 1, 1) * x, y)  # fmt: skip
    refused(
        ValueError, "bound is 1.0: expected a number at least 0 and below 1", net, x, y, bound=1
    )
    refused(ValueError, "sequence is 2: expected 0 to 1", net, x, y, jacobians=True, sequence=2)
    refused(
        TypeError,
        r"sequence is 0.5 \(float\): expected an int",
        net,
        x,
        y,
        jacobians=True,
        sequence=0.5,
    )
    refused(ValueError, "lengths is given, but x is a Run", net, run, y, lengths=[4, 4])
    refused(ValueError, "recompute is given, but x is a Run", net, run, y, recompute=True)
    refused(ValueError, "jacobians=True needs the whole tape", net, x, y, recompute=True,
            jacobians=True)  # fmt: skip
    refused(ValueError, "recompute is True, and window is 2", net, x, y, recompute=True, window=2)
    recomputing = net.forward(x, recompute=True)
    refused(ValueError, "window is 2, and x was made with recompute=True", net, recomputing, y,
            window=2)  # fmt: skip
    refused(ValueError, "run belongs to a different network", RNN(2, 4, 1), run, y)
    refused(TypeError, "matrix is 1", net, x, y, matrix=1)
    net.parameters["weight_hh_l0"] = np.zeros((3, 3))
    refused(ValueError, "run was made with other weights", net, run, y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_compiled_recurrence_is_that_of_the_standard(dtype, monkeypatch):
    monkeypatch.setenv("XPRNN_LOWERING", "on")
    library, rng = xprnn.get_backend("numpy").library, np.random.default_rng(0)
    factors, a = rng.normal(size=(6, 2, 5)).astype(dtype), rng.normal(size=(7, 2, 5)).astype(dtype)
    expected = Operations.carry_back(library, factors, a.copy())
    np.testing.assert_allclose(expected[-2], a[-2] + factors[-1] * a[-1], rtol=1e-6)
    found = library.carry_back(factors, a.copy())
    np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("rows", [3, 400])
def test_sums_and_counts_on_numpy_are_those_of_the_standard(rows: int, dtype: str) -> None:
    library, rng = xprnn.get_backend("numpy").library, np.random.default_rng(0)
    a = (0.1 * rng.normal(size=(rows, 7, 100))).astype(dtype)  # of 400, more than a block
    rtol = {"float16": 2e-2, "float32": 1e-5, "float64": 1e-12}[dtype]
    few = a[:, 0, :9]
    for given in (a, few, few.T, few.copy().T, a[0, 0]):
        np.testing.assert_allclose(library.square_sums([given]), [np.sum(given**2)], rtol=rtol)
    expected = Operations.wide_squares_along(library, a)
    np.testing.assert_allclose(library.wide_squares_along(a), expected, rtol=1e-14)
    where = rng.random((rows, 7, 1)) < 0.5
    for mask in (None, where):
        found = library.count_outside(a, -0.05, 0.03, mask)
        assert found == Operations.count_outside(library, a, -0.05, 0.03, mask)


@pytest.mark.parametrize("given", ["d_output", "d_state"])
@pytest.mark.parametrize(
    "options",
    [{}, {"residual": True}, {"projection": 2}, {"output_size": 3}, {"embedding_size": 4}],
    ids=str,
)
def test_the_last_loss_alone_is_the_matrix_s_last_row(options: dict, given: str) -> None:
    """The decay takes a way of its own through the network, which enters at the end."""
    net = RNN(
        5, 4, cell="lstm", layers=3, dropout=0.4, recurrent_dropout=0.3, dtype="float64", rng=0,
        **options,
    )  # fmt: skip
    rng = np.random.default_rng(1)
    x = rng.normal(size=(6, 3, 5))
    if "embedding_size" in options:
        x = rng.integers(0, 5, (6, 3))
    run = net.forward(x, rng=2)
    d_output = rng.normal(size=run.output.shape)
    d_state = None
    if given == "d_state":
        d_output[-1] = 0.0
        d_state = tuple(rng.normal(size=part.shape) for part in run.state)
    flow = gradient_flow(net, run, d_output=d_output, d_state=d_state, matrix=True)
    assert_close(flow.decay, flow.matrix[:, -1, ::-1], FLOAT64)
    assert np.all(flow.decay > 0)


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_norms_whose_squares_vanish_or_overflow(size):
    steps, batch = 6, 3
    x, net = np.ones((steps, batch, 1)), xprnn.RNN(1, 1, dtype="float64", rng=0)
    d_output = np.full((steps, batch, 1), size)
    flow = gradient_flow(net, x, d_output=d_output)
    assert flow.norms[0, -1] == pytest.approx(size * np.sqrt(batch), rel=1e-12, abs=0)
    assert flow.decay[0, 0] == pytest.approx(size * np.sqrt(batch), rel=1e-12, abs=0)
