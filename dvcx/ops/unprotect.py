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
from dvcx.events import Emit, ignore
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
    for path, content in observe(project, chosen, index=index, rules=rules, emit=emit).items():
        if content is not None:
            plan.files.extend(_linked(project, cache, index, path, content))
    if plan.files:
        carry_out(_copying(project), cache, index, rules, plan, emit=emit)
        observe(project, chosen, index=index, rules=rules, emit=emit)
    return tuple(sorted(path for path, _ in plan.files))


def _linked(project: Project, cache: Store, index: StatIndex, path: str, content: Content) -> list[tuple[str, Entry]]:
    found = []
    for name, entry in files_below(path, as_entry("", content), workspace_trees(index)):
        if entry.kind not in (FILE, EXEC):
            continue
        here = os.lstat(f"{project.root}/{name}")
        # A symbolic link that counts as a file is one that dvcx placed: see `Rules.objects`.
        if stat.S_ISLNK(here.st_mode) or (here.st_nlink > 1 and _is_object(cache, entry.id, here)):
            found.append((name, entry))
    return found


def _is_object(cache: Store, object_id: str, here: os.stat_result) -> bool:
    return cache.is_loose(object_id) and os.path.samestat(here, os.lstat(cache.loose_path(object_id)))


def _copying(project: Project) -> Project:
    """The project with links that share no bytes that could be written through."""
    config = dataclasses.replace(project.config, values={**project.config.values, "cache.link": ("reflink", "copy")})
    return dataclasses.replace(project, config=config)
