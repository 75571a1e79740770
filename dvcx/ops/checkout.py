"""checkout: make the workspace what the pointers and locks record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.objects import LINK, Content, Entry, entry_content
from dvcx.core.paths import contains, parent, several
from dvcx.core.plans import Placement, plan_placement
from dvcx.errors import Conflict, NotFound, UsageError, display
from dvcx.events import Emit, ignore
from dvcx.io import git
from dvcx.io.place import check_way
from dvcx.io.statindex import StatIndex
from dvcx.io.store.store import Store
from dvcx.ops import records
from dvcx.ops.looking import entry_at, observe, stored_trees, workspace_trees
from dvcx.ops.placing import Kept, carry_out, find_strangers, keep, unsaved
from dvcx.ops.records import Tracked

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class PathChange:
    """A file or whole directory that was placed or removed. `state` placed, replaced or removed."""

    path: str
    state: str


@dataclass(frozen=True, slots=True)
class CheckedOut:
    """What changed in the workspace, in files and bytes; `unchanged` counts tracked paths; `kept` what --force saved."""

    placed: int
    removed: int
    unchanged: int
    bytes: int
    paths: tuple[PathChange, ...]
    kept: tuple[Kept, ...]


def checkout(
    project: Project, targets: Sequence[str] = (), *, force: bool = False, dry_run: bool = False, emit: Emit = ignore
) -> CheckedOut:
    """Place the recorded contents of targets (all without any).

    Raises `Conflict` when that would overwrite bytes that are nowhere else (`force` saves them in the cache first),
    `NotFound` naming the path when an object is not in the cache, `IntegrityError`; then nothing was touched.
    """
    targets = several(targets)
    with project.lock("dvcx checkout", emit), project.cache_reader_lock("dvcx checkout", emit):
        tracked = records.load(project)
        cache = project.cache(emit)
        index = project.stat_index(emit)
        try:
            return place(project, tracked, targets, cache, index, force=force, dry_run=dry_run, emit=emit)
        finally:
            index.flush()
            index.close()
            cache.close()


def place(
    project: Project,
    tracked: Tracked,
    targets: Sequence[str],
    cache: Store,
    index: StatIndex,
    *,
    force: bool,
    dry_run: bool,
    emit: Emit,
) -> CheckedOut:
    """The work of `checkout`, with the project's lock held."""
    rules = project.rules()
    goal: dict[str, Content | None] = {
        path: at(tracked, cache, path, content) for path, content in records.select(tracked, targets).items()
    }
    if not targets:
        goal.update(dict.fromkeys(_no_longer_tracked(project, tracked)))
    now = observe(project, goal, index=index, rules=rules, emit=emit)
    if not targets:
        _leave_unsaved(goal, now, cache, index)
    plan = Placement()
    for path in sorted(goal):
        plan_placement(path, now[path], goal[path], workspace_trees(index), stored_trees(cache), plan)
    for path in goal:
        if now[path] is None and goal[path] is not None:
            check_way(project.root, path)
    find_strangers(project, plan, index, rules)
    lost = unsaved(cache, plan.overwritten)
    if lost and not force:
        raise _in_the_way(lost)
    unchanged = sum(1 for path in goal if now[path] == goal[path])
    changes = _paths(plan)
    placed, size = _amount(plan)
    kept: tuple[Kept, ...] = ()
    if not dry_run and not plan.empty:
        if lost:
            with project.cache_writer_lock("dvcx checkout", emit):
                kept = keep(project, cache, lost, emit=emit)
        carry_out(project, cache, index, rules, plan, emit=emit)
    if not dry_run:
        records.remember(project, tracked)
    return CheckedOut(placed, len(plan.removed), unchanged, size, changes, kept)


def at(tracked: Tracked, cache: Store, path: str, content: Content) -> Content:
    """The content of `path`, which may lie inside the tracked directory that has `content`."""
    owner = records.owner_of(tracked, path)
    if owner == path or not owner:
        return content
    entry = entry_at(stored_trees(cache), owner, content, path)
    if entry is None:
        raise NotFound(f"{display(path)} is not in '{display(owner)}' as recorded", f"dvcx list {display(owner)}")
    if entry.kind == LINK:
        raise UsageError(f"{display(path)} is a symbolic link", f"take its directory: {display(parent(path))}")
    return entry_content(entry)


def _no_longer_tracked(project: Project, tracked: Tracked) -> list[str]:
    """Paths that were tracked when this workspace was last written and are not any more (another commit is checked out)."""
    contents = tracked.contents()
    known = [*contents, *(out.path for stage in tracked.stages for out in stage.outs)]
    gone = [
        path for path in records.remembered(project) if not any(contains(other, path) or contains(path, other) for other in known)
    ]
    # Another commit may keep the same path in git itself.
    kept = git.tracked(project.git, gone) if gone and project.git is not None else set()
    return [path for path in gone if path not in kept]


def _leave_unsaved(goal: dict[str, Content | None], now: Mapping[str, Content | None], cache: Store, index: StatIndex) -> None:
    """What is no longer tracked goes only when every byte of it is in the cache; else it simply stays."""
    for path in [path for path, content in goal.items() if content is None]:
        plan = Placement()
        plan_placement(path, now[path], None, workspace_trees(index), stored_trees(cache), plan)
        if unsaved(cache, plan.overwritten):
            goal[path] = now[path]


def _in_the_way(lost: Sequence[tuple[str, Entry]]) -> Conflict:
    shown = ", ".join(display(path) for path, _ in lost[:3]) + (f" and {len(lost) - 3:,} more" if len(lost) > 3 else "")
    one = len(lost) == 1
    path = display(lost[0][0]) if one else "PATH..."
    return Conflict(
        f"{shown}: {'it has' if one else 'they have'} changes that were never recorded and would be overwritten",
        f"record them: dvcx commit {path}; or overwrite them (a copy goes to the cache): dvcx checkout --force {path}",
    )


def _paths(plan: Placement) -> tuple[PathChange, ...]:
    before = {path for path, _ in plan.overwritten}
    changes = [PathChange(path, "replaced" if path in before else "placed") for path, _ in plan.files]
    changes += [PathChange(path + "/", "placed") for path, _ in plan.directories]
    changes += [PathChange(path, "removed") for path in plan.removed]
    return tuple(sorted(changes, key=lambda change: change.path))


def _amount(plan: Placement) -> tuple[int, int]:
    entries = [entry for _, entry in (*plan.files, *plan.directories)]
    return sum(entry.files for entry in entries), sum(entry.size for entry in entries)
