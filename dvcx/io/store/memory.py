"""A backend in memory: gone with the process. For tests and for trying things."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from dvcx.errors import NotFound, display
from dvcx.io.store.backend import (
    STALE,
    Listed,
    Mark,
    capped,
    check_below,
    check_name,
    check_prefix,
    check_range,
    exactly,
    ignore_bytes,
    reading,
    short,
)


class MemoryBackend:
    """Names to bytes in a dict. The contract is `Backend`'s."""

    def __init__(self) -> None:
        self.url = "in-memory"
        self._files: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.Lock()

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `Backend.list`."""
        prefix = check_prefix(prefix, self.url)
        with self._lock:
            files = list(self._files.items())
        for name, (data, modified) in files:
            if not prefix or name.startswith(prefix + "/"):
                yield Listed(name, len(data), modified)

    def size(self, name: str) -> int | None:
        """See `Backend.size`."""
        with self._lock:
            found = self._files.get(check_name(name, self.url))
        return None if found is None else len(found[0])

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        """See `Backend.read`."""
        check_range(start, length)
        data, _ = self._found(name)
        if start > len(data):
            raise short(f"{self.url}/{name}", start, len(data))
        return exactly(data[start:] if length < 0 else data[start : start + length], length, f"{self.url}/{name}")

    def stream(self, name: str, limit: int, mark: Mark | None = None) -> Iterator[bytes]:
        """See `Backend.stream`."""
        mark = mark or Mark()
        where = f"{self.url}/{name}"
        data, modified = self._found(name)
        mark.met(len(data), str(modified), where)
        yield from capped([data[mark.position : mark.until]], limit, where, mark)

    def write(self, name: str, data: bytes) -> None:
        """See `Backend.write`."""
        with self._lock:
            self._files[check_name(name, self.url)] = (bytes(data), time.time())

    def upload(self, name: str, path: str, emit_bytes: Callable[[int], None] = ignore_bytes) -> None:
        """See `Backend.upload`."""
        check_name(name, self.url)
        parts = []
        with reading(path) as source:
            for chunk in source.chunks():
                parts.append(chunk)
                emit_bytes(len(chunk))
        self.write(name, b"".join(parts))

    def delete(self, name: str) -> None:
        """See `Backend.delete`."""
        with self._lock:
            self._files.pop(check_name(name, self.url), None)

    def clear(self, prefix: str) -> None:
        """See `Backend.clear`."""
        for item in list(self.list(check_below(prefix, self.url))):
            self.delete(item.name)

    def move(self, name: str, target: str) -> None:
        """See `Backend.move`."""
        self.write(target, self._found(name)[0])
        self.delete(name)

    def reap(self, older: float = STALE) -> int:
        """See `Backend.reap`."""
        return 0

    def close(self) -> None:
        """See `Backend.close`."""

    def _found(self, name: str) -> tuple[bytes, float]:
        with self._lock:
            found = self._files.get(check_name(name, self.url))
        if found is None:
            raise NotFound(f"{self.url}/{display(name)} does not exist", "check what the store holds")
        return found
