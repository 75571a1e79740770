"""gc: move what nothing needs any more out of the cache, or out of a remote, so that it can come back for a week."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from dvcx.core.collecting import DAY, GRACE_DAYS, TRASH_DAYS, Sweep, decide, parse_size
from dvcx.errors import IntegrityError, NotFound, UsageError, display
from dvcx.events import Advanced, Began, Emit, Ended, Warned, ignore
from dvcx.io.files import private_directory
from dvcx.io.store import fresh, sweep
from dvcx.io.store.store import Store
from dvcx.ops import gc_actions, gc_remote, shrinking
from dvcx.ops.collected import Collected, CollectedFile, report
from dvcx.ops.reachable import Asked, find_roots, reach

if TYPE_CHECKING:
    from dvcx.project import Project


def gc(
    project: Project,
    *,
    dry_run: bool = False,
    undo: bool = False,
    all_days: bool = False,
    max_size: str = "",
    remote: str = "",
    grace: int = GRACE_DAYS,
    force: bool = False,
    emit: Emit = ignore,
) -> Collected:
    """Move objects that no record of any revision needs, and that are older than `grace` days, to the trash of the cache.

    `undo` brings the last day's trash back (`all_days`: all of it). `max_size` ("50G") then drops from the cache what was used
    least recently and is on a remote, whether needed or not. `remote` collects that remote instead. Raises, with nothing
    moved, when anything that records need cannot be read; `force` passes over unreadable records of this project.
    """
    if remote and (max_size or force):
        what = "--max-size is about the cache" if max_size else "a remote is never collected with --force"
        raise UsageError(what, f"dvcx gc --remote {display(remote)}")
    if undo and (max_size or force):
        raise UsageError("--undo goes with --remote, --all and --dry-run only", "dvcx gc --undo")
    limit = parse_size(max_size) if max_size else -1
    if undo:
        return _undo(project, remote, all_days=all_days, dry_run=dry_run, emit=emit)
    if remote:
        return gc_remote.collect(project, remote, grace=grace, dry_run=dry_run, emit=emit)
    hold = project.cache_reader_lock if dry_run else project.cache_collector_lock
    with hold("dvcx gc", emit):
        cache = project.cache(emit)
        try:
            return _collect(project, cache, limit, grace=grace, force=force, dry_run=dry_run, emit=emit)
        finally:
            cache.close()


def _collect(project: Project, cache: Store, limit: int, *, grace: int, force: bool, dry_run: bool, emit: Emit) -> Collected:
    now = time.time()
    found = find_roots(project, force=force, emit=emit)
    for root in found.shallow:
        emit(
            Warned(
                f"{display(root)} is a shallow clone: what only older commits need counts as unused",
                "to keep it: git fetch --unshallow; or undo: dvcx gc --undo",
            )
        )
    live, _ = reach(found, [cache], _remotes(project, emit), force=force, emit=emit)
    emit(Began("looking at the cache"))
    there = sweep.inventory(cache)
    sweep.reach_chunks(cache, live)
    stays = live.__contains__
    chosen = decide(there.loose, sweep.weigh(cache, there.packs, stays), live, before=now - grace * DAY)
    chosen, kept = sweep.examine(cache, chosen, stays)
    actions = gc_actions.unusable(cache, there, stays, before=now - grace * DAY, jobs=project.jobs)
    expired = sweep.expired(there, fresh.day(now - TRASH_DAYS * DAY))
    emit(Ended("looking at the cache"))
    result = report(cache, project.cache_dir, chosen, actions, expired, there, now=now, dry_run=dry_run)
    if not dry_run:
        emit(Began("moving to the trash", len(result.files)))
        private = f"{project.state_dir}/tmp"
        private_directory(private)
        sweep.carry_out(
            cache,
            chosen,
            kept,
            there,
            day=result.day,
            scratch=private,
            fsync=project.fsync,
            actions=[file.name for file in actions],
            moved=lambda files, size: emit(Advanced(files, size)),
        )
        sweep.purge(cache, there, fresh.day(now - TRASH_DAYS * DAY))
        fresh.forget(cache, fresh.day(now - fresh.KEPT_DAYS * DAY))
        emit(Ended("moving to the trash"))
    if limit >= 0:
        result = shrinking.shrink_cache(project, cache, result, chosen, limit, dry_run=dry_run, emit=emit)
    return result


def _remotes(project: Project, emit: Emit) -> list[Asked]:
    """The project's remotes, the default one first: listings the cache lacks may be there."""
    default = str(project.config.get("core.remote") or "")
    names = sorted(project.config.remotes(), key=lambda name: (name != default, name))
    return [Asked(f"remote '{name}'", _opening(project, name, emit)) for name in names]


def _opening(project: Project, name: str, emit: Emit) -> Callable[[], Store]:
    return lambda: project.remote(name, emit)


def _undo(project: Project, remote: str, *, all_days: bool, dry_run: bool, emit: Emit) -> Collected:
    if remote:
        store = project.remote(remote, emit)
        try:
            return _bring_back(store, project.remote_name(remote), all_days=all_days, dry_run=dry_run, emit=emit)
        finally:
            store.close()
    hold = project.cache_reader_lock if dry_run else project.cache_collector_lock
    with hold("dvcx gc --undo", emit):
        store = project.cache(emit)
        try:
            return _bring_back(store, project.cache_dir, all_days=all_days, dry_run=dry_run, emit=emit)
        finally:
            store.close()


def _bring_back(store: Store, name: str, *, all_days: bool, dry_run: bool, emit: Emit) -> Collected:
    now = time.time()
    there = sweep.inventory(store)
    days = sorted({file.name.split("/")[1] for file in there.trash})
    if not days:
        raise NotFound(f"the trash of {store.label} is empty", "there is nothing to bring back")
    chosen = [file for file in there.trash if all_days or file.name.split("/")[1] == days[-1]]
    size = sum(file.size for file in chosen)
    restored = [file.name.split("/", 2)[2] for file in chosen]
    corrupt: list[str] = []
    if not dry_run:
        emit(Began("bringing back", len(chosen), size))
        restored, corrupt = sweep.bring_back(store, chosen, lambda count: emit(Advanced(1, count)))
        emit(Ended("bringing back"))
    if corrupt:
        raise IntegrityError(
            f"{store.label}: {len(corrupt):,} of {len(chosen):,} files in the trash are corrupt and stay there: {corrupt[0]}",
            "the others are back; get what is missing again: dvcx fetch",
        )
    sizes = {file.name.split("/", 2)[2]: file.size for file in chosen}
    back = sum(sizes[item] for item in restored)
    result = report(store, name, Sweep(), (), (), there, now=now, dry_run=dry_run)
    return replace(
        result,
        day=days[-1],
        restored=len(restored),
        restored_bytes=back,
        trash_bytes=result.trash_bytes - back,
        size=result.size + back,
        files=tuple(CollectedFile(item, sizes[item], 0, "restored") for item in sorted(restored)),
    )
