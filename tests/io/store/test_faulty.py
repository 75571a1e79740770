"""A store over a remote that fails in every way: nothing counts as sent that was not, no listing reads as less than it is."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvcx.errors import IntegrityError, RemoteFailed
from dvcx.io.store import retry
from dvcx.io.store.backend import Backend, Listed
from dvcx.io.store.local import LocalBackend
from dvcx.io.store.memory import MemoryBackend
from dvcx.io.store.retry import open_retrying
from dvcx.io.store.schemes import open_backend
from dvcx.io.store.writer import Writer
from tests.io.store.faulty import FaultyBackend
from tests.io.store.shelves import Shelf, cache_shelf, thing, things
from tests.servers import S3Server

KINDS = ("memory", "directory", "seaweedfs", "rclone")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.005)


def backend_of(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Backend:
    if kind == "memory":
        return MemoryBackend()
    if kind == "directory":
        return LocalBackend(str(tmp_path / "remote"), fsync="none")
    server: S3Server = request.getfixturevalue(kind)
    url, options = server.fresh()
    return open_backend(url, options, base="/")


class Remote:
    """A shelf over a faulty backend as commands see it: behind the wrapper that tries again."""

    def __init__(self, base: Path, inner: Backend) -> None:
        self.faulty = FaultyBackend(inner)
        self.said: list[str] = []
        backend = open_retrying(lambda: self.faulty, timeout=0.7, label="remote 'r'", warn=self.said.append)
        self.shelf = Shelf(base / "shelf", backend)


@pytest.fixture(params=KINDS)
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Remote]:
    inner = backend_of(request.param, tmp_path, request)
    yield Remote(tmp_path, inner)
    inner.close()


def refused(words: str) -> RemoteFailed:
    return RemoteFailed(words, "ask")


def passing() -> RemoteFailed:
    return RemoteFailed("the service asks to slow down", "later", transient=True, after=0.05)


@pytest.mark.parametrize("method", ["upload", "write", "list", "read", "stream"])
def test_what_passes_is_not_noticed(remote: Remote, method: str) -> None:
    remote.faulty.fail(method, passing(), passing())
    items = things(150)
    remote.shelf.fill(items)
    assert remote.shelf.client("b").reads(items)
    assert remote.faulty.left == 0 and len(remote.said) == 1


@pytest.mark.parametrize("words", ["access denied", "the credentials have expired", "this machine's clock differs too much"])
@pytest.mark.parametrize("method", ["upload", "write"])
def test_what_ends_a_push_midway_leaves_nothing_that_counts(remote: Remote, words: str, method: str) -> None:
    remote.shelf.fill(things(3))  # so that the store is there; these are loose
    items = things(150, 10)
    remote.faulty.fail(method, refused(words))
    with pytest.raises(RemoteFailed, match=words):
        remote.shelf.fill(items)
    assert remote.said == []
    assert remote.shelf.client("b").lacks(items) == items
    assert remote.shelf.lacks(items) == items
    remote.shelf.fill(items)
    assert remote.shelf.client("c").reads(items)


def listing_of(change: Callable[[list[Listed]], list[Listed]]) -> Callable[[list[Listed]], list[Listed]]:
    return lambda items: change(sorted(items))


@pytest.mark.parametrize("error", [refused("access denied"), RemoteFailed("500", "again", transient=True)])
def test_a_listing_that_fails_never_reads_as_empty(remote: Remote, error: RemoteFailed) -> None:
    """Item 70: errored."""
    items = things(150)
    remote.shelf.fill(items)
    before = remote.faulty.calls["write"]
    for skipped in range(3):  # index, packs, objects
        fine: list[object] = [lambda answer: answer] * skipped
        remote.faulty.fail("list", *fine, *[error] * 300)  # type: ignore[arg-type]
        with pytest.raises(RemoteFailed):
            remote.shelf.fill(things(150, 100))
        remote.faulty._faults.clear()
    assert remote.faulty.calls["write"] == before
    assert remote.shelf.reads(items)


@pytest.mark.parametrize(
    "change",
    [lambda items: items[:-1], lambda items: [], lambda items: items[:1] * 2, lambda items: items * 2],
    ids=["truncated", "stale", "short with duplicates", "duplicated"],
)
def test_what_a_listing_does_not_show_is_sent_again(remote: Remote, change: Callable[[list[Listed]], list[Listed]]) -> None:
    """Item 70: truncated, stale, duplicated. What is not shown is never taken to be there, and nothing is deleted for it."""
    items = things(150)
    remote.shelf.fill(items)
    remote.shelf.fill(things(150, 500))
    names = remote.shelf.names("")
    for _ in range(3):
        remote.faulty.fail("list", listing_of(change))
    remote.shelf.fill([*items, *things(150, 500)])
    remote.faulty._faults.clear()
    assert set(names) <= set(remote.shelf.names(""))
    assert remote.faulty.calls["delete"] == 0
    assert remote.shelf.client("b").reads([*items, *things(150, 500)])


@pytest.mark.parametrize("kind", ["seaweedfs", "rclone"])
def test_an_object_that_changes_while_it_is_read(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Item 71: the connection breaks, and what is there afterwards is another version."""
    remote = Remote(tmp_path, backend_of(kind, tmp_path, request))
    item = thing(os.urandom(3 << 20))
    remote.shelf.fill([item])
    (name,) = remote.shelf.names("objects")
    cache = cache_shelf(tmp_path)
    source, target = remote.shelf.open(), cache.open(write=True)
    source.sync()

    def change(chunks: list[bytes]) -> list[object]:
        remote.faulty.inner.write(name, other)
        return [*chunks[:1], RemoteFailed("broke", "again", transient=True)]

    other = os.urandom(3 << 20)
    with Writer(target, cache.scratch) as writer:
        remote.faulty.fail("stream", change)
        with pytest.raises(IntegrityError):  # the second reading finds wrong bytes too
            writer.receive(item.wanted, source)
        assert remote.faulty.calls["stream"] >= 3
        remote.faulty.inner.write(name, item.data)
        remote.faulty.fail("stream", change)

        def push_again() -> None:
            if "changed while it was read" in "".join(remote.shelf.warnings[1:]):
                remote.faulty.inner.write(name, item.data)

        remote.faulty.before = push_again  # somebody does, before the second reading
        writer.receive(item.wanted, source)
        writer.commit()
    assert cache.reads([item])
    assert len(remote.shelf.warnings) == 2
    assert not list((tmp_path / "cache").rglob("tmp-*"))
    for store in (source, target):
        store.close()
    remote.faulty.inner.close()


def test_many_readers_meet_one_fault_each(remote: Remote) -> None:
    items = things(30)
    remote.shelf.fill(items, packing=False)
    store = remote.shelf.open()
    store.sync()
    remote.faulty.fail("stream", *[passing() for _ in range(30)])
    found: dict[str, bytes] = {}

    def read(part: int) -> None:
        for item in items[part::4]:
            found[item.names.id] = store.read(item.wanted)

    threads = [threading.Thread(target=read, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert found == {item.names.id: item.data for item in items}
    assert len(remote.said) == 1
