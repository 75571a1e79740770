"""Objects: ids, contents and trees, as values and as bytes. Trees here are already read; nothing touches a store."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from operator import lt
from typing import NamedTuple

from dvcx.core.paths import check_name
from dvcx.errors import IntegrityError, UnsafeInput, display

# The algorithms an id may use: name -> length of the digest in bytes. `io/hashing.py` has the functions, row by row.
ALGORITHMS: dict[str, int] = {"xxh128": 16, "blake3": 32}

BLOB, TREE = "blob", "tree"
FILE, EXEC, LINK, DIR, SHARD = "file", "exec", "link", "dir", "shard"

TREE_HEADER = b"dvcx-tree 1\n"
SHARD_ABOVE = 8192
MAX_SIZE = 1 << 62

_ID = re.compile(r"xxh128:[0-9a-f]{32}|blake3:[0-9a-f]{64}")
_SEAL = re.compile(r"[0-9a-f]{64}")
# Compiled when the first tree is read; every command imports this file.
_LINE = (
    rb"((?:[^\t\n\r\\\x00]|\\[\\tnr])+)\t"
    rb"(file|exec|link|dir|shard)\t"
    rb"(0|[1-9][0-9]{0,18})\t"
    rb"(xxh128:[0-9a-f]{32}|blake3:[0-9a-f]{64})\t"
    rb"([0-9a-f]{64})"
    rb"(?:\t(0|[1-9][0-9]{0,18}))?"
)
_PLAIN_LINE = (
    r"^([A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,200}[A-Za-z0-9_-])?)\t"
    r"(file|exec|link)\t"
    r"(0|[1-9][0-9]{0,18})\t"
    r"(xxh128:[0-9a-f]{32}|blake3:[0-9a-f]{64})\t"
    r"([0-9a-f]{64})$"
)
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_ESCAPED = re.compile(r"[\\\t\n\r]")
_UNESCAPED = re.compile(r"\\([\\tnr])")
_BACK = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}


class Content(NamedTuple):
    """What is at a path. `kind` blob or tree, `id` and `seal` of its object, `size` in bytes, `files` below a tree."""

    kind: str
    id: str
    seal: str
    size: int
    files: int = 1
    executable: bool = False


class Entry(NamedTuple):
    """One line of a tree. `kind` is file, exec, link, dir or shard; `files` counts what is below a dir or shard."""

    name: str
    kind: str
    size: int
    id: str
    seal: str
    files: int = 1


class Digest(NamedTuple):
    """Both names of some bytes."""

    id: str
    seal: str


def check_id(text: object, where: str) -> str:
    """`text` if it is an object id, else `UnsafeInput`."""
    if isinstance(text, str) and _ID.fullmatch(text):
        return text
    raise UnsafeInput(f"{where}: not an object id: {_short(text)}", "restore the record: git checkout -- FILE")


def check_seal(text: object, where: str) -> str:
    """`text` if it is a seal (64 lower-case hex digits), else `UnsafeInput`."""
    if isinstance(text, str) and _SEAL.fullmatch(text):
        return text
    raise UnsafeInput(f"{where}: not a BLAKE3 seal: {_short(text)}", "restore the record: git checkout -- FILE")


def digest_bytes(object_id: str) -> bytes:
    """The digest of a checked id, as bytes (16 for xxh128, 32 for blake3)."""
    return bytes.fromhex(object_id[7:])


def encode_tree(entries: Iterable[Entry]) -> bytes:
    """Canonical bytes of one tree object; entries in any order, no name twice.

    Raises `UnsafeInput` for a name that is not UTF-8.
    """
    lines = []
    for name, kind, size, object_id, seal, files in entries:
        text = name if name.isalnum() else _ESCAPED.sub(lambda m: _ESCAPES[m.group()], name)
        tail = f"\t{files}\n" if kind in (DIR, SHARD) else "\n"
        try:
            lines.append((name.encode(), f"{text}\t{kind}\t{size}\t{object_id}\t{seal}{tail}".encode()))
        except UnicodeEncodeError:
            raise UnsafeInput(f"name '{display(name)}' is not valid UTF-8", "rename the file") from None
    lines.sort()
    return TREE_HEADER + b"".join([line for _, line in lines])


def decode_tree(data: bytes, where: str) -> list[Entry]:
    """The entries of a tree's bytes, checked completely: canonical form, order, names, numbers.

    Raises `IntegrityError` for bytes that are no canonical tree, `UnsafeInput` for a name the path rule refuses.
    """
    if not data.startswith(TREE_HEADER) or not data.endswith(b"\n"):
        raise _broken(where, "it does not begin and end like a tree")
    plain = _decode_plain(data)
    if plain is not None:
        return plain
    entries: list[Entry] = []
    append = entries.append
    match = re.compile(_LINE).fullmatch
    before = b""
    sharded = False
    for number, line in enumerate(data[len(TREE_HEADER) :].split(b"\n")[:-1], 2):
        found = match(line)
        if found is None:
            raise _broken(where, f"line {number} is malformed")
        raw, kind_bytes, size, object_id, seal, files = found.groups()
        kind = kind_bytes.decode()
        if (files is None) == (kind in (DIR, SHARD)):
            raise _broken(where, f"line {number} is malformed")
        if b"\\" in raw:
            raw = _UNESCAPED.sub(lambda m: _BACK[m.group(1)], raw.decode("utf-8", "surrogateescape")).encode(
                "utf-8", "surrogateescape"
            )
        if raw <= before:
            raise _broken(where, f"line {number} is out of order or doubled")
        before = raw
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise _broken(where, f"line {number}: the name is not valid UTF-8") from None
        check_name(name, where)
        if kind == SHARD:
            sharded = True
        elif sharded:
            raise _broken(where, f"line {number}: a shard beside other entries")
        append(Entry(name, kind, int(size), object_id.decode(), seal.decode(), int(files) if files else 1))
    if sharded and entries[0].kind != SHARD:
        raise _broken(where, "a shard beside other entries")
    return entries


def _decode_plain(data: bytes) -> list[Entry] | None:
    """The same for a tree of files with everyday names, in a few passes that run in C; None for any other."""
    if not data.isascii() or b"\ntmp-dvcx-" in data:
        return None
    text = data[len(TREE_HEADER) :].decode("ascii")
    rows = re.compile(_PLAIN_LINE, re.MULTILINE).findall(text)
    if len(rows) != text.count("\n"):
        return None
    names = [row[0] for row in rows]
    if not all(map(lt, names, names[1:])):
        return None
    # What `Entry(...)` does, at two thirds of the price: this is done for every file.
    new = tuple.__new__
    return [new(Entry, (name, kind, int(size), object_id, seal, 1)) for name, kind, size, object_id, seal in rows]


def shards(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Split the entries of one directory, sorted by the bytes of their names, at the borders their names alone decide."""
    start = 0
    for at, entry in enumerate(entries):
        if at > start and _begins_shard(entry.name):
            yield entries[start:at]
            start = at
    if entries:
        yield entries[start:]


def _begins_shard(name: str) -> bool:
    return ((zlib.crc32(name.encode()) * 0x9E3779B1) & 0xFFFFFFFF) >> 21 == 0


def totals(entries: Iterable[Entry]) -> tuple[int, int]:
    """(bytes, files) below a directory with these entries."""
    size = files = 0
    for entry in entries:
        size += entry.size
        files += entry.files
    return size, files


def entry_content(entry: Entry) -> Content:
    """The content an entry stands for."""
    kind = TREE if entry.kind in (DIR, SHARD) else BLOB
    return Content(kind, entry.id, entry.seal, entry.size, entry.files, entry.kind == EXEC)


def _broken(where: str, what: str) -> IntegrityError:
    return IntegrityError(f"{where}: broken tree object: {what}", "get it again from a remote: dvcx fetch")


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, str) else f"'{display(value)}'"
    return text if len(text) <= 80 else text[:77] + "..."
