"""Comparing two contents, tree by tree: what was added, deleted, modified, renamed. Trees are read through what is handed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from dvcx.core.objects import DIR, EXEC, FILE, TREE, Content, Entry, entry_content
from dvcx.core.paths import join

ADDED, DELETED, MODIFIED, RENAMED = "added", "deleted", "modified", "renamed"

ReadTree = Callable[[str, Content], list[Entry]]
"""Gives the entries of the directory at a path with this content."""


class Difference(NamedTuple):
    """One path that differs. `old` and `new` are its entries, None where it is absent; never both None.

    A directory that is on one side only is one difference: what is below is not listed.
    """

    path: str
    old: Entry | None
    new: Entry | None


@dataclass(frozen=True, slots=True)
class Change:
    """A changed file. `state` added, deleted, modified or renamed; sizes in bytes, -1 where there is none."""

    state: str
    path: str
    old_path: str = ""
    old_size: int = -1
    new_size: int = -1


def as_entry(name: str, content: Content) -> Entry:
    """A content as the entry a directory would hold for it."""
    kind = DIR if content.kind == TREE else EXEC if content.executable else FILE
    return Entry(name, kind, content.size, content.id, content.seal, content.files)


def differences(
    path: str, old: Content | None, new: Content | None, read_old: ReadTree, read_new: ReadTree
) -> Iterator[Difference]:
    """Where two contents of one path differ. Equal sub-trees are recognised by id and never read."""
    yield from entry_differences(
        path,
        None if old is None else as_entry("", old),
        None if new is None else as_entry("", new),
        read_old,
        read_new,
    )


def entry_differences(
    path: str, old: Entry | None, new: Entry | None, read_old: ReadTree, read_new: ReadTree
) -> Iterator[Difference]:
    """The same for two entries: links are told from files."""
    if old is not None and new is not None:
        if old.id == new.id and old.seal == new.seal and old.kind == new.kind:
            return
        if old.kind == DIR and new.kind == DIR:
            yield from _directories(path, old, new, read_old, read_new)
            return
        if (old.kind == DIR) != (new.kind == DIR):
            yield Difference(path, old, None)
            yield Difference(path, None, new)
            return
    if old is not None or new is not None:
        yield Difference(path, old, new)


def _directories(path: str, old: Entry, new: Entry, read_old: ReadTree, read_new: ReadTree) -> Iterator[Difference]:
    before = {entry.name: entry for entry in read_old(path, entry_content(old))}
    after = {entry.name: entry for entry in read_new(path, entry_content(new))}
    for name in sorted(before.keys() | after.keys()):
        yield from entry_differences(join(path, name), before.get(name), after.get(name), read_old, read_new)


def files_below(path: str, entry: Entry, read: ReadTree) -> Iterator[tuple[str, Entry]]:
    """Every file and link at or below an entry; empty directories have none."""
    if entry.kind != DIR:
        yield path, entry
        return
    for child in read(path, entry_content(entry)):
        yield from files_below(join(path, child.name), child, read)


def file_changes(found: Iterable[Difference], read_old: ReadTree, read_new: ReadTree) -> list[Change]:
    """Differences as changes of single files; the same content gone at one path and come at another is a rename."""
    gone: list[tuple[str, Entry]] = []
    come: list[tuple[str, Entry]] = []
    changes: list[Change] = []
    for item in found:
        if item.old is not None and item.new is not None:
            changes.append(Change(MODIFIED, item.path, "", item.old.size, item.new.size))
        elif item.old is not None:
            gone.extend(files_below(item.path, item.old, read_old))
        elif item.new is not None:
            come.extend(files_below(item.path, item.new, read_new))
    by_content: dict[tuple[str, str], list[tuple[str, Entry]]] = {}
    for path, entry in reversed(gone):
        # An empty file says nothing about where it came from.
        if entry.size:
            by_content.setdefault((entry.id, entry.seal), []).append((path, entry))
    renamed: set[str] = set()
    for path, entry in come:
        sources = by_content.get((entry.id, entry.seal))
        if sources:
            source, _ = sources.pop()
            renamed.add(source)
            changes.append(Change(RENAMED, path, source, entry.size, entry.size))
        else:
            changes.append(Change(ADDED, path, "", -1, entry.size))
    changes.extend(Change(DELETED, path, "", entry.size, -1) for path, entry in gone if path not in renamed)
    return sorted(changes, key=lambda change: (change.path, change.state))


def summarise(changes: Iterable[Change]) -> str:
    """Changes counted in words: "1 file changed, 2 added"; "" for none."""
    counts = {MODIFIED: 0, ADDED: 0, DELETED: 0, RENAMED: 0}
    for change in changes:
        counts[change.state] += 1
    words = {MODIFIED: "changed", ADDED: "added", DELETED: "deleted", RENAMED: "renamed"}
    parts: list[str] = []
    for state, count in counts.items():
        if count:
            noun = "" if parts else (" file" if count == 1 else " files")
            parts.append(f"{count}{noun} {words[state]}")
    return ", ".join(parts)
