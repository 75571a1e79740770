"""Who needs an object: the paths of workspace records, and of records in git's history, that lead to objects a store lacks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from dvcx.core.objects import DIR, SHARD, TREE, Content, Digest, Entry, decode_tree, digest_bytes
from dvcx.core.paths import MAX_DEPTH, join, parent, resolve
from dvcx.core.records import LOCK_FILE, POINTER_SUFFIX, decode_lock, decode_pointer
from dvcx.errors import DvcxError, IntegrityError, NotFound, UnsafeInput
from dvcx.io import git
from dvcx.io.git import Version
from dvcx.io.hashing import digest
from dvcx.io.statindex import StatIndex
from dvcx.io.store.store import Store, Wanted, wanted
from dvcx.io.workspace import store_tree
from dvcx.ops.records import Tracked

if TYPE_CHECKING:
    from dvcx.project import Project

COMMITS = 10_000
"""So many commits that changed records are looked at."""
REFS = 200
USERS = 20
"""No more needs than these are kept of one object."""


class Root(NamedTuple):
    """A recorded content: the file that names it, the path it is for, and of history the version of that file."""

    record: str
    path: str
    content: Content
    version: Version | None = None


class Need(NamedTuple):
    """Somebody needs an object at `path`."""

    path: str
    root: Root


class Needs(NamedTuple):
    """Objects that are needed and not good, each with who needs it; and why trees of the first store cannot be used.

    `confirmed` are ids that one record names with another seal than the store has, and another with the very seal it has.
    """

    objects: Mapping[Wanted, list[Need]]
    unreadable: Mapping[Wanted, str]
    confirmed: frozenset[str] = frozenset()


def in_workspace(tracked: Tracked) -> list[Root]:
    """What the records of the workspace name."""
    roots = [Root(file, path, pointer.content) for path, (file, pointer) in tracked.pointers.items()]
    contents = tracked.contents()
    for stage in tracked.stages:
        lock = join(parent(stage.file), LOCK_FILE)
        roots += [Root(lock, out.path, contents[out.path]) for out in stage.outs if out.path in contents]
    return roots


def in_history(project: Project) -> list[Root]:
    """What records of branches, tags and the stash name, newest first. Versions that cannot be read are passed over."""
    if project.git is None:
        return []
    versions = git.history(project.git, COMMITS)
    found: list[Root] = []
    for version, data in git.read_versions(project.git, versions):
        try:
            found += _named_by(version, data)
        except DvcxError:
            continue
    return found


def _named_by(version: Version, data: bytes) -> Iterator[Root]:
    base = parent(version.path)
    if version.path.endswith(POINTER_SUFFIX):
        pointer = decode_pointer(data, version.path)
        yield Root(version.path, join(base, pointer.path), pointer.content, version)
        return
    for entry in decode_lock(data, version.path).values():
        for path, content in entry.outs.items():
            yield Root(version.path, resolve(base, path, version.path), content, version)


def needs(
    roots: Sequence[Root],
    good: Callable[[Wanted], bool],
    bad: Collection[bytes],
    stores: Sequence[Store],
    more: Callable[[], Iterable[Store]],
    index: StatIndex,
    deviates: Callable[[Wanted], bool] = lambda item: False,
) -> Needs:
    """Walk from roots to every object below that is not `good` in the first of `stores`.

    A tree is read once: from the first store that has it right, or as the stat index remembers it. One that is among the
    `bad` ids is looked for in `more` stores, too. `deviates` tells of an object that is not good that its seal is the reason.
    """
    objects: dict[Wanted, list[Need]] = {}
    walk = _Walk(good, bad, stores, more, index)
    for root in roots:
        item = wanted(root.content)
        below = walk.below(item, 0, root.path) if root.content.kind == TREE else {} if good(item) else {item: ""}
        for lacking, path in below.items():
            users = objects.setdefault(lacking, [])
            if len(users) < USERS:
                users.append(Need(join(root.path, path) if path else root.path, root))
    disputed = {item.id for item in objects if deviates(item)}
    confirmed: set[str] = set()

    def agrees(item: Wanted) -> bool:
        if item.id in disputed and good(item):
            confirmed.add(item.id)
        return True

    if disputed:
        # Rare, so the records are walked a second time rather than every name they hold remembered.
        again = _Walk(agrees, bad, stores, more, index)
        for root in roots:
            if root.content.kind == TREE:
                again.below(wanted(root.content), 0, root.path)
            else:
                agrees(wanted(root.content))
    return Needs(objects, walk.unreadable, frozenset(confirmed))


class _Walk:
    """What is not good below each tree, with the first path that leads there; remembered, since revisions share trees."""

    def __init__(
        self,
        good: Callable[[Wanted], bool],
        bad: Collection[bytes],
        stores: Sequence[Store],
        more: Callable[[], Iterable[Store]],
        index: StatIndex,
    ) -> None:
        self._index = index
        self._good = good
        self._bad = bad
        self._stores = stores
        self._more = more
        self._known: dict[Wanted, dict[Wanted, str]] = {}
        self.unreadable: dict[Wanted, str] = {}

    def below(self, item: Wanted, depth: int, path: str) -> dict[Wanted, str]:
        known = self._known.get(item)
        if known is None:
            known = self._known[item] = self._look(item, depth, path)
        return known

    def _look(self, item: Wanted, depth: int, at: str) -> dict[Wanted, str]:
        found: dict[Wanted, str] = {} if self._good(item) else {item: ""}
        if depth > MAX_DEPTH:
            self.unreadable[item] = f"directories nest more than {MAX_DEPTH} deep"
            return found
        for entry in self._entries(item, found, at):
            name = "" if entry.kind == SHARD else entry.name
            child = wanted(entry)
            if entry.kind in (DIR, SHARD):
                for lacking, path in self.below(child, depth + 1, join(at, name) if name else at).items():
                    found.setdefault(lacking, join(name, path) if path else name)
            elif not self._good(child):
                found.setdefault(child, name)
        return found

    def _entries(self, item: Wanted, found: dict[Wanted, str], at: str) -> list[Entry]:
        first, *others = self._stores
        damaged = digest_bytes(item.id) in self._bad
        if not damaged:
            try:
                return decode_tree(first.read(item), f"{first.label}: tree {item.id}")
            except NotFound:
                pass
            except (IntegrityError, UnsafeInput) as error:
                self.unreadable[item] = error.message
                found[item] = ""
                damaged = True
        remembered = remembered_trees(self._index, at).get((item.id, item.seal))
        if remembered is not None:
            return decode_tree(remembered, at)
        for store in chain(others, self._more() if damaged else ()):
            with contextlib.suppress(DvcxError):
                return decode_tree(store.read(item), f"{store.label}: tree {item.id}")
        return []


def remembered_trees(index: StatIndex, path: str) -> dict[tuple[str, str], bytes]:
    """The tree objects of the directory at `path` as it was last seen in the workspace, by id and seal."""
    row = index.get(path)
    found: dict[tuple[str, str], bytes] = {}
    if row is None:
        return found
    algorithm = row.content.id.partition(":")[0]

    def keep(data: bytes) -> Digest:
        names = digest(data, algorithm)
        found[names] = data
        return names

    with contextlib.suppress(DvcxError, ValueError):
        store_tree(row.entries(), keep)
    return found
