"""A network that forecasts: windows, scaling, differences, one step and closed loop."""

from itertools import pairwise

import numpy as np
import pytest

from xprnn import RNN, Forecaster, fit
from xprnn.data import Intervals, Scaling, choose, read_csv, sunspots

VALUES = read_csv(sunspots(), "SUNACTIVITY").values[:60]
WINDOW = 5

both = pytest.mark.parametrize("difference", [False, True], ids=["levels", "changes"])


def network(rng=0, **options):
    given = {"returns": "last", "dtype": "float64", "rng": rng}
    return RNN(1, 6, 1, **(given | options))


def forecaster(difference=False, training=VALUES[:40], **options):
    return Forecaster.fitted_scaling(network(**options), WINDOW, training, difference=difference)


def forecast_by_hand(f: Forecaster, past: np.ndarray) -> float:
    """Forecast the next value with one call of the network."""
    read = np.array([b - a for a, b in pairwise(past)]) if f.difference else past
    last = read[-WINDOW:]
    assert len(last) == WINDOW
    x = (last - f.scaling.mean) / f.scaling.std
    output = float(f.net(x.reshape(WINDOW, 1, 1))[0][0, 0]) * f.scaling.std + f.scaling.mean
    return past[-1] + output if f.difference else output


@both
def test_one_step_is_the_network_on_every_window(difference):
    f = forecaster(difference)
    needed = WINDOW + difference
    want = [forecast_by_hand(f, VALUES[:k]) for k in range(needed, len(VALUES))]
    got = f.one_step(VALUES)
    assert f.needed == needed
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=1e-12)


@both
def test_one_step_needs_no_more_than_a_window_before_it(difference):
    f = forecaster(difference)
    whole, part = f.one_step(VALUES), f.one_step(VALUES[: f.needed + 1])
    assert part.shape == (1,)
    np.testing.assert_allclose(part, whole[:1], rtol=1e-12)


@both
def test_one_step_does_not_see_what_it_forecasts(difference):
    f = forecaster(difference)
    changed = VALUES.copy()
    changed[30] += 10
    difference_made = f.one_step(changed) != f.one_step(VALUES)
    # The forecast of index 30 is entry 30 - needed; those up to `needed` later read it.
    assert np.flatnonzero(difference_made).tolist() == [
        k - f.needed for k in range(31, 31 + f.needed)
    ]


@both
def test_closed_loop_feeds_its_forecasts_back(difference):
    f, history = forecaster(difference), list(VALUES)
    for _ in range(12):
        history.append(forecast_by_hand(f, np.array(history)))
    got = f.closed_loop(VALUES, 12)
    np.testing.assert_allclose(got, history[len(VALUES) :], rtol=1e-10)


@both
def test_closed_loop_begins_as_one_step_goes_on(difference):
    f = forecaster(difference)
    got = f.closed_loop(VALUES[: f.needed], 1)
    np.testing.assert_allclose(got, f.one_step(VALUES[: f.needed + 1]), rtol=1e-12)


def test_a_forecaster_of_changes_moves_with_the_level():
    f = forecaster(difference=True)
    np.testing.assert_allclose(f.one_step(VALUES + 1000), f.one_step(VALUES) + 1000, rtol=1e-10)
    moved = f.closed_loop(VALUES + 1000, 9)
    np.testing.assert_allclose(moved, f.closed_loop(VALUES, 9) + 1000, rtol=1e-10)


def test_a_forecaster_of_levels_does_not_move_with_the_level():
    f = forecaster()
    assert np.all(np.abs(f.one_step(VALUES + 1000) - f.one_step(VALUES) - 1000) > 100)


@both
def test_the_scaling_is_that_of_the_training_part(difference):
    training = VALUES[:40]
    seen = np.diff(training) if difference else training
    f = forecaster(difference)
    assert f.scaling == (pytest.approx(seen.mean()), pytest.approx(seen.std()))


@both
def test_what_is_held_out_changes_nothing_in_the_model(difference):
    trained = []
    for held_out in (VALUES[40:], np.zeros(20)):
        values = np.concatenate([VALUES[:40], held_out])
        f = forecaster(difference, training=values[:40])
        fit(f.net, f.batches(values[:40], 8, np.random.default_rng(0)), epochs=2)
        trained.append(f)
    one, other = trained
    assert one.scaling == other.scaling
    for name, array in one.net.parameters.items():
        np.testing.assert_array_equal(array, other.net.parameters[name])


@both
def test_batches_are_scaled_windows_with_their_targets(difference):
    f = forecaster(difference)
    levels = np.diff(VALUES) if difference else VALUES
    scaled = (levels - f.scaling.mean) / f.scaling.std
    want = [scaled[k : k + WINDOW + 1] for k in range(len(scaled) - WINDOW)]
    batches = f.batches(VALUES, 7, np.random.default_rng(0))
    got = []
    for x, target, *_ in batches:
        assert x.shape == (WINDOW, len(target), 1)
        got += np.concatenate([x[:, :, 0].T, target], axis=1).tolist()
    np.testing.assert_allclose(sorted(got), sorted(map(list, want)), rtol=1e-12)
    assert len(batches) == -(-len(want) // 7)


@both
def test_saved_and_loaded_it_forecasts_the_same(tmp_path, difference):
    f = forecaster(difference)
    f.save(tmp_path / "model.safetensors", column="SUNACTIVITY", seed=3)
    net = RNN.load(tmp_path / "model.safetensors")
    assert (net.metadata["column"], net.metadata["seed"]) == ("SUNACTIVITY", 3)
    again = Forecaster.of(net)
    assert again[1:] == f[1:]
    assert again.difference is difference
    np.testing.assert_array_equal(again.one_step(VALUES), f.one_step(VALUES))
    np.testing.assert_array_equal(again.closed_loop(VALUES, 5), f.closed_loop(VALUES, 5))


def test_it_can_not_be_saved_over_its_own_facts(tmp_path):
    f = forecaster()
    f.save(tmp_path / "model.safetensors", window=99, mean=99.0)
    again = Forecaster.of(RNN.load(tmp_path / "model.safetensors"))
    assert (again.window, again.scaling) == (WINDOW, f.scaling)


def test_every_backend_forecasts_the_same(harness):
    f = forecaster()
    there = f._replace(net=f.net.to(harness.backend))
    np.testing.assert_allclose(there.one_step(VALUES), f.one_step(VALUES), rtol=1e-11)
    np.testing.assert_allclose(there.closed_loop(VALUES, 5), f.closed_loop(VALUES, 5), rtol=1e-10)


def test_a_network_of_float32_forecasts_in_float64():
    f = forecaster()
    single = f._replace(net=f.net.to("numpy", dtype="float32"))
    assert single.one_step(VALUES).dtype == np.float64
    np.testing.assert_allclose(single.one_step(VALUES), f.one_step(VALUES), rtol=1e-5)


@pytest.mark.parametrize("metadata", [{}, {"task": "sine", "input_scale": 0.1}])
def test_a_network_that_is_no_forecaster(metadata):
    net = network()
    net.metadata = metadata
    with pytest.raises(ValueError, match="the network was not trained on a series: its metadata"):
        Forecaster.of(net)


POISONED = np.where(np.arange(60) == 17, np.nan, VALUES)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: forecaster().one_step(VALUES[:5]), ValueError, "has 5 entries: expected more th"),
        (lambda: forecaster(True).one_step(VALUES[:6]), ValueError, "has 6 entries: expected more"),
        (lambda: forecaster().closed_loop(VALUES[:4], 1), ValueError, "has 4 entries: expected mo"),
        (lambda: forecaster(True).closed_loop(VALUES[:5], 1), ValueError, "has 5 entries"),
        (lambda: forecaster().closed_loop(VALUES, 0), ValueError, "steps is 0: expected an int of"),
        (lambda: forecaster().closed_loop(VALUES, 2.0), TypeError, r"steps is 2\.0 \(float\)"),
        (lambda: forecaster().one_step(POISONED), ValueError, r"values\[17\] is nan: expected"),
        (lambda: forecaster().closed_loop(POISONED, 1), ValueError, r"values\[17\] is nan"),
        (lambda: forecaster(training=POISONED), ValueError, r"training\[17\] is nan: expected"),
        (lambda: forecaster(training=VALUES[:5]), ValueError, "training has 5 entries: expected"),
        (lambda: forecaster(True, VALUES[:6]), ValueError, "training has 6 entries: expected more"),
        (lambda: forecaster(training=np.ones(20)), ValueError, "all 20 values of the training p"),
        (
            lambda: forecaster(returns="sequence"),
            ValueError,
            r"net is RNN\(.*returns='sequence'.*: expected RNN\(1, H, 1, returns='last'\)",
        ),
        (
            lambda: Forecaster.fitted_scaling(RNN(2, 3, 1, returns="last"), 3, VALUES),
            ValueError,
            r"net is RNN\(2, 3, 1, .*: expected RNN\(1, H, 1, returns='last'\)",
        ),
        (
            lambda: Forecaster.fitted_scaling(network(), 0, VALUES),
            ValueError,
            "window is 0: expected an int of at least 1",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_scaling_of_a_forecaster_is_its_own():
    f = Forecaster(network(), WINDOW, Scaling(10.0, 2.0))
    x = ((VALUES[:WINDOW] - 10) / 2).reshape(WINDOW, 1, 1)
    want = 10 + 2 * float(f.net(x)[0][0, 0])
    np.testing.assert_allclose(f.closed_loop(VALUES[:WINDOW], 1), [want], rtol=1e-12)


@pytest.mark.parametrize("kind", [(False, 0), (True, 0), (True, 4)])
def test_covariates_are_read_one_step_ahead_of_the_values(kind):
    rng = np.random.default_rng(0)
    y, z = rng.normal(size=(50, 2)), rng.normal(size=(50, 1))
    net = RNN(3, 4, 2, returns="last", dtype="float64", rng=1)
    f = Forecaster.fitted_scaling(net, WINDOW, y, difference=kind[0], season=kind[1], covariates=z)
    x, target = f.examples(y, z)
    changes, known = f.differencing.apply(y), f.differencing.apply(z)
    for k in range(x.shape[1]):
        # The target is change number `end`: the window ends before it, that of z with it.
        end = k + WINDOW
        scaled = [(changes[:, j] - s.mean) / s.std for j, s in enumerate(f.scaling)]
        ahead = (known[:, 0] - f.covariates[0].mean) / f.covariates[0].std
        read = [*(column[end - WINDOW : end] for column in scaled), ahead[k + 1 : end + 1]]
        np.testing.assert_allclose(x[:, k, :], np.stack(read, axis=1), rtol=1e-12)
        np.testing.assert_allclose(target[k], [column[end] for column in scaled], rtol=1e-12)
    # Forecasting reads the same.
    output, _ = net(x)
    scales = np.array([s.std for s in f.scaling]), np.array([s.mean for s in f.scaling])
    base = y[f.needed :] - changes[WINDOW:]
    want = base + output * scales[0] + scales[1]
    np.testing.assert_allclose(f.one_step(y, z), want, atol=1e-9)
    np.testing.assert_allclose(f.closed_loop(y[:-1], 1, z), want[-1:], atol=1e-9)


def test_a_forecaster_with_all_its_parts_is_saved(tmp_path):
    rng = np.random.default_rng(2)
    y, z = rng.normal(size=(60, 2)).cumsum(axis=0), rng.normal(size=(60, 1))
    net = RNN(3, 4, 2, returns="last", dtype="float64", rng=1)
    f = Forecaster.fitted_scaling(net, WINDOW, y, difference=True, season=3, covariates=z)
    f = f.with_linear(choose(y, 3, covariates=z).fitted(y, z), y, z)
    f = f._replace(intervals=Intervals(0.8, ((1.0, 2.0), (3.0, 4.0))))
    f.save(tmp_path / "model.safetensors")
    again = Forecaster.of(RNN.load(tmp_path / "model.safetensors"))
    assert repr(again[1:]) == repr(f[1:])
    np.testing.assert_array_equal(again.one_step(y, z), f.one_step(y, z))
    with pytest.raises(ValueError, match="was trained with 1 covariates: expected them"):
        f.one_step(y)
    with pytest.raises(ValueError, match=r"covariates has shape \(60, 1\): expected \(63, 1\)"):
        f.closed_loop(y, 3, z)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"season": -1}, "season is -1: expected an int of at least 1"),
        ({"linear": 3}, "linear is 3"),
        ({"linear": [[]]}, "linear is empty: expected at least one part"),
        ({"linear": [[[1.0, True, 0, 0.0, [1e200], []]]]}, "linear is 1e"),
        ({"linear": [[[1.0, True]]]}, "linear has 2 entries: expected 6"),
        ({"residual": [1.0, 2.0]}, "residual has 2 entries: expected 1"),
        ({"intervals": [[-1.0]], "coverage": 0.9}, "intervals is -1.0: expected a number at least"),
        ({"intervals": [[1.0]]}, "metadata has no 'coverage'"),
        ({"covariate_means": [0.0]}, r"expected RNN\(2, H, 1"),
    ],
)
def test_metadata_that_is_wrong(tmp_path, change, message):
    f = forecaster()
    f = f.with_linear(choose(VALUES[:, None]).fitted(VALUES[:, None], None), VALUES)
    f.save(tmp_path / "model.safetensors")
    net = RNN.load(tmp_path / "model.safetensors")
    net.metadata = net.metadata | change
    with pytest.raises((TypeError, ValueError), match=message):
        Forecaster.of(net)
