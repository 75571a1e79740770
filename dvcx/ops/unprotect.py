"""unprotect: give files that are linked to the cache bytes of their own, so that they can be edited."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.changes import as_entry, files_below
from dvcx.core.objects import EXEC, FILE, Content, Entry
from dvcx.core.paths import several
from dvcx.core.plans import Placement
from dvcx.errors import display
from dvcx.events import Emit, Warned, ignore
from dvcx.io.place import detach
from dvcx.io.statindex import StatIndex
from dvcx.io.store.store import Store
from dvcx.io.workspace import Rules
from dvcx.ops import records
from dvcx.ops.looking import observe, workspace_trees
from dvcx.ops.placing import carry_out

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class Unprotected:
    """The files that were links into the cache and are copies now."""

    paths: tuple[str, ...]


def unprotect(project: Project, targets: Sequence[str], *, emit: Emit = ignore) -> Unprotected:
    """Replace links into the cache at or below the targets by writable copies, verified while they are made.

    A file that was edited in place, through its link, keeps the bytes it has now.

    Raises `NotFound` for a target that is not tracked, `IntegrityError` for a corrupt object; then nothing was touched.
    """
    targets = several(targets)
    with project.lock("dvcx unprotect", emit), project.cache_reader_lock("dvcx unprotect", emit):
        tracked = records.load(project)
        cache = project.cache(emit)
        index = project.stat_index(emit)
        try:
            paths = records.select(tracked, targets)
            return Unprotected(free(project, cache, index, project.rules(), paths, emit=emit))
        finally:
            index.flush()
            index.close()
            cache.close()


def free(
    project: Project, cache: Store, index: StatIndex, rules: Rules, paths: Iterable[str], *, emit: Emit
) -> tuple[str, ...]:
    """The work of `unprotect` for tracked paths, with the project's lock held; the files replaced."""
    chosen = list(paths)
    plan = Placement()
    edited: list[str] = []
    objects = _Objects(cache)
    for path, content in observe(project, chosen, index=index, rules=rules, emit=emit).items():
        if content is not None:
            for name, entry in _linked(project, index, path, content, objects):
                plan.files.append((name, entry)) if objects.holds(project, name, entry) else edited.append(name)
    if plan.files:
        carry_out(_copying(project), cache, index, rules, plan, emit=emit)
    for name in edited:
        # The bytes are nobody's but the user's: they stay, and so does what the cache has under another name now.
        detach(project.root, name)
        emit(Warned(f"{display(name)}: its copy in the cache was edited through the link; dvcx pull gets the right one again"))
    if plan.files or edited:
        observe(project, chosen, index=index, rules=rules, emit=emit)
    return tuple(sorted([*(path for path, _ in plan.files), *edited]))


class _Objects:
    """The files of a cache that are objects, known by inode; listed when the first one is asked for."""

    def __init__(self, cache: Store) -> None:
        self._cache = cache
        self._inodes: set[tuple[int, int]] | None = None

    def has(self, found: os.stat_result) -> bool:
        """Whether a file is one of them, whatever is in it now."""
        if self._inodes is None:
            paths = (self._cache.loose_path(object_id) for object_id, _ in self._cache.loose_objects())
            self._inodes = {(status.st_dev, status.st_ino) for status in map(os.lstat, paths)}
        return (found.st_dev, found.st_ino) in self._inodes

    def holds(self, project: Project, name: str, entry: Entry) -> bool:
        """Whether the file `name` is the object that its bytes have the name of."""
        if not self._cache.is_loose(entry.id):
            return False
        return os.path.samestat(os.stat(f"{project.root}/{name}"), os.lstat(self._cache.loose_path(entry.id)))


def _linked(project: Project, index: StatIndex, path: str, content: Content, objects: _Objects) -> list[tuple[str, Entry]]:
    found = []
    for name, entry in files_below(path, as_entry("", content), workspace_trees(index)):
        if entry.kind not in (FILE, EXEC):
            continue
        here = os.lstat(f"{project.root}/{name}")
        # A symbolic link that counts as a file is one that dvcx placed: see `Rules.objects`.
        if stat.S_ISLNK(here.st_mode) or (here.st_nlink > 1 and objects.has(here)):
            found.append((name, entry))
    return found


def _copying(project: Project) -> Project:
    """The project with links that share no bytes that could be written through."""
    config = project.config._replace(values={**project.config.values, "cache.link": ("reflink", "copy")})
    return dataclasses.replace(project, config=config)
