"""add: take files and directories into the cache and point to them."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.changes import as_entry
from dvcx.core.objects import DIR, TREE, Content, Entry, entry_content
from dvcx.core.paths import contains, several
from dvcx.core.records import POINTER_SUFFIX, Pointer
from dvcx.errors import Conflict, NotFound, UnsafeInput, UsageError, disk_refused, display
from dvcx.events import Advanced, Began, Emit, Ended, ignore
from dvcx.io import git
from dvcx.io.files import open_parent, remove_record
from dvcx.io.store.intake import Intake
from dvcx.io.store.store import Store
from dvcx.io.store.writer import Writer
from dvcx.io.workspace import Looking, Rules, Sink, look, store_tree
from dvcx.ops import placing, records
from dvcx.ops.ahead import take_ahead
from dvcx.ops.records import Tracked
from dvcx.ops.relink import relink

if TYPE_CHECKING:
    from dvcx.io.statindex import StatIndex
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class AddedItem:
    """One tracked path: its pointer's file, what it holds (bytes, files), and whether it was added, updated or unchanged."""

    path: str
    pointer: str
    kind: str
    id: str
    size: int
    files: int
    state: str


@dataclass(frozen=True, slots=True)
class Added:
    """What `add` tracked, or would track."""

    items: tuple[AddedItem, ...]
    dry_run: bool


def add(project: Project, paths: Sequence[str], *, force: bool = False, dry_run: bool = False, emit: Emit = ignore) -> Added:
    """Track files and directories (project paths). A path inside a tracked directory updates that directory.

    `force` takes paths over from git and from pointers below them. Raises `NotFound`, `UnsafeInput`, `Conflict`,
    `DiskRefused`; then no pointer was written.
    """
    paths = several(paths)
    for path in paths:
        _check_argument(project, path)
    wanted = _outermost(paths)
    if dry_run:
        return _dry_run(project, wanted, force=force, emit=emit)
    with project.lock("dvcx add", emit), project.cache_writer_lock("dvcx add", emit):
        records.reap(project, wanted)
        placing.reap(project)
        tracked = records.load(project)
        inner = {path: _owner(project, tracked, path, force=force) for path in wanted}
        absorbed = [known for known in tracked.pointers for path in wanted if known != path and contains(path, known)]
        rules = project.rules()
        emit(Began("adding"))
        # What helpers have told of is not told again.
        told = ignore if take_ahead(project, wanted, rules, emit=emit) else emit
        cache = project.cache(emit, write=True)
        index = project.stat_index(emit)
        try:
            changed: list[str] = []
            contents = _store(project, wanted, inner, tracked, cache, index, rules, told)
            if absorbed:
                # Their pointers and ignore lines are files of the new directory until they are gone.
                changed += _absorb(project, tracked, absorbed)
                contents = _store(project, wanted, inner, tracked, cache, index, rules, emit)
            emit(Ended("adding"))
            index.flush()
            items, written = _record(project, tracked, contents, force=force)
            changed += written
            relink(project, cache, index, rules, wanted, emit=emit)
            records.autostage(project, changed)
            records.remember(project, records.load(project))
        finally:
            index.close()
            cache.close()
    return Added(tuple(items), False)


def _check_argument(project: Project, path: str) -> None:
    records.unsafe_root(path)
    if path.endswith(POINTER_SUFFIX):
        raise UsageError(f"{display(path)} is a pointer", f"name the data: dvcx add {display(path.removesuffix(POINTER_SUFFIX))}")
    if path.rpartition("/")[2] in (records.PIPELINE, records.LOCK, ".gitignore", ".dvcxignore"):
        raise UsageError(f"{display(path)} belongs into git", f"git add {display(path)}")
    try:
        parent, leaf = open_parent(project.root, path)
    except NotFound:
        raise NotFound(f"{display(path)} does not exist", "check the spelling with ls") from None
    try:
        mode = os.lstat(leaf, dir_fd=parent).st_mode
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise NotFound(f"{display(path)} does not exist", "check the spelling with ls") from None
        raise disk_refused(error, "looking at it", path) from None
    finally:
        os.close(parent)
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        raise UnsafeInput(f"{display(path)}: neither a file nor a directory", "dvcx tracks files and directories only")


def _outermost(paths: Sequence[str]) -> list[str]:
    chosen: list[str] = []
    for path in sorted(set(paths), key=lambda path: (path.count("/"), path)):
        if not any(contains(outer, path) for outer in chosen):
            chosen.append(path)
    return chosen


def _owner(project: Project, tracked: Tracked, path: str, *, force: bool) -> str:
    """The tracked directory `path` lies in, "" when it is to have a pointer of its own."""
    owner = tracked.owner(path)
    if owner:
        stage = tracked.stage_of(owner)
        if stage is not None:
            raise Conflict(
                f"{display(path)} is written by stage '{display(stage.address)}'",
                "record it with: dvcx commit; or take it out of the stage's outs in dvcx.yaml",
            )
        return "" if owner == path else owner
    for known in [*tracked.pointers, *(out.path for stage in tracked.stages for out in stage.outs)]:
        if contains(path, known) and (known not in tracked.pointers or not force):
            raise Conflict(
                f"{display(path)} holds '{display(known)}', which is tracked already: a path has one owner",
                f"dvcx add --force {display(path)} takes it over, or dvcx remove {display(known)}"
                if known in tracked.pointers
                else "write the stage's output elsewhere",
            )
    if project.git is not None and git.tracked(project.git, [path]) and not force:
        raise Conflict(
            f"{display(path)} is tracked by git", f"git rm -r --cached {display(path)}, or dvcx add --force {display(path)}"
        )
    return ""


def _store(
    project: Project,
    paths: Sequence[str],
    inner: dict[str, str],
    tracked: Tracked,
    cache: Store,
    index: StatIndex,
    rules: Rules,
    emit: Emit,
) -> dict[str, Content]:
    """Take paths into the cache, durably; contents by the path that gets the pointer."""
    packing = project.config.get("cache.pack") != "never"
    with Writer(cache, "", packing=packing, fsync=project.fsync, advanced=lambda count: emit(Advanced(0, count))) as writer:
        intake = Intake(writer, project.algorithm, link=project.links[0] == "hardlink")
        contents = _take(project, paths, inner, tracked, cache, index, intake, rules, emit)
        writer.commit()
    return contents


def _take(
    project: Project,
    paths: Sequence[str],
    inner: dict[str, str],
    tracked: Tracked,
    cache: Store,
    index: StatIndex,
    sink: Sink,
    rules: Rules,
    emit: Emit,
) -> dict[str, Content]:
    """Contents by the path that gets the pointer; changes inside one tracked directory are put together."""
    contents: dict[str, Content] = {}
    inside: dict[str, dict[str, Content | None]] = {}
    for path in paths:
        content = look(project.root, path, index=index, sink=sink, rules=rules, advanced=lambda files: emit(Advanced(files)))
        if content is None:
            raise NotFound(f"{display(path)} vanished while it was read", "run the command again")
        owner = inner[path]
        if owner:
            _check_seen(path, owner, content, rules)
            inside.setdefault(owner, {})[path[len(owner) + 1 :]] = content
        else:
            contents[path] = content
    for owner, changes in inside.items():
        contents[owner] = replaced(tracked.pointers[owner][1].content, changes, cache, sink, owner)
    return contents


def _check_seen(path: str, owner: str, content: Content, rules: Rules) -> None:
    """Refuse what .dvcxignore hides in a tracked directory: it would count as deleted from then on."""
    if rules.ignored is None:
        return
    here = path
    while here != owner:
        if rules.ignored(here, here != path or content.kind == TREE):
            raise Conflict(
                f"{display(path)}: .dvcxignore names it, so it is no part of the tracked directory '{display(owner)}'",
                "take the line out of .dvcxignore first",
            )
        here = here.rpartition("/")[0]


def replaced(base: Content, changes: Mapping[str, Content | None], cache: Store, sink: Sink, where: str) -> Content:
    """The directory `base` with what is at some paths below it replaced (None: removed); only trees on the way are rewritten."""
    if base.kind != TREE:
        raise Conflict(f"{display(where)} is tracked as a file", f"dvcx add {display(where)} records what is there now")
    return _rewritten(cache.read_tree(base), changes, cache, sink)


def _rewritten(entries: Sequence[Entry], changes: Mapping[str, Content | None], cache: Store, sink: Sink) -> Content:
    by_name: dict[str, dict[str, Content | None]] = {}
    for path, content in changes.items():
        name, _, rest = path.partition("/")
        by_name.setdefault(name, {})[rest] = content
    known = {entry.name: entry for entry in entries}
    for name, below in by_name.items():
        if "" in below:
            content = below[""]
        else:
            entry = known.get(name)
            inner = cache.read_tree(entry_content(entry)) if entry is not None and entry.kind == DIR else []
            content = _rewritten(inner, below, cache, sink)
        if content is None:
            known.pop(name, None)
        else:
            known[name] = as_entry(name, content)
    return store_tree(sorted(known.values(), key=lambda entry: entry.name), sink.tree)


def _record(
    project: Project, tracked: Tracked, contents: dict[str, Content], *, force: bool
) -> tuple[list[AddedItem], list[str]]:
    items: list[AddedItem] = []
    changed: list[str] = []
    if project.git is not None:
        if force:
            git.untrack(project.git, list(contents))
        changed += git.ignore_all(project.root, list(contents))
    for path, content in contents.items():
        name, pointer = tracked.pointers.get(path, (path + POINTER_SUFFIX, None))
        if pointer is None:
            state, fresh = "added", Pointer(path.rpartition("/")[2], content)
        else:
            state = "unchanged" if pointer.content == content else "updated"
            fresh = Pointer(pointer.path, content, pointer.remote, pointer.push, pointer.notes)
        if state != "unchanged":
            changed.append(records.write_pointer(project, path, fresh, file=name))
        items.append(AddedItem(path, name, content.kind, content.id, content.size, content.files, state))
    return items, changed


def _absorb(project: Project, tracked: Tracked, absorbed: Sequence[str]) -> list[str]:
    """Remove the pointers of paths that a directory takes over, and their ignore lines; the files that changed."""
    changed = [tracked.pointers[path][0] for path in absorbed]
    for name in changed:
        remove_record(project.root, name)
    if project.git is not None:
        changed += git.unignore_all(project.root, list(absorbed))
    return changed


def _dry_run(project: Project, paths: Sequence[str], *, force: bool, emit: Emit) -> Added:
    tracked = records.load(project)
    index = project.stat_index(emit)
    try:
        rules = project.rules()
        inner = {path: _owner(project, tracked, path, force=force) for path in paths}
        items = []
        for path in paths:
            content = look(project.root, path, index=index, sink=Looking(project.algorithm), rules=rules)
            if content is None:
                raise NotFound(f"{display(path)} vanished while it was read", "run the command again")
            known = tracked.pointers.get(inner[path] or path)
            state = "added" if known is None else "unchanged" if known[1].content == content else "updated"
            name = (inner[path] or path) + POINTER_SUFFIX
            items.append(AddedItem(path, name, content.kind, content.id, content.size, content.files, state))
        return Added(tuple(items), True)
    finally:
        index.flush()
        index.close()
