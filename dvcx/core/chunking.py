"""Recipes: which chunks make up a large blob, as values and as bytes (docs/format.md, "Recipe"). Cutting stays outside."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

from dvcx.core.objects import MAX_SIZE
from dvcx.errors import IntegrityError

RECIPE_MAGIC = b"DVCXRCPE"
VERSION = 1
HEADER_SIZE = 32
FOOTER_SIZE = 16

CHUNKED_ABOVE = 8 << 20
"""Larger blobs are chunks and a recipe on a remote."""
CHUNKED_UP_TO = 240 << 30
"""Still larger ones stand alone: their recipe could become too large for an entry of a pack."""
MIN_CHUNK, AVERAGE_CHUNK, MAX_CHUNK = 256 << 10, 1 << 20, 4 << 20
"""Bytes of a chunk; the last one of a blob may be smaller."""

Checksum = Callable[[bytes], bytes]
"""xxh128 of some bytes, 16 bytes; handed in, since core imports no third-party code."""


class Chunk(NamedTuple):
    """One line of a recipe: raw id and seal of a chunk, its length in bytes."""

    id: bytes
    seal: bytes
    size: int


class Recipe(NamedTuple):
    """A recipe as an index repeats it: raw id and seal of the blob, its size, and its chunks packed as (id, u32 size) each."""

    id: bytes
    seal: bytes
    size: int
    chunks: bytes


def is_chunked(size: int) -> bool:
    """Whether a blob of so many bytes is chunks and a recipe on a remote."""
    return CHUNKED_ABOVE < size <= CHUNKED_UP_TO


def encode_recipe(size: int, chunks: Iterable[Chunk], id_length: int, checksum: Checksum) -> bytes:
    """Bytes of the recipe of a blob of `size` bytes; `chunks` in the order of the blob."""
    pack = _row(id_length).pack
    rows = [pack(*chunk) for chunk in chunks]
    head = RECIPE_MAGIC + bytes((VERSION, id_length)) + bytes(6) + struct.pack("<QQ", size, len(rows))
    body = head + b"".join(rows)
    return body + checksum(body)


def decode_recipe(data: bytes, id_length: int, checksum: Checksum, where: str) -> tuple[int, list[Chunk]]:
    """(size of the blob, its chunks), checked completely. Raises `IntegrityError`."""
    if len(data) < HEADER_SIZE + FOOTER_SIZE or data[:8] != RECIPE_MAGIC:
        raise _broken(where, "it does not begin like one, or is truncated")
    if checksum(data[:-FOOTER_SIZE]) != data[-FOOTER_SIZE:]:
        raise _broken(where, "it does not match its checksum")
    if data[8] != VERSION or data[9] != id_length or any(data[10:16]):
        raise _broken(where, f"version {data[8]} with ids of {data[9]} bytes is not known here")
    size, count = struct.unpack_from("<QQ", data, 16)
    row = _row(id_length)
    if count * row.size != len(data) - HEADER_SIZE - FOOTER_SIZE:
        raise _broken(where, "its length does not fit its count")
    chunks = [Chunk(*fields) for fields in row.iter_unpack(data[HEADER_SIZE:-FOOTER_SIZE])]
    check_sizes(size, [chunk.size for chunk in chunks], where)
    return size, chunks


def packed(chunks: Iterable[tuple[bytes, int]], id_length: int) -> bytes:
    """(id, size) of chunks as an index and a catalog keep them."""
    pack = _short_row(id_length).pack
    return b"".join([pack(key, size) for key, size in chunks])


def unpacked(chunks: bytes, id_length: int) -> list[tuple[bytes, int]]:
    """The (id, size) of chunks again."""
    return [(key, size) for key, size in _short_row(id_length).iter_unpack(chunks)]


def short_row_size(id_length: int) -> int:
    """Bytes of one chunk in `packed`."""
    return _short_row(id_length).size


def check_sizes(size: int, sizes: list[int], where: str) -> None:
    """`IntegrityError` unless chunks of these sizes can make up a blob of `size` bytes."""
    if not sizes or size > MAX_SIZE or sum(sizes) != size or min(sizes) < 1 or max(sizes) > MAX_CHUNK:
        raise _broken(where, "its chunks do not make up its size")


def _row(id_length: int) -> struct.Struct:
    return struct.Struct(f"<{id_length}s32sI")


def _short_row(id_length: int) -> struct.Struct:
    return struct.Struct(f"<{id_length}sI")


def _broken(where: str, what: str) -> IntegrityError:
    return IntegrityError(f"{where}: broken recipe: {what}", "send its file again from where it is: dvcx push")
