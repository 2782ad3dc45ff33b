"""Networks, losses and optimizers inside functions that torch compiles as one graph.

Most tests compile for torch's own interpreter, which takes a second where machine code takes a
minute: what could fail is the tracing.  Inside `torch.func.grad` derivatives are right, too.
"""

import importlib

import numpy as np
import pytest
import torch

import xprnn
from tests.cases import CELLS, row_of
from tests.closeness import FLOAT64, assert_all_close, assert_close
from tests.optimizers import RULES
from xprnn import RNN, get_backend
from xprnn.losses import CrossEntropy, SquaredError
from xprnn.optim import Adam, AdamW, ParameterGroups, clip_by_norm

TORCH = get_backend("torch", dtype="float64")

pytestmark = [pytest.mark.slow, pytest.mark.another_flavour]


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()


def compiled(function, how="eager"):
    return torch.compile(function, fullgraph=True, backend=how)


def net_and_data(case):
    net, p = case.make(backend=TORCH, rng=0), case.problem()
    return net, TORCH.asarray(p.x), TORCH.asarray(p.target)


def step_of(net, **options):
    def step(x, target):
        value, gradient = net.value_and_grad(x, target, **options)
        return value, gradient.parameters, gradient.input, gradient.state

    return step


def assert_same(got, want) -> None:
    got, want = (torch.utils._pytree.tree_leaves(each) for each in (got, want))
    assert len(got) == len(want)
    for mine, theirs in zip(got, want, strict=True):
        assert_close(mine, theirs, FLOAT64, floor=FLOAT64)


WIDE = {"layers": 2, "bidirectional": True}
DEFAULT = (
    (row_of("lstm-everything"), {}),
    (row_of("gru").but(T=2, **WIDE), {"lengths": [2, 1, 2]}),
    (row_of("elman-relu").but(returns="last", bias=False), {}),
)
MORE = (
    *((case.but(**WIDE), {"lengths": [4, 1, 3]}) for case in CELLS),
    *((case, {"window": 1}) for case in CELLS),
    (row_of("gru"), {"recompute": True}),
    (row_of("gru").but(O=3), {"loss": CrossEntropy(), "lengths": [4, 2, 1]}),
)


@pytest.mark.parametrize(
    ("case", "options"),
    [*DEFAULT, *(pytest.param(*row, marks=pytest.mark.full) for row in MORE)],
    ids=lambda value: getattr(value, "id", "") or "-".join(value) or "plain",
)
def test_a_compiled_step_is_the_step(case, options):
    net, x, target = net_and_data(case)
    if "loss" in options:
        target = torch.arange(12).reshape(4, 3) % case.O
    step = step_of(net, **options)
    assert_same(compiled(step)(x, target), step(x, target))


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler of its own functions
def test_in_machine_code():
    net, x, target = net_and_data(row_of("lstm").but(T=3))
    step = step_of(net)
    assert_same(compiled(step, "inductor")(x, target), step(x, target))


def test_new_parameters_are_seen_without_compiling_again():
    net, x, target = net_and_data(row_of("elman-tanh").but(T=2))
    count = importlib.import_module("torch._dynamo.testing").CompileCounter()
    step = step_of(net)
    # The first compilation of a process is followed by another one.
    first = compiled(step, "eager")
    for _ in range(2):
        first(x, target)
    torch.compiler.reset()
    fast = compiled(step, count)
    for _ in range(3):
        _, gradients, *_ = fast(x, target)
        assert_same(gradients, step(x, target)[1])
        net.parameters = {k: p - gradients[k] for k, p in net.parameters.items()}
    assert count.frame_count == 1


def test_tokens_unroll_and_a_run():
    net = RNN(5, 3, 2, embedding_size=2, backend=TORCH, rng=0)
    tokens = torch.tensor([[0, 1], [4, 4]])
    assert_same(compiled(net.__call__)(tokens), net(tokens))
    with pytest.raises(torch._dynamo.exc.Unsupported, match="as many rows as there are distinct"):
        compiled(step_of(net))(tokens, torch.ones((2, 2, 2), dtype=torch.float64))
    net, x, target = net_and_data(row_of("gru").but(T=2))
    both = lambda x, d: net.backward(net.forward(x), d).input  # noqa: E731
    assert_same(compiled(both)(x, target), both(x, target))
    weights = (torch.ones((3, 2), dtype=torch.float64), torch.eye(3, dtype=torch.float64))

    def unrolled(x, W, U):
        h, state, tape = xprnn.unroll("elman", (W, U), x)
        gradient = xprnn.unroll_backward("elman", (W, U), tape, h)
        return h, state, gradient.weights.W, gradient.x

    assert_same(compiled(unrolled)(x, *weights), unrolled(x, *weights))


@pytest.mark.parametrize("loss", [SquaredError(), CrossEntropy()], ids=str)
def test_losses(loss):
    y = TORCH.asarray(np.random.default_rng(0).normal(size=(4, 3, 5)))
    target = y + 1 if isinstance(loss, SquaredError) else torch.arange(12).reshape(4, 3) % 5
    valid = torch.arange(4)[:, None, None] < torch.tensor([4, 2, 1])[None, :, None]
    for arguments in ((y, target), (y, target, valid)):
        got, want = (f(*arguments) for f in (compiled(loss.value_and_grad), loss.value_and_grad))
        assert_same(got, want)


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(row.ours, marks=[pytest.mark.full] * (row.id not in ("nesterov", "adam")))
        for row in RULES
    ],
    ids=str,
)
def test_optimizers(rule):
    net, x, target = net_and_data(row_of("gru"))
    gradients = net.value_and_grad(x, target)[1].parameters
    gradients = {name: gradients[name] for name in ("weight_hh_l0", "bias_l0")}
    testing = importlib.import_module("torch._dynamo.testing")
    count = testing.CompileCounter()
    update = compiled(rule.update, count)
    mine = theirs = {name: net.parameters[name] for name in gradients}
    my_state = their_state = rule.init(mine)
    for _ in range(4):
        mine, my_state = rule.update(gradients, my_state, mine)
        theirs, their_state = update(gradients, their_state, theirs)
    assert_all_close(theirs, mine, FLOAT64)
    # With a count as a constant, and then with one as an argument.
    assert count.frame_count <= 2


def test_patterns_of_names():
    rule = ParameterGroups({"bias*": "sgd"}, AdamW(0.01, decayed="weight_h*"))
    net, x, target = net_and_data(row_of("gru"))
    gradients = net.value_and_grad(x, target)[1].parameters
    gradients = {name: gradients[name] for name in ("weight_hh_l0", "bias_l0")}
    parameters = {name: net.parameters[name] for name in gradients}
    state = rule.init(parameters)
    got, want = (f(gradients, state, parameters) for f in (compiled(rule.update), rule.update))
    assert_all_close(got[0], want[0], FLOAT64)


def test_clipping():
    g = {"a": torch.tensor([3e200, 4e200], dtype=torch.float64)}
    assert_same(compiled(lambda g: clip_by_norm(g, 1.0))(g), clip_by_norm(g, 1.0))


def test_what_is_wrong_is_said():
    net, x, target = net_and_data(row_of("gru").but(recurrent_dropout=0.5))
    wrong = pytest.raises(torch._dynamo.exc.Unsupported, match=r"expected \(T, B, 2\)")
    with wrong:
        compiled(net.__call__)(x[..., :1])
    with pytest.raises(torch._dynamo.exc.Unsupported, match="the same masks at every call"):
        compiled(step_of(net))(x, target)
    g, p = {"a": x}, {"a": target[:1]}
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"gradients\['a'\] has shape"):
        compiled(Adam().update)(g, Adam().init(p), p)


def test_derivatives_that_torch_takes_are_right():
    net, x, target = net_and_data(row_of("gru"))
    want = net.value_and_grad(x, target)[1].input
    assert_close(torch.func.grad(lambda x: net.value_and_grad(x, target)[0])(x), want, FLOAT64)
    run = net.forward(x)
    want = net.backward(run, torch.ones_like(run.output)).input
    assert_close(torch.func.grad(lambda x: net(x)[0].sum())(x), want, FLOAT64)
    stacked = torch.stack([x, x[:, [1, 0, 2]]])
    found = torch.func.vmap(torch.func.grad(lambda x: net.value_and_grad(x, target)[0]))(stacked)
    for each, derived in zip(stacked, found, strict=True):
        assert_close(derived, net.value_and_grad(each, target)[1].input, FLOAT64)
    for each, derived in zip(stacked, torch.func.vmap(net.__call__)(stacked)[0], strict=True):
        assert_close(derived, net(each)[0], FLOAT64)
    _, found = torch.func.vjp(lambda x: net(x)[0], x)
    assert_close(found(torch.ones_like(run.output))[0], want, FLOAT64)
