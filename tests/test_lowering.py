"""The lowered time loops against the plain one."""

import logging
import threading
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from tests.closeness import assert_close
from tests.process import run_python
from tests.time_loops import (
    EVERY,
    TOLERANCE,
    Problem,
    read_only,
    reversed_in_memory,
    strided,
)
from xprnn import RNN
from xprnn.cells import (
    ACTIVATIONS,
    GRU,
    LSTM,
    Activation,
    Elman,
    MinimalGated,
    has_layer_norm,
    has_recurrent_matrix,
)
from xprnn.engine.loop import lowering, traced
from xprnn.engine.loop.explaining import explain_lowering
from xprnn.engine.loop.loop import run_backward as chosen_backward
from xprnn.engine.loop.numpy import loops as numpy_lowering
from xprnn.engine.loop.plain import PlainLoops
from xprnn.engine.loop.protocol import Work

each_cell = pytest.mark.parametrize("cell", EVERY.values(), ids=EVERY)


@pytest.fixture(params=[2**18, 1], ids=["blocks", "steps"])
def blocks(request, monkeypatch):
    """Run a test with all steps in one block, and with one step in each."""
    monkeypatch.setattr(numpy_lowering, "CACHE", request.param)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("outer", [True, False], ids=["dh", "no-dh"])
@each_cell
def test_the_same_as_the_plain_loop(cell, outer, dtype):
    problem = Problem(cell, dtype=dtype)
    problem.compare(problem.dh if outer else None)


SHAPES = [(1, 1, 1), (1, 3, 4), (40, 1, 3), (3, 2, 1), (9, 0, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@each_cell
def test_shapes(cell, shape):
    problem = Problem(cell, *shape)
    problem.compare(problem.dh)


@pytest.mark.parametrize("outer", [True, False], ids=["dh", "no-dh"])
@each_cell
def test_a_mask_on_the_way_into_u(cell, outer):
    problem = Problem(cell, masked=True)
    problem.compare(problem.dh if outer else None)


@each_cell
def test_without_a_tape(cell):
    Problem(cell).compare(save=False)


@pytest.mark.parametrize("save", [True, False])
@each_cell
def test_blocks_that_do_not_divide_the_steps(cell, save, monkeypatch):
    monkeypatch.setattr(numpy_lowering.Compiled, "block", lambda self, steps, entry: 3)
    problem = Problem(cell, steps=7)
    problem.compare(problem.dh, save)


LENGTHS = {"several": (7, 2, 4), "one-has-none": (3, 0, 7), "whole": (7, 7, 7)}


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize(
    ("lengths", "masked", "outer"),
    [
        ("several", False, True),
        ("several", True, False),
        ("one-has-none", True, True),
        ("whole", False, True),
    ],
)
@each_cell
def test_sequences_of_unequal_lengths(cell, lengths, masked, outer):
    problem = Problem(cell, steps=7, masked=masked, lengths=LENGTHS[lengths])
    assert lowering.lowering_for(problem.backend, cell, problem.work()).name == "numpy"
    problem.compare(problem.dh if outer else None)
    problem.compare(save=False)


STACKS = {
    "layer": {},
    "both-ways": {"bidirectional": True, "recurrent_dropout": 0.3},
    "stack": {"layers": 2},
}


@pytest.mark.parametrize("options", STACKS.values(), ids=STACKS)
@each_cell
def test_sweeps_of_a_windowed_truncation(cell, options, monkeypatch):
    calls, sweeps = [], numpy_lowering.NumPyLoops.sweeps

    def counted(self, *arguments):
        calls.append(arguments[-2])  # how many
        return sweeps(self, *arguments)

    monkeypatch.setattr(numpy_lowering.NumPyLoops, "sweeps", counted)
    if not has_recurrent_matrix(cell):
        options = {**options, "recurrent_dropout": 0.0}
    net = RNN(3, 5, 2, cell=cell, dtype="float64", rng=0, **options)
    rng = np.random.default_rng(1)
    x, target = 0.1 * rng.normal(size=(5, 4, 3)), rng.normal(size=(5, 4, 2))
    state = tuple(0.1 * rng.normal(size=part.shape) for part in net(x)[1])
    d_state = tuple(rng.normal(size=part.shape) for part in state)

    def gradients(lengths):
        run = net.forward(x, state, lengths, rng=3)
        gradient = net.backward(run, target, d_state, window=3)
        return [*gradient.parameters.values(), gradient.input, *gradient.state]

    wanted = 0 if has_layer_norm(cell) else 4 * len(net.architecture.stack)
    for lengths in (None, (5, 1, 4, 2)):
        calls.clear()
        found = gradients(lengths)
        assert sum(calls) == wanted
        with lowering.disable_lowering():
            for a, b in zip(found, gradients(lengths), strict=True):
                assert_close(a, b, 1e-12)
        assert sum(calls) == wanted


@each_cell
def test_past_the_end_nobody_reads_what_was_saved(cell):
    problem = Problem(cell, steps=7, lengths=LENGTHS["several"])
    there, back = problem.plain(problem.dh)
    saved = tuple(np.where(problem.valid, part, np.nan).astype(part.dtype) for part in there.saved)
    spoiled = there._replace(saved=saved)
    found = chosen_backward(
        problem.backend, cell, problem.recurrent, spoiled, problem.dh, problem.d_state
    )
    problem.compare_passes((there, found), (there, back))


@pytest.mark.parametrize("prepare", [read_only, strided, reversed_in_memory])
@each_cell
def test_arguments_of_any_layout_and_none_is_written_to(cell, prepare):
    problem = Problem(cell, prepare=prepare, masked=True)
    kept = [a.copy() for a in (problem.u, problem.dh, *problem.state, *problem.d_state)]
    problem.compare(problem.dh)
    now = (problem.u, problem.dh, *problem.state, *problem.d_state)
    for a, b in zip(now, kept, strict=True):
        np.testing.assert_array_equal(a, b)


@each_cell
def test_a_tape_is_not_written_to_either(cell):
    problem = Problem(cell)
    there, _ = problem.chosen()
    for array in (*there.states, *there.saved):
        read_only(array)
    backend, recurrent = problem.backend, problem.recurrent
    first, second = (
        chosen_backward(backend, cell, recurrent, there, problem.dh, problem.d_state)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.du, second.du)
    np.testing.assert_array_equal(first.da, second.da)


@each_cell
def test_a_tape_of_one_loop_serves_the_other(cell):
    problem = Problem(cell)
    (there, back), (plain_there, plain_back) = problem.chosen(problem.dh), problem.plain(problem.dh)
    arguments = (cell, problem.recurrent)
    plain = PlainLoops(problem.backend.xp, cell)
    mixed = plain.backward(problem.recurrent, there, problem.dh, problem.d_state)
    assert_close(mixed.da, plain_back.da, 1e-13)
    mixed = chosen_backward(problem.backend, *arguments, plain_there, problem.dh, problem.d_state)
    assert_close(mixed.da, back.da, 1e-13)


@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM(), MinimalGated()], ids=str)
def test_a_tape_is_as_large_as_what_is_saved(cell):
    problem = Problem(cell)
    there, _ = problem.chosen()
    own = [a if a.base is None else a.base for a in (*there.states, *there.saved)]
    kept = {id(a): a.size for a in own}
    state = (problem.steps + 1) * problem.batch * problem.hidden
    step = problem.steps * problem.batch * problem.hidden
    states, saved = {"Elman": (1, 0), "GRU": (1, 4), "LSTM": (2, 5), "MinimalGated": (1, 3)}[
        type(cell).__name__
    ]
    assert sum(kept.values()) == states * state + saved * step


def test_two_threads_at_once():
    cells = [GRU(), LSTM(peepholes=True)]
    problems = [Problem(cell, steps=60, hidden=16, seed=k) for k, cell in enumerate(cells)]
    wanted = [problem.chosen(problem.dh)[1].du for problem in problems]
    faults = []

    def work(problem, want):
        results = [problem.chosen(problem.dh)[1].du for _ in range(30)]
        faults.extend(problem.cell for du in results if not np.array_equal(du, want))

    threads = [
        threading.Thread(target=work, args=pair)
        for pair in [*zip(problems, wanted, strict=True)] * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_nan_and_infinity_pass_as_they_do_in_the_plain_loop():
    problem = Problem(Elman("relu"), prepare=np.array)
    problem.u[1, 0, 0], problem.u[2, 1, 1], problem.u[3, 2, 2] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        there, want = problem.chosen(save=False)[0], problem.plain(save=False)[0]
    np.testing.assert_array_equal(there.states[0], want.states[0])
    assert np.isnan(there.states[0]).any()


def test_a_network_computes_the_same_without_lowering():
    net = RNN(2, 5, 3, cell=LSTM(), dtype="float64", rng=0)
    x = np.random.default_rng(0).normal(size=(6, 2, 2))
    target = np.zeros((6, 2, 3))
    value, gradient = net.value_and_grad(x, target)
    with lowering.disable_lowering():
        assert not lowering.lowering_enabled()
        work = Work("forward", "float64", 6, 2, lengths=False)
        assert lowering.lowering_for(net.backend, net.cell, work) is None
        assert lowering.lowerings_of(net.backend, net.cell) == ()
        want_value, want = net.value_and_grad(x, target)
    assert lowering.lowering_enabled()
    assert float(value) == pytest.approx(float(want_value), rel=1e-14)
    for name, array in want.parameters.items():
        assert_close(gradient.parameters[name], array, 1e-13, name)


def test_the_switch_is_of_one_thread():
    seen = []
    with lowering.disable_lowering():
        thread = threading.Thread(target=lambda: seen.append(lowering.lowering_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


@pytest.mark.parametrize(
    ("word", "outcome"),
    [
        ("off", nullcontext()),
        ("on", nullcontext()),
        ("numpy", nullcontext()),
        ("numba", nullcontext()),
        (
            "no",
            pytest.raises(
                ValueError,
                match="XPRNN_LOWERING is 'no': expected one of 'on', 'off', 'numpy', 'numba'",
            ),
        ),
    ],
)
def test_the_switch_of_the_environment(word, outcome, monkeypatch):
    monkeypatch.setenv("XPRNN_LOWERING", word)
    with outcome:
        assert lowering.lowering_enabled() == (word != "off")


@dataclass(frozen=True)
class Impatient(Elman):
    """A cell that looks at its values."""

    def forward(self, xp, u, v, state):
        if xp.max(u[0]) > 0:
            return super().forward(xp, u, v, state)
        return state, state


def test_a_cell_that_cannot_be_traced_runs_plainly_and_says_why(caplog):
    cell = Impatient()
    problem = Problem(cell)
    with caplog.at_level(logging.INFO, "xprnn"):
        assert lowering.lowering_for(problem.backend, cell, problem.work()) is None
        assert lowering.lowering_for(problem.backend, cell, problem.work("backward")) is None
    (record,) = caplog.records
    reason = "it uses xp.max, which is not an elementwise function"
    reason = f"Impatient.forward can't be traced: {reason}"
    assert record.message == f"{cell} runs as plain array code: {reason}"
    assert explain_lowering(cell) == record.message
    np.testing.assert_array_equal(problem.chosen()[1].du, problem.plain()[1].du)


def test_what_explain_says():
    assert explain_lowering("elman", "array_api_strict") == (
        "Elman(activation='tanh') runs as plain array code: "
        "the backend 'array_api_strict' has no lowering"
    )
    with lowering.disable_lowering():
        assert explain_lowering("elman").endswith("runs as plain array code: lowering is disabled")
    assert explain_lowering("elman").splitlines() == [
        "Elman(activation='tanh') is lowered to NumPy calls: 2 operations forward, 3 backward",
        "XPRNN_LOWERING is 'numpy': Numba is not used",
    ]


@dataclass
class Changing:
    """A cell whose factor can be changed."""

    factor: float = 1.0
    gates: ClassVar[int] = 1
    state: ClassVar[tuple[str, ...]] = ("h",)

    def forward(self, xp, u, v, state):
        return (self.factor * (u[0] + v[0]),), ()

    def backward(self, xp, saved, previous, d_state):
        d = (self.factor * d_state[0],)
        return d, d, (None,)


def test_a_cell_that_changes_is_traced_anew():
    cell = Changing()
    problem = Problem(cell)
    before = problem.chosen()[0].states[0].copy()
    cell.factor = 0.5
    problem.compare()
    assert not np.allclose(before, problem.chosen()[0].states[0])
    cell.factor = 1.0
    np.testing.assert_array_equal(problem.chosen()[0].states[0], before)


@dataclass(frozen=True)
class Listing:
    """A frozen cell with a field that can change nevertheless."""

    factors: list = field(default_factory=lambda: [1.0])
    gates: ClassVar[int] = 1
    state: ClassVar[tuple[str, ...]] = ("h",)
    forward = lambda self, xp, u, v, state: ((self.factors[0] * (u[0] + v[0]),), ())  # noqa: E731

    def backward(self, xp, saved, previous, d_state):
        d = (self.factors[0] * d_state[0],)
        return d, d, (None,)


def test_a_list_in_a_frozen_cell():
    cell = Listing()
    problem = Problem(cell)
    problem.compare()
    cell.factors[0] = 0.5
    problem.compare()


@pytest.fixture
def traces(monkeypatch):
    """Return the cells that are traced."""
    seen, trace = [], traced.trace
    monkeypatch.setattr(traced, "trace", lambda cell: seen.append(cell) or trace(cell))
    return seen


def test_cells_with_equal_formulas_share_their_loops(traces):
    backend = Problem(LSTM()).backend
    first, second = LSTM(forget_bias=0.125), LSTM(forget_bias=0.25)
    for _ in range(3):
        assert lowering.lowerings_of(backend, first) == lowering.lowerings_of(backend, second)
    assert traces == [first, second]
    changing = Changing(0.3), Changing(0.3)
    assert lowering.lowerings_of(backend, changing[0]) == lowering.lowerings_of(
        backend, changing[1]
    )


def test_what_can_change_is_traced_at_every_use(traces):
    for cell in (Changing(), Listing()):
        traces.clear()
        for _ in range(3):
            lowering.lowerings_of(Problem(cell).backend, cell)
        assert len(traces) == 3


def test_a_class_with_another_method_is_traced_again(monkeypatch):
    @dataclass(frozen=True)
    class Replaced(Elman):
        pass

    cell = Replaced()
    Problem(cell).compare()
    before = Problem(cell).chosen()[0].states[0]
    monkeypatch.setattr(
        Replaced, "forward", lambda self, xp, u, v, state: Elman("relu").forward(xp, u, v, state)
    )
    Problem(cell).compare()
    assert not np.allclose(before, Problem(cell).chosen()[0].states[0])


def test_another_cell_of_the_same_fields_is_another():
    mine = Activation("tanh", lambda xp, z: z / 2, lambda xp, h: xp.ones_like(h) / 2)
    for activation in (ACTIVATIONS["tanh"], mine):
        Problem(Elman(activation)).compare()


def test_nothing_but_numpy_is_imported_for_it():
    code = """
import sys, numpy as np, xprnn
net = xprnn.RNN(1, 3, 1, rng=0)
net.value_and_grad(np.ones((4, 2, 1), "f"), np.ones((4, 2, 1), "f"))
print(*sorted({"numba", "scipy", "threadpoolctl", "torch", "jax"} & set(sys.modules)))
"""
    assert run_python(code).split() == []


def test_what_is_not_lowered_says_so():
    cell = LSTM(layer_norm=True)
    assert (
        explain_lowering(cell) == f"{cell} runs as plain array code: it normalises its projections"
    )


def test_a_cell_that_normalises_is_not_traced_where_no_loop_does(monkeypatch):
    """A cell that may change would be traced at every use."""
    monkeypatch.setattr(lowering, "traced_formulas", lambda cell: pytest.fail("it was traced"))
    net = RNN(2, 3, 1, cell=LSTM(layer_norm=True), rng=0)
    net(np.ones((4, 2, 2), "float32"))
