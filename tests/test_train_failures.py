"""Training that fails: the error says where, and the network goes back to good weights."""

import numpy as np
import pytest

from tests.scripted import ONE, ZERO, Scripted, scalar_net, weight
from xprnn import RNN, NonFiniteLossError, TrainingInterrupted, evaluate, fit
from xprnn.cells import Elman
from xprnn.optim import SGD

overflows = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
"""NumPy warns while the numbers explode, as these tests make them do."""

PAIR = (ONE, ZERO)


def test_an_overflowing_loss_names_epoch_and_batch():
    net = scalar_net(1.0)
    message = r"the loss is inf in epoch 2, batch 3: the network keeps the last weights"
    script = Scripted(*[2.0] * 4, 3.0, 1e200)
    with (
        np.errstate(over="ignore"),
        pytest.raises(NonFiniteLossError, match=message) as caught,
    ):
        fit(net, [PAIR] * 4, optimizer=script, epochs=5)
    assert (caught.value.epoch, caught.value.batch) == (2, 3)
    assert caught.value.history.stopped == "non-finite"
    assert len(caught.value.history) == 1
    assert weight(net) == 3.0


def test_a_loss_that_is_nan():
    net = scalar_net(1.0)
    with pytest.raises(NonFiniteLossError, match="the loss is nan in epoch 1, batch 2: "):
        fit(net, [PAIR] * 4, optimizer=Scripted(float("nan")))
    assert weight(net) == 1.0


@overflows
def test_a_learning_rate_that_is_too_large(harness):
    net = RNN(2, 5, 2, cell="elman", backend=harness.backend, rng=0)
    x, target = harness.array(np.ones((4, 3, 2))), harness.array(np.full((4, 3, 2), 2.0))
    with pytest.raises(NonFiniteLossError, match=r"a smaller learning rate or clip_norm=1\.0 may"):
        fit(net, [(x, target)] * 3, optimizer=SGD(1e80), epochs=9)
    output, _ = net(x)
    assert np.all(np.isfinite(harness.host(output)))
    assert all(np.all(np.isfinite(p)) for p in harness.hosts(dict(net.parameters)).values())


def test_the_last_update_is_looked_at_too():
    net = scalar_net(1.0)
    message = "the update made weight_ih_l0 infinite or NaN in epoch 1, batch 2: "
    with pytest.raises(NonFiniteLossError, match=message) as caught:
        fit(net, [PAIR] * 2, optimizer=Scripted(2.0, float("inf")), epochs=3)
    assert len(caught.value.history) == 0
    assert weight(net) == 2.0


@overflows
def test_a_saturated_network_does_not_hide_infinite_weights():
    """The loss of tanh(∞) is finite, but infinite weights are not good ones."""
    net = scalar_net(1.0, "tanh")
    script = Scripted(2.0, 3.0, float("inf"))
    with pytest.raises(NonFiniteLossError, match="the update made weight_ih_l0 infinite or NaN in"):
        fit(net, [PAIR] * 2, optimizer=script, epochs=5)
    assert weight(net) == 3.0
    net = scalar_net(1.0, "tanh")
    with pytest.raises(NonFiniteLossError, match=r"epoch 1, batch 3"):
        fit(net, [PAIR] * 3, optimizer=Scripted(float("inf")))
    assert weight(net) == 1.0


def test_a_validation_loss_that_overflows():
    net = scalar_net(1.0)
    message = "the validation loss is inf in epoch 2, batch 1: "
    with np.errstate(over="ignore"), pytest.raises(NonFiniteLossError, match=message) as caught:
        fit(
            net,
            (ONE, ZERO),
            optimizer=Scripted(2.0, 1e100),
            epochs=9,
            validation=(1e100 * ONE, ZERO),
        )
    assert len(caught.value.history) == 1
    assert weight(net) == 2.0
    assert caught.value.place == "the loss (every output is finite)"


@overflows
@pytest.mark.parametrize("once", [False, True])
def test_where_a_validation_loss_ceases_to_be_finite(once):
    net = RNN(1, 2, 1, cell=Elman("identity"), layers=2, dropout=0.5, dtype="float64", rng=0)
    good, bad = np.ones((3, 1, 1)), np.ones((3, 1, 1))
    bad[1] = 1e308
    net.parameters["weight_ih_l0"][1] = 100.0
    batches = [(good, good), (bad, bad)]
    given = iter(batches) if once else batches
    with pytest.raises(NonFiniteLossError, match="the validation loss is") as caught:
        fit(net, (0 * good, 0 * good), optimizer=SGD(1e-6), epochs=1, validation=given)
    place = "" if once else "u at step 1, unit 1, layer 0, sequence 0 (inf), in batch 2"
    assert caught.value.place == place


def test_early_stopping_keeps_the_best_weights_also_then():
    net = scalar_net(9.0)
    script = Scripted(1.0, 2.0, 3.0, float("nan"))
    with pytest.raises(NonFiniteLossError, match="in epoch 4, batch 1") as caught:
        fit(net, PAIR, optimizer=script, epochs=9, validation=PAIR, patience=5)
    assert weight(net) == 1.0
    assert caught.value.history.best_epoch == 1


def interrupt() -> None:
    raise KeyboardInterrupt


def test_an_interrupted_callback():
    net = scalar_net(1.0)

    def at_two(net, record):
        if record.epoch == 2:
            interrupt()

    message = "training interrupted after 2 epochs"
    with pytest.raises(TrainingInterrupted, match=message) as caught:
        fit(net, PAIR, optimizer=Scripted(2.0, 3.0, 4.0), epochs=9, callbacks=[at_two])
    assert isinstance(caught.value, KeyboardInterrupt)
    assert caught.value.history.stopped == "interrupted"
    assert caught.value.history.loss == [0.5, 2.0]
    assert weight(net) == 3.0


def test_an_interrupted_epoch():
    class Source:
        epoch = 0

        def __iter__(self):
            self.epoch += 1
            yield PAIR
            if self.epoch == 2:
                interrupt()
            yield PAIR

    net = scalar_net(1.0)
    with pytest.raises(TrainingInterrupted, match="after 1 epochs") as caught:
        fit(net, Source(), optimizer=Scripted(2.0, 3.0, 4.0, 5.0), epochs=9)
    assert len(caught.value.history) == 1
    assert weight(net) == 4.0


def test_an_interrupted_run_with_early_stopping_keeps_the_best():
    net = scalar_net(9.0)

    def at_three(net, record):
        if record.epoch == 3:
            interrupt()

    script = Scripted(2.0, 1.0, 3.0)
    options = {"validation": PAIR, "patience": 5, "callbacks": [at_three]}
    with pytest.raises(TrainingInterrupted, match="after 3 epochs") as caught:
        fit(net, PAIR, optimizer=script, epochs=9, **options)
    assert caught.value.history.best_epoch == 2
    assert weight(net) == 1.0


def test_a_generator_serves_for_one_epoch():
    net = scalar_net(1.0)
    assert len(fit(net, (pair for pair in [PAIR, PAIR]))) == 1
    message = r"batches is empty in epoch 2: .* \(a generator can be used for one epoch only\)"
    with pytest.raises(ValueError, match=message):
        fit(net, (pair for pair in [PAIR]), epochs=2)


def test_a_generator_of_validation_data_is_not_a_loss_of_zero():
    net = scalar_net(1.0)
    message = r"no batch to evaluate: .* \(a generator can be used once only\)"
    with pytest.raises(ValueError, match=message):
        fit(net, PAIR, epochs=2, validation=(pair for pair in [PAIR]))
    with pytest.raises(ValueError, match=message):
        evaluate(net, [])


def test_no_batches():
    message = "batches is empty in epoch 1: expected at least one batch"
    with pytest.raises(ValueError, match=message):
        fit(scalar_net(1.0), [])


def test_an_empty_batch_has_no_loss():
    none = (np.ones((1, 0, 1)), np.zeros((1, 0, 1)))
    assert evaluate(scalar_net(1.0), [none, PAIR]) == 0.5
    assert fit(scalar_net(1.0), [none, PAIR]).loss == [0.5]


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        (3, TypeError, "batches is int: expected an iterable of batches"),
        ([ONE, ZERO], TypeError, r"batch 1 is ndarray: expected \(x, target\) or a Batch"),
        ([PAIR, (ONE,)], TypeError, r"batch 2 is tuple of 1: expected \(x, target\) or a Batch"),
        ((ONE, ZERO[0]), ValueError, r"target has shape \(1, 1\): expected \(1, 1, 1\)"),
        ((ONE * np.nan, ZERO), ValueError, r"x\[0, 0, 0\] is nan: expected finite"),
    ],
)
def test_what_is_no_data(batches, error, message):
    net = scalar_net(1.0)
    for use in (fit, evaluate):
        with pytest.raises(error, match=message):
            use(net, batches)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs is 0: expected an int of at least 1"),
        ({"epochs": 1.5}, TypeError, r"epochs is 1\.5 \(float\): expected an int"),
        ({"loss": "l2"}, ValueError, "unknown loss 'l2': known are 'squared_error'"),
        (
            {"optimizer": "sdg"},
            ValueError,
            "unknown optimizer 'sdg': known are 'sgd', 'rprop', 'ad",
        ),
        ({"optimizer": SGD}, TypeError, "optimizer is <class .*: expected a name or an instance"),
        ({"clip_norm": 0}, ValueError, r"clip_norm is 0\.0: expected a number above 0"),
        ({"clip_norm": "1"}, TypeError, r"clip_norm is '1' \(str\): expected a number"),
        ({"clip_value": -1}, ValueError, r"clip_value is -1\.0: expected a number above 0"),
        ({"patience": 1}, ValueError, "patience is 1, but there is no validation data to watch"),
        ({"patience": 0, "validation": PAIR}, ValueError, "patience is 0: expected an int of at"),
        ({"min_delta": -0.1}, ValueError, r"min_delta is -0\.1: expected a number at least 0"),
    ],
)
def test_what_is_no_option(options, error, message):
    net = scalar_net(1.0)
    with pytest.raises(error, match=message):
        fit(net, PAIR, **options)
    assert weight(net) == 1.0


def test_what_is_no_network():
    with pytest.raises(TypeError, match="net is str: expected an RNN"):
        fit("net", PAIR)


def test_an_optimizer_that_drops_a_parameter():
    class Forgetful(Scripted):
        def update(self, gradients, state, parameters):
            del gradients, parameters
            return {}, state

    net = scalar_net(1.0)
    with pytest.raises(KeyError, match="parameters lack weight_ih_l0, weight_hh_l0"):
        fit(net, PAIR, optimizer=Forgetful())
    assert weight(net) == 1.0


def test_the_best_weights_are_kept_when_a_later_loss_is_not_finite():
    x = np.ones((3, 2, 1))
    net = RNN(1, 3, 1, dtype="float64", rng=0)
    batches = [(x, x)]
    kept = []

    def spoil(net, record):
        kept.append({name: p.copy() for name, p in net.parameters.items()})
        if record.epoch == 3:
            batches.append((x, 1e200 * x))

    with pytest.raises(NonFiniteLossError, match="keeps the weights of epoch 3, the best") as error:
        fit(net, batches, epochs=9, validation=(x, x), patience=9, callbacks=[spoil])
    assert (error.value.epoch, error.value.batch) == (4, 2)
    for name, p in net.parameters.items():
        np.testing.assert_array_equal(p, kept[2][name])
