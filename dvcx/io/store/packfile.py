"""Files on their way into a store: packs while they are written, and how a finished file gets its name in a local store."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Callable
from typing import cast

from blake3 import blake3

from dvcx.core.packing import Frame, PackInfo, pack_header, pack_tail
from dvcx.errors import DiskRefused
from dvcx.io.files import write_all
from dvcx.io.filesystem import write_refused
from dvcx.io.hashing import xxh128
from dvcx.io.store.local import LocalBackend

FLUSH = 1 << 20
BEHIND = 32 << 20
"""So many bytes are written before the kernel is told to bring them to the disk."""
_BEGIN = 2  # SYNC_FILE_RANGE_WRITE


class OpenPack:
    """A pack being written to a temporary file; buffered, its BLAKE3 computed on the way."""

    def __init__(self, path: str, id_length: int) -> None:
        self.path = path
        self._id_length = id_length
        self._frames: list[Frame] = []
        self._buffer: list[bytes | memoryview] = []
        self._buffered = 0
        self._hasher = blake3()
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._fd = create(path)
        except OSError as error:
            raise write_refused(error, "writing a pack", self.path, 0) from None
        self.size = 0
        self._push(pack_header(id_length))

    def append(self, object_id: bytes, sealed: bytes, kind: int, encoding: int, stored: bytes | memoryview, size: int) -> None:
        self._frames.append(Frame(object_id, sealed, kind, encoding, self.size, len(stored), size))
        self._push(stored)

    def _push(self, data: bytes | memoryview) -> None:
        if len(data) >= FLUSH // 8:
            # Not kept: it may be a view of a buffer that is used again.
            self._flush()
            self.size += len(data)
            self._write(data)
            return
        self._buffer.append(bytes(data) if isinstance(data, memoryview) else data)
        self._buffered += len(data)
        self.size += len(data)
        if self._buffered >= FLUSH:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._buffer)
        self._buffer, self._buffered = [], 0
        self._write(data)

    def _write(self, data: bytes | memoryview) -> None:
        self._hasher.update(data)
        try:
            write_all(self._fd, data)
        except OSError as error:
            raised = write_refused(error, "writing a pack", self.path, len(data))
            self.drop()
            raise raised from None

    def finish(self, *, sync: bool) -> PackInfo:
        self._push(pack_tail(self._frames, self._id_length, xxh128))
        try:
            self._flush()
            if sync:
                os.fsync(self._fd)
            if os.fstat(self._fd).st_size != self.size:
                raise DiskRefused(f"{self.path}: it has not the length that was written", "check the disk")
            os.fchmod(self._fd, 0o444)
        except OSError as error:
            raised = write_refused(error, "making a pack durable", self.path, self.size)
            self.drop()
            raise raised from None
        except BaseException:
            self.drop()
            raise
        os.close(self._fd)
        self._fd = -1
        return PackInfo(self._hasher.digest(), self.size, self._frames)

    def drop(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        with contextlib.suppress(OSError):
            os.unlink(self.path)


def fresh_name(directory: str) -> str:
    """A name nobody has for a file on its way; what stays under such a name is reaped."""
    return f"{directory}/tmp-dvcx-{secrets.token_hex(8)}"


def create(path: str) -> int:
    """A new file, open for reading and writing; nobody else may read it yet."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


class WriteBehind:
    """Has the kernel write a large file to the disk while the rest of it still comes, so that the fsync after it waits little.

    `sync` false, or another system than Linux: nothing happens.
    """

    __slots__ = ("_fd", "_from", "_range", "_sync", "_to")

    def __init__(self, fd: int, *, sync: bool) -> None:
        self._fd, self._from, self._to = fd, 0, 0
        self._sync = sync and sys.platform == "linux"
        self._range: Callable[[int, int, int, int], int] | None = None

    def wrote(self, count: int) -> None:
        """So many more bytes were written, one after another."""
        self._to += count
        if self._sync and self._to - self._from >= BEHIND:
            self._range = self._range or _sync_file_range()
            # It only begins to write; an error shows in the fsync.
            self._range(self._fd, self._from, self._to - self._from, _BEGIN)
            self._from = self._to


def _sync_file_range() -> Callable[[int, int, int, int], int]:
    import ctypes

    found = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if found is None:
        return lambda *asked: 0
    found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return cast("Callable[[int, int, int, int], int]", found)


def move_into(local: LocalBackend, path: str, name: str) -> None:
    """Rename a finished file to its name in a local store; the directories on the way are made, and are no links."""
    target = local.path(name)
    local.make_directories(name)
    try:
        os.rename(path, target)
    except OSError as error:
        raise write_refused(error, "putting an object in place", target, 0) from None
