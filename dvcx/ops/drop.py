"""drop: free the disk of data that a remote holds; pull brings it back."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.collecting import Alone, Packed, Sweep
from dvcx.core.objects import DIR, TREE, Content, digest_bytes, entry_content
from dvcx.core.packing import Frame
from dvcx.core.paths import contains, join, several
from dvcx.core.plans import Placement, plan_placement
from dvcx.errors import Conflict, IntegrityError, NotFound, UsageError, display
from dvcx.events import Advanced, Began, Emit, Ended, ignore
from dvcx.io.files import private_directory
from dvcx.io.statindex import StatIndex
from dvcx.io.store import fresh, marks, sweep
from dvcx.io.store.store import Store, Wanted, wanted
from dvcx.io.workspace import Rules
from dvcx.ops import placed, records
from dvcx.ops.checkout import entry_of
from dvcx.ops.looking import observe, stored_trees, workspace_trees
from dvcx.ops.placing import delete, unsaved
from dvcx.ops.reachable import find_roots, reach
from dvcx.ops.records import Tracked
from dvcx.ops.transfer import damaged, needed
from dvcx.ops.unprotect import free

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class DroppedItem:
    """A path whose data left this machine, or its cache: the remote that holds it, and how many files went from the workspace."""

    path: str
    remote: str
    deleted: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """What left the cache, or would: objects and bytes on its disk; `shared` are needed by other tracked paths and stay."""

    items: tuple[DroppedItem, ...]
    objects: int
    bytes: int
    shared: int
    verified: bool
    dry_run: bool


def drop(
    project: Project,
    targets: Sequence[str],
    *,
    workspace: bool = False,
    verify: bool = False,
    remote: str = "",
    dry_run: bool = False,
    emit: Emit = ignore,
) -> Dropped:
    """Take the recorded data of targets out of the cache, with `workspace` also the files, when a remote holds all of it.

    The remote is listed now, with `verify` everything is read back from it. Listings of directories stay. Raises `NotFound`
    naming what is not there, `IntegrityError` for what is not right there, `Busy` while a collection of the remote is under
    way, `Conflict` for files with changes that were never recorded; then nothing was touched.
    """
    targets = several(targets)
    if not targets:
        raise UsageError("nothing was named", "dvcx drop PATH")
    with project.lock("dvcx drop", emit), project.cache_collector_lock("dvcx drop", emit):
        tracked = records.load(project)
        cache = project.cache(emit)
        index = project.stat_index(emit)
        try:
            rules = project.rules()
            read = stored_trees(cache)
            chosen = {
                path: entry_content(entry_of(tracked, read, path, content))
                for path, content in records.select(tracked, targets).items()
            }
            objects, remotes = _on_remotes(project, tracked, chosen, cache, remote, verify=verify, dry_run=dry_run, emit=emit)
            elsewhere = _needed_elsewhere(project, tracked, chosen, cache, emit)
            blobs = {digest_bytes(item.id) for item in objects if not item.tree}
            plan, kept, there = _plan(cache, blobs - elsewhere)
            deletions = _deletions(project, chosen, objects, cache, index, rules, emit) if workspace else {}
            if not dry_run:
                # What goes with the files was not deleted by anybody: it counts as not pulled from now on.
                placed.forget(project, tracked, list(deletions))
                _carry_out(project, cache, index, rules, chosen, deletions, plan, kept, there, workspace=workspace, emit=emit)
        finally:
            index.flush()
            index.close()
            cache.close()
    items = [DroppedItem(path, remotes[path], len(deletions[path].removed) if path in deletions else 0) for path in chosen]
    items.sort(key=lambda item: item.path)
    return Dropped(tuple(items), plan.objects, plan.bytes, len(blobs & elsewhere), verify, dry_run)


# A remote holds it


def _on_remotes(
    project: Project,
    tracked: Tracked,
    chosen: Mapping[str, Content],
    cache: Store,
    asked: str,
    *,
    verify: bool,
    dry_run: bool,
    emit: Emit,
) -> tuple[dict[Wanted, str], dict[str, str]]:
    """All objects of the chosen paths, and the remote that holds each path's; no collection may take them there any more."""
    objects: dict[Wanted, str] = {}
    remotes = {path: _remote_of(project, tracked, path, asked) for path in chosen}
    for name in sorted(set(remotes.values())):
        store = project.remote(name, emit)
        try:
            emit(Began("asking the remote"))
            mine = dict(needed({path: chosen[path] for path in chosen if remotes[path] == name}, cache, store).objects)
            absent = store.missing(mine)
            emit(Ended("asking the remote"))
            if absent:
                raise _not_there(store, mine, absent)
            if verify:
                emit(Began("reading it back", len(mine)))
                bad = damaged(mine, store, jobs=project.jobs)
                emit(Ended("reading it back"))
                if bad:
                    raise IntegrityError(
                        f"'{display(mine[bad[0]])}': {store.label} holds wrong bytes for {bad[0].id}; nothing was dropped",
                        "keep what is here; find out what happened to the remote",
                    )
            if not dry_run:
                marks.hold(store, fresh.keys_of([item.id for item in mine]))
            objects.update(mine)
        finally:
            store.close()
    return objects, remotes


def _remote_of(project: Project, tracked: Tracked, path: str, asked: str) -> str:
    owner = records.owner_of(tracked, path)
    own = tracked.pointers[owner][1].remote if owner in tracked.pointers else ""
    return project.remote_name(asked or own)


def _not_there(store: Store, objects: Mapping[Wanted, str], absent: Sequence[Wanted]) -> NotFound:
    paths = sorted({objects[item] for item in absent})
    more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
    return NotFound(
        f"'{display(paths[0])}'{more}: {len(absent):,} of {len(objects):,} objects are not on {store.label}; nothing was dropped",
        "send them first: dvcx push",
    )


# Others need it


def _needed_elsewhere(
    project: Project, tracked: Tracked, chosen: Mapping[str, Content], cache: Store, emit: Emit
) -> set[bytes]:
    """Raw ids that other tracked paths, other work trees and other projects with this cache need now."""
    found = find_roots(project, history=False, without=project.root, emit=emit)
    live, _ = reach(found, [cache], force=True, emit=emit)
    read = stored_trees(cache)
    for path, content in tracked.contents().items():
        if any(contains(target, path) for target in chosen):
            continue
        todo = [(path, content)]
        while todo:
            here, content = todo.pop()
            live.add(digest_bytes(content.id))
            if content.kind != TREE:
                continue
            try:
                entries = read(here, content)
            except NotFound:
                continue  # what was never fetched holds nothing here
            for entry in entries:
                name = join(here, entry.name)
                if any(contains(target, name) for target in chosen):
                    continue
                if entry.kind == DIR:
                    todo.append((name, entry_content(entry)))
                else:
                    live.add(digest_bytes(entry.id))
    return live


# What goes


def _plan(cache: Store, going: set[bytes]) -> tuple[Sweep, dict[str, list[Frame]], sweep.Inventory]:
    there = sweep.inventory(cache)
    packs, _ = cache.catalog.packs_of(going)
    loose = tuple(Alone(item.id, item.size, 0.0) for item in there.loose if item.id in going)
    again = tuple(Packed(name, there.packs[name].size, 0.0, 0, 0, 0) for name in sorted(packs) if name in there.packs)
    plan, kept = sweep.examine(cache, Sweep(loose=loose, repack=again), lambda key: key not in going)
    return plan, kept, there


def _deletions(
    project: Project,
    chosen: Iterable[str],
    objects: Container[Wanted],
    cache: Store,
    index: StatIndex,
    rules: Rules,
    emit: Emit,
) -> dict[str, Placement]:
    """What takes the files away; `Conflict` for one that is neither in the cache nor one of the `objects` a remote has."""
    plans = {}
    read = workspace_trees(index)
    for path, now in observe(project, chosen, index=index, rules=rules, emit=emit).items():
        plans[path] = Placement()
        if now is not None:
            plan_placement(path, now, None, read, stored_trees(cache), plans[path])
        lost = [item for item in unsaved(cache, plans[path].overwritten) if wanted(item[1]) not in objects]
        if lost:
            more = f" and {len(lost) - 1:,} more" if len(lost) > 1 else ""
            raise Conflict(
                f"{display(lost[0][0])}{more}: has changes that were never recorded; nothing was dropped",
                f"record them: dvcx commit {display(path)}, then push; or leave out --workspace",
            )
    return plans


def _carry_out(
    project: Project,
    cache: Store,
    index: StatIndex,
    rules: Rules,
    chosen: Mapping[str, Content],
    deletions: Mapping[str, Placement],
    plan: Sweep,
    kept: dict[str, list[Frame]],
    there: sweep.Inventory,
    *,
    workspace: bool,
    emit: Emit,
) -> None:
    if not workspace and set(project.links) & {"hardlink", "symlink"}:
        free(project, cache, index, rules, chosen, emit=emit)
    for deletion in deletions.values():
        delete(project, deletion, emit=emit)
    private = f"{project.state_dir}/tmp"
    private_directory(private)
    emit(Began("dropping", plan.objects, plan.bytes))
    sweep.carry_out(
        cache,
        plan,
        kept,
        there,
        day=fresh.day(0),
        scratch=private,
        fsync=project.fsync,
        discard=cache.backend.delete,
        moved=lambda files, size: emit(Advanced(files, size)),
    )
    emit(Ended("dropping"))
