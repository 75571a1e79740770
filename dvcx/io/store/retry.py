"""Trying again: a backend around another one that repeats what failed and may pass, with growing pauses, until nothing moves.

The only place that does so; a backend itself tries everything once. What cannot pass is raised at once.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from dvcx.errors import NotFound, RemoteFailed
from dvcx.io import pool
from dvcx.io.store.backend import STALE, Backend, Listed, Mark, ignore_bytes
from dvcx.io.store.local import LocalBackend

FIRST_PAUSE = 0.2  # seconds, at most; doubled with every failure
LONGEST_PAUSE = 15.0
PIECEWISE = 4 << 20  # longer reads go on where they broke
REPEATS = 2000
"""A listing that shows so many names again, and more of them than new ones, will never end."""

T = TypeVar("T")


def open_retrying(opening: Callable[[], Backend], *, timeout: float, label: str, warn: Callable[[str], None]) -> Backend:
    """The backend that `opening` makes, tried again like all it does later. A directory is not wrapped: disks do not pass.

    `timeout`: seconds without progress after which a failure is raised. `warn` hears once that something is tried again.
    """
    voice = _Voice(label, warn)
    backend = _again(_Patience(timeout, voice), opening)
    return backend if isinstance(backend, LocalBackend) else RetryingBackend(backend, timeout, voice)


class RetryingBackend:
    """Another backend, with everything that failed and may pass tried again. The contract is `Backend`'s.

    A failure is raised when nothing moved for `timeout` seconds: bytes further than ever before, names not listed before.
    """

    def __init__(self, inner: Backend, timeout: float, voice: Callable[[RemoteFailed, float], None]) -> None:
        self.inner = inner
        self.url = inner.url
        self._timeout = timeout
        self._voice = voice

    @property
    def ranges(self) -> bool:
        """Whether a part of a file costs no more than that part, as far as is known."""
        return bool(getattr(self.inner, "ranges", True))

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `Backend.list`. Begun again after a failure; a name is given once, however often it is listed."""
        patience = self._patience()
        seen: set[str] = set()
        while True:
            repeats = 0
            known = len(seen)
            try:
                for item in self.inner.list(prefix):
                    if item.name not in seen:
                        seen.add(item.name)
                        yield item
                        patience.moved()
                    else:
                        repeats += 1
                        if repeats > known + REPEATS and repeats > 2 * len(seen):
                            raise RemoteFailed(
                                f"{self.url}: its listing repeats itself without end (while listing '{prefix}')",
                                "the service is broken; tell who runs it",
                            )
                return
            except RemoteFailed as error:
                patience.bear(error)

    def size(self, name: str) -> int | None:
        """See `Backend.size`."""
        return _again(self._patience(), lambda: self.inner.size(name))

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        """See `Backend.read`. A long one goes on where it broke."""
        if 0 <= length < PIECEWISE:
            return _again(self._patience(), lambda: self.inner.read(name, start, length))
        mark = Mark(start, -1 if length < 0 else start + length)
        return b"".join(self._pieces(name, sys.maxsize, mark))

    def stream(self, name: str, limit: int, mark: Mark | None = None) -> Iterator[bytes]:
        """See `Backend.stream`. It goes on where it broke."""
        yield from self._pieces(name, limit, mark or Mark())

    def write(self, name: str, data: bytes) -> None:
        """See `Backend.write`."""
        _again(self._patience(), lambda: self.inner.write(name, data))

    def upload(self, name: str, path: str, emit_bytes: Callable[[int], None] = ignore_bytes) -> None:
        """See `Backend.upload`. `emit_bytes` hears no byte twice."""
        patience = self._patience()
        sent = furthest = 0

        def heard(count: int) -> None:
            nonlocal sent, furthest
            pool.checkpoint()  # the run this belongs to may be over
            sent += count
            if sent > furthest:
                emit_bytes(sent - furthest)
                furthest = sent
                patience.moved()

        def upload() -> None:
            nonlocal sent
            sent = 0
            self.inner.upload(name, path, heard)

        _again(patience, upload)

    def delete(self, name: str) -> None:
        """See `Backend.delete`."""
        _again(self._patience(), lambda: self.inner.delete(name))

    def clear(self, prefix: str) -> None:
        """See `Backend.clear`."""
        _again(self._patience(), lambda: self.inner.clear(prefix))

    def move(self, name: str, target: str) -> None:
        """See `Backend.move`. That it is gone after a failure, and there under the other name, is what was wanted."""
        failed = False

        def move() -> None:
            nonlocal failed
            try:
                self.inner.move(name, target)
            except NotFound:
                if not failed or self.inner.size(target) is None:
                    raise
            except RemoteFailed:
                failed = True
                raise

        _again(self._patience(), move)

    def reap(self, older: float = STALE) -> int:
        """See `Backend.reap`."""
        return self.inner.reap(older)

    def close(self) -> None:
        """See `Backend.close`."""
        self.inner.close()

    def _patience(self) -> _Patience:
        return _Patience(self._timeout, self._voice)

    def _pieces(self, name: str, limit: int, mark: Mark) -> Iterator[bytes]:
        patience = self._patience()
        while True:
            try:
                for piece in self.inner.stream(name, limit, mark):
                    yield piece
                    patience.moved()  # here: how long the taker takes is not the remote's fault
                return
            except RemoteFailed as error:
                patience.bear(error)


class _Patience:
    """How long one piece of work is tried: until nothing moved for `timeout` seconds."""

    def __init__(self, timeout: float, voice: Callable[[RemoteFailed, float], None]) -> None:
        self._timeout = timeout
        self._voice = voice
        self._since = time.monotonic()
        self._failures = 0

    def moved(self) -> None:
        """The work came further than ever before."""
        self._since = time.monotonic()
        self._failures = 0

    def bear(self, error: RemoteFailed) -> None:
        """Let some time pass before the next try; raises `error` when there is no use in one."""
        self._failures += 1
        limit = min(self._timeout, error.within or self._timeout)
        left = limit - (time.monotonic() - self._since)
        if not error.transient or left <= 0 or error.after > left:
            raise self._told(error) from None
        self._voice(error, limit)
        # Full jitter: many clients that failed at once do not come back at once.
        pause = random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (self._failures - 1)))
        _sleep(min(max(pause, error.after), left))

    def _told(self, error: RemoteFailed) -> RemoteFailed:
        if error.after > self._timeout:
            told = f"it asks to wait {error.after:g} seconds, which is longer than the remote's timeout"
        elif self._failures > 1:
            told = f"tried {self._failures} times"
        else:
            return error
        return RemoteFailed(
            f"{error.message}; {told}", error.hint, transient=error.transient, after=error.after, within=error.within
        )


class _Voice:
    """Tells once that something is tried again."""

    def __init__(self, label: str, warn: Callable[[str], None]) -> None:
        self._label = label
        self._warn = warn
        self._lock = threading.Lock()
        self._told = False

    def __call__(self, error: RemoteFailed, limit: float) -> None:
        with self._lock:
            if self._told:
                return
            self._told = True
        self._warn(f"{self._label}: {error.message}: trying again, until {limit:g} seconds have passed without progress")


def _again(patience: _Patience, work: Callable[[], T]) -> T:
    while True:
        pool.checkpoint()
        try:
            return work()
        except RemoteFailed as error:
            patience.bear(error)


def _sleep(seconds: float) -> None:
    """Sleep, but wake up when the run this thread works for is over."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        pool.checkpoint()
        time.sleep(min(left, 0.1))
