"""commit: record the workspace as it is: changed tracked paths, and stages as if they had just run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.objects import TREE
from dvcx.core.packing import SMALL
from dvcx.core.paths import several
from dvcx.core.pipeline.schema import Stage
from dvcx.core.staleness import Snapshot, judge, lock_entry
from dvcx.errors import Conflict, NotFound, display
from dvcx.events import Began, Emit, Ended, ignore
from dvcx.io.store.intake import Intake
from dvcx.io.workspace import look
from dvcx.ops import placed, records
from dvcx.ops.add import AddedItem, add
from dvcx.ops.placed import Parts, mark_of
from dvcx.ops.records import Tracked
from dvcx.ops.running import staged_records
from dvcx.ops.snapshot import LONG, snapshot
from dvcx.ops.status import chosen, status

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class Committed:
    """Tracked paths with their new contents, and the addresses of the stages whose lock entries were written."""

    items: tuple[AddedItem, ...]
    stages: tuple[str, ...]


def commit(
    project: Project, targets: Sequence[str] = (), *, exact: bool = False, dry_run: bool = False, emit: Emit = ignore
) -> Committed:
    """Record what is in the workspace at targets (all without any).

    A stage is recorded as if its command had just written its outputs. Recorded files that were never placed here stay
    recorded, unless `exact` takes a directory for what is here of it. Raises `NotFound` for a missing input or output,
    `Conflict` for an output of which a part is not pulled.
    """
    targets = several(targets)
    changes = status(project, targets, emit=emit).data
    # What is not here at all has nothing to record.
    changed = [change.path for change in changes if change.state == "modified" or (exact and _is_here(project, change.path))]
    items = add(project, changed, exact=exact, dry_run=dry_run, emit=emit).items if changed else ()
    if dry_run:
        return Committed(items, tuple(stage.address for stage in _stale(project, targets, emit)))
    with project.lock("dvcx commit", emit), project.cache_writer_lock("dvcx commit", emit):
        stages = _stale(project, targets, emit)
        if stages:
            _record(project, stages, emit, exact=exact)
    return Committed(items, tuple(stage.address for stage in stages))


def _is_here(project: Project, path: str) -> bool:
    return os.path.lexists(f"{project.root}/{path}")


def _stale(project: Project, targets: Sequence[str], emit: Emit) -> list[Stage]:
    tracked = records.load(project)
    stages, _ = chosen(tracked, targets)
    index = project.stat_index(emit)
    parts = Parts(project, tracked, index, emit)
    try:
        now = snapshot(project, stages, tracked.lock, index=index, rules=project.rules(), emit=emit, parts=parts, present=True)
        index.flush()
    finally:
        parts.close()
        index.close()
    return [stage for stage in stages if _worth(stage, tracked, now, named=bool(targets))]


def _worth(stage: Stage, tracked: Tracked, now: Snapshot, *, named: bool) -> bool:
    locked = tracked.lock.get(stage.address)
    if not judge(stage, locked, now):
        return False
    # Without being named, a stage that never wrote its outputs has nothing to record.
    return named or all(now.contents.get(out.path) is not None for out in stage.outs)


def _record(project: Project, stages: Sequence[Stage], emit: Emit, *, exact: bool) -> None:
    tracked = records.load(project)
    cache = project.cache(emit, write=True)
    index = project.stat_index(emit)
    parts = Parts(project, tracked, index, emit)
    try:
        rules = project.rules()
        # Before they are looked at: a stage may read the directory that the .gitignore is in.
        records.ignore_outputs(project, stages, emit)
        now = snapshot(
            project, stages, tracked.lock, index=index, rules=rules, emit=emit, parts=parts, present=True, patience=LONG
        )
        partial = [out.path for stage in stages for out in stage.outs if out.path in now.not_pulled]
        if partial and not exact:
            raise _not_pulled(partial[0], now.not_pulled[partial[0]])
        emit(Began("recording"))
        contents = dict(now.contents)
        with (
            project.cache_writer_lock("dvcx commit", emit),
            project.writer(cache) as writer,
        ):
            intake = Intake(writer, project.algorithm)
            for stage in stages:
                for out in stage.outs:
                    here = contents.get(out.path)
                    # As after a run, small uncached outputs (metrics) are kept too, so that the result can be restored.
                    if out.cache or (here is not None and here.kind != TREE and here.size < SMALL):
                        content = look(project.root, out.path, index=index, sink=intake, rules=rules)
                        if content is None:
                            raise NotFound(f"{display(out.path)} does not exist", f"run it: dvcx repro {display(stage.address)}")
                        contents[out.path] = content
            entries = {stage.address: lock_entry(stage, now, Snapshot(contents)) for stage in stages}
            writer.commit()
        emit(Ended("recording"))
        index.flush()
        records.write_lock(project, entries)
        records.autostage(project, staged_records(stages))
        marks = {out.path: mark_of(contents[out.path]) for stage in stages for out in stage.outs}
        placed.note(project, records.load(project), marks)
    finally:
        parts.close()
        index.close()
        cache.close()


def _not_pulled(path: str, files: int) -> Conflict:
    return Conflict(
        f"the output {display(path)} is not all here ({files:,} {'file' if files == 1 else 'files'} not pulled)",
        f"dvcx pull {display(path)}; or record just what is here: dvcx commit --exact",
    )
