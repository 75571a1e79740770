"""Collecting a remote, in two phases: what is unused is marked; only what a mark named long ago, and is unused still, goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from dvcx.core.collecting import ACTIVE, BEAT, DAY, GRACE_DAYS, MARKED, MAX_SKEW, TRASH_DAYS, Packed, Sweep, decide, ripe
from dvcx.core.packing import Frame
from dvcx.errors import Busy, Conflict, DvcxError, NotFound, RemoteFailed, UsageError, display
from dvcx.events import Advanced, Began, Emit, Ended
from dvcx.io.files import private_directory
from dvcx.io.store import fresh, marks, sweep
from dvcx.io.store.store import Store
from dvcx.ops import gc_actions
from dvcx.ops.collected import Collected, report
from dvcx.ops.reachable import find_roots, reach

if TYPE_CHECKING:
    from dvcx.project import Project


def collect(project: Project, remote: str, *, grace: int, dry_run: bool, emit: Emit) -> Collected:
    """Collect a remote that this project alone decides about (`remote.NAME.gc`).

    Refuses on any doubt: an unreadable record, a missing listing, a shallow clone, a failed listing, clocks that differ,
    another collection at work. A dry run writes nothing, so it cannot compare clocks.
    """
    name = check(project, remote)
    found = find_roots(project, emit=emit)
    if found.shallow:
        raise Conflict(
            f"{display(found.shallow[0])} is a shallow clone: what older commits need is not known",
            "get the whole history: git fetch --unshallow",
        )
    store = project.remote(name, emit)
    try:
        if not store.id:
            raise NotFound(f"remote '{name}' is empty", "dvcx push fills it")
        cache = project.cache(emit)
        try:
            with project.cache_reader_lock("dvcx gc", emit):
                live, _ = reach(found, [store, cache], emit=emit)
        finally:
            cache.close()
        sweep.reach_chunks(store, live)
        return _collect(project, name, store, live, grace=grace, dry_run=dry_run, emit=emit)
    finally:
        store.close()


def check(project: Project, remote: str) -> str:
    """The remote's name. Raises `UsageError` for one that may not be collected."""
    name = project.remote_name(remote)
    if project.config.remote(name).get("gc") != "True":
        raise UsageError(
            f"remote '{name}' is not marked as this project's alone: what other projects keep there would be lost",
            f"if no other project uses it: dvcx remote modify {name} gc true",
        )
    return name


def _collect(project: Project, name: str, store: Store, live: set[bytes], *, grace: int, dry_run: bool, emit: Emit) -> Collected:
    now = time.time()
    own = marks.fresh_name(now)
    with at_work(store, own, now, dry_run=dry_run) as (touched, beat):
        emit(Began("looking at the remote"))
        there = sweep.inventory(store, beat)
        dead = {item.id for item in there.loose} | {key for _, key, _, _ in store.catalog.everything()}
        present = frozenset(dead)
        held = len(dead)
        dead -= live
        known = marks.read(store)
        earlier = marks.seen(store, known)
        may_go = ripe(earlier, before=now - grace * DAY)
        since, ids = may_go if may_go is not None else (0.0, set())
        used = marks.used_since(store, known, since)
        # A push that counts on a large blob counts on its chunks.
        sweep.reach_chunks(store, used)
        going = (dead & ids) - used
        chosen = Sweep()
        kept: dict[str, list[Frame]] = {}
        if going:
            stays = _others(going)
            weighed = sweep.weigh(store, there.packs, stays)
            # What was written after the mark was used again since.
            chosen = decide(there.loose, weighed, live, before=since - MAX_SKEW, only=going)
            chosen, kept = sweep.examine(store, chosen, stays, beat)
        left = _left_by_pushes(store, there, now - max(grace, GRACE_DAYS) * DAY)
        chosen = replace(chosen, live=held - len(dead), packs=(*chosen.packs, *left))
        actions = gc_actions.unusable(
            *(store, there, lambda key: key in present and key not in going),
            before=now - grace * DAY,
            jobs=project.jobs,
            beat=beat,
        )
        expired = sweep.expired(there, fresh.day(now - TRASH_DAYS * DAY))
        emit(Ended("looking at the remote"))
        waiting = dead - going
        first = min((mark.time for mark in earlier if mark.time > now - grace * DAY), default=now)
        due = fresh.day(first + grace * DAY) if waiting else ""
        result = report(store, name, chosen, actions, expired, there, now=now, dry_run=dry_run, marked=len(waiting), ripe=due)
        if not dry_run:
            private = f"{project.state_dir}/tmp"
            private_directory(private)
            emit(Began("moving to the trash", len(result.files)))
            touched.add(own)

            def moved(files: int, size: int) -> None:
                if files:
                    emit(Advanced(files, size))
                beat()

            sweep.carry_out(
                store,
                chosen,
                kept,
                there,
                day=result.day,
                scratch=private,
                fsync=project.fsync,
                actions=[file.name for file in actions],
                moved=moved,
            )
            sweep.purge(store, there, fresh.day(now - TRASH_DAYS * DAY))
            emit(Ended("moving to the trash"))
            _leave(store, own, known, now, since, waiting)
    return result


def _left_by_pushes(store: Store, there: sweep.Inventory, before: float) -> list[Packed]:
    """Packs that no index names: what killed pushes left. A push goes on with young ones only, so one look is enough."""
    named = store.catalog.packs()
    unnamed = [(name, file) for name, file in sorted(there.packs.items()) if name not in named]
    return [Packed(name, file.size, file.newest, 0, 0, 0) for name, file in unnamed if file.newest < before]


def _others(going: set[bytes]) -> Callable[[bytes], bool]:
    return lambda key: key not in going


def _heart(store: Store, own: str, began: float, but: Collection[str]) -> Callable[[], None]:
    """What says again, every few minutes, that this collection is at work; raises `Busy` when another one took its place.

    After a day of silence it counts as killed, and anybody may end it once it has missed some of them.
    """
    last = began

    def beat() -> None:
        nonlocal last
        now = time.time()
        if abs(now - last) < BEAT:
            return
        last = now
        known = marks.read(store)
        if f"{own}.json" not in known.records:
            raise Busy(f"{store.label}: this collection was ended: dvcx gc --abort", "run it again")
        other = marks.active(known, but, now)
        if other is not None:
            raise marks.busy(store, other)
        marks.begin(store, own, now, began)

    return beat


@contextmanager
def at_work(
    store: Store, own: str, now: float, *, dry_run: bool, but: Collection[str] = ()
) -> Iterator[tuple[set[str], Callable[[], None]]]:
    """Say on the remote that a collection is at work, unless another one (`but` these) is, or the clocks differ.

    Taken back after a failure. Once it puts its name into the set it is given, a failure leaves a trace instead: pushes that
    listed the remote before look again. The other thing it is given is to be called now and then: a sign of life.
    """
    touched: set[str] = set()
    if dry_run:
        other = marks.active(marks.read(store), but, now)
        if other is not None:
            raise marks.busy(store, other)
        yield touched, _nothing
        return
    but = {own, *but}
    try:
        marks.begin(store, own, now)
        known = marks.read(store)
        other = marks.active(known, but, now)
        if other is not None:
            raise marks.busy(store, other)
        _compare_clocks(store, own)
        yield touched, _heart(store, own, now, but)
    except BaseException:
        # What cannot be written stays at work in everybody's eyes for a day: that is the safe side.
        with suppress(DvcxError):
            if touched:
                marks.give_up(store, own)
            else:
                marks.remove(store, own)
        raise


def _nothing() -> None:
    """No sign of life is needed."""


def _compare_clocks(store: Store, own: str) -> None:
    written = next((item.modified for item in store.backend.list("gc") if item.name == f"{own}.json"), 0.0)
    apart = abs(written - time.time())
    if apart > MAX_SKEW:
        raise RemoteFailed(
            f"{store.label}: its clock and this machine's are {apart:,.0f} s apart: how old things are is not known",
            "set the clocks (timedatectl), then run it again",
        )


def _leave(store: Store, own: str, known: marks.Marks, now: float, since: float, waiting: set[bytes]) -> None:
    """The new mark, then the old ones that it makes useless go."""
    marks.complete(store, own, now, waiting)
    for name, mark in known.records.items():
        if name != f"{own}.json" and mark.time < (max(since, now - 365 * DAY) if mark.state == MARKED else now - ACTIVE):
            marks.remove(store, name.removesuffix(".json"))
    for name in known.names:
        # A list whose collection was killed before it could name it.
        if name.endswith(".ids") and f"{name.removesuffix('ids')}json" not in known.records:
            store.backend.delete(name)
    for name, modified in known.used.items():
        if modified < min(since, now - 90 * DAY):
            store.backend.delete(name)
