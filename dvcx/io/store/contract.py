"""What every store must do, tried out on one under a private name: for `dvcx remote check`, and for the tests of all backends.

Nothing stays behind: everything is written below `check/<random>/`, which is removed in the end, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from dvcx.errors import DvcxError, NotFound, RemoteFailed
from dvcx.io.hashing import seal
from dvcx.io.store.backend import STALE, Backend
from dvcx.io.store.objectstore import ObjectBackend
from dvcx.io.store.retry import RetryingBackend

PLACE = "check"
SMALL_FILES = 20
LARGE = 20 << 20  # above the size of one part
SKEW_NOTED = 60.0
SKEW_REFUSED = 300.0
"""Seconds: `gc` on a remote, and S3 itself from 900 on, refuse to work with clocks that differ by more."""

OK, FAILED, NOTE, SKIPPED = "ok", "failed", "note", "skipped"


class Finding(NamedTuple):
    """What one check found: ok, failed, note or skipped, in words; `permission` is what the credentials lack."""

    check: str
    verdict: str
    words: str
    hint: str = ""
    permission: str = ""


class Unfit(Exception):
    """The store does not do what it must; in words, and what helps."""

    def __init__(self, words: str, hint: str = "dvcx cannot keep data there safely; use another kind of store") -> None:
        super().__init__(words)
        self.words = words
        self.hint = hint


class Remark(Exception):
    """The store can be used, but there is something to say."""

    def __init__(self, words: str, hint: str = "") -> None:
        super().__init__(words)
        self.words = words
        self.hint = hint


@dataclass
class Bench:
    """The store under test and what the checks before have found out."""

    backend: Backend
    directory: str
    scratch: str
    tried: bool = False
    wrote: bool = False
    deleted: bool = False
    written_at: float = 0.0
    modified: float = 0.0

    def name(self, last: str) -> str:
        """A name of a file of this run."""
        return f"{self.directory}/{last}"


def examine(backend: Backend, *, scratch: str, quick: bool = False) -> Iterator[Finding]:
    """Try everything out, a finding at a time. `quick` leaves out what sends 20 MiB. `scratch` is a directory for files.

    Raises `RemoteFailed` when the store cannot be reached at all or does not know the credentials.
    """
    bench = Bench(backend, f"{PLACE}/{secrets.token_hex(8)}", scratch)
    try:
        for check, function, needs in CHECKS:
            if quick and check in SLOW:
                yield Finding(check, SKIPPED, "left out by --quick")
            elif (needs and not bench.wrote) or (needs == "delete" and not bench.deleted):
                yield Finding(check, SKIPPED, f"needs {'deleting' if bench.wrote else 'writing'}")
            else:
                yield _finding(check, function, bench)
    finally:
        with contextlib.suppress(DvcxError):
            if bench.tried:
                backend.clear(bench.directory)
    if bench.wrote:
        yield _finding("leaves nothing", _left, bench)


def _finding(check: str, function: Callable[[Bench], str], bench: Bench) -> Finding:
    try:
        return Finding(check, OK, function(bench))
    except Unfit as error:
        return Finding(check, FAILED, error.words, error.hint)
    except Remark as error:
        return Finding(check, NOTE, error.words, error.hint)
    except RemoteFailed as error:
        if check == "list" and not error.permission:
            raise  # not this is forbidden, but nothing works
        return Finding(check, FAILED, error.message, error.hint, error.permission)
    except DvcxError as error:
        return Finding(check, FAILED, error.message, error.hint)


def _list(bench: Bench) -> str:
    began = time.monotonic()
    found = list(bench.backend.list(bench.directory))
    if found:
        raise Unfit(f"a directory nobody has used lists {len(found)} files")
    return f"the store answers (in {_seconds(time.monotonic() - began)})"


def _read(bench: Bench) -> str:
    """Of the store itself: also a login that may not write can do this."""
    try:
        bench.backend.read("store.json")
    except NotFound:
        return "allowed; the store is new"
    return "allowed"


def _write(bench: Bench) -> str:
    """The first file, and at once whether it can be removed again: else no other is written."""
    name = bench.name("first")
    bench.tried = True
    try:
        bench.backend.write(name, b"first")
    except DvcxError:
        with contextlib.suppress(DvcxError):
            bench.wrote = bench.backend.size(name) is not None
        raise
    bench.wrote = True
    return "allowed"


def _delete(bench: Bench) -> str:
    name = bench.name("first")
    bench.backend.delete(name)
    if bench.backend.size(name) is not None:
        raise Unfit("a deleted file is still there")
    bench.backend.delete(name)
    bench.deleted = True
    return "allowed"


def _read_back(bench: Bench) -> str:
    data = os.urandom(4096)
    name = bench.name("small")
    before = time.time()
    bench.backend.write(name, data)
    bench.written_at = (before + time.time()) / 2
    if bench.backend.read(name) != data or bench.backend.size(name) != len(data):
        raise Unfit("what was written is not what is read")
    bench.backend.write(bench.name("empty"), b"")
    if bench.backend.read(bench.name("empty")) != b"" or bench.backend.size(bench.name("empty")) != 0:
        raise Unfit("an empty file does not come back")
    return "what was written is read, at once"


def _overwrite(bench: Bench) -> str:
    name = bench.name("over")
    for turn in range(3):
        data = os.urandom(1000 + turn)
        bench.backend.write(name, data)
        if bench.backend.read(name) != data:
            raise Unfit("after an overwrite the old bytes are read")
    return "the new bytes are read at once"


def _ranges(bench: Bench) -> str:
    data = os.urandom(100_000)
    name = bench.name("ranges")
    bench.backend.write(name, data)
    for start, length in ((0, 10), (5_000, 70_000), (99_999, 1)):
        if bench.backend.read(name, start, length) != data[start : start + length]:
            raise Unfit("a part of a file comes back wrong")
    if bench.backend.read(name, 60_000) != data[60_000:]:
        raise Unfit("the rest of a file comes back wrong")
    try:
        bench.backend.read(name, 99_990, 100)
    except RemoteFailed:
        pass
    else:
        raise Unfit("a read past the end of a file is no error")
    inner = _inner(bench.backend)
    if isinstance(inner, ObjectBackend) and not inner.ranges:
        raise Remark("right, but the whole file is read each time", "pulling a few files of many is slow with this service")
    return "parts of files are read"


def _absent(bench: Bench) -> str:
    name = bench.name("absent")
    if bench.backend.size(name) is not None:
        raise Unfit("a file nobody wrote has a size")
    try:
        bench.backend.read(name)
    except NotFound:
        return "an absent file is known to be absent"
    raise Unfit("a file nobody wrote can be read")


def _list_after_write(bench: Bench) -> str:
    wanted = {bench.name(f"many/{number % 3}/{number:02}"): number for number in range(SMALL_FILES)}
    for name, size in wanted.items():
        bench.backend.write(name, b"x" * size)
    _check_listing(bench, "many", wanted)
    _check_listing(bench, "many/1", {name: size for name, size in wanted.items() if "/many/1/" in name})
    gone = next(iter(wanted))
    bench.backend.delete(gone)
    del wanted[gone]
    _check_listing(bench, "many", wanted)
    for item in bench.backend.list(bench.directory):
        if item.name == bench.name("small"):
            bench.modified = item.modified
    return f"{SMALL_FILES} files are listed as soon as they are written"


def _check_listing(bench: Bench, below: str, wanted: dict[str, int]) -> None:
    listed = [(item.name, item.size) for item in bench.backend.list(bench.name(below))]
    if missing := wanted.keys() - dict(listed).keys():
        raise Unfit(f"{len(missing)} of {len(wanted)} files are not listed right after they were written")
    if dict(listed) != wanted:
        raise Unfit("a listing shows files that were deleted, or wrong sizes")


def _conditional(bench: Bench) -> str:
    inner = _inner(bench.backend)
    if not isinstance(inner, ObjectBackend):
        raise Remark("not a matter of this kind of store")
    name = bench.name("first-wins")
    bench.backend.write(name, b"first")
    if not inner.keeps_first(name) or bench.backend.read(name) != b"first":
        raise Remark("ignored by this service, which is fine: dvcx does not rely on it")
    return "honoured"


def _large(bench: Bench) -> str:
    with _random_file(bench.scratch) as (path, digest):
        began = time.monotonic()
        bench.backend.upload(bench.name("large"), path)
        up = time.monotonic() - began
    began = time.monotonic()
    data = b"".join(bench.backend.stream(bench.name("large"), LARGE))
    down = time.monotonic() - began
    if seal(data) != digest:
        raise Unfit("a large file comes back wrong")
    return f"{LARGE >> 20} MiB in parts: {_rate(LARGE, up)} up, {_rate(LARGE, down)} down"


def _interrupted(bench: Bench) -> str:
    class Stop(Exception):
        pass

    sent = 0

    def stop(count: int) -> None:
        nonlocal sent
        sent += count
        if sent > LARGE * 9 // 10:
            raise Stop

    with _random_file(bench.scratch) as (path, _), contextlib.suppress(Stop):
        bench.backend.upload(bench.name("interrupted"), path, stop)
    if bench.backend.size(bench.name("interrupted")) is not None:
        raise Unfit("an upload that was interrupted can be seen")
    return "nothing of it is seen"


def _reap(bench: Bench) -> str:
    try:
        count = bench.backend.reap(STALE)
    except DvcxError as error:
        raise Remark(f"not looked for: {error.message}", error.hint) from None
    _remove_old_runs(bench)
    return f"{count} of killed pushes, older than a day, removed" if count else "none older than a day"


def _remove_old_runs(bench: Bench) -> None:
    """What earlier checks left that were killed."""
    now = bench.modified or time.time()
    for item in list(bench.backend.list(PLACE)):
        if not item.name.startswith(f"{bench.directory}/") and 0 < item.modified < now - STALE:
            bench.backend.delete(item.name)


def _clock(bench: Bench) -> str:
    if not bench.modified:
        raise Remark("the store does not tell when a file was written")
    skew = bench.modified - bench.written_at
    words = f"{abs(skew):,.0f} seconds {'ahead of' if skew > 0 else 'behind'} this machine's"
    if abs(skew) > SKEW_REFUSED:
        raise Unfit(f"the store's clock is {words}", "set the clock: timedatectl set-ntp true")
    if abs(skew) > SKEW_NOTED:
        raise Remark(f"the store's clock is {words}", "set the clock: timedatectl set-ntp true")
    return "the store's clock and this machine's agree" + (f" within {abs(skew):.0f} seconds" if abs(skew) >= 2 else "")


def _latency(bench: Bench) -> str:
    times = []
    for _ in range(5):
        began = time.monotonic()
        bench.backend.size(bench.name("small"))
        times.append(time.monotonic() - began)
    return f"a question takes {_seconds(statistics.median(times))}"


def _left(bench: Bench) -> str:
    left = [item.name for item in bench.backend.list(bench.directory)]
    if left:
        names = f"{left[0]}{f' and {len(left) - 1} more' if len(left) > 1 else ''}"
        raise Unfit(f"left behind: {names}", "remove it with the service's own tools")
    return "all that was written is gone again"


# Name, what is done, and what must have worked before: to write ("write"), to write and to delete ("delete").
CHECKS: tuple[tuple[str, Callable[[Bench], str], str], ...] = (
    ("list", _list, ""),
    ("read", _read, ""),
    ("write", _write, ""),
    ("delete", _delete, "write"),
    ("read back", _read_back, "delete"),
    ("overwrite", _overwrite, "delete"),
    ("ranges", _ranges, "delete"),
    ("absent files", _absent, "delete"),
    ("list after write", _list_after_write, "delete"),
    ("large files", _large, "delete"),
    ("interrupted upload", _interrupted, "delete"),
    ("conditional write", _conditional, "delete"),
    ("clock", _clock, "delete"),
    ("latency", _latency, "delete"),
    ("unfinished uploads", _reap, "delete"),
)
SLOW = frozenset({"large files", "interrupted upload"})


@contextlib.contextmanager
def _random_file(scratch: str) -> Iterator[tuple[str, bytes]]:
    """A file of `LARGE` random bytes and its BLAKE3."""
    data = os.urandom(LARGE)
    with tempfile.NamedTemporaryFile(dir=scratch, prefix="tmp-dvcx-") as file:
        file.write(data)
        file.flush()
        yield file.name, seal(data)


def _inner(backend: Backend) -> Backend:
    return backend.inner if isinstance(backend, RetryingBackend) else backend


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds < 10 else f"{seconds:,.0f} s"


def _rate(size: int, seconds: float) -> str:
    return f"{size / max(seconds, 1e-6) / 1e6:,.0f} MB/s"
