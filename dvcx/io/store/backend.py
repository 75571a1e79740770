"""What a backend is: bytes under names, somewhere. The protocol, and the few checks every backend shares.

No objects, packs or ids here; a backend does not know what it holds.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from dvcx.core import paths
from dvcx.errors import DiskRefused, IntegrityError, RemoteFailed, UnsafeInput, UsageError, disk_refused, display

CHUNK = 4 << 20  # no chunk of a stream is larger
TEMPORARY = "tmp-"  # names of files on their way in begin so; no listing shows them
OWN_TEMPORARY = "tmp-dvcx-"
DEFAULT_TIMEOUT = 60.0
STALE = 24 * 3600.0


class Listed(NamedTuple):
    """One file of a listing. `name` is relative to the store's root; bytes; unix seconds, 0.0 when unknown."""

    name: str
    size: int
    modified: float


@dataclass
class Mark:
    """Where a stream is in a file: the next byte, the end of what is wanted (-1: the file's), size and version of what is read.

    Not frozen: the stream moves it along, so that whoever holds it can have the stream go on where it broke. `version` is ""
    and `size` -1 while unknown.
    """

    position: int = 0
    end: int = -1
    size: int = -1
    version: str = ""

    @property
    def until(self) -> int:
        """The end of what is wanted; the size must be known."""
        return self.size if self.end < 0 else self.end

    def met(self, size: int, version: str, where: str) -> None:
        """The file now read has `size` bytes and this version; `IntegrityError` when an earlier part was of another one."""
        if self.size >= 0 and (size, version) != (self.size, self.version):
            raise changed(where)
        if self.position > size or self.end > size:
            raise short(where, max(self.position, self.end), size)
        self.size, self.version = size, version


def ignore_bytes(count: int) -> None:
    """The default listener to an upload: nobody."""


class Backend(Protocol):
    """Bytes under names. Safe to use from several threads at once.

    Names are relative POSIX paths under the path rule, without control characters and backslashes, else `UnsafeInput`.
    Every failure is a `RemoteFailed`, or a `DiskRefused` where a local disk said no. Messages hold no credentials.
    """

    url: str

    def list(self, prefix: str) -> Iterator[Listed]:
        """Everything below `prefix` ("" is the whole store), in no order. An absent prefix lists nothing.

        A listing that cannot be completed raises; it never reads as empty or short. Temporary files are left out.
        """

    def size(self, name: str) -> int | None:
        """Bytes of the file, None when absent."""

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        """The bytes from `start` on, `length` of them or all. `NotFound` when absent; `RemoteFailed` when fewer came."""

    def stream(self, name: str, limit: int, mark: Mark | None = None) -> Iterator[bytes]:
        """The bytes in chunks of at most 4 MiB. `NotFound` when absent; `IntegrityError` once more than `limit` came.

        Begins and ends where `mark` says, and moves it. After a failure the same mark makes another stream go on from there,
        with `IntegrityError` when the file is not the same any more.
        """

    def write(self, name: str, data: bytes) -> None:
        """Make `name` hold `data`, whole or not at all. Overwrites."""

    def upload(self, name: str, path: str, emit_bytes: Callable[[int], None] = ignore_bytes) -> None:
        """Make `name` hold what the local file `path` holds, whole or not at all, streamed. Overwrites.

        `emit_bytes` hears the bytes as they leave; what it raises ends the upload, and nothing stays behind.
        `DiskRefused` when the file cannot be read or changes meanwhile.
        """

    def delete(self, name: str) -> None:
        """Remove `name`; fine when it is absent."""

    def clear(self, prefix: str) -> None:
        """Remove everything below `prefix` ("" is refused), temporary files and directories too; fine when it is absent."""

    def move(self, name: str, target: str) -> None:
        """Give the file another name, replacing what has it. Not in one step everywhere: for a time both may be there, never
        neither. `NotFound` when absent."""

    def reap(self, older: float = STALE) -> int:
        """Remove what writers that were killed more than `older` seconds ago left behind, unseen by `list`; how many."""

    def close(self) -> None:
        """Let go of connections. Nothing else may be called afterwards."""


def check_name(name: str, url: str) -> str:
    """`name` if a store may hold it, else `UnsafeInput`."""
    paths.check_path(name, url)
    if any(char < " " or char in "\x7f\\" for char in name):  # some services take a backslash for a slash
        raise UnsafeInput(
            f"{display(url)}: unsafe name '{display(name)}': it holds a control character or a backslash",
            "a store cannot hold such a name",
        )
    return name


def check_prefix(prefix: str, url: str) -> str:
    """`prefix` without a slash at its end if it may be listed ("" may), else `UnsafeInput`."""
    prefix = prefix.rstrip("/")
    return check_name(prefix, url) if prefix else ""


def check_below(prefix: str, url: str) -> str:
    """`prefix` if everything below it may be removed: not the store itself (`ValueError`)."""
    if not prefix.rstrip("/"):
        raise ValueError("a whole store is never cleared")
    return check_prefix(prefix, url)


def check_range(start: int, length: int) -> None:
    """`ValueError` for a range no caller may ask for."""
    if start < 0 or length < -1:
        raise ValueError(f"bad range: start {start}, length {length}")


def exactly(data: bytes, length: int, where: str) -> bytes:
    """`data` if it is `length` bytes long, else `RemoteFailed`. `length` -1 takes any."""
    if length >= 0 and len(data) != length:
        raise short(where, length, len(data))
    return data


def short(where: str, expected: int, got: int, *, transient: bool = False) -> RemoteFailed:
    """The failure of a read that came back with fewer bytes than it must have; `transient` when only the answer was short."""
    return RemoteFailed(
        f"{display(where)}: expected {expected} bytes, got {got}",
        "run the command again; if it stays so, push from a project that has the data: dvcx push",
        transient=transient,
    )


def changed(where: str) -> IntegrityError:
    """The failure of a read that went on in another version of a file than it began in."""
    return IntegrityError(f"{display(where)}: it changed while it was read", "run the command again")


def capped(chunks: Iterable[bytes], limit: int, where: str, mark: Mark) -> Iterator[bytes]:
    """`chunks`, none larger than `CHUNK`, moving `mark`; `IntegrityError` as soon as they come to more than `limit` bytes."""
    for chunk in chunks:
        if mark.position + len(chunk) > limit:
            raise too_large(where, limit)
        for begin in range(0, len(chunk), CHUNK):
            piece = chunk[begin : begin + CHUNK]
            mark.position += len(piece)
            yield piece


def too_large(where: str, limit: int) -> IntegrityError:
    """The failure of a file that holds more bytes than recorded."""
    return IntegrityError(
        f"{display(where)}: holds more than the {limit} bytes that are recorded for it",
        "the store is damaged or was tampered with; ask another one: dvcx fetch --remote NAME",
    )


def heard(chunks: Iterable[bytes], emit_bytes: Callable[[int], None], raised: list[BaseException]) -> Iterator[bytes]:
    """`chunks`, told to `emit_bytes`. What either raises is kept in `raised` too: it is no failure of the store.

    The store may tell of another failure: that of a part it was still sending when everything ended.
    """
    source = iter(chunks)
    while True:
        try:
            chunk = next(source, None)
            if chunk is not None:
                emit_bytes(len(chunk))
        except BaseException as error:
            raised.append(error)
            raise
        if chunk is None:
            return
        yield chunk


def modify_command(options: Mapping[str, str]) -> str:
    """The beginning of the command that changes a setting of the remote these are the options of, which they may name."""
    return f"dvcx remote modify {options.get('name') or 'NAME'}"


def timeout_of(options: Mapping[str, str]) -> float:
    """The option `timeout` in seconds, 60 by default; `UsageError` when it is no positive number."""
    text = options.get("timeout") or str(DEFAULT_TIMEOUT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise UsageError(
            f"timeout must be a positive number of seconds, not '{display(str(text))}'",
            f"{modify_command(options)} timeout 60",
        )
    return seconds


@dataclass(frozen=True)
class Source:
    """A local file open for an upload. `size` is what it must come to."""

    path: str
    descriptor: int
    before: os.stat_result

    @property
    def size(self) -> int:
        """Bytes in the file when it was opened."""
        return self.before.st_size

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        """Its bytes; `DiskRefused` at the end when the file changed meanwhile, so that nothing half-new is kept."""
        total = 0
        while True:
            try:
                chunk = os.read(self.descriptor, size)
            except OSError as error:
                raise disk_refused(error, "reading", self.path) from error
            if not chunk:
                break
            total += len(chunk)
            if total > self.size:
                break
            yield chunk
        self.check_unchanged(total)

    def check_unchanged(self, total: int) -> None:
        """`DiskRefused` unless `total` bytes were read and the file is still the one that was opened."""
        after = os.fstat(self.descriptor)
        # Not ctime: another process may link the file meanwhile, which changes ctime and no byte.
        if total != self.size or (after.st_size, after.st_mtime_ns) != (self.before.st_size, self.before.st_mtime_ns):
            raise DiskRefused(f"{display(self.path)}: changed while it was read", "let its writer finish, then run it again")


@contextlib.contextmanager
def reading(path: str) -> Iterator[Source]:
    """The local file `path`, open; links are not followed and only a regular file will do (`DiskRefused`, `NotFound`)."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise disk_refused(error, "reading", path) from error
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise DiskRefused(f"{display(path)}: is not a regular file", "only regular files can be stored")
        yield Source(path, descriptor, before)
    finally:
        os.close(descriptor)
