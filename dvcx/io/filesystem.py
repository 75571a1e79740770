"""What lies under a path: the kind of file system, the room that is left on it, and the words for a full one."""

from __future__ import annotations

import errno
import os

from dvcx.errors import DiskRefused, DvcxError, amount, disk_refused, display

SHARING = frozenset({"", "apfs", "bcachefs", "btrfs", "nfs", "nfs4", "xfs", "zfs"})
"""Here a copy may take no room (shared blocks, compression), or the type is not known: nothing is refused beforehand."""
_HINT = "free some space (dvcx cache size shows the cache's share), then run the command again"


def file_system(path: str) -> str:
    """The type of the file system at a path ("ext4", "xfs", "nfs4"), "" where the platform does not say."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except OSError:
        return ""
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in lines:
        words = line.split(" ")
        at = words[4].encode("latin-1", "replace").decode("unicode_escape")
        if (real == at or real.startswith(at.rstrip("/") + "/")) and len(at) >= len(best):
            best, kind = at, words[words.index("-") + 1]
    return kind


def one_name(directory: str, name: str) -> bool:
    """Whether `name`, which is there, is found in its directory by its other case, too."""
    try:
        return os.path.samestat(os.lstat(f"{directory}/{name}"), os.lstat(f"{directory}/{name.swapcase()}"))
    except OSError:
        return False


def folds(directory: str) -> bool:
    """Whether names in a directory that differ only in case are one name; tried with a file that is removed again."""
    name = f"tmp-dvcx-{os.urandom(8).hex()}"
    try:
        os.close(os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError:
        return False
    try:
        return one_name(directory, name)
    finally:
        os.unlink(f"{directory}/{name}")


def room(at: str | int) -> tuple[int, int]:
    """(bytes, files) that still fit on the file system of a path or descriptor, -1 where it does not say.

    A path that is not there yet counts as the directory it would be made in.
    """
    while isinstance(at, str) and at != os.path.dirname(at) and not os.path.exists(at):
        at = os.path.dirname(at) or "."
    try:
        found = os.statvfs(at)
    except OSError:
        return -1, -1
    free, files = (found.f_bfree, found.f_ffree) if os.geteuid() == 0 else (found.f_bavail, found.f_favail)
    return free * found.f_frsize, files if found.f_files else -1


def check_room(path: str, need: int, what: str) -> None:
    """Raise `DiskRefused` when `need` more bytes cannot fit where `path` is; for work whose size is known before it begins."""
    have, _ = room(path)
    if 0 <= have < need and file_system(path) not in SHARING:
        raise DiskRefused(f"{display(path)}: no space: need {amount(need)}, have {amount(have)}, for {what}", _HINT)


def write_refused(error: OSError, what: str, path: str, need: int, *, at: str | int = "") -> DvcxError:
    """`disk_refused` for writing `need` bytes to `path` (0: a directory); of a full disk with what is left there, or at `at`."""
    if error.errno != errno.ENOSPC:
        return disk_refused(error, what, path)
    need = max(need, 4096)
    have, files = room(at if at != "" else os.path.dirname(path))
    if files == 0:
        return DiskRefused(
            f"{display(path)}: no space: need 1 more file, have none left (inodes), while {what}",
            "remove files that are not needed (df -i shows the rest), then run the command again",
        )
    return DiskRefused(f"{display(path)}: no space: need {amount(need)}, have {amount(max(0, have))}, while {what}", _HINT)
