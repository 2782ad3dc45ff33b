"""Networks in files: what comes back, and what is refused."""

import json
import os
import stat

import numpy as np
import pytest

from tests.cases import each_case
from tests.closeness import assert_all_close
from tests.gated import Gated
from tests.harness import on_every_backend
from tests.optional import optional
from xprnn import RNN
from xprnn.cells import Activation, Elman, cell_config

torch = optional("torch")
safetensors = optional("safetensors.numpy")
of_torch = optional("safetensors.torch")


def own_cell(case):
    """Return the cell that `load` must be given: None if the file names it."""
    return case.cell if cell_config(case.cell) is None else None


def parts_of(path) -> tuple[dict[str, np.ndarray], dict]:
    """Return what a model file holds: its arrays, and its configuration."""
    header = path.read_bytes()
    size = int.from_bytes(header[:8], "little")
    return safetensors.load_file(path), json.loads(
        json.loads(header[8 : 8 + size])["__metadata__"]["config"]
    )


def write(path, arrays, metadata) -> None:
    path.write_bytes(safetensors.save(arrays, metadata))


@pytest.fixture
def net():
    return RNN(2, 3, 1, dtype="float64", rng=0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@each_case
def test_a_round_trip_is_exact(case, dtype, path):
    net = case.make(dtype=dtype, rng=0)
    net.save(path)
    back = RNN.load(path, cell=own_cell(case))
    assert repr(back) == repr(net)
    assert back.backend.dtype_name == dtype
    assert list(back.parameters) == list(net.parameters)
    assert_all_close(dict(back.parameters), dict(net.parameters), 0.0)
    if dtype == "float64":
        problem = case.problem()
        assert np.array_equal(back(problem.x, problem.state)[0], net(problem.x, problem.state)[0])


@on_every_backend()
def test_from_any_backend_to_any(case, harness, path):
    harness.net(case).save(path)
    for backend in (harness.backend, "numpy"):
        back = RNN.load(path, backend=backend, cell=own_cell(case))
        got = {name: np.array(back.backend.to_numpy(p)) for name, p in back.parameters.items()}
        assert_all_close(got, case.parameters(), 0.0)
    assert RNN.load(path, backend=harness.backend, cell=own_cell(case)).backend == harness.backend


def test_backend_device_and_dtype_can_be_chosen(net, path):
    net.save(path)
    there = RNN.load(path, backend="array_api_strict", device="device1", dtype="float32")
    assert there.backend.name == "array_api_strict"
    assert "device1" in str(there.backend.device)
    assert there.backend.dtype_name == "float32"
    want = net.parameters["weight_hh_l0"].astype("float32")
    assert np.array_equal(there.backend.to_numpy(there.parameters["weight_hh_l0"]), want)


def test_metadata_come_back(net, path):
    net.metadata = {"scale": {"mean": 0.1, "std": [1.5, -2]}, "note": "μ", "none": None, "ok": True}
    net.save(path)
    back = RNN.load(path)
    assert back.metadata == net.metadata
    back.save(path)
    assert RNN.load(path).metadata == net.metadata


def test_the_file_is_an_ordinary_safetensors_file(net, path):
    net.save(path)
    arrays, config = parts_of(path)
    assert_all_close(arrays, dict(net.parameters), 0.0)
    assert config["cell"] == {"name": "elman", "activation": "tanh"}
    assert config["hidden_size"] == 3


def test_the_file_has_ordinary_permissions(net, path):
    net.save(path)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_paths_may_be_text(net, path):
    net.save(str(path))
    assert repr(RNN.load(str(path))) == repr(net)


@pytest.mark.parametrize("length", [0, 1, 8, 9, 100, 400, -1])
def test_a_file_that_is_cut_off(net, path, length):
    net.save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"net\.safetensors' is not a .*safetensors file; cut off"):
        RNN.load(path)


@pytest.mark.parametrize(
    "content",
    [b"not a model, but a text", b"\xff" * 200, b"\x00" * 200, b"PK\x03\x04" * 10],
    ids=["text", "ones", "zeros", "zip"],
)
def test_a_file_of_something_else(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"net\.safetensors' is (not )?a .*safetensors file"):
        RNN.load(path)


def test_a_file_with_something_behind_it(net, path):
    net.save(path)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ValueError, match="safetensors file; cut off, or something else"):
        RNN.load(path)


@pytest.mark.parametrize(
    "write_other",
    [
        lambda path: safetensors.save_file({"a": np.ones(2)}, path),
        lambda path: safetensors.save_file({"a": np.ones(2)}, path, {"format": "pt"}),
        lambda path: optional("safetensors.torch").save_file(
            {"a": torch.ones(2, dtype=torch.bfloat16)}, path
        ),
        lambda path: optional("safetensors.torch").save_file(
            {"a": torch.ones(2, dtype=torch.float8_e4m3fn)}, path
        ),
    ],
    ids=["plain", "other-format", "bfloat16", "float8"],
)
def test_a_safetensors_file_of_another_program(path, write_other):
    write_other(path)
    with pytest.raises(ValueError, match="a safetensors file, but not a model saved by xprnn"):
        RNN.load(path)


def test_another_version(net, path):
    net.save(path)
    arrays, config = parts_of(path)
    write(path, arrays, {"format": "xprnn", "version": "2", "config": json.dumps(config)})
    with pytest.raises(ValueError, match="has version '2' of the model format: this xprnn reads v"):
        RNN.load(path)


@pytest.mark.parametrize("config", [None, "no JSON", "[]", "3"])
def test_no_configuration(net, path, config):
    net.save(path)
    metadata = {"format": "xprnn", "version": "1"} | ({} if config is None else {"config": config})
    write(path, dict(net.parameters), metadata)
    with pytest.raises(ValueError, match=r"net\.safetensors' has no readable configuration"):
        RNN.load(path)


@pytest.mark.parametrize(
    "key",
    [
        "input_size",
        "hidden_size",
        "output_size",
        "cell",
        "bias",
        "returns",
        "dtype",
        "metadata",
    ],
)
def test_a_configuration_that_lacks_something(net, path, key):
    net.save(path)
    arrays, config = parts_of(path)
    del config[key]
    write(path, arrays, {"format": "xprnn", "version": "1", "config": json.dumps(config)})
    with pytest.raises(ValueError, match=rf"net\.safetensors' holds no complete network: {key}"):
        RNN.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"cell": {"name": "future"}},
            "complete network: unknown cell 'future': known are 'elman'",
        ),
        ({"cell": {"name": "elman", "extra": 1}}, "holds no complete network: .*'extra'"),
        ({"input_size": "2"}, r"holds no complete network: input_size is '2' \(str\)"),
        ({"input_size": 4}, r"weight_ih_l0 has shape \(3, 2\): expected \(3, 4\)"),
        ({"bias": False}, "holds no complete network: there is no parameter 'bias_l0'"),
        ({"output_size": None}, "holds no complete network: there is no parameter 'readout"),
        ({"returns": "all"}, "returns is 'all': expected 'sequence' or 'last'"),
        ({"dtype": "int8"}, "dtype is 'int8': expected 'float16' or"),
    ],
)
def test_a_configuration_that_does_not_fit(net, path, change, message):
    net.save(path)
    arrays, config = parts_of(path)
    metadata = {"format": "xprnn", "version": "1", "config": json.dumps(config | change)}
    write(path, arrays, metadata)
    with pytest.raises(ValueError, match=message):
        RNN.load(path)


def test_a_parameter_that_is_missing(net, path):
    net.save(path)
    arrays, config = parts_of(path)
    del arrays["bias_l0"]
    write(path, arrays, {"format": "xprnn", "version": "1", "config": json.dumps(config)})
    with pytest.raises(ValueError, match="holds no complete network: parameters lack bias_l0"):
        RNN.load(path)


def test_no_file(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"there is no model file .*{path.name}"):
            RNN.load(path)


@pytest.mark.parametrize("cell", [Gated(0.5), Elman(Activation("double", None, None))])
def test_a_cell_of_the_users_own(path, cell):
    RNN(2, 3, 1, cell=cell, rng=0).save(path)
    with pytest.raises(ValueError, match="saved with a cell of the user's own: pass it as `cell`"):
        RNN.load(path)
    assert RNN.load(path, cell=cell).cell is cell


def test_a_cell_that_the_file_knows(net, path):
    net.save(path)
    with pytest.raises(ValueError, match=r"the file says which cell it needs .*elman.*: don't"):
        RNN.load(path, cell=Elman())


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        ({"a": {1, 2}}, TypeError, r"metadata\['a'\] is set: expected plain data"),
        ({"a": np.ones(2)}, TypeError, r"metadata\['a'\] is numpy.ndarray of shape"),
        ({"a": float("nan")}, ValueError, r"metadata\['a'\] is nan: expected finite"),
        (None, TypeError, "metadata is NoneType: expected a dict"),
        ([1], TypeError, "metadata is list: expected a dict"),
    ],
)
def test_metadata_that_is_no_json(net, path, metadata, error, message):
    net.save(path)
    before = path.read_bytes()
    net.metadata = metadata
    with pytest.raises(error, match=message):
        net.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_failed_save_leaves_the_old_file(net, path, monkeypatch):
    net.save(path)
    before = path.read_bytes()
    net.parameters["bias_l0"] = np.ones(3)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        net.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_folder_that_is_not_there(net, tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        net.save(tmp_path / "none" / "net.safetensors")
