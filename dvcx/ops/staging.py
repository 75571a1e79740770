"""Staging what a placement needs: the files of many directories by helper processes, each taking sub-trees of its own."""

from __future__ import annotations

import json
import os
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dvcx.core.objects import DIR, Content, Entry, entry_content
from dvcx.core.paths import check_path, join
from dvcx.core.plans import Placement
from dvcx.errors import NotFound, UnsafeInput, display
from dvcx.events import Advanced, Began, Emit, ignore
from dvcx.io import place, processes
from dvcx.io.filesystem import check_room
from dvcx.io.statindex import CODES, Row, decode_rows, encode_rows
from dvcx.io.store.store import Store, Wanted, wanted
from dvcx.io.workspace import Rules
from dvcx.ops.looking import stored_trees

if TYPE_CHECKING:
    from dvcx.project import Project

MAX_DIRECTORIES = 1 << 20
UNITS = 16
"""So many stretches of work for each helper, where the tree allows it, keep all of them busy to the end."""

Jobs = dict[Wanted, list[place.Target]]


class Unit(NamedTuple):
    """A directory to stage: its path, entry and name in the staging area; with `own` only the files right in it."""

    path: str
    entry: Entry
    name: str
    own: bool


@dataclass(slots=True)
class _Work:
    """What some units need: objects with their targets, and each directory's staged path, entries and content."""

    jobs: Jobs
    directories: dict[str, tuple[str, list[Entry], Content]]
    files: int = 0
    size: int = 0


def stage(
    project: Project, cache: Store, rules: Rules, plan: Placement, staging: place.Staging, *, emit: Emit
) -> tuple[dict[str, Row], int, int]:
    """Stage all the plan's files (as f/NUMBER) and directories (as dNUMBER), verified; (index rows, files, bytes).

    Raises `NotFound` naming the path when an object is not in the cache. Returns when the file system's clock has moved on,
    so that what was staged can be trusted later.
    """
    entries = [entry for _, entry in (*plan.files, *plan.directories)]
    files, size = sum(entry.files for entry in entries), sum(entry.size for entry in entries)
    workers = max(2, min(project.jobs, os.cpu_count() or 1))
    units = [Unit(path, entry, f"d{number}", False) for number, (path, entry) in enumerate(plan.directories)]
    if not {"hardlink", "symlink"} & set(project.links):
        check_room(staging.path, size, "the files to place")
    emit(Began("placing files", files, size))
    rows: dict[str, Row] = {}
    if sum(unit.entry.files for unit in units) > place.FORK_ABOVE and processes.available():
        spread = _split(cache, units, UNITS * workers)
        if max(unit.entry.files for unit in spread if not unit.own) * workers <= files:
            rows, units = _stage_apart(project, rules, staging, spread, workers, emit), []
    work = _Work({}, {})
    single = staging.directory("f") if plan.files else ""
    for number, (_, entry) in enumerate(plan.files):
        work.jobs.setdefault(wanted(entry), []).append(place.Target(single, str(number), entry.kind))
    for unit in units:
        staging.directory(unit.name)
        _spell_out(cache, staging, unit, work)
    staged = place.stage(
        cache,
        work.jobs,
        links=project.links,
        workers=workers,
        advanced=lambda count, amount: emit(Advanced(count, amount)),
        absent=lambda lacking: _absent(project, lacking, plan, work),
    )
    rows.update(_rows(work, staged, rules))
    if rows:
        staging.settle(time.time())
    return rows, files, size


def _split(cache: Store, units: list[Unit], goal: int) -> list[Unit]:
    """Units small enough to share out, parents before what is below them; a directory is split where it has sub-directories."""
    most = max(1, sum(unit.entry.files for unit in units) // goal)
    read = stored_trees(cache)
    found: list[Unit] = []
    for unit in units:
        todo = [unit]
        while todo:
            at = todo.pop()
            below = (
                [child for child in read(at.path, entry_content(at.entry)) if child.kind == DIR] if at.entry.files > most else []
            )
            found.append(at._replace(own=bool(below)))
            todo.extend(Unit(join(at.path, child.name), child, f"{at.name}/{child.name}", False) for child in reversed(below))
            if len(found) + len(todo) > MAX_DIRECTORIES:
                raise _too_many(unit.path)
    return found


def _stage_apart(
    project: Project, rules: Rules, staging: place.Staging, units: list[Unit], workers: int, emit: Emit
) -> dict[str, Row]:
    """Helpers read the trees, write the files and make the rows of their units; each with a store of its own."""
    for unit in units:
        check_path(unit.path, "the cache")
        # Made here, all before the first file: some file systems are much slower when both are made in turn.
        staging.directory(unit.name)
    stores: dict[int, Store] = {}

    def work(unit: Unit) -> bytes:
        cache = stores.get(os.getpid()) or stores.setdefault(os.getpid(), project.cache(ignore))
        mine = _Work({}, {})
        _spell_out(cache, staging, unit, mine, jobs=False)
        rows = {}
        for path, (directory, entries, content) in mine.directories.items():
            files = [entry for entry in entries if entry.kind != DIR]
            stats = place.fill(
                cache, directory, files, links=project.links, absent=lambda lacking: _absent(project, lacking, Placement(), mine)
            )
            staged = dict(zip([entry.name for entry in files], stats, strict=True))
            rows[path] = _row(entries, content, staged.__getitem__, rules)
        return json.dumps([mine.files, mine.size]).encode() + b"\n" + encode_rows(rows)

    rows: dict[str, Row] = {}
    for _, body in processes.spread(work, units, workers=workers):
        counts, _, rest = body.partition(b"\n")
        rows.update(decode_rows(rest))
        count, amount = json.loads(counts)
        emit(Advanced(count, amount))
    return rows


def _spell_out(cache: Store, staging: place.Staging, unit: Unit, work: _Work, *, jobs: bool = True) -> None:
    """Add a unit's directories to `work`, and with `jobs` its files; make the directories below it."""
    read = stored_trees(cache)
    todo = [(unit.path, unit.entry, unit.name)]
    while todo:
        at, here, name = todo.pop()
        # Small trees can name one another again and again: what they spell out has no natural end.
        check_path(at, cache.label)
        if len(work.directories) >= MAX_DIRECTORIES:
            raise _too_many(unit.path)
        directory = f"{staging.path}/{name}" if name == unit.name else staging.directory(name)
        content = entry_content(here)
        entries = read(at, content)
        work.directories[at] = (directory, entries, content)
        for child in entries:
            if child.kind == DIR:
                if not unit.own:
                    todo.append((join(at, child.name), child, f"{name}/{child.name}"))
                continue
            work.files += 1
            work.size += child.size
            if jobs:
                item = Wanted(child.id, child.seal, child.size)
                work.jobs.setdefault(item, []).append(place.Target(directory, child.name, child.kind))


def _too_many(path: str) -> UnsafeInput:
    return UnsafeInput(
        f"{display(path)}: it holds more than {MAX_DIRECTORIES:,} directories", "find out who recorded it, and how"
    )


def _absent(project: Project, lacking: set[Wanted], plan: Placement, work: _Work) -> NotFound:
    named = (path for path, entry in plan.files if wanted(entry) in lacking)
    inside = (
        join(path, entry.name)
        for path, (_, entries, _) in work.directories.items()
        for entry in entries
        if entry.kind != DIR and wanted(entry) in lacking
    )
    first = next(named, "") or next(inside)
    remotes = project.config.remotes()
    count = f"{len(lacking):,} objects are" if len(lacking) > 1 else f"object {min(lacking).id} is"
    return NotFound(
        f"{count} not in the cache; '{display(first)}' needs {'them' if len(lacking) > 1 else 'it'}",
        f"dvcx pull {display(first)}" if remotes else "there is no remote to get it from: dvcx remote add -d NAME URL, dvcx pull",
    )


def _rows(work: _Work, staged: dict[tuple[str, str], place.Stat], rules: Rules) -> dict[str, Row]:
    rows = {}
    for path, (directory, entries, content) in work.directories.items():
        rows[path] = _row(entries, content, lambda name, at=directory: staged[at, name], rules)  # type: ignore[misc]
    return rows


def _row(entries: list[Entry], content: Content, stat_of: Callable[[str], place.Stat], rules: Rules) -> Row:
    ordered = sorted(entries, key=lambda entry: entry.name)
    flat: list[int] = []
    for entry in ordered:
        if entry.kind == DIR:
            flat += (CODES[DIR], 0, entry.size, 0, 0)
        else:
            inode, size, mtime, ctime = stat_of(entry.name)
            flat += (CODES[entry.kind], inode, size, mtime, ctime)
    return Row(
        "\0".join([entry.name for entry in ordered]).encode(),
        array("q", flat).tobytes(),
        "\n".join([f"{entry.id} {entry.seal}" for entry in ordered]).encode(),
        array("q", [entry.files for entry in ordered]).tobytes(),
        content,
        rules.fingerprint,
    )
