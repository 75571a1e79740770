"""Looking at the workspace: the one walk. Asks the stat index first, reads only what it cannot vouch for."""

from __future__ import annotations

import contextlib
import os
import re
import stat as stat_module
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from dvcx.core.objects import (
    BLOB,
    DIR,
    EXEC,
    FILE,
    LINK,
    MAX_SIZE,
    SHARD,
    SHARD_ABOVE,
    TREE,
    Content,
    Digest,
    Entry,
    encode_tree,
    shards,
    totals,
)
from dvcx.core.paths import MAX_COMPONENT, MAX_DEPTH, MAX_PATH, check_name, join, path_problem
from dvcx.errors import NotFound, UnsafeInput, disk_refused, display
from dvcx.io.files import open_parent
from dvcx.io.hashing import digest, digest_file, open_file, read_small
from dvcx.io.statindex import CODES, FIELDS, KINDS, Remembers, Row

RACY_NS = 20_000_000
"""File systems stamp in ticks of up to 10 ms (kernels before 6.13): what is younger than two ticks may hide a change."""
COARSE_NS = 2_100_000_000
"""Where stamps have whole seconds only (FAT, some NFS), the tick is 2 s."""
SETTLE = 16 << 20
"""Hashing a file above this twice costs more than waiting out one tick."""
STAGING = 64
"""Bytes that the staging directory adds to a path while its file is placed; the whole must fit into one system call."""
TEMPORARY = "tmp-dvcx-"

_HEX = frozenset("0123456789abcdef")

Found = tuple[str, int, os.stat_result]

_STALE = "stale"

# How DVC, and other projects of dvcx, name a file in a cache. To track such a link is to lose the data with that cache.
_CACHED = rb"/[0-9a-f]{2}/[0-9a-f]{30}(?:[0-9a-f]{32})?$"


def is_stale_link(name: str, directory: int | None, objects: str) -> bool:
    """Whether a link leads into a cache of dvcx that is not (or no longer) this project's, whose objects are in `objects`.

    Or into this one, where its object is gone. The project was moved or copied, or its cache was: such a link holds nothing.
    """
    try:
        target = os.readlink(name, dir_fd=directory)
    except OSError:
        return False
    if not re.search(rb"/objects" + _CACHED, os.fsencode(target)):
        return False
    return not target.startswith(objects + "/") or not os.path.lexists(target)


class Sink(Protocol):
    """What happens to bytes the walk has to read. One for looking (only hashes), one for adding (stores them too)."""

    checks: bool
    """Whether `holds` may say no."""

    def file(self, name: str, directory: int, where: str, *, follow: bool = False) -> tuple[Digest, int]:
        """Names and size of a regular file, opened relative to a directory descriptor; `follow` for a placed link."""

    def link(self, target: bytes) -> Digest:
        """Names of a symbolic link's target."""

    def tree(self, data: bytes) -> Digest:
        """Names of a tree's bytes."""

    def holds(self, names: Sequence[Digest]) -> bool:
        """Whether nothing needs reading again for objects of these names."""


class Looking:
    """Only hashes what is read."""

    checks = False

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm

    def file(self, name: str, directory: int, where: str, *, follow: bool = False) -> tuple[Digest, int]:
        """Names and size of a file; `follow` for a link into the cache."""
        fd = open_file(name, directory, where, follow=follow)
        try:
            found, size = read_small(fd, self._algorithm, where)[:2]
            if size >= 0:
                return found, size
        finally:
            os.close(fd)
        target = os.readlink(name, dir_fd=directory) if follow else name
        return digest_file(target, self._algorithm, dir_fd=directory), os.stat(name, dir_fd=directory).st_size

    def link(self, target: bytes) -> Digest:
        """Names of a link's target."""
        return digest(target, self._algorithm)

    def tree(self, data: bytes) -> Digest:
        """Names of a tree's bytes."""
        return digest(data, self._algorithm)

    def holds(self, names: Sequence[Digest]) -> bool:
        """Looking needs nothing again."""
        return True


class Rules(NamedTuple):
    """What the walk is to leave out and to know: `ignored(path, is_dir)`, its fingerprint, and where placed links point."""

    ignored: Callable[[str, bool], bool] | None = None
    fingerprint: str = ""
    objects: str = ""


NO_RULES = Rules()


def look(
    root: str, path: str, *, index: Remembers, sink: Sink, rules: Rules = NO_RULES, advanced: Callable[[int], None] | None = None
) -> Content | None:
    """What is at a project path now, or None. Each parent is opened without following links.

    Directories are remembered in `index`, so that `index.get(path).entries()` describes what was just seen.
    Raises `UnsafeInput` for names and kinds of file that cannot be tracked, `DiskRefused` for what cannot be read.
    """
    walker = _Walker(index, sink, rules, advanced, MAX_PATH - len(os.fsencode(root)) - STAGING)
    try:
        parent, leaf = open_parent(root, path)
    except NotFound:
        return None
    try:
        return walker.look(parent, leaf, path)
    finally:
        os.close(parent)


def look_each(
    root: str,
    paths: Iterable[str],
    *,
    index: Remembers,
    sink: Sink,
    rules: Rules = NO_RULES,
    advanced: Callable[[int], None] | None = None,
) -> Iterator[tuple[str, Content | None]]:
    """`look` at many paths, each with what is there. Neighbours in one directory need it opened once only."""
    longest = MAX_PATH - len(os.fsencode(root)) - STAGING
    here, parent = "", -1
    try:
        for path in paths:
            base, _, leaf = path.rpartition("/")
            if parent < 0 or base != here or path_problem(path):
                if parent >= 0:
                    os.close(parent)
                    parent = -1
                try:
                    parent, leaf = open_parent(root, path)
                except NotFound:
                    yield path, None
                    continue
                here = base
            yield path, _Walker(index, sink, rules, advanced, longest).look(parent, leaf, path)
    finally:
        if parent >= 0:
            os.close(parent)


def _is_link(name: str, directory: int) -> bool:
    try:
        return stat_module.S_ISLNK(os.lstat(name, dir_fd=directory).st_mode)
    except OSError:
        return False


class _Walker:
    def __init__(
        self, index: Remembers, sink: Sink, rules: Rules, advanced: Callable[[int], None] | None, longest: int
    ) -> None:
        self._longest = longest
        self._index = index
        self._sink = sink
        self._rules = rules
        self._advanced = advanced
        # Names of links into the cache met so far; whoever reads one looks again whether it is a link.
        self._placed: set[str] = set()

    def look(self, parent: int, name: str, path: str) -> Content | None:
        try:
            status = os.lstat(name, dir_fd=parent)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise disk_refused(error, "looking at it", path) from None
        if stat_module.S_ISDIR(status.st_mode):
            fd = _open_directory(name, parent, path)
            try:
                return self._directory(fd, path, 1)
            finally:
                os.close(fd)
        return self._single(parent, name, path, status)

    def _single(self, parent: int, name: str, path: str, status: os.stat_result) -> Content | None:
        """A tracked file: remembered as a directory of one entry under its own path."""
        kind, status = self._kind(name, parent, path, status)
        if kind == _STALE:
            return None
        if kind == LINK and is_stale_link(name, parent, self._rules.objects):
            raise UnsafeInput(
                f"{display(path)}: it is a symbolic link into a cache that is not this project's",
                f"have it placed anew: dvcx pull {display(path)}",
            )
        if kind == LINK:
            raise UnsafeInput(
                f"{display(path)}: it is a symbolic link",
                f"track what it points to: dvcx add {_pointed(name, parent)}; or remove the link: rm {display(path)}",
            )
        row = self._index.get(path)
        stats = array("q", _numbers(kind, status)).tobytes()
        if row is not None and row.stats == stats:
            known = row.entries()[0]
            if self._sink.holds([Digest(known.id, known.seal)]):
                if self._advanced is not None:
                    self._advanced(1)
                return Content(BLOB, known.id, known.seal, known.size, 1, kind == EXEC)
        began = _settled(status)
        placed = name in self._placed and _is_link(name, parent)
        names, size = self._sink.file(name, parent, path, follow=placed)
        with contextlib.suppress(OSError):
            # A file that went into the cache as a hard link has another ctime now.
            status = os.stat(name, dir_fd=parent, follow_symlinks=placed)
        if self._advanced is not None:
            self._advanced(1)
        content = Content(BLOB, names.id, names.seal, size, 1, kind == EXEC)
        trusted = _trusted(status, began) and status.st_size == size
        numbers = array("q", _numbers(kind, status, trusted=trusted, size=size)).tobytes()
        hashes = f"{names.id} {names.seal}".encode()
        self._index.put(path, Row(os.fsencode(name), numbers, hashes, array("q", [1]).tobytes(), content))
        return content

    def _directory(self, fd: int, path: str, depth: int) -> Content:
        if depth > MAX_DEPTH:
            raise UnsafeInput(
                f"{display(path[:80])}…: directories nest more than {MAX_DEPTH} deep", "flatten them, or add their parts"
            )
        if len(path) > self._longest:
            raise _too_long(path)
        found = self._scan(fd, path)
        children: dict[str, Content] = {}
        for name, code, _ in found:
            if code == 3:
                below = _open_directory(name, fd, join(path, name))
                try:
                    children[name] = self._directory(below, join(path, name), depth + 1)
                finally:
                    os.close(below)
        flat: list[int] = []
        for _, code, s in found:
            if code == 3:
                flat += (3, 0, 0, 0, 0)
            else:
                flat += (code, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
        names = "\0".join([name for name, _, _ in found]).encode("utf-8", "surrogateescape")
        row = self._index.get(path)
        if row is not None and (row.names != names or row.ignores != self._rules.fingerprint):
            return self._changed(fd, path, found, children, row, names)
        if row is None or self._signature(found, flat, children, row) is None:
            return self._changed(fd, path, found, children, row, names)
        if self._sink.checks and not self._sink.holds(_digests(row)):
            return self._changed(fd, path, found, children, row, names)
        if self._advanced is not None and found:
            self._advanced(len(found) - len(children))
        return row.content

    def _signature(self, found: list[Found], flat: list[int], children: dict[str, Content], row: Row) -> bool | None:
        """True when the row describes exactly what was found, None otherwise."""
        if not children:
            return True if array("q", flat).tobytes() == row.stats else None
        hashes = row.hashes.split(b"\n")
        for at, (name, code, _) in enumerate(found):
            if code == 3:
                child = children[name]
                if hashes[at] != f"{child.id} {child.seal}".encode():
                    return None
                flat[at * FIELDS + 2] = child.size
        return True if array("q", flat).tobytes() == row.stats else None

    def _scan(self, fd: int, path: str) -> list[Found]:
        found: list[Found] = []
        ignored = self._rules.ignored
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith(TEMPORARY):
                        continue
                    status = entry.stat(follow_symlinks=False)
                    mode = status.st_mode
                    if ignored is not None and ignored(join(path, name), stat_module.S_ISDIR(mode)):
                        continue
                    if stat_module.S_ISREG(mode):
                        found.append((name, 1 if mode & 0o100 else 0, status))
                    elif stat_module.S_ISDIR(mode):
                        found.append((name, 3, status))
                    else:
                        kind, status = self._kind(name, fd, join(path, name), status)
                        if kind == _STALE:
                            continue
                        found.append((name, CODES[kind], status))
        except FileNotFoundError as error:
            raise NotFound(f"{display(path)}: something in it vanished while it was read", "run the command again") from error
        except OSError as error:
            raise disk_refused(error, "reading the directory", path) from None
        found.sort(key=lambda item: item[0])
        return found

    def _kind(self, name: str, parent: int, path: str, status: os.stat_result) -> tuple[str, os.stat_result]:
        mode = status.st_mode
        if stat_module.S_ISREG(mode):
            return (EXEC if mode & 0o100 else FILE), status
        if stat_module.S_ISLNK(mode):
            if self._rules.objects and not self._sink.checks and is_stale_link(name, parent, self._rules.objects):
                # As good as absent to who looks; who records must not take it for deleted.
                return _STALE, status
            if self._rules.objects and self._is_object(os.readlink(name, dir_fd=parent)):
                try:
                    self._placed.add(name)
                    return FILE, os.stat(name, dir_fd=parent)
                except OSError:
                    raise NotFound(
                        f"{display(path)}: the cache object it links to is gone", f"get it again: dvcx pull {display(path)}"
                    ) from None
            return LINK, status
        what = next((word for test, word in _SPECIAL if test(mode)), "special file")
        raise UnsafeInput(f"{display(path)}: a {what} cannot be tracked", "remove it, or name it in .dvcxignore")

    def _is_object(self, target: str) -> bool:
        """Whether a link's target is a loose object of the cache: nothing else is ever read through a link."""
        start, digits = target[: len(self._rules.objects) + 1], target[len(self._rules.objects) + 1 :]
        return start == self._rules.objects + "/" and digits[2:3] == "/" and _HEX.issuperset(digits[:2] + digits[3:])

    def _changed(
        self, fd: int, path: str, found: list[Found], children: dict[str, Content], row: Row | None, names: bytes
    ) -> Content:
        known = _known(row)
        room = self._longest - len(os.fsencode(path)) - 1
        entries: list[Entry] = []
        flat: list[int] = []
        append, read, placed, holds = entries.append, self._sink.file, self._placed, self._sink.holds
        began = time.time_ns()
        done = 0
        for name, code, status in found:
            check_name(name, path)
            if room < MAX_COMPONENT and len(os.fsencode(name)) > room:
                raise _too_long(f"{path}/{name}")
            if code == 3:
                child = children[name]
                entries.append(Entry(name, DIR, child.size, child.id, child.seal, child.files))
                flat += (3, 0, child.size, 0, 0)
                continue
            numbers = (code, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            remembered = known.get(name)
            if remembered is not None and remembered[0] == numbers and holds([remembered[1]]):
                digest, size = remembered[1], status.st_size
                flat += numbers
            elif code == 2:
                digest, size = self._link(name, fd, path)
                # A link put in the place of another within one tick may have its inode and its times.
                flat += (code, status.st_ino, size, status.st_mtime_ns, status.st_ctime_ns if _trusted(status, began) else 0)
            else:
                if status.st_size >= SETTLE:
                    began = _settled(status)
                follow = name in placed and _is_link(name, fd)
                digest, size = read(name, fd, f"{path}/{name}", follow=follow)
                trusted = _trusted(status, began) and size == status.st_size
                flat += (code, status.st_ino, size, status.st_mtime_ns, status.st_ctime_ns if trusted else 0)
            object_id, sealed = digest
            append(Entry(name, KINDS[code], size, object_id, sealed))
            done += 1
            if done == 256 and self._advanced is not None:
                self._advanced(done)
                done = 0
        if self._advanced is not None and done:
            self._advanced(done)
        content = store_tree(entries, self._sink.tree)
        self._index.put(
            path,
            Row(
                names,
                array("q", flat).tobytes(),
                "\n".join([f"{entry.id} {entry.seal}" for entry in entries]).encode(),
                array("q", [entry.files for entry in entries]).tobytes(),
                content,
                self._rules.fingerprint,
            ),
        )
        return content

    def _link(self, name: str, fd: int, path: str) -> tuple[Digest, int]:
        try:
            target = os.fsencode(os.readlink(name, dir_fd=fd))
        except OSError as error:
            raise disk_refused(error, "reading the link", join(path, name)) from None
        if self._sink.checks and re.search(_CACHED, target):
            raise UnsafeInput(
                f"{display(join(path, name))}: it links into a cache, to {display(os.fsdecode(target))}: the data is not here",
                f"put the data itself there first; where DVC made the link: dvc unprotect {display(path)}",
            )
        return self._sink.link(target), len(target)


def store_tree(entries: list[Entry], keep: Callable[[bytes], Digest]) -> Content:
    """Encode a directory's entries as one tree, or as shards, hand each object to `keep`; the content of the whole."""
    size, files = totals(entries)
    if len(entries) > SHARD_ABOVE:
        entries.sort(key=lambda entry: entry.name.encode("utf-8", "surrogateescape"))
        lines = []
        for part in shards(entries):
            names = keep(encode_tree(part))
            part_size, part_files = totals(part)
            lines.append(Entry(part[0].name, SHARD, part_size, names.id, names.seal, part_files))
        entries = lines
    names = keep(encode_tree(entries))
    return Content(TREE, names.id, names.seal, min(size, MAX_SIZE), files)


_SPECIAL = (
    (stat_module.S_ISFIFO, "named pipe (FIFO)"),
    (stat_module.S_ISSOCK, "socket"),
    (stat_module.S_ISBLK, "block device"),
    (stat_module.S_ISCHR, "character device"),
)


def _too_long(path: str) -> UnsafeInput:
    return UnsafeInput(
        f"{display(path[:80])}…: this path has {len(os.fsencode(path)):,} bytes, too many to place it again", "shorten its names"
    )


def _numbers(kind: str, status: os.stat_result, *, trusted: bool = True, size: int = -1) -> tuple[int, ...]:
    return (
        CODES[kind],
        status.st_ino,
        status.st_size if size < 0 else size,
        status.st_mtime_ns,
        status.st_ctime_ns if trusted else 0,
    )


def _known(row: Row | None) -> dict[str, tuple[tuple[int, ...], Digest]]:
    if row is None or not row.names:
        return {}
    stats = array("q", row.stats)
    known = {}
    for at, entry in enumerate(row.entries()):
        known[entry.name] = (tuple(stats[at * FIELDS : at * FIELDS + FIELDS]), Digest(entry.id, entry.seal))
    return known


def _digests(row: Row) -> list[Digest]:
    digests = [Digest(*line.split(" ")) for line in row.hashes.decode().split("\n")] if row.hashes else []
    digests.append(Digest(row.content.id, row.content.seal))
    return digests


def _trusted(status: os.stat_result, began: int) -> bool:
    """git's racy rule: what was touched at, or just before, the moment its hashing began may have changed unseen."""
    newest = max(status.st_mtime_ns, status.st_ctime_ns)
    coarse = newest % 1_000_000_000 == 0
    return newest < began - (COARSE_NS if coarse else RACY_NS)


def _settled(status: os.stat_result) -> int:
    """The moment hashing begins; for a large file touched just now, after its tick has passed."""
    now = time.time_ns()
    age = now - status.st_ctime_ns
    if status.st_size >= SETTLE and 0 <= age <= RACY_NS:
        time.sleep((RACY_NS - age) / 1e9 + 0.001)
        now = time.time_ns()
    return now


def _open_directory(name: str, parent: int, path: str) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        raise disk_refused(error, "opening the directory", path) from None


def _pointed(name: str, parent: int) -> str:
    try:
        return display(os.readlink(name, dir_fd=parent))
    except OSError:
        return "TARGET"
