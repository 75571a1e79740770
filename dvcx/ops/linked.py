"""Files of the workspace that are, through a hard or symbolic link, objects of the cache, and were edited in place."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from dvcx.core.changes import differences
from dvcx.core.objects import DIR, TREE, Content
from dvcx.errors import DvcxError
from dvcx.events import Emit
from dvcx.io.statindex import StatIndex
from dvcx.ops.looking import stored_trees, workspace_trees
from dvcx.ops.records import Tracked

if TYPE_CHECKING:
    from dvcx.project import Project

MODIFIED_OBJECT = "cache object modified"


class _Told(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def text(self) -> str: ...


Told = TypeVar("Told", bound=_Told)


def telling(
    project: Project,
    tracked: Tracked,
    changes: Iterable[Told],
    seen: Mapping[str, Content | None],
    index: StatIndex,
    emit: Emit,
) -> list[Told]:
    """The same changes; where a file that was edited is an object of the cache, its text says so."""
    return [_told(project, tracked, change, seen.get(change.path), index, emit) for change in changes]


def _told(
    project: Project, tracked: Tracked, change: Told, now: Content | None, index: StatIndex, emit: Emit
) -> Told:
    if change.state != "modified" or now is None:
        return change
    edited = list(_edited(project, change.path, tracked.pointers[change.path][1].content, now, index, emit))
    if not edited:
        return change
    what = "" if edited == [change.path] else f" ({edited[0]}{f' and {len(edited) - 1:,} more' if len(edited) > 1 else ''})"
    words = f"{MODIFIED_OBJECT} through a link{what}"
    return replace(change, text=f"{words}; {change.text}" if change.text else words)  # type: ignore[type-var]


def _edited(
    project: Project, path: str, old: Content, new: Content, index: StatIndex, emit: Emit
) -> Iterator[str]:
    if old.kind != TREE or new.kind != TREE:
        if _is_object(project, path, old.id):
            yield path
        return
    if not set(project.links) & {"hardlink", "symlink"}:
        return
    cache = project.cache(emit)
    try:
        with contextlib.suppress(DvcxError):
            for change in differences(path, old, new, stored_trees(cache), workspace_trees(index)):
                if change.old and change.new and change.old.kind != DIR and _is_object(project, change.path, change.old.id):
                    yield change.path
    finally:
        cache.close()


def _is_object(project: Project, path: str, object_id: str) -> bool:
    """Whether the file at `path` is the file of that object in the cache, under whatever name it was opened."""
    digits = object_id.partition(":")[2]
    try:
        return os.path.samestat(
            os.stat(f"{project.root}/{path}"), os.lstat(f"{project.cache_dir}/objects/{digits[:2]}/{digits[2:]}")
        )
    except OSError:
        return False
