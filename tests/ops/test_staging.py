"""Staging many directories by helper processes gives what one process gives, remembers it as well, and fails as cleanly."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dvcx.core.packing import SMALL
from dvcx.errors import IntegrityError, NotFound
from dvcx.io import place, processes
from dvcx.io.store.store import object_name
from dvcx.io.workspace import Looking
from dvcx.ops.add import add
from dvcx.ops.checkout import checkout
from dvcx.ops.status import status
from dvcx.project import Project
from tests.ops.trying import again, pointer, seen, setting, wipe_cache

DEEP = {f"d/{a}/{b}/f{n}": f"{a}{b}{n}" for a in "xyz" for b in "pqr" for n in range(20)}


@pytest.fixture
def helped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Few files are many; the list grows with the units that helpers were given."""
    given: list[int] = []
    real = processes.spread

    def spread(function, items, **options):  # type: ignore[no-untyped-def]
        given.append(len(items))
        return real(function, items, **options)

    monkeypatch.setattr(place, "FORK_ABOVE", 50)
    # Tests before this one may have left idle threads in this process; they do no harm here.
    monkeypatch.setattr(processes, "available", lambda: True)
    monkeypatch.setattr(processes, "spread", spread)
    return given


@pytest.fixture
def tracked(project: Project) -> Project:
    """A deep directory with every kind of entry, some files right in it, one of them large."""
    for path, content in {**DEEP, "d/top": "t", "d/x/middle": "m", "d/same": "t"}.items():
        file = Path(project.root, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    Path(project.root, "d/x/big").write_bytes(b"b" * (SMALL + 5))
    Path(project.root, "d/x/p/f1").chmod(0o755)
    Path(project.root, "d/y/link").symlink_to("p/f2")
    Path(project.root, "d/z/empty").mkdir()
    add(project, ["d"])
    return again(project)


def test_all_is_there_and_remembered(tracked: Project, helped: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    before = seen(tracked, "d")
    shutil.rmtree(Path(tracked.root, "d"))
    done = checkout(tracked)
    assert helped and helped[0] > 9
    assert seen(tracked, "d") == before
    assert done.placed == len(DEEP) + 5 and done.bytes == pointer(tracked, "d.dvcx")["size"]

    def read(*words: object, **options: object) -> None:
        raise AssertionError(f"read again: {words}")

    monkeypatch.setattr(Looking, "file", read)
    assert status(tracked).clean


def test_an_absent_object_is_named_and_nothing_is_touched(tracked: Project, helped: list[int]) -> None:
    shutil.rmtree(Path(tracked.root, "d"))
    store = tracked.cache(lambda event: None)
    loose = [path for path, _ in store.loose_objects() if Path(store.loose_path(path)).stat().st_size > SMALL]
    assert len(loose) == 1
    Path(store.loose_path(loose[0])).unlink()
    store.close()
    with pytest.raises(NotFound, match="d/x/big"):
        checkout(tracked)
    assert helped and not Path(tracked.root, "d").exists() and not list(Path(tracked.staging_dir).iterdir())


def test_a_corrupt_object_is_refused_and_nothing_is_touched(tracked: Project, helped: list[int]) -> None:
    shutil.rmtree(Path(tracked.root, "d"))
    pack = next(Path(tracked.cache_dir).rglob("*.pack"))
    data = bytearray(pack.read_bytes())
    at = data.index(b"xp7")
    data[at] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    with pytest.raises(IntegrityError, match="hash mismatch"):
        checkout(tracked)
    assert helped and not Path(tracked.root, "d").exists()


def test_links_are_kept_to(tracked: Project, helped: list[int]) -> None:
    shutil.rmtree(Path(tracked.root, "d"))
    project = setting(tracked, cache_link=("hardlink", "copy"))
    checkout(project)
    store = project.cache(lambda event: None)
    large = Path(project.root, "d/x/big")
    assert helped and large.stat().st_nlink == 2
    assert Path(project.cache_dir, object_name(next(i for i, size in store.loose_objects() if size > SMALL))).samefile(large)
    store.close()
    assert status(project).clean


def test_without_a_cache_the_listing_is_named(tracked: Project, helped: list[int]) -> None:
    shutil.rmtree(Path(tracked.root, "d"))
    wipe_cache(tracked)
    with pytest.raises(NotFound, match="'d'"):
        checkout(tracked)
