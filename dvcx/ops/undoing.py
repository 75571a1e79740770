"""Bringing back what collections moved to the trash: those that ended, and one of a remote that was begun and left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dvcx.core.collecting import ALIVE, MAX_SKEW, Mark, Sweep
from dvcx.errors import Busy, IntegrityError, NotFound, display
from dvcx.events import Advanced, Began, Emit, Ended
from dvcx.io.store import marks, sweep
from dvcx.io.store.store import Store
from dvcx.ops.collected import Collected, CollectedFile, report
from dvcx.ops.gc_remote import at_work

if TYPE_CHECKING:
    from dvcx.project import Project


def undo(project: Project, remote: str, *, all_days: bool, dry_run: bool, emit: Emit) -> Collected:
    """Bring back what the last day's collections of the cache, or of a remote, moved away; or all that is in the trash."""
    if remote:
        store = project.remote(remote, emit)
        try:
            return _undo(store, project.remote_name(remote), all_days=all_days, dry_run=dry_run, emit=emit)
        finally:
            store.close()
    hold = project.cache_reader_lock if dry_run else project.cache_collector_lock
    with hold("dvcx gc --undo", emit):
        store = project.cache(emit)
        try:
            return _undo(store, project.cache_dir, all_days=all_days, dry_run=dry_run, emit=emit)
        finally:
            store.close()


def _undo(store: Store, name: str, *, all_days: bool, dry_run: bool, emit: Emit) -> Collected:
    there = sweep.inventory(store)
    days = sorted({file.name.split("/")[1] for file in there.trash})
    if not days:
        raise NotFound(f"the trash of {store.label} is empty", "there is nothing to bring back")
    chosen = [file for file in there.trash if all_days or file.name.split("/")[1] == days[-1]]
    return replace(_bring_back(store, name, there, chosen, dry_run=dry_run, emit=emit), day=days[-1])


def abort(project: Project, remote: str, *, force: bool, dry_run: bool, emit: Emit) -> Collected:
    """End a collection of a remote that was begun and left: what it moved to the trash comes back, then its mark goes.

    While that happens it counts as a collection itself, so nobody else begins. Raises `NotFound` when none was left, and `Busy`
    when one gave a sign of life in the last minutes, unless `force` says that it is known to be dead.
    """
    name = project.remote_name(remote)
    store = project.remote(name, emit)
    try:
        return _abort(store, name, force=force, dry_run=dry_run, emit=emit)
    finally:
        store.close()


def _abort(store: Store, name: str, *, force: bool, dry_run: bool, emit: Emit) -> Collected:
    now = time.time()
    left = {key.removesuffix(".json"): mark for key, mark in marks.at_work(marks.read(store)).items()}
    if not left:
        undo_hint = f"what complete ones moved comes back with: dvcx gc --remote {display(name)} --undo"
        raise NotFound(f"{store.label}: no collection of it was begun and left", undo_hint)
    own = marks.fresh_name(now)
    with at_work(store, own, now, dry_run=dry_run, but=left) as (touched, beat):
        for mark in left.values():
            if not force and mark.time > now - ALIVE:
                raise _alive(store, mark, now)
        there = sweep.inventory(store, beat)
        chosen = [file for file in there.trash if any(_moved(file, key, mark) for key, mark in left.items())]
        try:
            result = _bring_back(store, name, there, chosen, dry_run=dry_run, emit=emit, beat=beat)
        except IntegrityError:
            # What is corrupt will not come back however often this is tried.
            touched.add(own)
            _end(store, left)
            raise
        if not dry_run:
            _end(store, [*left, own])
    return replace(result, ended=tuple(mark.by for _, mark in sorted(left.items())))


def _end(store: Store, names: Iterable[str]) -> None:
    for name in names:
        marks.remove(store, name)


def _moved(file: sweep.File, key: str, mark: Mark) -> bool:
    """Whether a file in the trash was moved there by the collection of a mark, or at the same time."""
    return file.name.split("/")[1] == key[3:13] and file.newest >= mark.began - MAX_SKEW


def _alive(store: Store, mark: Mark, now: float) -> Busy:
    minutes = max(0, round((now - mark.time) / 60))
    return Busy(
        f"{store.label}: a collection of it, by {display(mark.by)}, gave a sign of life {minutes} min ago",
        f"run it again after {marks.moment(mark.time + ALIVE)}, or add --force when you know that it is dead",
    )


def _bring_back(
    store: Store,
    name: str,
    there: sweep.Inventory,
    chosen: Sequence[sweep.File],
    *,
    dry_run: bool,
    emit: Emit,
    beat: Callable[[], None] = lambda: None,
) -> Collected:
    """Move files out of the trash to the names they had. When some are corrupt, `IntegrityError` after the others are back."""
    sizes: Mapping[str, int] = {file.name.split("/", 2)[2]: file.size for file in chosen}
    restored = list(sizes)
    corrupt: list[str] = []
    if not dry_run:
        emit(Began("bringing back", len(chosen), sum(file.size for file in chosen)))

        def advanced(size: int) -> None:
            emit(Advanced(1, size))
            beat()

        restored, corrupt = sweep.bring_back(store, chosen, advanced)
        emit(Ended("bringing back"))
    if corrupt:
        raise IntegrityError(
            f"{store.label}: {len(corrupt):,} of {len(chosen):,} files in the trash are corrupt and stay there: {corrupt[0]}",
            "the others are back; get what is missing again: dvcx fetch",
        )
    back = sum(sizes[item] for item in restored)
    result = report(store, name, Sweep(), (), (), there, now=time.time(), dry_run=dry_run)
    return replace(
        result,
        restored=len(restored),
        restored_bytes=back,
        trash_bytes=result.trash_bytes - back,
        size=result.size + back,
        files=tuple(CollectedFile(item, sizes[item], 0, "restored") for item in sorted(restored)),
    )
