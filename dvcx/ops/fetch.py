"""fetch: bring what the records need from a remote into the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.objects import Content, Digest
from dvcx.core.paths import contains, several
from dvcx.events import Advanced, Began, Emit, Ended, Warned, ignore
from dvcx.io.store.store import Store, Wanted
from dvcx.io.store.writer import Writer
from dvcx.ops import records
from dvcx.ops.records import Tracked
from dvcx.ops.transfer import damaged, move, needed, not_on

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class Fetched:
    """What arrived: objects and their bytes; `present` were in the cache already, `repaired` replaced corrupt ones."""

    remote: str
    objects: int
    bytes: int
    present: int
    repaired: int


def fetch(project: Project, targets: Sequence[str] = (), *, remote: str = "", jobs: int = 0, emit: Emit = ignore) -> Fetched:
    """Bring the objects that targets (all without any) need and the cache lacks; verified for size, id and seal.

    Raises `NotFound` naming the path of an object that is in neither place, `IntegrityError`, `RemoteFailed`.
    """
    targets = several(targets)
    tracked = records.load(project)
    cache = project.cache(emit, write=True)
    try:
        return bring(project, tracked, targets, cache, remote=remote, jobs=jobs, emit=emit)
    finally:
        cache.close()


def bring(
    project: Project,
    tracked: Tracked,
    targets: Sequence[str],
    cache: Store,
    *,
    remote: str,
    jobs: int,
    repair: bool = False,
    emit: Emit,
) -> Fetched:
    """The work of `fetch`. `repair` also reads what the cache has, and replaces what is corrupt."""
    total = [0, 0, 0, 0]
    used = []
    for name, contents in _by_remote(project, tracked, targets, remote).items():
        used.append(name)
        store = project.remote(name, emit)
        try:
            counts = _bring_from(project, store, cache, contents, tracked, jobs or project.jobs, repair=repair, emit=emit)
        finally:
            store.close()
        total = [a + b for a, b in zip(total, counts, strict=True)]
    return Fetched(", ".join(used), *total)


def _by_remote(project: Project, tracked: Tracked, targets: Sequence[str], asked: str) -> dict[str, dict[str, Content]]:
    """Recorded contents by the remote to ask: the one asked for, a pointer's own, the default."""
    grouped: dict[str, dict[str, Content]] = {}
    if not asked and not targets and not tracked.contents():
        return {}
    for path, content in records.select(tracked, targets).items():
        owner = records.owner_of(tracked, path)
        own = tracked.pointers[owner][1].remote if owner in tracked.pointers else ""
        name = project.remote_name(asked or own)
        grouped.setdefault(name, {})[path] = content
    return grouped


def _bring_from(
    project: Project,
    store: Store,
    cache: Store,
    contents: dict[str, Content],
    tracked: Tracked,
    jobs: int,
    *,
    repair: bool,
    emit: Emit,
) -> list[int]:
    emit(Began("listing objects"))
    objects, trees, bad = _needed(contents, tracked, cache, store)
    absent = cache.missing(objects)
    emit(Ended("listing objects"))
    corrupt = _corrupt(objects, absent, cache, jobs, emit) if repair else sorted(bad)
    size = sum(item.size for item in (*absent, *corrupt) if item.size > 0)
    if not absent and not corrupt:
        return [0, 0, len(objects), 0]
    with project.cache_writer_lock("dvcx fetch", emit):
        emit(Began("fetching", len(absent) + len(corrupt), size))
        packing = project.config.get("cache.pack") != "never"
        advanced = _told(emit)
        with Writer(cache, "", packing=packing, fsync=project.fsync, advanced=advanced) as writer:
            for item in absent:
                if item in trees:
                    writer.put(Digest(item.id, item.seal), trees[item], tree=True)
            rest = [item for item in absent if item not in trees]
            move(rest, store, writer, jobs=jobs, lacking=not_on(store, objects), emit=emit)
            for item in corrupt:
                _replace(item, store, cache, writer, objects[item], emit)
            summary = writer.commit()
        emit(Ended("fetching"))
    return [summary.objects, summary.bytes, len(objects) - len(absent) - len(corrupt), len(corrupt)]


def _told(emit: Emit) -> Callable[[int], None]:
    return lambda count: emit(Advanced(0, count))


def _needed(
    contents: dict[str, Content], tracked: Tracked, cache: Store, store: Store
) -> tuple[dict[Wanted, str], dict[Wanted, bytes], set[Wanted]]:
    """Objects to bring: of a path inside a tracked directory only that part, and the listings on the way to it."""
    objects: dict[Wanted, str] = {}
    trees: dict[Wanted, bytes] = {}
    corrupt: set[Wanted] = set()
    recorded = tracked.contents()
    whole = {path: content for path, content in contents.items() if recorded.get(path) == content}
    found = needed(whole, cache, store)
    objects.update(found.objects)
    trees.update(found.trees)
    corrupt.update(found.corrupt)
    for path, content in contents.items():
        if path not in whole:
            owner = next(known for known in recorded if contains(known, path))
            part = needed({owner: content}, cache, store, only=path)
            objects.update(part.objects)
            trees.update(part.trees)
            corrupt.update(part.corrupt)
    return objects, trees, corrupt


def _corrupt(objects: dict[Wanted, str], absent: list[Wanted], cache: Store, jobs: int, emit: Emit) -> list[Wanted]:
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
