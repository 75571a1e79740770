"""add: take files and directories into the cache and point to them."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dvcx.core.changes import ReadTree, as_entry
from dvcx.core.objects import DIR, TREE, Content, Entry, entry_content
from dvcx.core.partial import Mark
from dvcx.core.paths import contains, join, several
from dvcx.core.records import POINTER_SUFFIX, Pointer
from dvcx.errors import Conflict, NotFound, UnsafeInput, UsageError, disk_refused, display
from dvcx.events import Advanced, Began, Emit, Ended, ignore
from dvcx.io import git
from dvcx.io.files import open_parent, remove_record
from dvcx.io.store.intake import Intake
from dvcx.io.store.store import Store
from dvcx.io.workspace import Looking, Rules, Sink, look, store_tree
from dvcx.ops import placed, placing, records
from dvcx.ops.ahead import take_ahead
from dvcx.ops.listings import Listings
from dvcx.ops.placed import Parts, mark_of
from dvcx.ops.placing import link_at
from dvcx.ops.records import Tracked
from dvcx.ops.relink import relink

if TYPE_CHECKING:
    from dvcx.io.statindex import StatIndex
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class AddedItem:
    """One tracked path: its pointer's file, what it holds (bytes, files), and whether it was added, updated or unchanged.

    `not_pulled` of the files were never placed here; they stay recorded as they were.
    """

    path: str
    pointer: str
    kind: str
    id: str
    size: int
    files: int
    state: str
    not_pulled: int = 0


@dataclass(frozen=True, slots=True)
class Added:
    """What `add` tracked, or would track."""

    items: tuple[AddedItem, ...]
    dry_run: bool


@dataclass(slots=True)
class _Taken:
    """Contents by the path that gets the pointer; what is here of them, by path; files of them that are not pulled."""

    contents: dict[str, Content] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    not_pulled: dict[str, int] = field(default_factory=dict)


def add(
    project: Project,
    paths: Sequence[str],
    *,
    force: bool = False,
    exact: bool = False,
    dry_run: bool = False,
    emit: Emit = ignore,
) -> Added:
    """Track files and directories (project paths). A path inside a tracked directory updates that directory.

    Recorded files that were never placed here stay recorded, unless `exact` takes a directory for what is here of it.
    `force` takes paths over from git and from pointers below them. Raises `NotFound`, `UnsafeInput`, `Conflict`,
    `DiskRefused`, and `RemoteFailed` when a recorded listing has to come from a remote; then no pointer was written.
    """
    paths = several(paths)
    for path in paths:
        _check_argument(project, path)
    wanted = _outermost(paths)
    if dry_run:
        return _dry_run(project, wanted, force=force, exact=exact, emit=emit)
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
            taken = _store(project, wanted, inner, tracked, cache, index, rules, exact, told)
            if absorbed:
                # Their pointers and ignore lines are files of the new directory until they are gone.
                changed += _absorb(project, tracked, absorbed)
                taken = _store(project, wanted, inner, tracked, cache, index, rules, exact, emit)
            emit(Ended("adding"))
            index.flush()
            items, written = _record(project, tracked, taken, force=force)
            changed += written
            relink(project, cache, index, rules, [path for path in wanted if not link_at(project, path, rules)], emit=emit)
            records.autostage(project, changed)
            inside = {owner for owner in inner.values() if owner}
            steps = {owner: (tracked.pointers[owner][1].content, taken.contents[owner]) for owner in inside}
            placed.note(project, records.load(project), taken.marks, steps=steps)
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
    exact: bool,
    emit: Emit,
) -> _Taken:
    """Take paths into the cache, durably."""
    with project.writer(cache, advanced=lambda count: emit(Advanced(0, count))) as writer:
        intake = Intake(writer, project.algorithm, link=project.links[0] == "hardlink")
        taken = _take(project, paths, inner, tracked, cache, index, intake, rules, exact, emit)
        writer.commit()
    return taken


def _take(
    project: Project,
    paths: Sequence[str],
    inner: dict[str, str],
    tracked: Tracked,
    cache: Store,
    index: StatIndex,
    sink: Sink,
    rules: Rules,
    exact: bool,
    emit: Emit,
) -> _Taken:
    """Contents by the path that gets the pointer; changes inside one tracked directory are put together."""
    taken = _Taken()
    inside: dict[str, dict[str, Entry | None]] = {}
    with Listings(project, tracked, cache, emit) as listings:
        parts = Parts(project, tracked, index, emit, listings=listings.read)
        for path in paths:
            owner = inner[path]
            link = link_at(project, path, rules) if owner else None
            if link is not None:
                _check_seen(path, owner, entry_content(link.entry), rules)
                sink.link(link.target)
                inside.setdefault(owner, {})[path[len(owner) + 1 :]] = link.entry
                taken.marks[path] = True
                continue
            content = look(project.root, path, index=index, sink=sink, rules=rules, advanced=lambda files: emit(Advanced(files)))
            if content is None:
                raise NotFound(f"{display(path)} vanished while it was read", "run the command again")
            if owner:
                _check_seen(path, owner, content, rules)
            content = _with_parts(parts, path, owner or path, content, sink, taken, exact=exact)
            if owner:
                inside.setdefault(owner, {})[path[len(owner) + 1 :]] = as_entry("", content)
            else:
                taken.contents[path] = content
        parts.close()
        for owner, changes in inside.items():
            taken.contents[owner] = replaced(tracked.pointers[owner][1].content, changes, listings.read, sink, owner)
    return taken


def _with_parts(
    parts: Parts, path: str, owner: str, content: Content, sink: Sink, taken: _Taken, *, exact: bool
) -> Content:
    """What is at a path now with those recorded parts of it that were never placed here."""
    try:
        merged = None if exact else parts.merged(path, content, write=lambda found: store_tree(found, sink.tree), strict=True)
    except NotFound as error:
        raise NotFound(
            error.message,
            f"{error.hint}; or record {display(path)} as just what is here of it: dvcx add --exact {display(path)}",
        ) from None
    if merged is None or merged.content is None:
        taken.marks[path] = mark_of(content)
        return content
    taken.marks.update((join(path, below) if below else path, mark) for below, mark in merged.marks.items())
    taken.not_pulled[owner] = taken.not_pulled.get(owner, 0) + merged.files
    return merged.content


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


def replaced(base: Content, changes: Mapping[str, Entry | None], read: ReadTree, sink: Sink, where: str) -> Content:
    """The directory `base` with what is at some paths below it replaced (None: removed); only trees on the way are rewritten."""
    if base.kind != TREE:
        raise Conflict(f"{display(where)} is tracked as a file", f"dvcx add {display(where)} records what is there now")
    return _rewritten(read(where, base), changes, read, sink, where)


def _rewritten(
    entries: Sequence[Entry], changes: Mapping[str, Entry | None], read: ReadTree, sink: Sink, where: str
) -> Content:
    by_name: dict[str, dict[str, Entry | None]] = {}
    for path, entry in changes.items():
        name, _, rest = path.partition("/")
        by_name.setdefault(name, {})[rest] = entry
    known = {entry.name: entry for entry in entries}
    for name, below in by_name.items():
        if "" in below:
            new = below[""]
        else:
            old, path = known.get(name), join(where, name)
            inner = read(path, entry_content(old)) if old is not None and old.kind == DIR else []
            new = as_entry("", _rewritten(inner, below, read, sink, path))
        if new is None:
            known.pop(name, None)
        else:
            known[name] = new._replace(name=name)
    return store_tree(sorted(known.values(), key=lambda entry: entry.name), sink.tree)


def _record(
    project: Project, tracked: Tracked, taken: _Taken, *, force: bool
) -> tuple[list[AddedItem], list[str]]:
    contents = taken.contents
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
        left = taken.not_pulled.get(path, 0)
        items.append(AddedItem(path, name, content.kind, content.id, content.size, content.files, state, left))
    return items, changed


def _absorb(project: Project, tracked: Tracked, absorbed: Sequence[str]) -> list[str]:
    """Remove the pointers of paths that a directory takes over, and their ignore lines; the files that changed."""
    changed = [tracked.pointers[path][0] for path in absorbed]
    for name in changed:
        remove_record(project.root, name)
    if project.git is not None:
        changed += git.unignore_all(project.root, list(absorbed))
    return changed


def _dry_run(project: Project, paths: Sequence[str], *, force: bool, exact: bool, emit: Emit) -> Added:
    tracked = records.load(project)
    cache = project.cache(emit)
    index = project.stat_index(emit)
    try:
        inner = {path: _owner(project, tracked, path, force=force) for path in paths}
        taken = _take(
            project, paths, inner, tracked, cache, index, Looking(project.algorithm), project.rules(), exact, ignore
        )
        items = []
        for path, content in taken.contents.items():
            name, pointer = tracked.pointers.get(path, (path + POINTER_SUFFIX, None))
            state = "added" if pointer is None else "unchanged" if pointer.content == content else "updated"
            left = taken.not_pulled.get(path, 0)
            items.append(AddedItem(path, name, content.kind, content.id, content.size, content.files, state, left))
        return Added(tuple(items), True)
    finally:
        index.flush()
        index.close()
        cache.close()
