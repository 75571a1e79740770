"""Large blobs on a remote: cut, sent once, put together again; interrupted, damaged, and found in older versions."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from dvcx.core import chunking as core
from dvcx.core.chunking import Chunk, encode_recipe, unpacked
from dvcx.core.objects import digest_bytes
from dvcx.core.packing import KIND_CHUNK, KIND_RECIPE, RAW
from dvcx.errors import DiskRefused, IntegrityError, NotFound, RemoteFailed
from dvcx.io.hashing import xxh128
from dvcx.io.store import chunking
from dvcx.io.store import writer as writing
from dvcx.io.store.backend import Listed
from dvcx.io.store.local import LocalBackend
from dvcx.io.store.memory import MemoryBackend
from dvcx.io.store.packfile import OpenPack
from dvcx.io.store.store import Store, object_name, pack_name, read_pack_table
from dvcx.io.store.writer import Summary, Writer, fresh_bytes
from tests.io.store.shelves import Shelf, Thing, cache_shelf, thing, things

MIB = 1 << 20


def big(seed: int, mib: int = 20) -> bytes:
    source = random.Random(seed)
    # Python 3.11 makes at most 256 MiB at once.
    return b"".join([*(source.randbytes(64 * MIB) for _ in range(mib // 64)), source.randbytes(mib % 64 * MIB + 12345)])


def edited(data: bytes, at: int = 7 * MIB) -> bytes:
    """The same with 80 bytes more in the middle."""
    return data[:at] + b"x" * 80 + data[at:]


class Counting:
    """Another backend that counts what goes in and comes out, and breaks when it is told to."""

    def __init__(self, inner: MemoryBackend | LocalBackend) -> None:
        self.inner = inner
        self.url = inner.url
        self.sent: list[str] = []
        self.sent_bytes = self.read_bytes = self.reads = 0
        self.break_upload: Callable[[int], bool] = lambda number: False
        self.break_read: Callable[[int], bool] = lambda number: False

    def upload(self, name: str, path: str, emit_bytes: Callable[[int], None] = lambda count: None) -> None:
        if self.break_upload(len(self.sent)):
            raise RemoteFailed(f"{name}: the network is gone", "mend it")
        self.inner.upload(name, path, emit_bytes)
        self.sent.append(name)
        self.sent_bytes += os.stat(path).st_size

    def write(self, name: str, data: bytes) -> None:
        if self.break_upload(len(self.sent)):
            raise RemoteFailed(f"{name}: the network is gone", "mend it")
        self.inner.write(name, data)
        self.sent.append(name)
        self.sent_bytes += len(data)

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        if name.startswith("packs/"):
            self.reads += 1
            if self.break_read(self.reads):
                raise RemoteFailed(f"{name}: the network is gone", "mend it")
        data = self.inner.read(name, start, length)
        self.read_bytes += len(data)
        return data

    def stream(self, name: str, limit: int) -> Iterator[bytes]:
        return self.inner.stream(name, limit)

    def list(self, prefix: str) -> Iterator[Listed]:
        return self.inner.list(prefix)

    def size(self, name: str) -> int | None:
        return self.inner.size(name)

    def delete(self, name: str) -> None:
        self.inner.delete(name)

    def close(self) -> None:
        self.inner.close()


class Bench:
    """A cache that holds some blobs, and a remote to send them to."""

    def __init__(self, base: Path, remote: Shelf, algorithm: str = "xxh128") -> None:
        self.base = base
        self.remote = remote
        self.algorithm = algorithm
        self.cache = cache_shelf(base / "here")
        self.journal = str(base / "journal")

    def thing(self, data: bytes) -> Thing:
        return thing(data, self.algorithm)

    def keep(self, *items: Thing) -> None:
        """Put blobs into the cache as loose objects, as `add` does."""
        store = self.cache.open(write=True, algorithm=self.algorithm)
        with Writer(store, "") as writer:
            for item in items:
                path = self.base / "file"
                path.write_bytes(item.data)
                fd = os.open(path, os.O_RDONLY)
                writer.ingest(fd, "file")
                os.close(fd)
            writer.commit()
        store.close()

    def send(self, *items: Thing, client: str = "a", **options: bool) -> Summary:
        cache, store = self.cache.open(algorithm=self.algorithm), self.open(client, write=True)
        try:
            with Writer(store, self.remote.scratch, journal=self.journal, **options) as writer:  # type: ignore[arg-type]
                for item in items:
                    writer.receive(item.wanted, cache)
                return writer.commit()
        finally:
            store.close()
            cache.close()

    def open(self, client: str = "a", *, write: bool = False) -> Store:
        return self.remote.client(client).open(write=write, algorithm=self.algorithm)

    def there(self, name: str = "there") -> Shelf:
        """Another cache."""
        (self.base / name).mkdir(exist_ok=True)
        return cache_shelf(self.base / name)

    def fetch(self, *items: Thing, into: Shelf | None = None, client: str = "b") -> Shelf:
        """Bring blobs from the remote into another cache."""
        into = into or self.there()
        store, cache = self.open(client), into.open(write=True, algorithm=self.algorithm)
        try:
            with Writer(cache, "") as writer:
                writer.nearby([item.wanted for item in items], store)
                for item in items:
                    writer.receive(item.wanted, store)
                writer.commit()
        finally:
            store.close()
            cache.close()
        return into


@pytest.fixture(params=["memory", "directory"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    backend = MemoryBackend() if request.param == "memory" else LocalBackend(str(tmp_path / "remote"))
    return Bench(tmp_path, Shelf(tmp_path / "r", backend))


@pytest.fixture
def counted(tmp_path: Path) -> tuple[Bench, Counting]:
    """A remote over a real directory that counts, reached like one over a network."""
    backend = Counting(LocalBackend(str(tmp_path / "remote")))
    return Bench(tmp_path, Shelf(tmp_path / "r", backend)), backend  # type: ignore[arg-type]


# Cutting


def cut(data: bytes, sizes: Iterator[int]) -> list[int]:
    left = memoryview(data)

    def fill(view: memoryview) -> int:
        nonlocal left
        count = min(next(sizes), len(view), len(left))
        view[:count] = left[:count]
        left = left[count:]
        return count

    return [len(chunk) for window in chunking.windows(fill) for chunk in window]


def always(size: int) -> Iterator[int]:
    while True:
        yield size


def test_cuts_do_not_depend_on_how_bytes_come(monkeypatch: pytest.MonkeyPatch) -> None:
    data = big(1, 30)
    whole = cut(data, always(64 * MIB))
    assert whole == cut(data, always(999_983)) and sum(whole) == len(data)
    assert all(core.MIN_CHUNK <= size <= core.MAX_CHUNK for size in whole[:-1]) and len(whole) > 15
    monkeypatch.setattr(chunking, "WINDOW", 1 * MIB)
    assert whole == cut(data, always(64 * MIB))
    assert cut(b"", always(1)) == [] and cut(b"1", always(1)) == [1]
    zeros = cut(bytes(9 * MIB), always(64 * MIB))
    assert zeros == [4 * MIB, 4 * MIB, 1 * MIB]


def test_the_cuts_are_those_that_were_made_before() -> None:
    """They may not change: a file sent by another dvcx would be new from end to end."""
    assert cut(random.Random(7).randbytes(6 * MIB), always(64 * MIB)) == [848218, 2257769, 1182347, 1903461, 99661]


def test_reading_ahead_is_bounded_ordered_and_ends() -> None:
    under_way: list[int] = []
    most = 0

    def items() -> Iterator[int]:
        nonlocal most
        for number in range(50):
            under_way.append(number)
            most = max(most, len(under_way))
            yield number

    taken = []
    for result in chunking.ahead(lambda number: number * 2, items(), depth=3):
        taken.append(result)
        under_way.pop(0)
    assert taken == [number * 2 for number in range(50)] and most <= 4

    def fail(number: int) -> int:
        if number == 3:
            raise IntegrityError("no", "")
        return number

    read = chunking.ahead(fail, range(100))
    assert [next(read) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(IntegrityError):
        next(read)


# There and back


@pytest.mark.parametrize("algorithm", ["xxh128", "blake3"])
def test_a_large_blob_goes_as_chunks_and_comes_back(bench: Bench, algorithm: str) -> None:
    bench.algorithm = algorithm
    item, small = bench.thing(big(1)), bench.thing(b"s" * (8 * MIB))
    bench.keep(item, small)
    summary = bench.send(item, small)
    assert summary.objects == 2 and summary.bytes == summary.new == len(item.data) + 8 * MIB
    assert bench.remote.names("objects") == [object_name(small.names.id)]  # 8 MiB is not above 8 MiB
    store = bench.open("b")
    (name,) = bench.remote.names("packs")
    frames = read_pack_table(bench.remote.backend, name, bench.remote.backend.size(name) or 0, "p")
    assert [frame.kind for frame in frames] == [KIND_CHUNK] * (len(frames) - 1) + [KIND_RECIPE]
    assert bytes.fromhex(item.names.id[7:]) == frames[-1].id and bytes.fromhex(item.names.seal) == frames[-1].seal
    assert store.have([item.names.id]) == {item.names.id: bytes.fromhex(item.names.seal)}
    assert store.missing([item.wanted]) == [] and store.is_recipe(item.wanted) and not store.is_recipe(small.wanted)
    assert b"".join(store.stream(item.wanted)) == store.read(item.wanted) == item.data
    store.close()
    there = bench.fetch(item)
    assert there.names("objects") == [object_name(item.names.id)] and there.names("packs") == []
    with_it = there.open(algorithm=algorithm)
    assert with_it.read(item.wanted) == item.data
    with_it.close()
    assert not list(Path(there.backend.url).glob("partial/*"))


def test_chunks_may_repeat(bench: Bench) -> None:
    item = thing(bytes(40 * MIB) + big(1, 9) + bytes(30 * MIB))
    bench.keep(item)
    summary = bench.send(item, compress=True)
    assert summary.new < 20 * MIB and summary.stored < 11 * MIB
    assert bench.fetch(item).reads([item])


@pytest.mark.parametrize("at", [0, 7 * MIB, 63 * MIB])
def test_an_insert_sends_little(bench: Bench, at: int) -> None:
    old = thing(big(1, 64))
    new = thing(edited(old.data, at))
    bench.keep(old, new)
    bench.send(old)
    cache, store = bench.cache.open(), bench.open()
    planned = fresh_bytes(new.wanted, cache, store, set())
    store.close()
    cache.close()
    again = bench.send(new)
    assert again.objects == 1 and again.bytes == len(new.data) and again.new == planned
    assert 80 <= again.new < len(new.data) // 10 and again.stored < again.new + 20_000
    assert bench.fetch(old, new).reads([old, new])
    assert bench.send(old, new).new == 0


@pytest.mark.nightly
def test_an_insert_into_much_sends_a_hundredth(bench: Bench) -> None:
    old = thing(big(1, 512))
    new = thing(edited(old.data, 200 * MIB))
    bench.keep(old, new)
    bench.send(old)
    assert bench.send(new).stored <= len(new.data) // 100
    assert bench.fetch(new).reads([new])


def test_only_what_gets_smaller_is_compressed(bench: Bench) -> None:
    rows = "".join(f"{number},{number * 7919 % 10007},name-{number % 97}\n" for number in range(500_000)).encode()
    text, noise = thing(rows), thing(big(3, 9))
    assert len(rows) > 8 * MIB
    bench.keep(text, noise)
    first = bench.send(text, compress=True)
    whole = len(zstandard.ZstdCompressor(level=3).compress(rows))
    assert first.stored < whole * 1.05 and first.new == len(rows)
    second = bench.send(noise, compress=True)
    assert second.stored > len(noise.data)
    assert bench.fetch(text, noise).reads([text, noise])


def test_a_blob_that_stands_alone_stays_readable(bench: Bench) -> None:
    """As it may have been sent by something else than this dvcx."""
    item = thing(big(1, 9))
    store = bench.open(write=True)
    with Writer(store, bench.remote.scratch) as writer:
        writer.put(item.names, item.data)
        writer.commit()
    assert bench.remote.names("objects") and b"".join(store.stream(item.wanted)) == item.data
    store.close()
    assert bench.fetch(item).reads([item])


# What is wrong


def spoil(bench: Bench, chunk: int = 3) -> str:
    """Flip a byte of a chunk of the only pack; its name."""
    (name,) = bench.remote.names("packs")
    backend = bench.remote.backend
    frames = read_pack_table(backend, name, backend.size(name) or 0, "p")
    data = bytearray(backend.read(name))
    data[frames[chunk].offset + 5] ^= 1
    backend.write(name, bytes(data))
    return name


def test_a_corrupt_chunk_is_told_and_nothing_of_it_is_kept(bench: Bench) -> None:
    item = thing(big(1))
    bench.keep(item)
    bench.send(item)
    name = spoil(bench)
    with pytest.raises(IntegrityError, match=f"{name}.*hash mismatch"):
        bench.fetch(item)
    assert bench.there().lacks([item]) == [item]
    store = bench.open("b")
    with pytest.raises(IntegrityError):
        b"".join(store.stream(item.wanted))
    store.close()


@pytest.mark.parametrize("keep", [0, 1])
def test_a_lost_pack_is_noticed_and_sent_again(bench: Bench, monkeypatch: pytest.MonkeyPatch, keep: int) -> None:
    monkeypatch.setattr(writing, "PACK_SIZE", 12 * MIB)
    item = thing(big(1))
    bench.keep(item)
    bench.send(item)
    packs = bench.remote.names("packs")
    assert len(packs) == 2
    gone = packs.pop(keep)
    bench.remote.backend.delete(gone)
    store = bench.open()
    assert store.missing([item.wanted]) == [item.wanted] and store.have([item.names.id]) == {}
    lost = store.lost_chunks(item.wanted)
    if lost:  # else the recipe itself was in it
        with pytest.raises(NotFound, match=f"lacks {len(lost)} of its chunks"):
            b"".join(store.stream(item.wanted))
    store.close()
    again = bench.send(item)
    assert again.objects == 1 and 0 < again.new < len(item.data)
    store = bench.open("c")
    assert store.missing([item.wanted]) == [] and store.lost_chunks(item.wanted) == []
    store.close()
    assert bench.fetch(item).reads([item])


def test_a_corrupt_file_is_not_sent(bench: Bench) -> None:
    item = thing(big(1))
    bench.keep(item)
    path = Path(bench.cache.backend.url, object_name(item.names.id))
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(bytes([item.data[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=f"the cache: {object_name(item.names.id)}: hash mismatch"):
        bench.send(item)
    assert bench.remote.names("index") == []
    assert bench.open("b").missing([item.wanted]) == [item.wanted]
    path.write_bytes(item.data)
    assert bench.send(item).objects == 1 and bench.fetch(item).reads([item])


@pytest.mark.parametrize("mib", [3, 20])
def test_what_was_not_sent_is_not_taken_for_sent(bench: Bench, mib: int) -> None:
    """The cache's copy is wrong, then right again: the same writer sends it at the second try."""
    item = thing(big(1, mib))
    bench.keep(item)
    path = Path(bench.cache.backend.url, object_name(item.names.id))
    path.chmod(0o644)
    path.write_bytes(item.data[:-1] + b"?")
    cache, store = bench.cache.open(), bench.open(write=True)
    with Writer(store, bench.remote.scratch) as writer:
        for _ in range(2):
            with pytest.raises(IntegrityError, match="hash mismatch"):
                writer.receive(item.wanted, cache)
        path.write_bytes(item.data)
        writer.receive(item.wanted, cache)
        assert writer.commit().objects == 1
    store.close()
    cache.close()
    assert bench.fetch(item).reads([item])


@pytest.mark.parametrize("method", ["_append_frame", "_encoded"])
def test_chunks_that_reached_no_pack_are_sent_by_the_next_try(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    item = thing(big(1))
    bench.keep(item)
    cache, store = bench.cache.open(), bench.open(write=True)
    with Writer(store, bench.remote.scratch) as writer:
        real, calls = getattr(writer, method), iter(range(1000))

        def once(*args: object) -> object:
            if next(calls) == 3:
                raise DiskRefused("full", "")
            return real(*args)

        monkeypatch.setattr(writer, method, once)
        with pytest.raises(DiskRefused):
            writer.receive(item.wanted, cache)
        writer.receive(item.wanted, cache)
        assert writer.commit().objects == 1
    store.close()
    cache.close()
    assert bench.fetch(item).reads([item])


def test_another_seal_under_one_id_is_refused(bench: Bench) -> None:
    """A recipe on the remote whose blob has this id and another seal: "up to date" would be a lie."""
    item = thing(big(1))
    bench.keep(item)
    bench.send(item)
    forged = item.wanted._replace(seal="0" * 64)
    store = bench.open()
    with pytest.raises(IntegrityError, match="other bytes under this id"):
        store.missing([forged])
    with pytest.raises(IntegrityError, match="other bytes under this id"):
        b"".join(store.stream(forged))
    with pytest.raises(IntegrityError, match="bytes instead of 2"):
        b"".join(store.stream(item.wanted._replace(size=2)))
    store.close()
    (name,) = bench.remote.names("packs")
    cache, store = bench.cache.open(), bench.open()
    with pytest.raises(IntegrityError, match="other bytes under this id"), Writer(store, bench.remote.scratch) as writer:
        writer.receive(forged, cache)
    assert bench.remote.names("packs") == [name]


# Interrupted


def test_a_push_goes_on_where_it_stopped(counted: tuple[Bench, Counting], monkeypatch: pytest.MonkeyPatch) -> None:
    bench, backend = counted
    monkeypatch.setattr(writing, "PACK_SIZE", 6 * MIB)
    item = thing(big(1, 40))
    bench.keep(item)
    backend.break_upload = lambda number: number >= 5
    with pytest.raises(RemoteFailed):
        bench.send(item)
    sent = list(backend.sent)
    assert sum(name.startswith("packs/") for name in sent) >= 3 and bench.remote.names("index") == []
    assert bench.open("b").missing([item.wanted]) == [item.wanted]
    backend.sent.clear()
    backend.sent_bytes = 0
    backend.break_upload = lambda number: False
    again = bench.send(item, client="another computer")
    assert again.objects == 1 and again.bytes == len(item.data) and again.new < len(item.data) - 15 * MIB
    assert not set(sent) & set(backend.sent) and backend.sent_bytes < len(item.data) - 15 * MIB
    assert bench.fetch(item).reads([item])


def test_a_push_becomes_visible_in_steps(counted: tuple[Bench, Counting], monkeypatch: pytest.MonkeyPatch) -> None:
    bench, backend = counted
    monkeypatch.setattr(writing, "PACK_SIZE", 4 * MIB)
    monkeypatch.setattr(writing, "REMOTE_STEP", 10 * MIB)
    first, second = thing(big(1, 20)), thing(big(2, 40))
    bench.keep(first, second)
    backend.break_upload = lambda number: number >= 14
    with pytest.raises(RemoteFailed):
        bench.send(first, second)
    assert bench.remote.names("index")
    store = bench.open("b")
    assert store.missing([first.wanted, second.wanted]) == [second.wanted]
    assert store.read(first.wanted) == first.data
    store.close()
    backend.break_upload = lambda number: False
    assert bench.send(first, second).new < len(second.data)
    assert bench.fetch(first, second).reads([first, second])


def test_small_things_an_interrupted_push_sent_are_not_sent_again(
    counted: tuple[Bench, Counting], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, backend = counted
    monkeypatch.setattr(writing, "PACK_SIZE", 10_000)
    some, loose = things(200), [thing(random.Random(seed).randbytes(2 * MIB)) for seed in range(6)]
    bench.keep(*loose)

    def push() -> Summary:
        cache, store = bench.cache.open(), bench.open(write=True)
        try:
            with Writer(store, bench.remote.scratch, journal=bench.journal) as writer:
                for item in some:
                    writer.put(item.names, item.data)
                for item in loose:
                    writer.receive(item.wanted, cache)
                return writer.commit()
        finally:
            store.close()
            cache.close()

    monkeypatch.setattr(backend, "break_upload", lambda number: sum("objects/" in name for name in backend.sent) >= 4)
    with pytest.raises(RemoteFailed):
        push()
    sent = list(backend.sent)
    assert len(Path(bench.journal).read_text().splitlines()) == 4 and bench.remote.names("index") == []
    # One of them is damaged meanwhile, another is gone: neither is trusted.
    names = [name for name in sent if name.startswith("objects/")]
    backend.inner.delete(names[0])
    backend.inner.write(names[1], b"short")
    backend.sent.clear()
    monkeypatch.setattr(backend, "break_upload", lambda number: False)
    done = push()
    assert done.objects == 206 and done.bytes == sum(len(item.data) for item in [*some, *loose])
    assert not set(backend.sent) & set(sent) - set(names[:2]) and set(names[:2]) < set(backend.sent)
    assert not Path(bench.journal).exists()
    assert bench.remote.client("b").reads([*some, *loose])


def test_a_pack_that_cannot_be_trusted_is_not_named(counted: tuple[Bench, Counting], monkeypatch: pytest.MonkeyPatch) -> None:
    """Truncated, older than a collector's patience, or of other bytes under the same ids."""
    bench, backend = counted
    item = thing(big(1))
    bench.keep(item)
    bench.send(item)
    (name,), (index,) = bench.remote.names("packs"), bench.remote.names("index")
    data = backend.read(name)
    backend.delete(index)
    path = Path(backend.url, name)

    def again() -> int:
        summary = bench.send(item, client="another")
        for found in bench.remote.names("index"):
            backend.delete(found)
        return summary.new

    assert again() == 0
    os.utime(path, (0, 0))
    assert again() == len(item.data)
    for broken in (data[:-1], data[1:], data[:5000], b""):
        backend.write(name, broken)
        assert again() == len(item.data)
        for found in bench.remote.names("packs"):
            backend.delete(found)


@pytest.mark.parametrize("wrong", ["seal", "chunks", "lacking"])
def test_a_found_recipe_is_not_trusted(counted: tuple[Bench, Counting], wrong: str) -> None:
    """A pack that no index names holds our chunks, and a recipe of our blob that says something else."""
    bench, backend = counted
    item = thing(big(1))
    bench.keep(item)
    bench.send(item)
    (name,), (index,) = bench.remote.names("packs"), bench.remote.names("index")
    store = bench.open()
    content = store.read_index(index, store.backend.size(index) or 0)
    store.close()
    data = backend.read(name)
    for found in (name, index):
        backend.delete(found)
    length = 16
    (right,) = content.recipes
    chunks = unpacked(right.chunks, length)
    sealed = bytes(32) if wrong == "seal" else right.seal
    listed = {"seal": chunks, "chunks": chunks[::-1], "lacking": [(bytes(16), chunks[0][1]), *chunks[1:]]}[wrong]
    (bench.base / "forging").mkdir()
    pack = OpenPack(str(bench.base / "forging/pack"), length)
    seals = {}
    for frame in sorted(content.packs[0].frames, key=lambda frame: frame.offset):
        seals[frame.id] = frame.seal
        if frame.kind != KIND_RECIPE:
            stored = data[frame.offset : frame.offset + frame.stored]
            pack.append(frame.id, frame.seal, frame.kind, frame.encoding, stored, frame.size)
    recipe = encode_recipe(right.size, [Chunk(key, seals.get(key, bytes(32)), size) for key, size in listed], length, xxh128)
    pack.append(right.id, sealed, KIND_RECIPE, RAW, recipe, len(recipe))
    forged = pack_name(pack.finish(sync=False).name.hex())
    backend.write(forged, (bench.base / "forging/pack").read_bytes())
    bench.send(item, client="another")
    store = bench.open("b")
    store.sync()
    assert store.catalog.recipes([right.id])[right.id] == [right]
    store.close()
    assert bench.fetch(item).reads([item])


def test_a_fetch_goes_on_where_it_stopped(counted: tuple[Bench, Counting], monkeypatch: pytest.MonkeyPatch) -> None:
    bench, backend = counted
    monkeypatch.setattr(writing, "PARTIAL_ABOVE", 8 * MIB)
    item = thing(big(1, 100))
    bench.keep(item)
    bench.send(item)
    backend.break_read = lambda number: number > 9
    with pytest.raises(RemoteFailed):
        bench.fetch(item)
    there = bench.there()
    partial = Path(there.backend.url, "partial", item.names.id[7:])
    assert partial.stat().st_size > 20 * MIB and there.lacks([item]) == [item]
    # A byte of it rots: only that chunk is fetched again.
    with partial.open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"rotten")
    before = partial.stat().st_size
    backend.break_read = lambda number: False
    backend.read_bytes = 0
    bench.fetch(item, into=there)
    assert backend.read_bytes < len(item.data) - before + 6 * MIB and not partial.exists()
    assert there.reads([item])


def test_two_that_fetch_the_same_do_not_disturb_one_another(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PARTIAL_ABOVE", 8 * MIB)
    item = thing(big(1))
    bench.keep(item)
    bench.send(item)
    there = bench.there()
    partial = Path(there.backend.url, "partial", item.names.id[7:])
    partial.parent.mkdir(parents=True)
    with partial.open("wb") as other:
        fcntl.flock(other.fileno(), fcntl.LOCK_EX)
        bench.fetch(item, into=there)
        assert there.reads([item]) and partial.read_bytes() == b""
    os.utime(partial, (0, 0))
    bench.fetch(thing(item.data), into=bench.there("third"))


def test_what_came_whole_stays(counted: tuple[Bench, Counting], monkeypatch: pytest.MonkeyPatch) -> None:
    bench, backend = counted
    monkeypatch.setattr(writing, "STEP", 10 * MIB)
    first, second = thing(big(1)), thing(big(2))
    bench.keep(first, second)
    bench.send(first, second)
    backend.break_read = lambda number: number > 4
    with pytest.raises(RemoteFailed):
        bench.fetch(first, second)
    there = bench.there()
    assert there.lacks([first, second]) == [second] and there.reads([first])


def test_packs_come_in_steps(counted: tuple[Bench, Counting], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PACK_SIZE", 10_000)
    monkeypatch.setattr(writing, "STEP", 50_000)
    cache = cache_shelf(counted[0].base / "stepping")
    some = things(600)
    store = cache.open(write=True)
    with pytest.raises(KeyboardInterrupt), Writer(store, "") as writer:
        for item in some:
            writer.put(item.names, item.data)
        raise KeyboardInterrupt
    store.close()
    lacking = cache.lacks(some)
    assert 0 < len(lacking) < 300 and cache.reads([item for item in some if item not in lacking])
    assert not list(Path(cache.backend.url).rglob("tmp-*"))
    named = {pack_name(name) for name in cache.open().catalog.packs()}
    assert named == set(cache.names("packs"))


# Chunks that are here


def test_a_pull_takes_what_it_can_from_an_older_version(counted: tuple[Bench, Counting]) -> None:
    bench, backend = counted
    old = thing(big(1, 64))
    new = thing(edited(old.data))
    bench.keep(old, new)
    bench.send(old, new)
    there = bench.fetch(old)
    path = Path(there.backend.url, object_name(old.names.id))
    backend.read_bytes = 0
    bench.fetch(new, into=there)
    assert backend.read_bytes < 10 * MIB and there.reads([old, new])
    # A copy that is not right is no source.
    fourth = bench.fetch(old, into=bench.there("fourth"))
    path = Path(fourth.backend.url, object_name(old.names.id))
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(30 * MIB)
        file.write(b"rotten")
    backend.read_bytes = 0
    bench.fetch(new, into=fourth)
    assert backend.read_bytes < 16 * MIB and fourth.reads([new])


def test_memory_stays_the_same_however_large_a_file(tmp_path: Path) -> None:
    """In processes of their own, whose peak the kernel tells."""
    peaks = [_peak(tmp_path / str(mib), mib) for mib in (32, 288)]
    assert peaks[1] - peaks[0] < 150, peaks


def _peak(base: Path, mib: int) -> int:
    """MiB that sending and fetching a file of `mib` MiB took at most."""
    program = f"""
import resource, sys, os
from pathlib import Path
from tests.io.store.test_chunking import Bench, Counting, LocalBackend, Shelf, Writer, digest_of
base = Path({str(base)!r}); base.mkdir()
with open(base / "file", "wb") as file:
    for _ in range({mib}): file.write(os.urandom(1 << 20))
bench = Bench(base, Shelf(base / "r", Counting(LocalBackend(str(base / "remote")))))
store = bench.cache.open(write=True)
with Writer(store, "") as writer:
    names, size = writer.ingest(os.open(base / "file", os.O_RDONLY), "file")
    writer.commit()
item = digest_of(names, size)
bench.send(item)
bench.fetch(item)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def digest_of(names: object, size: int) -> object:
    from dvcx.io.store.store import Wanted

    class Known:
        wanted = Wanted(names.id, names.seal, size)  # type: ignore[attr-defined]

    return Known()


def test_ids_of_chunks_are_what_digests_say() -> None:
    item = thing(b"1")
    assert chunking.is_chunk(b"1", digest_bytes(item.names.id), bytes.fromhex(item.names.seal), "xxh128")
    assert not chunking.is_chunk(b"2", digest_bytes(item.names.id), bytes.fromhex(item.names.seal), "xxh128")
    sealed = bytes.fromhex(item.names.seal)
    assert chunking.is_chunk(b"1", sealed, sealed, "blake3") and not chunking.is_chunk(b"1", bytes(32), sealed, "blake3")
