"""gc: move what nothing needs any more out of the cache, or out of a remote, so that it can come back for a week."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from dvcx.core.collecting import DAY, GRACE_DAYS, TRASH_DAYS, decide, parse_size
from dvcx.errors import UsageError, display
from dvcx.events import Advanced, Began, Emit, Ended, Warned, ignore
from dvcx.io.files import private_directory
from dvcx.io.store import fresh, sweep
from dvcx.io.store.store import Store
from dvcx.ops import gc_actions, gc_remote, shrinking, undoing
from dvcx.ops.collected import Collected, report
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
    abort: bool = False,
    emit: Emit = ignore,
) -> Collected:
    """Move objects that no record of any revision needs, and that are older than `grace` days, to the trash of the cache.

    `undo` brings the last day's trash back (`all_days`: all of it). `max_size` ("50G") then drops from the cache what was used
    least recently and is on a remote, whether needed or not. `remote` collects that remote instead; `abort` ends a collection of
    it that was begun and left. Raises, with nothing moved, when anything that records need cannot be read; `force` passes over
    unreadable records of this project, with `abort` over signs of life.
    """
    limit = check(project, undo=undo, all_days=all_days, max_size=max_size, remote=remote, force=force, abort=abort)
    if abort:
        return undoing.abort(project, remote, force=force, dry_run=dry_run, emit=emit)
    if undo:
        return undoing.undo(project, remote, all_days=all_days, dry_run=dry_run, emit=emit)
    if remote:
        return gc_remote.collect(project, remote, grace=grace, dry_run=dry_run, emit=emit)
    hold = project.cache_reader_lock if dry_run else project.cache_collector_lock
    with hold("dvcx gc", emit):
        cache = project.cache(emit)
        try:
            return _collect(project, cache, limit, grace=grace, force=force, dry_run=dry_run, emit=emit)
        finally:
            cache.close()


def check(project: Project, *, undo: bool, all_days: bool, max_size: str, remote: str, force: bool, abort: bool) -> int:
    """The bytes of `max_size`, -1 without it. Raises `UsageError` for what `gc` would refuse before it looks at anything."""
    if abort:
        if not remote or undo or all_days or max_size:
            raise UsageError("--abort goes with --remote, --force and --dry-run only", "dvcx gc --remote NAME --abort")
        return -1
    if remote and (max_size or force):
        what = "--max-size is about the cache" if max_size else "a remote is never collected with --force"
        raise UsageError(what, f"dvcx gc --remote {display(remote)}")
    if undo and (max_size or force):
        raise UsageError("--undo goes with --remote, --all and --dry-run only", "dvcx gc --undo")
    if remote and not undo:
        gc_remote.check(project, remote)
    return parse_size(max_size) if max_size else -1


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
