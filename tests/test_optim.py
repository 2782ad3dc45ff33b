"""SGD and clipping: steps worked out by hand, torch's trajectories, no argument written to."""

import numpy as np
import pytest

from tests.closeness import AUTOGRAD, assert_all_close, assert_close, between_backends
from tests.judge import leaf
from tests.optional import optional
from xprnn.optim import SGD, clip_by_norm, clip_by_value, global_norm
from xprnn.optim.clipping import limit_norm

torch = optional("torch")

GRADIENTS = (1.0, 2.0, -1.0)


@pytest.mark.parametrize(
    ("sgd", "figures"),
    [
        # η = 0.1 at every step
        (SGD(0.1), (0.9, 0.7, 0.8)),
        # η = 0.1, 0.05, 0.1/3
        (SGD(0.1, decay=1), (0.9, 0.8, 0.8 + 0.1 / 3)),
        # v = -0.1, -0.25, -0.025
        (SGD(0.1, momentum=0.5), (0.9, 0.65, 0.625)),
        # the same v; θ moves by v/2 - η g = -0.15, -0.325, 0.0875
        (SGD(0.1, momentum=0.5, nesterov=True), (0.85, 0.525, 0.6125)),
        # v = -0.1, -0.15, -0.075 + 0.1/3
        (SGD(0.1, momentum=0.5, decay=1), (0.9, 0.75, 0.675 + 0.1 / 3)),
        # the same v; θ moves by -0.15, -0.175, -0.0375 + 0.05/3 + 0.1/3
        (SGD(0.1, momentum=0.5, nesterov=True, decay=1), (0.85, 0.675, 0.6875)),
    ],
    ids=str,
)
def test_the_first_steps_by_hand(sgd, figures):
    p = {"w": np.array([1.0])}
    state = sgd.init(p)
    for g, figure in zip(GRADIENTS, figures, strict=True):
        p, state = sgd.update({"w": np.array([g])}, state, p)
        assert float(p["w"][0]) == pytest.approx(figure, abs=1e-15)
    assert state.iteration == 3


def test_the_learning_rate_decays():
    sgd = SGD(0.5, decay=0.1)
    p = {"w": np.array([1.0])}
    state, rates = sgd.init(p), []
    for _ in range(3):
        rates.append(sgd.rate(state))
        p, state = sgd.update(p, state, p)
    assert rates == pytest.approx([0.5, 0.5 / 1.1, 0.5 / 1.2], rel=1e-15)


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}],
    ids=["plain", "momentum", "nesterov"],
)
def test_a_hundred_steps_beside_torch(options):
    rng = np.random.default_rng(0)
    A = np.eye(4) + 0.3 * rng.normal(size=(4, 4))
    start = {"a": rng.normal(size=4), "b": rng.normal(size=(2, 4))}

    theirs = {name: torch.tensor(p, requires_grad=True) for name, p in start.items()}
    optimizer = torch.optim.SGD(theirs.values(), lr=0.02, **options)
    sgd, ours = SGD(0.02, **options), start
    state = sgd.init(ours)
    for _ in range(100):
        optimizer.zero_grad()
        sum((torch.sin(p @ torch.tensor(A)) ** 2).sum() for p in theirs.values()).backward()
        optimizer.step()
        gradients = {name: np.sin(2 * (p @ A)) @ A.T for name, p in ours.items()}
        ours, state = sgd.update(gradients, state, ours)
    assert_all_close(ours, {name: p.detach().numpy() for name, p in theirs.items()}, AUTOGRAD)
    assert all(np.max(np.abs(ours[name] - p)) > 0.1 for name, p in start.items())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_backend_takes_the_same_steps(harness, dtype):
    harness = harness.at(dtype)
    sgd = SGD(0.1, momentum=0.9, nesterov=True, decay=0.01)
    start = np.random.default_rng(0).normal(size=(3, 2))
    found = []
    for array in (harness.array, np.array):
        p = {"w": array(start)}
        state = sgd.init(p)
        for _ in range(10):
            p, state = sgd.update({"w": p["w"] * p["w"]}, state, p)
        found.append(p["w"])
    assert_close(harness.host(found[0]), found[1], between_backends(dtype, 10))


@pytest.mark.parametrize(
    "sgd", [SGD(0.1), SGD(0.1, momentum=0.9), SGD(0.1, momentum=0.9, nesterov=True)], ids=str
)
def test_arguments_stay_as_they_are(sgd, harness):
    p, g = ({"w": harness.array([1.0, value])} for value in (2.0, 3.0))
    first = sgd.init(p)
    moved, second = sgd.update(g, first, p)
    again, _ = sgd.update(g, first, p)
    third_p, _ = sgd.update(g, second, moved)
    assert harness.host(p["w"]).tolist() == [1, 2]
    assert harness.host(g["w"]).tolist() == [1, 3]
    assert first.iteration == 0
    assert all(not np.any(v) for v in harness.hosts(first.velocity).values())
    assert np.array_equal(harness.host(again["w"]), harness.host(moved["w"]))
    assert not np.array_equal(harness.host(third_p["w"]), harness.host(moved["w"]))


def test_no_momentum_remembers_nothing():
    assert SGD().init({"w": np.ones(2)}).velocity == {}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"learning_rate": 0}, ValueError, r"learning_rate is 0\.0: expected a number above 0"),
        ({"learning_rate": -1.0}, ValueError, r"learning_rate is -1\.0: expected a number above 0"),
        ({"learning_rate": "1"}, TypeError, r"learning_rate is '1' \(str\): expected a number"),
        ({"learning_rate": True}, TypeError, r"learning_rate is True \(bool\): expected a number"),
        ({"learning_rate": float("inf")}, ValueError, "learning_rate is inf: expected a number"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate is nan: expected a number"),
        ({"momentum": 1.0}, ValueError, r"momentum is 1\.0: expected .* at least 0 and below 1"),
        ({"momentum": -0.1}, ValueError, r"momentum is -0\.1: expected a number at least 0"),
        ({"decay": -0.1}, ValueError, r"decay is -0\.1: expected a number at least 0"),
        ({"decay": 1j}, TypeError, r"decay is 1j \(complex\): expected a number"),
        (
            {"nesterov": True},
            ValueError,
            "nesterov is True, but momentum is 0: expected",
        ),
    ],
)
def test_options_out_of_range(options, error, message):
    with pytest.raises(error, match=message):
        SGD(**options)


def test_numpy_numbers_keep_the_dtype():
    sgd = SGD(np.float64(0.1), momentum=np.float32(0.5), decay=np.int64(1))
    p = {"w": np.ones(2, "float32")}
    moved, state = sgd.update(p, sgd.init(p), p)
    assert moved["w"].dtype == np.float32
    assert state.velocity["w"].dtype == np.float32


def test_the_norm_is_over_all_arrays(harness):
    gradients = {"a": harness.array([[3.0, 0.0]]), "b": harness.array([4.0])}
    assert float(global_norm(gradients)) == 5


def test_clipping_by_norm(harness):
    gradients = {"a": harness.array([[3.0, 0.0]]), "b": harness.array([-4.0])}
    clipped, norm = clip_by_norm(gradients, 2.5)
    assert harness.host(norm) == 5
    assert harness.host(clipped["a"]).tolist() == [[1.5, 0.0]]
    assert harness.host(clipped["b"]).tolist() == [-2.0]
    assert harness.host(gradients["b"]).tolist() == [-4.0]


@pytest.mark.parametrize("limit", [5, 5.5, 1e9])
def test_a_norm_within_the_limit_changes_nothing(harness, limit):
    gradients = {"a": harness.array([[3.0, 0.0]]), "b": harness.array([-4.0])}
    clipped, norm = clip_by_norm(gradients, limit)
    assert float(norm) == 5
    assert_all_close(harness.hosts(clipped), harness.hosts(gradients), 1e-15)


def test_clipping_keeps_the_direction():
    rng = np.random.default_rng(0)
    gradients = {"a": 100 * rng.normal(size=(3, 4)), "b": rng.normal(size=5)}
    clipped, norm = clip_by_norm(gradients, 1.0)
    assert float(global_norm(clipped)) == pytest.approx(1, rel=1e-14)
    back = {name: g * float(norm) for name, g in clipped.items()}
    assert_all_close(back, gradients, 1e-14)


def test_clipping_beside_torch():
    rng = np.random.default_rng(0)
    gradients = {"a": rng.normal(size=(3, 4)), "b": rng.normal(size=5)}
    theirs = {name: leaf(np.zeros_like(g)) for name, g in gradients.items()}
    for name, g in gradients.items():
        theirs[name].grad = torch.tensor(g)
    want = torch.nn.utils.clip_grad_norm_(theirs.values(), 0.5)
    clipped, norm = clip_by_norm(gradients, 0.5)
    assert float(norm) == pytest.approx(float(want), rel=1e-12)
    # torch adds 1e-6 to the norm before it divides.
    assert_all_close(clipped, {name: p.grad.numpy() for name, p in theirs.items()}, 1e-6)


def test_a_zero_gradient_stays_zero(harness):
    gradients = {"a": harness.array(np.zeros((2, 2)))}
    clipped, norm = clip_by_norm(gradients, 1.0)
    assert float(norm) == 0
    assert harness.host(clipped["a"]).tolist() == [[0, 0], [0, 0]]


def test_clipping_by_value(harness):
    gradients = {"a": harness.array([[3.0, -0.5]]), "b": harness.array([-4.0])}
    clipped = clip_by_value(gradients, 1.5)
    assert harness.host(clipped["a"]).tolist() == [[1.5, -0.5]]
    assert harness.host(clipped["b"]).tolist() == [-1.5]
    assert harness.host(gradients["b"]).tolist() == [-4.0]


@pytest.mark.parametrize("clip", [clip_by_norm, clip_by_value])
@pytest.mark.parametrize(
    ("limit", "error", "message"),
    [
        (0, ValueError, r"limit is 0\.0: expected a number above 0"),
        (-1, ValueError, r"limit is -1\.0: expected a number above 0"),
        (float("nan"), ValueError, "limit is nan: expected a number above 0"),
        (None, TypeError, r"limit is None \(NoneType\): expected a number"),
    ],
)
def test_a_limit_that_is_none(clip, limit, error, message):
    with pytest.raises(error, match=message):
        clip({"a": np.ones(2)}, limit)


def test_no_gradients_have_no_norm():
    with pytest.raises(ValueError, match="gradients is empty: expected at least one array"):
        global_norm({})


def test_a_limit_that_the_dtype_cannot_hold_changes_nothing():
    gradients = {"a": np.array([3.0, 4.0], dtype=np.float32)}
    clipped, norm = clip_by_norm(gradients, 1e300)
    assert float(norm) == 5
    np.testing.assert_array_equal(clipped["a"], gradients["a"])


@pytest.mark.parametrize("value", [1e20, 1e-30])
def test_norms_whose_squares_do_not_fit(value, harness):
    harness = harness.at("float32")
    host = np.array([3 * value, 4 * value])
    clipped, norm = clip_by_norm({"a": harness.array(host)}, 5.0 if value > 1 else 1e-31)
    if value > 1:
        assert float(norm) == pytest.approx(5 * value, rel=1e-6)
        np.testing.assert_allclose(harness.host(clipped["a"]), [3, 4], rtol=1e-6)
    elif float(norm):
        # Squares are summed in float64, where they don't underflow.
        assert harness.backend.name == "cupy"
        assert float(norm) == pytest.approx(5 * value, rel=1e-6)
        np.testing.assert_allclose(harness.host(clipped["a"]), [6e-32, 8e-32], rtol=1e-6)
    else:
        # The square underflows, so the gradient counts as zero and is not scaled.
        np.testing.assert_array_equal(harness.host(clipped["a"]), host.astype("float32"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(20_000,), (300, 90), (90, 300)])
def test_the_norm_of_a_large_gradient(harness, shape, dtype):
    """On NumPy the sum is taken block by block."""
    g = np.random.default_rng(0).normal(size=shape)
    at = harness.at(dtype)
    found = at.host(global_norm({"g": at.array(g, dtype), "h": at.array(np.ones(3), dtype)}))
    wanted = np.sqrt(np.sum(at.host(at.array(g, dtype)).astype("float64") ** 2) + 3)
    assert abs(found - wanted) < 4 * np.finfo(dtype).eps * wanted


def test_a_norm_within_the_limit_is_no_pass_over_the_gradients():
    g = {"g": np.ones(4)}
    clipped, norm = limit_norm(g, 2.0)
    assert clipped["g"] is g["g"]
    assert norm == 2.0
