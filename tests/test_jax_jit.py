"""Functions that JAX compiles: networks, losses and optimizers inside them, and a network's passes.

The judge is NumPy, which computes the same without a compiler.
"""

import warnings

import jax
import numpy as np
import pytest

import xprnn
from tests.cases import CELLS, Case, row_of
from tests.closeness import FLOAT64, assert_all_close, assert_close
from tests.optimizers import RULES
from tests.process import run_python
from xprnn import RNN, get_backend
from xprnn.cells import Elman
from xprnn.engine.gradients import dense
from xprnn.losses import CrossEntropy, SquaredError
from xprnn.optim import Adam, Averaged, ParameterGroups, clip_by_norm, clip_by_value, schedules
from xprnn.testing import assert_parity

JAX = get_backend("jax", dtype="float64")
NUMPY = get_backend("numpy", dtype="float64")
STEP = jax.jit(RNN.value_and_grad, static_argnames=("loss", "lengths", "window", "recompute"))

pytestmark = [pytest.mark.slow, pytest.mark.another_flavour]


def nets(case: Case) -> tuple[RNN, RNN]:
    """Return a case's network on NumPy and on JAX."""
    on_numpy = case.make(backend=NUMPY, rng=0)
    return on_numpy, on_numpy.to(JAX)


def on_jax(tree):
    return jax.tree.map(JAX.asarray, tree)


def named(gradient) -> dict[str, np.ndarray]:
    """Return all arrays of a gradient, on the host."""
    arrays = {name: np.asarray(dense(g)) for name, g in gradient.parameters.items()}
    if gradient.input is not None:
        arrays["input"] = np.asarray(gradient.input)
    return arrays | {f"state[{k}]": np.asarray(s) for k, s in enumerate(gradient.state)}


def assert_same_step(case: Case, step=STEP, **options) -> None:
    """Compare loss and gradients of a step in JAX with NumPy's."""
    ours, theirs = nets(case)
    p = case.problem()
    target = p.target
    if options.get("loss") == "cross_entropy":
        target = np.arange(target[..., 0].size).reshape(target.shape[:-1]) % case.O
    want, gradient = ours.value_and_grad(p.x, target, state=p.state, **options)
    given = on_jax((p.x, target, p.state))
    got, found = step(theirs, given[0], given[1], state=given[2], **options)
    assert_close(float(got), float(want), FLOAT64, "loss")
    assert_all_close(named(found), named(gradient), FLOAT64, FLOAT64)


WIDE = {"layers": 2, "bidirectional": True}
DEFAULT = (
    (row_of("lstm-everything"), {}),
    (row_of("gru").but(**WIDE), {"lengths": (4, 1, 3)}),
    (row_of("elman-relu").but(returns="last", bias=False), {}),
    (row_of("gru").but(I=6, O=6, embedding_size=3), {"loss": "cross_entropy"}),
)
MORE = (
    *((case, {}) for case in CELLS),
    *((case.but(**WIDE), {"lengths": (4, 1, 3)}) for case in CELLS),
    *((case, {"window": 1}) for case in CELLS),
    (row_of("lstm").but(T=40, B=300), {"recompute": True}),
    (row_of("lstm").but(T=40, B=300), {}),
    (row_of("gru").but(O=None), {"lengths": (4, 2, 1)}),
    (row_of("gru").but(O=3), {"loss": "cross_entropy", "lengths": (4, 2, 1)}),
)


def label(value) -> str:
    return getattr(value, "id", "") or "-".join(map(str, value)) or "plain"


@pytest.mark.parametrize(
    ("case", "options"),
    [*DEFAULT, *(pytest.param(*row, marks=pytest.mark.full) for row in MORE)],
    ids=label,
)
def test_a_jitted_step_is_the_step(case, options):
    assert_same_step(case, **options)


def switched_on(monkeypatch) -> None:
    monkeypatch.setenv("XPRNN_LOWERING", "on")


def test_a_network_on_jax_compiles_itself(monkeypatch):
    switched_on(monkeypatch)
    case = row_of("gru").but(T=3, dropout=0.3, recurrent_dropout=0.2, layers=2)
    assert_same_step(case, step=RNN.value_and_grad, lengths=(3, 1, 2), rng=3)


@pytest.mark.full
@pytest.mark.parametrize("case", CELLS, ids=label)
def test_every_network_on_jax_compiles_itself(monkeypatch, case):
    switched_on(monkeypatch)
    assert_same_step(case, step=RNN.value_and_grad)
    ours, theirs = nets(case)
    p = case.problem()
    x, d_output, d_state = on_jax((p.x, p.d_output, p.d_state))
    want = ours.backward(ours.forward(p.x), p.d_output, p.d_state, window=1)
    got = theirs.backward(theirs.forward(x), d_output, d_state, window=1)
    assert_all_close(named(got), named(want), FLOAT64, FLOAT64)
    for mine, other in zip(jax.tree.leaves(theirs(x)), jax.tree.leaves(ours(p.x)), strict=True):
        assert_close(mine, other, FLOAT64)


def compilations(monkeypatch) -> list[str]:
    """Return a list that gets an entry whenever a network's pass is traced by JAX."""
    from xprnn.engine import passes

    seen, real = [], passes.forward

    def counted(*args, **kwargs):
        if JAX.library.traced(args[3]):
            seen.append(str(args[3].shape))
        return real(*args, **kwargs)

    monkeypatch.setattr(passes, "forward", counted)
    return seen


def test_it_compiles_once_for_each_shape(monkeypatch):
    switched_on(monkeypatch)
    seen = compilations(monkeypatch)
    # Hidden units that no other test has: JAX remembers what it has compiled.
    net = RNN(2, 7, 2, backend=JAX, rng=0)
    for steps in (3, 3, 5, 3):
        x = JAX.asarray(np.ones((steps, 2, 2)))
        for _ in range(2):
            _, gradient = net.value_and_grad(x, x)
            net.parameters = {k: p - gradient.parameters[k] for k, p in net.parameters.items()}
    assert seen == ["(3, 2, 2)", "(5, 2, 2)"]
    # Lengths are an argument, not constants.
    for lengths in ([3, 2], [1, 3], [2, 2]):
        net.value_and_grad(
            JAX.asarray(np.ones((3, 2, 2))), JAX.asarray(np.ones((3, 2, 2))), lengths=lengths
        )
    assert len(seen) == 3


def test_zeros():
    make, dtype = JAX.library.zeros, JAX.dtype
    zeros = make((2, 3), dtype, JAX.device)
    assert zeros.committed
    assert JAX.library.device_of(zeros) == JAX.device
    assert zeros.tolist() == [[0, 0, 0], [0, 0, 0]]
    # One of them may be written into by a function that was given it for that.
    zeros.delete()
    assert make((2, 3), dtype, JAX.device).shape == (2, 3)
    with jax.enable_x64(False):
        assert make((2, 3), np.dtype("float32"), JAX.device).dtype == np.float32


SPREAD = """
import jax, numpy as np, xprnn
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

net = xprnn.RNN(2, 8, 2, cell="lstm", backend="jax", rng=0)
x = np.random.default_rng(0).normal(size=(5, 4, 2)).astype("float32")
want, _ = net.value_and_grad(net.backend.asarray(x), net.backend.asarray(x))
mesh = Mesh(jax.devices(), ("batch",))
spread = jax.device_put(x, NamedSharding(mesh, P(None, "batch")))
everywhere = jax.device_put(net, NamedSharding(mesh, P()))
got, _ = jax.jit(xprnn.RNN.value_and_grad)(everywhere, spread, spread)
print(len(jax.devices()), abs(float(got) - float(want)) < 1e-6)
"""


@pytest.mark.full
def test_a_batch_that_is_spread_over_devices():
    two = "--xla_force_host_platform_device_count=2"
    assert run_python(SPREAD, XLA_FLAGS=two, XPRNN_LOWERING="on") == "2 True\n"


def test_the_switches_leave_it_uncompiled(monkeypatch):
    switched_on(monkeypatch)
    seen = compilations(monkeypatch)
    net, x = RNN(2, 6, 2, backend=JAX, rng=0), JAX.asarray(np.ones((2, 1, 2)))
    with xprnn.disable_lowering():
        plain, _ = net(x)
        assert "lowering is disabled" in xprnn.explain_lowering("gru", JAX)
    monkeypatch.setenv("XPRNN_LOWERING", "numpy")
    net(x)
    assert "XPRNN_LOWERING is 'numpy'" in xprnn.explain_lowering("gru", JAX)
    assert seen == []
    monkeypatch.setenv("XPRNN_LOWERING", "on")
    assert "compiled by jax" in xprnn.explain_lowering("gru", JAX)
    assert_close(net(x)[0], plain, FLOAT64)
    assert len(seen) == 1


class Moody:
    """An Elman cell whose formula looks at values, so JAX can't compile it."""

    gates, state = 1, ("h",)

    def forward(self, xp, u, v, state):
        z = u[0] + v[0]
        h = xp.tanh(z) if bool(xp.all(z > -100)) else z
        return (h,), (h,)

    def backward(self, xp, saved, previous, d_state):
        dz = (d_state[0] * (1 - saved[0] * saved[0]),)
        return dz, dz, (None,)


def test_a_cell_that_cant_be_compiled_runs_as_it_is(monkeypatch):
    switched_on(monkeypatch)
    net, x = RNN(2, 3, cell=Moody(), backend=JAX, rng=0), JAX.asarray(np.ones((2, 1, 2)))
    like = RNN(2, 3, cell=Elman(), backend=JAX, rng=0)
    assert_close(net(x)[0], like(x)[0], FLOAT64)
    assert "not a frozen" in xprnn.explain_lowering(net.cell, JAX)


def test_unroll_and_its_backward_in_one_function():
    rng = np.random.default_rng(0)
    weights, x = (rng.normal(size=(12, 2)), rng.normal(size=(12, 3))), rng.normal(size=(5, 2, 2))
    dh = rng.normal(size=(5, 2, 3))

    def both(weights, x, dh):
        h, state, tape = xprnn.unroll("lstm", weights, x, lengths=[5, 2])
        return h, state, xprnn.unroll_backward("lstm", weights, tape, dh)

    got, want = jax.jit(both)(*on_jax((weights, x, dh))), both(weights, x, dh)
    for mine, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert_close(mine, other, FLOAT64)


def test_a_run_crosses_the_border():
    case = row_of("gru")
    ours, theirs = nets(case)
    p = case.problem()
    x, d_output = on_jax((p.x, p.d_output))
    run = jax.jit(RNN.forward)(theirs, x)
    got = jax.jit(RNN.backward)(theirs, run, d_output)
    want = ours.backward(ours.forward(p.x), p.d_output)
    assert_all_close(named(got), named(want), FLOAT64, FLOAT64)
    # A run that was made outside goes in, and one that was made inside comes out.
    assert_all_close(named(theirs.backward(run, d_output)), named(want), FLOAT64, FLOAT64)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("loss", [SquaredError, CrossEntropy])
def test_losses(loss, reduction):
    y = np.random.default_rng(0).normal(size=(4, 3, 5))
    target = y[::-1] if loss is SquaredError else np.arange(12).reshape(4, 3) % 5
    valid = np.arange(4)[:, None, None] < np.array([4, 2, 1])[None, :, None]
    rule = loss(reduction)
    for arguments in ((y, target), (y, target, valid)):
        want = rule.value_and_grad(*arguments)
        got = jax.jit(rule.value_and_grad)(*on_jax(arguments))
        assert_close(got[0], want[0], FLOAT64)
        assert_close(got[1], want[1], FLOAT64)


UPDATES = (
    *(row.ours for row in RULES),
    Averaged("adam"),
    ParameterGroups({"readout.*": None}, otherwise="rmsprop"),
    Adam(schedules.exponential(0.1, 0.5)),
)


# A schedule prints its address, and workers must collect the same names.
@pytest.mark.parametrize(
    "rule", UPDATES, ids=[f"{k}-{type(u).__name__}" for k, u in enumerate(UPDATES)]
)
def test_optimizers(rule):
    case = row_of("gru")
    ours, _ = nets(case)
    p = case.problem()
    gradients = ours.value_and_grad(p.x, p.target)[1].parameters
    traces = []

    @jax.jit
    def update(gradients, state, parameters):
        traces.append(None)
        return rule.update(gradients, state, parameters)

    mine, theirs = dict(ours.parameters), on_jax(dict(ours.parameters))
    my_state, their_state = rule.init(mine), rule.init(theirs)
    for _ in range(3):
        mine, my_state = rule.update(gradients, my_state, mine)
        theirs, their_state = update(on_jax(gradients), their_state, theirs)
    assert_all_close(theirs, mine, FLOAT64)
    # The number of updates is an argument, so that every update is the same function.
    assert len(traces) == 1
    # The state can go on outside.
    again, _ = rule.update(on_jax(gradients), their_state, theirs)
    want, _ = rule.update(gradients, my_state, mine)
    assert_all_close(again, want, FLOAT64)


def test_the_correction_of_adam_keeps_single_precision():
    """1 - 0.999 in single precision would be off by 6e-5."""
    with jax.enable_x64(False):
        be = get_backend("jax", dtype="float32")
        p = {"w": be.asarray([1.0])}
        g = {"w": be.asarray([0.25])}
        rule = Adam(0.5)
        moved, _ = jax.jit(rule.update)(g, rule.init(p), p)
        assert float(moved["w"][0]) == pytest.approx(0.5, rel=1e-6)


def test_sparse_gradients_have_places_to_spare():
    case = row_of("gru").but(I=9, O=9, embedding_size=3)
    ours, theirs = nets(case)
    x = case.problem().x
    want = ours.value_and_grad(x, x, "cross_entropy")[1].parameters
    got = STEP(theirs, *on_jax((x, x)), loss="cross_entropy")[1].parameters
    found, known = got["embedding.weight"].indices, want["embedding.weight"].indices
    assert len(found) == x.size > len(known)
    assert np.array_equal(found[: len(known)], known)
    assert np.all(found[len(known) :] == 9)
    for rule in (Adam(0.1), Adam(0.1, lazy=False, weight_decay=0.1)):
        mine, _ = rule.update(want, rule.init(ours.parameters), ours.parameters)
        inside, _ = jax.jit(rule.update)(got, rule.init(theirs.parameters), theirs.parameters)
        outside, _ = rule.update(got, rule.init(theirs.parameters), theirs.parameters)
        assert_all_close(inside, mine, FLOAT64)
        assert_all_close(outside, mine, FLOAT64)
    clipped, norm = jax.jit(lambda g: clip_by_norm(g, 0.01))(got)
    mine, my_norm = clip_by_norm(want, 0.01)
    assert_close(norm, my_norm, FLOAT64)
    assert_all_close(
        {k: dense(g) for k, g in clipped.items()}, {k: dense(g) for k, g in mine.items()}, FLOAT64
    )


def test_clipping_of_what_overflows():
    g = {"a": np.array([3e200, 4e200])}
    assert_close(jax.jit(lambda g: clip_by_norm(g, 1.0))(on_jax(g))[1], 5e200, FLOAT64)
    assert_close(jax.jit(lambda g: clip_by_value(g, 1.0))(on_jax(g))["a"], [1.0, 1.0], FLOAT64)


def test_what_is_wrong_with_shapes_and_dtypes_is_said():
    net, x = RNN(2, 3, 1, backend=JAX, rng=0), JAX.asarray(np.ones((4, 2, 2)))
    y = x[..., :1]
    with pytest.raises(ValueError, match=r"x has shape \(4, 2, 1\): expected \(T, B, 2\)"):
        STEP(net, y, y)
    with pytest.raises(ValueError, match=r"target has shape \(4, 2, 2\): expected \(4, 2, 1\)"):
        STEP(net, x, x)
    with pytest.raises(TypeError, match="x has dtype bool: expected floats"):
        STEP(net, x > 0, y)
    with pytest.raises(ValueError, match=r"lengths\[1\] is 5: expected 0 to 4"):
        STEP(net, x, y, lengths=(4, 5))
    with pytest.raises(ValueError, match=r"state\[0\] has shape \(1, 2\)"):
        STEP(net, x, y, state=(x[0, :1],))
    with pytest.raises(TypeError, match=r"lengths is .* expected integers on the host"):
        jax.jit(RNN.__call__)(net, x, None, JAX.asarray([4, 4]))
    gradients = dict(net.parameters) | {"readout.bias": x}
    with pytest.raises(ValueError, match=r"gradients\['readout.bias'\] has shape"):
        jax.jit(Adam().update)(gradients, Adam().init(net.parameters), dict(net.parameters))


def test_values_are_checked_outside_alone():
    net, x = RNN(2, 3, backend=JAX, rng=0), JAX.asarray(np.full((2, 1, 2), np.nan))
    with pytest.raises(ValueError, match=r"x\[0, 0, 0\] is nan: expected finite"):
        net(x)
    y, _ = jax.jit(RNN.__call__)(net, x)
    assert np.all(np.isnan(y))


def test_dropout_is_refused_where_its_masks_would_be_constants():
    net, x = RNN(2, 3, recurrent_dropout=0.5, backend=JAX, rng=0), JAX.asarray(np.ones((2, 1, 2)))
    with pytest.raises(ValueError, match="the same masks at every call"):
        jax.jit(RNN.forward)(net, x)
    with pytest.raises(ValueError, match="the same masks at every call"):
        jax.jit(lambda y: y + net.forward(x).output)(x[..., :1])
    jax.jit(RNN.__call__)(net, x)  # inference has none


def test_a_schedule_that_needs_an_int_is_refused():
    rule, p = Adam(schedules.warm_up(0.1, 5)), {"w": JAX.asarray([1.0])}
    with pytest.raises(TypeError, match=r"the schedule .* can't be compiled"):
        jax.jit(rule.update)(p, rule.init(p), p)


def test_parameters_that_became_constants_are_reported():
    net, x = RNN(2, 3, 1, backend=JAX, rng=0), JAX.asarray(np.ones((2, 1, 2)))
    old = dict(net.parameters)
    before = jax.jit(net.__call__)(x)[0]
    with pytest.warns(RuntimeWarning, match=r"jax\.jit\(RNN\.value_and_grad\)\(net, x, target\)"):
        net.parameters = {k: 2 * p for k, p in net.parameters.items()}
    assert not np.allclose(before, net(x)[0])
    jax.jit(lambda y: y + net(x)[0])(x[..., :1])
    with pytest.warns(RuntimeWarning, match="constants"):
        net.parameters["readout.bias"] = old["readout.bias"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.parameters["readout.bias"] = old["readout.bias"]
        # As an argument it is seen.
        call = jax.jit(RNN.__call__)
        net.parameters = {k: 2 * p for k, p in net.parameters.items()}
        assert_close(call(net, x)[0], net(x)[0], FLOAT64)
        net.parameters = old
        assert_close(call(net, x)[0], before, FLOAT64)


def test_derivatives_that_jax_takes_are_right():
    net, x = RNN(2, 3, 1, cell="gru", backend=JAX, rng=0), JAX.asarray(np.ones((4, 2, 2)))
    run = net.forward(x)
    want = net.backward(run, JAX.asarray(np.ones((4, 2, 1))))
    assert_close(jax.grad(lambda x: net(x)[0].sum())(x), want.input, FLOAT64)
    # Here x is a constant.
    found = jax.jit(jax.grad(lambda net: net(x)[0].sum()))(net)
    assert_all_close(dict(found.parameters), dict(want.parameters), FLOAT64)


@pytest.mark.full
def test_parity_compares_both_ways(monkeypatch):
    switched_on(monkeypatch)
    rules = {"sgd": Adam()}
    options = {"dtypes": ["float64"], "optimizers": rules, "steps": 0}
    x = np.random.default_rng(0).normal(size=(3, 2, 2))

    def make_net(backend):
        return RNN(2, 3, 1, backend=backend, rng=0)

    assert assert_parity(make_net, x, ["jax"], **options).agrees
    # A fault of the plain loop, which compiled passes don't run.
    from xprnn.engine.loop import plain

    real = plain.PlainLoops.forward

    def wrong(self, u, recurrent, state, *, save):
        right = not JAX.library.is_array(u)
        return real(self, u if right else 1.01 * u, recurrent, state, save=save)

    monkeypatch.setattr(plain.PlainLoops, "forward", wrong)
    with pytest.raises(AssertionError, match=r"output: .* \(not compiled\)"):
        assert_parity(make_net, x, ["jax"], **options)
