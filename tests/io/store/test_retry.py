"""Trying again: what may pass is tried until nothing moves, what cannot is told at once, streams go on where they broke."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.errors import DiskRefused, IntegrityError, NotFound, RemoteFailed
from dvcx.io import pool
from dvcx.io.store import retry
from dvcx.io.store.backend import Listed, Mark
from dvcx.io.store.local import LocalBackend
from dvcx.io.store.memory import MemoryBackend
from dvcx.io.store.retry import RetryingBackend, open_retrying
from tests.io.store.faulty import FaultyBackend


def passing(after: float = 0.0) -> RemoteFailed:
    return RemoteFailed("busy", "later", transient=True, after=after)


def final() -> RemoteFailed:
    return RemoteFailed("access denied", "ask")


class Bench:
    """A faulty backend in memory behind the wrapper, and what the wrapper said."""

    def __init__(self, timeout: float = 5.0) -> None:
        self.faulty = FaultyBackend(MemoryBackend())
        self.said: list[str] = []
        opened = open_retrying(lambda: self.faulty, timeout=timeout, label="remote 'r'", warn=self.said.append)
        assert isinstance(opened, RetryingBackend)
        self.backend = opened


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.005)
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.02)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(3 << 20))
    return path


OPERATIONS: dict[str, Callable[[RetryingBackend, Path], object]] = {
    "list": lambda backend, _: list(backend.list("objects")),
    "size": lambda backend, _: backend.size("objects/x"),
    "read": lambda backend, _: backend.read("objects/x", 1, 2),
    "stream": lambda backend, _: b"".join(backend.stream("objects/x", 100)),
    "write": lambda backend, _: backend.write("objects/y", b"1"),
    "upload": lambda backend, source: backend.upload("objects/z", str(source)),
    "delete": lambda backend, _: backend.delete("objects/x"),
}


@pytest.mark.parametrize("method", OPERATIONS)
def test_what_may_pass_is_tried_again(method: str, source: Path) -> None:
    bench = Bench()
    bench.faulty.write("objects/x", b"0123456789")
    bench.faulty.calls.clear()
    bench.faulty.fail(method, passing(), passing(), passing())
    answer = OPERATIONS[method](bench.backend, source)
    assert bench.faulty.calls[method] == 4
    assert answer in (None, 10, b"12", b"0123456789") or [item.name for item in answer] == ["objects/x"]  # type: ignore[attr-defined]
    assert len(bench.said) == 1
    assert "remote 'r': busy: trying again" in bench.said[0]


@pytest.mark.parametrize("method", OPERATIONS)
def test_what_cannot_pass_is_told_at_once(method: str, source: Path) -> None:
    bench = Bench()
    bench.faulty.write("objects/x", b"0123456789")
    bench.faulty.calls.clear()
    bench.faulty.fail(method, final())
    with pytest.raises(RemoteFailed, match=r"^access denied$"):
        OPERATIONS[method](bench.backend, source)
    assert bench.faulty.calls[method] == 1
    assert bench.said == []


@pytest.mark.parametrize("method", OPERATIONS)
def test_it_ends_when_nothing_moves(method: str, source: Path) -> None:
    bench = Bench(timeout=0.3)
    bench.faulty.write("objects/x", b"0123456789")
    bench.faulty.fail(method, *(passing() for _ in range(1000)))
    began = time.monotonic()
    with pytest.raises(RemoteFailed, match=r"busy; tried \d+ times") as caught:
        OPERATIONS[method](bench.backend, source)
    assert 0.25 < time.monotonic() - began < 30
    assert caught.value.transient and caught.value.hint == "later"
    assert len(bench.said) == 1


def test_what_is_no_failure_of_the_remote_passes_through() -> None:
    bench = Bench()
    with pytest.raises(NotFound):
        bench.backend.read("objects/nothing")
    bench.faulty.fail("write", DiskRefused("full"))
    with pytest.raises(DiskRefused):
        bench.backend.write("x", b"")
    assert bench.faulty.calls["write"] == 1


def test_the_pause_the_remote_asks_for_is_made() -> None:
    bench = Bench()
    bench.faulty.fail("write", passing(after=0.4))
    began = time.monotonic()
    bench.backend.write("x", b"1")
    assert 0.4 <= time.monotonic() - began < 30


def test_a_pause_longer_than_the_timeout_is_not_waited_for() -> None:
    bench = Bench(timeout=1)
    bench.faulty.fail("write", passing(after=120))
    began = time.monotonic()
    with pytest.raises(RemoteFailed, match="asks to wait 120 seconds"):
        bench.backend.write("x", b"1")
    assert time.monotonic() - began < 30


def test_pauses_grow_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(retry, "_sleep", slept.append)
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.2)
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 15.0)
    for _ in range(20):
        bench = Bench(timeout=60)
        bench.faulty.fail("write", *(passing() for _ in range(10)))
        bench.backend.write("x", b"")
    by_turn = [slept[turn::10] for turn in range(10)]
    assert max(by_turn[0]) <= 0.2
    assert max(by_turn[9]) <= 15
    assert sum(by_turn[9]) > 5 * sum(by_turn[0])
    assert len(set(slept)) == len(slept)


def chunks_then(error: Exception, count: int) -> Callable[[list[bytes]], list[object]]:
    """The first `count` bytes of a stream in small chunks, then `error`."""

    def change(chunks: list[bytes]) -> list[object]:
        data = b"".join(chunks)[:count]
        return [data[i : i + 3] for i in range(0, len(data), 3)] + [error]

    return change


def test_a_stream_goes_on_where_it_broke() -> None:
    bench = Bench()
    data = os.urandom(1000)
    bench.faulty.write("objects/x", data)
    bench.faulty.fail("stream", *(chunks_then(passing(), 7) for _ in range(30)))
    assert b"".join(bench.backend.stream("objects/x", 1000)) == data
    assert bench.faulty.calls["stream"] == 31


def test_a_long_read_goes_on_where_it_broke() -> None:
    bench = Bench()
    data = os.urandom(9 << 20)
    bench.faulty.write("packs/p", data)
    bench.faulty.fail("stream", chunks_then(passing(), 100), chunks_then(passing(), 1000), passing())
    assert bench.backend.read("packs/p", 1 << 20, 5 << 20) == data[1 << 20 : 6 << 20]
    assert bench.faulty.calls["stream"] == 4
    assert bench.backend.read("packs/p") == data
    assert bench.backend.read("packs/p", 8 << 20) == data[8 << 20 :]
    with pytest.raises(RemoteFailed, match="expected"):
        bench.backend.read("packs/p", 1 << 20, 9 << 20)


def test_a_stream_does_not_go_on_in_another_file() -> None:
    bench = Bench()
    bench.faulty.write("objects/x", b"a" * 100)
    bench.faulty.fail("stream", chunks_then(passing(), 7))
    stream = bench.backend.stream("objects/x", 100)
    assert next(stream) == b"aaa"
    bench.faulty.write("objects/x", b"b" * 100)
    with pytest.raises(IntegrityError, match="changed while it was read"):
        b"".join(stream)


def test_a_stream_that_moves_has_no_deadline() -> None:
    bench = Bench(timeout=0.2)
    data = os.urandom(300)
    bench.faulty.write("objects/x", data)
    bench.faulty.fail("stream", *(chunks_then(passing(), 3) for _ in range(60)))
    got = b""
    for chunk in bench.backend.stream("objects/x", 300):
        time.sleep(0.01)
        got += chunk
    assert got == data


def test_how_long_the_taker_takes_does_not_count() -> None:
    bench = Bench(timeout=0.1)
    bench.faulty.write("objects/x", b"0123456789")
    bench.faulty.fail("stream", chunks_then(passing(), 3))
    stream = bench.backend.stream("objects/x", 10)
    next(stream)
    time.sleep(0.3)
    assert b"".join(stream) == b"3456789"


def test_an_upload_begins_again_and_no_byte_is_told_twice(source: Path) -> None:
    bench = Bench()
    size = source.stat().st_size
    told: list[int] = []

    def breaks(_: object) -> None:
        raise passing()

    bench.faulty.fail("upload", passing(), breaks, breaks)
    bench.backend.upload("packs/p", str(source), told.append)
    assert sum(told) == size
    assert bench.faulty.inner.read("packs/p") == source.read_bytes()


def test_a_listing_that_breaks_begins_again_and_names_nothing_twice() -> None:
    bench = Bench()
    for number in range(10):
        bench.faulty.write(f"objects/{number}", b"")

    def half(items: list[Listed]) -> object:
        def give() -> object:
            yield from items[:6]
            raise passing()

        return give()

    bench.faulty.fail("list", half, half, lambda items: items + items)
    listed = [item.name for item in bench.backend.list("objects")]
    assert sorted(listed) == [f"objects/{number}" for number in range(10)]
    assert len(listed) == 10


def test_a_listing_that_never_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "REPEATS", 50)
    bench = Bench()
    bench.faulty.write("objects/x", b"")

    def forever(items: list[Listed]) -> object:
        def give() -> object:
            while True:
                yield from items

        return give()

    bench.faulty.fail("list", forever)
    with pytest.raises(RemoteFailed, match="repeats itself"):
        list(bench.backend.list("objects"))


def test_opening_is_tried_again_too(tmp_path: Path) -> None:
    faults = [passing(), passing()]

    def opening() -> MemoryBackend:
        if faults:
            raise faults.pop()
        return MemoryBackend()

    said: list[str] = []
    open_retrying(opening, timeout=5, label="r", warn=said.append).write("x", b"1")
    assert faults == [] and len(said) == 1


def test_a_directory_is_not_wrapped(tmp_path: Path) -> None:
    backend = LocalBackend(str(tmp_path))
    assert open_retrying(lambda: backend, timeout=1, label="r", warn=print) is backend


def test_it_ends_with_the_run_it_works_for() -> None:
    """The first error of a pool ends the others at once, also those that wait to try again."""
    bench = Bench(timeout=60)
    bench.faulty.fail("size", *(passing(after=50) for _ in range(10)))
    waiting = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            waiting.wait(5)
            raise ValueError("first")
        waiting.set()
        bench.backend.size("x")

    began = time.monotonic()
    with pytest.raises(ValueError, match="first"):
        list(pool.run(work, range(2), workers=2))
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("kind", ["memory", "directory"])
def test_a_mark_says_where_a_stream_begins_and_ends(kind: str, tmp_path: Path) -> None:
    backend = MemoryBackend() if kind == "memory" else LocalBackend(str(tmp_path))
    backend.write("x", b"0123456789")
    mark = Mark(2, 7)
    assert b"".join(backend.stream("x", 10, mark)) == b"23456"
    assert (mark.position, mark.size) == (7, 10)
    with pytest.raises(RemoteFailed, match="expected"):
        list(backend.stream("x", 10, Mark(5, 11)))
