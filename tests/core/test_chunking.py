"""Recipes as bytes: what is written can be read, the documented bytes are the real ones, nothing else is accepted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvcx.core import chunking
from dvcx.core.chunking import Chunk, decode_recipe, encode_recipe, packed, unpacked
from dvcx.core.packing import MAX_FRAME
from dvcx.errors import DvcxError, IntegrityError
from dvcx.io.hashing import digest, xxh128
from tests.core.test_packing import FORMAT, digests, documented

Made = tuple[int, list[Chunk], int]


@st.composite
def recipes(draw: st.DrawFn) -> Made:
    id_length = draw(st.sampled_from([16, 32]))
    chunk = st.builds(Chunk, digests(id_length), digests(32), st.integers(1, chunking.MAX_CHUNK))
    chunks = draw(st.lists(chunk, min_size=1, max_size=6))
    return sum(chunk.size for chunk in chunks), chunks, id_length


def test_the_documented_recipe_is_what_is_written_and_read() -> None:
    parts = [b"hello\n", b"world\n"]
    names = [digest(part, "xxh128") for part in parts]
    chunks = [Chunk(bytes.fromhex(name.id[7:]), bytes.fromhex(name.seal), 6) for name in names]
    assert documented("recipe") == encode_recipe(12, chunks, 16, xxh128)
    assert decode_recipe(documented("recipe"), 16, xxh128, "r") == (12, chunks)


def test_the_documented_limits() -> None:
    text = " ".join(FORMAT.read_text().split())
    assert "A blob above 8 MiB on a remote is cut into **chunks**" in text and chunking.CHUNKED_ABOVE == 8 << 20
    assert "at least 256 KiB (the last one may be smaller), 1 MiB on average, 4 MiB at most" in text
    assert (chunking.MIN_CHUNK, chunking.AVERAGE_CHUNK, chunking.MAX_CHUNK) == (256 << 10, 1 << 20, 4 << 20)
    assert "Blobs above 240 GiB stand alone" in text and chunking.CHUNKED_UP_TO == 240 << 30


def test_a_recipe_is_never_too_large_for_a_pack() -> None:
    most = chunking.CHUNKED_UP_TO // chunking.MIN_CHUNK + 1
    assert most * (32 + 32 + 4) + chunking.HEADER_SIZE + chunking.FOOTER_SIZE <= MAX_FRAME
    assert not chunking.is_chunked(8 << 20) and chunking.is_chunked((8 << 20) + 1) and not chunking.is_chunked(1 << 40)


@given(recipes())
def test_a_recipe_comes_back(made: Made) -> None:
    size, chunks, id_length = made
    data = encode_recipe(size, chunks, id_length, xxh128)
    assert decode_recipe(data, id_length, xxh128, "r") == (size, chunks)
    with pytest.raises(IntegrityError, match="not known here"):
        decode_recipe(data, 48 - id_length, xxh128, "r")
    short = [(chunk.id, chunk.size) for chunk in chunks]
    assert unpacked(packed(short, id_length), id_length) == short


@settings(max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=200).map(lambda tail: chunking.RECIPE_MAGIC + b"\1\x10" + bytes(6) + tail),
    ),
    st.booleans(),
)
def test_any_bytes_as_a_recipe_raise_only_our_errors(data: bytes, right: bool) -> None:
    try:
        size, chunks = decode_recipe(data + xxh128(data) if right else data, 16, xxh128, "remote: r")
    except DvcxError as error:
        assert error.message.startswith("remote: r") and error.exit_code == 4
    else:
        assert sum(chunk.size for chunk in chunks) == size and all(0 < chunk.size <= chunking.MAX_CHUNK for chunk in chunks)


@given(recipes(), st.data())
def test_any_mutation_of_a_recipe_is_noticed(made: Made, data: st.DataObject) -> None:
    size, chunks, id_length = made
    raw = bytearray(encode_recipe(size, chunks, id_length, xxh128))
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(IntegrityError):
        decode_recipe(bytes(raw[:cut]), id_length, xxh128, "r")
    raw[cut] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(IntegrityError):
        decode_recipe(bytes(raw), id_length, xxh128, "r")


@pytest.mark.parametrize(
    ("size", "lengths"), [(0, []), (3, [1, 1]), (5 << 20, [5 << 20]), (1, [1, 0]), (1 << 63, [1]), (8 << 20, [(8 << 20) - 1])]
)
def test_sizes_that_cannot_be_are_refused(size: int, lengths: list[int]) -> None:
    chunks = [Chunk(bytes(16), bytes(32), length) for length in lengths]
    with pytest.raises(IntegrityError, match="broken recipe"):
        decode_recipe(encode_recipe(size, chunks, 16, xxh128), 16, xxh128, "r")


def test_the_page_names_every_field() -> None:
    page = FORMAT.read_text()
    assert re.search(r'"DVCXRCPE" · version u8 = 1 · id length u8', page)
    assert Path(FORMAT).name == "format.md"
