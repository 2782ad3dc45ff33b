"""The file of a checkpoint: whole at any moment, damage is found, the previous one is kept."""

import errno
import os
import warnings

import numpy as np
import pytest

from tests.process import run_python
from tests.resuming import killed_after_write, remains, train
from tests.test_checkpoint import carried, everything
from xprnn import RNN, Checkpoint, fit
from xprnn.backend.host.files import remove_parts, write_atomic
from xprnn.training.checkpoint import file as checkpoint_file
from xprnn.training.checkpoint.file import Content, find, write

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.ckpt"


def content(number: int) -> Content:
    return Content({"number": number}, {"a": np.full(3, float(number))})


def number_of(checkpoint: Checkpoint) -> int:
    found, _ = find(checkpoint)
    assert found.arrays["a"].tolist() == [found.data["number"]] * 3
    return found.data["number"]


def test_the_one_before_is_kept(path):
    kept = Checkpoint(path)
    for number in range(1, 4):
        write(kept, content(number), keep_previous=True)
        assert number_of(kept) == number
        assert path.with_name("run.ckpt.previous").exists() == (number > 1)
        if number > 1:
            assert number_of(Checkpoint(kept.previous)) == number - 1
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == ["run.ckpt", "run.ckpt.previous"]


def test_one_that_is_no_good_is_not_kept(path):
    kept = Checkpoint(path)
    write(kept, content(1), keep_previous=True)
    write(kept, content(2), keep_previous=True)
    write(kept, content(3), keep_previous=False)
    assert number_of(kept) == 3
    assert number_of(Checkpoint(kept.previous)) == 1


def test_two_names_of_one_file_become_two_files(path):
    """The files that a process leaves which was killed between its two renamings."""
    kept = Checkpoint(path)
    write(kept, content(1), keep_previous=True)
    kept.previous.hardlink_to(path)
    write(kept, content(2), keep_previous=True)
    assert (number_of(kept), number_of(Checkpoint(kept.previous))) == (2, 1)
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == ["run.ckpt", "run.ckpt.previous"]


def test_a_file_system_without_links(path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(type(path), "hardlink_to", refuse)
    test_the_one_before_is_kept(path)


KILLED_AT_EVERY_LINE = """
import os, sys
from pathlib import Path
import xprnn.backend.host.files as files
from tests.test_checkpoint_file import content
from xprnn.training.checkpoint import Checkpoint
from xprnn.training.checkpoint.file import find, write

if sys.argv[2] == "without links":
    def refuse(*_):
        raise OSError(95, "Operation not supported")
    Path.hardlink_to = refuse

def newest(kept):
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return find(kept)[0].data["number"]

folder, seen = Path(sys.argv[1]), []
# Starting from everything that an earlier write may have left: nothing, a file, a killed write.
for last in range(1, 100):
    kept = Checkpoint(folder / f"{last}.ckpt")
    write(kept, content(1), keep_previous=True)
    for number in (2, 3):
        pid = os.fork()
        if pid == 0:
            lines = 0
            def trace(frame, event, _):
                global lines
                if frame.f_code.co_filename == files.__file__ and event == "line":
                    lines += 1
                    if lines == last:
                        os._exit(9)
                return trace
            sys.settrace(trace)
            write(kept, content(number), keep_previous=True)
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        found = newest(kept)
        assert found in (number - 1, number), (last, number, found)
        assert killed or found == number
        assert kept.file.exists() or sys.argv[2] == "without links"
        if kept.previous.exists():
            assert newest(Checkpoint(kept.previous)) in (number - 2, number - 1, number)
        seen.append(found)
        write(kept, content(number), keep_previous=True)
        assert newest(kept) == number
        assert newest(Checkpoint(kept.previous)) in (number - 1, number)
    files.remove_parts(kept.file)
    names = sorted(file.name for file in folder.glob(f"*{last}.ckpt*"))
    assert names == [f"{last}.ckpt", f"{last}.ckpt.previous"], names
    if not killed:
        break
print(last, seen.count(1), seen.count(2), seen.count(3))
"""


@needs_fork
@pytest.mark.parametrize("links", ["with links", "without links"])
def test_killed_at_any_line_of_the_writing_a_whole_one_is_left(tmp_path, links):
    code = f"import sys; sys.argv = ['', {str(tmp_path)!r}, {links!r}]\n{KILLED_AT_EVERY_LINE}"
    last, *found = map(int, run_python(code).split())
    assert last > 20
    assert all(count > 1 for count in found)


def test_what_a_killed_process_left_is_removed(tmp_path, path):
    parts = [".run.ckpt.a1b2c3d4.part", ".run.ckpt.link.part"]
    others = [".other.ckpt.a1b2c3d4.part", ".run.ckpt.more.a1b2c3d4.part", "run.ckpt.part", "x"]
    for name in (*parts, *others):
        (tmp_path / name).touch()
    remove_parts(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(others)
    for name in parts:
        (tmp_path / name).touch()
    train(carried, Checkpoint(path))
    expected = sorted([*others, "run.ckpt", "run.ckpt.previous"])
    assert sorted(file.name for file in tmp_path.iterdir()) == expected


@pytest.fixture
def two(path):
    """Return a training's last two checkpoints, and the result of the whole training."""
    with killed_after_write(3):
        train(carried, Checkpoint(path, every_steps=1))
    return Checkpoint(path, every_steps=1, resume=True), remains(*train(carried))


DAMAGES = {
    "empty": lambda whole: b"",
    "cut off": lambda whole: whole[:-5],
    "half": lambda whole: whole[: len(whole) // 2],
    "one bit": lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
    "one digit": lambda whole: whole.replace(b'\\"updates\\", 3', b'\\"updates\\", 4'),
    "longer": lambda whole: whole + b"more",
    "zeros": lambda whole: bytes(len(whole)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_one_is_told_and_the_one_before_is_taken(two, path, damage):
    kept, wanted = two
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    message = r"the checkpoint '.*run.ckpt' is .*: resuming from the previous one, '.*.previous'"
    with pytest.warns(UserWarning, match=message):
        net, history = train(carried, kept)
    assert history.resumed == 2
    assert remains(net, history) == wanted


def flipped(path, bits):
    """Yield numbers of bits, while the file at ``path`` is that file with the one bit changed."""
    whole = path.read_bytes()
    for bit in bits:
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        yield bit


def header_bits(path):
    """Return how many bits the header of a safetensors file has, with the eight bytes before."""
    return 8 * (8 + int.from_bytes(path.read_bytes()[:8], "little"))


def assert_previous_is_found(path, bits):
    kept = Checkpoint(path)
    for bit in flipped(path, bits):
        with warnings.catch_warnings(action="ignore"):
            found, latest = find(kept)
        assert not latest, bit
        assert dict(dict(found.data["parts"]["dict"])["step"]["dict"])["updates"] == 2


def test_whatever_bit_of_the_header_is_changed_the_one_before_is_taken(two, path):
    count = header_bits(path)
    assert_previous_is_found(path, np.random.default_rng(0).choice(count, 800, replace=False))


@pytest.mark.full
def test_every_bit_of_the_header(two, path):
    assert_previous_is_found(path, range(header_bits(path)))


def test_a_damage_that_looks_like_another_file_is_damage_too(two, path):
    kept, wanted = two
    net, _ = carried()
    net.save(path)
    with pytest.warns(UserWarning, match="not a checkpoint saved by xprnn .*: resuming from the p"):
        again = train(carried, kept)
    assert again[1].resumed == 2
    assert remains(*again) == wanted


def test_a_disk_that_fails_to_read_the_file_is_damage_but_missing_rights_are_not(
    two, path, monkeypatch
):
    kept, _ = two

    def failing(number):
        def read(kind, file, *more):
            if file == path:
                raise OSError(number, os.strerror(number), str(file))
            return real(kind, file, *more)

        return read

    real = checkpoint_file.read
    monkeypatch.setattr(checkpoint_file, "read", failing(errno.EIO))
    with pytest.warns(UserWarning, match=r"Input/output error.*: resuming from the previous one"):
        assert find(kept)[1] is False
    monkeypatch.setattr(checkpoint_file, "read", failing(errno.EACCES))
    with pytest.raises(PermissionError):
        find(kept)


def test_the_damaged_one_never_takes_the_place_of_the_good_one(two, path):
    kept, wanted = two
    path.write_bytes(path.read_bytes()[:-5])
    for _ in range(2):
        # Each dies after its first write, which must replace the damaged file, not the good one.
        with killed_after_write(1), warnings.catch_warnings(action="ignore"):
            train(carried, kept)
        assert find(Checkpoint(kept.previous)) is not None
    again = train(carried, kept)
    assert again[1].resumed == 4
    assert remains(*again) == wanted


def test_after_damage_the_one_before_is_kept_again(two, path):
    kept, wanted = two
    path.write_bytes(path.read_bytes()[:-5])
    with warnings.catch_warnings(action="ignore"):
        train(carried, kept)
    again = train(carried, Checkpoint(kept.previous, resume=True))
    assert again[1].resumed == 9
    assert remains(*again) == wanted


def test_one_that_is_missing_is_told_and_the_one_before_is_taken(two, path):
    kept, wanted = two
    path.unlink()
    with pytest.warns(UserWarning, match=r"there is no checkpoint '.*run.ckpt': resuming from the"):
        again = train(carried, kept)
    assert again[1].resumed == 2
    assert remains(*again) == wanted


def test_two_damaged_ones_are_an_error(two, path):
    kept, _ = two
    for file in (path, kept.previous):
        file.write_bytes(file.read_bytes()[:-5])
    message = (
        r"run.ckpt' is not a whole safetensors file; cut .*, and the previous one can't be used: "
        r".*ckpt.previous' is not a whole safetensors file; cut"
    )
    with pytest.raises(ValueError, match=message):
        train(carried, kept)
    kept.previous.unlink()
    with pytest.raises(ValueError, match=r"run.ckpt' is not a whole safetensors file; cut off"):
        train(carried, kept)


def test_a_file_that_is_there_is_not_overwritten_unasked(two, path):
    before = path.read_bytes()
    message = r"there is a checkpoint '.*run.ckpt' already: resume=True resumes from it"
    for checkpoint in (path, str(path), Checkpoint(path)):
        with pytest.raises(FileExistsError, match=message):
            train(carried, checkpoint)
    assert path.read_bytes() == before
    path.unlink()
    with pytest.raises(FileExistsError, match=r"there is a checkpoint '.*run.ckpt.previous' alr"):
        train(carried, Checkpoint(path))


def test_files_that_are_no_checkpoints_are_left_alone(path):
    net, options = carried()
    net.save(path)
    before = path.read_bytes()
    message = "is a safetensors file, but not a checkpoint saved by xprnn"
    with pytest.raises(ValueError, match=message):
        fit(net, **options, checkpoint=Checkpoint(path, resume=True))
    assert path.read_bytes() == before
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError, match=r"Is a directory: '.*run.ckpt'"):
        fit(net, **options, checkpoint=Checkpoint(path, resume=True))


def test_a_checkpoint_is_no_model(two, path):
    with pytest.raises(ValueError, match="a safetensors file, but not a model saved by xprnn"):
        RNN.load(path)


def test_another_version_is_not_damage(two, path, monkeypatch):
    version_3 = checkpoint_file.KIND._replace(version="3")
    monkeypatch.setattr(checkpoint_file, "KIND", version_3)
    with pytest.raises(ValueError, match="has version '2' of the checkpoint format: this xprnn re"):
        train(carried, two[0])


def test_a_missing_folder_is_found_before_the_training(tmp_path, monkeypatch):
    monkeypatch.delattr("xprnn.training.step.loss_and_grad")
    for where, reason in (("none", "No such file or directory"), ("file", "Not a directory")):
        (tmp_path / "file").touch()
        message = rf"can't write the checkpoint '.*{where}/run.ckpt': {reason}"
        with pytest.raises(OSError, match=message):
            train(carried, Checkpoint(tmp_path / where / "run.ckpt"))


def test_a_name_that_is_too_long_is_found_before_the_training(tmp_path, monkeypatch):
    monkeypatch.delattr("xprnn.training.step.loss_and_grad")
    # The last one fits, but the names beside it would not.
    for count in (300, 241):
        with pytest.raises(OSError, match=r"can't write the checkpoint '.*x': File name too long"):
            train(carried, Checkpoint(tmp_path / ("x" * count)))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_the_training_and_keeps_its_weights(path, monkeypatch):
    calls, sync = [], os.fsync

    def full(handle):
        calls.append(handle)
        if len(calls) > 8:
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    net, options = carried()
    started = {name: p.copy() for name, p in net.parameters.items()}
    kept = Checkpoint(path, every_steps=1, resume=True)
    with pytest.raises(OSError, match=r"can't write the checkpoint '.*run.ckpt': No space left on"):
        fit(net, **options, checkpoint=kept)
    assert all(np.any(net.parameters[name] != p) for name, p in started.items())
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == ["run.ckpt", "run.ckpt.previous"]
    monkeypatch.undo()
    again = train(carried, kept)
    # Each write calls fsync twice, for the file and for its folder; the ninth call failed.
    assert again[1].resumed == 4
    assert remains(*again) == remains(*train(carried))


def test_the_same_training_writes_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        with killed_after_write(7):
            train(everything, Checkpoint(tmp_path / name, every_steps=1))
    one, two = (tmp_path / name for name in ("one", "two"))
    # Everything but the time.
    assert abs(len(one.read_bytes()) - len(two.read_bytes())) < 64


def test_what_occurs_twice_is_written_once(path):
    """At the end of an epoch the weights are also the finite ones and the best ones."""

    def make():
        net = RNN(50, 50, 50, dtype="float64", rng=0)
        x = np.ones((2, 2, 50))
        return net, {"batches": (x, x), "validation": (x, x), "patience": 1}

    net, _ = train(make, Checkpoint(path))
    size = sum(p.nbytes for p in net.parameters.values())
    # The weights, those before the update (they gave a finite loss), and the carried state.
    assert 2 * size < path.stat().st_size < 2.2 * size


def test_write_atomic_keeps_nothing_unless_asked(tmp_path):
    file, previous = tmp_path / "file", tmp_path / "old"
    write_atomic(file, b"1", previous=previous)
    assert not previous.exists()
    write_atomic(file, b"2")
    assert not previous.exists()
    write_atomic(file, b"3", previous=previous)
    assert (file.read_bytes(), previous.read_bytes()) == (b"3", b"2")
