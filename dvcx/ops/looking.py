"""Seeing what is in the workspace at tracked paths, through the stat index."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from dvcx.core.changes import ReadTree, as_entry
from dvcx.core.objects import DIR, LINK, Content, Entry, entry_content
from dvcx.core.paths import MAX_DEPTH
from dvcx.errors import IntegrityError, NotFound, UnsafeInput, display
from dvcx.events import Advanced, Began, Emit, Ended
from dvcx.io.statindex import StatIndex
from dvcx.io.workspace import Looking, Rules, look_each

if TYPE_CHECKING:
    from dvcx.io.store.store import Store
    from dvcx.project import Project

MAX_DIRECTORIES = 1 << 20


def observe(project: Project, paths: Iterable[str], *, index: StatIndex, rules: Rules, emit: Emit) -> dict[str, Content | None]:
    """What is at each path now. Only what changed since it was last hashed is read."""
    sink = Looking(project.algorithm)
    emit(Began("checking files"))
    found = dict(look_each(project.root, sorted(set(paths)), index=index, sink=sink, rules=rules, advanced=_told(emit)))
    emit(Ended("checking files"))
    return found


def _told(emit: Emit) -> Callable[[int], None]:
    return lambda files: emit(Advanced(files))


def workspace_trees(index: StatIndex) -> ReadTree:
    """Reads directories of the workspace as they were just observed."""

    def read(path: str, content: Content) -> list[Entry]:
        row = index.get(path)
        if row is None or (row.content.id, row.content.seal) != (content.id, content.seal):
            raise IntegrityError(f"{display(path)}: it changed while it was looked at", "run the command again")
        return row.entries()

    return read


def stored_trees(store: Store) -> ReadTree:
    """Reads directories from a store, up to `MAX_DIRECTORIES` of them.

    Small trees can name one another again and again: what they spell out has no natural end.
    """
    count = 0

    def read(path: str, content: Content) -> list[Entry]:
        nonlocal count
        count += 1
        if count > MAX_DIRECTORIES or path.count("/") >= MAX_DEPTH:
            raise too_many(path)
        try:
            return store.read_tree(content)
        except NotFound:
            raise NotFound(
                f"the listing of '{display(path)}' ({content.id}) is not in {store.label}", f"dvcx fetch {display(path)}"
            ) from None

    return read


def too_many(path: str) -> UnsafeInput:
    """The error for recorded directories that spell out without end."""
    return UnsafeInput(
        f"{display(path[:80])}: the recorded directory holds more than {MAX_DIRECTORIES:,} directories, "
        f"or they nest more than {MAX_DEPTH} deep",
        "find out who recorded it, and how",
    )


def entry_at(read: ReadTree, owner: str, content: Content, path: str) -> Entry | None:
    """The entry of `path` in the tracked path `owner`, which has `content`; None when nothing is there. `path` may be `owner`."""
    entry = as_entry("", content)
    here = owner
    for name in path[len(owner) + 1 :].split("/") if path != owner else ():
        if entry.kind != DIR:
            return None
        found = next((child for child in read(here, entry_content(entry)) if child.name == name), None)
        if found is None:
            return None
        entry, here = found, f"{here}/{name}"
    return entry


def content_at(read: ReadTree, owner: str, content: Content, path: str) -> Content | None:
    """The content of `path` in a tracked directory; None when nothing is there, or a link, or no listing tells."""
    try:
        entry = entry_at(read, owner, content, path)
    except (NotFound, IntegrityError):
        return None
    return entry_content(entry) if entry is not None and entry.kind != LINK else None
