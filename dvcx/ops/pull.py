"""pull: fetch, then checkout; a corrupt copy in the cache is replaced on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.errors import IntegrityError
from dvcx.events import Emit, ignore
from dvcx.ops import records
from dvcx.ops.checkout import CheckedOut, place
from dvcx.ops.fetch import Fetched, bring

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class Pulled:
    """What arrived in the cache and what was placed in the workspace."""

    fetched: Fetched
    checkout: CheckedOut


def pull(
    project: Project,
    targets: Sequence[str] = (),
    *,
    globs: Sequence[str] = (),
    remote: str = "",
    jobs: int = 0,
    force: bool = False,
    emit: Emit = ignore,
) -> Pulled:
    """Bring and place what targets (all without any), or the recorded paths that `globs` name, need.

    Raises what `fetch` and `checkout` raise.
    """
    chosen = records.choice(targets, globs)
    with project.lock("dvcx pull", emit), project.cache_writer_lock("dvcx pull", emit):
        tracked = records.load(project)
        cache = project.cache(emit, write=True)
        index = project.stat_index(emit)
        try:
            fetched = bring(project, tracked, chosen, cache, remote=remote, jobs=jobs, emit=emit)
            try:
                placed = place(project, tracked, chosen, cache, index, force=force, dry_run=False, emit=emit)
            except IntegrityError:
                fetched = bring(project, tracked, chosen, cache, remote=remote, jobs=jobs, repair=True, emit=emit)
                placed = place(project, tracked, chosen, cache, index, force=force, dry_run=False, emit=emit)
            return Pulled(fetched, placed)
        finally:
            index.flush()
            index.close()
            cache.close()
