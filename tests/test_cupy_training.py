"""Trainings on the stand-in for CuPy: how much a step launches and waits, and what it computes."""

import itertools
import sys

import numpy as np
import pytest

from tests import cuda_host, device_arrays
from tests.cuda_trainings import same_as_numpy, series, text
from tests.device_arrays import EVENTS, NAMES, Device
from tests.optimizers import KINDS, RULES
from xprnn import RNN, evaluate, fit, get_backend
from xprnn.backend.registry import LIBRARIES
from xprnn.data import chunks, minibatches
from xprnn.optim import Adam, Averaged, global_norm
from xprnn.training.step import NonFiniteLossError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(cuda_host.COMPILER is None, reason="there is no C++ compiler"),
]


# Each kind of rule is traced and compiled; the others with FULL=1.
each_rule = pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.id, marks=[pytest.mark.full] * (row not in KINDS)) for row in RULES],
)


@pytest.fixture(autouse=True)
def device():
    with device_arrays.device_arrays():
        get_backend("cupy")  # proves that the device works, once
        yield


def of_a_step(make, **options):
    """Return what each step of a training adds to the events."""
    counts = []
    for batches in (4, 8, 12):
        net, batch, loss = make()
        EVENTS.clear()
        fit(net, [batch] * batches, loss=loss, optimizer=Adam(), **options)
        counts.append({name: EVENTS[name] for name in EVENTS})
    first, second = (
        {name: (b[name] - a.get(name, 0)) / 4 for name in b} for a, b in itertools.pairwise(counts)
    )
    assert first == second
    return first


@pytest.mark.parametrize(("loop", "more"), [("step", 8), ("persistent", 0)])
def test_launches_and_waits_of_a_step(loop, more, monkeypatch):
    """A loop of T steps is 2 T launches and as many products, or 2 launches and none."""
    monkeypatch.setenv("XPRNN_CUDA_LOOP", loop)
    numbers = of_a_step(series, clip_norm=1.0)
    assert numbers["read"] == 1
    assert numbers["launch"] == 21 + more <= 30
    assert numbers["product"] == 6 + (10 if more else 0)
    assert numbers["set"] <= 2
    assert "upload" not in numbers
    numbers = of_a_step(text, clip_norm=1.0)
    assert numbers["read"] == 1
    assert numbers["launch"] == 31 + more <= 40
    assert numbers["product"] == 4 + (10 if more else 0)


@pytest.mark.parametrize("make", [series, text])
def test_losses_that_are_read_together_are_waited_for_together(make):
    assert of_a_step(make, report_every=4)["read"] == 0.25


def test_losses_of_accumulated_batches_are_read_together():
    assert of_a_step(series, report_every=2, accumulate=2)["read"] == 0.25


@pytest.mark.parametrize("make", [series, text])
def test_clipping_by_value_and_weights_waits_for_nothing(make):
    """Nor do rules that clip in their formulas."""
    assert of_a_step(make, clip_value=0.1)["read"] == 1


@pytest.mark.parametrize("make", [series, text])
def test_an_evaluation_waits_once_a_batch(make):
    net, batch, loss = make()
    EVENTS.clear()
    evaluate(net, [batch] * 4, loss=loss)
    assert EVENTS["read"] == 4


@each_rule
def test_an_update_is_one_launch_and_waits_for_nothing(row):
    rule = row.ours
    net, _, _ = series()
    gradients = {name: p * 0.5 for name, p in net.parameters.items()}
    state = rule.init(net.parameters)
    EVENTS.clear()
    NAMES.clear()
    rule.update(gradients, state, net.parameters)
    # With weight decay there are two formulas.
    assert EVENTS["launch"] == NAMES["xprnn_update"] <= 2
    assert EVENTS["read"] == 0


@each_rule
@pytest.mark.parametrize("make", [series, text])
def test_trainings_are_those_of_numpy(make, row):
    same_as_numpy(make, row.ours)


def test_an_update_compiles_nothing_anew():
    net, batch, loss = series()
    fit(net, [batch] * 2, loss=loss, optimizer="adam")
    compiled = device_arrays.cuda_host.alone.cache_info().misses
    fit(net, [batch] * 3, loss=loss, optimizer=Adam(0.3, epsilon=1e-4))
    assert device_arrays.cuda_host.alone.cache_info().misses == compiled


@pytest.mark.parametrize("backend", ["numpy", "cupy"])
@pytest.mark.parametrize("make", [series, text])
def test_the_history_does_not_depend_on_when_losses_are_read(make, backend):
    found = []
    for report_every in (1, 2, 5):
        net, batch, loss = make(backend)
        history = fit(net, [batch] * 7, loss=loss, epochs=2, report_every=report_every)
        host = {name: net.backend.to_numpy(p).tobytes() for name, p in net.parameters.items()}
        found.append((history.records, host))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("backend", ["numpy", "cupy"])
def test_a_loss_that_is_not_finite_is_found_with_those_read_with_it(backend):
    net, (x, target), loss = series(backend)
    before = [x * 1.0] * 3
    batches = [(a, target) for a in (*before, x)] + [(x, target + 1e200)] + [(x, target)] * 4
    with pytest.raises(NonFiniteLossError, match=r"batch 5 \(losses are read together: here, af"):
        fit(net, batches, loss=loss, report_every=4, optimizer=Adam(1e-3))
    other, _, _ = series(backend)
    fit(other, batches[:4], loss=loss, report_every=4, optimizer=Adam(1e-3))
    error = None
    try:
        fit(series(backend)[0], batches, loss=loss, report_every=4, optimizer=Adam(1e-3))
    except NonFiniteLossError as raised:
        error = raised
    assert error.read == (5, 8)
    assert error.batch == 5


@pytest.mark.parametrize("report_every", [1, 3])
def test_input_that_is_not_finite_is_named(report_every):
    net, (x, target), loss = series()
    bad = x.get()
    bad[2, 1, 0] = np.inf
    bad = net.backend.asarray(bad)
    said = r"x\[2, 1, 0\] is " + ("inf" if report_every == 1 else "NaN, infinite or out of range")
    with pytest.raises(ValueError, match=said + ": expected finite") as caught:
        fit(net, [(a, target) for a in (x, bad, x, x)], loss=loss, report_every=report_every)
    assert "batch 2" in caught.value.__notes__[0]
    assert all(np.isfinite(p.get()).all() for p in net.parameters.values())


def test_tokens_out_of_range_are_named():
    net, (x, target), loss = text()
    for name, batch, also in (("x", (x + 2, target), ""), ("target", (x, target + 2), ", or -1")):
        with pytest.raises(ValueError, match=rf"{name}\[\d, \d\] is [45]: expected 0 to 3{also}"):
            fit(net, [batch], loss=loss)


def test_without_a_training_arguments_are_checked_at_once():
    net, (x, target), _ = series()
    with pytest.raises(ValueError, match=r"x\[0, 0, 0\] is nan: expected finite"):
        net.value_and_grad(x * np.nan, target)


@pytest.mark.parametrize("lengths", [None, (5, 3, 1)])
def test_two_devices(lengths):
    """A network on the second, while the first is the current one, all the way."""
    with device_arrays.device_arrays(devices=2):
        net = RNN(
            4, 3, 4, cell="gru", layers=2, bidirectional=True, backend="cupy", device="cuda:1",
            embedding_size=2, dropout=0.5, recurrent_dropout=0.5, rng=0,
        )  # fmt: skip
        tokens = net.backend.asarray(np.random.default_rng(0).integers(0, 4, (5, 3)))
        assert Device() == Device(0)
        output, state = net(tokens, lengths=lengths)
        run = net.forward(tokens, state=state, lengths=lengths)
        gradient = net.backward(run, net.backend.asarray(np.ones(output.shape)))
        value, other = net.value_and_grad(tokens, tokens, "cross_entropy", lengths=lengths)
        made = [output, *state, value, *(g for g in gradient.parameters.values())]
        made += [g.to_dense() if hasattr(g, "to_dense") else g for g in other.parameters.values()]
        norm = global_norm(other.parameters)
        for optimizer in ("adam", "sgd", "rprop", Averaged("rmsprop")):
            data = minibatches(tokens, tokens, 2, rng=0) if lengths is None else (tokens, tokens)
            fit(net, data, loss="cross_entropy", optimizer=optimizer, clip_norm=0.1, clip_value=1.0)
        made += [norm, *net.parameters.values()]
        for batches in (
            minibatches(tokens, tokens, 2, rng=0),
            minibatches(tokens, tokens, 2, shuffle=False),
            chunks(tokens, tokens, 2),
        ):
            made += [a for batch in batches for a in (batch.x, batch.target)]
        there = net.to("cupy", "cuda:0")
        assert all(p.device == Device(0) for p in there.parameters.values())
        for a in made:
            assert (a.values if hasattr(a, "indices") else a).device == Device(1)


def test_an_array_of_the_other_device_is_refused_or_brought():
    with device_arrays.device_arrays(devices=2):
        nets = [RNN(2, 3, 2, backend="cupy", device=f"cuda:{k}", rng=0) for k in range(2)]
        x, target = (nets[0].backend.asarray(np.zeros((2, 1, 2))) for _ in range(2))
        with pytest.raises(ValueError, match=r"x is on device .*0.*: .* in use is on .*1"):
            nets[1].value_and_grad(x, target)
        assert nets[1].backend.asarray(x).device == Device(1)
        gradients = {k: p * 1.0 for k, p in nets[0].parameters.items()}
        rule = Adam()
        with pytest.raises(ValueError, match=r"gradients\['.*'\] is on device .*: expected"):
            rule.update(gradients, rule.init(nets[1].parameters), nets[1].parameters)


def test_out_of_memory_is_said_with_numbers_and_changes_nothing(monkeypatch):
    class OutOfMemoryError(MemoryError):
        pass

    net, batch, loss = series()
    fit(net, [batch], loss=loss, optimizer="adam")
    before = {name: p.get() for name, p in net.parameters.items()}
    real, left = device_arrays._poisoned, [0]

    def small(*args, **options):
        left[0] -= 1
        if left[0] < 0:
            raise OutOfMemoryError("Out of memory allocating 4,096 bytes (allocated so far: 0).")
        return real(*args, **options)

    monkeypatch.setattr(sys.modules["cupy"], "empty", small)
    monkeypatch.setattr(LIBRARIES["cupy"].namespace(), "empty", small)
    for room in range(0, 30, 3):
        left[0] = room
        with pytest.raises(MemoryError, match=r"4,096 bytes .* 1,048,576 of the device's 17,179"):
            fit(net, [batch], loss=loss, optimizer="adam")
        for name, p in net.parameters.items():
            np.testing.assert_array_equal(p.get(), before[name])


def test_a_cell_that_is_not_lowered_is_said_once(caplog):
    class Odd:
        gates, state = 1, ("h",)

        def forward(self, xp, u, v, state):
            h = xp.tanh(u[0] + v[0])
            return (xp.reshape(h, h.shape),), (h,)

        def backward(self, xp, saved, previous, d_state):
            (h,), (dh,) = saved, d_state
            da = dh * (1 - h * h)
            return (da,), (da,), (None,)

    net = RNN(2, 3, 2, cell=Odd(), backend="cupy", rng=0)
    x = net.backend.asarray(np.zeros((3, 2, 2)))
    with caplog.at_level("WARNING", "xprnn"):
        for _ in range(3):
            net.value_and_grad(x, x)
    (record,) = caplog.records
    assert "Odd runs as plain array code, slowly on a device: Odd.forward can't" in record.message


def test_a_long_sequence_is_one_piece():
    """In segments there would be a product, a loop and sums for each."""
    rng = np.random.default_rng(0)
    net = RNN(1, 2, 1, backend="cupy", dtype="float64", rng=0)
    x = net.backend.asarray(rng.normal(size=(300, 64, 1)))
    run = net.forward(x)
    assert len(run.tape.layers[0].segments) == 1
    assert len(net.forward(x, recompute=True).tape.layers[0].segments) > 1


def test_a_gradient_for_users_holds_the_tokens_seen_and_no_others():
    net, (x, target), loss = text()
    _, gradient = net.value_and_grad(x, target, loss)
    assert gradient.parameters["weight_ih_l0"].indices.get().tolist() == [0, 1, 3]
