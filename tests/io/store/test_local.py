"""The directory backend: modes, links, durability, and what stays when the disk says no."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import time
from pathlib import Path

import pytest

from dvcx.errors import DiskRefused, IntegrityError, NotFound, RemoteFailed, UnsafeInput, UsageError
from dvcx.io.store.local import FSYNC, LocalBackend


@pytest.fixture(params=FSYNC)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> LocalBackend:
    return LocalBackend(str(tmp_path / "store"), fsync=request.param)


def files(store: LocalBackend) -> list[str]:
    return sorted(str(path.relative_to(store.root)) for path in Path(store.root).rglob("*") if not path.is_dir())


def mode(store: LocalBackend, name: str) -> int:
    return stat.S_IMODE(Path(store.path(name)).stat().st_mode)


def test_objects_packs_and_indexes_are_read_only(store: LocalBackend) -> None:
    for name in ("objects/ab/1", "packs/ab/2.pack", "index/3.index", "store.json", "actions/ab/4.json"):
        store.write(name, b"x")
    assert [mode(store, name) for name in ("objects/ab/1", "packs/ab/2.pack", "index/3.index")] == [0o444] * 3
    assert [mode(store, name) for name in ("store.json", "actions/ab/4.json")] == [0o644] * 2
    store.write("objects/ab/1", b"again")
    assert store.read("objects/ab/1") == b"again"


@pytest.mark.parametrize("count", [0, 1, 5, 100])
def test_write_many(store: LocalBackend, count: int) -> None:
    wanted = {f"objects/{number % 3:02}/{number}": b"x" * number for number in range(count)}
    store.write_many(iter(wanted.items()))
    assert {item.name: item.size for item in store.list("")} == {name: len(data) for name, data in wanted.items()}
    assert files(store) == sorted(wanted)
    assert all(mode(store, name) == 0o444 for name in wanted)


def test_write_many_that_is_ended_leaves_nothing(store: LocalBackend) -> None:
    def items():  # type: ignore[no-untyped-def]
        yield "objects/ab/1", b"1"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write_many(items())
    assert files(store) == []
    with pytest.raises(UnsafeInput):
        store.write_many([("objects/ab/1", b"1"), ("../x", b"2")])
    assert files(store) == []


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_says_no_leaves_nothing_and_is_not_asked_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    store = LocalBackend(str(tmp_path / "store"))
    store.write("objects/ab/old", b"old")
    source = tmp_path / "source"
    source.write_bytes(b"x" * 1000)
    calls = []

    def refuse(*_: object) -> int:
        calls.append(1)
        raise OSError(code, os.strerror(code))

    attempts = [
        lambda: store.write("objects/ab/old", b"new"),
        lambda: store.write_many([("objects/ab/new", b"new"), ("objects/ab/newer", b"new")]),
    ]
    if call != "write":  # copy_file_range writes
        attempts.append(lambda: store.upload("objects/ab/new", str(source)))
    for attempt in attempts:
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse)
            calls.clear()
            with pytest.raises(DiskRefused, match="no space" if code == errno.ENOSPC else "Input/output error"):
                attempt()
            assert len(calls) == 1
        assert files(store) == ["objects/ab/old"]
    assert store.read("objects/ab/old") == b"old"


def test_a_full_disk(tmp_path: Path) -> None:
    """A real one, where this may be tried: the file size limit of the process."""
    store = LocalBackend(str(tmp_path / "store"))
    source = tmp_path / "source"
    source.write_bytes(b"x" * 200_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(DiskRefused):
            store.upload("objects/ab/1", str(source))
        with pytest.raises(DiskRefused):
            store.write("objects/ab/1", b"x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert files(store) == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    store = LocalBackend(str(tmp_path / "store"))
    store.write("objects/ab/1", b"1")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    os.symlink(outside / "secret", store.path("objects/ab/2"))
    os.symlink(outside, store.path("objects/cd"))
    assert [item.name for item in store.list("")] == ["objects/ab/1"]
    assert list(store.list("objects/cd")) == []
    assert store.size("objects/ab/2") is None
    with pytest.raises(IntegrityError, match="not a regular file"):
        store.read("objects/ab/2")
    with pytest.raises(UnsafeInput, match="not a directory"):
        store.write("objects/cd/new", b"x")
    store.write("objects/ab/2", b"2")
    assert (outside / "secret").read_bytes() == b"secret"
    assert store.read("objects/ab/2") == b"2"
    assert os.listdir(outside) == ["secret"]


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    store = LocalBackend(str(tmp_path / "store"))
    store.write("objects/ab/1", b"1")
    os.mkfifo(store.path("objects/ab/2"))
    with pytest.raises(IntegrityError):
        store.read("objects/ab/2")
    assert store.size("objects/ab/2") is None
    assert [item.name for item in store.list("objects")] == ["objects/ab/1"]


def test_temporary_files_are_not_listed_and_old_ones_are_reaped(tmp_path: Path) -> None:
    store = LocalBackend(str(tmp_path / "store"))
    store.write("objects/ab/1", b"1")
    for name in ("tmp-dvcx-old", "tmp-dvcx-new", "tmp-other"):
        (tmp_path / "store/objects/ab" / name).write_bytes(b"left")
    long_ago = time.time() - 2 * 24 * 3600
    for name in ("tmp-dvcx-old", "tmp-other", "1"):
        os.utime(tmp_path / "store/objects/ab" / name, (long_ago, long_ago))
    assert [item.name for item in store.list("")] == ["objects/ab/1"]
    assert store.reap() == 1
    assert files(store) == ["objects/ab/1", "objects/ab/tmp-dvcx-new", "objects/ab/tmp-other"]
    assert LocalBackend(str(tmp_path / "nowhere")).reap() == 0


def test_a_root_that_must_exist(tmp_path: Path) -> None:
    root = tmp_path / "mount" / "store"
    store = LocalBackend(str(root), must_exist=True)
    with pytest.raises(RemoteFailed, match="does not exist") as caught:
        list(store.list(""))
    assert "mkdir" in caught.value.hint
    assert store.size("store.json") is None
    with pytest.raises(NotFound):
        store.read("store.json")
    store.write("store.json", b"{}")
    assert [item.name for item in store.list("")] == ["store.json"]
    assert list(LocalBackend(str(tmp_path / "cache")).list("")) == []


def test_a_listing_that_fails_is_an_error(tmp_path: Path) -> None:
    store = LocalBackend(str(tmp_path / "store"))
    store.write("objects/ab/1", b"1")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))  # permissions would not stop the superuser
    try:
        with pytest.raises(DiskRefused, match="Too many open files"):
            list(store.list("objects"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_directory_removed_meanwhile_is_made_again(tmp_path: Path) -> None:
    store = LocalBackend(str(tmp_path / "store"))
    store.write("objects/ab/1", b"1")
    store.delete("objects/ab/1")
    Path(store.path("objects/ab")).rmdir()
    store.write("objects/ab/1", b"1")
    assert store.read("objects/ab/1") == b"1"


def test_another_fsync_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="full, batch or none"):
        LocalBackend(str(tmp_path), fsync="sometimes")
