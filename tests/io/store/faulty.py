"""A backend that fails on demand: real bytes in a real backend, with queued faults in between."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

from dvcx.errors import DvcxError
from dvcx.io.store.backend import STALE, Backend, Listed, Mark, ignore_bytes

Fault = DvcxError | Callable[[Any], Any]


class FaultyBackend:
    """Another backend whose next calls of a method fail, or whose answers are changed.

    A fault is an error to raise before the call, or a function of the answer: of a list of `Listed`, of the bytes of a read or
    of a list of a stream's chunks, in which an error stands for the break. `calls` counts what was asked, by method.
    """

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.url = inner.url
        self.calls: dict[str, int] = defaultdict(int)
        self.asked: list[tuple[str, str]] = []
        self.before: Callable[[], object] = lambda: None  # called before every call
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._lock = threading.Lock()

    def fail(self, method: str, *faults: Fault) -> None:
        """Queue faults, one for each of the next calls."""
        self._faults[method].extend(faults)

    @property
    def left(self) -> int:
        """Faults nobody met."""
        return sum(map(len, self._faults.values()))

    def list(self, prefix: str) -> Iterator[Listed]:
        yield from self._through("list", prefix, lambda: list(self.inner.list(prefix)))

    def size(self, name: str) -> int | None:
        return self._through("size", name, lambda: self.inner.size(name))  # type: ignore[no-any-return]

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        return self._through("read", name, lambda: self.inner.read(name, start, length))  # type: ignore[no-any-return]

    def stream(self, name: str, limit: int, mark: Mark | None = None) -> Iterator[bytes]:
        mark = mark or Mark()
        own = Mark(mark.position, mark.end, mark.size, mark.version)
        chunks = self._through("stream", name, lambda: list(self.inner.stream(name, limit, own)))
        mark.size, mark.version = own.size, own.version
        for chunk in chunks:
            if isinstance(chunk, DvcxError):
                raise chunk
            mark.position += len(chunk)
            yield chunk

    def write(self, name: str, data: bytes) -> None:
        self._through("write", name, lambda: self.inner.write(name, data))

    def upload(self, name: str, path: str, emit_bytes: Callable[[int], None] = ignore_bytes) -> None:
        self._through("upload", name, lambda: self.inner.upload(name, path, emit_bytes))

    def delete(self, name: str) -> None:
        self._through("delete", name, lambda: self.inner.delete(name))

    def clear(self, prefix: str) -> None:
        self._through("clear", prefix, lambda: self.inner.clear(prefix))

    def reap(self, older: float = STALE) -> int:
        return self._through("reap", "", lambda: self.inner.reap(older))  # type: ignore[no-any-return]

    def close(self) -> None:
        """Nothing: the inner one may be opened as a store again; who made it closes it."""

    def _through(self, method: str, name: str, work: Callable[[], Any]) -> Any:
        self.before()
        with self._lock:
            self.calls[method] += 1
            self.asked.append((method, name))
            fault = self._faults[method].popleft() if self._faults[method] else None
        if isinstance(fault, DvcxError):
            raise fault
        answer = work()
        return answer if fault is None else fault(answer)
