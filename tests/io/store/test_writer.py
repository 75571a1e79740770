"""Writing into a store: what becomes loose, what is packed, in which order it gets visible, and what is refused."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.core.objects import Digest
from dvcx.core.packing import BATCH, REMOTE_BATCH, SMALL, ZSTD
from dvcx.errors import DiskRefused, DvcxError, IntegrityError, RemoteFailed
from dvcx.io.hashing import seal
from dvcx.io.store import packfile
from dvcx.io.store import writer as writing
from dvcx.io.store.local import LocalBackend
from dvcx.io.store.memory import MemoryBackend
from dvcx.io.store.packfile import BEHIND, WriteBehind, create, write_all
from dvcx.io.store.store import Wanted, object_name, read_pack_table
from dvcx.io.store.writer import Writer
from tests.faults.forge import forge
from tests.io.store.shelves import Shelf, Thing, cache_shelf, thing, things


@pytest.fixture(params=["cache", "memory", "directory"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    if request.param == "cache":
        return cache_shelf(tmp_path)
    return Shelf(tmp_path, MemoryBackend() if request.param == "memory" else LocalBackend(str(tmp_path / "remote")))


def test_a_small_batch_stands_alone(shelf: Shelf) -> None:
    some = things((BATCH if shelf.is_cache else REMOTE_BATCH) - 1)
    summary = shelf.fill(some)
    size = sum(len(item.data) for item in some)
    assert summary == (len(some), size, size, size)
    assert shelf.names("packs") == []
    assert shelf.names("objects") == sorted(object_name(item.names.id) for item in some)
    assert len(shelf.names("index")) == (0 if shelf.is_cache else 1)
    assert shelf.reads(some)


def test_a_large_batch_is_packed(shelf: Shelf) -> None:
    some = things(BATCH)
    summary = shelf.fill(some)
    assert shelf.names("objects") == []
    (pack,) = shelf.names("packs")
    (index,) = shelf.names("index")
    assert pack == f"packs/{seal(shelf.backend.read(pack)).hex()[:2]}/{seal(shelf.backend.read(pack)).hex()}.pack"
    assert index == f"index/{seal(shelf.backend.read(index)).hex()}.index"
    assert summary.stored == len(shelf.backend.read(pack)) > summary.bytes
    assert shelf.reads(some)


def test_a_large_object_stands_alone_in_any_batch(shelf: Shelf) -> None:
    big, edge = thing(b"b" * SMALL), thing(b"e" * (SMALL - 1))
    some = [big, edge, *things(BATCH)]
    shelf.fill(some)
    assert shelf.names("objects") == [object_name(big.names.id)]
    assert len(shelf.names("packs")) == 1
    assert shelf.reads(some)


def test_packing_can_be_switched_off(shelf: Shelf) -> None:
    some = things(BATCH + 20)
    shelf.fill(some, packing=False)
    assert shelf.names("packs") == [] and len(shelf.names("objects")) == BATCH + 20
    assert shelf.reads(some)


def test_much_data_in_few_objects_is_not_held_in_memory(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "HELD", 1000)
    some = things(50)
    shelf.fill(some)
    assert len(shelf.names("objects")) == 50 and shelf.reads(some)


def test_a_pack_is_closed_when_it_is_full(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PACK_SIZE", 40_000)
    some = things(500)  # about 400 bytes each
    shelf.fill(some)
    sizes = [item.size for item in shelf.backend.list("packs")]
    assert len(sizes) == 5 and len(shelf.names("index")) == 1
    # A pack is full when its frames are: header, one object more and the table come on top.
    assert all(40_000 <= size < 41_000 + 120 * 90 for size in sorted(sizes)[1:])
    assert shelf.reads(some)


def test_an_index_is_split_rather_than_too_large(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PACK_SIZE", 10_000)
    monkeypatch.setattr(writing, "MAX_INDEX", 5_000)
    items = [*things(300), *(thing(bytes([number]) * (2 << 20)) for number in range(3))]
    shelf.fill(items)
    sizes = [item.size for item in shelf.backend.list("index")]
    assert len(sizes) > 4 and max(sizes) <= 5_000
    assert shelf.client("b").reads(items)


def test_putting_twice_is_once(shelf: Shelf) -> None:
    some = things(3)
    store = shelf.open(write=True)
    with Writer(store, shelf.scratch) as writer:
        assert [writer.put(item.names, item.data) for item in [*some, *some]] == [True] * 3 + [False] * 3
        assert writer.commit().objects == 3
    with Writer(store, shelf.scratch) as writer:
        assert not any(writer.put(item.names, item.data) for item in some)
        assert writer.commit() == (0, 0, 0, 0)
    store.close()
    assert len(shelf.names("objects")) == 3


def test_nothing_to_write_writes_nothing(shelf: Shelf) -> None:
    shelf.fill([])
    assert shelf.names("") == ["store.json"]


@pytest.mark.parametrize("count", [5, BATCH + 5])
@pytest.mark.parametrize("how", [ValueError, KeyboardInterrupt])
def test_an_abort_leaves_nothing_visible(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, count: int, how: type[BaseException]
) -> None:
    monkeypatch.setattr(writing, "PACK_SIZE", 10_000)
    some = things(count)
    store = shelf.open(write=True)
    with pytest.raises(how), Writer(store, shelf.scratch) as writer:
        for item in some:
            writer.put(item.names, item.data)
        raise how
    store.close()
    assert shelf.lacks(some) == some
    assert shelf.names("index") == []
    left = [str(path) for path in shelf.base.rglob("tmp-*")]
    assert left == []
    assert shelf.fill(some).objects == count and shelf.reads(some)


class Log:
    """A backend that notes the order in which names appear, and can refuse one."""

    def __init__(self, inner: MemoryBackend, refuse: str = "") -> None:
        self._inner = inner
        self._refuse = refuse
        self.url = inner.url
        self.written: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def _note(self, name: str) -> None:
        if self._refuse and name.startswith(self._refuse):
            raise RemoteFailed(f"{name}: no", "try later")
        self.written.append(name.partition("/")[0])

    def write(self, name: str, data: bytes) -> None:
        self._note(name)
        self._inner.write(name, data)

    def upload(self, name: str, path: str, emit_bytes: Callable[[int], None] = lambda count: None) -> None:
        self._note(name)
        self._inner.upload(name, path, emit_bytes)


def test_the_index_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PACK_SIZE", 20_000)
    log = Log(MemoryBackend())
    shelf = Shelf(tmp_path, log)  # type: ignore[arg-type]
    shelf.fill([*things(300), thing(b"x" * SMALL)])
    assert log.written[0] == "store.json" and log.written[-1] == "index"
    assert log.written.count("index") == 1 and log.written.count("packs") > 3 and log.written.count("objects") == 1


@pytest.mark.parametrize("refuse", ["packs", "objects", "index"])
def test_a_refused_write_leaves_nothing_visible(tmp_path: Path, refuse: str) -> None:
    memory = MemoryBackend()
    Shelf(tmp_path, memory).open(write=True).close()
    some = [*things(BATCH), thing(b"x" * SMALL)]
    with pytest.raises(RemoteFailed, match="no"):
        Shelf(tmp_path, Log(memory, refuse)).fill(some)  # type: ignore[arg-type]
    shelf = Shelf(tmp_path, memory)
    assert shelf.names("index") == [] and shelf.lacks(some) == some
    assert os.listdir(shelf.scratch) == []
    shelf.fill(some)
    assert shelf.reads(some)


def test_local_files_are_read_only_and_whole(tmp_path: Path) -> None:
    shelf = cache_shelf(tmp_path)
    shelf.fill([*things(BATCH), thing(b"x" * SMALL)])
    shelf.fill(things(3, 5000))
    root = tmp_path / "cache"
    modes = {path.relative_to(root).parts[0]: path.stat().st_mode & 0o777 for path in root.rglob("*") if path.is_file()}
    assert modes == {"store.json": 0o644, "objects": 0o444, "packs": 0o444, "index": 0o444}
    assert not list(root.rglob("tmp-*"))


ORIGINAL = thing(random.Random(1).randbytes(3000))
FORGED = thing(forge(ORIGINAL.data))


def test_the_forgery_is_one() -> None:
    assert FORGED.names.id == ORIGINAL.names.id and FORGED.names.seal != ORIGINAL.names.seal and FORGED.data != ORIGINAL.data


@pytest.mark.parametrize("count", [0, BATCH])
def test_the_same_id_with_another_seal_is_refused(shelf: Shelf, count: int) -> None:
    shelf.fill([ORIGINAL, *things(count)])
    for fresh in (shelf, shelf.client("b")):
        store = fresh.open(write=True)
        with pytest.raises(IntegrityError, match="other bytes under this id"), Writer(store, shelf.scratch) as writer:
            writer.put(FORGED.names, FORGED.data)
        with pytest.raises(IntegrityError):
            store.missing([FORGED.wanted])
        with pytest.raises(IntegrityError):
            store.read(FORGED.wanted)
        store.close()
    assert shelf.reads([ORIGINAL])


def test_both_in_one_batch_are_refused(shelf: Shelf) -> None:
    with pytest.raises(IntegrityError, match="other bytes under this id"):
        shelf.fill([ORIGINAL, FORGED])
    assert shelf.lacks([ORIGINAL]) == [ORIGINAL]


def test_a_loose_object_nobody_remembers_is_read_for_its_seal(tmp_path: Path) -> None:
    shelf = cache_shelf(tmp_path)
    shelf.fill([ORIGINAL])
    other = shelf.client("b")  # has never seen it
    with pytest.raises(IntegrityError, match="other bytes under this id"):
        other.fill([FORGED])
    assert other.fill([ORIGINAL]).objects == 0


def test_a_corrupt_loose_object_is_healed_by_adding_it_again(tmp_path: Path) -> None:
    shelf = cache_shelf(tmp_path)
    item = thing("good bytes")
    shelf.fill([item])
    path = tmp_path / "cache" / object_name(item.names.id)
    path.chmod(0o644)
    path.write_bytes(b"bad bytes!")
    for client in ("a", "b"):
        assert len(shelf.client(client).lacks([item])) == 0  # it is there, but:
        with pytest.raises(IntegrityError):
            shelf.client(client).reads([item])
    assert shelf.fill([item]).objects == 1
    assert shelf.reads([item])
    (kept,) = (tmp_path / "cache/quarantine").iterdir()
    assert kept.read_bytes() == b"bad bytes!"


def test_several_threads_may_put(shelf: Shelf) -> None:
    some = things(400)
    store = shelf.open(write=True)
    errors: list[BaseException] = []

    def put(mine: list[Thing]) -> None:
        try:
            for item in mine:
                writer.put(item.names, item.data)
        except BaseException as error:
            errors.append(error)

    with Writer(store, shelf.scratch) as writer:
        threads = [threading.Thread(target=put, args=(some[start : start + 250],)) for start in (0, 50, 150)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == [] and writer.commit().objects == 400
    store.close()
    assert shelf.reads(some)


def test_two_stores_write_at_once(shelf: Shelf) -> None:
    common, mine, theirs = things(150), things(50, 1000), things(50, 2000)
    a, b = shelf.open(write=True), shelf.client("b").open(write=True)
    with Writer(a, shelf.scratch) as first, Writer(b, shelf.scratch + "-b") as second:
        for writer, items in ((first, common + mine), (second, theirs + common)):
            for item in items:
                writer.put(item.names, item.data)
        first.commit()
        second.commit()
    a.close()
    b.close()
    for client in ("a", "b", "c"):
        assert shelf.client(client).reads(common + mine + theirs)


@pytest.mark.parametrize("loser_first", [True, False])
def test_a_failed_commit_does_not_take_away_what_another_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loser_first: bool
) -> None:
    """Both write the same packs; one cannot write its index and gives up, the other names them."""
    monkeypatch.setattr(writing, "PACK_SIZE", 10_000)
    shelf = cache_shelf(tmp_path)
    some = things(200)
    a, b = shelf.open(write=True), shelf.client("b").open(write=True)
    blocked = tmp_path / "cache/index"
    blocked.write_text("in the way")
    with Writer(a, "") as loser, Writer(b, "") as winner:
        for writer in (loser, winner) if loser_first else (winner, loser):
            for item in some:
                writer.put(item.names, item.data)
            for closing in writer._closing:
                closing.result()
        with pytest.raises(DvcxError):
            loser.commit()
        blocked.unlink()
        winner.commit()
    a.close()
    b.close()
    assert shelf.reads(some) and shelf.client("c").reads(some)


def test_packs_are_compressed_where_it_pays(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    noise = [thing(random.Random(number).randbytes(2000)) for number in range(BATCH)]
    text = things(BATCH)
    short = [thing(f"s{number}") for number in range(BATCH)]
    summary = shelf.fill([*noise, *text, *short], compress=True)
    assert summary.stored < summary.bytes
    (listed,) = shelf.backend.list("packs")
    frames = {frame.id.hex(): frame for frame in read_pack_table(shelf.backend, listed.name, listed.size, "p")}
    for items, zipped in ((noise, False), (text, True), (short, False)):
        for item in items:
            frame = frames[item.names.id[7:]]
            assert (frame.encoding == ZSTD) == zipped and frame.size == len(item.data)
            assert (frame.stored * 10 <= frame.size * 9) == zipped
    assert shelf.reads(noise + text + short)


def test_another_hash(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    some = [thing(f"{number}", "blake3") for number in range(BATCH)]
    store = shelf.open(write=True, algorithm="blake3")
    with Writer(store, shelf.scratch) as writer:
        for item in some:
            writer.put(item.names, item.data)
        writer.commit()
    assert [store.read(item.wanted) for item in some] == [item.data for item in some]
    store.close()
    with pytest.raises(IntegrityError, match="names objects by blake3"):
        shelf.open()


# Large files


def ingested(shelf: Shelf, path: Path) -> Digest:
    store = shelf.open(write=True)
    fd = os.open(path, os.O_RDONLY)
    try:
        with Writer(store, "") as writer:
            names, size = writer.ingest(fd, path.name)
            assert size == path.stat().st_size
            writer.commit()
    finally:
        os.close(fd)
        store.close()
    return names


def test_a_large_file_is_taken_in(tmp_path: Path) -> None:
    shelf = cache_shelf(tmp_path)
    big = thing(random.Random(2).randbytes(5 << 20))
    (tmp_path / "f").write_bytes(big.data)
    assert ingested(shelf, tmp_path / "f") == big.names == ingested(shelf, tmp_path / "f")
    assert shelf.reads([big]) and shelf.names("objects") == [object_name(big.names.id)]
    assert (tmp_path / "cache" / object_name(big.names.id)).stat().st_mode & 0o777 == 0o444
    assert (tmp_path / "f").stat().st_mode & 0o200


def test_a_large_file_that_keeps_changing_is_refused(tmp_path: Path) -> None:
    shelf = cache_shelf(tmp_path)
    path = tmp_path / "f"
    path.write_bytes(b"x" * (3 << 20))

    def append(count: int) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    store = shelf.open(write=True)
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(DiskRefused, match="it changed while it was read"), Writer(store, "", advanced=append) as writer:
            writer.ingest(fd, "f")
    finally:
        os.close(fd)
        store.close()
    assert shelf.names("objects") == [] and not list((tmp_path / "cache").rglob("tmp-*"))


@pytest.mark.parametrize("to_cache", [True, False])
def test_a_large_object_is_received_verified(tmp_path: Path, to_cache: bool) -> None:
    big = thing(random.Random(3).randbytes(9 << 20))
    source, target = Shelf(tmp_path / "s"), cache_shelf(tmp_path / "t")
    if not to_cache:
        source, target = target, source
    source.fill([big])

    def receive(item: Wanted) -> None:
        a, b = source.open(), target.open(write=True)
        try:
            with Writer(b, target.scratch) as writer:
                writer.receive(item, a)
                writer.commit()
        finally:
            a.close()
            b.close()

    with pytest.raises(IntegrityError):
        receive(big.wanted._replace(seal="0" * 64))
    name = object_name(big.names.id)
    damaged = bytearray(big.data)
    damaged[7_000_000] ^= 1
    for bad in (bytes(damaged), big.data[:-1], big.data + b"x"):
        if to_cache:
            source.backend.write(name, bad)
        else:
            path = tmp_path / "t/cache" / name
            path.chmod(0o644)
            path.write_bytes(bad)
        with pytest.raises(DvcxError):
            receive(big.wanted)
        assert target.lacks([big]) == [big] and not list(tmp_path.rglob("tmp-*"))
    source.backend.write(name, big.data)
    receive(big.wanted)
    assert target.reads([big])


class Slow(MemoryBackend):
    """A remote that takes its time; counts the packs on their way to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.guard = threading.Lock()

    def upload(self, name: str, path: str, emit_bytes: Callable[[int], None] = lambda count: None) -> None:
        with self.guard:
            self.now += 1
            self.most = max(self.most, self.now)
        threading.Event().wait(0.02)
        super().upload(name, path, emit_bytes)
        with self.guard:
            self.now -= 1


def test_a_slow_remote_does_not_fill_the_disk_with_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PACK_SIZE", 2000)
    backend = Slow()
    made = things(600)
    summary = Shelf(tmp_path, backend).fill(made)
    assert summary.objects == 600 and 1 < backend.most <= writing.IN_FLIGHT
    assert Shelf(tmp_path, backend).client("b").lacks(made) == []


def test_an_object_that_changes_on_its_way_out_is_not_named(tmp_path: Path) -> None:
    large = thing(b"large" * SMALL)
    cache = cache_shelf(tmp_path / "cache")
    cache.fill([large])
    source = cache.open()

    class Editing(MemoryBackend):
        def upload(self, name: str, path: str, emit_bytes: Callable[[int], None] = lambda count: None) -> None:
            os.chmod(path, 0o644)
            with open(path, "r+b") as file:
                file.write(b"other")
            os.utime(path)
            super().upload(name, path, emit_bytes)

    remote = Shelf(tmp_path / "remote", Editing())
    store = remote.open(write=True)
    with pytest.raises(DiskRefused, match="changed"), Writer(store, remote.scratch) as writer:
        writer.receive(large.wanted, source)
        writer.commit()
    assert remote.client("b").lacks([large]) == [large]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux is asked")
def test_a_large_file_is_brought_to_the_disk_while_it_is_written(tmp_path: Path) -> None:
    fd = create(str(tmp_path / "large"))
    behind = WriteBehind(fd, sync=True)
    ask = packfile._sync_file_range()
    asked = []

    def heard(*call: int) -> int:
        asked.append((*call, ask(*call)))
        return 0

    behind._range = heard
    for _ in range(5):
        write_all(fd, bytes(BEHIND // 2))
        behind.wrote(BEHIND // 2)
    os.close(fd)
    assert asked == [(fd, 0, BEHIND, 2, 0), (fd, BEHIND, BEHIND, 2, 0)]


def test_writing_behind_is_only_a_hint_and_raises_nothing(tmp_path: Path) -> None:
    fd = create(str(tmp_path / "closed"))
    os.close(fd)
    WriteBehind(fd, sync=True).wrote(BEHIND)
    WriteBehind(fd, sync=False).wrote(BEHIND)
