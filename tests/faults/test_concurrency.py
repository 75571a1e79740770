"""Many dvcx at once: they wait for one another, nothing is lost, and a dead holder of a lock holds nothing."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.faults.world import World, kill_hard, store_objects


def _finish(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, out.decode()
        assert b"Traceback" not in out


def test_many_adds_at_once(world: World) -> None:
    """Item 14: 16 `dvcx add` in one project at once all wait and end well; 16 pointers."""
    names = [f"f{number}" for number in range(16)]
    for name in names:
        world.put(name, name * 100)
    _finish([world.start("add", name) for name in names])
    assert sorted(path.name for path in world.root.glob("f*.dvcx")) == sorted(f"{name}.dvcx" for name in names)
    assert len(world.clean()) == 16
    assert {f"/{name}" for name in names} <= set(world.get(".gitignore").decode().split())
    assert set(world.git("diff", "--cached", "--name-only").split()) >= {f"{name}.dvcx" for name in names}
    world.ok("check")


def test_one_file_added_by_many(world: World) -> None:
    """Item 15: the same file added by 8 processes is one object; all 8 end well."""
    world.put("same.bin", b"the same bytes" * 1000)
    _finish([world.start("add", "same.bin") for _ in range(8)])
    assert len(world.clean()) == 1


def test_many_projects_with_one_cache_and_one_remote(world: World) -> None:
    """Item 15: overlapping pushes of several clones to one remote all end well, and every object there is whole."""
    remote = world.root.parent / "remote"
    world.ok("remote", "add", "-d", "origin", str(remote))
    for number in range(4):
        for same in range(120):
            world.put(f"d{number}/{same}", f"content {same % 60} of {number if same >= 60 else 'all'}\n")
    world.ok("add", "d0", "d1", "d2", "d3")
    _finish([world.start("push", f"d{number}") for number in range(4)])
    assert set(store_objects(remote)) == set(world.clean())
    assert "everything already" in world.ok("push")


HOLD = """
import sys, time
from dvcx.io import lock
with lock.hold(sys.argv[1], command="dvcx add big", timeout=0):
    print("held", flush=True)
    time.sleep(60)
"""


def test_dead_holder(world: World) -> None:
    """Item 16: kill -9 of the holder of a lock frees it at once; nothing has to be removed by hand."""
    world.put("a.txt", "a\n")
    path = world.root / ".dvcx/state/lock"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], env=world.environment(), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    world.ok("config", "set", "--local", "core.lock_timeout", "0")
    text = world.fails(7, "add", "a.txt")
    assert f"pid {holder.pid}" in text and "dvcx add big" in text
    kill_hard(holder)
    began = time.monotonic()
    world.ok("add", "a.txt")
    assert time.monotonic() - began < 5
    assert path.exists()


def test_waits_for_the_holder(world: World) -> None:
    """Item 14: a command waits for a living holder, says for whom, and goes on when it is done."""
    world.put("a.txt", "a\n")
    path = world.root / ".dvcx/state/lock"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD.replace("60", "1.2"), str(path)], env=world.environment(), stdout=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    text = world.ok("add", "a.txt")
    assert f"waiting up to 10 min for pid {holder.pid}" in text
    holder.communicate(timeout=10)
