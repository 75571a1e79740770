"""Verifying a store: what it really holds, and everything in it that is not what it should be. Reads; changes only memories.

No records here: who needs an object is asked elsewhere, of the `Ledger` this makes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as stat_module
import struct
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from operator import attrgetter
from typing import NamedTuple

from dvcx.core.chunking import Recipe, decode_recipe, packed, short_row_size, unpacked
from dvcx.core.objects import ALGORITHMS, TREE_HEADER, Digest, decode_tree, digest_bytes
from dvcx.core.packing import (
    FOOTER_SIZE,
    HEADER_SIZE,
    KIND_RECIPE,
    KIND_TREE,
    Frame,
    IndexContent,
    Loose,
    PackInfo,
    decode_pack_table,
    encode_index,
    merge_ranges,
    table_length,
)
from dvcx.core.records import MAX_ACTION, action_part, decode_action, decode_asked
from dvcx.errors import DiskRefused, DvcxError, IntegrityError, NotFound, RemoteFailed, UnsafeInput, disk_refused, display
from dvcx.events import Advanced, Began, Emit, Ended
from dvcx.io import pool
from dvcx.io.hashing import Hasher, digest, digest_fd, seal, unchanged, xxh128
from dvcx.io.store.backend import TEMPORARY, Backend
from dvcx.io.store.catalog import Place
from dvcx.io.store.store import (
    MAX_STORE_JSON,
    READ_GAP,
    READ_MOST,
    REMOTE_GAP,
    REMOTE_MOST,
    Store,
    action_name,
    index_readers,
    object_name,
    pack_name,
    read_store_json,
    request_name,
    stamp,
)

CORRUPT = "corrupt"
"""The bytes are not those of the name."""
TRUNCATED = "truncated"
"""The file has another length than recorded."""
MISPLACED = "misplaced"
"""The bytes are another object's."""
FORGED = "forged"
"""The id is right and the seal is not."""
BROKEN = "broken"
"""The bytes do not decode: a tree, a table, an index, a record."""
MISSING = "missing"
"""An index names it and it is not there."""
UNREADABLE = "unreadable"
"""The disk, or a remote for this one file, fails to give the bytes."""
REFUSED = 3
"""So many files of a remote in a row that cannot be read are no damage: the remote fails."""

GROUP = 64
"""So many packs at most are read by one thread one after the other, since blobs go on from one into the next."""

FULL, QUICK, SAMPLE = "full", "quick", "sample"
_MANY = 256


class Depth(NamedTuple):
    """How much is read: everything, no object (`quick`), or of a `share` of the objects the bytes, chosen by `seed`."""

    mode: str = FULL
    share: float = 1.0
    seed: int = 0

    def reads(self, key: bytes) -> bool:
        """Whether this object's bytes are read. The same seed chooses the same objects."""
        if self.mode != SAMPLE:
            return self.mode == FULL
        drawn = struct.unpack("<Q", xxh128(self.seed.to_bytes(8, "little") + key)[:8])[0]
        return bool(drawn < self.share * 2**64)


class Fault(NamedTuple):
    """Something in a store that is not right: the file `name`, and when it is about an object its raw `id`.

    `seal` is the seal the object should have, b"" when the store does not say. Of misplaced bytes `found` is the raw id of
    what they are.
    """

    problem: str
    name: str
    text: str
    id: bytes = b""
    seal: bytes = b""
    found: bytes = b""


class Ledger:
    """Objects that are here and right, by raw id: seal (b"" where only reading could tell) and length, in little memory.

    `disputed` are ids that came with two seals or lengths.
    """

    __slots__ = ("_rows", "disputed")

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self.disputed: set[bytes] = set()

    def add(self, key: bytes, sealed: bytes, size: int) -> None:
        """An object is here."""
        row = size.to_bytes(8, "little") + sealed
        if self._rows.setdefault(key, row) != row:
            self._rows[key] = row
            self.disputed.add(key)

    def drop(self, key: bytes) -> None:
        """It is not, after all."""
        self._rows.pop(key, None)

    def get(self, key: bytes) -> tuple[bytes, int] | None:
        """(seal, length) of an object that is here."""
        row = self._rows.get(key)
        return None if row is None else (row[8:], int.from_bytes(row[:8], "little"))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._rows)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def update(self, other: Ledger) -> None:
        """Everything of another one."""
        self._rows.update(other._rows)


@dataclass(slots=True)
class Survey:
    """What a store holds. Names of packs are hex digits, of other files those in the store.

    `good` is what readers find there, `spare` what no index names. `broken` packs, with the frames of them that are right.
    `named`: indexes by the pack they name. `stale` are sound indexes that say what is not so. `rows` are the (seal, length) that
    indexes give loose objects. `recipes` by the pack they are in; `spoiled` packs are broken only since records or the chunks of
    a recipe say so. `names` are those of blobs that were hashed while their chunks came by.
    """

    depth: Depth
    good: Ledger = field(default_factory=Ledger)
    spare: Ledger = field(default_factory=Ledger)
    faults: list[Fault] = field(default_factory=list)
    indexes: dict[str, int] = field(default_factory=dict)
    packs: dict[str, int] = field(default_factory=dict)
    loose: dict[bytes, int] = field(default_factory=dict)
    rows: Ledger = field(default_factory=Ledger)
    recipes: dict[str, Sequence[Recipe]] = field(default_factory=dict)
    spare_recipes: dict[str, Sequence[Recipe]] = field(default_factory=dict)
    names: dict[Recipe, Digest] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)
    broken: dict[str, list[Frame]] = field(default_factory=dict)
    spoiled: set[str] = field(default_factory=set)
    bad_indexes: set[str] = field(default_factory=set)
    stale: set[str] = field(default_factory=set)
    spare_packs: set[str] = field(default_factory=set)
    spare_loose: set[bytes] = field(default_factory=set)
    leftovers: list[str] = field(default_factory=list)
    catalog_was_wrong: bool = False
    objects_read: int = 0
    bytes_read: int = 0
    refused: int = 0

    def loose_is_named(self, key: bytes) -> bool:
        """Whether readers look for this loose object."""
        return key not in self.spare_loose


def survey(store: Store, depth: Depth, *, jobs: int, emit: Emit) -> Survey:
    """Look at every file of a store; damage becomes a fault. Raises `RemoteFailed` and `DiskRefused` for what cannot be asked."""
    found = Survey(depth)
    store.sync(again=True, broken=lambda name, error: None)
    # Indexes before packs, packs before objects: what a writer adds meanwhile is then never missed by what names it.
    found.indexes = {item.name: item.size for item in store.backend.list("index") if item.name.endswith(".index")}
    found.packs = _listed_packs(store)
    found.loose = _listed_loose(store, found)
    tables = _Tables()
    phase = f"checking {store.label}"
    total = sum(found.packs.values()) + sum(found.loose.values()) if depth.mode == FULL else 0
    emit(Began(phase, len(found.packs) + len(found.loose), total))
    _indexes(store, found, tables, jobs)
    if found.catalog_was_wrong:
        store.catalog.clear()
        store.sync(again=True, broken=lambda name, error: None)
    _packs(store, found, tables, jobs, emit)
    _loose(store, found, jobs, emit)
    emit(Ended(phase))
    _recipes(store, found, emit)
    _actions(store, found, jobs)
    _leftovers(store, found)
    found.faults = [_classified(fault, found) for fault in found.faults if not _made_good(fault, found)]
    return found


def condemn(store: Store, found: Survey, key: bytes, seal: bytes, text: str) -> None:
    """An object the survey took for good has not the seal that the record which names it says: it counts as forged."""
    known = found.good.get(key)
    found.good.drop(key)
    if key in found.loose and found.loose_is_named(key):
        found.faults.append(Fault(FORGED, _loose_name(store, key), text, key, seal))
    for pack in store.catalog.frames([key]):
        if pack and pack in found.packs and known is not None:
            _without(store, found, pack, lambda frame: frame.id == key)
            found.faults.append(Fault(FORGED, pack_name(pack), text, key, seal))
    for pack, recipes in found.recipes.items():
        if any(recipe.id == key for recipe in recipes):
            found.faults.append(Fault(FORGED, pack_name(pack), text, key, seal))


def _without(store: Store, found: Survey, pack: str, bad: Callable[[Frame], bool]) -> None:
    """A pack whose bytes are those of its name counts as broken: some of its frames must not be used."""
    frames = found.broken.get(pack)
    if frames is None:
        frames = read_table(store, pack, found.packs[pack])
        found.stale.update(found.named.get(pack, ()))
    found.broken[pack] = [frame for frame in frames if not bad(frame)]


def check_store_json(backend: Backend, algorithm: str, label: str) -> Fault | None:
    """What is wrong with a store's description of itself."""
    try:
        record = read_store_json(b"".join(backend.stream("store.json", MAX_STORE_JSON)), label)
    except NotFound:
        if next(iter(backend.list("objects")), None) is None and next(iter(backend.list("index")), None) is None:
            return None
        return Fault(MISSING, "store.json", "the store's description of itself is not there")
    except IntegrityError as error:
        return Fault(BROKEN, "store.json", error.message)
    if record["hash"] != algorithm:
        return None  # opening the store says it
    return None


def read_table(store: Store, pack: str, size: int, entries: int = 0) -> list[Frame]:
    """The table of a pack, from its tail alone. `entries`, when known, spares a read. Raises `IntegrityError`."""
    name, where = pack_name(pack), f"{store.label}: {pack_name(pack)}"
    if size < HEADER_SIZE + FOOTER_SIZE:
        raise IntegrityError(f"{where}: broken: it is truncated", "dvcx fsck --repair")
    likely = min(size, FOOTER_SIZE + max(entries, 64) * (ALGORITHMS[store.algorithm] + 58))
    tail = store.backend.read(name, size - likely, likely)
    length = table_length(tail[-FOOTER_SIZE:], size, where)
    if length + FOOTER_SIZE > likely:
        tail = store.backend.read(name, size - FOOTER_SIZE - length, length) + tail[-FOOTER_SIZE:]
    table = tail[len(tail) - FOOTER_SIZE - length : -FOOTER_SIZE]
    header = store.backend.read(name, 0, HEADER_SIZE)
    frames = decode_pack_table(header, table, tail[-FOOTER_SIZE:], size, xxh128, where)
    if header[9] != ALGORITHMS[store.algorithm]:
        raise IntegrityError(f"{where}: broken: it uses another hash than its store", "dvcx fsck --repair")
    return frames


# What is listed


def _listed_packs(store: Store) -> dict[str, int]:
    packs = {}
    for item in store.backend.list("packs"):
        digits = item.name.rpartition("/")[2].removesuffix(".pack")
        if pack_name(digits) == item.name:
            packs[digits] = item.size
    return packs


def _listed_loose(store: Store, found: Survey) -> dict[bytes, int]:
    loose = {}
    width = ALGORITHMS[store.algorithm] * 2
    for item in store.backend.list("objects"):
        digits = item.name.removeprefix("objects/").replace("/", "")
        try:
            key = bytes.fromhex(digits)
        except ValueError:
            key = b""
        if len(digits) != width or _loose_name(store, key) != item.name:
            found.leftovers.append(item.name)
            continue
        loose[key] = item.size
    return loose


def _leftovers(store: Store, found: Survey) -> None:
    """What a crash left, or somebody put there; no reader looks at it."""
    found.leftovers += [item.name for item in store.backend.list("partial")]
    if store.local is None:
        return
    for top in ("", "objects", "packs", "index"):
        pending = [store.local.path(top) if top else store.local.root]
        while pending:
            try:
                entries = list(os.scandir(pending.pop()))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise disk_refused(error, "listing", store.local.root) from None
            for entry in entries:
                name = os.path.relpath(entry.path, store.local.root)
                if entry.name.startswith(TEMPORARY):
                    found.leftovers.append(name)
                elif top and entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif top and not entry.is_file(follow_symlinks=False):
                    found.faults.append(Fault(BROKEN, name, "it is no regular file, and a store holds nothing else"))


# Indexes


class _Tables:
    """What indexes say of packs, by pack: (index, length, entries, digest of the table)."""

    def __init__(self) -> None:
        self.by_pack: dict[str, list[tuple[str, int, int, bytes]]] = {}
        self.recipes: dict[str, set[Recipe]] = {}

    def add(self, index: str, pack: PackInfo, id_length: int) -> None:
        said = (index, pack.size, len(pack.frames), _digest(pack, id_length))
        self.by_pack.setdefault(pack.name.hex(), []).append(said)


def _digest(pack: PackInfo, id_length: int) -> bytes:
    """One value for a pack's name, length and table, in whatever order its entries come."""
    return xxh128(encode_index(IndexContent([pack], []), id_length, xxh128))


def _indexes(store: Store, found: Survey, tables: _Tables, jobs: int) -> None:
    def read(item: tuple[str, int]) -> tuple[str, IndexContent | None, str]:
        name, size = item
        try:
            return name, store.once_more(lambda: store.read_index(name, size)), ""
        except (IntegrityError, UnsafeInput) as error:
            return name, None, error.message
        except NotFound:
            return name, IndexContent([], []), ""  # taken away meanwhile, by a collector

    id_length = ALGORITHMS[store.algorithm]
    workers = index_readers(found.indexes.values(), jobs)
    for name, content, problem in pool.run(read, sorted(found.indexes.items()), workers=workers):
        if content is None:
            found.bad_indexes.add(name)
            found.faults.append(Fault(BROKEN, name, problem))
            continue
        for pack in content.packs:
            tables.add(name, pack, id_length)
            found.named.setdefault(pack.name.hex(), []).append(name)
        tables.recipes[name] = set(content.recipes)
        for row in content.loose:
            found.rows.add(row.id, row.seal, row.size)
        if not found.catalog_was_wrong:
            found.catalog_was_wrong = not _remembered(store, content, found.packs)


def _remembered(store: Store, content: IndexContent, packs: dict[str, int]) -> bool:
    """Whether the catalog agrees with an index about what it names."""
    for pack in content.packs:
        if packs.get(pack.name.hex()) != pack.size:
            continue
        recipes = [frame.id for frame in pack.frames if frame.kind == KIND_RECIPE]
        if recipes and store.catalog.recipes(recipes).keys() != set(recipes):
            return False
        known = store.catalog.find([frame.id for frame in pack.frames])
        for frame in pack.frames:
            if frame.kind == KIND_RECIPE:
                continue
            place = known.get(frame.id)
            if place is None or (place.seal, place.size) != (frame.seal, frame.size):
                return False
            if place.pack == pack.name.hex():
                same = (place.offset, place.stored, place.encoding) == (frame.offset, frame.stored, frame.encoding)
                # A pack may hold an object twice.
                if not same and frame.id not in _twice(pack.frames):
                    return False
    known = store.catalog.find([row.id for row in content.loose])
    return all(row.id in known and known[row.id].seal == row.seal for row in content.loose)


def _twice(frames: Iterable[Frame]) -> set[bytes]:
    seen: set[bytes] = set()
    return {frame.id for frame in frames if frame.id in seen or seen.add(frame.id)}  # type: ignore[func-returns-value]


# Packs


class _Report(NamedTuple):
    """A pack as it was found. `whole` when its bytes may stay; `frames` are those that are right; `read` bytes of `objects`."""

    pack: str
    whole: bool
    frames: list[Frame]
    faults: list[Fault]
    read: int
    table: bytes = b""
    gone: bool = False
    recipes: tuple[Recipe, ...] = ()
    objects: int = 0


class _Passing:
    """Hashes blobs whose chunks come by in their order, so that they need not be read again. For one thread.

    `starts`: recipes by their first chunk. `names` are those of the blobs that were whole.
    """

    def __init__(self, starts: Mapping[bytes, Sequence[Recipe]], algorithm: str) -> None:
        self._starts = starts
        self._algorithm = algorithm
        self._waiting: dict[bytes, list[_Course]] = {}
        self.names: dict[Recipe, Digest] = {}

    def take(self, key: bytes, data: memoryview) -> None:
        """The bytes of a chunk, verified."""
        courses = self._waiting.pop(key, [])
        courses += [_Course(recipe, self._algorithm) for recipe in self._starts.get(key, ())]
        for course in courses:
            while course.next == key:  # as often as it comes in a row
                course.go_on(data)
            if course.next:
                self._waiting.setdefault(course.next, []).append(course)
            else:
                self.names[course.recipe] = course.hasher.digest()


class _Course:
    """How far the hashing of a blob is: the chunk that is to come `next`, b"" after the last one."""

    __slots__ = ("_at", "_length", "hasher", "next", "recipe")

    def __init__(self, recipe: Recipe, algorithm: str) -> None:
        self.recipe = recipe
        self.hasher = Hasher(algorithm)
        self._length = ALGORITHMS[algorithm]
        self._at = 0
        self.next = recipe.chunks[: self._length]

    def go_on(self, data: memoryview) -> None:
        self.hasher.update(data)
        self._at += short_row_size(self._length)
        self.next = self.recipe.chunks[self._at : self._at + self._length]


def _packs(store: Store, found: Survey, tables: _Tables, jobs: int, emit: Emit) -> None:
    for pack in tables.by_pack.keys() - found.packs.keys():
        _lost_pack(store, found, pack, tables.by_pack[pack])
    starts, chunks = _chosen_recipes(found.depth, tables, ALGORITHMS[store.algorithm])
    guard = threading.Lock()
    unread: set[str] = set()

    def look_at(group: list[tuple[str, int]]) -> None:
        passing = _Passing(starts, store.algorithm) if starts else None
        for pack, size in group:
            report = _look_at_pack(store, found, pack, size, tables.by_pack.get(pack, []), passing, chunks)
            emit(Advanced(1, size))
            with guard:
                if not report.table:
                    unread.add(pack)
                if not report.gone:
                    _enter(store, found, tables, report)
        if passing is not None:
            with guard:
                found.names.update(passing.names)

    for _ in pool.run(look_at, _groups(store, found, starts, jobs), workers=jobs, ordered=False):
        pass
    if found.depth.mode == FULL:
        _invented(found, tables, unread)


def _groups(store: Store, found: Survey, starts: Mapping[bytes, Sequence[Recipe]], jobs: int) -> list[list[tuple[str, int]]]:
    """Packs in groups, which are read one after the other: where blobs go on from one pack into the next."""
    follows: dict[str, str] = {}
    taken: set[str] = set()
    for recipe in chain.from_iterable(starts.values()):
        keys = [key for key, _ in unpacked(recipe.chunks, ALGORITHMS[store.algorithm])]
        places = store.catalog.find(keys)
        for one, other in pairwise(places[key].pack for key in keys if key in places and places[key].pack):
            if one != other and one not in follows and other not in taken:
                follows[one] = other
                taken.add(other)
    most = max(1, min(GROUP, len(found.packs) // max(1, jobs)))
    groups: list[list[tuple[str, int]]] = []
    left = dict(found.packs)
    # Those that no other leads to first; what is left then are circles.
    for pack in (*sorted(left.keys() - taken), *sorted(taken)):
        group: list[tuple[str, int]] = []
        while pack in left:
            group.append((pack, left.pop(pack)))
            if len(group) == most:
                groups.append(group)
                group = []
            pack = follows.get(pack, "")
        groups += [group] if group else []
    return groups


def _look_at_pack(
    store: Store,
    found: Survey,
    pack: str,
    size: int,
    said: list[tuple[str, int, int, bytes]],
    passing: _Passing | None,
    chunks: Collection[bytes],
) -> _Report:
    other = next((length for _, length, *_ in said if length != size), size)
    if other != size and not _vanished(store, pack_name(pack)):
        return _Report(pack, False, [], [Fault(TRUNCATED, pack_name(pack), f"it has {size} bytes instead of {other}")], 0)
    try:
        report = _check_pack(store, pack, size, said[0][2] if said else 0, found.depth, passing, chunks)
        found.refused = 0
    except RemoteFailed as error:
        # It stays: nobody knows what is wrong with it.
        return _Report(pack, True, [], [_refused(found, pack_name(pack), error)], 0)
    if report.faults and not store.is_cache:
        # It may have been the network: what is wrong twice is wrong.
        report = _check_pack(store, pack, size, 0, found.depth, passing, chunks)
    return report


def _enter(store: Store, found: Survey, tables: _Tables, report: _Report) -> None:
    """What a pack holds, and which indexes say what is not so of it."""
    found.objects_read += report.objects
    found.bytes_read += report.read
    said = tables.by_pack.get(report.pack, [])
    if report.faults and not report.table:
        report = _by_index(store, found, report, said)
    found.faults += report.faults
    wrong = {index for index, _, _, table in said if report.table and table != report.table}
    found.faults += [
        Fault(BROKEN, index, f"it describes {pack_name(report.pack)} otherwise than that pack itself") for index in wrong
    ]
    for recipe in report.recipes if found.depth.mode == FULL else ():
        for index, *_ in said:
            if recipe not in tables.recipes[index]:
                wrong.add(index)
                text = f"it lacks the recipe of {recipe.id.hex()}, which a pack it names holds"
                found.faults.append(Fault(BROKEN, index, text))
    found.stale |= wrong
    if not report.whole:
        found.broken[report.pack] = report.frames
        found.stale.update(index for index, *_ in said)
    if not said:
        found.spare_packs.add(report.pack)
    book, menu = (found.good, found.recipes) if said else (found.spare, found.spare_recipes)
    for frame in report.frames:
        if frame.kind != KIND_RECIPE:
            book.add(frame.id, frame.seal, frame.size)
    recipes = report.recipes if found.depth.mode == FULL else _recipes_of(report, said, tables)
    if recipes:
        menu[report.pack] = recipes


def _chosen_recipes(depth: Depth, tables: _Tables, id_length: int) -> tuple[dict[bytes, list[Recipe]], set[bytes]]:
    """The recipes whose blobs are to be hashed, by first chunk; of a sample also all their chunks, which have to be read."""
    recipes = {recipe for known in tables.recipes.values() for recipe in known if depth.reads(recipe.id)}
    starts: dict[bytes, list[Recipe]] = {}
    for recipe in recipes:
        starts.setdefault(recipe.chunks[:id_length], []).append(recipe)
    if depth.mode != SAMPLE:
        return starts, set()
    return starts, {key for recipe in recipes for key, _ in unpacked(recipe.chunks, id_length)}


def _invented(found: Survey, tables: _Tables, unread: set[str]) -> None:
    """Indexes that tell recipes which no pack holds: a reader would follow them."""
    unsure = {index for pack in unread for index, *_ in tables.by_pack.get(pack, ())}
    held = {recipe for menu in (found.recipes, found.spare_recipes) for recipes in menu.values() for recipe in recipes}
    for index, recipes in tables.recipes.items():
        more = recipes - held
        if more and index not in found.stale | unsure:
            found.stale.add(index)
            text = f"it tells a recipe of {min(more).id.hex()} that no pack it names holds"
            found.faults.append(Fault(BROKEN, index, text))


def _recipes_of(report: _Report, said: list[tuple[str, int, int, bytes]], tables: _Tables) -> list[Recipe]:
    """The recipes of a pack as an index repeats them: where no frame is read."""
    held = {(frame.id, frame.seal) for frame in report.frames if frame.kind == KIND_RECIPE}
    if not held:
        return []
    return [recipe for index, *_ in said[:1] for recipe in tables.recipes[index] if (recipe.id, recipe.seal) in held]


def _lost_pack(store: Store, found: Survey, pack: str, said: list[tuple[str, int, int, bytes]]) -> None:
    """An index names a pack that was not listed: the objects in it are missing, unless the index is gone too by now."""
    indexes = [index for index, *_ in said if store.backend.size(index) is not None]
    if not indexes or store.backend.size(pack_name(pack)) is not None:
        return
    found.stale.update(indexes)
    found.faults.append(Fault(MISSING, pack_name(pack), f"{indexes[0]} names it, and it is not there"))
    found.faults += _objects_of(store, found, pack, said, MISSING, "its pack is missing")


def _objects_of(
    store: Store, found: Survey, pack: str, said: list[tuple[str, int, int, bytes]], problem: str, text: str
) -> list[Fault]:
    """Faults of all objects of a pack, as an index knows them."""
    return [Fault(problem, pack_name(pack), text, frame.id, frame.seal) for frame in _indexed(store, found, pack, said)]


def _indexed(store: Store, found: Survey, pack: str, said: list[tuple[str, int, int, bytes]]) -> list[Frame]:
    """The table of a pack as an index repeats it."""
    for index, *_ in said:
        try:
            content = store.read_index(index, found.indexes[index])
        except (DvcxError, KeyError):
            continue
        for info in content.packs:
            if info.name.hex() == pack:
                return info.frames
    return []


def _by_index(store: Store, found: Survey, report: _Report, said: list[tuple[str, int, int, bytes]]) -> _Report:
    """A pack without a table of its own, read by that of an index: which of its objects are still right."""
    frames = _indexed(store, found, report.pack, said)
    size, name = found.packs[report.pack], pack_name(report.pack)
    if report.faults[0].problem == UNREADABLE:
        faults = [Fault(UNREADABLE, name, "its pack cannot be read", frame.id, frame.seal) for frame in frames]
        return report._replace(frames=[], faults=[*report.faults, *faults])
    inside = [frame for frame in frames if frame.offset + frame.stored <= size]
    faults = [
        Fault(CORRUPT, name, "it lies behind the end of its pack", frame.id, frame.seal)
        for frame in frames
        if frame.offset + frame.stored > size
    ]
    recipes: list[Recipe] = []
    for frame, stored in _some(store, name, inside):
        if frame is None:
            continue
        if frame.kind == KIND_RECIPE:
            recipes += _recipe(store, name, frame, stored, faults)
        elif (fault := _check_frame(store, name, frame, stored)) is not None:
            faults.append(fault)
    bad = {(fault.id, fault.seal) for fault in faults}
    right = [frame for frame in inside if (frame.id, frame.seal) not in bad]
    return report._replace(frames=right, faults=[*report.faults, *faults], recipes=tuple(recipes))


def _check_pack(
    store: Store,
    pack: str,
    size: int,
    entries: int,
    depth: Depth,
    passing: _Passing | None = None,
    chunks: Collection[bytes] = (),
) -> _Report:
    """Read a pack as deep as `depth` says, and these `chunks` in any case; `passing` hears of every object that is right."""
    name = pack_name(pack)
    try:
        frames = read_table(store, pack, size, entries)
    except NotFound:
        return _Report(pack, True, [], [], 0, gone=True)
    except (IntegrityError, RemoteFailed, DiskRefused) as error:
        if _vanished(store, name):
            return _Report(pack, True, [], [], 0, gone=True)
        return _Report(pack, False, [], [Fault(_kind_of(error), name, error.message)], 0)
    table = _digest(PackInfo(bytes.fromhex(pack), size, frames), ALGORITHMS[store.algorithm])
    if depth.mode == QUICK:
        return _Report(pack, True, frames, [], 0, table)
    chosen = [frame for frame in frames if depth.reads(frame.id) or frame.id in chunks]
    faults: list[Fault] = []
    recipes: list[Recipe] = []
    digest_is_right = True
    try:
        pieces = _whole(store, name, size, frames) if depth.mode == FULL else _some(store, name, chosen)
        for frame, stored in pieces:
            if frame is None:
                digest_is_right = bytes(stored).hex() == pack
                continue
            if frame.kind == KIND_RECIPE:
                recipes += _recipe(store, name, frame, stored, faults)
                continue
            fault = _check_frame(store, name, frame, stored, passing)
            if fault is not None:
                faults.append(fault)
    except NotFound:
        return _Report(pack, True, [], [], 0, gone=True)
    except (IntegrityError, DiskRefused) as error:
        return _Report(pack, False, [], [Fault(_kind_of(error), name, error.message)], 0)
    bad = {(fault.id, fault.seal) for fault in faults}
    if not digest_is_right and not faults:
        faults.append(Fault(CORRUPT, name, "its bytes are not those of its name; the objects in it are all right"))
    read = size if depth.mode == FULL else sum(frame.stored for frame in chosen)
    right = [frame for frame in frames if (frame.id, frame.seal) not in bad]
    return _Report(pack, not faults, right, faults, read, table, recipes=tuple(recipes), objects=len(chosen))


def is_whole(store: Store, pack: str, size: int) -> bool:
    """Whether a pack is right to the last byte."""
    report = _check_pack(store, pack, size, 0, Depth())
    return report.whole and not report.gone


def _recipe(store: Store, name: str, frame: Frame, stored: bytes | memoryview, faults: list[Fault]) -> list[Recipe]:
    id_length = ALGORITHMS[store.algorithm]
    try:
        size, chunks = decode_recipe(bytes(stored), id_length, xxh128, name)
    except IntegrityError as error:
        faults.append(Fault(BROKEN, name, error.message, frame.id, frame.seal))
        return []
    return [Recipe(frame.id, frame.seal, size, packed([(chunk.id, chunk.size) for chunk in chunks], id_length))]


def _whole(store: Store, name: str, size: int, frames: list[Frame]) -> Iterator[tuple[Frame | None, bytes | memoryview]]:
    """Every frame with its stored bytes, from one read of the pack; then (None, BLAKE3 of the whole pack)."""
    hasher = Hasher("blake3")
    todo = iter(sorted(frames, key=attrgetter("offset")))
    frame = next(todo, None)
    held, base = bytearray(), 0
    for piece in store.backend.stream(name, size):
        hasher.update(piece)
        held += piece
        while frame is not None and frame.offset + frame.stored <= base + len(held):
            yield frame, bytes(held[frame.offset - base : frame.offset - base + frame.stored])
            frame = next(todo, None)
        start = min(frame.offset - base if frame is not None else len(held), len(held))
        if start > 0:
            del held[:start]
            base += start
    if frame is not None:
        raise IntegrityError(f"{store.label}: {name}: it is truncated", "dvcx fsck --repair")
    yield None, bytes.fromhex(hasher.digest().seal)


def _some(store: Store, name: str, chosen: list[Frame]) -> Iterator[tuple[Frame | None, bytes | memoryview]]:
    """Chosen frames with their stored bytes, neighbours in one read."""
    gap, most = (READ_GAP, READ_MOST) if store.local else (REMOTE_GAP, REMOTE_MOST)
    for group in merge_ranges(chosen, gap=gap, most=most):
        start = group[0].offset
        view = memoryview(store.backend.read(name, start, max(frame.offset + frame.stored for frame in group) - start))
        for frame in group:
            yield frame, view[frame.offset - start : frame.offset - start + frame.stored]


def read_frames(store: Store, pack: str, frames: list[Frame]) -> Iterator[tuple[Frame, bytes | None]]:
    """The raw bytes of these frames of a pack, in the order they lie there; None where they are not right."""
    name = pack_name(pack)
    for frame, stored in _some(store, name, frames):
        if frame is None:
            continue
        wrong: list[Fault] = []
        if frame.kind == KIND_RECIPE:
            _recipe(store, name, frame, stored, wrong)
        elif (fault := _check_frame(store, name, frame, stored)) is not None:
            wrong.append(fault)
        yield frame, None if wrong else bytes(store.decode(frame, memoryview(stored), name))


def recipes_in(store: Store, pack: str, frames: list[Frame]) -> list[Recipe]:
    """The recipes in a pack, as an index repeats them."""
    name = pack_name(pack)
    wanted = [frame for frame in frames if frame.kind == KIND_RECIPE]
    return [recipe for frame, stored in _some(store, name, wanted) if frame for recipe in _recipe(store, name, frame, stored, [])]


def _check_frame(
    store: Store, name: str, frame: Frame, stored: bytes | memoryview, passing: _Passing | None = None
) -> Fault | None:
    try:
        data = store.decode(frame, memoryview(stored), name)
    except IntegrityError as error:
        return Fault(CORRUPT, name, error.message, frame.id, frame.seal)
    if len(data) != frame.size:
        return Fault(CORRUPT, name, f"it has {len(data)} bytes instead of {frame.size}", frame.id, frame.seal)
    fault = _check_bytes(store, name, data, frame.id, frame.seal, tree=frame.kind == KIND_TREE)
    if fault is None and passing is not None:
        passing.take(frame.id, data)
    return fault


def _check_bytes(store: Store, name: str, data: memoryview, key: bytes, sealed: bytes, *, tree: bool) -> Fault | None:
    found = digest(data, store.algorithm)
    key_found, seal_found = bytes.fromhex(found.id[7:]), bytes.fromhex(found.seal)
    fault = _compare(name, key, sealed, key_found, seal_found)
    if fault is None and tree:
        try:
            decode_tree(bytes(data), name)
        except (IntegrityError, UnsafeInput) as error:
            return Fault(BROKEN, name, error.message, key, sealed)
    return fault


def _compare(name: str, key: bytes, sealed: bytes, key_found: bytes, seal_found: bytes) -> Fault | None:
    if key_found != key:
        return Fault(CORRUPT, name, f"the bytes are {key_found.hex()}", key, sealed, key_found)
    if sealed and seal_found != sealed:
        return Fault(FORGED, name, "the id matches, the BLAKE3 seal does not", key, sealed)
    return None


# Loose objects


class _Seen(NamedTuple):
    """A loose object as it was found: right (`fault` None; its seal where it was read), wrong, or gone meanwhile."""

    key: bytes
    size: int
    seal: bytes
    fault: Fault | None
    gone: bool = False
    stamp: str = ""
    read: bool = False


def _loose(store: Store, found: Survey, jobs: int, emit: Emit) -> None:
    def check(part: list[tuple[bytes, int]]) -> list[_Seen]:
        seen = [_check_loose(store, found, key, size) for key, size in part]
        if not store.is_cache:
            doubtful = (CORRUPT, FORGED, TRUNCATED, BROKEN)
            seen = [
                _check_loose(store, found, item.key, item.size) if item.fault and item.fault.problem in doubtful else item
                for item in seen
            ]
        emit(Advanced(len(seen), sum(item.size for item in seen)))
        return seen

    verified: list[tuple[bytes, bytes, str]] = []
    for part in pool.run(check, _portions(sorted(found.loose.items())), workers=jobs, ordered=False):
        for item in part:
            if item.gone:
                found.loose.pop(item.key, None)
                continue
            found.objects_read += item.read
            found.bytes_read += item.size if item.read else 0
            named = store.is_cache or item.key in found.rows
            if not named:
                found.spare_loose.add(item.key)
            if item.fault is not None:
                found.faults.append(item.fault)
                continue
            (found.good if named else found.spare).add(item.key, item.seal, item.size)
            if item.stamp:
                verified.append((item.key, item.seal, item.stamp))
        if len(verified) > 10_000:
            store.catalog.set_verified(verified)
            verified = []
    store.catalog.set_verified(verified)
    store.catalog.forget_checks([fault.id for fault in found.faults if fault.id])
    if not store.is_cache:
        _lost_loose(store, found)


def _refused(found: Survey, name: str, error: RemoteFailed) -> Fault:
    """One file that a remote does not give; raised when several in a row are like that."""
    found.refused += 1
    if found.refused >= REFUSED:
        raise error
    return Fault(UNREADABLE, name, error.message)


def _portions(items: list[tuple[bytes, int]]) -> Iterator[list[tuple[bytes, int]]]:
    """Small objects in company, so that handing them to a thread costs little; large ones alone."""
    some: list[tuple[bytes, int]] = []
    weight = 0
    for item in items:
        some.append(item)
        weight += item[1]
        if len(some) >= _MANY or weight > 4 << 20:
            yield some
            some, weight = [], 0
    if some:
        yield some


def _check_loose(store: Store, found: Survey, key: bytes, size: int) -> _Seen:
    name = _loose_name(store, key)
    row = found.rows.get(key)
    sealed = row[0] if row is not None else b""
    if row is not None and size != row[1]:
        if _vanished(store, name):
            return _Seen(key, size, b"", None, gone=True)
        return _Seen(key, size, b"", Fault(TRUNCATED, name, f"it has {size} bytes instead of {row[1]}", key, sealed))
    if not found.depth.reads(key):
        return _Seen(key, size, sealed or _remembered_seal(store, key), None)
    try:
        seal_stamp = _digest_local(store, name) if store.local is not None else _digest_remote(store, name, size)
    except NotFound:
        return _Seen(key, size, b"", None, gone=True)
    except (IntegrityError, DiskRefused, RemoteFailed) as error:
        if isinstance(error, RemoteFailed):
            if _vanished(store, name):
                return _Seen(key, size, b"", None, gone=True)
            return _Seen(key, size, b"", _refused(found, name, error)._replace(id=key, seal=sealed))
        return _Seen(key, size, b"", Fault(_kind_of(error), name, error.message, key, sealed))
    found.refused = 0
    key_found, seal_found, total, mark = seal_stamp
    fault = _compare(name, key, sealed, key_found, seal_found)
    if fault is not None and total == 0:
        fault = fault._replace(problem=TRUNCATED, text="it is empty")
    return _Seen(key, total, seal_found, fault, stamp=mark, read=True)


def _remembered_seal(store: Store, key: bytes) -> bytes:
    """The seal of a loose object of the cache that has not been touched since it was last checked."""
    known = store.catalog.verified(key) if store.local is not None else None
    if known is not None and store.local is not None:
        try:
            if stamp(os.lstat(store.local.path(_loose_name(store, key)))) == known[1]:
                return known[0]
        except OSError:
            return b""
    return b""


def _digest_local(store: Store, name: str) -> tuple[bytes, bytes, int, str]:
    assert store.local is not None
    path = store.local.path(name)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            before = os.fstat(fd)
            if not stat_module.S_ISREG(before.st_mode):
                raise IntegrityError(f"{display(path)}: it is no regular file", "dvcx fsck --repair")
            found, total = digest_fd(fd, store.algorithm)
            same = unchanged(before, os.fstat(fd))
        finally:
            os.close(fd)
    except OSError as error:
        raise disk_refused(error, "reading it", path) from error
    return bytes.fromhex(found.id[7:]), bytes.fromhex(found.seal), total, stamp(before) if same and store.is_cache else ""


def _digest_remote(store: Store, name: str, size: int) -> tuple[bytes, bytes, int, str]:
    hasher = Hasher(store.algorithm)
    total = 0
    for piece in store.backend.stream(name, size):
        hasher.update(piece)
        total += len(piece)
    found = hasher.digest()
    return bytes.fromhex(found.id[7:]), bytes.fromhex(found.seal), total, ""


def digest_of(store: Store, name: str) -> tuple[bytes, bytes, int]:
    """(raw id, seal, length) of any file of a store."""
    size = store.backend.size(name)
    if size is None:
        raise NotFound(f"{store.label}: {name} does not exist", "run the command again")
    return _digest_remote(store, name, size)[:3]


def _lost_loose(store: Store, found: Survey) -> None:
    """Loose objects that an index of a remote names, that are not listed, and that no pack holds; indexes that name bad ones."""
    bad = {fault.id for fault in found.faults if fault.name.startswith("objects/")}
    if not bad and all(key in found.loose for key in found.rows):
        return
    for index in sorted(found.indexes.keys() - found.bad_indexes):
        try:
            content = store.read_index(index, found.indexes[index])
        except (IntegrityError, NotFound, UnsafeInput):
            continue
        gone = [row for row in content.loose if row.id not in found.loose]
        if gone or any(row.id in bad for row in content.loose):
            found.stale.add(index)
        for row in gone:
            if row.id in found.good or store.backend.size(_loose_name(store, row.id)) is not None:
                continue
            if store.backend.size(index) is None:
                break
            text = f"{index} names it, and it is not there"
            found.faults.append(Fault(MISSING, _loose_name(store, row.id), text, row.id, row.seal))


# Recipes: a blob is here when all its chunks are, and make up what the recipe says


def _recipes(store: Store, found: Survey, emit: Emit) -> None:
    """Enter blobs of which all chunks are here, and are what the recipe says, as good; other recipes are faults."""
    id_length = ALGORITHMS[store.algorithm]
    lacking: list[Fault] = []
    whole: dict[Recipe, list[tuple[str, Ledger]]] = {}
    bad = {fault.id: UNREADABLE if fault.problem == UNREADABLE else CORRUPT for fault in found.faults}
    for menu, book in ((found.recipes, found.good), (found.spare_recipes, found.spare)):
        for pack, recipes in menu.items():
            for recipe in recipes:
                absent = _absent_chunk(recipe, id_length, (found.good, book))
                if absent is None:
                    whole.setdefault(recipe, []).append((pack, book))
                elif book is found.good:
                    count, first = absent
                    problem = bad.get(first, MISSING)
                    text = f"{count:,} of its chunks {'is' if count == 1 else 'are'} {problem}, {first.hex()} first"
                    lacking.append(Fault(problem, pack_name(pack), text, recipe.id, recipe.seal))
    wrong = _wrong_recipes(store, found, list(whole), emit)
    for recipe, places in whole.items():
        for pack, book in places:
            fault = wrong.get(recipe)
            if fault is None:
                book.add(recipe.id, recipe.seal, recipe.size)
                continue
            found.faults.append(fault._replace(name=pack_name(pack)))
            if fault.problem != UNREADABLE:
                found.spoiled.add(pack)
                _without(store, found, pack, _holds(recipe))
    found.faults += [fault for fault in lacking if fault.id not in found.good]


def _absent_chunk(recipe: Recipe, id_length: int, books: Iterable[Ledger]) -> tuple[int, bytes] | None:
    """How many chunks are in none of the books, and the first of them; None when all are here."""
    chunks = unpacked(recipe.chunks, id_length)
    absent = [key for key, size in chunks if all((book.get(key) or (b"", -1))[1] != size for book in books)]
    return (len(absent), absent[0]) if absent else None


def _holds(recipe: Recipe) -> Callable[[Frame], bool]:
    return lambda frame: frame.kind == KIND_RECIPE and (frame.id, frame.seal) == (recipe.id, recipe.seal)


def _wrong_recipes(store: Store, found: Survey, recipes: list[Recipe], emit: Emit) -> dict[Recipe, Fault]:
    """Recipes whose chunks, all here, make up something else. What was not hashed as its chunks came by is read again."""
    id_length = ALGORITHMS[store.algorithm]
    disputed = found.good.disputed | found.spare.disputed
    if disputed:
        # Readers get the one of two that the catalog names.
        for recipe in [one for one in found.names if any(key in disputed for key, _ in unpacked(one.chunks, id_length))]:
            del found.names[recipe]
    chosen = [recipe for recipe in recipes if found.depth.reads(recipe.id)]
    again = [recipe for recipe in chosen if recipe not in found.names]
    places = _odd_places(store, found, {key for recipe in again for key, _ in unpacked(recipe.chunks, id_length)})
    phase = f"checking large files of {store.label}"
    if again:
        emit(Began(phase, len(again), sum(recipe.size for recipe in again)))
    wrong: dict[Recipe, Fault] = {}
    for recipe in chosen:
        fault = _wrong_recipe(store, found, recipe, places)
        if fault is not None:
            wrong[recipe] = fault
        if recipe not in found.names:
            found.bytes_read += recipe.size
            emit(Advanced(1, recipe.size))
    if again:
        emit(Ended(phase))
    return wrong


def _odd_places(store: Store, found: Survey, chunks: Collection[bytes]) -> dict[bytes, Place]:
    """Where chunks lie that no index names, or one that is not right."""
    places: dict[bytes, Place] = {}
    odd = {pack for pack, indexes in found.named.items() if not found.stale.isdisjoint(indexes)}
    for pack in sorted((odd | found.spare_packs) & found.packs.keys()) if chunks else ():
        frames = found.broken.get(pack)
        with contextlib.suppress(IntegrityError, NotFound):
            for frame in frames if frames is not None else read_table(store, pack, found.packs[pack]):
                if frame.id in chunks and frame.kind != KIND_RECIPE:
                    places[frame.id] = Place(frame.seal, frame.kind, frame.size, pack, frame.offset, frame.stored, frame.encoding)
    return places


def _wrong_recipe(store: Store, found: Survey, recipe: Recipe, places: Mapping[bytes, Place]) -> Fault | None:
    fault = Fault(CORRUPT, "", "", recipe.id, recipe.seal)
    try:
        names = found.names.get(recipe) or _read_whole(store, recipe, places)
    except NotFound as error:
        return fault._replace(problem=MISSING, text=error.message)
    except RemoteFailed as error:
        return _refused(found, "", error)._replace(id=recipe.id, seal=recipe.seal)
    except DiskRefused as error:
        return fault._replace(problem=_kind_of(error), text=error.message)
    except IntegrityError as error:
        return fault._replace(text=error.message)
    found.refused = 0
    return _compare("", recipe.id, recipe.seal, digest_bytes(names.id), bytes.fromhex(names.seal))


def _read_whole(store: Store, recipe: Recipe, places: Mapping[bytes, Place]) -> Digest:
    try:
        return store.names_of(recipe, places)
    except NotFound:
        # A collection wrote a pack anew since the last listing.
        store.sync(again=True, broken=lambda name, error: None)
        return store.names_of(recipe, {})


# Actions, and what all share


def _actions(store: Store, found: Survey, jobs: int) -> None:
    def check(item: tuple[str, int]) -> Fault | None:
        name, size = item
        key = name.rpartition("/")[2].partition(".")[0]
        if name not in (action_name(key), request_name(key)):
            return None
        if not 0 < size <= MAX_ACTION:
            return Fault(BROKEN, name, f"it has {size} bytes")
        if found.depth.mode == QUICK:
            return None
        try:
            data = store.backend.read(name, 0, size)
            if name == request_name(key):
                if seal(action_part(data)).hex() != key:
                    return Fault(BROKEN, name, "its key is not the digest of its bytes")
                decode_asked(data, name)
                return None
            action = decode_action(data, name)
        except NotFound:
            return None
        except (IntegrityError, UnsafeInput) as error:
            return Fault(BROKEN, name, error.message)
        return None if action.key == key else Fault(MISPLACED, name, f"it is the result of the action {action.key}")

    listed = ((item.name, item.size) for item in store.backend.list("actions"))
    found.faults += [fault for fault in pool.run(check, listed, workers=jobs) if fault is not None]


def _classified(fault: Fault, found: Survey) -> Fault:
    """Corrupt bytes that are another object of the store are misplaced."""
    if fault.problem == CORRUPT and fault.found and (fault.found in found.loose or fault.found in found.good):
        return fault._replace(problem=MISPLACED, text=f"the bytes are those of another object, {fault.found.hex()}")
    return fault


def _made_good(fault: Fault, found: Survey) -> bool:
    """Whether an object that is missing in one place is there in another: nobody misses it."""
    return fault.problem == MISSING and bool(fault.id) and fault.id in found.good


def _loose_name(store: Store, key: bytes) -> str:
    return object_name(f"{store.algorithm}:{key.hex()}")


def _vanished(store: Store, name: str) -> bool:
    return store.backend.size(name) is None


def _kind_of(error: DvcxError) -> str:
    """What a file that could not be read to its end is. What is only forbidden is no damage: that is raised."""
    if isinstance(error, DiskRefused):
        cause = error.__cause__
        if not (isinstance(cause, OSError) and cause.errno == errno.EIO):
            raise error
        return UNREADABLE
    if isinstance(error, RemoteFailed):
        raise error
    return BROKEN


def looks_like_tree(data: bytes) -> bool:
    """Whether the bytes are those of a tree: what an index made anew says of a loose object."""
    if not data.startswith(TREE_HEADER):
        return False
    try:
        decode_tree(data, "")
    except (IntegrityError, UnsafeInput):
        return False
    return True


def loose_row(store: Store, key: bytes) -> Loose:
    """The row of an index for a loose object, from its bytes. Raises `IntegrityError` when they are not right."""
    name = _loose_name(store, key)
    found, sealed, size = digest_of(store, name)
    if found != key:
        raise IntegrityError(f"{store.label}: {name}: the bytes are {found.hex()}", "dvcx fsck --repair")
    tree = size <= READ_MOST and looks_like_tree(store.backend.read(name))
    return Loose(key, sealed, KIND_TREE if tree else 0, size)
