"""The options of network and optimizer reach the training, or are refused with a message."""

import pytest

from tests.cli_tools import run
from xprnn import RNN, cells, optim
from xprnn.cli.train import session
from xprnn.cli.train.session import MODEL

SMALL = ("--hidden", "4", "--epochs", "2")
CSV = ("csv", "sunspots", "--column", "SUNACTIVITY", "--networks", "1", "--no-refit")


@pytest.fixture
def seen(monkeypatch, no_pictures):
    """Return the arguments of every call of fit; the trainings run as usual."""
    calls, fit = [], session.fit

    def spy(net, batches, **options):
        calls.append((net, options))
        return fit(net, batches, **options)

    monkeypatch.setattr(session, "fit", spy)
    return calls


@pytest.mark.parametrize("name", cells.CELLS)
def test_every_cell(seen, tmp_path, name):
    done = run("train", "sine", *SMALL, "--cell", name, "--out", tmp_path)
    assert done.status == 0, done.err
    ((net, _),) = seen
    assert net.cell == cells.get_cell(name)
    assert RNN.load(tmp_path / MODEL).cell == net.cell


def test_what_the_network_is(seen, tmp_path):
    options = "--cell lstm --layers 2 --bidirectional --dropout 0.25 --recurrent-dropout 0.125"
    assert run("train", "sine", *SMALL, *options.split(), "--out", tmp_path).status == 0
    ((net, _),) = seen
    assert (net.layers, net.bidirectional, net.dropout, net.recurrent_dropout) == (
        2,
        True,
        0.25,
        0.125,
    )


def test_an_embedding_and_a_window(seen, tmp_path):
    file = tmp_path / "book.txt"
    file.write_text("one two three. two three one. three one two. one one two. " * 4)
    options = "--embedding 3 --window 2 --cell gru --batch 4 --schedule halve"
    done = run("train", "text", file, *SMALL, *options.split(), "--out", tmp_path / "out")
    assert done.status == 0, done.err
    ((net, given),) = seen
    assert (net.embedding_size, given["window"]) == (3, 2)
    assert given["rate_scale"] is optim.schedules.halve_on_rise


@pytest.mark.parametrize("problem", [("sine",), CSV], ids=["sine", "csv"])
@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_every_optimizer(seen, tmp_path, problem, name):
    words = ("--optimizer", name, "--schedule", "constant")
    done = run("train", *problem, *SMALL, *words, "--out", tmp_path)
    assert done.status == 0, done.err
    ((_, options),) = seen
    assert type(options["optimizer"]) is optim.OPTIMIZERS[name]


def test_what_the_optimizer_is_told(seen, tmp_path):
    options = "--optimizer adamw --lr 0.01 --weight-decay 0.125 --schedule cosine"
    assert run("train", "sine", *SMALL, *options.split(), "--out", tmp_path).status == 0
    ((_, given),) = seen
    chosen = given["optimizer"]
    assert chosen.weight_decay == 0.125
    assert [chosen.learning_rate(k) for k in (0, 1, 2)] == pytest.approx([0.01, 0.005, 0.0])


def test_a_rate_that_falls_to_a_tenth(seen, tmp_path):
    options = "--optimizer adam --lr 0.01 --schedule inverse"
    assert run("train", "sine", *SMALL, *options.split(), "--out", tmp_path).status == 0
    ((_, given),) = seen
    rate = given["optimizer"].learning_rate
    assert [rate(0), rate(2)] == pytest.approx([0.01, 0.001])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--cell foo", "unknown cell 'foo': known are "),
        (
            "--cell gru --activation relu",
            "--activation is an option of the Elman cell, but",
        ),
        ("--layers 0", "--layers is 0: expected an int of at least 1"),
        ("--dropout 1", "--dropout is 1.0: expected a number at least 0 and below 1"),
        ("--dropout 0.5", "--dropout 0.5 acts between layers, but --layers is 1"),
        ("--recurrent-dropout -1", "--recurrent-dropout is -1.0: expected a number at least 0"),
        ("--optimizer foo", "--optimizer is 'foo': expected 'sgd' or 'rprop'"),
        ("--optimizer adam --momentum 0.5", "--momentum is an option of sgd and rmsprop, but"),
        ("--optimizer adam --decay 0.5", "--decay is an option of sgd, but --optimizer is adam"),
        ("--optimizer rprop --weight-decay 1", "--optimizer rprop adapts its own steps"),
        ("--schedule foo", "--schedule is 'foo': expected 'constant' or 'inverse'"),
        ("--weight-decay -1", "--weight-decay is -1.0: expected a number at least 0"),
        ("--window -1", "--window is -1: expected 0 or more steps"),
    ],
)
def test_what_makes_no_sense(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    done = run("train", "sine", *words.split())
    assert done.status == 1
    assert message in done.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ["--layers 2", "--bidirectional"])
def test_what_is_averaged_has_one_layer(words):
    done = run("train", *CSV[:-3], *words.split())
    assert done.status == 1
    assert "--networks 5 become one network of one layer and direction" in done.error


def test_a_language_model_must_not_see_what_it_predicts():
    assert "unrecognized arguments: --bidirectional" in run("train", "text", "--bidirectional").err
