"""Plans: what to place and remove, as data that can be shown or carried out."""

from __future__ import annotations

from dataclasses import dataclass, field

from dvcx.core.changes import ReadTree, as_entry, entry_differences, files_below
from dvcx.core.objects import DIR, Content, Entry


@dataclass(slots=True)
class Placement:
    """What turns the workspace at one or more tracked paths into what is wanted.

    `files` are put one by one, `directories` are absent and come whole, `overwritten` are the files that go (replaced or
    removed), `removed_directories` go after their files, deepest first. `strangers` are those of `overwritten` that no walk
    saw, since .dvcxignore names them: inode, size, mtime_ns and ctime_ns of each.
    """

    files: list[tuple[str, Entry]] = field(default_factory=list)
    directories: list[tuple[str, Entry]] = field(default_factory=list)
    overwritten: list[tuple[str, Entry]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    removed_directories: list[str] = field(default_factory=list)
    strangers: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.files or self.directories or self.removed or self.removed_directories)


def plan_placement(
    path: str, now: Content | None, target: Content | None, read_now: ReadTree, read_target: ReadTree, plan: Placement
) -> None:
    """Add to `plan` what turns `now` into `target` at `path`."""
    old, new = (None if content is None else as_entry("", content) for content in (now, target))
    plan_entry(path, old, new, read_now, read_target, plan)


def plan_entry(
    path: str, now: Entry | None, target: Entry | None, read_now: ReadTree, read_target: ReadTree, plan: Placement
) -> None:
    """The same for entries: a link, too, can be placed by itself."""
    for item in entry_differences(path, now, target, read_now, read_target):
        if item.old is not None:
            plan.overwritten.extend(files_below(item.path, item.old, read_now))
        if item.new is None and item.old is not None:
            if item.old.kind == DIR:
                _remove_directory(item.path, item.old, read_now, plan)
            else:
                plan.removed.append(item.path)
        elif item.new is not None and item.new.kind == DIR:
            plan.directories.append((item.path, item.new))
        elif item.new is not None:
            plan.files.append((item.path, item.new))


def _remove_directory(path: str, entry: Entry, read_now: ReadTree, plan: Placement) -> None:
    plan.removed.extend(name for name, _ in files_below(path, entry, read_now))
    found = [path]
    todo = [(path, entry)]
    while todo:
        at, here = todo.pop()
        for child in read_now(at, Content("tree", here.id, here.seal, here.size, here.files)):
            if child.kind == DIR:
                found.append(f"{at}/{child.name}")
                todo.append((f"{at}/{child.name}", child))
    plan.removed_directories.extend(sorted(found, key=lambda name: -name.count("/")))
