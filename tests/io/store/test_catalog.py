"""The catalog answers the same whether it searches for each id or walks over all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvcx.core.packing import Frame, Loose, PackInfo
from dvcx.io.store.catalog import Catalog


def made(count: int, tmp_path: Path) -> Catalog:
    catalog = Catalog(str(tmp_path / "catalog.sqlite"), lambda message: pytest.fail(message))
    frames = [Frame(key(n), bytes(32), n % 2, 0, 16 + n * 10, 10, 10) for n in range(count)]
    half = count // 2
    packs = [PackInfo(b"a" * 32, 10**6, frames[:half]), PackInfo(b"b" * 32, 10**6, frames[half:])]
    catalog.learn("index/one", packs, [Loose(key(count), bytes(32), 0, 5)])
    return catalog


def key(number: int) -> bytes:
    return (number * 7919 % 1_000_003).to_bytes(16, "big")


@pytest.mark.parametrize(("held", "asked"), [(10, 5), (3000, 100), (3000, 2999), (3000, 3001)])
@pytest.mark.parametrize("strangers", [0, 1, 2500])
def test_frames_are_those_asked_for(tmp_path: Path, held: int, asked: int, strangers: int) -> None:
    """A walk over all rows must leave out what nobody asked for, also when the question is longer than the table."""
    catalog = made(held, tmp_path)
    wanted = {key(n) for n in range(asked)}
    unknown = {bytes([255]) * 12 + n.to_bytes(4, "big") for n in range(strangers)}
    found = catalog.frames(wanted | unknown)
    assert {frame.id for frames in found.values() for frame in frames} == wanted
    for pack, frames in found.items():
        assert pack or frames == [Frame(key(held), bytes(32), 0, 0, 0, 5, 5)]
        assert [frame.offset for frame in frames] == sorted(frame.offset for frame in frames)
    sample = [key(n) for n in range(0, min(asked, held), 97)]
    assert [catalog.find(sample)[item].offset for item in sample] == [16 + n * 10 for n in range(0, min(asked, held), 97)]
    catalog.close()


def test_another_process_may_number_the_packs_anew(tmp_path: Path) -> None:
    """Several commands share a catalog: a number read from it is that of the pack it numbers now."""
    mine = made(10, tmp_path)
    other = Catalog(str(tmp_path / "catalog.sqlite"), lambda message: pytest.fail(message))
    assert set(other.frames({key(0), key(9)})) == {"61" * 32, "62" * 32}
    swapped = [PackInfo(b"b" * 32, 10**6, [Frame(key(0), bytes(32), 0, 0, 16, 10, 10)]), PackInfo(b"c" * 32, 10**6, [])]
    other.clear()
    other.learn("index/two", swapped, [])
    assert mine.find([key(0)])[key(0)].pack == "62" * 32
    other.learn("index/three", [PackInfo(b"d" * 32, 10**6, [Frame(key(1), bytes(32), 0, 0, 16, 10, 10)])], [])
    assert set(mine.frames({key(0), key(1)})) == {"62" * 32, "64" * 32}
    assert mine.packs_of([key(1), key(2)]) == ({"64" * 32}, [key(2)])
    other.learn("index/four", [PackInfo(b"e" * 32, 10**6, [Frame(key(2), bytes(32), 0, 0, 16, 10, 10)])], [])
    assert [mine.pack(spot[0]) for spot in mine.spots([key(2)])] == ["65" * 32]
    mine.close()
    other.close()
