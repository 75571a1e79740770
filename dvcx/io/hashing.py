"""Digests: the functions behind the algorithms of `core.objects.ALGORITHMS`, and reading a file once for both of its names."""

from __future__ import annotations

import os
import stat as stat_module
from collections.abc import Callable
from typing import Any

import xxhash
from blake3 import blake3

from dvcx.core.objects import Digest
from dvcx.errors import DiskRefused, IntegrityError, UnsafeInput, disk_refused, display

BUFFER = 1 << 20
SMALL = 1 << 20
"""Files below this are read in one piece."""

xxh128: Callable[[bytes | memoryview], bytes] = xxhash.xxh3_128_digest
"""Checksum of tables and indexes, 16 bytes."""


def seal(data: bytes | memoryview) -> bytes:
    """BLAKE3 of some bytes, 32 bytes."""
    return blake3(data).digest()


def digest(data: bytes | memoryview, algorithm: str) -> Digest:
    """Id and seal of bytes in memory."""
    sealed = blake3(data).hexdigest()
    named = "xxh128:" + xxhash.xxh3_128_hexdigest(data) if algorithm == "xxh128" else "blake3:" + sealed
    # What `Digest(named, sealed)` does, at half the price: this is done for every file.
    return tuple.__new__(Digest, (named, sealed))


def name_of(data: bytes | memoryview, algorithm: str) -> str:
    """The id of bytes in memory, without their seal."""
    return "xxh128:" + xxhash.xxh3_128_hexdigest(data) if algorithm == "xxh128" else "blake3:" + blake3(data).hexdigest()


class Hasher:
    """Id and seal of bytes that come in pieces. Not for several threads at once."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._fast: Any = xxhash.xxh3_128() if algorithm == "xxh128" else None
        self._strong = blake3()

    def update(self, data: bytes | memoryview) -> None:
        """Take more bytes."""
        if self._fast is not None:
            self._fast.update(data)
        self._strong.update(data)

    def digest(self) -> Digest:
        """Both names of all the bytes so far."""
        sealed = self._strong.hexdigest()
        if self._fast is None:
            return Digest("blake3:" + sealed, sealed)
        return Digest("xxh128:" + self._fast.hexdigest(), sealed)


def digest_fd(fd: int, algorithm: str, advanced: Callable[[int], None] | None = None) -> tuple[Digest, int]:
    """Id, seal and length of what a descriptor still has to give; `advanced` hears of every MiB."""
    hasher = Hasher(algorithm)
    buffer = bytearray(BUFFER)
    view = memoryview(buffer)
    total = 0
    end = os.fstat(fd).st_size
    while got := os.readv(fd, [buffer]):
        hasher.update(view[:got])
        total += got
        if advanced is not None:
            advanced(got)
        if total > end:
            # It grows under the reader, who could follow it forever; the length tells the caller.
            break
    return hasher.digest(), total


def digest_file(path: str, algorithm: str, *, dir_fd: int | None = None, advanced: Callable[[int], None] | None = None) -> Digest:
    """Id and seal of a regular file, read through one descriptor that follows no link.

    A file that changes while it is read is read again twice, then `DiskRefused`.
    """
    for _ in range(3):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
        except OSError as error:
            raise disk_refused(error, "opening it", path) from None
        try:
            before = os.fstat(fd)
            found, total = digest_fd(fd, algorithm, advanced)
            after = os.fstat(fd)
        except OSError as error:
            raise disk_refused(error, "reading it", path) from None
        finally:
            os.close(fd)
        if unchanged(before, after) and total == after.st_size:
            return found
    raise changed_while_reading(path)


def unchanged(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether two looks at one file saw the same file with the same bytes, as far as stat can tell."""
    return (
        before.st_mtime_ns == after.st_mtime_ns
        and before.st_size == after.st_size
        and before.st_ctime_ns == after.st_ctime_ns
        and before.st_ino == after.st_ino
    )


def changed_while_reading(path: str) -> DiskRefused:
    """The error for a file that another program keeps writing."""
    return DiskRefused(f"{display(path)}: it changed while it was read", "wait until its writer is done, then run it again")


def mismatch(found: Digest, wanted: Digest, where: str, hint: str) -> IntegrityError:
    """The error for bytes that are not what their record says. `hint`: what helps when they are corrupt."""
    if found.id == wanted.id:
        return IntegrityError(
            f"{where}: forged: the id {wanted.id} matches but the BLAKE3 seal does not",
            "do not use this store before you know who wrote that object; get the right one with: dvcx fetch --remote OTHER",
        )
    return IntegrityError(f"{where}: hash mismatch: {wanted.id} was expected, the bytes are {found.id}", hint)


def open_file(name: str, directory: int, where: str, *, follow: bool) -> int:
    """A descriptor of a file for reading; `follow` for a link into the cache."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        return os.open(name, flags, dir_fd=directory)
    except OSError as error:
        raise disk_refused(error, "opening it", where) from None


def read_small(fd: int, algorithm: str, where: str) -> tuple[Digest, int, bytes]:
    """(names, size, bytes) of a file below 1 MiB read whole; size -1 for a larger one. Retried while it changes."""
    try:
        for _ in range(3):
            before = os.fstat(fd)
            size = before.st_size
            if not stat_module.S_ISREG(before.st_mode):
                raise UnsafeInput(f"{display(where)}: it is no longer a regular file", "look at it, then run the command again")
            if size >= SMALL:
                return _NOTHING, -1, b""
            data = os.read(fd, size + 1)
            if len(data) == size and unchanged(before, os.fstat(fd)):
                return digest(data, algorithm), size, data
            os.lseek(fd, 0, os.SEEK_SET)
    except OSError as error:
        raise disk_refused(error, "reading it", where) from None
    raise changed_while_reading(where)


_NOTHING = Digest("", "")
