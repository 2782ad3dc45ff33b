"""What is installed: the wheel and the sdist have these files and no others, and types."""

import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import xprnn

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def tracked(*folders):
    """Return the files of these folders that git tracks, or has not been told to ignore."""
    if not (ROOT / ".git").exists():  # an unpacked sdist
        files = (path for folder in folders for path in (ROOT / folder).rglob("*"))
        made = {"__pycache__", "generated"}
        found = (path for path in files if path.is_file() and not made & {*path.parts})
        return {path.relative_to(ROOT).as_posix() for path in found}
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def test_the_wheel_has_the_package_and_nothing_else(built):
    info = f"xprnn-{xprnn.__version__}.dist-info"
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
        metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
        entries = wheel.read(f"{info}/entry_points.txt").decode()
    package = {name for name in names if not name.startswith(info)}
    expected = {one for one in tracked("xprnn") if not one.startswith("xprnn/testing/entry/")}
    assert package == expected | {"pytest_xprnn.py"}
    assert "xprnn/py.typed" in package
    assert f"{info}/licenses/LICENSE" in names
    assert (metadata["Name"], metadata["Version"]) == ("xprnn", xprnn.__version__)
    assert metadata["Requires-Python"] == ">=3.11"
    # NumPy and two small packages; everything else is an extra.
    plain = [one for one in metadata.get_all("Requires-Dist") if "extra ==" not in one]
    assert [one.partition(">")[0] for one in sorted(plain)] == [
        "array-api-compat",
        "numpy",
        "safetensors",
    ]
    assert "xprnn = xprnn.cli:main" in entries
    assert "pytest_xprnn = pytest_xprnn" in entries


def test_the_sdist_has_what_the_tests_need(built):
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    folders = tracked("xprnn", "tests", "examples", "docs")
    files = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"}
    scripts = tracked("ci")
    assert names == folders | files | scripts | {".gitignore", "PKG-INFO"}


USER = """
import numpy as np
import xprnn

net = xprnn.RNN(3, 8, 2, cell="gru", rng=0)
value, gradient = net.value_and_grad(np.zeros((5, 4, 3)), np.zeros((5, 4, 2)))
reveal_type(net)
reveal_type(gradient)
history = xprnn.fit(net, (np.zeros((5, 4, 3)), np.zeros((5, 4, 2))), optimizer="adam", epochs=1)
reveal_type(history.loss)
xprnn.RNN("three", 8)
xprnn.fit(net)
"""


@pytest.mark.full
def test_types_reach_a_user(tmp_path):
    """A user's file is checked against the package's types; two of its lines are wrong."""
    (tmp_path / "user.py").write_text(USER)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "user.py"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = [line.partition("user.py:")[2] for line in run.stdout.splitlines()]
    shown = [line for line in lines if "note: Reveal" in line]
    for line, kind in zip(shown, ("RNN", "Gradient", "list[float]"), strict=True):
        assert kind in line
        assert 'is "Any"' not in line
    errors = [line for line in lines if "error:" in line]
    assert [line.partition(":")[0] for line in errors] == ["11", "12"], run.stdout
    assert "[arg-type]" in errors[0]
    assert "[call-arg]" in errors[1]
