"""Marks of collections: whose clock says what is new, what a push asks, and signs of life; in memory and on S3 servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dvcx.core.objects import digest_bytes
from dvcx.errors import Busy, RemoteFailed
from dvcx.io.store import marks
from dvcx.io.store.backend import Backend, Listed
from dvcx.io.store.memory import MemoryBackend
from dvcx.io.store.schemes import open_backend
from dvcx.ops import gc_remote
from tests.io.store.shelves import Shelf, Thing, thing, things
from tests.servers import S3Server


class Counted:
    """A backend that counts what is asked of it below gc/, and that several stores use one after the other."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.asked: list[str] = []

    def list(self, prefix: str) -> Iterator[Listed]:
        if prefix == "gc":
            self.asked.append("list")
        return iter(self._inner.list(prefix))

    def write(self, name: str, data: bytes) -> None:
        if name.startswith("gc/"):
            self.asked.append("write")
        self._inner.write(name, data)

    def delete(self, name: str) -> None:
        if name.startswith("gc/"):
            self.asked.append("delete")
        self._inner.delete(name)

    def close(self) -> None:
        """Not yet."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.fixture(params=["memory", "seaweedfs", "rclone"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    """A remote with ten objects."""
    backend: Backend = MemoryBackend()
    if request.param != "memory":
        server: S3Server = request.getfixturevalue(request.param)
        url, options = server.fresh()
        backend = open_backend(url, options, base=str(tmp_path))
    shelf = Shelf(tmp_path, Counted(backend))
    shelf.fill(things(10))
    yield shelf
    backend.close()


def later(seconds: float) -> Any:
    """The module `time` of a machine whose clock is ahead."""

    class Clock:
        def __getattr__(self, name: str) -> Any:
            return (lambda: time.time() + seconds) if name == "time" else getattr(time, name)

    return Clock()


def keys(items: list[Thing]) -> list[bytes]:
    return [digest_bytes(item.names.id) for item in items]


def taking(shelf: Shelf, item: Thing) -> None:
    """What a collection does: a pack or object goes, and a mark stays."""
    store = shelf.client("collector").open()
    for name in (*shelf.names("packs"), *shelf.names("objects"), *shelf.names("index")):
        shelf.backend.delete(name)
    shelf.fill([one for one in things(10) if one != item])
    marks.complete(store, marks.fresh_name(time.time()), time.time(), keys([thing("something else")]))
    store.close()


@pytest.mark.parametrize("ahead", [7200.0, -7200.0, 0.0])
def test_the_clock_is_that_of_the_store(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, ahead: float) -> None:
    """A collection between a push's listing and its last look is seen, however wrong the clock of the push is."""
    store = shelf.open()
    store.sync()
    store.listed_at += ahead
    taking(shelf, things(10)[3])
    with monkeypatch.context() as patch:
        patch.setattr(marks, "time", later(ahead))
        with pytest.raises(Busy, match="took 1 of 10 objects"):
            marks.hold(store, keys(things(10)))
        marks.hold(store, keys(things(3)))
    store.close()


@pytest.mark.parametrize("ahead", [400.0, -400.0])
def test_clocks_that_differ_stop_a_collection(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, ahead: float) -> None:
    store = shelf.open()
    with monkeypatch.context() as patch:
        patch.setattr(gc_remote, "time", later(ahead))
        now = gc_remote.time.time()
        own = marks.fresh_name(now)
        with pytest.raises(RemoteFailed, match="clock"), gc_remote.at_work(store, own, now, dry_run=False):
            pytest.fail("it began")
    assert not shelf.names("gc")
    with gc_remote.at_work(store, own, time.time(), dry_run=False):
        assert shelf.names("gc") == [f"{own}.json"]
    store.close()


def test_what_a_push_asks_of_marks(shelf: Shelf) -> None:
    """One listing; more only for the first push after a collection, and for one that counts on what a mark lists."""
    shelf.backend = counted = Counted(shelf.backend)
    shelf = shelf.client("pusher")
    mine = keys(things(3))

    def asked(ids: list[bytes] = mine) -> list[str]:
        store = shelf.open()
        store.sync()
        counted.asked.clear()
        marks.hold(store, ids)
        store.close()
        return list(counted.asked)

    assert asked() == ["list"]
    store = shelf.client("collector").open()
    for _ in range(2):
        marks.complete(store, marks.fresh_name(time.time()), time.time(), keys(things(1, start=9)))
        assert asked() == ["list", "write", "list", "delete"]
        assert asked() == asked() == ["list"]
    assert asked(keys(things(10))) == ["list", "write", "list"]
    store.close()


def test_a_push_that_looked_before_another_did(shelf: Shelf) -> None:
    """What the other learned of a collection does not count for a listing from before it."""
    first, second = shelf.open(), shelf.open()
    first.sync()
    taking(shelf, things(10)[3])
    second.sync()
    marks.hold(second, keys(things(3)))
    with pytest.raises(Busy, match="took 1 of"):
        marks.hold(first, keys(things(10)))
    first.close()
    second.close()


@pytest.fixture
def minutes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets the clock of the collecting machine go on."""

    def go(count: float) -> None:
        monkeypatch.setattr(gc_remote, "time", later(count * 60))

    return go


def test_signs_of_life(shelf: Shelf, minutes: Callable[[float], None]) -> None:
    shelf.backend = counted = Counted(shelf.backend)
    store = shelf.open()
    now = time.time()
    own = marks.fresh_name(now)
    with gc_remote.at_work(store, own, now, dry_run=False) as (_, beat):
        for at, written in ((1, 0), (4, 0), (6, 1), (8, 1), (12, 2), (1200, 3)):
            minutes(at)
            beat()
            assert counted.asked.count("write") == 1 + written
        (mark,) = marks.at_work(marks.read(store)).values()
        assert mark.began == now and mark.time > now + 1199 * 60
        minutes(1300)
        marks.begin(store, other := marks.fresh_name(now), now + 1300 * 60)
        with pytest.raises(Busy, match="under way"):
            beat()
        marks.remove(store, other)
        minutes(1400)
        marks.remove(store, own)
        with pytest.raises(Busy, match="was ended"):
            beat()
    store.close()
