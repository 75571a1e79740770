"""What an interrupted push left on a remote: packs that no index names, and loose objects that a journal here remembers."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from dvcx.core.chunking import Recipe, unpacked
from dvcx.core.objects import ALGORITHMS
from dvcx.core.packing import KIND_BLOB, KIND_RECIPE, KIND_TREE, Frame, Loose, PackInfo
from dvcx.errors import DvcxError
from dvcx.io import pool
from dvcx.io.store.store import Store, read_pack_table

MAX_JOURNAL = 64 << 20
YOUNG = 10 * 24 * 3600.0
"""Older ones are not used: a collector, which leaves alone what is younger than 14 days, may be about to take them."""
READERS = 8


class Found(NamedTuple):
    """A pack that may be named, and the recipes in it."""

    info: PackInfo
    recipes: Mapping[bytes, Recipe]


class _Line(NamedTuple):
    """A loose object that was sent, and when (unix seconds)."""

    item: Loose
    sent: float


class Leftovers:
    """Things on a remote that were sent whole and are not visible yet. What is doubtful is left alone and sent again."""

    def __init__(self, store: Store, journal: str) -> None:
        self._store = store
        self._journal = journal
        self._packs: dict[bytes, list[PackInfo]] | None = None
        self._remembered: dict[bytes, _Line] | None = None
        self._refused: set[bytes] = set()
        self._expected: dict[bytes, bytes] = {}
        self._given: set[bytes] = set()
        self._file = -1

    def pack_with(self, key: bytes, sealed: bytes) -> Found | None:
        """A pack nobody names that holds this object (raw id and seal); it is given once."""
        if self._packs is None:
            self._packs = self._read_tables()
        for pack in self._packs.get(key, ()):
            if pack.name in self._refused or all((f.id, f.seal) != (key, sealed) for f in pack.frames if f.kind != KIND_RECIPE):
                continue
            self._refused.add(pack.name)
            found = self._checked(pack)
            if found is not None:
                return found
        return None

    def expect(self, key: bytes, sealed: bytes) -> None:
        """A blob with these names is being sent: a pack with a recipe of it under another seal is not to be named."""
        self._expected[key] = sealed

    def _read_tables(self) -> dict[bytes, list[PackInfo]]:
        packs: dict[bytes, list[PackInfo]] = {}
        unnamed = self._store.unnamed_packs(time.time() - YOUNG)

        def table(name: str) -> PackInfo | None:
            size = unnamed[name]
            try:
                frames = read_pack_table(self._store.backend, name, size, f"{self._store.label}: {name}")
            except DvcxError:
                return None
            return PackInfo(bytes.fromhex(name.rpartition("/")[2].removesuffix(".pack")), size, frames)

        for pack in pool.run(table, sorted(unnamed), workers=min(READERS, max(1, len(unnamed)))):
            for frame in pack.frames if pack is not None else ():
                if frame.kind != KIND_RECIPE and pack is not None:
                    packs.setdefault(frame.id, []).append(pack)
        return packs

    def _checked(self, pack: PackInfo) -> Found | None:
        """The pack, unless it says something else of an object than what is known, or its recipes are not whole."""
        frames = [frame for frame in pack.frames if frame.kind != KIND_RECIPE]
        known = self._store.have(f"{self._store.algorithm}:{frame.id.hex()}" for frame in frames)
        if any(known.get(f"{self._store.algorithm}:{frame.id.hex()}", frame.seal) != frame.seal for frame in frames):
            return None
        recipes = {}
        for frame in pack.frames:
            if frame.kind == KIND_RECIPE:
                try:
                    recipes[frame.id] = self._store.read_recipe(pack.name.hex(), frame)
                except DvcxError:
                    return None
                if self._expected.get(frame.id, frame.seal) != frame.seal:
                    return None
        return Found(pack, recipes) if self._holds_chunks(frames, recipes.values()) else None

    def _holds_chunks(self, frames: Collection[Frame], recipes: Iterable[Recipe]) -> bool:
        """Whether each chunk of these recipes is in their pack, in one that was given before, or in the store."""
        length = ALGORITHMS[self._store.algorithm]
        here = self._given | {frame.id for frame in frames}
        asked = {key for recipe in recipes for key, _ in unpacked(recipe.chunks, length)} - here
        if len(self._store.have(f"{self._store.algorithm}:{key.hex()}" for key in asked)) < len(asked):
            return False
        self._given = here
        return True

    # Loose objects

    def loose(self, key: bytes, sealed: bytes) -> Loose | None:
        """A loose object that was sent from here, and that the listing shows with the right size."""
        if self._remembered is None:
            self._remembered = self._read_journal()
        found = self._remembered.get(key)
        if found is None or found.item.seal != sealed or not self._store.lists_loose(key, found.item.size):
            return None
        return self._remembered.pop(key).item

    def remember(self, item: Loose) -> None:
        """This object was just sent, and no index names it yet."""
        if self._remembered is not None:
            self._remembered.pop(item.id, None)
        self._write(_Line(item, time.time()))

    def _write(self, line: _Line) -> None:
        if not self._journal:
            return
        # A lost line costs a second sending, no more; so a disk that refuses is no failure.
        with contextlib.suppress(OSError):
            if self._file < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
                self._file = os.open(self._journal, flags, 0o600)
            item = line.item
            os.write(self._file, f"{item.id.hex()} {item.seal.hex()} {item.kind} {item.size} {line.sent:.0f}\n".encode())

    def named(self) -> None:
        """An index names now what was sent or found here; what nobody asked for yet is kept in mind."""
        if not self._journal:
            return
        if self._remembered is None:
            self._remembered = self._read_journal()
        self.close()
        with contextlib.suppress(OSError):
            os.unlink(self._journal)
        for line in self._remembered.values():
            if self._store.lists_loose(line.item.id, line.item.size):
                self._write(line)

    def close(self) -> None:
        """Let go of the journal; it stays."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read_journal(self) -> dict[bytes, _Line]:
        found: dict[bytes, _Line] = {}
        oldest = time.time() - YOUNG
        try:
            with open(self._journal, "rb") as file:
                lines = file.read(MAX_JOURNAL).split(b"\n")[:-1]
        except OSError:
            return found
        for line in lines:
            with contextlib.suppress(ValueError):
                key, sealed, kind, size, sent = line.decode("ascii").split(" ")
                item = Loose(bytes.fromhex(key), bytes.fromhex(sealed), int(kind), int(size))
                if item.kind in (KIND_BLOB, KIND_TREE) and float(sent) >= oldest:
                    found[item.id] = _Line(item, float(sent))
        return found
