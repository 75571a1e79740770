"""A full disk at any moment: exit 8, no half object, no temporary file, what was there is still there. Needs root for tmpfs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults import killing
from tests.faults.world import World, can_mount, copy_world, file_system, store_objects, tree_of

NEED_HAVE = re.compile(r"no space: need [0-9.]+ [KMG]?i?B, have [0-9.]+ [KMG]?i?B")
needs_mount = pytest.mark.skipif(not can_mount(), reason="mounting a tmpfs needs root")
needs_strace = pytest.mark.skipif(bool(killing.available()), reason=killing.available() or "strace")


def _data(world: World) -> None:
    for number in range(120):
        world.put(f"data/small/{number}", os.urandom(4096))
    for number in range(4):
        world.put(f"data/large{number}", os.urandom(1 << 20))


@needs_mount
@pytest.mark.parametrize("size", [1, 3, 4, *[pytest.param(size, marks=pytest.mark.nightly) for size in (2, 5, 6, 7, 8)]])
def test_cache_full_during_add(world: World, tmp_path: Path, size: int) -> None:
    """Item 49: the cache's disk fills up while adding: exit 8, no pointer, no partial object, no temporary file; status works."""
    _data(world)
    before = tree_of(world.root / "data")
    with file_system(tmp_path / "disk", "tmpfs", megabytes=size) as disk:
        world.ok("config", "set", "--local", "cache.dir", str(disk / "cache"))
        outcome = world.run("add", "data")
        if size >= 5:
            assert outcome.code == 0, outcome.text
            return
        assert outcome.code == 8 and NEED_HAVE.search(outcome.err) and "hint:" in outcome.err, outcome.text
        assert not (world.root / "data.dvcx").exists()
        assert tree_of(world.root / "data") == before
        left = [path for path in disk.rglob("*") if path.is_file()]
        assert not [path for path in left if path.name.startswith("tmp-")], left
        assert not [path for path in left if path.suffix == ".pack"], left
        world.ok("status")
        # With room again the same command ends well.
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True, capture_output=True)
        world.ok("add", "data")
        world.ok("check")


@needs_mount
def test_remote_full_during_push(world: World, tmp_path: Path) -> None:
    """Item 49: the remote's disk fills up during push: exit 8, nothing visible there that is not whole."""
    _data(world)
    world.ok("add", "data")
    with file_system(tmp_path / "disk", "tmpfs", megabytes=3) as disk:
        world.ok("remote", "add", "-d", "origin", str(disk / "store"))
        assert NEED_HAVE.search(world.fails(8, "push"))
        assert not list((disk / "store/index").glob("*"))
        assert not list(disk.rglob("tmp-*"))
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True, capture_output=True)
        world.ok("push")


@needs_mount
def test_cache_full_during_fetch(world: World, tmp_path: Path) -> None:
    """Item 49: what is to be fetched has a known size: one that cannot fit is refused before a byte is fetched."""
    _data(world)
    world.ok("add", "data")
    world.ok("remote", "add", "-d", "origin", str(tmp_path / "remote"))
    world.ok("push")
    with file_system(tmp_path / "disk", "tmpfs", megabytes=3) as disk:
        world.ok("config", "set", "--local", "cache.dir", str(disk / "cache"))
        assert "to fetch" in world.fails(8, "fetch", says=("no space: need 4.5 MiB, have 3.0 MiB",))
        assert not [path for path in (disk / "cache").glob("*/*") if path.parent.name != "roots"]
        # One file above what is there is refused before it is copied, too.
        world.put("large.bin", bytes(5 << 20))
        world.fails(8, "add", "large.bin", says=("no space: need 5.0 MiB, have 3.0 MiB",))
        assert not list((disk / "cache").rglob("tmp-*"))


@needs_mount
def test_workspace_full_during_checkout(world: World, tmp_path: Path) -> None:
    """Item 50: the workspace's disk fills up during checkout: exit 8, every file is as it was before."""
    with file_system(tmp_path / "disk", "tmpfs", megabytes=9) as disk:
        small = copy_world(world, disk / "here")
        small.ok("config", "set", "--local", "cache.dir", str(tmp_path / "cache"))
        _data(small)
        small.ok("add", "data")
        newer = small.get("data.dvcx")
        for number in range(4):
            (small.root / f"data/large{number}").unlink()
        small.put("data/small/7", "older\n")
        small.ok("add", "data")
        before = tree_of(small.root / "data")
        small.put("data.dvcx", newer)
        subprocess.run(["fallocate", "-l", "6M", str(disk / "ballast")], check=True)
        assert NEED_HAVE.search(small.fails(8, "checkout"))
        assert tree_of(small.root / "data") == before
        assert small.temporaries() == []
        small.ok("status")
        (disk / "ballast").unlink()
        small.ok("checkout")
        small.ok("check")


@needs_mount
def test_workspace_full_for_the_pointer(world: World, tmp_path: Path) -> None:
    """Item 51: no room for the new pointer: exit 8, and the old one is there byte for byte."""
    with file_system(tmp_path / "disk", "tmpfs", megabytes=4) as disk:
        small = copy_world(world, disk / "here")
        small.ok("config", "set", "--local", "cache.dir", str(tmp_path / "cache"))
        small.put("x.txt", "one\n")
        small.ok("add", "x.txt")
        old = small.get("x.txt.dvcx")
        small.put("x.txt", "two\n")
        ballast = os.open(disk / "ballast", os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while True:
                os.write(ballast, b"x" * 4096)
        os.close(ballast)
        outcome = small.run("add", "x.txt")
        assert outcome.code == 8 and NEED_HAVE.search(outcome.err) and "hint:" in outcome.err, outcome.text
        assert small.get("x.txt.dvcx") == old
        assert small.temporaries() == []
        small.run("status")
        (disk / "ballast").unlink()
        small.ok("add", "x.txt")
        assert small.get("x.txt.dvcx") != old


@needs_strace
@pytest.mark.parametrize("count", [3, pytest.param(0, marks=pytest.mark.nightly)], ids=["sampled", "full"])
@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("fsync", "EIO"),
        ("rename", "ENOSPC"),
        ("write", "ENOSPC"),
        *[
            pytest.param(*pair, marks=pytest.mark.nightly)
            for pair in (("fsync", "ENOSPC"), ("syncfs", "EIO"), ("rename", "EIO"), ("write", "EIO"))
        ],
    ],
)
def test_one_call_fails(world: World, call: str, error: str, count: int) -> None:
    """Items 12 and 49: any one call on the cache or a pointer fails once: exit 8, no temporary file, old pointer intact."""
    world.put("x.txt", "one\n")
    world.put("big.bin", bytes(2 << 20))
    for number in range(110):
        world.put(f"many/{number}", f"{number}\n")
    world.ok("add", "x.txt")
    old = world.get("x.txt.dvcx")
    world.put("x.txt", "two\n")
    measured = copy_world(world, world.root.parent / "measured")
    found = [point for point in killing.points(measured, "add", "x.txt", "big.bin", "many") if point.call == call]
    for point in killing.sample(found, count or len(found)):
        here = copy_world(world, killing.fresh(world.root.parent, point))
        inject = f"inject={point.call}:error={error}:when={point.number}"
        strace = ("strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject)
        outcome = here.run("add", "x.txt", "big.bin", "many", prefix=strace)
        assert outcome.code in (0, 8), f"{point}: {outcome.text}"
        if outcome.code == 8:
            assert "hint:" in outcome.err
            here.get("x.txt.dvcx")
            if here.get("x.txt.dvcx") == old:
                assert here.temporaries() == [], point
        here.clean()
        here.ok("add", "x.txt", "big.bin", "many")
        here.clean()


@needs_strace
def test_a_failed_sync_is_not_repeated(world: World, tmp_path: Path) -> None:
    """Item 12: after fsync failed once the file is dropped: it is not synced again, which would say that all is well."""
    world.put("x.txt", "one\n")
    world.put("big.bin", bytes(2 << 20))
    words = ("add", "x.txt", "big.bin")
    measured = copy_world(world, tmp_path / "measured")
    found = [point for point in killing.points(measured, *words) if point.call == "fsync"]
    for point in killing.sample(found, 4):
        here = copy_world(world, killing.fresh(tmp_path, point))
        log = tmp_path / "log"
        inject = f"inject=fsync:error=EIO:when={point.number}"
        strace = ("strace", "-f", "-y", "-o", str(log), "-e", "trace=fsync,fdatasync,syncfs", "-e", inject)
        outcome = here.run(*words, prefix=strace)
        calls = [line.partition("(")[2] for line in log.read_text().splitlines() if "(" in line]
        failed = next((number for number, call in enumerate(calls) if "INJECTED" in call), -1)
        if failed < 0:
            continue
        assert outcome.code == 8 and "hint:" in outcome.err, f"{point}: {outcome.text}"
        synced = [call.partition("<")[2].partition(">")[0] for call in calls]
        assert synced[failed] not in synced[failed + 1 :], calls
        assert here.temporaries() == [], point
        here.clean()


@needs_mount
def test_no_room_for_the_state(world: World, tmp_path: Path) -> None:
    """Item 51: no room for the memories: everything works as before, and warnings are all it costs."""
    world.put("data/x.txt", "one\n")
    world.ok("add", "data")
    with file_system(world.root / ".dvcx/state", "tmpfs", megabytes=1) as disk:
        disk.chmod(0o700)
        ballast = os.open(disk / "ballast", os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while True:
                os.write(ballast, bytes(4096))
        os.close(ballast)
        assert json.loads(world.ok("status", "--json"))["clean"] is True
        world.put("data/x.txt", "other\n")
        assert json.loads(world.ok("status", "--json"))["clean"] is False
        world.ok("add", "data")
        shutil.rmtree(world.root / "data")
        world.ok("checkout")
        assert world.get("data/x.txt") == b"other\n"
        world.clean()
    world.ok("check")


@needs_mount
def test_no_room_for_the_lock(world: World, tmp_path: Path) -> None:
    """Item 51: no room for dvcx.lock: the old one is there byte for byte, and so is the old output."""
    with file_system(tmp_path / "disk", "tmpfs", megabytes=3) as disk:
        small = copy_world(world, disk / "here")
        small.ok("config", "set", "--local", "cache.dir", str(tmp_path / "cache"))
        small.put("in.txt", "one\n")
        fill = f"cat /dev/zero > {disk}/ballast 2> /dev/null; true"
        small.stage_file("stages:\n  one:\n    cmd: cp in.txt out.txt\n    deps: [in.txt]\n    outs: [out.txt]\n")
        small.ok("add", "in.txt")
        small.ok("repro")
        lock = small.get("dvcx.lock")
        small.put("in.txt", "two\n")
        small.ok("add", "in.txt")
        # The entry is longer than what little is freed when the command is over.
        command = f"cp in.txt out.txt && ({fill}); : {'x' * 9000}"
        small.stage_file(f"stages:\n  one:\n    cmd: '{command}'\n    deps: [in.txt]\n    outs: [out.txt]\n")
        outcome = small.run("repro")
        assert outcome.code in (8, 10) and NEED_HAVE.search(outcome.text), outcome.text
        assert small.get("dvcx.lock") == lock and small.get("out.txt") == b"one\n"
        (disk / "ballast").unlink()
        small.stage_file("stages:\n  one:\n    cmd: cp in.txt out.txt\n    deps: [in.txt]\n    outs: [out.txt]\n")
        small.ok("repro")
        assert small.get("out.txt") == b"two\n"
        store_objects(tmp_path / "cache")
