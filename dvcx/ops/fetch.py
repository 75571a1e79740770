"""fetch: bring what the records need from a remote into the cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.objects import Content, Digest
from dvcx.core.paths import contains
from dvcx.errors import NotFound, display
from dvcx.events import Advanced, Began, Emit, Ended, Warned, ignore
from dvcx.io.filesystem import check_room
from dvcx.io.store import fresh
from dvcx.io.store.store import Store, Wanted
from dvcx.io.store.writer import Writer
from dvcx.ops import records
from dvcx.ops.records import Choice, Tracked
from dvcx.ops.transfer import Needed, Only, damaged, move, needed, not_on, only_at

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class Fetched:
    """What arrived: objects and their bytes; `present` were in the cache already, `repaired` replaced corrupt ones.

    `listings` of the objects are those of directories.
    """

    remote: str
    objects: int
    bytes: int
    present: int
    repaired: int
    listings: int = 0


def fetch(
    project: Project,
    targets: Sequence[str] = (),
    *,
    globs: Sequence[str] = (),
    remote: str = "",
    jobs: int = 0,
    emit: Emit = ignore,
) -> Fetched:
    """Bring the objects that targets (all without any) need and the cache lacks; verified for size, id and seal.

    `globs` name recorded paths instead; of recorded directories only the listings of those that can hold a match are read.
    Raises `NotFound` naming the path of an object that is in neither place, `IntegrityError`, `RemoteFailed`.
    """
    chosen = records.choice(targets, globs)
    tracked = records.load(project)
    with project.cache_writer_lock("dvcx fetch", emit):
        return _fetch(project, tracked, chosen, remote, jobs, emit)


def _fetch(project: Project, tracked: Tracked, chosen: records.Choice, remote: str, jobs: int, emit: Emit) -> Fetched:
    cache = project.cache(emit, write=True)
    try:
        return bring(project, tracked, chosen, cache, remote=remote, jobs=jobs, emit=emit)
    finally:
        cache.close()


def bring(
    project: Project,
    tracked: Tracked,
    chosen: Choice,
    cache: Store,
    *,
    remote: str,
    jobs: int,
    repair: bool = False,
    emit: Emit,
) -> Fetched:
    """The work of `fetch`. `repair` also reads what the cache has, and replaces what is corrupt."""
    total = [0, 0, 0, 0, 0]
    used = []
    met = chosen.globs is None
    for name, contents in _by_remote(project, tracked, chosen, remote).items():
        used.append(name)
        store = project.remote(name, emit)
        try:
            emit(Began("listing objects"))
            found = _needed(contents, tracked, chosen, cache, store)
            met = met or found.met
            counts = bring_objects(project, store, cache, found, jobs or project.jobs, repair=repair, emit=emit)
        finally:
            store.close()
        total = [a + b for a, b in zip(total, counts, strict=True)]
    if not met and chosen.globs is not None:
        raise records.nothing_named(chosen.globs)
    return Fetched(", ".join(used), *total)


def _by_remote(project: Project, tracked: Tracked, chosen: Choice, asked: str) -> dict[str, dict[str, Content]]:
    """Recorded contents by the remote to ask: the one asked for, a pointer's own, the default."""
    grouped: dict[str, dict[str, Content]] = {}
    if not asked and not chosen.targets and not tracked.contents():
        return {}
    globs = chosen.globs
    contents = records.select(tracked, chosen.targets) if globs is None else records.within_reach(tracked, globs)
    for path, content in contents.items():
        owner = records.owner_of(tracked, path)
        own = tracked.pointers[owner][1].remote if owner in tracked.pointers else ""
        name = project.remote_name(asked or own)
        grouped.setdefault(name, {})[path] = content
    return grouped


def bring_objects(
    project: Project,
    store: Store,
    cache: Store,
    found: Needed,
    jobs: int,
    *,
    repair: bool = False,
    emit: Emit,
) -> list[int]:
    """Bring from one remote what is needed and the cache lacks.

    Objects and bytes brought, objects there already, repaired ones, and how many of those brought are listings.
    """
    objects, trees = found.objects, found.trees
    absent = cache.missing(objects)
    emit(Ended("listing objects"))
    fresh.freshen(cache, fresh.keys_of([item.id for item in set(objects).difference(absent)]))
    corrupt = _corrupt(objects, absent, cache, jobs, emit) if repair else sorted(found.corrupt)
    size = sum(item.size for item in (*absent, *corrupt) if item.size > 0)
    if not absent and not corrupt:
        return [0, 0, len(objects), 0, 0]
    check_room(project.cache_dir, size, "the objects to fetch")
    with project.cache_writer_lock("dvcx fetch", emit):
        emit(Began("fetching", len(absent) + len(corrupt), size))
        with project.writer(cache, advanced=_told(emit)) as writer:
            for item in absent:
                if item in trees:
                    writer.put(Digest(item.id, item.seal), trees[item], tree=True)
            rest = [item for item in absent if item not in trees]
            move(rest, store, writer, jobs=jobs, lacking=not_on(store, objects), emit=emit)
            for item in corrupt:
                _replace(item, store, cache, writer, objects[item], emit)
            summary = writer.commit()
        emit(Ended("fetching"))
    listings = sum(item.tree for item in absent)
    return [summary.objects, summary.bytes, len(objects) - len(absent) - len(corrupt), len(corrupt), listings]


def _told(emit: Emit) -> Callable[[int], None]:
    return lambda count: emit(Advanced(0, count))


def _needed(contents: dict[str, Content], tracked: Tracked, chosen: Choice, cache: Store, store: Store) -> Needed:
    """Objects to bring: of a path inside a tracked directory only that part, and the listings on the way to it."""
    recorded = tracked.contents()
    globs = chosen.globs
    whole: dict[str, Content] = {}
    parts: list[tuple[str, str, Content, Only]] = []
    for path, content in contents.items():
        if globs is not None and not globs.names(path):
            parts.append((path, path, content, Only(globs.names, globs.leads)))
        elif recorded.get(path) == content:
            whole[path] = content
        else:
            owner = next(known for known in recorded if contains(known, path))
            parts.append((path, owner, content, only_at(path)))
    found = needed(whole, cache, store)
    objects, trees, corrupt, met = dict(found.objects), dict(found.trees), set(found.corrupt), bool(whole)
    for path, owner, content, only in parts:
        part = needed({owner: content}, cache, store, only=only)
        if globs is None and not part.met:
            raise NotFound(f"{display(path)} is not in '{display(owner)}' as recorded", f"dvcx list {display(owner)}")
        met = met or part.met
        objects.update(part.objects)
        trees.update(part.trees)
        corrupt.update(part.corrupt)
    return Needed(objects, trees, frozenset(corrupt), met)


def _corrupt(objects: Mapping[Wanted, str], absent: list[Wanted], cache: Store, jobs: int, emit: Emit) -> list[Wanted]:
    emit(Began("verifying the cache", len(objects) - len(absent)))
    found = damaged(set(objects).difference(absent), cache, jobs=jobs)
    emit(Ended("verifying the cache"))
    return found


def _replace(item: Wanted, store: Store, cache: Store, writer: Writer, path: str, emit: Emit) -> None:
    where = cache.quarantine(item.id)
    kept = f"; the bad copy is kept as {where}" if where else ""
    emit(Warned(f"the cache's copy of {item.id} (for '{path}') was corrupt; replaced from {store.label}{kept}"))
    if item.size < 0 or item.size <= 64 << 20:
        writer.replace(Digest(item.id, item.seal), store.read(item))
    else:
        writer.receive(item, store)
