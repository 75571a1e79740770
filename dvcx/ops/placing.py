"""Carrying out a placement: stage everything, verified, then rename it into the workspace. Nothing is touched before that."""

from __future__ import annotations

import contextlib
import os
import stat
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dvcx.core.changes import as_entry, files_below
from dvcx.core.objects import LINK, Digest, Entry
from dvcx.core.paths import fold, join, parent, twins
from dvcx.core.plans import Placement
from dvcx.errors import Conflict, DiskRefused, IntegrityError, NotFound, UnsafeInput, display
from dvcx.events import Emit, Ended, Warned
from dvcx.io import filesystem, place
from dvcx.io.files import open_parent
from dvcx.io.statindex import FIELDS, Row, StatIndex
from dvcx.io.store import fresh
from dvcx.io.store.store import Store, wanted
from dvcx.io.workspace import Looking, Rules, is_stale_link, look
from dvcx.ops.looking import stored_trees
from dvcx.ops.staging import stage

if TYPE_CHECKING:
    from dvcx.project import Project

ASIDE = "aside-"
"""In the staging directory: old outputs of a stage that runs, which may take days. `repro` itself takes them back."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Bytes that were about to be overwritten and are in the cache now: `dvcx cache get ID FILE` brings them back."""

    path: str
    id: str


def carry_out(
    project: Project,
    cache: Store,
    index: StatIndex,
    rules: Rules,
    plan: Placement,
    *,
    ready: Callable[[], None] = lambda: None,
    emit: Emit,
) -> tuple[int, int]:
    """Place and remove what the plan says; (files placed, bytes placed). Hold the project's lock.

    `ready` is called when all is staged and nothing was touched yet. Raises `NotFound` naming the path when an object is not in
    the cache; then nothing was touched, and `ready` was not called.
    """
    _check_free(project, plan)
    _check_twins(project, cache, plan)
    reap(project)
    with place.Staging(project.staging_dir) as staging:
        rows, files, size = stage(project, cache, rules, plan, staging, emit=emit)
        ready()
        _check_unchanged(project, plan, index)
        _swap(project, plan, staging)
        for path, row in rows.items():
            index.put(path, row)
        emit(Ended("placing files"))
    _note_use(cache, plan, rows, files)
    return files, size


def delete(project: Project, plan: Placement, *, emit: Emit) -> None:
    """Carry out a plan that only takes files away. A directory that holds something else stays, and that is told."""
    for path in plan.removed:
        place.remove_file(project.root, path)
    for path in plan.removed_directories:
        if not place.remove_directory(project.root, path):
            emit(Warned(f"{display(path)} stays: it holds files that .dvcxignore names"))


def _note_use(cache: Store, plan: Placement, rows: Mapping[str, Row], files: int) -> None:
    """What was placed, and what the cache alone holds from now on, was used: a collection counts its age from today."""
    if not fresh.may_age(cache):
        return
    used: list[bytes] | None = None
    if files + len(plan.overwritten) <= fresh.MANY:
        ids = {entry.id for _, entry in (*plan.files, *plan.directories, *plan.overwritten)}
        for row in rows.values():
            ids.update(line.partition(" ")[0] for line in row.hashes.decode().split("\n") if line)
        used = fresh.keys_of(ids)
    fresh.freshen(cache, used)


def reap(project: Project) -> None:
    """Remove what a killed command left in the staging directory. Hold the project's lock."""
    place.reap_staging(project.staging_dir, 0, spare=ASIDE)


def _swap(project: Project, plan: Placement, staging: place.Staging) -> None:
    root = project.root
    for path in plan.removed:
        place.remove_file(root, path)
    left = [path for path in plan.removed_directories if not place.remove_directory(root, path)]
    blocked = {path for path, _ in (*plan.files, *plan.directories)} & set(left)
    if blocked:
        raise _holds_ignored(min(blocked))
    for number, (path, _) in enumerate(plan.files):
        place.move_in(root, path, f"{staging.path}/f/{number}")
    for number, (path, _) in enumerate(plan.directories):
        place.move_in(root, path, f"{staging.path}/d{number}")


def _holds_ignored(path: str) -> Conflict:
    return Conflict(f"{display(path)}: it still holds files that .dvcxignore names", "move them away, then run it again")


def _check_free(project: Project, plan: Placement) -> None:
    """Raise `Conflict` when files that .dvcxignore names stand where a directory has to come or go whole."""
    gone = {*plan.removed, *plan.removed_directories}
    for path in {path for path, _ in (*plan.files, *plan.directories)} & set(plan.removed_directories):
        for at, directories, names in os.walk(f"{project.root}/{path}"):
            here = os.path.relpath(at, project.root)
            if any(f"{here}/{name}" not in gone for name in (*directories, *names)):
                raise _holds_ignored(path)
    for path, _ in plan.directories:
        if path not in gone and os.path.lexists(f"{project.root}/{path}"):
            raise _holds_ignored(path)


def _check_twins(project: Project, cache: Store, plan: Placement) -> None:
    """Raise `UnsafeInput` naming two paths that the file system they go to would take for one, so that one would be lost."""
    folding = _folding(project, {parent(path) for path, _ in (*plan.files, *plan.directories)})
    if not folding:
        return
    read = stored_trees(cache)
    coming = [path for path, _ in plan.files]
    for path, entry in plan.directories:
        coming.extend(below for below, _ in files_below(path, entry, read))
    names = dict.fromkeys(prefix for path in coming for prefix in _prefixes(path))
    found = twins([*names, *_staying(project, folding, {fold(name) for name in names}, plan)])
    if found is not None:
        raise UnsafeInput(
            f"{display(found[0])} and {display(found[1])}: this file system takes them for one name (case or accents); "
            "nothing was touched",
            "rename one of the two where they are told apart, or move the project to such a file system",
        )


def _staying(project: Project, bases: set[str], folded: set[str], plan: Placement) -> Iterator[str]:
    """What is in some directories, stays there, and has one of the folded names."""
    gone = {*plan.removed, *plan.removed_directories}
    for base in bases:
        with contextlib.suppress(OSError):
            for name in os.listdir(f"{project.root}/{base}"):
                path = join(base, name)
                if path not in gone and fold(path) in folded:
                    yield path


def _folding(project: Project, bases: set[str]) -> set[str]:
    """Those of some directories that lie on a file system where names that differ only in case are one."""
    known = {os.stat(project.root).st_dev: filesystem.one_name(project.root, ".dvcx")}
    found = set()
    for base in bases:
        here = base
        while here and not os.path.isdir(f"{project.root}/{here}"):
            here = parent(here)
        device = os.stat(f"{project.root}/{here}").st_dev
        if device not in known:
            known[device] = filesystem.folds(f"{project.root}/{here}")
        if known[device]:
            found.add(base)
    return found


def _prefixes(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: number + 1]) for number in range(len(parts))]


def find_strangers(project: Project, plan: Placement, index: StatIndex, rules: Rules) -> None:
    """What .dvcxignore hides but the plan would replace counts as overwritten too; what is right already is left alone."""
    if rules.ignored is None:
        return
    seen = {*(path for path, _ in plan.overwritten), *plan.removed_directories}
    files = []
    for path, entry in plan.files:
        there = None if path in seen else _stranger(project, path, index, rules)
        if there is None:
            files.append((path, entry))
            continue
        found, status = there
        if (found.kind, found.id, found.seal) != (entry.kind, entry.id, entry.seal):
            files.append((path, entry))
            plan.overwritten.append((path, found))
            plan.strangers[path] = _numbers(status)
    plan.files[:] = files


class Link(NamedTuple):
    """A symbolic link that is data itself: its entry, its target, and inode, size, mtime_ns and ctime_ns."""

    entry: Entry
    target: bytes
    numbers: tuple[int, ...]


def link_at(project: Project, path: str, rules: Rules) -> Link | None:
    """The symbolic link at a project path; None for anything else, and for a link into a cache, which dvcx placed."""
    try:
        parent, leaf = open_parent(project.root, path)
    except NotFound:
        return None
    try:
        status = os.lstat(leaf, dir_fd=parent)
        if not stat.S_ISLNK(status.st_mode) or is_stale_link(leaf, parent, rules.objects):
            return None
        target = os.fsencode(os.readlink(leaf, dir_fd=parent))
    except OSError:
        return None
    finally:
        os.close(parent)
    if rules.objects and target.startswith(os.fsencode(rules.objects + "/")):
        return None
    names = Looking(project.algorithm).link(target)
    return Link(Entry("", LINK, len(target), names.id, names.seal), target, _numbers(status))


def _stranger(project: Project, path: str, index: StatIndex, rules: Rules) -> tuple[Entry, os.stat_result] | None:
    try:
        status = os.lstat(f"{project.root}/{path}")
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise _holds_ignored(path)
    sink = Looking(project.algorithm)
    if stat.S_ISLNK(status.st_mode):
        if is_stale_link(f"{project.root}/{path}", None, rules.objects):
            return None
        target = os.fsencode(os.readlink(f"{project.root}/{path}"))
        names = sink.link(target)
        return Entry("", LINK, len(target), names.id, names.seal), status
    content = look(project.root, path, index=index, sink=sink, rules=Rules(None, "", rules.objects))
    return (as_entry("", content), status) if content is not None else None


def _numbers(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _check_unchanged(project: Project, plan: Placement, index: StatIndex) -> None:
    """Staging takes its time: raise `DiskRefused` when a file that goes is not the one that was looked at any more."""
    known: dict[str, dict[str, tuple[int, ...]]] = {}
    for path in (*plan.removed, *(path for path, _ in plan.files)):
        try:
            status = os.lstat(f"{project.root}/{path}")
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            # It goes when it is empty then, or the rename is refused.
            continue
        if is_stale_link(f"{project.root}/{path}", None, f"{project.cache_dir}/objects"):
            # It was passed over when the workspace was looked at.
            continue
        base, _, name = path.rpartition("/")
        if base not in known:
            known[base] = _known(index, base)
        # It was looked at as part of a directory, or as a file that is tracked by itself.
        wanted = plan.strangers.get(path) or known[base].get(name)
        if not _is_still(project, path, status, wanted) and not _is_still(project, path, status, _known(index, path).get(name)):
            raise DiskRefused(f"{display(path)}: it changed meanwhile; nothing was touched", "run the command again")


def _is_still(project: Project, path: str, status: os.stat_result, wanted: tuple[int, ...] | None) -> bool:
    if wanted is None:
        return False
    if stat.S_ISLNK(status.st_mode) and wanted[0] != status.st_ino:
        # A link that dvcx placed: what was looked at is the object.
        with contextlib.suppress(OSError):
            status = os.stat(f"{project.root}/{path}")
    now = _numbers(status)
    # A stamp that is not trusted is remembered as 0.
    return now[:3] == wanted[:3] and wanted[3] in (0, now[3])


def _known(index: StatIndex, path: str) -> dict[str, tuple[int, ...]]:
    """What stat said of the files of a directory, or of a file that is tracked by itself, when they were looked at."""
    row = index.get(path) if path else None
    if row is None or not row.names:
        return {}
    stats = array("q", row.stats)
    names = row.names.decode("utf-8", "surrogateescape").split("\0")
    return {name: tuple(stats[at * FIELDS + 1 : at * FIELDS + FIELDS]) for at, name in enumerate(names)}


def unsaved(cache: Store, overwritten: Sequence[tuple[str, Entry]]) -> list[tuple[str, Entry]]:
    """Those of the files about to be overwritten whose very bytes (id and seal) are not in the cache."""
    held = cache.have({entry.id for _, entry in overwritten})
    return [(path, entry) for path, entry in overwritten if not _is_held(cache, entry, held.get(entry.id))]


def _is_held(cache: Store, entry: Entry, sealed: bytes | None) -> bool:
    if sealed is None:
        return False
    if sealed:
        return sealed.hex() == entry.seal
    try:
        cache.check_loose(wanted(entry))
    except (IntegrityError, NotFound):
        return False
    return True


def keep(project: Project, cache: Store, entries: list[tuple[str, Entry]], *, emit: Emit) -> tuple[Kept, ...]:
    """Store files that are about to be overwritten and are nowhere else, durably."""
    from dvcx.io.store.intake import Intake

    kept = []
    with project.writer(cache) as writer:
        intake = Intake(writer, project.algorithm)
        for path, entry in entries:
            parent, leaf = open_parent(project.root, path)
            try:
                if entry.kind == LINK:
                    names = intake.link(os.fsencode(os.readlink(leaf, dir_fd=parent)))
                else:
                    names, _ = intake.file(leaf, parent, path)
            finally:
                os.close(parent)
            if names != Digest(entry.id, entry.seal):
                raise DiskRefused(f"{display(path)}: it changed while it was looked at", "run the command again")
            kept.append(Kept(path, names.id))
        writer.commit()
    return tuple(kept)
