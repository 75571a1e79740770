"""Bytes of packs and indexes (docs/format.md, "Pack" and "Index"), to values and back. Frames themselves stay outside."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from dvcx.core.chunking import Recipe, check_sizes, short_row_size, unpacked
from dvcx.core.objects import MAX_SIZE
from dvcx.errors import IntegrityError

PACK_MAGIC, PACK_END = b"DVCXPACK", b"DVCXPEND"
INDEX_MAGIC, INDEX_END = b"DVCXINDX", b"DVCXIEND"
VERSION = 1
HEADER_SIZE = 16
FOOTER_SIZE = 40
INDEX_FOOTER_SIZE = 24

SMALL = 1 << 20
"""Objects below this may go into a pack."""
BATCH, REMOTE_BATCH = 100, 10
"""A batch of at least so many small objects becomes packs, in a cache or on a remote, where each would be a request."""
PACK_SIZE = 64 << 20
"""A pack is closed when it has grown to this."""

MAX_FRAME = 64 << 20
"""Readers refuse a larger entry: each is read, and unpacked, in one piece."""

RAW, ZSTD = 0, 1
KIND_BLOB, KIND_TREE, KIND_CHUNK, KIND_RECIPE = 0, 1, 2, 3
_KINDS = (KIND_BLOB, KIND_TREE, KIND_CHUNK, KIND_RECIPE)

Checksum = Callable[[bytes], bytes]
"""xxh128 of some bytes, 16 bytes; handed in, since core imports no third-party code."""


class Frame(NamedTuple):
    """One row of a pack's table. `id` and `seal` are raw digests (of a recipe: those of its blob); lengths in bytes."""

    id: bytes
    seal: bytes
    kind: int
    encoding: int
    offset: int
    stored: int
    size: int


# What `Frame._make` does, at a fifth of the price: a remote may have millions.
_frame: Callable[[tuple[Any, ...]], Frame] = partial(tuple.__new__, Frame)


class Loose(NamedTuple):
    """One loose object an index names."""

    id: bytes
    seal: bytes
    kind: int
    size: int


class PackInfo(NamedTuple):
    """A pack as an index describes it: `name` is the BLAKE3 of its bytes, `size` its length."""

    name: bytes
    size: int
    frames: list[Frame]


class IndexContent(NamedTuple):
    """All an index file says."""

    packs: list[PackInfo]
    loose: list[Loose]
    recipes: tuple[Recipe, ...] = ()


def pack_header(id_length: int) -> bytes:
    """The first 16 bytes of a pack."""
    return PACK_MAGIC + bytes((VERSION, id_length)) + bytes(6)


def pack_tail(frames: Iterable[Frame], id_length: int, checksum: Checksum) -> bytes:
    """Table and footer of a pack whose frames were written in this order."""
    rows = list(frames)
    pack_row = _row(id_length).pack
    table = b"".join([pack_row(*frame) for frame in rows])
    digest = checksum(pack_header(id_length) + table)
    return table + struct.pack("<Q", len(table)) + digest + struct.pack("<Q", len(rows)) + PACK_END


def table_length(footer: bytes, pack_size: int, where: str) -> int:
    """How long the table is that stands before this 40-byte footer of a pack of `pack_size` bytes."""
    if len(footer) != FOOTER_SIZE or footer[-8:] != PACK_END:
        raise _broken(where, "it is truncated")
    length = int(struct.unpack_from("<Q", footer)[0])
    if length > pack_size - HEADER_SIZE - FOOTER_SIZE:
        raise _broken(where, "its table is longer than the file")
    return length


def decode_pack_table(header: bytes, table: bytes, footer: bytes, pack_size: int, checksum: Checksum, where: str) -> list[Frame]:
    """The frames of a pack, from its header, table and footer; checks the checksum and that frames lie back to back."""
    id_length = _check_header(header, PACK_MAGIC, where)
    length, digest, count = struct.unpack("<Q16sQ", footer[:32])
    row = _row(id_length)
    if length != len(table) or length != count * row.size or checksum(header + table) != digest:
        raise _broken(where, "its table does not match its checksum")
    frames = list(map(_frame, row.iter_unpack(table)))
    _check_frames(frames, pack_size - FOOTER_SIZE - len(table), where)
    return frames


def encode_index(content: IndexContent, id_length: int, checksum: Checksum) -> bytes:
    """Bytes of an index; entries are sorted here."""
    pack_row, loose_row = _row(id_length).pack, _loose_row(id_length).pack
    parts = [INDEX_MAGIC, bytes((VERSION, id_length)), bytes(6), struct.pack("<Q", len(content.packs))]
    for pack in sorted(content.packs):
        parts.append(struct.pack("<32sQQ", pack.name, pack.size, len(pack.frames)))
        parts.extend([pack_row(*frame) for frame in sorted(pack.frames)])
    parts.append(struct.pack("<Q", len(content.loose)))
    parts.extend([loose_row(*item) for item in sorted(content.loose)])
    parts.append(struct.pack("<Q", len(content.recipes)))
    recipe_row = _recipe_row(id_length)
    for recipe in sorted(content.recipes):
        count = len(recipe.chunks) // short_row_size(id_length)
        parts += [recipe_row.pack(recipe.id, recipe.seal, recipe.size, count), recipe.chunks]
    body = b"".join(parts)
    return body + checksum(body) + INDEX_END


def split_index(content: IndexContent, id_length: int, most: int) -> Iterator[IndexContent]:
    """The same in as many parts as it takes for each to have at most `most` bytes; each pack with the recipes it holds."""
    row, loose_row, recipe_row = _row(id_length).size, _loose_row(id_length).size, _recipe_row(id_length).size
    empty = HEADER_SIZE + 24 + INDEX_FOOTER_SIZE
    lengths = {recipe: recipe_row + len(recipe.chunks) for recipe in content.recipes}
    whole = empty + sum(48 + len(pack.frames) * row for pack in content.packs) + len(content.loose) * loose_row
    if whole + sum(lengths.values()) <= most:
        yield content
        return
    known: dict[tuple[bytes, bytes], list[Recipe]] = {}
    for recipe in content.recipes:
        known.setdefault((recipe.id, recipe.seal), []).append(recipe)
    packs: list[PackInfo] = []
    recipes: dict[Recipe, None] = {}
    length = empty
    for pack in content.packs:
        held = [recipe for f in pack.frames if f.kind == KIND_RECIPE for recipe in known.get((f.id, f.seal), ())]
        more = 48 + len(pack.frames) * row + sum(lengths[recipe] for recipe in held)
        if packs and length + more > most:
            yield IndexContent(packs, [], tuple(recipes))
            packs, recipes, length = [], {}, empty
        packs.append(pack)
        recipes.update(dict.fromkeys(held))
        length += more
    if packs:
        yield IndexContent(packs, [], tuple(recipes))
    many = max(1, (most - empty) // loose_row)
    for start in range(0, len(content.loose), many):
        yield IndexContent([], content.loose[start : start + many])


def decode_index(data: bytes, id_length: int, checksum: Checksum, where: str) -> IndexContent:
    """What an index says, checked completely. `id_length` is that of the store's algorithm."""
    if len(data) < 24 + 8 + 8 + INDEX_FOOTER_SIZE or data[-8:] != INDEX_END:
        raise _broken(where, "it is truncated")
    if checksum(data[:-INDEX_FOOTER_SIZE]) != data[-INDEX_FOOTER_SIZE:-8]:
        raise _broken(where, "it does not match its checksum")
    if _check_header(data[:HEADER_SIZE], INDEX_MAGIC, where) != id_length:
        raise _broken(where, "it uses another hash than its store")
    end = len(data) - INDEX_FOOTER_SIZE
    row, loose_row = _row(id_length), _loose_row(id_length)
    try:
        (count,) = struct.unpack_from("<Q", data, 16)
        at = 24
        packs = []
        for _ in range(count):
            name, size, entries = struct.unpack_from("<32sQQ", data, at)
            at += 48
            if entries * row.size > end - at:
                raise _broken(where, "a pack has more entries than fit")
            frames = list(map(_frame, row.iter_unpack(data[at : at + entries * row.size])))
            at += entries * row.size
            _check_frames(frames, size - FOOTER_SIZE - entries * row.size, where)
            packs.append(PackInfo(name, size, frames))
        (loose_count,) = struct.unpack_from("<Q", data, at)
        at += 8
        if loose_count * loose_row.size > end - at:
            raise _broken(where, "its length does not fit its counts")
        loose = [Loose(*fields) for fields in loose_row.iter_unpack(data[at : at + loose_count * loose_row.size])]
        at += loose_count * loose_row.size
        if any(item.size > MAX_SIZE or item.kind not in (KIND_BLOB, KIND_TREE) for item in loose):
            raise _broken(where, "an entry is malformed")
        recipes = _decode_recipes(data, at, end, id_length, where)
    except struct.error:
        raise _broken(where, "its counts do not fit its length") from None
    return IndexContent(packs, loose, tuple(recipes))


def _decode_recipes(data: bytes, at: int, end: int, id_length: int, where: str) -> list[Recipe]:
    (count,) = struct.unpack_from("<Q", data, at)
    at += 8
    row, chunk_size = _recipe_row(id_length), short_row_size(id_length)
    recipes = []
    for _ in range(count):
        object_id, sealed, size, chunks = row.unpack_from(data, at)
        at += row.size
        if chunks * chunk_size > end - at:
            raise _broken(where, "a recipe has more chunks than fit")
        packed = data[at : at + chunks * chunk_size]
        at += len(packed)
        check_sizes(size, [length for _, length in unpacked(packed, id_length)], where)
        recipes.append(Recipe(object_id, sealed, size, packed))
    if at != end:
        raise _broken(where, "its length does not fit its counts")
    return recipes


def merge_ranges(frames: Iterable[Frame], *, gap: int, most: int) -> Iterator[list[Frame]]:
    """Group frames of one pack, so that each group is one read: holes up to `gap` bytes are read over, up to `most` bytes."""
    group: list[Frame] = []
    for frame in sorted(frames, key=attrgetter("offset")):
        if group:
            end = group[-1].offset + group[-1].stored
            if frame.offset - end > gap or frame.offset + frame.stored - group[0].offset > most:
                yield group
                group = []
        group.append(frame)
    if group:
        yield group


def _row(id_length: int) -> struct.Struct:
    return struct.Struct(f"<{id_length}s32sBBQQQ")


def _loose_row(id_length: int) -> struct.Struct:
    return struct.Struct(f"<{id_length}s32sBQ")


def _recipe_row(id_length: int) -> struct.Struct:
    return struct.Struct(f"<{id_length}s32sQQ")


def _check_header(header: bytes, magic: bytes, where: str) -> int:
    if len(header) != HEADER_SIZE or header[:8] != magic:
        raise _broken(where, "it does not begin like one")
    if header[8] != VERSION or header[9] not in (16, 32):
        raise _broken(where, f"version {header[8]} with ids of {header[9]} bytes is not known to this dvcx")
    return header[9]


def _check_frames(frames: list[Frame], end: int, where: str) -> None:
    for _, _, kind, encoding, offset, stored, size in frames:
        if stored != size if encoding == RAW else (encoding != ZSTD or kind == KIND_RECIPE):
            raise _broken(where, "an entry is malformed")
        if kind not in _KINDS:
            raise _broken(where, "an entry is malformed")
        if offset < HEADER_SIZE or offset + stored > end:
            raise _broken(where, "an entry lies outside the pack")
        if size > MAX_FRAME or stored > MAX_FRAME:
            raise _broken(where, "an entry is larger than what packs are for")


def _broken(where: str, what: str) -> IntegrityError:
    return IntegrityError(f"{where}: broken: {what}", "it is not used; get its objects again with: dvcx fetch")
