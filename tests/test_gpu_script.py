"""``ci/gpu.sh`` in a fresh copy of the sources, with stand-ins for CuPy and the device.

So that no mistake in the script costs time on a device.  See `tests.stand_in` for the stand-ins.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests import cuda_host

ROOT = Path(__file__).parents[1]
FOLDERS = ("ci", "tests", "xprnn", "examples")
if not (ROOT / "ci").is_dir():
    pytest.skip("the sources have no ci/", allow_module_level=True)

from ci.gpu import run as script  # noqa: E402

compiles = pytest.mark.skipif(cuda_host.COMPILER is None, reason="there is no C++ compiler")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Return a copy of the sources without anything that was made from them."""
    made = tmp_path_factory.mktemp("checkout")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, made / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", made)
    return made


def gpu_sh(checkout, folder, **variables):
    """Run the script; return its exit status, its output, and the records by name."""
    environment = os.environ | {
        "PYTHON": sys.executable,
        "PYTHONPATH": str(checkout / "tests" / "stand_in"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TRIAL": "1",
        **variables,
    }
    done = subprocess.run(
        ["bash", checkout / "ci" / "gpu.sh", folder],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    texts = {path.name.split("-")[1]: path.read_text() for path in folder.glob("cuda-*.json")}
    records = {name: json.loads(text) for name, text in texts.items()}
    return done, records


def check(name, record):
    """Hold a record to what docs/records/README.md says of it."""
    assert record["device"] == "stand-in", name
    assert {"xprnn", "cupy", "cuda", "driver", "python"} <= set(record["versions"]), name
    assert record["date"].startswith("20"), name
    assert record["complete"] is True, name
    assert record["wrong"] == "", name
    assert record["trial"] is True, name


@pytest.mark.slow
@compiles
def test_the_first_part(checkout, tmp_path):
    done, records = gpu_sh(checkout, tmp_path, PARTS="smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(records) == {"run", "smoke"}
    check("smoke", records["smoke"])
    assert {row["array"] for row in records["smoke"]["rows"]} >= {"output", "x", "weight_hh_l0"}
    assert records["run"]["parts"] == {"smoke": "done"}
    assert "a step each way" in records["smoke"]["explain"]


@pytest.mark.full
@compiles
def test_all_parts(checkout, tmp_path):
    done, records = gpu_sh(checkout, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(records) == {"run", *script.PARTS}
    fates = dict.fromkeys(script.PARTS, "done") | {"devices": "left out: there is one device"}
    assert records["run"]["parts"] == fates
    for name in script.PARTS:
        check(name, records[name])
        if name == "devices":
            assert records[name]["left_out"] == "all: there is one device"
            continue
        if name == "ranks":
            assert records[name]["left_out"] == "several ranks: there is one device"
        assert records[name]["rows"] or name == "tests", name
    for row in records["loops"]["rows"]:
        assert row["again"]
        assert row["error"] < {"float64": 1e-10, "bfloat16": 0.1}[row["dtype"]]
    assert {row["graph"] for row in records["loops"]["rows"]} == {"on", "off"}
    for row in records["parity"]["rows"]:
        assert row["disagree"] == []
    precisions = {row["precision"] for row in records["layer"]["rows"]}
    assert (
        precisions == {"float32", "tf32", "float16", "bfloat16"} <= set(records["layer"]["rates"])
    )
    for name in ("layer", "train"):
        for row in records[name]["rows"]:
            assert row["ratio"] == pytest.approx(row["xprnn_ms"] / row["torch_ms"])
        assert "cudnn" in records[name]["peers"]
    for row in records["layer"]["rows"]:
        assert row["us_a_step"] == pytest.approx(1e3 * row["xprnn_ms"] / row["steps"])
        assert row["of_product_rate"] > 0
        assert row["of_bandwidth"] > 0
    assert records["tests"]["counts"] == {"passed": 1}
    assert records["crossover"]["crossover"].keys() == {"2"}


@pytest.mark.slow
@compiles
def test_two_devices(checkout, tmp_path):
    done, records = gpu_sh(checkout, tmp_path, PARTS="devices", STAND_IN_DEVICES="2")
    assert done.returncode == 0, done.stdout + done.stderr
    record = records["devices"]
    check("devices", record)
    assert record["devices"] == 2
    assert "left_out" not in record
    refused, trained = record["rows"][:3], record["rows"][3:]
    assert [row["refused"] for row in refused] == [True] * 3
    assert {(row["problem"], row["loop"]) for row in trained} == {
        (problem, loop) for problem in ("series", "tokens") for loop in ("step", "persistent")
    }
    for row in trained:
        assert row["same_bits"]
        assert row["where"] == [True, True]
        assert row["error"] == 0


@pytest.mark.full
@compiles
def test_two_ranks(checkout, tmp_path):
    done, records = gpu_sh(checkout, tmp_path, PARTS="ranks", STAND_IN_DEVICES="2")
    assert done.returncode == 0, done.stdout + done.stderr
    record = records["ranks"]
    check("ranks", record)
    assert [(row["size"], row["rank"]) for row in record["rows"]] == [(1, 0), (2, 0), (2, 1)]
    assert all(row["right"] for row in record["rows"])


@pytest.mark.slow
@compiles
def test_one_device(checkout, tmp_path):
    done, records = gpu_sh(checkout, tmp_path, PARTS="devices")
    assert done.returncode == 0, done.stdout + done.stderr
    assert records["run"]["parts"] == {"devices": "left out: there is one device"}
    assert records["devices"]["left_out"] == "all: there is one device"


PYTEST = ("pytest", "py.py", "_pytest", "pluggy", "iniconfig", "packaging", "pygments")
NEEDED = ("numpy", "numpy.libs", "array_api_compat")


def bare(made, needed):
    """Return a Python that has these packages, and nothing else."""
    venv.create(made, symlinks=True)
    (packages,) = made.glob("lib/python*/site-packages")
    for name in needed:
        found = importlib.util.find_spec(name.removesuffix(".libs").removesuffix(".py"))
        (place,) = found.submodule_search_locations or [found.origin]
        source = Path(place).parent / name
        if source.exists():
            (packages / name).symlink_to(source)
    return made / "bin" / "python"


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """Return a Python that has what the script needs, and nothing else."""
    return bare(tmp_path_factory.mktemp("bare"), NEEDED)


@pytest.mark.slow
@compiles
def test_the_tests_on_a_machine_without_judges(checkout, tmp_path_factory, tmp_path):
    """They run, and what is left out is named with its reason."""
    python = bare(tmp_path_factory.mktemp("pytest"), (*NEEDED, *PYTEST))
    done, records = gpu_sh(checkout, tmp_path, PYTHON=str(python), PARTS="tests")
    assert done.returncode == 0, done.stdout + done.stderr
    check("tests", records["tests"])
    assert {"torch", "jax", "array_api_strict", "hypothesis"} <= set(records["tests"]["lacking"])
    assert records["tests"]["counts"] == {"passed": 1, "left out": 2}
    for row, name in zip(records["tests"]["rows"], ("backend", "state_dict"), strict=True):
        assert row["test"] == f"tests/test_{name}.py"
        assert row["outcome"] == "left out"
        assert row["why"][0].startswith("could not import 'torch")


@pytest.mark.slow
@compiles
@pytest.mark.parametrize(
    "parts",
    ["smoke loops tests", pytest.param("parity layer train crossover", marks=pytest.mark.full)],
)
def test_on_a_machine_that_lacks_everything_else(parts, checkout, bare_python, tmp_path):
    lacked = "import importlib.util as u, sys; sys.exit(any(map(u.find_spec, sys.argv[1:])))"
    others = ("torch", "jax", "pytest", "safetensors", "threadpoolctl", "numba", "matplotlib")
    subprocess.run([bare_python, "-c", lacked, *others], check=True)
    done, records = gpu_sh(checkout, tmp_path, PYTHON=str(bare_python), PARTS=parts)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, fate in records["run"]["parts"].items():
        if name == "tests":
            assert fate == "left out: pytest is not installed"
        else:
            assert fate == "done"
            check(name, records[name])
            narrow = [row for row in records[name]["rows"] if row.get("dtype") == "bfloat16"]
            assert len(narrow) == (name == "loops")
            assert all("ml_dtypes" in row["left_out"] for row in narrow)
            assert not any("ratio" in row for row in records[name]["rows"] if name != "crossover")


@pytest.mark.slow
def test_without_a_device_the_others_are_not_started(checkout, tmp_path):
    done, records = gpu_sh(checkout, tmp_path, PYTHONPATH="", PARTS="smoke loops")
    if records["run"]["parts"]["smoke"] == "done":
        pytest.skip("there is a device")
    assert done.returncode == 1
    assert "'cupy' is not installed" in done.stderr or "CuPy is installed, but" in done.stderr
    assert records["run"]["parts"] == {
        "smoke": "no device",
        "loops": "left out: no device works",
    }


class Time:
    """A clock that advances by what a part takes."""

    def __init__(self, monkeypatch, folder, takes, **variables):
        self.now, self.given, self.takes = 0.0, {}, takes
        monkeypatch.setattr(script.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(script, "run_part", self.run)
        for name in ("BUDGET", "PARTS", "SKIP", "GPU_RECORDS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        self.folder = folder

    def run(self, name, seconds):
        self.given[name] = seconds
        spent = self.takes.get(name, 0)
        self.now += min(spent, seconds)
        return "done" if spent <= seconds else f"cut after {seconds:.0f} s"

    def main(self):
        said = script.main(str(self.folder))
        (path,) = self.folder.glob("cuda-run-*.json")
        return said, json.loads(path.read_text())


def test_the_budget_is_kept(monkeypatch, tmp_path, capsys):
    clock = Time(monkeypatch, tmp_path, {"smoke": 20, "loops": 90, "parity": 80}, BUDGET="200")
    said, record = clock.main()
    assert said is None
    given = {"smoke": 60, "loops": 90, "devices": 30, "ranks": 25, "parity": 70}
    assert clock.given == given | dict.fromkeys(("train", "crossover", "tests"), 20)
    assert record["parts"] == {
        "smoke": "done",
        "loops": "done",
        "devices": "done",
        "ranks": "done",
        "parity": "cut after 70 s",
        "layer": "left out: it needs 25 s, and 20 s are left",
        "train": "done",
        "crossover": "done",
        "tests": "done",
    }
    assert "layer: left out: it needs 25 s" in capsys.readouterr().out


def test_eight_minutes_are_enough_for_every_part_that_ends_in_time():
    usual = sum(part.most for name, part in script.PARTS.items() if name != "tests")
    assert usual + script.PARTS["tests"].least <= 8 * 60 + 60
    assert all(part.least < part.most for part in script.PARTS.values())


def test_a_part_that_fails_is_named_and_the_others_run(monkeypatch, tmp_path):
    clock = Time(monkeypatch, tmp_path, {}, PARTS="smoke loops")
    monkeypatch.setattr(
        script, "run_part", lambda name, seconds: "failed with status 1" * (name == "smoke")
    )
    said, record = clock.main()
    assert said == "failed: smoke"
    assert record["parts"] == {"smoke": "failed with status 1", "loops": ""}


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    clock = Time(monkeypatch, tmp_path, {}, PARTS="tests")
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None)
    _, record = clock.main()
    assert record["parts"] == {"tests": "left out: pytest is not installed"}


def test_which_parts():
    assert script.chosen(None, None) == list(script.PARTS)
    assert script.chosen("tests smoke", None) == ["smoke", "tests"]
    assert script.chosen(None, "devices ranks parity layer train crossover tests") == [
        "smoke",
        "loops",
    ]
    for parts, skip in (("smok", None), (None, "smok")):
        with pytest.raises(ValueError, match="unknown part 'smok': known are smoke, loops"):
            script.chosen(parts, skip)


@pytest.mark.slow
def test_a_part_that_hangs_is_ended_with_its_processes(monkeypatch, tmp_path):
    package = tmp_path / "ci" / "gpu"
    package.mkdir(parents=True)
    hanging = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(os.environ["GPU_DEADLINE"], child.pid, file=open("pid", "w"), flush=True)
time.sleep(60)
"""
    (package / "__init__.py").touch()
    (package / "hangs.py").write_text(hanging)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    before = script.time.time()
    assert script.run_part("hangs", 2.0) == "cut after 2 s"
    # Far below the 60 s after which they would end by themselves.
    assert script.time.time() < before + 40
    deadline, child = (tmp_path / "pid").read_text().split()
    assert float(deadline) == pytest.approx(before + 2 - script.GRACE, abs=1)
    for _ in range(50):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        script.time.sleep(0.05)
    else:
        pytest.fail("its child still runs")


def test_a_part_that_is_not_there(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert script.run_part("nothing", 30) == "failed with status 1"
