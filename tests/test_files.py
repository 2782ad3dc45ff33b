"""Files that are written whole or not at all, and folders that can be written to."""

import os
import tempfile
from pathlib import Path

import pytest

from xprnn.backend.host.files import output_folder, write_atomic


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
