"""What was used again is remembered beside the objects, and costs nothing when it cannot be."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dvcx.core.collecting import DAY
from dvcx.io.store import fresh
from tests.io.store.shelves import cache_shelf, things


def test_use_is_noted_once_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = cache_shelf(tmp_path)
    packed, alone = things(120), things(3, 500)
    shelf.fill(packed)
    shelf.fill(alone)
    store = shelf.open(write=True)
    ids = fresh.keys_of([item.names.id for item in (*packed[:5], *alone[:2])])
    fresh.freshen(store, ids)
    assert fresh.used(store) == {}, "young ones need no note"
    assert not fresh.may_age(store)
    monkeypatch.setattr(fresh, "newest", lambda found: found.st_mtime - 30 * DAY)
    for _ in range(3):
        fresh.freshen(store, ids)
    [day] = fresh.days(store)
    lines = (tmp_path / f"cache/fresh/{day}").read_text().splitlines()
    [pack] = store.catalog.packs()
    assert sorted(lines) == sorted([f"pack {pack}", *(f"object {item.names.id[7:]}" for item in alone[:2])])
    assert all(when > time.time() - DAY for when in fresh.used(store).values())
    fresh.freshen(store, None)
    assert len(fresh.used(store)) == 4
    (tmp_path / "cache/fresh/2020-01-01").write_text(f"pack {pack}\nrubbish\n")
    (tmp_path / "cache/fresh/notes").write_text("mine")
    assert fresh.days(store) == ["2020-01-01", day]
    fresh.forget(store, day)
    assert fresh.days(store) == [day] and (tmp_path / "cache/fresh/notes").exists()
    store.close()


@pytest.mark.parametrize("count", [120, 3])
def test_whether_anything_can_be_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    shelf = cache_shelf(tmp_path)
    shelf.fill(things(count))
    store = shelf.open(write=True)
    assert bool(store.catalog.packs()) == (count == 120)
    assert not fresh.may_age(store)
    with monkeypatch.context() as patch:
        patch.setattr(fresh, "newest", lambda found: found.st_mtime - 30 * DAY)
        assert fresh.may_age(store)
    monkeypatch.setattr(fresh, "LOOKED_AT", 0)
    assert fresh.may_age(store), "too many to look at"
    store.close()


@pytest.mark.parametrize("everything", [False, True])
def test_who_uses_many_uses_loose_ones_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, everything: bool) -> None:
    shelf = cache_shelf(tmp_path)
    packed, alone = things(120), things(3, 500)
    shelf.fill(packed)
    shelf.fill(alone)
    store = shelf.open(write=True)
    (tmp_path / "cache/objects/notes.txt").write_text("mine")
    monkeypatch.setattr(fresh, "MANY", 100)
    monkeypatch.setattr(fresh, "newest", lambda found: found.st_mtime - 30 * DAY)
    fresh.freshen(store, None if everything else fresh.keys_of([item.names.id for item in (*packed, *alone)]))
    assert set(fresh.used(store)) == {*store.catalog.packs(), *(item.names.id[7:] for item in alone)}
    store.close()


def test_a_disk_that_refuses_it_fails_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = cache_shelf(tmp_path)
    shelf.fill(things(120))
    store = shelf.open(write=True)
    monkeypatch.setattr(fresh, "newest", lambda found: found.st_mtime - 30 * DAY)
    (tmp_path / "cache/fresh").mkdir()
    (tmp_path / f"cache/fresh/{fresh.day(time.time())}").symlink_to(tmp_path / "elsewhere")
    fresh.freshen(store, None)
    assert not (tmp_path / "elsewhere").exists()
    store.close()


def test_what_others_are_writing_is_passed_over(tmp_path: Path) -> None:
    shelf = cache_shelf(tmp_path)
    shelf.fill(things(3, 500))
    (tmp_path / "cache/objects/tmp-dvcx-0123456789abcdef").write_bytes(b"half")
    store = shelf.open(write=True)
    assert not fresh.may_age(store)
    assert all(len(two) == 2 for two in store.loose_directories()) and store.loose_directories()
    store.close()
