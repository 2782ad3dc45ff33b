"""`RNN.jvp` and `RNN.hvp`: J d against backward, H d against torch's double backward."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.cases import CELLS, Case, in_full, row_of
from tests.harness import on_every_backend
from tests.judge import Network, leaf, masks_of
from tests.optional import optional
from xprnn import RNN
from xprnn.engine.gradients import dense
from xprnn.losses import CrossEntropy, SquaredError

torch = optional("torch")

NEAR = 1e-12
DEEP = {"layers": 2, "bidirectional": True, "lengths": (4, 1, 3)}
FORMS = {
    "": {},
    "-deep": DEEP,
    "-last": {"returns": "last", "lengths": (2, 4, 3)},
    "-embedding": {"embedding_size": 3, "I": 4},
    "-tied": {"embedding_size": 5, "I": 4, "O": 4, "tied": True},
    "-bare": {"O": None, "bias": False, "layers": 2},
}
ROWS = tuple(row.but(id=row.id + name, **form) for row in CELLS for name, form in FORMS.items())
SOME = tuple(row for row in ROWS if row.id.endswith(("-deep", "-embedding", "-tied")))


def direction(arrays, seed):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=np.shape(a)) for name, a in arrays.items()}


def inner(one, other):
    return sum(float(np.sum(a * b)) for a, b in zip(one, other, strict=True))


@on_every_backend(SOME, on_jax=[])
def test_jvp_agrees_with_backward(case, harness):
    """⟨w, J d⟩ = ⟨Jᵀ w, d⟩, for all arguments at once."""
    problem, net = case.problem(), harness.net(case)
    tokens = case.embedding_size is not None
    x, state = net.backend.asarray(problem.x), harness.arrays(problem.state)
    d = direction(net.parameters, 3)
    d_x = direction({"x": problem.x}, 4)["x"]
    d_state = tuple(direction({"s": part}, 5)["s"] for part in problem.state)
    found = net.jvp(
        x,
        None if tokens else harness.array(d_x),
        harness.named(d),
        harness.arrays(d_state),
        state,
        case.lengths,
    )
    run = net.forward(x, state, case.lengths)
    np.testing.assert_allclose(harness.host(found.output), harness.host(run.output), rtol=1e-12)
    assert tuple(found.d_output.shape) == tuple(run.output.shape)
    gradient = net.backward(run, harness.array(problem.d_output), harness.arrays(problem.d_state))
    w = (problem.d_output, *problem.d_state)
    pushed = inner(w, map(harness.host, (found.d_output, *found.d_state)))
    back = inner(d.values(), [harness.host(dense(g)) for g in gradient.parameters.values()])
    back += inner(d_state, map(harness.host, gradient.state))
    if not tokens:
        back += inner((d_x,), (harness.host(gradient.input),))
    size = sum(np.linalg.norm(a) for a in w)
    assert abs(pushed - back) <= NEAR * max(abs(pushed), size)


def test_a_missing_tangent_is_zero():
    net = RNN(2, 4, 3, cell="lstm", dtype="float64", rng=0)
    rng = np.random.default_rng(0)
    x, d_x = rng.normal(size=(2, 5, 3, 2))
    assert not np.any(net.jvp(x).d_output)
    assert all(not np.any(part) for part in net.jvp(x).d_state)
    U = {"weight_hh_l0": rng.normal(size=(16, 4))}
    one, other = net.jvp(x, d_x), net.jvp(x, d_parameters=U)
    both = net.jvp(x, d_x, U)
    np.testing.assert_allclose(both.d_output, one.d_output + other.d_output, rtol=1e-12)


def test_the_padding_of_a_tangent_does_not_matter():
    net = RNN(2, 4, 3, cell="gru", dtype="float64", rng=0)
    x, d_x = np.random.default_rng(0).normal(size=(2, 5, 3, 2))
    x[3:, 1], right = np.nan, net.jvp(np.where(np.isnan(x), 0, x), d_x, lengths=[5, 3, 4])
    d_x[3:, 1] = np.nan
    found = net.jvp(x, d_x, lengths=[5, 3, 4])
    np.testing.assert_array_equal(found.d_output, right.d_output)
    assert not np.any(found.d_output[3:, 1])


def test_a_linear_network_is_its_own_derivative():
    from xprnn.cells import Elman

    net = RNN(2, 3, 1, cell=Elman("identity"), bias=False, dtype="float64", rng=0)
    x = np.random.default_rng(0).normal(size=(4, 2, 2))
    found = net.jvp(np.zeros_like(x), x)
    np.testing.assert_allclose(found.d_output, net(x)[0], rtol=1e-14)


def test_long_sequences_in_segments():
    net = RNN(1, 2, 1, dtype="float64", rng=0)
    rng = np.random.default_rng(0)
    x, d_x, w = rng.normal(size=(3, 9000, 1, 1))
    found, run = net.jvp(x, d_x), net.forward(x)
    back = net.backward(run, w).input
    assert abs(np.sum(w * found.d_output) - np.sum(back * d_x)) < 1e-10


# The Hessian


def by_torch(case: Case, parameters, problem, target, d, loss, masks=None):
    """Return H d by torch's double backward."""
    p = {name: leaf(array) for name, array in parameters.items()}
    x = torch.tensor(problem.x)
    state = tuple(torch.tensor(part) for part in problem.state)
    network = Network(case, p) if masks is None else Network(case, p, masks)
    y, _ = network.run(x, state)
    valid = torch.ones(y.shape[:-1], dtype=torch.bool)
    if case.lengths is not None and case.returns == "sequence":
        valid = torch.arange(case.T)[:, None] < torch.tensor(case.lengths)[None, :]
    t = torch.tensor(target)
    if isinstance(loss, SquaredError):
        value = 0.5 * ((y - t)[valid] ** 2).sum()
        count = valid.sum() * y.shape[-1]
    else:
        value = torch.nn.functional.cross_entropy(y[valid], t[valid], reduction="sum")
        count = valid.sum()
    if loss.reduction == "mean":
        value = value / count
    gradients = torch.autograd.grad(value, list(p.values()), create_graph=True, allow_unused=True)
    along = sum((g * torch.tensor(d[k])).sum() for k, g in zip(p, gradients, strict=True))
    found = torch.autograd.grad(along, list(p.values()), allow_unused=True)
    return {
        k: np.zeros(array.shape) if h is None else h.numpy()
        for (k, array), h in zip(parameters.items(), found, strict=True)
    }


def agree(found, wanted, near=1e-9):
    assert list(found) == list(wanted)
    for name, h in wanted.items():
        scale = np.max(np.abs(h)) or 1.0
        np.testing.assert_allclose(found[name], h, rtol=near, atol=near * scale, err_msg=name)


@pytest.mark.parametrize("loss", [SquaredError(), CrossEntropy("sum")], ids=str)
@pytest.mark.parametrize("case", in_full(ROWS, but=SOME))
def test_hvp_is_torch_s_double_backward(case, loss):
    parameters, problem = case.parameters(), case.problem()
    net = case.make(dtype="float64", rng=0)
    net.parameters = parameters
    d, target = direction(parameters, 6), problem.target
    if isinstance(loss, CrossEntropy):
        target = np.random.default_rng(8).integers(0, target.shape[-1], target.shape[:-1])
    found = net.hvp(problem.x, target, d, loss, problem.state, case.lengths)
    agree(found, by_torch(case, parameters, problem, target, d, loss))


def test_hvp_with_dropout_has_the_masks_of_value_and_grad():
    case = row_of("gru").but(layers=2, dropout=0.4, recurrent_dropout=0.4)
    parameters, problem = case.parameters(), case.problem()
    net = case.make(dtype="float64", rng=0)
    net.parameters = parameters
    d, loss = direction(parameters, 6), SquaredError("sum")
    masks = masks_of(net.forward(problem.x, problem.state, rng=5))
    found = net.hvp(problem.x, problem.target, d, loss, problem.state, rng=5)
    agree(found, by_torch(case, parameters, problem, problem.target, d, loss, masks))


@on_every_backend([row_of("lstm-everything")], on_jax=[])
def test_hvp_is_the_same_on_every_backend(case, harness):
    problem, net = case.problem(), harness.net(case)
    d = direction(net.parameters, 6)
    found = net.hvp(harness.array(problem.x), harness.array(problem.target), harness.named(d))
    mine = case.make(dtype="float64", rng=0)
    mine.parameters = case.parameters()
    agree(harness.hosts(found), mine.hvp(problem.x, problem.target, d), near=1e-11)


class HuberError(SquaredError):
    """½ d² where |d| < 1, |d| - ½ elsewhere, summed."""

    def __call__(self, output, target, valid=None):
        return self.value_and_grad(output, target, valid)[0]

    def value_and_grad(self, output, target, valid=None, *, overwrite=False):
        xp, d = output.__array_namespace__(), output - target
        near = abs(d) < 1
        value = xp.sum(xp.where(near, 0.5 * d * d, abs(d) - 0.5))
        return value, xp.where(near, d, xp.sign(d))


def test_a_cell_and_a_loss_of_the_user_s_own():
    case = row_of("custom-gated")
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    net.parameters = case.parameters()
    d = direction(net.parameters, 6)
    found = net.hvp(problem.x, problem.target, d, HuberError(), problem.state)

    def gradient(step):
        moved = case.make(dtype="float64", rng=0)
        moved.parameters = {k: p + step * d[k] for k, p in net.parameters.items()}
        _, g = moved.value_and_grad(problem.x, problem.target, HuberError(), problem.state)
        return g.parameters

    above, below = gradient(1e-6), gradient(-1e-6)
    agree(found, {k: (above[k] - below[k]) / 2e-6 for k in found}, near=1e-7)


def test_sparse_gradients_are_directions():
    net = RNN(6, 4, 6, dtype="float64", rng=0)
    tokens = np.random.default_rng(0).integers(0, 6, size=(5, 3))
    g = net.value_and_grad(tokens, tokens, "cross_entropy")[1].parameters
    by_form = net.hvp(tokens, tokens, g, "cross_entropy")
    agree(by_form, net.hvp(tokens, tokens, {k: dense(v) for k, v in g.items()}, "cross_entropy"))
    assert net.jvp(tokens, d_parameters=g).d_output.shape == (5, 3, 6)


# What is refused

X = np.zeros((4, 3, 2))
BAD = [
    ({"d_x": np.zeros((4, 3, 1))}, ValueError, r"d_x has shape \(4, 3, 1\): expected \(4, 3, 2\)"),
    ({"d_x": np.zeros((4, 3, 2), int)}, TypeError, "d_x has dtype int64: expected floats"),
    ({"d_x": [1.0]}, TypeError, "d_x is a list: expected an array of the backend 'numpy'"),
    ({"d_x": np.full((4, 3, 2), np.nan)}, ValueError, r"d_x\[0, 0, 0\] is nan: expected finite"),
    ({"d_parameters": {"W": 1}}, KeyError, "d_parameters has 'W': known are weight_ih_l0, "),
    ({"d_parameters": [1]}, TypeError, "d_parameters is of type list: expected a dict of arrays"),
    (
        {"d_parameters": {"bias_l0": np.zeros(4)}},
        ValueError,
        r"d_parameters\['bias_l0'\] has shape \(4,\): expected \(5,\)",
    ),
    ({"d_state": np.zeros((1, 3, 5))}, TypeError, "d_state is of type ndarray: expected a tuple"),
    ({"d_state": (np.zeros((1, 2, 5)),)}, ValueError, r"d_state\[0\] has shape \(1, 2, 5\): exp"),
    ({"lengths": [1, 2]}, ValueError, "lengths has 2 entries: expected one per sequence, 3"),
]


@pytest.mark.parametrize(("options", "error", "words"), BAD)
def test_tangents_that_do_not_fit(options, error, words):
    with pytest.raises(error, match=words):
        RNN(2, 5, 1, dtype="float64", rng=0).jvp(X, **options)


def test_directions_that_do_not_fit():
    net = RNN(2, 5, 1, dtype="float64", rng=0)
    with pytest.raises(KeyError, match="direction has 'W': known are weight_ih_l0"):
        net.hvp(X, np.zeros((4, 3, 1)), {"W": np.zeros(2)})
    with pytest.raises(ValueError, match=r"target has shape \(4, 3\): expected \(4, 3, 1\)"):
        net.hvp(X, np.zeros((4, 3)), {})
    with pytest.raises(ValueError, match="unknown loss 'l1'"):
        net.hvp(X, np.zeros((4, 3, 1)), {}, "l1")
    tokens = np.zeros((4, 3), int)
    with pytest.raises(TypeError, match="d_x is given, but the input is of integers"):
        RNN(2, 5, 1, rng=0).jvp(tokens, np.zeros((4, 3, 2), "float32"))


def test_the_page_s_example_prints_what_the_page_says(capsys):
    page = (Path(__file__).parents[1] / "docs" / "derivatives.md").read_text()
    code, printed = (
        re.search(rf"^```{word}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[1]
        for word in ("python", "text")
    )
    exec(code, {"__name__": "page"})
    assert capsys.readouterr().out == printed
