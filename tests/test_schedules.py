"""Schedules of learning rates, by the number of updates and by the losses."""

import numpy as np
import pytest

from tests.scripted import ONE, ZERO, Scripted, scalar_net, weight
from xprnn import fit
from xprnn.optim import SGD, Rprop, schedules


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (schedules.step(8, 2, 0.5), {0: 8, 1: 8, 2: 4, 3: 4, 4: 2, 9: 0.5}),
        (schedules.exponential(8, 0.5), {0: 8, 1: 4, 2: 2, 5: 0.25}),
        (schedules.inverse_time(6, 0.5), {0: 6, 1: 4, 2: 3, 4: 2}),
        (schedules.cosine(4, 8), {0: 4, 4: 2, 8: 0, 9: 0, 1000: 0}),
        (schedules.cosine(4, 8, 2), {0: 4, 4: 3, 8: 2, 9: 2}),
        (schedules.warm_up(4, 4), {0: 1, 1: 2, 2: 3, 3: 4, 4: 4, 99: 4}),
        (schedules.warm_up(schedules.exponential(8, 0.5), 2), {0: 4, 1: 8, 2: 8, 3: 4, 4: 2}),
    ],
)
def test_figures(schedule, rates):
    assert {k: schedule(k) for k in rates} == pytest.approx(rates, abs=1e-15)


def test_sgd_follows_a_schedule():
    sgd = SGD(schedules.exponential(0.5, 0.5), decay=1)
    p = {"w": np.array([1.0])}
    state, found = sgd.init(p), []
    for _ in range(3):
        p, state = sgd.update({"w": np.ones(1)}, state, p)
        found.append(float(p["w"][0]))
    # η = 0.5, 0.25/2, 0.125/3
    assert found == pytest.approx([0.5, 0.375, 0.375 - 0.125 / 3], abs=1e-15)


def test_decay_is_inverse_time():
    with_decay, with_schedule = SGD(0.3, decay=0.1), SGD(schedules.inverse_time(0.3, 0.1))
    state = with_decay.init({})._replace(iteration=7)
    assert with_decay.rate(state) == pytest.approx(with_schedule.rate(state), rel=1e-15)


def test_a_rate_that_is_a_numpy_number_keeps_the_dtype():
    sgd = SGD(lambda iteration: np.float64(0.5) / (1 + iteration), momentum=0.5)
    p = {"w": np.ones(2, "float32")}
    moved, state = sgd.update(p, sgd.init(p), p)
    assert moved["w"].dtype == np.float32
    assert state.velocity["w"].dtype == np.float32


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_rate_can_be_scaled(momentum):
    sgd = SGD(0.4, momentum=momentum)
    p = g = {"w": np.array([1.0])}
    state = sgd.scaled(sgd.scaled(sgd.init(p), 0.5), 0.5)
    assert sgd.rate(state) == pytest.approx(0.1, rel=1e-15)
    moved, state = sgd.update(g, state, p)
    assert float(moved["w"][0]) == pytest.approx(0.9, rel=1e-15)
    assert sgd.rate(state) == pytest.approx(0.1, rel=1e-15)


def test_halving_when_the_loss_rises():
    assert schedules.halve_on_rise([3.0]) == 1
    assert schedules.halve_on_rise([3.0, 3.0]) == 1
    assert schedules.halve_on_rise([3.0, 2.0]) == 1
    assert schedules.halve_on_rise([1.0, 2.0, 2.5]) == 0.5
    assert schedules.halve_on_rise([2.0, 2.5], factor=0.1) == 0.1


class Noted(Scripted):
    """A script that records how its learning rate is scaled."""

    def __init__(self, *values: float) -> None:
        super().__init__(*values)
        self.factors = []

    def scaled(self, state, factor):
        self.factors.append(factor)
        return state


@pytest.mark.parametrize("watched", ["training", "validation"])
def test_fit_scales_the_rate_by_the_loss(watched):
    script, seen = Noted(3.0, 2.0, 4.0, 5.0, 1.0), []

    def scale(losses):
        seen.append(list(losses))
        return schedules.halve_on_rise(losses)

    validation = (ONE, ZERO) if watched == "validation" else None
    net = scalar_net(1.0)
    fit(net, (ONE, ZERO), optimizer=script, epochs=5, rate_scale=scale, validation=validation)
    # A training loss is computed before the update, so it lags behind by one.
    losses = [4.5, 2.0, 8.0, 12.5, 0.5] if watched == "validation" else [0.5, 4.5, 2.0, 8.0, 12.5]
    assert seen == [losses[: k + 1] for k in range(5)]
    rises = [1, 1, 0.5, 0.5, 1] if watched == "validation" else [1, 0.5, 1, 0.5, 0.5]
    assert script.factors[-5:] == rises
    assert all(factor == 1 for factor in script.factors[:-5])


def test_the_scaled_rate_is_used():
    """Two steps of η = 1/2 and 1/4 on the loss w²/2."""
    net = scalar_net(1.0)
    fit(net, (ONE, ZERO), optimizer=SGD(0.5), epochs=2, rate_scale=lambda _: 0.5)
    assert weight(net) == 0.5 * 0.75


def test_an_optimizer_without_a_rate():
    with pytest.raises(TypeError, match=r"rate_scale is given, but Rprop\(.*\) has no learn"):
        fit(scalar_net(1.0), (ONE, ZERO), optimizer=Rprop(), rate_scale=schedules.halve_on_rise)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: schedules.step(0, 1), ValueError, r"rate is 0\.0: expected a number above 0"),
        (lambda: schedules.step(1, 0), ValueError, "every is 0: expected an int of at least 1"),
        (lambda: schedules.step(1, 1, 0), ValueError, r"factor is 0\.0: expected a number above 0"),
        (
            lambda: schedules.exponential(1, "a"),
            TypeError,
            r"factor is 'a' \(str\): expected",
        ),
        (
            lambda: schedules.inverse_time(1, -1),
            ValueError,
            r"decay is -1\.0: expected a num",
        ),
        (lambda: schedules.cosine(1, 1.5), TypeError, r"iterations is 1\.5 \(float\): expected an"),
        (
            lambda: schedules.cosine(1, 5, -1),
            ValueError,
            r"final is -1\.0: expected a num",
        ),
        (lambda: schedules.warm_up(0, 5), ValueError, r"then is 0\.0: expected a number above 0"),
        (lambda: schedules.warm_up(1, 0), ValueError, "iterations is 0: expected an int of at lea"),
    ],
)
def test_what_is_no_schedule(make, error, message):
    with pytest.raises(error, match=message):
        make()
