"""Taking many new files into the cache by helper processes, ahead of the walk that records them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dvcx.core.paths import join
from dvcx.errors import NotFound
from dvcx.events import Advanced, Emit, ignore
from dvcx.io import processes
from dvcx.io.files import open_parent
from dvcx.io.statindex import Memory, Row, decode_rows, encode_rows
from dvcx.io.store.intake import Intake
from dvcx.io.workspace import Rules, look

if TYPE_CHECKING:
    from dvcx.project import Project

MANY = 2000
"""Above so many files that nobody has seen yet, processes pay: one alone is held up by Python's one lock."""


def take_ahead(project: Project, paths: Sequence[str], rules: Rules, *, emit: Emit) -> bool:
    """Store what lies in new directories below `paths`, durably, and remember it in the stat index; whether anything was done.

    The walk that follows finds these directories known, and has only the rest to read. What it does not record is spare.
    Hold the project's lock and the cache's; no store and no stat index may be open: children must not find them so.
    """
    workers = min(project.jobs, os.cpu_count() or 1)
    if workers < 2 or not processes.available():
        return False
    with contextlib.closing(project.stat_index(emit)) as index:
        fresh = [path for path in paths if index.get(path) is None]
    units, files = _new_directories(project, fresh, rules)
    if files < MANY or len(units) < workers:
        return False
    # Made once, by one.
    project.cache(emit, write=True).close()
    rows: dict[str, Row] = {}
    mine: dict[int, _Taking] = {}

    def taking() -> _Taking:
        return mine.get(os.getpid()) or mine.setdefault(os.getpid(), _Taking(project, rules))

    for number, body in processes.spread(
        lambda path: taking().take(path), units, workers=workers, last=lambda: taking().finish()
    ):
        if number < len(units):
            emit(Advanced(int(body)))
        else:
            rows.update(decode_rows(body))
    with contextlib.closing(project.stat_index(emit)) as index:
        for path, row in rows.items():
            index.put(path, row)
        index.flush()
    return True


class _Taking:
    """What one helper took in. It has a store and a memory of its own: a parent's database must not be used in a child."""

    def __init__(self, project: Project, rules: Rules) -> None:
        self._root = project.root
        self._rules = rules
        self._memory = Memory()
        self._cache = project.cache(ignore, write=True)
        self._writer = project.writer(self._cache)
        self._intake = Intake(self._writer, project.algorithm, link=project.links[0] == "hardlink")

    def take(self, path: str) -> bytes:
        try:
            found = look(self._root, path, index=self._memory, sink=self._intake, rules=self._rules)
        except BaseException:
            self._writer.abort()
            raise
        return str(found.files if found is not None else 0).encode()

    def finish(self) -> bytes:
        self._writer.commit()
        self._cache.close()
        return encode_rows(self._memory.rows)


def _new_directories(project: Project, paths: Sequence[str], rules: Rules) -> tuple[list[str], int]:
    """The directories right below each path, or below its only one; and how many entries they and theirs have, up to `MANY`."""
    units: list[str] = []
    files = 0
    for path in paths:
        below, own = _directories(project, path, rules)
        while len(below) == 1 and not own:
            below, own = _directories(project, below[0], rules)
        units += below
    todo = list(units)
    while todo and files < MANY:
        below, own = _directories(project, todo.pop(), rules)
        todo += below
        files += own
    return units, files


def _directories(project: Project, path: str, rules: Rules) -> tuple[list[str], int]:
    """Directories in a directory that the walk will enter, and how many other entries there are. The walk tells what is wrong."""
    try:
        parent, leaf = open_parent(project.root, path)
    except NotFound:
        return [], 0
    try:
        fd = os.open(leaf, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return [], 0
    finally:
        os.close(parent)
    try:
        with os.scandir(fd) as entries:
            kinds = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError:
        return [], 0
    finally:
        os.close(fd)
    below = [join(path, name) for name, is_directory in kinds if is_directory]
    if rules.ignored is not None:
        below = [name for name in below if not rules.ignored(name, True)]
    return sorted(below), sum(1 for _, is_directory in kinds if not is_directory)
