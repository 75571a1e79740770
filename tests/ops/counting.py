"""A directory remote that counts what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from dvcx.io.store import schemes
from dvcx.io.store.backend import Backend, Listed


@dataclass
class Traffic:
    """What was asked of remotes: bytes read, names read, listings."""

    bytes: int = 0
    names: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)

    def of(self, work: Callable[[], Any]) -> Traffic:
        """What is asked while `work` runs."""
        self.bytes, self.names, self.listed, self.written = 0, [], [], []
        work()
        return self


class Counting:
    """A backend that passes everything on and counts it. It is no `LocalBackend`: it is read as a remote over a network is."""

    def __init__(self, backend: Backend, traffic: Traffic) -> None:
        self._backend, self._traffic = backend, traffic
        self.url = backend.url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def list(self, prefix: str) -> Iterator[Listed]:
        self._traffic.listed.append(prefix)
        return self._backend.list(prefix)

    def read(self, name: str, *rest: Any, **more: Any) -> bytes:
        data = self._backend.read(name, *rest, **more)
        self._count(name, len(data))
        return data

    def stream(self, name: str, limit: int, *rest: Any) -> Iterator[bytes]:
        for piece in self._backend.stream(name, limit, *rest):
            self._count(name, len(piece))
            yield piece

    def write(self, name: str, data: bytes) -> None:
        self._traffic.written.append(name)
        self._backend.write(name, data)

    def upload(self, name: str, path: str, *rest: Any, **more: Any) -> None:
        self._traffic.written.append(name)
        self._backend.upload(name, path, *rest, **more)

    def _count(self, name: str, size: int) -> None:
        if name.startswith(("objects/", "packs/")):
            self._traffic.bytes += size
            self._traffic.names.append(name)


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Traffic:
    """Every remote opened from now on counts what objects and packs are read; indexes are not counted."""
    found = Traffic()
    opened = schemes.open_backend

    def open_counting(url: str, options: Mapping[str, str], **more: Any) -> Backend:
        return Counting(opened(url, options, **more), found)

    monkeypatch.setattr(schemes, "open_backend", open_counting)
    return found
