"""push: send what the records need to a remote."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dvcx.core.changes import ReadTree
from dvcx.core.chunking import is_chunked
from dvcx.core.objects import Content, digest_bytes, entry_content
from dvcx.core.paths import contains, several
from dvcx.errors import DvcxError, IntegrityError, NotFound, display
from dvcx.events import Advanced, Began, Emit, Ended, Warned, ignore
from dvcx.io.store import marks
from dvcx.io.store.scratch import scratch
from dvcx.io.store.store import Store, Wanted, wanted
from dvcx.io.store.writer import Sent, Writer, fresh_bytes
from dvcx.ops import actions, records
from dvcx.ops.checkout import entry_of
from dvcx.ops.listings import Listings
from dvcx.ops.looking import entry_at, observe, stored_trees
from dvcx.ops.records import Tracked
from dvcx.ops.transfer import move, needed

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was sent, or would be.

    `objects` and their logical `bytes` are new on the remote; `new` of these bytes it held in no object or chunk; `sent` is
    what went there, as stored (0 in a dry run); `ratio` is sent (in a dry run new) to logical bytes. `present` objects were
    there already. `listings` of the objects are those of directories. `actions` results of stages went along. `unrecorded`,
    looked for where nothing was to be sent, are tracked paths with edits that no pointer names yet, which a push therefore
    does not send.
    """

    remote: str
    objects: int
    bytes: int
    new: int
    sent: int
    ratio: float
    present: int
    dry_run: bool
    actions: int = 0
    unrecorded: tuple[str, ...] = ()
    listings: int = 0


def push(
    project: Project,
    targets: Sequence[str] = (),
    *,
    remote: str = "",
    jobs: int = 0,
    dry_run: bool = False,
    emit: Emit = ignore,
) -> Pushed:
    """Send the objects that targets (all without any) need and the remote's listing does not show.

    Every object is hashed on its way out. Raises `NotFound` naming the path of an object that is nowhere,
    `IntegrityError` for a corrupt one (then nothing of it is visible on the remote), `RemoteFailed`.
    """
    targets = several(targets)
    name = project.remote_name(remote)
    tracked = records.load(project)
    with project.cache_reader_lock("dvcx push", emit):
        pushed = _push(project, tracked, targets, name, asked=bool(remote), jobs=jobs, dry_run=dry_run, emit=emit)
    return pushed if pushed.objects else replace(pushed, unrecorded=_unrecorded(project, tracked, targets, emit))


def _unrecorded(project: Project, tracked: Tracked, targets: Sequence[str], emit: Emit) -> tuple[str, ...]:
    """The tracked paths at, in or around targets (all without any) that were edited since they were recorded."""
    from dvcx.ops.placed import Parts
    from dvcx.ops.status import data_changes

    paths = [path for path in tracked.pointers if not targets or any(contains(path, at) or contains(at, path) for at in targets)]
    index = project.stat_index(emit)
    parts = Parts(project, tracked, index, emit)
    try:
        seen = observe(project, paths, index=index, rules=project.rules(), emit=emit)
        changes = data_changes(project, tracked, paths, seen, parts, emit)
        index.flush()
    finally:
        parts.close()
        index.close()
    return tuple(change.path for change in changes if change.state == "modified")


def _push(
    project: Project, tracked: Tracked, targets: Sequence[str], name: str, *, asked: bool, jobs: int, dry_run: bool, emit: Emit
) -> Pushed:
    cache = project.cache(emit)
    store = project.remote(name, emit, write=not dry_run)
    try:
        with _cut_told(cache):
            with Listings(project, tracked, cache, emit, remote=name) as listings:
                contents = _chosen(tracked, targets, name, asked=asked, read=listings.read)
            results = actions.sendable(project, tracked, contents, cache, name)
            for action in results.values():
                contents = {**action.outs, **contents}
            pushed = _push_objects(project, contents, cache, store, name, jobs=jobs, dry_run=dry_run, emit=emit)
        if dry_run:
            return pushed
        return replace(pushed, actions=actions.send(project, store, results, jobs=jobs or project.jobs, emit=emit))
    finally:
        store.close()
        cache.close()


def _push_objects(
    project: Project,
    contents: Mapping[str, Content],
    cache: Store,
    store: Store,
    name: str,
    *,
    jobs: int,
    dry_run: bool,
    emit: Emit,
) -> Pushed:
    emit(Began("listing objects"))
    objects = needed(contents, cache, store).objects
    absent = store.missing(objects)
    emit(Ended("listing objects"))
    present = len(objects) - len(absent)
    if not dry_run:
        lacked = set(absent)
        marks.hold(store, (digest_bytes(item.id) for item in objects if item not in lacked))
    if dry_run or not absent:
        return _forecast(name, absent, cache, store, present, emit, dry_run=dry_run)
    emit(Began("pushing", len(absent), _size(absent)))
    with (
        scratch(f"{project.state_dir}/tmp") as directory,
        _repairable(objects, cache),
        Writer(
            store,
            directory,
            compress=project.compresses(name),
            fsync=project.fsync,
            journal=f"{project.state_dir}/sent-{store.id}",
            advanced=lambda count: emit(Advanced(0, count)),
        ) as writer,
    ):
        sent = move(absent, cache, writer, jobs=jobs or project.jobs, lacking=_lacking(objects), emit=emit)
        summary = writer.commit()
    emit(Ended("pushing"))
    _advise(project, cache, store, {objects[item]: (item, how) for item, how in sent.items()}, emit)
    ratio, listings = _ratio(summary.stored, summary.bytes), _listings(absent)
    return Pushed(name, summary.objects, summary.bytes, summary.new, summary.stored, ratio, present, False, listings=listings)


def _chosen(tracked: Tracked, targets: Sequence[str], name: str, *, asked: bool, read: ReadTree) -> dict[str, Content]:
    """Contents that may go to the remote called `name`."""
    chosen = {}
    for path, content in records.select(tracked, targets).items():
        owner = records.owner_of(tracked, path)
        if owner in tracked.pointers:
            pointer = tracked.pointers[owner][1]
            if not pointer.push or (pointer.remote and pointer.remote != name and not asked):
                continue
        else:
            stage = tracked.stage_of(owner)
            if stage is not None and not all(out.push for out in stage.outs if out.path == owner):
                continue
        chosen[path] = entry_content(entry_of(tracked, read, path, content))
    return chosen


def _size(items: Sequence[Wanted]) -> int:
    """Bytes of files; listings do not say how large they are themselves."""
    return sum(item.size for item in items if item.size > 0)


def _listings(items: Sequence[Wanted]) -> int:
    return sum(item.tree for item in items)


def _ratio(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _forecast(
    name: str, absent: Sequence[Wanted], cache: Store, store: Store, present: int, emit: Emit, *, dry_run: bool
) -> Pushed:
    """What a push would do. Large files are cut to see how much of them is new."""
    size = new = _size(absent)
    large = [item for item in absent if is_chunked(item.size) and cache.is_loose(item.id)]
    if large:
        emit(Began("looking for what is new", len(large), _size(large)))
        known: set[str] = set()
        for item in large:
            new += fresh_bytes(item, cache, store, known) - item.size
            emit(Advanced(1, item.size))
        emit(Ended("looking for what is new"))
    return Pushed(name, len(absent), size, new, 0, _ratio(new, size), present, dry_run, listings=_listings(absent))


@contextlib.contextmanager
def _cut_told(cache: Store) -> Iterator[None]:
    """What the cache lacks because a pack of it was cut off is damage, not absence."""
    try:
        yield
    except NotFound as error:
        cut = cache.cut_packs()
        if not cut:
            raise
        name, size, right = cut[0]
        raise IntegrityError(
            f"{cache.label}: {name} has {size:,} bytes instead of {right:,}; {error.message}",
            "dvcx fsck --repair gets a good copy from a remote; or where the files still are: dvcx commit",
        ) from None


@contextlib.contextmanager
def _repairable(objects: Mapping[Wanted, str], cache: Store) -> Iterator[None]:
    """A corrupt object of the cache is told with the path that needs it, and how to repair it."""
    try:
        yield
    except IntegrityError as error:
        path = next((path for item, path in objects.items() if item.id in error.message), "")
        if not path or not error.message.startswith(cache.label):
            raise
        raise IntegrityError(
            f"'{display(path)}' cannot be sent: {error.message}",
            f"a copy on another remote replaces it: dvcx fsck --repair, or dvcx pull --remote NAME {display(path)}; "
            f"or put the right file back and run: dvcx commit {display(path)}",
        ) from None


def _advise(
    project: Project, cache: Store, store: Store, sent: Mapping[str, tuple[Wanted, Sent]], emit: Emit
) -> None:
    """Compressed Parquet shares nothing with its older version unless it is written for that: told once, with how."""
    poor = {
        path: item
        for path, (item, how) in sent.items()
        if path.endswith(".parquet") and how.new * 2 > how.bytes and next(iter(cache.stream(item)), b"")[:4] == b"PAR1"
    }
    if not poor:
        return
    older = [path for path, item in sorted(poor.items()) if _older_is_there(project, cache, store, path, item)]
    if older:
        size, new = (sum(getattr(sent[path][1], what) for path in older) for what in ("bytes", "new"))
        more = f" and {len(older) - 1:,} more" if len(older) > 1 else ""
        emit(
            Warned(
                f"'{display(older[0])}'{more}: {new * 100 // size} % was new, though an older version is on {store.label}",
                "Parquet whose versions share what did not change is written by pyarrow 21 or newer: "
                "pq.write_table(table, path, use_content_defined_chunking=True)",
            )
        )


def _older_is_there(project: Project, cache: Store, store: Store, path: str, item: Wanted) -> bool:
    """Whether the remote holds what one of the last commits recorded at `path`."""
    for rev in ("HEAD", "HEAD~1", "HEAD~2") if project.git is not None else ():
        with contextlib.suppress(DvcxError):
            contents = records.load(project, rev).contents()
            owner = next((known for known in contents if contains(known, path)), "")
            entry = entry_at(stored_trees(cache), owner, contents[owner], path) if owner else None
            if entry is not None and entry.id != item.id and not store.missing([wanted(entry)]):
                return True
    return False


def _lacking(objects: Mapping[Wanted, str]) -> Callable[[list[Wanted]], Exception]:
    def error(absent: list[Wanted]) -> NotFound:
        path = objects[absent[0]]
        more = f" and {len(absent) - 1:,} more objects" if len(absent) > 1 else ""
        return NotFound(
            f"'{display(path)}' needs object {absent[0].id}{more}: not in the cache and not on the remote",
            f"record it again (dvcx commit {display(path)}), or fetch it from another remote",
        )

    return error
