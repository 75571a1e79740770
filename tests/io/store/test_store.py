"""Reading from a store: what it holds is what its listing shows, every byte is verified, catalogs are only memories."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvcx.core import packing
from dvcx.core.objects import Content, Entry
from dvcx.core.packing import BATCH, SMALL, Frame, IndexContent, Loose, PackInfo, encode_index, pack_header, pack_tail
from dvcx.errors import DvcxError, IntegrityError, NotFound, RemoteFailed
from dvcx.io.hashing import seal, xxh128
from dvcx.io.store import writer as writing
from dvcx.io.store.backend import Listed
from dvcx.io.store.local import LocalBackend
from dvcx.io.store.memory import MemoryBackend
from dvcx.io.store.store import Wanted, object_name, pack_name
from dvcx.io.store.writer import Writer
from tests.io.store.faulty import FaultyBackend
from tests.io.store.shelves import Shelf, Thing, cache_shelf, thing, things, tree


@pytest.fixture(params=["cache", "memory", "directory"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    if request.param == "cache":
        return cache_shelf(tmp_path)
    return Shelf(tmp_path, MemoryBackend() if request.param == "memory" else LocalBackend(str(tmp_path / "remote")))


@pytest.fixture
def remote(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def cache(tmp_path: Path) -> Shelf:
    return cache_shelf(tmp_path)


def overwrite(shelf: Shelf, name: str, change: Callable[[bytearray], object]) -> None:
    """Other bytes under a name of the store, as a broken disk or a stranger would leave them."""
    data = bytearray(shelf.backend.read(name))
    change(data)
    shelf.backend.delete(name)
    shelf.backend.write(name, bytes(data))


def at(position: int) -> Callable[[bytearray], object]:
    def flip(data: bytearray) -> None:
        data[position] ^= 0x40

    return flip


# What is here


def test_an_empty_store_has_nothing(shelf: Shelf) -> None:
    some = things(3)
    assert shelf.lacks(some) == some
    store = shelf.open()
    assert store.count() == 0 and store.have([some[0].names.id]) == {} and store.batches([some[0].wanted]) == []
    with pytest.raises(NotFound, match=some[0].names.id):
        store.read(some[0].wanted)
    store.close()
    assert shelf.names("") == []


@pytest.mark.parametrize("count", [7, BATCH + 7])
def test_another_client_sees_it_all(shelf: Shelf, count: int) -> None:
    some = [*things(count), thing(b"L" * SMALL), thing(b"")]
    shelf.fill(some)
    other = shelf.client("b")
    assert other.reads(some)
    store = other.open()
    assert set(store.have([item.names.id for item in some])) == {item.names.id for item in some}
    known = {object_id: held.hex() for object_id, held in store.have([item.names.id for item in some]).items() if held}
    assert known == {item.names.id: item.names.seal for item in some if item.names.id in known}
    store.close()


def test_clients_see_what_others_add_and_remove(remote: Shelf) -> None:
    a, b = remote, remote.client("b")
    first, second = things(BATCH), things(BATCH, 1000)
    a.fill(first)
    assert b.reads(first) and b.lacks(second) == second
    b.fill(second)
    assert a.reads(first + second)


def test_a_listing_that_fails_is_an_error(tmp_path: Path) -> None:
    class Failing(MemoryBackend):
        broken = ""

        def list(self, prefix: str) -> Iterator[Listed]:
            for item in super().list(prefix):
                yield item
                if prefix == self.broken:
                    raise RemoteFailed("the listing broke off", "again")

    backend = Failing()
    shelf = Shelf(tmp_path, backend)
    some = [*things(BATCH), thing(b"L" * SMALL)]
    shelf.fill(some)
    for prefix in ("index", "packs", "objects"):
        backend.broken = prefix
        for client in ("a", "fresh-" + prefix):
            with pytest.raises(RemoteFailed):
                shelf.client(client).lacks(some)
    backend.broken = ""
    assert shelf.lacks(some) == []


# Behind the store's back


def test_a_removed_pack_makes_its_objects_missing_and_a_push_heals(shelf: Shelf) -> None:
    packed, other = things(BATCH), things(BATCH, 1000)
    shelf.fill(packed)
    shelf.fill(other)
    assert shelf.client("b").reads(packed + other)
    for name in shelf.names("packs"):
        if seal(shelf.backend.read(name)).hex() in name:
            shelf.backend.delete(name)
            break
    for client in ("a", "b", "c"):
        gone = shelf.client(client).lacks(packed + other)
        assert gone in (packed, other)
    shelf.fill(gone)
    for client in ("a", "b", "c", "d"):  # those that saw it gone see it come back
        assert shelf.client(client).reads(packed + other)


def test_a_truncated_pack_counts_as_gone(shelf: Shelf) -> None:
    some = things(BATCH)
    shelf.fill(some)
    (name,) = shelf.names("packs")
    overwrite(shelf, name, lambda data: data.pop())
    assert shelf.lacks(some) == some and shelf.client("b").lacks(some) == some


def test_a_removed_index_makes_its_objects_missing(shelf: Shelf) -> None:
    some = things(BATCH)
    shelf.fill(some)
    (name,) = shelf.names("index")
    shelf.backend.delete(name)
    for client in ("a", "b"):
        assert shelf.client(client).lacks(some) == some
    shelf.fill(some)
    for client in ("a", "b", "c"):
        assert shelf.client(client).reads(some)


@pytest.mark.parametrize("packing", [True, False])
def test_a_removed_loose_object_is_missing(shelf: Shelf, packing: bool) -> None:
    some = things(9)
    shelf.fill(some)
    assert shelf.client("b").reads(some)
    shelf.backend.delete(object_name(some[3].names.id))
    for client in ("a", "b", "c"):
        assert shelf.client(client).lacks(some) == [some[3]]
    shelf.fill([some[3], *things(BATCH, 500)], packing=packing)  # it comes back in a pack, or as it was
    for client in ("a", "b", "c", "d"):
        assert shelf.client(client).reads(some)


def test_an_emptied_store_is_empty_whatever_was_remembered(shelf: Shelf) -> None:
    some = [*things(BATCH), thing(b"L" * SMALL)]
    shelf.fill(some)
    for name in shelf.names(""):
        if name != "store.json":
            shelf.backend.delete(name)
    assert shelf.lacks(some) == some


def test_a_pack_no_index_names_is_invisible(remote: Shelf) -> None:
    some = things(BATCH)
    remote.fill(some)
    (pack,) = remote.names("packs")
    other = remote.client("b")
    empty = Shelf(remote.base / "other")
    empty.open(write=True).close()
    empty.backend.write(pack, remote.backend.read(pack))
    assert empty.lacks(some) == some and other.reads(some)


# Catalogs


def catalog_of(shelf: Shelf) -> Path:
    (path,) = shelf.state.glob("catalog-*.sqlite")
    return path


def _delete(path: Path) -> None:
    for file in path.parent.glob("catalog-*"):
        file.unlink()


def _garbage(path: Path) -> None:
    path.write_bytes(random.Random(4).randbytes(8192))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _middle(path: Path) -> None:
    """The first pages are fine, the rest is noise."""
    data = path.read_bytes()
    path.write_bytes(data[:8192] + random.Random(5).randbytes(len(data) - 8192))


def _late(path: Path) -> None:
    """Only the last pages are noise: it opens well."""
    data = path.read_bytes()
    at = len(data) * 3 // 4
    path.write_bytes(data[:at] + random.Random(5).randbytes(len(data) - at))


def _older(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.executescript("CREATE TABLE objects (id TEXT); CREATE TABLE meta (a, b, c); PRAGMA user_version=77;")
    db.close()


DAMAGE = [_delete, _garbage, _empty, _truncated, _middle, _late, _older]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_catalog_is_rebuilt(shelf: Shelf, damage: Callable[[Path], None]) -> None:
    some = [*things(1500), thing(b"L" * SMALL)]
    shelf.fill(some)
    more = things(4, 9000)
    shelf.fill(more)
    assert shelf.reads(some + more)
    path = catalog_of(shelf)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    damage(path)
    assert shelf.reads(some + more)
    assert shelf.lacks([*some, thing("never")]) == [thing("never")]
    extra = things(BATCH, 20000)
    shelf.fill(extra)
    assert shelf.reads(some + more + extra)
    if damage in (_garbage, _truncated, _middle, _late):
        assert any("rebuilt" in text for text in shelf.warnings)
    else:
        assert shelf.warnings == []
    shelf.warnings.clear()
    assert shelf.reads(some) and shelf.warnings == []


def test_a_catalog_that_cannot_be_written_is_no_failure(remote: Shelf) -> None:
    some = things(BATCH)
    remote.fill(some)
    other = remote.client("b")
    os.rmdir(other.state)
    assert other.reads(some)
    path = catalog_of(remote)
    path.unlink()
    path.mkdir()
    assert remote.reads(some)


def test_a_catalog_of_another_store_is_not_used(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    some = things(BATCH)
    shelf.fill(some)
    fresh = Shelf(tmp_path, MemoryBackend())  # same client, same directory, another store
    assert fresh.lacks(some) == some
    fresh.fill(some[:5])
    assert len(fresh.lacks(some)) == BATCH - 5 and shelf.reads(some)


# Bytes that are not what they should be


def test_a_damaged_loose_object_is_noticed(shelf: Shelf) -> None:
    for item in (thing("small one"), thing(b"L" * SMALL)):
        shelf.fill([item])
        changes: list[Callable[[bytearray], object]] = [at(0), at(-1), lambda data: data.pop(), lambda data: data.append(0)]
        for change in changes:
            overwrite(shelf, object_name(item.names.id), change)
            store = shelf.open()
            try:
                # A remote's listing shows the length, so a wrong one counts as missing there.
                with pytest.raises((IntegrityError, NotFound)):
                    store.read(item.wanted)
                with pytest.raises((IntegrityError, NotFound)):
                    list(store.stream(item.wanted))
            finally:
                store.close()
            shelf.backend.delete(object_name(item.names.id))
            shelf.backend.write(object_name(item.names.id), item.data)
        assert shelf.reads([item])


def test_streaming_gives_no_last_piece_before_all_is_verified(remote: Shelf) -> None:
    item = thing(random.Random(6).randbytes(9 << 20))
    remote.fill([item])
    overwrite(remote, object_name(item.names.id), at(100))
    store = remote.open()
    got = 0
    with pytest.raises(IntegrityError, match="hash mismatch"):
        for piece in store.stream(item.wanted):
            got += len(piece)
    assert got < len(item.data)
    store.close()


def test_a_damaged_frame_is_noticed_and_others_are_fine(shelf: Shelf) -> None:
    some = things(BATCH)
    shelf.fill(some)
    (name,) = shelf.names("packs")
    overwrite(shelf, name, at(packing.HEADER_SIZE + 3))  # in the first frame; length and listing are as before
    store = shelf.open()
    bad = []
    for item in some:
        try:
            assert store.read(item.wanted) == item.data
        except IntegrityError as error:
            assert item.names.id in error.message and name in error.message
            bad.append(item)
    assert bad == [some[0]]
    store.close()


def test_a_damaged_frame_falls_back_to_a_loose_copy(cache: Shelf) -> None:
    some = things(BATCH)
    cache.fill(some)
    (name,) = cache.names("packs")
    overwrite(cache, name, at(packing.HEADER_SIZE + 3))
    store = cache.open(write=True)
    with Writer(store, "") as writer:
        writer.replace(some[0].names, some[0].data)
        writer.commit()
    store.close()
    assert cache.reads(some) and cache.client("b").reads(some)
    overwrite(cache, object_name(some[0].names.id), at(0))
    with pytest.raises(IntegrityError):
        cache.reads(some)


@pytest.mark.parametrize("compress", [True, False])
def test_damage_anywhere_in_a_pack_never_gives_wrong_bytes(tmp_path: Path, compress: bool) -> None:
    shelf = Shelf(tmp_path)
    some = things(BATCH)
    shelf.fill(some, compress=compress)
    (name,) = shelf.names("packs")
    good = shelf.backend.read(name)
    spots = random.Random(7)
    for _ in range(60):
        shelf.backend.write(name, good)
        overwrite(shelf, name, at(spots.randrange(packing.HEADER_SIZE, len(good))))
        store = shelf.client("b").open()
        for item in some:
            try:
                assert store.read(item.wanted) == item.data
            except DvcxError as error:
                assert error.exit_code == 4
        store.close()


def test_a_wrong_seal_is_called_forged(shelf: Shelf) -> None:
    item = thing("bytes")
    shelf.fill([item])
    store = shelf.open()
    with pytest.raises(IntegrityError, match="forged"):
        store.read(item.wanted._replace(seal="0" * 64))
    with pytest.raises(IntegrityError):
        store.read(item.wanted._replace(size=4))
    store.close()


# A hostile store


def index_of(packs: list[PackInfo], loose: list[Loose]) -> tuple[str, bytes]:
    data = encode_index(IndexContent(packs, loose), 16, xxh128)
    return f"index/{seal(data).hex()}.index", data


ITEM = thing("hostile")
KEY, SEAL = bytes.fromhex(ITEM.names.id[7:]), bytes.fromhex(ITEM.names.seal)


def test_an_index_under_another_name_is_refused(remote: Shelf) -> None:
    remote.open(write=True).close()
    _, data = index_of([], [])
    remote.backend.write(f"index/{'0' * 64}.index", data)
    with pytest.raises(IntegrityError, match="its name is not the digest"):
        remote.lacks([ITEM])


@pytest.mark.parametrize("size", [2**63, 2**64 - 1])
def test_sizes_no_database_can_hold_are_refused(remote: Shelf, size: int) -> None:
    remote.open(write=True).close()
    remote.backend.write(*index_of([], [Loose(KEY, SEAL, 0, size)]))
    with pytest.raises(IntegrityError):
        remote.lacks([ITEM])


def test_a_frame_that_unpacks_to_more_than_it_says(remote: Shelf) -> None:
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(50 << 20))
    frame = Frame(KEY, SEAL, 0, packing.ZSTD, 16, len(bomb), len(ITEM.data))
    data = pack_header(16) + bomb
    data += pack_tail([frame], 16, xxh128)
    remote.open(write=True).close()
    remote.backend.write(pack_name(seal(data).hex()), data)
    remote.backend.write(*index_of([PackInfo(seal(data), len(data), [frame])], []))
    store = remote.open()
    with pytest.raises(IntegrityError):
        store.read(ITEM.wanted)
    store.close()


def test_a_frame_of_another_length_than_the_record_is_refused(remote: Shelf) -> None:
    frame = Frame(KEY, SEAL, 0, packing.RAW, 16, len(ITEM.data), len(ITEM.data))
    data = pack_header(16) + ITEM.data
    data += pack_tail([frame], 16, xxh128)
    remote.open(write=True).close()
    remote.backend.write(pack_name(seal(data).hex()), data)
    remote.backend.write(*index_of([PackInfo(seal(data), len(data), [frame])], []))
    assert remote.reads([ITEM])
    store = remote.open()
    with pytest.raises(IntegrityError):
        store.read(ITEM.wanted._replace(size=len(ITEM.data) - 1))
    store.close()


BAD_STORE_JSON = [b"", b"{", b"[]", b'{"dvcx": 2, "hash": "xxh128", "id": "' + b"0" * 32 + b'"}', b"\xff" * 10, b"[" * 100_000]
BAD_STORE_JSON += [b'{"dvcx": 1, "hash": "md5", "id": "' + b"0" * 32 + b'"}', b'{"dvcx": 1, "hash": "xxh128", "id": "../../x"}']


@pytest.mark.parametrize("data", BAD_STORE_JSON)
def test_a_broken_store_json_is_refused(shelf: Shelf, data: bytes) -> None:
    shelf.backend.write("store.json", data)
    with pytest.raises(IntegrityError, match=r"store\.json"):
        shelf.open()


def test_unrelated_files_are_passed_over(shelf: Shelf) -> None:
    some = [*things(BATCH), thing(b"L" * SMALL)]
    shelf.fill(some)
    for name in ("README", "objects/zz/nothex", "objects/ab/" + "0" * 29, "packs/ab/other.pack", "objects/x", "lost+found/y"):
        shelf.backend.write(name, b"?")
    assert shelf.reads(some) and shelf.client("b").reads(some)


# Trees


def shelved(shelf: Shelf, entries: list[Entry]) -> Content:
    content, objects = tree(entries)
    shelf.fill(objects)
    return content


def rows(count: int) -> list[Entry]:
    names = thing("x").names
    return [Entry(f"n{number:05}", "file", 1, names.id, names.seal) for number in range(count)]


@pytest.mark.parametrize("count", [0, 5, 8192, 9000])
def test_a_tree_is_read_whole(shelf: Shelf, count: int) -> None:
    content = shelved(shelf, rows(count))
    store = shelf.open()
    assert store.read_tree(content) == rows(count)
    entries, objects = store.read_directory(content)
    assert len(entries) == count and (len(objects) > 1) == (count > 8192) and objects[0].id == content.id
    store.close()


@pytest.mark.parametrize("count", [5, 9000])
@pytest.mark.parametrize(("size", "files"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_totals_that_lie_are_refused(cache: Shelf, count: int, size: int, files: int) -> None:
    right = shelved(cache, rows(count))
    store = cache.open()
    with pytest.raises(IntegrityError, match="totals"):
        store.read_tree(Content("tree", right.id, right.seal, right.size + size, right.files + files))
    store.close()


def sharded(shelf: Shelf, parts: list[list[Entry]], kind: str = "shard") -> Content:
    """A tree of hand-made shards."""
    lines, objects = [], []
    for part in parts:
        content, kept = tree(part)
        objects += kept
        lines.append(Entry(part[0].name, kind, content.size, content.id, content.seal, content.files))
    root, kept = tree(lines)
    shelf.fill([*objects, *kept])
    return root


def test_shards_that_contradict_are_refused(cache: Shelf) -> None:
    store = cache.open()
    good = sharded(cache, [rows(3), rows(6)[3:]])
    store.close()
    store = cache.open()
    assert store.read_tree(good) == rows(6)
    overlapping = sharded(cache, [rows(3), rows(6)[2:]])
    names = thing("x").names
    nested, kept = tree([Entry("a", "shard", good.size, good.id, good.seal, good.files)])
    cache.fill(kept)
    missing = tree([Entry("a", "shard", 1, names.id, names.seal, 1)])
    cache.fill(missing[1])
    store.close()
    store = cache.open()
    with pytest.raises(IntegrityError):
        store.read_tree(overlapping)
    with pytest.raises(IntegrityError, match="shards nest"):
        store.read_tree(nested)
    with pytest.raises(NotFound):
        store.read_tree(missing[0])
    store.close()


def test_a_blob_is_no_tree(cache: Shelf) -> None:
    item = thing("not a tree")
    cache.fill([item])
    store = cache.open()
    with pytest.raises(IntegrityError, match="broken tree"):
        store.read_tree(Content("tree", item.names.id, item.names.seal, 1, 1))
    store.close()


# Loose files of the cache


def test_loose_files_are_read_once_and_then_known(cache: Shelf) -> None:
    item = thing(b"L" * SMALL)
    cache.fill([item])
    path = cache.base / "cache" / object_name(item.names.id)
    for client in ("a", "b"):
        store = cache.client(client).open()
        told: list[int] = []
        assert store.check_loose(item.wanted, told.append) == str(path)
        assert sum(told) == SMALL
        store.close()
    # Same size, same modification time: the change of its ctime gives it away.
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"M" * SMALL)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    for client in ("a", "b"):
        store = cache.client(client).open()
        with pytest.raises(IntegrityError, match="hash mismatch"):
            store.check_loose(item.wanted)
        store.close()


def test_quarantine_keeps_the_bad_bytes(cache: Shelf) -> None:
    item = thing("x" * 100)
    cache.fill([item])
    store = cache.open()
    kept = store.quarantine(item.names.id)
    assert Path(kept).read_bytes() == item.data and "/quarantine/" in kept
    assert store.quarantine(item.names.id) == "" and not store.is_loose(item.names.id)
    store.close()
    assert cache.lacks([item]) == [item]


def test_an_object_that_is_a_link_or_a_directory_is_not_there(cache: Shelf, tmp_path: Path) -> None:
    item, other = thing("one"), thing("two")
    cache.fill([item, other])
    (tmp_path / "secret").write_bytes(item.data)
    path = cache.base / "cache" / object_name(item.names.id)
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    second = cache.base / "cache" / object_name(other.names.id)
    second.unlink()
    second.mkdir()
    assert cache.lacks([item, other]) == [item, other]


# Reading many


def test_batches_read_in_the_order_of_the_store(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PACK_SIZE", 20_000)
    some = [*things(200), thing(b"L" * SMALL)]
    shelf.fill(some)
    store = shelf.open()
    shuffled = [item.wanted for item in some]
    random.Random(8).shuffle(shuffled)
    batches = store.batches([*shuffled, thing("absent").wanted])
    found = [item for batch in batches for item, _ in batch.items]
    assert sorted(found) == sorted(shuffled)
    assert len(batches) < 20
    for batch in batches:
        offsets = [frame.offset for _, frame in batch.items]
        assert offsets == sorted(offsets)
        for item, data in store.read_batch(batch):
            assert bytes(data) == next(other.data for other in some if other.wanted == item)
    store.close()


def test_packs_can_be_read_from_their_tail_alone(remote: Shelf) -> None:
    from dvcx.io.store.store import read_pack_table

    some = things(BATCH)
    remote.fill(some)
    (listed,) = remote.backend.list("packs")
    frames = read_pack_table(remote.backend, listed.name, listed.size, "p")
    assert {frame.id.hex() for frame in frames} == {item.names.id[7:] for item in some}
    for data in (b"", b"x" * 20, b"x" * 200, pack_header(16) + struct.pack("<Q16sQ", 2**60, bytes(16), 3) + packing.PACK_END):
        remote.backend.write("packs/xx/y.pack", data)
        with pytest.raises(IntegrityError):
            read_pack_table(remote.backend, "packs/xx/y.pack", len(data), "p")


def test_a_store_in_a_directory_that_was_copied(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, LocalBackend(str(tmp_path / "one")))
    some = [*things(BATCH), thing(b"L" * SMALL)]
    shelf.fill(some)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    copy = Shelf(tmp_path, LocalBackend(str(tmp_path / "two")))
    assert copy.reads(some)
    more: list[Thing] = things(BATCH, 777)
    copy.fill(more)  # the copy has the same id, and the same client's catalog
    assert copy.reads(some + more)
    assert shelf.lacks(some + more) == more
    assert isinstance(some[0].wanted, Wanted)


class TestWrongReads:
    """What a remote sends wrong once is read once more, with a warning; twice, it is an error."""

    @staticmethod
    def flipped(data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1])

    def shelf(self, tmp_path: Path) -> tuple[Shelf, FaultyBackend]:
        faulty = FaultyBackend(MemoryBackend())
        return Shelf(tmp_path, faulty), faulty

    def test_a_pack(self, tmp_path: Path) -> None:
        shelf, faulty = self.shelf(tmp_path)
        items = things(200)
        shelf.fill(items)
        store = shelf.open()
        (batch,) = store.batches(item.wanted for item in items)
        faulty.fail("read", lambda data: data[: len(data) // 2] + self.flipped(data[len(data) // 2 :]))
        found = {item.id: bytes(data) for item, data in store.read_batch(batch)}
        assert found == {item.names.id: item.data for item in items}
        assert len(shelf.warnings) == 1 and "reading it once more" in shelf.warnings[0]
        faulty.fail("read", self.flipped, self.flipped)
        with pytest.raises(IntegrityError):
            list(store.read_batch(batch))
        assert faulty.left == 0
        store.close()

    def test_a_loose_object(self, tmp_path: Path) -> None:
        shelf, faulty = self.shelf(tmp_path)
        (item,) = things(1)
        shelf.fill([item])
        store = shelf.open()
        faulty.fail("stream", lambda chunks: [self.flipped(b"".join(chunks))])
        store.sync()
        assert store.read(item.wanted) == item.data
        assert len(shelf.warnings) == 1
        faulty.fail("stream", *(lambda chunks: [self.flipped(b"".join(chunks))] for _ in range(2)))
        with pytest.raises(IntegrityError):
            store.read(item.wanted)
        store.close()

    def test_a_large_object(self, tmp_path: Path) -> None:
        shelf, faulty = self.shelf(tmp_path / "remote")
        cache = cache_shelf(tmp_path)
        item = thing(os.urandom(3 << 20))
        shelf.fill([item])
        source, target = shelf.open(), cache.open(write=True)
        source.sync()
        wrong = lambda chunks: [self.flipped(b"".join(chunks))]  # noqa: E731
        with Writer(target, cache.scratch) as writer:
            faulty.fail("stream", wrong)
            writer.receive(item.wanted, source)
            writer.commit()
        assert cache.reads([item])
        assert len(shelf.warnings) == 1
        faulty.fail("stream", wrong, wrong)
        other = cache_shelf(tmp_path / "other")
        store = other.open(write=True)
        with pytest.raises(IntegrityError), Writer(store, other.scratch) as writer:
            writer.receive(item.wanted, source)
        assert [path.name for path in (tmp_path / "other/cache").rglob("*") if path.is_file()] == ["store.json"]
        for opened in (source, target, store):
            opened.close()

    def test_an_index(self, tmp_path: Path) -> None:
        shelf, faulty = self.shelf(tmp_path)
        items = things(200)
        shelf.fill(items)
        faulty.fail("read", self.flipped)
        assert shelf.client("b").lacks(items) == []
        faulty.fail("read", self.flipped, self.flipped)
        with pytest.raises(IntegrityError, match="not the digest"):
            shelf.client("c").lacks(items)

    def test_the_cache_is_not_read_twice(self, tmp_path: Path) -> None:
        shelf = cache_shelf(tmp_path)
        items = things(200)
        shelf.fill(items)
        (pack,) = (tmp_path / "cache/packs").rglob("*.pack")
        pack.chmod(0o644)
        data = bytearray(pack.read_bytes())
        data[100] ^= 1
        pack.write_bytes(data)
        store = shelf.open()
        with pytest.raises(IntegrityError):
            for batch in store.batches(item.wanted for item in items):
                list(store.read_batch(batch))
        assert shelf.warnings == []
        store.close()
