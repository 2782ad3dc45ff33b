"""The lecture's noisy sine."""

import numpy as np
import pytest

from xprnn.data import sine


def test_x_is_the_lecture_s_grid_without_its_end():
    x, y = sine(rng=0)
    assert x.shape == y.shape == (200, 1, 1)
    assert (x.dtype, y.dtype) == (np.float64, np.float64)
    np.testing.assert_allclose(x[:, 0, 0], np.linspace(-10, 9.9, 200), atol=1e-14)
    assert x[100, 0, 0] == 0


@pytest.mark.parametrize(
    ("start", "stop", "step", "count"),
    [
        (0, 20, 0.3, 67),
        (0, 1.1, 0.1, 11),
        (1, 1.3, 0.1, 3),
        (0, 0.3, 0.1, 3),
        (-1, 1, 0.5, 4),
        (0, 1, 5, 1),
        (2, 2.5, 0.5, 1),
        (0, 1, 1 / 3, 3),
    ],
)
def test_x_goes_in_steps_up_to_the_stop(start, stop, step, count):
    x, y = sine(start, stop, step, noise=0.0)
    np.testing.assert_allclose(x[:, 0, 0], start + step * np.arange(count), atol=1e-14)
    assert x[-1, 0, 0] < stop
    np.testing.assert_array_equal(y, np.sin(x))


def test_the_noise_is_normal_of_the_deviation_asked_for():
    x, y = sine(0, 2000, 0.1, noise=0.3, rng=0)
    noise = (y - np.sin(x)).ravel() / 0.3
    assert abs(noise.mean()) < 0.03
    assert abs(noise.std() - 1) < 0.02
    assert abs(np.mean(noise**4) - 3) < 0.15
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.03


def test_a_seed_gives_the_same_noise_and_another_one_another():
    y = sine(rng=3)[1]
    np.testing.assert_array_equal(sine(rng=3)[1], y)
    np.testing.assert_array_equal(sine(rng=np.random.default_rng(3))[1], y)
    assert np.all(sine(rng=4)[1] != y)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"start": 3, "stop": 2}, ValueError, "start is 3 and stop is 2: expected start below"),
        ({"start": 2, "stop": 2}, ValueError, "start is 2 and stop is 2: expected start below"),
        ({"step": 0}, ValueError, r"step is 0\.0: expected a number above 0"),
        ({"step": -0.1}, ValueError, r"step is -0\.1: expected a number above 0"),
        ({"noise": -1}, ValueError, r"noise is -1\.0: expected a number at least 0"),
        ({"start": float("nan")}, ValueError, "start is nan: expected a"),
        ({"stop": float("inf")}, ValueError, "stop is inf: expected a"),
        ({"stop": "10"}, TypeError, r"stop is '10' \(str\): expected a number"),
        ({"rng": -1}, ValueError, "rng is -1: a seed is zero or positive"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        sine(**options)
