"""Padding anywhere: a batch with missing steps is its sequences without them."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cases import row_of
from tests.closeness import FLOAT64, assert_all_close, assert_close
from tests.harness import Harness, jax_in_full, on_every_backend, on_flavours
from tests.optional import optional
from tests.stacks import LENGTHS, SIZES, deep_of
from xprnn import RNN, disable_lowering, evaluate, fit, get_backend, unroll, unroll_backward
from xprnn.data import Batch, buckets, chunks, minibatches, pad
from xprnn.diagnostics import GradientFlow, gradient_flow
from xprnn.engine.gradients import SparseGradient, dense
from xprnn.engine.loop.numpy.loops import NumPyLoops
from xprnn.losses import SquaredError
from xprnn.optim import SGD

torch = optional("torch")

T, B, I, H, O = 8, 6, 2, 4, 3  # noqa: E741
RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(T, B, I)), RNG.normal(size=(T, B, O))
TOKENS = RNG.integers(0, 5, (T, B))
MASK = np.array(
    [
        [0, 1, 1, 0, 0, 1],
        [0, 0, 1, 1, 0, 1],
        [1, 0, 1, 0, 0, 1],
        [1, 1, 1, 0, 0, 1],
        [0, 1, 0, 0, 0, 1],  # the second sequence and the last but one never meet
        [1, 0, 0, 0, 0, 1],
        [1, 0, 0, 1, 0, 1],
        [0, 1, 0, 1, 0, 1],
    ],
    dtype=bool,
)
"""Missing in front, in between, at the end; one sequence has no steps, one has all."""
STATE = tuple(RNG.normal(size=(4, B, H)) for _ in range(2))


def network(cell="lstm", **options):
    return RNN(I, H, O, cell=cell, dtype="float64", rng=0, **options)


def layered(cell="lstm", **options):
    return network(cell, layers=2, bidirectional=True, **options)


def state_of(net, harness=None, b=None):
    found = [part if b is None else part[:, b : b + 1] for part in STATE[: len(net.cell.state)]]
    return tuple(found if harness is None else map(harness.array, found))


def one_by_one(net, to, window, returns="sequence"):
    """Return loss, and gradients of parameters, inputs and states, of each sequence alone."""
    loss, parameters, inputs, states = 0.0, {}, np.zeros(X.shape), []
    for b in range(B):
        at, column = MASK[:, b], slice(b, b + 1)
        target = Y[-1, column] if returns == "last" else Y[at][:, column]
        value, g = net.value_and_grad(
            to.array(X[at][:, column]),
            to.array(target),
            SquaredError("sum"),
            state_of(net, to, b),
            window=window,
        )
        loss += float(value)
        for name, part in to.hosts(g.parameters).items():
            parameters[name] = parameters.get(name, 0) + part
        inputs[at, b] = to.host(g.input)[:, 0]
        states.append([to.host(part)[:, 0] for part in g.state])
    return loss, parameters, inputs, [np.stack(part, axis=1) for part in zip(*states, strict=True)]


WAYS = [
    f"{cell}-{returns}-{window}"
    for cell in ("gru", "lstm")
    for returns in ("sequence", "last")
    for window in ("whole", "window")
]


@on_every_backend(WAYS, on_jax=["lstm-sequence-window"], argument="way")
def test_a_batch_is_its_sequences_one_by_one(way, harness):
    cell, returns, window = way.split("-")
    window = 2 if window == "window" else None
    harness = harness.at("float64")
    net = layered(cell, returns=returns, backend=harness.backend)
    x = np.where(MASK[..., None], X, 1e300)
    target = Y[-1] if returns == "last" else np.where(MASK[..., None], Y, 1e300)
    value, gradient = net.value_and_grad(
        harness.array(x),
        harness.array(target),
        SquaredError("sum"),
        state_of(net, harness),
        window=window,
        mask=MASK,
    )
    alone, on = net, harness
    if harness.backend.name == "jax":
        # JAX compiles anew for each length.
        alone, on = layered(cell, returns=returns), Harness(get_backend("numpy", dtype="float64"))
    loss, parameters, inputs, states = one_by_one(alone, on, window, returns)
    assert_close(float(value), loss, FLOAT64)
    assert_all_close(harness.hosts(gradient.parameters), parameters, FLOAT64)
    assert_close(harness.host(gradient.input), inputs, FLOAT64)
    for got, want in zip(gradient.state, states, strict=True):
        assert_close(harness.host(got), want, FLOAT64)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("window", [None, 0, 1, 3])
@pytest.mark.parametrize("loop", ["plain", "numpy", "default"])
@pytest.mark.parametrize("name", ["elman-tanh", "gru", "lstm-everything", "gru-reset-before"])
def test_every_loop(name, loop, window, recompute, monkeypatch):
    if recompute and window is not None:
        pytest.skip("a window needs the whole tape")
    if loop != "default":
        monkeypatch.setenv("XPRNN_LOWERING", "off" if loop == "plain" else loop)
    net = layered(row_of(name).cell)
    state = state_of(net)
    sum_of = SquaredError("sum")
    options = {"window": window, "recompute": recompute}
    seen, sweeps = [], NumPyLoops.sweeps
    monkeypatch.setattr(NumPyLoops, "sweeps", lambda *given: seen.append(1) or sweeps(*given))
    found = net.value_and_grad(X, Y, sum_of, state, mask=MASK, **options)
    lowered = window is not None and loop != "plain" and name != "lstm-everything"
    assert bool(seen) == lowered
    for b in range(B):
        at, column = MASK[:, b], slice(b, b + 1)
        part = net.value_and_grad(
            X[at][:, column], Y[at][:, column], sum_of, state_of(net, b=b), **options
        )[1]
        assert_close(found[1].input[at, b], part.input[:, 0], FLOAT64)
        assert not found[1].input[~at, b].any()
        for got, want in zip(found[1].state, part.state, strict=True):
            assert_close(got[:, b], want[:, 0], FLOAT64)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_where_a_step_is_missing(cell):
    """The state is held and the output is zero; the last output is that of the last step."""
    net = layered(cell)
    y, final = net(X, state_of(net), mask=MASK)
    assert not y[~MASK].any()
    assert np.all(y[MASK])
    last, _ = layered(cell, returns="last")(X, state_of(net), mask=MASK)
    for b in range(B):
        alone, ends = net(X[MASK[:, b], b][:, None], state_of(net, b=b))
        assert_close(y[MASK[:, b], b], alone[:, 0], FLOAT64)
        for got, want in zip(final, ends, strict=True):
            assert_close(got[:, b], want[:, 0], FLOAT64)
    # A sequence without steps ends in its initial state, and that is read out.
    R, r = net.parameters["readout.weight"], net.parameters["readout.bias"]
    assert np.array_equal(final[0][:, 4], STATE[0][:, 4])
    assert_close(last[4], R @ np.concatenate([STATE[0][2, 4], STATE[0][3, 4]]) + r, FLOAT64)


def test_against_a_loop_of_torch():
    """A loop over steps of torch's own LSTM cell that takes or leaves each new state."""
    net = network(initializer="normal")
    judge = torch.nn.LSTMCell(I, H, dtype=torch.float64)
    names = {"weight_ih": "weight_ih_l0", "weight_hh": "weight_hh_l0", "bias_ih": "bias_l0"}
    rows = np.arange(4 * H)  # both have the order i, f, g, o
    with torch.no_grad():
        judge.bias_hh.zero_()
        for theirs, ours in names.items():
            getattr(judge, theirs).copy_(torch.tensor(net.parameters[ours][rows]))
    R, r = (torch.tensor(net.parameters[f"readout.{k}"]) for k in ("weight", "bias"))
    h, c = (torch.zeros(B, H, dtype=torch.float64) for _ in range(2))
    mask, loss = torch.tensor(MASK), 0.0
    for t in range(T):
        new = judge(torch.tensor(X[t]), (h, c))
        h, c = (torch.where(mask[t, :, None], a, b) for a, b in zip(new, (h, c), strict=True))
        off = (h @ R.T + r - torch.tensor(Y[t]))[mask[t]]
        loss = loss + (off**2).sum()
    loss = loss / (2 * MASK.sum() * O)
    loss.backward()
    value, gradient = net.value_and_grad(X, Y, SquaredError("mean"), mask=MASK)
    assert float(value) == pytest.approx(float(loss.detach()), rel=1e-12)
    for theirs, ours in names.items():
        want = getattr(judge, theirs).grad.numpy()
        assert_close(gradient.parameters[ours][rows], want, 1e-12)


@pytest.mark.parametrize("cell", ["elman", "lstm"])
def test_against_keras(cell):
    """Its mask holds the state, too; where a step is missing it repeats the output before."""
    data = json.loads((Path(__file__).parent / "keras_masks.json").read_text())
    want = {name: np.array(a) for name, a in data[cell].items()}
    x, mask, d_h = (np.array(data[name]) for name in ("x", "mask", "d_state"))
    weights = want["W"], want["U"], want["b"]
    h, state, tape = unroll(cell, weights, x, mask=mask)
    zeros = tuple(np.zeros_like(part) for part in state[1:])
    gradient = unroll_backward(cell, weights, tape, None, (d_h, *zeros))
    assert_close(h[mask], want["y"][mask], 1e-12)
    assert_close(state[0], want["h"], 1e-12)
    assert_close(gradient.x, want["dx"], 1e-12)
    for name in ("W", "U", "b"):
        assert_close(getattr(gradient.weights, name), want[f"d{name}"], 1e-12)


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_the_same_bits_as_lengths(loss):
    steps = np.arange(SIZES["T"])[:, None] < np.array(LENGTHS)
    case = deep_of("lstm-everything")
    net, problem = case.make(dtype="float64", rng=0), case.problem()
    target = problem.target
    if loss == "cross_entropy":
        target = np.zeros(target.shape[:-1], int)
    for window in (None, 1):
        a = net.value_and_grad(problem.x, target, loss, lengths=LENGTHS, window=window, rng=1)
        b = net.value_and_grad(problem.x, target, loss, mask=steps, window=window, rng=1)
        assert a[0] == b[0]
        assert_all_close(b[1].parameters, a[1].parameters, 0.0)
    whole = net(problem.x, mask=np.ones_like(steps))[0]
    assert np.array_equal(whole, net(problem.x)[0])


@pytest.mark.parametrize("mask", [MASK, MASK[:, :4]], ids=["a sequence without", "each has some"])
@pytest.mark.parametrize("embedding_size", [None, 3])
def test_tokens_that_are_missing_are_not_seen(mask, embedding_size):
    net = RNN(9, H, O, embedding_size=embedding_size, dtype="float64", rng=0)
    count, found = mask.shape[1], []
    tokens, target = TOKENS[:, :count], Y[:, :count]
    for missing in (0, 8, -100):
        x = np.where(mask, tokens, missing)
        value, gradient = net.value_and_grad(x, target, mask=mask)
        g = gradient.parameters["weight_ih_l0" if embedding_size is None else "embedding.weight"]
        assert isinstance(g, SparseGradient)
        assert g.indices.tolist() == sorted(set(tokens[mask].tolist()))
        found.append((value, g.values.tobytes()))
    assert len(set(found)) == 1


@on_flavours("numpy", "strict", "torch")
def test_derivatives_along_a_direction(harness):
    """The gradient agrees with forward-mode differentiation, which uses no backward pass."""
    harness = harness.at("float64")
    net, rng = layered("gru", backend=harness.backend), np.random.default_rng(0)
    d = {name: rng.normal(size=tuple(p.shape)) for name, p in net.parameters.items()}
    d_x, d_state = rng.normal(size=X.shape), (rng.normal(size=STATE[0].shape),)
    to = harness.array
    tangents = net.jvp(
        *(to(X), to(d_x), harness.named(d), harness.arrays(d_state), state_of(net, harness)),
        mask=MASK,
    )
    run = net.forward(to(X), state_of(net, harness), mask=MASK)
    w, w_state = rng.normal(size=Y.shape), (rng.normal(size=STATE[0].shape),)
    g = net.backward(run, to(w), harness.arrays(w_state))
    want = np.sum(w * harness.host(tangents.d_output))
    want += np.sum(w_state[0] * harness.host(tangents.d_state[0]))
    got = sum(np.sum(harness.host(dense(g.parameters[k])) * d[k]) for k in d)
    got += np.sum(harness.host(g.input) * d_x) + np.sum(harness.host(g.state[0]) * d_state[0])
    assert got == pytest.approx(want, rel=1e-12)


def test_hessian():
    net = network("gru")
    d = {name: np.ones(p.shape) for name, p in net.parameters.items()}
    got = net.hvp(X, Y, d, SquaredError("sum"), mask=MASK)
    parts = [
        net.hvp(X[MASK[:, b], b][:, None], Y[MASK[:, b], b][:, None], d, SquaredError("sum"))
        for b in range(B)
    ]
    assert_all_close(got, {k: sum(part[k] for part in parts) for k in d}, FLOAT64)


@pytest.mark.parametrize("window", [None, 1])
def test_unroll(window):
    net = network("gru")
    p = net.parameters
    weights = (p["weight_ih_l0"], p["weight_hh_l0"], p["bias_l0"], (p["bias_hn_l0"],))
    dh = RNG.normal(size=(T, B, H))
    h, state, tape = unroll("gru", weights, X, mask=MASK)
    gradient = unroll_backward("gru", weights, tape, dh, window=window)
    total = 0.0
    for b in range(B):
        at = MASK[:, b]
        one, end, part = unroll("gru", weights, X[at][:, b : b + 1])
        total = (
            total + unroll_backward("gru", weights, part, dh[at][:, b : b + 1], window=window)[0].U
        )
        assert_close(h[at, b], one[:, 0], FLOAT64)
        assert_close(state[0][b], end[0][0], FLOAT64)
    assert not h[~MASK].any()
    assert_close(gradient.weights.U, total, FLOAT64)


@jax_in_full
@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0)])
@pytest.mark.parametrize("returns", ["sequence", "last"])
@pytest.mark.parametrize("tokens", [False, True])
def test_no_steps_or_no_sequences(shape, returns, tokens, harness):
    """Empty arrays come out, the state goes through, every gradient is zero."""
    harness = harness.at("float64")
    steps, count = shape
    net = RNN(I, H, O, cell="lstm", bidirectional=True, returns=returns, backend=harness.backend)
    x = np.zeros(shape, int) if tokens else np.zeros((*shape, I))
    x = harness.backend.asarray(x)
    state = tuple(harness.array(RNG.normal(size=(2, count, H))) for _ in range(2))
    y, final = net(x, state)
    out = (count, O) if returns == "last" else (steps, count, O)
    assert harness.host(y).shape == out
    if steps == 0:
        assert all(map(np.array_equal, map(harness.host, final), map(harness.host, state)))
    for options in ({}, {"window": 1}, {"recompute": True}, {"mask": np.zeros(shape, bool)}):
        run = net.forward(x, state, recompute=options.get("recompute", False))
        outer = tuple(harness.array(np.ones((2, count, H))) for _ in range(2))
        g = net.backward(run, harness.array(np.zeros(out)), outer, options.get("window"))
        if steps == 0:
            assert all(np.all(harness.host(part) == 1) for part in g.state)
        value, g = net.value_and_grad(x, harness.array(np.zeros(out)), state=state, **options)
        assert returns == "last" or float(value) == 0
        if returns == "sequence":
            assert not any(np.any(harness.host(dense(a))) for a in g.parameters.values())
        for name, a in g.parameters.items():
            assert tuple(a.shape) == tuple(net.parameters[name].shape)


def test_nothing_to_learn_from():
    for batch in (
        Batch(X, Y, mask=np.zeros((T, B), bool)),
        Batch(X, Y, lengths=[0] * B),
        Batch(X[:0], Y[:0]),
    ):
        value, gradient = network().value_and_grad(
            batch.x, batch.target, lengths=batch.lengths, mask=batch.mask
        )
        assert value == 0
        assert not any(np.any(g) for g in gradient.parameters.values())
        with pytest.raises(ValueError, match="nothing to evaluate: one batch without an entry"):
            evaluate(network(), batch)
        with pytest.raises(ValueError, match="nothing to train on in epoch 1"):
            fit(network(), batch, epochs=1)


def test_training():
    """A step on a batch is the step on its sequences, whose loss is a sum."""
    net, alone = network(), network()
    batch = Batch(X, Y, mask=MASK)
    loss = evaluate(net, batch)
    some = [b for b in range(B) if MASK[:, b].any()]
    parts = [(X[MASK[:, b], b][:, None], Y[MASK[:, b], b][:, None]) for b in some]
    mean = np.average([evaluate(alone, part) for part in parts], weights=MASK.sum(axis=0)[some])
    assert loss == pytest.approx(mean, rel=1e-12)
    history = fit(net, batch, optimizer=SGD(0.1), epochs=1, callbacks=[GradientFlow()])
    assert history.records[0].loss == pytest.approx(loss, rel=1e-12)
    _, g = alone.value_and_grad(X, Y, mask=MASK)
    for name, p in alone.parameters.items():
        assert_close(net.parameters[name], p - 0.1 * g.parameters[name], FLOAT64)


def test_batches_of_some_sequences_or_steps():
    seen = np.zeros_like(MASK)
    for batch in minibatches(X, Y, 4, mask=MASK, rng=0):
        for k in range(batch.x.shape[1]):
            (b,) = np.flatnonzero(np.all(batch.x[:, k : k + 1] == X, axis=(0, 2)))
            seen[:, b] = batch.mask[:, k]
    assert np.array_equal(seen, MASK)
    assert next(iter(minibatches(X, Y, 4, mask=np.ones((T, B), bool)))).mask is None
    parts = list(chunks(X, Y, 3, mask=MASK))
    assert np.array_equal(np.concatenate([part.mask for part in parts]), MASK)
    net, state, outputs = network("gru"), None, []
    for part in parts:
        y, state = net(part.x, state if part.carry else None, mask=part.mask)
        outputs.append(y)
    whole, final = net(X, mask=MASK)
    assert_close(np.concatenate(outputs), whole, FLOAT64)
    assert_close(state[0], final[0], FLOAT64)


def test_padding_at_the_front():
    lengths = [3, 5, 0, 1]
    sequences = [RNG.normal(size=(n, I)) for n in lengths]
    x, mask = pad(sequences, side="front")
    for k, a in enumerate(sequences):
        assert np.array_equal(x[mask[:, k], k], a)
        assert mask[5 - lengths[k] :, k].all()
    net = network()
    back, ends = pad(sequences)
    assert ends == tuple(lengths)
    front, state = net(x, mask=mask)
    behind, other = net(back, lengths=ends)
    for k, n in enumerate(lengths):
        assert_close(front[5 - n :, k], behind[:n, k], FLOAT64)
    for got, want in zip(state, other, strict=True):
        assert_close(got, want, FLOAT64)
    targets = [RNG.normal(size=(n, O)) for n in lengths]
    for batch in buckets(sequences, targets, 2, side="front", rng=0):
        assert batch.lengths is None
        assert not batch.x[~batch.mask].any()
        assert np.all(batch.target[batch.mask])
    with pytest.raises(ValueError, match="side is 'left': expected 'end' or 'front'"):
        pad(sequences, side="left")


def test_gradient_flow():
    """What is measured is the sequences without their missing steps."""
    net = network("gru")
    some = MASK[:, [0, 1, 5]]
    x, y = X[:, [0, 1, 5]], Y[:, [0, 1, 5]]
    parts = [k.nonzero()[0] for k in some.T]
    closed, target = (pad([a[at, b] for b, at in enumerate(parts)])[0] for a in (x, y))
    ends = some.sum(axis=0).tolist()
    want = gradient_flow(net, closed, target, lengths=ends, matrix=True)
    got = gradient_flow(net, x, y, mask=some, matrix=True)
    assert_close(got.norms, want.norms, FLOAT64)
    assert_close(got.matrix, want.matrix, FLOAT64)


NET = network()
BAD = {
    "floats": (MASK * 1.0, TypeError, r"float64: expected an array of bool, \(8, 6\) \(mask != 0"),
    "integers": (MASK * 1, TypeError, r"expected an array of bool, \(8, 6\) \(mask != 0 makes"),
    "a list of integers": (MASK.astype(int).tolist(), TypeError, "expected an array of bool"),
    "transposed": (MASK.T, ValueError, r"mask has shape \(6, 8\): expected \(8, 6\), steps and"),
    "with a feature axis": (MASK[..., None], ValueError, r"mask has shape \(8, 6, 1\): expected"),
    "too short": (MASK[1:], ValueError, r"mask has shape \(7, 6\): expected \(8, 6\)"),
    "ragged": ([[True], [True, False]], TypeError, "mask is list: expected an array of bool"),
    "text": ("yes", TypeError, "mask is str: expected an array of bool"),
    "a bool": (True, TypeError, "mask is bool: expected an array of bool"),
    "masked": (np.ma.masked_array(MASK, MASK), TypeError, "mask is numpy.MaskedArray"),
}


@pytest.mark.parametrize(("mask", "error", "message"), BAD.values(), ids=BAD)
def test_what_is_no_mask(mask, error, message):
    for call in (
        lambda: NET(X, mask=mask),
        lambda: NET.value_and_grad(X, Y, mask=mask),
        lambda: fit(NET, Batch(X, Y, mask=mask), epochs=1),
        lambda: evaluate(NET, Batch(X, Y, mask=mask)),
        lambda: minibatches(X, Y, 2, mask=mask),
        lambda: gradient_flow(NET, X, Y, mask=mask),
    ):
        with pytest.raises(error, match=message):
            call()


def test_not_both():
    with pytest.raises(ValueError, match="lengths and mask are given: expected one of them"):
        NET(X, lengths=[T] * B, mask=MASK)


def test_masks_of_other_libraries_and_lists():
    want = NET(X, mask=MASK)[0]
    for mask in (MASK.tolist(), torch.tensor(MASK), np.asfortranarray(MASK)):
        assert np.array_equal(NET(X, mask=mask)[0], want)
    away = torch.empty((T, B), dtype=torch.bool, device="meta")
    with pytest.raises(TypeError, match=r"on device meta: expected an array on the host"):
        NET(X, mask=away)


def test_the_plain_loop_and_the_others():
    found = NET.value_and_grad(X, Y, mask=MASK)[1]
    with disable_lowering():
        plain = NET.value_and_grad(X, Y, mask=MASK)[1]
    assert_all_close(found.parameters, plain.parameters, FLOAT64)
