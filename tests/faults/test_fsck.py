"""Damage of the reliability list, told by the program itself: fsck names it, repairs it, loses nothing, and survives kill -9."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import killing
from tests.faults.killing import fresh, kill_at, points, sample
from tests.faults.world import World, copy_world, identity, new_world, store_objects

BIG = os.urandom(1 << 20) + b"the end of a large file"
SMALL = b"a small file\n" * 200


def _overwrite(path: Path, data: bytes) -> None:
    """Other bytes in a read-only file, as a broken disk would do it: mode and times stay."""
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(before.st_mode & 0o7777)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    _overwrite(path, bytes(data))


def _empty(path: Path) -> None:
    _overwrite(path, b"")


def _filled(world: World) -> World:
    world.put("x.bin", BIG)
    world.put("y.txt", SMALL)
    for number in range(110):
        world.put(f"many/{number:03}.txt", f"number {number}\n" * 10)
    world.ok("remote", "add", "-d", "origin", "../remote")
    world.ok("add", "x.bin", "y.txt")
    world.ok("add", "many")
    world.ok("push")
    world.git("add", "-A")
    world.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all")
    return world


def _fsck(world: World, code: int, *words: str) -> dict[str, object]:
    outcome = world.run("fsck", "--json", *words)
    assert outcome.code == code, outcome.text
    return dict(json.loads(outcome.out))


@pytest.mark.parametrize("damage", [_flip, _empty], ids=["flipped", "emptied"])
@pytest.mark.parametrize("name", ["x.bin", "y.txt"])
def test_objects(world: World, name: str, damage: Callable[[Path], None]) -> None:
    """Items 24 to 26: exit 4 naming pointer and path; push refuses; repair gets it again and keeps the bad bytes."""
    _filled(world)
    data = world.get(name)
    object_id = str(world.record(f"{name}.dvcx")["hash"])
    damage(world.object(object_id))
    bad = world.object(object_id).read_bytes()
    (world.root / name).unlink()
    outcome = world.run("fsck")
    assert outcome.code == 4 and object_id in outcome.out and f"needed by {name} ({name}.dvcx)" in outcome.out
    assert "dvcx fsck --repair" in outcome.out
    assert world.object(object_id).read_bytes() == bad, "asking changed something"
    shutil.rmtree(world.root.parent / "remote/objects")
    shutil.rmtree(world.root.parent / "remote/packs")
    world.fails(4, "push", says=(object_id,))
    world.fails(4, "checkout", name)
    assert not (world.root / name).exists()
    _fsck(world, 4, "--repair")
    assert bad in [path.read_bytes() for path in (world.cache / "quarantine").iterdir()]
    _fsck(world, 5)
    world.put(name, data)
    assert "from the workspace" in world.ok("fsck", "--repair")
    _fsck(world, 0)
    (world.root / name).unlink()
    world.ok("checkout", name)
    assert world.get(name) == data
    assert world.clean()


def test_item_26_from_the_remote(world: World) -> None:
    _filled(world)
    object_id = str(world.record("x.bin.dvcx")["hash"])
    _flip(world.object(object_id))
    bad = world.object(object_id).read_bytes()
    (world.root / "x.bin").unlink()
    found = _fsck(world, 0, "--repair")
    assert found["verdict"] == "repaired" and "from remote 'origin'" in str(found["findings"])
    assert [path.read_bytes() for path in (world.cache / "quarantine").iterdir()] == [bad]
    assert _fsck(world, 0)["verdict"] == "sound"
    world.ok("checkout", "x.bin")
    assert world.get("x.bin") == BIG


def test_swapped(world: World) -> None:
    """Item 32: both objects that have changed places are reported; each goes back to where it belongs."""
    _filled(world)
    first, second = (world.object(str(world.record(f"{name}.dvcx")["hash"])) for name in ("x.bin", "y.txt"))
    data = first.read_bytes()
    _overwrite(first, second.read_bytes())
    _overwrite(second, data)
    shutil.rmtree(world.root.parent / "remote")
    (world.root / "x.bin").unlink()
    (world.root / "y.txt").unlink()
    text = world.run("fsck").out
    assert text.count("misplaced  xxh128:") == 2 and "x.bin" in text and "y.txt" in text
    world.ok("fsck", "--repair")
    _fsck(world, 0)
    world.ok("checkout", "x.bin", "y.txt")
    assert (world.get("x.bin"), world.get("y.txt")) == (BIG, SMALL)


@pytest.mark.parametrize("link", ["hardlink", "symlink"])
@pytest.mark.parametrize("inside", [False, True], ids=["file", "in a directory"])
def test_edited_through_a_link(world: World, link: str, inside: bool) -> None:
    """Item 30: status says what happened and deletes nothing; both contents can be had; fsck exits with 4."""
    world.ok("config", "set", "--local", "cache.link", link)
    world.ok("remote", "add", "-d", "origin", "../remote")
    path = "d/x.bin" if inside else "x.bin"
    world.put(path, BIG)
    world.put("d/other", "other\n")
    world.ok("add", "d")
    if not inside:
        world.ok("add", "x.bin")
    world.ok("push")
    target = (world.root / path).resolve()
    with target.open("r+b" if os.access(target, os.W_OK) else "rb") as file:
        if not file.writable():
            pytest.skip("only root writes to a read-only file")
        file.write(b"edited")
    edited = b"edited" + BIG[6:]
    text = world.ok("status")
    assert "cache object modified" in text and path in text and "dvcx fsck --repair" in text
    assert world.get(path) == edited and target.read_bytes() == edited
    outcome = world.run("fsck")
    assert outcome.code == 4 and f"needed by {path}" in outcome.out
    world.ok("fsck", "--repair")
    kept = [file.read_bytes() for file in (world.cache / "quarantine").iterdir()]
    assert kept == [edited]
    if link == "hardlink":
        assert world.get(path) == edited
    world.ok("checkout", "--force")
    assert world.get(path) == BIG
    _fsck(world, 0)


def test_garbage_of_a_power_failure(world: World) -> None:
    """Item 13: with core.fsync=none a power failure leaves empty, short and zeroed files: every one of them is told."""
    world.ok("config", "set", "--local", "core.fsync", "none")
    for number in range(12):
        world.put(f"f{number}.bin", os.urandom(5000 + number))
    world.ok("add", *(f"f{number}.bin" for number in range(12)))
    for number in range(110):
        world.put(f"many/{number:03}.txt", f"number {number}\n" * 10)
    world.ok("add", "many")
    hurt = []
    for number in range(12):
        path = world.object(str(world.record(f"f{number}.bin.dvcx")["hash"]))
        data = path.read_bytes()
        if number % 4:
            _overwrite(path, [b"", b"", data[:2048], bytes(len(data))][number % 4])
            hurt.append(f"xxh128:{path.parent.name}{path.name}")
    (pack,) = (world.cache / "packs").glob("*/*.pack")
    _overwrite(pack, pack.read_bytes()[:1000] + bytes(pack.stat().st_size - 1000))
    found = _fsck(world, 4)
    findings = found["findings"]
    assert isinstance(findings, list)
    told = {item["object"] for item in findings}
    assert set(hurt) <= told
    assert any(item["file"].startswith("packs/") for item in findings)
    # What the workspace still has is saved; the rest is told.
    _fsck(world, 0, "--repair")
    assert _fsck(world, 0)["verdict"] == "sound"
    world.clean()


def test_a_crash_is_no_damage(world: World) -> None:
    """Items 7 and 8: leftovers of killed commands are told and are no finding."""
    _filled(world)
    (world.cache / "objects/tmp-dvcx-00").write_bytes(b"half")
    (world.cache / "packs/tmp-dvcx-01").write_bytes(b"half")
    found = _fsck(world, 0)
    assert found["verdict"] == "sound" and "2 leftovers" in str(found["notes"])


def test_remote_that_lost_files(world: World) -> None:
    _filled(world)
    remote = world.root.parent / "remote"
    (index,) = (remote / "index").iterdir()
    index.unlink()
    assert _fsck(world, 5, "--remote", "origin")["verdict"] == "lacking"
    _fsck(world, 0, "--remote", "origin", "--repair")
    assert not [path for path in (remote / "quarantine").glob("*") if "packs" in path.name]
    for pack in (remote / "packs").glob("*/*.pack"):
        pack.unlink()
    found = _fsck(world, 4, "--remote", "origin", "--quick")
    assert "many" in str(found["findings"])
    _fsck(world, 0, "--remote", "origin", "--repair")
    assert _fsck(world, 0, "--remote", "origin")["verdict"] == "sound"
    store_objects(remote)


def _copy_remote(source: Path, target: Path) -> None:
    if not target.exists():
        shutil.copytree(source, target)


needs_strace = pytest.mark.skipif(bool(killing.available()), reason=killing.available() or "strace")


@needs_strace
@pytest.mark.parametrize(
    "count", [pytest.param(4, id="sampled"), pytest.param(0, id="full", marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize("where", ["cache", "remote"])
def test_killed_while_repairing(tmp_path: Path, where: str, count: int) -> None:
    """After a kill anywhere in `fsck --repair` a rerun finishes it; every bad byte is still somewhere, every good one too."""
    template = _filled(new_world(tmp_path / "template"))
    store = template.cache if where == "cache" else tmp_path / "template/remote"
    words = ("fsck", "--repair") if where == "cache" else ("fsck", "--remote", "origin", "--repair")
    bad = []
    for pattern in ("objects/*/*", "packs/*/*.pack", "index/*"):
        for path in sorted(store.glob(pattern))[:1]:
            _flip(path)
            bad.append(path.read_bytes())
    measured = copy_world(template, tmp_path / "measured")
    _copy_remote(tmp_path / "template/remote", tmp_path / "measured/remote")
    found = points(measured, *words)
    assert found
    for point in sample(found, count) if count else found:
        world = copy_world(template, fresh(tmp_path, point))
        _copy_remote(tmp_path / "template/remote", world.root.parent / "remote")
        here = world.cache if where == "cache" else world.root.parent / "remote"
        kill_at(world, point, *words)
        world.ok(*words)
        outcome = world.run(*words[: -1 if where == "cache" else 3], "--json")
        assert outcome.code == 0 and json.loads(outcome.out)["verdict"] == "sound", (point, outcome.text)
        held = store_objects(here)
        assert identity(BIG)[0] in held and identity(SMALL)[0] in held
        everything = [path.read_bytes() for path in here.rglob("*") if path.is_file()]
        for data in bad:
            assert data in everything, point
        world.clean()
