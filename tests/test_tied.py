"""Tied weights: one matrix is embedding and readout, its gradient the sum of both shares."""

import copy

import numpy as np
import pytest

from tests.cases import FEW, Case, each_cell, row_of
from tests.closeness import AUTOGRAD, FLOAT64, assert_all_close, assert_close, between_backends
from tests.harness import on_every_backend
from tests.judge import judge, masks_of
from tests.passes import all_of, on_backend, on_numpy
from tests.stacks import DROPOUT, LENGTHS
from xprnn import RNN, LanguageModel, fit
from xprnn.data.text import Vocabulary
from xprnn.diagnostics import draw_text
from xprnn.interop.torch import from_state_dict, to_state_dict
from xprnn.optim import OPTIMIZERS

NAME, OTHER = "embedding.weight", "readout.weight"
SIZES = {"T": 5, "B": 3, "I": 11, "O": 11, "H": 4, "embedding_size": 4, "tied": True}
BOTH = {"bidirectional": True, "layers": 2, "embedding_size": 8}
FORMS = {
    "": {},
    "deep": BOTH | {"lengths": LENGTHS},
    "last": {"returns": "last", "bias": False},
    "dropped": DROPOUT | {"layers": 2},
}
CASE = row_of("gru").but(**SIZES)


def twin_of(case: Case) -> RNN:
    """The network with two matrices, each a copy of the one."""
    twin = case.but(tied=False).make(dtype="float64")
    p = case.parameters()
    twin.parameters = {name: p[NAME if name == OTHER else name] for name in twin.parameters}
    return twin


@pytest.mark.parametrize("form", FORMS)
@each_cell
def test_it_is_the_network_with_two_matrices_and_the_sum_of_their_gradients(case, form):
    case = case.but(**SIZES | FORMS[form])
    problem = case.problem()
    for window in (None, 1):
        run, got = on_numpy(case, rng=0, window=window)
        twin = twin_of(case)
        other = twin.forward(problem.x, problem.state, case.lengths, rng=0)
        gradient = twin.backward(other, problem.d_output, problem.d_state, window)
        assert np.array_equal(run.output, other.output)
        want = dict(gradient.parameters)
        of_readout = want.pop(OTHER)
        assert np.any(of_readout)
        assert np.any(want[NAME].values)
        want[NAME] = want[NAME].to_dense() + of_readout
        got = {name: g for name, g in got.items() if name in want}
        assert_all_close(got, want, FLOAT64)


@pytest.mark.parametrize("form", FORMS)
def test_against_autograd(form):
    case = row_of("lstm-everything").but(**SIZES | FORMS[form])
    run, got = on_numpy(case, rng=0)
    want = judge(case, case.parameters(), case.problem(), masks=masks_of(run))
    assert_close(run.output, want.output, AUTOGRAD)
    assert_all_close(got, all_of(want, case.cell), AUTOGRAD)


@on_every_backend(FEW, on_jax=FEW[:1])
def test_every_backend_agrees_with_numpy(harness, case):
    dtype = "float32" if case.id == "gru" else "float64"
    harness = harness.at(dtype)
    case = case.but(**SIZES, lengths=LENGTHS)
    run, got = on_backend(case, harness)
    want_run, want = on_numpy(case)
    tolerance = between_backends(dtype, 2 * case.T)
    assert_close(harness.host(run.output), want_run.output, tolerance, "output")
    assert_all_close(got, want, tolerance)


def test_parameters():
    net = RNN(11, 4, 11, tied=True, dtype="float64", rng=0)
    assert list(net.parameters) == [
        NAME,
        "weight_ih_l0",
        "weight_hh_l0",
        "bias_l0",
        "readout.bias",
    ]
    assert (net.tied, net.embedding_size) == (True, 4)
    assert net.parameters[NAME].shape == (11, 4)
    # As a readout, it sums over 4 features.
    assert 0.4 < np.max(np.abs(net.parameters[NAME])) <= 0.5
    assert "tied=True" in repr(net)
    assert "tied" not in repr(RNN(11, 4, 11, embedding_size=4))
    assert RNN(11, 4, 11, bidirectional=True, tied=True).embedding_size == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_size": 10}, r"\(11, 4\), and the readout, \(10, 4\): expected an output_size of"),
        (
            {"output_size": None},
            r"the readout, \(None, 4\): expected an output_size of 11",
        ),
        ({"embedding_size": 5}, r"\(11, 5\), and the readout, \(11, 4\): .*size of 4, or None"),
        ({"bidirectional": True, "embedding_size": 4}, "embedding_size of 8, or None"),
    ],
)
def test_sizes_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        RNN(11, 4, **{"output_size": 11, "tied": True} | options)
    with pytest.raises(TypeError, match="tied is 1"):
        RNN(11, 4, 11, tied=1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_trains_it(optimizer):
    words = np.array([0, 1, 2, 0, 3, 4] * 6).reshape(-1, 1)
    net = RNN(5, 8, 5, cell="gru", tied=True, dtype="float64", rng=0)
    history = fit(
        net,
        (words[:-1], words[1:]),
        loss="cross_entropy",
        optimizer=optimizer,
        epochs=30,
        clip_norm=1.0,
    )
    assert history.loss[-1] < history.loss[0]


def test_a_single_sentence_of_a_large_vocabulary():
    """Where an untied readout's gradient is factored; the update is that of the sum."""
    x = np.arange(6).reshape(-1, 1)
    batch = (x[:-1], x[1:])
    net = RNN(3000, 40, 3000, tied=True, dtype="float64", rng=0)
    value, gradient = net.value_and_grad(*batch, loss="cross_entropy")
    before = net.parameters[NAME].copy()
    history = fit(net, batch, loss="cross_entropy", optimizer=OPTIMIZERS["sgd"](0.1), epochs=1)
    assert history.loss == [pytest.approx(float(value))]
    want = before - 0.1 * gradient.parameters[NAME]
    assert_close(net.parameters[NAME], want, 1e-14)


def test_it_is_saved_moved_and_copied(tmp_path):
    net, x = CASE.make(dtype="float64", rng=0), CASE.problem().x
    net.save(tmp_path / "net.safetensors")
    want = net(x)[0]
    for twin in (RNN.load(tmp_path / "net.safetensors"), net.to("numpy"), copy.deepcopy(net)):
        assert twin.architecture == net.architecture
        assert np.array_equal(twin(x)[0], want)


def test_files_of_other_networks_are_as_they_were(tmp_path):
    RNN(3, 2, rng=0).save(tmp_path / "net.safetensors")
    assert b"tied" not in (tmp_path / "net.safetensors").read_bytes()


def test_state_dicts_have_both_names():
    net = CASE.make(rng=0)
    state = to_state_dict(net)
    assert np.array_equal(state[NAME], state[OTHER])
    assert not np.shares_memory(state[NAME], state[OTHER])
    again = from_state_dict(state, tied=True)
    assert again.architecture == net.architecture
    assert_all_close(dict(again.parameters), dict(net.parameters), 0.0)
    apart = from_state_dict(state)
    x = CASE.problem().x
    assert np.array_equal(apart(x)[0], net(x)[0])
    state[OTHER][0, 0] += 1
    with pytest.raises(ValueError, match=f"tied is True, but '{NAME}' and '{OTHER}' differ"):
        from_state_dict(state, tied=True)
    del state[OTHER]
    with pytest.raises(ValueError, match="tied=True makes one matrix of"):
        from_state_dict(state, tied=True)


def test_a_tied_language_model_writes(tmp_path):
    vocabulary = Vocabulary.of(["abc"])
    net = RNN(6, 4, 6, tied=True, rng=0)
    model = LanguageModel(net, vocabulary, "characters")
    model.save(tmp_path / "m.safetensors")
    again = LanguageModel.of(RNN.load(tmp_path / "m.safetensors"))
    assert again.sample("a", 20, rng=0) == model.sample("a", 20, rng=0)


def test_a_drawing_names_the_one_matrix():
    text = draw_text(RNN(6, 4, 6, tied=True))
    assert "y(t) = E h(t) + r" in text
    assert "readout.weight" not in text
