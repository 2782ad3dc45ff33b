"""Gradients whose norm is limited layer by layer, or parameter by parameter."""

import math

import numpy as np
import pytest

from tests.optional import optional
from xprnn import RNN, Checkpoint, fit
from xprnn.diagnostics import GradientFlow
from xprnn.engine.architecture import layer_of
from xprnn.engine.gradients import dense
from xprnn.optim import SGD, clip_by_layer, clip_by_norm
from xprnn.optim.clipping import limit_norms

torch = optional("torch")
RNG = np.random.default_rng(0)
BATCH = (RNG.normal(size=(6, 3, 2)), 5 * RNG.normal(size=(6, 3, 1)))


def made(**options) -> RNN:
    options = {"cell": "gru", "layers": 2, "bidirectional": True, "rng": 0} | options
    return RNN(2, 4, 1, dtype="float64", **options)


def gradients_of(net: RNN) -> dict[str, np.ndarray]:
    return dict(net.value_and_grad(*BATCH)[1].parameters)


def norm(arrays) -> float:
    return math.sqrt(sum(float(np.sum(dense(a) ** 2)) for a in arrays))


def test_names_of_layers():
    names = {layer_of(name) for name in made().parameters}
    assert names == {"layer 0", "layer 1", "readout"}
    assert layer_of("embedding.weight") == "embedding"
    assert layer_of("bias_hn_l12_reverse") == "layer 12"
    assert layer_of("theta") == "theta"


def test_each_layer_keeps_its_direction_and_gets_the_limit():
    gradients = gradients_of(made())
    limit = 1.0
    clipped, norms = clip_by_layer(gradients, limit)
    assert list(clipped) == list(gradients)
    assert list(norms) == ["layer 0", "layer 1", "readout"]
    assert float(norms["layer 0"]) < limit < float(norms["readout"])
    for layer, before in norms.items():
        names = [name for name in gradients if layer_of(name) == layer]
        assert float(before) == pytest.approx(norm(gradients[n] for n in names), rel=1e-12)
        factor = min(1, limit / float(before))
        for name in names:
            assert np.allclose(clipped[name], factor * gradients[name], rtol=1e-12, atol=0)
            assert not np.shares_memory(clipped[name], gradients[name])


@pytest.mark.parametrize("by", ["network", "layer", "parameter"])
def test_torch_clips_so(by):
    gradients = gradients_of(made())
    groups: dict[str, list[str]] = {}
    for name in gradients:
        key = {"network": "", "layer": layer_of(name), "parameter": name}[by]
        groups.setdefault(key, []).append(name)
    limited, largest = limit_norms(dict(gradients), 0.2, by)
    norms = []
    for names in groups.values():
        tensors = [torch.zeros(gradients[n].shape, dtype=torch.float64) for n in names]
        for tensor, name in zip(tensors, names, strict=True):
            tensor.grad = torch.tensor(gradients[name])
        norms.append(float(torch.nn.utils.clip_grad_norm_(tensors, 0.2)))
        for tensor, name in zip(tensors, names, strict=True):
            # torch divides by the norm plus 1e-6.
            assert np.allclose(limited[name], tensor.grad, rtol=1e-5, atol=0)
    assert float(largest) == pytest.approx(max(norms), rel=1e-12)


def test_sparse_gradients_stay_sparse():
    net = RNN(9, 4, 2, embedding_size=3, dtype="float64", rng=0)
    tokens = RNG.integers(0, 9, (5, 2))
    gradients = net.value_and_grad(tokens, RNG.normal(size=(5, 2, 2)))[1].parameters
    clipped, norms = clip_by_layer(gradients, 1e-3)
    assert list(norms) == ["embedding", "layer 0", "readout"]
    assert type(clipped["embedding.weight"]) is type(gradients["embedding.weight"])
    assert norm([clipped["embedding.weight"]]) == pytest.approx(1e-3, rel=1e-9)


@pytest.mark.parametrize("by", ["layer", "parameter"])
def test_a_training_reports_the_norm_that_it_limits(by):
    limit, step, net = 0.3, made(), made()
    gradients = gradients_of(step)
    limited, largest = limit_norms(dict(gradients), limit, by)
    step.parameters, _ = SGD(0.1).update(limited, SGD(0.1).init(step.parameters), step.parameters)
    recorder = GradientFlow()
    options = {"optimizer": SGD(0.1), "clip_norm": limit, "clip_by": by, "callbacks": [recorder]}
    history = fit(net, BATCH, **options)
    assert all(np.array_equal(net.parameters[name], p) for name, p in step.parameters.items())
    assert history.records[0].gradient_norm == float(largest)
    (record,) = recorder.records
    assert record.limited_norm == pytest.approx(float(largest), rel=1e-9)
    assert record.gradient_norm == pytest.approx(norm(gradients.values()), rel=1e-9)
    assert record.clipped


def test_a_flow_is_not_marked_when_no_layer_was_clipped():
    recorder, net = GradientFlow(), made()
    norms = [float(n) for n in clip_by_layer(gradients_of(net), 1.0)[1].values()]
    limit = 1.01 * max(norms)
    assert limit < norm(gradients_of(net).values())
    fit(net, BATCH, clip_norm=limit, clip_by="layer", callbacks=[recorder])
    assert not recorder.records[0].clipped


def test_a_training_is_not_resumed_with_another_kind_of_clipping(tmp_path):
    options = {"epochs": 2, "clip_norm": 0.1}
    file = Checkpoint(tmp_path / "run.ckpt", resume=True)
    fit(made(), BATCH, clip_by="layer", checkpoint=file, **options)
    with pytest.raises(ValueError, match="clip_by"):
        fit(made(), BATCH, checkpoint=file, **options)


def test_a_watcher_without_the_argument_goes_on_working():
    class Older:
        def __call__(self, net, record):
            pass

        def watch(self, net, epoch, x, target, *, state, lengths, loss, window, clip_norm):
            self.limit = clip_norm

    older = Older()
    fit(made(), BATCH, clip_norm=0.5, callbacks=[older])
    assert older.limit == 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit(made(), BATCH, clip_norm=1.0, clip_by="unit"), "unknown clip_by|clip_by is"),
        (lambda: fit(made(), BATCH, clip_by="layer"), "clip_norm is None: expected a limit"),
        (lambda: clip_by_layer({}, 1.0), "gradients is empty"),
        (lambda: clip_by_layer(gradients_of(made()), 0.0), "limit is 0"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_network_as_one_is_as_before():
    gradients = gradients_of(made())
    one, n = limit_norms(dict(gradients), 0.3, "network")
    two, m = clip_by_norm(gradients, 0.3)
    assert float(n) == float(m)
    assert all(np.array_equal(one[k], two[k]) for k in one)
