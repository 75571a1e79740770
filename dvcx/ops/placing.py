"""Carrying out a placement: stage everything, verified, then rename it into the workspace. Nothing is touched before that."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.objects import DIR, LINK, Content, Digest, Entry, entry_content
from dvcx.core.paths import check_path, join
from dvcx.core.plans import Placement
from dvcx.errors import Conflict, DiskRefused, IntegrityError, NotFound, UnsafeInput, display
from dvcx.events import Advanced, Began, Emit, Ended
from dvcx.io import place
from dvcx.io.statindex import CODES, Row, StatIndex
from dvcx.io.store.store import Store, Wanted, wanted
from dvcx.io.workspace import Rules
from dvcx.ops.looking import stored_trees

if TYPE_CHECKING:
    from dvcx.project import Project

MAX_DIRECTORIES = 1 << 20
ASIDE = "aside-"
"""In the staging directory: old outputs of a stage that runs, which may take days. `repro` itself takes them back."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Bytes that were about to be overwritten and are in the cache now: `dvcx cache get ID FILE` brings them back."""

    path: str
    id: str


def carry_out(project: Project, cache: Store, index: StatIndex, rules: Rules, plan: Placement, *, emit: Emit) -> tuple[int, int]:
    """Place and remove what the plan says; (files placed, bytes placed). Hold the project's lock.

    Raises `NotFound` naming the path when an object is not in the cache; then nothing was touched.
    """
    place.reap_staging(project.staging_dir, 0, spare=ASIDE)
    with place.Staging(project.staging_dir) as staging:
        jobs, rows, files, size = _jobs(cache, plan, staging)
        emit(Began("placing files", files, size))
        began = time.time()
        staged = place.stage(
            cache,
            jobs,
            links=project.links,
            workers=max(2, min(project.jobs, os.cpu_count() or 1)),
            advanced=lambda count, amount: emit(Advanced(count, amount)),
            absent=lambda lacking: _absent(project, lacking, plan, rows),
        )
        if rows:
            staging.settle(time.time() if files else began)
        _swap(project, plan, staging)
        for path, (directory, entries, content) in rows.items():
            index.put(path, _row(entries, content, directory, staged, rules))
        emit(Ended("placing files"))
    return files, size


Jobs = dict[Wanted, list[place.Target]]
Rows = dict[str, tuple[str, list[Entry], Content]]


def _jobs(cache: Store, plan: Placement, staging: place.Staging) -> tuple[Jobs, Rows, int, int]:
    jobs: Jobs = {}
    rows: Rows = {}
    files = size = 0
    read = stored_trees(cache)
    single = staging.directory("f") if plan.files else ""
    for number, (_, entry) in enumerate(plan.files):
        jobs.setdefault(wanted(entry), []).append(place.Target(single, str(number), entry.kind))
        files += 1
        size += entry.size
    for number, (path, entry) in enumerate(plan.directories):
        todo = [(path, entry, f"d{number}")]
        while todo:
            at, here, name = todo.pop()
            # Small trees can name one another again and again: what they spell out has no natural end.
            check_path(at, cache.label)
            if len(rows) >= MAX_DIRECTORIES:
                raise UnsafeInput(
                    f"{display(path)}: it holds more than {MAX_DIRECTORIES:,} directories", "find out who recorded it, and how"
                )
            directory = staging.directory(name)
            content = entry_content(here)
            entries = read(at, content)
            rows[at] = (directory, entries, content)
            for child in entries:
                if child.kind == DIR:
                    todo.append((join(at, child.name), child, f"{name}/{child.name}"))
                else:
                    item = Wanted(child.id, child.seal, child.size)
                    target = place.Target(directory, child.name, child.kind)
                    if item in jobs:
                        jobs[item].append(target)
                    else:
                        jobs[item] = [target]
                    files += 1
                    size += child.size
    return jobs, rows, files, size


def _absent(project: Project, lacking: set[Wanted], plan: Placement, rows: Rows) -> NotFound:
    first = next((path for path, entry in plan.files if wanted(entry) in lacking), "") or next(
        path for path, (_, entries, _) in rows.items() if any(wanted(entry) in lacking for entry in entries)
    )
    remotes = project.config.remotes()
    count = f"{len(lacking):,} objects are" if len(lacking) > 1 else f"object {min(lacking).id} is"
    return NotFound(
        f"{count} not in the cache; '{display(first)}' needs {'them' if len(lacking) > 1 else 'it'}",
        f"dvcx pull {display(first)}" if remotes else "there is no remote to get it from: dvcx remote add -d NAME URL, dvcx pull",
    )


def _swap(project: Project, plan: Placement, staging: place.Staging) -> None:
    root = project.root
    for path in plan.removed:
        place.remove_file(root, path)
    left = [path for path in plan.removed_directories if not place.remove_directory(root, path)]
    blocked = {path for path, _ in (*plan.files, *plan.directories)} & set(left)
    if blocked:
        path = min(blocked)
        raise Conflict(f"{display(path)}: it still holds files that .dvcxignore names", "move them away, then run it again")
    for number, (path, _) in enumerate(plan.files):
        place.move_in(root, path, f"{staging.path}/f/{number}")
    for number, (path, _) in enumerate(plan.directories):
        place.move_in(root, path, f"{staging.path}/d{number}")


def _row(entries: list[Entry], content: Content, directory: str, staged: dict[tuple[str, str], place.Stat], rules: Rules) -> Row:
    ordered = sorted(entries, key=lambda entry: entry.name)
    flat: list[int] = []
    for entry in ordered:
        if entry.kind == DIR:
            flat += (CODES[DIR], 0, entry.size, 0, 0)
        else:
            inode, size, mtime, ctime = staged[directory, entry.name]
            flat += (CODES[entry.kind], inode, size, mtime, ctime)
    return Row(
        "\0".join([entry.name for entry in ordered]).encode(),
        array("q", flat).tobytes(),
        "\n".join([f"{entry.id} {entry.seal}" for entry in ordered]).encode(),
        array("q", [entry.files for entry in ordered]).tobytes(),
        content,
        rules.fingerprint,
    )


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
    except IntegrityError:
        return False
    return True


def keep(project: Project, cache: Store, entries: list[tuple[str, Entry]], *, emit: Emit) -> tuple[Kept, ...]:
    """Store files that are about to be overwritten and are nowhere else, durably."""
    from dvcx.io.files import open_parent
    from dvcx.io.store.intake import Intake
    from dvcx.io.store.writer import Writer

    kept = []
    with Writer(cache, "", packing=project.config.get("cache.pack") != "never", fsync=project.fsync) as writer:
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
