"""Surveys of stores: what is right is in the ledger, what is not is a fault, whatever byte is changed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import pytest

from dvcx.core.objects import Entry, digest_bytes
from dvcx.core.packing import decode_index
from dvcx.events import Began
from dvcx.io.hashing import seal, xxh128
from dvcx.io.store.local import LocalBackend
from dvcx.io.store.quarantine import preserve, quarantine
from dvcx.io.store.store import object_name
from dvcx.io.store.verify import Depth, Ledger, Survey, check_store_json, condemn, is_whole, read_frames, read_table, survey
from dvcx.io.store.writer import Writer
from tests.io.store import recipes
from tests.io.store.shelves import Shelf, Thing, cache_shelf, thing, things, tree


@pytest.fixture(params=["cache", "memory", "directory"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    if request.param == "cache":
        return cache_shelf(tmp_path)
    return Shelf(tmp_path, LocalBackend(str(tmp_path / "remote")) if request.param == "directory" else None)


WHOLE = Depth()


def look(shelf: Shelf, depth: Depth = WHOLE) -> Survey:
    store = shelf.open()
    try:
        return survey(store, depth, jobs=2, emit=lambda event: None)
    finally:
        store.close()


LARGE = thing(random.Random(1).randbytes(3 << 20))
HUGE = thing(random.Random(2).randbytes(11 << 20))


@pytest.fixture
def filled(shelf: Shelf, tmp_path: Path) -> Shelf:
    """120 small objects and a tree in a pack, a large blob, and one that a remote keeps in chunks."""
    _, trees = tree([Entry(f"f{n}", "file", 1, thing(str(n)).names.id, thing(str(n)).names.seal) for n in range(5)])
    shelf.fill(things(120) + trees)
    source = cache_shelf(tmp_path / "source")
    store = source.open(write=True)
    with Writer(store, "") as writer:
        writer.put(LARGE.names, LARGE.data)
        writer.put(HUGE.names, HUGE.data)
        writer.commit()
    target = shelf.open(write=True)
    Path(shelf.scratch).mkdir(exist_ok=True)
    with Writer(target, shelf.scratch, compress=True) as writer:
        for item in (LARGE, HUGE):
            writer.receive(item.wanted, store)
        writer.commit()
    store.close()
    target.close()
    return shelf


def test_all_is_right(filled: Shelf) -> None:
    found = look(filled)
    assert not found.faults and not found.catalog_was_wrong and not found.stale and not found.leftovers
    for item in [*things(120), LARGE, HUGE]:
        assert found.good.get(digest_bytes(item.names.id)) == (bytes.fromhex(item.names.seal), len(item.data))
    assert found.bytes_read >= len(LARGE.data) + len(HUGE.data)
    quick = look(filled, Depth("quick", 0.0))
    assert not quick.faults and quick.objects_read == 0 and set(quick.good) == set(found.good)
    half = look(filled, Depth("sample", 0.5, 7))
    assert not half.faults and set(half.good) == set(found.good)
    assert 0 < half.objects_read == look(filled, Depth("sample", 0.5, 7)).objects_read


def every_file(shelf: Shelf) -> Iterator[str]:
    return iter(name for prefix in ("objects", "packs", "index") for name in shelf.names(prefix))


def test_every_changed_byte_is_a_fault(filled: Shelf) -> None:
    """Flip, cut, grow and delete each file, at several places: none goes unnoticed, and nothing wrong is called good."""
    spots = random.Random(3)
    right = look(filled)
    for name in every_file(filled):
        good = filled.backend.read(name)
        at = spots.randrange(len(good))
        for bad in (good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :], good[:at], good + b"\0", b""):
            filled.backend.write(name, bad)
            found = look(filled)
            assert found.faults, (name, at, len(bad))
            assert any(fault.name == name for fault in found.faults)
            for key in found.good:
                assert found.good.get(key) == right.good.get(key)
        filled.backend.write(name, good)
        assert not look(filled).faults


def test_what_is_missing(filled: Shelf) -> None:
    for name in every_file(filled):
        good = filled.backend.read(name)
        filled.backend.delete(name)
        found = look(filled)
        if name.startswith("packs/"):
            missing = {fault.id for fault in found.faults if fault.problem == "missing"}
            assert b"" in missing and len(missing) > 1 and found.stale
        elif name.startswith("objects/") and not filled.is_cache:
            assert [fault.problem for fault in found.faults] == ["missing"] and found.faults[0].name == name
        elif name.startswith("index/"):
            assert not found.faults and (found.spare_packs or found.spare_loose)
            assert len(found.spare) + len(found.good) == len(look(filled).spare) + len(found.good)
        filled.backend.write(name, good)


def test_a_recipe_without_a_chunk(shelf: Shelf, filled: Shelf) -> None:
    if shelf.is_cache:
        pytest.skip("a cache holds large blobs whole")
    store = shelf.open()
    store.sync()
    victim = next(recipe for recipe in store.catalog.recipes([digest_bytes(HUGE.names.id)])[digest_bytes(HUGE.names.id)])
    first = victim.chunks[:16]
    (pack,) = store.catalog.frames([first])
    store.close()
    frames = read_table(store, pack, shelf.backend.size(f"packs/{pack[:2]}/{pack}.pack") or 0)
    frame = next(frame for frame in frames if frame.id == first)
    name = f"packs/{pack[:2]}/{pack}.pack"
    good = shelf.backend.read(name)
    shelf.backend.write(name, good[: frame.offset + 9] + b"!" + good[frame.offset + 10 :])
    found = look(shelf)
    assert {fault.id for fault in found.faults} == {first, digest_bytes(HUGE.names.id)}
    assert digest_bytes(HUGE.names.id) not in found.good
    store = shelf.open()
    assert not is_whole(store, pack, len(good))
    told = [data is not None for _, data in read_frames(store, pack, frames)]
    assert told.count(False) == 1
    store.close()


PARTS = [thing(f"chunk number {number}" * 5) for number in range(4)]
OTHER = thing("chunk number 9" * 5)  # as long as the others
WHOLE_BLOB = thing(b"".join(part.data for part in PARTS))
OTHER_SEAL = thing("other").names.seal


def remote_with(tmp_path: Path, orders: Sequence[Sequence[Thing]], *, sealed: str = "", split: int = 0) -> Shelf:
    """A remote with chunks in one pack, or from `split` on in another, and recipes of one blob with these chunks."""
    shelf = Shelf(tmp_path)
    shelf.open(write=True).close()
    key, sealed = bytes.fromhex(WHOLE_BLOB.names.id[7:]), sealed or WHOLE_BLOB.names.seal
    told = [(key, bytes.fromhex(sealed), [recipes.chunk(part) for part in order]) for order in orders]
    parts = [*PARTS, OTHER]
    packs, known = [], []
    for some, mine in ((parts[:split], []), (parts[split:], told)):
        if some:
            info, cooked = recipes.write_pack(shelf.backend, tmp_path, some, mine)
            packs.append(info)
            known += cooked
    recipes.write_index(shelf.backend, packs, known)
    return shelf


@pytest.mark.parametrize("depth", [WHOLE, Depth("sample", 1.0, 3)], ids=["full", "sample"])
@pytest.mark.parametrize("split", [0, 2], ids=["one pack", "two packs"])
def test_every_other_order_of_chunks_is_found(tmp_path: Path, split: int, depth: Depth) -> None:
    """Chunks in another order, one left out for another, one twice: only the recipe of the very blob counts."""
    key = digest_bytes(WHOLE_BLOB.names.id)
    for number, order in enumerate(product([*PARTS, OTHER], repeat=4)):
        if number % 7 and sorted(order) != sorted(PARTS):
            continue  # of those with other chunks a part will do
        (tmp_path / str(number)).mkdir()
        found = look(remote_with(tmp_path / str(number), [order], split=split), depth)
        if list(order) == PARTS:
            assert not found.faults and found.good.get(key) == (bytes.fromhex(WHOLE_BLOB.names.seal), len(WHOLE_BLOB.data))
        else:
            assert [(fault.problem, fault.id) for fault in found.faults] == [("corrupt", key)], order
            assert key not in found.good and found.broken.keys() == found.spoiled


@pytest.mark.parametrize("split", [0, 2, 4])
def test_a_recipe_with_another_seal_is_forged(tmp_path: Path, split: int) -> None:
    found = look(remote_with(tmp_path, [PARTS], sealed=OTHER_SEAL, split=split))
    assert [fault.problem for fault in found.faults] == ["forged"] and digest_bytes(WHOLE_BLOB.names.id) not in found.good


def test_the_right_one_of_two_recipes_counts(tmp_path: Path) -> None:
    wrong = PARTS[::-1]
    for number, orders in enumerate(([PARTS, wrong], [wrong, PARTS])):
        (tmp_path / str(number)).mkdir()
        found = look(remote_with(tmp_path / str(number), orders))
        assert [fault.problem for fault in found.faults] == ["corrupt"]
        assert digest_bytes(WHOLE_BLOB.names.id) in found.good


def test_quick_reads_no_blob(tmp_path: Path) -> None:
    assert not look(remote_with(tmp_path, [PARTS[::-1]]), Depth("quick", 0.0)).faults


def test_a_recipe_that_only_the_index_tells(tmp_path: Path) -> None:
    """A reader would follow it."""
    shelf = remote_with(tmp_path, [PARTS])
    (name,) = shelf.names("index")
    content = decode_index(shelf.backend.read(name), 16, xxh128, name)
    (right,) = content.recipes
    rows = [right.chunks[at : at + 20] for at in range(0, len(right.chunks), 20)]
    shelf.backend.delete(name)
    wrong = recipes.write_index(shelf.backend, content.packs, [right, right._replace(chunks=b"".join(rows[::-1]))])
    found = look(shelf)
    assert [(fault.problem, fault.name) for fault in found.faults] == [("broken", wrong)] and found.stale == {wrong}


def test_a_recipe_that_no_index_names(tmp_path: Path) -> None:
    for number, order in enumerate((PARTS, PARTS[::-1])):
        (tmp_path / str(number)).mkdir()
        shelf = remote_with(tmp_path / str(number), [order], split=2)
        for name in shelf.names("index"):
            shelf.backend.delete(name)
        found = look(shelf)
        assert [fault.problem for fault in found.faults] == ["corrupt"][: number]
        assert (digest_bytes(WHOLE_BLOB.names.id) in found.spare) == (number == 0)


@pytest.mark.parametrize(("split", "jobs", "again"), [(0, 2, False), (2, 1, False), (2, 2, True)])
def test_blobs_whose_chunks_come_by_are_read_once(tmp_path: Path, split: int, jobs: int, again: bool) -> None:
    """In one pack, or in packs that one thread reads one after the other."""
    store = remote_with(tmp_path, [PARTS, [*PARTS[:1], *PARTS]], split=split).open()
    events: list[object] = []
    found = survey(store, WHOLE, jobs=jobs, emit=events.append)
    store.close()
    told = [event for event in events if isinstance(event, Began) and "large files" in event.phase]
    size = 2 * len(WHOLE_BLOB.data) + len(PARTS[0].data)
    assert told == ([Began("checking large files of remote 'r'", 2, size)] if again else [])
    assert [fault.problem for fault in found.faults] == ["corrupt"] and digest_bytes(WHOLE_BLOB.names.id) in found.good


def test_misplaced_objects(filled: Shelf) -> None:
    first, second = thing(b"a" * (2 << 20)), thing(b"b" * (2 << 20))
    filled.fill([first, second])
    names = [object_name(item.names.id) for item in (first, second)]
    filled.backend.write(names[0], second.data)
    filled.backend.write(names[1], first.data)
    found = look(filled)
    assert sorted((fault.problem, fault.name) for fault in found.faults) == sorted(("misplaced", name) for name in names)


def test_another_seal_than_the_record_says(filled: Shelf) -> None:
    for item in (LARGE, things(1)[0]):
        store = filled.open()
        found = survey(store, Depth(), jobs=1, emit=lambda event: None)
        key = digest_bytes(item.names.id)
        condemn(store, found, key, bytes(32), "the record says otherwise")
        assert [(fault.problem, fault.id) for fault in found.faults] == [("forged", key)] and key not in found.good
        store.close()


def test_a_catalog_that_is_wrong(filled: Shelf) -> None:
    store = filled.open()
    store.sync()
    keys = [digest_bytes(item.names.id) for item in things(3)]
    store.catalog._write(lambda db: db.executemany("UPDATE objects SET size = size + 1 WHERE id = ?", [(key,) for key in keys]))
    found = survey(store, Depth("quick", 0.0), jobs=1, emit=lambda event: None)
    assert found.catalog_was_wrong and not found.faults
    assert [store.read(item.wanted) for item in things(3)] == [item.data for item in things(3)]
    store.close()
    assert not look(filled).catalog_was_wrong


def test_strange_files(filled: Shelf) -> None:
    filled.backend.write("objects/zz/strange", b"x")
    filled.backend.write("packs/strange", b"x")
    filled.backend.write("partial/ab", b"x")
    found = look(filled)
    assert not found.faults and set(found.leftovers) == {"objects/zz/strange", "partial/ab"}


def test_store_json(filled: Shelf) -> None:
    def problem() -> str:
        fault = check_store_json(filled.backend, "xxh128", "r")
        return fault.problem if fault else ""

    assert problem() == ""
    filled.backend.write("store.json", b"[]")
    assert problem() == "broken"
    filled.backend.delete("store.json")
    assert problem() == "missing"
    assert check_store_json(Shelf(filled.base).backend, "xxh128", "r") is None


def test_quarantine_keeps_every_byte(filled: Shelf, tmp_path: Path) -> None:
    """Moved or kept twice, under names of their own; nothing is overwritten."""
    name = next(every_file(filled))
    data = filled.backend.read(name)
    kept = [preserve(filled.backend, name, str(tmp_path)) for _ in range(2)]
    assert filled.backend.read(name) == data
    kept.append(quarantine(filled.backend, name, str(tmp_path)))
    assert filled.backend.size(name) is None and len(set(kept)) == 3
    for one in kept:
        assert one.startswith("quarantine/" + name.replace("/", "-") + "-") and filled.backend.read(one) == data


def test_large_files_go_to_quarantine_through_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvcx.io.store.quarantine.IN_MEMORY", 10)
    shelf = Shelf(tmp_path)
    shelf.backend.write("objects/ab/cd", b"x" * 5000)
    kept = quarantine(shelf.backend, "objects/ab/cd", str(tmp_path))
    assert shelf.backend.read(kept) == b"x" * 5000 and shelf.backend.size("objects/ab/cd") is None
    assert not list(tmp_path.glob("tmp-*"))


def test_the_ledger() -> None:
    ledger = Ledger()
    key, sealed = seal(b"k")[:16], seal(b"s")
    ledger.add(key, sealed, 1 << 40)
    ledger.add(b"other", b"", 0)
    assert ledger.get(key) == (sealed, 1 << 40) and ledger.get(b"other") == (b"", 0)
    assert ledger.get(b"none") is None and key in ledger and len(ledger) == 2
    ledger.drop(key)
    assert key not in ledger
