"""Model files from strangers: every byte may be wrong, and the error says what is."""

import json
import random
import re
import time
import tracemalloc
import warnings

import numpy as np
import pytest

from tests.cli_tools import keep_figures, run
from tests.hostile import joined, mutated, split, with_digest
from xprnn import RNN, Forecaster, LanguageModel
from xprnn.data.series import Scaling
from xprnn.data.text import Vocabulary
from xprnn.engine import saving


def networks():
    """Return a network of every task, and a plain one, by name."""
    sine = RNN(1, 3, 1, rng=0)
    sine.metadata = {
        "task": "sine",
        "input_scale": 0.1,
        "trained_from": -10.0,
        "trained_to": 9.9,
        "seed": 0,
    }
    vocabulary = Vocabulary.of([["a", "b", "c", ".", "ö"]])
    size = len(vocabulary)
    words = RNN(size, 4, size, cell="gru", embedding_size=3, rng=0)
    deep = RNN(2, 3, cell="lstm", layers=2, bidirectional=True, dtype="float64", rng=0)
    deep.metadata = {"nested": {"list": [1, 2.5, None, True, "x"]}}
    return (
        sine,
        RNN(1, 4, 1, returns="last", rng=0),
        LanguageModel(words, vocabulary, "words"),
        deep,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the bytes of valid model files by name."""
    folder = tmp_path_factory.mktemp("valid")
    sine, series, words, deep = networks()
    sine.save(folder / "sine")
    Forecaster(series, 5, Scaling(40.0, 30.0)).save(folder / "series", column="v", seed=0)
    words.save(folder / "text", seed=0)
    deep.save(folder / "deep")
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


def with_config(content, change, *, digest=True):
    """Return a file whose configuration was changed by a function, with or without a digest."""
    header, data = split(content)
    config = json.loads(header["__metadata__"]["config"])
    change(config)
    header["__metadata__"]["config"] = json.dumps(config)
    del header["__metadata__"]["digest"]
    whole = joined(json.dumps(header), data)
    return with_digest(whole) if digest else whole


def content_of(net):
    """Return everything that a file says about a network."""
    arrays = {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in net.parameters.items()}
    return repr(net), arrays, json.dumps(net.metadata, sort_keys=True)


def load_quietly(path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* was saved without a digest")
        return RNN.load(path)


def attempt(path, content):
    """Load a file; return the network, or None after checking the error."""
    path.write_bytes(content)
    started = time.process_time()
    try:
        net = load_quietly(path)
    except (ValueError, OSError) as error:
        net, refused = None, str(error)
    assert time.process_time() - started < 1
    if net is None:
        assert str(path) in refused
        assert len(refused) < 2000
    return net


def commands(path, folder, net):
    """Apply the network that a file holds, by the command of its task."""
    task = net.metadata.get("task")
    if task == "text":
        result = run("sample", path, "--length", 3)
    else:
        words = ("--to", -9) if task == "sine" else (folder / "v.csv", "--steps", 2)
        result = run("apply", path, *words, "--out", folder / "out")
    assert result.status in (0, 1), result
    assert "Traceback" not in result.err
    assert "\x1b" not in result.out + result.err
    assert len(result.err) < 3000
    if result.status:
        assert str(path) in result.err or "v.csv" in result.err
    elif task != "text":
        assert not re.search("nan|inf", (folder / "out" / "output.csv").read_text())


def fuzz(count, seed, files, folder):
    """Load mutated files; return how many were accepted, of how many."""
    rng, accepted = random.Random(seed), 0
    path = folder / "net.safetensors"
    (folder / "v.csv").write_text("v\n" + "\n".join(f"{k % 7}.5" for k in range(20)))
    wanted = {}
    for name, content in files.items():
        path.write_bytes(content)
        wanted[name] = content_of(RNN.load(path))
    for _ in range(count):
        name = rng.choice(sorted(files))
        changed = mutated(files[name], rng)
        net = attempt(path, changed)
        if net is None:
            continue
        accepted += 1
        if split(changed)[0]["__metadata__"].get("digest") == split(files[name])[0][
            "__metadata__"
        ].get("digest"):
            assert content_of(net) == wanted[name]
        else:
            # A stranger's file that is right in itself is what it says.
            net.save(folder / "again")
            assert content_of(RNN.load(folder / "again")) == content_of(net)
        commands(path, folder, net)
    return accepted


def test_mutated_files_are_refused_in_words(files, tmp_path, monkeypatch):
    keep_figures(monkeypatch)
    accepted = fuzz(600, 0, files, tmp_path)
    assert 0 < accepted < 300


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1, 11))
def test_many_mutated_files_are_refused_in_words(files, tmp_path, monkeypatch, seed):
    keep_figures(monkeypatch)
    accepted = fuzz(2500, seed, files, tmp_path)
    print(f"2500 mutated models: {accepted} accepted, the others refused in words")
    assert 0 < accepted < 1250


def test_every_bit_of_a_file_counts(files, path):
    """A changed bit is found, or changes nothing: a blank in the header, the word digest."""
    content = files["sine"]
    path.write_bytes(content)
    wanted = content_of(RNN.load(path))
    for k in range(len(content)):
        changed = bytearray(content)
        changed[k] ^= 1 << k % 8
        net = attempt(path, bytes(changed))
        assert net is None or content_of(net) == wanted


def test_a_changed_weight_is_found(files, path):
    changed = bytearray(files["sine"])
    changed[-3] ^= 1
    path.write_bytes(changed)
    with pytest.raises(ValueError, match="is damaged: its content is not what was written"):
        RNN.load(path)


def test_a_file_without_a_digest_loads_with_a_word(files, path):
    path.write_bytes(with_config(files["sine"], lambda config: None, digest=False))
    with pytest.warns(UserWarning, match="net.safetensors' was saved without a digest"):
        net = RNN.load(path)
    assert content_of(net)[1] == content_of(networks()[0])[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 10**9}, "layers is 1000000000, for 5 parameters: expected at least two"),
        ({"layers": 10**400}, r"layers is 1000.*\.\.\..*, for 5 parameters"),
        ({"dropout": 10**400}, r"dropout is 1000.*\.\.\..*: expected a number at least 0 and bel"),
        ({"dropout": -(10**400)}, r"dropout is -1000.*\.\.\..*: expected a number at least 0"),
        (
            {"hidden_size": 10**400},
            r"hidden_size is 1000.*\.\.\..*, but there are 19 weights in all",
        ),
        ({"embedding_size": 10**12}, "embedding_size is 1000000000000, but there are 19 weights"),
        ({"input_size": "x" * 10**6}, r"input_size is 'xxxx.*\.\.\..*xxx' \(str\): expected an in"),
        ({"metadata": [1]}, r"metadata is \[1\]: expected an object"),
        ({"extra": 1}, "unknown entries 'extra'"),
        ({"cell": 3}, "cell is 3: expected an object with a name and options"),
        ({"cell": {}}, "unknown cell None: known are 'elman'"),
        ({"cell": {"name": ["elman"]}}, r"unknown cell \['elman'\]: known are 'elman'"),
        ({"cell": {"name": "elman", "activation": {}}}, "unknown activation {}: known are 'tanh'"),
        ({"dtype": ["float32"]}, r"dtype is \['float32'\]: expected 'float16' or"),
        ({"dtype": "float64"}, r"weight_hh_l0 has dtype F32: expected F64 \(float64\)|F32"),
        ({"bidirectional": 1}, r"bidirectional is 1 \(int\): expected True or False"),
        ({"returns": {}}, "returns is {}: expected 'sequence'"),
    ],
)
def test_a_configuration_that_is_wrong(files, path, changes, message):
    path.write_bytes(with_config(files["sine"], lambda config: config.update(changes)))
    with pytest.raises(ValueError, match=f"net.safetensors' holds no complete network: {message}"):
        RNN.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 330 + "]" * 330, "nested more than 100 levels deep"),
        ("[" * 100_000, "nested more than 100 levels deep"),
        ('{"a": 1, "a": 1}', "the key 'a' occurs twice"),
        ('{"a": NaN}', "NaN is not a finite number"),
        ('{"a": -Infinity}', "-Infinity is not a finite number"),
        ('{"a": 1e999}', "1e999 is not a finite number"),
        ('{"a": ' + "9" * 5000 + "}", "Exceeds the limit"),
    ],
)
def test_a_configuration_that_is_no_plain_json(files, path, text, message):
    header, data = split(files["sine"])
    header["__metadata__"]["config"] = text
    path.write_bytes(with_digest(joined(json.dumps(header), data)))
    with pytest.raises(ValueError, match=f"has no readable configuration .*{message}"):
        RNN.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"data_offsets": [0]},
        {"data_offsets": [0, 12, 12]},
        {"data_offsets": [0.0, 12.0]},
        {"data_offsets": [12, 0]},
        {"data_offsets": [4, 16]},
        {"shape": [-3]},
        {"shape": [True, 3]},
        {"shape": [1] * 33},
        {"shape": 3},
        {"dtype": ["F32"]},
        {"more": 1},
    ],
)
def test_an_entry_of_the_header_that_is_wrong(files, path, change):
    header, data = split(files["sine"])
    header["bias_l0"] |= change
    path.write_bytes(joined(json.dumps(header), data))
    with pytest.raises(ValueError, match=r"net\.safetensors' is not a whole safetensors file"):
        RNN.load(path)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "I4", ""])
def test_a_dtype_that_no_model_has(files, path, dtype):
    header, data = split(files["sine"])
    header["extra"] = {"dtype": dtype, "shape": [2], "data_offsets": [len(data), len(data) + 4]}
    path.write_bytes(joined(json.dumps(header), data + bytes(4)))
    with pytest.raises(ValueError, match=f"the array 'extra' has the dtype '{dtype}', which xprnn"):
        RNN.load(path)


def test_integers_are_no_weights(files, path):
    header, data = split(files["sine"])
    header["bias_l0"]["dtype"] = "I32"
    path.write_bytes(with_digest(joined(json.dumps(header), data)))
    with pytest.raises(ValueError, match=r"bias_l0 has dtype I32: expected F32 \(float32\)"):
        RNN.load(path)


def test_an_array_that_no_parameter_needs_is_not_read(files, path):
    header, data = split(files["sine"])
    place = [len(data), len(data) + 4 * 10**8]
    header["extra"] = {"dtype": "F32", "shape": [10**8], "data_offsets": place}
    path.write_bytes(joined(json.dumps(header), data))
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size + 4 * 10**8)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="there is no parameter 'extra': known are weight_ih"):
            RNN.load(path)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_memory_is_bounded_by_the_size_of_the_file(path):
    RNN(100, 500, 100, rng=0).save(path)
    RNN.load(path)
    tracemalloc.start()
    RNN.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * path.stat().st_size


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(path, value):
    net = RNN(1, 3, 1, rng=0)
    net.parameters["weight_hh_l0"][1, 2] = value
    net.save(path)
    with pytest.raises(ValueError, match=rf"the weight weight_hh_l0\[1, 2\] is {value}"):
        RNN.load(path)
    back = RNN.load(path, allow_nonfinite=True)
    assert np.array_equal(back.parameters["weight_hh_l0"][1, 2], value, equal_nan=True)


def test_weights_that_another_dtype_can_not_hold(path):
    net = RNN(1, 3, 1, rng=0, dtype="float64")
    net.parameters["bias_l0"][1] = 1e300
    net.save(path)
    RNN.load(path)
    with pytest.raises(ValueError, match=r"bias_l0\[1\] is 1e\+300, not finite in float32"):
        RNN.load(path, dtype="float32")


def test_what_can_be_saved_can_be_loaded(path):
    net = RNN(1, 3, 1, rng=0)
    for levels in (90, 2000):
        deep = []
        for _ in range(levels):
            deep = [deep]
        net.metadata = {"deep": deep}
        if levels == 90:
            net.save(path)
            assert RNN.load(path).metadata == net.metadata
    with pytest.raises(ValueError, match="nested more than 100 levels deep"):
        net.save(path)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("series", {"window": None}, r"window is None \(NoneType\): expected an int"),
        ("series", {"window": 10**9}, "reads to forecast the next"),
        ("series", {"std": -34.0}, r"std is -34\.0: expected a number above 0"),
        ("series", {"std": 0}, r"std is 0\.0: expected a number above 0"),
        ("series", {"mean": 10**400}, "mean is 1000"),
        ("series", {"difference": 0}, "difference is 0"),
        ("series", {"column": ["v"]}, r"column is \['v'\] \(list\): expected a str"),
        ("series", {"task": ["series"]}, r"its task: \['series'\]"),
        ("sine", {"input_scale": "x"}, r"input_scale is 'x' \(str\): expected a number"),
        ("sine", {"input_scale": 1e308}, "not finite|expected finite"),
        ("sine", {"task": "series"}, "net is RNN"),
        ("series", {"task": "sine"}, "net is RNN"),
    ],
)
def test_apply_on_metadata_that_is_wrong(files, tmp_path, name, changes, message):
    path, csv = tmp_path / "net.safetensors", tmp_path / "v.csv"
    csv.write_text("v\n" + "\n".join(f"{k % 7}.5" for k in range(20)))

    def change(config):
        config["metadata"] |= changes

    path.write_bytes(with_config(files[name], change))
    task = changes.get("task", name)
    words = (csv,) if task == "series" else ()
    result = run("apply", path, *words, "--out", tmp_path / "out")
    assert result.status == 1
    assert re.search(message, result.error)
    assert str(path) in result.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["window", "mean", "std", "difference", "column"])
def test_apply_on_metadata_that_lacks_something(files, tmp_path, key):
    path, csv = tmp_path / "net.safetensors", tmp_path / "v.csv"
    csv.write_text("v\n1\n2\n")
    path.write_bytes(with_config(files["series"], lambda config: config["metadata"].pop(key)))
    result = run("apply", path, csv, "--out", tmp_path / "out")
    assert result.status == 1
    assert f"net.safetensors': the network's metadata has no '{key}'" in result.error


def test_apply_writes_no_output_that_is_not_finite(tmp_path):
    path = tmp_path / "net.safetensors"
    net = networks()[0]
    net.parameters["readout.weight"][...] = 3e38
    net.parameters["readout.bias"][...] = 3e38
    net.save(path)
    result = run("apply", path, "--out", tmp_path / "out")
    assert result.status == 1
    assert re.search(
        r"net.safetensors': \d+ of 200 outputs are not finite, the first", result.error
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": "abc"}, "tokens is 'abc': expected a list of strings"),
        ({"tokens": [["a"]]}, r"tokens\[0\] is \['a'\]: expected text"),
        ({"tokens": ["\ud800"]}, r"tokens\[0\] is '\\ud800': expected text"),
        ({"tokens": ["a"] * 100_000}, r"tokens begin with \('a', 'a', 'a'\): expected"),
        ({"level": ["words"]}, r"level is \['words'\] \(list\): expected a str"),
        ({"level": "bytes"}, "level is 'bytes': expected 'words' or 'characters'"),
        ({"task": None}, "the network is no language model"),
    ],
)
def test_sample_on_metadata_that_is_wrong(files, path, changes, message):
    def change(config):
        config["metadata"] |= changes

    path.write_bytes(with_config(files["text"], change))
    result = run("sample", path)
    assert result.status == 1
    assert re.search(f"net.safetensors': {message}", result.error)
    assert len(result.error) < 1000


def test_sample_with_weights_that_overflow(path):
    model = networks()[2]
    model.net.parameters["readout.weight"][...] = 3e38
    model.net.parameters["readout.bias"][...] = 3e38
    model.save(path)
    result = run("sample", path, "--prompt", "a")
    assert result.status == 1
    assert re.fullmatch("a[^\n]*(\n[^\n]*){1,3}\n", result.out)
    assert "net.safetensors': the network's logits are not finite" in result.error


def test_tokens_send_no_terminal_escapes(path, tmp_path):
    """Not on stdout; a file holds the text as it is."""
    vocabulary = Vocabulary.of([["\x1b]0;title\x07", "\x9b31m", "\x7f\r"]])
    size = len(vocabulary)
    net = RNN(size, 2, size, rng=0)
    LanguageModel(net, vocabulary, "words").save(path)
    result = run("sample", path, "--length", 30)
    assert (result.status, result.err) == (0, "")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", result.out)
    assert r"\x1b]0;title\x07" in result.out
    assert r"\x9b31m" in result.out
    assert run("sample", path, "--length", 30, "--out", tmp_path).status == 0
    assert "\x1b]0;title\x07" in (tmp_path / "sample.txt").read_bytes().decode()


def test_names_in_errors_send_no_terminal_escapes(path, tmp_path):
    csv = tmp_path / "v.csv"
    csv.write_text("\x1b[31mv,w\n1,2\n")
    for column in ("\x1b[31mv", "x"):
        result = run("train", "csv", csv, "--column", column)
        assert result.status == 1
        assert "\x1b" not in result.out + result.err


def test_the_schema_names_every_part_of_an_architecture():
    assert {"cell", "layers", "dropout", "dtype", "metadata"} < set(saving.CONFIG)


def test_metadata_that_xprnn_does_not_write(files, path):
    header, data = split(files["sine"])
    header["__metadata__"]["more"] = "x"
    path.write_bytes(joined(json.dumps(header), data))
    with pytest.raises(ValueError, match="has metadata that xprnn does not write: 'more'"):
        RNN.load(path)
