"""Packs and indexes as bytes: what is written can be read, the documented bytes are the real ones, nothing else is accepted."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvcx.core import chunking, packing
from dvcx.core.chunking import Recipe
from dvcx.core.objects import MAX_SIZE
from dvcx.core.packing import Frame, IndexContent, Loose, PackInfo
from dvcx.errors import DvcxError, IntegrityError
from dvcx.io.hashing import digest, seal, xxh128

FORMAT = Path(__file__).parents[2] / "docs/format.md"


def documented(name: str) -> bytes:
    """The bytes of a worked example in docs/format.md: the hex at the start of each line."""
    block = re.search(rf"```{name}\n(.*?)```", FORMAT.read_text(), re.DOTALL)
    assert block is not None
    return bytes.fromhex("".join(re.split(r"   +", line)[0] for line in block[1].splitlines()))


def make_pack(items: list[tuple[bytes, bytes, int, int, bytes, int]], id_length: int = 16) -> tuple[bytes, list[Frame]]:
    """A pack's bytes and frames, from (id, seal, kind, encoding, stored bytes, raw size) in order."""
    body = packing.pack_header(id_length)
    frames = []
    for object_id, sealed, kind, encoding, stored, size in items:
        frames.append(Frame(object_id, sealed, kind, encoding, len(body), len(stored), size))
        body += stored
    return body + packing.pack_tail(frames, id_length, xxh128), frames


def read_pack(data: bytes) -> list[Frame]:
    """The frames of a pack's bytes, read from the tail as a store does."""
    footer = data[-packing.FOOTER_SIZE :]
    length = packing.table_length(footer, len(data), "p")
    table = data[len(data) - packing.FOOTER_SIZE - length : len(data) - packing.FOOTER_SIZE]
    return packing.decode_pack_table(data[: packing.HEADER_SIZE], table, footer, len(data), xxh128, "p")


HELLO = b"hello\n"
HELLO_NAMES = digest(HELLO, "xxh128")
HELLO_ID, HELLO_SEAL = bytes.fromhex(HELLO_NAMES.id[7:]), bytes.fromhex(HELLO_NAMES.seal)


def test_the_documented_pack_is_what_is_written_and_read() -> None:
    pack, frames = make_pack([(HELLO_ID, HELLO_SEAL, packing.KIND_BLOB, packing.RAW, HELLO, 6)])
    assert documented("pack") == pack
    assert read_pack(pack) == frames == [Frame(HELLO_ID, HELLO_SEAL, 0, 0, 16, 6, 6)]


def test_the_documented_index_is_what_is_written_and_read() -> None:
    pack = documented("pack")
    content = IndexContent([PackInfo(seal(pack), len(pack), read_pack(pack))], [])
    index = packing.encode_index(content, 16, xxh128)
    assert documented("index") == index
    assert packing.decode_index(index, 16, xxh128, "i") == content


def test_the_documented_limits() -> None:
    text = " ".join(FORMAT.read_text().split())
    assert "batch of 100 or more (on a remote 10 or more) objects below 1 MiB becomes packs of up to 64 MiB" in text
    assert (packing.BATCH, packing.REMOTE_BATCH, packing.SMALL, packing.PACK_SIZE) == (100, 10, 1 << 20, 64 << 20)


def digests(length: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=length, max_size=length)


@st.composite
def packs(draw: st.DrawFn, id_length: int) -> tuple[bytes, list[Frame]]:
    items = []
    for _ in range(draw(st.integers(0, 6))):
        stored = draw(st.binary(max_size=40))
        encoding = draw(st.sampled_from([packing.RAW, packing.ZSTD]))
        size = len(stored) if encoding == packing.RAW else draw(st.integers(0, packing.MAX_FRAME))
        kind = draw(st.sampled_from([packing.KIND_BLOB, packing.KIND_TREE, packing.KIND_CHUNK, packing.KIND_RECIPE]))
        if kind == packing.KIND_RECIPE:
            encoding, size = packing.RAW, len(stored)
        items.append((draw(digests(id_length)), draw(digests(32)), kind, encoding, stored, size))
    return make_pack(items, id_length)


@st.composite
def indexes(draw: st.DrawFn) -> tuple[IndexContent, int]:
    id_length = draw(st.sampled_from([16, 32]))
    found = []
    for data, frames in draw(st.lists(packs(id_length), max_size=3)):
        found.append(PackInfo(seal(data), len(data), frames))
    loose = st.builds(Loose, digests(id_length), digests(32), st.sampled_from([0, 1]), st.integers(0, MAX_SIZE))
    chunk = st.tuples(digests(id_length), st.integers(1, chunking.MAX_CHUNK))
    recipes = []
    for chunks in draw(st.lists(st.lists(chunk, min_size=1, max_size=4), max_size=3)):
        size = sum(length for _, length in chunks)
        recipes.append(Recipe(draw(digests(id_length)), draw(digests(32)), size, chunking.packed(chunks, id_length)))
    return IndexContent(found, draw(st.lists(loose, max_size=5)), tuple(recipes)), id_length


@given(st.sampled_from([16, 32]).flatmap(packs))
def test_a_pack_comes_back(pack: tuple[bytes, list[Frame]]) -> None:
    data, frames = pack
    assert read_pack(data) == frames


@given(indexes())
def test_an_index_comes_back_sorted(made: tuple[IndexContent, int]) -> None:
    content, id_length = made
    data = packing.encode_index(content, id_length, xxh128)
    back = packing.decode_index(data, id_length, xxh128, "i")
    assert back.loose == sorted(content.loose) and back.recipes == tuple(sorted(content.recipes))
    assert back.packs == sorted(pack._replace(frames=sorted(pack.frames)) for pack in content.packs)
    with pytest.raises(IntegrityError, match="another hash"):
        packing.decode_index(data, 48 - id_length, xxh128, "i")


def resealed(body: bytes) -> bytes:
    """An index's bytes with a right checksum, whatever the body says: what a hostile store can serve."""
    return body + xxh128(body) + packing.INDEX_END


def _all_sizes_fit(content: IndexContent) -> bool:
    # A catalog keeps them as signed 64-bit numbers.
    return all(item.size <= MAX_SIZE and item.kind in (0, 1) for item in content.loose) and all(
        frame.size <= packing.MAX_FRAME for pack in content.packs for frame in pack.frames
    ) and all(
        sum(size for _, size in chunking.unpacked(recipe.chunks, len(recipe.id))) == recipe.size for recipe in content.recipes
    )


@settings(max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=200).map(lambda tail: resealed(packing.INDEX_MAGIC + b"\1\x10" + bytes(6) + tail)),
    )
)
def test_any_bytes_as_an_index_raise_only_our_errors(data: bytes) -> None:
    try:
        content = packing.decode_index(data, 16, xxh128, "store: index/x")
    except DvcxError as error:
        assert "store: index/x" in error.message and error.exit_code == 4
    else:
        assert _all_sizes_fit(content)


@settings(max_examples=300)
@given(indexes(), st.data())
def test_any_mutation_of_an_index_is_noticed(made: tuple[IndexContent, int], data: st.DataObject) -> None:
    content, id_length = made
    raw = bytearray(packing.encode_index(content, id_length, xxh128))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(IntegrityError):
        packing.decode_index(bytes(raw), id_length, xxh128, "i")
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(IntegrityError):
        packing.decode_index(packing.encode_index(content, id_length, xxh128)[:cut], id_length, xxh128, "i")


@settings(max_examples=300)
@given(indexes(), st.data())
def test_a_forged_index_raises_only_our_errors(made: tuple[IndexContent, int], data: st.DataObject) -> None:
    content, id_length = made
    body = bytearray(packing.encode_index(content, id_length, xxh128)[: -packing.INDEX_FOOTER_SIZE])
    at = data.draw(st.integers(0, len(body) - 1))
    body[at : at + 8] = data.draw(st.binary(min_size=8, max_size=8))
    try:
        found = packing.decode_index(resealed(bytes(body)), id_length, xxh128, "i")
    except DvcxError:
        return
    assert _all_sizes_fit(found)


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=120).map(lambda d: packing.pack_header(16) + d + packing.PACK_END)))
def test_any_bytes_as_a_pack_raise_only_our_errors(data: bytes) -> None:
    try:
        read_pack(data)
    except DvcxError as error:
        assert error.exit_code == 4


@given(packs(16), st.data())
def test_any_mutation_of_a_packs_table_is_noticed(pack: tuple[bytes, list[Frame]], data: st.DataObject) -> None:
    raw, frames = bytearray(pack[0]), pack[1]
    table = len(raw) - packing.FOOTER_SIZE - len(frames) * 74
    at = data.draw(st.one_of(st.integers(0, packing.HEADER_SIZE - 1), st.integers(table, len(raw) - 1)))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(IntegrityError):
        read_pack(bytes(raw))


ROW = Frame(HELLO_ID, HELLO_SEAL, 0, 0, 16, 6, 6)
BAD_ROWS: dict[str, Frame] = {
    "unknown kind": ROW._replace(kind=4),
    "a recipe that is compressed": ROW._replace(kind=packing.KIND_RECIPE, encoding=packing.ZSTD),
    "unknown encoding": ROW._replace(encoding=2),
    "raw of another length": ROW._replace(size=7),
    "in the header": ROW._replace(offset=15),
    "past the frames": ROW._replace(offset=17),
    "offset that overflows": ROW._replace(offset=2**64 - 1),
    "endless": ROW._replace(encoding=packing.ZSTD, size=2**64 - 1),
    "larger than a pack": ROW._replace(encoding=packing.ZSTD, size=packing.PACK_SIZE + 1),
    "too large for a pack": ROW._replace(encoding=packing.ZSTD, size=packing.MAX_FRAME + 1),
}


@pytest.mark.parametrize("row", BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_rows_that_cannot_be(row: Frame) -> None:
    data = packing.pack_header(16) + HELLO + packing.pack_tail([row], 16, xxh128)
    with pytest.raises(IntegrityError, match="an entry"):
        read_pack(data)
    index = packing.encode_index(IndexContent([PackInfo(seal(data), len(data), [row])], []), 16, xxh128)
    with pytest.raises(IntegrityError, match="an entry"):
        packing.decode_index(index, 16, xxh128, "i")


@pytest.mark.parametrize("item", [Loose(HELLO_ID, HELLO_SEAL, 0, 2**64 - 1), Loose(HELLO_ID, HELLO_SEAL, 7, 6)])
def test_loose_rows_that_cannot_be(item: Loose) -> None:
    with pytest.raises(IntegrityError, match="an entry"):
        packing.decode_index(packing.encode_index(IndexContent([], [item]), 16, xxh128), 16, xxh128, "i")


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "only the footer": lambda data: data[-40:],
    "another end": lambda data: data[:-1] + b"X",
    "another version": lambda data: data[:8] + b"\2" + data[9:],
    "ids of 17 bytes": lambda data: data[:9] + b"\x11" + data[10:],
    "table too long": lambda data: data[:-40] + struct.pack("<Q", 2**63) + data[-32:],
    "cut at the front": lambda data: data[1:],
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN.keys())
def test_broken_packs(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(IntegrityError):
        read_pack(damage(documented("pack")))


def test_ranges_are_merged_over_small_holes_up_to_a_size() -> None:
    def frame(offset: int, stored: int) -> Frame:
        return Frame(b"", b"", 0, 0, offset, stored, stored)

    a, b, c, d = frame(16, 10), frame(30, 10), frame(200, 50), frame(250, 100)
    groups = list(packing.merge_ranges([d, b, a, c], gap=4, most=120))
    assert groups == [[a, b], [c], [d]]
    assert list(packing.merge_ranges([d, b, a, c], gap=1000, most=1000)) == [[a, b, c, d]]
    assert list(packing.merge_ranges([], gap=1, most=1)) == []
    big = frame(16, 10_000)
    assert list(packing.merge_ranges([big], gap=1, most=1)) == [[big]]


def test_a_large_index_is_split() -> None:
    """Every pack is in one part with its recipes, every loose object in one, and no part is larger than told."""
    packs = [
        PackInfo(bytes([n]) * 32, 1000, [Frame(bytes([n, at]) * 8, bytes(32), 0 if at else 3, 0, 16, 1, 1) for at in range(5)])
        for n in range(20)
    ]
    recipes = tuple(Recipe(bytes([number, 0]) * 8, bytes(32), 9, bytes(40)) for number in range(20))
    loose = [Loose(bytes([number]) * 16, bytes(32), 0, 7) for number in range(50)]
    content = IndexContent(packs, loose, recipes)
    assert list(packing.split_index(content, 16, 1 << 20)) == [content]
    parts = list(packing.split_index(content, 16, 1500))
    assert len(parts) > 5 and max(len(packing.encode_index(part, 16, xxh128)) for part in parts) <= 1500
    assert [pack for part in parts for pack in part.packs] == packs
    assert [row for part in parts for row in part.loose] == loose
    assert [recipe for part in parts for recipe in part.recipes] == list(recipes)
    for part in parts:
        assert {recipe.id for recipe in part.recipes} == {pack.frames[0].id for pack in part.packs}
