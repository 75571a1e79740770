"""Taking workspace files into a store: what the one walk does with bytes it has to read when they are to be kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dvcx.core.objects import Digest
from dvcx.io.hashing import digest, open_file, read_small

if TYPE_CHECKING:
    from dvcx.io.store.writer import Writer


class Intake:
    """Stores what is read. `link` takes large files in as hard links instead of copies."""

    checks = True

    def __init__(self, writer: Writer, algorithm: str, *, link: bool = False) -> None:
        self._writer = writer
        self._algorithm = algorithm
        self._link = link

    def file(self, name: str, directory: int, where: str, *, follow: bool = False) -> tuple[Digest, int]:
        """Names and size of a file that is in the store after the writer's commit."""
        fd = open_file(name, directory, where, follow=follow)
        try:
            found, size, data = read_small(fd, self._algorithm, where)
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
