"""remove: stop tracking data, or take a stage out of its dvcx.yaml."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.changes import ReadTree
from dvcx.core.objects import Content, Entry, entry_content
from dvcx.core.paths import contains, several
from dvcx.core.pipeline.schema import Stage
from dvcx.core.plans import Placement, plan_placement
from dvcx.core.records import POINTER_SUFFIX, Pointer
from dvcx.errors import Conflict, NotFound, UsageError, display
from dvcx.events import Emit, Warned, ignore
from dvcx.io import files, git
from dvcx.io.statindex import StatIndex
from dvcx.io.store.store import Store
from dvcx.io.workspace import Rules
from dvcx.ops import placed, records
from dvcx.ops.add import replaced
from dvcx.ops.listings import Listings
from dvcx.ops.looking import entry_at, observe, stored_trees, workspace_trees
from dvcx.ops.placing import delete, unsaved
from dvcx.ops.records import Tracked
from dvcx.ops.unprotect import free

if TYPE_CHECKING:
    from dvcx.project import Project

DATA, INSIDE, STAGE = "data", "inside", "stage"


@dataclass(frozen=True, slots=True)
class RemovedItem:
    """What is no longer tracked: `kind` data (it had the pointer `record`), inside (of a tracked directory) or stage.

    `deleted` counts the files that went from the workspace.
    """

    path: str
    kind: str
    record: str
    deleted: int


@dataclass(frozen=True, slots=True)
class Removed:
    """What `remove` took out, or would take out."""

    items: tuple[RemovedItem, ...]
    dry_run: bool


@dataclass(slots=True)
class _Work:
    """One target, resolved: the paths whose data it is about, and its stage or the tracked directory it lies in."""

    path: str
    kind: str
    record: str
    data: list[str]
    stage: Stage | None = None
    owner: str = ""
    plan: Placement | None = None


def remove(
    project: Project, targets: Sequence[str], *, keep_data: bool = True, dry_run: bool = False, emit: Emit = ignore
) -> Removed:
    """Stop tracking targets: tracked paths, pointers, directories around them, paths inside a tracked one, or stages.

    Without `keep_data` the files go too, but only those whose bytes are in the cache: else `Conflict`, and nothing was
    changed. Data that is kept and linked to the cache becomes a copy of its own. Of a tracked directory only the listings
    on the way are read, from a remote where the cache lacks them. Raises `NotFound`, `RemoteFailed`.
    """
    targets = several(targets)
    with project.lock("dvcx remove", emit), project.cache_writer_lock("dvcx remove", emit):
        tracked = records.load(project)
        cache = project.cache(emit)
        index = project.stat_index(emit)
        try:
            rules = project.rules()
            with Listings(project, tracked, cache, emit) as listings:
                works = _works(tracked, targets, listings.read)
                if not keep_data:
                    for work in works:
                        work.plan = _deletion(project, cache, index, rules, work, emit)
                if not dry_run:
                    _carry_out(project, tracked, cache, index, rules, works, listings.read, emit=emit)
        finally:
            index.flush()
            index.close()
            cache.close()
    items = (RemovedItem(work.path, work.kind, work.record, len(work.plan.removed) if work.plan else 0) for work in works)
    return Removed(tuple(items), dry_run)


# What the targets name


def _works(tracked: Tracked, targets: Sequence[str], read: ReadTree) -> list[_Work]:
    works: dict[tuple[str, str], _Work] = {}
    for target in targets:
        for work in _resolve(tracked, target, read):
            works[work.kind, work.path] = work
    whole = [work.path for work in works.values() if work.kind == DATA]
    return [
        work for work in works.values() if work.kind != INSIDE or not any(contains(path, work.path) for path in whole)
    ]


def _resolve(tracked: Tracked, target: str, read: ReadTree) -> list[_Work]:
    pointed = target.removesuffix(POINTER_SUFFIX)
    below = [path for path in tracked.pointers if target and (contains(target, path) or path == pointed)]
    if below:
        return [_Work(path, DATA, tracked.pointers[path][0], [path]) for path in below]
    named = [stage for stage in tracked.stages if stage.address == target]
    named = named or [stage for stage in tracked.stages if stage.named(target)]
    made = next((stage for stage in named if stage.group), None)
    if made is not None:
        raise UsageError(
            f"stage '{display(made.address)}' is one of those that '{display(made.group)}' makes",
            f"change the stages.{display(made.group)} of {display(made.file)}",
        )
    if len(named) > 1:
        listed = " or ".join(display(stage.address) for stage in named)
        raise UsageError(f"several stages are named '{display(target)}'", f"say which: {listed}")
    if named:
        stage = named[0]
        return [_Work(stage.address, STAGE, stage.file, [out.path for out in stage.outs if out.cache], stage)]
    maker = next((stage for stage in tracked.stages for out in stage.outs if target and _overlap(out.path, target)), None)
    if maker is not None:
        raise Conflict(
            f"{display(target)} is written by stage '{display(maker.address)}'",
            f"dvcx remove {display(maker.address)} removes the stage; or take it out of its outs in {display(maker.file)}",
        )
    owner = tracked.owner(target) if target else ""
    if not owner:
        raise records.not_tracked(tracked, target)
    name, pointer = tracked.pointers[owner]
    if entry_at(read, owner, pointer.content, target) is None:
        raise NotFound(f"{display(target)} is not in '{display(owner)}' as recorded", f"dvcx list {display(owner)}")
    return [_Work(target, INSIDE, name, [target], None, owner)]


def _overlap(one: str, other: str) -> bool:
    return contains(one, other) or contains(other, one)


# What may be deleted


def _deletion(project: Project, cache: Store, index: StatIndex, rules: Rules, work: _Work, emit: Emit) -> Placement:
    plan = Placement()
    read = workspace_trees(index)
    for path in work.data:
        root = work.owner or path
        now = observe(project, [root], index=index, rules=rules, emit=emit)[root]
        entry = entry_at(read, root, now, path) if now is not None else None
        if entry is not None:
            plan_placement(path, entry_content(entry), None, read, stored_trees(cache), plan)
    lost = unsaved(cache, plan.overwritten)
    if lost:
        more = f" and {len(lost) - 1:,} more" if len(lost) > 1 else ""
        raise Conflict(
            f"{display(lost[0][0])}{more}: not in the cache, so deleting would lose it",
            f"record it first: dvcx commit {display(work.owner or work.path)}; or leave out --delete and delete it yourself",
        )
    return plan


# Doing it. Data before records: a run that was cut short can be run again.


def _carry_out(
    project: Project,
    tracked: Tracked,
    cache: Store,
    index: StatIndex,
    rules: Rules,
    works: Sequence[_Work],
    read: ReadTree,
    *,
    emit: Emit,
) -> None:
    changed: list[str] = []
    shown_again: list[str] = []
    for work in works:
        if work.plan is not None:
            delete(project, work.plan, emit=emit)
        elif work.kind == DATA and set(project.links) & {"hardlink", "symlink"}:
            free(project, cache, index, rules, work.data, emit=emit)
        if work.kind == INSIDE and work.plan is None and os.path.lexists(f"{project.root}/{work.path}"):
            emit(
                Warned(
                    f"{display(work.path)} stays where it is, inside the tracked directory '{display(work.owner)}'",
                    "the next dvcx commit or add takes it in again; move it away, or name it in .dvcxignore",
                )
            )
    written, steps = _shrink(project, tracked, [work for work in works if work.kind == INSIDE], read)
    changed += written
    for work in works:
        if work.kind == DATA:
            files.remove_record(project.root, work.record)
            changed.append(work.record)
            shown_again.append(work.path)
        elif work.stage is not None:
            changed += _remove_stage(project, tracked, work.stage)
            shown_again += work.data
    if project.git is not None:
        changed += git.unignore_all(project.root, shown_again)
    records.autostage(project, changed)
    inside = {work.path: False for work in works if work.kind == INSIDE}
    placed.note(project, records.load(project), inside, steps=steps)


def _shrink(
    project: Project, tracked: Tracked, works: Sequence[_Work], read: ReadTree
) -> tuple[list[str], dict[str, tuple[Content, Content]]]:
    """Record tracked directories without the paths inside them that were removed; the pointers written, old and new contents."""
    if not works:
        return [], {}
    from dvcx.io.store.intake import Intake

    gone: dict[str, dict[str, Entry | None]] = {}
    for work in works:
        gone.setdefault(work.owner, {})[work.path[len(work.owner) + 1 :]] = None
    cache = project.cache(ignore, write=True)
    try:
        with project.writer(cache) as writer:
            sink = Intake(writer, project.algorithm)
            recorded = {owner: tracked.pointers[owner][1].content for owner in gone}
            contents = {owner: replaced(recorded[owner], gone[owner], read, sink, owner) for owner in gone}
            writer.commit()
    finally:
        cache.close()
    written = []
    for owner, content in contents.items():
        name, pointer = tracked.pointers[owner]
        fresh = Pointer(pointer.path, content, pointer.remote, pointer.push, pointer.notes)
        written.append(records.write_pointer(project, owner, fresh, file=name))
    return written, {owner: (recorded[owner], content) for owner, content in contents.items()}


def _remove_stage(project: Project, tracked: Tracked, stage: Stage) -> list[str]:
    """Take a stage out of the lock, then out of its dvcx.yaml; the files written."""
    from dvcx.io.yaml.editing import remove_stage

    changed = records.write_lock(project, {stage.address: None}) if stage.address in tracked.lock else []
    data = files.read_record(project.root, stage.file, records.MAX_PIPELINE)
    if data is None:
        raise NotFound(f"{display(stage.file)} vanished", "run the command again")
    files.write_record(project.root, stage.file, remove_stage(data, stage.name, stage.file), fsync=project.fsync != "none")
    return [*changed, stage.file]
