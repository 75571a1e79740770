"""Mending a store: damaged files go to its quarantine, good copies come from wherever they are, indexes are made anew.

Bad bytes are kept first, then good copies come, then the index that names them; last goes what is bad, where nothing took its
place. Killed anywhere, the next run goes on.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from dvcx.core.chunking import Recipe
from dvcx.core.objects import ALGORITHMS, Digest, digest_bytes
from dvcx.core.packing import KIND_RECIPE, KIND_TREE, Frame, IndexContent, Loose, PackInfo, encode_index, split_index
from dvcx.errors import DiskRefused, IntegrityError, NotFound, UnsafeInput
from dvcx.events import Began, Emit, Ended, ignore
from dvcx.io.hashing import digest, digest_file, seal, xxh128
from dvcx.io.store.quarantine import preserve, quarantine
from dvcx.io.store.store import MAX_INDEX, Store, Wanted, object_name, pack_name
from dvcx.io.store.verify import (
    FORGED,
    MISSING,
    UNREADABLE,
    Survey,
    digest_of,
    is_whole,
    loose_row,
    read_frames,
    read_table,
    recipes_in,
)
from dvcx.io.store.writer import Writer
from dvcx.ops.naming import remembered_trees
from dvcx.ops.transfer import move

if TYPE_CHECKING:
    from dvcx.project import Project

IN_MEMORY = 64 << 20
ENTRIES = 200_000
"""An index made anew names about so many objects."""


@dataclass(slots=True)
class Lost:
    """An object to be brought back. `seal` "" where nobody knows it, `size` -1; `paths` in the workspace may still hold it."""

    id: str
    seal: str = ""
    size: int = -1
    tree: bool = False
    paths: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Mended:
    """Where damaged files are now, by their name in the store; where good copies came from, by raw id.

    `left` are raw ids of what stays until a right copy comes: bytes whose id is right and whose seal is not what it should be,
    and what a remote fails to give.
    """

    kept: dict[str, str] = field(default_factory=dict)
    came: dict[bytes, str] = field(default_factory=dict)
    left: set[bytes] = field(default_factory=set)


def mend(
    project: Project,
    store: Store,
    found: Survey,
    lost: Mapping[bytes, Lost],
    sources: Callable[[], Iterator[Store]],
    *,
    jobs: int,
    compress: bool,
    scratch: str,
    emit: Emit,
) -> Mended:
    """Do it. `lost` is what should be in the store and is not right there; `sources` opens the stores to ask, best first."""
    emit(Began("repairing", len(lost)))
    done = Mended()
    stash = _set_aside(store, found, done, scratch)
    for pack in found.broken:
        done.kept[pack_name(pack)] = preserve(store.backend, pack_name(pack), scratch)
    for index in found.bad_indexes:
        done.kept[index] = preserve(store.backend, index, scratch)
    store.forget([fault.id for fault in found.faults if fault.id])
    # What only lacks an index that names it needs no copy.
    wanting = {key: item for key, item in lost.items() if key not in found.spare}
    packing = not store.is_cache or project.config.get("cache.pack") != "never"
    with Writer(store, scratch, packing=packing, compress=compress, fsync=project.fsync, mending=True) as writer:
        _keep(store, found, writer, wanting)
        _from_stash(store, writer, wanting, stash, done)
        if store.is_cache:
            _from_workspace(project, store, writer, wanting, done, emit)
        for source in sources():
            if wanting:
                _from_store(source, writer, wanting, done, jobs=jobs)
            source.close()
        if wanting:
            _from_stash(store, writer, wanting, _in_trash(store, wanting), done)
        if wanting:
            _from_stash(store, writer, wanting, _all_kept(store), done)
        _leave(store, found, writer, done)
        writer.commit()
    _take_away(store, found, done)
    _heal(store, found)
    _reindex(store, found, done, scratch, adopt=bool(found.bad_indexes) or any(key in found.spare for key in lost))
    for pack in found.broken:
        store.backend.delete(pack_name(pack))
    store.catalog.clear()
    store.sync(again=True)
    emit(Ended("repairing"))
    return done


def _set_aside(store: Store, found: Survey, done: Mended, scratch: str) -> dict[bytes, str]:
    """Keep the bytes of damaged objects in quarantine, move other files there; where misplaced bytes are now, by raw id.

    An object stays where it is until a good copy takes its place: killed in between, it is still known to be damaged.
    """
    stash: dict[bytes, str] = {}
    for fault in found.faults:
        if fault.problem == UNREADABLE and not store.is_cache:
            done.left.add(fault.id)
            continue
        if fault.problem == MISSING or not fault.name.startswith(("objects/", "actions/")) or fault.name in done.kept:
            continue
        stays = bool(fault.id) and store.backend.size(fault.name) is not None
        with contextlib.suppress(NotFound):
            done.kept[fault.name] = (preserve if stays else quarantine)(store.backend, fault.name, scratch)
            if fault.found:
                stash[fault.found] = done.kept[fault.name]
    return stash


def _take_away(store: Store, found: Survey, done: Mended) -> None:
    """Remove damaged objects that nothing took the place of; their bytes are in quarantine.

    Bytes whose id is right stay unless a right copy came: the record that says another seal may be the forgery.
    """
    for fault in found.faults:
        if not fault.id or fault.name not in done.kept or not fault.name.startswith("objects/"):
            continue
        try:
            key, sealed, _ = digest_of(store, fault.name)
        except NotFound:
            continue
        except DiskRefused:
            key = sealed = b""  # it still cannot be read
        if key == fault.id and fault.seal not in (b"", sealed) and fault.id not in done.came:
            done.left.add(fault.id)
        elif key != fault.id or fault.seal not in (b"", sealed):
            store.backend.delete(fault.name)


def _keep(store: Store, found: Survey, writer: Writer, wanting: dict[bytes, Lost]) -> None:
    """Take what is right in broken packs over into new ones. What turns out to be wrong only now is wanted too."""
    for pack, frames in found.broken.items():
        held = found.recipes.get(pack) or found.spare_recipes.get(pack, ())
        recipes = {(recipe.id, recipe.seal): recipe for recipe in held}
        for frame, data in read_frames(store, pack, frames):
            if frame.kind == KIND_RECIPE:
                recipe = recipes.get((frame.id, frame.seal))
                # Of one that lacks a chunk the whole blob is sent again.
                if data is not None and recipe is not None and frame.id in found.good:
                    writer.keep(frame, data, recipe)
            elif data is not None:
                writer.keep(frame, data)
            elif frame.id not in wanting:
                store.forget([frame.id])
                wanting[frame.id] = _lost(store, frame)


def _leave(store: Store, found: Survey, writer: Writer, done: Mended) -> None:
    """Take over, under the seal they have, objects of broken packs whose id is right, where no right copy came.

    Of a large blob its recipe; its chunks are where they were.
    """
    forged: dict[str, set[bytes]] = {}
    for fault in found.faults:
        if fault.problem == FORGED and fault.name.startswith("packs/") and not (fault.id in done.came or fault.id in found.good):
            forged.setdefault(fault.name, set()).add(fault.id)
    for pack in found.broken:
        wanted = forged.get(pack_name(pack))
        for frame in _table(store, found, pack) if wanted else ():
            if wanted and frame.id in wanted:
                data = _frame_bytes(store, pack, frame)
                sealed, recipe = _seal_of(store, pack, frame, data)
                if sealed:
                    writer.keep(frame._replace(seal=sealed), data, recipe)
                    done.left.add(frame.id)


def _seal_of(store: Store, pack: str, frame: Frame, data: bytes) -> tuple[bytes, Recipe | None]:
    """The seal that a frame's object has, and of a recipe the recipe under that seal; b"" when the id is another."""
    if frame.kind != KIND_RECIPE:
        names = digest(data, store.algorithm)
        return (bytes.fromhex(names.seal) if digest_bytes(names.id) == frame.id else b""), None
    for recipe in recipes_in(store, pack, [frame]):
        with contextlib.suppress(IntegrityError, NotFound):
            names = store.names_of(recipe, {})
            if digest_bytes(names.id) == frame.id:
                return bytes.fromhex(names.seal), recipe._replace(seal=bytes.fromhex(names.seal))
    return b"", None


def _table(store: Store, found: Survey, pack: str) -> Sequence[Frame]:
    try:
        return read_table(store, pack, found.packs[pack])
    except (IntegrityError, NotFound):
        return ()


def _frame_bytes(store: Store, pack: str, frame: Frame) -> bytes:
    """What a frame decodes to, right or wrong; b"" when it does not decode."""
    try:
        stored = store.backend.read(pack_name(pack), frame.offset, frame.stored)
        return bytes(store.decode(frame, memoryview(stored), pack_name(pack)))
    except (IntegrityError, NotFound):
        return b""


def _lost(store: Store, frame: Frame) -> Lost:
    return Lost(f"{store.algorithm}:{frame.id.hex()}", frame.seal.hex(), frame.size, frame.kind == KIND_TREE)


# Where good copies may be


def _from_stash(store: Store, writer: Writer, wanting: dict[bytes, Lost], stash: Mapping[bytes, str], done: Mended) -> None:
    """Bytes that lay under another object's name, or that were moved to quarantine once and are right."""
    for key in [key for key in wanting if key in stash]:
        item, name = wanting[key], stash[key]
        size = store.backend.size(name)
        if size is None or (size > IN_MEMORY and store.local is None):
            continue
        if store.local is not None:
            taken = _ingest(store.local.path(name), item, store, writer)
        else:
            data = store.backend.read(name)
            taken = _is(digest(data, store.algorithm), item)
            if taken:
                writer.put(digest(data, store.algorithm), data, tree=item.tree)
        if taken:
            done.came[key] = f"found as {name}"
            del wanting[key]


def _in_trash(store: Store, wanting: Mapping[bytes, Lost]) -> dict[bytes, str]:
    """Wanted objects that a collector moved to the store's trash, by raw id."""
    names = {object_name(item.id): key for key, item in wanting.items()}
    found = {}
    for item in store.backend.list("trash"):
        key = names.get(item.name.split("/", 2)[-1])
        if key is not None:
            found[key] = item.name
    return found


def _all_kept(store: Store) -> dict[bytes, str]:
    """Every file in the quarantine of a store by the raw id of its bytes."""
    found = {}
    for item in store.backend.list("quarantine"):
        if item.size <= IN_MEMORY or store.local is not None:
            with contextlib.suppress(NotFound, IntegrityError):
                found[digest_of(store, item.name)[0]] = item.name
    return found


def _from_workspace(
    project: Project, store: Store, writer: Writer, wanting: dict[bytes, Lost], done: Mended, emit: Emit
) -> None:
    """The very bytes in a file of the workspace; of a tree, in what the stat index remembers of the directory."""
    index = project.stat_index(emit)
    try:
        for key, item in list(wanting.items()):
            for path in item.paths if item.tree else ():
                data = remembered_trees(index, path).get((item.id, item.seal))
                if data is not None:
                    writer.put(Digest(item.id, item.seal), data, tree=True)
                    done.came[key] = f"from the workspace: {path}"
                    del wanting[key]
                    break
    finally:
        index.close()
    for key, item in list(wanting.items()):
        for path in item.paths:
            if holds(project, path, item):
                taken = _take(project, path, item, store, writer)
                if taken:
                    done.came[key] = f"from the workspace: {path}"
                    del wanting[key]
                    break


def holds(project: Project, path: str, item: Lost) -> bool:
    """Whether the file or link at a path of the workspace has the very bytes of an object."""
    full = f"{project.root}/{path}"
    try:
        if os.path.islink(full):
            return _is(digest(os.fsencode(os.readlink(full)), project.algorithm), item)
        if item.tree or (item.size >= 0 and os.lstat(full).st_size != item.size) or not os.path.isfile(full):
            return False
        return _is(digest_file(full, project.algorithm), item)
    except (OSError, DiskRefused, NotFound):
        return False


def _take(project: Project, path: str, item: Lost, store: Store, writer: Writer) -> bool:
    full = f"{project.root}/{path}"
    if os.path.islink(full):
        writer.put(Digest(item.id, item.seal), os.fsencode(os.readlink(full)))
        return True
    return _ingest(full, item, store, writer)


def _ingest(path: str, item: Lost, store: Store, writer: Writer) -> bool:
    """Copy a local file into the cache, or a local remote, if its bytes are the object's."""
    try:
        if not _is(digest_file(path, store.algorithm), item):
            return False
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, DiskRefused, NotFound):
        return False
    try:
        names, _ = writer.ingest(fd, path)
    finally:
        os.close(fd)
    return names.id == item.id


def _from_store(source: Store, writer: Writer, wanting: dict[bytes, Lost], done: Mended, *, jobs: int) -> None:
    """What another store has of it, every byte verified on the way."""
    items = [item for lost in wanting.values() if (item := _offered(source, lost)) is not None]
    if not items:
        return
    taken: list[Wanted] = []
    try:
        move(items, source, writer, jobs=jobs, lacking=_nothing, emit=ignore)
        taken = items
    except (IntegrityError, NotFound):
        # One of them is no better there: each on its own, then.
        for item in items:
            with contextlib.suppress(IntegrityError, NotFound):
                move([item], source, writer, jobs=1, lacking=_nothing, emit=ignore)
                taken.append(item)
    for item in taken:
        key = digest_bytes(item.id)
        done.came[key] = f"from {source.label}"
        wanting.pop(key, None)


def _offered(source: Store, lost: Lost) -> Wanted | None:
    """The object as this store says it has it; its seal must be the one known, where one is."""
    here = source.have([lost.id]).get(lost.id)
    if here is None or (here and lost.seal and here.hex() != lost.seal):
        return None
    sealed, size = lost.seal or here.hex(), lost.size
    if not sealed:
        return None
    if size < 0 and not lost.tree:
        place = source.catalog.find([digest_bytes(lost.id)]).get(digest_bytes(lost.id))
        if place is not None:
            size = place.size
        elif source.is_loose(lost.id):
            size = os.lstat(source.loose_path(lost.id)).st_size
        else:
            return None
    return Wanted(lost.id, sealed, size, lost.tree)


def _is(found: Digest, item: Lost) -> bool:
    return found.id == item.id and item.seal in ("", found.seal)


def _nothing(absent: list[Wanted]) -> NotFound:
    return NotFound(f"object {absent[0].id} is not there", "dvcx fetch")


# Indexes


def _heal(store: Store, found: Survey) -> None:
    """Packs that were written anew under the name they had, because the same objects came in the same order, are right now."""
    for pack in {*found.broken, *(found.named.keys() - found.packs.keys())}:
        # Of a spoiled one the bytes are right, and mean what is not so.
        size = store.backend.size(pack_name(pack)) if pack not in found.spoiled else None
        if size is not None and is_whole(store, pack, size):
            found.packs[pack] = size
            found.broken.pop(pack, None)


def _reindex(store: Store, found: Survey, done: Mended, scratch: str, *, adopt: bool) -> None:
    """Replace indexes that are damaged or not true any more; name packs and objects that no index names, when `adopt`."""
    sound = {pack: size for pack, size in found.packs.items() if pack not in found.broken}
    told: dict[str, IndexContent] = {}
    old = []
    for index in sorted(found.stale | found.bad_indexes):
        # A bad one may have been written anew by now: a name is that of one content.
        try:
            content = store.read_index(index, store.backend.size(index) or 0)
        except (IntegrityError, UnsafeInput, NotFound):
            old.append(index)
            continue
        if not _is_true(store, found, content, sound, done):
            told[index] = content
            old.append(index)
    if not old and not adopt:
        return
    packs, loose = set(found.spare_packs) if adopt else set(), list(_spare_rows(store, found)) if adopt else []
    for pack, indexes in found.named.items():
        if all(index in old for index in indexes):
            packs.add(pack)
    for content in told.values():
        loose += [row for row in content.loose if row.id in found.loose and (row.id in found.good or row.id in done.left)]
    for index in told.keys() - done.kept.keys():
        with contextlib.suppress(NotFound):
            done.kept[index] = preserve(store.backend, index, scratch)
    written = set()
    length = ALGORITHMS[store.algorithm]
    contents = _contents(store, found, sorted(packs & sound.keys()), loose)
    for content in chain.from_iterable(split_index(content, length, MAX_INDEX) for content in contents):
        data = encode_index(content, length, xxh128)
        written.add(f"index/{seal(data).hex()}.index")
        store.backend.write(f"index/{seal(data).hex()}.index", data)
    for index in old:
        if index not in written:
            store.backend.delete(index)


def _is_true(store: Store, found: Survey, content: IndexContent, sound: Mapping[str, int], done: Mended) -> bool:
    """Whether everything an index says is so."""
    held: set[Recipe] = set()
    for pack in content.packs:
        name = pack.name.hex()
        if sound.get(name) != pack.size or sorted(read_table(store, name, pack.size)) != sorted(pack.frames):
            return False
        held.update(recipes_in(store, name, pack.frames))
    return held == set(content.recipes) and all(
        (row.id in found.loose and (row.id in found.good or row.id in done.left))
        or (row.id in done.came and store.backend.size(object_name(f"{store.algorithm}:{row.id.hex()}")) == row.size)
        for row in content.loose
    )


def _spare_rows(store: Store, found: Survey) -> Iterator[Loose]:
    for key in sorted(found.spare_loose):
        with contextlib.suppress(IntegrityError, NotFound):
            yield loose_row(store, key)


def _contents(store: Store, found: Survey, packs: Sequence[str], loose: list[Loose]) -> Iterator[IndexContent]:
    infos: list[PackInfo] = []
    recipes = []
    entries = 0
    for pack in packs:
        frames = read_table(store, pack, found.packs[pack])
        infos.append(PackInfo(bytes.fromhex(pack), found.packs[pack], frames))
        recipes += recipes_in(store, pack, frames)
        entries += len(frames)
        if entries >= ENTRIES:
            yield IndexContent(infos, [], tuple(recipes))
            infos, recipes, entries = [], [], 0
    if infos or loose:
        yield IndexContent(infos, loose, tuple(recipes))

