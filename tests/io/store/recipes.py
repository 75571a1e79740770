"""Stores whose recipes say what is not so, with packs and indexes that are right in every other way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dvcx.core.chunking import Chunk, Recipe, decode_recipe, encode_recipe, packed
from dvcx.core.packing import KIND_CHUNK, KIND_RECIPE, RAW, Frame, IndexContent, PackInfo, decode_index, encode_index
from dvcx.io.hashing import seal, xxh128
from dvcx.io.store.backend import Backend
from dvcx.io.store.packfile import OpenPack
from dvcx.io.store.store import pack_name
from tests.io.store.shelves import Thing

ID = 16
Told = tuple[bytes, bytes, list[Chunk]]
"""What a recipe says: raw id and seal of its blob, its chunks."""


def chunk(item: Thing) -> Chunk:
    return Chunk(bytes.fromhex(item.names.id[7:]), bytes.fromhex(item.names.seal), len(item.data))


def write_pack(backend: Backend, scratch: Path, chunks: Sequence[Thing], told: Sequence[Told]) -> tuple[PackInfo, list[Recipe]]:
    """Put a pack into a store; what an index has to say of it."""
    pack = OpenPack(str(scratch / "pack"), ID)
    for item in chunks:
        pack.append(*chunk(item)[:2], KIND_CHUNK, RAW, item.data, len(item.data))
    recipes = [_append(pack, *recipe) for recipe in told]
    return _finish(backend, pack), recipes


def write_index(backend: Backend, packs: list[PackInfo], recipes: Sequence[Recipe]) -> str:
    data = encode_index(IndexContent(packs, [], tuple(recipes)), ID, xxh128)
    backend.write(name := f"index/{seal(data).hex()}.index", data)
    return name


def change_recipes(backend: Backend, scratch: Path, change: Callable[[Told], Told]) -> None:
    """Write all packs with recipes anew, as `change` makes them, and the indexes that name them."""
    for item in list(backend.list("index")):
        content = decode_index(backend.read(item.name), ID, xxh128, item.name)
        if not content.recipes:
            continue
        packs, recipes = [], []
        for info in content.packs:
            pack = OpenPack(str(scratch / "pack"), ID)
            data = backend.read(pack_name(info.name.hex()))
            for frame in sorted(info.frames, key=lambda frame: frame.offset):
                stored = data[frame.offset : frame.offset + frame.stored]
                if frame.kind == KIND_RECIPE:
                    recipes.append(_append(pack, *change(_told(frame, stored))))
                else:
                    pack.append(frame.id, frame.seal, frame.kind, frame.encoding, stored, frame.size)
            backend.delete(pack_name(info.name.hex()))
            packs.append(_finish(backend, pack))
        written = encode_index(IndexContent(packs, content.loose, tuple(recipes)), ID, xxh128)
        backend.delete(item.name)
        backend.write(f"index/{seal(written).hex()}.index", written)


def _told(frame: Frame, stored: bytes) -> Told:
    return frame.id, frame.seal, decode_recipe(stored, ID, xxh128, "a test")[1]


def _append(pack: OpenPack, key: bytes, sealed: bytes, chunks: list[Chunk]) -> Recipe:
    size = sum(item.size for item in chunks)
    data = encode_recipe(size, chunks, ID, xxh128)
    pack.append(key, sealed, KIND_RECIPE, RAW, data, len(data))
    return Recipe(key, sealed, size, packed([(item.id, item.size) for item in chunks], ID))


def _finish(backend: Backend, pack: OpenPack) -> PackInfo:
    info = pack.finish(sync=False)
    path = Path(pack.path)
    backend.write(pack_name(info.name.hex()), path.read_bytes())
    path.unlink()
    return info
