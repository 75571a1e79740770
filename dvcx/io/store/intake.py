"""Taking workspace files into a store: what the one walk does with bytes it has to read when they are to be kept."""

from __future__ import annotations

import os
import stat as stat_module
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dvcx.core.objects import Digest
from dvcx.core.packing import SMALL
from dvcx.errors import UnsafeInput, disk_refused, display
from dvcx.io.hashing import changed_while_reading, digest, digest_file, unchanged

if TYPE_CHECKING:
    from dvcx.io.store.writer import Writer


class Looking:
    """Only hashes what is read."""

    checks = False

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm

    def file(self, name: str, directory: int, where: str, *, follow: bool = False) -> tuple[Digest, int]:
        """Names and size of a file; `follow` for a link into the cache."""
        fd = _open(name, directory, where, follow=follow)
        try:
            found, size = _small(fd, self._algorithm, where)[:2]
            if size >= 0:
                return found, size
        finally:
            os.close(fd)
        target = os.readlink(name, dir_fd=directory) if follow else name
        return digest_file(target, self._algorithm, dir_fd=directory), os.stat(name, dir_fd=directory).st_size

    def link(self, target: bytes) -> Digest:
        """Names of a link's target."""
        return digest(target, self._algorithm)

    def tree(self, data: bytes) -> Digest:
        """Names of a tree's bytes."""
        return digest(data, self._algorithm)

    def holds(self, names: Sequence[Digest]) -> bool:
        """Looking needs nothing again."""
        return True


class Intake:
    """Stores what is read. `link` takes large files in as hard links instead of copies."""

    checks = True

    def __init__(self, writer: Writer, algorithm: str, *, link: bool = False) -> None:
        self._writer = writer
        self._algorithm = algorithm
        self._link = link

    def file(self, name: str, directory: int, where: str, *, follow: bool = False) -> tuple[Digest, int]:
        """Names and size of a file that is in the store after the writer's commit."""
        fd = _open(name, directory, where, follow=follow)
        try:
            found, size, data = _small(fd, self._algorithm, where)
            if size >= 0:
                self._writer.put(found, data)
                return found, size
            linked = (name, directory) if self._link and not follow else None
            return self._writer.ingest(fd, where, link_path=linked)
        finally:
            os.close(fd)

    def link(self, target: bytes) -> Digest:
        """Keeps a link's target."""
        names = digest(target, self._algorithm)
        self._writer.put(names, target)
        return names

    def tree(self, data: bytes) -> Digest:
        """Keeps a tree."""
        names = digest(data, self._algorithm)
        self._writer.put(names, data, tree=True)
        return names

    def holds(self, names: Sequence[Digest]) -> bool:
        """Whether the store has all of them, so that nothing needs reading."""
        return all(map(self._writer.has, names))


def _open(name: str, directory: int, where: str, *, follow: bool) -> int:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        return os.open(name, flags, dir_fd=directory)
    except OSError as error:
        raise disk_refused(error, "opening it", where) from None


def _small(fd: int, algorithm: str, where: str) -> tuple[Digest, int, bytes]:
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
            after = os.fstat(fd)
            if len(data) == size and unchanged(before, after):
                return digest(data, algorithm), size, data
            os.lseek(fd, 0, os.SEEK_SET)
    except OSError as error:
        raise disk_refused(error, "reading it", where) from None
    raise changed_while_reading(where)


_NOTHING = Digest("", "")
