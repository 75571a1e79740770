"""What a killed push left: used again while it is young, and held against a collection that marked it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dvcx.core.objects import digest_bytes
from dvcx.core.packing import KIND_BLOB, Loose
from dvcx.errors import RemoteFailed
from dvcx.io.store import leftovers, marks
from dvcx.io.store.leftovers import YOUNG, Leftovers
from dvcx.io.store.store import object_name
from dvcx.io.store.writer import Writer
from tests.io.store.shelves import Shelf, Thing, thing, things


class Clock:
    """Time that a test moves on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead


def loose(item: Thing) -> Loose:
    return Loose(digest_bytes(item.names.id), bytes.fromhex(item.names.seal), KIND_BLOB, len(item.data))


def test_a_line_grows_old_though_others_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(leftovers, "time", clock)
    shelf = Shelf(tmp_path)
    first, second = loose(thing("first")), loose(thing("second"))
    store = shelf.open(write=True)
    for data in ("first", "second"):
        shelf.backend.write(object_name(thing(data).names.id), data.encode())
    store.sync(again=True)
    journal = str(tmp_path / "sent")

    def left() -> Leftovers:
        return Leftovers(store, journal)

    left().remember(first)
    clock.ahead = YOUNG / 2
    left().remember(second)
    left().named()  # writes both anew
    assert len(Path(journal).read_text().splitlines()) == 2
    clock.ahead = YOUNG + 60
    assert left().loose(first.id, first.seal) is None
    assert left().loose(second.id, second.seal) == second
    left().named()
    assert len(Path(journal).read_text().splitlines()) == 1
    Path(journal).write_text(f"{first.id.hex()} {first.seal.hex()} 0 5\n{first.id.hex()} {first.seal.hex()} 0 5 nan\nx\n")
    assert left().loose(first.id, first.seal) is None
    store.close()


def test_a_loose_object_that_is_used_again_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tmp_path)
    shelf.fill(things(2))
    item = thing("sent by a push that was killed")
    journal = str(tmp_path / "sent")
    store = shelf.open(write=True)
    with pytest.raises(RemoteFailed), Writer(store, shelf.scratch, journal=journal) as writer:
        writer.put(item.names, item.data)
        with monkeypatch.context() as patch:
            patch.setattr(writer, "_write_index", _gone)
            writer.commit()
    store.close()
    store = shelf.open(write=True)
    name, now = marks.fresh_name(time.time()), time.time()
    marks.complete(store, name, now, [digest_bytes(item.names.id)])
    with Writer(store, shelf.scratch, journal=journal) as writer:
        assert not writer.put(item.names, item.data)
        writer.commit()
    assert marks.used_since(store, marks.read(store), now) == {digest_bytes(item.names.id)}
    store.close()
    assert shelf.reads([item])


def _gone() -> None:
    raise RemoteFailed("the network is gone", "mend it")
