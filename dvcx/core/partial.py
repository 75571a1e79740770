"""Directories of which only a part was ever placed: what is absent because it was deleted, and what never came.

Nothing is read here; directories are read through what is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from dvcx.core.changes import ReadTree, as_entry
from dvcx.core.objects import DIR, TREE, Content, Entry, entry_content
from dvcx.core.paths import join
from dvcx.errors import Conflict, IntegrityError, NotFound, display

Mark = Content | bool
"""What was placed or recorded at a path of this workspace: a directory's content, True for a file or link, False for nothing."""


class Here(NamedTuple):
    """What is known to have been at a path. `mark` None when nothing is known of the path itself; `children` know better."""

    mark: Mark | None
    children: Mapping[str, Here]

    @property
    def anything(self) -> bool:
        """Whether something was here, or may have been below."""
        return self.mark not in (None, False) or bool(self.children)

    def all_of(self, recorded: Entry) -> bool:
        """Whether all of a recorded directory was here."""
        mark = self.mark
        return isinstance(mark, Content) and not self.children and (mark.id, mark.seal) == (recorded.id, recorded.seal)


NOTHING = Here(None, {})


def here_of(marks: Mapping[str, Mark]) -> Here:
    """Marks by path, relative to one directory ("" is itself), as a tree of what is known."""
    nested: dict[str, dict[str, Mark]] = {}
    for path, mark in marks.items():
        if path:
            name, _, rest = path.partition("/")
            nested.setdefault(name, {})[rest] = mark
    return Here(marks.get(""), {name: here_of(below) for name, below in nested.items()})


def here_at(here: Here, path: str, read: ReadTree, where: str) -> Here:
    """What is known of `path` (relative; "" is itself) below `here`, whose own path is `where`."""
    for name in path.split("/") if path else ():
        here = _child(here, name, _marked(here, where, read))
        where = join(where, name)
    return here


class Merged(NamedTuple):
    """A directory as it would be recorded. `content` None when nothing is left; `files` and `size` count what is not pulled.

    `marks` are the parts that are here, by path relative to the directory ("" when that is all of it).
    """

    content: Content | None
    files: int
    size: int
    marks: Mapping[str, Mark]


def merge(
    path: str,
    now: Content | None,
    recorded: Content,
    here: Here,
    *,
    read_now: ReadTree,
    read_recorded: ReadTree,
    read_here: ReadTree,
    write: Callable[[list[Entry]], Content],
) -> Merged:
    """What is at the directory `path` now, and those recorded paths below it that are absent since they never were here.

    What was here and is absent was deleted. `write` makes a directory of entries. Only directories that differ are read.
    Raises `Conflict` when something stands where a part that is not pulled belongs, `NotFound` for a listing that is nowhere.
    """
    merger = _Merger(read_now, read_recorded, read_here, write)
    old = as_entry("", recorded)
    entry, whole = merger.directory(path, None if now is None else as_entry("", now), old, here)
    content = None if entry is None else entry_content(entry)
    if whole:
        marks: dict[str, Mark] = {"": False if content is None else content}
    else:
        marks = {name[len(path) + 1 :]: mark for name, mark in merger.marks.items()}
    return Merged(content, merger.files, merger.size, marks)


class _Merger:
    def __init__(
        self, read_now: ReadTree, read_recorded: ReadTree, read_here: ReadTree, write: Callable[[list[Entry]], Content]
    ) -> None:
        self._read_now, self._read_recorded, self._read_here, self._write = read_now, read_recorded, read_here, write
        self.files = self.size = 0
        self.marks: dict[str, Mark] = {}

    def directory(self, path: str, now: Entry | None, old: Entry, here: Here) -> tuple[Entry | None, bool]:
        """The merged entry of a recorded directory, and whether all of it is in the workspace."""
        if here.all_of(old) or (now is not None and (now.id, now.seal) == (old.id, old.seal)):
            return now, True
        if now is None and not here.anything:
            self._keep(old)
            return old, False
        present = {} if now is None else {entry.name: entry for entry in self._read_now(path, entry_content(now))}
        recorded = self._read_recorded(path, entry_content(old))
        known = _marked(here, path, lambda at, mark: recorded if mark.id == old.id else self._read_here(at, mark))
        result = dict(present)
        partial: set[str] = set()
        for entry in recorded:
            found, whole = self._entry(join(path, entry.name), present.get(entry.name), entry, _child(here, entry.name, known))
            if not whole:
                partial.add(entry.name)
            if found is not None:
                result[entry.name] = found
        if not partial:
            return now, True
        for name, entry in result.items():
            if name not in partial:
                self.marks[join(path, name)] = entry_content(entry) if entry.kind == DIR else True
        return self._written(old.name, result), False

    def _entry(self, path: str, now: Entry | None, old: Entry, here: Here) -> tuple[Entry | None, bool]:
        if old.kind != DIR:
            if now is not None and (now.kind != DIR or here.anything):
                return now, True
            if here.mark not in (None, False):
                return None, True
            if now is not None:
                raise _in_the_way(path, "file")
            self._keep(old)
            return old, False
        if now is None or now.kind == DIR:
            return self.directory(path, now, old, here)
        left, whole = self.directory(path, None, old, here)
        if left is not None and not whole:
            raise _in_the_way(path, "directory")
        return now, True

    def _keep(self, old: Entry) -> None:
        self.files += old.files
        self.size += old.size

    def _written(self, name: str, entries: Mapping[str, Entry]) -> Entry:
        content = self._write(sorted(entries.values(), key=lambda entry: entry.name))
        return Entry(name, DIR, content.size, content.id, content.seal, content.files)


def _marked(here: Here, path: str, read: ReadTree) -> Mapping[str, Entry]:
    """The entries of the directory that was placed here; none when it was none, or its listing cannot be read any more."""
    if not isinstance(here.mark, Content) or here.mark.kind != TREE:
        return {}
    try:
        return {entry.name: entry for entry in read(path, here.mark)}
    except (NotFound, IntegrityError):
        # Not known: what is absent then counts as never pulled, and nothing is recorded as deleted.
        return {}


def _child(here: Here, name: str, known: Mapping[str, Entry]) -> Here:
    own = here.children.get(name, NOTHING)
    if own.mark is not None or not known:
        return own
    entry = known.get(name)
    return Here(False if entry is None else entry_content(entry) if entry.kind == DIR else True, own.children)


def _in_the_way(path: str, what: str) -> Conflict:
    return Conflict(
        f"{display(path)}: a {what} is recorded here that was never pulled, and something else stands in its place",
        f"move that away and pull it (dvcx pull {display(path)}), or take it out of the record (dvcx remove {display(path)})",
    )


# Placing a part


def chosen_entries(
    path: str,
    now: Entry | None,
    recorded: Entry,
    names: Callable[[str], bool],
    leads: Callable[[str], bool],
    read_now: ReadTree,
    read_recorded: ReadTree,
) -> Iterator[tuple[str, Entry | None, Entry]]:
    """(path, its entry now, its recorded entry) of what `names` says yes to at or below a path; only `leads` is opened."""
    if names(path):
        yield path, now, recorded
        return
    if recorded.kind != DIR or not leads(path):
        return
    inside = now is not None and now.kind == DIR
    present: Sequence[Entry] = read_now(path, entry_content(now)) if inside and now is not None else ()
    here = {entry.name: entry for entry in present}
    for entry in read_recorded(path, entry_content(recorded)):
        yield from chosen_entries(join(path, entry.name), here.get(entry.name), entry, names, leads, read_now, read_recorded)
