"""Marks of collections in a remote (gc/<date>-<random>.json, .ids, .used): what was found unused, and what is used again."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass

from dvcx.core.collecting import (
    ACTIVE,
    MARKED,
    MAX_MARK,
    MAX_SKEW,
    WORKING,
    Mark,
    Seen,
    decode_ids,
    decode_mark,
    encode_ids,
    encode_mark,
)
from dvcx.core.objects import ALGORITHMS
from dvcx.errors import Busy, DvcxError, IntegrityError, NotFound, display
from dvcx.io.hashing import seal
from dvcx.io.store import fresh
from dvcx.io.store.store import Store

MAX_IDS = 4 << 30
_OURS = re.compile(r"gc/\d{4}-\d{2}-\d{2}-[0-9a-f]{16}\.(json|ids|used)")


@dataclass(frozen=True, slots=True)
class Marks:
    """What lies in a remote's gc/: records by name, names of lists of used ids with when they were written, and leftovers.

    `newest` is when a collection last wrote something there (unix seconds, of the remote's clock).
    """

    records: dict[str, Mark]
    used: dict[str, float]
    names: frozenset[str]
    newest: float = 0.0


def read(store: Store) -> Marks:
    """All marks of a remote. Raises `IntegrityError` for a broken one, `RemoteFailed` when they cannot be listed."""
    listed = {item.name: item for item in store.backend.list("gc") if _OURS.fullmatch(item.name)}
    records = {}
    for name in sorted(listed):
        if name.endswith(".json"):
            try:
                data = b"".join(store.backend.stream(name, MAX_MARK))
            except NotFound:  # its collection just ended
                continue
            records[name] = decode_mark(data, f"{store.label}: {name}")
    used = {name: item.modified for name, item in listed.items() if name.endswith(".used")}
    newest = max((item.modified for name, item in listed.items() if name not in used), default=0.0)
    return Marks(records, used, frozenset(listed), newest)


def fresh_name(now: float) -> str:
    """A name for a new mark, without its ending."""
    return f"gc/{fresh.day(now)}-{secrets.token_hex(8)}"


def begin(store: Store, name: str, now: float, began: float = -1.0) -> None:
    """Say that a collection is at work, or (`began`) still is."""
    mark = Mark(WORKING, now, _myself(), began=began if began >= 0 else now)
    store.backend.write(f"{name}.json", encode_mark(mark))


def complete(store: Store, name: str, now: float, ids: Iterable[bytes]) -> None:
    """Leave a mark: what is unused now."""
    data = encode_ids(ids)
    store.backend.write(f"{name}.ids", data)
    count = len(data) // ALGORITHMS[store.algorithm]
    store.backend.write(f"{name}.json", encode_mark(Mark(MARKED, now, _myself(), count, seal(data).hex())))


def remove(store: Store, name: str) -> None:
    """Take a mark away, its list last."""
    store.backend.delete(f"{name}.json")
    store.backend.delete(f"{name}.ids")


def give_up(store: Store, name: str) -> None:
    """A collection that took something and failed is not at work any more; an empty list says when, until the next one ends."""
    store.backend.write(f"{name}.ids", b"")
    store.backend.delete(f"{name}.json")


def at_work(marks: Marks) -> dict[str, Mark]:
    """Collections that began and neither ended nor failed: running, or killed."""
    return {name: mark for name, mark in marks.records.items() if mark.state == WORKING}


def active(marks: Marks, but: Collection[str], now: float) -> Mark | None:
    """A collection that is at work, as far as its mark tells: not one of a day that is long past or far ahead."""
    for name, mark in at_work(marks).items():
        if name.removesuffix(".json") not in but and now - ACTIVE < mark.time < now + ACTIVE:
            return mark
    return None


def busy(store: Store, mark: Mark) -> Busy:
    """The error while another collection of a remote is at work."""
    remote = store.label.removeprefix("remote ")  # in quotes
    return Busy(
        f"{store.label}: a collection of it is under way, by {display(mark.by)} since {moment(mark.began)}; its last sign of "
        f"life is of {moment(mark.time)}",
        f"wait for it to end; if it was killed: dvcx gc --remote {remote} --abort",
    )


def moment(seconds: float) -> str:
    """A moment in words."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def seen(store: Store, marks: Marks) -> list[Seen]:
    """The complete marks with their lists, each compared with its digest."""
    found = []
    for name, mark in marks.records.items():
        if mark.state != MARKED:
            continue
        listing = name.removesuffix("json") + "ids"
        where = f"{store.label}: {listing}"
        data = b"".join(store.backend.stream(listing, MAX_IDS))
        if seal(data).hex() != mark.digest:
            raise IntegrityError(f"{where}: is not what its mark says", f"remove {name}; the next dvcx gc makes a new one")
        found.append(Seen(mark.time, decode_ids(data, ALGORITHMS[store.algorithm], where)))
    return found


def used_since(store: Store, marks: Marks, since: float) -> set[bytes]:
    """Ids that pushes counted on after a moment."""
    ids: set[bytes] = set()
    for name, modified in marks.used.items():
        if modified >= since - MAX_SKEW:
            data = b"".join(store.backend.stream(name, MAX_IDS))
            ids |= decode_ids(data, ALGORITHMS[store.algorithm], f"{store.label}: {name}")
    return ids


def hold(store: Store, ids: Iterable[bytes], *, unnamed: Collection[bytes] = ()) -> None:
    """A push counts on these objects, which are on the remote already: no collection may take them. One listing, mostly.

    Of a large blob its chunks are held as well; `unnamed` are those loose ones that no index names yet. Raises `Busy` while
    a collection is at work, which may be taking them now, or after one that took some since the store was listed.
    """
    marks = read(store)
    if not marks.names:
        return
    _refuse(store, marks)
    ids = store.with_chunks(ids)
    listed: set[bytes] = set()
    for mark in seen(store, marks):
        listed |= set(mark.ids)
    counted = listed.intersection(ids)
    told = _told(marks)
    if not counted and told == store.marks_before:
        return  # no collection wrote anything since before the store was listed
    began = time.time()
    used = f"{fresh_name(began)}.used"
    store.backend.write(used, encode_ids(counted))
    # Written before this look: either that collection sees it, or we see that collection.
    marks = read(store)
    _refuse(store, marks)
    store.catalog.set_marks(_told(marks))
    apart = marks.used.get(used, began) - began  # of the remote's clock and this one
    if not counted:
        with suppress(DvcxError):  # whoever may not delete leaves an empty list to the next collection
            store.backend.delete(used)
    if marks.newest >= store.listed_at + apart - MAX_SKEW:
        # A whole collection fits between a listing and this moment.
        store.sync(again=True)
        lost = store.lost(ids, unnamed=unnamed)
        if lost:
            raise Busy(
                f"{store.label}: a collection took {len(lost):,} of {len(ids):,} objects since this looked there", "run it again"
            )


def _told(marks: Marks) -> str:
    """What collections wrote, told by names that no two of them give."""
    return " ".join(sorted(marks.names - marks.used.keys()))


def _refuse(store: Store, marks: Marks) -> None:
    other = active(marks, (), time.time())
    if other is not None:
        raise busy(store, other)


def _myself() -> str:
    return f"pid {os.getpid()} on {os.uname().nodename}"
