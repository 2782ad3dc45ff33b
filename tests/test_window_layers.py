"""Windows in stacks of layers: at most k steps back, on every path through the layers."""

from itertools import pairwise, product

import numpy as np
import pytest

from tests.cases import CELLS, Case, each_cell, row_of
from tests.closeness import AUTOGRAD, AUTOGRAD_FLOOR, FLOAT64, assert_all_close, assert_close
from tests.judge import Masks, Network, judge, layer_weights, leaf, masks_of
from tests.optional import optional
from tests.passes import all_of, on_backend, on_numpy
from tests.stacks import LENGTHS, SIZES, deep_of
from tests.steps import Tensor, Tensors
from xprnn.losses import CrossEntropy, SquaredError

torch = optional("torch")

SEED = 3


def step_of(net: Network, states: list[Tensors], x: Tensor, t: int) -> list[Tensors]:
    """Go one step, upwards through all layers, with one sequence; x (1, I)."""
    after = []
    for k, (state, (_, ending)) in enumerate(zip(states, net.stack(), strict=True)):
        w, masks = layer_weights(net.case.cell, net.parameters, ending), net.masks
        if k and masks.between:
            x = x * masks.between[k - 1][t]
        if masks.recurrent:
            w = w._replace(U=w.U * masks.recurrent[k])
        after.append(net.case.step(net.m, w, x, state))
        x = after[-1][0]
    return after


def one_sequence(net: Network, problem, leaves, b: int, window: int):
    """Yield the gradient of every step's loss of one sequence.

    The loss of step t sees all layers' states before step t - window as given numbers; the initial
    state is one of its variables where the window includes the first step.
    """
    case, p = net.case, net.parameters
    length = case.lengths[b] if case.lengths else case.T
    masks = Masks(
        tuple(m[:, b : b + 1] for m in net.masks.between),
        tuple(m[b : b + 1] for m in net.masks.recurrent),
    )
    net = net._replace(masks=masks)
    x, *state = list(leaves.values())[: 1 + len(problem.state)]
    initial = [tuple(part[k, b : b + 1] for part in state) for k in range(case.layers)]
    before = [initial]
    with torch.no_grad():
        for t in range(length):
            before.append(step_of(net, before[-1], x[t, b : b + 1], t))
    for t in range(length):
        start = max(0, t - window)
        states = before[start]
        for s in range(start, t + 1):
            states = step_of(net, states, x[s, b : b + 1], s)
        goal = torch.zeros((), dtype=torch.float64)
        if case.returns == "sequence" or t == length - 1:
            y = states[-1][0][0]
            if case.O is not None:
                y = p["readout.weight"] @ y + p.get("readout.bias", 0)
            d_output = problem.d_output[b] if case.returns == "last" else problem.d_output[t, b]
            goal = goal + y @ torch.tensor(d_output)
        if t == length - 1:
            for part, d in zip(zip(*states, strict=True), problem.d_state, strict=True):
                goal = goal + (torch.cat(part) * torch.tensor(d[:, b])).sum()
        if goal.requires_grad:
            yield torch.autograd.grad(goal, list(leaves.values()), allow_unused=True)


def by_definition(case: Case, window: int, masks: Masks) -> dict[str, np.ndarray]:
    """Return the truncated gradient: one run of torch per sequence and step's loss."""
    problem = case.problem()
    p = {name: leaf(array) for name, array in case.parameters().items()}
    states = {f"state {k}": leaf(s) for k, s in zip(case.cell.state, problem.state, strict=True)}
    leaves = {"input": leaf(problem.x)} | states | p
    total = {name: np.zeros(tuple(a.shape)) for name, a in leaves.items()}
    for b in range(case.B):
        for found in one_sequence(Network(case, p, masks), problem, leaves, b, window):
            for name, d in zip(leaves, found, strict=True):
                total[name] += 0 if d is None else d.numpy()
    return total


@pytest.mark.parametrize("window", [0, 1, 3])
@pytest.mark.parametrize(
    "case",
    [
        row.but(**SIZES, layers=3 if k % 2 else 2, **options)
        for k, row in enumerate(CELLS)
        for options in [
            {"lengths": LENGTHS, "dropout": 0.3, "recurrent_dropout": 0.3}
            | ({"returns": "last"} if k % 3 == 0 else {})
        ]
    ],
    ids=lambda case: case.id,
)
def test_against_the_definition(case, window):
    run, got = on_numpy(case, window=window, rng=SEED)
    want = by_definition(case, window, masks_of(run))
    assert_all_close(got, want, AUTOGRAD, AUTOGRAD_FLOOR)


def by_hops(case: Case, masks: Masks) -> list[dict[str, np.ndarray]]:
    """Return the truncated gradient of every window that truncates, from 0 up.

    A hop leads from a step back to the step before it, in any layer and either direction.  If every
    hop lets a share e of the gradient through, a path of m hops counts e^m times, so the gradient
    is a polynomial in e, whose coefficients up to e^k belong to the paths of at most k hops.
    """
    hops = (case.T - 1) * (case.layers if case.bidirectional else 1)
    shares = np.cos(np.pi * (np.arange(hops + 1) + 0.5) / (hops + 1))
    values = []
    for e in map(float, shares):

        def carry(state: Tensors, e: float = e) -> Tensors:
            return tuple(e * part + (1 - e) * part.detach() for part in state)

        verdict = judge(case, case.parameters(), case.problem(), masks=masks, carry=carry)
        values.append(all_of(verdict, case.cell))
    powers = np.linalg.inv(np.vander(shares, increasing=True))
    sums = {
        name: np.cumsum(np.tensordot(powers, [v[name] for v in values], 1), axis=0)
        for name in values[0]
    }
    return [{name: array[k] for name, array in sums.items()} for k in range(hops + 1)]


def test_hops_are_steps_where_time_has_one_direction():
    case = row_of("gru").but(**SIZES, layers=2, lengths=LENGTHS)
    for window, want in enumerate(by_hops(case, Masks())):
        assert_all_close(by_definition(case, window, Masks()), want, AUTOGRAD, AUTOGRAD_FLOOR)


BOTH = tuple(
    row.but(
        **SIZES | {"T": 4},
        layers=1 + k % 3,
        bidirectional=True,
        lengths=(3, 4, 1) if k % 2 else None,
        returns="last" if k % 4 < 2 else "sequence",
        dropout=0.3 if k % 5 else 0.0,
        recurrent_dropout=0.3 if k % 5 else 0.0,
    )
    for k, row in enumerate(CELLS)
)
"""Every cell in both directions, in stacks of one to three."""


@pytest.mark.parametrize("case", BOTH, ids=lambda case: f"{case.id}-{case.layers}")
def test_in_both_directions_as_many_hops_and_no_more(case):
    run, full = on_numpy(case, rng=SEED)
    windows = by_hops(case, masks_of(run))
    for window, want in enumerate(windows):
        _, got = on_numpy(case, window=window, rng=SEED)
        assert_all_close(got, want, AUTOGRAD, AUTOGRAD_FLOOR)
    assert_all_close(got, full, FLOAT64)


@each_cell
def test_windows_differ_until_they_hold_everything(case):
    case = case.but(**SIZES, layers=2)
    found = [on_numpy(case, window=window)[1] for window in (0, 1, 2, 3, 4, 99, None)]
    for one, other in pairwise(found[:5]):
        for name in ("weight_ih_l0", "weight_ih_l1"):
            assert np.max(np.abs(one[name] - other[name])) > 1e-9, name
    for wide in found[4:6]:
        assert_all_close(wide, found[6], 0.0)


@pytest.mark.parametrize(("layers", "bidirectional"), [*product((1, 3), (False, True))])
def test_a_step_reaches_as_far_as_the_window(layers, bidirectional):
    """With a loss at one step only, the gradient of the input shows how far back it reaches."""
    case = row_of("lstm").but(T=7, B=1, layers=layers, bidirectional=bidirectional)
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    run = net.forward(problem.x)
    d_output = np.zeros_like(problem.d_output)
    d_output[3] = problem.d_output[3]
    for window in range(4):
        reached = np.any(net.backward(run, d_output, window=window).input != 0, axis=(1, 2))
        last = 3 + window if bidirectional else 3
        assert reached.tolist() == [3 - window <= t <= last for t in range(7)]


@pytest.mark.parametrize(
    "case",
    [deep_of(name) for name in ("gru", "lstm-everything", "custom-gated")],
    ids=lambda case: case.id,
)
def test_every_backend_agrees_with_numpy(case, harness):
    _, got = on_backend(case, harness, window=2, rng=SEED)
    _, want = on_numpy(case, window=2, rng=SEED)
    assert_all_close(got, want, FLOAT64)


@pytest.mark.parametrize("loss", [SquaredError(), CrossEntropy("sum")], ids=str)
def test_value_and_grad_cuts_the_gradient_of_its_loss(loss):
    case = row_of("lstm-peepholes").but(**SIZES, layers=2, lengths=LENGTHS)
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    target = problem.target
    if isinstance(loss, CrossEntropy):
        target = np.random.default_rng(0).integers(-1, case.O, target.shape[:2])
    x, state, lengths = problem.x, problem.state, case.lengths
    value, cut = net.value_and_grad(x, target, loss, state, lengths, window=1)
    whole_value, full = net.value_and_grad(x, target, loss, state, lengths)
    run = net.forward(x, state, lengths)
    _, d_output = loss.value_and_grad(run.output, target, run.tape.valid)
    want = net.backward(run, d_output, window=1)
    assert value == whole_value
    assert_all_close(cut.parameters, want.parameters, FLOAT64)
    assert_close(cut.input, want.input, FLOAT64)
    assert np.max(np.abs(cut.input - full.input)) > 1e-6
