"""Bytes that are not what they should be, in the cache or on a remote: noticed, named, not passed on, got again."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash
from blake3 import blake3

from dvcx.core.packing import KIND_BLOB, ZSTD, Frame, IndexContent, PackInfo, decode_index, encode_index, pack_header, pack_tail
from tests.faults.forge import forge
from tests.faults.world import World, identity, new_world, pack_objects, store_objects, tree_of

BIG = os.urandom(1 << 20) + b"the end of a large file"
SMALL = b"a small file\n" * 200


@pytest.fixture
def remote(world: World) -> Path:
    """An empty directory that is the default remote."""
    path = world.root.parent / "remote"
    world.ok("remote", "add", "-d", "origin", str(path))
    return path


def _flip(path: Path, at: int = 100) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    _overwrite(path, bytes(data))


def _overwrite(path: Path, data: bytes) -> None:
    """Other bytes in a read-only file, as a broken disk would do it: mode and times stay."""
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(before.st_mode & 0o7777)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _empty(path: Path) -> None:
    _overwrite(path, b"")


DAMAGE = pytest.mark.parametrize("damage", [_flip, _empty], ids=["flipped", "emptied"])


@DAMAGE
@pytest.mark.parametrize("size", ["large", "small"])
def test_cache_object(world: World, remote: Path, size: str, damage: Callable[[Path], None]) -> None:
    """Items 24 and 25: a damaged object of the cache is neither pushed nor placed; what is in the workspace stays."""
    world.put("x.bin", BIG if size == "large" else SMALL)
    world.put("other.bin", b"other\n" * 100)
    world.ok("add", "x.bin", "other.bin")
    name = str(world.record("x.bin.dvcx")["hash"])
    damage(world.object(name))
    world.fails(4, "push", says=(name,))
    assert not list((remote / "index").glob("*")) and name not in store_objects(remote)
    world.ok("status")
    (world.root / "x.bin").unlink()
    world.fails(4, "checkout", says=(name,))
    assert not (world.root / "x.bin").exists()
    assert world.get("other.bin") == b"other\n" * 100
    assert world.object(name).exists()


@DAMAGE
@pytest.mark.parametrize("link", ["copy", "hardlink", "symlink"])
def test_pull_repairs_a_loose_object(world: World, remote: Path, link: str, damage: Callable[[Path], None]) -> None:
    """Item 26: `pull` gets a damaged object again, and the bad one lies in quarantine."""
    world.ok("config", "set", "--local", "cache.link", link)
    world.put("x.bin", BIG)
    world.ok("add", "x.bin")
    world.ok("push")
    (world.root / "x.bin").unlink()
    name = str(world.record("x.bin.dvcx")["hash"])
    damage(world.object(name))
    bad = world.object(name).read_bytes()
    text = world.ok("pull")
    assert "corrupt" in text and "quarantine" in text and name in text
    assert world.get("x.bin") == BIG
    assert [path.read_bytes() for path in (world.cache / "quarantine").iterdir()] == [bad]
    world.clean()
    world.ok("check")


def test_pull_repairs_an_object_in_a_pack(world: World, remote: Path) -> None:
    """Item 26: `pull` gets an object again whose frame in a pack is damaged; the others are read from the pack as before."""
    for number in range(120):
        world.put(f"many/{number:03}", f"file number {number}\n" * 20)
    world.ok("add", "many")
    world.ok("push")
    before = tree_of(world.root / "many")
    shutil.rmtree(world.root / "many")
    pack = next((world.cache / "packs").glob("*/*.pack"))
    _flip(pack, 16 + 500)
    world.fails(4, "checkout")
    assert not (world.root / "many").exists()
    assert "corrupt" in world.ok("pull")
    assert tree_of(world.root / "many") == before
    shutil.rmtree(world.root / "many")
    world.ok("checkout")
    assert tree_of(world.root / "many") == before
    assert pack.exists()


def test_bad_copy_everywhere(world: World, remote: Path) -> None:
    """Item 26: with no good copy left `pull` fails, and both bad copies are still there for a look."""
    world.put("x.bin", BIG)
    world.ok("add", "x.bin")
    world.ok("push")
    (world.root / "x.bin").unlink()
    name = str(world.record("x.bin.dvcx")["hash"])
    _flip(world.object(name))
    digits = name.partition(":")[2]
    _flip(remote / "objects" / digits[:2] / digits[2:], 200)
    world.fails(4, "pull", says=(name, "remote 'origin'"))
    assert not (world.root / "x.bin").exists()
    kept = [*(world.cache / "quarantine").glob("*"), *[path for path in [world.object(name)] if path.exists()]]
    assert len(kept) == 1


# A remote that lies


def _clone(world: World) -> World:
    """A colleague's clone, without a cache."""
    world.git("add", "-A")
    world.git("commit", "-qm", "state")
    target = world.root.parent / "clone"
    world.git("clone", "-q", str(world.root), str(target))
    return World(target, world.victim)


def _loose(remote: Path) -> Path:
    return next((remote / "objects").glob("*/*"))


def _refused(clone: World, remote: Path, *says: str, code: int = 4) -> str:
    """`pull` fails; nothing but what git brought is in the workspace, nothing in the cache, and the remote is as it was."""
    before, outside = tree_of(clone.root), tree_of(remote)
    text = clone.fails(code, "pull", says=says)
    after = tree_of(clone.root)
    assert {path for path in after if not path.startswith((".dvcx/", ".git/"))} == {
        path for path in before if not path.startswith((".dvcx/", ".git/"))
    }
    held = store_objects(clone.cache) if clone.cache.exists() else {}
    for object_id, data in held.items():
        assert identity(data)[0] == object_id
    assert tree_of(remote) == outside
    assert clone.temporaries() == []
    return text


@pytest.mark.parametrize("size", ["large", "small"])
def test_altered_on_the_remote(world: World, remote: Path, size: str) -> None:
    """Item 27: other bytes of the same size from a remote are refused by name."""
    world.put("x.bin", BIG if size == "large" else SMALL)
    world.ok("add", "x.bin")
    world.ok("push")
    clone = _clone(world)
    _flip(_loose(remote))
    repair = "dvcx fsck --remote 'origin' --repair"
    _refused(clone, remote, "remote 'origin'", str(world.record("x.bin.dvcx")["hash"]), "mismatch", repair)
    assert not store_objects(clone.cache)


@pytest.mark.parametrize("size", [len(BIG), 5000])
def test_forged_on_the_remote(world: World, remote: Path, size: int) -> None:
    """Item 28: an object forged to the same xxh128 and size is refused by its seal."""
    data = BIG[:size]
    forged = forge(data)
    assert identity(forged)[0] == identity(data)[0] and forged != data
    world.put("x.bin", data)
    world.ok("add", "x.bin")
    world.ok("push")
    clone = _clone(world)
    _overwrite(_loose(remote), forged)
    _refused(clone, remote, "forged", "seal")
    assert not store_objects(clone.cache)


def test_forged_in_a_pack(world: World, remote: Path) -> None:
    """Item 28: the same inside a pack, whose table, name and index were all made to fit."""
    target = os.urandom(5000)
    forged = forge(target)
    world.put("many/target", target)
    for number in range(120):
        world.put(f"many/{number}", f"{number}\n")
    world.ok("add", "many")
    world.ok("push")
    clone = _clone(world)
    pack = next((remote / "packs").glob("*/*.pack"))
    objects = pack_objects(pack)
    objects[identity(target)[0]] = forged
    seals = {identity(target)[0]: identity(target)[1]}
    _replace_packs(remote, objects, seals)
    _refused(clone, remote, "forged")


def test_another_seal_in_the_index(world: World, remote: Path) -> None:
    """Item 28: an index that names the forged seal itself is refused too, in both directions."""
    target = os.urandom(5000)
    forged = forge(target)
    world.put("x.bin", target)
    world.ok("add", "x.bin")
    world.ok("push")
    clone = _clone(world)
    _replace_packs(remote, {identity(target)[0]: forged}, {})
    _refused(clone, remote, "forged")
    world.fails(4, "push", says=("other bytes under this id",))


def test_forged_file_is_not_taken_for_the_other(world: World) -> None:
    """Item 28: adding a file forged to collide with one in the cache stops; neither is recorded as the other."""
    target = os.urandom(5000)
    world.put("x.bin", target)
    world.ok("add", "x.bin")
    world.put("y.bin", forge(target))
    world.fails(4, "add", "y.bin", says=("forged",))
    assert not (world.root / "y.bin.dvcx").exists()
    world.put("x.bin", forge(target))
    assert "x.bin" in world.ok("status") and "modified" in world.ok("status")
    world.fails(4, "add", "x.bin")
    assert world.clean()[identity(target)[0]] == target


def _replace_packs(remote: Path, objects: dict[str, bytes], seals: dict[str, str], *, encoding: int = 0, claim: int = -1) -> None:
    """One pack with these objects and one index that names it are all the remote has; `seals` are lied about."""
    frames, body = [], pack_header(16)
    for object_id, data in objects.items():
        seal = bytes.fromhex(seals.get(object_id) or identity(data)[1])
        size = len(data) if claim < 0 else claim
        frames.append(Frame(bytes.fromhex(object_id[7:]), seal, KIND_BLOB, encoding, len(body), len(data), size))
        body += data
    body += pack_tail(frames, 16, xxhash.xxh3_128_digest)
    name = blake3(body)
    for directory in ("packs", "index", "objects"):
        shutil.rmtree(remote / directory, ignore_errors=True)
    path = remote / f"packs/{name.hexdigest()[:2]}/{name.hexdigest()}.pack"
    path.parent.mkdir(parents=True)
    path.write_bytes(body)
    _write_index(remote, IndexContent([PackInfo(name.digest(), len(body), frames)], []))


def _write_index(remote: Path, content: IndexContent) -> None:
    data = encode_index(content, 16, xxhash.xxh3_128_digest)
    (remote / "index").mkdir(exist_ok=True)
    (remote / f"index/{blake3(data).hexdigest()}.index").write_bytes(data)


def test_decompression_bomb(world: World, remote: Path) -> None:
    """Item 45: a zstd frame that claims or holds more than the record says is refused without taking the memory."""
    import zstandard

    world.put("x.bin", SMALL)
    world.ok("add", "x.bin")
    world.ok("push")
    clone = _clone(world)
    object_id, seal = identity(SMALL)
    bomb = zstandard.ZstdCompressor().compress(bytes(200 << 20))
    _replace_packs(remote, {object_id: bomb}, {object_id: seal}, encoding=ZSTD, claim=len(SMALL))
    _refused(clone, remote)
    # A header that claims a size of 2**60.
    lying = b"\x28\xb5\x2f\xfd" + bytes([0b11100000]) + struct.pack("<Q", 1 << 60) + bytes([0x01, 0, 0])
    _replace_packs(remote, {object_id: lying}, {object_id: seal}, encoding=ZSTD, claim=len(SMALL))
    _refused(clone, remote)


@pytest.mark.parametrize("how", ["truncated", "longer", "swapped", "gone", "directory", "link", "fifo"])
def test_lying_remote(world: World, remote: Path, how: str) -> None:
    """Items 27, 32 and 45: objects of a remote cut, grown, swapped, gone or replaced by other things."""
    world.put("x.bin", BIG)
    world.put("y.bin", BIG[::-1])
    world.ok("add", "x.bin", "y.bin")
    world.ok("push")
    clone = _clone(world)
    first, second = sorted((remote / "objects").glob("*/*"))
    data = first.read_bytes()
    first.chmod(0o644)
    if how == "swapped":
        _overwrite(first, second.read_bytes())
        _overwrite(second, data)
    elif how == "truncated":
        _overwrite(first, data[:-1])
    elif how == "longer":
        _overwrite(first, data + b"x")
    else:
        first.unlink()
        if how == "directory":
            first.mkdir()
        elif how == "link":
            first.symlink_to(world.victim / "secret.txt")
        elif how == "fifo":
            os.mkfifo(first)
    text = _refused(clone, remote, code=4 if how == "swapped" else 5)
    assert "remote 'origin'" in text
    # A push of the good copy heals what the listing shows to be wrong.
    if how in ("truncated", "longer", "gone"):
        world.ok("push")
        clone.ok("pull")
        assert clone.get("x.bin") == BIG


@pytest.mark.parametrize("part", ["pack", "index", "store.json"])
@pytest.mark.parametrize("how", ["flipped", "truncated", "emptied", "garbage"])
def test_broken_pack_index_store(world: World, remote: Path, part: str, how: str) -> None:
    """Item 27: a pack, an index or a store.json that is damaged is never half believed."""
    for number in range(120):
        world.put(f"many/{number}", f"{number}\n" * 50)
    world.ok("add", "many")
    world.ok("push")
    clone = _clone(world)
    path = {
        "pack": next((remote / "packs").glob("*/*.pack")),
        "index": next((remote / "index").glob("*")),
        "store.json": remote / "store.json",
    }[part]
    data = path.read_bytes()
    if how == "flipped":
        middle = len(data) // 3
        _overwrite(path, data[:middle] + bytes([data[middle] ^ 0x40]) + data[middle + 1 :])
    else:
        _overwrite(path, {"truncated": data[: len(data) // 2], "emptied": b"", "garbage": os.urandom(len(data))}[how])
    # A pack whose size is not the index's counts as absent; a pack of the same size is found out when it is read.
    absent = part == "pack" and how in ("truncated", "emptied")
    _refused(clone, remote, "remote 'origin'", code=5 if absent else 4)
    assert not (clone.root / "many").exists()


def test_listing_that_fails(world: World, remote: Path) -> None:
    """Item 27: a directory of the remote that cannot be listed is an error, never an empty remote."""
    world.put("x.bin", SMALL)
    world.ok("add", "x.bin")
    world.ok("push")
    clone = _clone(world)
    shutil.rmtree(remote)
    remote.write_bytes(b"not a directory")
    text = clone.run("pull")
    assert text.code in (6, 8, 5) and "hint:" in text.err, text.text
    assert str(remote) in text.text or "origin" in text.text


def test_edited_tree(world: World, remote: Path) -> None:
    """Item 31: a tree object whose bytes are another good tree is refused before any file is made."""
    world.put("d/a.txt", "a\n")
    world.put("d/b.txt", "b\n")
    world.ok("add", "d")
    name = str(world.record("d.dvcx")["hash"])
    tree = world.object(name)
    data = tree.read_bytes()
    _overwrite(tree, data.replace(b"a.txt", b"c.txt"))
    shutil.rmtree(world.root / "d")
    world.fails(4, "checkout", says=(name,))
    assert not (world.root / "d").exists()
    world.fails(4, "push", says=(name,))
    assert name not in store_objects(remote)


def test_swapped_in_the_cache(world: World) -> None:
    """Item 32: two objects that have changed places are both refused."""
    world.put("x.bin", BIG)
    world.put("y.bin", BIG[::-1])
    world.ok("add", "x.bin", "y.bin")
    first, second = (world.object(str(world.record(f"{name}.bin.dvcx")["hash"])) for name in "xy")
    data = first.read_bytes()
    _overwrite(first, second.read_bytes())
    _overwrite(second, data)
    for name in ("x.bin", "y.bin"):
        (world.root / name).unlink()
        world.fails(4, "checkout", name, says=("mismatch",))
        assert not (world.root / name).exists()


@pytest.mark.parametrize("how", ["empty", "garbage", "truncated", "old"])
@pytest.mark.parametrize("memory", ["statindex", "catalog"])
def test_damaged_memory(world: World, memory: str, how: str) -> None:
    """Item 9: a damaged stat index or catalog is rebuilt, with the same answers."""
    for number in range(120):
        world.put(f"many/{number}", f"{number}\n")
    world.ok("add", "many")
    for path in (world.root / ".dvcx/state").glob(f"{memory}*.sqlite"):
        if how == "old":
            import sqlite3

            path.unlink()
            database = sqlite3.connect(path)
            database.execute("CREATE TABLE rows (x)")
            database.execute("PRAGMA user_version = 999")
            database.commit()
            database.close()
        else:
            data = path.read_bytes()
            path.write_bytes({"empty": b"", "garbage": os.urandom(9000), "truncated": data[: len(data) // 2]}[how])
    said = world.ok("check") + world.ok("status")
    # An empty file is a new one, an old one is brought up to date: only damage is worth a word.
    assert ("warning:" in said and "rebuilt" in said) == (how in ("garbage", "truncated") and memory == "statindex"), said
    shutil.rmtree(world.root / "many")
    world.ok("checkout")
    world.ok("check")
    assert world.get("many/7") == b"7\n"


def test_missing_object(world: World, remote: Path, tmp_path: Path) -> None:
    """Bad input: a missing object is named with the path that needs it and the remotes that were asked."""
    world.put("d/a.txt", "a\n")
    world.put("other.txt", "other\n")
    world.ok("add", "d", "other.txt")
    world.ok("push", "other.txt")
    clone = _clone(world)
    clone.fails(5, "checkout", says=("d", "not in the cache"))
    clone.fails(5, "pull", says=("'d'", "remote 'origin'"))
    shutil.rmtree(remote)
    clone.fails(6, "pull", says=(str(remote), "does not exist"))
    bare = new_world(tmp_path / "bare")
    bare.put("x", "x\n")
    bare.ok("add", "x")
    shutil.rmtree(bare.cache / "objects")
    (bare.root / "x").unlink()
    bare.fails(5, "checkout", says=("'x'", "remote add"))
    bare.fails(2, "pull", says=("no remote",))


def test_index_of_another_pack(world: World, remote: Path) -> None:
    """Item 27: an index whose rows point elsewhere in the pack yields nothing but an error."""
    for number in range(120):
        world.put(f"many/{number}", f"{number:05}\n")
    world.ok("add", "many")
    world.ok("push")
    clone = _clone(world)
    path = next((remote / "index").glob("*"))
    content = decode_index(path.read_bytes(), 16, xxhash.xxh3_128_digest, "index")
    path.unlink()
    pack = content.packs[0]
    blobs = [frame for frame in pack.frames if frame.size == 6]
    turned = [frame._replace(offset=other.offset) for frame, other in zip(blobs, [*blobs[1:], blobs[0]], strict=True)]
    rest = [frame for frame in pack.frames if frame.size != 6]
    _write_index(remote, IndexContent([PackInfo(pack.name, pack.size, [*turned, *rest])], []))
    _refused(clone, remote, "mismatch")
