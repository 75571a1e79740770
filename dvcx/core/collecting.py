"""What a collection takes out of a store: decided from what is there, what is reachable, and how old it is."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dvcx.core.objects import check_seal
from dvcx.core.records import VERSION
from dvcx.errors import IntegrityError, UsageError, display

DAY = 24 * 3600.0
GRACE_DAYS = 14
"""What was written or used less than so many days ago stays."""
TRASH_DAYS = 7
"""What was moved to the trash can come back for so many days."""
MAX_SKEW = 300.0
"""Clocks of this machine and of a remote may differ by so many seconds."""
ACTIVE = DAY
"""A collection of a remote whose last sign of life is younger than so many seconds may still be running."""
BEAT = 300.0
"""Seconds between two signs of life."""
ALIVE = 3 * BEAT
"""One that gave a sign of life so many seconds ago is running; it has to have missed several before somebody ends it."""
SMALL_INDEX = 1 << 20
MANY_INDEXES = 32
"""Above so many small indexes they are written as one."""
MAX_MARK = 64 << 10
MAX_TIME = 1e11
"""No mark was made later than so many seconds after 1970."""

MARKED, WORKING = "marked", "working"

_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_NAMES = re.compile(
    r"objects/[0-9a-f]{2}/(?:[0-9a-f]{30}|[0-9a-f]{62})"
    r"|packs/([0-9a-f]{2})/\1[0-9a-f]{62}\.pack|index/[0-9a-f]{64}\.index|actions/([0-9a-f]{2})/\2[0-9a-f]{62}(?:\.request)?\.json"
)


class Alone(NamedTuple):
    """A loose object: its raw id, bytes, and when it was last written or used (unix seconds)."""

    id: bytes
    size: int
    newest: float


class Packed(NamedTuple):
    """A pack: hex name, bytes, last write or use; how many of its objects stay, how many do not, and the bytes of those."""

    name: str
    size: int
    newest: float
    live: int
    dead: int
    dead_bytes: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """What goes: loose objects and whole packs; `repack` are packs whose reachable objects are copied before they go.

    `live` counts objects that stay because something needs them; `young` (`young_bytes`) those that nothing needs but that
    are younger than the grace; `sparse` unreachable ones in packs that are mostly needed.
    """

    loose: tuple[Alone, ...] = ()
    packs: tuple[Packed, ...] = ()
    repack: tuple[Packed, ...] = ()
    live: int = 0
    young: int = 0
    young_bytes: int = 0
    sparse: int = 0

    @property
    def objects(self) -> int:
        """How many objects go."""
        return len(self.loose) + sum(pack.dead for pack in (*self.packs, *self.repack))

    @property
    def bytes(self) -> int:
        """How many bytes the store is smaller by in the end."""
        whole = sum(item.size for item in self.loose) + sum(pack.size for pack in self.packs)
        return whole + sum(pack.dead_bytes for pack in self.repack)

    @property
    def empty(self) -> bool:
        """Whether nothing goes."""
        return not (self.loose or self.packs or self.repack)


def decide(
    loose: Iterable[Alone],
    packs: Iterable[Packed],
    live: Collection[bytes],
    *,
    before: float,
    only: Collection[bytes] | None = None,
) -> Sweep:
    """What goes of a store in which `live` is reachable and what is not older than `before` (unix seconds) stays.

    A pack more than half of which is unreachable is rewritten. Of loose objects only those in `only` may go (None: any).
    """
    going: list[Alone] = []
    gone: list[Packed] = []
    again: list[Packed] = []
    alive = young = young_bytes = sparse = 0
    for item in loose:
        if item.id in live:
            alive += 1
        elif item.newest > before or (only is not None and item.id not in only):
            young += 1
            young_bytes += item.size
        else:
            going.append(item)
    for pack in packs:
        alive += pack.live
        if pack.newest > before:
            young += pack.dead
            young_bytes += pack.dead_bytes
        elif not pack.live:
            gone.append(pack)
        elif pack.dead_bytes * 2 > pack.size:
            again.append(pack)
        else:
            sparse += pack.dead
    return Sweep(tuple(sorted(going)), tuple(sorted(gone)), tuple(sorted(again)), alive, young, young_bytes, sparse)


class Spare(NamedTuple):
    """A file of the cache that may go because a remote holds all that is in it: name, bytes, last use, objects."""

    name: str
    size: int
    newest: float
    objects: int


def shrink(spares: Iterable[Spare], size: int, limit: int) -> tuple[Spare, ...]:
    """Which files go, the least recently used first, until a cache of `size` bytes holds no more than `limit`."""
    chosen = []
    for spare in sorted(spares, key=lambda spare: (spare.newest, spare.name)):
        if size <= limit:
            break
        chosen.append(spare)
        size -= spare.size
    return tuple(chosen)


def small_indexes(sizes: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    """Names of the indexes that are better written as one: the small ones, once there are many."""
    small = sorted(name for name, size in sizes if size < SMALL_INDEX)
    return tuple(small) if len(small) > MANY_INDEXES else ()


def parse_size(text: str) -> int:
    """Bytes in "50G", "1.5 TiB", "800000". Raises `UsageError`."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?)(?:I?B)?", text.strip().upper())
    if found is None:
        raise UsageError(f"not a size: '{display(text[:40])}'", "write a number and K, M, G or T: 50G")
    return int(float(found[1]) * _UNITS[found[2]])


# The trash: trash/<date>/<name the file had>


def trash_name(day: str, name: str) -> str:
    """Where a file of a store lies in the trash of a day ("2026-01-31")."""
    return f"trash/{day}/{name}"


def trashed(name: str) -> tuple[str, str] | None:
    """(day, name the file had) of a file in the trash; None for what dvcx did not put there."""
    parts = name.split("/", 2)
    if len(parts) != 3 or parts[0] != "trash" or not _DATE.fullmatch(parts[1]) or not is_own(parts[2]):
        return None
    return parts[1], parts[2]


def is_own(name: str) -> bool:
    """Whether a name in a store is one that dvcx gives to objects, packs, indexes or actions: nothing else is ever moved."""
    return _NAMES.fullmatch(name) is not None


# Marks: what a collection of a remote found unreachable, so that a later one may take it


@dataclass(frozen=True, slots=True)
class Mark:
    """What a collection of a remote found: when it began (unix seconds), by whom, how many ids its list has, their BLAKE3.

    `state` is working while it runs, marked when its list is complete. While it runs `time` is that of its last sign of life.
    """

    state: str
    time: float
    by: str
    candidates: int = 0
    digest: str = ""
    began: float = 0.0


def encode_mark(mark: Mark) -> bytes:
    """The bytes of a mark."""
    record = {"dvcx": VERSION, "state": mark.state, "time": mark.time, "by": mark.by}
    if mark.state == MARKED:
        record.update(candidates=mark.candidates, blake3=mark.digest)
    else:
        record.update(began=mark.began)
    return json.dumps(record).encode() + b"\n"


def decode_mark(data: bytes, where: str) -> Mark:
    """A mark from its bytes. Raises `IntegrityError`."""
    try:
        record = json.loads(data)
        if record["dvcx"] != VERSION or record["state"] not in (MARKED, WORKING) or not isinstance(record["by"], str):
            raise ValueError("unknown version or state")
        moment = float(record["time"])
        mark = Mark(record["state"], moment, record["by"], began=float(record.get("began", moment)))
        if not (0 <= mark.time < MAX_TIME and 0 <= mark.began < MAX_TIME):  # neither is NaN
            raise ValueError("impossible time")
        if mark.state == MARKED:
            mark = Mark(MARKED, moment, mark.by, int(record["candidates"]), check_seal(record["blake3"], where))
        return mark
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise IntegrityError(
            f"{where}: broken mark of a collection ({error})", "remove it; the next dvcx gc makes a new one"
        ) from None


def encode_ids(ids: Iterable[bytes]) -> bytes:
    """A list of raw ids, sorted."""
    return b"".join(sorted(ids))


def decode_ids(data: bytes, length: int, where: str) -> set[bytes]:
    """The ids of a list."""
    if len(data) % length:
        raise IntegrityError(f"{where}: truncated list of ids", "remove it; the next dvcx gc makes a new one")
    return {data[at : at + length] for at in range(0, len(data), length)}


class Seen(NamedTuple):
    """A complete mark with its list."""

    time: float
    ids: Collection[bytes]


def ripe(marks: Sequence[Seen], *, before: float) -> tuple[float, set[bytes]] | None:
    """The ids that may go: on a mark made before `before` and on every later one. (that mark's time, ids); None without one.

    What was needed in between is missing on a mark in between, and waits anew.
    """
    ordered = sorted(marks, key=lambda mark: mark.time)
    old = [mark for mark in ordered if mark.time <= before]
    if not old:
        return None
    ids = set(old[-1].ids)
    for mark in ordered:
        if mark.time > old[-1].time:
            ids &= set(mark.ids)
    return old[-1].time, ids


# Projects that use a shared cache


class Root(NamedTuple):
    """A project that uses a cache: where it lies on which host, and whether it was ever in a git repository."""

    path: str
    host: str
    git: bool = False


def encode_root(root: Root) -> bytes:
    """The record of a project that uses a cache."""
    record: dict[str, object] = {"dvcx": VERSION, "root": root.path, "host": root.host}
    if root.git:
        record["git"] = True
    return json.dumps(record).encode() + b"\n"


def decode_root(data: bytes, where: str) -> Root:
    """The project that uses a cache. Raises `IntegrityError`."""
    try:
        record = json.loads(data)
        root, host, in_git = record["root"], record["host"], record.get("git", False)
        if record["dvcx"] != VERSION or not isinstance(host, str) or not isinstance(root, str) or not root.startswith("/"):
            raise ValueError("unknown version, or no absolute path")
        if "\0" in root:
            raise ValueError("a NUL in the path")
        if not isinstance(in_git, bool):
            raise ValueError("git is neither true nor false")
        return Root(root, host, in_git)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(
            f"{where}: broken record of a project that uses this cache ({error})",
            "run any dvcx add in that project to write it anew, or remove it when the project is gone",
        ) from None
