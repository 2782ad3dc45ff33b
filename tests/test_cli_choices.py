"""The options of network and optimizer reach the training, or are refused with a message."""

import pytest

from tests.cli_tools import run
from xprnn import RNN, cells, optim
from xprnn.cli.train import progress, session
from xprnn.cli.train.session import MODEL
from xprnn.training.history import Record

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
        ("--hidden 8,0", "--hidden is 0: expected an int of at least 1"),
        ("--hidden 8,4 --layers 3", "--hidden has 2 sizes, one for each layer, but --layers is 3"),
        ("--residual", "--residual connects layers, but --layers is 1: expected more layers"),
        (
            "--residual --hidden 8,4,8",
            "--residual connects neighbouring layers of the same size, but --hidden is 8,4,8: "
            "expected two such layers",
        ),
        ("--projection 4 --hidden 8,4", "--projection is 4: expected fewer than the 4 units of"),
        ("--projection 0", "--projection is 0: expected an int of at least 1"),
        ("--heads 0", "--heads is 0: expected an int of at least 1"),
        ("--heads 3 --hidden 6,8", "--heads is 3, blocks of units of the same size, and --hidden"),
        ("--heads 2 --projection 2", "--heads is 2 and --projection is 2: expected one of both"),
        ("--cell ind_rnn --heads 2", "IndRNN has none: expected 1"),
    ],
)
def test_what_makes_no_sense(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    done = run("train", "sine", *words.split())
    assert done.status == 1
    assert message in done.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sizes", ["8,x", "8,", "", "8.5", "8 4"])
def test_sizes_that_are_no_numbers(sizes):
    done = run("train", "sine", "--hidden", sizes)
    assert done.status == 2
    assert f"argument --hidden: {sizes!r} is not a number of units: expected one" in done.error


@pytest.mark.parametrize("problem", ["sine", "text", "csv"])
def test_layers_of_different_sizes(seen, tmp_path, problem):
    file = tmp_path / "book.txt"
    file.write_text("one two three. two three one. three one two. one one two. " * 4)
    words = {"sine": ("sine",), "text": ("text", file), "csv": CSV}[problem]
    options = ["--hidden", "4,4,3", "--layers", "3", "--residual", "--projection", "2"]
    done = run("train", *words, "--epochs", "2", *options, "--out", tmp_path / "out")
    assert done.status == 0, done.err
    net = seen[0][0]
    assert (net.hidden_size, net.residual, net.projection) == ((4, 4, 3), True, 2)
    options = ["--hidden", "4,6", "--heads", "2"]
    assert run("train", *words, "--epochs", "2", *options, "--out", tmp_path / "out").status == 0
    net = seen[-1][0]
    assert (net.hidden_size, net.heads) == ((4, 6), 2)


def test_a_training_that_diverged_is_told(tmp_path, no_pictures):
    file = tmp_path / "book.txt"
    file.write_text("one two three. two three one. three one two. one one two. " * 4)
    sgd = ("--optimizer", "sgd")
    for words, plain in [
        (("sine",), "and 0.248 for an answer of 0; "),
        (("text", file, *sgd), "and 1.95 for an even guess among 7; "),
        (CSV, "for the mean of SUNACTIVITY; "),
    ]:
        done = run("train", *words, *SMALL, "--lr", "1e6", "--out", tmp_path / "out")
        assert done.status == 0
        last = done.err.splitlines()[-1]
        assert last.startswith("xprnn: warning: the training diverged: the ")
        assert last.endswith(f"{plain}a smaller --lr than 1e+06 may help")
        assert "diverged" not in run("train", *words, *SMALL, "--out", tmp_path / "out").err


def test_epochs_that_are_not_needed_count_as_done(capsys):
    shown = progress.Progress(20)
    with shown:
        for _ in range(4):
            shown(None, Record(1, 0.5, None, None))
        shown.skip(6)
        for _ in range(10):
            shown(None, Record(1, 0.5, None, None))
    told = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert told == [f"epoch {k}/20" for k in (1, 2, 4, 12, 14, 16, 18, 20)]


@pytest.mark.parametrize("words", ["--layers 2", "--bidirectional"])
def test_what_is_averaged_has_one_layer(words):
    done = run("train", *CSV[:-3], *words.split())
    assert done.status == 1
    assert "--networks 5 become one network of one layer and direction" in done.error


def test_a_language_model_must_not_see_what_it_predicts():
    assert "unrecognized arguments: --bidirectional" in run("train", "text", "--bidirectional").err
