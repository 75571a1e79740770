"""Small files of the project, read and written whole: never through a symbolic link, never half.

The floor of io: the other files there may stand on this one, it stands on none of them.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable, Sequence
from types import TracebackType

from dvcx.core.paths import path_problem
from dvcx.errors import DiskRefused, DvcxError, NotFound, UnsafeInput, amount, disk_refused, display

TEMPORARY = "tmp-dvcx-"
BARRIER = 32
"""From so many files on one sync of the file system is cheaper than one fsync each."""

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
# O_NONBLOCK: opening a FIFO must not wait for its other end.
_LEAF = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | _NOFOLLOW
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | _NOFOLLOW
_OPEN_AT_MOST = 32


class Reader:
    """Reads many small files below `root`; remembers the directories it has walked to. A context manager; one thread.

    A directory is opened once, each component without following links, and then used by descriptor: what is swapped
    for a link in between cannot lead a later read astray.
    """

    __slots__ = ("_directories", "_root", "root")

    def __init__(self, root: str) -> None:
        self.root = root
        self._directories: dict[str, int] = {}
        self._root = _open_root(root)

    def read(self, path: str, limit: int) -> bytes | None:
        """The bytes of the file at `path` relative to the root; None when there is none.

        Raises `UnsafeInput` for a path the path rule refuses, a link on the way, what is no regular file, and what is
        larger than `limit` bytes.
        """
        problem = path_problem(path)
        if problem:
            raise _unsafe(path, problem, "write it as it is called from the project's root")
        base, _, leaf = path.rpartition("/")
        try:
            directory = self._directories.get(base) if base else self._root
            if directory is None:
                directory = self._walk(base)
            handle = os.open(leaf, _LEAF, dir_fd=directory)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            if error.errno in (errno.ELOOP, errno.EMLINK):
                raise _unsafe(path, "it is a symbolic link") from None
            if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):
                raise _unsafe(path, "it is not a regular file") from None
            raise disk_refused(error, "opening it", path) from None
        try:
            return _read_handle(handle, path, limit)
        except OSError as error:
            raise disk_refused(error, "reading it", path) from None
        finally:
            os.close(handle)

    def _walk(self, base: str) -> int:
        if len(self._directories) >= _OPEN_AT_MOST:
            os.close(self._directories.pop(next(iter(self._directories))))
        handle = _descend(self._root, base, create=False)
        self._directories[base] = handle
        return handle

    def close(self) -> None:
        """Give the descriptors back."""
        for handle in self._directories.values():
            os.close(handle)
        self._directories.clear()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def read_record(root: str, path: str, limit: int) -> bytes | None:
    """Like `Reader.read`, for one file."""
    with Reader(root) as reader:
        return reader.read(path, limit)


def write_record(root: str, path: str, data: bytes, *, mode: int = 0o644, fsync: bool = True) -> bool:
    """Make `data` the content of the file at `path` below `root`, whole or not at all; whether anything was written.

    The same bytes again write nothing. An existing file keeps its mode, a new one gets `mode` less the umask. Missing
    parents are made. On any failure the old file is as it was and no temporary file stays.
    """
    directory, leaf = open_parent(root, path, create=True)
    try:
        return _replace(directory, leaf, data, mode, path, fsync=fsync, keep_mode=True)
    finally:
        os.close(directory)


def remove_record(root: str, path: str, *, fsync: bool = True) -> bool:
    """Remove the file at `path` below `root` (of a link, the link); whether there was one."""
    try:
        directory, leaf = open_parent(root, path)
    except NotFound:
        return False
    try:
        os.unlink(leaf, dir_fd=directory)
        if fsync:
            sync_directory(directory)
        return True
    except FileNotFoundError:
        return False
    except OSError as error:
        raise disk_refused(error, "removing it", path) from None
    finally:
        os.close(directory)


def open_parent(root: str, path: str, *, create: bool = False) -> tuple[int, str]:
    """(descriptor of the directory `path` is in, last component), walked from `root` without following a link.

    The caller closes the descriptor. Raises `UnsafeInput` naming the component that is a link, `NotFound` when a parent
    is missing.
    """
    problem = path_problem(path)
    if problem:
        raise _unsafe(path, problem, "write it as it is called from the project's root")
    base, _, leaf = path.rpartition("/")
    handle = _open_root(root)
    if not base:
        return handle, leaf
    try:
        return _descend(handle, base, create=create), leaf
    except OSError as error:
        raise disk_refused(error, "opening its directory", path) from None
    finally:
        os.close(handle)


def atomic_write(path: str, data: bytes, *, mode: int = 0o644, keep_mode: bool = True, fsync: bool = True) -> bool:
    """Make `data` the content of the file at the absolute `path`, whole or not at all; whether anything was written.

    For files dvcx itself names (configuration, state). Not through a link at `path`. `keep_mode=False` gives the file
    exactly `mode` in any case.
    """
    base, leaf = os.path.split(path)
    try:
        directory = os.open(base or ".", _DIRECTORY)
    except OSError as error:
        raise disk_refused(error, "opening its directory", path) from None
    try:
        return _replace(directory, leaf, data, mode, path, fsync=fsync, keep_mode=keep_mode)
    finally:
        os.close(directory)


def private_directory(path: str) -> None:
    """Make the directory at `path`, for its owner alone (0700), when it is missing. A link there is refused."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise _unsafe(path, "it must be a directory, not a link or a file") from None
    except OSError as error:
        raise disk_refused(error, "making the directory", path) from None


def reap(root: str, directory: str) -> int:
    """Remove what a killed dvcx left half-written in one directory ("" is the root); how many files. Hold the project's lock."""
    handle, _ = open_parent(root, f"{directory}/x" if directory else "x")
    count = 0
    try:
        for name in os.listdir(handle):
            if name.startswith(TEMPORARY) and stat.S_ISREG(os.lstat(name, dir_fd=handle).st_mode):
                os.unlink(name, dir_fd=handle)
                count += 1
    except OSError as error:
        raise disk_refused(error, "removing temporary files", directory or root) from None
    finally:
        os.close(handle)
    return count


def _open_root(root: str) -> int:
    try:
        return os.open(root, _DIRECTORY)
    except OSError as error:
        raise disk_refused(error, "opening the directory", root) from None


def _descend(start: int, base: str, *, create: bool) -> int:
    """A descriptor of the directory `base` below the open directory `start`, which stays open."""
    here = start
    try:
        for number, part in enumerate(base.split("/")):
            try:
                below = os.open(part, _DIRECTORY | _NOFOLLOW, dir_fd=here)
            except OSError as error:
                so_far = "/".join(base.split("/")[: number + 1])
                if _is_link(part, here):
                    raise _unsafe(so_far, "it is a symbolic link, and paths in the project never lead through one") from None
                if error.errno != errno.ENOENT or not create:
                    raise
                try:
                    os.mkdir(part, dir_fd=here)
                except FileExistsError:
                    pass
                below = os.open(part, _DIRECTORY | _NOFOLLOW, dir_fd=here)
            if here != start:
                os.close(here)
            here = below
        return here
    except BaseException:
        if here != start:
            os.close(here)
        raise


def _is_link(name: str, directory: int) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(name, dir_fd=directory).st_mode)
    except OSError:
        return False


def _read_handle(handle: int, path: str, limit: int) -> bytes:
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode):
        raise _unsafe(path, "it is not a regular file")
    if facts.st_size > limit:
        raise _unsafe(path, f"it is larger than {amount(limit)}")
    data = os.read(handle, facts.st_size + 1)
    if len(data) == facts.st_size:
        return data
    while len(data) <= limit:
        more = os.read(handle, limit + 1 - len(data))
        if not more:
            return data
        data += more
    raise _unsafe(path, f"it is larger than {amount(limit)}")


def sync(path: str) -> None:
    """Make a file and its name durable. Raises `DiskRefused`, and FileNotFoundError when it is gone."""
    try:
        sync_file(path)
        sync_directories([os.path.dirname(path)])
    except FileNotFoundError:
        raise
    except OSError as error:
        raise disk_refused(error, "syncing it", path) from None


def _replace(directory: int, leaf: str, data: bytes, mode: int, path: str, *, fsync: bool, keep_mode: bool) -> bool:
    """Write beside, check, rename. After a failed fsync the temporary file goes and the error stands: a second would lie."""
    try:
        before = os.stat(leaf, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        before = None
    except OSError as error:
        raise disk_refused(error, "looking at it", path) from None
    if before is not None:
        if not stat.S_ISREG(before.st_mode):
            raise _unsafe(path, "it must be a regular file to be written")
        mode = stat.S_IMODE(before.st_mode) if keep_mode else mode
        if before.st_size == len(data) and stat.S_IMODE(before.st_mode) == mode and _holds(directory, leaf, data):
            return False
    temporary = TEMPORARY + os.urandom(8).hex()
    try:
        try:
            # A signal may end this anywhere: from here on its name is taken away.
            handle = os.open(temporary, _CREATE, mode, dir_fd=directory)
            try:
                write_whole(handle, data, path)
                if before is not None or not keep_mode:
                    os.fchmod(handle, mode)
                if fsync:
                    os.fsync(handle)
            finally:
                os.close(handle)
            os.rename(temporary, leaf, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            _unlink_quietly(temporary, directory)
            raise
        if fsync:
            sync_directory(directory)
    except OSError as error:
        raise _write_refused(error, path, len(data), directory) from None
    return True


def _holds(directory: int, leaf: str, data: bytes) -> bool:
    try:
        handle = os.open(leaf, _LEAF, dir_fd=directory)
    except OSError:
        return False
    try:
        return _read_handle(handle, leaf, len(data)) == data
    except (OSError, UnsafeInput):
        return False
    finally:
        os.close(handle)


def write_all(handle: int, data: bytes | memoryview) -> None:
    """Write all bytes, however many calls that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def write_whole(handle: int, data: bytes, path: str) -> None:
    """Write a whole file. Raises `DiskRefused` when it is not as long as what was written."""
    write_all(handle, data)
    size = os.fstat(handle).st_size
    if size != len(data):
        raise DiskRefused(
            f"{display(path)}: {size} of {len(data)} bytes arrived on the disk", "check the disk, then run the command again"
        )


def _write_refused(error: OSError, path: str, size: int, directory: int) -> DvcxError:
    if error.errno == errno.ENOENT:
        return NotFound(f"{display(path)}: its directory vanished while writing it", "run the command again")
    from dvcx.io.filesystem import write_refused

    return write_refused(error, "writing it", path, size, at=directory)


def _unlink_quietly(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        pass


def _unsafe(
    path: str, problem: str, hint: str = "look at it (ls -ld), then remove it or restore it: git checkout -- FILE"
) -> UnsafeInput:
    return UnsafeInput(f"unsafe path '{display(path[:200])}': {problem}", hint)


# What was written, made durable. These raise OSError: who calls them knows what it means.


def sync_file(path: str) -> None:
    """fsync one file, not through a link."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | _NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_files(paths: Sequence[str]) -> None:
    """fsync files of one directory; from `BARRIER` on their whole file system, which costs less than each of them."""
    if len(paths) < BARRIER or not can_barrier():
        for path in paths:
            sync_file(path)
        return
    handle = os.open(os.path.dirname(paths[0]), _DIRECTORY)
    try:
        sync_file_system(handle)
    finally:
        os.close(handle)


def sync_directory(handle: int) -> None:
    """fsync an open directory."""
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems cannot sync a directory and say so this way; that is no failed write.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def sync_directories(paths: Iterable[str]) -> None:
    """fsync directories."""
    for path in paths:
        handle = os.open(path, _DIRECTORY)
        try:
            sync_directory(handle)
        finally:
            os.close(handle)


def can_barrier() -> bool:
    """Whether one call can sync a whole file system, and no other."""
    return sys.platform == "linux"


def sync_file_system(handle: int) -> None:
    """syncfs(2): everything written to the file system of `handle` is on the disk; since Linux 5.8 it tells of errors."""
    import ctypes

    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        os.sync()
        return
    if syncfs(handle) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
