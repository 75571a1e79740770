"""The result of a collection: what went, what stayed and why, and until when it can come back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dvcx.core.collecting import DAY, TRASH_DAYS, Sweep
from dvcx.io.store import fresh
from dvcx.io.store.store import Store, object_name, pack_name
from dvcx.io.store.sweep import File, Inventory


@dataclass(frozen=True, slots=True)
class CollectedFile:
    """A file that goes, or comes back: its name in the store, bytes, objects in it that go, and `why`.

    `why`: unused, repacked (what is needed in it was copied to a new pack), expired (in the trash for more than a week),
    on a remote (dropped to keep the cache small), restored (brought back from the trash).
    """

    name: str
    size: int
    objects: int
    why: str


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection did, or would do. Sizes are bytes.

    `objects` (`bytes`) went to the trash of `day`, from where they can come back before `until`; `needed` are reachable,
    `young` (`young_bytes`) unused ones within the grace, `sparse` unused ones in packs that are mostly needed. `expired_bytes`
    were deleted for good, `dropped` (`dropped_bytes`) left the cache since a remote holds them. Of a remote: `marked` unused
    objects wait until the day `ripe`. `size` is what objects, packs and indexes take afterwards. `ended`: by whom the
    collections were begun that were ended.
    """

    store: str
    dry_run: bool
    objects: int
    bytes: int
    needed: int
    young: int
    young_bytes: int
    sparse: int
    day: str
    until: str
    expired: int
    expired_bytes: int
    dropped: int
    dropped_bytes: int
    restored: int
    restored_bytes: int
    trash_bytes: int
    marked: int
    ripe: str
    size: int
    files: tuple[CollectedFile, ...]
    ended: tuple[str, ...] = ()


def report(
    store: Store,
    name: str,
    chosen: Sweep,
    actions: Iterable[File],
    expired: Iterable[File],
    there: Inventory,
    *,
    now: float,
    dry_run: bool,
    marked: int = 0,
    ripe: str = "",
) -> Collected:
    """The result of a collection that was decided, done or not."""
    expired = list(expired)
    files = [CollectedFile(object_name(f"{store.algorithm}:{item.id.hex()}"), item.size, 1, "unused") for item in chosen.loose]
    files += [CollectedFile(pack_name(pack.name), pack.size, pack.dead, "unused") for pack in chosen.packs]
    files += [CollectedFile(pack_name(pack.name), pack.size, pack.dead, "repacked") for pack in chosen.repack]
    files += [CollectedFile(file.name, file.size, 0, "unused") for file in actions]
    files += [CollectedFile(file.name, file.size, 0, "expired") for file in expired]
    gone = sum(file.size for file in expired)
    trash = sum(file.size for file in there.trash) - gone
    moved = sum(file.size for file in files if file.why in ("unused", "repacked"))
    return Collected(
        store=name,
        dry_run=dry_run,
        objects=chosen.objects,
        bytes=chosen.bytes,
        needed=chosen.live,
        young=chosen.young,
        young_bytes=chosen.young_bytes,
        sparse=chosen.sparse,
        day=fresh.day(now),
        until=fresh.day(now + (TRASH_DAYS + 1) * DAY),
        expired=len(expired),
        expired_bytes=gone,
        dropped=0,
        dropped_bytes=0,
        restored=0,
        restored_bytes=0,
        trash_bytes=trash + moved,
        marked=marked,
        ripe=ripe,
        size=max(0, there.size - chosen.bytes),
        files=tuple(files),
    )
