"""The lecture's noisy sine."""

import numpy as np
import pytest

from xprnn.data import adding, copy_memory, sine


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


def test_the_adding_problem_marks_one_number_of_each_half():
    x, target = adding(7, 20000, rng=0)
    numbers, marks = x[..., 0], x[..., 1]
    assert set(np.unique(marks)) == {0.0, 1.0}
    assert np.all(marks[:3].sum(axis=0) == 1)
    assert np.all(marks[3:].sum(axis=0) == 1)
    assert np.all(marks.sum(axis=1) > 0)
    assert np.allclose((numbers * marks).sum(axis=0), target[:, 0])
    assert np.mean((target - 1) ** 2) == pytest.approx(1 / 6, rel=0.03)


def test_the_copy_problem_asks_for_the_symbols_after_the_signal():
    x, target = copy_memory(5, 30, symbols=3, remembered=4, rng=0)
    assert x.shape == target.shape == (13, 30)
    assert np.array_equal(x[:4], target[-4:])
    assert set(np.unique(x[:4])) == {0, 1, 2}
    assert np.all(x[8] == 4)
    assert np.all(np.delete(x, 8, axis=0)[4:] == 3)
    assert np.all(target[:-4] == 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adding(1, 5), "length is 1: expected at least 2"),
        (lambda: adding(4, 0), "sequences is 0"),
        (lambda: copy_memory(0, 5), "length is 0"),
        (lambda: copy_memory(4, 5, symbols=0), "symbols is 0"),
        (lambda: copy_memory(4, 5, remembered=0), "remembered is 0"),
    ],
)
def test_long_memories_that_are_none(call, message):
    with pytest.raises(ValueError, match=message):
        call()
