"""checkout: make the workspace what the pointers and locks record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.changes import ReadTree, as_entry
from dvcx.core.globs import Globs
from dvcx.core.objects import DIR, Content, Entry, entry_content
from dvcx.core.partial import Mark, chosen_entries
from dvcx.core.paths import contains
from dvcx.core.pipeline.schema import split_address
from dvcx.core.plans import Placement, plan_entry, plan_placement
from dvcx.errors import Conflict, NotFound, display
from dvcx.events import Emit, Warned, ignore
from dvcx.io import git
from dvcx.io.place import check_way
from dvcx.io.statindex import StatIndex
from dvcx.io.store.store import Store
from dvcx.io.workspace import Rules
from dvcx.ops import placed, records
from dvcx.ops.looking import entry_at, observe, stored_trees, workspace_trees
from dvcx.ops.placing import Kept, carry_out, find_strangers, keep, link_at, unsaved
from dvcx.ops.records import Choice, Tracked

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
    project: Project,
    targets: Sequence[str] = (),
    *,
    globs: Sequence[str] = (),
    force: bool = False,
    dry_run: bool = False,
    emit: Emit = ignore,
) -> CheckedOut:
    """Place the recorded contents of targets (all without any), or of the recorded paths that `globs` name.

    Raises `Conflict` when that would overwrite bytes that are nowhere else (`force` saves them in the cache first),
    `NotFound` naming the path when an object is not in the cache, `IntegrityError`; then nothing was touched.
    """
    chosen = records.choice(targets, globs)
    with project.lock("dvcx checkout", emit), project.cache_reader_lock("dvcx checkout", emit):
        tracked = records.load(project)
        cache = project.cache(emit)
        index = project.stat_index(emit)
        try:
            return place(project, tracked, chosen, cache, index, force=force, dry_run=dry_run, emit=emit)
        finally:
            index.flush()
            index.close()
            cache.close()


@dataclass(frozen=True, slots=True)
class _Goal:
    """What is to be at a path, and what is there now. None is nothing."""

    path: str
    now: Entry | None
    wanted: Entry | None

    @property
    def met(self) -> bool:
        return _bare(self.now) == _bare(self.wanted)


def place(
    project: Project,
    tracked: Tracked,
    chosen: Choice,
    cache: Store,
    index: StatIndex,
    *,
    force: bool,
    dry_run: bool,
    emit: Emit,
) -> CheckedOut:
    """The work of `checkout`, with the project's lock held."""
    rules = project.rules()
    plan = Placement()
    if chosen.globs is not None:
        goals = _named(project, tracked, chosen.globs, cache, index, rules, emit)
    else:
        goals = _goals(project, tracked, chosen.targets, cache, index, rules, plan, emit)
    for goal in goals:
        plan_entry(goal.path, goal.now, goal.wanted, workspace_trees(index), stored_trees(cache), plan)
    for goal in goals:
        if goal.now is None and goal.wanted is not None:
            check_way(project.root, goal.path)
    find_strangers(project, plan, index, rules)
    lost = unsaved(cache, plan.overwritten)
    if lost and not force:
        raise _in_the_way(lost)
    unchanged = sum(1 for goal in goals if goal.met)
    changes = _paths(plan)
    count, size = _amount(plan)
    kept: list[Kept] = []

    def ready() -> None:
        # Not before: what is in the cache counts as saved, also for the next command, should this one fail.
        if lost:
            with project.cache_writer_lock("dvcx checkout", emit):
                kept.extend(keep(project, cache, lost, emit=emit))
        placed.forget(project, tracked, [goal.path for goal in goals if not goal.met])

    if not dry_run and not plan.empty:
        carry_out(project, cache, index, rules, plan, ready=ready, emit=emit)
    if not dry_run:
        placed.note(project, tracked, {goal.path: _mark(goal.wanted) for goal in goals})
    return CheckedOut(count, len(plan.removed), unchanged, size, changes, tuple(kept))


def _goals(
    project: Project,
    tracked: Tracked,
    targets: Sequence[str],
    cache: Store,
    index: StatIndex,
    rules: Rules,
    plan: Placement,
    emit: Emit,
) -> list[_Goal]:
    read, recorded = stored_trees(cache), tracked.contents()
    wanted: dict[str, Entry | None] = {
        path: as_entry("", content) if path in recorded else entry_of(tracked, read, path, content)
        for path, content in records.select(tracked, targets).items()
    }
    gone = [] if targets else _no_longer_tracked(project, tracked, emit)
    now: dict[str, Entry | None] = {}
    plain = []
    for path in wanted:
        link = link_at(project, path, rules) if path not in recorded else None
        if link is None:
            plain.append(path)
        else:
            # No walk sees a link by itself: what it is now is remembered here, to be looked at again before it goes.
            now[path], plan.strangers[path] = link.entry, link.numbers
    seen = observe(project, [*plain, *gone], index=index, rules=rules, emit=emit)
    now.update((path, None if content is None else as_entry("", content)) for path, content in seen.items())
    wanted.update((path, now[path] if _is_unsaved(path, seen[path], cache, index) else None) for path in gone)
    return [_Goal(path, now[path], wanted[path]) for path in sorted(wanted)]


def _named(
    project: Project, tracked: Tracked, globs: Globs, cache: Store, index: StatIndex, rules: Rules, emit: Emit
) -> list[_Goal]:
    """What wildcards name among the recorded paths; of the recorded directories only those that can hold a match are read."""
    contents = records.within_reach(tracked, globs)
    now = observe(project, contents, index=index, rules=rules, emit=emit)
    goals: list[_Goal] = []
    for path in sorted(contents):
        here = now[path]
        entry = None if here is None else as_entry("", here)
        found = chosen_entries(
            path, entry, as_entry("", contents[path]), globs.names, globs.leads, workspace_trees(index), stored_trees(cache)
        )
        goals += [_Goal(*item) for item in found]
    if not goals:
        raise records.nothing_named(globs)
    return goals


def entry_of(tracked: Tracked, read: ReadTree, path: str, content: Content) -> Entry:
    """The recorded entry of `path`, which may lie inside the tracked directory that has `content`."""
    owner = records.owner_of(tracked, path)
    if owner == path or not owner:
        return as_entry("", content)
    entry = entry_at(read, owner, content, path)
    if entry is None:
        raise NotFound(f"{display(path)} is not in '{display(owner)}' as recorded", f"dvcx list {display(owner)}")
    return entry


def _bare(entry: Entry | None) -> tuple[str, str, str] | None:
    return None if entry is None else (entry.kind, entry.id, entry.seal)


def _mark(entry: Entry | None) -> Mark:
    if entry is None:
        return False
    return entry_content(entry) if entry.kind == DIR else True


def _no_longer_tracked(project: Project, tracked: Tracked, emit: Emit) -> list[str]:
    """Paths that were tracked when this workspace was last written and are not any more (another commit is checked out)."""
    contents = tracked.contents()
    known = [*contents, *(out.path for stage in tracked.stages for out in stage.outs)]
    gone = [
        path for path in placed.load(project) if not any(contains(other, path) or contains(path, other) for other in known)
    ]
    locked = {path: address for address, entry in tracked.lock.items() for path in entry.outs}
    left = [path for path in gone if path in locked]
    if left:
        # Half a dvcx.yaml may be valid YAML: what the lock still knows was not given up.
        stage, pipeline = locked[left[0]], split_address(locked[left[0]])[0]
        more = f" and {len(left) - 1:,} more outputs" if len(left) > 1 else ""
        emit(
            Warned(
                f"{display(left[0])}{more} stayed: the lock still names it as written by stage '{display(stage)}', "
                f"which {display(pipeline)} no longer has",
                f"restore {display(pipeline)} (git checkout -- {display(pipeline)}), or take the stage out of its lock too",
            )
        )
    gone = [path for path in gone if path not in locked]
    # Another commit may keep the same path in git itself.
    kept = git.tracked(project.git, gone) if gone and project.git is not None else set()
    return [path for path in gone if path not in kept]


def _is_unsaved(path: str, now: Content | None, cache: Store, index: StatIndex) -> bool:
    """What is no longer tracked goes only when every byte of it is in the cache; else it simply stays."""
    plan = Placement()
    plan_placement(path, now, None, workspace_trees(index), stored_trees(cache), plan)
    return bool(unsaved(cache, plan.overwritten))


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
