"""Parity of backends: agreement passes, and a backend that disagrees is caught and named."""

import dataclasses
import math

import array_api_strict
import numpy as np
import pytest
import torch

from tests.cases import each_cell
from xprnn import RNN, get_backend
from xprnn.backend import FUNCTIONS
from xprnn.cells import Elman
from xprnn.losses import SquaredError
from xprnn.optim import OPTIMIZERS, SGD, Rprop
from xprnn.testing import (
    ContractError,
    ParityError,
    ParityReport,
    Row,
    Side,
    assert_parity,
    tolerance,
    tolerance_after,
)
from xprnn.testing.parity import slack
from xprnn.testing.parity.functions import CALLS
from xprnn.testing.parity.problem import Trained

pytestmark = pytest.mark.slow

QUANTITIES = (
    *("functions", "structure", "output", "state", "loss", "gradients", "update"),
    "training",
)
OWN = "tests.namespaces"
X = np.random.default_rng(0).normal(size=(4, 3, 2))


def small(backend):
    """Return a small network, for `X`."""
    return RNN(2, 5, 2, backend=backend, rng=0)


def failed(make_net, *arguments, **options) -> ParityReport:
    """Return the report of a check that must fail."""
    with pytest.raises(ParityError) as caught:
        assert_parity(make_net, *arguments, **options)
    assert not caught.value.report.agrees
    return caught.value.report


def wrong(report: ParityReport) -> dict[tuple[str, str], list[str]]:
    """Return the quantities that disagree, by backend and dtype."""
    return {
        (side.backend, side.dtype): list(dict.fromkeys(row.quantity for row in side.failures))
        for side in report.sides
        if side.failures
    }


def side_of(report: ParityReport, backend: str, dtype: str = "float64") -> Side:
    (side,) = [s for s in report.sides if (s.backend, s.dtype) == (backend, dtype)]
    return side


def wrong_function(report: ParityReport, backend: str, dtype: str = "float64") -> Row:
    """Return the first function that is wrong."""
    return next(row for row in side_of(report, backend, dtype).failures)


def rows_of(side: Side, quantity: str) -> list[Row]:
    return [row for row in side.rows if row.quantity == quantity]


@each_cell
def test_backends_agree(case):
    problem = case.problem()
    report = assert_parity(
        lambda backend: case.make(backend=backend, rng=0),
        problem.x,
        ["array_api_strict", "torch"],
        target=problem.target,
        state=problem.state,
        steps=3,
    )
    assert report.agrees
    assert (report.reference, report.steps, report.zero) == ("numpy", 3, ())
    assert [(side.backend, side.dtype) for side in report.sides] == [
        (backend, dtype)
        for backend in ("numpy", "array_api_strict", "torch")
        for dtype in ("float64", "float32")
    ]
    for side in report.sides:
        assert tuple(dict.fromkeys(row.quantity for row in side.rows)) == QUANTITIES
        assert [row.name for row in rows_of(side, "functions")] == list(CALLS)
        assert len(side.rows) == len(CALLS) + len(QUANTITIES) - 1
        assert all(row.agrees for row in side.rows)
        assert side.seconds > 0
        assert side.device
    assert all(row.error == 0 for row in report.sides[0].rows)
    for side in report.sides[1::2]:
        # Results of float32 differ from those of float64; else they were computed in float64.
        assert all(rows_of(side, q)[0].error > 1e-9 for q in ("output", "gradients", "training"))


@pytest.mark.parametrize("returns", ["sequence", "last"])
@pytest.mark.parametrize("window", [None, 2])
def test_backends_agree_on_tokens(returns, window):
    tokens = np.random.default_rng(0).integers(0, 6, size=(5, 3))
    report = assert_parity(
        lambda backend: RNN(6, 4, 3, returns=returns, backend=backend, rng=0),
        tokens,
        ["array_api_strict", f"{OWN}:vault"],
        loss="cross_entropy",
        window=window,
        steps=2,
    )
    assert report.agrees
    # Without the gradient of the input: integers have none.
    assert rows_of(report.sides[0], "structure")[0].where == "9 arrays as expected"


def test_backends_agree_in_jax():
    # A small check, because JAX compiles every function for each shape and dtype.
    rules = {"sgd": SGD()}
    report = assert_parity(small, X, ["jax"], dtypes=["float64"], optimizers=rules, steps=0)
    assert report.sides[-1].device == "cpu:0"


def test_other_devices_other_references_and_few_dtypes():
    device = get_backend("array_api_strict", "device1")
    report = assert_parity(small, X, [device, "numpy"], "array_api_strict", steps=0)
    assert [(side.backend, side.device) for side in report.sides[::2]] == [
        ("array_api_strict", "CPU_DEVICE"),
        ("array_api_strict", "device1"),
        ("numpy", "cpu"),
    ]
    report = assert_parity(small, X, ["torch"], dtypes=["float32"], steps=0)
    assert [side.dtype for side in report.sides] == ["float32", "float32"]
    assert all(side.seconds is None for side in report.sides)
    assert "training" not in {row.quantity for side in report.sides for row in side.rows}


def test_without_a_list_it_is_all_that_are_installed(monkeypatch):
    monkeypatch.setattr(
        "xprnn.testing.parity.check.available_backends", lambda: ("numpy", "array_api_strict")
    )
    report = assert_parity(small, X, steps=0)
    assert [side.backend for side in report.sides[::2]] == ["numpy", "array_api_strict"]


def test_a_backend_is_compared_once():
    report = assert_parity(small, X.tolist(), ["torch", "numpy", "torch"], steps=0)
    assert [side.backend for side in report.sides[::2]] == ["numpy", "torch"]


@pytest.mark.parametrize("name", ["same", "vault"])
def test_a_namespace_of_ones_own_agrees(name):
    assert assert_parity(small, X, [f"{OWN}:{name}"], steps=2).agrees


COMPUTED = ["functions", "output", "state", "loss", "gradients", "update", "training"]


@pytest.mark.parametrize(
    ("name", "dtypes", "quantities", "where"),
    [
        ("off_tanh", ["float64"], COMPUTED, "tanh["),
        ("off_tanh_numpy", ["float64"], COMPUTED, "tanh["),
        ("nan_tanh", ["float64", "float32"], COMPUTED, "tanh["),
        ("careless", ["float64", "float32"], COMPUTED, "operator x @ y["),
        ("rounding_asarray", ["float64", "float32"], COMPUTED, "asarray["),
        (
            "wide_sum",
            ["float32"],
            ["functions", "structure"],
            "sum returns an array of dtype float64: expected float32",
        ),
        (
            "stray_sum",
            ["float64", "float32"],
            ["functions", "structure"],
            "sum returns an array on device array_api_strict.Device('device1'): expected ",
        ),
        (
            "host_sum",
            ["float64", "float32"],
            ["functions", "structure"],
            "sum returns an array that is numpy.ndarray of shape () and dtype float",
        ),
        (
            "flat_stack",
            ["float64", "float32"],
            ["functions", "run"],
            "stack returns an array of shape (2, 1): expected (2, 1, 1)",
        ),
        (
            "failing_exp",
            ["float64", "float32"],
            ["functions"],
            "exp fails: ZeroDivisionError: no exp today",
        ),
        # Functions that only optimizers use, which look the namespace up by the array.
        ("off_sqrt", ["float64"], ["functions", "update"], "sqrt["),
        ("off_search", ["float64", "float32"], ["functions"], "searchsorted["),
    ],
)
def test_a_wrong_function_is_caught_and_named(name, dtypes, quantities, where):
    report = failed(small, X, [f"{OWN}:{name}"], steps=2)
    found = wrong(report)
    # An error of 1e-6 is seen in float32, too, where the exact result is zero.
    alone = found.pop((f"{OWN}:{name}", "float32"), None) if dtypes == ["float64"] else None
    assert alone in (None, ["functions"])
    assert found == {(f"{OWN}:{name}", dtype): quantities for dtype in dtypes}
    for dtype in dtypes:
        row = wrong_function(report, f"{OWN}:{name}", dtype)
        assert row.where.startswith(where)


def test_how_wrong_it_is_and_where_is_said():
    with pytest.raises(ParityError) as caught:
        assert_parity(small, X, [f"{OWN}:off_tanh"], steps=2)
    report, words = caught.value.report, str(caught.value).splitlines()
    side = side_of(report, f"{OWN}:off_tanh")
    tanh = wrong_function(report, f"{OWN}:off_tanh")
    assert tanh.error == pytest.approx(1e-6, rel=0.2)
    assert tanh.detail == "for large = [[14.0]], x = [[1.75]]"
    assert tanh.tolerance == 1e-12
    gradients = {row.where.partition("[")[0]: row for row in rows_of(side, "gradients")}
    assert set(gradients) == {*small(get_backend()).parameters, "input", "state"}
    assert all(1e-8 < row.error < 1e-4 for row in gradients.values())
    assert report.worst[0] is side
    assert report.worst[1].used == max(r.used for r in side.rows if r.quantity != "functions")
    assert words[0].startswith(
        f"{OWN}:off_tanh in float64 disagrees with numpy in float64; the worst is gradients: "
    )
    assert f"; look first at {tanh}" in words[0]
    assert words[1].startswith(f"{OWN}:off_tanh on array_api_strict.Device('CPU_DEVICE') in float6")
    assert words[2].startswith("  DISAGREES: functions: tanh[")
    assert "off by 1.1e-06 (1.0e-12 allowed) for large = [[14.0]], x = [[1.75]]" in words[2]
    assert words[3] == "  structure: 10 arrays as expected"
    assert words[7].endswith(", and 6 more")
    # Only what disagrees is listed: not numpy.
    assert not any(line.startswith("numpy") for line in words[1:])


def test_the_worst_entry_is_the_one_that_is_named():
    class Off:
        """An optimizer that is wrong in one entry, except on NumPy's arrays."""

        def init(self, _):
            return 0

        def update(self, gradients, state, parameters):
            moved = dict(SGD(0.1).update(gradients, SGD(0.1).init(parameters), parameters)[0])
            if isinstance(moved["weight_hh_l0"], torch.Tensor):
                moved["weight_hh_l0"][3, 1] += 1e-9
                moved["weight_hh_l0"][2, 2] += 1e-10
            return moved, state + 1

    report = failed(small, X, ["torch"], optimizers={"sgd": SGD(0.1), "off": Off()}, steps=2)
    assert wrong(report) == {("torch", "float64"): ["update"]}
    (row,) = rows_of(side_of(report, "torch"), "update")
    largest = np.max(np.abs(small(get_backend(dtype="float64")).parameters["weight_hh_l0"]))
    assert row.where == "off: weight_hh_l0[3, 1]"
    assert row.error == pytest.approx(1e-9 / largest, rel=0.1)


def test_an_update_of_another_dtype_is_not_compared():
    class Wide:
        """An optimizer that returns float64, except on NumPy's arrays."""

        def init(self, _):
            return 0

        def update(self, gradients, state, parameters):
            moved = SGD(0.1).update(gradients, SGD(0.1).init(parameters), parameters)[0]
            if isinstance(moved["bias_l0"], torch.Tensor):
                moved = {name: array.to(torch.float64) for name, array in moved.items()}
            return moved, state

    report = failed(small, X, ["torch"], optimizers={"wide": Wide()}, steps=1)
    assert wrong(report) == {("torch", "float32"): ["structure"]}
    side = side_of(report, "torch", "float32")
    assert side.failures[0].where == (
        "after wide: weight_ih_l0 is an array of dtype float64: expected float32"
    )
    assert side.rows[-1].quantity == "structure"


def test_what_goes_wrong_after_the_first_step_is_found_in_the_training():
    class Tired:
        """An optimizer whose third step is wrong, except on NumPy's arrays."""

        def init(self, _):
            return 0

        def update(self, gradients, state, parameters):
            moved = dict(SGD(0.1).update(gradients, SGD(0.1).init(parameters), parameters)[0])
            if isinstance(moved["bias_l0"], torch.Tensor) and state == 2:
                moved["bias_l0"] = moved["bias_l0"] + 1e-9
            return moved, state + 1

    assert assert_parity(small, X, ["torch"], optimizers={"tired": Tired()}, steps=2).agrees
    report = failed(small, X, ["torch"], optimizers={"tired": Tired()}, steps=3)
    assert wrong(report) == {("torch", "float64"): ["training"]}
    assert rows_of(side_of(report, "torch"), "training")[0].where.startswith("bias_l0[")
    # The first optimizer trains, the others take one step.
    rules = {"sgd": SGD(0.1), "tired": Tired()}
    assert assert_parity(small, X, ["torch"], optimizers=rules, steps=3).agrees


def test_networks_of_all_kinds():
    rng = np.random.default_rng(0)

    def make_net(backend):
        return RNN(
            *(6, 4, 3),
            cell="gru",
            layers=2,
            bidirectional=True,
            dropout=0.3,
            recurrent_dropout=0.2,
            embedding_size=3,
            backend=backend,
            rng=0,
        )

    report = assert_parity(
        make_net,
        rng.integers(0, 6, size=(5, 3)),
        [f"{OWN}:vault", "torch"],
        loss="cross_entropy",
        state=[rng.normal(size=(4, 3, 4))],
        lengths=[5, 2, 4],
        steps=3,
    )
    # Dropout masks are the same everywhere and at every call, so they don't add to the slack.
    rows = [row for side in report.sides if side.dtype == "float64" for row in side.rows]
    assert max(row.tolerance for row in rows if row.quantity != "training") < 1e-11
    assert report.zero == ()


def test_lengths_are_not_forgotten():
    short, whole = (
        assert_parity(small, X, ["array_api_strict"], lengths=lengths, steps=0, dtypes=["float64"])
        for lengths in ([1, 1, 1], None)
    )
    # With one step from a state of zero, the gradient of U is zero.
    assert short.zero == ("weight_hh_l0",)
    assert whole.zero == ()


class Slanted(Elman):
    """An Elman cell whose derivative is wrong, except on NumPy's arrays."""

    def backward(self, xp, saved, previous, d_state):
        dz, _, rest = super().backward(xp, saved, previous, d_state)
        dz = (dz[0] * 1.0000001,) if "torch" in xp.__name__ else dz
        return dz, dz, rest


def test_a_wrong_gradient_is_told_from_a_wrong_output():
    def make_net(backend):
        return RNN(2, 5, 2, cell=Slanted(), backend=backend, rng=0)

    report = failed(make_net, X, ["torch", "array_api_strict"], steps=2)
    assert wrong(report) == {("torch", "float64"): ["gradients", "update", "training"]}
    names = {row.where.partition("[")[0] for row in rows_of(side_of(report, "torch"), "gradients")}
    assert names == {"weight_ih_l0", "weight_hh_l0", "bias_l0", "input", "state"}


def test_sparse_gradients_are_compared_in_full():
    tokens = np.random.default_rng(0).integers(0, 6, size=(5, 3))
    report = failed(
        lambda backend: RNN(6, 4, 3, backend=backend, rng=0),
        tokens,
        [f"{OWN}:off_search"],
        loss="cross_entropy",
        steps=1,
        dtypes=["float64"],
    )
    side = side_of(report, f"{OWN}:off_search")
    (row,) = rows_of(side, "gradients")
    assert row.where.startswith("weight_ih_l0[")


def test_optimizers_are_those_that_are_registered():
    report = assert_parity(small, X, ["torch"], steps=0, dtypes=["float32"])
    assert {"sgd", "rprop"} <= set(OPTIMIZERS)
    seen = []

    class Counted(SGD):
        def update(self, gradients, state, parameters):
            seen.append(type(next(iter(parameters.values()))))
            return super().update(gradients, state, parameters)

    assert report.agrees
    assert_parity(small, X, ["torch"], steps=0, dtypes=["float64"], optimizers={"c": Counted()})
    assert torch.Tensor in seen


# Problems that show nothing.


def test_gradients_that_are_all_zero_agree_with_nothing():
    def make_net(backend):
        return RNN(2, 5, 2, backend=backend, initializer="zeros")

    report = failed(make_net, X, ["torch"], target=np.zeros((4, 3, 2)))
    (side,) = report.sides
    (row,) = side.rows
    assert (side.backend, row.quantity, row.error) == ("numpy", "gradients", math.inf)
    with pytest.raises(ParityError, match="numpy can't be the reference; the worst is gradients: "):
        assert_parity(make_net, X, ["torch"], target=np.zeros((4, 3, 2)))
    with pytest.raises(AssertionError, match="every gradient of a parameter is zero on the refer"):
        assert_parity(make_net, X, ["torch"], target=np.zeros((4, 3, 2)))


def test_a_gradient_that_is_zero_is_named():
    report = assert_parity(small, X[:1], ["torch"], steps=0)
    assert report.zero == ("weight_hh_l0",)
    assert str(report).endswith("zero on numpy, so agreement shows nothing: weight_hh_l0")


def test_a_gradient_that_is_zero_may_not_be_another_elsewhere():
    class Half(Elman):
        def backward(self, xp, saved, previous, d_state):
            dz, _, rest = super().backward(xp, saved, previous, d_state)
            dz = (dz[0] * (1e-9 if "torch" in xp.__name__ else 0.0),)
            return dz, dz, rest

    report = failed(
        lambda backend: RNN(2, 5, 2, cell=Half(), backend=backend, rng=0), X, ["torch"], steps=0
    )
    assert set(report.zero) == {"weight_ih_l0", "weight_hh_l0", "bias_l0", "input", "state[0]"}
    assert "gradients" in wrong(report)["torch", "float64"]


@dataclasses.dataclass(frozen=True)
class SpoiledError(SquaredError):
    """A loss whose value and gradient are multiplied by a factor."""

    value: object = 1.0
    gradient: object = 1.0

    def value_and_grad(self, output, target, **options):
        value, gradient = super().value_and_grad(output, target, **options)
        return value * self.value, gradient * self.gradient


@pytest.mark.parametrize(("factor", "value"), [(math.nan, "nan"), (math.inf, "inf")])
def test_what_is_not_finite_agrees_with_nothing(factor, value):
    with pytest.raises(ParityError, match=rf"numpy can't .* the worst is loss: loss is {value} on"):
        assert_parity(small, X, ["torch"], loss=SpoiledError(value=factor))


def test_gradients_that_are_not_finite_are_named():
    with pytest.raises(ParityError, match=r"worst is gradients: weight_ih_l0\[0, 0\] is nan on"):
        assert_parity(small, X, ["torch"], loss=SpoiledError(gradient=math.nan))


def test_a_training_that_explodes_agrees_with_nothing():
    with pytest.raises(ParityError, match=r"the worst is training: weight_ih_l0\[\d, \d\] is "):
        assert_parity(small, X, ["torch"], optimizers={"sgd": SGD(1e200)}, steps=5)


def test_a_training_is_clipped():
    loss = SpoiledError(value=1e30, gradient=1e30)
    report = assert_parity(small, X, ["torch"], loss=loss, steps=20, dtypes=["float64"])
    assert rows_of(report.sides[-1], "training")[0].agrees


def test_a_loss_that_is_no_number_is_refused():
    message = (
        r"the loss .* returned numpy.ndarray of shape \(3,\) and dtype float64: expected one "
        "number, an array of no dimensions"
    )
    with pytest.raises(TypeError, match=message):
        assert_parity(small, X, ["torch"], loss=SpoiledError(value=np.ones(3)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda du, dv, ds: (du, dv), r"backward returned a tuple of 2: expected \(du, dv, d_prev"),
        (lambda du, dv, ds: ((du[0].T,), dv, ds), r"du\[0\] has shape \(4, 3\): expected \(3, 4\)"),
        (
            lambda du, dv, ds: ((np.asarray(du[0], "float32"),), dv, ds),
            r"backward's du\[0\] has dtype float32: expected float64, as given",
        ),
    ],
    ids=["arity", "shape", "dtype"],
)
def test_a_cell_of_the_wrong_form_is_said_to_be_one(change, words):
    class Misshapen(Elman):
        def backward(self, xp, saved, previous, d_state):
            return change(*super().backward(xp, saved, previous, d_state))

    with pytest.raises(ContractError, match=words):
        assert_parity(lambda b: RNN(2, 5, 2, cell=Misshapen(), backend=b), X, ["torch"])


# What make_net must do.


def test_a_network_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"make_net returned NoneType: expected an xprnn\.RNN"):
        assert_parity(lambda backend: None, X, ["torch"])


@pytest.mark.parametrize(
    ("make_net", "message"),
    [
        (
            lambda backend: RNN(2, 5, 2, backend=backend.name, rng=0),
            r"on numpy \(cpu, float64\) and returned one on numpy \(cpu, float32\): expected RNN",
        ),
        (
            lambda backend: RNN(2, 5, 2, dtype=backend.dtype_name, rng=0),
            r"on array_api_strict \(array_api_strict.Device\('CPU_DEVICE'\), float64\) and "
            r"returned one on numpy \(cpu, float64\)",
        ),
        (
            lambda backend: RNN(2, 5, 2, backend=backend),
            r"make_net's network on numpy \(cpu, float64\) has another weight_ih_l0 than the refer",
        ),
        (
            lambda backend: RNN(2, 5, 2, backend=backend, rng=len(backend.name)),
            r"make_net's network on array_api_strict .* has another weight_ih_l0 than the refer",
        ),
        (
            lambda backend: RNN(2, len(backend.name), 2, backend=backend, initializer="normal"),
            "has another weight_ih_l0",
        ),
        (
            lambda backend: RNN(2, 5, 2, backend=backend, bias=backend.name == "numpy", rng=0),
            r"another (bias_l0|readout\.weight) than the reference's: expected the same weights ev",
        ),
    ],
)
def test_a_network_that_is_another_is_refused(make_net, message):
    with pytest.raises(ValueError, match=message):
        assert_parity(make_net, X, ["array_api_strict"], steps=0)


def test_what_fails_elsewhere_alone_disagrees():
    def make_net(backend):
        if backend.name == "torch":
            raise MemoryError("no room")
        return small(backend)

    report = failed(make_net, X, ["torch", "array_api_strict"], steps=0)
    assert wrong(report) == {("torch", "float64"): ["run"], ("torch", "float32"): ["run"]}
    assert report.worst[1].where == "MemoryError: no room"


# Arguments.


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backends": ["numpie"]}, ValueError, "unknown backend 'numpie': known are 'numpy', "),
        (
            {"backends": [f"{OWN}:narrow"]},
            ValueError,
            r"tests\.namespaces:narrow creates float32",
        ),
        ({"reference": "numpie"}, ValueError, "unknown backend 'numpie'"),
        ({"backends": "torch"}, TypeError, "backends is 'torch': expected a list"),
        ({"backends": []}, TypeError, r"backends is \[\]: expected a list"),
        ({"backends": ["numpy"]}, ValueError, r"no backend to compare numpy with: got \['numpy'\]"),
        ({"dtypes": "float64"}, TypeError, "dtypes is 'float64': expected a list"),
        (
            {"dtypes": ["half"]},
            ValueError,
            "dtypes is 'half': expected 'float64' or 'float32'",
        ),
        ({"steps": -1}, ValueError, "steps is -1: expected an int of at least 1"),
        ({"steps": 1.5}, TypeError, r"steps is 1.5 \(float\): expected an int"),
        ({"loss": "cubed"}, ValueError, "unknown loss 'cubed'"),
        ({"optimizers": {}}, TypeError, r"optimizers is \{\}: expected a mapping, name -> optim"),
        ({"optimizers": SGD()}, TypeError, r"optimizers is SGD\(.*\): expected a mapping"),
        ({"optimizers": {"sgd": SGD}}, TypeError, r"optimizers\['sgd'\] is <class .*: expected an"),
        ({"x": X[..., :1]}, ValueError, r"x has shape \(4, 3, 1\): expected \(T, B, 2\)"),
        (
            {"x": torch.ones(4, 3, 2)},
            TypeError,
            "an array of the backend 'torch': take it to",
        ),
        ({"target": X[:2]}, ValueError, r"target has shape \(2, 3, 2\): expected \(4, 3, 2\)"),
        ({"state": X}, ValueError, "state has 4 arrays"),
        ({"window": -1}, ValueError, "window is -1"),
        ({"rng": -1}, ValueError, "rng is -1"),
    ],
)
def test_what_makes_no_sense_is_refused(options, error, message):
    options = {"x": X, "backends": ["array_api_strict"]} | options
    with pytest.raises(error, match=message):
        assert_parity(small, **options)


def test_a_backend_that_is_not_installed_is_no_agreement(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "array_api_compat.cupy", None)
    with pytest.raises(ImportError, match="the backend 'cupy' is not installed"):
        assert_parity(small, X, ["cupy"])


def test_the_reports_are_frozen():
    report = assert_parity(small, X, ["torch"], steps=0, dtypes=["float64"])
    for part in (report, report.sides[0], report.sides[0].rows[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            part.dtype = "float16"


# Tolerances.


def test_tolerances_know_nothing_but_dtype_and_steps():
    eps = 2.0**-23
    assert tolerance("float64", 1) == tolerance("float64", 1000) == 1e-12
    assert tolerance("float32", 10) == 160 * eps
    assert tolerance_after("float32", 10, 100) == 160 * eps
    assert tolerance_after("float32", 1, 100) == 100 * eps
    assert tolerance_after("float64", 1, 100) == 1e-12


def test_a_sign_that_rounding_decides_is_forgiven_and_only_there(monkeypatch):
    """The gradient of one bias is zero up to rounding, so Rprop may step in either direction."""

    def make_net(backend):
        return RNN(2, 5, 2, backend=backend, rng=0)

    y = make_net(get_backend(dtype="float64"))(X)[0]
    away = np.resize([1.0, -1.0], (4, 3, 1)) * [1.0, 0.0] + [0.0, 1.0]
    options = {"target": y + away, "optimizers": {"rprop": Rprop()}, "steps": 0}
    assert assert_parity(make_net, X, [f"{OWN}:nudged_sum"], **options).agrees

    class Off(Rprop):
        def update(self, gradients, state, parameters):
            moved, state = super().update(gradients, state, parameters)
            bias = moved["readout.bias"]
            if not isinstance(bias, np.ndarray):
                bias = bias + array_api_strict.asarray([0.0, 1e-9], dtype=bias.dtype)
            return moved | {"readout.bias": bias}, state

    # The entry next to it gets no slack.
    off = options | {"optimizers": {"rprop": Off()}}
    report = failed(make_net, X, [f"{OWN}:nudged_sum"], dtypes=["float64"], **off)
    (row,) = rows_of(side_of(report, f"{OWN}:nudged_sum"), "update")
    assert row.where == "rprop: readout.bias[1]"
    monkeypatch.setattr(slack.Perturbations, "_of_updates", lambda *_: {})
    report = failed(make_net, X, [f"{OWN}:nudged_sum"], dtypes=["float64"], **options)
    assert wrong(report) == {(f"{OWN}:nudged_sum", "float64"): ["update"]}
    (row,) = rows_of(side_of(report, f"{OWN}:nudged_sum"), "update")
    assert row.where == "rprop: readout.bias[0]"


def test_sums_that_cancel_are_forgiven_their_rounding(monkeypatch):
    """With one hidden unit, the gradient of the only recurrent weight may be almost zero."""
    tokens = np.zeros((20, 4), int)

    def make_net(backend):
        return RNN(1, 1, 4, cell=Elman("logistic"), backend=backend, rng=1427)

    options = {"loss": "cross_entropy", "window": 5, "steps": 0, "rng": 1427}
    assert assert_parity(make_net, tokens, ["torch"], **options).agrees
    monkeypatch.setattr(slack, "FACTOR", 0.0)
    assert failed(make_net, tokens, ["torch"], **options)


def test_a_training_that_amplifies_is_forgiven_what_rounding_makes_of_it(monkeypatch):
    """With a learning rate that is far too large, every rounding leads to another path."""

    def make_net(backend):
        return RNN(2, 5, 2, backend=backend, rng=4)

    options = {"optimizers": {"sgd": SGD(2.0, momentum=0.9)}, "steps": 40, "dtypes": ["float32"]}
    report = assert_parity(make_net, X, ["torch"], **options)
    (row,) = rows_of(report.sides[0], "training")
    # The report shows the large tolerance, and so how little the agreement means.
    assert row.tolerance > 1e-3
    with monkeypatch.context() as patch:
        patch.setattr(slack.Perturbations, "_of_training", lambda *_: {})
        assert wrong(failed(make_net, X, ["torch"], **options)) == {
            ("numpy", "float32"): ["training"],
            ("torch", "float32"): ["training"],
        }

    def explode(problem, net, *_):
        return Trained({name: p * math.inf for name, p in net.parameters.items()}, 0.0)

    monkeypatch.setattr(slack, "train", explode)
    report = failed(make_net, X, ["torch"], **options)
    assert all(math.isfinite(row.tolerance) for side in report.sides for row in side.rows)


def test_every_function_that_is_needed_is_tried():
    assert {name for name in CALLS if not name.startswith("operator")} == set(FUNCTIONS)
