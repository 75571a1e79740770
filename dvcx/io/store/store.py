"""The store: objects by id over a Backend, loose or in packs, verified on every read. The same for the cache and for remotes."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat as stat_module
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple, TypeVar

from dvcx.core.chunking import Recipe, decode_recipe, packed, unpacked
from dvcx.core.objects import (
    ALGORITHMS,
    SHARD,
    TREE,
    Content,
    Digest,
    Entry,
    decode_tree,
    digest_bytes,
    totals,
)
from dvcx.core.packing import (
    FOOTER_SIZE,
    HEADER_SIZE,
    KIND_RECIPE,
    RAW,
    ZSTD,
    Frame,
    IndexContent,
    Loose,
    decode_index,
    decode_pack_table,
    merge_ranges,
    table_length,
)
from dvcx.errors import DvcxError, IntegrityError, NotFound, UnsafeInput, disk_refused
from dvcx.io import pool
from dvcx.io.hashing import Hasher, digest, digest_fd, mismatch, seal, unchanged, xxh128
from dvcx.io.store.backend import Backend, Listed
from dvcx.io.store.catalog import Catalog, Learned, Place
from dvcx.io.store.chunking import AHEAD, GAP, PIECES, ahead
from dvcx.io.store.local import LocalBackend
from dvcx.io.store.quarantine import quarantine

T = TypeVar("T")
FORMAT = 1
READ_GAP = 64 << 10
READ_MOST = 4 << 20
REMOTE_GAP = 1 << 20
REMOTE_MOST = 16 << 20
INDEX_READERS = 16
MANY = 2000
"""About so many objects it is quicker to read the whole catalog than to ask for each."""
MAX_TREE = 1 << 30
MAX_INDEX = 512 << 20
INDEX_BYTES = 1 << 30
"""Indexes of so many bytes are read at once."""
MAX_STORE_JSON = 64 << 10
TAIL = 64 << 10
MAX_WHOLE = 80 << 20
HELD_WHOLE = 2
WORTH_ASKING = 2 << 20
AHEAD_WHOLE = 12
"""So many reads of 8 MiB are ahead that two packs come at once."""

Held = Callable[[int, bytes, bytes, int], "tuple[bytes, bool] | None"]
"""Asked for the chunk at an offset of a blob (raw id, raw seal, size): its bytes when they are here, and whether in place."""


def _none_held(offset: int, key: bytes, sealed: bytes, size: int) -> None:
    return None


class Wanted(NamedTuple):
    """An object somebody needs: both names, its length in bytes, and whether it is a tree."""

    id: str
    seal: str
    size: int
    tree: bool = False


class Batch(NamedTuple):
    """Objects one read brings: of one pack, or one loose object."""

    pack: str
    items: Sequence[tuple[Wanted, Frame]]
    size: int


class _Part(NamedTuple):
    """Chunks of a blob that come together: a run to be read from one place, or what somebody holds."""

    run: list[tuple[bytes, Place]]
    held: list[tuple[bytes, bool]]


class _Wholes:
    """The last packs that were read whole, for a server that sends the beginning of a file with each part of it. Thread-safe."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._guard = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}
        self._packs: dict[str, memoryview] = {}

    def get(self, name: str, size: int) -> memoryview | None:
        """The bytes of a pack of `size` bytes; None for one too large to be held."""
        if size > MAX_WHOLE:
            return None
        with self._guard:
            busy = self._busy.setdefault(name, threading.Lock())
        with busy:
            with self._guard:
                found = self._packs.get(name)
            if found is None:
                data = bytearray(size)
                at = 0
                for piece in self._backend.stream(name, size):
                    data[at : at + len(piece)] = piece
                    at += len(piece)
                found = memoryview(data).toreadonly()[:at]
                with self._guard:
                    self._packs[name] = found
                    while len(self._packs) > HELD_WHOLE:
                        self._packs.pop(next(iter(self._packs)))
                        self._busy = {known: lock for known, lock in self._busy.items() if known in self._packs or lock.locked()}
            return found

    def forget(self) -> None:
        """What was read may be wrong."""
        with self._guard:
            self._packs = {}


class Store:
    """Objects by id. `label` names it in messages: "the cache" or "remote 'origin'". Reads may run in several threads.

    `listed_at` is the moment (unix seconds) before the last listing began; what it showed was there then. `marks_before`: the
    marks of collections that were known by then.
    """

    def __init__(
        self,
        backend: Backend,
        catalog: Catalog,
        *,
        algorithm: str,
        store_id: str,
        label: str,
        is_cache: bool,
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.backend = backend
        self.catalog = catalog
        self.algorithm = algorithm
        self.id = store_id
        self.label = label
        self.is_cache = is_cache
        self.listed_at = 0.0
        self.marks_before = ""
        self.warn = warn
        self.local = backend if isinstance(backend, LocalBackend) else None
        self._loose: dict[bytes, int] = {}
        self._packs: dict[str, Listed] = {}
        self._synced = False
        self._wholes = _Wholes(backend)
        self._asking = threading.Lock()
        self._asked = False
        self._trees: dict[str, tuple[list[Entry], list[Wanted]]] = {}
        catalog.refill = lambda: self.sync(again=True)

    def use_catalog(self, catalog: Catalog) -> None:
        """Remember in another catalog from now on."""
        self.catalog.close()
        self.catalog = catalog
        catalog.refill = lambda: self.sync(again=True)

    @property
    def mending(self) -> str:
        """What helps when bytes of this store are not what they should be: a hint."""
        if self.is_cache:
            return "get it again: dvcx pull"
        return f"it is damaged there; in a project that has it: {self._fsck} --repair"

    @property
    def _fsck(self) -> str:
        return "dvcx fsck" if self.is_cache else f"dvcx fsck --remote {self.label.removeprefix('remote ')}"

    def close(self) -> None:
        """Release the catalog and the connection."""
        self.catalog.close()
        self.backend.close()

    # What is here

    def sync(self, *, again: bool = False, broken: Callable[[str, DvcxError], None] | None = None) -> None:
        """Bring the catalog up to date with the listing: new indexes are read, what is gone is forgotten.

        A damaged index is told to `broken` and passed over, or raised when nobody wants to hear of it. Raises
        `RemoteFailed` when a listing fails: it never reads as empty.
        """
        if self._synced and not again:
            return
        for last in (False, False, True):
            try:
                self._sync(broken)
                return
            except NotFound:
                # A collection moved an index between the listing and the reading.
                if last:
                    raise

    def _sync(self, broken: Callable[[str, DvcxError], None] | None) -> None:
        began = time.time()
        self.marks_before = "" if self.is_cache else self.catalog.marks()
        indexes = {item.name: item.size for item in self.backend.list("index")}
        listed_packs = {item.name: item for item in self.backend.list("packs")}
        packs = {name: item.size for name, item in listed_packs.items()}
        if not self.is_cache:
            self._loose = self._list_loose()
        listed = "\n".join(f"{name} {size}" for name, size in sorted((indexes | packs).items()))
        fingerprint = seal(listed.encode()).hex()
        if fingerprint != self.catalog.listing() and self._learn(indexes, packs, broken):
            self.catalog.set_listing(fingerprint)
        self._packs = listed_packs
        self.listed_at = began
        self._synced = True

    def unnamed_packs(self, since: float) -> dict[str, int]:
        """Name and size of the packs that the listing shows and no index names, written after `since` (unix seconds).

        An interrupted push leaves such.
        """
        self.sync()
        known = {pack_name(name) for name in self.catalog.packs()}
        found = (item for item in self._packs.values() if item.modified >= since and is_pack_name(item.name))
        return {item.name: item.size for item in found if item.name not in known}

    def cut_packs(self) -> list[tuple[str, int, int]]:
        """Name, bytes and right number of bytes of packs that have another length than an index says, and so count as absent.

        Reads all indexes: for who has to say why something is not here.
        """
        self.sync()
        found = {}
        for item in self.backend.list("index"):
            with contextlib.suppress(DvcxError):
                for info in self.read_index(item.name, item.size).packs:
                    name = pack_name(info.name.hex())
                    listed = self._packs.get(name)
                    if listed is not None and listed.size != info.size:
                        found[name] = (name, listed.size, info.size)
        return sorted(found.values())

    def have(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Seals of the objects that are here, by id; an empty seal where only reading them could tell."""
        self.sync()
        wanted = {digest_bytes(object_id): object_id for object_id in ids}
        seals = self.seals() if len(wanted) > MANY else {key: place.seal for key, place in self._find(list(wanted)).items()}
        return self._have(wanted, seals)

    def _have(self, wanted: Mapping[bytes, str], seals: Mapping[bytes, bytes]) -> dict[str, bytes]:
        """The same by raw id, of objects of which the indexes name those in `seals`."""
        found = {wanted[key]: seals[key] for key in wanted.keys() & seals.keys()}
        if not self.is_cache:
            rest = [key for key, object_id in wanted.items() if object_id not in found]
            found.update({wanted[key]: recipe.seal for key, recipe in self.recipes(rest).items()})
        if self.is_cache:
            directories = self.loose_directories()
            for key, object_id in wanted.items():
                if object_id not in found and _hex(object_id)[:2] in directories:
                    status = self._loose_status(object_id)
                    if status is not None:
                        known = self.catalog.verified(key)
                        found[object_id] = known[0] if known and known[1] == stamp(status) else b""
        return found

    def lost(self, keys: Iterable[bytes], *, unnamed: Collection[bytes] = ()) -> set[bytes]:
        """Those raw ids that are not here (any more). Of `unnamed`, which no index names, the loose object does."""
        ids = {key: f"{self.algorithm}:{key.hex()}" for key in keys}
        here = self.have(ids.values())
        return {key for key, name in ids.items() if name not in here and not (key in unnamed and key in self._loose)}

    def count(self) -> int:
        """About how many objects the indexes name."""
        self.sync()
        return self.catalog.count()

    def seals(self) -> dict[bytes, bytes]:
        """Seals of all objects the indexes name and the listing shows, by raw id."""
        self.sync()
        seals = self.catalog.seals()
        if not self.is_cache:
            for key in [key for key, size in self.catalog.loose() if self._loose.get(key) != size]:
                seals.pop(key, None)
        return seals

    def seal_of(self, key: bytes) -> bytes | None:
        """The seal of one object the indexes name."""
        self.sync()
        place = self._find([key]).get(key)
        return place.seal if place else None

    def missing(self, wanted: Iterable[Wanted]) -> list[Wanted]:
        """Those of `wanted` that are not here. Raises `IntegrityError` when an id is here with another seal."""
        items = list(wanted)
        if len(items) > MANY:
            # Mostly all are named by the indexes, with the right seal: that is seen in one quick walk.
            self.sync()
            seals = self.seals()
            items = [item for item in items if seals.get(bytes.fromhex(item.id[7:]), b"").hex() != item.seal]
            here = self._have({digest_bytes(item.id): item.id for item in items}, seals)
        else:
            here = self.have(item.id for item in items)
        absent = []
        for item in items:
            known = here.get(item.id)
            if known is None:
                absent.append(item)
            elif known and known.hex() != item.seal:
                raise self._other_seal(item.id, known.hex(), item.seal)
        return absent

    def recipes(self, keys: Iterable[bytes]) -> dict[bytes, Recipe]:
        """Recipes of those blobs (raw ids) of which every chunk is here too."""
        self.sync()
        known = self.catalog.recipes(keys)
        if not known:
            return {}
        parts = {recipe: {key for key, _ in self._chunks(recipe)} for recipes in known.values() for recipe in recipes}
        asked = set().union(*parts.values())
        here = self.seals().keys() if len(asked) > MANY else self._find(list(asked)).keys()
        whole: dict[bytes, Recipe] = {}
        for recipe, chunks in parts.items():
            if chunks <= here:
                whole.setdefault(recipe.id, recipe)
        return whole

    def with_chunks(self, keys: Iterable[bytes]) -> set[bytes]:
        """These raw ids, and those of the chunks of the blobs among them that are here as recipes."""
        found = set(keys)
        for recipe in self.recipes(found).values():
            found.update(key for key, _ in self._chunks(recipe))
        return found

    def lost_chunks(self, item: Wanted) -> list[str]:
        """Ids of the chunks that a blob lacks here, of which only the recipe is here; none when it has no recipe either."""
        key = digest_bytes(item.id)
        if key in self.recipes([key]):
            return []
        for recipe in self.catalog.recipes([key]).get(key, []):
            chunks = [chunk for chunk, _ in self._chunks(recipe)]
            here = self._find(chunks)
            return [f"{self.algorithm}:{chunk.hex()}" for chunk in dict.fromkeys(chunks) if chunk not in here]
        return []

    def _chunks(self, recipe: Recipe) -> list[tuple[bytes, int]]:
        return unpacked(recipe.chunks, ALGORITHMS[self.algorithm])

    def check_recipe_seal(self, object_id: str, sealed: str) -> None:
        """`IntegrityError` when a recipe of this blob is here under another seal, whether its chunks are here or not."""
        key = digest_bytes(object_id)
        for recipe in self.catalog.recipes([key]).get(key, []):
            if recipe.seal.hex() != sealed:
                raise self._other_seal(object_id, recipe.seal.hex(), sealed)

    def _other_seal(self, object_id: str, here: str, wanted: str) -> IntegrityError:
        return IntegrityError(
            f"{object_id}: {self.label} holds other bytes under this id (BLAKE3 {here[:12]}…, wanted {wanted[:12]}…)",
            "one of the two was forged or is corrupt; find out who wrote it before you use either",
        )

    def _find(self, keys: list[bytes]) -> dict[bytes, Place]:
        """Catalog places that the last listing still shows."""
        found = self.catalog.find(keys)
        if self.is_cache:
            return found
        return {key: place for key, place in found.items() if place.pack or self._loose.get(key) == place.size}

    def _list_loose(self) -> dict[bytes, int]:
        loose = {}
        width = ALGORITHMS[self.algorithm] * 2
        for item in self.backend.list("objects"):
            name = item.name.removeprefix("objects/").replace("/", "")
            if len(name) == width:
                with contextlib.suppress(ValueError):
                    loose[bytes.fromhex(name)] = item.size
        return loose

    def lists_loose(self, key: bytes, size: int) -> bool:
        """Whether the last listing shows a loose object of this raw id with so many bytes, named by an index or not."""
        self.sync()
        return self._loose.get(key) == size

    def remember_loose(self, loose: Iterable[Loose]) -> None:
        """These loose objects were just written here."""
        for item in loose:
            self._loose[item.id] = item.size

    def _learn(
        self, indexes: dict[str, int], packs: dict[str, int], broken: Callable[[str, DvcxError], None] | None = None
    ) -> bool:
        """Read the indexes that are new; whether none of them was passed over."""
        known = self.catalog.indexes()
        lost = any(packs.get(pack_name(name)) != size for name, size in self.catalog.packs().items())
        if lost or not known <= set(indexes):
            self.catalog.clear()
            known = set()
        names = sorted(set(indexes) - known)
        bad: set[str] = set()

        def look_at(name: str) -> IndexContent | DvcxError:
            try:
                return self.once_more(lambda: self.read_index(name, indexes[name]))
            except (IntegrityError, UnsafeInput) as error:
                if broken is None:
                    raise
                return error

        def read() -> Iterator[Learned]:
            # Over a network each is an answer to wait for; on a disk threads only wait for one another.
            workers = 1 if self.local else index_readers(map(indexes.__getitem__, names), INDEX_READERS)
            for name, found in zip(names, pool.run(look_at, names, workers=workers), strict=True):
                if isinstance(found, DvcxError):
                    assert broken is not None
                    bad.add(name)
                    broken(name, found)
                    continue
                here = [pack for pack in found.packs if packs.get(pack_name(pack.name.hex())) == pack.size]
                yield Learned(name, here, found.loose, found.recipes, len(here) == len(found.packs))

        if names:
            self.catalog.learn_all(read)
        return not bad

    def read_index(self, name: str, size: int) -> IndexContent:
        """What the index file `name` of `size` bytes says, checked completely."""
        where = f"{self.label}: {name}"
        if size > MAX_INDEX:
            raise UnsafeInput(f"{where}: larger than {MAX_INDEX} bytes", "this is no index; remove it from the store")
        # No more than was listed: what answers may have no end.
        data = self.backend.read(name, 0, size)
        if "index/" + seal(data).hex() + ".index" != name:
            raise IntegrityError(
                f"{where}: broken: its name is not the digest of its bytes",
                f"make it again from the packs: {self._fsck} --repair",
            )
        return decode_index(data, ALGORITHMS[self.algorithm], xxh128, where)

    # Reading

    def once_more(self, read: Callable[[], T]) -> T:
        """What `read` brings. A remote's wrong bytes may be the network's fault: they are read once more, then it is an error."""
        try:
            return read()
        except IntegrityError as error:
            if self.is_cache:
                raise
            self.warn(f"{error.message}; reading it once more")
        return read()

    def read(self, item: Wanted) -> bytes:
        """The bytes of one object, verified. Raises `NotFound` or `IntegrityError`."""
        for again in (False, True):
            try:
                for batch in self.batches([item]):
                    for _, data in self.read_batch(batch):
                        return bytes(data)
                break
            except NotFound:
                # A collection wrote its pack anew since the last listing.
                if again or not self.is_cache:
                    raise
                self.sync(again=True)
        raise self.not_here(item)

    def not_here(self, item: Wanted) -> NotFound:
        """The error for an object that is not in this store."""
        size = f" ({item.size:,} bytes)" if item.size >= 0 else ""
        lost = [] if self.is_cache else self.lost_chunks(item)
        if lost:
            return NotFound(
                f"object {item.id}{size} lacks {len(lost):,} of its chunks on {self.label} ({lost[0]})",
                "send them again from where the file is: dvcx push",
            )
        return NotFound(f"object {item.id}{size} is not in {self.label}", "get it with: dvcx fetch")

    def read_tree(self, content: Content) -> list[Entry]:
        """The entries of a directory, shards joined, checked completely. Kept for the life of this store object."""
        return self.read_directory(content)[0]

    def read_directory(self, content: Content) -> tuple[list[Entry], list[Wanted]]:
        """Like `read_tree`, with the tree objects it is made of: the tree itself and its shards."""
        cached = self._trees.get(content.id + content.seal)
        if cached is None:
            cached = join_tree(content, self.read, self.label)
            self._trees[content.id + content.seal] = cached
        return cached

    def batches(self, wanted: Iterable[Wanted]) -> list[Batch]:
        """Group objects into reads, in the order they lie in the store. Absent ones are left out."""
        self.sync()
        items = {digest_bytes(item.id): item for item in wanted}
        batches: list[Batch] = []
        gap, most = (READ_GAP, READ_MOST) if self.local else (REMOTE_GAP, REMOTE_MOST)
        for pack, frames in self.catalog.frames(items).items():
            if pack:
                for group in merge_ranges(frames, gap=gap, most=most):
                    end = group[-1].offset + group[-1].stored
                    batches.append(Batch(pack, [(items[frame.id], frame) for frame in group], end - group[0].offset))
            elif not self.is_cache:
                here = [frame for frame in frames if self._loose.get(frame.id) == frame.size]
                batches += [Batch("", [(items[frame.id], frame)], frame.size) for frame in here]
        if not self.is_cache:
            placed = {item.id for batch in batches for item, _ in batch.items}
            for key, recipe in self.recipes(key for key, item in items.items() if item.id not in placed).items():
                frame = Frame(key, recipe.seal, KIND_RECIPE, RAW, 0, recipe.size, recipe.size)
                batches.append(Batch("", [(items[key], frame)], recipe.size))
        if self.is_cache:
            placed = {item.id for batch in batches for item, _ in batch.items}
            directories = self.loose_directories()
            for key, item in items.items():
                if item.id in placed or _hex(item.id)[:2] not in directories:
                    continue
                size = self._loose_size(item.id)
                if size is not None:
                    batches.append(Batch("", [(item, Frame(key, b"", 0, 0, 0, size, size))], size))
        return batches

    def read_packed(self, items: Mapping[bytes, Wanted]) -> Iterator[tuple[bytes, memoryview]]:
        """(raw id, bytes) of those of the objects (by raw id) that lie in packs of the cache, verified like `read_batch`.

        The same work with less ado for each object: for one directory's many small files.
        """
        self.sync()
        quick = self.algorithm == "xxh128"
        spots = self.catalog.spots(list(items))
        start = 0
        while start < len(spots):
            pack, begin = spots[start][:2]
            end, stop = begin, start
            while stop < len(spots) and spots[stop][0] == pack:
                _, offset, stored = spots[stop][:3]
                if offset - end > READ_GAP or (offset + stored - begin > READ_MOST and stop > start):
                    break
                end = max(end, offset + stored)
                stop += 1
            name = pack_name(self.catalog.pack(pack))
            view = memoryview(self.backend.read(name, begin, end - begin))
            for _, offset, length, size, encoding, key in spots[start:stop]:
                piece = view[offset - begin : offset - begin + length]
                item = items[key]
                good = encoding == RAW and size == item.size and quick and xxh128(piece) == key and seal(piece).hex() == item.seal
                if not good:
                    frame = Frame(key, b"", 0, encoding, offset, length, size)
                    ((_, piece),) = self.read_batch(Batch(self.catalog.pack(pack), ((item, frame),), length))
                yield key, piece
            start = stop

    def read_batch(self, batch: Batch) -> Iterator[tuple[Wanted, memoryview]]:
        """The objects of a batch, each verified for size, id and seal. For objects that fit in memory.

        What a remote sends wrong is read once more, with a warning, before it is an `IntegrityError`.
        """
        return self._read_batch(batch) if self.is_cache else self._read_batch_twice(batch)

    def _read_batch_twice(self, batch: Batch) -> Iterator[tuple[Wanted, memoryview]]:
        read = self._read_batch(batch)
        given = 0

        def next_one() -> tuple[Wanted, memoryview] | None:
            nonlocal read
            try:
                return next(read, None)
            except IntegrityError:
                self._wholes.forget()
                read = islice(self._read_batch(batch), given, None)
                raise

        while (one := self.once_more(next_one)) is not None:
            given += 1
            yield one

    def _pack_range(self, name: str, start: int, length: int) -> memoryview:
        """A part of a pack; from the whole of it where a part costs as much."""
        if self.is_cache or length < WORTH_ASKING or self._has_ranges(name):
            return memoryview(self.backend.read(name, start, length))
        whole = self._wholes.get(name, self._packs[name].size if name in self._packs else MAX_WHOLE + 1)
        return whole[start : start + length] if whole is not None else memoryview(self.backend.read(name, start, length))

    def _has_ranges(self, name: str) -> bool:
        """Whether a part of a file costs no more than that part. A small part of this pack is read first to see it."""
        if self.local is not None:
            return True
        with self._asking:
            if not self._asked:
                self._asked = True
                self.backend.read(name, 0, HEADER_SIZE)
        return bool(getattr(self.backend, "ranges", True))

    def _read_batch(self, batch: Batch) -> Iterator[tuple[Wanted, memoryview]]:
        if not batch.pack:
            for item, frame in batch.items:
                whole = b"".join(self.stream(item)) if frame.kind == KIND_RECIPE else self._read_loose(item, frame.size)
                yield item, memoryview(whole)
            return
        start = batch.items[0][1].offset
        end = max(frame.offset + frame.stored for _, frame in batch.items)
        name = pack_name(batch.pack)
        view = self._pack_range(name, start, end - start)
        quick = self.algorithm == "xxh128"
        for item, frame in batch.items:
            if frame.size != item.size if item.size >= 0 else frame.size > MAX_TREE:
                raise IntegrityError(
                    f"{self.label}: {name}: object {item.id} has {frame.size} bytes instead of {item.size}",
                    self.mending,
                )
            stored = view[frame.offset - start : frame.offset - start + frame.stored]
            # The same check as below, without making texts of digests that are right.
            if frame.encoding == RAW and quick and xxh128(stored) == frame.id and seal(stored) == bytes.fromhex(item.seal):
                yield item, stored
                continue
            try:
                yield item, self._checked(item, self.decode(frame, stored, name), f"{self.label}: {name}")
            except IntegrityError:
                # A good copy may stand alone: that is how a damaged frame is repaired.
                if not (self.is_cache and self._loose_size(item.id) is not None):
                    raise
                yield item, memoryview(self._read_loose(item, -1))

    def _read_loose(self, item: Wanted, size: int) -> bytes:
        limit = item.size if item.size >= 0 else MAX_TREE
        if size > limit or (item.size >= 0 and size >= 0 and size != item.size):
            raise IntegrityError(
                f"{self.label}: object {item.id} has {size} bytes instead of {item.size}", self.mending
            )
        data = b"".join(self.backend.stream(object_name(item.id), limit))
        return bytes(self._checked(item, memoryview(data), f"{self.label}: {object_name(item.id)}"))

    def decode(self, frame: Frame, stored: memoryview, name: str) -> memoryview:
        """The raw bytes of a frame, not verified; never more than its table says. Raises `IntegrityError`."""
        if frame.encoding != ZSTD:
            return stored
        import zstandard

        try:
            # A frame that says how long it is gets that much memory, whatever the limit: so it has to say the right thing.
            if zstandard.frame_content_size(stored) not in (frame.size, -1):
                raise zstandard.ZstdError("it claims another length than its index")
            decoder = zstandard.ZstdDecompressor()
            data = decoder.decompress(stored, max_output_size=frame.size, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise IntegrityError(
                f"{self.label}: {name}: a frame cannot be decompressed ({error})", self.mending
            ) from None
        return memoryview(data)

    def _checked(self, item: Wanted, data: memoryview, where: str) -> memoryview:
        if item.size >= 0 and len(data) != item.size:
            raise IntegrityError(
                f"{where}: object {item.id} has {len(data)} bytes instead of {item.size}", self.mending
            )
        found = digest(data, self.algorithm)
        if found.id != item.id or found.seal != item.seal:
            raise mismatch(found, Digest(item.id, item.seal), where, self.mending)
        return data

    def stream(self, item: Wanted) -> Iterator[bytes]:
        """The bytes of one object of any size in pieces. The last piece comes only after all were verified."""
        self.sync()
        place = self._find([digest_bytes(item.id)]).get(digest_bytes(item.id))
        if place is not None and place.pack:
            yield self.read(item)
            return
        if place is None and not self.is_cache:
            for data, _ in self.assemble(item):
                yield bytes(data)
            return
        if place is None and not (self.is_cache and self._loose_size(item.id) is not None):
            raise self.not_here(item)
        hasher = Hasher(self.algorithm)
        total = 0
        held = b""
        name = object_name(item.id)
        for piece in self.backend.stream(name, item.size):
            hasher.update(piece)
            total += len(piece)
            if held:
                yield held
            held = piece
        found = hasher.digest()
        if total != item.size or found != (item.id, item.seal):
            raise mismatch(found, Digest(item.id, item.seal), f"{self.label}: {name}", self.mending)
        if held:
            yield held

    def is_recipe(self, item: Wanted) -> bool:
        """Whether a blob is here as chunks."""
        key = digest_bytes(item.id)
        return not self.is_cache and key not in self._find([key]) and key in self.recipes([key])

    def assemble(self, item: Wanted, held: Held = _none_held) -> Iterator[tuple[memoryview | bytes, bool]]:
        """The chunks of a blob in order, each verified, and whether `held` had it in place. The last comes when all was verified.

        What `held` has is not fetched. The rest is read ahead in threads, in ranges of packs; memory does not grow with the blob.
        """
        key = digest_bytes(item.id)
        recipe = self.recipes([key]).get(key)
        if recipe is None:
            raise self.not_here(item)
        if recipe.seal.hex() != item.seal:
            raise self._other_seal(item.id, recipe.seal.hex(), item.seal)
        if recipe.size != item.size:
            raise IntegrityError(
                f"{self.label}: object {item.id} has {recipe.size} bytes instead of {item.size}", self.mending
            )
        hasher = Hasher(self.algorithm)
        last: tuple[memoryview | bytes, bool] | None = None
        for piece in self._pieces(recipe, held, {}):
            hasher.update(piece[0])
            if last is not None:
                yield last
            last = piece
        found = hasher.digest()
        if found != (item.id, item.seal):
            raise mismatch(found, Digest(item.id, item.seal), f"{self.label}: object {item.id}, made of its chunks", self.mending)
        if last is not None:
            yield last

    def names_of(self, recipe: Recipe, places: Mapping[bytes, Place]) -> Digest:
        """Id and seal of what the chunks of a recipe make up, read like `assemble`. `places` go before what the indexes say."""
        hasher = Hasher(self.algorithm)
        for data, _ in self._pieces(recipe, _none_held, places):
            hasher.update(data)
        return hasher.digest()

    def _pieces(
        self, recipe: Recipe, held: Held, places: Mapping[bytes, Place]
    ) -> Iterator[tuple[memoryview | bytes, bool]]:
        """The chunks of a blob in order, each verified, and whether `held` had it in place."""
        chunks = self._chunks(recipe)
        known = self._find([key for key, _ in chunks])
        known.update((key, places[key]) for key, _ in chunks if key in places)
        pack = known[chunks[0][0]].pack if chunks[0][0] in known else ""
        depth = AHEAD if not pack or self._has_ranges(pack_name(pack)) else AHEAD_WHOLE
        for pieces in ahead(self._read_part, self._parts(recipe, chunks, known, held), depth=depth):
            yield from pieces

    def _parts(
        self, recipe: Recipe, chunks: Sequence[tuple[bytes, int]], places: Mapping[bytes, Place], held: Held
    ) -> Iterator[_Part]:
        """Runs of chunks that one read brings, or that are held."""
        run: list[tuple[bytes, Place]] = []
        start = end = size = offset = 0
        for key, length in chunks:
            place = places.get(key)
            if place is None or place.size != length:
                raise IntegrityError(
                    f"{self.label}: object {self.algorithm}:{recipe.id.hex()}: its chunk {key.hex()} is gone or has another size",
                    "send it again from where the file is: dvcx push",
                )
            have = held(offset, key, place.seal, length)
            offset += length
            near = run and place.pack and place.pack == run[0][1].pack and size + length <= PIECES
            if run and (have or not near or place.offset > end + GAP or place.offset + place.stored + GAP < start):
                yield _Part(run, [])
                run, size = [], 0
            if have:
                yield _Part([], [have])
                continue
            start = min(start, place.offset) if run else place.offset
            end = max(end, place.offset + place.stored) if run else place.offset + place.stored
            size += length
            run.append((key, place))
        if run:
            yield _Part(run, [])

    def _read_part(self, part: _Part) -> list[tuple[memoryview | bytes, bool]]:
        if not part.run:
            return list(part.held)
        distinct = dict(part.run)
        items = [
            (
                Wanted(f"{self.algorithm}:{key.hex()}", place.seal.hex(), place.size),
                Frame(key, place.seal, place.kind, place.encoding, place.offset, place.stored, place.size),
            )
            for key, place in sorted(distinct.items(), key=lambda row: row[1].offset)
        ]
        read = {item.id: data for item, data in self.read_batch(Batch(part.run[0][1].pack, items, 0))}
        return [(read[f"{self.algorithm}:{key.hex()}"], False) for key, _ in part.run]

    def read_recipe(self, pack: str, frame: Frame) -> Recipe:
        """The recipe an entry of a pack (its hex name) holds. Raises `IntegrityError`."""
        where = f"{self.label}: {pack_name(pack)}"
        data = self.backend.read(pack_name(pack), frame.offset, frame.stored)
        size, chunks = decode_recipe(data, ALGORITHMS[self.algorithm], xxh128, where)
        length = ALGORITHMS[self.algorithm]
        return Recipe(frame.id, frame.seal, size, packed(((chunk.id, chunk.size) for chunk in chunks), length))

    # Local files of the cache

    def loose_path(self, object_id: str) -> str:
        """Where a loose object of a local store is or would be."""
        assert self.local is not None
        return self.local.path(object_name(object_id))

    def is_loose(self, object_id: str) -> bool:
        """Whether a local store holds this object as a file of its own."""
        return self.local is not None and self._loose_size(object_id) is not None

    def check_loose(self, item: Wanted, advanced: Callable[[int], None] | None = None) -> str:
        """The path of a loose object of the cache whose bytes are known to be right.

        They are read unless the file has not been touched since they were last checked. Raises `IntegrityError`.
        """
        path = self.loose_path(item.id)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise disk_refused(error, "opening an object", path) from None
        try:
            before = os.fstat(fd)
            if not stat_module.S_ISREG(before.st_mode) or before.st_size != item.size:
                raise IntegrityError(
                    f"{self.label}: object {item.id} has {before.st_size} bytes instead of {item.size}", self.mending
                )
            known = self.catalog.verified(digest_bytes(item.id))
            if known == (bytes.fromhex(item.seal), stamp(before)):
                if advanced is not None:
                    advanced(before.st_size)
                return path
            found, _ = digest_fd(fd, self.algorithm, advanced)
            if found != (item.id, item.seal):
                raise mismatch(found, Digest(item.id, item.seal), f"{self.label}: {object_name(item.id)}", self.mending)
            if unchanged(before, os.fstat(fd)):
                self.catalog.set_verified([(digest_bytes(item.id), bytes.fromhex(item.seal), stamp(before))])
            return path
        finally:
            os.close(fd)

    def just_checked(self, item: Wanted, path: str) -> None:
        """A hard link at `path` was made of an object whose bytes were just checked: linking moved its ctime."""
        self.catalog.set_verified([(digest_bytes(item.id), bytes.fromhex(item.seal), stamp(os.lstat(path)))])

    def quarantine(self, object_id: str) -> str:
        """Move a corrupt loose object of the cache out of the way; where it is now, "" when it lies in a pack."""
        assert self.local is not None
        if self._loose_size(object_id) is None:
            return ""
        return self.local.path(quarantine(self.backend, object_name(object_id), ""))

    def forget(self, ids: Collection[bytes]) -> None:
        """These objects count as absent from here on, until the indexes are read again: their bytes are not right."""
        for key in ids:
            self._loose.pop(key, None)
        self.catalog.forget(ids)

    def _loose_size(self, object_id: str) -> int | None:
        found = self._loose_status(object_id)
        return found.st_size if found is not None else None

    def _loose_status(self, object_id: str) -> os.stat_result | None:
        try:
            found = os.lstat(self.loose_path(object_id))
        except OSError:
            return None
        return found if stat_module.S_ISREG(found.st_mode) else None

    def loose_directories(self) -> set[str]:
        """First two digits of the loose objects of a local store."""
        assert self.local is not None
        try:
            # Beside them lie files that other processes are writing.
            return {name for name in os.listdir(self.local.path("objects")) if len(name) == 2}
        except OSError:
            return set()

    def loose_objects(self) -> Iterator[tuple[str, int]]:
        """(id, size) of every loose object of a local store."""
        width = ALGORITHMS[self.algorithm] * 2
        for item in self.backend.list("objects"):
            name = item.name.removeprefix("objects/").replace("/", "")
            if len(name) == width:
                yield f"{self.algorithm}:{name}", item.size


def open_store(
    backend: Backend,
    catalog_dir: str,
    *,
    algorithm: str,
    label: str,
    is_cache: bool,
    warn: Callable[[str], None],
) -> Store:
    """Open the store behind a backend, or prepare a new one: `store.json` is written with the first object.

    Raises `IntegrityError` for a damaged `store.json` or one of another version or hash.
    """
    store_id = ""
    try:
        found = read_store_json(b"".join(backend.stream("store.json", MAX_STORE_JSON)), label)
    except NotFound:
        pass
    else:
        _check_hash(found, algorithm, label)
        store_id = found["id"]
    path = os.path.join(catalog_dir, f"catalog-{store_id}.sqlite") if store_id else ":memory:"
    return Store(backend, Catalog(path, warn), algorithm=algorithm, store_id=store_id, label=label, is_cache=is_cache, warn=warn)


def create_store(store: Store, catalog_dir: str, warn: Callable[[str], None]) -> None:
    """Write `store.json` if the store has none yet, and give it a catalog on disk."""
    if store.id:
        return
    store_id = secrets.token_hex(16)
    record = {"dvcx": FORMAT, "hash": store.algorithm, "id": store_id}
    with contextlib.suppress(NotFound):
        # Another client may have made it a moment ago.
        found = read_store_json(b"".join(store.backend.stream("store.json", MAX_STORE_JSON)), store.label)
        _check_hash(found, store.algorithm, store.label)
        record = found
    if record["id"] == store_id:
        store.backend.write("store.json", json.dumps(record).encode() + b"\n")
    store_id = str(record["id"])
    store.id = store_id
    store.use_catalog(Catalog(os.path.join(catalog_dir, f"catalog-{store_id}.sqlite"), warn))
    store.sync(again=True)


def join_tree(content: Content, read: Callable[[Wanted], bytes], label: str) -> tuple[list[Entry], list[Wanted]]:
    """A directory's entries and the tree objects they are in, read through `read`; shards joined, order and totals checked."""
    root = wanted(content)
    objects = [root]
    entries = decode_tree(read(root), f"{label}: tree {content.id}")
    if entries and entries[0].kind == SHARD:
        joined: list[Entry] = []
        for shard in entries:
            objects.append(wanted(shard))
            part = decode_tree(read(objects[-1]), f"{label}: tree {shard.id}")
            if part and part[0].kind == SHARD:
                raise IntegrityError(f"{label}: tree {shard.id}: shards nest", "get it again: dvcx fetch")
            joined.extend(part)
        names = [entry.name.encode() for entry in joined]
        if any(name <= before for before, name in pairwise(names)):
            raise IntegrityError(f"{label}: tree {content.id}: its shards are out of order", "get it again: dvcx fetch")
        entries = joined
    if totals(entries) != (content.size, content.files):
        raise IntegrityError(f"{label}: tree {content.id}: its totals are not those of the record", "restore the record from git")
    return entries, objects


def index_readers(sizes: Iterable[int], workers: int) -> int:
    """How many threads may read indexes of these sizes, so that memory stays bounded."""
    return max(1, min(workers, INDEX_BYTES // max(1, *sizes, 1)))


def read_pack_table(backend: Backend, name: str, size: int, where: str) -> list[Frame]:
    """The table of a pack, read from its tail alone."""
    tail = backend.read(name, max(0, size - TAIL), min(size, TAIL)) if size >= HEADER_SIZE + FOOTER_SIZE else b""
    footer = tail[-FOOTER_SIZE:]
    length = table_length(footer, size, where)
    if length + FOOTER_SIZE <= len(tail):
        table = tail[len(tail) - FOOTER_SIZE - length : -FOOTER_SIZE]
    else:
        table = backend.read(name, size - FOOTER_SIZE - length, length)
    return decode_pack_table(backend.read(name, 0, HEADER_SIZE), table, footer, size, xxh128, where)


def object_name(object_id: str) -> str:
    """The name of a loose object in a store."""
    digits = _hex(object_id)
    return f"objects/{digits[:2]}/{digits[2:]}"


def pack_name(digits: str) -> str:
    """The name in a store of a pack with this BLAKE3."""
    return f"packs/{digits[:2]}/{digits}.pack"


def is_pack_name(name: str) -> bool:
    """Whether a listed name is that of a pack."""
    digits = name.rpartition("/")[2].removesuffix(".pack")
    return len(digits) == 64 and set(digits) <= set("0123456789abcdef") and pack_name(digits) == name


def action_name(key: str) -> str:
    """The name in a store of the result of this action."""
    return f"actions/{key[:2]}/{key}.json"


def request_name(key: str) -> str:
    """The name in a store of the request to run this action."""
    return f"actions/{key[:2]}/{key}.request.json"


def stamp(found: os.stat_result) -> str:
    """What must stay the same for a file to count as untouched."""
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def wanted(content: Content | Entry) -> Wanted:
    """The object a content or an entry needs. A tree's own length is not part of its record: -1."""
    if isinstance(content, Content):
        is_tree = content.kind == TREE
        return Wanted(content.id, content.seal, -1 if is_tree else content.size, is_tree)
    is_tree = content.kind in ("dir", "shard")
    return Wanted(content.id, content.seal, -1 if is_tree else content.size, is_tree)


def _check_hash(record: Mapping[str, Any], algorithm: str, label: str) -> None:
    if record["hash"] != algorithm:
        raise IntegrityError(
            f"{label}: it names objects by {record['hash']}, this project by {algorithm}",
            "use another remote or cache directory for this project",
        )


def read_store_json(data: bytes, label: str) -> dict[str, Any]:
    """A store's description of itself. Raises `IntegrityError` when it is damaged or of another version."""
    try:
        record = json.loads(data)
        if record["dvcx"] != FORMAT or record["hash"] not in ALGORITHMS or not isinstance(record["id"], str):
            raise ValueError("unknown version or hash")
        if len(record["id"]) != 32 or not set(record["id"]) <= set("0123456789abcdef"):
            raise ValueError("malformed id")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{label}: broken store.json ({error})", "upgrade dvcx, or restore store.json") from None
    return dict(record)


def _hex(object_id: str) -> str:
    return object_id.partition(":")[2]
