"""Moving objects between the cache and a remote: which ones records need, which are missing, verified on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dvcx.core.chunking import CHUNKED_ABOVE
from dvcx.core.objects import DIR, FILE, TREE, Content, Digest, Entry, entry_content
from dvcx.core.packing import SMALL
from dvcx.core.paths import check_path, contains, join
from dvcx.errors import IntegrityError, NotFound, display
from dvcx.events import Advanced, Emit
from dvcx.io import pool
from dvcx.io.store.store import Batch, Store, Wanted, join_tree, wanted
from dvcx.io.store.writer import PARTIAL_ABOVE, Sent, Writer
from dvcx.ops.looking import MAX_DIRECTORIES, too_many

SIDE_BY_SIDE = 3
"""Blobs of some chunks that are read at once; each holds up to 64 MiB."""


@dataclass(frozen=True, slots=True)
class Needed:
    """Every object some records need, each with a path that needs it; `trees` holds the bytes of trees read elsewhere.

    `corrupt` are those of them that the cache has, but not right; `met` says whether anything was named.
    """

    objects: Mapping[Wanted, str]
    trees: Mapping[Wanted, bytes]
    corrupt: frozenset[Wanted] = frozenset()
    met: bool = True


class Only(NamedTuple):
    """A part of what is recorded: `names` says yes to a path in it, `leads` to a directory that may hold one."""

    names: Callable[[str], bool]
    leads: Callable[[str], bool]


def only_at(path: str) -> Only:
    """Everything at or below one path."""
    return Only(lambda name: contains(path, name), lambda name: contains(name, path))


def way_to(path: str) -> Only:
    """The listings that tell what is at one path, and nothing else."""
    return Only(lambda name: False, lambda name: contains(name, path))


def needed(
    contents: Mapping[str, Content],
    cache: Store,
    remote: Store | None = None,
    *,
    only: Only | None = None,
    lost: dict[Wanted, str] | None = None,
) -> Needed:
    """Walk the trees of recorded contents, each read from the cache or else from the remote.

    `only` keeps to a part: what it names and the listings on the way there; `met` says whether anything was named.

    Raises `NotFound` naming the path whose listing is in neither; with `lost` it is put there instead, and what lies below
    it stays unknown.
    """
    objects: dict[Wanted, str] = {}
    trees: dict[Wanted, bytes] = {}
    corrupt: set[Wanted] = set()
    met = only is None
    whole: set[Wanted] = set()  # trees that were gone through for all they hold: once is enough
    count = 0
    todo = [(path, content) for path, content in contents.items()]
    while todo:
        level = [(path, content) for path, content in todo if content.kind == TREE and wanted(content) not in whole]
        objects.update({wanted(content): path for path, content in todo if content.kind != TREE})
        elsewhere = _prefetch([wanted(content) for _, content in level], cache, remote, trees)
        todo = []
        for path, content in level:
            if wanted(content) in whole:
                continue
            if only is None or only.names(path):
                whole.add(wanted(content))
            count += 1
            if count > MAX_DIRECTORIES:
                raise too_many(path)
            try:
                entries, own = _read(path, content, cache, remote, trees, elsewhere, corrupt)
            except NotFound:
                if lost is None:
                    raise
                objects[wanted(content)] = lost[wanted(content)] = path
                continue
            objects.update(dict.fromkeys(own, path))
            for entry in entries:
                if entry.kind == FILE and only is None:
                    # What `wanted` and `join` do, at half the price: this is done for every file.
                    item = tuple.__new__(Wanted, (entry.id, entry.seal, entry.size, False))
                    if item not in objects:
                        objects[item] = f"{path}/{entry.name}" if path else entry.name
                    continue
                name = join(path, entry.name)
                if only is not None and not only.names(name):
                    if entry.kind != DIR or not only.leads(name):
                        continue
                else:
                    met = True
                if entry.kind == DIR:
                    todo.append((check_path(name, "a recorded directory"), entry_content(entry)))
                else:
                    objects.setdefault(wanted(entry), name)
    return Needed(objects, trees, frozenset(corrupt), met)


def holds(cache: Store, contents: Mapping[str, Content], *, only: Only | None = None) -> bool:
    """Whether the cache has every object that `contents`, or a part of them, need."""
    try:
        return not cache.missing(needed(contents, cache, only=only).objects)
    except NotFound:
        return False


def _prefetch(level: list[Wanted], cache: Store, remote: Store | None, trees: dict[Wanted, bytes]) -> set[str]:
    """Read all trees of one depth that the cache lacks from the remote at once; their ids."""
    if remote is None:
        return set()
    absent = cache.missing(level)
    for batch in remote.batches(item for item in absent if item not in trees):
        for item, data in remote.read_batch(batch):
            trees[item] = bytes(data)
    return {item.id for item in absent}


def _read(
    path: str,
    content: Content,
    cache: Store,
    remote: Store | None,
    trees: dict[Wanted, bytes],
    elsewhere: set[str],
    corrupt: set[Wanted],
) -> tuple[list[Entry], list[Wanted]]:
    def read(item: Wanted) -> bytes:
        assert remote is not None
        if item not in trees:
            if not cache.missing([item]):
                try:
                    return cache.read(item)
                except IntegrityError:
                    trees[item] = remote.read(item)
                    corrupt.add(item)
                    return trees[item]
            trees[item] = remote.read(item)
        return trees[item]

    try:
        if content.id not in elsewhere:
            try:
                return cache.read_directory(content)
            except IntegrityError as error:
                if remote is None:
                    raise
                try:
                    return join_tree(content, read, remote.label)
                except NotFound:
                    raise error from None
        assert remote is not None
        return join_tree(content, read, remote.label)
    except NotFound:
        asked = f"the cache nor {remote.label}" if remote is not None else "the cache"
        raise NotFound(
            f"the listing of '{display(path)}' ({content.id}) is in neither {asked}"
            if remote is not None
            else f"the listing of '{display(path)}' ({content.id}) is not in the cache",
            "push it from where it was made, or ask another remote: dvcx fetch --remote NAME",
        ) from None


def move(
    items: Iterable[Wanted],
    source: Store,
    writer: Writer,
    *,
    jobs: int,
    lacking: Callable[[list[Wanted]], Exception],
    emit: Emit,
) -> dict[Wanted, Sent]:
    """Bring objects from one store into a writer of another; every byte is verified when it is read. How the large ones went.

    `writer` itself tells of the bytes of those of 1 MiB and more. Raises what `lacking` makes of objects the source does not
    have, and `IntegrityError`.
    """
    chosen = set(items)
    batches = source.batches(chosen)
    absent = chosen.difference(item for batch in batches for item, _ in batch.items)
    if absent:
        raise lacking(sorted(absent))

    # Large ones come last, and those that keep all threads busy one at a time: memory stays the same however many there are.
    large = [batch.items[0][0] for batch in batches if not batch.pack and batch.items[0][0].size > CHUNKED_ABOVE]
    rest = [batch for batch in batches if batch.pack or batch.items[0][0].size <= CHUNKED_ABOVE]
    sent: dict[Wanted, Sent] = {}

    def bring(batch: Batch) -> None:
        item = batch.items[0][0]
        if not batch.pack and item.size >= SMALL:
            writer.receive(item, source)
            emit(Advanced(1))
            return
        size = 0
        for item, data in source.read_batch(batch):
            writer.put(Digest(item.id, item.seal), bytes(data), tree=item.tree)
            size += len(data)
        emit(Advanced(len(batch.items), size))

    # Between two directories threads only wait for one another; over a network they wait for answers.
    workers = 2 if source.local is not None and writer.local else jobs
    for _ in pool.run(bring, rest, workers=workers):
        pass
    if large:
        writer.nearby(large, source)

    def bring_large(item: Wanted) -> None:
        sent[item] = writer.receive(item, source)
        emit(Advanced(1))

    # Reading one of a few chunks is mostly waiting.
    few = [item for item in large if writer.keeps_whole and item.size <= PARTIAL_ABOVE]
    for _ in pool.run(bring_large, few, workers=min(SIDE_BY_SIDE, workers)):
        pass
    for item in large:
        if item not in sent:
            bring_large(item)
    return sent


def damaged(items: Iterable[Wanted], cache: Store, *, jobs: int) -> list[Wanted]:
    """Those of `items` whose bytes in the cache are not what they should be."""

    def check(batch: Batch) -> list[Wanted]:
        bad: list[Wanted] = []
        for item, frame in batch.items:
            try:
                if batch.pack:
                    for _ in cache.read_batch(Batch(batch.pack, ((item, frame),), frame.stored)):
                        pass
                else:
                    for _ in cache.stream(item) if item.size >= 0 else [cache.read(item)]:
                        pass
            except IntegrityError:
                bad.append(item)
        return bad

    return [item for bad in pool.run(check, cache.batches(items), workers=jobs) for item in bad]


def not_on(remote: Store, objects: Mapping[Wanted, str]) -> Callable[[list[Wanted]], Exception]:
    """The error for objects that neither the cache nor the remote asked has."""

    def error(absent: list[Wanted]) -> NotFound:
        first = absent[0]
        more = f" and {len(absent) - 1:,} more" if len(absent) > 1 else ""
        return NotFound(
            f"'{display(objects.get(first, '?'))}' needs object {first.id}{more}: neither in the cache nor on {remote.label}",
            "push it from where it was made, or ask another remote: dvcx fetch --remote NAME",
        )

    return error
