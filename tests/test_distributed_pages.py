"""What the pages on several processes show: ensembles with Dask and MPI, Parquet row groups."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.ranks import MPIEXEC, ROOT, SECONDS

pytestmark = pytest.mark.full


def blocks(page: str, language: str, containing: str) -> str:
    """Return the blocks of a page that contain a word, one after another."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join(block for block in found if containing in block)


def said(folder: Path, *command: object) -> str:
    """Return the words that a command prints; ranks print at the same time."""
    done = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the functions of the page in a module."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}", prepend=":")
    grid = "grid = [(hidden, seed) for hidden in (4, 8) for seed in (0, 1)]\n"
    functions = re.findall(
        r"^def .*?(?=^\S|\Z)", blocks("distributed.md", "python", "def "), re.M | re.S
    )
    wanted = [each for each in functions if each.startswith(("def member", "def score"))]
    assert len(wanted) == 2
    (tmp_path / "work.py").write_text("import xprnn\n\n\n" + "\n\n".join(wanted) + grid)
    return tmp_path


SHOW = "print(len(nets), min(losses) == score(*min(losses)[1:]))\n"


def test_members_by_mpi4py(work: Path) -> None:
    code = blocks("distributed.md", "py", "MPIPoolExecutor")
    (work / "ensemble.py").write_text(f"from work import *\n{code}        {SHOW}")
    command = [MPIEXEC, "-n", 3, sys.executable, "-m", "mpi4py.futures", "ensemble.py"]
    assert said(work, *command) == "4 True"


def test_members_by_dask(work: Path) -> None:
    pytest.importorskip("distributed")
    code = blocks("distributed.md", "py", "dask").replace('Client("scheduler:8786")', "Client(at)")
    lines = [f"        {line}" for line in code.splitlines()[1:]]
    (work / "ensemble.py").write_text(
        "from dask.distributed import Client, LocalCluster\nfrom work import *\n"
        "if __name__ == '__main__':\n"
        "    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as own:\n"
        "        at = own.scheduler_address\n" + "\n".join(lines) + f"\n        {SHOW}"
        "        client.close()\n"
    )
    assert said(work, sys.executable, "ensemble.py") == "4 True"


def test_row_groups_of_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = np.random.default_rng(0).normal(size=(40, 12))
    pq.write_table(pa.table({"values": list(rows)}), tmp_path / "series.parquet", row_group_size=8)
    code = blocks("how-to/long-sequences.md", "py", "pyarrow").replace(
        "xprnn.fit(", "history = xprnn.fit("
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "rows.py").write_text(
        f"import numpy as np\nimport xprnn\n{code}".replace(
            "epochs=5)", 'epochs=5, communicator="mpi")\nprint(history.loss[-1] < history.loss[0])'
        )
    )
    assert (
        said(tmp_path, MPIEXEC, "-n", 2, sys.executable, "rows.py").replace(" ", "") == "TrueTrue"
    )
