"""Replacing workspace files by links to their cache objects, where links are what the project prefers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dvcx.core.changes import as_entry, files_below
from dvcx.core.objects import FILE, Content, Entry
from dvcx.core.plans import Placement
from dvcx.events import Emit
from dvcx.io.statindex import StatIndex
from dvcx.io.store.store import Store
from dvcx.io.workspace import Rules
from dvcx.ops.looking import observe, workspace_trees
from dvcx.ops.placing import carry_out

if TYPE_CHECKING:
    from dvcx.project import Project


def relink(project: Project, cache: Store, index: StatIndex, rules: Rules, paths: Sequence[str], *, emit: Emit) -> None:
    """Turn files of these paths whose objects stand alone in the cache into the preferred hard or symbolic links."""
    if project.links[0] not in ("hardlink", "symlink"):
        return
    plan = Placement()
    for path, content in observe(project, paths, index=index, rules=rules, emit=emit).items():
        if content is not None:
            plan.files.extend(_unlinked(project, cache, index, path, content))
    if plan.files:
        carry_out(project, cache, index, rules, plan, emit=emit)
        observe(project, paths, index=index, rules=rules, emit=emit)
    index.flush()


def _unlinked(project: Project, cache: Store, index: StatIndex, path: str, content: Content) -> list[tuple[str, Entry]]:
    found = []
    for name, entry in files_below(path, as_entry("", content), workspace_trees(index)):
        if entry.kind != FILE or not entry.size or not cache.is_loose(entry.id):
            continue
        here, there = f"{project.root}/{name}", cache.loose_path(entry.id)
        if not os.path.samefile(here, there) or (project.links[0] == "symlink" and not os.path.islink(here)):
            found.append((name, entry))
    return found
