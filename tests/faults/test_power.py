"""The power fails: what a command said it had done is there afterwards, and whatever it had not finished harms nothing. Nightly.

A file system in a loop device is shut down under the program: what it had not written to the device by then is gone.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dvcx.ops.records import load
from dvcx.project import open_project
from tests.faults import killing
from tests.faults.killing import kill_at, points, sample
from tests.faults.world import MAKERS, World, can_mount, copy_world, identity, kill_hard, new_world, store_objects, tree_of

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(not can_mount() or not shutil.which("xfs_io"), reason="needs root and xfs_io"),
]

KINDS = pytest.mark.parametrize("kind", ["ext4", "xfs"])
LOG = pytest.mark.parametrize("flushed", [True, False], ids=["log-written", "log-lost"])
Fail = Callable[[], None]


@contextmanager
def disk_that_fails(path: Path, kind: str, *, flushed: bool, megabytes: int = 0) -> Iterator[Fail]:
    """A file system at `path` and the function that takes its power away and gives it back; `flushed` writes the log first."""
    make, least = MAKERS[kind]
    image = path.with_name(f"{path.name}.img")
    path.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate((megabytes or least) << 20)
    subprocess.run([*make, str(image)], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(path)], check=True, capture_output=True)

    def fail() -> None:
        word = "shutdown -f" if flushed else "shutdown"
        # It fails where the power is gone already.
        subprocess.run(["xfs_io", "-x", "-c", word, str(path)], check=False, capture_output=True)
        subprocess.run(["umount", str(path)], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(path)], check=True, capture_output=True)

    try:
        yield fail
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True)
        image.unlink()


def _settle(path: Path) -> None:
    """What is there now survives."""
    subprocess.run(["sync", "-f", str(path)], check=True)


def _filled(world: World) -> World:
    for number in range(150):
        world.put(f"data/many/{number}", f"number {number}\n" * 20)
    world.put("data/large.bin", os.urandom(3 << 20))
    world.put("one.txt", "one\n")
    return world


@KINDS
@LOG
@pytest.mark.parametrize("fsync", ["batch", "full"])
def test_after_add(tmp_path: Path, kind: str, flushed: bool, fsync: str) -> None:
    """Item 6: right after `add` said it was done pointer and objects are there, whole."""
    with disk_that_fails(tmp_path / "disk", kind, flushed=flushed) as fail:
        world = _filled(new_world(tmp_path / "disk/here", git=False))
        world.ok("config", "set", "--local", "core.fsync", fsync)
        _settle(world.root)
        world.ok("add", "data", "one.txt")
        fail()
        assert world.record("data.dvcx")["files"] == 151 and world.record("one.txt.dvcx")["size"] == 4
        world.clean()
        before = tree_of(world.root / "data")
        shutil.rmtree(world.root / "data")
        world.ok("checkout")
        assert tree_of(world.root / "data") == before


@KINDS
@LOG
def test_while_adding(tmp_path: Path, kind: str, flushed: bool) -> None:
    """Item 6: before `add` is done the power fails: the pointer is absent or whole, and a second run ends well."""
    if killing.available():
        pytest.skip(killing.available())
    template = _filled(new_world(tmp_path / "template", git=False))
    template.ok("add", "one.txt")
    template.put("one.txt", "other\n")
    old = template.record("one.txt.dvcx")
    found = points(copy_world(template, tmp_path / "measured"), "add", "data", "one.txt")
    disk = tmp_path / "disk"
    with disk_that_fails(disk, kind, flushed=flushed) as fail:
        for number, point in enumerate(sample(found, 14)):
            world = copy_world(template, disk / str(number))
            _settle(disk)
            kill_at(world, point, "add", "data", "one.txt")
            fail()
            world.clean()
            assert world.record("one.txt.dvcx")["size"] in (old["size"], 6), point
            world.ok("add", "data", "one.txt")
            world.clean()
            assert world.record("data.dvcx")["files"] == 151, point
            shutil.rmtree(disk / str(number))


@KINDS
def test_while_adding_many(tmp_path: Path, kind: str) -> None:
    """Item 7: in the middle of 5,000 files, at moments of no choice: clean, and a second run adds the rest."""
    disk = tmp_path / "disk"
    with disk_that_fails(disk, kind, flushed=False, megabytes=400) as fail:
        world = new_world(disk / "here", git=False)
        for number in range(5000):
            world.put(f"data/{number % 50}/{number}", f"{number}\n" * 200)
        before = tree_of(world.root / "data")
        _settle(disk)
        began = time.monotonic()
        copy_world(world, tmp_path / "measured").ok("add", "data")
        whole = time.monotonic() - began
        for number in range(4):
            running = world.start("add", "data")
            time.sleep(random.Random(number).uniform(0.1, 0.9) * whole)
            fail_under(running, fail, disk)
            world.clean()
        world.ok("add", "data")
        world.clean()
        assert world.record("data.dvcx")["files"] == 5000
        assert tree_of(world.root / "data") == before


def fail_under(running: subprocess.Popen[bytes], fail: Fail, disk: Path) -> None:
    """Take the power away while a command runs. It sees its disk refuse, says so, and is then gone too."""
    subprocess.run(["xfs_io", "-x", "-c", "shutdown", str(disk)], check=True, capture_output=True)
    try:
        out, _ = running.communicate(timeout=20)
        assert running.returncode in (0, 8), out.decode()
        assert b"Traceback" not in out and b"bug in dvcx" not in out, out.decode()
    finally:
        if running.poll() is None:
            kill_hard(running)
        fail()


@KINDS
@LOG
def test_after_pull(tmp_path: Path, kind: str, flushed: bool) -> None:
    """Item 8: after `pull` said it was done every object is in the cache; what the workspace lost is seen and comes back."""
    source = _filled(new_world(tmp_path / "source", git=False))
    source.ok("remote", "add", "-d", "origin", str(tmp_path / "remote"))
    source.ok("add", "data", "one.txt")
    source.ok("push")
    held = set(source.clean())
    with disk_that_fails(tmp_path / "disk", kind, flushed=flushed) as fail:
        clone = new_world(tmp_path / "disk/here", git=False)
        clone.ok("remote", "add", "-d", "origin", str(tmp_path / "remote"))
        for name in ("data.dvcx", "one.txt.dvcx"):
            clone.put(name, source.get(name))
        _settle(clone.root)
        clone.ok("pull")
        fail()
        assert set(store_objects(clone.cache)) == held
        clone.clean()
        whole = clone.run("status", "--json").code == 0 and tree_of(clone.root / "data") == tree_of(source.root / "data")
        assert whole or '"clean": false' in clone.run("status", "--json").out
        clone.ok("checkout", "--force")
        assert tree_of(clone.root / "data") == tree_of(source.root / "data")
        assert clone.get("one.txt") == b"one\n"


@KINDS
@LOG
def test_after_push(tmp_path: Path, kind: str, flushed: bool) -> None:
    """Item 8, the other way: after `push` said it was done a remote in a directory holds all of it."""
    source = _filled(new_world(tmp_path / "source", git=False))
    source.ok("add", "data", "one.txt")
    with disk_that_fails(tmp_path / "disk", kind, flushed=flushed) as fail:
        source.ok("remote", "add", "-d", "origin", str(tmp_path / "disk/remote"))
        source.ok("push")
        fail()
        assert set(store_objects(tmp_path / "disk/remote")) == set(source.clean())
        assert "everything already" in source.ok("push")


@KINDS
def test_without_fsync(tmp_path: Path, kind: str) -> None:
    """Item 13: with `core.fsync=none` objects may be lost, as documented; every loss is found, and no wrong byte is placed."""
    with disk_that_fails(tmp_path / "disk", kind, flushed=False) as fail:
        world = _filled(new_world(tmp_path / "disk/here", git=False))
        world.ok("config", "set", "--local", "core.fsync", "none")
        _settle(world.root)
        before = tree_of(world.root / "data")
        world.ok("add", "data", "one.txt")
        fail()
        assert tree_of(world.root / "data") == before
        shutil.rmtree(world.root / "data")
        outcome = world.run("checkout")
        assert outcome.code in (0, 4, 5), outcome.text
        if outcome.code:
            assert "hint:" in outcome.err and not (world.root / "data").exists()
        elif (world.root / "data.dvcx").exists():
            assert tree_of(world.root / "data") == before


CHAIN = "stages:\n" + "".join(
    f"  s{number}:\n    cmd: sleep 0.02; cat in.txt in{number} > out{number}; head -c 20000 in.txt >> out{number}\n"
    f"    deps: [in.txt, in{number}]\n    outs: [out{number}]\n"
    for number in range(40)
)


@KINDS
@LOG
@pytest.mark.parametrize("fsync", ["batch", "full"])
def test_while_reproducing(tmp_path: Path, kind: str, flushed: bool, fsync: str) -> None:
    """In the middle of a repro: lock and journal claim nothing the cache cannot give, and the next repro comes to the same.

    What was finished more than a moment before is not run again.
    """
    chance = random.Random(f"{kind} {flushed} {fsync}")
    disk = tmp_path / "disk"
    with disk_that_fails(disk, kind, flushed=flushed) as fail:
        world = new_world(disk / "here", git=False)
        world.ok("config", "set", "--local", "core.fsync", fsync)
        world.stage_file(CHAIN)
        for number in range(40):
            world.put(f"in{number}", f"{number}\n")
        known = 0
        for turn in range(5):
            text = f"{turn}\n" * 9000
            world.put("in.txt", text)
            _settle(disk)
            running = world.start("repro", "-j", "2")
            time.sleep(chance.uniform(0.3, 2.5))
            finished = _finished(world) if flushed or fsync == "full" else 0
            time.sleep(0.9)
            fail_under_repro(running, fail, disk)
            held = world.clean()
            claimed = load(open_project(str(world.root))).lock
            for address, entry in claimed.items():
                assert all(content.id in held for content in entry.outs.values()), f"{address} claims what is nowhere"
            assert _finished(world) >= finished, "more than the last half second is gone"
            known += _finished(world)
            world.ok("repro", "-j", "2")
            world.clean()
            for number in range(40):
                assert world.get(f"out{number}").decode() == text + f"{number}\n" + text[:20000]
            assert world.run("status", "--json").code == 0 and world.ok("status").count("up to date") == 1
        assert known, "the power always failed before anything was finished"


def _finished(world: World) -> int:
    """How many stages are recorded with the input as it is now."""
    name = identity(world.get("in.txt"))[0]
    return sum(entry.deps["in.txt"].id == name for entry in load(open_project(str(world.root))).lock.values())


def fail_under_repro(running: subprocess.Popen[bytes], fail: Fail, disk: Path) -> None:
    """As `fail_under`; the commands of stages fail as well, and have to be gone before the disk can be."""
    subprocess.run(["xfs_io", "-x", "-c", "shutdown", str(disk)], check=True, capture_output=True)
    try:
        out, _ = running.communicate(timeout=30)
        assert running.returncode in (0, 7, 8, 10), out.decode()
        assert b"Traceback" not in out and b"bug in dvcx" not in out, out.decode()
    finally:
        if running.poll() is None:
            kill_hard(running)
        fail()
