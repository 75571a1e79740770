"""diff: compare tracked data between two revisions, or between a revision and the workspace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.changes import (
    ADDED,
    DELETED,
    MODIFIED,
    RENAMED,
    Change,
    Difference,
    ReadTree,
    differences,
    file_changes,
    files_below,
)
from dvcx.core.objects import DIR, FILE, Content, Entry, entry_content
from dvcx.core.paths import contains, several
from dvcx.core.records import POINTER_SUFFIX
from dvcx.errors import NotFound, display
from dvcx.events import Emit, ignore
from dvcx.io.statindex import StatIndex
from dvcx.io.store.store import Store
from dvcx.ops import records
from dvcx.ops.looking import entry_at, observe, stored_trees, workspace_trees
from dvcx.ops.records import Tracked

if TYPE_CHECKING:
    from dvcx.project import Project

Contents = dict[str, Content]


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed from `a` to `b` ("" is the workspace): files, how many of each kind, and the difference in bytes.

    A directory that came or went as a whole and whose listing is not in the cache counts as one change.
    """

    a: str
    b: str
    changes: tuple[Change, ...]
    added: int
    deleted: int
    modified: int
    renamed: int
    size_delta: int


def diff(project: Project, a: str = "HEAD", b: str = "", *, targets: Sequence[str] = (), emit: Emit = ignore) -> Diff:
    """Compare what revision `a` recorded with what `b` recorded, or with the workspace as it is.

    Raises `NotFound` for an unknown revision or target, and when the listing of a changed directory is not in the cache.
    """
    targets = several(targets)
    before = records.load(project, a)
    after = records.load(project, b)
    cache = project.cache(emit)
    index = project.stat_index(emit) if not b else None
    try:
        read_old = _reader(cache, a)
        old = before.contents()
        if index is None:
            read_new, new = _reader(cache, b), after.contents()
        else:
            read_new, new = workspace_trees(index), _workspace(project, after, targets, old, index, emit)
        pairs = _chosen(before, after, old, new, targets, read_old, read_new)
        found = (item for path in sorted(pairs) for item in differences(path, *pairs[path], read_old, read_new))
        changes = file_changes(_countable(found, read_old, read_new), read_old, read_new)
    finally:
        if index is not None:
            index.flush()
            index.close()
        cache.close()
    counts = {state: sum(1 for change in changes if change.state == state) for state in (ADDED, DELETED, MODIFIED, RENAMED)}
    delta = sum(max(change.new_size, 0) - max(change.old_size, 0) for change in changes)
    return Diff(a, b, tuple(changes), counts[ADDED], counts[DELETED], counts[MODIFIED], counts[RENAMED], delta)


def _reader(cache: Store, rev: str) -> ReadTree:
    read_stored = stored_trees(cache)

    def read(path: str, content: Content) -> list[Entry]:
        try:
            return read_stored(path, content)
        except NotFound as error:
            raise NotFound(
                f"{error.message}: needed for what '{display(path)}' was at {display(rev)}",
                f"git checkout {display(rev)}, dvcx fetch {display(path)}, and back; or leave it out with --target",
            ) from None

    return read


def _workspace(
    project: Project, tracked: Tracked, targets: Sequence[str], old: Mapping[str, Content], index: StatIndex, emit: Emit
) -> Contents:
    """What is at the tracked paths now, outputs of stages that were never recorded included."""
    known = {*tracked.pointers, *(out.path for stage in tracked.stages for out in stage.outs if out.cache)}
    if targets:
        paths = [target.removesuffix(POINTER_SUFFIX) for target in targets]
        if not any(stage.named(target) for stage in tracked.stages for target in targets):
            known = {path for path in known if any(contains(path, other) or contains(other, path) for other in paths)}
    found = observe(project, known, index=index, rules=project.rules(), emit=emit)
    return {path: content for path, content in found.items() if content is not None}


def _chosen(
    before: Tracked,
    after: Tracked,
    old: Contents,
    new: Contents,
    targets: Sequence[str],
    read_old: ReadTree,
    read_new: ReadTree,
) -> dict[str, tuple[Content | None, Content | None]]:
    """Old and new content of every path to compare; a target inside a tracked directory is a path of its own."""
    everything = {path: (old.get(path), new.get(path)) for path in {*old, *new}}
    if not targets:
        return everything
    chosen: dict[str, tuple[Content | None, Content | None]] = {}
    for target in targets:
        outs = {out.path for side in (before, after) for stage in side.stages for out in stage.outs if stage.named(target)}
        pointed = target.removesuffix(POINTER_SUFFIX)
        found = [path for path in everything if contains(target, path) or path in outs or path == pointed]
        if found:
            chosen.update((path, everything[path]) for path in found)
            continue
        inside = (_inside(old, target, read_old), _inside(new, target, read_new))
        if inside == (None, None):
            if any(contains(path, target) for path in everything):
                raise NotFound(f"{display(target)} is on neither side", "dvcx list shows what is tracked")
            raise records.not_tracked(after, target)
        chosen[target] = inside
    return chosen


def _inside(contents: Contents, path: str, read: ReadTree) -> Content | None:
    owner = next((known for known in contents if contains(known, path)), "")
    entry = entry_at(read, owner, contents[owner], path) if owner else None
    return None if entry is None else entry_content(entry)


def _countable(found: Iterable[Difference], read_old: ReadTree, read_new: ReadTree) -> Iterator[Difference]:
    """Differences in which a directory on one side only, whose listing is not at hand, stands for one file."""
    for item in found:
        if item.old is None or item.new is None:
            yield Difference(item.path, _listed(item.path, item.old, read_old), _listed(item.path, item.new, read_new))
        else:
            yield item


def _listed(path: str, entry: Entry | None, read: ReadTree) -> Entry | None:
    if entry is None or entry.kind != DIR:
        return entry
    try:
        for _ in files_below(path, entry, read):
            pass
    except NotFound:
        return entry._replace(kind=FILE)
    return entry
