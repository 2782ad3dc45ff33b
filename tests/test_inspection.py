"""The record of a pass and its page: their numbers are those of the network."""

import base64
import json
import re
from dataclasses import dataclass

import numpy as np
import pytest

import xprnn
from tests.leaky import LeakyUnit
from tests.odd_cells import Branching, Deaf, Holding, PerUnit, Swapping
from tests.second_product import SecondProduct
from xprnn.cells import GRU, LSTM, Elman, GRUResetBefore, MinimalGated
from xprnn.diagnostics import gradient_flow, inspect_page
from xprnn.diagnostics.inspection.equations import gate_names, numbered_equations
from xprnn.diagnostics.inspection.watching import watch

CELLS = [
    Elman(),
    Elman("identity"),
    GRU(),
    LSTM(),
    LSTM(peepholes=True, layer_norm=True),
    MinimalGated(),
    LeakyUnit(),
    Branching(),
    Swapping(),
    Holding(),
    Deaf(),
    PerUnit(),
    GRUResetBefore(),
    SecondProduct(),
]
FORMS = {
    "one layer": {},
    "stack": {"layers": 2, "bidirectional": True},
    "last": {"layers": 2, "returns": "last", "bias": False},
    "bare": {"output_size": None, "bidirectional": True},
    "dropout": {"layers": 2, "dropout": 0.5, "recurrent_dropout": 0.5},
}


def problem(cell, form, *, T=6, B=2, seed=0):
    options = {"output_size": 2, **FORMS[form]}
    net = xprnn.RNN(3, 4, cell=cell, dtype="float64", rng=seed, **options)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(T, B, 3))
    return net, x, rng.normal(size=net.architecture.output_shape(T, B))


def without_dropout(net):
    options = {"dropout": 0.0, "recurrent_dropout": 0.0}
    plain = xprnn.RNN(
        3,
        4,
        net.output_size,
        cell=net.cell,
        dtype="float64",
        layers=net.layers,
        bidirectional=net.bidirectional,
        bias=net.bias,
        returns=net.returns,
        **options,
    )
    plain.parameters = dict(net.parameters)
    return plain


def alone(a, b, net):
    return a[b : b + 1] if net.returns == "last" else a[:, b : b + 1]


def assert_gradients(record, gradient):
    """The steps' contributions sum to the gradients, to rounding."""
    sums = record.gradients()
    assert set(sums) == set(gradient.parameters)
    for name, g in gradient.parameters.items():
        wanted = g.to_dense() if hasattr(g, "to_dense") else g
        found = sum(
            c.at(t)
            for c in record.all_contributions()
            if c.name == name
            for t in range(len(c.left))
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-15)
        np.testing.assert_allclose(sums[name], wanted, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: type(cell).__name__)
@pytest.mark.parametrize("options", [{}, {"window": 2}], ids=str)
def test_contributions_sum_to_the_gradients(cell, form, options):
    net, x, target = problem(cell, form)
    record = inspect_page(net, x, target, sequence=1, **options).record
    plain = without_dropout(net)
    value, gradient = plain.value_and_grad(x[:, 1:], alone(target, 1, net), **options)
    assert record.value == pytest.approx(float(value), rel=1e-14)
    assert record.losses.sum() == pytest.approx(float(value), rel=1e-12)
    assert_gradients(record, gradient)
    for layer in record.layers:
        np.testing.assert_allclose(layer["dh_own"] + layer["dh_later"], layer["dh"], atol=1e-14)
        later, passed = layer["dh_later"], layer[f"dh_later({layer.before})"]
        if not options:
            inner = (passed[:-1], later[1:]) if layer.reverse else (passed[1:], later[:-1])
            np.testing.assert_allclose(*inner, atol=1e-14)


FORMED = {
    "projection": {"projection": 2},
    "projection, last": {"projection": 2, "layers": 2, "bidirectional": True, "returns": "last"},
    "heads": {"heads": 2},
    "heads, stack": {"heads": 2, "layers": 2, "bidirectional": True},
    "residual": {"layers": 3, "residual": True},
    "residual, projection": {"layers": 2, "residual": True, "projection": 1},
}


@pytest.mark.parametrize("form", FORMED)
@pytest.mark.parametrize(
    "cell",
    [Elman(), LSTM(peepholes=True, layer_norm=True), GRUResetBefore(), SecondProduct(), "slstm"],
    ids=lambda cell: cell if cell == "slstm" else type(cell).__name__,
)
@pytest.mark.parametrize("window", [None, 2])
def test_projections_heads_and_residual_connections(cell, form, window):
    net = xprnn.RNN(3, 4, 2, cell=cell, dtype="float64", rng=0, **FORMED[form])
    rng = np.random.default_rng(1)
    x, target = rng.normal(size=(6, 1, 3)), rng.normal(size=net.architecture.output_shape(6, 1))
    page = inspect_page(net, x, target, window=window)
    _, gradient = net.value_and_grad(x, target, window=window)
    assert_gradients(page.record, gradient)
    for layer, direction in zip(page.record.layers, net.architecture.stack, strict=True):
        if direction.P is not None:
            P = net.parameters[direction.P]
            np.testing.assert_allclose(layer["Ph"], layer["h"] @ P.T, rtol=1e-14)
            np.testing.assert_allclose(layer["dh_own"], layer["dPh"] @ P, rtol=1e-12, atol=1e-16)


def equations_of(net):
    """Return the text of all equations of a page."""
    T = 3
    page = inspect_page(net, np.ones((T, 1, 2)), np.ones(net.architecture.output_shape(T, 1)))
    data = data_of(page)
    lines = [page.record.readout, *(adds["text"] for adds in data["output"]["adds"])]
    for layer in data["layers"]:
        for way in ("forward", "backward"):
            lines += [
                "".join(part if isinstance(part, str) else part[0] for part in line["parts"])
                for line in layer[way]["lines"]
            ]
        lines += [adds["text"] for adds in layer["adds"]]
    return lines


def test_equations_of_projections_heads_and_residual_connections():
    def new(**options):
        found, plain = (
            equations_of(xprnn.RNN(2, 4, 1, layers=2, **given))
            for given in (options, {"cell": options.get("cell", "elman")})
        )
        return [line for line in found if line not in plain]

    assert new(projection=2) == [
        "y(t) = R P h(t) + r",
        "dR += dy(t) (P h(t))ᵀ",
        *[
            "v(t) = U P h(t-1)",
            "Ph(t) = P h(t)",
            "dPh(t) = Wᵀ du(t) of layer 1",
            "dh_own(t) = Pᵀ dPh(t)",
            "dh_later(t-1) = Pᵀ Uᵀ dv(t)",
            "dU += dv(t) (P h(t-1))ᵀ",
            "dP += Uᵀ dv(t) h(t-1)ᵀ",
            "dP += dPh(t) h(t)ᵀ",
        ],
        *[
            "v(t) = U P h(t-1)",
            "Ph(t) = P h(t)",
            "dPh(t) = Rᵀ dy(t)",
            "dh_own(t) = Pᵀ dPh(t)",
            "dh_later(t-1) = Pᵀ Uᵀ dv(t)",
            "dU += dv(t) (P h(t-1))ᵀ",
            "dP += Uᵀ dv(t) h(t-1)ᵀ",
            "dP += dPh(t) h(t)ᵀ",
        ],
    ]
    assert new(residual=True) == [
        "y(t) = R (h(t) + x(t)) + r",
        "dR += dy(t) (h(t) + x(t))ᵀ",
        "dh_own(t) = Wᵀ du(t) of layer 1 + what goes past it",
    ]
    second = new(projection=2, cell="gru_reset_before")
    assert "v_n(t) = U_n P q(t)" in second
    assert "dP += (U_rᵀ dv_r(t) + U_zᵀ dv_z(t)) h(t-1)ᵀ" in second
    assert "dq(t) = Pᵀ U_nᵀ dv_n(t)" in second


@pytest.mark.parametrize("form", ["one layer", "stack", "last"])
def test_lengths(form):
    net, x, target = problem(GRU(), form)
    record = inspect_page(net, x, target, lengths=[4, 6]).record
    assert (record.steps, record.padding) == (4, 2)
    _, gradient = net.value_and_grad(x[:, :1], alone(target, 0, net), lengths=[4])
    assert_gradients(record, gradient)


def test_states_are_those_of_the_run():
    net, x, target = problem(LSTM(), "one layer")
    h = xprnn.RNN(3, 4, cell="lstm", dtype="float64")
    h.parameters = {k: net.parameters[k] for k in h.parameters}
    states, (_, c) = h(x)
    layer = inspect_page(net, x, target).record.layers[0]
    np.testing.assert_allclose(layer["h"], states[:, 0], rtol=1e-14)
    np.testing.assert_allclose(layer["c"][-1], c[0, 0], rtol=1e-14)
    np.testing.assert_allclose(layer["c"], layer["f"] * layer["c(t-1)"] + layer["i"] * layer["g"])
    np.testing.assert_allclose(layer["h(t-1)"][1:], layer["h"][:-1])
    with pytest.raises(KeyError, match="no quantity 'q': known are x, u_i, u_f"):
        layer["q"]


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
@pytest.mark.parametrize("window", [None, 2])
def test_dh_is_that_of_gradient_flow(cell, window):
    net, x, target = problem(cell, "stack", B=1)
    record = inspect_page(net, x, target, window=window).record
    flow = gradient_flow(net, x, target, window=window)
    norms = [np.linalg.norm(layer["dh"], axis=1) for layer in record.layers]
    np.testing.assert_allclose(norms, flow.norms, rtol=1e-12)


def test_dh_agrees_with_finite_differences_of_the_loss():
    net, x, target = problem(GRU(), "one layer", B=1)
    layer = inspect_page(net, x, target).record.layers[0]
    t, step = 2, 1e-6
    whole, _ = net.value_and_grad(x, target)
    slopes = []
    for unit in range(4):
        losses = []
        for sign in (1, -1):
            h = layer["h"][t].copy()
            h[unit] += sign * step
            y = h @ net.parameters["readout.weight"].T + net.parameters["readout.bias"]
            rest, _ = net(x[t + 1 :], state=(h[None, None],))
            late = 0.5 * np.sum((rest - target[t + 1 :]) ** 2)
            losses.append((late + 0.5 * np.sum((y - target[t, 0]) ** 2)) / target.size)
        slopes.append((losses[0] - losses[1]) / (2 * step))
    np.testing.assert_allclose(layer["dh"][t], slopes, rtol=1e-7, atol=1e-10)
    assert float(whole) > 0


def test_what_a_window_cuts_off():
    net, x, target = problem(GRU(), "one layer")
    whole, cut = (inspect_page(net, x, target, window=k).record.layers[0] for k in (None, 2))
    np.testing.assert_allclose(cut["dh"] + cut["dh_cut"], whole["dh"], atol=1e-15)
    assert np.abs(cut["dh_cut"][0]).max() > 0
    np.testing.assert_array_equal(cut["dh_cut"][-3:], 0)


@pytest.mark.parametrize("embedding_size", [None, 3])
def test_tokens(embedding_size):
    net = xprnn.RNN(7, 4, 7, cell="gru", embedding_size=embedding_size, dtype="float64", rng=0)
    tokens = np.array([[3, 1, 3, 0, 6]]).T
    page = inspect_page(net, tokens, tokens, "cross_entropy", vocabulary=list("abcdefg"))
    assert_gradients(page.record, net.value_and_grad(tokens, tokens, "cross_entropy")[1])
    data = data_of(page)
    assert data["tokens"] == list("dbdag")
    logits = page.record.output
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(page.record.probabilities, e / e.sum(axis=1, keepdims=True))


def test_a_large_vocabulary_shows_the_largest_outputs_and_the_target():
    net = xprnn.RNN(300, 4, 300, dtype="float64", rng=0)
    tokens = np.arange(20)[:, None] * 7
    page = inspect_page(
        net, tokens, tokens, "cross_entropy", vocabulary=[f"w{k}" for k in range(300)]
    )
    output, arrays = data_of(page)["output"], arrays_of(page)
    chosen, y = arrays[output["chosen"]], arrays[output["y"]]
    np.testing.assert_array_equal(chosen[:, 0], tokens[:, 0])
    np.testing.assert_array_equal(y, np.take_along_axis(page.record.output, chosen, axis=1))
    best = page.record.output.argmax(axis=1)
    assert all(b in row[:2] for b, row in zip(best, chosen, strict=True))
    assert output["names"]["133"] == "w133"


def test_tied_weights():
    net = xprnn.RNN(5, 4, 5, embedding_size=4, tied=True, dtype="float64", rng=0)
    tokens = np.array([[3, 1, 3, 0, 4]]).T
    page = inspect_page(net, tokens, tokens, "cross_entropy")
    wanted = net.value_and_grad(tokens, tokens, "cross_entropy")[1].parameters
    for name, found in page.record.gradients().items():
        np.testing.assert_allclose(found, wanted[name], rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weights_of_the_loss(reduction):
    net, x, target = problem(GRU(), "one layer")
    weights = np.random.default_rng(3).uniform(size=(6, 2))
    loss = xprnn.losses.SquaredError(reduction)
    record = inspect_page(net, x, target, loss, weights=weights, sequence=1).record
    value, gradient = net.value_and_grad(x[:, 1:], target[:, 1:], loss, weights=weights[:, 1:])
    assert record.losses.sum() == pytest.approx(float(value), rel=1e-12)
    assert_gradients(record, gradient)


def test_a_gradient_in_place_of_a_target():
    net, x, target = problem(GRU(), "one layer")
    run = net.forward(x)
    record = inspect_page(net, x, d_output=target, sequence=1).record
    assert (record.loss, record.value, record.losses) == ("", None, None)
    one = net.forward(x[:, 1:])
    assert_gradients(record, net.backward(one, target[:, 1:]))
    with pytest.raises(ValueError, match="neither of target and d_output"):
        inspect_page(net, x)
    with pytest.raises(ValueError, match="both of target and d_output"):
        inspect_page(net, x, target, d_output=run.output)


def test_an_initial_state():
    net, x, target = problem(LSTM(), "one layer")
    state = tuple(np.random.default_rng(k).normal(size=(1, 2, 4)) for k in range(2))
    record = inspect_page(net, x, target, state=state, sequence=1).record
    one = tuple(part[:, 1:] for part in state)
    assert_gradients(record, net.value_and_grad(x[:, 1:], target[:, 1:], state=one)[1])
    np.testing.assert_array_equal(record.layers[0]["c(t-1)"][0], state[1][0, 1])


def test_on_every_backend(harness):
    net, x, target = problem(GRU(), "one layer", T=3)
    wanted = inspect_page(net, x, target).record
    there = net.to(harness.backend)
    found = inspect_page(there, harness.backend.asarray(x), harness.backend.asarray(target)).record
    for ours, theirs in zip(wanted.layers, found.layers, strict=True):
        for a, b in zip(ours.backward, theirs.backward, strict=True):
            np.testing.assert_allclose(a.values, b.values, atol=1e-13, err_msg=a.name)


def test_a_long_sequence_in_segments():
    net = xprnn.RNN(1, 2, 1, dtype="float64", rng=0)
    x = np.random.default_rng(0).normal(size=(9000, 1, 1))
    page = inspect_page(net, x, x, steps=(10, 20))
    assert_sums = page.record.gradients()["weight_hh_l0"]
    np.testing.assert_allclose(assert_sums, net.value_and_grad(x, x)[1].parameters["weight_hh_l0"])
    (message,) = page.messages
    assert message.startswith("This page shows steps 10 to 19 of the sequence's 9000;")
    assert inspect_page(net, x, x).shown == slice(8600, 9000)


# Names.


def test_blocks_have_the_names_of_their_gates():
    net, x, target = problem(GRU(), "one layer")
    layer = inspect_page(net, x, target).record.layers[0]
    for gate in "rz":
        a = layer[f"u_{gate}"] + layer[f"v_{gate}"]
        np.testing.assert_allclose(layer[gate], 1 / (1 + np.exp(-a)), rtol=1e-12)
        np.testing.assert_array_equal(layer[f"du_{gate}"], layer[f"da_{gate}"])
    n = np.tanh(layer["u_n"] + layer["r"] * (layer["v_n"] + layer["b_hn"]))
    np.testing.assert_allclose(layer["n"], n, rtol=1e-12)
    np.testing.assert_array_equal(layer["dv_n"], layer["dm"])


def test_names_are_those_of_the_formula():
    net, x, target = problem(GRU(), "one layer")
    layer = inspect_page(net, x, target).record.layers[0]
    names = " ".join(q.name for q in layer.forward)
    assert names == "x u_r u_z u_n h(t-1) v_r v_z v_n b_hn r z m n h"
    names = " ".join(q.name for q in layer.backward if q.group == "cell")
    assert names == "dh_previous dz da_n dm da_r da_z"
    (line,) = [q.line for q in layer.forward if q.name == "n"]
    assert layer.forward_lines[line].text == "n(t) = tanh(u_n(t) + r(t) m(t))"
    assert layer.forward_lines[line].number == 4
    (line,) = [q.line for q in layer.backward if q.name == "da_r"]
    assert layer.backward_lines[line].text == "da_r = da_n * m * (r * (1 - r))"
    assert layer.backward_lines[line].cites == (4, 1)


def lines_of(quantities, lines):
    return {q.name: lines[q.line].text for q in quantities if q.line is not None}


def test_the_operand_of_a_second_product():
    net, x, target = problem(GRUResetBefore(), "one layer")
    layer = inspect_page(net, x, target).record.layers[0]
    assert " ".join(q.name for q in layer.forward) == ("x u_r u_z u_n h(t-1) v_r v_z q v_n r z n h")
    text = lines_of(layer.forward, layer.forward_lines)
    assert text["v_z"] == "v_z(t) = U_z h(t-1)"
    assert text["q"] == "q(t) = r(t) h(t-1)"
    assert text["v_n"] == "v_n(t) = U_n q(t)"
    U_r, U_z, U_n = np.split(net.parameters["weight_hh_l0"], 3)
    np.testing.assert_allclose(layer["q"], layer["r"] * layer["h(t-1)"], rtol=1e-14)
    np.testing.assert_allclose(layer["v_n"], layer["q"] @ U_n.T, rtol=1e-13)
    text = lines_of(layer.backward, layer.backward_lines)
    assert text["dq"] == "dq(t) = U_nᵀ dv_n(t)"
    assert text["da_r"] == "da_r = dq * h * (r * (1 - r))"
    passed = "dh_later(t-1) = U_rᵀ dv_r(t) + U_zᵀ dv_z(t) + through q + direct"
    assert text["dh_later(t-1)"] == passed
    np.testing.assert_allclose(layer["dq"], layer["dv_n"] @ U_n, rtol=1e-13)
    np.testing.assert_allclose(layer["through U"], layer["dv_r"] @ U_r + layer["dv_z"] @ U_z)
    np.testing.assert_allclose(layer["through q"], layer["dq"] * layer["r"])
    np.testing.assert_allclose(layer["direct"], layer["dh"] * layer["z"])
    of_U = [c for c in layer.contributions if c.name == "weight_hh_l0"]
    assert [c.text for c in of_U] == [
        "d(U_r, U_z) += (dv_r(t), dv_z(t)) h(t-1)ᵀ",
        "dU_n += dv_n(t) q(t)ᵀ",
    ]


@pytest.mark.parametrize("cell", [GRUResetBefore(), SecondProduct()], ids=["GRU", "own"])
def test_what_a_step_with_two_products_passes_on(cell):
    net, x, target = problem(cell, "stack")
    page = inspect_page(net, x, target)
    for layer in page.record.layers:
        parts = layer["through U"] + layer["through q"] + layer["direct"]
        np.testing.assert_allclose(parts, layer[f"dh_later({layer.before})"], atol=1e-15)
    adds = [a for a in data_of(page)["layers"][0]["adds"] if a["name"] == "weight_hh_l0"]
    rows = 4 * cell.second_product
    assert [a["shape"] for a in adds] == [[12 - rows, 4], [rows, 4]]


def test_every_quantity_of_a_cell_has_its_equation():
    for cell in (Elman(), GRU(), LSTM(), MinimalGated(), GRUResetBefore()):
        net, x, target = problem(cell, "one layer")
        layer = inspect_page(net, x, target).record.layers[0]
        for equation in numbered_equations(cell):
            (q,) = [q for q in layer.forward if q.name == equation.computes]
            assert layer.forward_lines[q.line].number == equation.number
        for q in layer.backward:
            assert q.group != "cell" or q.line is not None


def test_a_reversed_direction_reads_from_the_end():
    net, x, target = problem(GRU(), "stack")
    forwards, backwards = inspect_page(net, x, target).record.layers[2:]
    assert (forwards.before, backwards.before) == ("t-1", "t+1")
    assert "h(t+1)" in {q.name for q in backwards.forward}
    np.testing.assert_array_equal(backwards["h(t+1)"][:-1], backwards["h"][1:])
    assert any("h(t+1) - n(t)" in line.text for line in backwards.forward_lines)


@dataclass(frozen=True)
class Undocumented:
    """A cell whose docstring has no equations."""

    gates = 2
    state = ("h",)

    def forward(self, xp, u, v, state):
        (h,) = state
        pace = 0.5 * xp.tanh(0.5 * (u[0] + v[0])) + 0.5
        new = xp.tanh(u[1] + v[1])
        return (h + pace * (new - h),), (pace, new)

    def backward(self, xp, saved, previous, d_state):
        (pace, new), (h,), (dh,) = saved, previous, d_state
        slope = pace * (1 - pace)
        d_pace = dh * (new - h) * slope
        d_new = dh * pace * (1 - new * new)
        return (d_pace, d_new), (d_pace, d_new), (dh - dh * pace,)


def test_a_cell_of_the_users_own_has_its_own_names():
    net, x, target = problem(Undocumented(), "one layer")
    record = inspect_page(net, x, target).record
    assert_gradients(record, net.value_and_grad(x[:, :1], target[:, :1])[1])
    layer = record.layers[0]
    names = [q.name for q in layer.forward]
    assert names == ["x", "u_0", "u_1", "h(t-1)", "v_0", "v_1", "pace", "new", "h"]
    lines = [line.text for line in layer.forward_lines]
    assert lines[2:4] == ["pace = 0.5 * tanh(0.5 * (u[0] + v[0])) + 0.5", "new = tanh(u[1] + v[1])"]
    (q,) = [q for q in layer.forward if q.name == "pace"]
    np.testing.assert_array_equal(layer.forward_lines[q.line].right["u[0]"], layer["u_0"])


def test_a_formula_without_a_source():
    space = {}
    exec("def f(a):\n    b = a + 1\n    return b", space)
    result, executed = watch(space["f"], np.zeros(2))
    np.testing.assert_array_equal(result, 1)
    assert [(e.statement, list(e.written)) for e in executed] == [(None, ["b"]), (None, [])]
    assert watch(abs, -1) == (1, ())


def test_watching_leaves_a_trace_function_of_others(monkeypatch):
    import sys

    def tracer(frame, event, arg):
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        watch(lambda a: a + 1, 1)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)


def test_gates_without_names_are_numbered():
    assert gate_names(GRU()) == ("r", "z", "n")
    assert gate_names(LSTM()) == ("i", "f", "g", "o")
    assert gate_names(Branching()) == ("0", "1")
    assert gate_names(Elman()) == ("",)


# What is not finite.


def test_the_first_number_that_is_not_finite():
    net = xprnn.RNN(1, 8, 1, cell=Elman("identity"), bias=False, dtype="float32", rng=0)
    U = np.zeros((8, 8), np.float32)
    U[7, 7] = 1e10
    net.parameters["weight_hh_l0"] = U
    x = np.ones((10, 1, 1), np.float32)
    page = inspect_page(net, x, x)
    assert page.messages == ("First non-finite: v at step 4, unit 7, layer 0.",)
    h = np.array([np.abs(p) for p in page.record.layers[0]["v"][:, 7]])
    assert np.isfinite(h[3])
    assert not np.isfinite(h[4])


def test_a_gradient_that_is_not_finite():
    net = xprnn.RNN(1, 1, cell=Elman("identity"), bias=False, dtype="float32")
    net.parameters = {
        "weight_ih_l0": np.zeros((1, 1), np.float32),
        "weight_hh_l0": np.full((1, 1), 1e20, np.float32),
    }
    x = np.zeros((6, 1, 1), np.float32)
    page = inspect_page(net, x, d_output=np.ones((6, 1, 1), np.float32))
    # 1e20 at step 4, 1e40 at step 3: not in float32.
    assert page.messages == ("First non-finite: dh_later(t-1) at step 4, unit 0, layer 0.",)


# The page.


def data_of(page):
    """Return the data of a page, from its text."""
    (text,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', page.html, re.S
    )
    return json.loads(text)


def arrays_of(page):
    found = []
    for array in data_of(page)["arrays"]:
        raw = base64.b64decode(array["data"])
        found.append(np.frombuffer(raw, f"<{array['kind']}").reshape(-1, array["width"]))
    return found


@pytest.mark.parametrize(
    "options", [{}, {"steps": (2, 5)}, {"window": 2}, {"lengths": [4, 6]}], ids=str
)
@pytest.mark.parametrize("form", ["one layer", "stack", "last"])
def test_the_pages_numbers_are_those_of_the_record(form, options):
    net, x, target = problem(LSTM(), form)
    options = {**options, "steps": (2, 4)} if "lengths" in options else options
    page = inspect_page(net, x, target, **options)
    data, arrays, shown = data_of(page), arrays_of(page), page.shown
    assert (data["first"], data["shown"]) == (shown.start, shown.stop - shown.start)
    for layer, wanted in zip(data["layers"], page.record.layers, strict=True):
        for stage in ("forward", "backward"):
            rows = layer[stage]["rows"]
            assert [row["name"] for row in rows] == [q.name for q in getattr(wanted, stage)]
            for row in rows:
                np.testing.assert_array_equal(arrays[row["array"]], wanted[row["name"]][shown])
        for adds, c in zip(layer["adds"], wanted.contributions, strict=True):
            np.testing.assert_array_equal(arrays[adds["left"]], c.left[shown])
            if c.right is not None:
                np.testing.assert_array_equal(arrays[adds["right"]], c.right[shown])
        np.testing.assert_allclose(
            arrays[layer["norms"]][:, 0], np.linalg.norm(wanted["dh"], axis=1)
        )
    y = arrays[data["output"]["y"]]
    np.testing.assert_array_equal(
        y, page.record.output if form == "last" else page.record.output[shown]
    )


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_fifty_steps_of_sixteen_units_are_less_than_a_megabyte(cell):
    rng = np.random.default_rng(0)
    for options in ({"layers": 2}, {"bidirectional": True}):
        net = xprnn.RNN(4, 16, 3, cell=cell, dtype="float64", rng=0, **options)
        page = inspect_page(net, rng.normal(size=(50, 1, 4)), rng.normal(size=(50, 1, 3)), window=4)
        assert page.shown == slice(0, 50)
        assert len(page.html.encode()) < 1_000_000


def test_a_page_loads_nothing_and_has_no_open_ends():
    net, x, target = problem(GRU(), "one layer")
    title = '</script><script>alert("x")</script>'
    page = inspect_page(net, x, target, title=title, notes=["a <b> & c"])
    assert not re.findall(
        r"""(?:src|href|url|import|fetch|XMLHttp\w*|WebSocket)\s*[=(]\s*["'](?!#)""", page.html
    )
    assert "http" not in page.html.replace("http-equiv", "")
    assert "default-src 'none'" in page.html
    assert page.html.count("</script>") == 2
    assert data_of(page)["title"] == title
    assert not re.findall("<!--[A-Z]+-->", page.html)


def test_large_numbers_stay_in_double_precision():
    net = xprnn.RNN(1, 64, 1, cell="gru", dtype="float64", rng=0)
    x = np.random.default_rng(0).normal(size=(100, 1, 1))
    page = inspect_page(net, x, d_output=np.full((100, 1, 1), 1e60))
    arrays, layer = arrays_of(page), data_of(page)["layers"][0]
    kinds = {row["name"]: arrays[row["array"]].dtype.itemsize for row in layer["backward"]["rows"]}
    assert kinds["dh"] == 8
    (h,) = [row for row in layer["forward"]["rows"] if row["name"] == "h"]
    assert arrays[h["array"]].dtype == np.float32
    np.testing.assert_allclose(
        arrays[h["array"]], page.record.layers[0]["h"][page.shown], rtol=1e-6
    )


def test_a_page_is_written_and_shows_itself_in_a_notebook(tmp_path):
    net, x, target = problem(GRU(), "one layer")
    page = inspect_page(net, x, target)
    page.save(tmp_path / "inspect.html")
    assert (tmp_path / "inspect.html").read_text("utf-8") == page.html
    assert repr(page).startswith("Page(6 of 6 steps, 0.")
    shown = page._repr_html_()
    assert shown.startswith('<iframe srcdoc="&lt;!doctype html&gt;')
    assert shown.count('"') == 6


def test_the_sentence_names_the_step_where_the_gradient_grows_most():
    net = xprnn.RNN(1, 1, dtype="float64")
    net.parameters = {
        "weight_ih_l0": np.ones((1, 1)),
        "weight_hh_l0": np.full((1, 1), 2.0),
        "bias_l0": np.zeros(1),
    }
    # tanh is steep at step 3, where U h and x cancel; elsewhere it is saturated.
    x = np.array([2.0, 2, 2, -2, -2, -2]).reshape(6, 1, 1)
    page = inspect_page(net, x, d_output=np.array([0.0, 0, 0, 0, 0, 1]).reshape(6, 1, 1))
    layer = page.record.layers[0]
    factors = np.abs(layer["dh_later(t-1)"] / layer["dh"])[1:, 0]
    assert np.argmax(factors) + 1 == 3
    (note,) = data_of(page)["notes"]
    assert f"It grows most from step 3 to step 2: {factors.max():.3g} times." in note


def test_wrong_arguments():
    net, x, target = problem(GRU(), "one layer")
    with pytest.raises(ValueError, match="sequence is 2: expected 0 to 1, one of the batch's"):
        inspect_page(net, x, target, sequence=2)
    with pytest.raises(TypeError, match=r"sequence is 0\.5 \(float\): expected an int"):
        inspect_page(net, x, target, sequence=0.5)
    with pytest.raises(ValueError, match=r"steps is \(4, 9\): expected 0 ≤ first < end ≤ 6"):
        inspect_page(net, x, target, steps=(4, 9))
    with pytest.raises(TypeError, match=r"steps is .*: expected two ints"):
        inspect_page(net, x, target, steps=(1.0, 2))
    with pytest.raises(TypeError, match=r"steps is .*: expected two ints"):
        inspect_page(net, x, target, steps=(1, 2, 3))
    with pytest.raises(ValueError, match=r"target has shape \(6, 2\)"):
        inspect_page(net, x, target[..., 0])
    with pytest.raises(TypeError, match="net is int: expected an RNN"):
        inspect_page(3, x, target)
