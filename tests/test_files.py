"""Files that are written whole or not at all, and folders that can be written to."""

import os
import stat
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from xprnn.backend.host.files import check_writable, output_folder, remove_parts, write_atomic


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"first")
    assert path.read_bytes() == b"first"
    write_atomic(str(path), b"second")
    assert path.read_bytes() == b"second"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_path_may_be_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_atomic("file", b"here")
    assert (tmp_path / "file").read_bytes() == b"here"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_alone(tmp_path, monkeypatch, error):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(handle: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error), match="No space" if isinstance(error, OSError) else None):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_folder_in_the_place_of_the_file(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        write_atomic(tmp_path / "file", b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


on_posix = pytest.mark.skipif(sys.platform == "win32", reason="files of POSIX")


@on_posix
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o440])
def test_the_permissions_of_a_replaced_file_stay(tmp_path, mode):
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    for previous in (None, tmp_path / "old"):
        write_atomic(path, b"new", previous=previous)
        assert stat.S_IMODE(path.stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == mode


@on_posix
def test_a_new_file_has_the_permissions_that_any_file_gets(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@on_posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may")
def test_the_owner_of_a_replaced_file_stays(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.chown(path, 1, 2)
    path.chmod(0o4750)
    write_atomic(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1, 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o4750


@on_posix
def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "other").mkdir()
    target, link, chain = (tmp_path / name for name in ("other/target", "link", "chain"))
    link.symlink_to(Path("other") / "target")
    chain.symlink_to("link")
    for path in (link, chain):
        for _ in range(2):
            write_atomic(path, path.name.encode())
            assert path.is_symlink()
            assert target.read_bytes() == path.name.encode()
            assert not target.is_symlink()
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["chain", "link", "other", "target"]


@on_posix
def test_a_pipe_is_written_to(tmp_path):
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    check_writable(path)
    write_atomic(path, b"content")
    reader.join()
    assert read == [b"content"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_what_can_not_be_written_is_found_before(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path, error in (
        (tmp_path / "folder", IsADirectoryError),
        (tmp_path / "missing" / "file", FileNotFoundError),
        (tmp_path / "file" / "below", NotADirectoryError),
        (tmp_path / ("x" * 241), OSError),
        (tmp_path / ("x" * 300), OSError),
    ):
        with pytest.raises(error):
            check_writable(path)
    for name in ("file", "new", "x" * 240):
        check_writable(tmp_path / name)
        write_atomic(tmp_path / name, b"")
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["file", "folder", "new", "x" * 240]


@on_posix
def test_parts_of_the_target_of_a_link_are_removed(tmp_path):
    (tmp_path / "other").mkdir()
    part = tmp_path / "other" / ".target.0123abcd.part"
    part.touch()
    (tmp_path / "link").symlink_to(Path("other") / "target")
    remove_parts(tmp_path / "link")
    assert not part.exists()


def test_an_output_folder_is_made_with_its_parents(tmp_path):
    folder = output_folder(str(tmp_path / "a" / "b"))
    assert folder == tmp_path / "a" / "b"
    assert list(folder.iterdir()) == []
    (folder / "kept").touch()
    assert output_folder(folder) == folder
    assert [file.name for file in folder.iterdir()] == ["kept"]


def test_a_file_is_no_output_folder(tmp_path):
    (tmp_path / "a").touch()
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(OSError, match=rf"can't write to the output folder '.*{path.name}': .+"):
            output_folder(path)


def test_a_folder_that_can_not_be_written_to(tmp_path, monkeypatch):
    def refuse(dir: Path) -> None:  # noqa: A002
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(OSError, match=r"can't write to the output folder .*: Permission denied"):
        output_folder(tmp_path)
