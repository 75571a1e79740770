"""The stat index: a local SQLite memory of what each directory looked like when it was last hashed. Safe to delete."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from dvcx.core.objects import DIR, EXEC, FILE, LINK, Content, Entry
from dvcx.io.hashing import xxh128

SCHEMA = 2
FIELDS = 5
"""Numbers per entry: kind, inode, size, mtime_ns, ctime_ns."""

KINDS = (FILE, EXEC, LINK, DIR)
CODES = {kind: code for code, kind in enumerate(KINDS)}


class Row(NamedTuple):
    """What a directory looked like. Entries sorted by name; `names` NUL-joined; `stats` FIELDS int64 per entry.

    `hashes` holds "id seal" per entry, newline-joined; `content` is the directory's. `ignores` fingerprints the rules in force.
    A distrusted (racy) entry has ctime 0, which no file has.
    """

    names: bytes
    stats: bytes
    hashes: bytes
    files: bytes
    content: Content
    ignores: str = ""

    def entries(self) -> list[Entry]:
        """The directory's entries as last hashed."""
        if not self.names:
            return []
        names = self.names.decode("utf-8", "surrogateescape").split("\0")
        stats = array("q", self.stats)
        hashes = self.hashes.decode().split("\n")
        files = array("q", self.files)
        entries = []
        for at, name in enumerate(names):
            object_id, _, seal = hashes[at].partition(" ")
            size = stats[at * FIELDS + 2]
            entries.append(Entry(name, KINDS[stats[at * FIELDS]], size, object_id, seal, files[at]))
        return entries


class Remembers(Protocol):
    """What the walk needs of a memory of directories."""

    def get(self, path: str) -> Row | None:
        """What is remembered of a directory."""

    def put(self, path: str, row: Row) -> None:
        """Remember a directory."""


class Memory:
    """Rows by project path that are kept for a while, in no file."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def get(self, path: str) -> Row | None:
        """What was put."""
        return self.rows.get(path)

    def put(self, path: str, row: Row) -> None:
        """Keep a row."""
        self.rows[path] = row


class StatIndex:
    """Rows by project path, read one by one, written in one transaction by `flush`. A damaged file is replaced."""

    def __init__(self, path: str, warn: Callable[[str], None]) -> None:
        self._path = path
        self._warn = warn
        self._pending: dict[str, Row | None] = {}
        self._dropped: list[str] = []
        self._db = self._connect()

    def _connect(self) -> sqlite3.Connection | None:
        try:
            return _open(self._path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and os.path.exists(self._path):
                return self._read_only()
            return self._rebuild(error)
        except OSError:
            return None

    def _read_only(self) -> sqlite3.Connection | None:
        with contextlib.suppress(sqlite3.Error):
            db = sqlite3.connect(f"file:{quote(self._path)}?mode=ro&immutable=1", uri=True, check_same_thread=False)
            if db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA:
                return db
        return None

    def _rebuild(self, error: Exception) -> sqlite3.Connection | None:
        self._warn(f"the stat index was damaged ({error}); it is rebuilt")
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(OSError):
                os.unlink(self._path + suffix)
        with contextlib.suppress(sqlite3.Error, OSError):
            return _open(self._path)
        return None

    def close(self) -> None:
        """Release the file; what was not flushed is forgotten."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def get(self, path: str) -> Row | None:
        """What is remembered of a directory."""
        if path in self._pending:
            return self._pending[path]
        if any(path == dropped or path.startswith(dropped + "/") for dropped in self._dropped):
            return None
        if self._db is None:
            return None
        try:
            found = self._db.execute(
                "SELECT names, stats, hashes, files, id, seal, size, count, ignores, checksum FROM directories WHERE path = ?",
                (_key(path),),
            ).fetchone()
        except sqlite3.DatabaseError as error:
            self._db.close()
            self._db = self._rebuild(error)
            return None
        if found is None:
            return None
        names, stats, hashes, files, object_id, seal, size, count, ignores, checksum = found
        if checksum != _checksum(path, found[:-1]):
            # SQLite notices broken pages, not a bit that flipped inside a value.
            return None
        return Row(names, stats, hashes, files, Content("tree", object_id, seal, size, count), ignores)

    def put(self, path: str, row: Row) -> None:
        """Remember a directory (written by `flush`)."""
        self._pending[path] = row

    def drop(self, path: str) -> None:
        """Forget a directory and all below it."""
        for known in [known for known in self._pending if known == path or known.startswith(path + "/")]:
            del self._pending[known]
        self._dropped.append(path)

    def flush(self) -> None:
        """Write what was put and dropped. Failure only warns: the index is a memory."""
        if not self._pending and not self._dropped:
            return
        if self._db is None:
            return
        rows = [(_key(path), *values, _checksum(path, values)) for path, values in self._values()]
        try:
            with self._db:
                for path in self._dropped:
                    low, high = _key(path + "/"), _key(path + "0")
                    self._db.execute(
                        "DELETE FROM directories WHERE path = ? OR (path >= ? AND path < ?)", (_key(path), low, high)
                    )
                self._db.executemany("INSERT OR REPLACE INTO directories VALUES (?,?,?,?,?,?,?,?,?,?,?)", rows)
        except sqlite3.Error as error:
            if "readonly" not in str(error):
                self._warn(f"the stat index cannot be written ({error}); the next command is slower")
            return
        self._pending.clear()
        self._dropped.clear()

    def _values(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        for path, row in self._pending.items():
            if row is not None:
                about = row.content
                blobs = (row.names, row.stats, row.hashes, row.files)
                yield path, (*blobs, about.id, about.seal, about.size, about.files, row.ignores)

    def walk(self, path: str) -> Iterator[tuple[str, Row]]:
        """Every remembered directory at or below a path, parents first; pending ones are not among them."""
        if self._db is not None:
            low, high = _key(path + "/"), _key(path + "0")
            sql = "SELECT path FROM directories WHERE path = ? OR (path >= ? AND path < ?) ORDER BY path"
            try:
                keys = self._db.execute(sql, (_key(path), low, high)).fetchall()
            except sqlite3.DatabaseError:
                return
            for (key,) in keys:
                name = os.fsdecode(key)
                row = self.get(name)
                if row is not None:
                    yield name, row


class SharedIndex(StatIndex):
    """A stat index that several threads use: what one has hashed, the others need not."""

    def __init__(self, path: str, warn: Callable[[str], None]) -> None:
        import threading

        self._lock = threading.RLock()
        super().__init__(path, warn)

    def get(self, path: str) -> Row | None:
        """See `StatIndex.get`."""
        with self._lock:
            return super().get(path)

    def put(self, path: str, row: Row) -> None:
        """See `StatIndex.put`."""
        with self._lock:
            super().put(path, row)

    def drop(self, path: str) -> None:
        """See `StatIndex.drop`."""
        with self._lock:
            super().drop(path)

    def flush(self) -> None:
        """See `StatIndex.flush`."""
        with self._lock:
            super().flush()

    def walk(self, path: str) -> Iterator[tuple[str, Row]]:
        """See `StatIndex.walk`."""
        with self._lock:
            rows = list(super().walk(path))
        yield from rows


def encode_rows(rows: Mapping[str, Row]) -> bytes:
    """Rows as bytes, to come from another process; the lengths of a row's parts in a line before them."""
    parts = []
    for path, row in rows.items():
        content = row.content
        blobs = (os.fsencode(path), row.names, row.stats, row.hashes, row.files)
        about = [content.kind, content.id, content.seal, content.size, content.files, content.executable]
        parts += [json.dumps([[len(blob) for blob in blobs], about, row.ignores]).encode(), b"\n", *blobs]
    return b"".join(parts)


def decode_rows(data: bytes) -> Iterator[tuple[str, Row]]:
    """What `encode_rows` was given."""
    at = 0
    while at < len(data):
        end = data.index(b"\n", at)
        lengths, about, ignores = json.loads(data[at:end])
        at = end + 1
        blobs = []
        for length in lengths:
            blobs.append(data[at : at + length])
            at += length
        path, names, stats, hashes, counts = blobs
        yield os.fsdecode(path), Row(names, stats, hashes, counts, Content(*about), ignores)


def health(path: str) -> str:
    """How the database of a local memory is: "ok", "none yet", or what is wrong with it. It is only read."""
    if not os.path.exists(path):
        return "none yet"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=2)) as db:
            said = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        said = str(error)
    return "ok" if said == "ok" else f"damaged ({said}); it is rebuilt when it is needed"


def _checksum(path: str, values: Sequence[Any]) -> bytes:
    """16 bytes over a row; b"" when a value is not of its type."""
    try:
        blobs = b"".join([xxh128(value) for value in values[:4]])
        return xxh128(blobs + _key(f"{path}\0{values[4:]}"))
    except TypeError:
        return b""


def _key(path: str) -> bytes:
    return os.fsencode(path)


def _open(path: str) -> sqlite3.Connection:
    # Threads may share it (`SharedIndex`), one after another.
    db = sqlite3.connect(path, timeout=10, check_same_thread=False)
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
            db.executescript(
                f"""
                PRAGMA journal_mode=WAL;
                BEGIN;
                DROP TABLE IF EXISTS directories;
                CREATE TABLE directories (path BLOB PRIMARY KEY, names BLOB, stats BLOB, hashes BLOB, files BLOB,
                    id TEXT, seal TEXT, size INTEGER, count INTEGER, ignores TEXT, checksum BLOB);
                PRAGMA user_version={SCHEMA};
                COMMIT;
                """
            )
        db.execute("PRAGMA synchronous=OFF")
        return db
    except BaseException:
        db.close()
        raise
