"""The second process that compiles, and processes that compile the same at the same time."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.process import run_python
from tests.test_compiled_faults import build, built  # noqa: F401 - a fixture
from xprnn.backend.host import limits
from xprnn.backend.host.locks import Lock
from xprnn.backend.numba import ahead

pytestmark = pytest.mark.slow


def until(what, seconds=20.0):
    """Wait until something is so; return whether it came to that."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def second(monkeypatch):
    """Return what starts a second process, as on a machine of two cores."""
    monkeypatch.setattr(limits, "cores", lambda: 2)
    made = ahead.Ahead()
    yield made
    made.end()


def test_what_is_asked_is_done_even_after_something_that_failed(second, tmp_path):
    first, last = str(tmp_path / "first"), str(tmp_path / "last")
    for folder in (first, first, last):
        second.ask("os", "mkdir", folder)
    process = second._process
    assert until(Path(last).exists)
    assert process.poll() is None
    second.end()
    assert process.returncode is not None


def test_it_ends_by_itself(second, tmp_path, monkeypatch):
    monkeypatch.setattr(ahead, "_CODE", ahead._CODE.replace("serve()", "serve(0.1)"))
    second.ask("os", "mkdir", str(tmp_path / "made"))
    process = second._process
    assert until(lambda: process.returncode is not None)
    assert (tmp_path / "made").exists()
    # Another one is started when something is asked again.
    second.ask("os", "mkdir", str(tmp_path / "again"))
    assert until((tmp_path / "again").exists)


def test_it_does_not_outlive_this_one():
    code = """
import os, signal, time
from xprnn.backend.host import limits
from xprnn.backend.numba.ahead import AHEAD
limits.cores = lambda: 2
AHEAD.ask("time", "sleep", 60)
print(AHEAD._process.pid, flush=True)
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = str(Path(ahead.__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert until(lambda: not runs(int(done.stdout)))


def runs(number):
    """Whether there is a process of this number that has not ended."""
    status = Path(f"/proc/{number}/stat")
    try:
        if status.exists():
            return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
        os.kill(number, 0)
    except OSError:
        return False
    return True


def one_core(monkeypatch):
    monkeypatch.setattr(limits, "cores", lambda: 1)


def another_program(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/usr/sbin/httpd")


def none_known(monkeypatch):
    monkeypatch.setattr(sys, "executable", None)


def frozen(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)


def none_there(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")


@pytest.mark.parametrize("why", [one_core, another_program, none_known, frozen, none_there])
def test_no_second_process(second, monkeypatch, why, tmp_path):
    why(monkeypatch)
    started, popen = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(a) or popen(*a, **k))
    second.ask("os", "mkdir", str(tmp_path / "made"))
    assert second._process is None
    assert len(started) == (why is none_there)


def test_a_pipe_that_nobody_reads_does_not_stop_this_one(second, monkeypatch):
    monkeypatch.setattr(ahead, "_CODE", "import time; time.sleep(60)")
    for _ in range(30):
        second.ask("os", "mkdir", "x" * 10_000)
    process = second._process
    process.kill()
    second.end()
    assert process.returncode is not None


TENTH = """
import logging
import time
from dataclasses import dataclass
import numpy as np
import xprnn
from xprnn.backend.host import limits
from xprnn.backend.numba import ahead
limits.cores = lambda: 2
ahead._CODE = ahead._CODE.replace("serve()", "serve(0.2)")

@dataclass(frozen=True)
class Tenth:
    gates = 1
    state = ("h",)

    def forward(self, xp, u, v, state):
        h = u[0] + 0.1 * v[0]
        return (h,), ()

    def backward(self, xp, saved, previous, d_state):
        return (d_state[0],), (0.1 * d_state[0],), (None,)

heard = []

class Heard(logging.Handler):
    def emit(self, record):
        heard.append(record.getMessage())

logging.getLogger("xprnn").addHandler(Heard())
logging.getLogger("xprnn").setLevel(logging.INFO)
net = xprnn.RNN(2, 3, cell=Tenth(), rng=0)
run = net.forward(np.ones((3, 2, 2), "float32"))
# It ends when it has compiled the other direction.
end = time.monotonic() + 30
while ahead.AHEAD._process.returncode is None and time.monotonic() < end:
    time.sleep(0.01)
net.backward(run, run.output)
print([line.split(" in ")[0] for line in heard if "backward" in line])
"""


def test_both_directions_are_compiled_at_the_same_time():
    pytest.importorskip("numba")
    said = run_python(TENTH, XPRNN_LOWERING="numba")
    assert said == "['the function backward was loaded']\n"


def test_what_another_process_compiles_is_waited_for(build, monkeypatch):  # noqa: F811
    assert not built(build).cached
    (source,) = build.cache_folder().glob("*.py")
    build._discard(source)
    made = []
    lock = Lock(source, "compiled code")
    with lock:
        thread = threading.Thread(target=lambda: made.append(built(build)))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join()
    assert made
    build._discard(source)
    monkeypatch.setattr(build, "PATIENCE", 0.0)
    with Lock(source, "compiled code"):
        assert not built(build).cached
    assert not list(build.cache_folder().glob(".*"))


def test_nothing_is_asked_where_it_could_not_be_loaded(build, monkeypatch):  # noqa: F811
    asked = []
    words = {"meanwhile": lambda: asked.append(True)}
    wanted = "def made(x):\n    x[0] = 1\n", {}, build.types.void(build.types.float64[::1])
    build.build(*wanted, **words)
    assert asked == [True]
    build.build(*wanted, **words)
    assert asked == [True]
    monkeypatch.setenv(build.VARIABLE, "off")
    build.build(*wanted, **words)
    assert asked == [True]


def test_garbage_is_searched_for_again(build):  # noqa: F811
    assert gc.isenabled()
    built(build)
    assert gc.isenabled()
    with pytest.raises(build.NumbaError):
        build.build("def wrong(x):\n    x.none = 1\n", {}, build.types.void(build.types.intp))
    assert gc.isenabled()
    gc.disable()
    try:
        built(build, 5.5)
        assert not gc.isenabled()
    finally:
        gc.enable()
