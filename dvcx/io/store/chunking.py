"""Large blobs as chunks: cutting a stream of bytes, reading chunks ahead in threads, and finding chunks in files that are here.

The only file that knows the chunking library. It knows nothing of packs being written, indexes or catalogs.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from dvcx.core.chunking import AVERAGE_CHUNK, MAX_CHUNK, MIN_CHUNK, Recipe, unpacked
from dvcx.io import pool
from dvcx.io.hashing import seal, xxh128

WINDOW = 16 << 20
AHEAD = 6
"""Reads of a large blob under way at once, or waiting to be handed out."""
PIECES = 8 << 20
"""A read brings about so many bytes of a blob."""
GAP = 1 << 20

Fill = Callable[[memoryview], int]
"""Reads bytes into a buffer; how many, 0 at the end."""


def windows(fill: Fill) -> Iterator[list[memoryview]]:
    """The chunks of a stream, some at a time, back to back in one buffer that is used again for the next ones.

    Where the cuts are depends on the bytes alone, not on how they come.
    """
    from pyfastcdc import FastCDC

    cutter = FastCDC(AVERAGE_CHUNK, min_size=MIN_CHUNK, max_size=MAX_CHUNK)
    buffer = memoryview(bytearray(WINDOW + MAX_CHUNK))
    filled = 0
    more = True
    while more or filled:
        while more and filled < len(buffer):
            got = fill(buffer[filled:])
            more = got > 0
            filled += got
        chunks = []
        at = 0
        for found in cutter.cut_buf(buffer[:filled]):
            if more and at + MAX_CHUNK > filled:
                # What is still to come might move this cut.
                break
            chunks.append(buffer[at : at + found.length])
            at += found.length
        if chunks:
            yield chunks
        buffer[: filled - at] = bytes(buffer[at:filled])
        filled -= at


def from_file(fd: int) -> Fill:
    """Reads an open file."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    return lambda view: os.readv(fd, [view])


def from_pieces(pieces: Iterator[bytes]) -> Fill:
    """Reads pieces of bytes that somebody else hands out."""
    left = memoryview(b"")

    def fill(view: memoryview) -> int:
        nonlocal left
        while not left:
            piece = next(pieces, None)
            if piece is None:
                return 0
            left = memoryview(piece)
        count = min(len(left), len(view))
        view[:count] = left[:count]
        left = left[count:]
        return count

    return fill


# Reading ahead


def ahead(work: Callable[[Any], Any], items: Iterable[Any], *, depth: int = AHEAD) -> Iterator[Any]:
    """What `work` returns for each item, in order; at most `depth` are under way or wait to be taken.

    Unlike `pool.run` it never holds more than that, however slow the taker. Ends its threads with it.
    """
    todo = iter(items)
    waiting: deque[Later] = deque()
    try:
        more = True
        while more or waiting:
            while more and len(waiting) < depth:
                item = next(todo, todo)
                if item is todo:
                    more = False
                else:
                    waiting.append(Later(work, item))
            if waiting:
                yield waiting.popleft().result()
    finally:
        for later in waiting:
            later.forget()


class Later:
    """Work in a thread of its own, whose result or error is asked for later."""

    def __init__(self, work: Callable[..., Any], *arguments: Any) -> None:
        self._value: Any = None
        self._error: BaseException | None = None
        # Not the thread's `join`: once Ctrl-C interrupted that, Python 3.11 takes the thread for ended.
        self._over = threading.Event()
        threading.Thread(target=self._run, args=(work, arguments), daemon=True).start()

    def _run(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            self._value = work(*arguments)
        except BaseException as error:
            self._error = error
        finally:
            self._over.set()

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return self._over.is_set()

    def result(self) -> Any:
        """Its result, waited for; or its error, raised."""
        self._over.wait()
        if self._error is not None:
            raise self._error
        return self._value

    def forget(self, seconds: float = pool.GRACE) -> None:
        """Nobody wants the result any more; it has some seconds to end."""
        self._over.wait(max(0.0, seconds))


# Chunks that are here already


class Spot(NamedTuple):
    """Bytes of a local file that should be a chunk."""

    path: str
    offset: int


def spots(
    recipes: Iterable[Recipe], wanted: Collection[bytes], path_of: Callable[[bytes], str], id_length: int
) -> dict[bytes, Spot]:
    """Where `wanted` chunks lie in local files: `path_of` knows the file of a blob that has one of these recipes, "" for none."""
    found: dict[bytes, Spot] = {}
    for recipe in recipes:
        chunks = unpacked(recipe.chunks, id_length)
        if not any(key in wanted and key not in found for key, _ in chunks):
            continue
        path = path_of(recipe.id)
        at = 0
        for key, size in chunks if path else ():
            if key in wanted:
                found.setdefault(key, Spot(path, at))
            at += size
    return found


class Nearby:
    """Reads chunks from local files, if they are there and right. Close it."""

    def __init__(self, found: Mapping[bytes, Spot], algorithm: str) -> None:
        self._spots = found
        self._algorithm = algorithm
        self._files: dict[str, int] = {}

    def close(self) -> None:
        """Close the files."""
        for fd in self._files.values():
            if fd >= 0:
                os.close(fd)
        self._files = {}

    def read(self, key: bytes, sealed: bytes, size: int) -> bytes | None:
        """The bytes of a chunk; None when no file has it, or not as it should be."""
        spot = self._spots.get(key)
        if spot is None:
            return None
        fd = self._files.get(spot.path)
        if fd is None:
            try:
                fd = os.open(spot.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                fd = -1
            self._files[spot.path] = fd
        return read_chunk(fd, spot.offset, key, sealed, size, self._algorithm) if fd >= 0 else None


def read_chunk(fd: int, offset: int, key: bytes, sealed: bytes, size: int, algorithm: str) -> bytes | None:
    """`size` bytes of an open file from `offset` on, if they are this chunk."""
    try:
        data = os.pread(fd, size, offset)
    except OSError:
        return None
    return data if len(data) == size and is_chunk(data, key, sealed, algorithm) else None


def is_chunk(data: bytes | memoryview, key: bytes, sealed: bytes, algorithm: str) -> bool:
    """Whether bytes have this raw id and this raw seal."""
    return (algorithm != "xxh128" or xxh128(data) == key) and seal(data) == sealed and (algorithm == "xxh128" or sealed == key)
