"""How many cores and how much memory the system lets a process use."""

import os

import pytest

from tests.process import run_python
from xprnn.backend.host import limits

FILES = {
    "no groups": ({}, ""),
    "version 2": ({"cpu.max": "150000 100000", "memory.max": "5000000"}, "0::/"),
    "nested": (
        {"cpu.max": "max 100000", "a/cpu.max": "300000 100000", "a/b/cpu.max": "max"},
        "0::/a/b",
    ),
    "outer": ({"cpu.max": "200000 100000", "a/cpu.max": "900000 100000"}, "0::/a"),
    "no room": ({"cpu.max": "20000 100000"}, "0::/"),
    "namespace": ({"cpu.max": "200000 100000"}, "0::/../elsewhere"),
    "version 1": (
        {
            "cpu/docker/x/cpu.cfs_quota_us": "250000",
            "cpu/docker/x/cpu.cfs_period_us": "100000",
            "memory/docker/x/memory.limit_in_bytes": "7000000",
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
        },
        "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x",
    ),
    "no quota": ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu:/"),
    "nonsense": ({"cpu.max": "a b c", "memory.max": "\xff"}, "what\n0::/\n::"),
    "half": ({"cpu.max": "100000"}, "0::/"),
    "by zero": ({"cpu.max": "100000 0"}, "0::/"),
}
WANTED = {
    "version 2": (1, 5_000_000),
    "nested": (3, None),
    "outer": (2, None),
    "no room": (1, None),
    "namespace": (2, None),
    "version 1": (2, 7_000_000),
}


@pytest.mark.parametrize("name", FILES)
def test_control_groups(name, monkeypatch, tmp_path):
    files, own = FILES[name]
    for path, text in files.items():
        (tmp_path / "groups" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / path).write_text(text, encoding="latin-1")
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(limits, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(limits, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    pages = {"SC_PHYS_PAGES": 2**20, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__, raising=False)
    cores, memory = WANTED.get(name, (8, None))
    assert limits.cores.__wrapped__() == cores
    assert limits.memory.__wrapped__() == (memory or 2**32)


def test_other_systems(monkeypatch, tmp_path):
    monkeypatch.setattr(limits, "_OWN_CGROUPS", tmp_path / "none")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sysconf", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert limits.cores.__wrapped__() == 6
    assert limits.memory.__wrapped__() is None
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert limits.cores.__wrapped__() == 1


THREADS = "from xprnn.backend.host.threads import compute_threads; print(compute_threads())"
PASSES = """
import numpy as np
import xprnn
from xprnn.backend.host.threads import compute_threads
net = xprnn.RNN(64, 128, cell="lstm", rng=0)
x = np.random.default_rng(0).standard_normal((40, 32, 64), dtype="float32")
gradient = net.backward(net.forward(x), np.ones((40, 32, 128), "f4"))
print(compute_threads(), gradient.input.tobytes()[:4000].hex())
"""
ONE_CORE = """
import os
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
"""


def test_more_threads_than_cores_are_asked_for():
    """OMP_NUM_THREADS is a limit, not an order."""
    everyone = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "64")
    assert int(run_python(THREADS, OMP_NUM_THREADS="64", **everyone)) == limits.cores()
    # A list is for nested threads.
    for one in ("1", " 1", "1,4"):
        assert run_python(THREADS, OMP_NUM_THREADS=one, **everyone) == "1\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
@pytest.mark.slow
def test_a_machine_with_one_core():
    pytest.importorskip("numba")
    names = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"
    everyone = dict.fromkeys(names, "64")
    with_one, with_all = (
        run_python(code + PASSES, XPRNN_LOWERING="on", **everyone).split()
        for code in (ONE_CORE, "")
    )
    assert with_one[0] == "1"
    assert with_all == [str(limits.cores()), with_one[1]]
