"""The lock while stages run: each finished stage is noted at once in a journal, which is folded into dvcx.lock now and then.

A journal line costs one small write; what a crash finds noted there counts as recorded (`ops/records.py` reads it).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dvcx.core.paths import join, parent
from dvcx.core.pipeline.schema import Stage
from dvcx.core.records import MAX_LOCK, LockEntry, encode_journal, encode_journal_line, encode_lock
from dvcx.errors import disk_refused
from dvcx.io import files
from dvcx.io.hashing import seal
from dvcx.ops import records

if TYPE_CHECKING:
    from dvcx.project import Project

_FLAGS = os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


class _Book:
    """One dvcx.lock: its entries by stage name as we know them, what both files looked like then, and what is not folded."""

    __slots__ = ("base", "entries", "name", "seen", "unfolded")

    def __init__(self, name: str) -> None:
        self.name = name
        self.base = ""
        self.seen: tuple[object, object] | None = None
        self.entries: dict[str, LockEntry] = {}
        self.unfolded = False


class Ledger:
    """Lock entries of a project, shared by the threads of one `repro` and with other processes.

    Call it only while holding both the project's lock and the one threads share: it takes none itself.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._books: dict[str, _Book] = {}
        # A killed process loses nothing that was written. Against power loss `sync` and folding help, which come soon.
        self._sync = project.fsync == "full"

    def entry(self, stage: Stage) -> LockEntry | None:
        """What is recorded of a stage now, by anybody; project paths."""
        entry = self._book(stage).entries.get(stage.name)
        return None if entry is None else records.above(entry, parent(stage.file))

    def is_current(self, stage: Stage) -> bool:
        """Whether nobody else has written since we looked. Asking needs only the lock that threads share."""
        book = self._books.get(join(parent(stage.file), records.LOCK))
        return book is not None and book.seen == self._look(book)

    def record(self, stage: Stage, entry: LockEntry) -> None:
        """A stage is finished: note it so that a killed dvcx loses nothing. Its objects must be durable by now."""
        book = self._book(stage)
        moved = records.below(entry, parent(stage.file))
        line = encode_journal_line(stage.name, moved)
        path = records.journal_path(self._project.state_dir, book.name)
        try:
            _append(path, line, sync=self._sync)
        except FileNotFoundError:
            files.atomic_write(path, encode_journal(book.base) + line, mode=0o600, fsync=self._sync)
        except OSError as error:
            raise disk_refused(error, "noting a finished stage", path) from None
        book.entries[stage.name] = moved
        book.unfolded = True
        book.seen = self._look(book)

    def sync(self) -> None:
        """What is noted survives power loss from here on. Needs no lock: a journal that is gone was folded."""
        if self._project.fsync == "none":
            return
        for book in list(self._books.values()):
            if book.unfolded:
                with contextlib.suppress(FileNotFoundError):
                    files.sync(records.journal_path(self._project.state_dir, book.name))

    @property
    def unfolded(self) -> bool:
        """Whether anything is noted that is not in its dvcx.lock."""
        return any(book.unfolded for book in self._books.values())

    def find(self, stages: Sequence[Stage]) -> list[Stage]:
        """Those of the stages that a journal names which somebody left behind; `fold` will write it."""
        found = []
        for name in {join(parent(stage.file), records.LOCK) for stage in stages}:
            if not os.path.exists(records.journal_path(self._project.state_dir, name)):
                continue
            data = files.read_record(self._project.root, name, MAX_LOCK)
            noted = records.journal(self._project.state_dir, name, lambda data=data: data)  # type: ignore[misc]
            mine = [stage for stage in stages if join(parent(stage.file), records.LOCK) == name]
            found += [stage for stage in mine if stage.name in noted]
            for stage in mine[:1]:
                self._book(stage)
        return found

    def fold(self) -> None:
        """Write every dvcx.lock that lacks what was noted, durably, and drop its journal."""
        for book in self._books.values():
            if not book.unfolded:
                continue
            self._refresh(book)
            data = encode_lock(book.entries)
            files.write_record(self._project.root, book.name, data, fsync=self._project.fsync != "none")
            # From here on the journal says nothing: it is about other bytes.
            with contextlib.suppress(OSError):
                os.unlink(records.journal_path(self._project.state_dir, book.name))
            book.base, book.unfolded = seal(data).hex(), False
            book.seen = self._look(book)

    def _book(self, stage: Stage) -> _Book:
        name = join(parent(stage.file), records.LOCK)
        book = self._books.get(name)
        if book is None:
            book = self._books[name] = _Book(name)
        self._refresh(book)
        return book

    def _refresh(self, book: _Book) -> None:
        """Read the lock again when anybody else has written it or its journal."""
        now = self._look(book)
        if book.seen == now:
            return
        data, book.entries = records.read_lock(self._project, book.name)
        book.base = seal(data or b"").hex()
        path = records.journal_path(self._project.state_dir, book.name)
        if now[1] is not None and not _is_on(path, book.base):
            with contextlib.suppress(OSError):
                os.unlink(path)
        elif now[1] is not None:
            _end_line(path)
        book.unfolded = book.unfolded or os.path.exists(path)
        book.seen = self._look(book)

    def _look(self, book: _Book) -> tuple[object, object]:
        journal = records.journal_path(self._project.state_dir, book.name)
        return _facts(f"{self._project.root}/{book.name}"), _facts(journal)


def _facts(path: str) -> object:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _append(path: str, line: bytes, *, sync: bool) -> None:
    handle = os.open(path, _FLAGS)
    try:
        written = os.write(handle, line)
        while written < len(line):
            written += os.write(handle, line[written:])
        if sync:
            os.fsync(handle)
    finally:
        os.close(handle)


def _is_on(path: str, base: str) -> bool:
    """Whether the journal at `path` is about a lock whose bytes have this BLAKE3."""
    head = encode_journal(base)
    try:
        with open(path, "rb") as file:
            return file.read(len(head)) == head
    except OSError:
        return False


def _end_line(path: str) -> None:
    """Cut off half a line that a killed dvcx left: nothing may be written behind it."""
    with contextlib.suppress(OSError), open(path, "r+b") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            file.truncate(whole)


