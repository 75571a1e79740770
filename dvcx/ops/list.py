"""list: what is tracked, now or at a revision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.changes import ReadTree, as_entry
from dvcx.core.objects import DIR, Content, Entry, entry_content
from dvcx.core.paths import contains, join
from dvcx.core.records import POINTER_SUFFIX
from dvcx.errors import NotFound, display
from dvcx.events import Emit, ignore
from dvcx.ops import records
from dvcx.ops.listings import Listings
from dvcx.ops.looking import entry_at
from dvcx.ops.records import Tracked

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class Listed:
    """One path as recorded: `kind` file, exec, link or dir, bytes and files at or below it, its pointer or stage."""

    path: str
    kind: str
    size: int
    files: int
    id: str
    tracked_by: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What is tracked at a revision ("" is now), by path."""

    rev: str
    items: tuple[Listed, ...]


def list_(project: Project, target: str = "", *, rev: str = "", recursive: bool = False, emit: Emit = ignore) -> Listing:
    """The tracked paths at or below `target`, or what is in the tracked directory `target`; `recursive` lists every file.

    Raises `NotFound` for a target that is not tracked, and when a directory's listing is needed that neither the cache nor its
    remote has, and `RemoteFailed`.
    """
    tracked = records.load(project, rev)
    contents = tracked.contents()
    owners = _owners(tracked)
    cache = project.cache(emit)
    try:
        items: list[Listed] = []
        with Listings(project, tracked, cache, emit) as listings:
            read = listings.read
            for path, entry, owner, named in _chosen(tracked, contents, target, read):
                opened = entry.kind == DIR and (named or recursive)
                for at, found in _below(path, entry, read, recursive) if opened else [(path, entry)]:
                    items.append(Listed(at, found.kind, found.size, found.files, found.id, owners[owner]))
    finally:
        cache.close()
    return Listing(rev, tuple(sorted(items, key=lambda item: item.path)))


def _owners(tracked: Tracked) -> dict[str, str]:
    owners = {path: name for path, (name, _) in tracked.pointers.items()}
    owners.update((out.path, stage.address) for stage in tracked.stages for out in stage.outs)
    return owners


def _chosen(
    tracked: Tracked, contents: dict[str, Content], target: str, read: ReadTree
) -> Iterator[tuple[str, Entry, str, bool]]:
    """What the target names: path, entry, the tracked path it belongs to, and whether it was named itself."""
    pointed = target.removesuffix(POINTER_SUFFIX)
    if not target or target not in contents:
        outs = {out.path for stage in tracked.stages for out in stage.outs if stage.named(target)}
        below = [path for path in contents if contains(target, path) or path in outs or path == pointed]
        for path in below:
            yield path, as_entry("", contents[path]), path, False
        if below or not target:
            return
    owner = next((path for path in contents if contains(path, target)), "")
    if not owner:
        raise records.not_tracked(tracked, target)
    entry = entry_at(read, owner, contents[owner], target)
    if entry is None:
        raise NotFound(f"{display(target)} is not in '{display(owner)}' as recorded", f"dvcx list {display(owner)}")
    yield target, entry, owner, True


def _below(path: str, entry: Entry, read: ReadTree, recursive: bool) -> Iterator[tuple[str, Entry]]:
    for child in read(path, entry_content(entry)):
        if child.kind == DIR and recursive:
            yield from _below(join(path, child.name), child, read, recursive)
        else:
            yield join(path, child.name), child
