"""Layers, directions, lengths and dropout together: every gradient, by torch and by differences."""

from collections import Counter
from functools import partial
from itertools import combinations, product

import numpy as np
import pytest

from tests.cases import CELLS, FEW, each_cell, in_full, row_of
from tests.closeness import (
    AUTOGRAD,
    AUTOGRAD_FLOOR,
    DIFFERENCES,
    DIFFERENCES_FLOOR,
    FLOAT64,
    assert_all_close,
    assert_close,
    between_backends,
)
from tests.harness import jax_in_full, on_every_backend
from tests.judge import FOURTH_ORDER, central_differences, distance_from_kink, judge, masks_of
from tests.passes import all_of, gradients_of, on_backend, on_numpy
from tests.stacks import DEEP, SIZES, SOME, STACKS, deep_of, each_deep, each_stack
from xprnn.cells import has_layer_norm

SEED = 11
"""The seed of the dropout masks."""


def same_twice(case):
    """Return network, problem and a function that runs it, each time with the same masks.

    The problem is the first of several whose arguments keep away from a kink, by more than finite
    differences move them: the weights by 1e-5 along a vector of length one.
    """
    net = case.make(dtype="float64")
    net.parameters = {name: array.copy() for name, array in case.parameters().items()}
    for seed in range(5):
        problem = case.problem(seed)
        run = partial(net.forward, problem.x, problem.state, case.lengths, rng=SEED)
        if distance_from_kink(case, case.parameters(), problem, masks_of(run())) > 1e-4:
            return net, problem, run
    pytest.fail("no problem stays away from the kink")


def goal_of(run, problem) -> float:
    """Return what `RNN.backward` differentiates, given the outer gradients."""
    return float(
        np.sum(run.output * problem.d_output)
        + sum(np.sum(s * d) for s, d in zip(run.state, problem.d_state, strict=True))
    )


def stencil(case) -> dict:
    """Return the stencil of finite differences: normalising tiny values is far from linear."""
    return {"weights": FOURTH_ORDER, "step": 2e-5} if has_layer_norm(case.cell) else {}


def variables(net, problem) -> dict[str, np.ndarray]:
    """Return all arrays that the goal depends on; finite differences move them in place."""
    states = {f"state {k}": s for k, s in zip(net.cell.state, problem.state, strict=True)}
    return dict(net.parameters) | {"input": problem.x} | states


def test_any_two_options_meet():
    assert len(set(SIZES.values())) == 5
    assert len(STACKS) == 24 * len({case.cell for case in STACKS})
    assert {case.id for case in SOME} <= {case.id for case in STACKS}

    def options(case):
        return (
            ("layers", case.layers),
            ("both", case.bidirectional),
            ("lengths", bool(case.lengths)),
            ("dropout", case.dropout > 0),
        )

    for cell, stacks in product({case.cell for case in SOME}, (STACKS, SOME)):
        mine = [case for case in stacks if case.cell == cell]
        met = Counter(pair for case in mine for pair in combinations(options(case), 2))
        assert len(met) == 3 * (3 * 2) + 3 * (2 * 2)
        assert {case.returns for case in mine} == {"sequence", "last"}
        assert {case.bias for case in mine} == {True, False}
        assert {case.O is None for case in mine} == {True, False}


@each_stack
def test_against_autograd(case):
    run, gradients = on_numpy(case, rng=SEED)
    masks = masks_of(run)
    assert len(masks.recurrent) == (case.state_shape[0] if case.recurrent_dropout else 0)
    assert len(masks.between) == (case.layers - 1 if case.dropout else 0)
    verdict = judge(case, case.parameters(), case.problem(), masks=masks)
    assert_close(run.output, verdict.output, AUTOGRAD, "output")
    assert_close(run.state, verdict.state, AUTOGRAD, "state")
    assert_all_close(gradients, all_of(verdict, case.cell), AUTOGRAD)


@pytest.mark.parametrize("case", in_full(STACKS, but=SOME))
def test_against_finite_differences_in_some_direction(case):
    """A random direction finds any error; one array moves at a time, so that a failure names it."""
    net, problem, forward = same_twice(case)
    got = gradients_of(net, forward(), problem.d_output, problem.d_state)
    rng = np.random.default_rng(0)
    for name, array in variables(net, problem).items():
        direction = rng.normal(size=array.shape)
        direction /= np.linalg.norm(direction)
        held, along = array.copy(), np.zeros(())

        def goal(array=array, held=held, direction=direction, along=along) -> float:
            array[...] = held + along * direction
            return goal_of(forward(), problem)

        (want,) = central_differences(goal, [along], **stencil(case))
        array[...] = held
        floor = DIFFERENCES_FLOOR + DIFFERENCES * float(np.linalg.norm(got[name]))
        assert_close(np.sum(got[name] * direction), want, 0.0, name, floor)


ALIKE = [
    "elman-logistic",
    "elman-relu",
    "elman-identity",
    "lstm",
    "lstm-peepholes",
    "lstm-layer-norm",
]
"""Cells that differ from another one in an option."""

ENTRIES = [
    deep.but(T=3, B=2, H=2, lengths=(3, 2))
    for row, deep in zip(CELLS, DEEP, strict=True)
    if row.id not in ALIKE
]


@pytest.mark.parametrize("case", ENTRIES, ids=lambda case: case.id)
def test_against_finite_differences_entry_by_entry(case):
    net, problem, forward = same_twice(case)
    got = gradients_of(net, forward(), problem.d_output, problem.d_state)
    moved = variables(net, problem)
    found = central_differences(
        lambda: goal_of(forward(), problem), list(moved.values()), **stencil(case)
    )
    assert_all_close(got, dict(zip(moved, found, strict=True)), DIFFERENCES, DIFFERENCES_FLOOR)


def agrees_with_numpy(case, harness):
    run, gradients = on_backend(case, harness, rng=SEED)
    want_run, want = on_numpy(case, rng=SEED)
    tolerance = between_backends(harness.dtype, case.T * case.layers)
    assert_close(harness.host(run.output), want_run.output, tolerance, "output")
    for got, part in zip(run.state, want_run.state, strict=True):
        assert_close(harness.host(got), part, tolerance, "state")
    assert_all_close(gradients, want, tolerance)


@on_every_backend((*SOME, *DEEP), on_jax=[deep_of(row.id) for row in FEW])
def test_every_backend_agrees_with_numpy(case, harness):
    agrees_with_numpy(case, harness)


# Normalising tiny values magnifies rounding errors about a hundred times: too much for float32.
@on_every_backend(
    [case for case in (*SOME, *DEEP) if not has_layer_norm(case.cell)],
    on_jax=[deep_of("gru"), deep_of("lstm-peepholes")],
)
def test_every_backend_agrees_in_single_precision(case, harness):
    agrees_with_numpy(case, harness.at("float32"))


@each_cell
def test_names_and_shapes(case):
    case = case.but(**SIZES, layers=3, bidirectional=True)
    net, one = case.make(rng=0), case.but(layers=1, bidirectional=False).make()
    endings = [f"_l{k}{way}" for k in range(3) for way in ("", "_reverse")]
    kinds = [name.removesuffix("_l0") for name in one.parameters if name.endswith("_l0")]
    names = [kind + ending for ending in endings for kind in kinds]
    assert list(net.parameters) == [*names, "readout.weight", "readout.bias"]
    for kind, ending in product(kinds, endings):
        rows, *columns = one.parameters[f"{kind}_l0"].shape
        if kind == "weight_ih" and not ending.startswith("_l0"):
            columns = [2 * case.H]
        assert net.parameters[kind + ending].shape == (rows, *columns)
    assert net.parameters["readout.weight"].shape == (case.O, 2 * case.H)


def test_the_state_is_ordered_by_layer_and_then_by_direction():
    """In a network that only remembers, each state variable comes out where it went in."""
    net = (
        row_of("elman-identity")
        .but(layers=2, bidirectional=True, bias=False, O=None)
        .make(dtype="float64")
    )
    rows = net.hidden_size
    net.parameters = {
        name: np.eye(rows) if "hh" in name else np.zeros(p.shape)
        for name, p in net.parameters.items()
    }
    state = np.arange(4.0).reshape(4, 1, 1) + np.zeros((4, 2, rows))
    y, (final,) = net(np.ones((3, 2, 2)), (state,))
    assert final.tolist() == state.tolist()
    assert y[..., :rows].tolist() == np.full((3, 2, rows), 2.0).tolist()
    assert y[..., rows:].tolist() == np.full((3, 2, rows), 3.0).tolist()


@each_cell
def test_names_and_shapes_of_what_comes_out(case):
    case = case.but(**SIZES, layers=3, bidirectional=True)
    for returns, size, B in product(("sequence", "last"), (None, case.O), (3, 1, 0)):
        form = case.but(returns=returns, O=size, B=B)
        net, problem = form.make(dtype="float64", rng=0), form.problem()
        run = net.forward(problem.x)
        steps = () if returns == "last" else (case.T,)
        assert run.output.shape == (*steps, B, size or 2 * case.H)
        assert [part.shape for part in run.state] == [(6, B, case.H)] * len(case.cell.state)
        gradient = net.backward(run, problem.d_output, problem.d_state, window=1)
        assert gradient.input.shape == problem.x.shape
        assert [part.shape for part in gradient.state] == [part.shape for part in run.state]
        assert {k: g.shape for k, g in gradient.parameters.items()} == {
            k: p.shape for k, p in net.parameters.items()
        }
        assert list(gradient.parameters) == list(net.parameters)


@each_cell
def test_two_halves_with_the_state_handed_over_are_the_whole(case):
    """The gradients, too: the gradient of the state at the border goes into the first half."""
    case = case.but(**SIZES, layers=3)
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    whole = net.forward(problem.x, problem.state)
    full = net.backward(whole, problem.d_output, problem.d_state)
    first = net.forward(problem.x[:2], problem.state)
    second = net.forward(problem.x[2:], first.state)
    late = net.backward(second, problem.d_output[2:], problem.d_state)
    early = net.backward(first, problem.d_output[:2], late.state)
    assert_close(np.concatenate([first.output, second.output]), whole.output, FLOAT64)
    assert_close(second.state, whole.state, FLOAT64)
    for name, want in full.parameters.items():
        assert_close(early.parameters[name] + late.parameters[name], want, FLOAT64, name)
    assert_close(np.concatenate([early.input, late.input]), full.input, FLOAT64)
    assert_close(early.state, full.state, FLOAT64)


@each_cell
def test_a_reversed_direction_is_a_network_that_reads_backwards(case):
    case = case.but(**SIZES | {"O": None}, bidirectional=True)
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    y, state = net(problem.x, problem.state)
    for k, ending in enumerate(("", "_reverse")):
        one = case.but(bidirectional=False).make(dtype="float64")
        one.parameters = {name: net.parameters[name + ending] for name in one.parameters}
        turn = slice(None, None, -1 if ending else 1)
        h, final = one(problem.x[turn], tuple(part[k : k + 1] for part in problem.state))
        assert_close(y[..., k * case.H : (k + 1) * case.H], h[turn], FLOAT64)
        for got, want in zip(state, final, strict=True):
            assert_close(got[k], want[0], FLOAT64)


@each_cell
def test_layers_are_networks_on_top_of_each_other(case):
    case = case.but(**SIZES, layers=3)
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    x = problem.x
    for k in range(3):
        one = case.but(layers=1, I=x.shape[2], O=case.O if k == 2 else None).make(dtype="float64")
        one.parameters = {
            name: net.parameters[name.replace("_l0", f"_l{k}")] for name in one.parameters
        }
        x, _ = one(x, tuple(part[k : k + 1] for part in problem.state))
    assert_close(net(problem.x, problem.state)[0], x, FLOAT64)


@pytest.mark.parametrize(
    "sizes",
    [{"T": 1}, {"B": 1}, {"T": 1, "B": 1, "I": 1, "H": 1, "O": 1}],
    ids=["one-step", "one-sequence", "one-of-everything"],
)
@each_cell
def test_one_of_something(case, sizes):
    case = case.but(**SIZES | {"layers": 2, "bidirectional": True} | sizes)
    run, gradients = on_numpy(case)
    verdict = judge(case, case.parameters(), case.problem())
    assert_close(run.output, verdict.output, AUTOGRAD, "output")
    assert_close(run.state, verdict.state, AUTOGRAD, "state")
    assert_all_close(gradients, all_of(verdict, case.cell), AUTOGRAD, AUTOGRAD_FLOOR)


@jax_in_full
def test_no_sequence_at_all(harness):
    case = deep_of("lstm-everything").but(B=0, lengths=())
    run, gradients = on_backend(case, harness, rng=SEED)
    assert harness.host(run.output).shape == case.problem().target.shape
    assert [harness.host(part).shape for part in run.state] == (
        [case.state_shape] * len(case.cell.state)
    )
    shapes = {name: p.shape for name, p in case.parameters().items()}
    assert {name: gradients[name].shape for name in shapes} == shapes
    assert not any(np.any(g) for g in gradients.values())
    assert gradients["input"].shape == (case.T, 0, case.I)


@each_deep
def test_arguments_stay_as_they_are(case):
    """Nothing writes into them, nor into the arrays that the tape holds."""
    net, problem = case.make(dtype="float64"), case.problem()
    net.parameters = case.parameters()
    given = [
        problem.x,
        *problem.state,
        problem.d_output,
        *problem.d_state,
        *case.parameters().values(),
    ]
    before = [array.copy() for array in given]
    run = net.forward(problem.x, problem.state, case.lengths, rng=SEED)
    first = gradients_of(net, run, problem.d_output, problem.d_state)
    gradients_of(net, run, problem.d_output, problem.d_state, window=1)
    second = gradients_of(net, run, problem.d_output, problem.d_state)
    assert all(np.array_equal(a, b) for a, b in zip(given, before, strict=True))
    assert_all_close(second, first, 0.0)
