"""What remotes hold of what the records need: one honest listing each, no data fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dvcx.core.holding import Holding, Lacked, PathLacking
from dvcx.core.objects import DIR, TREE, Content, Entry, entry_content
from dvcx.core.paths import MAX_DEPTH, contains, join
from dvcx.errors import IntegrityError, NotFound, display
from dvcx.events import Began, Emit, Ended
from dvcx.io.store.store import Store, Wanted, join_tree, wanted
from dvcx.ops.records import Tracked
from dvcx.ops.transfer import Needed, needed, only_at

if TYPE_CHECKING:
    from dvcx.project import Project


def holdings(project: Project, tracked: Tracked, targets: Sequence[str], *, remote: str, emit: Emit) -> tuple[Holding, ...]:
    """What `remote` ("" takes each path's own, or the default one) holds of what targets (all without any) need.

    Listings the cache lacks are read from the remote. Raises `IntegrityError` for an object that is there with another seal,
    `RemoteFailed` for a remote that cannot be listed.
    """
    cache = project.cache(emit)
    found = []
    try:
        for name, contents in _by_remote(project, tracked, targets, remote).items():
            store = project.remote(name, emit)
            emit(Began("listing objects"))
            try:
                found.append(_holding(name, contents, targets, cache, store))
            finally:
                store.close()
                emit(Ended("listing objects"))
    finally:
        cache.close()
    return tuple(found)


def _by_remote(
    project: Project, tracked: Tracked, targets: Sequence[str], asked: str
) -> dict[str, dict[str, Content]]:
    """Recorded contents by the remote they belong on; what is not to be pushed is needed on none."""
    if asked:
        project.remote_name(asked)
    grouped: dict[str, dict[str, Content]] = {}
    outs = {out.path for stage in tracked.stages for out in stage.outs if any(stage.named(target) for target in targets)}
    for path, content in tracked.contents().items():
        if targets and path not in outs and not any(contains(one, path) or contains(path, one) for one in targets):
            continue
        own = ""
        if path in tracked.pointers:
            pointer = tracked.pointers[path][1]
            own, pushed = pointer.remote, pointer.push
        else:
            stage = tracked.stage_of(path)
            pushed = stage is None or all(out.push for out in stage.outs if out.path == path)
        if pushed:
            grouped.setdefault(project.remote_name(asked or own), {})[path] = content
    return grouped


def _holding(name: str, contents: Mapping[str, Content], targets: Sequence[str], cache: Store, store: Store) -> Holding:
    lost: dict[Wanted, str] = {}
    inside = {path: [one for one in targets if contains(path, one)] for path in contents}
    whole = {path: content for path, content in contents.items() if not inside[path] or path in inside[path]}
    parts = [needed(whole, cache, store, lost=lost)]
    for path, content in contents.items():
        if path not in whole:
            parts += [needed({path: content}, cache, store, only=only_at(one), lost=lost) for one in inside[path]]
    objects = {item: path for part in parts for item, path in part.objects.items()}
    there, here = store.have(item.id for item in objects), cache.have(item.id for item in objects)
    for item, path in objects.items():
        sealed = there.get(item.id)
        if sealed and sealed.hex() != item.seal:
            raise IntegrityError(
                f"'{display(path)}' needs {item.id}: {store.label} holds other bytes under this id "
                f"(BLAKE3 {sealed.hex()[:12]}…, wanted {item.seal[:12]}…)",
                "one of the two was forged or is corrupt; find out who wrote it before you use either",
            )
    missing = {item for item in objects if item.id not in there}
    absent = [item for item in objects if item.id in there and item.id not in here]
    size = sum(max(item.size, 0) for item in absent)
    lacking: list[PathLacking] = []
    if missing:
        finder = _Finder(missing, here, cache, store, parts)
        gaps = {path: finder.at(path, contents[path]) for path in sorted(contents)}
        lacking = [PathLacking(path, tuple(found)) for path, found in gaps.items() if found]
    listings = [sum(item.tree for item in items) for items in (objects, missing, absent)]
    return Holding(name, len(objects), len(missing), len(absent), size, tuple(lacking), *listings)


class _Finder:
    """Finds every path that needs one of the missing objects, in listings that were read already."""

    def __init__(
        self, missing: set[Wanted], here: Mapping[str, bytes], cache: Store, store: Store, parts: Sequence[Needed]
    ) -> None:
        self._missing, self._here, self._cache, self._store = missing, here, cache, store
        self._trees = {item: data for part in parts for item, data in part.trees.items()}
        self._whole: set[Wanted] = set()

    def at(self, path: str, content: Content) -> list[Lacked]:
        """What is missing at or below a path; equal directories without a gap are gone through once."""
        item = wanted(content)
        found = [self._lacked(path, item)] if item in self._missing else []
        if content.kind != TREE or item in self._whole or path.count("/") >= MAX_DEPTH:
            return found
        try:
            entries, own = self._directory(content)
        except (NotFound, IntegrityError):
            return found
        found += [self._lacked(path, shard) for shard in own if shard != item and shard in self._missing]
        for entry in entries:
            found += self._below(join(path, entry.name), entry)
        if not found:
            self._whole.add(item)
        return found

    def _below(self, path: str, entry: Entry) -> list[Lacked]:
        if entry.kind == DIR:
            return self.at(path, entry_content(entry))
        return [self._lacked(path, wanted(entry))] if wanted(entry) in self._missing else []

    def _lacked(self, path: str, item: Wanted) -> Lacked:
        return Lacked(path, item.id, item.id in self._here, item.tree)

    def _directory(self, content: Content) -> tuple[list[Entry], list[Wanted]]:
        try:
            return self._cache.read_directory(content)
        except NotFound:
            return join_tree(content, self._tree, self._store.label)

    def _tree(self, item: Wanted) -> bytes:
        return self._trees[item] if item in self._trees else self._store.read(item)
