"""Sequences of unequal lengths: padding has no influence on anything."""

import numpy as np
import pytest

from tests.cases import FORMS, Case, each_cell, row_of
from tests.closeness import AUTOGRAD, FLOAT64, assert_all_close, assert_close
from tests.judge import judge, layer_weights, leaf
from tests.optional import optional
from tests.passes import gradients_of
from tests.stacks import LENGTHS, SIZES, deep_of, each_deep
from xprnn import RNN, unroll, unroll_backward
from xprnn.cells import LSTM, has_recurrent_matrix
from xprnn.engine.gradients import SparseGradient
from xprnn.losses import CrossEntropy, SquaredError, get_loss

torch = optional("torch")

SEED = 5
BEYOND = np.arange(SIZES["T"])[:, None] >= np.array(LENGTHS)
"""Which steps are padding, (T, B)."""


def with_beyond(a: np.ndarray, value: float) -> np.ndarray:
    """Return a copy of a (T, B, ...) with other values in the padding."""
    a = a.copy()
    a[BEYOND] = value
    return a


def deep(row: Case, **changes) -> Case:
    """Return two layers in both directions, of sequences that end early."""
    return row.but(**SIZES | changes, layers=2, bidirectional=True, lengths=LENGTHS)


def target_for(case: Case, loss) -> np.ndarray:
    problem = case.problem()
    if isinstance(get_loss(loss), CrossEntropy):
        shape = problem.target.shape[:-1]
        return np.random.default_rng(1).integers(-1, problem.target.shape[-1], shape)
    return problem.target


def everything(case: Case, x, d_output, window=None) -> list[np.ndarray]:
    """Return output, state and all gradients."""
    net, problem = case.make(dtype="float64"), case.problem()
    net.parameters = case.parameters()
    run = net.forward(x, problem.state, case.lengths, rng=SEED)
    gradients = gradients_of(net, run, d_output, problem.d_state, window)
    return [run.output, *run.state, *gradients.values()]


@pytest.mark.parametrize("value", [0.0, -7.0, 1.7e308])
@each_deep
def test_nothing_leaks(case, value):
    """Not a bit changes, whatever the padding holds, even numbers that would overflow."""
    problem = case.problem()
    d_output = problem.d_output
    if case.returns == "sequence":
        d_output = with_beyond(d_output, value)
    for window in (None, 1):
        want = everything(case, problem.x, problem.d_output, window)
        got = everything(case, with_beyond(problem.x, value), d_output, window)
        assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


@each_deep
def test_beyond_an_end_all_is_zero(case):
    net, problem = case.make(dtype="float64"), case.problem()
    net.parameters = case.parameters()
    for window in (None, 2):
        run = net.forward(problem.x, problem.state, case.lengths, rng=SEED)
        gradients = gradients_of(net, run, problem.d_output, problem.d_state, window)
        assert not np.any(gradients["input"][BEYOND])
        assert np.all(np.any(gradients["input"][~BEYOND] != 0, axis=-1)) or window
        if case.returns == "sequence":
            assert not np.any(run.output[BEYOND])
            assert np.all(run.output[~BEYOND] != 0) or case.kink


@pytest.mark.parametrize("value", [1e30, 3.4e38])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_nothing_overflows(dtype, value):
    case = deep(row_of("lstm-layer-norm"))
    net, problem = case.make(dtype=dtype, rng=0), case.problem()
    value = min(value, float(np.finfo(dtype).max))
    x, target = problem.x.astype(dtype), problem.target.astype(dtype)
    want, gradient = net.value_and_grad(x, target, lengths=LENGTHS)
    got, other = net.value_and_grad(with_beyond(x, value), target, lengths=LENGTHS)
    assert got == want
    assert_all_close(other.parameters, gradient.parameters, 0.0)


@pytest.mark.parametrize("embedding_size", [None, 3])
def test_no_token_is_seen_beyond_an_end(embedding_size):
    """Nor has one a gradient of zero: some optimizers move every row of a sparse gradient."""
    case = deep(row_of("gru"), I=7).but(embedding_size=embedding_size)
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    tokens = np.random.default_rng(0).integers(0, 6, BEYOND.shape)
    name = "weight_ih_l0" if embedding_size is None else "embedding.weight"
    found = []
    for padding in (tokens, with_beyond(tokens, 6), with_beyond(tokens, 0)):
        value, gradient = net.value_and_grad(padding, problem.target, lengths=LENGTHS)
        g = gradient.parameters[name]
        assert isinstance(g, SparseGradient)
        assert g.indices.tolist() == sorted(set(tokens[~BEYOND].tolist()))
        found.append([value, g.values, gradient.parameters["weight_hh_l0"]])
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(other, found[0], strict=True))


@pytest.mark.parametrize("window", [None, 1])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "row",
    [row_of(name) for name in ("gru", "lstm-everything", "custom-gated")],
    ids=lambda row: row.id,
)
def test_a_batch_is_its_sequences_one_by_one(row, form, window):
    """Output, state and every gradient are those of each sequence cut to its length."""
    case = deep(row, **FORMS[form])
    net, problem = case.make(dtype="float64"), case.problem()
    net.parameters = case.parameters()
    run = net.forward(problem.x, problem.state, LENGTHS)
    together = gradients_of(net, run, problem.d_output, problem.d_state, window)
    total = {name: np.zeros(p.shape) for name, p in net.parameters.items()}
    for b, length in enumerate(LENGTHS):
        mine, steps = slice(b, b + 1), slice(0, length)
        at = (steps, mine) if case.returns == "sequence" else mine
        alone = net.forward(problem.x[:length, mine], tuple(s[:, mine] for s in problem.state))
        d_state = tuple(d[:, mine] for d in problem.d_state)
        found = gradients_of(net, alone, problem.d_output[at], d_state, window)
        assert_close(run.output[at], alone.output, FLOAT64)
        for got, want in zip(run.state, alone.state, strict=True):
            assert_close(got[:, mine], want, FLOAT64)
        assert_close(together["input"][:length, mine], found["input"], FLOAT64, "input")
        for name in case.cell.state:
            got, want = together[f"state {name}"][:, mine], found[f"state {name}"]
            assert_close(got, want, FLOAT64, name)
        for name in total:
            total[name] += found[name]
    assert_all_close({name: together[name] for name in total}, total, FLOAT64)


LOSSES = [SquaredError("mean"), SquaredError("sum"), CrossEntropy("mean"), CrossEntropy("sum")]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{loss}")


def of_existing(case: Case, loss, target):
    """Return torch's loss of the steps that exist, as a function of the output."""
    reduce = torch.mean if loss.reduction == "mean" else torch.sum
    target = torch.tensor(target)

    def objective(y):
        exist = torch.tensor(~BEYOND) if case.returns == "sequence" else slice(None)
        if isinstance(loss, SquaredError):
            return reduce(0.5 * (y[exist] - target[exist]) ** 2)
        return torch.nn.functional.cross_entropy(
            y[exist], target[exist], ignore_index=-1, reduction=loss.reduction
        )

    return objective


@each_loss
@pytest.mark.parametrize("returns", ["sequence", "last"])
@each_cell
def test_losses_are_of_the_steps_that_exist(case, returns, loss):
    case = deep(case, returns=returns)
    net, problem, target = case.make(dtype="float64"), case.problem(), target_for(case, loss)
    net.parameters = case.parameters()
    value, got = net.value_and_grad(problem.x, target, loss, problem.state, LENGTHS)
    objective = of_existing(case, loss, target)
    want = judge(case, case.parameters(), problem, objective)
    assert float(value) == pytest.approx(float(objective(torch.tensor(want.output))), rel=1e-12)
    assert_all_close(got.parameters, want.d_parameters, AUTOGRAD)
    assert_close(got.input, want.d_input, AUTOGRAD)
    assert_close(got.state, want.d_state, AUTOGRAD)
    if returns == "sequence":
        other = with_beyond(target, 0)
        again, same = net.value_and_grad(problem.x, other, loss, problem.state, LENGTHS)
        assert again == value
        assert_all_close(same.parameters, got.parameters, 0.0)


@each_loss
def test_a_loss_by_itself_takes_what_is_valid(harness, loss):
    case = row_of("elman-tanh").but(**SIZES)
    output, target = case.problem().d_output, target_for(case, loss)
    valid = harness.backend.asarray(~BEYOND[..., None])
    given = harness.array(output), harness.array(target), valid
    objective = of_existing(case, loss, target)
    y = leaf(output)
    (want,) = torch.autograd.grad(objective(y), [y])
    value, gradient = loss.value_and_grad(*given)
    assert float(loss(*given)) == float(value)
    assert float(value) == pytest.approx(objective(y).item(), rel=1e-12)
    assert_close(harness.host(gradient), want, AUTOGRAD)
    entries = 9 * SIZES["O"] if isinstance(loss, SquaredError) else np.sum(target[~BEYOND] >= 0)
    assert loss.entries(*given[1:]) == entries
    assert type(loss.entries(*given[1:])) is int


@each_cell
def test_the_functional_core(case):
    """One layer: the state is that of each sequence's last step, and h is zero in the padding."""
    net = case.but(**SIZES | {"O": None}, lengths=LENGTHS)
    problem, weights = net.problem(), layer_weights(case.cell, net.parameters())
    state = tuple(part[0] for part in problem.state)
    h, final, tape = unroll(case.cell, weights, problem.x, state, lengths=LENGTHS)
    want = judge(net, net.parameters(), problem)
    assert_close(h, want.output, AUTOGRAD)
    assert not np.any(h[BEYOND])
    assert_close(final, [part[0] for part in want.state], AUTOGRAD)
    d_state = tuple(part[0] for part in problem.d_state)
    got = unroll_backward(case.cell, weights, tape, problem.d_output, d_state)
    assert_close(got.x, want.d_input, AUTOGRAD)
    assert_close(got.weights.W, want.d_parameters["weight_ih_l0"], AUTOGRAD)
    if has_recurrent_matrix(case.cell):
        assert_close(got.weights.U, want.d_parameters["weight_hh_l0"], AUTOGRAD)
    assert_close(got.state, [part[0] for part in want.d_state], AUTOGRAD)
    huge, _, tape = unroll(
        case.cell, weights, with_beyond(problem.x, 1.7e308), state, lengths=LENGTHS
    )
    assert np.array_equal(huge, h)
    again = unroll_backward(case.cell, weights, tape, problem.d_output, d_state)
    assert np.array_equal(again.weights.W, got.weights.W)


@pytest.mark.parametrize(
    "lengths",
    [list(LENGTHS), LENGTHS, np.array(LENGTHS), np.array(LENGTHS, "uint8"), [np.int64(3), 5, 1]],
    ids=["list", "tuple", "array", "uint8", "scalars"],
)
def test_how_lengths_are_given(lengths):
    case = deep(row_of("elman-tanh"))
    net, x = case.make(dtype="float64", rng=0), case.problem().x
    want = net.forward(x, None, LENGTHS)
    got = net.forward(x, lengths=lengths)
    assert np.array_equal(got.output, want.output)
    assert np.array_equal(net(x, lengths=lengths)[0], want.output)


@each_deep
def test_whole_sequences_need_no_lengths(case):
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    got = net.forward(problem.x, problem.state, [case.T] * case.B, rng=SEED)
    want = net.forward(problem.x, problem.state, rng=SEED)
    assert got.tape.valid is None
    assert np.array_equal(got.output, want.output)


def test_lengths_are_kept_by_the_run():
    """A run is differentiated as it was made, even if the network has other runs in between."""
    case = deep(row_of("lstm"))
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    run = net.forward(problem.x, problem.state, LENGTHS)
    want = net.backward(run, problem.d_output).input
    net.forward(problem.x, problem.state, [1, 1, 1])
    assert np.array_equal(net.backward(run, problem.d_output).input, want)


@pytest.mark.parametrize("case", [deep_of("lstm")], ids=lambda case: case.id)
def test_the_last_output_is_that_of_both_final_states(case):
    case = case.but(returns="last", O=None, dropout=0.0, recurrent_dropout=0.0)
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    y, (h, _) = net(problem.x, problem.state, LENGTHS)
    assert np.array_equal(y, np.concatenate([h[-2], h[-1]], axis=-1))
    steps: RNN = case.but(returns="sequence").make(dtype="float64", rng=0)
    every, _ = steps(problem.x, problem.state, LENGTHS)
    for b, length in enumerate(LENGTHS):
        assert np.array_equal(y[b, : case.H], every[length - 1, b, : case.H])
        assert np.array_equal(y[b, case.H :], every[0, b, case.H :])


NET = RNN(2, 4, 1, cell=LSTM(), dtype="float64", rng=0)
X, Y = np.ones((5, 3, 2)), np.zeros((5, 3, 1))


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([5, 5], ValueError, "lengths has 2 entries: expected one per sequence, 3"),
        ([], ValueError, "lengths has 0 entries: expected one per sequence, 3"),
        ([5, 5, -1], ValueError, r"lengths\[2\] is -1: expected 0 to 5, the number of steps"),
        ([6, 5, 5], ValueError, r"lengths\[0\] is 6: expected 0 to 5, the number of steps"),
        ([5, 2.0, 5], TypeError, r"lengths is \[5, 2\.0, 5\]: expected integers"),
        ([5, None, 5], TypeError, r"lengths is \[5, None, 5\]: expected integers"),
        (np.ones(3), TypeError, r"lengths is array\(\[1\., 1\., 1\.\]\): expected integers"),
        (np.ones((1, 3), int), ValueError, r"lengths has shape \(1, 3\): expected \(3,\)"),
        (np.array(5), ValueError, r"lengths has shape \(\): expected \(3,\)"),
        ([True] * 3, TypeError, r"lengths is \[True, True, True\]: expected integers"),
        (5, TypeError, "lengths is int: expected a list, a tuple or an array of ints"),
        ("555", TypeError, "lengths is str: expected a list, a tuple or an array of ints"),
    ],
    ids=str,
)
def test_what_are_no_lengths(lengths, error, message):
    expect_refused(lengths, error, message)


def test_floats_of_torch_are_no_lengths():
    ones, message = torch.ones(3), r": expected integers"
    expect_refused([*ones], TypeError, rf"lengths is \[tensor\(1\.\), .*{message}")
    expect_refused(ones, TypeError, rf"lengths is tensor\(.*{message}")


def expect_refused(lengths, error, message):
    weights = tuple(NET.parameters[name] for name in ("weight_ih_l0", "weight_hh_l0"))
    for use in (
        lambda: NET(X, lengths=lengths),
        lambda: NET.forward(X, lengths=lengths),
        lambda: NET.value_and_grad(X, Y, lengths=lengths),
        lambda: unroll(LSTM(), weights, X, lengths=lengths),
    ):
        with pytest.raises(error, match=message):
            use()


def test_lengths_on_a_device():
    net = RNN(2, 4, 1, backend="array_api_strict", device="device1", rng=0)
    be = net.backend
    message = r"lengths is .*array_api_strict.* on device .*device1.*: expected integers on the ho"
    with pytest.raises(TypeError, match=message):
        net(be.asarray(X), lengths=be.asarray(np.array([5, 5, 5])))
