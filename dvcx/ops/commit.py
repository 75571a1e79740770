"""commit: record the workspace as it is: changed tracked paths, and stages as if they had just run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.objects import TREE
from dvcx.core.packing import SMALL
from dvcx.core.paths import several
from dvcx.core.pipeline.graph import build
from dvcx.core.pipeline.schema import Stage
from dvcx.core.staleness import Snapshot, judge, lock_entry
from dvcx.errors import NotFound, display
from dvcx.events import Began, Emit, Ended, ignore
from dvcx.io import git
from dvcx.io.store.intake import Intake
from dvcx.io.store.writer import Writer
from dvcx.io.workspace import look
from dvcx.ops import records
from dvcx.ops.add import AddedItem, add
from dvcx.ops.records import Tracked
from dvcx.ops.running import staged_records
from dvcx.ops.snapshot import snapshot
from dvcx.ops.status import chosen, status

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class Committed:
    """Tracked paths with their new contents, and the addresses of the stages whose lock entries were written."""

    items: tuple[AddedItem, ...]
    stages: tuple[str, ...]


def commit(project: Project, targets: Sequence[str] = (), *, dry_run: bool = False, emit: Emit = ignore) -> Committed:
    """Record what is in the workspace at targets (all without any).

    A stage is recorded as if its command had just written its outputs. Raises `NotFound` for a missing input or output.
    """
    targets = several(targets)
    changed = [change.path for change in status(project, targets, emit=emit).data if change.state == "modified"]
    items = add(project, changed, dry_run=dry_run, emit=emit).items if changed else ()
    if dry_run:
        return Committed(items, tuple(stage.address for stage in _stale(project, targets, emit)))
    with project.lock("dvcx commit", emit), project.cache_writer_lock("dvcx commit", emit):
        stages = _stale(project, targets, emit)
        if stages:
            _record(project, stages, emit)
    return Committed(items, tuple(stage.address for stage in stages))


def _stale(project: Project, targets: Sequence[str], emit: Emit) -> list[Stage]:
    tracked = records.load(project)
    build(tracked.stages, tracked.pointers)
    stages, _ = chosen(tracked, targets)
    index = project.stat_index(emit)
    try:
        now = snapshot(project, stages, tracked.lock, index=index, rules=project.rules(), emit=emit)
        index.flush()
    finally:
        index.close()
    return [stage for stage in stages if _worth(stage, tracked, now, named=bool(targets))]


def _worth(stage: Stage, tracked: Tracked, now: Snapshot, *, named: bool) -> bool:
    locked = tracked.lock.get(stage.address)
    if not judge(stage, locked, now):
        return False
    # Without being named, a stage that never wrote its outputs has nothing to record.
    return named or all(now.contents.get(out.path) is not None for out in stage.outs)


def _record(project: Project, stages: Sequence[Stage], emit: Emit) -> None:
    tracked = records.load(project)
    cache = project.cache(emit, write=True)
    index = project.stat_index(emit)
    try:
        rules = project.rules()
        now = snapshot(project, stages, tracked.lock, index=index, rules=rules, emit=emit)
        packing = project.config.get("cache.pack") != "never"
        emit(Began("recording"))
        contents = dict(now.contents)
        with (
            project.cache_writer_lock("dvcx commit", emit),
            Writer(cache, "", packing=packing, fsync=project.fsync) as writer,
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
        if project.git is not None:
            git.ignore_all(project.root, [out.path for stage in stages for out in stage.outs if out.cache])
        records.write_lock(project, entries)
        records.autostage(project, staged_records(stages))
        records.remember(project, records.load(project))
    finally:
        index.close()
        cache.close()
