"""Carrying out a collection: what is there and how old, packs written anew without what is dead, files moved to the trash.

Nothing here decides. What goes is moved to trash/<date>/ under the name it had; order makes every moment a whole store:
new packs, the index that names them, then the old indexes, packs and objects.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dvcx.core.chunking import Recipe, decode_recipe, unpacked
from dvcx.core.collecting import Alone, Packed, Sweep, is_own, small_indexes, trash_name, trashed
from dvcx.core.objects import ALGORITHMS, Digest
from dvcx.core.packing import (
    KIND_RECIPE,
    PACK_SIZE,
    Frame,
    IndexContent,
    Loose,
    PackInfo,
    decode_index,
    encode_index,
    merge_ranges,
    split_index,
)
from dvcx.errors import IntegrityError, NotFound, RemoteFailed, UnsafeInput, disk_refused
from dvcx.io.hashing import Hasher, digest, mismatch, seal, xxh128
from dvcx.io.store import fresh
from dvcx.io.store.packfile import OpenPack, fresh_name, move_into
from dvcx.io.store.store import MAX_INDEX, Store, object_name, pack_name, read_pack_table

_SHARD = re.compile(r"[0-9a-f]{2}")
GAP, MOST = 1 << 20, 16 << 20


def _nobody() -> None:
    """Nobody waits for signs of life."""


class File(NamedTuple):
    """One file of a store: its name there, bytes, when it was last written or used."""

    name: str
    size: int
    newest: float


@dataclass(frozen=True, slots=True)
class Inventory:
    """All files of a store by what they are; `packs` by hex name. Read from the listing now; the age counts use as well."""

    loose: list[Alone]
    packs: dict[str, File]
    indexes: dict[str, int]
    actions: list[File] = field(default_factory=list)
    trash: list[File] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of objects, packs and indexes."""
        packs = sum(pack.size for pack in self.packs.values())
        return sum(item.size for item in self.loose) + packs + sum(self.indexes.values())


def inventory(store: Store, beat: Callable[[], None] = _nobody) -> Inventory:
    """What is in the store; `beat` is called as it goes on. Raises when a listing fails: it never reads as empty."""
    store.sync(again=True)
    beat()
    used = fresh.used(store)
    loose = list(_loose(store, beat) if store.local is None else _loose_here(store))
    if used:
        loose = [item._replace(newest=max(item.newest, used.get(item.id.hex(), 0.0))) for item in loose]
    packs = {}
    for file in _files(store, "packs", beat):
        if is_own(file.name):
            digits = file.name[9:-5]
            packs[digits] = file._replace(newest=max(file.newest, used.get(digits, 0.0)))
    indexes = {file.name: file.size for file in _files(store, "index", beat) if is_own(file.name)}
    actions = [file for file in _files(store, "actions", beat) if is_own(file.name)]
    trash = [file for file in _files(store, "trash", beat) if trashed(file.name)]
    return Inventory(loose, packs, indexes, actions, trash)


def _loose(store: Store, beat: Callable[[], None]) -> Iterator[Alone]:
    width = 2 * ALGORITHMS[store.algorithm]
    for file in _files(store, "objects", beat):
        digits = file.name[8:10] + file.name[11:]
        if len(digits) == width and is_own(file.name):
            yield Alone(bytes.fromhex(digits), file.size, file.newest)


def _loose_here(store: Store) -> Iterator[Alone]:
    """The same for a directory, where there may be a million of them: one look at each, and no more than that."""
    assert store.local is not None
    width = 2 * ALGORITHMS[store.algorithm] - 2
    objects = store.local.path("objects")
    next(store.local.list("objects/none"), None)  # says so when the whole store is not there
    for shard in _names(objects):
        path = f"{objects}/{shard}"
        if not _SHARD.fullmatch(shard) or os.path.islink(path) or not os.path.isdir(path):
            continue
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    name = entry.name
                    # As in `is_own`: hex digits in lower case and nothing else.
                    if len(name) != width or name.strip("0123456789abcdef"):
                        continue
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode):
                        yield Alone(bytes.fromhex(shard + name), found.st_size, fresh.newest(found))
        except OSError as error:
            raise disk_refused(error, "listing", path) from None


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise disk_refused(error, "listing", directory) from None


def _files(store: Store, prefix: str, beat: Callable[[], None]) -> Iterator[File]:
    if store.local is None:
        for number, item in enumerate(store.backend.list(prefix)):
            if not number % 1000:
                beat()
            if item.modified <= 0:
                raise RemoteFailed(
                    f"{store.label}: its listing does not tell when {item.name} was written",
                    "this kind of remote cannot be collected; collect it where it is a directory",
                )
            yield File(item.name, item.size, item.modified)
        return
    for item in store.local.list(prefix):
        try:
            found = os.lstat(store.local.path(item.name))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise disk_refused(error, "looking at it", store.local.path(item.name)) from None
        yield File(item.name, found.st_size, fresh.newest(found))


def reach_chunks(store: Store, live: set[bytes]) -> None:
    """Add to `live` the chunks of the blobs in it that are in the store as recipes."""
    width = ALGORITHMS[store.algorithm]
    needed = [recipe for recipe in store.catalog.each_recipe() if recipe.id in live]
    for recipe in needed:
        live.update(key for key, _ in unpacked(recipe.chunks, width))


def weigh(store: Store, packs: Mapping[str, File], stays: Callable[[bytes], bool]) -> list[Packed]:
    """How much of each pack stays, by the catalog."""
    counts: dict[str, list[int]] = {name: [0, 0, 0] for name in packs}
    for pack, key, stored, _ in store.catalog.everything():
        row = counts.get(pack)
        if row is None:
            continue
        if stays(key):
            row[0] += 1
        else:
            row[1] += 1
            row[2] += stored
    # A pack no index names: in a cache the spare bytes of a killed writer; on a remote it may be on its way.
    named = store.catalog.packs()
    return [
        Packed(name, packs[name].size, packs[name].newest, *row)
        for name, row in counts.items()
        if store.is_cache or name in named
    ]


def examine(
    store: Store, sweep: Sweep, stays: Callable[[bytes], bool], beat: Callable[[], None] = _nobody
) -> tuple[Sweep, dict[str, list[Frame]]]:
    """The same decision after reading the tables of the packs that go: what in each has to be copied.

    The catalog is only a memory: no pack goes before its own table was read. A pack that holds more than was thought
    is rewritten instead. Raises `IntegrityError` for a table that is broken.
    """
    going = {pack.name for pack in (*sweep.packs, *sweep.repack)}
    kept: dict[str, list[Frame]] = {}
    taken: set[tuple[bytes, int]] = set()
    whole: list[Packed] = []
    again: list[Packed] = []
    for pack in (*sweep.packs, *sweep.repack):
        beat()
        frames = _table(store, pack)
        needed = [frame for frame in frames if stays(frame.id)]
        places = store.catalog.find([frame.id for frame in needed if frame.kind != KIND_RECIPE])
        copied = []
        for frame in needed:
            key = (frame.id, KIND_RECIPE if frame.kind == KIND_RECIPE else 0)
            place = places.get(frame.id) if frame.kind != KIND_RECIPE else None
            elsewhere = place is not None and place.pack and place.pack != pack.name and place.pack not in going
            if not elsewhere and key not in taken:
                taken.add(key)
                copied.append(frame)
        dead = [frame for frame in frames if not stays(frame.id)]
        fixed = pack._replace(live=len(copied), dead=len(dead), dead_bytes=pack.size - sum(frame.stored for frame in copied))
        if copied:
            kept[pack.name] = copied
            again.append(fixed)
        else:
            whole.append(fixed)
    return replace(sweep, packs=tuple(whole), repack=tuple(again)), kept


def _table(store: Store, pack: Packed) -> list[Frame]:
    try:
        return read_pack_table(store.backend, pack_name(pack.name), pack.size, f"{store.label}: {pack_name(pack.name)}")
    except IntegrityError as error:
        raise IntegrityError(
            f"{error.message}; what is in it is not known, so nothing was collected", "dvcx fsck --repair, then run it again"
        ) from None


def carry_out(
    store: Store,
    sweep: Sweep,
    kept: Mapping[str, list[Frame]],
    there: Inventory,
    *,
    day: str,
    scratch: str,
    fsync: str,
    actions: Collection[str] = (),
    discard: Callable[[str], None] | None = None,
    moved: Callable[[int, int], None] = lambda files, size: None,
) -> list[str]:
    """Do what was decided; names of the files that were moved away. `discard` takes them instead of the trash.

    `moved` hears how many files and bytes went, and of none at all now and then while packs are written anew.

    Raises `IntegrityError` when something to be copied is corrupt: then nothing was moved.
    """
    going = {pack_name(pack.name) for pack in (*sweep.packs, *sweep.repack)}
    loose = [object_name(f"{store.algorithm}:{item.id.hex()}") for item in sweep.loose]
    indexes = _affected(store, there, {pack.name for pack in (*sweep.packs, *sweep.repack)}, {item.id for item in sweep.loose})
    recipes = {(recipe.id, recipe.seal): recipe for content in indexes.values() for recipe in content.recipes}
    fresh_packs = _repack(store, kept, recipes, scratch, fsync, lambda: moved(0, 0))
    for pack in fresh_packs:
        going.discard(pack_name(pack.name.hex()))
    old = set(indexes)
    if indexes or fresh_packs:
        old -= _reindex(store, indexes.values(), fresh_packs, recipes, going, {item.id for item in sweep.loose})
    names = [*sorted(old), *sorted(going), *loose, *actions]
    sizes = {**there.indexes, **{pack_name(name): file.size for name, file in there.packs.items()}}
    for name in names:
        if discard is not None:
            discard(name)
        else:
            with contextlib.suppress(NotFound):  # a crashed run may have moved it, or a pusher replaced an index
                store.backend.move(name, trash_name(day, name))
        moved(1, sizes.get(name, 0))
    if store.local is not None:
        store.local.sync()
    if names:
        store.sync(again=True)
    return names


def _affected(store: Store, there: Inventory, packs: set[str], loose: set[bytes]) -> dict[str, IndexContent]:
    """The indexes to be written anew: those that name what goes, and small ones when there are many."""
    found = {}
    together = set(small_indexes(there.indexes.items()))
    if not (packs or together or (loose and not store.is_cache)):
        return {}
    for name in sorted(there.indexes):
        content = _read_index(store, name, there.indexes[name])
        named = any(pack.name.hex() in packs for pack in content.packs)
        if name in together or named or any(item.id in loose for item in content.loose):
            found[name] = content
    return found


def _read_index(store: Store, name: str, size: int) -> IndexContent:
    where = f"{store.label}: {name}"
    if size > MAX_INDEX:
        raise UnsafeInput(f"{where}: larger than {MAX_INDEX} bytes", "this is no index; remove it from the store")
    data = store.backend.read(name, 0, size)
    if f"index/{seal(data).hex()}.index" != name:
        raise IntegrityError(f"{where}: broken: its name is not the digest of its bytes", "remove it and push again")
    return decode_index(data, ALGORITHMS[store.algorithm], xxh128, where)


def _reindex(
    store: Store,
    old: Iterable[IndexContent],
    fresh_packs: list[PackInfo],
    recipes: Mapping[tuple[bytes, bytes], Recipe],
    going: set[str],
    gone: set[bytes],
) -> set[str]:
    """Write one index (of very much: several) in place of old ones, without what goes; the names, none when nothing is left."""
    packs: dict[bytes, PackInfo] = {pack.name: pack for pack in fresh_packs}
    loose: dict[bytes, Loose] = {}
    for content in old:
        packs.update({pack.name: pack for pack in content.packs if pack_name(pack.name.hex()) not in going})
        loose.update({item.id: item for item in content.loose if item.id not in gone})
    held = {(frame.id, frame.seal) for pack in packs.values() for frame in pack.frames if frame.kind == KIND_RECIPE}
    if not packs and not loose:
        return set()
    known = tuple(recipes[key] for key in sorted(held) if key in recipes)
    names = set()
    length = ALGORITHMS[store.algorithm]
    for part in split_index(IndexContent(list(packs.values()), list(loose.values()), known), length, MAX_INDEX):
        data = encode_index(part, length, xxh128)
        names.add(f"index/{seal(data).hex()}.index")
        store.backend.write(f"index/{seal(data).hex()}.index", data)
    return names


def _repack(
    store: Store, kept: Mapping[str, list[Frame]], recipes: dict[tuple[bytes, bytes], Recipe], scratch: str, fsync: str,
    beat: Callable[[], None],
) -> list[PackInfo]:
    """Copy frames into new packs, each verified on its way; where recipes lie they are read for the index."""
    made: list[PackInfo] = []
    pack: OpenPack | None = None
    width = ALGORITHMS[store.algorithm]
    try:
        for name in sorted(kept):
            for frame, stored in _frames(store, name, kept[name]):
                beat()
                _check(store, name, frame, stored, recipes)
                if pack is None:
                    directory = store.local.path("packs") if store.local is not None else scratch
                    pack = OpenPack(fresh_name(directory), width)
                pack.append(frame.id, frame.seal, frame.kind, frame.encoding, stored, frame.size)
                if pack.size >= PACK_SIZE:
                    made.append(_close(store, pack, fsync))
                    pack = None
        if pack is not None:
            made.append(_close(store, pack, fsync))
            pack = None
    finally:
        if pack is not None:
            pack.drop()
    return made


def _frames(store: Store, name: str, frames: list[Frame]) -> Iterator[tuple[Frame, bytes]]:
    for group in merge_ranges(frames, gap=GAP, most=MOST):
        start, end = group[0].offset, max(frame.offset + frame.stored for frame in group)
        view = memoryview(store.backend.read(pack_name(name), start, end - start))
        for frame in group:
            yield frame, bytes(view[frame.offset - start : frame.offset - start + frame.stored])


def _check(store: Store, name: str, frame: Frame, stored: bytes, recipes: dict[tuple[bytes, bytes], Recipe]) -> None:
    where = f"{store.label}: {pack_name(name)}"
    if frame.kind == KIND_RECIPE:
        decode_recipe(stored, ALGORITHMS[store.algorithm], xxh128, where)
        if (frame.id, frame.seal) not in recipes:
            raise IntegrityError(f"{where}: no index tells of its recipe {frame.id.hex()}", "push again from where its file is")
        return
    found = digest(store.decode(frame, memoryview(stored), pack_name(name)), store.algorithm)
    wanted = Digest(f"{store.algorithm}:{frame.id.hex()}", frame.seal.hex())
    if found != wanted:
        raise mismatch(found, wanted, where, store.mending)


def _close(store: Store, pack: OpenPack, fsync: str) -> PackInfo:
    info = pack.finish(sync=fsync != "none")
    name = pack_name(info.name.hex())
    try:
        if store.local is not None:
            move_into(store.local, pack.path, name)
        else:
            store.backend.upload(name, pack.path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(pack.path)
    return info


# The trash


def purge(store: Store, there: Inventory, before: str) -> list[File]:
    """Delete for good what was moved to the trash before a day; the files."""
    gone = expired(there, before)
    for file in gone:
        store.backend.delete(file.name)
    if store.local is not None:
        for day in {file.name.split("/")[1] for file in gone}:
            _remove_empty(store.local.path(f"trash/{day}"))
    return gone


def expired(there: Inventory, before: str) -> list[File]:
    """What in the trash was moved there before a day."""
    return sorted(file for file in there.trash if (trashed(file.name) or ("9", ""))[0] < before)


def bring_back(store: Store, files: Iterable[File], advanced: Callable[[int], None]) -> tuple[list[str], list[str]]:
    """Move files out of the trash to the names they had, objects before indexes; (restored, corrupt).

    Each is read and compared with its name before. What is there again already is left in the trash; so is what is corrupt.
    """
    restored: list[str] = []
    corrupt: list[str] = []
    order = sorted(files, key=lambda file: ((trashed(file.name) or ("", ""))[1].startswith("index/"), file.name))
    for file in order:
        _, name = trashed(file.name) or ("", "")
        if store.backend.size(name) is not None:
            continue
        if not _is_right(store, name, file):
            corrupt.append(file.name)
            continue
        store.backend.move(file.name, name)
        if store.local is not None:
            with contextlib.suppress(OSError):  # another user's: the move itself has set its ctime
                os.utime(store.local.path(name))
        restored.append(name)
        advanced(file.size)
    if store.local is not None:
        store.local.sync()
    store.sync(again=True)
    return restored, corrupt


def _is_right(store: Store, name: str, file: File) -> bool:
    """Whether a file holds what its name promises; a result of an action is checked when it is used."""
    if name.startswith("actions/"):
        return True
    kind = store.algorithm if name.startswith("objects/") else "blake3"
    hasher = Hasher(kind)
    for piece in store.backend.stream(file.name, file.size):
        hasher.update(piece)
    digits = name.rpartition("/")[2].partition(".")[0]
    if name.startswith("objects/"):
        digits = name[8:10] + digits
    return hasher.digest().id == f"{kind}:{digits}"


def _remove_empty(path: str) -> None:
    for base, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(base)
