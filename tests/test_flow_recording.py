"""GradientFlow, the callback: it records, changes nothing, and its records survive a restart."""

import numpy as np
import pytest

from tests.resuming import killed_in_step, remains
from tests.scripted import Scripted
from xprnn import RNN, Checkpoint, NonFiniteLossError, fit
from xprnn.data import Batch
from xprnn.diagnostics import FlowRecord, GradientFlow, gradient_flow
from xprnn.optim import SGD, Adam

RNG = np.random.default_rng(0)
BATCHES = [(RNG.normal(size=(6, 3, 2)), RNG.normal(size=(6, 3, 1))) for _ in range(3)]


def made(**options) -> RNN:
    return RNN(2, 4, 1, cell="gru", dtype="float64", rng=0, **options)


def assert_same(got: list[FlowRecord], want: list[FlowRecord]) -> None:
    assert len(got) == len(want)
    for mine, theirs in zip(got, want, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def test_it_measures_every_so_many_epochs() -> None:
    net, recorder = made(), GradientFlow(every=3)
    fit(net, BATCHES, epochs=8, clip_norm=1e-3, callbacks=[recorder])
    assert [record.epoch for record in recorder.records] == [1, 4, 7]
    assert recorder.names == ("layer 0",)
    assert recorder.parameters == tuple(net.parameters)
    assert all(record.clipped for record in recorder.records)
    assert all(record.clip_norm == 1e-3 for record in recorder.records)


def test_the_first_record_is_the_flow_of_the_first_batch_before_its_update() -> None:
    net, recorder = made(), GradientFlow(bound=0.5)
    flow = gradient_flow(net, *BATCHES[0], bound=0.5)
    before = {name: p.copy() for name, p in net.parameters.items()}
    fit(net, BATCHES, optimizer=SGD(0.1), callbacks=[recorder])
    (record,) = recorder.records
    for name in ("loss", "norms", "decay", "reach", "extent", "saturation", "gradient_norms",
                 "weight_norms", "eigenvalues", "gradient_norm"):  # fmt: skip
        np.testing.assert_array_equal(getattr(record, name), getattr(flow, name))
    moved = [np.linalg.norm(net.parameters[k] - p) / np.linalg.norm(p) for k, p in before.items()]
    np.testing.assert_allclose(record.update_ratios, moved, rtol=1e-12)
    assert record.clip_norm is None
    assert not record.clipped


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3, "recurrent_dropout": 0.2, "layers": 2}])
def test_the_training_is_the_same_with_it(options) -> None:
    def trained(callbacks):
        net = made(**options)
        return remains(net, fit(net, BATCHES, optimizer=Adam(), epochs=4, callbacks=callbacks))

    recorder = GradientFlow()
    assert trained([recorder]) == trained([])
    assert len(recorder.records) == 4


def test_it_measures_with_the_masks_of_the_step() -> None:
    net = made(recurrent_dropout=0.5)
    recorder = GradientFlow()
    history = fit(net, BATCHES[:1], optimizer=SGD(1e-9), epochs=3, callbacks=[recorder])
    np.testing.assert_allclose([record.loss for record in recorder.records], history.loss)
    assert len(set(history.loss)) == 3


def test_state_lengths_window_and_loss_are_those_of_the_training() -> None:
    x = RNG.normal(size=(6, 3, 2))
    tokens = RNG.integers(0, 5, (6, 3))
    net = RNN(2, 4, 5, dtype="float64", rng=0)
    recorder = GradientFlow()
    batches = [Batch(x, tokens, lengths=[6, 2, 4])]
    fit(net, batches, loss="cross_entropy", optimizer=SGD(1e-9), window=1, callbacks=[recorder])
    flow = gradient_flow(
        RNN(2, 4, 5, dtype="float64", rng=0), x, tokens, loss="cross_entropy",
        lengths=[6, 2, 4], window=1,
    )  # fmt: skip
    np.testing.assert_array_equal(recorder.records[0].norms, flow.norms)
    assert np.all(recorder.records[0].decay[0, 2:] == 0)


@pytest.mark.parametrize("step", [4, 5, 9])
def test_a_training_that_is_stopped_and_resumed_has_the_same_records(tmp_path, step: int) -> None:
    def options(recorder):
        checkpoint = Checkpoint(tmp_path / "c.xprnn", every_steps=1, resume=True)
        return {"optimizer": Adam(), "epochs": 5, "callbacks": [recorder], "checkpoint": checkpoint}

    whole = GradientFlow(every=2)
    fit(made(), BATCHES, optimizer=Adam(), epochs=5, callbacks=[whole])
    with killed_in_step(step):
        fit(made(), BATCHES, **options(GradientFlow(every=2)))
    resumed = GradientFlow(every=2)
    fit(made(), BATCHES, **options(resumed))
    assert_same(resumed.records, whole.records)
    assert resumed.names == whole.names
    assert all(record.update_ratios is not None for record in resumed.records)


@pytest.mark.parametrize(
    "state", [None, {}, {"names": [], "parameters": [], "records": [{}], "before": None}]
)
def test_a_damaged_state_is_refused_and_changes_nothing(state) -> None:
    recorder = GradientFlow()
    fit(made(), BATCHES, callbacks=[recorder])
    before = list(recorder.records)
    with pytest.raises(ValueError, match="the state of GradientFlow is damaged"):
        recorder.restore(state)
    assert recorder.records == before
    good = recorder.state()
    good["records"][0]["norms"] = "a"
    with pytest.raises(ValueError, match="expected an array"):
        recorder.restore(good)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_a_training_that_fails_leaves_the_record_that_says_where() -> None:
    net, recorder = RNN(1, 1, 1, dtype="float64", rng=0), GradientFlow()
    pair = (np.ones((3, 1, 1)), np.ones((3, 1, 1)))
    script = Scripted(np.inf, name="readout.weight")
    with pytest.raises(NonFiniteLossError):
        fit(net, [pair] * 2, optimizer=script, epochs=3, callbacks=[recorder])
    assert len(recorder.records) == 1
    net = RNN(1, 1, 1, dtype="float64", rng=0)
    net.parameters["readout.weight"][:] = 1e308
    net.parameters["readout.bias"][:] = 1e308
    net.parameters["weight_ih_l0"][:] = 5.0
    with pytest.raises(NonFiniteLossError):
        fit(net, [pair], callbacks=[recorder])
    assert recorder.records[-1].nonfinite == "the output, at [0, 0, 0] (inf)"
    assert recorder.records[-1].update_ratios is None


def test_options_are_checked() -> None:
    for options, message in (
        ({"every": 0}, "every is 0"),
        ({"bound": 1.0}, "bound is 1"),
    ):
        with pytest.raises(ValueError, match=message):
            GradientFlow(**options)
    with pytest.raises(TypeError, match="eigenvalues is 1"):
        GradientFlow(eigenvalues=1)
    recorder = GradientFlow(eigenvalues=False)
    fit(made(), BATCHES, callbacks=[recorder])
    assert recorder.records[0].eigenvalues is None


def test_a_batch_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="x has shape") as caught:
        fit(made(), [(np.ones((3, 2, 5)), np.ones((3, 2, 1)))], callbacks=[GradientFlow()])
    assert caught.value.__notes__ == ["in epoch 1, batch 1"]
