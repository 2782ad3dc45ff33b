"""`check_gradients`: right gradients pass everywhere, wrong ones are named."""

import re
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

import xprnn
from tests.cases import CASES, CELLS, each_cell, in_full, row_of
from tests.gated import Gated
from tests.harness import on_every_backend
from tests.process import run_python
from tests.spoiled import SPOILS, Spoiled
from xprnn import RNN
from xprnn.cells import GRU, LSTM, Elman
from xprnn.losses import SquaredError
from xprnn.testing import ContractError, GradientError, check_cell, check_gradients

MODES = ("central", "complex", "directions", "forward")
T, B, I, H, O = 4, 3, 2, 5, 2  # noqa: E741
GATED = next(case for case in CELLS if case.id == "custom-gated")
SOME = (row_of("elman-tanh"), next(case for case in CELLS if case.kink), GATED)


def network(**options):
    return RNN(I, H, O, **{"dtype": "float64", "rng": 0} | options)


def data(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape or (T, B, I))


# Right gradients


@on_every_backend(SOME, on_jax=[GATED])
def test_every_backend_passes(case, harness):
    problem = case.problem()
    net, x, state = harness.net(case), harness.array(problem.x), harness.arrays(problem.state)
    before = {name: harness.host(p) for name, p in net.parameters.items()}
    report = check_gradients(net, x, state, mode="directions", directions=1)
    states = [f"state {name}" for name in case.cell.state]
    assert [f.name for f in report.findings] == [*net.parameters, "input", *states, "all"]
    assert {f.verdict for f in report.findings} == {"right"}
    assert report.method == "forward mode in 1 random directions"
    for name, p in net.parameters.items():
        np.testing.assert_array_equal(harness.host(p), before[name])
    np.testing.assert_array_equal(harness.host(x), problem.x)


@pytest.mark.parametrize("case", in_full(CASES, but=CELLS))
def test_every_entry_is_right(case):
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    report = check_gradients(net, problem.x, problem.state)
    assert report.method.endswith(" of every entry")
    for finding in report.findings:
        assert finding.compared == np.prod(finding.shape)
        assert finding.error < 1e-12


@each_cell
def test_a_network_in_float32_is_checked_in_float64(case):
    net = case.make(rng=0)
    assert check_gradients(net, case.problem().x.astype("float32"), mode="central").passed
    assert {p.dtype for p in net.parameters.values()} == {np.dtype("float32")}


DEEP = {
    "layers": {"cell": "gru", "layers": 2},
    "no bias": {"cell": "gru", "bias": False},
    "both directions": {"cell": "lstm", "layers": 2, "bidirectional": True, "output_size": None},
    "peepholes": {"cell": LSTM(peepholes=True), "returns": "last"},
    "normalised": {"cell": LSTM(layer_norm=True)},
    "dropout": {"cell": "minimal_gated", "layers": 2, "dropout": 0.4, "recurrent_dropout": 0.4},
    "embedding": {"embedding_size": 3, "layers": 2},
    "tied": {"output_size": I, "tied": True},
}


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("lengths", [None, [4, 1, 3]], ids=["whole", "lengths"])
def test_networks_of_every_kind_pass(name, lengths):
    options = {"output_size": O, "dtype": "float64", "rng": 0} | DEEP[name]
    net = RNN(I, 3, **options)
    x = data() if net.embedding_size is None else np.array([[0, 1, 1]] * T)
    report = check_gradients(net, x, lengths=lengths)
    assert {finding.name for finding in report.findings} >= set(net.parameters)
    assert max(finding.error for finding in report.findings) < 1e-11
    y = np.zeros_like(net(x, lengths=lengths)[0])
    assert check_gradients(net, x, target=y, lengths=lengths, mode="directions").passed


def test_integers_have_no_gradient_and_all_else_is_checked():
    tokens = np.random.default_rng(0).integers(0, 6, size=(T, B)).astype("int8")
    net = RNN(6, 4, 6, rng=0)
    for mode in MODES:
        report = check_gradients(net, tokens, target=tokens, loss="cross_entropy", mode=mode)
        assert "input" not in {finding.name for finding in report.findings}
        assert "the input is of integers, which have no gradient" in str(report)
        assert report["weight_ih_l0"].shape == (4, 6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss", [None, "squared_error", SquaredError("sum")])
def test_losses(loss, mode):
    report = check_gradients(network(), data(), target=data(T, B, O), loss=loss, mode=mode)
    assert str(report).startswith("gradients of a loss: ")


@pytest.mark.parametrize("window", [0, 1, T - 2, T - 1, T + 5])
@pytest.mark.parametrize("returns", ["sequence", "last"])
def test_windows(window, returns):
    net = RNN(I, 3, O, cell=Gated(), returns=returns, layers=2, dtype="float64", rng=0)
    report = check_gradients(net, data(), window=window)
    # The window of the last output does not reach the initial state.
    reached = returns == "sequence" or window >= T - 1
    assert (report["state h"].verdict == "right") == reached
    assert report["weight_hh_l0"].error < 1e-12
    y = data(*net(data())[0].shape, seed=2)
    assert check_gradients(net, data(), target=y, window=window, mode="directions").passed


def test_the_same_seed_gives_the_same_report():
    one, other, third = (check_gradients(network(), data(), rng=seed) for seed in (1, 1, 2))
    assert one == other
    assert one != third
    generators = [np.random.default_rng(1) for _ in range(2)]
    one, other = (check_gradients(network(), data(), rng=g) for g in generators)
    assert one == other


def test_large_networks_are_checked_along_random_directions():
    net = RNN(200, 900, 10, rng=0)
    assert sum(p.size for p in net.parameters.values()) > 999_000
    report = check_gradients(net, data(5, 4, 200).astype("float32"))
    assert report.method == "forward mode in 2 random directions"
    assert max(finding.error for finding in report.findings) < 1e-12


def test_the_mode_is_chosen_by_size():
    # 6·7 + 7·7 + 7 + 7·2 + 2 + state 21 are 135; the rest is the input.
    net = RNN(6, 7, 2, rng=0)
    for steps, method in ((48, "of every entry"), (49, "in 2 random directions")):
        report = check_gradients(net, data(steps, 3, 6).astype("float32"))
        assert (135 + steps * 18 <= 1000) == (method == "of every entry")
        assert report.method == f"forward mode {method}"


# Wrong gradients


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SPOILS)
def test_a_wrong_cell_is_found_and_the_line_named(name, mode):
    spoil, wanted = SPOILS[name]
    net = GATED.but(cell=Spoiled(spoil)).make(dtype="float64", rng=0)
    with pytest.raises(GradientError) as caught:
        check_gradients(net, GATED.problem().x, mode=mode)
    message, failures = str(caught.value), caught.value.report.failures
    assert failures
    assert message.startswith("the cell's backward is wrong: ")
    assert "\nso the network's gradients are, too: the gradient of " in message
    found = message.partition("the gradient of ")[2].partition(" is ")[0]
    assert found.rpartition("[")[0] in wanted


def spoiled(monkeypatch, change):
    """Make the backward of every network return ``change(gradient)``."""
    right = RNN.backward
    monkeypatch.setattr(RNN, "backward", lambda self, *a, **k: change(right(self, *a, **k)))


def changed(name, change):
    """Return a function that changes one array of a gradient."""

    def apply(gradient):
        if name == "input":
            return gradient._replace(input=change(gradient.input))
        if name.startswith("state"):
            return gradient._replace(state=tuple(map(change, gradient.state)))
        return gradient._replace(
            parameters=gradient.parameters | {name: change(gradient.parameters[name])}
        )

    return apply


ENGINE = {
    "weight_ih_l0": (lambda g: g[:, ::-1], "the gradient of W is Σ du(t) x(t)ᵀ"),
    "weight_hh_l0": (lambda g: g.T, "the gradient of U is Σ dv(t) h(t-1)ᵀ; look at the cell's dv"),
    "bias_l0": (lambda g: g / 2, "the gradient of b is Σ du(t); look at the cell's du"),
    "readout.weight": (lambda g: -g, "the gradient of R is Σ dy(t) h(t)ᵀ, without the cell"),
    "readout.bias": (lambda g: g[::-1], "the gradient of r is Σ dy(t), without the cell"),
    "input": (lambda g: g[::-1], "the gradient of x(t) is Wᵀ du(t)"),
    "state h": (lambda g: 0 * g, "the gradient of h(0) is Uᵀ dv(1), and what the cell passes on"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ENGINE)
def test_a_wrong_engine_is_found_and_the_array_named(name, mode, monkeypatch):
    change, equation = ENGINE[name]
    spoiled(monkeypatch, changed(name, change))
    with pytest.raises(GradientError) as caught:
        check_gradients(network(), data(), mode=mode)
    report = caught.value.report
    also = {"all"} if mode == "directions" else set()
    assert {finding.name for finding in report.failures} == {name} | also
    first, second, *_, last = str(caught.value).partition("\n\n")[0].splitlines()
    at = "along a random direction" if mode == "directions" else r"["
    worst = report[name]
    assert first.startswith(f"the gradient of {name}{'' if at == '[' else ' '}{at}")
    assert f" is {worst.backward:.10g} by backward" in first
    assert first.endswith(
        f"but {worst.numeric:.10g} by {report.method.split(' of ')[0].split(' in ')[0]}"
    )
    assert second.startswith(equation)
    assert last == "check_cell finds nothing wrong with Elman(activation='tanh') alone"
    assert str(report) in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "off"), [("forward", 1e-11), ("complex", 1e-8), ("central", 1e-5)]
)
def test_one_entry_that_is_slightly_off_is_found(mode, off, monkeypatch):
    def change(g):
        g = g.copy()
        g[3, 1] += off * np.max(np.abs(g))
        return g

    spoiled(monkeypatch, changed("weight_hh_l0", change))
    with pytest.raises(GradientError, match=r"weight_hh_l0\[3, 1\]"):
        check_gradients(network(), data(), mode=mode)


def test_one_entry_of_a_million_is_found_along_random_directions(monkeypatch):
    def change(g):
        g = g.copy()
        g[300, 100] += 1e-2 * np.max(np.abs(g))
        return g

    spoiled(monkeypatch, changed("weight_hh_l0", change))
    with pytest.raises(GradientError, match="weight_hh_l0 along a random direction"):
        check_gradients(RNN(10, 400, 2, rng=0), data(3, 2, 10).astype("float32"), directions=1)


@pytest.mark.parametrize("mode", MODES)
def test_the_gate_is_named(mode, monkeypatch):
    def change(g):
        g = g.copy()
        g[2 * H + 1] *= 2
        return g

    spoiled(monkeypatch, changed("weight_hh_l0", change))
    gate = "" if mode == "directions" else r"\[2\]"
    with pytest.raises(GradientError, match=rf"look at the cell's dv{gate}\n"):
        check_gradients(network(cell="gru"), data(), mode=mode)


def test_units_norms_and_embeddings_have_equations(monkeypatch):
    wanted = {
        "bias_hn_l1": r"its gradient is Σ dv\[3\]\(t\); look at the cell's dv\[3\]",
        "embedding.weight": r"row k is Σ dx\(t\) over x\(t\) = k, and if it is tied",
    }
    net = RNN(3, 4, cell=GRU(), layers=2, embedding_size=2, rng=0)
    tokens = np.array([[0, 1], [2, 2], [1, 0]])
    for name, words in wanted.items():
        with monkeypatch.context() as patch:
            spoiled(patch, changed(name, lambda g: xprnn.engine.gradients.times(g, 2.0)))
            with pytest.raises(GradientError, match=words):
                check_gradients(net, tokens)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_zero_and_nan_are_no_gradients(value, mode, monkeypatch):
    def change(gradient):
        return gradient._replace(
            parameters={k: np.full_like(g, value) for k, g in gradient.parameters.items()},
            input=np.full_like(gradient.input, value),
            state=tuple(np.full_like(part, value) for part in gradient.state),
        )

    spoiled(monkeypatch, change)
    words = r"is 0 by backward \(all of \S+ is zero\), but" if value == 0 else "is nan by backward"
    with pytest.raises(GradientError, match=words) as caught:
        check_gradients(network(), data(), mode=mode)
    verdicts = {finding.verdict for finding in caught.value.report.findings}
    assert verdicts == {"wrongly zero" if value == 0 else "not finite"}


def test_one_nan_is_found_where_it_is(monkeypatch):
    def change(g):
        g = g.copy()
        g[1, 4] = np.nan
        return g

    spoiled(monkeypatch, changed("weight_hh_l0", change))
    with pytest.raises(GradientError, match=r"weight_hh_l0\[1, 4\] is nan by backward"):
        check_gradients(network(), data())


def test_an_objective_that_is_not_finite_is_no_agreement():
    net = network(cell=Elman("identity"))
    net.parameters["weight_hh_l0"] = 1e200 * net.parameters["weight_hh_l0"]
    for mode in ("central", "directions"):
        with pytest.raises(GradientError) as caught:
            check_gradients(net, data(), mode=mode)
        assert any(f.verdict == "not finite" for f in caught.value.report.findings)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_that_are_rightly_zero_show_nothing(mode):
    net = network()
    state = (np.zeros((1, B, H)),)
    y, _ = net(data(), state)
    with pytest.raises(
        GradientError, match="every gradient is zero, or lost in rounding"
    ) as caught:
        check_gradients(net, data(), state, target=y, mode=mode)
    assert caught.value.report.empty
    assert not caught.value.report.failures


def test_a_gradient_that_is_rightly_zero_is_said():
    # U is used in U h(0) of the first step only.
    report = check_gradients(network(), data(1, B, I), (np.zeros((1, B, H)),))
    assert report["weight_hh_l0"].verdict == "zero"
    assert "zero, as it should be, which shows little: weight_hh_l0" in report.notes


def test_a_gradient_that_is_lost_in_rounding_is_said():
    net = network(cell=Elman("relu"))
    net.parameters["weight_hh_l0"] = 1e-9 * net.parameters["weight_hh_l0"]
    assert check_gradients(net, data())["state h"].verdict == "right"
    report = check_gradients(net, data(), mode="central")
    assert report["state h"].verdict == "unseen"
    assert "too small to be told from rounding: state h" in report.notes
    assert report["weight_ih_l0"].verdict == "right"


@pytest.mark.parametrize(("window", "taken"), [(1, None), (1, 2), (2, 1), (0, 1)])
def test_a_wrong_window_is_found(window, taken, monkeypatch):
    right = RNN.backward
    monkeypatch.setattr(
        RNN, "backward", lambda self, run, dy, ds, window: right(self, run, dy, ds, taken)
    )
    for mode in MODES:
        with pytest.raises(GradientError, match="weight_hh_l0"):
            check_gradients(network(), data(), window=window, mode=mode)


def test_masks_that_differ_are_found(monkeypatch):
    right = RNN.backward

    def backward(self, run, *rest):
        other = self.forward(run.tape.x, state, rng=99)
        return right(self, other, *rest)

    state = (data(2, B, H),)
    net = network(layers=2, dropout=0.5)
    assert check_gradients(net, data(), state).passed
    monkeypatch.setattr(RNN, "backward", backward)
    with pytest.raises(GradientError):
        check_gradients(net, data(), state)


# Losses


class DoubledError(SquaredError):
    def value_and_grad(self, output, target, valid=None, *, overwrite=False):
        value, gradient = super().value_and_grad(output, target)
        return value, 2 * gradient


class MisreportedError(SquaredError):
    def value_and_grad(self, output, target, valid=None, *, overwrite=False):
        value, gradient = super().value_and_grad(output, target)
        return 3 * value, gradient


class PerStepError(SquaredError):
    def __call__(self, output, target, valid=None):
        return np.sum((output - target) ** 2, axis=(1, 2))


class PerStepWithGradientError(SquaredError):
    def value_and_grad(self, output, target, valid=None, *, overwrite=False):
        value, gradient = super().value_and_grad(output, target)
        return value[None], gradient


class NumberError(SquaredError):
    def __call__(self, output, target, valid=None):
        return float(super().__call__(output, target))


class NarrowError(SquaredError):
    def value_and_grad(self, output, target, valid=None, *, overwrite=False):
        value, gradient = super().value_and_grad(output, target)
        return value, gradient.astype("float32")


def test_a_wrong_loss_is_found():
    with pytest.raises(GradientError, match="check_cell finds nothing wrong") as caught:
        check_gradients(network(), data(), target=data(T, B, O), loss=DoubledError())
    assert len(caught.value.report.failures) == 7


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (PerStepError(), r"returned numpy\.ndarray of shape \(4,\) .*: expected a zero-dim"),
        (
            PerStepWithGradientError(),
            r"value_and_grad of .* is .* shape \(1,\) .*: expected a zero",
        ),
        (NumberError(), r"returned float: expected a zero-dimensional array"),
        (MisreportedError(), r"reports \S+, but value_and_grad says \S+: expected the number"),
        (NarrowError(), r"dtype float32: expected the output's shape \(4, 3, 2\) and"),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_a_loss_of_the_wrong_form_is_said(loss, words):
    with pytest.raises(ContractError, match=words):
        check_gradients(network(), data(), target=data(T, B, O), loss=loss)


# Kinks, and functions that are not analytic


def test_kinks_are_left_out_and_counted():
    net = RNN(2, 2, cell=Elman("relu"), dtype="float64", rng=0)
    # Unit 0 has z = 0 at the first step, unit 1 is far from there.
    net.parameters["weight_ih_l0"] = np.array([[1.0, 1.0], [0.5, 0.25]])
    net.parameters["weight_hh_l0"] = np.array([[0.0, 1.0], [0.0, 1.0]])
    net.parameters["bias_l0"] = np.array([0.0, 2.0])
    x, state = np.array([[[1.0, -1.0]], [[1.0, 1.0]]]), (np.zeros((1, 1, 2)),)
    report = check_gradients(net, x, state)
    assert (report["weight_ih_l0"].kinks, report["weight_ih_l0"].compared) == (2, 2)
    assert report["bias_l0"].kinks == 1
    assert "2 + 2 at kinks" in str(report)
    (note,) = report.notes
    assert re.fullmatch(
        r"at a kink .* to compare with: maximum at \[0, 0\] \(activations.py:\d+, in _relu\)", note
    )
    by_differences = check_gradients(net, x, state, mode="central")
    assert by_differences["weight_ih_l0"].kinks == 2
    assert by_differences.notes == ("at a kink there is no derivative to compare with",)


def test_kinks_everywhere_are_no_agreement():
    net = RNN(I, H, cell=Elman("relu"), bias=False, dtype="float64", initializer="zeros")
    with pytest.raises(GradientError, match="can't be compared: there are kinks everywhere"):
        check_gradients(net, data(), (np.zeros((1, B, H)),))


@pytest.mark.parametrize("distance", [3e-6, 1e-7])
def test_near_a_kink_the_step_is_made_smaller(distance):
    net = RNN(1, 1, cell=Elman("relu"), bias=False, dtype="float64", rng=0)
    net.parameters["weight_ih_l0"] = np.array([[1.0]])
    x, state = np.array([[[distance]]]), (np.zeros((1, 1, 1)),)
    report = check_gradients(net, x, state, mode="central")
    assert report["input"].kinks == 0
    assert report["input"].verdict == "right"


class Absolute(Gated):
    """|c| instead of c, by a function that drops the imaginary part."""

    def forward(self, xp, u, v, state):
        (h, c), (_, *saved) = super().forward(xp, u, v, state)
        return (h, abs(c)), (c, *saved)

    def backward(self, xp, saved, previous, d_state):
        dh, dc = d_state
        return super().backward(xp, saved, previous, (dh, dc * xp.sign(saved[0])))


@pytest.mark.parametrize("backend", ["numpy", "array_api_strict", "torch"])
def test_what_is_not_analytic_is_found_out(backend):
    net = RNN(I, 2, 1, cell=Absolute(), backend=backend, dtype="float64", rng=0)
    x = net.backend.asarray(data(2, 2, I))
    report = check_gradients(net, x, mode="directions", directions=1)
    assert report.method.startswith("forward mode")
    assert not report.notes
    with pytest.raises(ValueError, match="the complex step can't be used"):
        check_gradients(net, x, mode="complex")


class OfNumPy(Gated):
    """Calls NumPy instead of the namespace that it is given."""

    def forward(self, xp, u, v, state):
        return super().forward(np, u, v, state)


class OfNumPyWithKink(OfNumPy):
    def forward(self, xp, u, v, state):
        (h, c), (_, *saved) = super().forward(np, u, v, state)
        return (h, np.abs(c)), (c, *saved)

    def backward(self, xp, saved, previous, d_state):
        dh, dc = d_state
        return super().backward(xp, saved, previous, (dh, dc * np.sign(saved[0])))


class WithoutTangent(Gated):
    """Drops the tangent of an array on the way."""

    def forward(self, xp, u, v, state):
        where_from = getattr(u[0], "value", u[0])
        return super().forward(xp, (where_from, *u[1:]), v, state)


@pytest.mark.parametrize(
    ("cell", "method", "notes"),
    [
        (OfNumPy(), "complex step", ["no forward mode: TypeError: "]),
        (OfNumPyWithKink(), "central diff", ["no forward mode: ", "no complex step: "]),
        (WithoutTangent(), "complex step", ["no forward mode: the slope in a random direction is"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_where_forward_mode_can_not_be_used_the_next_best_is(cell, method, notes):
    report = check_gradients(network(cell=cell), data())
    assert report.method.startswith(method)
    assert [note[: len(want)] for note, want in zip(report.notes, notes, strict=True)] == notes
    with pytest.raises(ValueError, match="mode is 'forward', but forward mode can't be used"):
        check_gradients(network(cell=cell), data(), mode="forward")


def test_forward_mode_computes_what_the_network_computes(monkeypatch):
    """A network that computes something else, and whose gradients fit the plain formulas."""
    right = RNN.forward

    def forward(self, *arguments, **options):
        run = right(self, *arguments, **options)
        return run._replace(output=run.output + 1e-3)

    monkeypatch.setattr(RNN, "forward", forward)
    report = check_gradients(network(), data())
    assert "no forward mode: its value is " in report.notes[0]


def test_why_there_is_no_complex_step():
    with pytest.raises(ValueError, match=r"NotAnalyticError: xp\.maximum is for real numbers\)"):
        check_gradients(network(cell=Elman("relu")), data(), mode="complex")
    with pytest.raises(ValueError, match="so the function is not analytic, or has a kink right he"):
        check_gradients(network(cell=Absolute()), data(), mode="complex")


# What can't be checked


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"x": np.ones((T, B, I), int)}, TypeError, "x has dtype int64: expected floats"),
        ({"x": [[1.0]]}, TypeError, "x is a list: expected an array of the backend 'numpy'"),
        ({"x": np.zeros((0, B, I))}, ValueError, "expected at least one step"),
        ({"x": np.full((T, B, I), np.nan)}, ValueError, r"x\[0, 0, 0\] is nan: expected finite"),
        ({"state": (np.ones((1, B, H), int),)}, TypeError, r"state\[0\] has dtype int64"),
        ({"state": np.ones((1, B, H))}, TypeError, "state is of type ndarray: expected a tuple"),
        ({"target": np.ones((T, B, O), int)}, TypeError, "target has dtype int64: expected fl"),
        ({"loss": "squared_error"}, ValueError, "loss is 'squared_error', but there is no targ"),
        ({"mode": "complexe"}, ValueError, "mode is 'complexe': expected 'auto' or 'central' or"),
        ({"directions": 0}, ValueError, "directions is 0: expected an int of at least 1"),
        ({"tolerance": 0}, ValueError, "tolerance is 0.0: expected a number above 0"),
        ({"rng": "x"}, TypeError, "rng is 'x'"),
        ({"window": -1}, ValueError, "window is -1"),
        ({"lengths": [4, 4, 5]}, ValueError, r"lengths\[2\] is 5"),
        ({"net": "net"}, TypeError, "net is of type str: expected xprnn.RNN itself"),
    ],
)
def test_arguments_that_do_not_fit(options, error, words):
    arguments = {"net": network(), "x": data()} | options
    with pytest.raises(error, match=words):
        check_gradients(**arguments)


@pytest.mark.parametrize(
    ("options", "lengths", "words"),
    [
        ({"bidirectional": True}, None, "in both directions"),
        ({"recurrent_dropout": 0.5}, None, "with dropout"),
        ({}, [4, 2, 3], "with lengths"),
    ],
)
def test_windows_that_can_not_be_checked(options, lengths, words):
    net = network(**options)
    with pytest.raises(ValueError, match=f"the gradients of 4 steps: {words} that can't be check"):
        check_gradients(net, data(), lengths=lengths, window=2)
    assert check_gradients(net, data(), lengths=lengths, window=3).passed


def test_a_subclass_would_be_lost():
    class Other(RNN):
        pass

    with pytest.raises(TypeError, match=r"net is of type Other: expected xprnn\.RNN itself"):
        check_gradients(Other(I, H), data())


def test_a_cell_that_breaks_its_contract_is_told_before_anything_runs():
    net = network(cell=Spoiled(lambda du, dv, ds: (du[:1], dv, ds)))
    with pytest.raises(ContractError, match="du has 1 array: expected 2, G = 2"):
        check_gradients(net, data())


def test_a_network_that_is_another_each_time_can_not_be_checked(monkeypatch):
    right, calls = RNN.forward, []

    def forward(self, x, state=None, *rest, **options):
        calls.append(x)
        run = right(self, x, state, *rest, **options)
        return run._replace(output=run.output * (1 + 1e-9 * len(calls)))

    monkeypatch.setattr(RNN, "forward", forward)
    with pytest.raises(ContractError, match="two forward passes with the same arguments differ"):
        check_gradients(network(), data())


def test_other_bits_are_a_note_where_none_are_promised(monkeypatch):
    right, calls = RNN.forward, []

    def forward(self, x, state=None, *rest, **options):
        calls.append(x)
        run = right(self, x, state, *rest, **options)
        return run._replace(output=run.output * (1 + 2e-16 * (len(calls) % 2)))

    monkeypatch.setattr(RNN, "forward", forward)
    net = network(backend="numpy:")
    report = check_gradients(net, data())
    assert any(
        note.startswith("the same call gave other bits again, which numpy: al")
        for note in report.notes
    )
    with pytest.raises(ContractError, match="expected the same bits, which numpy promises on cpu"):
        check_gradients(network(), data())


def test_sequences_that_depend_on_each_other_are_found(monkeypatch):
    right = RNN.forward

    def forward(self, x, *rest, **options):
        return right(self, x + 1e-3 * x.shape[1], *rest, **options)

    monkeypatch.setattr(RNN, "forward", forward)
    with pytest.raises(ContractError, match="of a batch of 3 sequences differs from that of its p"):
        check_gradients(network(), data())


def test_a_cell_that_mixes_sequences_is_found():
    class Mixed(Gated):
        def forward(self, xp, u, v, state):
            mean = xp.mean(u[0], axis=0, keepdims=True)
            return super().forward(xp, (u[0] - mean, *u[1:]), v, state)

    with pytest.raises(ContractError, match=r"state\[0\] of a sequence differs when it is alone"):
        check_cell(Mixed())


# Reports


def test_a_report_is_a_small_table():
    report = check_gradients(RNN(1, 2, 1, dtype="float64", rng=0), data(3, 2, 1))
    head, columns, first, *_ = str(report).splitlines()
    assert head == (
        "gradients of random d_output and d_state: forward mode of every entry, tolerance 1e-12"
    )
    assert columns.split() == ["shape", "compared", "worst", "backward", "numeric", "error"]
    assert first.startswith("weight_ih_l0    (2, 1)     2         [")
    assert first.endswith("  right")
    assert report["input"].passed
    with pytest.raises(KeyError, match="there is no 'inputs' in this report: it has weight_ih_l0,"):
        report["inputs"]
    with pytest.raises(FrozenInstanceError):
        report.method = "guessing"


def test_a_tolerance_can_be_given(monkeypatch):
    spoiled(monkeypatch, changed("bias_l0", lambda g: g * (1 + 1e-7)))
    with pytest.raises(GradientError, match="bias_l0"):
        check_gradients(network(), data())
    assert check_gradients(network(), data(), tolerance=1e-6).tolerance == 1e-6


def test_passed_is_about_all_findings():
    report = check_gradients(network(), data())
    worse = replace(report.findings[0], verdict="wrong")
    assert not replace(report, findings=(worse, *report.findings[1:])).passed
    assert replace(report, findings=()).empty


def test_all_arrays_together_are_named_last():
    report = check_gradients(network(), data(), mode="directions")
    *others, together = report.findings
    assert together.name == "all"
    wrong = replace(others[2], verdict="wrong", error=1e-3)
    worst = replace(together, verdict="wrong", error=1e-2)
    assert replace(report, findings=(wrong, worst)).failures == (wrong, worst)


def test_importing_it_loads_no_test_framework():
    code = (
        "import sys, xprnn; print(xprnn.testing.check_gradients.__name__, 'pytest' in sys.modules)"
    )
    assert run_python(code).split() == ["check_gradients", "False"]


def test_the_page_s_example_prints_what_the_page_says(capsys, tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "testing.md").read_text()
    section = page.partition("\n## Gradients\n")[2].partition("\n## ")[0]
    code, printed = (
        re.search(rf"^```{word}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[1]
        for word in ("python", "text")
    )
    (tmp_path / "page.py").write_text(code)
    namespace = run_path(str(tmp_path / "page.py"))
    message, _, table = capsys.readouterr().out.partition("\n\n")
    said, _, shown = printed.partition("\n\n")
    assert message == said
    # The last digits of rounding are not the same on every machine.
    for line, want in zip(table.splitlines(), shown.splitlines(), strict=True):
        assert line.split()[:1] == want.split()[:1]
        assert line.split()[-1:] == want.split()[-1:]
    namespace["Leaky"].backward = lambda self, xp, saved, previous, d_state: (
        *(((d_state[0] * (1 - saved[0] * saved[0])),),) * 2,
        (self.leak * d_state[0],),
    )
    assert check_gradients(namespace["net"], namespace["x"]).passed
