"""The catalog: a local SQLite memory of which objects a store holds and where. Never the truth; always rebuildable."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, NamedTuple

from dvcx.core.chunking import Recipe
from dvcx.core.packing import KIND_RECIPE, Frame, Loose, PackInfo
from dvcx.errors import IntegrityError, NotFound

SCHEMA = 2
_CHUNK = 500
_LOOKS = 3
_SCAN_ABOVE = 2000
_AT_ONCE = 200_000
_ROWS = 50


class Place(NamedTuple):
    """Where an object is: `pack` "" for a loose one; lengths in bytes; `kind` 0 blob, 1 tree, 2 chunk."""

    seal: bytes
    kind: int
    size: int
    pack: str
    offset: int
    stored: int
    encoding: int


Spot = tuple[int, int, int, int, int, bytes]
"""Where an object lies: number of the pack, offset, stored length, length, encoding, id. Plain, since there are many."""


class Learned(NamedTuple):
    """What an index says of packs that are there, loose objects and recipes; `complete` when all its packs are there."""

    name: str
    packs: Sequence[PackInfo]
    loose: Sequence[Loose]
    recipes: Sequence[Recipe]
    complete: bool


class Catalog:
    """One store's catalog. A damaged file is replaced by a new one, an unwritable one by one in memory; `warn` hears of it.

    `refill`, set by the store, is called when it had to be replaced in the middle of work.
    """

    def __init__(self, path: str, warn: Callable[[str], None]) -> None:
        self.path = path
        self._warn = warn
        self._packs: dict[int, str] = {}
        self._version = -1
        self._guard = threading.RLock()
        self.refill: Callable[[], None] = lambda: None
        try:
            self._db = _open(path)
        except (sqlite3.Error, OSError) as error:
            self._db = self._replace(error)
        self._load_packs()

    def _replace(self, error: Exception) -> sqlite3.Connection:
        broken = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if broken:
            self._warn(f"{self.path}: damaged ({error}); it is rebuilt")
            for suffix in ("", "-wal", "-shm", "-journal"):
                with contextlib.suppress(OSError):
                    os.unlink(self.path + suffix)
            with contextlib.suppress(sqlite3.Error, OSError):
                return _open(self.path)
        return _open(":memory:")

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def listing(self) -> str:
        """The fingerprint of the store's listing this catalog was made from; "" for none."""
        rows = self._rows("SELECT value FROM meta WHERE key = 'listing'")
        return str(rows[0][0]) if rows else ""

    def set_listing(self, fingerprint: str) -> None:
        """Remember what was listed."""
        self._write(lambda db: db.execute("INSERT OR REPLACE INTO meta VALUES ('listing', ?)", (fingerprint,)))

    def marks(self) -> str:
        """The marks of collections this client saw there last, as somebody put them into one text; "" for none."""
        rows = self._rows("SELECT value FROM meta WHERE key = 'marks'")
        return str(rows[0][0]) if rows else ""

    def set_marks(self, told: str) -> None:
        """Remember marks that were seen."""
        self._write(lambda db: db.execute("INSERT OR REPLACE INTO meta VALUES ('marks', ?)", (told,)))

    def indexes(self) -> set[str]:
        """Names of the index files that were read."""
        return {row[0] for row in self._rows("SELECT name FROM indexes")}

    def packs(self) -> dict[str, int]:
        """Size of each pack known, by hex name."""
        return dict(self._rows("SELECT name, size FROM packs"))

    def clear(self) -> None:
        """Forget everything that was read from indexes; memories of local loose objects stay."""

        def forget(db: sqlite3.Connection) -> None:
            for table in ("objects", "recipes", "packs", "indexes", "meta"):
                db.execute(f"DELETE FROM {table}")

        self._write(forget)
        self._packs = {}

    def learn(
        self,
        index_name: str,
        packs: Iterable[PackInfo],
        loose: Iterable[Loose],
        recipes: Iterable[Recipe] = (),
        *,
        complete: bool = True,
    ) -> None:
        """Take in what one index says; see `learn_all`."""
        learned = Learned(index_name, list(packs), list(loose), list(recipes), complete)
        self.learn_all(lambda: [learned])

    def learn_all(self, indexes: Callable[[], Iterable[Learned]]) -> None:
        """Take in what indexes say, all or nothing. One that names packs that are not there is not complete: it is read again.

        `indexes` is asked once more when the database could not be written and memory takes its place. An object is sought in
        a pack rather than alone: what an older index says stood alone may be gone since. A recipe counts only when one of the
        packs holds it.
        """

        def insert(db: sqlite3.Connection) -> None:
            packed: list[tuple[Any, ...]] = []
            alone: list[tuple[Any, ...]] = []
            for learned in indexes():
                contents = {(recipe.id, recipe.seal): recipe for recipe in learned.recipes}
                for pack in learned.packs:
                    number = _number(db, pack)
                    packed += [(*frame, number) for frame in pack.frames if frame.kind != KIND_RECIPE]
                    held = [(contents.get((f.id, f.seal)), f) for f in pack.frames if f.kind == KIND_RECIPE] if contents else []
                    cooked = [(*recipe, number, f.offset, f.stored) for recipe, f in held if recipe is not None]
                    if cooked:
                        db.executemany("INSERT OR REPLACE INTO recipes VALUES (?, ?, ?, ?, ?, ?, ?)", cooked)
                alone += [(item.id, item.seal, item.kind, 0, 0, item.size, item.size, 0) for item in learned.loose]
                if learned.complete:
                    db.execute("INSERT OR REPLACE INTO indexes VALUES (?)", (learned.name,))
                if len(packed) + len(alone) > _AT_ONCE:
                    _insert(db, packed, alone)
            _insert(db, packed, alone)
            # The listing this was made from is not the store's any more, should it ever look like that again.
            db.execute("DELETE FROM meta WHERE key = 'listing'")

        self._write(insert)
        self._load_packs()

    def frames(self, ids: Collection[bytes]) -> dict[str, list[Frame]]:
        """Where these objects lie, by pack ("" for loose ones) and there by offset; absent ones are left out."""
        sql = "SELECT pack, id, seal, kind, encoding, offset, stored, size FROM objects"
        if len(ids) > _SCAN_ABOVE and len(ids) * 4 > self.count():
            # For most of what there is, one walk over the table beats a search for each.
            rows = self._numbered(f"{sql} ORDER BY pack, offset")
            chosen = frozenset(ids)
            rows = [row for row in rows if row[1] in chosen]
        else:
            rows = []
            wanted = list(ids)
            for start in range(0, len(wanted), _CHUNK):
                part = wanted[start : start + _CHUNK]
                rows += self._numbered(f"{sql} WHERE id IN ({','.join('?' * len(part))})", part)
            rows.sort(key=lambda row: (row[0], row[5]))
        return {
            self._name(pack): [Frame._make(row[1:]) for row in group]
            for pack, group in groupby(rows, itemgetter(0))
        }

    def spots(self, ids: Sequence[bytes]) -> list[Spot]:
        """Where those of these objects that are in packs lie, in the order of reading; for one directory's worth of them."""
        sql = "SELECT pack, offset, stored, size, encoding, id FROM objects WHERE pack > 0 AND id IN"
        rows: list[Spot] = []
        for start in range(0, len(ids), _CHUNK):
            part = ids[start : start + _CHUNK]
            rows += self._numbered(f"{sql} ({','.join('?' * len(part))})", part)
        rows.sort()
        return rows

    def pack(self, number: int) -> str:
        """The hex name of the pack that a spot numbers."""
        return self._name(number)

    def find(self, ids: Iterable[bytes]) -> dict[bytes, Place]:
        """Where these objects are; absent ones are left out."""
        wanted = ids if isinstance(ids, list) else list(ids)
        found: dict[bytes, Place] = {}
        for start in range(0, len(wanted), _CHUNK):
            part = wanted[start : start + _CHUNK]
            marks = ",".join("?" * len(part))
            sql = f"SELECT id, seal, kind, size, pack, offset, stored, encoding FROM objects WHERE id IN ({marks})"
            rows = self._numbered(sql, part)
            for object_id, seal, kind, size, pack, offset, stored, encoding in rows:
                found[object_id] = Place(seal, kind, size, self._name(pack), offset, stored, encoding)
        return found

    def recipes(self, ids: Iterable[bytes]) -> dict[bytes, list[Recipe]]:
        """The recipes of these blobs: one for each pack that holds one, mostly all the same."""
        found: dict[bytes, list[Recipe]] = {}
        wanted = list(ids)
        for start in range(0, len(wanted), _CHUNK):
            part = wanted[start : start + _CHUNK]
            sql = f"SELECT DISTINCT id, seal, size, chunks FROM recipes WHERE id IN ({','.join('?' * len(part))})"
            for row in self._rows(sql, part):
                found.setdefault(row[0], []).append(Recipe._make(row))
        return found

    def each_recipe(self) -> Iterator[Recipe]:
        """Every recipe the indexes name."""
        yield from map(Recipe._make, self._rows("SELECT DISTINCT id, seal, size, chunks FROM recipes"))

    def everything(self) -> Iterator[tuple[str, bytes, int, int]]:
        """(pack, id, bytes there, kind) of every object, pack by pack ("" for loose ones), and of every recipe after them."""
        for sql in (
            "SELECT pack, id, stored, kind FROM objects",
            f"SELECT pack, id, stored, {KIND_RECIPE} FROM recipes",
        ):
            try:
                with self._guard:
                    self._load_packs()
                    rows = self._db.execute(sql)
                    while part := rows.fetchmany(10_000):
                        for pack, key, stored, kind in part:
                            yield self._name(pack), key, stored, kind
            except sqlite3.Error as error:
                # Half a walk is no answer; what was told already cannot be taken back.
                raise IntegrityError(f"{self.path}: damaged ({error})", f"it is only a memory: rm '{self.path}'") from None

    def packs_of(self, ids: Collection[bytes]) -> tuple[set[str], list[bytes]]:
        """The packs some of these objects lie in, and those of `ids` that lie in none."""
        packs: set[str] = set()
        alone: list[bytes] = []
        wanted = list(ids)
        for start in range(0, len(wanted), _CHUNK):
            part = wanted[start : start + _CHUNK]
            marks = ",".join("?" * len(part))
            rows = dict(self._numbered(f"SELECT id, pack FROM objects WHERE pack > 0 AND id IN ({marks})", part))
            packs.update(map(self._name, set(rows.values())))
            alone += [key for key in part if key not in rows]
        return packs, alone

    def count(self) -> int:
        """How many objects the indexes name."""
        return int(self._rows("SELECT count(*) FROM objects")[0][0])

    def seals(self) -> dict[bytes, bytes]:
        """Every object's seal, by id: for a batch that is about as large as the store."""
        return dict(self._rows("SELECT id, seal FROM objects"))

    def loose(self) -> Iterator[tuple[bytes, int]]:
        """(id, size) of each loose object the indexes name."""
        yield from self._rows("SELECT id, size FROM objects WHERE pack = 0")

    def verified(self, object_id: bytes) -> tuple[bytes, str] | None:
        """(seal, stamp) of a local loose object when its bytes were last checked."""
        rows = self._rows("SELECT seal, stamp FROM verified WHERE id = ?", (object_id,))
        return (rows[0][0], rows[0][1]) if rows else None

    def set_verified(self, rows: Iterable[tuple[bytes, bytes, str]]) -> None:
        """Remember (id, seal, stamp) of local loose objects whose bytes were just checked or written."""
        rows = list(rows)
        self._write(lambda db: db.executemany("INSERT OR REPLACE INTO verified VALUES (?, ?, ?)", rows))

    def forget(self, ids: Collection[bytes]) -> None:
        """Objects whose bytes turned out to be wrong: as if no index had named them, and nobody had checked them."""
        rows = [(key,) for key in ids]

        def delete(db: sqlite3.Connection) -> None:
            for table in ("objects", "recipes", "verified"):
                db.executemany(f"DELETE FROM {table} WHERE id = ?", rows)
            # What is left is not what the indexes say: the next command reads them again.
            db.execute("DELETE FROM meta WHERE key = 'listing'")
            db.execute("DELETE FROM indexes")

        self._write(delete)

    def forget_checks(self, ids: Collection[bytes]) -> None:
        """These local loose objects are to be read again before they are trusted."""
        self._write(lambda db: db.executemany("DELETE FROM verified WHERE id = ?", [(key,) for key in ids]))

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with self._guard:
            try:
                return self._db.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                self._db.close()
                self._db = self._replace(error)
                self._load_packs()
                self.refill()
            return self._db.execute(sql, parameters).fetchall()

    def _write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        try:
            with self._guard, self._db:
                work(self._db)
        except sqlite3.Error as error:
            # A full or read-only disk must not fail a command whose data is safe: go on in memory.
            self._warn(f"{self.path}: cannot be written ({error}); continuing without it")
            memory = _open(":memory:")
            whole = False
            with contextlib.suppress(sqlite3.Error):
                self._db.backup(memory)
                whole = True
            self._db.close()
            self._db = memory
            with self._db:
                work(self._db)
            if not whole:
                self.refill()

    def _load_packs(self) -> None:
        # In this order: what is committed in between makes it look old, and it is read again.
        self._version = self._data_version()
        self._packs = dict(self._db.execute("SELECT number, name FROM packs"))

    def _data_version(self) -> int:
        """Another number whenever another process has written since."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def _numbered(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Rows that number packs, and `_packs` as it was then: another process may have given the numbers to others."""
        rows: list[Any] = []
        # On a disk that can only be read SQLite calls every look another version.
        for _ in range(_LOOKS):
            rows = self._rows(sql, parameters)
            with self._guard:
                if self._data_version() == self._version:
                    break
                self._load_packs()
        return rows

    def _name(self, number: int) -> str:
        """The hex name of a pack, "" for none."""
        if not number:
            return ""
        try:
            return self._packs[number]
        except KeyError:
            raise NotFound(f"{self.path}: it was written anew by another command", "run the command again") from None


def _number(db: sqlite3.Connection, pack: PackInfo) -> int:
    name = pack.name.hex()
    db.execute("INSERT OR IGNORE INTO packs (name, size) VALUES (?, ?)", (name, pack.size))
    return int(db.execute("SELECT number FROM packs WHERE name = ?", (name,)).fetchone()[0])


def _insert(db: sqlite3.Connection, packed: list[tuple[Any, ...]], alone: list[tuple[Any, ...]]) -> None:
    """Write rows in the order of the table, which is many times quicker; both lists are empty afterwards."""
    columns = "(id, seal, kind, encoding, offset, stored, size, pack)"
    for rows, verb in ((packed, "REPLACE"), (alone, "IGNORE")):
        rows.sort(key=itemgetter(0))
        start = 0
        for many in (_ROWS, 1):  # some at a time cost a quarter less
            sql = f"INSERT OR {verb} INTO objects {columns} VALUES {', '.join(['(?, ?, ?, ?, ?, ?, ?, ?)'] * many)}"
            end = start + (len(rows) - start) // many * many
            db.executemany(sql, (list(chain.from_iterable(rows[at : at + many])) for at in range(start, end, many)))
            start = end
        rows.clear()


def _open(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=30, check_same_thread=False)
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
            for (name,) in db.execute(
                "SELECT name FROM sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite_%'"
            ).fetchall():
                db.execute(f'DROP TABLE "{name}"')
            db.executescript(
                """
                PRAGMA journal_mode=WAL;
                BEGIN;
                CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT);
                CREATE TABLE IF NOT EXISTS indexes (name TEXT PRIMARY KEY);
                CREATE TABLE IF NOT EXISTS packs (number INTEGER PRIMARY KEY, name TEXT UNIQUE, size INTEGER);
                CREATE TABLE IF NOT EXISTS objects (id BLOB PRIMARY KEY, seal BLOB, kind INTEGER, size INTEGER, pack INTEGER,
                    offset INTEGER, stored INTEGER, encoding INTEGER) WITHOUT ROWID;
                CREATE TABLE IF NOT EXISTS recipes (id BLOB, seal BLOB, size INTEGER, chunks BLOB, pack INTEGER, offset INTEGER,
                    stored INTEGER);
                CREATE UNIQUE INDEX IF NOT EXISTS recipe_places ON recipes (id, pack, offset);
                CREATE TABLE IF NOT EXISTS verified (id BLOB PRIMARY KEY, seal BLOB, stamp TEXT) WITHOUT ROWID;
                """
                f"PRAGMA user_version={SCHEMA}; COMMIT;"
            )
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("SELECT count(*) FROM packs").fetchone()
        return db
    except BaseException:
        db.close()
        raise
