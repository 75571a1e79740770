"""move: rename tracked data together with its pointer and its line in .gitignore."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.paths import check_path, contains, join
from dvcx.core.records import POINTER_SUFFIX, Pointer, is_record
from dvcx.errors import Conflict, NotFound, UnsafeInput, UsageError, display
from dvcx.events import Emit, Warned, ignore
from dvcx.io import files, git, place
from dvcx.io.statindex import StatIndex
from dvcx.ops import records
from dvcx.ops.records import Tracked

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class Moved:
    """Where tracked data was and is, and the file of its pointer now."""

    source: str
    destination: str
    pointer: str


def move(project: Project, source: str, destination: str, *, emit: Emit = ignore) -> Moved:
    """Rename the tracked path `source` to `destination`, or into it when that is a directory. Nothing is ever overwritten.

    Raises `Conflict` when the destination exists or belongs to something tracked, or the source to a stage or a tracked
    directory; `NotFound` when the source is not tracked. Data that is not in the workspace moves as a pointer alone.
    """
    with project.lock("dvcx move", emit):
        tracked = records.load(project)
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
        records.remember(project, records.load(project))
    for stage in tracked.stages:
        if any(contains(source, dep) or contains(dep, source) for dep in stage.deps):
            emit(
                Warned(
                    f"stage '{display(stage.address)}' reads {display(source)}, which is called {display(destination)} now",
                    f"change its deps and its command in {display(stage.file)}",
                )
            )
    return Moved(source, destination, new)


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
            f"rename it with mv, then record the directory: dvcx commit {display(owner)}",
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
        parent, leaf = files.open_parent(project.root, path)
    except NotFound:
        return ""
    try:
        mode = os.lstat(leaf, dir_fd=parent).st_mode
    except FileNotFoundError:
        return ""
    finally:
        os.close(parent)
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
