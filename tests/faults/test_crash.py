"""kill -9 at every call that changes something: what was there stays, what is named exists, the next run finishes the work."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.faults import killing
from tests.faults.killing import Point, fresh, kill_at, points, sample
from tests.faults.world import BESIDE, World, copy_world, new_world, store_objects, tree_of

pytestmark = pytest.mark.skipif(bool(killing.available()), reason=killing.available() or "strace")

SAMPLED = 3
LINKS = ("copy", "hardlink", "symlink")
FILES = {"data/a.txt": b"alpha\n", "data/empty": b"", "data/sub/b.bin": b"b" * 5000, "data/big.bin": bytes(range(256)) * 4500}


def _sweep(full: bool) -> list[object]:
    return [pytest.param(SAMPLED, id="sampled"), pytest.param(0, id="full", marks=pytest.mark.nightly)] if full else [SAMPLED]


def _chosen(found: list[Point], count: int) -> list[Point]:
    assert found
    return sample(found, count) if count else found


SWEEP = pytest.mark.parametrize("count", _sweep(True))


def _filled(world: World, link: str = "copy") -> World:
    for path, data in FILES.items():
        world.put(path, data)
    world.put("data/run.sh", "#!/bin/sh\n", 0o755)
    for number in range(110):
        world.put(f"data/many/{number:03}.txt", f"number {number}\n")
    world.ok("config", "set", "--local", "cache.link", link)
    return world


@SWEEP
@pytest.mark.parametrize("link", LINKS)
def test_add(tmp_path: Path, link: str, count: int) -> None:
    """Item 1: after a kill anywhere in `add dir` nothing of the workspace is gone, the pointer is absent or whole."""
    template = _filled(new_world(tmp_path / "template"), link)
    before = tree_of(template.root / "data")
    measured = copy_world(template, tmp_path / "measured")
    for point in _chosen(points(measured, "add", "data"), count):
        world = copy_world(template, fresh(tmp_path, point))
        kill_at(world, point, "add", "data")
        world.clean()
        _same_content(world, before)
        for left in world.cache.glob("tmp-*"):
            os.utime(left, (0, 0))  # the store's own description is only reaped after a minute
        world.ok("add", "data")
        world.clean()
        _same_content(world, before)
        assert world.record("data.dvcx")["files"] == len(FILES) + 111
        assert world.temporaries() == [], point


def _same_content(world: World, before: dict[str, tuple[str, str]]) -> None:
    """All names are there with their bytes; links into the cache count by what they lead to."""
    now = tree_of(world.root / "data")
    assert set(now) == set(before)
    for path, (kind, _) in now.items():
        if kind == "link":
            assert (world.root / "data" / path).is_file(), path
        else:
            assert now[path][1] == before[path][1], path


@SWEEP
@pytest.mark.parametrize("link", LINKS)
def test_checkout(tmp_path: Path, link: str, count: int) -> None:
    """Item 2: after a kill anywhere in `checkout` of an older version each file is the old or the new one, never half."""
    template = _filled(new_world(tmp_path / "template"), link)
    template.ok("add", "data")
    older = template.get("data.dvcx")
    versions = [_bytes(template)]
    for path in ("data/a.txt", "data/big.bin", "data/many/007.txt"):
        (template.root / path).unlink()
        template.put(path, b"newer " + FILES.get(path, b"seven"))
    (template.root / "data/many/008.txt").unlink()
    template.put("data/fresh.txt", "only in the newer one\n")
    template.ok("add", "data")
    versions.append(_bytes(template))
    template.put("data.dvcx", older)
    measured = copy_world(template, tmp_path / "measured")
    for point in _chosen(points(measured, "checkout"), count):
        world = copy_world(template, fresh(tmp_path, point))
        kill_at(world, point, "checkout")
        for path, data in _bytes(world).items():
            assert data in [version[path] for version in versions if path in version], f"{path} after {point}"
        assert set(_bytes(world)) >= set(versions[0]) & set(versions[1]), point
        world.ok("checkout")
        assert _bytes(world) == versions[0], point
        assert not list((world.root / "data").rglob("tmp-*"))
        world.clean()


def _bytes(world: World) -> dict[str, bytes]:
    return {str(path.relative_to(world.root)): path.read_bytes() for path in (world.root / "data").rglob("*") if path.is_file()}


PIPELINE = """\
stages:
  one:
    cmd: tr a-z A-Z < in.txt > middle.txt
    deps: [in.txt]
    outs: [middle.txt]
  two:
    cmd: cat middle.txt middle.txt > out.txt
    deps: [middle.txt]
    outs: [out.txt]
"""


@SWEEP
def test_repro(tmp_path: Path, count: int) -> None:
    """Item 3: after a kill anywhere in `repro` the lock parses and names no output that the cache does not hold."""
    template = new_world(tmp_path / "template")
    template.put("in.txt", "one\n")
    template.stage_file(PIPELINE)
    template.ok("add", "in.txt")
    template.ok("repro")
    template.put("in.txt", "two\n")
    measured = copy_world(template, tmp_path / "measured")
    for point in _chosen(points(measured, "repro"), count):
        world = copy_world(template, fresh(tmp_path, point))
        kill_at(world, point, "repro")
        world.clean()
        world.run("status")
        world.ok("repro")
        assert world.get("out.txt") == b"TWO\nTWO\n", point
        world.clean()


@SWEEP
@pytest.mark.parametrize("record", ["pointer", "lock"])
def test_record(tmp_path: Path, record: str, count: int) -> None:
    """Items 4 and 5: after a kill while a pointer or a lock is rewritten, the old one is there byte for byte, or the new one."""
    template = new_world(tmp_path / "template")
    template.put("in.txt", "one\n")
    template.stage_file(PIPELINE)
    template.ok("add", "in.txt")
    template.ok("repro")
    template.put("in.txt", "two\n")
    name, words = ("in.txt.dvcx", ("add", "in.txt")) if record == "pointer" else ("dvcx.lock", ("repro",))
    old = template.get(name)
    measured = copy_world(template, tmp_path / "measured")
    found = points(measured, *words)
    if record == "lock":
        # A lock is written after each stage: there is a state between the first and the last.
        template.ok("repro", "one", cwd=copy_world(template, tmp_path / "half").root)
        states = {old, (tmp_path / "half/project" / name).read_bytes(), measured.get(name)}
    else:
        states = {old, measured.get(name)}
    for point in _chosen([point for point in found if point.call in ("rename", "fsync", "write")], count):
        world = copy_world(template, fresh(tmp_path, point))
        kill_at(world, point, *words)
        assert world.get(name) in states, point
        json.loads(world.get(name))
        assert world.run("check").code in (0, 1)


def _with_remote(base: Path) -> World:
    world = _filled(new_world(base))
    world.ok("add", "data")
    world.ok("remote", "add", "-d", "origin", BESIDE)
    return world


@SWEEP
def test_push(tmp_path: Path, count: int) -> None:
    """Item 1, for `push`: after a kill anywhere the remote shows nothing that is not whole, and the next push ends it."""
    template = _with_remote(tmp_path / "template")
    before = tree_of(template.root / "data")
    measured = copy_world(template, tmp_path / "measured")
    for point in _chosen(points(measured, "push", within=measured.root.parent), count):
        world = copy_world(template, fresh(tmp_path, point))
        kill_at(world, point, "push")
        store_objects(world.root / BESIDE)
        world.clean()
        assert tree_of(world.root / "data") == before, point
        world.ok("push")
        assert set(store_objects(world.root / BESIDE)) == set(world.clean()), point
        assert "everything already" in world.ok("push")
        world.ok("add", "data")  # takes away what lies in the state directory
        assert [path for path in world.temporaries() if "/state/tmp/" not in path] == [], point


@SWEEP
def test_push_over_an_older_one(tmp_path: Path, count: int) -> None:
    """Item 1, for `push`: what the remote held before is there at every moment."""
    template = _with_remote(tmp_path / "template")
    template.ok("push")
    older = set(template.clean())
    for path in ("data/a.txt", "data/big.bin", *(f"data/many/{number:03}.txt" for number in range(110))):
        template.put(path, b"newer " + FILES.get(path, path.encode()))
    template.ok("add", "data")
    measured = copy_world(template, tmp_path / "measured")
    for point in _chosen(points(measured, "push", within=measured.root.parent), count):
        world = copy_world(template, fresh(tmp_path, point))
        kill_at(world, point, "push")
        assert set(store_objects(world.root / BESIDE)) >= older, point
        world.ok("push")
        assert set(store_objects(world.root / BESIDE)) >= set(world.clean()), point


@SWEEP
def test_pull(tmp_path: Path, count: int) -> None:
    """Items 1 and 2, for `pull`: after a kill anywhere each file is absent or right, and the next pull ends it."""
    template = _with_remote(tmp_path / "template")
    template.ok("push")
    want = tree_of(template.root / "data")
    held = set(template.clean())
    for gone in (template.cache, template.root / "data", template.root / ".dvcx/state"):
        shutil.rmtree(gone)
    measured = copy_world(template, tmp_path / "measured")
    for point in _chosen(points(measured, "pull"), count):
        world = copy_world(template, fresh(tmp_path, point))
        kill_at(world, point, "pull")
        store_objects(world.cache)
        if (world.root / "data").exists():
            now = tree_of(world.root / "data")
            assert now == {path: want[path] for path in now}, point
        for left in world.cache.glob("tmp-*"):
            os.utime(left, (0, 0))  # the store's own description is only reaped after a minute
        world.ok("pull")
        assert tree_of(world.root / "data") == want, point
        assert set(world.clean()) == held, point
        world.ok("add", "data")  # takes away what lies in the state directory
        assert world.temporaries() == [], point
        assert set(store_objects(world.root / BESIDE)) == held, point


@SWEEP
def test_state(tmp_path: Path, count: int) -> None:
    """Item 9: after a kill anywhere while the stat index is written the answers are the same."""
    template = _filled(new_world(tmp_path / "template"))
    template.ok("add", "data")
    template.put("data/many/007.txt", "seven\n")
    template.put("data/fresh.txt", "fresh\n")
    measured = copy_world(template, tmp_path / "measured")
    found = points(measured, "status", "--json")
    answer = json.loads(measured.run("status", "--json").out)
    for point in _chosen(found, count):
        world = copy_world(template, fresh(tmp_path, point))
        kill_at(world, point, "status", "--json")
        assert json.loads(world.ok("status", "--json")) == answer, point
        world.ok("add", "data")
        assert world.record("data.dvcx")["files"] == len(FILES) + 112
        world.clean()
