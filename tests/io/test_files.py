"""Small files on a real disk: whole or not at all, and never through a link."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcx.errors import DiskRefused, DvcxError, NotFound, UnsafeInput
from dvcx.io import files
from dvcx.io.discover import find_records

LIMIT = 1 << 16


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "project" / "data").mkdir(parents=True)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "x").write_bytes(b"precious")
    return tmp_path / "project"


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def test_read(root: Path) -> None:
    (root / "data" / "x").write_bytes(b"one")
    (root / "empty").write_bytes(b"")
    with files.Reader(str(root)) as reader:
        assert reader.read("data/x", LIMIT) == b"one" and reader.read("empty", LIMIT) == b""
        assert reader.read("data/none", LIMIT) is None
        assert reader.read("none/x", LIMIT) is None
        assert reader.read("data/x/below-a-file", LIMIT) is None
    assert files.read_record(str(root), "data/x", LIMIT) == b"one"


@pytest.mark.parametrize("path", ["", "..", "../victim/x", "/etc/passwd", "data/../x", ".git/config", ".dvcx/x", "a\0b"])
def test_the_path_rule_holds_for_every_function(root: Path, path: str) -> None:
    for attempt in (
        lambda: files.read_record(str(root), path, LIMIT),
        lambda: files.write_record(str(root), path, b"x"),
        lambda: files.remove_record(str(root), path),
        lambda: files.open_parent(str(root), path),
    ):
        with pytest.raises(UnsafeInput):
            attempt()


def test_a_linked_directory_is_never_entered(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "victim")
    (root / "data" / "deep").symlink_to("../../victim")
    for path, component in (("link/x", "link"), ("data/deep/x", "data/deep"), ("link/new/x", "link")):
        for attempt in (
            lambda path=path: files.read_record(str(root), path, LIMIT),
            lambda path=path: files.write_record(str(root), path, b"evil"),
            lambda path=path: files.remove_record(str(root), path),
            lambda path=path: files.open_parent(str(root), path, create=True),
        ):
            with pytest.raises(UnsafeInput, match=f"'{component}'.*symbolic link") as caught:
                attempt()
            assert caught.value.exit_code == 9
    assert names(root.parent / "victim") == ["x"] and (root.parent / "victim" / "x").read_bytes() == b"precious"


def test_a_directory_swapped_for_a_link_after_the_check_leads_nowhere(root: Path) -> None:
    (root / "data" / "x").write_bytes(b"ours")
    with files.Reader(str(root)) as reader:
        assert reader.read("data/x", LIMIT) == b"ours"
        (root / "data").rename(root / "old")
        (root / "data").symlink_to(root.parent / "victim")
        assert reader.read("data/x", LIMIT) == b"ours"
    with pytest.raises(UnsafeInput):
        files.read_record(str(root), "data/x", LIMIT)
    handle, leaf = files.open_parent(str(root), "old/x")
    try:
        (root / "old").rename(root / "older")
        (root / "old").symlink_to(root.parent / "victim")
        os.unlink(leaf, dir_fd=handle)
    finally:
        os.close(handle)
    assert names(root.parent / "victim") == ["x"] and names(root / "older") == []


def test_a_linked_file_is_neither_read_nor_written(root: Path) -> None:
    (root / "x").symlink_to(root.parent / "victim" / "x")
    with pytest.raises(UnsafeInput, match="link"):
        files.read_record(str(root), "x", LIMIT)
    with pytest.raises(UnsafeInput, match="regular"):
        files.write_record(str(root), "x", b"evil")
    assert files.remove_record(str(root), "x")
    assert (root.parent / "victim" / "x").read_bytes() == b"precious" and not os.path.lexists(root / "x")


def test_what_is_no_file_is_refused_at_once(root: Path) -> None:
    os.mkfifo(root / "fifo")
    started = time.monotonic()
    for path in ("fifo", "data"):
        with pytest.raises(UnsafeInput, match="regular"):
            files.read_record(str(root), path, LIMIT)
        with pytest.raises(UnsafeInput, match="regular"):
            files.write_record(str(root), path, b"x")
    assert time.monotonic() - started < 30


def test_the_limit(root: Path) -> None:
    (root / "x").write_bytes(b"x" * 100)
    assert files.read_record(str(root), "x", 100) == b"x" * 100
    with pytest.raises(UnsafeInput, match="larger than 99"):
        files.read_record(str(root), "x", 99)


def test_endless_files_stop_at_the_limit() -> None:
    # Files in /proc say they are empty.
    if not os.path.exists("/proc/self/status"):
        pytest.skip("no /proc here")
    assert files.read_record("/proc/self", "status", LIMIT)
    with pytest.raises(UnsafeInput):
        files.read_record("/proc/self", "status", 10)


def test_many_directories_do_not_use_up_descriptors(root: Path) -> None:
    for number in range(100):
        (root / f"d{number}").mkdir()
        (root / f"d{number}" / "x").write_bytes(b"%d" % number)
    before = len(os.listdir("/dev/fd"))
    with files.Reader(str(root)) as reader:
        for number in [*range(100), *range(100)]:
            assert reader.read(f"d{number}/x", LIMIT) == b"%d" % number
        assert len(os.listdir("/dev/fd")) < before + 40
    assert len(os.listdir("/dev/fd")) == before


def test_reading_a_thousand_is_quick(root: Path) -> None:
    for number in range(1000):
        (root / "data" / f"{number}.dvcx").write_bytes(b"x" * 300)
    best = 1.0
    with files.Reader(str(root)) as reader:
        for _ in range(5):
            started = time.perf_counter()
            for number in range(1000):
                reader.read(f"data/{number}.dvcx", LIMIT)
            best = min(best, time.perf_counter() - started)
    assert best < 0.1, f"{best * 1000:.1f} µs each"


def test_write_and_write_again(root: Path) -> None:
    assert files.write_record(str(root), "data/x", b"one")
    before = (root / "data" / "x").stat()
    assert not files.write_record(str(root), "data/x", b"one")
    assert (root / "data" / "x").stat().st_ino == before.st_ino
    assert files.write_record(str(root), "data/x", b"two")
    assert files.write_record(str(root), "new/deep/x", b"", fsync=False)
    assert (root / "data" / "x").read_bytes() == b"two" and (root / "new" / "deep" / "x").read_bytes() == b""
    assert names(root / "data") == ["x"]


def test_modes(root: Path) -> None:
    old = os.umask(0o027)
    try:
        files.write_record(str(root), "new", b"x")
        (root / "run").write_bytes(b"")
        (root / "run").chmod(0o755)
        files.write_record(str(root), "run", b"x")
        files.atomic_write(str(root / "secret"), b"x", mode=0o600, keep_mode=False)
        (root / "secret").chmod(0o644)
        files.atomic_write(str(root / "secret"), b"x", mode=0o600, keep_mode=False)
    finally:
        os.umask(old)
    assert [stat.S_IMODE((root / name).stat().st_mode) for name in ("new", "run", "secret")] == [0o640, 0o755, 0o600]


def test_remove(root: Path) -> None:
    (root / "data" / "x").write_bytes(b"")
    assert files.remove_record(str(root), "data/x") and not files.remove_record(str(root), "data/x")
    assert not files.remove_record(str(root), "none/x")
    with pytest.raises(DvcxError):
        files.remove_record(str(root), "data")


def test_open_parent(root: Path) -> None:
    with pytest.raises(NotFound):
        files.open_parent(str(root), "none/x")
    for path, where in (("x", root), ("data/x", root / "data"), ("a/b/x", root / "a" / "b")):
        handle, leaf = files.open_parent(str(root), path, create=True)
        assert leaf == "x" and os.fstat(handle).st_ino == where.stat().st_ino
        os.close(handle)
    (root / "file").write_bytes(b"")
    with pytest.raises(DvcxError):
        files.open_parent(str(root), "file/x", create=True)


FAILING = ["open", "write", "fchmod", "fsync", "rename"]


@pytest.mark.parametrize("call", FAILING)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_failing_disk_leaves_the_old_file_and_nothing_else(
    root: Path, call: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "x").write_bytes(b"old")
    calls = []
    real: Callable[..., object] = getattr(os, call)

    def refuse(*args: object, **options: object) -> object:
        if call == "open" and not str(args[0]).startswith(files.TEMPORARY):
            return real(*args, **options)
        calls.append(call)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(DiskRefused) as caught:
        files.write_record(str(root), "x", b"new")
    monkeypatch.undo()
    assert calls == [call], "a failed call is not repeated"
    assert caught.value.exit_code == 8 and "x" in caught.value.message
    assert (root / "x").read_bytes() == b"old" and names(root) == ["data", "x"]


def test_a_short_write_is_completed_and_a_lying_one_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:3]))
    files.write_record(str(root), "x", b"0123456789")
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:3]) + 1)
    with pytest.raises(DiskRefused, match="arrived"):
        files.write_record(str(root), "x", b"abcdefghijkl")
    monkeypatch.undo()
    assert (root / "x").read_bytes() == b"0123456789" and names(root) == ["data", "x"]


def test_a_short_read_is_not_the_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "x").write_bytes(b"0123456789")
    real = os.read
    monkeypatch.setattr(os, "read", lambda handle, count: real(handle, min(count, 3)))
    assert files.read_record(str(root), "x", 10) == b"0123456789"


def test_an_interrupt_leaves_no_temporary(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_record(str(root), "x", b"new")
    monkeypatch.undo()
    assert names(root) == ["data"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission(root: Path) -> None:
    (root / "data").chmod(0o500)
    try:
        with pytest.raises(DiskRefused, match="data/x"):
            files.write_record(str(root), "data/x", b"x")
    finally:
        (root / "data").chmod(0o700)


def test_private_directory(root: Path) -> None:
    files.private_directory(str(root / ".dvcx" / "state"))
    files.private_directory(str(root / ".dvcx" / "state"))
    assert stat.S_IMODE((root / ".dvcx" / "state").stat().st_mode) == 0o700
    (root / "link").symlink_to(root.parent / "victim")
    with pytest.raises(UnsafeInput):
        files.private_directory(str(root / "link"))


def test_reap(root: Path) -> None:
    (root / "data" / "tmp-dvcx-0123").write_bytes(b"half")
    (root / "data" / "tmp-mine").write_bytes(b"")
    (root / "data" / "tmp-dvcx-link").symlink_to("/etc")
    assert files.reap(str(root), "data") == 1 and files.reap(str(root), "") == 0
    assert names(root / "data") == ["tmp-dvcx-link", "tmp-mine"]


odd = st.text(st.sampled_from("ab\n\\ -é🎉[]*?\x1b'\""), min_size=1, max_size=12).filter(lambda name: name.strip(". "))


@given(odd, st.binary(max_size=50))
def test_odd_names_come_back_byte_for_byte(tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes) -> None:
    root = tmp_path_factory.mktemp("odd")
    files.write_record(str(root), f"{name}/{name}", data, fsync=False)
    assert files.read_record(str(root), f"{name}/{name}", LIMIT) == data
    assert os.listdir(root) == [name]


def test_long_names(root: Path) -> None:
    for path in ("x" * 255, "/".join(["d" * 200] * 10) + "/x"):
        files.write_record(str(root), path, b"x", fsync=False)
        assert files.read_record(str(root), path, LIMIT) == b"x"
    for path in ("x" * 256, "/".join(["d" * 200] * 30)):
        with pytest.raises(UnsafeInput):
            files.write_record(str(root), path, b"x")


def test_find_records(root: Path) -> None:
    for path in (
        "x.dvcx",
        "data/y.csv.dvcx",
        "data/dvcx.yaml",
        "data/dvcx.lock",
        "images.dvcx",
        "images/inside.dvcx",
        ".git/z.dvcx",
        ".dvcx/z.dvcx",
        "nested/.dvcx/config.toml",
        "nested/z.dvcx",
        "other/.git/HEAD",
        "other/z.dvcx",
        "dir.dvcx/plain",
        "dvcx.yaml/z",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    (root / "outside").symlink_to(root.parent / "victim")
    (root.parent / "victim" / "z.dvcx").write_bytes(b"")
    (root / "loop").symlink_to(".")
    assert find_records(str(root)) == ["data/dvcx.lock", "data/dvcx.yaml", "data/y.csv.dvcx", "images.dvcx", "x.dvcx"]
