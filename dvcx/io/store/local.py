"""A backend in a directory: the cache, and remotes that are a mounted file system. Owns the write protocol on a local disk.

A file is written beside its place under a temporary name, checked for length, fsynced, renamed; then its directory is fsynced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from dvcx.errors import DiskRefused, IntegrityError, NotFound, RemoteFailed, UnsafeInput, UsageError, disk_refused, display
from dvcx.io.files import BARRIER, can_barrier, sync_directories, sync_file, sync_file_system, write_whole
from dvcx.io.filesystem import write_refused
from dvcx.io.store.backend import (
    OWN_TEMPORARY,
    STALE,
    TEMPORARY,
    Listed,
    Mark,
    Source,
    capped,
    check_below,
    check_name,
    check_prefix,
    check_range,
    exactly,
    ignore_bytes,
    reading,
    short,
)

FSYNC = ("full", "batch", "none")
READ_ONLY = ("objects/", "packs/", "index/")  # what lies here is never changed, only replaced
SHARED = 0o2775  # mode of directories whose group writes in them too

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_COPY_STEP = 8 << 20
_CANNOT_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ETXTBSY)


class LocalBackend:
    """The directory `root`. The contract is `Backend`'s, with `DiskRefused` for what the disk refuses.

    `fsync`: "batch" and "full" sync every file and directory before a call returns ("batch" lets `write_many` sync the whole
    file system once; "full" does not, and on macOS also empties the drive's cache); "none" syncs nothing.
    `must_exist` makes `list` raise `RemoteFailed` while `root` is absent, for a directory that may be unmounted; the first
    write creates it either way. `shared` directories belong to their group as well (2775), whatever the umask.
    """

    def __init__(self, root: str, *, fsync: str = "batch", must_exist: bool = False, shared: bool = False) -> None:
        if fsync not in FSYNC:
            what = f"core.fsync must be full, batch or none, not '{display(fsync)}'"
            raise UsageError(what, "dvcx config set --local core.fsync batch")
        self.root = root
        self.url = root
        self._fsync = fsync
        self._must_exist = must_exist
        self.shared = shared
        self._known: set[str] = set()  # directories seen to be real ones

    def path(self, name: str) -> str:
        """Where the file `name` is, whether it exists or not; "" is the root."""
        return self._file(name) if name else self.root

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `Backend.list`. Links are neither followed nor listed."""
        prefix = check_prefix(prefix, self.url)
        if self._must_exist and not os.path.isdir(self.root):
            raise RemoteFailed(
                f"{display(self.root)} does not exist",
                f"mount it, or create it: mkdir -p '{display(self.root)}'",
            )
        if prefix and not self._is_real_directory(prefix):
            return
        pending = [prefix]
        while pending:
            directory = pending.pop()
            for entry in _scan(os.path.join(self.root, directory) if directory else self.root):
                name = f"{directory}/{entry.name}" if directory else entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append(name)
                elif entry.is_file(follow_symlinks=False) and not entry.name.startswith(TEMPORARY):
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # deleted since: it is not there
                        continue
                    except OSError as error:
                        raise disk_refused(error, "listing", entry.path) from error
                    yield Listed(name, found.st_size, found.st_mtime_ns / 1e9)

    def size(self, name: str) -> int | None:
        """See `Backend.size`. What is no regular file counts as absent; a write replaces it."""
        path = self._file(name)
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise disk_refused(error, "looking at it", path) from error
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        """See `Backend.read`."""
        check_range(start, length)
        path = self._file(name)
        with self._open(path) as (descriptor, size):
            wanted = size - start if length < 0 else length
            if wanted < 0 or start > size:
                raise short(path, start, size)
            parts = []
            try:
                while wanted > 0:
                    part = os.pread(descriptor, wanted, start)
                    if not part:
                        break
                    parts.append(part)
                    start += len(part)
                    wanted -= len(part)
            except OSError as error:
                raise disk_refused(error, "reading", path) from error
        return exactly(parts[0] if len(parts) == 1 else b"".join(parts), length, path)

    def stream(self, name: str, limit: int, mark: Mark | None = None) -> Iterator[bytes]:
        """See `Backend.stream`."""
        path = self._file(name)
        with self._open(path) as (descriptor, size):
            if mark is None:
                mark = Mark()
            else:
                found = os.fstat(descriptor)
                mark.met(size, f"{found.st_ino} {found.st_mtime_ns}", path)
            yield from capped(_pieces(descriptor, path, mark), limit, path, mark)

    def write(self, name: str, data: bytes) -> None:
        """See `Backend.write`. Returns when it is durable, unless `fsync` is "none"."""
        self._place(name, len(data), lambda descriptor, path: write_whole(descriptor, data, path))

    def write_many(self, items: Iterable[tuple[str, bytes]]) -> None:
        """Write every (name, data), with one barrier for all: write, sync, rename, sync.

        Returns when all are durable. On a failure before the renames none is visible and no temporary file stays.
        """
        waiting: list[tuple[str, str]] = []
        descriptors: list[int] = []
        try:
            touched: set[str] = set()
            barrier = -1
            for name, data in items:
                final = self._file(name)
                if barrier < 0:
                    touched |= self.make_directories(name)
                    barrier = os.open(self.root, os.O_RDONLY | _CLOEXEC)  # before the writes: it reports their errors
                    descriptors.append(barrier)
                temporary = _temporary(final)
                waiting.append((temporary, final))
                changed, descriptor = self._begin(name, final, temporary)
                touched |= changed
                try:
                    write_whole(descriptor, data, final)
                    self._finish(descriptor, name, sync=self._fsync == "full" or (self._fsync == "batch" and not can_barrier()))
                except OSError as error:
                    raise write_refused(error, "writing", final, len(data)) from error
                finally:
                    os.close(descriptor)
            if not waiting:
                return
            one_by_one = self._fsync == "batch" and can_barrier() and len(waiting) < BARRIER
            if one_by_one:
                for temporary, final in waiting:
                    try:
                        sync_file(temporary)
                    except OSError as error:
                        raise disk_refused(error, "syncing", final) from error
            elif self._fsync == "batch" and can_barrier():
                sync_file_system(barrier)
            for temporary, final in waiting:
                try:
                    os.replace(temporary, final)
                except OSError as error:
                    raise disk_refused(error, "renaming it into place", final) from error
            if self._fsync == "batch" and can_barrier() and not one_by_one:
                sync_file_system(barrier)
            else:
                self._sync_directories(touched)
        except OSError as error:
            raise disk_refused(error, "writing", self.root) from error
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
            for temporary, _ in waiting:  # those renamed are gone already
                with contextlib.suppress(OSError):
                    os.unlink(temporary)

    def upload(self, name: str, path: str, emit_bytes: Callable[[int], None] = ignore_bytes) -> None:
        """See `Backend.upload`. On btrfs and xfs the copy shares the bytes with `path`."""
        with reading(path) as source:
            self._place(name, source.size, lambda descriptor, final: _copy(source, descriptor, final, emit_bytes))

    def delete(self, name: str) -> None:
        """See `Backend.delete`."""
        path = self._file(name)
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise disk_refused(error, "deleting it", path) from error

    def clear(self, prefix: str) -> None:
        """See `Backend.clear`. Directories above it that are empty then go too, not the root. Links are not followed."""
        import shutil

        prefix = check_below(prefix, self.url)
        path = os.path.join(self.root, prefix)
        try:
            if self._is_real_directory(prefix):
                shutil.rmtree(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise disk_refused(error, "removing it", error.filename or path) from error
        self._known.clear()
        while prefix := prefix.rpartition("/")[0]:
            try:
                os.rmdir(os.path.join(self.root, prefix))
            except OSError:  # not empty
                return

    def move(self, name: str, target: str) -> None:
        """See `Backend.move`. Here it is one step, durable after `sync`."""
        path, final = self._file(name), self._file(target)
        for again in (True, False):
            self.make_directories(target)
            try:
                os.rename(path, final)
                return
            except OSError as error:
                if not (again and error.errno == errno.ENOENT and os.path.lexists(path)):
                    raise disk_refused(error, "moving it", path) from error
                self._known.clear()  # somebody removed the empty directory since

    def sync(self) -> None:
        """Make renames and deletions durable."""
        if self._fsync != "none" and can_barrier() and os.path.isdir(self.root):
            descriptor = os.open(self.root, os.O_RDONLY | _CLOEXEC)
            try:
                sync_file_system(descriptor)
            except OSError as error:
                raise disk_refused(error, "syncing the file system", self.root) from error
            finally:
                os.close(descriptor)

    def close(self) -> None:
        """See `Backend.close`."""

    def reap(self, older: float = STALE, *, only: Sequence[str] | None = None) -> int:
        """Remove temporary files a crash left: dvcx's own, this user's, not touched for `older` seconds. How many.

        `only` keeps to the files right in these directories.
        """
        before = time.time() - older
        count = 0
        pending = [self.root] if only is None else [self.path(name) for name in only]
        while pending:
            for entry in _scan(pending.pop()):
                with contextlib.suppress(OSError):
                    if only is None and entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif entry.name.startswith(OWN_TEMPORARY) and entry.is_file(follow_symlinks=False):
                        found = entry.stat(follow_symlinks=False)
                        if found.st_mtime < before and (not hasattr(os, "getuid") or found.st_uid == os.getuid()):
                            os.unlink(entry.path)
                            count += 1
        return count

    def _file(self, name: str) -> str:
        return os.path.join(self.root, check_name(name, self.url))

    @contextlib.contextmanager
    def _open(self, path: str) -> Iterator[tuple[int, int]]:
        try:
            descriptor = os.open(path, os.O_RDONLY | _NOFOLLOW | _NONBLOCK | _CLOEXEC | _BINARY)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"{display(path)} does not exist", "check what the store holds") from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise _irregular(path) from error
            raise disk_refused(error, "reading", path) from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise _irregular(path)
            yield descriptor, found.st_size
        finally:
            os.close(descriptor)

    def _place(self, name: str, size: int, fill: Callable[[int, str], None]) -> None:
        final = self._file(name)
        temporary = _temporary(final)
        try:
            touched, descriptor = self._begin(name, final, temporary)
            try:
                fill(descriptor, final)
                self._finish(descriptor, name, sync=self._fsync != "none")
            finally:
                os.close(descriptor)
            os.replace(temporary, final)
        except OSError as error:
            raise write_refused(error, "writing", final, size) from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # there only when something went wrong
        self._sync_directories(touched)

    def _begin(self, name: str, final: str, temporary: str) -> tuple[set[str], int]:
        """The directories that change, and a descriptor of the new file `temporary`, which the caller takes away."""
        for again in (True, False):
            touched = self.make_directories(name)
            try:
                return touched, os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _CLOEXEC | _BINARY, 0o600)
            except OSError as error:
                if not (again and error.errno == errno.ENOENT):
                    raise write_refused(error, "writing", final, 0) from error
                self._known.clear()  # somebody removed the empty directory since
        raise AssertionError

    def _finish(self, descriptor: int, name: str, *, sync: bool) -> None:
        with contextlib.suppress(PermissionError, NotImplementedError):  # some mounts have no modes, and no mode is evidence
            os.chmod(descriptor, 0o444 if name.startswith(READ_ONLY) else 0o644)
        if sync:
            _sync(descriptor, thoroughly=self._fsync == "full")

    def make_directories(self, name: str) -> set[str]:
        """Make sure the directory of `name` is there and real; the directories whose entries change by the write."""
        parts = name.split("/")[:-1]
        here = "/".join(parts)
        directory = os.path.join(self.root, here) if here else self.root
        if here in self._known:
            return {directory}
        changed = {directory}
        try:
            if not os.path.isdir(self.root):
                missing = self.root
                os.makedirs(self.root, exist_ok=True)
                changed.add(os.path.dirname(os.path.abspath(missing)))
            walked = ""
            for part in parts:
                above = os.path.join(self.root, walked) if walked else self.root
                walked = f"{walked}/{part}" if walked else part
                path = os.path.join(self.root, walked)
                try:
                    os.mkdir(path)
                    if self.shared:
                        os.chmod(path, SHARED)
                    changed.add(above)
                except FileExistsError:
                    if not stat.S_ISDIR(os.lstat(path).st_mode):
                        raise UnsafeInput(
                            f"{display(path)} is not a directory",
                            "a store holds no links; move it away, then run the command again",
                        ) from None
        except OSError as error:
            raise write_refused(error, "creating the directory", directory, 0) from error
        self._known.add(here)
        return changed

    def _sync_directories(self, directories: set[str]) -> None:
        if self._fsync == "none" or os.name == "nt":
            return
        for directory in sorted(directories):
            try:
                sync_directories([directory])
            except FileNotFoundError:
                pass
            except OSError as error:
                raise disk_refused(error, "syncing the directory", directory) from error

    def _is_real_directory(self, prefix: str) -> bool:
        walked = self.root
        for part in prefix.split("/"):
            walked = os.path.join(walked, part)
            try:
                if not stat.S_ISDIR(os.lstat(walked).st_mode):
                    return False
            except (FileNotFoundError, NotADirectoryError):
                return False
            except OSError as error:
                raise disk_refused(error, "listing", walked) from error
        return True


def _scan(directory: str) -> Iterator[os.DirEntry[str]]:
    """The entries of `directory`; none when it is gone."""
    try:
        with os.scandir(directory) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise disk_refused(error, "listing", directory) from error


def _temporary(final: str) -> str:
    return os.path.join(os.path.dirname(final), OWN_TEMPORARY + os.urandom(8).hex())


def _copy(source: Source, descriptor: int, path: str, emit_bytes: Callable[[int], None]) -> None:
    copied = _copy_in_kernel(source, descriptor, emit_bytes)
    if copied == source.size:
        source.check_unchanged(copied)
    else:
        os.lseek(source.descriptor, 0, os.SEEK_SET)
        os.lseek(descriptor, 0, os.SEEK_SET)
        seen = 0
        for chunk in source.chunks():
            view = memoryview(chunk)
            while view:
                view = view[os.write(descriptor, view) :]
            seen += len(chunk)
            emit_bytes(max(0, min(len(chunk), seen - copied)))
    _check_length(descriptor, source.size, path)


def _copy_in_kernel(source: Source, descriptor: int, emit_bytes: Callable[[int], None]) -> int:
    """Copy with copy_file_range as far as it goes; the bytes copied, fewer than all when it cannot go on."""
    copied = 0
    if sys.platform != "linux":
        return copied
    while copied < source.size:
        try:
            step = os.copy_file_range(source.descriptor, descriptor, min(_COPY_STEP, source.size - copied))
        except OSError as error:
            if error.errno in _CANNOT_COPY:
                return copied
            raise
        if not step:
            return copied
        copied += step
        emit_bytes(step)
    return copied


def _check_length(descriptor: int, expected: int, path: str) -> None:
    got = os.fstat(descriptor).st_size
    if got != expected:
        raise DiskRefused(f"{display(path)}: wrote {expected} bytes, {got} arrived", "check the disk, then run the command again")


def _pieces(descriptor: int, path: str, mark: Mark) -> Iterator[bytes]:
    position = mark.position
    while mark.end < 0 or position < mark.end:
        try:
            piece = os.pread(descriptor, 1 << 20 if mark.end < 0 else min(1 << 20, mark.end - position), position)
        except OSError as error:
            raise disk_refused(error, "reading", path) from error
        if not piece:
            return
        position += len(piece)
        yield piece


def _irregular(path: str) -> IntegrityError:
    return IntegrityError(
        f"{display(path)} is not a regular file",
        "a store holds only regular files; move it away, then run the command again",
    )


def _sync(descriptor: int, *, thoroughly: bool) -> None:
    if thoroughly and sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)
