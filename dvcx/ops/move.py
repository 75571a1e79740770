"""move: rename tracked data together with its pointer and its line in .gitignore."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.changes import ReadTree
from dvcx.core.objects import DIR, Content, Entry, entry_content
from dvcx.core.partial import Mark
from dvcx.core.paths import check_path, contains, join, parent
from dvcx.core.records import POINTER_SUFFIX, Pointer, is_record
from dvcx.errors import Conflict, NotFound, UnsafeInput, UsageError, display
from dvcx.events import Emit, Warned, ignore
from dvcx.io import files, git, place
from dvcx.io.statindex import StatIndex
from dvcx.io.store.intake import Intake
from dvcx.ops import placed, records
from dvcx.ops.add import replaced
from dvcx.ops.listings import Listings
from dvcx.ops.looking import entry_at
from dvcx.ops.placed import mark_of
from dvcx.ops.records import Tracked

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class Moved:
    """Where tracked data was and is, and the file of its pointer now (of the tracked directory that it lies in, for a part)."""

    source: str
    destination: str
    pointer: str


def move(project: Project, source: str, destination: str, *, emit: Emit = ignore) -> Moved:
    """Rename the tracked path `source` to `destination`, or into it when that is a directory. Nothing is ever overwritten.

    A path inside a tracked directory can be moved inside that directory; of its listings those on the way are read, from a
    remote where the cache lacks them. What is not in the workspace moves in the record alone.

    Raises `Conflict` when the destination exists or belongs to something tracked, or the source to a stage;
    `NotFound` when the source is not tracked.
    """
    with project.lock("dvcx move", emit):
        tracked = records.load(project)
        owner = _owner_of_both(tracked, source, destination)
        if owner:
            moved = _move_inside(project, tracked, owner, source, destination, emit)
            _tell_readers(tracked, moved, emit)
            return moved
        source = _source(tracked, source)
        destination = _destination(project, tracked, source, destination)
        old, pointer = tracked.pointers[source]
        new = destination + POINTER_SUFFIX
        changed = git.ignore_all(project.root, [destination]) if project.git is not None else []
        # A pointer is written before, and one is removed after the data moves: at every moment it lies where one points.
        fresh = Pointer(destination.rpartition("/")[2], pointer.content, pointer.remote, pointer.push, pointer.notes)
        records.write_pointer(project, destination, fresh)
        if os.path.lexists(f"{project.root}/{source}"):
            try:
                place.rename(project.root, source, destination)
            except BaseException:
                if not os.path.lexists(f"{project.root}/{destination}"):
                    files.remove_record(project.root, new)
                raise
        files.remove_record(project.root, old)
        if project.git is not None:
            changed += git.unignore_all(project.root, [source])
        _carry_memory(project, source, destination, emit)
        records.autostage(project, [*changed, old, new])
        placed.note(project, records.load(project), renamed=(source, destination))
    moved = Moved(source, destination, new)
    _tell_readers(tracked, moved, emit)
    return moved


def _tell_readers(tracked: Tracked, moved: Moved, emit: Emit) -> None:
    source, destination = moved.source, moved.destination
    for stage in tracked.stages:
        if any(contains(source, dep) or contains(dep, source) for dep in stage.deps):
            emit(
                Warned(
                    f"stage '{display(stage.address)}' reads {display(source)}, which is called {display(destination)} now",
                    f"change its deps and its command in {display(stage.file)}",
                )
            )


def _owner_of_both(tracked: Tracked, source: str, destination: str) -> str:
    """The tracked directory, with a pointer, that both lie in; the destination may be that directory itself."""
    owner = tracked.owner(source)
    return owner if owner in tracked.pointers and owner != source and contains(owner, destination) else ""


def _move_inside(project: Project, tracked: Tracked, owner: str, source: str, destination: str, emit: Emit) -> Moved:
    cache = project.cache(emit, write=True)
    try:
        with Listings(project, tracked, cache, emit) as listings:
            name, pointer = tracked.pointers[owner]
            entry = entry_at(listings.read, owner, pointer.content, source)
            if entry is None:
                raise NotFound(
                    f"{display(source)} is not in '{display(owner)}' as recorded", f"dvcx list {display(owner)}; or dvcx add it"
                )
            destination = _place_inside(project, listings.read, owner, pointer.content, source, destination)
            changes: dict[str, Entry | None] = {source[len(owner) + 1 :]: None, destination[len(owner) + 1 :]: entry}
            with (
                project.cache_writer_lock("dvcx move", emit),
                project.writer(cache) as writer,
            ):
                content = replaced(pointer.content, changes, listings.read, Intake(writer, project.algorithm), owner)
                writer.commit()
    finally:
        cache.close()
    present = os.path.lexists(f"{project.root}/{source}")
    if present:
        place.rename(project.root, source, destination)
    fresh = Pointer(pointer.path, content, pointer.remote, pointer.push, pointer.notes)
    records.write_pointer(project, owner, fresh, file=name)
    if present:
        _carry_memory(project, source, destination, emit)
    records.autostage(project, [name])
    marks: dict[str, Mark] = {source: False, destination: mark_of(entry_content(entry)) if present else False}
    placed.note(project, records.load(project), marks, steps={owner: (pointer.content, content)} if present else {})
    return Moved(source, destination, name)


def _place_inside(project: Project, read: ReadTree, owner: str, content: Content, source: str, destination: str) -> str:
    """Where the path goes: into the destination when that is a directory, in the workspace or as recorded."""
    if contains(source, destination):
        what = "is the same path" if destination == source else "lies inside it"
        raise UsageError(f"cannot move {display(source)} to {display(destination)}: that {what}", "choose another name")
    there = entry_at(read, owner, content, destination)
    if (there is not None and there.kind == DIR) or _kind(project, destination) == "directory":
        destination = join(destination, source.rpartition("/")[2])
        there = entry_at(read, owner, content, destination)
    check_path(destination, "destination")
    if there is not None or _kind(project, destination):
        raise Conflict(f"{display(destination)} exists", "choose another name, or move what is there away")
    above = parent(destination)
    while above != owner:
        found = entry_at(read, owner, content, above)
        if found is not None and found.kind != DIR:
            raise Conflict(f"{display(above)} is recorded as a file", "choose another name")
        above = parent(above)
    rules = project.rules()
    if rules.ignored is not None and rules.ignored(destination, False):
        raise Conflict(f"{display(destination)}: .dvcxignore names it", "choose another name")
    return destination


def _source(tracked: Tracked, source: str) -> str:
    pointed = source.removesuffix(POINTER_SUFFIX)
    if source in tracked.pointers:
        return source
    if pointed != source and pointed in tracked.pointers:
        return pointed
    records.unsafe_root(source)
    stage = next((stage for stage in tracked.stages if any(contains(out.path, source) for out in stage.outs)), None)
    if stage is not None:
        raise Conflict(
            f"{display(source)} is written by stage '{display(stage.address)}'",
            f"rename it in the outs and the cmd of the stage in {display(stage.file)}, then: dvcx repro {display(stage.address)}",
        )
    owner = tracked.owner(source)
    if owner:
        raise Conflict(
            f"{display(source)} is part of the tracked directory '{display(owner)}'",
            f"move it inside that directory; or copy it out of it (cp), then: dvcx remove {display(source)}",
        )
    below = [path for path in tracked.pointers if contains(source, path)]
    if below:
        more = f" and {len(below) - 1:,} more" if len(below) > 1 else ""
        raise Conflict(
            f"{display(source)} is not tracked itself; in it are {display(below[0])}{more}", "move those, one by one"
        )
    raise records.not_tracked(tracked, source)


def _destination(project: Project, tracked: Tracked, source: str, destination: str) -> str:
    if destination and contains(source, destination):
        what = "is the same path" if destination == source else "lies inside it"
        raise UsageError(f"cannot move {display(source)} to {display(destination)}: that {what}", "choose another name")
    if not destination or _kind(project, destination) == "directory":
        destination = join(destination, source.rpartition("/")[2])
    check_path(destination, "destination")
    if is_record(destination) or destination.rpartition("/")[2] in (".gitignore", ".dvcxignore"):
        raise UsageError(f"{display(destination)} is a name that dvcx or git uses itself", "choose another name")
    owner = tracked.owner(destination)
    if owner and owner != destination:
        raise Conflict(
            f"{display(destination)} lies inside '{display(owner)}', which is tracked: a path has one owner",
            f"stop tracking it by itself (dvcx remove {display(source)}), move it with mv, then: dvcx add {display(owner)}",
        )
    outs = [out.path for stage in tracked.stages for out in stage.outs]
    holds = next((path for path in (*tracked.pointers, *outs) if contains(destination, path)), "")
    if holds:
        raise Conflict(f"{display(destination)} is, or holds, '{display(holds)}', which is tracked", "choose another name")
    for path in (destination, destination + POINTER_SUFFIX):
        if _kind(project, path):
            raise Conflict(f"{display(path)} exists", "choose another name, or move what is there away")
    if project.git is not None and git.tracked(project.git, [destination]):
        raise Conflict(f"{display(destination)} is tracked by git", f"git rm -r --cached {display(destination)}")
    return destination


def _kind(project: Project, path: str) -> str:
    """What is at a project path: "directory", "something", or "" for nothing. Links on the way are refused."""
    try:
        above, leaf = files.open_parent(project.root, path)
    except NotFound:
        return ""
    try:
        mode = os.lstat(leaf, dir_fd=above).st_mode
    except FileNotFoundError:
        return ""
    finally:
        os.close(above)
    if stat.S_ISLNK(mode) and os.path.isdir(f"{project.root}/{path}"):
        raise UnsafeInput(f"{display(path)}: it is a symbolic link to a directory", "name the real directory")
    return "directory" if stat.S_ISDIR(mode) else "something"


def _carry_memory(project: Project, source: str, destination: str, emit: Emit) -> None:
    """What was remembered of a directory holds at its new place too, so that nothing is read again."""
    index: StatIndex = project.stat_index(emit)
    try:
        for path, row in list(index.walk(source)):
            index.put(destination + path[len(source) :], row)
        index.drop(source)
        index.flush()
    finally:
        index.close()
