"""The cache of compiled code: it is unpickled, so no other user may be able to write to it."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.cli_tools import environment
from tests.test_compiled_faults import build, built
from xprnn.backend.host import private

assert build  # a fixture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows protects a user's folders"),
]

PLANTED = b"this is no pickle: unpickling it would be an error"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "compiled"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def give_away(path, monkeypatch):
    """Make another user the owner of a file or folder, as far as this process can see."""
    if os.getuid() == 0:
        os.chown(path, 12345, 12345)
    else:
        real = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: real + 1)


def assert_refused(build, words):
    """Check that compiled code is not cached, that a warning says why, and that it computes."""
    with pytest.warns(RuntimeWarning, match=f"compiled code can't be cached, .*: .*{words}"):
        assert not built(build).cached
    assert not built(build).cached


def test_the_folder_is_made_for_this_user_alone(build, folder, monkeypatch):
    monkeypatch.setenv("XPRNN_CACHE", str(folder / "below" / "it"))
    umask = os.umask(0)
    try:
        built(build)
    finally:
        os.umask(umask)
    made = [folder, folder / "below", folder / "below" / "it", folder / "below/it/__pycache__"]
    assert [mode(path) for path in made] == [0o700] * 4
    assert built(build).cached


@pytest.mark.parametrize("bits", [0o770, 0o707, 0o777, 0o1777])
def test_a_folder_that_others_can_write_to(build, folder, bits):
    folder.mkdir()
    folder.chmod(bits)
    assert_refused(build, "other users can write to .*compiled' \\(drwx")
    assert list(folder.iterdir()) == []


def test_a_folder_that_others_can_read(build, folder):
    folder.mkdir()
    folder.chmod(0o755)
    assert not built(build).cached
    assert built(build).cached


def test_a_folder_of_another_user(build, folder, monkeypatch):
    folder.mkdir(mode=0o700)
    give_away(folder, monkeypatch)
    assert_refused(build, "belongs to another user")


@pytest.mark.parametrize(("bits", "good"), [(0o777, False), (0o1777, True), (0o755, True)])
def test_a_folder_in_one_that_others_can_write_to(build, tmp_path, monkeypatch, bits, good):
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(bits)
    monkeypatch.setenv("XPRNN_CACHE", str(above / "compiled"))
    if good:
        built(build)
        assert built(build).cached
    else:
        assert_refused(build, "other users can write to .*above'")


def test_a_link_to_a_folder_of_another_user(build, folder, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    other.chmod(0o777)
    folder.symlink_to(other)
    assert_refused(build, "other users can write to .*other'")


def test_a_file_of_another_user(build, folder, monkeypatch):
    built(build)
    (index,) = folder.rglob("*.nbi")
    index.write_bytes(PLANTED)
    give_away(index, monkeypatch)
    assert_refused(build, "belongs to another user")
    assert index.read_bytes() == PLANTED


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_file_that_others_can_write_to(build, folder, suffix):
    built(build)
    (found,) = folder.rglob(f"*.{suffix}")
    found.chmod(0o666)
    assert_refused(build, f"other users can write to .*{suffix}'")


def test_a_file_that_is_a_link(build, folder, tmp_path):
    built(build)
    (index,) = folder.rglob("*.nbi")
    index.rename(tmp_path / "elsewhere")
    index.symlink_to(tmp_path / "elsewhere")
    index.chmod(0o600)
    assert_refused(build, "is a symbolic link")


def test_the_folder_that_numba_is_told_to_use(build, tmp_path, monkeypatch):
    chosen = tmp_path / "numba"
    chosen.mkdir(mode=0o700)
    monkeypatch.setattr(build.numba.config, "CACHE_DIR", str(chosen))
    built(build)
    assert built(build).cached
    chosen.chmod(0o777)
    assert_refused(build, "other users can write to .*numba'")


def test_a_group_that_is_the_users_own(tmp_path, monkeypatch):
    folder = tmp_path / "above" / "folder"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o770)
    monkeypatch.setattr(private, "_is_own_group", lambda number: True)
    private.check_private(folder)
    monkeypatch.setattr(private, "_is_own_group", lambda number: False)
    with pytest.raises(PermissionError, match=r"other users can write to .*above'"):
        private.check_private(folder)


@pytest.mark.parametrize("given", [None, "", "relative", "./also", "~"])
@pytest.mark.parametrize("name", ["HOME", "XDG_CACHE_HOME"])
def test_a_folder_that_is_not_absolute_is_ignored(build, tmp_path, monkeypatch, name, given):
    import pwd

    for variable in ("XPRNN_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    entry = pwd.getpwuid(os.getuid())
    known = pwd.struct_passwd((*entry[:5], str(tmp_path), entry.pw_shell))
    monkeypatch.setattr(pwd, "getpwuid", lambda number: known)
    if given is not None:
        monkeypatch.setenv(name, given)
    assert build.cache_folder() == tmp_path / ".cache" / "xprnn"
    monkeypatch.setenv("XPRNN_CACHE", "relative")
    assert build.cache_folder() == Path.cwd() / "relative"


def test_a_user_whom_the_system_does_not_know(build, tmp_path, monkeypatch):
    import pwd
    import tempfile

    def unknown(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for variable in ("XPRNN_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    assert build.cache_folder() == tmp_path / f"xprnn-{os.getuid()}"
    built(build)
    assert built(build).cached

    def none():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert build.cache_folder() is None
    assert_refused(build, "this user has no folder for it")


CODE = """
import grp, json, os, pwd, sys, tempfile, warnings
from tests.test_compiled_faults import built
from xprnn.backend.numba import build
os.environ["XPRNN_CACHE"] = "off"
built(build, 1.0)  # imports everything, which another user may not be allowed to read
del os.environ["XPRNN_CACHE"]
for home, folder in json.loads(sys.argv[1]):
    # A process for each, forked because starting takes most of the time.
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        continue
    if home is not None:
        os.environ["HOME"] = home
    os.environ["TMPDIR"], tempfile.tempdir = folder, None
    os.setgid(54321), os.setuid(54321)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = [built(build).cached for _ in range(2)]
    told = sum("compiled code can't be cached" in str(one.message) for one in caught)
    print(json.dumps([made, str(build.cache_folder()), told]), flush=True)
    os._exit(0)
"""

HOMES = {None: True, "": True, "relative": True, "/nonexistent": False, "/proc": False}
"""By the value of ``HOME``, whether code is cached."""


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root")
def test_a_container_with_a_user_whom_it_does_not_know():
    """Its ``HOME`` may be missing, empty, relative, or not be writable."""
    # As the system's own temporary folder, which the user can enter; pytest's can't be.
    shared = [Path(tempfile.mkdtemp()) for _ in HOMES]
    for folder in shared:
        folder.chmod(0o1777)
    where = environment()
    for variable in ("XPRNN_CACHE", "XDG_CACHE_HOME", "HOME"):
        where.pop(variable, None)
    given = [[home, str(folder)] for home, folder in zip(HOMES, shared, strict=True)]
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(given)],
        env=where,
        cwd="/",
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    for folder in shared:
        shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for (home, cached), folder, one in zip(HOMES.items(), shared, found, strict=True):
        wanted = folder / "xprnn-54321" if cached else f"{home}/.cache/xprnn"
        assert one == [[False, cached], str(wanted), 0 if cached else 1]
