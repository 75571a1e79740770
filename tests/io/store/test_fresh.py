"""What was used again is remembered beside the objects, and costs nothing when it cannot be."""

from __future__ import annotations

import os
import time
from pathlib import Path

from dvcx.core.collecting import DAY
from dvcx.io.store import fresh
from dvcx.io.store.store import Store
from tests.io.store.shelves import cache_shelf, things


def _aged(store: Store, patch: object) -> None:
    real = os.lstat

    class Patched:
        def __getattr__(self, name: str) -> object:
            def seen(path: str) -> object:
                found = real(path)
                return type("Seen", (), {"st_mtime": found.st_mtime - 30 * DAY, "st_ctime": found.st_mtime - 30 * DAY})

            return seen if name == "lstat" else getattr(os, name)

    patch.setattr(fresh, "os", Patched())  # type: ignore[attr-defined]


def test_use_is_noted_once_a_day(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    shelf = cache_shelf(tmp_path)
    packed, alone = things(120), things(3, 500)
    shelf.fill(packed)
    shelf.fill(alone)
    store = shelf.open(write=True)
    ids = fresh.keys_of([item.names.id for item in (*packed[:5], *alone[:2])])
    fresh.freshen(store, ids)
    assert fresh.used(store) == {}, "young ones need no note"
    _aged(store, monkeypatch)
    for _ in range(3):
        fresh.freshen(store, ids)
    [day] = fresh.days(store)
    lines = (tmp_path / f"cache/fresh/{day}").read_text().splitlines()
    [pack] = store.catalog.packs()
    assert sorted(lines) == sorted([f"pack {pack}", *(f"object {item.names.id[7:]}" for item in alone[:2])])
    assert all(when > time.time() - DAY for when in fresh.used(store).values())
    fresh.freshen(store, None)
    assert len(fresh.used(store)) == 3
    (tmp_path / "cache/fresh/2020-01-01").write_text(f"pack {pack}\nrubbish\n")
    (tmp_path / "cache/fresh/notes").write_text("mine")
    assert fresh.days(store) == ["2020-01-01", day]
    fresh.forget(store, day)
    assert fresh.days(store) == [day] and (tmp_path / "cache/fresh/notes").exists()
    store.close()


def test_a_disk_that_refuses_it_fails_nothing(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    shelf = cache_shelf(tmp_path)
    shelf.fill(things(120))
    store = shelf.open(write=True)
    _aged(store, monkeypatch)
    (tmp_path / "cache/fresh").mkdir()
    (tmp_path / f"cache/fresh/{fresh.day(time.time())}").symlink_to(tmp_path / "elsewhere")
    fresh.freshen(store, None)
    assert not (tmp_path / "elsewhere").exists()
    store.close()
