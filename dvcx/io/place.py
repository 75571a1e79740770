"""Placing: objects of the cache become files, first in a private staging directory, then by renames into the workspace."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat as stat_module
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from dvcx.core.objects import EXEC, LINK, Entry, digest_bytes
from dvcx.core.packing import SMALL
from dvcx.errors import Conflict, NotFound, UnsafeInput, disk_refused, display
from dvcx.io import pool, processes
from dvcx.io.files import open_parent, private_directory
from dvcx.io.filesystem import write_refused
from dvcx.io.hashing import changed_while_reading, unchanged
from dvcx.io.store.store import Batch, Store, Wanted, wanted

LINKS = ("reflink", "copy", "hardlink", "symlink")
TICK = 0.021
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FORK_ABOVE = 2000
"""Above so many objects helper processes write them: two make files almost three times as fast as two threads."""

Stat = tuple[int, int, int, int]
"""inode, size, mtime_ns, ctime_ns of a file when it was staged."""


class Target(NamedTuple):
    """Where a staged object goes: a directory of the staging area, a name in it, and what it becomes (file, exec or link)."""

    directory: str
    name: str
    kind: str


class Staging:
    """A private directory (0700) on the workspace's file system. A context manager: what is left in it is removed."""

    def __init__(self, directory: str) -> None:
        self.path = f"{directory}/{secrets.token_hex(8)}"

    def __enter__(self) -> Staging:
        try:
            private_directory(os.path.dirname(self.path))
            private_directory(self.path)
        except BaseException:
            remove_below(self.path)
            raise
        return self

    def __exit__(self, *rest: object) -> None:
        remove_below(self.path)

    def directory(self, name: str) -> str:
        """A new directory in the staging area; its path."""
        path = f"{self.path}/{name}"
        try:
            os.makedirs(path)
        except FileExistsError:
            raise _taken(name) from None
        except OSError as error:
            raise write_refused(error, "making a directory", path, 0) from None
        return path

    def settle(self, since: float) -> None:
        """Wait until one tick of the file system has passed since `since`, so that what was staged can be trusted later."""
        left = since + TICK - time.time()
        if left > 0:
            time.sleep(left)


def stage(
    store: Store,
    jobs: Mapping[Wanted, Sequence[Target]],
    *,
    links: Sequence[str],
    workers: int,
    advanced: Callable[[int, int], None],
    absent: Callable[[set[Wanted]], Exception],
) -> dict[tuple[str, str], Stat]:
    """Write every object to its targets, verified; what stat says of each file.

    `advanced` hears (files, bytes). Raises what `absent` makes of objects that are not there, `IntegrityError`, `DiskRefused`.
    """
    umask = _umask()
    modes = {EXEC: 0o777 & ~umask}
    plain = 0o666 & ~umask

    def write(batch: Batch) -> bytes:
        found = array("q")
        for item, data in store.read_batch(batch):
            for target in jobs[item]:
                found.extend(_write(target, data, modes.get(target.kind, plain)))
        return found.tobytes()

    def link(batch: Batch) -> bytes:
        found = array("q")
        for item, _ in batch.items:
            for target in jobs[item]:
                found.extend(_place_loose(store, item, target, links, modes.get(target.kind, plain)))
        return found.tobytes()

    batches = store.batches(jobs)
    lacking = set(jobs).difference([item for batch in batches for item, _ in batch.items])
    if lacking:
        raise absent(lacking)
    packed = [batch for batch in batches if batch.pack]
    alone = [batch for batch in batches if not batch.pack]
    small = [batch for batch in alone if batch.items[0][0].size < SMALL and not _linkable(links)]
    large = [batch for batch in alone if batch.items[0][0].size >= SMALL or _linkable(links)]
    staged: dict[tuple[str, str], Stat] = {}

    def take(batch: Batch, found: bytes) -> None:
        numbers = iter(array("q", found))
        count = 0
        for item, _ in batch.items:
            for target in jobs[item]:
                staged[target.directory, target.name] = (next(numbers), next(numbers), next(numbers), next(numbers))
                count += 1
        advanced(count, batch.size)

    if len(jobs) > FORK_ABOVE and workers > 1 and processes.available():
        for number, found in processes.spread(write, packed, workers=workers):
            take(packed[number], found)
        packed = []
    for function, chosen in ((write, packed + small), (link, large)):
        for batch, found in zip(chosen, pool.run(function, chosen, workers=workers), strict=True):
            take(batch, found)
    return staged


def fill(
    store: Store, directory: str, entries: Sequence[Entry], *, links: Sequence[str], absent: Callable[[set[Wanted]], Exception]
) -> list[Stat]:
    """Like `stage`, for the files and links of one directory of the staging area; what stat says of each, in their order.

    Nearly all of them lie in packs and are small: what is done for each of those is kept to four system calls.
    """
    umask = _umask()
    executable, plain = 0o777 & ~umask, 0o666 & ~umask
    found: list[Stat] = [(0, 0, 0, 0)] * len(entries)
    places: dict[bytes, list[int]] = {}
    items: dict[bytes, Wanted] = {}
    for at, entry in enumerate(entries):
        key = digest_bytes(entry.id)
        if key not in items:
            items[key], places[key] = Wanted(entry.id, entry.seal, entry.size), [at]
        elif items[key].seal == entry.seal:
            places[key].append(at)
    for key, data in store.read_packed(items):
        for at in places.pop(key):
            entry = entries[at]
            mode = executable if entry.kind == EXEC else plain
            found[at] = _write(Target(directory, entry.name, entry.kind), data, mode)
    left = [at for numbers in places.values() for at in numbers]
    left += [at for at, entry in enumerate(entries) if items[digest_bytes(entry.id)].seal != entry.seal]
    if left:
        jobs: dict[Wanted, list[Target]] = {}
        for at in left:
            entry = entries[at]
            jobs.setdefault(wanted(entry), []).append(Target(directory, entry.name, entry.kind))
        staged = stage(store, jobs, links=links, workers=1, advanced=lambda count, size: None, absent=absent)
        for at in left:
            found[at] = staged[directory, entries[at].name]
    return found


def _linkable(links: Sequence[str]) -> bool:
    return "hardlink" in links or "symlink" in links


def _write(target: Target, data: memoryview, mode: int) -> Stat:
    path = f"{target.directory}/{target.name}"
    try:
        if target.kind == LINK:
            os.symlink(bytes(data), os.fsencode(path))
            found = os.lstat(path)
            return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        fd = os.open(path, _NEW, mode)
        try:
            written = os.write(fd, data)
            while written < len(data):
                written += os.write(fd, data[written:])
            found = os.fstat(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise _refused(error, target, len(data)) from None
    except ValueError as error:
        raise UnsafeInput(f"{display(target.name)}: {error}", "the link's target cannot be written here") from None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _place_loose(store: Store, item: Wanted, target: Target, links: Sequence[str], mode: int) -> Stat:
    """One object that is a file of its own: by the first kind of link that works here."""
    path = f"{target.directory}/{target.name}"
    if target.kind == LINK:
        return _write(target, memoryview(store.read(item)), mode)
    try:
        for link in links:
            if link == "reflink" and _reflink(store.check_loose(item), path, mode):
                break
            if link == "hardlink" and target.kind != EXEC and item.size and _hardlink(store.check_loose(item), path):
                store.just_checked(item, path)
                break
            if link == "symlink" and target.kind != EXEC and item.size:
                os.symlink(os.path.abspath(store.check_loose(item)), path)
                break
            if link == "copy":
                _copy(store, item, path, mode)
                break
        else:
            _copy(store, item, path, mode)
        found = os.stat(path)
    except OSError as error:
        raise _refused(error, target, item.size) from None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _copy(store: Store, item: Wanted, path: str, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        for piece in store.stream(item):
            view = memoryview(piece)
            while view:
                view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _reflink(source: str, path: str, mode: int) -> bool:
    import fcntl

    taken = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            fcntl.ioctl(fd, 0x40049409, taken)
            return True
        except OSError:
            os.unlink(path)
            return False
        finally:
            os.close(fd)
    finally:
        os.close(taken)


def _hardlink(source: str, path: str) -> bool:
    try:
        os.link(source, path, follow_symlinks=False)
        return True
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            return False
        raise


def link_support(store_directory: str, staging: str) -> dict[str, bool]:
    """Which kinds of link work between two directories; tried with a real file that is removed again."""
    source = f"{store_directory}/tmp-dvcx-{secrets.token_hex(8)}"
    path = f"{staging}/tmp-dvcx-{secrets.token_hex(8)}"
    found = {}
    try:
        with contextlib.closing(open(source, "xb")) as file:
            file.write(b"dvcx")
        for kind in ("reflink", "hardlink", "symlink"):
            try:
                found[kind] = _link_works(kind, source, path)
            except OSError:
                found[kind] = False
            with contextlib.suppress(OSError):
                os.unlink(path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(source)
    return found


def _link_works(kind: str, source: str, path: str) -> bool:
    if kind == "reflink":
        return _reflink(source, path, 0o600)
    if kind == "hardlink":
        return _hardlink(source, path)
    os.symlink(source, path)
    return True


# Renames into the workspace


def check_way(root: str, path: str) -> None:
    """Raise `Conflict` when something that is no directory stands where one has to be on the way to a project path."""
    here = ""
    for part in path.split("/")[:-1]:
        here = f"{here}/{part}" if here else part
        try:
            mode = os.lstat(f"{root}/{here}").st_mode
        except OSError:
            return
        if not stat_module.S_ISDIR(mode):
            raise Conflict(
                f"{display(here)}: a file is where the directory of {display(path)} has to be",
                "move it away, then run the command again",
            )


def move_in(root: str, path: str, staged: str) -> None:
    """Rename a staged file or directory to a project path; a file there is replaced, parents are made."""
    parent, leaf = open_parent(root, path, create=True)
    try:
        os.rename(staged, leaf, dst_dir_fd=parent)
    except OSError as error:
        if error.errno == errno.EXDEV:
            _move_across(parent, leaf, staged, path)
            return
        raise _blocked(error, path) from None
    finally:
        os.close(parent)


def _blocked(error: OSError, path: str) -> Exception:
    if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR):
        return Conflict(
            f"{display(path)}: something that dvcx does not track is in the way", "move it away, then run the command again"
        )
    return disk_refused(error, "putting it in place", path)


def _move_across(parent: int, leaf: str, staged: str, path: str) -> None:
    """The workspace's directory lies on another file system: copy beside the target, then rename there."""
    temporary = f"tmp-dvcx-{secrets.token_hex(8)}"
    beside = f"{_fd_path(parent)}/{temporary}"
    try:
        _copy_whole(staged, beside)
        os.rename(temporary, leaf, src_dir_fd=parent, dst_dir_fd=parent)
    except OSError as error:
        remove_below(beside)
        raise _blocked(error, path) from None
    remove_below(staged)


def _copy_whole(source: str, target: str) -> None:
    """Copy a file, a link or a directory with all that is in it."""
    if stat_module.S_ISDIR(os.lstat(source).st_mode):
        try:
            shutil.copytree(source, target, symlinks=True)
        except shutil.Error as error:
            raise OSError(errno.EIO, str(error.args[0])[:500]) from None
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def _fd_path(fd: int) -> str:
    """A path that leads to an open directory, whatever stands at its name by now."""
    if os.path.isdir("/proc/self/fd"):
        return f"/proc/self/fd/{fd}"
    import fcntl

    return os.fsdecode(fcntl.fcntl(fd, 50, bytes(1024)).rstrip(b"\0"))  # F_GETPATH, macOS


def move_out(root: str, path: str, aside: str) -> bool:
    """Rename what is at a project path to `aside`; False when nothing is there."""
    try:
        parent, leaf = open_parent(root, path)
    except NotFound:
        return False
    try:
        os.lstat(leaf, dir_fd=parent)
        try:
            os.rename(leaf, aside, src_dir_fd=parent)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            here = f"{_fd_path(parent)}/{leaf}"
            _copy_whole(here, aside)
            remove_below(here)
        return True
    except FileNotFoundError:
        return False
    except OSError as error:
        raise disk_refused(error, "moving it aside", path) from None
    finally:
        os.close(parent)


def rename(root: str, path: str, destination: str) -> None:
    """Rename a file or directory of the workspace; parents are made. Onto another file system it is copied, then removed."""
    here, leaf = open_parent(root, path)
    try:
        there, name = open_parent(root, destination, create=True)
        try:
            os.rename(leaf, name, src_dir_fd=here, dst_dir_fd=there)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise disk_refused(error, f"renaming it to {display(destination)}", path) from None
            _move_across(there, name, f"{_fd_path(here)}/{leaf}", destination)
        finally:
            os.close(there)
    finally:
        os.close(here)


def detach(root: str, path: str) -> None:
    """Give a linked file of the workspace bytes of its own, those it has now, writable; its other names are left alone."""
    parent, leaf = open_parent(root, path)
    temporary = f"tmp-dvcx-{secrets.token_hex(8)}"
    here = _fd_path(parent)
    try:
        try:
            before = os.stat(leaf, dir_fd=parent)
            shutil.copyfile(f"{here}/{leaf}", f"{here}/{temporary}")
            if not unchanged(before, os.stat(leaf, dir_fd=parent)):
                raise changed_while_reading(path)
            os.chmod(temporary, 0o666 & ~_umask() | before.st_mode & 0o111, dir_fd=parent)
            os.rename(temporary, leaf, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            remove_below(f"{here}/{temporary}")
            raise
    except OSError as error:
        raise disk_refused(error, "making it a file of its own", path) from None
    finally:
        os.close(parent)


def remove_file(root: str, path: str) -> None:
    """Remove a file or link of the workspace; absent is fine."""
    try:
        parent, leaf = open_parent(root, path)
    except NotFound:
        return
    try:
        os.unlink(leaf, dir_fd=parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise disk_refused(error, "removing it", path) from None
    finally:
        os.close(parent)


def remove_directory(root: str, path: str) -> bool:
    """Remove an empty directory; False when it still holds something (ignored files stay)."""
    try:
        parent, leaf = open_parent(root, path)
    except NotFound:
        return True
    try:
        os.rmdir(leaf, dir_fd=parent)
        return True
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise disk_refused(error, "removing the directory", path) from None
    finally:
        os.close(parent)


def remove_below(path: str) -> None:
    """Remove a staging or set-aside directory or file, quietly: what stays is reaped later."""
    with contextlib.suppress(OSError):
        if stat_module.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


def reap_staging(directory: str, older_than: float, *, spare: str = "") -> None:
    """Remove what a killed command left in the staging area, but not names beginning with `spare`. Hold the project's lock."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in list(entries):
            with contextlib.suppress(OSError):
                if spare and entry.name.startswith(spare):
                    continue
                if entry.stat(follow_symlinks=False).st_mtime < time.time() - older_than:
                    remove_below(entry.path)


def _refused(error: OSError, target: Target, size: int) -> Exception:
    if error.errno == errno.EEXIST:
        return _taken(target.name)
    return write_refused(error, "placing it", target.name, size, at=target.directory)


def _taken(name: str) -> UnsafeInput:
    return UnsafeInput(
        f"{display(name)}: this file system takes it for another name of the same directory (case or accents)",
        "rename one of the two on a file system that tells them apart",
    )


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current
