"""Many dvcx at once: they wait for one another, nothing is lost, and a dead holder of a lock holds nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults import killing
from tests.faults.world import World, copy_world, identity, kill_hard, store_objects


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
import sys
from dvcx.io import lock
with lock.hold(sys.argv[1], command="dvcx add big", timeout=0):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_dead_holder(world: World) -> None:
    """Item 16: kill -9 of the holder of a lock frees it at once; nothing has to be removed by hand."""
    world.put("a.txt", "a\n")
    path = world.root / ".dvcx/state/lock"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], env=world.environment(), stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    world.ok("config", "set", "--local", "core.lock_timeout", "0")
    text = world.fails(7, "add", "a.txt")
    assert f"pid {holder.pid}" in text and "dvcx add big" in text
    kill_hard(holder)
    began = time.monotonic()
    world.ok("add", "a.txt")
    assert time.monotonic() - began < 30
    assert path.exists()


def test_waits_for_the_holder(world: World) -> None:
    """Item 14: a command waits for a living holder, says for whom, and goes on when it is done."""
    world.put("a.txt", "a\n")
    path = world.root / ".dvcx/state/lock"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], env=world.environment(), stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    waiting = world.start("add", "a.txt")
    assert waiting.stdout is not None
    assert f"waiting up to 10 min for pid {holder.pid}" in waiting.stdout.readline().decode()
    assert waiting.poll() is None and not (world.root / "a.txt.dvcx").exists()
    holder.communicate(b"\n", timeout=60)
    _finish([waiting])
    assert (world.root / "a.txt.dvcx").exists()


def test_many_clones_push_to_one_remote(world: World, tmp_path: Path) -> None:
    """Item 20, for a directory: three clones with overlapping data push at once; all end well and every object is whole."""
    world.ok("remote", "add", "-d", "origin", str(tmp_path / "remote"))
    clones = []
    for number in range(3):
        clone = copy_world(world, tmp_path / f"clone{number}")
        for same in range(110):
            clone.put(f"data/{same}", f"the same everywhere {same}\n" if same < 80 else f"of clone {number}: {same}\n")
        clone.put("large.bin", b"the same large file" * 200_000)
        clone.ok("add", "data", "large.bin")
        clones.append(clone)
    _finish([clone.start("push") for clone in clones])
    held = set(store_objects(tmp_path / "remote"))
    for clone in clones:
        assert set(clone.clean()) <= held
        assert "everything already" in clone.ok("push")


def test_one_stage_twice_at_once(world: World) -> None:
    """Item 21: two `repro` of one stage: the second waits, finds it done, and the command has run once."""
    world.put("in.txt", "one\n")
    world.ok("add", "in.txt")
    world.stage_file(
        "stages:\n  one:\n    cmd: echo ran >> log; sleep 0.5; while [ -e hold ]; do sleep 0.05; done; cp in.txt out.txt\n"
        "    deps: [in.txt]\n    outs: [out.txt]\n"
    )
    both = [world.start("repro") for _ in range(2)]
    _finish(both)
    assert world.get("log") == b"ran\n" and world.get("out.txt") == b"one\n"
    world.put("in.txt", "two\n")
    world.put("hold", "")
    first = world.start("repro")
    deadline = time.monotonic() + 20
    while world.get("log").count(b"ran") < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    world.fails(7, "repro", "--no-wait", says=("pid", "dvcx repro"))
    (world.root / "hold").unlink()
    _finish([first])
    assert world.get("log") == b"ran\n" * 2 and world.get("out.txt") == b"two\n"


@pytest.mark.parametrize("count", [40, 2500], ids=["threads", "processes"])
def test_one_worker_fails(world: World, tmp_path: Path, count: int) -> None:
    """Item 22: one of many parallel workers meets a corrupt object: no hang, its error, its exit code, and nothing placed."""
    size = 2 << 20 if count == 40 else 40
    for number in range(count):
        world.put(f"data/{number % 50}/{number}", number.to_bytes(4, "big") * (size // 4))
    world.ok("add", "data")
    world.ok("remote", "add", "-d", "origin", str(tmp_path / "remote"))
    shutil.rmtree(world.root / "data")
    path = world.object(identity((7).to_bytes(4, "big") * (size // 4))[0]) if count == 40 else next(world.cache.rglob("*.pack"))
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 255]))
    for words in (("checkout",), ("push", "--jobs", "8")):
        began = time.monotonic()
        world.fails(4, *words)
        assert time.monotonic() - began < 30
    assert not (world.root / "data").exists() and world.temporaries() == []
    assert not list((tmp_path / "remote").rglob("*.index"))


@pytest.mark.skipif(bool(killing.available()), reason=killing.available() or "strace")
@pytest.mark.parametrize("words", ["add x.txt", "checkout", "repro", "commit", "fetch", "gc --yes"])
def test_a_file_system_without_locks(world: World, tmp_path: Path, words: str) -> None:
    """Item 23: where flock does not work a command ends with 7 and says what to do; it never goes on without a lock."""
    world.put("x.txt", "one\n")
    world.ok("remote", "add", "-d", "origin", str(tmp_path / "remote"))
    world.ok("add", "x.txt")
    world.ok("push")
    shutil.rmtree(world.cache)
    world.put("x.txt", "two\n")
    world.stage_file("stages:\n  one:\n    cmd: touch ran\n")
    before = {path: world.get(path) for path in ("x.txt", "x.txt.dvcx")}
    strace = ("strace", "-f", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:error=ENOLCK")
    outcome = world.run(*words.split(), prefix=strace)
    assert outcome.code == 7 and "no locks" in outcome.err and "hint:" in outcome.err, outcome.text
    assert {path: world.get(path) for path in before} == before
    assert not (world.root / "ran").exists() and not (world.root / "dvcx.lock").exists()
    assert not (world.cache / "objects").exists() or not any((world.cache / "objects").rglob("*"))
