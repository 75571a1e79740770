"""push: send what the records need to a remote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.objects import Content
from dvcx.core.paths import several
from dvcx.errors import NotFound, display
from dvcx.events import Began, Emit, Ended, ignore
from dvcx.io.files import private_directory
from dvcx.io.store import fresh, marks
from dvcx.io.store.store import Store, Wanted
from dvcx.io.store.writer import Writer
from dvcx.ops import records
from dvcx.ops.checkout import at
from dvcx.ops.records import Tracked
from dvcx.ops.transfer import move, needed

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was sent, or would be: new objects and their bytes, bytes as stored; `present` objects were there already."""

    remote: str
    objects: int
    bytes: int
    sent: int
    present: int
    dry_run: bool


def push(
    project: Project,
    targets: Sequence[str] = (),
    *,
    remote: str = "",
    jobs: int = 0,
    dry_run: bool = False,
    emit: Emit = ignore,
) -> Pushed:
    """Send the objects that targets (all without any) need and the remote's listing does not show.

    Every object is hashed on its way out. Raises `NotFound` naming the path of an object that is nowhere,
    `IntegrityError` for a corrupt one (then nothing of it is visible on the remote), `RemoteFailed`.
    """
    targets = several(targets)
    name = project.remote_name(remote)
    tracked = records.load(project)
    with project.cache_reader_lock("dvcx push", emit):
        return _push(project, tracked, targets, name, asked=bool(remote), jobs=jobs, dry_run=dry_run, emit=emit)


def _push(
    project: Project, tracked: Tracked, targets: Sequence[str], name: str, *, asked: bool, jobs: int, dry_run: bool, emit: Emit
) -> Pushed:
    cache = project.cache(emit)
    store = project.remote(name, emit, write=not dry_run)
    try:
        contents = _chosen(tracked, targets, name, asked=asked, cache=cache)
        emit(Began("listing objects"))
        objects = needed(contents, cache, store).objects
        absent = store.missing(objects)
        emit(Ended("listing objects"))
        present = len(objects) - len(absent)
        size = sum(item.size for item in absent if item.size > 0)
        if not dry_run:
            marks.hold(store, fresh.keys_of([item.id for item in set(objects).difference(absent)]))
        if dry_run or not absent:
            return Pushed(name, len(absent), size, 0, present, dry_run)
        scratch = f"{project.state_dir}/tmp"
        private_directory(scratch)
        emit(Began("pushing", len(absent), size))
        with Writer(store, scratch, compress=project.compresses(name), fsync=project.fsync) as writer:
            move(absent, cache, writer, jobs=jobs or project.jobs, lacking=_lacking(objects), emit=emit)
            summary = writer.commit()
        emit(Ended("pushing"))
        return Pushed(name, summary.objects, summary.bytes, summary.stored, present, False)
    finally:
        store.close()
        cache.close()


def _chosen(tracked: Tracked, targets: Sequence[str], name: str, *, asked: bool, cache: Store) -> dict[str, Content]:
    """Contents that may go to the remote called `name`."""
    chosen = {}
    for path, content in records.select(tracked, targets).items():
        owner = records.owner_of(tracked, path)
        if owner in tracked.pointers:
            pointer = tracked.pointers[owner][1]
            if not pointer.push or (pointer.remote and pointer.remote != name and not asked):
                continue
        else:
            stage = tracked.stage_of(owner)
            if stage is not None and not all(out.push for out in stage.outs if out.path == owner):
                continue
        chosen[path] = at(tracked, cache, path, content)
    return chosen


def _lacking(objects: Mapping[Wanted, str]) -> Callable[[list[Wanted]], Exception]:
    def error(absent: list[Wanted]) -> NotFound:
        path = objects[absent[0]]
        more = f" and {len(absent) - 1:,} more objects" if len(absent) > 1 else ""
        return NotFound(
            f"'{display(path)}' needs object {absent[0].id}{more}: not in the cache and not on the remote",
            f"record it again (dvcx commit {display(path)}), or fetch it from another remote",
        )

    return error
