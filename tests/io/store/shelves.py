"""Stores to try: a cache in a directory, a remote in memory or in a directory, and objects to put there."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dvcx.core.objects import Content, Digest, Entry
from dvcx.io.hashing import digest
from dvcx.io.store.backend import Backend
from dvcx.io.store.local import LocalBackend
from dvcx.io.store.memory import MemoryBackend
from dvcx.io.store.store import Store, Wanted, create_store, open_store
from dvcx.io.store.writer import Summary, Writer
from dvcx.io.workspace import store_tree


class Thing(NamedTuple):
    """Some bytes and their names."""

    data: bytes
    names: Digest

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.names.id, self.names.seal, len(self.data))


def thing(data: bytes | str, algorithm: str = "xxh128") -> Thing:
    data = data.encode() if isinstance(data, str) else data
    return Thing(data, digest(data, algorithm))


def things(count: int, start: int = 0) -> list[Thing]:
    return [thing(f"object number {number}\n" * 20) for number in range(start, start + count)]


class Shelf:
    """One backend, opened as a store as often as one likes; the catalog's directory is a client's memory."""

    def __init__(self, base: Path, backend: Backend | None = None, *, is_cache: bool = False, client: str = "a") -> None:
        self.base = base
        self.backend = backend if backend is not None else MemoryBackend()
        self.is_cache = is_cache
        self.state = base / f"state-{client}"
        self.state.mkdir(parents=True, exist_ok=True)
        self.warnings: list[str] = []
        self.scratch = str(base / "scratch")

    def open(self, *, write: bool = False, algorithm: str = "xxh128") -> Store:
        label = "the cache" if self.is_cache else "remote 'r'"
        store = open_store(
            self.backend, str(self.state), algorithm=algorithm, label=label, is_cache=self.is_cache, warn=self.warnings.append
        )
        if write:
            create_store(store, str(self.state), self.warnings.append)
        return store

    def client(self, name: str) -> Shelf:
        """The same store as another machine sees it."""
        return Shelf(self.base, self.backend, is_cache=self.is_cache, client=name)

    def fill(self, items: list[Thing], **options: bool) -> Summary:
        """Write objects, commit, close."""
        store = self.open(write=True)
        try:
            with Writer(store, self.scratch, **options) as writer:  # type: ignore[arg-type]
                for item in items:
                    writer.put(item.names, item.data)
                return writer.commit()
        finally:
            store.close()

    def reads(self, items: list[Thing]) -> bool:
        """Whether a store opened anew has every object, right."""
        store = self.open()
        try:
            return not store.missing(item.wanted for item in items) and all(
                store.read(item.wanted) == item.data for item in items
            )
        finally:
            store.close()

    def lacks(self, items: list[Thing]) -> list[Thing]:
        """Those a store opened anew does not have."""
        store = self.open()
        try:
            gone = {item.id for item in store.missing(item.wanted for item in items)}
            return [item for item in items if item.names.id in gone]
        finally:
            store.close()

    def names(self, prefix: str) -> list[str]:
        return sorted(item.name for item in self.backend.list(prefix))


def cache_shelf(base: Path) -> Shelf:
    """A cache in a directory."""
    return Shelf(base, LocalBackend(str(base / "cache")), is_cache=True)


def tree(entries: list[Entry]) -> tuple[Content, list[Thing]]:
    """A directory's content and the tree objects it is made of."""
    kept: list[Thing] = []

    def keep(data: bytes) -> Digest:
        kept.append(thing(data))
        return kept[-1].names

    return store_tree(entries, keep), kept
