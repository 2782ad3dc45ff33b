"""Subclasses of NumPy's array, arrays of other backends, and integers of any kind."""

import re
import warnings

import numpy as np
import pytest

import xprnn
from xprnn import RNN, data, get_backend
from xprnn.data import NGram, Scaling
from xprnn.optim import SGD

torch = pytest.importorskip("torch")
strict = pytest.importorskip("array_api_strict")

X = np.random.default_rng(0).normal(size=(6, 2, 1))
NET = RNN(1, 4, 1, cell="gru", dtype="float64", rng=0)
TOKENS = RNN(5, 4, 5, dtype="float64", rng=0)


class Length(np.ndarray):
    """An array of lengths with a unit, as packages of quantities have."""

    def __mul__(self, other):
        raise AssertionError("the product of lengths is an area")


class Logged(np.ndarray):
    """As astropy's and unyt's quantities."""

    def __array_ufunc__(self, *args, **kwargs):
        raise AssertionError("this must not be computed with")


class Named(np.ndarray):
    """A view with a name, and the arithmetic of its base."""

    def __array_finalize__(self, other):
        self.name = getattr(other, "name", "none")


def matrix(a):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.matrix(a)


MASKED = [
    np.ma.array(X),
    np.ma.array(X, mask=X > 1),
    np.ma.array(X.astype("float32"), mask=X > 1),
    X[:, :, 0].view(np.ma.MaskedArray),
]
UNITS = [X.view(Length), X.view(Logged), matrix(X[:, :, 0])]
T = np.random.default_rng(1).integers(0, 5, (6, 2))

USES = {
    "network": NET,
    "forward": NET.forward,
    "lengths": lambda a: NET(a, lengths=[6, 3]),
    "target": lambda a: NET.value_and_grad(X, a),
    "target and lengths": lambda a: NET.value_and_grad(X, a, lengths=[6, 3]),
    "state": lambda a: NET(X, (a,)),
    "d_output": lambda a: NET.backward(NET.forward(X), a),
    "parameters": lambda a: NET.parameters.update({"weight_hh_l0": a}),
    "unroll": lambda a: xprnn.unroll("elman", (np.ones((2, 1)), np.ones((2, 2))), a),
    "weights": lambda a: xprnn.unroll("elman", (a, np.ones((2, 2))), X),
    "asarray": NET.backend.asarray,
    "asarray of a list": lambda a: NET.backend.asarray([[a], [a]]),
    "asarray to torch": lambda a: get_backend("torch").asarray(a),
    "another backend": RNN(1, 4, backend="torch", rng=0),
    "windows": lambda a: data.windows(a[:, 0], 2),
    "scaling": lambda a: Scaling.fitted(a[:, 0]),
    "apply": lambda a: Scaling(0.0, 1.0).apply(a),
    "invert": lambda a: Scaling(0.0, 1.0).invert(a),
    "persistence": lambda a: data.persistence(a[:, 0]),
    "autoregression": lambda a: data.Autoregression.fitted(a[:, 0], 1),
    "rmse": lambda a: data.rmse(a, X),
    "minibatches": lambda a: data.minibatches(a, X, 2),
    "minibatches' target": lambda a: data.minibatches(X, a, 2),
    "chunks": lambda a: data.chunks(a, X, 2),
    "fit": lambda a: xprnn.fit(NET, (X, a)),
    "evaluate": lambda a: xprnn.evaluate(NET, (X, a)),
    "optimizer": lambda a: xprnn.optim.Adam().init({"w": a}),
    "gradient": lambda a: SGD().update({"w": a}, SGD().init({"w": X}), {"w": X}),
    "clipping": lambda a: xprnn.optim.clip_by_norm({"w": a}, 1.0),
    "state dict": lambda a: xprnn.interop.torch.from_state_dict({"weight_ih_l0": a}),
}  # fmt: skip


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("a", MASKED)
def test_masked_arrays_are_refused(use, a):
    with pytest.raises(TypeError, match=r"masks are not supported; fill the gaps first, as .*fill"):
        use(a)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("a", UNITS, ids=lambda a: type(a).__name__)
def test_other_arithmetic_is_refused(use, a):
    with pytest.raises(TypeError, match=r"has an arithmetic of its own; pass its plain numbers"):
        use(a)


@pytest.mark.parametrize(
    "use",
    [
        TOKENS,
        lambda a: TOKENS.value_and_grad(T, a, "cross_entropy"),
        lambda a: data.text.streams(a[:, 0], 1),
        lambda a: NGram.fitted([a[:, 0]], 1, 5),
        lambda a: TOKENS(T, lengths=a[0] + 1),
        lambda a: NET.backend.asarray([1.0, np.ma.masked]),
    ],
)
def test_masked_integers_are_refused(use):
    with pytest.raises(TypeError, match=r"masks are not supported|lengths is numpy.MaskedArray"):
        use(np.ma.array(T, mask=T == 1))


def test_what_the_advice_says_works():
    a = UNITS[1]
    assert np.array_equal(NET(np.array(a, subok=False))[0], NET(X)[0])
    assert NET(MASKED[1].filled(0.0))[0].shape == X.shape


def test_plain_views(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    record = np.rec.fromarrays([X, X > 0], names="x,sign")
    named = X.view(Named)
    want, gradient = NET(X)[0], NET.value_and_grad(X, X)[1]
    assert type(mapped) is np.memmap
    for a in (mapped, record.x, record["x"], named, X[::-1][::-1]):
        assert type(NET(a)[0]) is np.ndarray
        assert np.array_equal(NET(a)[0], want)
        found = NET.value_and_grad(a, a)[1]
        for name, g in gradient.parameters.items():
            assert type(found.parameters[name]) is np.ndarray
            assert np.array_equal(found.parameters[name], g)
        assert type(found.input) is np.ndarray
        assert np.array_equal(data.windows(a[:, 0, 0], 2)[0], data.windows(X[:, 0, 0], 2)[0])
        assert type(next(iter(data.chunks(a, a, 3))).x) is not np.memmap
    np.save(tmp_path / "t.npy", T)
    tokens = np.load(tmp_path / "t.npy", mmap_mode="r")
    value = TOKENS.value_and_grad(tokens, tokens, "cross_entropy")[0]
    assert value == TOKENS.value_and_grad(T, T, "cross_entropy")[0]


@pytest.mark.parametrize("mine", ["numpy", "torch", "jax", "array_api_strict"])
@pytest.mark.parametrize("theirs", ["numpy", "torch", "jax", "array_api_strict"])
def test_the_way_from_one_backend_to_another(mine, theirs):
    """What the message says is code that works."""
    if mine == theirs:
        return
    net = RNN(1, 4, backend=mine, rng=0)
    x = get_backend(theirs).asarray(X)
    with pytest.raises(TypeError, match="expected an array of the backend") as error:
        net(x)
    code = re.search(r"\(x = (.*) makes one", str(error.value))[1]
    names = {
        "net": net,
        "x": x,
        "numpy": np,
        "array_api_strict": strict,
    }
    assert tuple(net(eval(code, names))[0].shape) == (6, 2, 4)
    if theirs != "numpy":
        with pytest.raises(TypeError, match="take it to the host first, as ") as error:
            net.backend.asarray(x)
        code = re.search(r"first, as (.*) does for an array a", str(error.value))[1]
        host = eval(code, names | {"a": x})
        assert tuple(net(net.backend.asarray(host))[0].shape) == (6, 2, 4)


def test_torch_tensors_that_numpy_does_not_take():
    for x in (torch.tensor(X, requires_grad=True), torch.tensor(X, dtype=torch.bfloat16)):
        with pytest.raises(TypeError, match="makes one") as error:
            NET(x)
        code = re.search(r"\(x = (.*) makes one", str(error.value))[1]
        assert eval(code, {"net": NET, "x": x}).shape == X.shape


@pytest.mark.parametrize("big", [2**63, 2**63 + 3, 2**64 - 2, 2**64 - 1])
def test_unsigned_tokens(big):
    bad = T.astype("uint64")
    bad[1, 1] = big
    with pytest.raises(
        ValueError, match=rf"target\[1, 1\] is {big}: expected 0 to 4, or -1 for pa"
    ):
        TOKENS.value_and_grad(T, bad, "cross_entropy")
    with pytest.raises(ValueError, match=rf"x\[1, 1\] is {big}: expected 0 to 4$"):
        TOKENS(bad)
    value = TOKENS.value_and_grad(T.astype("uint64"), T.astype("uint8"), "cross_entropy")[0]
    assert value == TOKENS.value_and_grad(T, T, "cross_entropy")[0]


def test_minus_one_is_padding_of_targets_only():
    with pytest.raises(
        ValueError, match=r"x\[0, 0\] is -1: expected 0 to 4 \(padding takes any to"
    ):
        TOKENS(np.full((2, 2), -1))


def kinds_of_lengths():
    yield [4, 2]
    yield (4, 2)
    yield range(4, 0, -2)
    yield np.array([4, 2], "uint8")
    yield [np.array(4), np.int8(2)]
    yield torch.tensor([4, 2])
    yield list(torch.tensor([4, 2]))
    yield get_backend("jax").asarray([4, 2])
    yield get_backend("array_api_strict").asarray([4, 2])
    yield np.array([4, 2]).view(Named)
    try:
        import pandas as pd
    except ImportError:
        return
    yield pd.Series([4, 2], index=["a", "b"])
    yield pd.Index([4, 2])


@pytest.mark.parametrize("lengths", [*kinds_of_lengths()], ids=lambda a: type(a).__name__)
def test_lengths(lengths):
    want = NET(X, lengths=[4, 2])[0]
    assert np.array_equal(NET(X, lengths=lengths)[0], want)
    weights = tuple(NET.parameters[k] for k in ("weight_ih_l0", "weight_hh_l0", "bias_l0"))
    assert xprnn.unroll("gru", weights, X, lengths=lengths).h.shape == (6, 2, 4)
    batches = data.minibatches(X, X, 1, lengths=lengths, shuffle=False)
    assert [batch.lengths for batch in batches] == [[4], [2]]
    given = xprnn.data.Batch(X, X, lengths=lengths)
    assert xprnn.evaluate(NET, given) == NET.value_and_grad(X, X, lengths=[4, 2])[0]
    assert len(xprnn.fit(NET.to("numpy"), given)) == 1


@pytest.mark.parametrize(
    "lengths",
    [
        {4: 1, 2: 1},
        {4, 2},
        iter([4, 2]),
        torch.tensor([4.0, 2.0]),
        torch.tensor([True, True]),
        [torch.tensor(4.0), 2],
        np.array([True, True]),
        b"ab",
    ],
    ids=lambda a: type(a).__name__,
)
def test_what_are_no_lengths(lengths):
    with pytest.raises(TypeError, match=r"lengths is "):
        NET(X, lengths=lengths)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("name", ["numpy", "torch", "array_api_strict"])
def test_what_is_beyond_an_end_is_never_looked_at(name, value):
    be = get_backend(name, dtype="float32")
    net, lengths = RNN(1, 4, 1, cell="lstm", backend=be, rng=0), [6, 3]
    clean = X.copy()
    clean[3:, 1] = 0
    spoiled = clean.copy()
    spoiled[3:, 1] = value

    def wide(a):
        return be.asarray(a, dtype="float64")

    def numbers(x, target):
        run = net.forward(x, lengths=lengths)
        loss, gradient = net.value_and_grad(x, target, lengths=lengths)
        parts = [net(x, lengths=lengths)[0], run.output, loss, gradient.input]
        parts += [net.backward(run, target).input, *gradient.parameters.values()]
        parts += [xprnn.evaluate(net, data.Batch(x, target, lengths=lengths))]
        weights = tuple(net.parameters[k] for k in ("weight_ih_l0", "weight_hh_l0", "bias_l0"))
        parts += [xprnn.unroll("lstm", weights, x, lengths=lengths).h]
        return [np.asarray(a if isinstance(a, float) else be.to_numpy(a)) for a in parts]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pairs = zip(
            numbers(wide(clean), wide(clean)), numbers(wide(spoiled), wide(spoiled)), strict=True
        )
        assert all(np.array_equal(a, b) for a, b in pairs)
    copy = net.to(be)
    xprnn.fit(copy, data.Batch(wide(spoiled), wide(spoiled), lengths=lengths), epochs=2)
    with pytest.raises(ValueError, match=r"x\[3, 1, 0\] is (nan|inf): expected finite"):
        net(wide(spoiled))


@pytest.mark.parametrize("value", [-1, 5, 10**6])
@pytest.mark.parametrize("embedding", [None, 3])
def test_tokens_beyond_an_end_are_never_looked_at(embedding, value):
    net = RNN(5, 4, 5, embedding_size=embedding, dtype="float64", rng=0)
    spoiled = T.copy()
    spoiled[3:, 1] = value
    a = net.value_and_grad(T, T, "cross_entropy", lengths=[6, 3])
    b = net.value_and_grad(spoiled, spoiled, "cross_entropy", lengths=[6, 3])
    assert a[0] == b[0]
    for name, g in a[1].parameters.items():
        assert np.array_equal(*(getattr(p, "values", p) for p in (g, b[1].parameters[name])))
    weights = (net.parameters["weight_ih_l0"], net.parameters["weight_hh_l0"])
    if embedding is None:
        h = xprnn.unroll("elman", weights, spoiled, lengths=[6, 3]).h
        assert np.array_equal(h, xprnn.unroll("elman", weights, T, lengths=[6, 3]).h)
