"""The memory of what was placed or recorded in this workspace, so that what was deleted is told from what was never pulled.

Without it everything absent counts as never pulled: nothing is recorded as deleted that was not.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dvcx.core.changes import ReadTree
from dvcx.core.objects import DIR, TREE, Content, Entry, check_id, check_seal, entry_content
from dvcx.core.partial import Here, Mark, Merged, here_at, here_of, merge
from dvcx.core.paths import path_problem
from dvcx.core.records import MAX_LOCK
from dvcx.errors import DvcxError, NotFound
from dvcx.events import Emit
from dvcx.io import files
from dvcx.io.statindex import StatIndex
from dvcx.io.workspace import Looking, store_tree
from dvcx.ops.looking import content_at, entry_at, stored_trees, workspace_trees
from dvcx.ops.records import Tracked

if TYPE_CHECKING:
    from dvcx.core.pipeline.schema import Stage
    from dvcx.io.store.store import Store
    from dvcx.project import Project

Memory = dict[str, dict[str, Mark]]
"""By tracked path: marks by path below it, "" for itself."""

FILE = "tracked.json"


def load(project: Project) -> Memory:
    """What is remembered; nothing when the memory is gone or damaged. Each path passes the path rule."""
    try:
        with open(f"{project.state_dir}/{FILE}", "rb") as file:
            record = json.loads(file.read(MAX_LOCK))
        if record["dvcx"] != 1:
            return {}
        return {_path(owner): {_path(sub) if sub else "": _mark(mark) for sub, mark in marks.items()}
                for owner, marks in record["placed"].items()}  # fmt: skip
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, DvcxError):
        return {}


def note(
    project: Project,
    tracked: Tracked,
    marks: Mapping[str, Mark] = {},
    *,
    steps: Mapping[str, tuple[Content, Content]] = {},
    renamed: tuple[str, str] = ("", ""),
) -> None:
    """Remember what was placed or recorded at paths, of what is tracked now; the rest is forgotten. Hold the project's lock.

    `steps` are tracked directories whose record changed by just these marks: what was all here before is all here now.
    """
    memory = load(project)
    if renamed[0] in memory:
        memory[renamed[1]] = memory.pop(renamed[0])
    contents = tracked.contents()
    stepped = set()
    for owner, (old, new) in steps.items():
        if memory.get(owner) == {"": old}:
            memory[owner] = {"": new}
            stepped.add(owner)
    grouped: dict[str, dict[str, Mark]] = {}
    for path, mark in marks.items():
        owner = _owner(contents, path)
        if owner and owner not in stepped:
            grouped.setdefault(owner, {})[path[len(owner) + 1 :]] = mark
    for owner, fresh in grouped.items():
        _put(memory.setdefault(owner, {}), fresh)
    known = {*contents, *(path for entry in tracked.lock.values() for path in entry.outs)}
    _save(project, {owner: marks for owner, marks in memory.items() if owner in known})


def forget(project: Project, tracked: Tracked, paths: Iterable[str]) -> None:
    """These paths are about to change: until that is noted nothing is known of them. Hold the project's lock."""
    memory = load(project)
    contents = tracked.contents()
    changed = False
    for path in paths:
        owner = _owner(contents, path) or path
        known = memory.get(owner)
        if not known:
            continue
        changed = True
        if owner == path:
            memory[owner] = {}
        else:
            # Of a path below, nothing can be said without saying that nothing is there.
            _put(known, {path[len(owner) + 1 :]: False})
    if changed:
        _save(project, memory)


def _owner(contents: Mapping[str, Content], path: str) -> str:
    while path and path not in contents:
        path = path.rpartition("/")[0]
    return path


def _put(known: dict[str, Mark], fresh: Mapping[str, Mark]) -> None:
    for path in [path for path in known if any(above in fresh for above in _around(path))]:
        del known[path]
    known.update(fresh)


def _around(path: str) -> list[str]:
    """The directories around a path, "" among them."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts))] if path else []


def _save(project: Project, memory: Memory) -> None:
    placed = {owner: {sub: _record(marks[sub]) for sub in sorted(marks)} for owner, marks in sorted(memory.items())}
    path = f"{project.state_dir}/{FILE}"
    try:
        files.private_directory(project.state_dir)
        files.atomic_write(path, json.dumps({"dvcx": 1, "placed": placed}).encode(), mode=0o600, fsync=False)
    except DvcxError:
        # Nothing is better than what does not hold any more.
        with contextlib.suppress(OSError):
            os.unlink(path)


def _record(mark: Mark) -> Any:
    return [mark.id, mark.seal, mark.size, mark.files] if isinstance(mark, Content) else mark


def _mark(record: Any) -> Mark:
    if isinstance(record, bool):
        return record
    object_id, sealed, size, count = record
    return Content(TREE, check_id(object_id, FILE), check_seal(sealed, FILE), int(size), int(count))


def _path(path: str) -> str:
    if path_problem(path):
        raise ValueError(path)
    return path


def mark_of(content: Content | None) -> Mark:
    """The mark of a path that holds just this."""
    if content is None:
        return False
    return content if content.kind == TREE else True


# Asking it


class Parts:
    """Tells, for one command, what directories of the workspace are together with the parts of them that were never pulled.

    `listings` reads what is recorded: from the cache alone unless it is given. It opens nothing before it is asked.
    """

    def __init__(
        self, project: Project, tracked: Tracked, index: StatIndex, emit: Emit, *, listings: ReadTree | None = None
    ) -> None:
        self._project, self._tracked, self._index, self._emit = project, tracked, index, emit
        self._given = listings
        self._contents: dict[str, Content] | None = None
        self._memory: Memory | None = None
        self._nodes: dict[str, Here] = {}
        self._cache: Store | None = None
        self._made: dict[tuple[str, str], list[Entry]] = {}
        self._known: dict[tuple[str, str, str], Merged | None] = {}
        self._makers: dict[str, str] | None = None
        self._restorable: dict[str, bool] = {}

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages of the project."""
        return self._tracked.stages

    def tracks(self, path: str) -> bool:
        """Whether a path is tracked, or written by a stage."""
        return bool(self._tracked.owner(path))

    def close(self) -> None:
        """Release the cache."""
        if self._cache is not None:
            self._cache.close()
            self._cache = None

    def recorded(self, path: str) -> Content | None:
        """The recorded content of a tracked path, or of a directory in one; None where nothing is, or nobody can tell."""
        if self._contents is None:
            self._contents = self._tracked.contents()
        owner = _owner(self._contents, path)
        if not owner:
            return None
        if owner == path:
            return self._contents[owner]
        try:
            entry = entry_at(self._read_recorded, owner, self._contents[owner], path)
        except NotFound:
            return None
        if entry is None or entry.kind != "dir":
            return None
        return Content(TREE, entry.id, entry.seal, entry.size, entry.files)

    def unseen_files(self, names: Callable[[str], bool], leads: Callable[[str], bool]) -> Iterator[tuple[str, Content]]:
        """Files recorded below tracked paths of which nothing was ever here, as far as their listings are in the cache.

        `leads` says of a directory whether to look into it, `names` of a file whether it is meant.
        """
        if self._contents is None:
            self._contents = self._tracked.contents()
        for owner, content in self._contents.items():
            if not leads(owner) and not names(owner):
                continue
            if os.path.lexists(f"{self._project.root}/{owner}") or self.here(owner).anything:
                continue
            todo = [(owner, content)]
            while todo:
                path, at = todo.pop()
                if at.kind != TREE:
                    if names(path):
                        yield path, at
                    continue
                with contextlib.suppress(NotFound):
                    todo += [
                        (f"{path}/{entry.name}", entry_content(entry))
                        for entry in self._read_recorded(path, at)
                        if entry.kind != DIR or leads(f"{path}/{entry.name}") or names(f"{path}/{entry.name}")
                    ]

    def here(self, path: str) -> Here:
        """What is remembered of a path."""
        if self._memory is None:
            self._memory = load(self._project)
        if self._contents is None:
            self._contents = self._tracked.contents()
        owner = _owner(self._contents, path) or path
        if owner not in self._nodes:
            self._nodes[owner] = here_of(self._memory.get(owner, {}))
        return here_at(self._nodes[owner], path[len(owner) + 1 :], self._read_here, owner)

    def away(self, path: str) -> Content | None:
        """What is recorded at a path where nothing is, if it was never here, and nobody can put it there without a remote.

        None as well where an output is in the cache with all its stage wrote (`repro` restores it), and for outputs git keeps.
        """
        if self._contents is None:
            self._contents = self._tracked.contents()
        owner = _owner(self._contents, path)
        if not owner or self.here(path).anything:
            return None
        if owner not in self._tracked.pointers and self._is_restorable(owner):
            return None
        return self._contents[owner] if path == owner else content_at(self._read_recorded, owner, self._contents[owner], path)

    def _is_restorable(self, out: str) -> bool:
        """Whether the cache has all that the stage of an output wrote."""
        from dvcx.ops.transfer import holds

        if self._makers is None:
            self._makers = {out.path: stage.address for stage in self._tracked.stages for out in stage.outs}
        address = self._makers[out]
        if address not in self._restorable:
            self._restorable[address] = holds(self._opened(), self._tracked.lock[address].outs)
        return self._restorable[address]

    def merged(
        self, path: str, now: Content | None, *, write: Callable[[list[Entry]], Content] | None = None, strict: bool = False
    ) -> Merged | None:
        """What `now` at a path is with what is not pulled; None when no directory is recorded there, or its listing is not here.

        `strict` raises `NotFound` for the listing instead.
        """
        recorded = self.recorded(path)
        if recorded is None or recorded.kind != TREE or (now is not None and now.kind != TREE):
            return None
        try:
            return merge(
                path,
                now,
                recorded,
                self.here(path),
                read_now=workspace_trees(self._index),
                read_recorded=self._read_recorded,
                read_here=self._read_here,
                write=write or self._write,
            )
        except NotFound:
            if strict:
                raise
            return None

    def partial(self, path: str, now: Content | None) -> Merged | None:
        """The same for a directory of which parts are not pulled; None for anything else. Asked twice, it looks once."""
        if now is None or now.kind != TREE:
            return None
        recorded = self.recorded(path)
        if recorded is None or (recorded.id, recorded.seal) == (now.id, now.seal):
            return None
        key = (path, now.id, now.seal)
        if key not in self._known:
            merged = self.merged(path, now)
            self._known[key] = None if merged is None or "" in merged.marks else merged
        return self._known[key]

    def read(self, path: str, content: Content) -> list[Entry]:
        """The entries of a directory of the workspace, or of one that `merged` made up."""
        made = self._made.get((content.id, content.seal))
        return made if made is not None else workspace_trees(self._index)(path, content)

    def _write(self, entries: list[Entry]) -> Content:
        content = store_tree(list(entries), Looking(self._project.algorithm).tree)
        self._made[content.id, content.seal] = entries
        return content

    def _read_recorded(self, path: str, content: Content) -> list[Entry]:
        return (self._given or self._read_here)(path, content)

    def _read_here(self, path: str, content: Content) -> list[Entry]:
        self._opened()
        return self._reader(path, content)

    def _opened(self) -> Store:
        if self._cache is None:
            self._cache = self._project.cache(self._emit)
            self._reader = stored_trees(self._cache)
        return self._cache
