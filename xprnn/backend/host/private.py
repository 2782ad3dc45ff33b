"""Folders that no other user can write to.

What is unpickled or executed from a folder runs with the rights of whoever reads it.  So the
folder, the folders above it and the files in it must belong to this user or to root, and no one
else may be able to write to them.  On Windows, the system protects a user's folders.
"""

import os
import stat
import tempfile
from pathlib import Path

_GROUP, _OTHERS = stat.S_IWGRP, stat.S_IWOTH


def home() -> Path | None:
    """Return the user's folder; None if the system knows none.

    A relative or empty ``HOME`` is ignored, because it would name another folder in every working
    directory.  A container may run as a user that its system does not know.
    """
    given = os.environ.get("USERPROFILE" if os.name == "nt" else "HOME", "")
    if not Path(given).is_absolute() and os.name != "nt":
        import pwd

        try:
            given = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return Path(given) if Path(given).is_absolute() else None


def temporary_home(name: str) -> Path | None:
    """Return a folder for this user among the temporary files; None if there are none."""
    user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
    try:
        return Path(tempfile.gettempdir()).absolute() / f"{name}{user}"
    except OSError:
        return None


def make_private(folder: Path) -> None:
    """Make a folder that only this user can write to, or check that it is one.

    Raises
    ------
    PermissionError
        If another user could write to it, or replace it; the message says why.
    OSError
        If it can't be made.
    """
    missing = [folder, *folder.parents]
    missing = missing[: next((k for k, path in enumerate(missing) if path.exists()), None)]
    for path in reversed(missing):
        # Another process may make it at the same moment.
        path.mkdir(mode=0o700, exist_ok=True)
    check_private(folder)


def check_private(folder: Path) -> None:
    """Refuse a folder that another user could write to, or replace.

    Raises
    ------
    PermissionError
    """
    if not hasattr(os, "getuid"):
        return
    real = folder.resolve()
    _check(real, _GROUP | _OTHERS)
    for path in real.parents:
        found = path.lstat()
        # In a sticky folder such as /tmp, only its owner can rename or remove a file.
        writers = 0 if found.st_mode & stat.S_ISVTX else _OTHERS
        if writers and found.st_mode & _GROUP and not _is_own_group(found.st_gid):
            writers |= _GROUP
        _check(path, writers)


def check_files(folder: Path, prefix: str) -> None:
    """Refuse files whose names begin with ``prefix`` if another user could have written them.

    The folder is in a private one, or is one.  Then what its group may write to is out of the
    group's reach.

    Raises
    ------
    PermissionError
    """
    if not hasattr(os, "getuid") or not folder.is_dir():
        return
    _check(folder, _OTHERS)
    for file in folder.iterdir():
        if file.name.startswith(prefix):
            _check(file, _OTHERS)


def _check(path: Path, writers: int) -> None:
    found = path.lstat()
    if found.st_uid not in (os.geteuid(), 0):
        raise PermissionError(f"{str(path)!r} belongs to another user (uid {found.st_uid})")
    if stat.S_ISLNK(found.st_mode):
        raise PermissionError(f"{str(path)!r} is a symbolic link")
    if found.st_mode & writers:
        mode = stat.filemode(found.st_mode)
        raise PermissionError(f"other users can write to {str(path)!r} ({mode})")


def _is_own_group(number: int) -> bool:
    """Whether a group has no member but this user, as many systems give each user one."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(number)
    except KeyError:
        return False
    own = user.pw_gid == number and group.gr_name == user.pw_name
    return own and set(group.gr_mem) <= {user.pw_name}
