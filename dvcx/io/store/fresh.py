"""When objects of the cache were used last: fresh/<date> names the packs and loose objects that were used again that day.

Not the times of the files themselves: they may belong to another user, or be hard links into a workspace.
"""

from __future__ import annotations

import calendar
import contextlib
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from dvcx.core.collecting import DAY, is_own
from dvcx.core.objects import digest_bytes
from dvcx.io.store.store import Store, pack_name

KEPT_DAYS = 90
"""So long use is remembered."""
MANY = 200_000
"""Who uses more objects than this has used about everything: each is not looked for."""
LOOKED_AT = 4096
"""So many packs and loose objects are looked at before all of them count as old: a stat each is dearer than noting their use."""
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def freshen(store: Store, ids: Collection[bytes] | None) -> None:
    """These objects (None: all) were used again: to a collection they count as written today. Hold the cache's lock.

    Only a memory, so a disk that refuses it fails nothing; what is younger than a day needs none.
    """
    if store.local is None or (ids is not None and not ids):
        return
    with contextlib.suppress(OSError):
        _freshen(store, ids)


def may_age(store: Store) -> bool:
    """Whether anything in the cache can be older than a day: else no use of it needs to be noted.

    One stat for each pack and loose object, of which only so many are looked at: beyond them anything may be old.
    """
    if store.local is None:
        return False
    now = time.time()
    paths = (store.local.path(pack_name(name)) for name in store.catalog.packs())
    return any(count >= LOOKED_AT or _is_old(path, now) for count, path in enumerate(chain(paths, _loose_paths(store))))


def _loose_paths(store: Store) -> Iterator[str]:
    assert store.local is not None
    for two in store.loose_directories():
        directory = store.local.path(f"objects/{two}")
        with contextlib.suppress(OSError):
            for name in os.listdir(directory):
                yield f"{directory}/{name}"


def _freshen(store: Store, ids: Collection[bytes] | None) -> None:
    assert store.local is not None
    now = time.time()
    packs: set[str] = set(store.catalog.packs())
    alone: Iterable[bytes]
    if ids is not None and len(ids) <= MANY:
        packs, alone = store.catalog.packs_of(ids)
    else:
        alone = _all_loose(store)
    lines = [f"pack {name}" for name in packs if _is_old(store.local.path(pack_name(name)), now)]
    lines += [f"object {key.hex()}" for key in alone if _is_old(store.loose_path(f"{store.algorithm}:{key.hex()}"), now)]
    if not lines:
        return
    name = f"fresh/{day(now)}"
    path = store.local.path(name)
    with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as file:
        known = set(file.read().splitlines())
        lines = [line for line in lines if line not in known]
    if not lines:
        return
    store.local.make_directories(name)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o664)
    try:
        with contextlib.suppress(PermissionError):  # somebody else made it
            os.fchmod(fd, 0o664 if store.local.shared else 0o644)
        # In one piece, so that writers do not mix their lines.
        os.write(fd, "".join(f"{line}\n" for line in lines).encode())
    finally:
        os.close(fd)


def _all_loose(store: Store) -> Iterator[bytes]:
    assert store.local is not None
    for item in store.local.list("objects"):
        if is_own(item.name):
            yield bytes.fromhex(item.name[8:10] + item.name[11:])


def used(store: Store) -> dict[str, float]:
    """When packs and loose objects were used last (unix seconds, the end of that day), by hex name or hex digits of the id."""
    found: dict[str, float] = {}
    for name in days(store):
        assert store.local is not None
        with contextlib.suppress(OSError), open(store.local.path(f"fresh/{name}"), encoding="ascii", errors="replace") as file:
            end = calendar.timegm(time.strptime(name, "%Y-%m-%d")) + DAY
            for line in file:
                kind, _, digits = line.rstrip("\n").partition(" ")
                if kind in ("pack", "object"):
                    found[digits] = max(end, found.get(digits, 0.0))
    return found


def days(store: Store) -> list[str]:
    """The days of which use is remembered, oldest first."""
    if store.local is None:
        return []
    try:
        return sorted(name for name in os.listdir(store.local.path("fresh")) if _is_date(name))
    except OSError:
        return []


def forget(store: Store, before: str) -> None:
    """Drop the memory of days before this one."""
    for name in days(store):
        if name < before:
            assert store.local is not None
            with contextlib.suppress(OSError):
                os.unlink(store.local.path(f"fresh/{name}"))


def newest(found: os.stat_result) -> float:
    """When a file was written, moved or linked last, in unix seconds: a time that was set by hand makes nothing older."""
    return max(found.st_mtime, found.st_ctime)


def day(seconds: float) -> str:
    """The date, in UTC, of a moment in unix seconds."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def keys_of(ids: Collection[str]) -> list[bytes]:
    """Raw ids."""
    return [digest_bytes(object_id) for object_id in ids]


def _is_date(name: str) -> bool:
    if not _DATE.fullmatch(name):
        return False
    try:
        time.strptime(name, "%Y-%m-%d")
    except ValueError:
        return False
    return True


def _is_old(path: str, now: float) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return newest(found) < now - DAY
