"""Locks: the second one is told who holds it; a lock ends with its process."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_tools import environment
from tests.resuming import killed_in_step, remains, train
from tests.test_checkpoint import carried
from xprnn import Checkpoint
from xprnn.backend.host import locks
from xprnn.backend.host.locks import Lock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are the locks of POSIX")

HOLD = """
import os, sys
from pathlib import Path
from xprnn.backend.host.locks import Lock
lock = Lock(Path(sys.argv[1]), "it")
lock.acquire()
if len(sys.argv) > 2 and os.fork() == 0:
    print(os.getpid(), flush=True)
    sys.stdin.read()
    os._exit(0)
if len(sys.argv) <= 2:
    print("held", flush=True)
sys.stdin.read()
"""


def holder(path, *more):
    """Return a process that holds the lock on a path, and the first line that it writes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), *more],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline()


def end(process):
    process.kill()
    process.communicate()


@pytest.fixture(params=["file", "folder"])
def path(request, tmp_path):
    path = tmp_path / "it"
    if request.param == "folder":
        path.mkdir()
    return path


def names(folder):
    return sorted(file.name for file in folder.rglob("*"))


def test_it_is_held_and_given_back(path):
    before = names(path.parent)
    for _ in range(2):
        with Lock(path, "it"):
            with pytest.raises(BlockingIOError, match=r"^it is in use by (this|another) process$"):
                Lock(path, "it").acquire()
            assert len(names(path.parent)) == len(before) + (not path.is_dir())
        assert names(path.parent) == before
    Lock(path, "it").release()


def test_another_process_is_named_and_its_death_ends_the_lock(path):
    process, _ = holder(path)
    try:
        who = f"process {process.pid}"
        if path.is_dir():
            who = f"({who}|another process)"  # the system may not tell
        with pytest.raises(BlockingIOError, match=f"^it is in use by {who}$"):
            Lock(path, "it").acquire()
        process.send_signal(signal.SIGKILL)
        process.wait()
        with Lock(path, "it"):
            pass
        assert names(path.parent) == (["it"] if path.is_dir() else [])
    finally:
        end(process)


@pytest.mark.parametrize(
    ("line", "who"),
    [
        ("2: FLOCK  ADVISORY  WRITE 4711 {place} 0 EOF", "process 4711"),
        ("2: FLOCK  ADVISORY  WRITE {me} {place} 0 EOF", "this process"),
        ("2: FLOCK  ADVISORY  WRITE 0 {place} 0 EOF", "another process"),
        ("2: -> FLOCK  ADVISORY  WRITE 4711 {place} 0 EOF", "another process"),
        ("2: POSIX  ADVISORY  WRITE 4711 {place} 0 EOF", "another process"),
        ("2: FLOCK  ADVISORY  WRITE 4711 {place}7 0 EOF", "another process"),
        ("something else", "another process"),
        (None, "another process"),
    ],
)
def test_the_system_names_who_holds_a_folder(tmp_path, monkeypatch, line, who):
    folder, table = tmp_path / "it", tmp_path / "table"
    folder.mkdir()
    found = folder.stat()
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    if line is not None:
        other = "1: FLOCK  ADVISORY  READ 99 00:00:1 0 EOF\n"
        table.write_text(other + line.format(place=place, me=os.getpid()) + "\n")
    monkeypatch.setattr(locks, "_TABLE", table)
    with Lock(folder, "it"), pytest.raises(BlockingIOError, match=f"^it is in use by {who}$"):
        Lock(folder, "it").acquire()


def test_a_child_process_does_not_hold_it(path):
    process, child = holder(path, "fork")
    try:
        process.kill()
        process.wait()
        os.kill(int(child), 0)
        with Lock(path, "it"):
            pass
    finally:
        end(process)


def test_a_file_that_its_holder_removes_meanwhile_is_made_again(tmp_path, monkeypatch):
    path, real, handles = tmp_path / "it", locks._take, []

    def take(handle):
        if not handles:
            (tmp_path / ".it.lock").unlink()
        handles.append(handle)
        real(handle)

    monkeypatch.setattr(locks, "_take", take)
    with Lock(path, "it"), pytest.raises(BlockingIOError):
        Lock(path, "it").acquire()
    assert len(handles) == 3


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks(path, monkeypatch, number):
    def refuse(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks, "_take", refuse)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output error"):
            Lock(path, "it").acquire()
    else:
        with Lock(path, "it"), Lock(path, "it"):
            pass


def test_a_full_disk_is_no_hindrance(tmp_path, monkeypatch):
    def full(handle, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    lock, again = (Lock(tmp_path / "it", "it") for _ in range(2))
    with lock, pytest.raises(BlockingIOError, match="in use by another process"):
        again.acquire()
    assert names(tmp_path) == []


@pytest.mark.parametrize("resume", [False, True])
def test_a_checkpoint_in_use_is_refused_at_once(tmp_path, resume):
    path = tmp_path / "run.ckpt"
    link = tmp_path / "link"
    link.symlink_to(path)
    process, _ = holder(path)
    try:
        for name in (path, link):
            message = rf"the checkpoint '.*{name.name}' is in use by process {process.pid}$"
            net, options = carried()
            had = dict(net.parameters)
            with pytest.raises(BlockingIOError, match=message):
                train(lambda: (net, options), Checkpoint(name, resume=resume))  # noqa: B023
            assert all(net.parameters[key] is p for key, p in had.items())
    finally:
        end(process)
    assert remains(*train(carried, Checkpoint(path, resume=resume))) == remains(*train(carried))
    assert names(tmp_path) == ["link", "run.ckpt", "run.ckpt.previous"]


def test_a_training_holds_its_checkpoint_until_it_ends(tmp_path):
    path = tmp_path / "run.ckpt"

    def during(net, record):
        with pytest.raises(BlockingIOError, match="is in use by this process"):
            Checkpoint(path).lock().acquire()

    def watched():
        net, options = carried()
        return net, {**options, "callbacks": [during]}

    with killed_in_step(5):
        train(watched, Checkpoint(path, every_steps=1))
    train(watched, Checkpoint(path, every_steps=1, resume=True))
    with Checkpoint(path).lock():
        pass
    assert names(tmp_path) == ["run.ckpt", "run.ckpt.previous"]


def test_a_link_to_a_checkpoint_stays_one(tmp_path):
    (tmp_path / "large").mkdir()
    link, target = tmp_path / "run.ckpt", tmp_path / "large" / "target"
    link.symlink_to(Path("large") / "target")
    for kill in (2, 5):
        with killed_in_step(kill):
            train(carried, Checkpoint(link, every_steps=1, resume=True))
    assert link.is_symlink()
    assert names(target.parent) == ["target", "target.previous"]
    target.write_bytes(target.read_bytes()[:-9])
    with pytest.warns(UserWarning, match=r"resuming from the previous one, '.*target.previous'"):
        again = train(carried, Checkpoint(link, resume=True))
    assert remains(*again) == remains(*train(carried))
