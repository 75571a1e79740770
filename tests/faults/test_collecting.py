"""gc among others, killed at any moment, and over any history: nothing that is needed is ever lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults import killing
from tests.faults.killing import fresh, kill_at, points, sample
from tests.faults.world import World, copy_world, new_world, store_objects

NOW = ("--grace", "0", "--yes")


# Among others: items 18 and 19


def _rounds() -> list[object]:
    return [pytest.param(6, id="sampled"), pytest.param(200, id="full", marks=pytest.mark.nightly)]


@pytest.mark.parametrize("rounds", _rounds())
def test_gc_and_add_on_a_shared_cache(tmp_path: Path, rounds: int) -> None:
    """Item 18: whatever their order, what `add` in one project recorded is there after `gc` in another."""
    worlds = [new_world(tmp_path / name) for name in ("a", "b")]
    for world in worlds:
        world.ok("config", "set", "--local", "cache.dir", str(tmp_path / "cache"))
    chance = random.Random(18)
    for number in range(rounds):
        first, second = worlds
        # Old bytes that nothing names any more, which this add finds in the cache again.
        for name in range(3 if number % 2 else 130):
            first.put(f"d/{name}", f"round {number % 3} file {name}\n" * 30)
        processes = []
        for delay, world, words in (
            (chance.random() * 0.3, first, ("add", "d")),
            (chance.random() * 0.3, second, ("gc", *NOW)),
            (chance.random() * 0.3, second, ("gc", *NOW)),
        ):
            time.sleep(delay)
            processes.append(world.start(*words))
        for process in processes:
            out, _ = process.communicate(timeout=60)
            assert process.returncode == 0, out.decode()
        held = store_objects(tmp_path / "cache")
        World(first.root, first.victim).ok("status")
        _named(first, held)
        os.unlink(first.root / "d.dvcx")
        subprocess.run(["git", "rm", "-rq", "--cached", "--ignore-unmatch", "."], cwd=first.root, check=True)
        subprocess.run(["rm", "-rf", str(first.root / "d")], check=True)


def _named(world: World, held: dict[str, bytes]) -> None:
    """Every object that records of the workspace need is among those held."""
    from tests.faults.world import _held

    for pointer in world.root.glob("*.dvcx"):
        if pointer.is_file():
            _held(world.record(pointer.name), held, str(pointer))


def test_gc_and_a_stage_that_writes_old_bytes(tmp_path: Path) -> None:
    """Item 19: a result that is in the cache already, old and named by nothing, is not lost before the lock names it."""
    world = new_world(tmp_path)
    world.stage_file("stages:\n  s: {cmd: 'cat in > out', deps: [in], outs: [out]}\n")
    for turn in range(4):
        world.put("in", f"{turn % 2}\n" * 2000)
        world.ok("add", "in")
        running = world.start("repro")
        collecting = world.start("gc", *NOW)
        for process in (running, collecting):
            out, _ = process.communicate(timeout=60)
            assert process.returncode == 0, out.decode()
        world.clean()
        world.ok("check")


def test_gc_and_checkout(tmp_path: Path) -> None:
    """A checkout that began before packs are written anew ends well."""
    world = new_world(tmp_path)
    for number in range(400):
        world.put(f"d/{number}", f"file {number}\n" * 60)
    world.ok("add", "d")
    for number in range(300):
        (world.root / f"d/{number}").unlink()
    world.ok("add", "d")
    for _ in range(3):
        subprocess.run(["rm", "-rf", str(world.root / "d")], check=True)
        processes = [world.start("checkout"), world.start("gc", *NOW)]
        for process in processes:
            out, _ = process.communicate(timeout=60)
            assert process.returncode == 0, out.decode()
        assert len(list((world.root / "d").iterdir())) == 100
        world.clean()


# Killed at any moment


@pytest.fixture(scope="module")
def littered() -> object:
    """A project with needed and unneeded objects, alone and in packs, and something in the trash."""
    with tempfile.TemporaryDirectory(prefix="dvcx-gc-") as base:
        world = new_world(Path(base) / "template")
        for number in range(220):
            world.put(f"d/{number:03}", f"number {number}\n" * 40)
        world.put("d/large", b"large" * 300_000)
        world.put("f", "needed\n")
        world.ok("add", "d", "f")
        world.git("commit", "-qm", "f only", "f.dvcx", ".gitignore")
        for number in range(150):
            (world.root / f"d/{number:03}").unlink()
        (world.root / "d/large").unlink()
        world.ok("add", "d")
        world.put("g", "not needed\n")
        world.ok("add", "g")
        world.ok("remove", "g")
        world.git("rm", "-q", "--cached", "--ignore-unmatch", "g.dvcx")
        yield world


SWEEP = pytest.mark.parametrize("count", [pytest.param(4, id="sampled"), pytest.param(0, id="full", marks=pytest.mark.nightly)])


@SWEEP
@pytest.mark.skipif(bool(killing.available()), reason=killing.available() or "strace")
def test_killed_at_any_moment(tmp_path: Path, littered: World, count: int) -> None:
    """Every object is what it is called, none that is needed is lost, the next run ends well, and undo brings all back."""
    everything = littered.clean()
    measured = copy_world(littered, tmp_path / "measured")
    found = points(measured, "gc", *NOW)
    left = measured.clean()
    assert len(left) < len(everything)
    for point in sample(found, count) if count else found:
        world = copy_world(littered, fresh(tmp_path, point))
        kill_at(world, point, "gc", *NOW)
        assert left.items() <= world.clean().items(), point
        world.ok("gc", *NOW)
        assert world.clean().keys() == left.keys(), point
        world.ok("check")
        world.run("gc", "--undo", "--all")
        assert world.clean().keys() == everything.keys(), point


@SWEEP
@pytest.mark.skipif(bool(killing.available()), reason=killing.available() or "strace")
def test_undo_killed_at_any_moment(tmp_path: Path, littered: World, count: int) -> None:
    everything = littered.clean()
    template = copy_world(littered, tmp_path / "template")
    template.ok("gc", *NOW)
    measured = copy_world(template, tmp_path / "measured")
    for point in sample(points(measured, "gc", "--undo"), count) if count else points(measured, "gc", "--undo"):
        world = copy_world(template, fresh(tmp_path, point))
        kill_at(world, point, "gc", "--undo")
        world.clean()
        world.run("gc", "--undo")
        assert world.clean().keys() == everything.keys(), point


@SWEEP
@pytest.mark.skipif(bool(killing.available()), reason=killing.available() or "strace")
def test_drop_killed_at_any_moment(tmp_path: Path, littered: World, count: int) -> None:
    """What the remote holds may be gone from the cache, and nothing else."""
    template = copy_world(littered, tmp_path / "template")
    template.ok("remote", "add", "-d", "origin", str(template.root.parent / "remote"))
    template.ok("push")
    measured = copy_world(template, tmp_path / "measured")
    subprocess.run(["cp", "-a", str(template.root.parent / "remote"), str(measured.root.parent)], check=True)
    found = points(measured, "drop", "d")
    for point in sample(found, count) if count else found:
        world = copy_world(template, fresh(tmp_path, point))
        subprocess.run(["cp", "-a", str(template.root.parent / "remote"), str(world.root.parent)], check=True)
        kill_at(world, point, "drop", "d")
        store_objects(world.cache)
        world.ok("drop", "d")
        world.ok("pull")
        world.clean()


# Any history


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["write", "commit", "branch", "switch", "drop branch", "stash", "tag", "reset"]), st.integers(0, 3)
    ),
    min_size=1,
    max_size=9,
)


@settings(max_examples=8)
@given(actions=ACTIONS)
def test_any_history_keeps_what_it_needs(actions: list[tuple[str, int]]) -> None:
    """After any work with git, a collection without grace leaves every object that any revision git can reach names."""
    _history(actions)


@pytest.mark.nightly
@settings(max_examples=150)
@given(actions=ACTIONS)
def test_many_histories_keep_what_they_need(actions: list[tuple[str, int]]) -> None:
    _history(actions)


def _history(actions: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory(prefix="dvcx-history-") as base:
        world = new_world(Path(base))
        _git(world, "commit", "-qm", "empty", "--allow-empty")
        for step, (what, number) in enumerate(actions):
            if what == "write":
                world.put(f"d{number}/f", f"step {step} {number}\n")
                world.put(f"d{number}/same", "the same everywhere\n")
                added = world.run("add", f"d{number}")
                # Without the ignore line that a stash took away, the commit before took the data itself.
                assert added.code == 0 or "is tracked by git" in added.err, added.text
            elif what == "commit":
                _git(world, "add", "-A")
                _git(world, "commit", "-qm", f"step {step}", "--allow-empty")
            elif what == "branch":
                _git(world, "branch", "-f", f"b{number}")
            elif what == "switch":
                _git(world, "switch", "-q", f"b{number}")
            elif what == "drop branch":
                _git(world, "branch", "-q", "-D", f"b{number}")
            elif what == "stash":
                _git(world, "stash", "-q")
            elif what == "tag":
                _git(world, "tag", "-f", f"t{number}")
            else:
                _git(world, "reset", "-q", "--hard", f"HEAD~{number % 2}")
        needed = _all_named(world)
        world.ok("gc", *NOW)
        held = world.clean()
        for record in needed:
            from tests.faults.world import _held

            _held(record, held, "history")
        world.run("gc", "--undo")
        world.clean()


def _git(world: World, *words: str) -> None:
    """Git may refuse what makes no sense here: that is fine."""
    subprocess.run(["git", *words], cwd=world.root, capture_output=True, check=False)


def _all_named(world: World) -> list[dict[str, object]]:
    """Every version of every pointer git still has, told by git itself, object by object, and those of the workspace."""
    import json

    listed = world.git("rev-list", "--all", "--reflog", "--objects", "--indexed-objects")
    records = []
    for line in listed.splitlines():
        name, _, path = line.partition(" ")
        if path.endswith(".dvcx") and world.git("cat-file", "-t", name).strip() == "blob":
            records.append(json.loads(world.git("cat-file", "blob", name)))
    return records + [world.record(path.name) for path in world.root.glob("*.dvcx") if path.is_file()]


# Users who share a cache: item 63

# The interpreter may lie where only root reads: another user keeps the right to read everything (capability 2), and no other.
AS_USER = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
assert libc.prctl(8, 1, 0, 0, 0) == 0
os.setgroups([{group}]); os.setgid({group}); os.setuid({user}); os.umask(0o077)
head, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(4, 4, 0, 0, 0, 0)
assert libc.capset(head, data) == 0
os.environ["HOME"] = {home!r}; os.environ["GIT_CONFIG_GLOBAL"] = "/dev/null"
os.environ["USER"] = "someone"
sys.argv = ["dvcx", *{words!r}]
os.chdir({directory!r})
from dvcx.__main__ import run
run()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")
def test_users_who_share_a_cache() -> None:
    """Item 63: modes as documented whatever the umask; another user reads and adds, and cannot change what is there."""
    group, users = 54321, (50001, 50002)
    with tempfile.TemporaryDirectory(prefix="dvcx-shared-") as name:
        base = Path(name)
        base.chmod(0o755)
        cache = base / "cache"
        cache.mkdir()
        os.chown(cache, 0, group)
        cache.chmod(0o2775)
        homes = []
        for user in users:
            home = base / str(user)
            (home / "project").mkdir(parents=True)
            for path in (home, home / "project"):
                os.chown(path, user, group)
            homes.append(home)

        def dvcx(number: int, *words: str) -> str:
            home = homes[number]
            program = AS_USER.format(
                group=group, user=users[number], home=str(home), words=list(words), directory=str(home / "project")
            )
            kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "DVCX_", "XDG_"))}
            kept["PYTHONPATH"] = str(Path(__file__).parents[2])
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=kept, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        probe = subprocess.run(
            [sys.executable, "-c", AS_USER.format(group=group, user=users[0], home=name, words=["--version"], directory=name)],
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            check=False,
        )
        if probe.returncode:
            pytest.skip("root may not become another user here")
        for number in range(2):
            dvcx(number, "init", "--no-git")
            dvcx(number, "config", "set", "cache.shared", "true")
            dvcx(number, "config", "set", "--local", "cache.dir", str(cache))
            for file in range(110):
                path = homes[number] / f"project/d/{file}"
                path.parent.mkdir(exist_ok=True)
                path.write_text(f"file {file}\n")
            (homes[number] / "project/f").write_text("the same\n")
            for path in (homes[number] / "project").rglob("*"):
                os.lchown(path, users[number], group)
        dvcx(0, "add", "f", "d")
        before = {path: path.stat().st_ino for path in cache.rglob("*") if path.is_file()}
        dvcx(1, "add", "f", "d")
        for path, inode in before.items():
            if path.suffix == ".pack" or "objects" in path.parts:
                assert path.stat().st_ino == inode, "what is there is not replaced"
        for path in cache.rglob("*"):
            mode = path.stat().st_mode & 0o7777
            if path.is_dir():
                assert (mode, path.stat().st_gid) == (0o2775, group), path
            elif path.name == "lock":
                assert mode == 0o664
            elif "roots" not in path.parts and path.name != "store.json" and "fresh" not in path.parts:
                assert mode == 0o444, path
            else:
                assert mode & 0o444 == 0o444, path
        for path in before:
            if path.suffix in (".pack", ".index"):
                assert _cannot_write(path, users[1], group)
        # Each collects, and the other's data stays.
        (homes[1] / "project/f.dvcx").unlink()
        dvcx(1, "gc", *NOW)
        dvcx(0, "status")
        (homes[0] / "project/f").unlink()
        dvcx(0, "checkout")
        assert (homes[0] / "project/f").read_text() == "the same\n"


def _cannot_write(path: Path, user: int, group: int) -> bool:
    """Whether another user is refused to open a file for writing."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([group])
            os.setgid(group)
            os.setuid(user)
            os.close(os.open(path, os.O_RDWR))
        except PermissionError:
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
